"""A screen from rows in memory, as a model server receives them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moascope.screen.columns import ANNOTATIONS, LAYOUT, SITE, WELL
from moascope.screen.description import write_description
from moascope.screen.tables import Screen, read_screen

COMPOUND = [*ANNOTATIONS, "Metadata_InChIKey"]

_OF_IMAGES = ("FileName_", "PathName_", "Frame_", "URL_")
_OF_PROFILES = [*SITE, "Metadata_Batch", "Metadata_Panel"]


def screen_from_rows(rows: pd.DataFrame, images: Path, work: Path,
                     profiles: bool = False) -> Screen:
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
    features = [c for c in own if profiles and not c.startswith((*_OF_IMAGES, "Metadata_"))]
    if features:
        own[[*(c for c in _OF_PROFILES if c in own), *features]].to_parquet(
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
