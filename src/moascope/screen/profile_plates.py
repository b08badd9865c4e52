"""Profiles divided by plate: one Parquet file of float32 each, however large the table was."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from moascope.opening import open_file
from moascope.screen.columns import SITE
from moascope.screen.profile_tables import BYTES_AT_ONCE
from moascope.screen.profiles import FOLDER, INDEX, Profiles, read_values
from moascope.work.files import write_json
from moascope.work.processes import progress

_OURS = [*SITE, "Metadata_Batch", "Metadata_Panel"]


def write_profile_plates(profiles: Profiles, out: Path,
                         plates: Iterable[str] | None = None) -> Profiles:
    """Divide a table of profiles by plate.

    Neither the table nor, where it has many rows per well, a plate of it need fit into memory: the
    values go through files on disk, in the order of their plates.

    Parameters
    ----------
    profiles : Profiles
        Of a file, or of a folder that has been written before.
    out : Path
        Existing folder that gets `profiles/<plate>.parquet`, one row per site with the mean of its
        rows (missing values left out), and `profiles.json`.
    plates : iterable of str, optional
        Those wanted; by default all.

    Returns
    -------
    Profiles
        Of the folder.
    """
    folder, spool = out / FOLDER, out / ".profiles.spool"
    for place in (folder, spool):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    try:
        digests = (_copy(profiles, folder, plates) if profiles.rows is None
                   else _write(profiles, profiles.rows, folder, spool, plates))
    finally:
        shutil.rmtree(spool, ignore_errors=True)
    write_json(out / INDEX, {"name": profiles.name, "features": list(profiles.features),
                             "by_site": profiles.by_site, "warnings": list(profiles.warnings),
                             "plates": digests})
    return replace(profiles, path=folder, rows=None, digests=digests)


def join_profile_plates(parts: Sequence[tuple[Profiles, Mapping[str, str], Mapping[str, str], str]],
                        out: Path) -> None:
    """Put the profiles of several screens into one folder, plates and batches under new names.

    Parameters
    ----------
    parts : sequence of (Profiles, mapping, mapping, str)
        Of each screen: its profiles, divided by plate, with the same features in any order; the
        new name of each plate, and of each batch; and what its warnings begin with. Nothing is
        written where it is empty.
    out : Path
        As for `write_profile_plates`.
    """
    import pyarrow as pa
    import pyarrow.parquet

    if not parts:
        return
    folder, digests = out / FOLDER, {}
    folder.mkdir()
    first = parts[0][0]
    for profiles, plates, batches, name in parts:
        for plate in profiles.digests:
            table = pyarrow.parquet.read_table(profiles.path / f"{plate}.parquet")
            own = table["Metadata_Batch"].to_pylist()
            new = {"Metadata_Plate": [plates[plate]] * len(own),
                   # Of a screen with images, whose table of sites may name other batches.
                   "Metadata_Batch": [batches.get(batch, batch or name) for batch in own]}
            columns = [pa.array(new[column], pa.string()) if column in new else table[column]
                       for column in (*_OURS, *first.features)]
            path = folder / f"{plates[plate]}.parquet"
            digests[plates[plate]] = _write_table(
                pa.Table.from_arrays(columns, names=[*_OURS, *first.features]), path)
    names = ", ".join(dict.fromkeys(profiles.name for profiles, *_ in parts))
    write_json(out / INDEX, {
        "name": names, "features": list(first.features), "by_site": first.by_site,
        "warnings": [f"{name}: {said}" for profiles, _, _, name in parts
                     for said in profiles.warnings],
        "plates": digests})


def read_profile_plate(profiles: Profiles, plate: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The profiles of one plate.

    Returns
    -------
    sites : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` (int), `Metadata_Batch`,
        `Metadata_Panel`; sorted. Without rows where the plate has no profiles.
    values : ndarray, float32 [sites, features]
        As they were written: NaN where missing, infinite where they were.
    """
    import pyarrow.parquet

    if plate not in profiles.digests:
        return (pd.DataFrame({name: pd.Series(dtype="int64" if name == SITE[2] else "str")
                              for name in _OURS}),
                np.zeros((0, len(profiles.features)), np.float32))
    with open_file(profiles.path / f"{plate}.parquet") as file:
        table = pyarrow.parquet.read_table(file, use_threads=False)
    values = np.empty((table.num_rows, len(profiles.features)), np.float32)
    for number, name in enumerate(profiles.features):
        values[:, number] = table[name].to_numpy()
    return table.select(_OURS).to_pandas(), values


