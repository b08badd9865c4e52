"""From planes to the rows of load_data.csv."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.found import IMAGE, NOT_AN_IMAGE, Found
from moascope.importing.tree import Tree
from moascope.screen.columns import SITE
from moascope.screen.wells import canonical_well
from moascope.text import counted, is_number, listing

_LARGEST = 999_999_999
_LONGEST_CHANNEL = 100
_STEPS = {"z": "z plane", "t": "time point"}


@dataclass(frozen=True)
class Sites:
    """Sites that have images, and what was left out on the way.

    Attributes
    ----------
    table : DataFrame
        The columns of load_data.csv, sorted; file names relative to the tree.
    channels : dict of str to str
        For each channel, in order, its name in the files and at the instrument.
    plates : dict of str to str
        The name of each plate, by its key.
    incomplete : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` and `Channel`: images that are missing
        although the plate has the channel.
    unplaced : tuple of (str, str)
        Every file that is not in `table`, and why.
    notes : tuple of str
        A sentence about each choice.
    """

    table: pd.DataFrame
    channels: Mapping[str, str]
    plates: Mapping[str, str]
    incomplete: pd.DataFrame
    unplaced: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def place_sites(tree: Tree, found: Found, channels: Mapping[str, str] | None = None,
                z: int | None = None, t: int | None = None) -> Sites:
    """Name plates and channels, choose z and time, and make one row per site.

    Parameters
    ----------
    tree : Tree
    found : Found
        With at least one plane.
    channels, z, t
        As in `moascope.importing.plates.import_plates`.

    Raises
    ------
    MoascopeError
        When two images have the same place, or `channels`, `z` or `t` name something absent.
    """
    notes: list[str] = []
    unplaced = list(found.unplaced)
    planes = _claimed_once(_frame_of_planes(found, unplaced), unplaced)
    planes = _name_plates(planes, found)
    planes, called = _name_channels(planes, found, channels or {}, unplaced)
    planes = _choose_step(planes, "t", t, ["Plate", "Well", "Site"], unplaced, notes)
    planes = _choose_projection(planes, found, z, unplaced, notes)
    planes = _choose_step(planes, "z", z, ["Plate", "Well", "Site", "Channel"], unplaced, notes)
    kept = set(planes["Channel"])
    if lost := [channel for channel in called if channel not in kept]:
        notes.append(f"{listing(lost)} left out: no image at the chosen plane and time point.")
        called = {channel: name for channel, name in called.items() if channel in kept}
    _refuse_duplicates(planes)
    unplaced += _the_rest(tree, found, planes, unplaced)
    return Sites(_sites_table(planes, called), called,
                 dict(zip(planes["Key"], planes["Plate"], strict=True)), _incomplete(planes),
                 tuple(unplaced), tuple(notes))


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
    numbers = planes[["Site", "z", "t", "Frame"]]
    absurd = ~((numbers >= 0) & (numbers <= _LARGEST)).all(axis=1) & ~lost
    unplaced += [(file, "its site, z, time point or frame is not a number from 0 to 999,999,999")
                 for file in planes["File"][absurd].unique()]
    overlong = (planes["Id"].str.len() > _LONGEST_CHANNEL) & ~lost & ~absurd
    unplaced += [(file, f"its channel has a name of more than {_LONGEST_CHANNEL} letters")
                 for file in planes["File"][overlong].unique()]
    planes = planes[~lost & ~absurd & ~overlong].reset_index(drop=True)
    if planes.empty:
        raise MoascopeError("No image has a valid well and site: "
                            f"{listing((why for _, why in unplaced), 3)}.")
    planes["Well"] = planes["Well"].map(canonical).astype("str")
    planes = planes.astype(dict.fromkeys(numbers, "int64"))
    # A table may list a picture twice, and links may point to one file; that is one plane.
    return planes.drop_duplicates(ignore_index=True)


def _claimed_once(planes: pd.DataFrame, unplaced: list[tuple[str, str]]) -> pd.DataFrame:
    """The planes without those assigned to two sites: nobody knows to which they belong."""
    picture = ["File", "Frame"]
    claims = planes[[*picture, "Key", "Well", "Site"]].drop_duplicates()
    several = pd.MultiIndex.from_frame(claims.loc[claims.duplicated(picture), picture])
    if several.empty:
        return planes
    lost = pd.MultiIndex.from_frame(planes[picture]).isin(several)
    for (file, frame), of_picture in planes[lost].groupby(picture, sort=True):
        wells = [f"well {well}, site {site}" for well, site in
                 zip(of_picture["Well"], of_picture["Site"], strict=True)]
        what = "is" if not frame else f"its frame '{frame}' is"
        unplaced.append((file, f"{what} assigned to two sites ('{wells[0]}' and '{wells[-1]}')"))
    if lost.all():
        raise MoascopeError("Every image is assigned to two sites: "
                            f"{listing((f'{file}: {why}' for file, why in unplaced), 3)}.")
    return planes[~lost].reset_index(drop=True)


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
    """A name that a folder can have."""
    name = re.sub(r"[/\\\x00-\x1f\x7f]+", "_", name).strip().lstrip(".")[:200]
    return "".join(letter for letter in name if letter.isprintable()) or "plate"


def _name_channels(planes: pd.DataFrame, found: Found, wanted: Mapping[str, str],
                   unplaced: list[tuple[str, str]]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Name channels: as the user says, else the instrument, else the file (or w1)."""
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
            if name:
                # Show the instrument's name too where it differs.
                other = told[id_] if told[id_] != short and _word(told[id_]) != name else ""
                said.setdefault(name, f"{short} {other}".strip())
    if unknown := [old for old in wanted if old not in used]:
        known = sorted({call for call in said.values()}, key=_natural)
        raise MoascopeError(f"--channels names '{unknown[0]}', which no plate has. The channels "
                            f"are {listing(known, 12)}.")
    pair = pd.Series(list(zip(planes["Key"], planes["Id"], strict=True)), index=planes.index)
    planes = planes.assign(Channel=pair.map(names).astype("str"))
    for key, plate in planes.groupby("Plate", sort=False):
        ids = plate[plate["Channel"] != ""].groupby("Channel")["Id"].unique()
        for channel, several in ids[ids.map(len) > 1].items():
            raise MoascopeError(f"--channels gives several channels of plate {key} "
                                f"({listing(sorted(several))}) the same name, '{channel}'. Give "
                                "each a different name.")
    gone = planes["Channel"] == ""
    unplaced += [(file, "in a channel that --channels leaves out")
                 for file in planes["File"][gone].unique()]
    planes = planes[~gone]
    if planes.empty:
        raise MoascopeError("--channels leaves out every channel. Keep at least one.")
    order = planes[["Channel", "Id"]].drop_duplicates("Channel")
    order = sorted(zip(order["Id"], order["Channel"], strict=True),
                   key=lambda pair: (_natural(pair[0]), pair[1]))
    return planes, {channel: said[channel] for _, channel in order}


def _word(name: str) -> str:
    """A channel's name as part of a column's: HOECHST_33342."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")


def _natural(text: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if is_number(part) else (1, part.lower())
            for part in re.split(r"([0-9]+)", text) if part]


def _choose_projection(planes: pd.DataFrame, found: Found, wanted: int | None,
                       unplaced: list[tuple[str, str]], notes: list[str]) -> pd.DataFrame:
    """Projections for all channels, or planes for all: never both in one site."""
    projection = planes["Key"].isin(found.projected) & (planes["z"] == 0)
    if wanted is not None or not projection.any():
        return planes
    ours = planes[planes["Key"].isin(found.projected)]
    place = ["Key", "Well", "Site", "Channel"]
    has = ours[ours["z"] == 0][place].drop_duplicates()
    if (ours["z"] == 0).all():
        return planes
    complete = len(has) == len(ours[place].drop_duplicates())
    steps = sorted(ours.loc[ours["z"] != 0, "z"].unique())
    only = sorted(has["Channel"].unique())
    lost = (planes["Key"].isin(found.projected) & ~projection) if complete else projection
    notes.append(
        f"Sites have projections and planes ({_range(steps)}) of a stack; "
        + (f"the projections are used for all channels, and {counted(int(lost.sum()), 'plane')} "
           f"left out (--z {steps[0]} uses a plane)." if complete else
           f"only {listing(only)} has projections at every site, so planes are used for all "
           f"channels and {counted(int(lost.sum()), 'projection')} left out (--z 0 uses "
           "projections alone)." if len(has) == len(ours.loc[ours["Channel"].isin(only), place]
                                                    .drop_duplicates()) else
           "some sites lack a projection, so planes are used for all channels and "
           f"{counted(int(lost.sum()), 'projection')} left out (--z 0 uses projections alone)."))
    reason = "a plane of a stack, whose projection is used" if complete else (
        "a projection, while planes are used")
    unplaced += [(file, reason) for file in planes["File"][lost].unique()]
    return planes[~lost]


def _choose_step(planes: pd.DataFrame, axis: str, wanted: int | None, unit: Sequence[str],
                 unplaced: list[tuple[str, str]], notes: list[str]) -> pd.DataFrame:
    steps = sorted(planes[axis].unique())
    if wanted is None:
        kept = planes[axis] == planes.groupby(list(unit), sort=False)[axis].transform("min")
    else:
        kept = planes[axis] == wanted
        if not kept.any():
            raise MoascopeError(f"--{axis} is {wanted}, which no image has. The {_STEPS[axis]}s "
                                f"are {listing(steps, 12)}.")
    if kept.all():
        return planes
    lost = planes[~kept]
    which = ("the first" if wanted is None else f"number {wanted}")
    notes.append(f"Each site has up to {len(steps)} {_STEPS[axis]}s ({_range(steps)}); {which} is "
                 f"used and {counted(len(lost), 'plane')} left out (--{axis} chooses another).")
    taken = set(planes["File"][kept])
    unplaced += [(file, f"another {_STEPS[axis]} ({step})") for file, step in
                 zip(lost["File"], lost[axis], strict=True) if file not in taken]
    return planes[kept]


def _range(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"


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
            f"and {second}. Move one away, or distinguish them with --pattern.")
    raise MoascopeError(problems)


def _the_rest(tree: Tree, found: Found, planes: pd.DataFrame,
              unplaced: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every remaining file, with the reason why it is not used."""
    known = {file for file, _ in unplaced} | set(planes["File"]) | found.read
    rest = [(file, "no index or table names it" if IMAGE.search(file)
             else NOT_AN_IMAGE)
            for file in tree.files if file not in known]
    if not any(tree.root.joinpath(plane).is_dir() for plane in planes["File"].iloc[:1]):
        rest += [(folder or ".", "a Zarr group; --kind omezarr reads it")
                 for folder in tree.arrays]
    return [*rest, *tree.left_out]


def _incomplete(planes: pd.DataFrame) -> pd.DataFrame:
    """Sites without an image in a channel that their plate has."""
    lost = []
    for plate, of_plate in planes.groupby("Plate", sort=True):
        there = of_plate.pivot_table(index=["Well", "Site"], columns="Channel", values="Frame",
                                     aggfunc="size")
        rows, columns = np.nonzero(there.isna().to_numpy())
        lost += [(plate, *there.index[row], there.columns[column])
                 for row, column in zip(rows, columns, strict=True)]
    return pd.DataFrame(lost, columns=[*SITE, "Channel"])


def _sites_table(planes: pd.DataFrame, channels: Iterable[str]) -> pd.DataFrame:
    index = ["Plate", "Well", "Site"]
    files = planes.pivot_table(index=index, columns="Channel", values="File", aggfunc="first")
    frames = planes.pivot_table(index=index, columns="Channel", values="Frame", aggfunc="first")
    sites = files.index.to_frame(index=False).set_axis(SITE, axis=1)
    framed = bool((planes["Frame"] != 0).any())
    for channel in channels:
        sites[f"FileName_{channel}"] = files[channel].fillna("").to_numpy()
        if framed:
            sites[f"Frame_{channel}"] = frames[channel].fillna(0).astype(int).to_numpy()
    return sites
