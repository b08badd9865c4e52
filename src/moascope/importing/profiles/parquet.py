"""Parquet: what pycytominer and CytoTable write, with a row per well, site or cell."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moascope.errors import MoascopeError
from moascope.importing.profiles.source import (
    MOST_COLUMNS,
    Batch,
    Named,
    Source,
    choose_features,
)
from moascope.importing.profiles.text import about_of, describing_note, rows_per_chunk
from moascope.text import cause, counted, listing

_WHOLE_GROUP = 2**27
_COLUMNS_BYTES = 2**25


def read_columns(path: Path) -> list[str]:
    """The names of a Parquet table's columns.

    Raises
    ------
    MoascopeError
        When it cannot be read.
    """
    return list(_open(path).schema_arrow.names)


def open_parquet(path: Path, named: Named, as_text: bool = False) -> Source:
    """A Parquet table as a source of profiles.

    Raises
    ------
    MoascopeError
        When it cannot be read.
    """
    import pyarrow as pa

    schema = _open(path).schema_arrow
    if len(schema) > MOST_COLUMNS:
        raise MoascopeError(f"{path} has {len(schema):,} columns, more than the {MOST_COLUMNS:,} "
                            "that moascope reads.")
    twice = [name for name in schema.names if len(schema.get_all_field_indices(name)) > 1]
    if twice:
        raise MoascopeError(f"{path} has the column '{twice[0]}' twice. Remove one.")
    flat = {field.name: field.type for field in schema if not _is_nested(field.type)}
    numeric = [name for name, kind in flat.items()
               if pa.types.is_floating(kind) or pa.types.is_integer(kind)
               or pa.types.is_decimal(kind)]
    features, describing = ([], []) if as_text else choose_features(numeric, list(flat), named)
    about = tuple(name for name in flat if name not in set(features))
    notes = describing_note(path.name, describing, named)
    nested = [name for name in schema.names if name not in flat]
    if nested:
        notes.append(f"{path.name}: {counted(len(nested), 'column')} of lists, pictures or records "
                     f"not read: {listing(map(repr, nested))}.")
    return Source(path.name, about, tuple(features),
                  lambda scratch: _batches(path, features, about, scratch), tuple(notes))


def _batches(path: Path, features: Sequence[str], about: Sequence[str],
             scratch: Path) -> Iterator[Batch]:
    import pyarrow as pa

    file = _open(path)
    try:
        for group in range(file.num_row_groups):
            held = file.metadata.row_group(group)
            table = file.read_row_group(group, columns=list(about), use_threads=False)
            said = about_of(table, about) if about else None
            if said is None:
                import pandas as pd

                said = pd.DataFrame(index=range(held.num_rows))
            if held.num_rows * len(features) * 8 <= _WHOLE_GROUP:
                yield Batch(said, _matrix(file, group, features, held.num_rows))
                continue
            yield from _large_group(file, group, features, said, scratch)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MoascopeError(f"{path} cannot be read as Parquet: {cause(error)}.") from None


def _large_group(file: Any, group: int, features: Sequence[str], said: Any,
                 scratch: Path) -> Iterator[Batch]:
    """A row group that is too large to be held: turned from columns into rows on disk."""
    count = len(said)
    width = max(1, _COLUMNS_BYTES // (8 * count))
    with tempfile.TemporaryFile(dir=scratch) as disk:
        for start in range(0, len(features), width):
            part = _matrix(file, group, features[start:start + width], count)
            part.T.tofile(disk)
        step = rows_per_chunk(len(features))
        for start in range(0, count, step):
            rows = min(step, count - start)
            values = np.empty((rows, len(features)), np.float32)
            for at in range(len(features)):
                disk.seek(4 * (at * count + start))
                values[:, at] = np.fromfile(disk, np.float32, rows)
            yield Batch(said.iloc[start:start + rows].reset_index(drop=True), values)


def _matrix(file: Any, group: int, features: Sequence[str], count: int) -> np.ndarray:
    values = np.empty((count, len(features)), np.float32)
    if features:
        table = file.read_row_group(group, columns=list(features), use_threads=False)
        with np.errstate(over="ignore"):
            for at, name in enumerate(features):
                column = table.column(name)
                values[:, at] = column.cast("float64").to_numpy() if (
                    column.type not in ("float", "double")) else column.to_numpy()
    return values


def _is_nested(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        # Buffered, so that a column of a large row group is not held packed as a whole.
        file = pyarrow.parquet.ParquetFile(path, buffer_size=2**16, pre_buffer=False)
        # Names are decoded when they are asked for.
        list(file.schema_arrow.names)
        return file
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MoascopeError(f"{path} cannot be read as Parquet: {cause(error)}.") from None
