"""Test which compounds look unlike the negative controls, and which mechanisms look like one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from moascope.drawing.figures import save
from moascope.evaluation.active import summarise
from moascope.evaluation.activity import measure_activity
from moascope.evaluation.consistency import measure_consistency
from moascope.evaluation.doses import CURVES_FILE, DOSES_FILE, measure_doses
from moascope.features.table import load_features
from moascope.learning.folds import read_folds
from moascope.learning.joining import join_examples, with_layout
from moascope.params import Params
from moascope.report.activity import activity_figure, share_words
from moascope.screen.tables import read_screen
from moascope.work.files import write_csv, write_json

DIGITS = 6


def activity(params: Params, embedded: Path, screen: Path, split: Path, report: Path) -> str:
    """Write activity, dose-responses, consistency per mechanism, and a picture."""
    table, layout = load_features(embedded, on_disk=embedded), read_screen(screen).layout
    settings = params.activity
    known = replace(table, meta=with_layout(table.meta, layout))
    result = measure_activity(known, settings, params.seed)
    responses = measure_doses(known, settings, params.seed)
    consistency = measure_consistency(join_examples(table, layout, read_folds(split)),
                                      result.compounds, settings, params.seed)
    summary = summarise(result, consistency, settings)
    write_csv(report / "activity.csv", result.doses, DIGITS)
    write_csv(report / "compounds.csv", result.compounds, DIGITS)
    write_csv(report / "consistency.csv", consistency, DIGITS)
    write_csv(report / DOSES_FILE, responses.doses, DIGITS)
    write_csv(report / CURVES_FILE, responses.curves, DIGITS)
    write_json(report / "activity.json", summary, DIGITS)
    save(report / "activity.png", "activity",
         partial(activity_figure, result.compounds, summary))
    for warning in result.warnings:
        print(f"activity: {warning}")
    return share_words(summary)
