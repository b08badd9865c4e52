"""The result of a model in the run that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moascope.evaluation.protocol import headline
from moascope.params import Head, Params
from moascope.tracking.comparison import NOTE, headline_metrics, links, model_name
from moascope.tracking.runs import flat_numbers, log_folder, resume_run
from moascope.work.files import rounded


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

    numbers = flat_numbers({
        key: metrics[key] for key in ("out_of_fold", "held_out", "baselines", "mechanisms")
    } | {"invalid_random_image_split": metrics.get("random_image_split", {})})
    import yaml

    tuned = yaml.safe_dump(metrics["head"])
    baselines = metrics["baselines"]
    headlines = headline_metrics(metrics["out_of_fold"]["compound"],
                                 baselines["scores"][baselines["best"]]["average_precision"])
    name = model_name(metrics["backbone"], Head(**metrics["head"]))
    with resume_run(params, run_id, name, "evaluate", inputs) as active:
        mlflow.log_metrics(rounded(numbers) | headlines)
        mlflow.set_tags({
            NOTE: note(metrics, tuned, links(active.info.experiment_id, active.info.run_id)),
            "above_chance": str(metrics["above_chance"]).lower(),
            "useful": str(metrics["useful"]).lower(),
        })
        log_folder(report, "evaluation")


def note(metrics: dict[str, Any], head: str, links: str) -> str:
    """The run's description in Markdown."""
    caveats = "".join(f"\n\n> {text}" for text in metrics["caveats"] + metrics["warnings"])
    rows = "".join(
        f"\n| {name.replace('_', ' ')} | {score['average_precision']:.3f} |"
        for name, score in sorted(metrics["baselines"]["scores"].items())
    )
    return (f"**{metrics['target']}**: {headline(metrics)}.{caveats}\n\n{links}\n\n"
            f"| baseline | AP |\n|---|---|{rows}\n\n```yaml\n{head}```\n")
