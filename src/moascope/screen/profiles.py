"""Profiles: features of wells or sites that other software measured, and how they are read.

They lie next to the tables of a screen, in one file with a row per well or site, or, as acquire
writes them, in a folder with one file per plate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import MOST_JSON, parse_json, read_file
from moascope.screen.checks import check_plates, check_wells, check_whole_numbers, report, require
from moascope.screen.columns import SITE, WELL
from moascope.screen.compounds import name_key
from moascope.screen.profile_tables import Reader, open_profiles
from moascope.screen.reading import CsvTable, Findings
from moascope.text import counted, listing

FILES = ("profiles.parquet", "profiles.csv", "profiles.csv.gz")
FOLDER = "profiles"
INDEX = "profiles.json"
COUNTS = re.compile(r"(Image_)?(Count_.+)")
"""Columns that count objects, as CellProfiler names them."""

_OURS = [*SITE, "Metadata_Batch", "Metadata_Panel"]
_COMPOUND = "Metadata_Compound"


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
        with open_profiles(path) as reader:
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


def _checked(path: Path, reader: Reader, findings: Findings) -> Profiles | None:
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
            f"{name}: not used as features, because not all values are numbers: {listing(others)}. "
            "Correct those values, or leave them empty, where a column is a feature.")
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
    with open_profiles(profiles.path) as reader:
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
    with open_profiles(profiles.path) as reader:
        blocks = reader.blocks(len(profiles.features))

    def pieces() -> Iterator[tuple[int, int, np.ndarray]]:
        with open_profiles(profiles.path) as reader:
            yield from reader.values(profiles.features, blocks)

    return blocks, pieces()
