"""Plates of Revvity's (PerkinElmer's) Opera Phenix and Operetta, as Harmony and Columbus export."""

from __future__ import annotations

import re

from moascope.importing.found import IMAGE, Found, Plane, folder_names
from moascope.importing.names import HARMONY, by_names, well_at
from moascope.importing.tree import Tree, locate
from moascope.importing.xml import children, read_elements

INDEXES = ("index.idx.xml", "index.xml", "index.ref.xml", "imageindex.columbusidx.xml")
"""Names of the index, in lower case; where a folder has several, the first of them counts."""

_MEASUREMENT = re.compile(r"__\d{4}-\d\d-\d\dT.*", re.DOTALL)


def find_harmony(tree: Tree) -> Found:
    """Place Harmony files by the index next to them, or by their names where there is none.

    Notes
    -----
    The index has one <Image> per plane with <URL>, <Row>, <Col>, <FieldID>, <PlaneID>,
    <TimepointID>, <ChannelID> and, up to HarmonyV6, <ChannelName>; HarmonyV7 keeps the names in
    <Maps><Map><Entry ChannelID="1"><ChannelName>. Seen in the indexes that trissim/ezstitcher and
    ome/bioformats read, and in the file names of the JUMP pilot.
    """
    found = Found(short="ch")
    indexed = set()
    for folder, index in sorted(_indexes(tree).items()):
        _read_index(tree, folder, index, found)
        indexed.add(folder)
    rest = [file for file in tree.files
            if IMAGE.search(file) and file.rpartition("/")[0] not in indexed]
    named, _ = by_names(tree, HARMONY, lambda folder: folder, rest)
    used = {plane.file for plane in found.planes}
    found.planes += [plane for plane in named.planes if plane.file not in used]
    found.unplaced += [(file, why) for file, why in named.unplaced if file not in used]
    found.projected |= named.projected
    for folder in dict.fromkeys(plane.plate for plane in named.planes):
        found.plates.setdefault(folder, _names(tree, folder))
    return found


def _indexes(tree: Tree) -> dict[str, str]:
    best: dict[str, tuple[int, str]] = {}
    for rank, name in enumerate(INDEXES):
        for file in tree.by_name.get(name, ()):
            folder = file.rpartition("/")[0]
            best[folder] = min(best.get(folder, (rank, file)), (rank, file))
    return {folder: file for folder, (_, file) in best.items()}


def _read_index(tree: Tree, folder: str, index: str, found: Found) -> None:
    found.read.update(file for name in INDEXES for file in tree.by_name.get(name, ())
                      if file.rpartition("/")[0] == folder)
    written = ""
    for element in read_elements(tree.root / index, {"Plate", "Entry", "Image"}, index):
        said = children(element)
        kind = element.tag.rpartition("}")[2]
        if kind == "Plate":
            written = written or said.get("Name") or said.get("PlateID") or ""
        elif kind == "Entry":
            if said.get("ChannelName") and element.get("ChannelID"):
                found.channels.setdefault((folder, element.get("ChannelID", "")),
                                          said["ChannelName"])
        elif "URL" in said or "Row" in said:
            buffer = next((child.get("BufferNo") for child in element
                           if child.get("BufferNo")), "0")
            _place(tree, folder, index, said, buffer or "0", found)
    found.plates[folder] = ((written,) if written else ()) + _names(tree, folder)


def _place(tree: Tree, folder: str, index: str, said: dict[str, str], buffer: str,
           found: Found) -> None:
    name = said.get("URL", "")
    file = locate(tree, folder, name) if name else None
    if file is None:
        found.unplaced.append((name or "(no name)", f"named by {index}, but not in the folder"))
        return
    well = well_at(said.get("Row", ""), said.get("Col", ""))
    try:
        site, z = int(said["FieldID"]), int(said.get("PlaneID") or 1)
        t, frame = int(said.get("TimepointID") or 0), int(buffer)
    except (KeyError, ValueError):
        well = None
    if well is None:
        found.unplaced.append((file, f"{index} gives no well or field for it"))
        return
    channel = said.get("ChannelID") or "1"
    if said.get("ChannelName"):
        found.channels.setdefault((folder, channel), said["ChannelName"])
    found.planes.append(Plane(folder, well, site, channel, z, t, file, frame))


def _names(tree: Tree, folder: str) -> tuple[str, ...]:
    """BR00117006 for BR00117006__2020-11-08T18_18_00-Measurement1/Images."""
    above = folder.rpartition("/")[0] if folder.rpartition("/")[2].lower() == "images" else folder
    name, path = folder_names(tree, above)
    return (_MEASUREMENT.sub("", name) or name, name, path)
