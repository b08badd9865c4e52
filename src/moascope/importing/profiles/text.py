"""Delimited text: what pycytominer writes, and any table with a row per well, site or cell."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.source import (
    CHUNK_BYTES,
    MOST_COLUMNS,
    Batch,
    Named,
    Source,
    choose_features,
    clean_text,
    is_marked,
)
from moascope.opening import open_file
from moascope.text import cause, counted, listing, tidy

if TYPE_CHECKING:
    import pyarrow as pa

MOST_HEADER = 2**24
"""Most bytes of a header."""

_BLOCK = 2**23
_MOST_LINE = 2**26
_SUSPECT_BYTES = 2**30
_SUSPECT_RATIO = 200
_GZIP = b"\x1f\x8b"


def read_header(path: Path) -> tuple[list[str], str, str]:
    """The columns of a delimited table, packed by gzip or not.

    Returns
    -------
    columns : list of str
    delimiter : str
    encoding : str

    Raises
    ------
    MoascopeError
        When it is not such a table.
    """
    with _opened(path) as file:
        start = _read_start(path, file)
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise MoascopeError(f"{path} is an Excel workbook or a zip archive, not a table. Save it "
                            "as CSV or Parquet.")
    encoding = "utf-8"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MoascopeError(f"{path} is UTF-16. Save it as 'CSV UTF-8'.")
    line, ended, _ = start.partition(b"\n")
    if not ended and len(start) >= MOST_HEADER:
        raise MoascopeError(f"{path} has a first line of more than {MOST_HEADER // 2**20} MiB, "
                            "which is not a header. Give a table with a row per well.")
    if b"\0" in line:
        raise MoascopeError(f"{path} is not a text table: its first line has bytes of zero.")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text, encoding = line.decode("cp1252", errors="replace"), "cp1252"
    delimiter = max(",;\t", key=text.count)
    try:
        columns = [cell.strip() for cell in next(
            csv.reader([text.rstrip("\r")], delimiter=delimiter), [])]
    except csv.Error as error:
        raise MoascopeError(f"{path} has a header that is not CSV: {error}.") from None
    if not any(columns):
        raise MoascopeError(f"{path} is empty. Give a table with a row per well.")
    if len(columns) > MOST_COLUMNS:
        raise MoascopeError(f"{path} has {len(columns):,} columns, more than the "
                            f"{MOST_COLUMNS:,} that moascope reads. Look for lost line ends.")
    twice = sorted({name for name in columns if name and columns.count(name) > 1}
                   if len(set(columns)) < len(columns) else ())
    if twice:
        raise MoascopeError(f"{path} has the column '{twice[0]}' twice. Remove one.")
    return columns, delimiter, encoding


def _read_start(path: Path, file: io.RawIOBase) -> bytes:
    content = b""
    try:
        while b"\n" not in content and len(content) < MOST_HEADER:
            more = file.read(2**16)
            if not more:
                break
            content += more
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {cause(error)}.") from None
    return content


def open_text(path: Path, named: Named, as_text: bool = False) -> Source:
    """A delimited table as a source of profiles.

    Parameters
    ----------
    path : Path
    named : Named
    as_text : bool
        Whether no column is a feature.

    Raises
    ------
    MoascopeError
        When it cannot be read, or holds no numeric column.
    """
    columns, delimiter, encoding = read_header(path)
    names = [column or f"Unnamed: {at}" for at, column in enumerate(columns)]
    point = "."
    numeric, empty = _numeric_columns(path, names, delimiter, encoding, point)
    if delimiter != "," and not any(kind == "float" for kind in numeric.values()):
        with_comma, empty_too = _numeric_columns(path, names, delimiter, encoding, ",")
        if any(kind == "float" for kind in with_comma.values()):
            numeric, empty, point = with_comma, empty_too, ","
    marked = is_marked(names)
    # What is empty so far may hold text further down where nothing says that it is a feature.
    candidates = [name for name in names if name in numeric or (name in empty and marked)]
    features, describing = choose_features(candidates, names, named)
    if as_text:
        features, describing = [], []
    notes = list(describing_note(path.name, describing, named))
    if point == ",":
        notes.append(f"{path.name}: the comma in numbers is read as a decimal comma.")
    if encoding != "utf-8":
        notes.append(f"{path.name} is not UTF-8 and is read as Windows-1252.")
    about = tuple(name for name in names if name not in set(features))
    return Source(path.name, about, tuple(features), lambda scratch: _batches(
        path, names, features, about, delimiter, encoding, point), tuple(notes), point == ",")


def describing_note(name: str, describing: Sequence[str], named: Named) -> list[str]:
    """A sentence about numeric columns that are not read as features."""
    left = [column for column in describing if column not in named.ours.values()
            and not column.startswith("Unnamed: ")]
    return [f"{name}: {counted(len(left), 'numeric column')} not read as "
            f"{'a feature' if len(left) == 1 else 'features'}: "
            f"{listing(map(repr, left), 12)}."] if left else []


def _numeric_columns(path: Path, names: list[str], delimiter: str, encoding: str,
                     point: str) -> tuple[dict[str, str], set[str]]:
    """Which columns hold numbers in the first rows, of which kind; and which are empty there."""
    import pyarrow as pa

    numeric, empty = {}, set()
    with _reading(path), _opened(path) as file:
        for field in _open_csv(file, names, delimiter, encoding, point, {}).schema:
            if pa.types.is_floating(field.type):
                numeric[field.name] = "float"
            elif pa.types.is_integer(field.type):
                numeric[field.name] = "integer"
            elif pa.types.is_null(field.type):
                empty.add(field.name)
    return numeric, empty


def _batches(path: Path, names: list[str], features: list[str], about: Sequence[str],
             delimiter: str, encoding: str, point: str) -> Iterator[Batch]:
    import pyarrow as pa

    kinds: dict[str, Any] = {**dict.fromkeys(about, pa.string()),
                             **dict.fromkeys(features, pa.float32())}
    with _reading(path, names), _opened(path) as file:
        for record in _open_csv(file, names, delimiter, encoding, point, kinds):
            values = np.empty((record.num_rows, len(features)), np.float32)
            for at, name in enumerate(features):
                values[:, at] = record.column(name).to_numpy(zero_copy_only=False)
            yield Batch(about_of(record, about), values)


def about_of(record: pa.RecordBatch | pa.Table, about: Sequence[str]) -> pd.DataFrame:
    """The columns of a record batch that are not features, as text."""
    return pd.DataFrame({name: clean_text(_as_text(record.column(name))) for name in about},
                        index=range(record.num_rows), dtype="str")


def _as_text(column: Any) -> pd.Series:
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        numbers = column.to_pandas()
        whole = numbers.dropna()
        if len(whole) and (whole.abs() < 2**53).all() and (whole == whole.round()).all():
            # A column of whole numbers with gaps, which pandas keeps as floats.
            return numbers.map(lambda number: "" if number != number else str(int(number)))
    try:
        return column.cast(pa.string()).to_pandas()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column.to_pandas().astype("str")


def _open_csv(file: Any, names: list[str], delimiter: str, encoding: str, point: str,
              kinds: dict[str, Any]) -> Any:
    import pyarrow.csv

    return pyarrow.csv.open_csv(
        file,
        # A line must fit into a block.
        pyarrow.csv.ReadOptions(column_names=names, skip_rows=1, encoding=encoding,
                                block_size=max(_BLOCK, min(_MOST_LINE, 400 * len(names)))),
        pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(column_types=kinds, decimal_point=point,
                                   strings_can_be_null=not kinds,
                                   timestamp_parsers=["%Y-%m-%dT%H:%M:%S"]))


class _reading:
    """Tells an error while reading a table as a sentence."""

    def __init__(self, path: Path, names: Sequence[str] = ()):
        self.path, self.names = path, names

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        import pyarrow as pa

        if isinstance(error, (pa.ArrowInvalid, OSError, EOFError, zlib.error, UnicodeDecodeError)):
            raise MoascopeError(self._sentence(error)) from None

    def _sentence(self, error: BaseException) -> str:
        message = cause(error)
        if "straddling" in message:
            return (f"{self.path} has a line of more than {_BLOCK // 2**20} MiB. Look for lost "
                    "line ends or a missing quotation mark.")
        if match := re.search(r"CSV column #(\d+).*invalid value '(.*)'", message):
            name = self.names[int(match[1])] if self.names else match[1]
            return (f"{self.path}: the column '{name}' holds numbers and '{tidy(match[2], 60)}', "
                    "which is not one. Correct it, or rename the column with the prefix "
                    "Metadata_.")
        if match := re.search(r"Expected (\d+) columns, got (\d+)", message):
            return (f"{self.path} has a row of {counted(int(match[2]), 'value')} for "
                    f"{counted(int(match[1]), 'column')}. Look for a missing value, or for a comma "
                    "inside a value (put that value in double quotes).")
        if "Empty CSV" in message:
            return f"{self.path} has a header but no rows. Give a table with a row per well."
        return f"{self.path} cannot be read as a table: {message}."


def _opened(path: Path) -> Any:
    """A file, unpacked where it is packed by gzip."""
    try:
        file = open_file(path)
        packed = file.read(2) == _GZIP
        file.seek(0)
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    return _Unpacked(path, file) if packed else file


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, refused where it grows beyond what a table could."""

    def __init__(self, path: Path, packed: Any):
        self._packed, self._file = packed, gzip.GzipFile(fileobj=packed)
        self._path, self._size, self._count = path, path.stat().st_size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._file.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise OSError(f"the gzip file is damaged or cut off ({cause(error)})") from None
        self._count += len(content)
        if self._count > max(_SUSPECT_BYTES, _SUSPECT_RATIO * self._size):
            raise OSError(f"it unpacks to more than {_SUSPECT_RATIO} times its size, as no table "
                          "does")
        buffer[:len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._packed.close()
        super().close()


def rows_per_chunk(width: int) -> int:
    """How many rows of features are held at once."""
    return max(1, CHUNK_BYTES // (4 * max(1, width)))
