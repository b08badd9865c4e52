"""Profiles: features of wells or sites that other software measured, and how they are read.

They lie next to the tables of a screen, in one file with a row per well or site, or, as acquire
writes them, in a folder with one file per plate.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import MOST_JSON, open_file, parse_json, read_file
from moascope.screen.checks import check_plates, check_wells, check_whole_numbers, report, require
from moascope.screen.columns import SITE, WELL
from moascope.screen.compounds import name_key
from moascope.screen.reading import CsvTable, Findings
from moascope.text import counted, listing, tidy

FILES = ("profiles.parquet", "profiles.csv", "profiles.csv.gz")
FOLDER = "profiles"
INDEX = "profiles.json"
COUNTS = re.compile(r"(Image_)?(Count_.+)")
"""Columns that count objects, as CellProfiler names them."""

BYTES_AT_ONCE = 2**26
"""Of values in memory while a table is read."""

_OURS = [*SITE, "Metadata_Batch", "Metadata_Panel"]
_COMPOUND = "Metadata_Compound"
_BLOCK = 2**24          # bytes of text that are parsed at once: the longest line that is read
_HEADER = 2**22         # bytes that the names of columns may take
_MOST_UNPACKED = 200    # times its size: tables of measurements shrink to a half or a fifth
_SMALL = 2**28          # bytes that any file may unpack to
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None"]


@dataclass(frozen=True)
class Profiles:
    """Features of wells or sites from other software, on disk.

    Attributes
    ----------
    path : Path
        The file; or the folder with one Parquet file per plate, as `profile_plates` writes them.
    name : str
        Of the file, also where it has been divided by plate: for messages.
    features : tuple of str
        The columns of numbers.
    by_site : bool
        Whether the rows tell the sites of a well apart.
    warnings : tuple of str
        What looks wrong in the file but does not stop a run.
    rows : DataFrame or None
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` (int, 1 where the table has none),
        `Metadata_Batch`, `Metadata_Panel` of every row of the file, in its order. None for a
        folder.
    digests : mapping of str to str
        Plate -> SHA-256 of its file. Empty for a file.
    """

    path: Path
    name: str
    features: tuple[str, ...]
    by_site: bool
    warnings: tuple[str, ...] = ()
    rows: pd.DataFrame | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def sites(self) -> pd.DataFrame:
        """One row per site, sorted, with the columns of `rows`; several rows of a site are one."""
        rows = self.rows if self.rows is not None else pd.DataFrame(columns=_OURS)
        return rows.drop_duplicates(SITE).sort_values(SITE, ignore_index=True, kind="stable")


def find_profiles(folder: Path, findings: Findings, received: bool = False) -> Profiles | None:
    """The profiles of a screen folder; None where it has none, or where they cannot be used.

    Parameters
    ----------
    folder : Path
    findings : Findings
        Gets a problem for everything that stops a run, and warnings.
    received : bool
        Whether links that lead out of the folder are refused.
    """
    found = _files(folder)
    if (folder / INDEX).is_file():
        return _read_index(folder, findings)
    if not found:
        return None
    if len(found) > 1:
        findings.problems.append(
            f"{folder} has {listing(path.name for path in found)}. Keep one of them.")
        return None
    path = found[0]
    if received and not path.resolve().is_relative_to(folder.resolve()):
        findings.problems.append(f"{path.name} is a link that leads out of {folder}. Copy the file "
                                 "there.")
        return None
    try:
        with _reader(path) as reader:
            return _checked(path, reader, findings)
    except MoascopeError as error:
        findings.problems += error.problems
        return None


def read_profiles(folder: Path) -> Profiles | None:
    """The profiles of an acquired screen, without reading its tables; None where it has none.

    Raises
    ------
    MoascopeError
        Where they are damaged.
    """
    findings = Findings()
    profiles = find_profiles(folder, findings)
    if findings.problems:
        raise MoascopeError(findings.problems)
    return profiles


def has_profiles(folder: Path) -> bool:
    """Whether a folder has profiles, in whatever state."""
    return bool(_files(folder)) or (folder / INDEX).is_file()


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).exists()
            or (folder / name).is_symlink()]


def _read_index(folder: Path, findings: Findings) -> Profiles | None:
    path = folder / INDEX
    try:
        index = parse_json(read_file(path, MOST_JSON))
        found = Profiles(folder / FOLDER, str(index["name"]), tuple(map(str, index["features"])),
                         bool(index["by_site"]), tuple(map(str, index["warnings"])),
                         digests={str(plate): str(total)
                                  for plate, total in index["plates"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        findings.problems.append(f"{path} is damaged. Run the acquire stage again (dvc repro "
                                 "acquire), which writes it.")
        return None
    lost = [plate for plate in found.digests if not (found.path / f"{plate}.parquet").is_file()]
    if lost:
        findings.problems.append(f"{found.path} lacks the profiles of {listing(lost)}. Run the "
                                 "acquire stage again (dvc repro acquire), which writes them.")
        return None
    return found


def _checked(path: Path, reader: _Reader, findings: Findings) -> Profiles | None:
    name, header, warnings = path.name, reader.columns, []
    twice = sorted({column for column in header if column and header.count(column) > 1})
    for column in twice:
        findings.problems.append(f"{name} has the column '{column}' twice. Remove one.")
    if any(_is_index(column) for column in header):
        warnings.append(f"{name} has a column without a name, which is ignored.")
    table = CsvTable(name, pd.DataFrame(columns=header), np.zeros(0, int), ",")
    if not require(table, WELL, findings):
        findings.problems[-1] += (" `moascope import` makes a screen from tables whose columns are "
                                  "named otherwise.")
    if twice or findings.problems:
        return None
    features = [column for column, numeric in zip(header, reader.numeric, strict=True)
                if numeric and not column.startswith("Metadata_") and not _is_index(column)]
    others = [column for column, numeric in zip(header, reader.numeric, strict=True)
              if not numeric and not column.startswith("Metadata_") and not _is_index(column)]
    if not features:
        findings.problems.append(
            f"{name} has no column of numbers besides those that start with Metadata_. "
            + (f"Its other columns are {listing(others, 12)}, which are not single numbers. "
               if others else "")
            + "A profile has a column for each feature.")
        return None
    if reader.decimal == ",":
        warnings.append(f"{name} is separated by semicolons or tabs, and commas in its numbers "
                        "were read as decimal commas.")
    if others:
        warnings.append(
            f"{name} has {counted(len(others), 'column')} that are not numbers and are not used "
            f"as features: {listing(others)}.")
    rows, lines = reader.metadata([column for column in [*_OURS, _COMPOUND] if column in header])
    if rows.empty:
        findings.problems.append(f"{name} has a header but no rows. Fill it in with one row per "
                                 "well or site.")
        return None
    table = CsvTable(name, rows, lines, ",", reader.unit)
    plates = check_plates(table, findings)
    checked = pd.DataFrame({WELL[0]: plates, WELL[1]: check_wells(table, plates, findings)})
    by_site = SITE[2] in rows
    checked[SITE[2]] = check_whole_numbers(table, SITE[2], findings) if by_site else 1
    for column in ("Metadata_Batch", "Metadata_Panel"):
        checked[column] = (rows[column].str.strip() if column in rows
                           else pd.Series("", index=rows.index, dtype="str"))
    if _COMPOUND in rows:
        _check_one_compound(table, checked, rows[_COMPOUND].str.strip(), findings)
    again = int(checked.duplicated(SITE).sum())
    if again:
        wells = len(checked.loc[checked.duplicated(SITE), SITE].drop_duplicates())
        what = "site" if by_site else "well"
        warnings.append(
            f"{name} has several rows for {counted(wells, what)} ({counted(len(rows), 'row')} in "
            f"all); the mean of a {what}'s rows is its profile.")
    return Profiles(path, name, tuple(features), by_site, tuple(warnings), checked)


def _check_one_compound(table: CsvTable, places: pd.DataFrame, compounds: pd.Series,
                        findings: Findings) -> None:
    """Report rows of a well that name another compound than its first row."""
    named = compounds != ""
    keys = {name: name_key(name) for name in compounds.unique()}
    own = compounds.map(keys)
    place = places[WELL[0]] + "\0" + places[WELL[1]]
    first = pd.Series(np.arange(len(own)), index=own.index)[named].groupby(place[named]).first()
    at = place.map(first)
    wrong = named & at.notna() & (own.to_numpy() != own.to_numpy()[at.fillna(0).astype(int)])
    report(table, wrong,
           lambda row: f"plate {places[WELL[0]][row]}, well {places[WELL[1]][row]} holds "
                       f"{compounds[row]} here and {compounds[int(at[row])]} in {table.unit} "
                       f"{table.lines[int(at[row])]}. A well holds one compound; correct the row "
                       "or its well.", findings)


def check_compounds_agree(profiles: Profiles, layout: pd.DataFrame, findings: Findings) -> None:
    """Find wells that the profiles and layout.csv give different compounds."""
    if profiles.rows is None or profiles.path.is_dir():
        return
    with _reader(profiles.path) as reader:
        if _COMPOUND not in reader.columns:
            return
        own = reader.metadata([_COMPOUND])[0][_COMPOUND].str.strip()
    plated = layout.set_index(WELL)["Metadata_Compound"]
    theirs = pd.Series(plated.reindex(pd.MultiIndex.from_frame(profiles.rows[WELL])).to_numpy(),
                       index=own.index)
    known = theirs.notna() & (own != "") & (theirs.fillna("") != "")
    differ = known & (own.map(name_key) != theirs.where(known, "").map(name_key))
    if differ.any():
        row = profiles.rows[differ].iloc[0]
        wells = len(profiles.rows.loc[differ, WELL].drop_duplicates())
        findings.problems.append(
            f"{profiles.name} and layout.csv name different compounds in "
            f"{counted(wells, 'well')}: plate {row[WELL[0]]}, well {row[WELL[1]]} holds "
            f"{own[differ].iloc[0]} in one and {theirs[differ].iloc[0]} in the other. Correct the "
            "table that is wrong.")


def _is_index(column: str) -> bool:
    """Whether a column is the number of the row, which pandas writes without a name."""
    return re.fullmatch(r"|Unnamed: \d+|__index_level_\d+__", column) is not None


def read_values(profiles: Profiles) -> tuple[list[slice], Iterator[tuple[int, int, np.ndarray]]]:
    """Read the features of a file in pieces that fit into `BYTES_AT_ONCE`.

    Returns
    -------
    blocks : list of slice
        Of `profiles.features`; each piece has the columns of one of them.
    pieces : iterator of (int, int, ndarray)
        The number of a block, the first row and the values, float32 [rows, columns of the block].
        A number beyond the range of float32 is infinite.

    Raises
    ------
    MoascopeError
        While the pieces are read, where the file is damaged.
    """
    with _reader(profiles.path) as reader:
        blocks = reader.blocks(len(profiles.features))

    def pieces() -> Iterator[tuple[int, int, np.ndarray]]:
        with _reader(profiles.path) as reader:
            yield from reader.values(profiles.features, blocks)

    return blocks, pieces()


class _Csv:
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
            column: pd.Series(pa.chunked_array([batch.column(key) for batch in batches]),
                              dtype="str") for key, column in zip(keys, columns, strict=True)})
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


class _Parquet:
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


_Reader = _Csv | _Parquet


@contextmanager
def _reader(path: Path) -> Iterator[_Reader]:
    try:
        file = open_file(path)
    except OSError as error:
        raise MoascopeError(f"{path.name} cannot be read: {error.strerror}.") from None
    with file:
        yield (_Parquet if path.suffix == ".parquet" else _Csv)(path, file)


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
