"""The report that a biologist reads: one page that stands alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.drawing.figures import draw
from moascope.drawing.maps import plate_figure
from moascope.drawing.page import render_page
from moascope.learning.examples import WELL_KEY, Examples
from moascope.report import figures
from moascope.report.abstention import abstention_section
from moascope.report.activity import ActivityFound, activity_section
from moascope.report.compounds import ranked_compounds
from moascope.report.explanation import explanation_section
from moascope.report.oracle import oracle_sentence
from moascope.report.plates import MOST_PLATES, chosen_plates, plate_maps, quality_counts
from moascope.report.scores import compared, confusion, score_tables, threshold_words
from moascope.report.study import study_section
from moascope.report.words import (
    answer,
    caveats,
    is_activity,
    main_scores,
    measured,
    methods,
    question,
    tiles,
    verdict,
)
from moascope.screen.question import Question
from moascope.text import class_name, number, tidy
from moascope.work.files import write_atomically

TEMPLATE = "report.html.jinja"


def write_report(path: Path, metrics: dict[str, Any], predictions: dict[str, pd.DataFrame],
                 examples: Examples, prepared: Path, study: Path | None = None,
                 activity: ActivityFound | None = None) -> None:
    """Write the report as one HTML file without scripts or anything to load from elsewhere.

    Parameters
    ----------
    path : Path
        The file; it is there whole or not at all. The same input gives the same bytes.
    metrics : dict
        As in metrics.json; what is absent or empty is left out of the page.
    predictions : dict
        "site", "well", "compound" -> DataFrame with `Metadata_` columns, `P_<class>`, `Predicted`,
        `Metadata_Group`, `Label`, `Split`, `Threshold`.
    examples : Examples
        Sites.
    prepared : Path
        Folder `data/prepare`. Without it there are no pictures and no QC maps.
    study : Path, optional
        Folder `reports/tune`. Without it, or without trials, nothing is said of the study.
    activity : ActivityFound, optional
        Without it, or where no compound could be tested, nothing is said of activity.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render_report(metrics, predictions, examples, prepared, study,
                                         activity))


def render_report(metrics: dict[str, Any], predictions: dict[str, pd.DataFrame],
                  examples: Examples, prepared: Path, study: Path | None = None,
                  activity: ActivityFound | None = None) -> str:
    """The text of the report; see `write_report`."""
    target = examples.question.target

    def said(name: str) -> str:
        return class_name(name, target)

    unseen = {level: table[table["Split"] == "out_of_fold"]
              for level, table in predictions.items()}
    asked = examples.question
    classes = list(asked.classes)
    kind, sentence = verdict(metrics)
    main = main_scores(metrics)
    unit, seen = asked.unit, measured(metrics)
    ranked = ranked_compounds(predictions, examples, prepared, said)
    return render_page(
        "moascope.report", TEMPLATE,
        metrics=metrics, main=main, target=said(target) if target != "moa" else "mechanism",
        unit=unit, seen=seen, binary=asked.binary, simulated=metrics.get("source") == "simulated",
        question=question(metrics), kind=kind, verdict=sentence, answer=answer(metrics),
        tiles=tiles(metrics), caveats=caveats(metrics),
        curve=_curve(unseen["compound"], asked, said, main),
        comparison=_comparison(metrics), leak=metrics.get("random_image_split"),
        oracle=oracle_sentence(metrics),
        confusions=[found for level, title in (("compound", f"By {unit}"), ("site", f"By {seen}"))
                    if (found := confusion(title, (metrics.get("out_of_fold") or {}).get(level),
                                           classes, said))],
        thresholds={f"By {unit}": threshold_words(unseen["compound"], asked.binary,
                                                  said(classes[1])),
                    f"By {seen}": threshold_words(unseen["site"], asked.binary,
                                                said(classes[1]))},
        tables=score_tables(metrics, said),
        abstention=abstention_section(metrics, said),
        explanation=explanation_section(metrics, said),
        reliability=_reliability(unseen["compound"], asked, said),
        plates=_plates(predictions, examples, said, prepared),
        plate_count=examples.meta["Metadata_Plate"].nunique(), most_plates=MOST_PLATES,
        quality=quality_counts(prepared), ranked=ranked,
        picture_channels=next((one.pictures[0].channels for one in ranked if one.pictures), ()),
        picture_controls=any(len(one.pictures) > 1 for one in ranked),
        positive=said(classes[1]), activity=is_activity(metrics),
        tested_activity=activity_section(activity, metrics),
        methods=methods(metrics, bool(examples.controls.any())),
        study=study_section(study) if study else {},
    )


def _curve(units: pd.DataFrame, asked: Question, said: Callable[[str], str],
           scores: dict[str, Any]) -> str | None:
    units = units[asked.counts(asked.index(units["Label"]))]
    present = [name for name in asked.scored_names if (units["Label"] == name).any()]
    if not present or units["Label"].nunique() < 2:
        return None
    alt = (f"Precision-recall curve by {asked.unit}. Average precision "
           f"{number(scores.get('average_precision'))}, prevalence "
           f"{number(scores.get('prevalence'))}, a random list gives "
           f"{number(scores.get('null_mean'))} on average.")
    return draw("curve", alt, partial(figures.precision_recall_figure, units, present,
                                              said, scores))


def _comparison(metrics: dict[str, Any]) -> str | None:
    rows = compared(metrics)
    if not rows:
        return None
    alt = "Average precision with 95 % interval: " + "; ".join(
        f"{row.name} {number(row.scores.get('average_precision'))}" for row in rows) + "."
    return draw("comparison", alt,
                        partial(figures.comparison_figure, rows, main_scores(metrics)))


def _reliability(units: pd.DataFrame, asked: Question,
                 said: Callable[[str], str]) -> str | None:
    bins, *words = figures.reliability_of(units, asked, said)
    if len(bins) < 2:
        return None
    alt = f"Reliability by {asked.unit}: " + "; ".join(
        f"stated {row.stated:.2f}, observed {row.observed:.2f}" for row in bins.itertuples()) + "."
    return draw("reliability", alt, partial(figures.reliability_figure, bins, *words))


def _plates(predictions: dict[str, pd.DataFrame], examples: Examples,
            said: Callable[[str], str], prepared: Path) -> list[dict[str, str]]:
    wells, asked = predictions["well"], examples.question
    names = tuple(said(name) for name in asked.classes)
    if asked.binary:
        score = wells[asked.probabilities[1]]
        title = f"Mean probability of {names[1]}"
    else:
        of_class = wells[asked.probabilities].to_numpy(float)
        score = of_class[np.arange(len(wells)), asked.index(wells["Label"])]
        title = "Probability of the actual class"
    scores = wells[WELL_KEY].assign(Score=score)
    found = []
    for index, plate in enumerate(chosen_plates(examples.meta)):
        maps = plate_maps(plate, examples, scores, title, names, prepared)
        own = examples.meta[examples.meta["Metadata_Plate"] == plate].iloc[0]
        alt = f"Heat maps of plate {tidy(plate)}: " + ", ".join(one.title for one in maps) + "."
        place = ", ".join(tidy(text) for text in (own["Metadata_Batch"], own["Metadata_Panel"])
                          if text)
        found.append({"name": tidy(plate), "place": place, "drawing": draw(
            f"plate{index}", alt, partial(plate_figure, maps))})
    return found
