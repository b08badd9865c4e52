"""`moascope import`: from a folder of other people's images to the three tables of a screen."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.found import IMAGE, Found
from moascope.importing.kinds import KINDS, find_planes, recognise
from moascope.importing.maps import read_plate_map
from moascope.importing.tree import Tree, scan_tree
from moascope.screen.tables import (
    ANNOTATIONS,
    LAYOUT,
    SITE,
    WELL,
    Screen,
    counted,
    listing,
    read_rows,
    read_screen,
    write_atomically,
    write_description,
)
from moascope.screen.wells import canonical_well

TABLES = ("load_data.csv", "layout.csv", "annotations.csv")
UNPLACED = "unplaced.csv"
_COMPOUND = ("Metadata_MoA", "Metadata_InChIKey", "Metadata_SMILES")


@dataclass(frozen=True)
class Imported:
    """What an import made of a folder.

    Attributes
    ----------
    screen : Screen
        As it was read back from the tables that were written.
    kind, told_by : str
        What the plates were recognised as, and by what.
    channels : dict of str to str
        For each channel of the screen what the files call it.
    unplaced : DataFrame
        `File` and `Reason`: what unplaced.csv lists.
    incomplete : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` and `Channel`: images that a plate's
        other sites have.
    notes : tuple of str
        What was guessed or chosen.
    images : str
        Where screen.json says that the images are.
    outside : bool
        Whether the images lie outside the folder of the tables.
    """

    screen: Screen
    kind: str
    told_by: str
    channels: Mapping[str, str]
    unplaced: pd.DataFrame
    incomplete: pd.DataFrame
    notes: tuple[str, ...]
    images: str
    outside: bool


def import_plates(folder: Path, out: Path, *, kind: str = "auto", pattern: str | None = None,
                  layout: Path | None = None, channels: Mapping[str, str] | None = None,
                  z: int | None = None, t: int | None = None, follow_links: bool = False,
                  update: bool = False) -> Imported:
    """Make the three tables of a screen from a folder of images; the images stay where they are.

    Parameters
    ----------
    folder : Path
        Holds images of one kind, of any number of plates.
    out : Path
        Receives load_data.csv, layout.csv, annotations.csv, unplaced.csv and, where the images lie
        elsewhere, screen.json.
    kind : str
        "auto", "regex" or a key of `moascope.importing.kinds.KINDS`.
    pattern : str, optional
        For "regex": see `moascope.importing.names.find_regex`.
    layout : Path, optional
        A plate map (`moascope.importing.maps.read_plate_map`).
    channels : mapping of str to str, optional
        New names of channels by what the files or the instrument call them; an empty name leaves
        the channel out.
    z, t : int, optional
        Which plane of a stack and which time point, in the numbers of the instrument; by default
        the first of each.
    follow_links : bool
        Whether symbolic links may lead out of `folder`.
    update : bool
        Whether tables that are there are renewed. Rows of layout.csv and annotations.csv are kept
        as they are; new wells and compounds are added.

    Returns
    -------
    Imported

    Raises
    ------
    MoascopeError
        Where nothing is recognised, two images claim one place, or a table would be lost.
    """
    if not folder.is_dir():
        raise MoascopeError(f"{folder} is no folder. Name the folder that holds the images.")
    _refuse_to_overwrite(out, layout, update)
    tree = _without_own(scan_tree(folder, follow_links), out)
    told_by = "--kind"
    if pattern is not None and kind == "auto":
        kind = "regex"
    if kind == "auto":
        kind, told_by = recognise(tree)
    found = find_planes(tree, kind, pattern)
    notes = list(found.notes)
    unplaced = list(found.unplaced)
    if not found.planes:
        _write_unplaced(out, unplaced)
        raise MoascopeError(
            f"No image in {folder} could be placed as {_called(kind)}: "
            + listing((f"{file} ({reason})" for file, reason in unplaced), 3)
            + f". All reasons are in {out / UNPLACED}. Try another --kind.")
    planes = _frame_of_planes(found, unplaced)
    planes = _name_plates(planes, found)
    planes, called = _name_channels(planes, found, channels or {}, unplaced)
    planes = _choose_step(planes, "t", t, ["Plate", "Well", "Site"], unplaced, notes)
    planes = _choose_step(planes, "z", z, ["Plate", "Well", "Site", "Channel"], unplaced, notes)
    _refuse_duplicates(planes)
    unplaced += _the_rest(tree, found, planes, unplaced)
    incomplete = _incomplete(planes)

    prefix, images, outside = _where_images_are(folder, out)
    sites = _sites_table(planes, called, prefix)
    wells = sites[WELL].drop_duplicates(ignore_index=True)
    told = _told_wells(found, planes, layout, notes)
    layout_table, annotations = _describe(wells, told, notes)
    if update:
        layout_table = _keep(out / "layout.csv", layout_table, WELL)
        annotations = _keep(out / "annotations.csv", annotations, ["Metadata_Compound"])
    tables = {"load_data.csv": sites, "layout.csv": layout_table, "annotations.csv": annotations}
    description = {"source": "import", "images": images, "kind": kind}
    if follow_links:
        description["allow_outside"] = True
    with tempfile.TemporaryDirectory(prefix="moascope-") as trial:
        # Nothing that is no screen is left behind.
        _write(Path(trial), tables, {**description, "images": str((folder if outside else out)
                                                                  .resolve())})
        read_screen(Path(trial), follow_links)
    out.mkdir(parents=True, exist_ok=True)
    if outside or follow_links or (out / "screen.json").exists():
        write_description(out, description)
    _write(out, tables, None)
    table = _write_unplaced(out, [*unplaced, *_sentences(incomplete)])
    return Imported(read_screen(out, follow_links), _called(kind), told_by, called,
                    table.iloc[:len(unplaced)], incomplete, tuple(dict.fromkeys(notes)), images,
                    outside or follow_links)


def parse_channels(text: str) -> dict[str, str]:
    """Read "w1=DNA,w2=GFP".

    Raises
    ------
    MoascopeError
        Where a part has no "=".
    """
    named = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        old, equals, new = part.partition("=")
        if not equals or not old.strip():
            raise MoascopeError(f"--channels has '{part}'. Write the channel, = and its new name, "
                                "such as w1=DNA,w2=GFP; an empty name leaves the channel out.")
        named[old.strip()] = new.strip()
    return named


# Before anything is read


def _refuse_to_overwrite(out: Path, layout: Path | None, update: bool) -> None:
    there = [name for name in TABLES if (out / name).exists()]
    if there and not update:
        raise MoascopeError(
            f"{out} has a {there[0]} already. Take another --out; or add --update, which renews "
            "load_data.csv and keeps what is filled in in layout.csv and annotations.csv.")
    if layout is not None and (out / "layout.csv").exists():
        same = layout.exists() and layout.samefile(out / "layout.csv")
        raise MoascopeError(
            f"{out / 'layout.csv'} is there already" + (", and --update keeps it; leave out "
            "--layout." if same else f": remove it so that {layout} is taken, or leave out "
            "--layout to keep it."))


def _without_own(tree: Tree, out: Path) -> Tree:
    """The tree without the tables of an earlier import, where they lie in it."""
    root, home = tree.root.resolve(), out.resolve()
    if not home.is_relative_to(root):
        return tree
    inside = home.relative_to(root).as_posix()
    inside = "" if inside == "." else f"{inside}/"
    own = {f"{inside}{name}" for name in (*TABLES, UNPLACED, "screen.json")}
    return Tree(tree.root, tuple(file for file in tree.files if file not in own), tree.arrays,
                tree.left_out)


# From planes to sites


def _frame_of_planes(found: Found, unplaced: list[tuple[str, str]]) -> pd.DataFrame:
    columns = ["Key", "Well", "Site", "Id", "z", "t", "File", "Frame"]
    planes = pd.DataFrame(found.planes, columns=columns)
    canonical, wrong = {}, {}
    for well in planes["Well"].unique():
        try:
            canonical[well] = canonical_well(well)
        except MoascopeError as error:
            wrong[well] = error.problems[0].partition(". Write")[0]
    lost = planes["Well"].isin(wrong)
    unplaced += [(file, wrong[well]) for file, well in
                 zip(planes["File"][lost], planes["Well"][lost], strict=True)]
    planes = planes[~lost].reset_index(drop=True)
    if planes.empty:
        raise MoascopeError(f"No image has a well that a plate has: {listing(wrong.values(), 3)}.")
    planes["Well"] = planes["Well"].map(canonical).astype("str")
    # A table may name one picture twice, a link the same file; that is one plane.
    return planes.drop_duplicates(ignore_index=True)


def _name_plates(planes: pd.DataFrame, found: Found) -> pd.DataFrame:
    """The first name of each plate that no other plate has."""
    keys = list(planes["Key"].unique())
    level = dict.fromkeys(keys, 0)
    longest = max(len(found.plates[key]) for key in keys)
    for _ in range(longest):
        names = {key: _plate_name(found.plates[key][level[key]]) for key in keys}
        bearers: dict[str, list[str]] = {}
        for key, name in names.items():
            bearers.setdefault(name, []).append(key)
        for several in bearers.values():
            for key in several if len(several) > 1 else ():
                level[key] = min(level[key] + 1, len(found.plates[key]) - 1)
    return planes.assign(Plate=planes["Key"].map(names).astype("str"))


def _plate_name(name: str) -> str:
    """A name that can be a folder's."""
    name = re.sub(r"[/\\\x00-\x1f\x7f]+", "_", name).strip().lstrip(".")[:200]
    return "".join(letter for letter in name if letter.isprintable()) or "plate"


def _name_channels(planes: pd.DataFrame, found: Found, wanted: Mapping[str, str],
                   unplaced: list[tuple[str, str]]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Give channels their names: the user's, else the instrument's, else w1 or as the file says."""
    pairs = planes[["Key", "Id"]].drop_duplicates()
    names: dict[tuple[str, str], str] = {}
    said: dict[str, str] = {}
    used: set[str] = set()
    for key, plate in pairs.groupby("Key", sort=False):
        ids = list(plate["Id"])
        told = {id_: found.channels.get((key, id_), "") for id_ in ids}
        for id_ in ids:
            short = f"{found.short}{id_}" if id_.isdecimal() else id_
            aliases = {alias.casefold(): alias for alias in
                       (id_, short, f"{found.short}{id_.zfill(2)}", told[id_], _word(told[id_]),
                        _word(short)) if alias}
            chosen = next((old for old in wanted if old.casefold() in aliases), None)
            own = _word(told[id_]) or _word(short) or "image"
            alike = [other for other in ids if told[other] and _word(told[other]) == own]
            if len(alike) > 1:
                own = f"{own}_{_word(short)}"
            name = own if chosen is None else _word(wanted[chosen])
            if chosen is not None:
                used.add(chosen)
            names[key, id_] = name
            call = f"{short} {told[id_]}".strip() if _word(told[id_]) != _word(short) else short
            if name:
                said.setdefault(name, call)
    if unknown := [old for old in wanted if old not in used]:
        known = sorted({call for call in said.values()}, key=_natural)
        raise MoascopeError(f"--channels names '{unknown[0]}', and no plate has it. Channels are "
                            f"{listing(known, 12)}.")
    pair = pd.Series(list(zip(planes["Key"], planes["Id"], strict=True)), index=planes.index)
    planes = planes.assign(Channel=pair.map(names).astype("str"))
    for key, plate in planes.groupby("Plate", sort=False):
        ids = plate[plate["Channel"] != ""].groupby("Channel")["Id"].unique()
        for channel, several in ids[ids.map(len) > 1].items():
            raise MoascopeError(f"--channels calls {listing(sorted(several))} of plate {key} all "
                                f"'{channel}'. Give each a name of its own.")
    gone = planes["Channel"] == ""
    unplaced += [(file, "of a channel that --channels leaves out")
                 for file in planes["File"][gone].unique()]
    planes = planes[~gone]
    if planes.empty:
        raise MoascopeError("--channels leaves no channel.")
    order = planes[["Channel", "Id"]].drop_duplicates("Channel")
    order = sorted(zip(order["Id"], order["Channel"], strict=True),
                   key=lambda pair: (_natural(pair[0]), pair[1]))
    return planes, {channel: said[channel] for _, channel in order}


def _word(name: str) -> str:
    """A channel's name as part of a column's: HOECHST_33342."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")


def _natural(text: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part.lower())
            for part in re.split(r"([0-9]+)", text) if part]


_STEPS = {"z": "z plane", "t": "time point"}


def _choose_step(planes: pd.DataFrame, axis: str, wanted: int | None, unit: Sequence[str],
                 unplaced: list[tuple[str, str]], notes: list[str]) -> pd.DataFrame:
    steps = sorted(planes[axis].unique())
    if wanted is None:
        kept = planes[axis] == planes.groupby(list(unit), sort=False)[axis].transform("min")
    else:
        kept = planes[axis] == wanted
        if not kept.any():
            raise MoascopeError(f"--{axis} is {wanted}, and no image has it. There are "
                                f"{_STEPS[axis]}s {listing(steps, 12)}.")
    if kept.all():
        return planes
    lost = planes[~kept]
    which = ("the first" if wanted is None else f"number {wanted}")
    notes.append(f"Of {len(steps)} {_STEPS[axis]}s ({_range(steps)}) {which} of each site is "
                 f"taken; {counted(len(lost), 'plane')} left out (--{axis} chooses another).")
    taken = set(planes["File"][kept])
    unplaced += [(file, f"another {_STEPS[axis]} ({step})") for file, step in
                 zip(lost["File"], lost[axis], strict=True) if file not in taken]
    return planes[kept]


def _range(steps: Sequence[int]) -> str:
    return f"{steps[0]} to {steps[-1]}"


def _refuse_duplicates(planes: pd.DataFrame) -> None:
    place = ["Plate", "Well", "Site", "Channel"]
    again = planes[planes.duplicated(place, keep=False)]
    if again.empty:
        return
    problems = []
    for (plate, well, site, channel), several in again.groupby(place, sort=True):
        first, second = [file if not frame else f"{file} (frame {frame})" for file, frame in
                         zip(several["File"][:2], several["Frame"][:2], strict=True)]
        problems.append(
            f"Plate {plate}, well {well}, site {site}, channel {channel} has two images: {first} "
            f"and {second}. Move one away, or tell the two apart with --pattern.")
    raise MoascopeError(problems)


def _the_rest(tree: Tree, found: Found, planes: pd.DataFrame,
              unplaced: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every file that nothing has been said of yet."""
    known = {file for file, _ in unplaced} | set(planes["File"]) | found.read
    rest = [(file, "no index or table names it" if IMAGE.search(file)
             else "no image that moascope reads, by its name")
            for file in tree.files if file not in known]
    if not any(tree.root.joinpath(plane).is_dir() for plane in planes["File"].iloc[:1]):
        rest += [(folder or ".", "a Zarr group; --kind omezarr reads it")
                 for folder in tree.arrays]
    return [*rest, *tree.left_out]


def _incomplete(planes: pd.DataFrame) -> pd.DataFrame:
    """Sites without an image for a channel that their plate has."""
    lost = []
    for plate, of_plate in planes.groupby("Plate", sort=True):
        there = of_plate.pivot_table(index=["Well", "Site"], columns="Channel", values="Frame",
                                     aggfunc="size")
        rows, columns = np.nonzero(there.isna().to_numpy())
        lost += [(plate, *there.index[row], there.columns[column])
                 for row, column in zip(rows, columns, strict=True)]
    return pd.DataFrame(lost, columns=[*SITE, "Channel"])


def _sites_table(planes: pd.DataFrame, channels: Mapping[str, str], prefix: str) -> pd.DataFrame:
    index = ["Plate", "Well", "Site"]
    files = planes.assign(File=prefix + planes["File"]).pivot_table(
        index=index, columns="Channel", values="File", aggfunc="first")
    frames = planes.pivot_table(index=index, columns="Channel", values="Frame", aggfunc="first")
    sites = files.index.to_frame(index=False).set_axis(SITE, axis=1)
    framed = bool((planes["Frame"] != 0).any())
    for channel in channels:
        sites[f"FileName_{channel}"] = files[channel].fillna("").to_numpy()
        if framed:
            sites[f"Frame_{channel}"] = frames[channel].fillna(0).astype(int).to_numpy()
    return sites


# Wells and compounds


def _told_wells(found: Found, planes: pd.DataFrame, layout: Path | None,
                notes: list[str]) -> dict[tuple[str, str], Mapping[str, str]]:
    """What is known of each imaged well: from the plate map, or else from the images' own table."""
    wells = set(zip(planes["Plate"], planes["Well"], strict=True))
    told: dict[tuple[str, str], Mapping[str, str]] = {}
    if layout is None:
        name_of = dict(zip(planes["Key"], planes["Plate"], strict=True))
        for well in found.wells:
            if well["Metadata_Plate"] in name_of:
                told.setdefault((name_of[well["Metadata_Plate"]], well["Metadata_Well"]), well)
        return told
    entries, said = read_plate_map(layout)
    notes += said
    plates = {plate.casefold(): plate for plate, _ in sorted(wells)}
    unknown: set[str] = set()
    for entry in entries:
        written = entry.get("Metadata_Plate", "")
        if written and written.casefold() not in plates:
            unknown.add(written)
            continue
        for plate in [plates[written.casefold()]] if written else plates.values():
            told[plate, entry["Metadata_Well"]] = entry
    without_image = sum(well not in wells for well in told)
    without_map = len(wells - told.keys())
    if unknown:
        notes.append(f"{layout.name} has {counted(len(unknown), 'plate')} without images: "
                     f"{listing(sorted(unknown))}. Images are of {listing(plates.values())}.")
    if without_image:
        notes.append(f"{layout.name} has {counted(without_image, 'well')} without images; they "
                     "are left out of layout.csv.")
    if without_map:
        notes.append(f"{counted(without_map, 'well')} with images are not in {layout.name}; their "
                     "compound is left empty.")
    if not told:
        raise MoascopeError(f"{layout} says nothing of the plates that were found, "
                            f"{listing(plates.values())}. It has "
                            f"{listing(sorted(unknown)) or 'no well'}.")
    return told


def _describe(wells: pd.DataFrame, told: Mapping[tuple[str, str], Mapping[str, str]],
              notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [{column: told.get((plate, well), {}).get(column, "") for column in LAYOUT[2:]}
            for plate, well in wells.itertuples(index=False)]
    layout = pd.concat([wells, pd.DataFrame(rows, columns=LAYOUT[2:], dtype="str")], axis=1)
    negative = set(layout.loc[layout["Metadata_Control"] == "negative", "Metadata_Compound"])
    compounds: dict[str, dict[str, str]] = {}
    unlike = set()
    for plate, well in wells.itertuples(index=False):
        said = told.get((plate, well), {})
        compound = said.get("Metadata_Compound", "")
        if not compound or compound in negative:
            continue
        about = {column: said[column] for column in _COMPOUND if said.get(column)}
        known = compounds.setdefault(compound, about)
        if known != about:
            unlike.add(compound)
    if unlike:
        notes.append(f"Compounds are described differently in different wells ({len(unlike):,}): "
                     f"{listing(sorted(unlike))}. annotations.csv has what the first well says.")
    columns = [column for column in _COMPOUND
               if column == "Metadata_MoA" or any(column in about for about in compounds.values())]
    table = [{"Metadata_Compound": compound, **{column: about.get(column, "")
                                                for column in columns}}
             for compound, about in sorted(compounds.items())]
    return layout, pd.DataFrame(table, columns=[ANNOTATIONS[0], *columns], dtype="str")


def _keep(path: Path, new: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The rows of a table that a person may have filled in, and those of `new` that it lacks."""
    if not path.exists():
        return new
    rows, _ = read_rows(path)
    header = [cell.strip() for cell in rows.cells[0]]
    if not set(key) <= set(header) or any(len(cells) != len(header) for cells in rows.cells):
        raise MoascopeError(f"{path} has not the columns {' and '.join(key)}, or a line with "
                            "another number of values. Mend it, or move it away.")
    old = pd.DataFrame(rows.cells[1:], columns=header, dtype="str")
    there = old[list(key)].apply(lambda column: column.str.strip())
    if "Metadata_Well" in key:
        there["Metadata_Well"] = there["Metadata_Well"].map(_canonical_or_as_is)
    missing = ~pd.MultiIndex.from_frame(new[list(key)]).isin(pd.MultiIndex.from_frame(there))
    both = pd.concat([old, new[missing]], ignore_index=True)
    return both.fillna("")


def _canonical_or_as_is(well: str) -> str:
    try:
        return canonical_well(well)
    except MoascopeError:
        return well


# What is left behind


def _where_images_are(folder: Path, out: Path) -> tuple[str, str, bool]:
    """What goes before file names, what screen.json says, and whether images lie outside `out`."""
    images, home = folder.resolve(), out.resolve()
    if images.is_relative_to(home):
        inside = images.relative_to(home).as_posix()
        return ("" if inside == "." else f"{inside}/"), ".", False
    here = Path.cwd().resolve()
    # A path inside the repository stays true in another copy of it.
    if images.is_relative_to(here) and (here / "dvc.yaml").is_file():
        return "", images.relative_to(here).as_posix(), True
    return "", str(images), True


def _write(folder: Path, tables: Mapping[str, pd.DataFrame],
           description: Mapping[str, Any] | None) -> None:
    for name, table in tables.items():
        write_atomically(folder / name, table.to_csv(index=False, lineterminator="\n"))
    if description is not None:
        write_description(folder, dict(description))


def _write_unplaced(out: Path, unplaced: Sequence[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(unplaced, columns=["File", "Reason"], dtype="str")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / UNPLACED, table.to_csv(index=False, lineterminator="\n"))
    return table


def _sentences(incomplete: pd.DataFrame) -> list[tuple[str, str]]:
    return [("", f"plate {plate}, well {well}, site {site} has no image of {channel}")
            for plate, well, site, channel in incomplete.itertuples(index=False)]


def _called(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else "a regular expression"


def describe_import(imported: Imported, out: Path) -> str:
    """What an import found, as lines for the terminal; the last is the next command to run."""
    screen = imported.screen
    sites = screen.sites
    wells = sites[WELL].drop_duplicates()
    plates = sorted(wells["Metadata_Plate"].unique())
    renamed = [channel if call == channel else f"{channel} ({call})"
               for channel, call in imported.channels.items()]
    reasons = imported.unplaced["Reason"].map(_kind_of_reason).value_counts(sort=True)
    lines = [
        f"recognised  {imported.kind}, by {imported.told_by}",
        f"plates      {len(plates):,}: {listing(plates)}",
        f"wells       {len(wells):,}",
        f"sites       {len(sites):,}",
        f"channels    {len(renamed)}: {', '.join(renamed)}",
    ]
    if len(imported.incomplete):
        lost = imported.incomplete
        wells_lost = lost[WELL].drop_duplicates().agg(" ".join, axis=1)
        lines.append(f"incomplete  {counted(len(lost), 'image')} missing in "
                     f"{counted(len(wells_lost), 'well')}: {listing(wells_lost)}")
    lines.append(f"unplaced    {len(imported.unplaced):,}"
                 + "".join(f"\n            {count:,} {reason}"
                           for reason, count in reasons.items()))
    compounds = screen.layout.loc[screen.layout["Metadata_Compound"] != "", "Metadata_Compound"]
    controls = int((screen.layout["Metadata_Control"] != "").sum())
    known = int((screen.annotations["Metadata_MoA"] != "").sum())
    lines += [
        f"wrote       {out / 'load_data.csv'}",
        f"            {out / 'layout.csv'}: {counted(len(screen.layout), 'well')}, "
        f"{counted(compounds.nunique(), 'compound')}, {counted(controls, 'control')}",
        f"            {out / 'annotations.csv'}: {counted(len(screen.annotations), 'compound')}, "
        f"{known:,} with a mechanism",
    ]
    if len(imported.unplaced) or len(imported.incomplete):
        lines.append(f"            {out / UNPLACED}: every file that has no place, and why")
    todo = []
    if compounds.empty:
        todo.append("Metadata_Compound and Metadata_Control in layout.csv")
    if not known:
        todo.append("Metadata_MoA in annotations.csv")
    if todo:
        lines.append(f"fill in     {' and '.join(todo)}")
    outside = " -S acquire.allow_outside=true" if imported.outside else ""
    return "\n".join([*lines, "next        dvc exp run -S acquire.source=folder "
                      f"-S acquire.path={os.fspath(out)}{outside} -S target=moa"])


def _kind_of_reason(reason: str) -> str:
    """A reason without what differs from file to file, for counting."""
    reason = re.sub(r"'[^']*'|\([0-9]+\)", "...", reason)
    return re.sub(r"named by \S.*, but", "named by an index, but", reason)
