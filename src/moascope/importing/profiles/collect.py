"""From tables of profiles to one: rows placed on plates, gathered on disk, one per well or site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.place import KEY, Placed, Placer
from moascope.importing.profiles.source import Average, Named, Source, average, take_rows
from moascope.screen.columns import WELL
from moascope.text import counted, listing

PROFILES = "profiles.parquet"
_GROUP_BYTES = 2**26
COUNT = "Count_Rows"
"""The feature that says how many cells a well's profile is the average of."""
LEAST_CELLS = 3
"""Rows of most wells from which these are taken for cells: fewer are repeated rows, or fields."""


@dataclass
class Collected:
    """Profiles of a screen, on disk.

    Attributes
    ----------
    keys : DataFrame
        One row per profile, in the order of the table: `Metadata_Plate`, `Metadata_Well` and, where
        the tables have them, `Metadata_Site`, `Metadata_Batch` and `Metadata_Panel`.
    features : tuple of str
    placed : Placed
        What the tables say about wells.
    averaged : int
        Rows that were averaged; 0 where each row of the tables is a row here.
    notes : list of str
    """

    keys: pd.DataFrame
    features: tuple[str, ...]
    placed: Placed
    averaged: int = 0
    notes: list[str] = field(default_factory=list)


def collect(sources: Sequence[Source], named: Named, how: Average, scratch: Path,
            target: Path) -> Collected:
    """Write the profiles of several tables into one, sorted by plate, well and site.

    Parameters
    ----------
    sources : sequence of Source
    named : Named
    how : {"median", "mean"}
        How rows of one well are averaged where a well has several and no site tells them apart.
    scratch : Path
        Folder for the rows until they are sorted: four bytes a value.
    target : Path
        The Parquet file to write: float32.

    Raises
    ------
    MoascopeError
        When no table has a feature, or a row cannot be placed.
    """
    features, notes = _common_features(sources)
    placer = Placer(named, [source.name for source in sources])
    missing = np.zeros(len(features), np.int64)
    infinite = np.zeros(len(features), np.int64)
    blank: list[np.ndarray] = []
    homes: list[np.ndarray] = []
    with (scratch / "rows").open("w+b") as disk:
        for at, source in enumerate(sources):
            notes += source.notes
            own = [features.index(name) if name in features else -1 for name in source.features] \
                if list(source.features) != list(features) else None
            for about, values in source.read(scratch):
                placer.add(source, about)
                homes.append(np.full(len(about), at, np.int32))
                rows = values if own is None else _aligned(values, own, len(features))
                wrong = np.isinf(rows)
                if wrong.any():
                    infinite += wrong.sum(axis=0)
                    rows = np.where(wrong, np.nan, rows)
                lost = np.isnan(rows)
                missing += lost.sum(axis=0)
                blank.append(lost.all(axis=1))
                np.ascontiguousarray(rows, np.float32).tofile(disk)
        placed = placer.finish()
        keys = placed.keys
        if not len(keys):
            raise MoascopeError(f"{listing(source.name for source in sources)} has a header but no "
                                "rows. Give a table with a row per well.")
        _refuse_several(keys, np.concatenate(homes), [source.name for source in sources])
        empty = np.concatenate(blank)
        notes += _said_of_values(features, keys, missing, infinite, empty)
        if empty.all():
            raise MoascopeError(f"{listing(source.name for source in sources)} holds no number: "
                                "every value is missing. Look for the table with the features.")
        kept = np.flatnonzero(missing < len(keys))
        used = np.flatnonzero(~empty)
        rows = _Rows(disk, len(features), kept)
        columns = tuple(features[at] for at in kept)
        keys, order, parts = _order(keys.iloc[used].reset_index(drop=True))
        averaged = len(order) if parts else 0
        if averaged:
            notes.append(
                f"{counted(averaged, 'row')} averaged to {counted(len(keys), 'well')} by their "
                f"{how} (--average mean or median): the tables have several rows per well and "
                "nothing that tells them apart.")
            cells = bool(np.median([len(part) for part in parts]) >= LEAST_CELLS)
            columns = (*columns, COUNT) if cells else columns
            batches = _averages(rows, [used[part] for part in parts], how, cells)
        else:
            batches = rows.in_order(used[order])
        _write(target, keys, columns, batches)
    (scratch / "rows").unlink()
    return Collected(keys, columns, placed, averaged, notes + placed.notes)


def _common_features(sources: Sequence[Source]) -> tuple[list[str], list[str]]:
    """The features that all tables have, in the order of the first, and a note about the others."""
    for source in sources:
        if not source.features:
            raise MoascopeError(
                f"{source.name} has no numeric column that could be a feature. Its columns are "
                f"{listing(source.about, 12)}.")
    counts: dict[str, int] = {}
    for source in sources:
        for name in source.features:
            counts[name] = counts.get(name, 0) + 1
    common = [name for name, count in counts.items() if count == len(sources)]
    if not common:
        raise MoascopeError(
            f"{listing(source.name for source in sources)} have no feature in common. Import "
            "tables of one kind together, such as --kind pycytominer "
            "'profiles/*_normalized.parquet'.")
    others = [name for name in counts if counts[name] < len(sources)]
    notes = [f"{counted(len(others), 'feature')} that only some of the {len(sources):,} tables "
             f"have left out; {len(common):,} are in all: {listing(others)}."] if others else []
    return common, notes


