"""The source `idr0088`: 1,007 drugs on 15 reporter lines, live (Cox et al. 2020).

The annotation table, one row per well, decides what is downloaded; each plate's
MeasurementData.mlf lists the fields that were imaged. Layout as read in
IDR/idr0088-cox-phenomicprofiling (GitHub) and in the declarations of its file sets; none of the
addresses could be opened when this was written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.params import Idr0088
from moascope.screen.planes import read_plane
from moascope.sources import idr0088_web
from moascope.sources.download import Wanted, fetch_all
from moascope.sources.http import Unlike, Visit, below
from moascope.sources.idr0088_wells import (
    CHANNELS,
    annotation_file,
    annotation_table,
    channel_meaning,
    layout_table,
    read_annotation,
    select,
)
from moascope.sources.plan import Collected, Origin, Plan, missing_rows, without_missing
from moascope.text import counted, listing

ORIGIN = Origin(
    title="Tales of 1,008 small molecules: phenomic profiling in a panel of reporter cell lines",
    licence="CC BY-NC 4.0, (c) Cox et al.",
    citation=("Cox MJ et al. (2020) Tales of 1,008 small molecules: phenomic profiling through "
              "live-cell imaging in a panel of reporter cell lines. Scientific Reports 10, 13262. "
              "Data: https://doi.org/10.17867/10000150"),
    address="https://idr.openmicroscopy.org/search/?query=Name:idr0088",
    non_commercial=True,
)
PRESETS = {
    "slides": {"limit": 26_000},
    "honest": {"panels": ("HepG2 TUBA1B-RELA",)},
}
PRESET_NOTES = {
    "slides": ("the slides took the first 26,000 images, plate after plate, which mixes panels, "
               "and asked for 'GPCR agonist' against all the rest: set target to gpcr_agonist. "
               "Here unknown mechanisms and DMSO do not count as negatives."),
    "honest": ("one panel, all its compounds: set target to gpcr (any GPCR, either action). Choose "
               "another panel with idr0088.panels."),
}
RENDERED_CAVEAT = ("The images are 8-bit JPEG renderings at a fixed window, for a quick look. "
                   "A rendered JPEG is not a measurement.")

FOLDER = ("idr0088-cox-phenomicprofiling/20200722-awss3/ds_hcs_02/PhenoPrintScreen/"
          "raw_images_for_IDR/")
PLANE_BYTES = 2_627_290     # 1250 x 1050 pixels of 16 bits, as one plate's file list has it
RENDERED_BYTES = 300_000    # a guess
IMAGES = 739_991            # of the whole screen (IDR studies.tsv), in
WELLS = 317_430             # annotated wells
INDEX = "MeasurementData.mlf"
_PLATES_A_BLOCK = 16
_NAME = re.compile(r"_([A-P][0-9]{2})_T0001F([0-9]{3})L01A[0-9]{2}Z01C0([123])\.tif")
_PLACE = re.compile(r"_([A-P][0-9]{2})_(?:T0001)?F([0-9]{3})")


def plan(params: Idr0088, downloads: Path, session: Visit) -> Plan:
    """Size of a selection. Only the annotation table is downloaded for it.

    Raises
    ------
    MoascopeError
        When the table is not available or readable, or the selection names what it does not have.
    """
    settings = with_preset(params)
    wells = select(read_annotation(annotation_file(settings, downloads, session)), settings)
    share = _images_a_well(settings.fields)
    if settings.limit:
        wells = wells.iloc[:max(1, round(settings.limit / share))]
    images = round(len(wells) * share)
    images = min(images, settings.limit) if settings.limit else images
    planes = images * len(CHANNELS)
    notes = [PRESET_NOTES[settings.preset]] if settings.preset else []
    notes.append(f"wells have two or three fields, {IMAGES / WELLS:.2f} on average; the index file "
                 "of each plate has the exact number."
                 if not settings.rendered else RENDERED_CAVEAT)
    treated = wells.loc[wells["Control"] == "", "Compound"]
    size = planes * (RENDERED_BYTES if settings.rendered else PLANE_BYTES)
    return Plan("idr0088", ORIGIN, wells["Plate"].nunique(), len(wells), treated.nunique(), images,
                planes, size, exact=False, notes=tuple(notes),
                room=max(0, size - _held(settings, wells, downloads)))


def _held(settings: Idr0088, wells: pd.DataFrame, downloads: Path) -> int:
    """Bytes of the planes of these wells and fields that are already downloaded."""
    folder = downloads / ("rendered" if settings.rendered else "images")
    held = 0
    for plate, named in wells.groupby("Plate")["Well"]:
        if not (folder / plate).is_dir():
            continue
        asked = set(named)
        for file in (folder / plate).iterdir():
            match = _PLACE.match(file.name.removeprefix(plate))
            if match and match[1] in asked and (
                    not settings.fields or int(match[2]) in settings.fields):
                held += file.stat().st_size
    return held


def collect(params: Idr0088, downloads: Path, session: Visit, most_missing: float) -> Collected:
    """Download a selection and make its tables.

    Parameters
    ----------
    params : Idr0088
    downloads : Path
        Folder of this source; pictures go to `images/<plate>/`, renderings to `rendered/<plate>/`.
    session : Visit
    most_missing : float
        Share of the planes that the server may lack.

    Raises
    ------
    MoascopeError
    """
    settings = with_preset(params)
    table = annotation_file(settings, downloads, session)
    wells = select(read_annotation(table), settings)
    find = _rendered_sites if settings.rendered else _raw_sites
    sites, wanted, unlisted = find(settings, wells, downloads, session)
    if not len(sites):
        raise MoascopeError("The selection of idr0088 has no image: none of its wells was imaged "
                            "in these fields. Check idr0088.wells and idr0088.fields.")
    failures = fetch_all(session, wanted, "idr0088: planes", most_missing)
    reasons = {path.relative_to(downloads).as_posix(): why for path, why in failures.items()}
    missing = missing_rows(sites, CHANNELS, reasons)
    sites = without_missing(sites, missing)
    about = {
        "channels": channel_meaning(wells),
        "annotation_sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        "selection": {key: value for key, value in settings.model_dump(mode="json").items()
                      if value and key not in ("annotation", "files", "web")},
    }
    notes = []
    if unlisted:
        about["plates_without_index"] = sorted(unlisted)
        notes.append(f"{counted(len(unlisted), 'plate')} without a usable {INDEX} "
                     f"({listing(unlisted)}): the first two fields of each well were taken.")
    if settings.rendered:
        about["caveat"] = RENDERED_CAVEAT
    return Collected(sites, layout_table(wells, sites), annotation_table(wells, sites), missing,
                     about, tuple(notes))


def with_preset(params: Idr0088) -> Idr0088:
    """Apply the preset; parameters that are set take precedence over it."""
    said = PRESETS.get(params.preset or "", {})
    return params.model_copy(update={key: value for key, value in said.items()
                                     if not getattr(params, key)})


# The 16-bit files


def plane_name(plate: str, well: str, site: int, channel: int) -> str:
    """Name of a plane's file; `channel` from 1: blue, green, red."""
    return f"{plate}_{well}_T0001F{site:03d}L01A{channel:02d}Z01C{channel:02d}.tif"


