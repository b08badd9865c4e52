"""A screen from rows in memory, as a model server receives them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moascope.screen.columns import ANNOTATIONS, LAYOUT, WELL
from moascope.screen.description import write_description
from moascope.screen.tables import Screen, read_screen

COMPOUND = [*ANNOTATIONS, "Metadata_InChIKey"]


def screen_from_rows(rows: pd.DataFrame, images: Path, work: Path) -> Screen:
    """Split rows of sites, joined with their wells and compounds, into three tables and check them.

    Parameters
    ----------
    rows : DataFrame
        One row per site: the columns of load_data.csv, and of layout.csv and annotations.csv as far
        as they are known.
    images : Path
        Folder that file names start from; they may not leave it.
    work : Path
        Empty folder for the tables.

    Returns
    -------
    Screen

    Raises
    ------
    MoascopeError
        As `read_screen` does.
    """
    rows = rows.copy()
    dose = "Metadata_Concentration_uM"
    if dose in rows:
        # An empty cell of a CSV file arrives as empty text or as NaN.
        rows[dose] = rows[dose].astype("object").where(rows[dose].notna(), "")
    for column in (*LAYOUT, *COMPOUND):
        if column not in rows:
            rows[column] = ""
    elsewhere = [c for c in (*LAYOUT, *COMPOUND) if c not in WELL]
    tables = {
        "load_data.csv": rows.drop(columns=elsewhere),
        "layout.csv": rows[LAYOUT].drop_duplicates(),
        "annotations.csv": rows.loc[rows["Metadata_Compound"] != "", COMPOUND].drop_duplicates(),
    }
    for name, table in tables.items():
        table.to_csv(work / name, index=False)
    write_description(work, {"source": "rows", "images": str(images.resolve())})
    return read_screen(work, follow_links=False)
