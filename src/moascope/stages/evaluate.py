"""Score the predictions once, next to every null, and write what a person reads."""

from __future__ import annotations

from pathlib import Path

from moascope.evaluation.active import read_compounds, with_activity
from moascope.evaluation.protocol import headline, protocol
from moascope.explanation.shares import SHARES
from moascope.learning.final import load_predictions, run_of
from moascope.learning.joining import load_examples
from moascope.params import Params
from moascope.report.curves import write_curves
from moascope.report.dvc import dvc_metrics
from moascope.tracking.evaluations import log_evaluation
from moascope.work.files import write_csv, write_json

DIGITS = 6


def evaluate(params: Params, embedded: Path, screen: Path, split: Path, trained: Path,
             activity: Path, report: Path) -> str:
    """Score out-of-fold and held-out predictions next to all baselines and nulls."""
    examples = load_examples(embedded, screen, split)
    predictions = load_predictions(trained)
    compounds = read_compounds(activity)
    metrics, shares = protocol(params, examples, predictions, trained, split, screen, compounds)
    write_json(report / "metrics.json", metrics, DIGITS)
    write_json(report / "score.json", dvc_metrics(metrics))
    write_csv(report / SHARES, shares, DIGITS)
    for level, table in predictions.items():
        write_csv(report / f"predictions_{level}.csv", with_activity(table, compounds), DIGITS)
    write_curves(report, predictions, examples)
    log_evaluation(params, run_of(trained), report, metrics, {
        "features": embedded, "screen": screen, "split": split, "trained": trained})
    return headline(metrics)
