"""`moascope import`: the three tables of a screen from a folder of a microscope's images."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.addresses.stores import Unavailable
from moascope.errors import MoascopeError
from moascope.importing.colours import choose_samples
from moascope.importing.compounds import annotate_from
from moascope.importing.kinds import (
    KINDS,
    find_planes,
    links_out,
    other_kinds,
    recognise,
    unread_formats,
)
from moascope.importing.layout import (
    describe,
    keep_filled_in,
    told_by_images,
    told_by_map,
)
from moascope.importing.loaddata import find_loaddata, is_loaddata, names_paths
from moascope.importing.names import is_projections
from moascope.importing.sites import place_sites
from moascope.importing.tree import Tree, scan_tree
from moascope.screen.columns import WELL
from moascope.screen.description import DESCRIPTION, EARLIER, description_of, write_description
from moascope.screen.tables import Screen, read_screen
from moascope.text import counted, listing
from moascope.work.files import write_csv

TABLES = ("load_data.csv", "layout.csv", "annotations.csv")
UNPLACED = "unplaced.csv"


@dataclass(frozen=True, repr=False)
class Imported:
    """The result of an import.

    Attributes
    ----------
    screen : Screen
        As read back from the written tables.
    kind, told_by : str
        What kind of plates was recognised, and from what.
    channels : dict of str to str
        For each channel of the screen, its name in the files.
    unplaced : DataFrame
        `File` and `Reason`, as in unplaced.csv.
    incomplete : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` and `Channel`: images that a site lacks
        and other sites of its plate have.
    notes : tuple of str
        A sentence about each guess and choice.
    images : str
        The folder of images, as in source.json.
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

    def __repr__(self) -> str:
        return (f"Imported({self.screen!r}; recognised {self.kind}; "
                f"{counted(len(self.unplaced), 'file')} unplaced)")


def import_plates(folder: str | Path, out: str | Path, *, kind: str = "auto",
                  pattern: str | None = None, layout: str | Path | None = None,
                  channels: Mapping[str, str] | None = None, z: int | None = None,
                  t: int | None = None, follow_links: bool = False,
                  update: bool = False, annotations: str | Path | None = None,
                  replace: Mapping[str, str] | None = None) -> Imported:
    """Write the three tables of a screen for a folder of images; the images stay where they are.

    Parameters
    ----------
    folder : str or Path
        Holds images of one kind, of any number of plates; or a LoadData table (CSV or Parquet),
        which may name images by addresses (s3://, gs://, https://).
    out : str or Path
        Receives load_data.csv, layout.csv, annotations.csv, unplaced.csv and, where the images lie
        elsewhere, source.json.
    kind : str
        "auto", "regex" or a key of `moascope.importing.kinds.KINDS`.
    pattern : str, optional
        For "regex": see `moascope.importing.names.find_regex`.
    layout : str or Path, optional
        A plate map (`moascope.importing.maps.read_plate_map`).
    channels : mapping of str to str, optional
        New name of each channel, by its name in the files or at the instrument; an empty name
        leaves the channel out.
    z, t : int, optional
        Which plane of a stack and which time point, as the instrument numbers them; by default
        the first.
    follow_links : bool
        Whether symbolic links may point outside `folder`.
    update : bool
        Whether existing tables are renewed. Rows of layout.csv and annotations.csv are kept, and
        new wells and compounds added.
    annotations : str or Path, optional
        A table with a row per compound, from which mechanisms and structures are taken.
    replace : mapping of str to str, optional
        Starts of the paths in a LoadData table, and what they are replaced by: a folder or an
        address.

    Returns
    -------
    Imported

    Raises
    ------
    MoascopeError
        When no kind of plate is recognised, two images have the same plate, well, site and channel,
        or a table would be overwritten.

    Examples
    --------
    >>> imported = moascope.import_plates("/plates/run7", "screens/run7")
    >>> imported.screen
    """
    folder, out = Path(folder), Path(out)
    layout = None if layout is None else Path(layout)
    table = folder if folder.is_file() and is_loaddata(folder) else None
    if table is None and not folder.is_dir():
        raise MoascopeError(f"{folder} is not a folder (or a LoadData table). Name the folder "
                            "that holds the images.")
    if replace and not (table or kind == "loaddata"):
        raise MoascopeError("--replace is for LoadData tables. Name the table, or add --kind "
                            "loaddata.")
    _refuse_to_overwrite(out, layout, update)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MoascopeError(f"{out} cannot be created: {error.strerror}. Choose another "
                            "--out.") from None
    told_by = "--kind"
    if table is not None:
        kind, told_by, folder = "loaddata", table.name, table.parent
        tree = (_without_own(scan_tree(folder, follow_links), out)
                if names_paths(table, replace or {}) else Tree(folder, (table.name,)))
        found = find_loaddata(tree, [table.name], replace)
    else:
        tree = _without_own(scan_tree(folder, follow_links), out)
        if kind == "auto":
            kind, told_by = recognise(tree) if pattern is None else ("regex", "--pattern")
        found = find_loaddata(tree, None, replace) if replace else find_planes(tree, kind, pattern)
    notes = list(found.notes)
    if not found.planes:
        _write_unplaced(out, found.unplaced)
        raise MoascopeError(
            f"No image in {folder} could be read as {_called(kind)}: "
            + listing((f"{file} ({reason})" for file, reason in found.unplaced), 3)
            + f". {out / UNPLACED} lists every file with the reason. Try another --kind.")
    placed = place_sites(tree, found, channels, z, t)
    notes += placed.notes
    notes += _hints(tree, kind, placed.table, placed.unplaced)
    prefix, images, outside = _where_images_are(folder, out)
    sites = placed.table
    try:
        sites, chosen, left = choose_samples(folder, sites, list(placed.channels))
        notes += chosen + left
    except Unavailable as error:
        notes.append(f"The images were not looked at. {error}")
    remote = local = False
    for channel in placed.channels:
        names = sites[f"FileName_{channel}"]
        behind = names.str.contains("://", regex=False)
        remote, local = remote or bool(behind.any()), local or bool((~behind & (names != "")).any())
        sites[f"FileName_{channel}"] = names.where((names == "") | behind, prefix + names)
    if not local:
        images, outside = ".", False
    wells = sites[WELL].drop_duplicates(ignore_index=True)
    told = (told_by_images(found, placed.plates) if layout is None
            else told_by_map(layout, wells, notes))
    layout_table, annotated = describe(wells, told, notes)
    if annotations is not None:
        annotated = annotate_from(Path(annotations), annotated, notes)
    if update:
        layout_table = keep_filled_in(out / "layout.csv", layout_table, WELL)
        annotated = keep_filled_in(out / "annotations.csv", annotated, ["Metadata_Compound"])
    tables = {"load_data.csv": sites, "layout.csv": layout_table, "annotations.csv": annotated}
    description = {"source": "import", "images": images, "kind": kind}
    beyond = follow_links or remote
    if beyond:
        description["allow_outside"] = True
    with tempfile.TemporaryDirectory(prefix="moascope-") as trial:
        # Nothing is written that cannot be read back as a screen.
        _write(Path(trial), tables, {**description, "images": str((folder if outside else out)
                                                                  .resolve())})
        read_screen(Path(trial), beyond)
    if outside or beyond or description_of(out).exists():
        write_description(out, description)
    _write(out, tables, None)
    unused = _write_unplaced(out, [*placed.unplaced, *_sentences(placed.incomplete)])
    return Imported(read_screen(out, beyond), _called(kind), told_by, placed.channels,
                    unused.iloc[:len(placed.unplaced)], placed.incomplete,
                    tuple(dict.fromkeys(notes)), images, outside or beyond)


def parse_replace(texts: Sequence[str]) -> dict[str, str]:
    """Read /old/path/=s3://bucket/path/, once for each.

    Raises
    ------
    MoascopeError
        Where one has no "=".
    """
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise MoascopeError(f"--replace has '{text}'. Write old=new, such as "
                                "/mnt/bucket/=s3://cellpainting-gallery/.")
    return dict(text.split("=", 1) for text in texts)


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
            raise MoascopeError(f"--channels has '{part}'. Write old=new, such as w1=DNA,w2=GFP; "
                                "an empty new name leaves the channel out.")
        named[old.strip()] = new.strip()
    return named


# Before anything is read


def _refuse_to_overwrite(out: Path, layout: Path | None, update: bool) -> None:
    if out.exists() and not out.is_dir():
        raise MoascopeError(f"--out is {out}, which is a file. Name a folder.")
    there = [name for name in TABLES if (out / name).exists()]
    if there and not update:
        raise MoascopeError(
            f"{out} already has a {there[0]}. Choose another --out, or add --update, which renews "
            "load_data.csv and keeps the rows of layout.csv and annotations.csv.")
    if layout is not None and (out / "layout.csv").exists():
        same = layout.exists() and layout.samefile(out / "layout.csv")
        raise MoascopeError(
            f"{out / 'layout.csv'} already exists" + (", and --update keeps it. Leave out --layout."
            if same else f". Remove it to use {layout}, or leave out --layout to keep it."))


def _without_own(tree: Tree, out: Path) -> Tree:
    """The tree without the tables of an earlier import."""
    root, home = tree.root.resolve(), out.resolve()
    if not home.is_relative_to(root):
        return tree
    inside = home.relative_to(root).as_posix()
    inside = "" if inside == "." else f"{inside}/"
    own = {f"{inside}{name}" for name in (*TABLES, UNPLACED, DESCRIPTION, EARLIER)}
    return Tree(tree.root, tuple(file for file in tree.files if file not in own), tree.arrays,
                tree.left_out)


def _hints(tree: Tree, kind: str, sites: pd.DataFrame,
           unplaced: Sequence[tuple[str, str]]) -> list[str]:
    """Sentences about what may have been misunderstood: links, other instruments, plates."""
    hints = []
    if count := links_out(tree):
        hints.append(f"{counted(count, 'link')} out of the folder not followed "
                     "(--follow-links follows them).")
    left = [file for file, reason in unplaced if reason != "a thumbnail"]
    for other, files in other_kinds(left, kind).items():
        hints.append(f"{counted(len(files), 'file')} not read with names of {KINDS[other][0]}, "
                     f"such as {files[0]}; import them by --kind {other} into another --out.")
    # The only image formats among what is no image to us.
    if sentence := unread_formats(tree.files):
        hints.append(f"The folder also holds {sentence}")
    wells = sites[WELL].drop_duplicates().groupby("Metadata_Plate").size()
    alike: dict[str, list[str]] = {}
    for plate in wells.index:
        alike.setdefault(_plainly(plate), []).append(plate)
    if same := [names for names in alike.values() if len(names) > 1]:
        hints.append(f"{listing((' and '.join(names) for names in same), 3)} count as different "
                     "plates. If they are one, write its name alike.")
    if (projections := [plate for plate in wells.index if is_projections(plate)]) and (
            len(projections) < len(wells)):
        hints.append(f"The plate {listing(projections)} is named like projections of other plates. "
                     "If it is, move it away, or its cells count twice.")
    if len(wells) > 1 and (wells == 1).all():
        hints.append(f"{counted(len(wells), 'plate')} of one well each: {listing(wells.index)}. If "
                     "these folders are compounds or wells of one plate, name it in the pattern, "
                     "such as --pattern '(?P<plate>)[^/]*_(?P<well>[A-P][0-9]{2})_s(?P<site>[0-9]+)"
                     "_w(?P<channel>[0-9])', and give the compounds by --layout.")
    return hints


def _plainly(plate: str) -> str:
    """A plate's name without case, and as a number where a spreadsheet may have made it one."""
    try:
        return f"{float(plate):.12g}" if plate.isascii() else plate.casefold()
    except ValueError:
        return plate.casefold()


# What is written


def _where_images_are(folder: Path, out: Path) -> tuple[str, str, bool]:
    """Prefix of file names, folder of images for source.json, whether that is outside `out`."""
    images, home = folder.resolve(), out.resolve()
    if images.is_relative_to(home):
        inside = images.relative_to(home).as_posix()
        return ("" if inside == "." else f"{inside}/"), ".", False
    here = Path.cwd().resolve()
    # A path relative to the repository also holds in another copy of it.
    if images.is_relative_to(here) and (here / "dvc.yaml").is_file():
        return "", images.relative_to(here).as_posix(), True
    return "", str(images), True


def _write(folder: Path, tables: Mapping[str, pd.DataFrame],
           description: Mapping[str, Any] | None) -> None:
    for name, table in tables.items():
        write_csv(folder / name, table)
    if description is not None:
        write_description(folder, dict(description))


def _write_unplaced(out: Path, unplaced: Sequence[tuple[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(unplaced, columns=["File", "Reason"], dtype="str")
    write_csv(out / UNPLACED, table)
    return table


def _sentences(incomplete: pd.DataFrame) -> list[tuple[str, str]]:
    return [("", f"plate {plate}, well {well}, site {site} has no image of {channel}")
            for plate, well, site, channel in incomplete.itertuples(index=False)]


def _called(kind: str) -> str:
    return KINDS[kind][0] if kind in KINDS else "a regular expression"
