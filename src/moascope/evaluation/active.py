"""What activity means for predictions: which of them are about compounds that do anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.activity import (
    ACTIVE,
    INACTIVE,
    UNTESTED,
    ActivityResult,
    measure_activity,
)
from moascope.evaluation.scores import scores_of
from moascope.features.table import FeatureTable
from moascope.learning.joining import with_layout
from moascope.params import Activity, Evaluate
from moascope.screen.question import Question

COLUMN = "Activity"
NUMBERS = ("mean_average_precision", "null_mean", "p_value", "corrected_p_value")
WORDS = {ACTIVE: "active", INACTIVE: "inactive: looks like DMSO", UNTESTED: ""}
# More doses than this are counted in steps of half a decade.
MOST_DOSES = 12
# p of a score among inactive compounds below which the model is taken to see effects in them.
SEEN_AT = 0.05


def read_compounds(folder: Path) -> pd.DataFrame:
    """`ActivityResult.compounds` as the stage `activity` wrote it into its folder of reports."""
    return pd.read_csv(folder / "compounds.csv", dtype={"Metadata_Compound": str, "active": str},
                       keep_default_na=False, na_values={column: [""] for column in NUMBERS})


def measured_activity(table: FeatureTable, layout: pd.DataFrame) -> ActivityResult:
    """Activity on the plates of a new screen, by their own controls and the default settings.

    Parameters
    ----------
    table : FeatureTable
        As prepared and embedded for a model.
    layout : DataFrame
        Of the screen.
    """
    known = replace(table, meta=with_layout(table.meta, layout))
    return measure_activity(known, Activity(), seed=0)


def called_active(names: pd.Series, compounds: pd.DataFrame) -> np.ndarray:
    """Whether units are active: "yes", "no", or "" where that was not tested.

    Parameters
    ----------
    names : Series of str
        `Metadata_Compound` of each unit; where several names are one compound they are joined by
        `|`, and one active name is enough.
    compounds : DataFrame
        `ActivityResult.compounds`.
    """
    known = dict(zip(compounds["Metadata_Compound"].astype(str), compounds["active"].fillna(""),
                     strict=True))

    def call(text: str) -> str:
        said = {known.get(text, UNTESTED), *(known.get(name, UNTESTED) for name in text.split("|"))}
        return next((word for word in (ACTIVE, INACTIVE) if word in said), UNTESTED)

    calls = {name: call(str(name)) for name in names.unique()}
    return np.array([calls[name] for name in names], dtype=object)


def with_activity(predictions: pd.DataFrame, compounds: pd.DataFrame) -> pd.DataFrame:
    """A predictions table with the column `Activity`, in words, after its last column.

    Parameters
    ----------
    predictions : DataFrame
        With `Metadata_Compound`.
    compounds : DataFrame
        `ActivityResult.compounds`.
    """
    calls = called_active(predictions["Metadata_Compound"], compounds)
    return predictions.assign(**{COLUMN: [WORDS[call] for call in calls]})


def is_inactive(predictions: pd.DataFrame) -> np.ndarray:
    """Which rows of a table from `with_activity` are of compounds that look like the controls."""
    return (predictions[COLUMN] == WORDS[INACTIVE]).to_numpy()


def score_active(predictions: pd.DataFrame, compounds: pd.DataFrame, question: Question,
                 settings: Evaluate, seed: int) -> dict[str, Any]:
    """How many of the scored units are active, and the score among them.

    Parameters
    ----------
    predictions : DataFrame
        Out-of-fold predictions, one row per unit.
    compounds : DataFrame
        `ActivityResult.compounds`.
    question : Question
    settings : Evaluate
    seed : int

    Returns
    -------
    dict
        `units`, `tested`, `active`, `share_active` (None where nothing was tested), and
        `among_active` and `among_inactive`, as `scores.scores_of` gives them, None where too
        little is left. Nothing is selected by them: the model is the one of all compounds.
    """
    calls = called_active(predictions["Metadata_Compound"], compounds)
    tested, active = int((calls != UNTESTED).sum()), int((calls == ACTIVE).sum())

    def among(call: str) -> dict[str, Any] | None:
        own = predictions[calls == call].reset_index(drop=True)
        return scores_of(own, question, settings, seed) if len(own) else None

    return {"units": len(calls), "tested": tested, "active": active,
            "share_active": active / tested if tested else None,
            "among_active": among(ACTIVE), "among_inactive": among(INACTIVE)}


def ranks_inactive(metrics: dict[str, Any]) -> bool:
    """Whether a model was shown to rank inactive compounds better than chance.

    Parameters
    ----------
    metrics : dict
        As in metrics.json. A model that is not better than chance over all compounds shows nothing
        by a part of them.
    """
    among = (metrics.get("activity") or {}).get("among_inactive") or {}
    p = among.get("p")
    return bool(metrics.get("above_chance")) and p is not None and p < SEEN_AT


def summarise(result: ActivityResult, consistency: pd.DataFrame, settings: Activity
              ) -> dict[str, Any]:
    """The numbers of activity.json.

    Parameters
    ----------
    result : ActivityResult
    consistency : DataFrame
        From `consistency.measure_consistency`.
    settings : Activity
    """
    compounds, doses = result.compounds, result.doses
    tested = doses[doses["active"] != UNTESTED]
    return {
        "threshold": settings.threshold,
        "normalisation": settings.normalisation,
        "compounds": _counts(compounds["active"]),
        "by_concentration_uM": {
            name: _counts(part.groupby("Metadata_Compound")["active"].max())
            for name, part in tested.groupby(_steps(tested["Metadata_Concentration_uM"]))},
        "by_panel": {str(panel): _counts(part.groupby("Metadata_Compound")["active"].max())
                     for panel, part in tested.groupby("Metadata_Panel")},
        "position": result.position,
        "mechanisms": {"tested": len(consistency),
                       "consistent": int((consistency["consistent"] == ACTIVE).sum())},
        "warnings": list(result.warnings),
    }


def _counts(active: pd.Series) -> dict[str, Any]:
    tested, hits = int((active != UNTESTED).sum()), int((active == ACTIVE).sum())
    return {"tested": tested, "active": hits, "untested": len(active) - tested,
            "share_active": hits / tested if tested else None}


def _steps(dose: pd.Series) -> pd.Series:
    """Doses as they are named; many different ones to the next half of a decade."""
    known = dose.where(dose > 0)
    if known.nunique() > MOST_DOSES:
        known = 10 ** (np.round(2 * np.log10(known)) / 2)
    return known.map(lambda value: f"{value:.3g}" if np.isfinite(value) else "none")
