"""Checks of one column or a few, each with a sentence for every line that is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.columns import plain
from moascope.screen.reading import LINES_NAMED, CsvTable, Findings
from moascope.screen.wells import canonical_well
from moascope.text import counted, listing


def require(table: CsvTable, columns: Sequence[str], findings: Findings) -> bool:
    """Whether a table has all columns; each that is missing is a problem, with the likeliest name.
    """
    found = list(table.rows.columns)
    missing = [column for column in columns if column not in found]
    for column in missing:
        names = {plain(name): name for name in found}
        near = difflib.get_close_matches(plain(column), names, n=1, cutoff=0.75)
        remedy = (f"Rename '{names[near[0]]}' if it is that column." if near else
                  f"Its columns are {listing(found, 12)}.")
        hint = " The column may be left empty." if column in _MAY_BE_BLANK else ""
        findings.problems.append(f"{table.name} has no column '{column}'. {remedy}{hint}")
    return not missing


_MAY_BE_BLANK = ("Metadata_Concentration_uM", "Metadata_Control", "Metadata_MoA")


def report(table: CsvTable, wrong: pd.Series | np.ndarray, sentence: Callable[[int], str],
            findings: Findings) -> None:
    """Add a sentence for each of the first wrong rows, and one that counts the others."""
    rows = np.flatnonzero(np.asarray(wrong))
    for row in rows[:LINES_NAMED]:
        findings.problems.append(
            f"{table.name}, {table.unit} {table.lines[row]}: {sentence(int(row))}")
    if len(rows) > LINES_NAMED:
        findings.problems.append(
            f"{table.name}: {counted(len(rows) - LINES_NAMED, f'more {table.unit}')} with the same "
            f"problem as {table.unit} {table.lines[rows[0]]}: "
            f"{listing(table.lines[rows[LINES_NAMED:]])}.")


def check_plates(table: CsvTable, findings: Findings) -> pd.Series:
    """The plate of each row; it must be a name that a folder can have."""
    plates = stripped(table.rows["Metadata_Plate"])
    wrong = {plate for plate in plates.unique() if not _is_folder_name(plate)}
    report(table, plates.isin(wrong),
           lambda row: f"'{plates[row]}' cannot be a plate name. Use 1 to 200 bytes of UTF-8, "
                       "without / or \\ and not starting with a dot: a folder of results gets this "
                       "name.", findings)
    return plates


def stripped(column: pd.Series) -> pd.Series:
    """A column without blanks around its values; the same column, and no copy, where it is so."""
    found = column.str.strip()
    return column if found.equals(column) else found


def _is_folder_name(plate: str) -> bool:
    return (0 < len(plate.encode(errors="replace")) <= 200 and not plate.startswith(".")
            and plate.isprintable() and not set(plate) & set("/\\"))


def check_wells(table: CsvTable, plates: pd.Series, findings: Findings) -> pd.Series:
    """The well of each row in its canonical spelling; a wrong one is reported and kept as it is."""
    wells = table.rows["Metadata_Well"]
    canonical, wrong = {}, {}
    for well in wells.unique():
        try:
            canonical[well] = canonical_well(well)
        except MoascopeError as error:
            wrong[well] = error.problems[0]
    report(table, wells.isin(wrong),
           lambda row: f"plate {plates[row]}: {wrong[wells[row]]}", findings)
    if all(well == spelt for well, spelt in canonical.items()):
        return wells
    return wells.map(lambda well: canonical.get(well, well)).astype("str")


def is_canonical(wells: pd.Series) -> pd.Series:
    """Which wells have a canonical name."""
    # A wrong well name has a sentence already; other checks must not report it again.
    return wells.str.fullmatch("A?[A-Z][0-9]{2}").astype(bool)


def check_words(table: CsvTable, column: str, allowed: Sequence[str],
                findings: Findings, several: bool = False) -> pd.Series:
    """A column of a few allowed words, in lower case; with `several`, sorted and joined by "|"."""
    words = table.rows[column].str.strip().str.lower()
    known = listing([f"'{word}'" for word in allowed if word])
    if several:
        words = words.map(_sorted_words).astype("str")
    report(table, ~words.map(lambda text: set(text.split("|") if several else [text])
                             <= set(allowed)).astype(bool),
           lambda row: f"{column} is '{table.rows[column][row].strip()}'. "
                       f"Write {known}, or leave it empty.", findings)
    return words


def _sorted_words(text: str) -> str:
    return "|".join(sorted({word for word in re.split(r"[|,;/\s]+", text) if word}))


def check_unique(table: CsvTable, keys: pd.DataFrame, what: str, remedy: str,
                 findings: Findings) -> None:
    """Report each row whose `keys` an earlier line has already."""
    again = keys.duplicated()
    if again.any():
        again &= is_canonical(keys["Metadata_Well"])
    if not again.any():
        return
    first = pd.Series(keys.index, index=pd.MultiIndex.from_frame(keys))
    first = first[~first.index.duplicated()]

    def sentence(row: int) -> str:
        values = tuple(keys.iloc[row])
        place = ", ".join(f"{column.removeprefix('Metadata_').lower()} {value}"
                          for column, value in zip(keys.columns, values, strict=True))
        return (f"{place} is already in line {table.lines[first.loc[values]]}. "
                f"Each {what} has one row; {remedy}")

    report(table, again, sentence, findings)


def check_whole_numbers(table: CsvTable, column: str, findings: Findings,
                        default: int | None = None) -> pd.Series:
    """A column of whole numbers of 0 or more, as int64; an empty cell is `default`, if given."""
    # Millions of rows have few different numbers.
    code, said = pd.factorize(table.rows[column])
    said = pd.Series(said, dtype="str").str.strip()
    if default is not None:
        said = said.where(said != "", str(default))
    # A table that passed through pandas or Excel may say 1.0.
    whole = said.str.fullmatch(r"[0-9]{1,9}(\.0*)?").to_numpy(bool)
    report(table, ~whole[code],
           lambda row: f"{column} is '{said[code[row]]}', which is not a whole number of 0 or "
                       "more. Write one, such as 1.", findings)
    numbers = said.where(whole, "0").str.split(".").str[0].astype("int64").to_numpy()
    # A number of its own for each wrong row, so that none is also reported as a duplicate.
    return pd.Series(np.where(whole[code], numbers[code], -1 - np.arange(len(code))),
                     index=table.rows.index)