def read_index(path: Path, plate: str) -> dict[tuple[str, int], dict[int, str]]:
    """Read which planes a plate has from its MeasurementData.mlf (Yokogawa CV7000, XML).

    Returns
    -------
    dict
        (well, field) -> channel (1 to 3) -> file name.

    Raises
    ------
    MoascopeError
        When it is not such an index, or declares entities.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    found: dict[tuple[str, int], dict[int, str]] = {}
    try:
        with open_file(path) as file:
            for _, element in iterparse(file, forbid_dtd=True):
                if element.tag.rpartition("}")[2] == "MeasurementRecord":
                    kinds = [value for key, value in element.attrib.items()
                             if key.endswith("Type")]
                    name = (element.text or "").strip()
                    match = _NAME.fullmatch(name.removeprefix(plate))
                    if match and "ERR" not in kinds and name.startswith(plate):
                        well, site, channel = match[1], int(match[2]), int(match[3])
                        found.setdefault((well, site), {})[channel] = name
                element.clear()
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        # An unknown encoding raises LookupError.
        raise MoascopeError(f"{path} is not an index of a plate ({error}).") from None
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    if not found:
        raise MoascopeError(f"{path} has no image of plate {plate} named as in idr0088 "
                            f"({plane_name(plate, 'B02', 1, 1)}).")
    return found


def _raw_sites(settings: Idr0088, wells: pd.DataFrame, downloads: Path,
               session: Visit) -> tuple[pd.DataFrame, list[Wanted], list[str]]:
    rows: list[dict[str, object]] = []
    wanted: list[Wanted] = []
    unlisted: list[str] = []
    places = wells.drop_duplicates("Plate").set_index("Plate")["Location"]
    grouped = dict(tuple(wells.groupby("Plate", sort=False)))
    names = list(places.index)
    for first in range(0, len(names), _PLATES_A_BLOCK):
        block = names[first:first + _PLATES_A_BLOCK]
        indices = {plate: downloads / "index" / f"{plate}.mlf" for plate in block}
        addresses = {plate: below(settings.files, FOLDER + quote(
            f"{places[plate]}/{plate}/")) for plate in block}
        lost = fetch_all(session, [
            Wanted(addresses[plate] + INDEX, indices[plate], most_bytes=1 << 26,
                   check=lambda path, plate=plate: _check_index(path, plate))
            for plate in block], "idr0088: plates", most_missing=1.0)
        for plate in block:
            index = None if indices[plate] in lost else _by_well(
                read_index(indices[plate], plate))
            unlisted += [plate] if index is None else []
            for well in grouped[plate].to_dict("records"):
                for site, planes in _fields(plate, well["Well"], index, settings.fields):
                    rows.append(_site(well, site, [f"images/{plate}/{name}" for name in planes]))
                    wanted += [Wanted(addresses[plate] + quote(name),
                                      downloads / "images" / plate / name, check=_check_plane)
                               for name in planes]
                    if len(rows) == settings.limit:
                        return pd.DataFrame(rows), wanted, unlisted
    return pd.DataFrame(rows), wanted, unlisted


def _by_well(index: dict[tuple[str, int], dict[int, str]]) -> dict[str, dict[int, dict[int, str]]]:
    wells: dict[str, dict[int, dict[int, str]]] = {}
    for (well, site), planes in sorted(index.items()):
        wells.setdefault(well, {})[site] = planes
    return wells


def _fields(plate: str, well: str, index: dict[str, dict[int, dict[int, str]]] | None,
            asked: Sequence[int]) -> Iterable[tuple[int, list[str]]]:
    if index is None:
        # Every well has two fields; only the index says which have a third.
        for site in asked or (1, 2):
            yield site, [plane_name(plate, well, site, channel) for channel in (1, 2, 3)]
        return
    imaged = index.get(well, {})
    for site in asked or imaged:
        planes = imaged.get(site)
        if planes:
            yield site, [planes.get(channel) or plane_name(plate, well, site, channel)
                         for channel in (1, 2, 3)]


def _check_index(path: Path, plate: str) -> None:
    read_index(path, plate)


def _check_plane(path: Path) -> None:
    plane = read_plane(path)
    if plane.dtype != "uint16":
        raise Unlike(f"{path} holds {plane.dtype} values instead of 16-bit ones.")


# The renderings


def _rendered_sites(settings: Idr0088, wells: pd.DataFrame, downloads: Path,
                    session: Visit) -> tuple[pd.DataFrame, list[Wanted], list[str]]:
    rows: list[dict[str, object]] = []
    wanted: list[Wanted] = []
    ids = idr0088_web.plate_ids(session, settings.web)
    unknown = sorted(set(wells["Plate"]) - set(ids))
    if unknown:
        raise MoascopeError(f"{settings.web} does not list {counted(len(unknown), 'plate')} of the "
                            f"selection ({listing(unknown)}). Leave them out of idr0088.plates, or "
                            "take the 16-bit files (idr0088.rendered: false).")
    for plate, group in wells.groupby("Plate"):
        images = {site: idr0088_web.field_images(session, settings.web, ids[plate], site)
                  for site in settings.fields or (1, 2, 3)}
        for well in group.to_dict("records"):
            for site, of_well in images.items():
                if well["Well"] not in of_well:
                    continue
                names = [f"rendered/{plate}/{plate}_{well['Well']}_F{site:03d}_{channel}.jpg"
                         for channel in CHANNELS]
                rows.append(_site(well, site, names))
                wanted += [Wanted(idr0088_web.render_address(settings.web, of_well[well["Well"]],
                                                             channel),
                                  downloads / name, check=_check_rendering)
                           for channel, name in enumerate(names, start=1)]
                if len(rows) == settings.limit:
                    return pd.DataFrame(rows), wanted, []
    return pd.DataFrame(rows), wanted, []


def _check_rendering(path: Path) -> None:
    read_plane(path)


# What both share


def _site(well: dict[str, str], site: int, names: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {
        "Metadata_Plate": well["Plate"], "Metadata_Well": well["Well"], "Metadata_Site": site,
        "Metadata_Batch": well["Batch"], "Metadata_Panel": well["Panel"]}
    return row | {
        f"FileName_{channel}": name for channel, name in zip(CHANNELS, names, strict=True)}


def _images_a_well(fields: Sequence[int]) -> float:
    average = IMAGES / WELLS
    if not fields:
        return average
    # Every well has the first two fields; the average above two is the third.
    return sum({1: 1.0, 2: 1.0, 3: average - 2}.get(site, 0.0) for site in set(fields)) or 1e-9


