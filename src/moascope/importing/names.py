"""Plates from file names alone: the instruments' patterns, or one given by the user."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable

from moascope.errors import MoascopeError
from moascope.importing.found import IMAGE, Found, Plane, folder_names
from moascope.importing.tree import Tree
from moascope.screen.frames import frame_count
from moascope.screen.wells import well_name

IMAGEXPRESS = re.compile(
    r"(?:(?P<prefix>.+?)_)?(?P<well>(?-i:[A-Z]{1,2})[0-9]{1,3})(?:_s(?P<site>[0-9]+))?"
    r"(?:_w(?P<channel>[0-9]{1,2}?))?(?:_z(?P<z>[0-9]+))?(?:_t(?P<t>[0-9]+))?(?P<thumbnail>_thumb)?"
    r"(?:_?\[?[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\]?)?\.\w+", re.IGNORECASE)
"""<prefix>_<well>_s<site>_w<wavelength>[_thumb]<GUID>.tif, as MetaXpress writes it and as BBBC021,
BBBC022 and JUMP's source_8 have it. The GUID follows the number of the wavelength without a
separator: w1722986E3-... is wavelength 1. Wells are in capitals, or s1 and w1 were wells too."""

HARMONY = re.compile(
    r"r(?P<row>[0-9]{2})c(?P<column>[0-9]{2})f(?P<site>[0-9]+)(?:p(?P<z>[0-9]+))?"
    r"-ch(?P<channel>[0-9]+)"
    r"(?:sk(?P<t>[0-9]+))?(?:fk[0-9]+)?(?:fl[0-9]+)?\.\w+", re.IGNORECASE)
"""r01c02f03p01-ch1sk1fk1fl1.tiff: row, column, field, plane, channel, time point, as Harmony writes
it and as the JUMP pilot (cpg0000) has it."""

CELLVOYAGER = re.compile(
    r"(?:(?P<prefix>.+)_)?(?P<well>[A-Z]{1,2}[0-9]{2})_T(?P<t>[0-9]+)F(?P<site>[0-9]+)L[0-9]+"
    r"A(?P<action>[0-9]+)Z(?P<z>[0-9]+)C(?P<channel>[0-9]+)\.\w+", re.IGNORECASE)
"""110000251230_B02_T0001F001L01A01Z01C01.tif: barcode, well, time point, field, time line, action,
z, channel, as in idr0088."""

INCELL = re.compile(
    r"(?P<row>[A-Z]{1,2}) - (?P<column>[0-9]{1,2})\((?=(?:[^()]* z (?P<z>[0-9]+))?)"
    r"(?=(?:[^()]* time (?P<t>[0-9]+))?)(?:fld (?P<site>[0-9]+))?(?: z [0-9]+)?"
    r"(?: time [0-9]+ - [0-9.]+ \w+)?(?: wv (?P<channel>[^()]+?))?(?: wix [0-9]+)?(?: z [0-9]+)?"
    r"(?: time [0-9]+ - [0-9.]+ \w+)?\)\.\w+", re.IGNORECASE)
"""B - 02(fld 1 wv DAPI - DAPI).tif: row, column, field, excitation and emission."""

_TIME_FOLDER = re.compile(r"TimePoint_([0-9]+)", re.IGNORECASE)
_Z_FOLDER = re.compile(r"ZStep_([0-9]+)", re.IGNORECASE)
_PROJECTION = (r"(?:mips?|max[ _-]?ip|max(?:imum)?[ _-]?(?:intensity[ _-]?)?proj(?:ection)?s?|"
               r"(?:z[ _-]?)?projections?|z[ _-]?proj)")
_PROJECTION_FOLDER = re.compile(_PROJECTION, re.IGNORECASE)
_PROJECTION_NAME = re.compile(rf"(?:max|mip)[_-](?P<behind>.+)|"
                              rf"(?P<front>.+?)[ _-](?:max|proj|{_PROJECTION})(?P<ending>\.\w+)",
                              re.IGNORECASE)
_OME = re.compile(r"\.ome(?=\.\w+$)", re.IGNORECASE)
_GROUPS = ("plate", "well", "row", "column", "site", "channel", "z", "t")


def by_names(tree: Tree, pattern: re.Pattern[str], plate_of: Callable[[str], str],
             files: Iterable[str]) -> tuple[Found, dict[str, dict[str, int]]]:
    """Place files by a pattern that matches their whole name.

    Parameters
    ----------
    tree : Tree
    pattern : compiled pattern
        Groups `well`, or `row` and `column`; and as far as names have them `site`, `channel`, `z`,
        `t`, `action` and `thumbnail`.
    plate_of : callable
        From the folder of a file to the folder that is its plate.
    files : iterable of str
        Which files of the tree.

    Returns
    -------
    Found
        Its plates are folders, not named yet.
    dict
        For each folder that is a plate, how many files begin with which prefix.
    """
    found, prefixes = Found(), {}
    match, planes, unplaced = pattern.fullmatch, found.planes, found.unplaced
    grouped = pattern.groupindex
    by_well, has_prefix, has_thumbnail = ("well" in grouped, "prefix" in grouped,
                                          "thumbnail" in grouped)
    has_action = "action" in grouped
    wells: dict[tuple[str, str], str | None] = {}
    folders: dict[str, tuple[str, int, int, bool]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        name, is_projection = without_projection(name)
        parts = match(name)
        if not parts:
            if IMAGE.search(name):
                unplaced.append((file, "its name does not match this kind of plates"))
            continue
        if has_thumbnail and parts["thumbnail"]:
            unplaced.append((file, "a thumbnail"))
            continue
        if folder not in folders:
            home = "/".join(part for part in folder.split("/") if not is_projections(part))
            folders[folder] = (plate_of(home), *_steps(folder), home != folder)
        plate, z, t, in_projections = folders[folder]
        is_projection |= in_projections
        if by_well:
            well = parts["well"]
        else:
            key = (parts["row"], parts["column"])
            if key not in wells:
                wells[key] = well_at(*key)
            well = wells[key]
            if well is None:
                unplaced.append((file, f"no plate has row {key[0]} and column {key[1]}"))
                continue
        if has_prefix:
            of_plate = prefixes.setdefault(plate, {})
            prefix = parts["prefix"] or ""
            of_plate[prefix] = of_plate.get(prefix, 0) + 1
        channel = (parts["channel"] or "1").lstrip("0")
        if has_action:
            channel += f"@{parts['action'].lstrip('0')}"
        if is_projection:
            found.projected.add(plate)
        planes.append(Plane(plate, well, int(parts["site"] or 1), channel,
                            0 if is_projection else int(parts["z"] or z), int(parts["t"] or t),
                            file, 0))
    return found, prefixes


def is_projections(folder: str) -> bool:
    """Whether a folder's name says that it holds projections of stacks: MIP, Projection."""
    return bool(_PROJECTION_FOLDER.fullmatch(folder))


