"""Draw what a person reads: the model's report and the screen's own page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from moascope.evaluation.active import ranks_inactive
from moascope.explanation.shares import SHARES
from moascope.features.table import load_features
from moascope.layout.page import SCREEN_PAGE, render_screen_page
from moascope.layout.wells import well_table
from moascope.learning.final import load_predictions, run_of
from moascope.learning.folds import read_folds
from moascope.learning.joining import join_examples
from moascope.learning.model import read_model, verdict_of
from moascope.params import Params
from moascope.report.activity import read_activity
from moascope.report.page import write_report
from moascope.report.predicted import PAGE as PREDICTIONS_PAGE
from moascope.report.predicted import prediction_page
from moascope.report.summary import PAGE
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.tracking.evaluations import log_pages
from moascope.work.files import write_atomically, write_csv

DIGITS = 6


def report(params: Params, evaluated: Path, trained: Path, embedded: Path, screen: Path,
           split: Path, layout: Path, prepared: Path, study: Path, activity: Path,
           out: Path) -> str:
    """Draw report.html from what evaluate wrote, screen.html from what split measured.

    And predictions.html, on the compounds that nobody has annotated.
    """
    table, read = load_features(embedded, on_disk=embedded), read_screen(screen)
    examples = join_examples(table, read.layout, read_folds(split))
    metrics = json.loads(evaluated.read_text())
    found = read_activity(activity)
    write_report(out / PAGE, metrics, load_predictions(trained), examples, prepared, study, found)
    # The model is registered with what its evaluation found only after this.
    model = replace(read_model(trained / "model"), ranks_inactive=ranks_inactive(metrics),
                    verdict=verdict_of(metrics["above_chance"], metrics["useful"]))
    annotated = {name for names in examples.groups["Metadata_Compound"]
                 for name in str(names).split("|")}
    page = prediction_page(model, read, table, found.compounds, prepared,
                           known=annotated, simulated=metrics.get("source") == "simulated")
    write_atomically(out / PREDICTIONS_PAGE, page.text)
    write_csv(out / SHARES, page.shares, DIGITS)
    labels = label_screen(read, params.target)
    write_atomically(out / SCREEN_PAGE, render_screen_page(
        json.loads(layout.read_text()), labels, well_table(read, labels),
        pd.read_parquet(split / "groups.parquet"), params.seed))
    log_pages(params, run_of(trained), out, metrics, {"screen": screen, "trained": trained})
    return (f"the model's report is {out / PAGE}, the screen's page is {out / SCREEN_PAGE}, "
            f"compounds without annotation are on {out / PREDICTIONS_PAGE}")
