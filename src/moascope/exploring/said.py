"""What the stages said of compounds and wells: activity, doses, predictions, and why."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.evaluation.active import WORDS, read_compounds
from moascope.evaluation.doses import DoseResponses
from moascope.explanation.shares import SHARES, Share, read_shares
from moascope.exploring.responses import NOTHING_MEASURED, sorted_responses
from moascope.learning.calls import CALL, NOVELTY, SET
from moascope.text import cause, class_name

UNTESTED, UNPREDICTED = "not tested", "not predicted"
PREDICTIONS = "predictions.html"
PAGES = ("report.html", PREDICTIONS, "screen.html")
# As predictions.html.jinja writes the map of a compound.
_MAP = re.compile(r'<img data-map="([^"]*)" src="data:image/jpeg;base64,([^"]*)" alt="([^"]*)"')


@dataclass(frozen=True)
class Why:
    """What the prediction of a compound rests on.

    Attributes
    ----------
    about : str
        The class that is explained, in words.
    how : str
        By which models: "out of fold" or "final model".
    shares : dict of str to list of Share
        Kind of `explanation.groups.KINDS` -> shares, the largest first.
    """

    about: str
    how: str
    shares: dict[str, list[Share]]


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
    pages : dict of str to Path
        The reports that have been made, by file name.
    responses : DoseResponses
        Sorted by compound; empty where `activity` did not measure them.
    why : dict of str to Why
        By compound.
    maps : dict of str to (bytes, str)
        By compound: the picture (JPEG) that predictions.html has of what speaks for its class in
        its image, and what it shows in words.
    """

    activity: dict[str, dict[str, object]]
    predictions: dict[str, dict[str, object]]
    wells: dict[tuple[str, str], str]
    pages: dict[str, Path]
    responses: DoseResponses = NOTHING_MEASURED
    why: dict[str, Why] = field(default_factory=dict)
    maps: dict[str, tuple[bytes, str]] = field(default_factory=dict)


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
    pages = {name: report / "report" / name for name in PAGES
             if (report / "report" / name).is_file()}
    why = (_why(read_shares(report / "report" / SHARES), target, "final model")
           | _why(read_shares(folder / SHARES), target, "out of fold"))
    return Said(activity, predictions, wells, pages, sorted_responses(report / "activity"), why,
                _maps(pages.get(PREDICTIONS)))


def _why(table: pd.DataFrame, target: str, how: str) -> dict[str, Why]:
    found: dict[str, Why] = {}
    for row in table.itertuples():
        for name in str(row.Metadata_Compound).split("|"):
            why = found.setdefault(name, Why(class_name(str(row.Class), target), how, {}))
            why.shares.setdefault(str(row.Kind), []).append(
                Share(str(row.Kind), str(row.Group), float(row.Log_Odds), float(row.Without)))
    return found


def _maps(page: Path | None) -> dict[str, tuple[bytes, str]]:
    if page is None:
        return {}
    return {html.unescape(name): (base64.b64decode(picture), html.unescape(alt))
            for name, picture, alt in _MAP.findall(page.read_text("utf-8"))}


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
