"""Parquet: what pycytominer and CytoTable write, with a row per well, site or cell."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

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
    folders = _of_folders(path)
    flat = {field.name: field.type for field in schema if not _is_nested(field.type)}
    numeric = [name for name, kind in flat.items()
               if pa.types.is_floating(kind) or pa.types.is_integer(kind)
               or pa.types.is_decimal(kind)]
    features, describing = ([], []) if as_text else choose_features(numeric, list(flat), named)
    about = (*(name for name in flat if name not in set(features)), *(
        name for name in folders if name not in schema.names))
    notes = describing_note(path.name, describing, named)
    lists = {} if as_text else _lists(path)
    features = [*features, *lists]
    nested = [name for name in schema.names
              if name not in flat and name not in {column for column, _ in lists.values()}]
    if nested:
        notes.append(f"{path.name}: {counted(len(nested), 'column')} of lists, pictures or records "
                     f"not read: {listing(map(repr, nested))}.")
    return Source(path.name, about, tuple(features),
                  lambda scratch: _batches(path, features, lists, about, scratch), tuple(notes))


def _of_folders(path: Path) -> dict[str, str]:
    """What the folders of a partitioned table say, such as Metadata_Plate=P1."""
    pairs = [part.partition("=") for part in path.parent.parts]
    return {unquote(name): unquote(value) for name, sign, value in pairs if sign and name and value}


def _lists(path: Path) -> dict[str, tuple[str, int]]:
    """Features that are in one column of lists, as embeddings are: (column, place in the list)."""
    import pyarrow as pa

    file, found = _open(path), {}
    for field in file.schema_arrow:
        kind = field.type
        if field.name.lower().startswith("metadata_") or not (
                pa.types.is_list(kind) or pa.types.is_large_list(kind)
                or pa.types.is_fixed_size_list(kind)):
            continue
        if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            continue
        first = next(file.iter_batches(1, columns=[field.name]), None)
        width = len(first.column(0)[0].as_py() or []) if first is not None and len(first) else 0
        found |= {f"{field.name}_{at + 1}": (field.name, at) for at in range(width)}
    return found


def _batches(path: Path, features: Sequence[str], lists: dict[str, tuple[str, int]],
             about: Sequence[str], scratch: Path) -> Iterator[Batch]:
    import pyarrow as pa

    file, folders = _open(path), _of_folders(path)
    own = [name for name in about if name in file.schema_arrow.names]
    try:
        for group in range(file.num_row_groups):
            held = file.metadata.row_group(group)
            table = file.read_row_group(group, columns=own, use_threads=False)
            said = about_of(table, own) if own else None
            if said is None:
                import pandas as pd

                said = pd.DataFrame(index=range(held.num_rows))
            said = said.assign(**{name: folders[name] for name in about if name not in own})
            if held.num_rows * len(features) * 8 <= _WHOLE_GROUP:
                yield Batch(said, _matrix(file, group, features, lists, held.num_rows))
                continue
            yield from _large_group(file, group, features, lists, said, scratch)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MoascopeError(f"{path} cannot be read as Parquet: {cause(error)}.") from None


def _large_group(file: Any, group: int, features: Sequence[str],
                 lists: dict[str, tuple[str, int]], said: Any, scratch: Path) -> Iterator[Batch]:
    """A row group that is too large to be held: turned from columns into rows on disk."""
    count = len(said)
    width = max(1, _COLUMNS_BYTES // (8 * count))
    with tempfile.TemporaryFile(dir=scratch) as disk:
        for start in range(0, len(features), width):
            part = _matrix(file, group, features[start:start + width], lists, count)
            part.T.tofile(disk)
        step = rows_per_chunk(len(features))
        for start in range(0, count, step):
            rows = min(step, count - start)
            values = np.empty((rows, len(features)), np.float32)
            for at in range(len(features)):
                disk.seek(4 * (at * count + start))
                values[:, at] = np.fromfile(disk, np.float32, rows)
            yield Batch(said.iloc[start:start + rows].reset_index(drop=True), values)


def _matrix(file: Any, group: int, features: Sequence[str], lists: dict[str, tuple[str, int]],
            count: int) -> np.ndarray:
    values = np.empty((count, len(features)), np.float32)
    if features:
        homes = [lists.get(name, (name, 0)) for name in features]
        table = file.read_row_group(group, columns=list(dict.fromkeys(
            column for column, _ in homes)), use_threads=False)
        widths = Counter(column for column, _ in lists.values())
        of_lists = {name: _list_rows(name, table.column(name), count, width)
                    for name, width in widths.items() if name in table.column_names}
        with np.errstate(over="ignore"):
            for at, (name, place) in enumerate(homes):
                if name in of_lists:
                    values[:, at] = of_lists[name][:, place]
                    continue
                column = table.column(name)
                values[:, at] = column.cast("float64").to_numpy() if (
                    column.type not in ("float", "double")) else column.to_numpy()
    return values


def _list_rows(name: str, column: Any, count: int, width: int) -> np.ndarray:
    """A column of lists of one length as a matrix, [count, width]."""
    import pyarrow.compute

    # Its functions are made while it is imported, so that no checker knows them.
    compute: Any = pyarrow.compute
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if column.null_count or any(length != width for length in lengths):
        raise MoascopeError(f"The column '{name}' holds lists of different lengths, or none in "
                            "some rows. A profile has the same features in every row.")
    return compute.list_flatten(column).to_numpy().reshape(count, -1)


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
