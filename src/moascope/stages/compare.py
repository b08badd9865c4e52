"""Gather every arm of baseline, and the main model, into one table and one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.errors import MoascopeError
from moascope.learning.examples import load_examples
from moascope.params import Head, Params
from moascope.slides.arms import BY_COMPOUND, epochs_to_overfit
from moascope.slides.convnets import ARMS
from moascope.slides.main_model import head_curves
from moascope.slides.results import MODEL, curves_picture, results_markdown, results_table
from moascope.work.files import write_atomically


def compare(params: Params, baselines: Path, evaluated: Path, embedded: Path, screen: Path,
            split: Path, report: Path) -> str:
    """Write results.csv, results.md and curves.png of all arms and the main model."""
    arms = [_scores(baselines / name) for name in params.baseline.arms]
    metrics = json.loads(evaluated.read_text())
    examples = load_examples(embedded, screen, split)
    head = Head(**metrics["head"])
    main = head_curves(examples, head, params.train, params.seed)
    done = [scores["arm"] for scores in arms if "not_run" not in scores]
    curves = {name: pd.read_csv(baselines / name / "curves.csv") for name in done}
    table = results_table(arms, metrics, {
        "parameters": main.parameters,
        "epochs_to_overfit": epochs_to_overfit(main.curves),
        "asked_after": head.epochs,
        "seconds_an_epoch": main.seconds,
    })
    report.mkdir(parents=True, exist_ok=True)
    write_atomically(report / "results.csv", table.to_csv(index=False, lineterminator="\n"))
    write_atomically(report / "results.md", results_markdown(
        table, metrics["target"], metrics["source"] == "simulated", _facts(params, arms)))
    write_atomically(report / "curves.png", curves_picture(
        {**curves, MODEL: main.curves},
        {scores["arm"]: scores[BY_COMPOUND]["asked_after"] for scores in arms
         if scores["arm"] in done and ARMS[scores["arm"]].stops_early}))
    missing = [scores["arm"] for scores in arms if "not_run" in scores]
    return (f"{len(done)} of {len(arms)} arms beside the slides and the main model in {report}"
            + (f"; not run: {', '.join(missing)}" if missing else ""))


def _scores(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "scores.json").read_text())
    except FileNotFoundError:
        raise MoascopeError(f"There is no result of the arm '{folder.name}' in {folder}. "
                            f"Run `dvc repro baseline@{folder.name}` first.") from None


def _facts(params: Params, arms: list[dict[str, Any]]) -> str:
    settings = params.baseline
    images = max((scores.get("images", 0) for scores in arms), default=0)
    weight = (f"class weight {settings.positive_weight:g} for a hit"
              if next((scores["binary"] for scores in arms if "binary" in scores), True)
              else "balanced class weights")
    return (f"{images:,} pictures ({settings.sites} a well at most, three channels as red, green "
            f"and blue, shrunk to {settings.size} pixels a side, {settings.frozen_size} for frozen "
            f"backbones; the slides: 224), Adam, {settings.epochs} epochs, batches of "
            f"{settings.batch_size}, {weight}. Rows 'by compound' are on the main model's "
            f"{params.split.folds} folds, each compound asked of a network that never saw it; "
            "rows INVALID are on the slides' random stratified split by image, 60/20/20, where "
            "images of one compound are on both sides.")
