"""The result of a model in the run that trained it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from moascope.evaluation.chemistry import INPUTS
from moascope.evaluation.protocol import headline
from moascope.params import Head, Params
from moascope.tracking.comparison import NOTE, PARENT, links, model_name
from moascope.tracking.endings import process_tag
from moascope.tracking.numbers import evaluation_metrics, headline_metrics
from moascope.tracking.runs import log_folder, resume_run

if TYPE_CHECKING:
    from mlflow.entities import Run


BASELINE_NOTE = ("A baseline, which sees no biology: a model is useful only where it is better "
                 "than every one of them.")
STRUCTURE_NOTE = ("Sees the structure of the compound and no picture, on the same folds as the "
                  "model.")
REFERENCE_NOTE = ("A reference: a simple model on the same features and folds, without tuning. The "
                  "network earns its place where it is better.")


def log_evaluation(params: Params, run_id: str, report: Path, metrics: dict[str, Any],
                   inputs: dict[str, Path]) -> None:
    """Add the result of a model to the run that trained it.

    Parameters
    ----------
    params : Params
    run_id : str
        Of the training.
    report : Path
        Folder whose files become the artifacts `evaluation`.
    metrics : dict
        As in metrics.json.
    inputs : dict of str to Path
        What the scores were computed from.
    """
    import mlflow

    name = model_name(metrics["backbone"], Head(**metrics["head"]))
    with resume_run(params, run_id, name, "evaluate", inputs) as active:
        mlflow.log_metrics(evaluation_metrics(metrics))
        mlflow.set_tags({
            NOTE: note(metrics, yaml.safe_dump(metrics["head"]),
                       links(active.info.experiment_id, active.info.run_id)),
            "above_chance": str(metrics["above_chance"]).lower(),
            "useful": str(metrics["useful"]).lower(),
        })
        log_folder(report, "evaluation")
        log_baselines(active, metrics)


def log_baselines(model: Run, metrics: dict[str, Any]) -> None:
    """Give every baseline and reference a run next to the model's, for the comparison of runs.

    Parameters
    ----------
    model : mlflow.entities.Run
        The model's run. Baselines come below the same parent; where one is there already, from an
        earlier evaluation on the same data and folds, its numbers are brought up to date.
    metrics : dict
        As in metrics.json.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    experiment = model.info.experiment_id
    parent = model.data.tags.get(PARENT, model.info.run_id)
    known = {run.data.tags["baseline"]: run.info.run_id for run in client.search_runs(
        [experiment], f"tags.`{PARENT}` = '{parent}' and tags.baseline LIKE '%'")}
    prevalence = metrics["out_of_fold"]["compound"]["prevalence"]
    now = int(time.time() * 1000)
    shown = [("baseline", name, name, score,
              STRUCTURE_NOTE if name in INPUTS else BASELINE_NOTE)
             for name, score in sorted(metrics["baselines"]["scores"].items())]
    shown += [("reference", name, f"reference {name}", score, REFERENCE_NOTE)
              for name, score in sorted((metrics.get("references") or {}).items())]
    for kind, name, tag, score, said in shown:
        run_id = known.get(tag) or client.create_run(
            experiment, run_name=f"{kind} {name.replace('_', ' ')}", tags={
                PARENT: parent, "stage": "evaluate", "baseline": tag, **process_tag(),
                NOTE: said,
            }).info.run_id
        client.log_batch(run_id, metrics=[
            Metric(key, value, now, 0)
            for key, value in headline_metrics({"prevalence": prevalence} | score).items()])
        client.set_terminated(run_id)


def log_pages(params: Params, run_id: str, pages: Path, metrics: dict[str, Any],
              inputs: dict[str, Path]) -> None:
    """Add the pages that people read to the run that trained the model.

    Parameters
    ----------
    params : Params
    run_id : str
    pages : Path
        Folder of the pages; they lie next to the scores, in the artifacts `evaluation`.
    metrics : dict
        As in metrics.json.
    inputs : dict of str to Path
        What the pages are drawn from.
    """
    name = model_name(metrics["backbone"], Head(**metrics["head"]))
    with resume_run(params, run_id, name, "report", inputs):
        log_folder(pages, "evaluation")


def note(metrics: dict[str, Any], head: str, links: str) -> str:
    """The run's description in Markdown."""
    caveats = "".join(f"\n\n> {text}" for text in metrics["caveats"] + metrics["warnings"])
    rows = "".join(
        f"\n| {name.replace('_', ' ')} | {score['average_precision']:.3f} |"
        for name, score in [*sorted(metrics["baselines"]["scores"].items()),
                            *((f"reference {name}", score) for name, score in
                              sorted((metrics.get("references") or {}).items()))]
    )
    return (f"**{metrics['target']}**: {headline(metrics)}.{caveats}\n\n{links}\n\n"
            f"| baseline or reference | AP |\n|---|---|{rows}\n\n```yaml\n{head}```\n")