def _copy(profiles: Profiles, folder: Path, plates: Iterable[str] | None) -> dict[str, str]:
    wanted = set(profiles.digests) if plates is None else set(plates)
    kept = {plate: total for plate, total in profiles.digests.items() if plate in wanted}
    for plate in kept:
        shutil.copyfile(profiles.path / f"{plate}.parquet", folder / f"{plate}.parquet")
    return kept


def _write(profiles: Profiles, rows: pd.DataFrame, folder: Path, spool: Path,
           plates: Iterable[str] | None) -> dict[str, str]:
    code, names = pd.factorize(rows["Metadata_Plate"], sort=True)
    order = np.argsort(code, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    starts = np.searchsorted(code[order], np.arange(len(names) + 1))
    wanted = set(names) if plates is None else set(plates)
    blocks, pieces = read_values(profiles)
    with ExitStack() as stack:
        files = [stack.enter_context((spool / f"{number}").open("w+b"))
                 for number in range(len(blocks))]
        for number, start, values in pieces:
            _store(files[number], place[start:start + len(values)], values)
        digests = {}
        with progress(len(names), "profiles by plate") as advance:
            for number, plate in enumerate(names):
                if plate in wanted:
                    part = slice(starts[number], starts[number + 1])
                    own = rows.iloc[order[part]].reset_index(drop=True)
                    digests[str(plate)] = _write_plate(
                        folder / f"{plate}.parquet", own, part.start,
                        [(files[i], profiles.features[block]) for i, block in enumerate(blocks)])
                advance()
    return digests


def _store(file: BinaryIO, place: np.ndarray, values: np.ndarray) -> None:
    """Write rows to their places; rows whose places follow one another go together."""
    order = np.argsort(place, kind="stable")
    place, values = place[order], np.ascontiguousarray(values[order])
    ends = np.flatnonzero(np.diff(place) != 1) + 1
    for start, end in zip([0, *ends], [*ends, len(place)], strict=True):
        file.seek(int(place[start]) * values.shape[1] * 4)
        file.write(values[start:end].data)


def _write_plate(path: Path, rows: pd.DataFrame, start: int,
                 stored: Sequence[tuple[BinaryIO, Sequence[str]]]) -> str:
    """Write the plate whose rows begin at row `start` of the spool; returns its SHA-256."""
    import pyarrow as pa

    code, first = _sites(rows)
    sites = rows.iloc[first].reset_index(drop=True)
    schema = pa.schema([(name, pa.int64() if name == SITE[2] else pa.string()) for name in _OURS]
                       + [(name, pa.float32()) for _, names in stored for name in names])
    columns = [pa.array(sites[name], schema.field(name).type) for name in _OURS]
    for file, names in stored:
        means = _means(file, start, code, len(sites), len(names))
        columns += [pa.array(np.ascontiguousarray(means[:, i])) for i in range(len(names))]
    return _write_table(pa.Table.from_arrays(columns, schema=schema), path)


def _write_table(table: Any, path: Path) -> str:
    """Write a plate; returns its SHA-256."""
    import pyarrow.parquet

    # Measurements repeat neither values nor order, so dictionaries and statistics only cost.
    pyarrow.parquet.write_table(table, path, use_dictionary=False, write_statistics=False)
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


def _sites(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's site, sorted by well and site, and the first row of each."""
    keys = rows[SITE[1:]]
    code = keys.groupby(SITE[1:], sort=True).ngroup().to_numpy()
    _, first = np.unique(code, return_index=True)
    return code, first


def _means(file: BinaryIO, start: int, code: np.ndarray, sites: int, width: int) -> np.ndarray:
    """Mean of the rows of each site, float32 [sites, width], NaN where every row lacks a value."""
    at_once = max(1, BYTES_AT_ONCE // (8 * width))
    single = len(code) == sites
    sums = np.zeros((sites, width), np.float32 if single else np.float64)
    known = np.zeros((sites, width) if not single else (0, width), np.int64)
    for begin in range(0, len(code), at_once):
        own = code[begin:begin + at_once]
        file.seek((start + begin) * width * 4)
        values = np.fromfile(file, np.float32, len(own) * width).reshape(-1, width)
        if single:
            sums[own] = values
            continue
        order = np.argsort(own, kind="stable")
        values = values[order]
        which, ends = np.unique(own[order], return_index=True)
        there = ~np.isnan(values)
        sums[which] += np.add.reduceat(np.where(there, values, 0), ends, axis=0, dtype=np.float64)
        known[which] += np.add.reduceat(there, ends, axis=0, dtype=np.int64)
    if single:
        return sums
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(known > 0, sums / np.maximum(known, 1), np.nan).astype(np.float32)