def without_projection(name: str) -> tuple[str, bool]:
    """A file's name without the mark of a projection (MAX_..., ..._MIP.tif), and if it had one.

    Nor has it the .ome of an OME-TIFF without a plate.
    """
    name = _OME.sub("", name)
    match = _PROJECTION_NAME.fullmatch(name)
    if not match:
        return name, False
    return match["behind"] or match["front"] + match["ending"], True


def well_at(row: str, column: str) -> str | None:
    """The well at a row (letters, or a number from 1) and a column from 1, if there is one."""
    try:
        if row.isdecimal():
            return well_name(int(row) - 1, int(column) - 1)
        return well_name(letters_to_row(row), int(column) - 1)
    except ValueError:
        return None


def letters_to_row(letters: str) -> int:
    """Row of A, B, ..., Z, AA, ..., AF, from 0.

    Raises
    ------
    ValueError
        Where no plate has it.
    """
    upper = letters.strip().upper()
    if len(upper) == 2 and upper[0] == "A":
        return 26 + string.ascii_uppercase.index(upper[1])
    if len(upper) != 1:
        raise ValueError(f"no plate has a row {letters}")
    return string.ascii_uppercase.index(upper)


def separate_prefixes(found: Found, tree: Tree, prefixes: dict[str, dict[str, int]]) -> None:
    """Name plates; where names in one folder have several prefixes, each prefix is a plate."""
    several = {plate for plate, of_plate in prefixes.items() if len(of_plate) > 1}
    if several:
        for index, plane in enumerate(found.planes):
            if plane.plate in several:
                name = without_projection(plane.file.rpartition("/")[2])[0]
                for prefix in sorted(prefixes[plane.plate], key=len, reverse=True):
                    if name.startswith(f"{prefix}_" if prefix else ""):
                        key = f"{plane.plate}\n{prefix}"
                        if plane.plate in found.projected:
                            found.projected.add(key)
                        found.planes[index] = plane._replace(plate=key)
                        break
    for key in dict.fromkeys(plane.plate for plane in found.planes):
        folder, _, prefix = key.partition("\n")
        names = folder_names(tree, folder)
        found.plates[key] = ((prefix, *(f"{name}_{prefix}" for name in names)) if prefix
                             else names)


