"""Plates of Molecular Devices' ImageXpress, as MetaXpress stores them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping

from moascope.errors import MoascopeError
from moascope.importing.found import IMAGE, Found
from moascope.importing.names import (
    IMAGEXPRESS,
    by_names,
    in_z_folder,
    is_step,
    separate_prefixes,
)
from moascope.importing.tree import Tree, parents
from moascope.opening import read_file
from moascope.screen.wells import canonical_well, well_name
from moascope.text import counted, listing

MOST_HTD = 2**22
"""Most bytes of a plate description."""

MOST_LINE = 2**16

_HAS_Z = re.compile(r"_z[0-9]+[^/]*$", re.IGNORECASE)


def find_imagexpress(tree: Tree) -> Found:
    """Place ImageXpress files by their names, with .HTD plate descriptions where there are any.

    ZStep_0 holds projections of a stack, and so do the files next to ZStep_ folders: their z is 0.

    A plate is a folder without its TimePoint_<t> and ZStep_<z> folders. The .HTD next to it names
    the wavelengths and the wells that were to be imaged.

    Notes
    -----
    What the names and the .HTD look like: BBBC022 (IXMtest_A01_s1_w1<GUID>.tif), JUMP's source_8,
    idr0005, idr0008 and idr0081 (.HTD), as described in docs/provenance/imagexpress.md of the
    OpenReadout project and written by the simulator of trissim/openhcs.
    """
    htds = [file for file in tree.files if file.lower().endswith(".htd")]
    descriptions = {file: read_htd(_content(tree, file)) for file in htds}
    found, prefixes = by_names(tree, IMAGEXPRESS, _plate_folder,
                               (file for file in tree.files if IMAGE.search(file)))
    _find_projections(found)
    separate_prefixes(found, tree, prefixes)
    found.read.update(htds)
    wells: dict[str, set[str]] = {}
    channels: dict[str, set[str]] = {}
    for plane in found.planes:
        wells.setdefault(plane.plate, set()).add(plane.well)
        channels.setdefault(plane.plate, set()).add(plane.channel)
    for plate in found.plates:
        folder, _, prefix = plate.partition("\n")
        file = _htd_of(folder, prefix, htds)
        if file is None:
            continue
        names, selected = descriptions[file]
        for channel in channels[plate]:
            if names.get(channel):
                found.channels[plate, channel] = names[channel]
        seen = {canonical_well(well) for well in wells[plate] if _is_well(well)}
        if lost := sorted(selected - seen):
            found.notes.append(f"{file} selects {counted(len(selected), 'well')}, of which "
                               f"{len(lost):,} without an image: {listing(lost)}.")
    return found


def _content(tree: Tree, file: str) -> bytes:
    try:
        return read_file(tree.root / file, MOST_HTD)
    except OSError as error:
        raise MoascopeError(f"{file} cannot be read: {error.strerror}. Remove it to import by file "
                            "names alone.") from None


def read_htd(content: bytes) -> tuple[Mapping[str, str], set[str]]:
    """Read a plate description: names of wavelengths by their number, and the selected wells.

    It is text of lines such as `"WaveName1", "DAPI"` and `"WellsSelection2", FALSE, TRUE`.
    """
    values: dict[str, list[str]] = {}
    text = content.decode("utf-8", errors="replace")
    # Not a quote left open over many lines, but every line is a record.
    for line in text.splitlines():
        row = next(csv.reader([line[:MOST_LINE]], skipinitialspace=True), [])
        if row:
            values[row[0].strip().strip('"').lower()] = [cell.strip().strip('"')
                                                         for cell in row[1:]]
    names = {key.removeprefix("wavename"): cells[0] for key, cells in values.items()
             if key.startswith("wavename") and cells}
    selected = set()
    for row in range(32):
        for column, cell in enumerate(values.get(f"wellsselection{row + 1}", [])[:48]):
            if cell.upper() == "TRUE":
                selected.add(well_name(row, column))
    return names, selected


def _find_projections(found: Found) -> None:
    """Give projections the z of 0, in plates that have ZStep_ folders."""
    stacked = {plane.plate for plane in found.planes if in_z_folder(plane.file)}
    for index, plane in enumerate(found.planes):
        if plane.plate in stacked:
            if not in_z_folder(plane.file) and not _HAS_Z.search(plane.file):
                plane = found.planes[index] = plane._replace(z=0)
            if plane.z == 0:
                found.projected.add(plane.plate)


def _plate_folder(folder: str) -> str:
    return next(part for part in parents(folder) if not is_step(part.rpartition("/")[2]))


def _htd_of(folder: str, prefix: str, htds: list[str]) -> str | None:
    """The .HTD of a plate: next to its files or in its first time point, best of the same name."""
    near = [file for file in htds if _plate_folder(file.rpartition("/")[0]) == folder]
    named = [file for file in near if prefix
             and file.rpartition("/")[2][:-4].lower() == prefix.lower()]
    return (named or near or [None])[0] if not prefix or named or len(near) == 1 else None


def _is_well(name: str) -> bool:
    try:
        canonical_well(name)
    except MoascopeError:
        return False
    return True
