"""Parameters that a screen of profiles needs, from what its wells hold."""

from __future__ import annotations

import pandas as pd

from moascope.features.normalise import LEAST_CONTROL_SITES
from moascope.screen.columns import WELL

NORMALISATION = "train.normalisation"
COMPARED, AS_MEASURED = "moderated+sphere", "none"


def advised_settings(rows: pd.DataFrame, layout: pd.DataFrame) -> dict[str, str]:
    """Parameters for a screen of profiles: what the field does with CellProfiler's features.

    Parameters
    ----------
    rows : DataFrame
        One row per profile: `Metadata_Plate`, `Metadata_Well`; optional `Metadata_Panel`.
    layout : DataFrame
        As in layout.csv.

    Returns
    -------
    dict of str to str
        Name in params.yaml -> value. Plates are compared by their negative controls where one
        plate has enough of them: the others then share its centre and spread, which leaves them as
        comparable as they were, and the controls whiten all (docs/evaluation.md). Where none has,
        values stay as measured. The study chooses among all kinds of head: trees suit a few
        dependent measurements better than a network, and those of hundreds the other way round.
    """
    compared = _most_controls(rows, layout) >= LEAST_CONTROL_SITES
    return {"embed.backbone": "profiles", "train.head": "tuned", "train.selection": "distinct",
            NORMALISATION: COMPARED if compared else AS_MEASURED}


def advised_words(rows: pd.DataFrame, layout: pd.DataFrame) -> list[str]:
    """A sentence on why values are left as measured, where `advised_settings` leaves them."""
    most = _most_controls(rows, layout)
    if most >= LEAST_CONTROL_SITES:
        return []
    few = (f"No plate has {LEAST_CONTROL_SITES} profiles of negative controls (the most is {most})"
           if most else "No well is a negative control")
    return [f"{few}, so {NORMALISATION} is {AS_MEASURED}: plates are compared as the table has "
            "them. If there are such wells, write negative in Metadata_Control of layout.csv and "
            f"use {COMPARED}."]


def _most_controls(rows: pd.DataFrame, layout: pd.DataFrame) -> int:
    """Profiles of negative controls on the plate (and panel) that has most of them."""
    negative = layout.loc[layout["Metadata_Control"] == "negative", WELL].drop_duplicates()
    own = rows.merge(negative, on=WELL)
    unit = [column for column in ("Metadata_Plate", "Metadata_Panel") if column in rows]
    return int(own.groupby(unit).size().max()) if len(own) else 0
