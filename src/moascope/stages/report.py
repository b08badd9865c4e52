"""Draw what a person reads: the model's report and the screen's own page."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from moascope.layout.page import SCREEN_PAGE, render_screen_page
from moascope.layout.wells import well_table
from moascope.learning.examples import load_examples
from moascope.learning.final import load_predictions, run_of
from moascope.params import Params
from moascope.report.activity import read_activity
from moascope.report.page import write_report
from moascope.report.summary import PAGE
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.tracking.evaluations import log_pages
from moascope.work.files import write_atomically


def report(params: Params, evaluated: Path, trained: Path, embedded: Path, screen: Path,
           split: Path, layout: Path, prepared: Path, study: Path, activity: Path,
           out: Path) -> str:
    """Draw report.html from what evaluate wrote, and screen.html from what split measured."""
    examples = load_examples(embedded, screen, split)
    metrics = json.loads(evaluated.read_text())
    write_report(out / PAGE, metrics, load_predictions(trained), examples, prepared, study,
                 read_activity(activity))
    read = read_screen(screen)
    labels = label_screen(read, params.target)
    write_atomically(out / SCREEN_PAGE, render_screen_page(
        json.loads(layout.read_text()), labels, well_table(read, labels),
        pd.read_parquet(split / "groups.parquet"), params.seed))
    log_pages(params, run_of(trained), out, metrics, {"screen": screen, "trained": trained})
    return f"the model's report is {out / PAGE}, the screen's page is {out / SCREEN_PAGE}"
