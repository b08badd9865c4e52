"""Plates of Yokogawa's CellVoyager CV7000, CV8000 and CQ1."""

from __future__ import annotations

from moascope.errors import MoascopeError
from moascope.importing.found import IMAGE, Found, Plane, folder_names
from moascope.importing.names import CELLVOYAGER, by_names, separate_prefixes, well_at
from moascope.importing.tree import Tree, locate
from moascope.importing.xml import attributes, local, read_elements
from moascope.text import is_number, listing

DATA, DETAIL = "measurementdata.mlf", "measurementdetail.mrf"


def find_cellvoyager(tree: Tree) -> Found:
    """Place CellVoyager files by MeasurementData.mlf, or by their names where there is none.

    MeasurementDetail.mrf next to it names the plate and the measurement setting (.mes), whose
    channels have a target such as DAPI.

    Notes
    -----
    All three are XML of the namespace http://www.yokogawa.co.jp/BTS/BTSSchema/1.0; a
    <bts:MeasurementRecord> has bts:Type (IMG, or ERR where the instrument failed), Row, Column,
    FieldIndex, TimePoint, ZIndex and Ch, and the file as its text. Seen in CV7000Reader of
    ome/bioformats, in fractal-analytics-platform (which also has .png where the record says .tif,
    and bts:ZImageProcessing for projections), and in the file names of idr0088.
    """
    found = Found(short="C")
    indexed = set()
    for index in tree.by_name.get(DATA, ()):
        folder = index.rpartition("/")[0]
        _read_measurement(tree, folder, index, found)
        indexed.add(folder)
    placed = {plane.file for plane in found.planes}
    rest = [file for file in tree.files if IMAGE.search(file) and file not in placed
            and file.rpartition("/")[0] not in indexed]
    named, prefixes = by_names(tree, CELLVOYAGER, lambda folder: folder, rest)
    separate_prefixes(named, tree, prefixes)
    for key, of_plate in prefixes.items():
        prefix = next(iter(of_plate))
        if len(of_plate) == 1 and prefix:
            # The instrument begins each name with the barcode.
            named.plates[key] = (prefix, *named.plates[key])
    found.planes += named.planes
    found.plates = {**named.plates, **found.plates}
    found.projected |= named.projected
    found.unplaced += named.unplaced
    _tell_actions_apart(found)
    return found


def _tell_actions_apart(found: Found) -> None:
    """Name a channel that several actions took after both; elsewhere the action is left out.

    Until here each plane's channel is "channel@action".
    """
    actions: dict[tuple[str, str], set[str]] = {}
    for plane in found.planes:
        channel, _, action = plane.channel.partition("@")
        actions.setdefault((plane.plate, channel), set()).add(action)
    for index, plane in enumerate(found.planes):
        channel, _, action = plane.channel.partition("@")
        if len(actions[plane.plate, channel]) > 1:
            name = f"C{channel}_A{action}"
            if told := found.channels.get((plane.plate, channel)):
                found.channels[plane.plate, name] = f"{told} A{action}"
            channel = name
        found.planes[index] = plane._replace(channel=channel)
    several = sorted({channel for (_, channel), of in actions.items() if len(of) > 1})
    if several:
        found.notes.append(f"Several actions took channel {listing(f'C{c}' for c in several)}; "
                           "each action is a channel of its own, such as "
                           f"C{several[0]}_A1. --channels with an empty name leaves one out.")


def _read_measurement(tree: Tree, folder: str, index: str, found: Found) -> None:
    found.read.add(index)
    plate, channels = _read_detail(tree, folder, found)
    names = folder_names(tree, folder)
    found.plates[folder] = (plate, *names) if plate else names
    for element in read_elements(tree.root / index, {"MeasurementRecord"}, index):
        said = attributes(element)
        name = (element.text or "").strip()
        if said.get("Type", "IMG") != "IMG":
            file = locate(tree, folder, name) if name else None
            found.unplaced.append((file or name or "(no name)",
                                   f"{index} records it as {said['Type']}, not as an image"))
            continue
        file = _locate(tree, folder, name)
        if file is None:
            found.unplaced.append((name or "(no name)",
                                   f"named by {index}, but not in the folder"))
            continue
        well = well_at(said.get("Row", ""), said.get("Column", ""))
        try:
            site, channel = int(said["FieldIndex"]), str(int(said["Ch"]))
            z, t = int(said.get("ZIndex") or 1), int(said.get("TimePoint") or 1)
        except (KeyError, ValueError):
            well = None
        if well is None:
            found.unplaced.append((file, f"{index} gives no well, field or channel for it"))
            continue
        if said.get("ZImageProcessing"):
            # A projection has channel numbers of its own.
            channels.setdefault(channel, f"C{channel} {said['ZImageProcessing']}")
        action = said.get("ActionIndex", "").lstrip("0")
        found.planes.append(Plane(folder, well, site, f"{channel}@{action}", z, t, file, 0))
        if channels.get(channel):
            found.channels.setdefault((folder, channel), channels[channel])


def _locate(tree: Tree, folder: str, name: str) -> str | None:
    if not name:
        return None
    stem = name.rpartition(".")[0]
    return locate(tree, folder, name) or (locate(tree, folder, f"{stem}.png") if stem else None)


def _read_detail(tree: Tree, folder: str, found: Found) -> tuple[str, dict[str, str]]:
    """The plate's name, and the channels' names by their number, as far as they are told."""
    detail = locate(tree, folder, DETAIL)
    if detail is None or detail.rpartition("/")[0] != folder:
        return "", {}
    found.read.add(detail)
    plate, setting = "", ""
    channels: dict[str, str] = {}
    try:
        names = {"MeasurementSamplePlate", "MeasurementDetail"}
        for element in read_elements(tree.root / detail, names, detail):
            setting = setting or attributes(element).get("MeasurementSettingFileName", "")
            for part in element.iter():
                if local(part.tag) == "MeasurementSamplePlate":
                    plate = attributes(part).get("Name", plate)
        file = locate(tree, folder, setting) if setting else None
        if file:
            found.read.add(file)
            for element in read_elements(tree.root / file, {"Channel"}, file):
                said = attributes(element)
                name = said.get("Target") or said.get("Acquisition")
                if is_number(said.get("Ch", "")) and name:
                    channels[str(int(said["Ch"]))] = name
    except MoascopeError as error:
        # Without it names are missing, but no image is.
        found.notes.append(error.problems[0])
    return plate, channels
