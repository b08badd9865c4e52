"""Reading a CSV file as people save it, with the line that each row starts on."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import open_file, read_file

MOST_TABLE = 2**31
"""Most bytes of a table: a screen of ten million sites has fewer."""

ROWS_AT_ONCE = 2**18
"""Rows of which a check makes objects at one time."""

LINES_NAMED = 10
"""Lines that get a sentence each before the rest are counted."""


@dataclass
class Findings:
    """Problems, which stop a run, and warnings, which do not; filled while tables are read."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CsvTable:
    """A CSV file with its header, as text, and the line of the file that each row starts on.

    Of a Parquet file, `lines` are numbers of rows and `unit` says so.
    """

    name: str
    rows: pd.DataFrame
    lines: np.ndarray
    delimiter: str
    unit: str = "line"


class Rows(NamedTuple):
    """A CSV file without a header: cells, the line that each row starts on, and the separator."""

    cells: list[list[str]]
    lines: list[int]
    delimiter: str


def read_rows(path: Path) -> tuple[Rows, list[str]]:
    """Read any CSV file: UTF-8, UTF-16 or Windows-1252; separated by commas, semicolons or tabs.

    Returns
    -------
    tuple
        The rows that are not blank, and a sentence about each guess that was made.

    Raises
    ------
    MoascopeError
        When it cannot be read, or is an Excel workbook.
    """
    findings = Findings()
    try:
        rows = _rows(path.name, read_file(path, MOST_TABLE), findings)
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    if rows is None:
        raise MoascopeError(findings.problems)
    return rows, findings.warnings


def read_header(path: Path) -> list[str]:
    """The names of a table's columns, without reading its rows.

    Raises
    ------
    OSError
        Where it cannot be opened.
    """
    with open_file(path) as file:
        start = file.read(_MOST_HEADER)
    if len(start) == _MOST_HEADER and not _wide(start):
        # A letter of UTF-8 may be cut in two.
        start = start[:start.rfind(b"\n") + 1]
    text = _decode(path.name, start, Findings()) or ""
    said = _SAID.match(text)
    reader = csv.reader(io.StringIO(text[said.end():] if said else text, newline=""),
                        delimiter=said[1] if said else _delimiter(text))
    try:
        return next(([cell.strip() for cell in record] for record in reader
                     if any(map(str.strip, record))), [])
    except csv.Error:
        return []


_MOST_HEADER = 2**20


def _rows(name: str, content: bytes, findings: Findings) -> Rows | None:
    text = _decode(name, content, findings)
    if text is None:
        return None
    # Excel may write the separator into a line of its own in front of the header.
    said = _SAID.match(text)
    rows = Rows([], [], said[1] if said else _delimiter(text))
    # A quotation mark without its partner would swallow rows.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=rows.delimiter, strict=True)
    start = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record) and not (said and start == 1):
                rows.lines.append(start)
                rows.cells.append(record)
                if any(_swallows_rows(cell, rows) for cell in record):
                    findings.problems.append(f"{name}, line {start}: {_QUOTES}")
                    return None
            start = reader.line_num + 1
    except csv.Error as error:
        what = (_QUOTES if "expected after" in str(error) or "end of data" in str(error)
                else f"{error}. Save the table as plain CSV.")
        findings.problems.append(f"{name}, line {start}: {what}")
        return None
    return rows


_SAID = re.compile(r'"?sep=([,;\t|])"?[^\S\r\n]*[\r\n]', re.IGNORECASE)
_QUOTES = ('a quotation mark (") opens a value and is not closed at its end. Remove it, or write '
           '"" for a mark inside a quoted value.')


def _swallows_rows(cell: str, rows: Rows) -> bool:
    """Whether a value holds a line break and, behind it, what looks like another row."""
    columns = len(rows.cells[0])
    return "\n" in cell and columns > 1 and any(
        line.count(rows.delimiter) >= columns - 1 for line in cell.splitlines()[1:])


def read_table(path: Path, findings: Findings, may_be_empty: bool = False) -> CsvTable | None:
    """Read a CSV file with a header; None, and a problem for each reason, where it cannot be.

    Parameters
    ----------
    path : Path
    findings : Findings
    may_be_empty : bool
        Whether a header without rows is a table.
    """
    name = path.name
    try:
        content = read_file(path, MOST_TABLE)
    except FileNotFoundError:
        remedy = ("Write one with the columns Metadata_Compound and Metadata_MoA; it may have no "
                  "rows." if may_be_empty else "A screen is a folder with load_data.csv, "
                  "layout.csv and annotations.csv.")
        findings.problems.append(f"{name} is missing from {path.parent}. {remedy}")
        return None
    except OSError as error:
        findings.problems.append(f"{name} cannot be read: {error.strerror}.")
        return None
    return parse_table(name, content, findings, may_be_empty)


