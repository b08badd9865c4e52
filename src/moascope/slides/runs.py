"""One arm in its folder and in its MLflow run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moascope.slides.arms import BY_COMPOUND, BY_IMAGE
from moascope.text import bracketed
from moascope.work.files import write_csv, write_json

DIGITS = 6


def write_arm(out: Path, scores: dict[str, Any], curves: pd.DataFrame | None = None,
              predictions: pd.DataFrame | None = None) -> None:
    """Write scores.json, curves.csv and predictions.parquet; the tables of no run are empty."""
    none = pd.DataFrame()
    write_json(out / "scores.json", scores)
    write_csv(out / "curves.csv", none if curves is None else curves, DIGITS)
    (none if predictions is None else predictions).to_parquet(out / "predictions.parquet",
                                                              index=False)


def log_arm(scores: dict[str, Any], curves: pd.DataFrame, out: Path) -> None:
    """Add an arm's scores and learning curves to the active run.

    Parameters
    ----------
    scores : dict
        As in scores.json. Those of the random split by image begin with `leaky.`.
    curves : DataFrame
        `split`, `side`, `epoch`, `loss`, `average_precision`.
    out : Path
        The arm's folder, logged as it is.
    """
    import mlflow

    from moascope.tracking.numbers import headline_metrics
    from moascope.tracking.runs import log_curve

    honest, leaky = scores[BY_COMPOUND], scores[BY_IMAGE]
    mlflow.set_tags({"arm": scores["arm"], "valid": "true", "mlflow.note.content": note(scores)})
    if honest["compound"]:
        mlflow.log_metrics(headline_metrics(honest["compound"]))
    if leaky["compound"]:
        mlflow.log_metric("leaky.compound.average_precision",
                          leaky["compound"]["average_precision"])
    mean = curves.groupby(["split", "side", "epoch"])[["loss", "average_precision"]].mean()
    for (kind, side), rows in mean.groupby(level=["split", "side"]):
        prefix = "" if kind == BY_COMPOUND else "leaky."
        for column in rows:
            log_curve(f"{prefix}{column}/{side.replace(' ', '_')}",
                      rows.droplevel(["split", "side"])[column].dropna().to_dict())
    mlflow.log_artifacts(str(out), "baseline")


def headline(scores: dict[str, Any]) -> str:
    """The arm's result in one sentence."""
    said = []
    for split in (BY_COMPOUND, BY_IMAGE):
        own = scores[split]["compound"]
        if own is None:
            said.append(f"{split} too few classes to score")
            continue
        said.append(
            f"{'' if scores[split]['valid'] else 'INVALID '}{split} "
            f"{own['average_precision']:.3f}{bracketed(own)} at a prevalence "
            f"of {own['prevalence']:.3f}")
    return f"average precision over compounds: {'; '.join(said)}"


def note(scores: dict[str, Any]) -> str:
    """The run's description in Markdown."""
    return (f"**baseline {scores['arm']}**, target {scores['target']}, {scores['images']} images "
            f"of {scores['size']} pixels: {headline(scores)}.\n\nMetrics that begin with `leaky.` "
            "come from the slides' random split by image and are invalid: images of the same "
            "compound are on both sides.\n")
