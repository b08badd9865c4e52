"""A screen from rows in memory, as a model server receives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.columns import ANNOTATIONS, LAYOUT, SITE, WELL
from moascope.screen.description import write_description
from moascope.screen.reading import CsvTable, Findings
from moascope.screen.tables import Screen, checked_screen, read_screen

COMPOUND = [*ANNOTATIONS, "Metadata_InChIKey"]
LONGEST_NAME = 255
"""Bytes of the longest name that a file can have."""

FIRST_LINE = 2   # as if the columns' names were the first

_OF_IMAGES = ("FileName_", "PathName_", "Frame_", "URL_")
_OF_PROFILES = [*SITE, "Metadata_Batch", "Metadata_Panel"]


def screen_from_rows(rows: pd.DataFrame, images: Path, work: Path,
                     profiles: bool = False) -> Screen:
    """Split rows of sites, joined with their wells and compounds, into three tables and check them.

    Parameters
    ----------
    rows : DataFrame
        One row per site: the columns of load_data.csv, and of layout.csv and annotations.csv as far
        as they are known. Cells may be text, numbers or missing.
    images : Path
        Folder that file names start from; neither they nor links in it may leave it.
    work : Path
        Empty folder for profiles.
    profiles : bool
        Whether columns of no table are the features of profiles; a row may then be a well, and
        need not name images.

    Returns
    -------
    Screen

    Raises
    ------
    MoascopeError
        As `read_screen` does.
    """
    twice = sorted(set(rows.columns[rows.columns.duplicated()]))
    if twice:
        raise MoascopeError(f"The rows have the column '{twice[0]}' twice. Remove one.")
    if rows.empty:
        raise MoascopeError("There are no rows. Send one per site.")
    return _with_profiles(rows, images, work) if profiles else _in_memory(rows, images)


def _with_profiles(rows: pd.DataFrame, images: Path, work: Path) -> Screen:
    rows = rows.copy()
    dose = "Metadata_Concentration_uM"
    if dose in rows:
        # An empty cell of a CSV file arrives as empty text or as NaN.
        rows[dose] = rows[dose].astype("object").where(rows[dose].notna(), "")
    for column in (*LAYOUT, *COMPOUND):
        if column not in rows:
            rows[column] = ""
    elsewhere = [c for c in (*LAYOUT, *COMPOUND) if c not in WELL]
    own = rows.drop(columns=elsewhere)
    features = [c for c in own if not c.startswith((*_OF_IMAGES, "Metadata_"))]
    if features:
        # Cells without a value make a column of numbers one of objects.
        numbers = own[features].infer_objects()
        own[[c for c in _OF_PROFILES if c in own]].join(numbers).to_parquet(
            work / "profiles.parquet", index=False)
        own = own.drop(columns=features)
    tables = {
        "load_data.csv": own,
        "layout.csv": rows[LAYOUT].drop_duplicates(),
        "annotations.csv": rows.loc[rows["Metadata_Compound"] != "", COMPOUND].drop_duplicates(),
    }
    if features and not any(c.startswith("FileName_") for c in own):
        del tables["load_data.csv"]
    for name, table in tables.items():
        table.to_csv(work / name, index=False)
    write_description(work, {"source": "rows", "images": str(images.resolve())})
    return read_screen(work, follow_links=False)


def _in_memory(rows: pd.DataFrame, images: Path) -> Screen:
    # Writing and reading tables would take longer than a prediction.
    cells = {str(column).strip(): _text(rows[column]) for column in rows}
    _refuse_overlong(cells)
    empty = [""] * len(rows)
    elsewhere = {*LAYOUT, *COMPOUND} - set(WELL)
    named = [cell.strip() != "" for cell in cells.get("Metadata_Compound", empty)]
    return checked_screen(
        _table("load_data.csv", {c: v for c, v in cells.items() if c not in elsewhere}),
        _distinct("layout.csv", {c: cells.get(c, empty) for c in LAYOUT}),
        _distinct("annotations.csv",
                  {c: [cell for cell, has_name in zip(cells.get(c, empty), named, strict=True)
                       if has_name] for c in COMPOUND}),
        images.resolve(), outside=False, links=False, findings=Findings())


def _refuse_overlong(cells: dict[str, list[str]]) -> None:
    problems = [f"load_data.csv, line {line}: {column} cannot be the name of a file: a name has at "
                f"most {LONGEST_NAME} bytes."
                for column, names in cells.items() if column.startswith(("FileName_", "PathName_"))
                for line, name in enumerate(names, start=FIRST_LINE)
                if any(len(part.encode()) > LONGEST_NAME for part in name.split("/"))]
    if problems:
        raise MoascopeError(problems)


def _text(column: pd.Series) -> list[str]:
    """Cells as CSV has them: a missing one is empty."""
    return ["" if missing else str(cell)
            for cell, missing in zip(column, column.isna(), strict=True)]


def _table(name: str, cells: dict[str, list[str]]) -> CsvTable:
    rows = pd.DataFrame({column: pd.Series(values, dtype="str")
                         for column, values in cells.items()})
    return CsvTable(name, rows, np.arange(FIRST_LINE, len(rows) + FIRST_LINE), delimiter=",")


def _distinct(name: str, cells: dict[str, list[str]]) -> CsvTable:
    records = list(dict.fromkeys(zip(*cells.values(), strict=True)))
    columns: Sequence[Sequence[str]] = list(zip(*records, strict=True)) or [()] * len(cells)
    return _table(name, {column: list(values)
                         for column, values in zip(cells, columns, strict=True)})
