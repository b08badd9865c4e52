"""DeepProfiler: an .npz file per site with a row per cell, and an index of the sites."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.matrix import Stored, list_arrays
from moascope.importing.profiles.source import Average, Batch, Named, Source, average
from moascope.importing.profiles.text import open_text
from moascope.screen.columns import recognise
from moascope.screen.wells import canonical_well
from moascope.text import counted, listing

_WELL = r"[A-Za-z]{1,2}[0-9]{1,3}"
_ALL = re.compile(rf"(?P<plate>.+)_(?P<well>{_WELL})[_-](?P<site>[A-Za-z]*[0-9]+)\.npz")
_WELL_SITE = re.compile(rf"(?P<well>{_WELL})[_-](?P<site>[A-Za-z]*[0-9]+)\.npz")
_SITE = re.compile(r"(?P<site>[A-Za-z]*[0-9]+)\.npz")
_FEATURES = "features.npy"
_STEP = 256


class _SiteFile(NamedTuple):
    plate: str
    well: str
    file: Path


def find_features(files: Sequence[Path]) -> list[Path]:
    """Files of features per site: plate/well/site.npz, plate/well_site.npz, plate_well_site.npz."""
    placed = [file for file in files if file.suffix.lower() == ".npz" and _place(file)]
    return placed if placed and any(array.member == _FEATURES and len(array.shape) in (1, 2)
                                    for array in list_arrays(placed[0])) else []


def open_deepprofiler(files: Sequence[Path], index: Path | None, how: Average) -> Source:
    """DeepProfiler's features as a source of profiles per well.

    Parameters
    ----------
    files : sequence of Path
        The .npz files, and index.csv unless it is given by `index`.
    index : Path, optional
        One row per site with `Metadata_Plate`, `Metadata_Well` and what is known of the well.
    how : {"median", "mean"}
        How the cells of a well are averaged.

    Raises
    ------
    MoascopeError
        When a file cannot be placed or read, or sites have features of another length.
    """
    sites = [(file, _place(file)) for file in files if file.suffix.lower() == ".npz"]
    if lost := [file for file, place in sites if place is None]:
        raise MoascopeError(f"{listing(lost, 3)}: the name does not say plate, well and site. "
                            "DeepProfiler writes plate/well/site.npz, or plate/well_site.npz.")
    if not sites:
        raise MoascopeError("There is no .npz file of features.")
    tables = [file for file in files if file.suffix.lower() == ".csv"]
    named = [file for file in tables if file.name.lower() == "index.csv"]
    index = index or next(iter(named), tables[0] if len(tables) == 1 else None)
    known, notes = ({}, []) if index is None else _read_index(index)
    placed = [place for _, place in sites if place is not None]
    wells: dict[tuple[str, str], list[Path]] = {}
    for place in placed:
        wells.setdefault((place.plate, place.well), []).append(place.file)
    width = _features(placed[0].file).shape[-1]
    columns = list(next(iter(known.values()))) if known else []
    if index is not None:
        without = [key for key in wells if key not in known]
        if without:
            notes.append(f"{index.name} lacks {counted(len(without), 'well')} with features: "
                         f"{listing(map(' '.join, without))}.")
    else:
        notes.append("There is no index.csv, so nothing is known of the wells but their place. "
                     "Give the index by --metadata, or a plate map by --layout.")
    notes.append(f"The cells of each well are averaged by their {how} (--average mean or median).")

    def read(scratch: Path) -> Iterator[Batch]:
        keys = sorted(wells)
        for start in range(0, len(keys), _STEP):
            part = keys[start:start + _STEP]
            values = np.stack([_well(wells[key], width, how) for key in part])
            said = [{"Metadata_Plate": plate, "Metadata_Well": well,
                     **{column: known.get((plate, well), {}).get(column, "")
                        for column in columns}} for plate, well in part]
            yield Batch(pd.DataFrame(said, dtype="str"), values)

    names = (*(f"DeepProfiler_{at + 1}" for at in range(width)), "Count_Cells")
    return Source(placed[0].file.parent.parent.name or "features",
                  ("Metadata_Plate", "Metadata_Well", *columns), names, read, tuple(notes))


def _well(files: Sequence[Path], width: int, how: Average) -> np.ndarray:
    cells = []
    for file in sorted(files):
        array = _features(file)
        if array.shape[-1] != width:
            raise MoascopeError(f"{file} has {array.shape[-1]:,} features and others {width:,}. "
                                "Import the output of one network at a time.")
        cells += [rows.reshape(-1, width) for rows in array.chunks()]
    values = np.concatenate(cells) if cells else np.empty((0, width), np.float32)
    middle = average(values, how) if len(values) else np.full(width, np.nan, np.float32)
    return np.append(middle, np.float32(len(values) / len(files)))


def _features(file: Path) -> Stored:
    arrays = {array.member: array for array in list_arrays(file)}
    found = arrays.get(_FEATURES)
    if found is None or not found.is_number or len(found.shape) not in (1, 2):
        raise MoascopeError(f"{file} holds no array 'features' of numbers (cells x features). It "
                            f"has {listing(arrays) or 'nothing'}.")
    return found


def _place(file: Path) -> _SiteFile | None:
    if match := _ALL.fullmatch(file.name):
        plate, well = match["plate"], match["well"]
    elif match := _WELL_SITE.fullmatch(file.name):
        plate, well = file.parent.name, match["well"]
    elif _SITE.fullmatch(file.name) and re.fullmatch(_WELL, file.parent.name):
        plate, well = file.parent.parent.name, file.parent.name
    else:
        return None
    try:
        return _SiteFile(plate, canonical_well(well), file) if plate else None
    except MoascopeError:
        return None


def _read_index(index: Path) -> tuple[dict[tuple[str, str], dict[str, str]], list[str]]:
    """What an index says of each well, by plate and well: the columns that wells have in common."""
    source = open_text(index, Named(), as_text=True)
    found = recognise(source.about, "profiles").columns
    if not {"Metadata_Plate", "Metadata_Well"} <= found.keys():
        raise MoascopeError(f"{index} needs the columns Metadata_Plate and Metadata_Well. Its "
                            f"columns are {listing(source.about, 12)}.")
    plate, well = (source.about[found[column]] for column in ("Metadata_Plate", "Metadata_Well"))
    of_sites = {plate, well, *([source.about[found["Metadata_Site"]]]
                               if "Metadata_Site" in found else [])}
    known: dict[tuple[str, str], dict[str, str]] = {}
    for about, _ in source.read(index.parent):
        for row in about.to_dict("records"):
            try:
                key = (row[plate], canonical_well(row[well]))
            except MoascopeError as error:
                raise MoascopeError(f"{index}: {error}") from None
            known.setdefault(key, {column: text for column, text in row.items()
                                   if column not in of_sites})
    return known, list(source.notes)
