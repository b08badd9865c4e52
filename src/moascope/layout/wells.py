"""The wells of a screen in one table, and which plates repeat a layout."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moascope.screen.columns import WELL
from moascope.screen.tables import Screen
from moascope.screen.targets import Labels
from moascope.screen.wells import PLATE_SHAPES, well_position

SAME_MAP = 0.5
COMPARED_PLACES = 96


def well_table(screen: Screen, labels: Labels) -> pd.DataFrame:
    """One row per well of the layout that is not empty, with everything the layout says of it.

    Parameters
    ----------
    screen : Screen
    labels : Labels

    Returns
    -------
    DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Compound`, `Metadata_Concentration_uM`,
        `Metadata_Control`; `Metadata_Batch` and `Metadata_Panel` (of the well's first site, empty
        where it has none); `Sites` (int); `Row`, `Column` (int, from 0); `EdgeDistance` (int, wells
        to the nearest edge of the plate); `Metadata_Group` and `Label` (empty where the well
        belongs to no labelled unit).
    """
    layout = screen.layout[screen.layout["Metadata_Compound"] != ""]
    by_well = screen.sites.groupby(WELL, sort=False)
    sites = by_well[["Metadata_Batch", "Metadata_Panel"]].first()
    sites["Sites"] = by_well.size()
    unit = labels.wells.merge(labels.groups[["Metadata_Group", "Label"]], on="Metadata_Group")
    wells = layout[[*WELL, "Metadata_Compound", "Metadata_Concentration_uM",
                    "Metadata_Control"]].merge(sites.reset_index(), on=WELL, how="left")
    wells = wells.merge(unit, on=WELL, how="left").reset_index(drop=True)
    text = ["Metadata_Batch", "Metadata_Panel", "Metadata_Group", "Label"]
    wells[text] = wells[text].fillna("")
    wells["Sites"] = wells["Sites"].fillna(0).astype("int64")

    code, names = pd.factorize(wells["Metadata_Well"])
    places = np.array([well_position(name) for name in names], int).reshape(-1, 2)
    wells["Row"], wells["Column"] = places[code].T
    plate = pd.factorize(wells["Metadata_Plate"])[0]
    lowest = pd.DataFrame({"Row": wells["Row"], "Column": wells["Column"]}).groupby(plate).max()
    shapes = np.array([_shape(row, column) for row, column in lowest.to_numpy()]).reshape(-1, 2)
    rows, columns = shapes[plate].T
    wells["EdgeDistance"] = np.minimum.reduce([
        wells["Row"], rows - 1 - wells["Row"], wells["Column"], columns - 1 - wells["Column"]])
    return wells


def plate_maps(wells: pd.DataFrame) -> pd.Series:
    """Which plates repeat one another's layout.

    Parameters
    ----------
    wells : DataFrame
        As `well_table` gives it.

    Returns
    -------
    Series of int
        A number of the layout, from 0, indexed by plate. Two plates have one layout where at least
        half of the wells that both use hold the same compound.
    """
    treated = wells[wells["Metadata_Control"] != "negative"]
    plates = pd.Index(sorted(wells["Metadata_Plate"].unique()))
    used = treated["Metadata_Well"].value_counts().index[:COMPARED_PLACES]
    treated = treated[treated["Metadata_Well"].isin(used)]
    grid = np.full((len(plates), len(used)), -1)
    grid[plates.get_indexer(treated["Metadata_Plate"]), used.get_indexer(
        treated["Metadata_Well"])] = pd.factorize(treated["Metadata_Compound"])[0]
    found = np.full(len(plates), -1)
    for number in range(len(plates)):
        left = np.flatnonzero(found < 0)
        if not len(left):
            break
        model, others = grid[left[0]], grid[left]
        both = (model >= 0) & (others >= 0)
        alike = ((others == model) & both).sum(axis=1)
        same = (alike >= SAME_MAP * both.sum(axis=1)) & (alike > 0)
        found[left[same]] = number
        found[left[0]] = number
    return pd.Series(found, index=plates)


def labelled_wells(wells: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Imaged wells of labelled units, with `Unit`: the row of `groups` that each belongs to."""
    unit = pd.Index(groups["Metadata_Group"]).get_indexer(wells["Metadata_Group"])
    return wells.assign(Unit=unit)[(unit >= 0) & (wells["Sites"] > 0)]


def _shape(row: int, column: int) -> tuple[int, int]:
    return next(shape for shape in PLATE_SHAPES.values() if row < shape[0] and column < shape[1])