def _aligned(values: np.ndarray, own: Sequence[int], width: int) -> np.ndarray:
    aligned = np.full((len(values), width), np.nan, np.float32)
    kept = [at for at, place in enumerate(own) if place >= 0]
    aligned[:, [own[at] for at in kept]] = values[:, kept]
    return aligned


def _said_of_values(features: Sequence[str], keys: pd.DataFrame, missing: np.ndarray,
                    infinite: np.ndarray, empty: np.ndarray) -> list[str]:
    notes = []
    if infinite.any():
        names = listing(features[int(at)] for at in np.flatnonzero(infinite))
        notes.append(f"{counted(int(infinite.sum()), 'infinite value')} (or too large for 32 bits) "
                     f"taken as missing, in {names}.")
    if empty.any():
        rows = _wells_of(keys[empty])
        notes.append(f"{counted(int(empty.sum()), 'row')} without any value left out, of "
                     f"{listing(rows)}.")
    void = np.flatnonzero(missing == len(keys))
    if len(void):
        notes.append(f"{counted(len(void), 'feature')} without any value left out: "
                     f"{listing(features[int(at)] for at in void)}.")
    some = np.flatnonzero((missing > empty.sum()) & (missing < len(keys)))
    if len(some):
        names = listing(features[int(at)] for at in some)
        notes.append(f"{counted(len(some), 'feature')} with missing values kept; a missing value "
                     f"counts as the middle of the plate's controls: {names}.")
    return notes


def _wells_of(keys: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(keys["Metadata_Plate"] + " " + keys["Metadata_Well"]))


def _order(keys: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, list[np.ndarray]]:
    """The profiles, the order of their rows, and the rows of each where rows must be averaged."""
    by = [column for column in KEY if column in keys]
    code = _codes(keys, by)
    order = np.argsort(code, kind="stable")
    if len(order) == code.max() + 1:
        return keys.iloc[order].reset_index(drop=True), order, []
    if "Metadata_Site" in by:
        keys = keys.drop(columns="Metadata_Site")
        code = _codes(keys, WELL)
        order = np.argsort(code, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
    return keys.iloc[[part[0] for part in parts]].reset_index(drop=True), order, parts


def _refuse_several(keys: pd.DataFrame, homes: np.ndarray, names: Sequence[str]) -> None:
    """Refuse a profile that several tables have: they are of several stages of processing.

    Cells of one well may be spread over tables; then some table has several rows of the well.
    """
    if len(names) < 2:
        return
    code = _codes(keys, [column for column in KEY if column in keys])
    count = np.bincount(code)
    pairs = np.unique(np.stack([code, homes]), axis=1)
    tables = np.bincount(pairs[0], minlength=len(count))
    several = np.flatnonzero((tables > 1) & (count == tables))
    if len(several):
        rows = np.flatnonzero(code == several[0])
        files = [names[at] for at in dict.fromkeys(homes[rows].tolist())]
        where = keys.iloc[int(rows[0])]
        raise MoascopeError(
            f"Plate {where['Metadata_Plate']}, well {where['Metadata_Well']} is in "
            f"{listing(files)}. Import the tables of one stage of processing alone, by a pattern "
            "such as 'profiles/*_normalized.csv.gz'.")


def _codes(keys: pd.DataFrame, by: list[str]) -> np.ndarray:
    return keys.groupby(by, sort=True, dropna=False).ngroup().to_numpy()


@dataclass
class _Rows:
    """Rows of float32 on disk, of which some columns are kept."""

    disk: BinaryIO
    width: int
    kept: np.ndarray

    def take(self, rows: np.ndarray) -> np.ndarray:
        values = take_rows(self.disk, rows, self.width)
        return values if len(self.kept) == self.width else values[:, self.kept]

    def in_order(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        step = _rows_per_group(self.width)
        for start in range(0, len(rows), step):
            yield self.take(rows[start:start + step])


def _averages(rows: _Rows, wells: Sequence[np.ndarray], how: Average,
              counted: bool) -> Iterator[np.ndarray]:
    step = _rows_per_group(rows.width)
    for start in range(0, len(wells), step):
        part = wells[start:start + step]
        found = np.stack([average(rows.take(np.sort(own)), how) for own in part])
        sizes = np.array([[len(own)] for own in part], np.float32)
        yield np.hstack([found, sizes]) if counted else found


def _rows_per_group(width: int) -> int:
    """Rows of a row group, each of which costs every reader a kibibyte per column."""
    return max(1, _GROUP_BYTES // (4 * width))


def _write(target: Path, keys: pd.DataFrame, features: Sequence[str],
           batches: Iterator[np.ndarray]) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    kinds = [(column, pa.int64() if column == "Metadata_Site" else pa.string())
             for column in keys]
    schema = pa.schema([*kinds, *((name, pa.float32()) for name in features)])
    start = 0
    with pyarrow.parquet.ParquetWriter(target, schema, compression="zstd",
                                       use_dictionary=list(keys)) as writer:
        for values in batches:
            own = keys.iloc[start:start + len(values)]
            start += len(values)
            said = [pa.array(own[column], kind) for column, kind in kinds]
            numbers = [pa.array(np.ascontiguousarray(values[:, at]), from_pandas=True)
                       for at in range(len(features))]
            writer.write_table(pa.Table.from_arrays([*said, *numbers], schema=schema))