def find_regex(tree: Tree, pattern: str) -> Found:
    """Place files by a user's regular expression.

    Parameters
    ----------
    tree : Tree
    pattern : str
        Searched in the path of each image relative to the folder, with `/`. Named groups: `well`,
        or `row` (letters or number) and `column`; optional `plate` (else the file's folder),
        `site`, `channel`, `z` and `t`. Without `channel`, the planes of each file are its channels.

    Raises
    ------
    MoascopeError
        When it is not a regular expression, or has no group for the well.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise MoascopeError(f"--pattern is not a regular expression: {error}.") from None
    groups = set(compiled.groupindex)
    if unknown := sorted(groups - set(_GROUPS)):
        raise MoascopeError(f"--pattern has an unknown group '{unknown[0]}'. Groups are "
                            f"{', '.join(_GROUPS)}.")
    if "well" not in groups and not {"row", "column"} <= groups:
        raise MoascopeError("--pattern has no group for the well. Give it a group "
                            "(?P<well>...), or (?P<row>...) and (?P<column>...).")
    found = Found()
    frames = 0
    for file in tree.files:
        if not IMAGE.search(file):
            continue
        match = compiled.search(file)
        if not match:
            found.unplaced.append((file, "--pattern does not match"))
            continue
        place = {name: text for name, text in match.groupdict().items() if text is not None}
        well = place.get("well") or well_at(place.get("row", ""), place.get("column", ""))
        try:
            site, z, t = (int(place.get(name) or 1) for name in ("site", "z", "t"))
        except ValueError:
            well = None
        if well is None:
            found.unplaced.append((file, "--pattern does not find a well, or its site, z or time "
                                         "is not a number"))
            continue
        folder = file.rpartition("/")[0]
        plate = place.get("plate", f"/{folder}")
        if plate not in found.plates:
            found.plates[plate] = ((place["plate"].replace("/", "_"),) if "plate" in place
                                   else folder_names(tree, folder))
        if "channel" in groups:
            found.planes.append(Plane(plate, well, site, place.get("channel", "1"), z, t, file, 0))
            continue
        frames = frames or frame_count(tree.root / file)
        found.planes += [Plane(plate, well, site, str(frame + 1), z, t, file, frame)
                         for frame in range(frames)]
    if frames > 1:
        found.notes.append(f"--pattern has no group 'channel', so the {frames} planes of each file "
                           "count as its channels, judged by the first file.")
    return found


def _steps(folder: str) -> tuple[int, int]:
    """z and time point of a folder, from the names on the way to it."""
    z, t = 1, 1
    for part in folder.split("/"):
        if step := _Z_FOLDER.fullmatch(part):
            z = int(step[1])
        elif step := _TIME_FOLDER.fullmatch(part):
            t = int(step[1])
    return z, t


def in_z_folder(file: str) -> bool:
    """Whether a file lies in a ZStep_ folder."""
    return any(_Z_FOLDER.fullmatch(part) for part in file.split("/")[:-1])


def is_step(part: str) -> bool:
    """Whether a folder's name is that of a time point or a z step."""
    return bool(_TIME_FOLDER.fullmatch(part) or _Z_FOLDER.fullmatch(part))
