"""Tables of profiles as files: CSV and Parquet, read in pieces of bounded size."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.text import tidy

BYTES_AT_ONCE = 2**26
"""Of values in memory while a table is read."""

_BLOCK = 2**24          # bytes of text that are parsed at once: the longest line that is read
_HEADER = 2**22         # bytes that the names of columns may take
_MOST_UNPACKED = 200    # times its size: tables of measurements shrink to a half or a fifth
_SMALL = 2**28          # bytes that any file may unpack to
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None"]


class CsvProfiles:
    """A CSV file of profiles, plain or gzipped."""

    unit = "line"

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        start = file.read(4)
        file.seek(0)
        if start.startswith(b"PK\x03\x04"):
            raise MoascopeError(f"{path.name} is an Excel workbook, not CSV. Save it from Excel as "
                                "'CSV UTF-8'.")
        self._file = file
        self._packed = start.startswith(b"\x1f\x8b")
        if path.suffix == ".gz" and not self._packed:
            raise MoascopeError(f"{path.name} is not a gzip file. Compress it with gzip, or name "
                                "it profiles.csv if it is plain text.")
        with _sentences(path):
            line = self._open().read(_HEADER)
            text = line.decode("utf-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig",
                               errors="replace")
        header = text.lstrip("\r\n").splitlines()[0] if text.strip() else ""
        self._delimiter = max(",;\t", key=header.count)
        self._encoding = "utf-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        names = next(csv.reader([header], delimiter=self._delimiter), [])
        self.columns = [name.strip() for name in names]
        if not header:
            raise MoascopeError(f"{path.name} is empty. Fill it in with one row per well or site.")
        self._texts: set[str] = {column for column in self.columns
                                 if column.startswith("Metadata_")}
        self._keys = [f"{number}" for number in range(len(self.columns))]
        self.decimal = "."
        self.numeric = self._find_numeric()
        if self._delimiter != "," and not any(self.numeric):
            # Spreadsheets that separate by semicolons write decimal commas.
            self.decimal = ","
            self.numeric = self._find_numeric()

    def _open(self) -> Any:
        self._file.seek(0)
        size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        if not self._packed:
            return self._file
        return _Unpacked(gzip.GzipFile(fileobj=self._file), size, self._path.name)

    def _batches(self, types: Mapping[str, Any], include: Sequence[str] | None = None) -> Any:
        import pyarrow as pa
        import pyarrow.csv

        return pyarrow.csv.open_csv(
            pa.PythonFile(self._open(), "r"),
            pyarrow.csv.ReadOptions(column_names=self._keys, skip_rows=1, block_size=_BLOCK,
                                    encoding=self._encoding, use_threads=False),
            pyarrow.csv.ParseOptions(delimiter=self._delimiter),
            pyarrow.csv.ConvertOptions(column_types=dict(types), null_values=_NULLS,
                                       include_columns=include, strings_can_be_null=False,
                                       decimal_point=self.decimal))

    def _find_numeric(self) -> list[bool]:
        """Which columns hold numbers in every row: a word anywhere makes a column one of words."""
        import pyarrow as pa

        words = {key for key, column in zip(self._keys, self.columns, strict=True)
                 if column in self._texts}
        with _sentences(self._path):
            try:
                schema = self._batches(dict.fromkeys(words, pa.string())).schema
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):
                    return [False] * len(self._keys)
                raise
            words |= {key for key in self._keys if key not in words
                      and not (pa.types.is_integer(schema.field(key).type)
                               or pa.types.is_floating(schema.field(key).type)
                               or pa.types.is_null(schema.field(key).type))}
            while True:
                types = {key: pa.string() if key in words else pa.float64()
                         for key in self._keys}
                try:
                    for _ in self._batches(types):
                        pass
                except pa.ArrowInvalid as error:
                    wrong = re.match(r"In CSV column #(\d+):.*CSV conversion error", str(error))
                    if not wrong or self._keys[int(wrong[1])] in words:
                        raise
                    words.add(self._keys[int(wrong[1])])
                    continue
                return [key not in words for key in self._keys]

    def metadata(self, columns: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
        import pyarrow as pa

        keys = [self._keys[self.columns.index(column)] for column in columns]
        with _sentences(self._path):
            batches = list(self._batches(dict.fromkeys(keys, pa.string()), keys))
        rows = pd.DataFrame({
            column: pd.Series(pa.chunked_array([batch.column(key) for batch in batches],
                                               pa.string()), dtype="str")
            for key, column in zip(keys, columns, strict=True)})
        return rows, np.arange(2, len(rows) + 2)

    def blocks(self, features: int) -> list[slice]:
        return [slice(0, features)]

    def values(self, features: Sequence[str],
               blocks: Sequence[slice]) -> Iterator[tuple[int, int, np.ndarray]]:
        import pyarrow as pa

        keys = [self._keys[self.columns.index(column)] for column in features]
        start = 0
        with _sentences(self._path):
            for batch in self._batches(dict.fromkeys(keys, pa.float64()), keys):
                yield 0, start, _float32([batch.column(key) for key in keys], batch.num_rows)
                start += batch.num_rows


class ParquetProfiles:
    """A Parquet file of profiles."""

    unit = "row"
    decimal = "."

    def __init__(self, path: Path, file: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        self._path = path
        with _sentences(path):
            # Without the buffer a column is read whole, however long its row group is.
            self._file = pyarrow.parquet.ParquetFile(file, buffer_size=2**16, pre_buffer=False)
        schema = self._file.schema_arrow
        self.columns = list(schema.names)
        self.numeric = [pa.types.is_integer(kind) or pa.types.is_floating(kind)
                        or pa.types.is_null(kind) or pa.types.is_decimal(kind)
                        for kind in schema.types]
        numbers = sum(self.numeric) * self._file.metadata.num_rows * 4
        size = file.seek(0, io.SEEK_END)
        if numbers > max(_SMALL, _MOST_UNPACKED * size):
            raise MoascopeError(f"{path.name} unpacks to more than {_MOST_UNPACKED} times its "
                                "size, which no table of measurements does. Write it again.")

    def metadata(self, columns: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
        import pyarrow as pa

        with _sentences(self._path):
            table = self._file.read(list(columns), use_threads=False)
            rows = pd.DataFrame({
                column: pd.Series(table[column].cast(pa.string()).fill_null(""), dtype="str")
                for column in columns})
        return rows, np.arange(1, len(rows) + 1)

    def blocks(self, features: int) -> list[slice]:
        groups = self._file.metadata
        longest = max((groups.row_group(i).num_rows for i in range(groups.num_row_groups)),
                      default=1)
        width = max(1, BYTES_AT_ONCE // (8 * max(longest, 1)))
        return [slice(start, min(start + width, features))
                for start in range(0, features, width)]

    def values(self, features: Sequence[str],
               blocks: Sequence[slice]) -> Iterator[tuple[int, int, np.ndarray]]:
        start = 0
        with _sentences(self._path):
            for group in range(self._file.metadata.num_row_groups):
                count = self._file.metadata.row_group(group).num_rows
                for number, block in enumerate(blocks):
                    table = self._file.read_row_group(group, list(features[block]),
                                                      use_threads=False)
                    yield number, start, _float32([table[name] for name in features[block]],
                                                  count)
                start += count


Reader = CsvProfiles | ParquetProfiles


@contextmanager
def open_profiles(path: Path) -> Iterator[Reader]:
    try:
        file = open_file(path)
    except OSError as error:
        raise MoascopeError(f"{path.name} cannot be read: {error.strerror}.") from None
    with file:
        yield (ParquetProfiles if path.suffix == ".parquet" else CsvProfiles)(path, file)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """What the readers raise on a damaged file, as a sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, MoascopeError):
            raise
        said = tidy(str(error), most=160).rstrip(".")
        raise MoascopeError(f"{path.name} cannot be read ({said}). Write it again, or copy it "
                            "again if it was truncated.") from None


class _Unpacked(io.RawIOBase):
    """A gzip file that may not unpack to far more than a table of measurements does."""

    def __init__(self, file: gzip.GzipFile, size: int, name: str) -> None:
        self._inner, self._left, self._name = file, max(_SMALL, _MOST_UNPACKED * size), name

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        content = self._inner.read(min(size, _BLOCK) if size >= 0 else _BLOCK)
        self._left -= len(content)
        if self._left < 0:
            raise MoascopeError(f"{self._name} unpacks to more than {_MOST_UNPACKED} times its "
                                "size, which no table of measurements does. Write it again.")
        return content


def _float32(columns: Sequence[Any], count: int) -> np.ndarray:
    import pyarrow as pa

    values = np.empty((count, len(columns)), np.float32)
    with np.errstate(over="ignore"):
        for number, column in enumerate(columns):
            if pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
                column = column.cast(pa.float64())
            # Missing values become NaN; whole numbers with missing ones become float64.
            values[:, number] = column.to_numpy(zero_copy_only=False) \
                if isinstance(column, pa.Array) else column.to_numpy()
    return values
