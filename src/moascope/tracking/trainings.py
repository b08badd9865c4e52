"""The training of a model in its MLflow run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moascope.params import Head
from moascope.tracking.numbers import flat_numbers
from moascope.tracking.runs import log_curve


def log_training(head: Head, curves: list[dict[str, Any]], out: Path, table: Path) -> None:
    """Add head, curves and files of a training to the active run.

    Parameters
    ----------
    head : Head
    curves : list of dict
        `panel`, `epoch`, `loss`.
    out : Path
        `data/train`.
    table : Path
        The same curves as a CSV file.
    """
    import mlflow

    for panel in sorted({curve["panel"] for curve in curves}):
        own = [curve for curve in curves if curve["panel"] == panel]
        log_curve(f"loss/{panel or 'pooled'}", {c["epoch"]: c["loss"] for c in own})
    mlflow.log_params({f"head.{key}": value for key, value in head.described().items()})
    mlflow.log_artifacts(str(out / "keras"), "keras")
    mlflow.log_artifact(str(table))


def log_fine_tuning(scores: dict[str, Any], loss: dict[int, float], out: Path) -> None:
    """Add the comparison of the fine-tuned network with the frozen head to the active run."""
    import mlflow

    mlflow.log_metrics(flat_numbers({"fine_tune": scores}))
    mlflow.set_tag("fine_tune", scores["verdict"])
    log_curve("loss/fine_tuned", loss)
    for file in sorted(out.glob("fine_tune*")):
        mlflow.log_artifact(str(file), "fine_tune")
