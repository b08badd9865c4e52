"""Gather every arm of baseline, and the main model, into one table and one picture."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from moascope.learning.joining import load_examples
from moascope.params import NETWORK, Head, Params
from moascope.slides.arms import BY_COMPOUND, epochs_to_overfit
from moascope.slides.convnets import ARMS
from moascope.slides.main_model import head_curves
from moascope.slides.results import (
    MODEL,
    curves_picture,
    facts,
    read_arm,
    results_markdown,
    results_table,
)
from moascope.work.files import write_atomically, write_csv


def compare(params: Params, baselines: Path, evaluated: Path, embedded: Path, screen: Path,
            split: Path, report: Path) -> str:
    """Write results.csv, results.md and curves.png of all arms and the main model."""
    arms = [read_arm(baselines / name) for name in params.baseline.arms]
    metrics = json.loads(evaluated.read_text())
    examples = load_examples(embedded, screen, split)
    head = Head(**metrics["head"])
    # Only a network learns in epochs.
    main = head_curves(examples, head, params.train, params.seed) if head.head == NETWORK else None
    done = [scores["arm"] for scores in arms if "not_run" not in scores]
    curves = {name: pd.read_csv(baselines / name / "curves.csv") for name in done}
    table = results_table(arms, metrics, {} if main is None else {
        "parameters": main.parameters,
        "epochs_to_overfit": epochs_to_overfit(main.curves),
        "asked_after": head.epochs,
        "seconds_an_epoch": main.seconds,
    })
    write_csv(report / "results.csv", table)
    write_atomically(report / "results.md", results_markdown(
        table, metrics["target"], metrics["source"] == "simulated", facts(params, arms)))
    write_atomically(report / "curves.png", curves_picture(
        curves if main is None else {**curves, MODEL: main.curves},
        {scores["arm"]: scores[BY_COMPOUND]["asked_after"] for scores in arms
         if scores["arm"] in done and ARMS[scores["arm"]].stops_early}))
    missing = [scores["arm"] for scores in arms if "not_run" in scores]
    return (f"{len(done)} of {len(arms)} arms next to the slides and the main model in {report}"
            + (f"; not run: {', '.join(missing)}" if missing else ""))
