"""The source `idr0088`: 1,007 drugs on 15 reporter lines, live (Cox et al. 2020).

The annotation table, one row per well, decides what is downloaded; each plate's
MeasurementData.mlf lists the fields that were imaged. Layout as read in
IDR/idr0088-cox-phenomicprofiling (GitHub) and in the declarations of its file sets; none of the
addresses could be opened when this was written.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.params import Idr0088
from moascope.screen.planes import read_plane
from moascope.screen.wells import canonical_well
from moascope.sources import idr0088_web
from moascope.sources.download import Wanted, fetch, fetch_all, place_of
from moascope.sources.http import Unlike, Visit, below
from moascope.sources.plan import (
    Collected,
    Origin,
    Plan,
    missing_rows,
    refuse_strange_names,
    without_missing,
)
from moascope.text import cause, counted, listing
from moascope.work.archives import only_member

ORIGIN = Origin(
    title="Tales of 1,008 small molecules: phenomic profiling in a panel of reporter cell lines",
    licence="CC BY-NC 4.0, (c) Cox et al.",
    citation=("Cox MJ et al. (2020) Tales of 1,008 small molecules: phenomic profiling through "
              "live-cell imaging in a panel of reporter cell lines. Scientific Reports 10, 13262. "
              "Data: https://doi.org/10.17867/10000150"),
    address="https://idr.openmicroscopy.org/search/?query=Name:idr0088",
    non_commercial=True,
)
CHANNELS = ("Nucleus", "Green", "Red")
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
MOST_TABLE_BYTES = 1 << 30
INDEX = "MeasurementData.mlf"
_PLATES_A_BLOCK = 16
_NAME = re.compile(r"_([A-P][0-9]{2})_T0001F([0-9]{3})L01A[0-9]{2}Z01C0([123])\.tif")
_PLACE = re.compile(r"_([A-P][0-9]{2})_(?:T0001)?F([0-9]{3})")

COLUMNS = {
    "Plate": "Plate", "Well": "Well", "Comment [Cell Line with Markers]": "Panel",
    "Compound Concentration (microMolar)": "Concentration", "Compound Set": "Set",
    "Compound MoA": "MoA", "Compound Name": "Compound", "Compound SMILES": "SMILES",
    "Compound InChIKey": "InChIKey", "Control Type": "Control", "Channels": "Channels",
    "Plate Location": "Location",
}


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


def annotation_file(params: Idr0088, downloads: Path, session: Visit) -> Path:
    """The annotation table on disk, downloaded if it is named by an address."""
    if "://" not in params.annotation:
        return Path(params.annotation)
    path = place_of(params.annotation, downloads)
    fetch(session, Wanted(params.annotation, path, most_bytes=1 << 28))
    return path


def read_annotation(path: Path) -> pd.DataFrame:
    """Read the annotation table: CSV, or a zip or gzip of it.

    Returns
    -------
    DataFrame of str
        One row per well, sorted by plate and well: `Plate`, `Well` (B02), `Panel` (such as
        A549 ACTB-RAB5A), `Batch`, `Location`, `Compound`, `Concentration`, `Control`, `Set`,
        `MoA`, `InChIKey`, `SMILES`, `Channels`.

    Raises
    ------
    MoascopeError
    """
    where = "Check idr0088.annotation in params.yaml."
    try:
        table = pd.read_csv(io.BytesIO(_table_bytes(path)), dtype=str, keep_default_na=False,
                            usecols=lambda column: column in COLUMNS)
    except FileNotFoundError:
        raise MoascopeError(f"There is no annotation table {path}. {where}") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise MoascopeError(f"{path} cannot be read as the annotation table of idr0088 "
                            f"({cause(error)}). {where}") from None
    lacking = [column for column in COLUMNS if column not in table]
    if lacking or not len(table):
        what = f"has no column {listing(repr(c) for c in lacking)}" if lacking else "has no rows"
        raise MoascopeError(f"{path} is not the annotation table of idr0088: it {what}. {where}")
    table = table.rename(columns=COLUMNS)
    refuse_strange_names(table["Plate"].unique(), str(path))
    canonical = {well: canonical_well(well) for well in table["Well"].unique()}
    table["Well"] = table["Well"].map(canonical).astype("str")
    table["Panel"] = table["Panel"].str.replace("-", " ", n=1)
    table["Batch"] = table["Location"].str.split("/").str[0]
    # Stereochemistry that the SMILES could not express follows it in braces.
    table["SMILES"] = table["SMILES"].str.split(" {", n=1, regex=False).str[0]
    return table.sort_values(["Plate", "Well"], ignore_index=True)


def _table_bytes(path: Path) -> bytes:
    if path.suffix == ".zip":
        return only_member(path, (".csv",), MOST_TABLE_BYTES)
    with open_file(path) as stored, (
            gzip.open(stored) if path.suffix == ".gz" else stored) as file:
        content = file.read(MOST_TABLE_BYTES + 1)
    if len(content) > MOST_TABLE_BYTES:
        raise ValueError(f"it is larger than {MOST_TABLE_BYTES:,} bytes")
    return content


def select(table: pd.DataFrame, settings: Idr0088) -> pd.DataFrame:
    """The wells of a selection, and the negative controls of its plates.

    Raises
    ------
    MoascopeError
        When the selection names something that the table does not have, or is empty.
    """
    panels = [panel.replace("-", " ", 1) if " " not in panel else panel
              for panel in settings.panels]
    wells = [canonical_well(well) for well in settings.wells]
    problems = []
    for key, column, named in (("plates", "Plate", settings.plates), ("panels", "Panel", panels),
                               ("compounds", "Compound", settings.compounds),
                               ("wells", "Well", wells)):
        problems += _unknown(f"idr0088.{key}", named, table[column].unique())
    if problems:
        raise MoascopeError(problems)
    chosen = pd.Series(True, index=table.index)
    for column, named in (("Plate", settings.plates), ("Panel", panels)):
        if named:
            chosen &= table[column].isin(named)
    asked = chosen.copy()
    for column, named in (("Well", wells), ("Compound", settings.compounds)):
        if named:
            asked &= table[column].isin(named)
    plates = table.loc[asked, "Plate"].unique()
    chosen &= asked | ((table["Control"] != "") & table["Plate"].isin(plates))
    if not chosen.any():
        raise MoascopeError("The selection of idr0088 is empty: no well matches all of plates, "
                            "panels, compounds and wells. Widen them in params.yaml.")
    return table[chosen].reset_index(drop=True)


def layout_table(wells: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    """layout.csv of the wells that have a site."""
    wells = _with_sites(wells, sites)
    return pd.DataFrame({
        "Metadata_Plate": wells["Plate"],
        "Metadata_Well": wells["Well"],
        "Metadata_Compound": wells["Compound"],
        "Metadata_Concentration_uM": wells["Concentration"],
        "Metadata_Control": wells["Control"].map(
            {"Negative Control": "negative", "Positive Control": "positive"}).fillna(""),
    })


def annotation_table(wells: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    """annotations.csv of the compounds that have a site, without the negative control.

    Natural products have no mechanism in the table: theirs is empty, which means unknown.
    """
    wells = _with_sites(wells, sites)
    compounds = wells[(wells["Control"] == "") & (wells["Compound"] != "")].drop_duplicates(
        "Compound").sort_values("Compound")
    return pd.DataFrame({
        "Metadata_Compound": compounds["Compound"],
        "Metadata_MoA": compounds["MoA"],
        "Metadata_InChIKey": compounds["InChIKey"],
        "Metadata_SMILES": compounds["SMILES"],
        "Metadata_CompoundSet": compounds["Set"],
    }).reset_index(drop=True)


def channel_meaning(wells: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What each channel shows, by panel: Green and Red differ between panels."""
    meaning = {}
    for panel, said in wells.drop_duplicates("Panel")[["Panel", "Channels"]].to_numpy():
        parts = [part.partition(":")[2].strip() for part in said.split(", ")]
        meaning[panel] = dict(zip(CHANNELS, parts, strict=False))
    return meaning


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
        for _, element in iterparse(path, forbid_dtd=True):
            if element.tag.rpartition("}")[2] == "MeasurementRecord":
                kinds = [value for key, value in element.attrib.items() if key.endswith("Type")]
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


def _with_sites(wells: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    known = pd.MultiIndex.from_frame(sites[["Metadata_Plate", "Metadata_Well"]])
    return wells[pd.MultiIndex.from_frame(wells[["Plate", "Well"]]).isin(known)].reset_index(
        drop=True)


def _images_a_well(fields: Sequence[int]) -> float:
    average = IMAGES / WELLS
    if not fields:
        return average
    # Every well has the first two fields; the average above two is the third.
    return sum({1: 1.0, 2: 1.0, 3: average - 2}.get(site, 0.0) for site in set(fields)) or 1e-9


def _unknown(key: str, named: Sequence[str], known: Iterable[str]) -> list[str]:
    known = list(known)
    lower = {name.casefold(): name for name in known}
    problems = []
    for name in named:
        if name in known:
            continue
        near = ([lower[name.casefold()]] if name.casefold() in lower
                else difflib.get_close_matches(name, known, n=2))
        hint = f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else (
            f" It has {listing(repr(one) for one in sorted(known))}.")
        problems.append(f"{key} names '{name}', which the annotation table does not have.{hint}")
    return problems