def parse_table(name: str, content: bytes, findings: Findings,
                may_be_empty: bool = False) -> CsvTable | None:
    """As `read_table`, of what is in the file; `name` is the file's in the sentences."""
    table = _read_plain(name, content)
    if table is not None:
        return table
    rows = _rows(name, content, findings)
    if rows is None:
        return None
    records, lines, delimiter = rows
    if not records or (len(records) == 1 and not may_be_empty):
        what = "is empty" if not records else "has a header but no rows"
        findings.problems.append(f"{name} {what}. Fill it in with one row per "
                                 f"{_UNIT.get(name, 'compound')}.")
        return None

    header = [cell.strip() for cell in records[0]]
    ragged = [(line, len(record)) for line, record in zip(lines[1:], records[1:], strict=True)
              if len(record) != len(header)]
    for line, length in ragged[:LINES_NAMED]:
        findings.problems.append(
            f"{name}, line {line}: {length} values for {len(header)} columns. Look for a missing "
            "value, or for a comma inside a value (put that value in double quotes).")
    twice = sorted({column for column in header if column and header.count(column) > 1})
    for column in twice:
        findings.problems.append(f"{name} has the column '{column}' twice. Remove one.")
    if ragged or twice:
        if len(ragged) > LINES_NAMED:
            findings.problems.append(f"{name}: {len(ragged) - LINES_NAMED:,} more lines do "
                                     "not have as many values as the header.")
        return None
    columns = list(zip(*records[1:], strict=True)) or [()] * len(header)
    if "" in header:
        findings.warnings.append(f"{name} has a column without a name, which is ignored.")
    rows = pd.DataFrame({column: pd.Series(values, dtype="str")
                         for column, values in zip(header, columns, strict=True) if column})
    return CsvTable(name, rows, np.array(lines[1:], dtype=int), delimiter)


_UNIT = {"load_data.csv": "site", "layout.csv": "well"}


def _read_plain(name: str, content: bytes) -> CsvTable | None:
    """A table in UTF-8 with exactly one complete row per line, else None.

    A fast path: it reads the tables of a screen of 300,000 wells in a fraction of the time and
    memory, and leaves every other table to the reader that says what is wrong.
    """
    import pyarrow as pa
    import pyarrow.csv

    try:
        end = content.find(b"\n")
        line = (content if end < 0 else content[:end]).rstrip(b"\r").decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "\r" in line or b"\0" in content or _SAID.match(f"{line}\n") or line.startswith("\ufeff"):
        return None
    delimiter = _delimiter(line)
    try:
        header = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return None
    if not all(header) or len(set(header)) != len(header):
        return None
    try:
        read = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            pyarrow.csv.ReadOptions(column_names=header, skip_rows=1),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            # What pandas keeps text in, so that nothing is copied.
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.large_string())))
    except pa.ArrowInvalid:
        return None
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    rows = pd.DataFrame({column: pd.Series(read[column], dtype="str") for column in header},
                        copy=False)
    if rows.empty or lines != len(rows) + 1 or _has_blank_rows(rows):
        return None
    return CsvTable(name, rows, np.arange(2, len(rows) + 2), delimiter)


def _has_blank_rows(rows: pd.DataFrame) -> bool:
    blank = np.ones(len(rows), bool)
    for column in rows:
        blank &= (rows[column].str.strip() == "").to_numpy(bool)
        if not blank.any():
            return False
    return True


def _decode(name: str, content: bytes, findings: Findings) -> str | None:
    if kind := _other_kind(content):
        findings.problems.append(f"{name} is {kind}")
        return None
    encoding = _wide(content) or "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8-sig":
            findings.problems.append(f"{name} begins as UTF-16 and is damaged or cut off. Save it "
                                     "again as CSV UTF-8.")
            return None
        findings.warnings.append(f"{name} is not UTF-8 and was read as Windows-1252; check names "
                                 "with accents or Greek letters.")
        text = content.decode("cp1252", errors="replace")
    at = text.find("\0")
    if at >= 0:
        line = text.count("\n", 0, at) + 1
        findings.problems.append(f"{name}, line {line}: it holds a byte of value 0, so it is "
                                 "damaged or not a text file. Save the table again as CSV UTF-8.")
        return None
    return text.lstrip("\ufeff")


def is_workbook(path: Path) -> bool:
    """Whether a file is a workbook, which is a zip archive too."""
    with open_file(path) as file:
        return bool(_WORKBOOK.search(file.read(2000)))


_WORKBOOK = re.compile(rb"\[Content_Types\]\.xml|opendocument\.spreadsheet|docProps/|xl/")


def _other_kind(content: bytes) -> str:
    """What a file is if it is not text, and what to do about it."""
    if content.startswith(b"PK\x03\x04"):
        if b"opendocument.spreadsheet" in content[:200]:
            return "a LibreOffice workbook, not CSV. Save it from there as CSV in UTF-8."
        if not _WORKBOOK.search(content[:2000]):
            return "a zip archive, not CSV. Unpack it and give the table itself."
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "an Excel workbook, not CSV. Save it from Excel as 'CSV UTF-8'."
    return next((f"{what}, not CSV. Export the table as CSV." for start, what in (
        (b"%PDF", "a PDF"), (b"PAR1", "a Parquet file"), (b"{\\rtf", "a text document"),
        (b"\x1f\x8b", "compressed with gzip"), (b"\x89HDF", "an HDF5 file"))
        if content.startswith(start)), "")


def _wide(content: bytes) -> str:
    """The name of UTF-16 or UTF-32 where a text is in them; Excel's "Unicode text" is."""
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = content[:200]
    # Without a mark at the beginning: every other byte of a Latin text is 0.
    if len(start) > 8 and start[1::2].count(0) > 0.8 * len(start[1::2]) and 0 not in start[::2]:
        return "utf-16-le"
    if len(start) > 8 and start[::2].count(0) > 0.8 * len(start[::2]) and 0 not in start[1::2]:
        return "utf-16-be"
    return ""


def _delimiter(text: str) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t|", key=header.count)
