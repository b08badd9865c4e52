"""What the stages said of compounds and wells: activity, doses, predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.evaluation.active import WORDS, read_compounds
from moascope.learning.calls import CALL, NOVELTY, SET
from moascope.text import cause, class_name

UNTESTED, UNPREDICTED = "not tested", "not predicted"
PAGES = ("report.html", "predictions.html", "screen.html")


@dataclass(frozen=True)
class Said:
    """What is known of compounds besides their wells; what has not been made is empty.

    Attributes
    ----------
    activity : dict of str to dict
        By compound; `active` in words, `mean_average_precision`, `p_value`, `corrected_p_value`.
    predictions : dict of str to dict
        By compound: `call` and `set` in words, `probability` (of the predicted class), `novelty`,
        `how` ("out of fold", "held out", "not annotated").
    wells : dict of (str, str) to str
        Predicted class in words by plate and well.
    doses : DataFrame
        `Metadata_Compound`, `Metadata_Panel`, `Metadata_Concentration_uM`, `wells`, `distance`,
        sorted by compound; empty where `activity` did not measure them.
    pages : dict of str to Path
        The reports that there are, by file name.
    """

    activity: dict[str, dict[str, object]]
    predictions: dict[str, dict[str, object]]
    wells: dict[tuple[str, str], str]
    doses: pd.DataFrame
    pages: dict[str, Path]


def read_said(report: Path, target: str, given: Path | None = None) -> Said:
    """Read the reports of a project as far as they have been made.

    Parameters
    ----------
    report : Path
        Folder of the reports.
    target : str
        What was asked; see `text.class_name`.
    given : Path, optional
        Predictions of compounds as `moascope predict` wrote them. They are shown for compounds
        that `evaluate` did not score.

    Raises
    ------
    MoascopeError
        Where `given` cannot be used.
    """
    activity = {}
    if (report / "activity" / "compounds.csv").is_file():
        for row in read_compounds(report / "activity").to_dict("records"):
            activity[str(row["Metadata_Compound"])] = {
                **row, "active": WORDS.get(row["active"], "") or UNTESTED}
    predictions = {}
    if given is not None:
        predictions |= _predictions(_given(given), target, "moascope predict")
    wells = {}
    folder = report / "evaluate"
    if (folder / "predictions_compound.csv").is_file():
        predictions |= _predictions(_table(folder / "predictions_compound.csv"), target, "")
    if (folder / "predictions_well.csv").is_file():
        table = _table(folder / "predictions_well.csv")
        wells = {(plate, well): class_name(meant, target) for plate, well, meant in zip(
            table["Metadata_Plate"], table["Metadata_Well"], table["Predicted"], strict=True)}
    doses = report / "activity" / "doses.csv"
    pages = {name: report / "report" / name for name in PAGES
             if (report / "report" / name).is_file()}
    return Said(activity, predictions, wells,
                pd.read_csv(doses, dtype={"Metadata_Compound": str, "Metadata_Panel": str},
                            keep_default_na=False, na_values={"Metadata_Concentration_uM": [""]})
                .sort_values("Metadata_Compound", kind="stable", ignore_index=True)
                if doses.is_file() else pd.DataFrame({"Metadata_Compound": []}), pages)


def _table(path: Path) -> pd.DataFrame:
    names = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Predicted", "Split", CALL,
             SET]
    return pd.read_csv(path, dtype=dict.fromkeys(names, str), keep_default_na=False,
                       na_values={NOVELTY: [""]})


def _given(path: Path) -> pd.DataFrame:
    try:
        table = _table(path)
    except (OSError, ValueError) as error:
        raise MoascopeError(f"{path} cannot be read ({cause(error)}). Name a table that "
                            "`moascope predict` wrote.") from None
    if not {"Metadata_Compound", "Predicted"} <= set(table) or "Metadata_Well" in table:
        raise MoascopeError(f"{path} is not a table of predictions of compounds. Write one with "
                            "`moascope predict --level compound`.")
    return table


def _predictions(table: pd.DataFrame, target: str, how: str) -> dict[str, dict[str, object]]:
    found = {}
    classes = [name for name in table if name.startswith("P_")]
    values = table[classes].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    for row, of_class in zip(table.to_dict("records"), values, strict=True):
        meant = row.get(CALL) or row["Predicted"]
        if not meant:
            continue
        column = f"P_{row['Predicted']}"
        said = {"call": class_name(meant, target),
                "predicted": class_name(row["Predicted"], target),
                "set": ", ".join(class_name(one, target)
                                 for one in str(row.get(SET, "")).split("|") if one),
                "probability": (float(of_class[classes.index(column)]) if column in classes
                                else np.nan),
                "novelty": row.get(NOVELTY, np.nan),
                "how": how or str(row.get("Split", "")).replace("_", " ")}
        # Several names of one compound are joined.
        found |= dict.fromkeys(row["Metadata_Compound"].split("|"), said)
    return found
