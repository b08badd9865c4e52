"""Plates of Cytiva's (GE's) IN Cell Analyzer."""

from __future__ import annotations

from moascope.importing.found import IMAGE, Found, Plane, folder_names
from moascope.importing.names import INCELL, by_names, well_at
from moascope.importing.tree import Tree, locate
from moascope.importing.xml import attributes, local, read_elements


def find_incell(tree: Tree) -> Found:
    """Place IN Cell files by the .xdce next to them, or by their names where there is none.

    Notes
    -----
    The .xdce has one <Image filename="B - 02(fld 1 wv DAPI - DAPI).tif"> a plane, with <Well
    label="B - 2"><Row number="2"/><Column number="2"/></Well>, <ExcitationFilter name>,
    <EmissionFilter name> and <Identifier field_index wave_index z_index time_index>, the indices
    from 0. Seen in InCellReader of ome/bioformats and in the writer of bioformats-to-incarta.
    """
    found = Found()
    indexed = set()
    for index in (file for file in tree.files if file.lower().endswith(".xdce")):
        folder = index.rpartition("/")[0]
        _read_xdce(tree, folder, index, found)
        indexed.add(folder)
    placed = {plane.file for plane in found.planes}
    rest = [file for file in tree.files if IMAGE.search(file) and file not in placed
            and file.rpartition("/")[0] not in indexed]
    named, _ = by_names(tree, INCELL, lambda folder: folder, rest)
    # An .xdce numbers channels, so that a projection without its own cannot be told to be which.
    beside = {plane.file for plane in named.planes if plane.plate in indexed}
    named.planes = [plane for plane in named.planes if plane.file not in beside]
    named.unplaced += [(file, "a projection that no .xdce names") for file in sorted(beside)]
    found.projected |= named.projected
    for plate, channel in dict.fromkeys((plane.plate, plane.channel) for plane in named.planes):
        found.plates.setdefault(plate, folder_names(tree, plate))
        found.channels.setdefault((plate, channel), _filters(*_split(channel)))
    found.planes += named.planes
    found.unplaced += named.unplaced
    return found


def _read_xdce(tree: Tree, folder: str, index: str, found: Found) -> None:
    found.read.add(index)
    stem = index.rpartition("/")[2][:-5]
    # A folder may hold several plates, each with its own .xdce.
    plate = f"{folder}\n{stem}"
    names = folder_names(tree, folder)
    found.plates[plate] = (stem, *(f"{name}_{stem}" for name in names))
    for element in read_elements(tree.root / index, {"Image"}, index):
        name = element.get("filename", "")
        file = locate(tree, folder, name) if name else None
        if not name:
            continue
        if file is None:
            found.unplaced.append((name, f"named by {index}, but not in the folder"))
            continue
        said = {local(part.tag): attributes(part) for part in element.iter()}
        well = well_at(said.get("Row", {}).get("number", ""),
                       said.get("Column", {}).get("number", ""))
        place = said.get("Identifier", {})
        try:
            site, wave = int(place["field_index"]) + 1, str(int(place["wave_index"]) + 1)
            z, t = int(place.get("z_index") or 0) + 1, int(place.get("time_index") or 0) + 1
        except (KeyError, ValueError):
            well = None
        if well is None:
            found.unplaced.append((file, f"{index} gives no well, field or wavelength for it"))
            continue
        filters = _filters(said.get("ExcitationFilter", {}).get("name", ""),
                           said.get("EmissionFilter", {}).get("name", ""))
        if filters:
            found.channels.setdefault((plate, wave), filters)
        found.planes.append(Plane(plate, well, site, wave, z, t, file, 0))


def _split(channel: str) -> tuple[str, str]:
    excitation, _, emission = channel.partition(" - ")
    return excitation, emission


def _filters(excitation: str, emission: str) -> str:
    """DAPI for DAPI - DAPI, and Cy3-Cy5 where the two differ."""
    return "-".join(dict.fromkeys(part.strip() for part in (excitation, emission) if part.strip()))
