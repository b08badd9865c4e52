"""Score the predictions once, beside every null, and write what a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from moascope.evaluation.protocol import (
    ACTIVITY_CAVEAT,
    NON_COMMERCIAL_CAVEAT,
    SIMULATED_CAVEAT,
    evaluate_baselines,
    evaluate_leak,
    evaluate_mechanisms,
    evaluate_predictions,
    evaluate_unseen_batches,
)
from moascope.learning.examples import LEVELS, Examples, load_examples
from moascope.learning.nested import asked_classes
from moascope.learning.predictor import load_predictor
from moascope.params import Params
from moascope.report.curves import confusion_rows, precision_recall_rows
from moascope.report.page import write_report
from moascope.work.files import write_atomically

DIGITS = 6


def evaluate(params: Params, embedded: Path, screen: Path, split: Path, prepared: Path,
             trained: Path, study: Path, report: Path) -> str:
    """Score out-of-fold and held-out predictions beside all baselines and nulls."""
    examples = load_examples(embedded, screen, split)
    predictions = {
        level: pd.read_parquet(trained / f"predictions_{level}.parquet") for level in LEVELS
    }
    metrics = protocol(params, examples, predictions, trained, split, screen)
    report.mkdir(parents=True, exist_ok=True)
    write_atomically(report / "metrics.json",
                     json.dumps(rounded(metrics), indent=2, sort_keys=True) + "\n")
    for level, table in predictions.items():
        _write_csv(table, report / f"predictions_{level}.csv")
    out_of_fold = {level: table[table["Split"] == "out_of_fold"]
                   for level, table in predictions.items()}
    asked = [examples.classes[c] for c in asked_classes(examples)]
    _write_csv(precision_recall_rows(out_of_fold["compound"], asked), report / "pr_curve.csv")
    for level in ("site", "compound"):
        _write_csv(confusion_rows(out_of_fold[level], asked, examples.binary),
                   report / f"confusion_{level}.csv")
    write_report(report / "report.html", metrics, predictions, examples, prepared, study)
    _log(params, trained, report, metrics, embedded, screen, split)
    return headline(metrics)


def protocol(params: Params, examples: Examples, predictions: dict[str, pd.DataFrame],
             trained: Path, split: Path, screen: Path) -> dict[str, Any]:
    """All numbers of metrics.json."""
    settings, seed = params.evaluate, params.seed
    model = load_predictor(trained / "model")
    with (split / "target.json").open() as file:
        said = json.load(file)
    with (screen / "screen.json").open() as file:
        description = json.load(file)
    compounds = predictions["compound"]
    in_folds = compounds[compounds["Split"] == "out_of_fold"].reset_index(drop=True)
    metrics: dict[str, Any] = {
        "target": examples.target,
        "classes": list(examples.classes),
        "unit": examples.unit,
        "source": params.acquire.source,
        "licence": description.get("licence", ""),
        "citation": description.get("citation", ""),
        "non_commercial": bool(description.get("non_commercial")),
        "backbone": model.embed.backbone,
        "not_testable": list(examples.untestable),
        "warnings": said["warnings"],
        "caveats": said_beforehand(description, params.acquire.source, examples.unit),
        "folds": params.split.folds,
        "repeats": examples.repeats,
        "seed": seed,
        "head": model.head.model_dump(),
        **evaluate_predictions(predictions, examples, settings, seed),
        "baselines": evaluate_baselines(in_folds, examples, model.head, model.train, settings,
                                        seed),
        "mechanisms": evaluate_mechanisms(examples, model.head, model.train, settings, seed),
        "unseen_batch": evaluate_unseen_batches(examples, model.head, model.train, settings, seed),
    }
    if examples.unit == "compound":
        metrics["random_image_split"] = evaluate_leak(examples, model.head, model.train, settings,
                                                      seed)
    main = metrics["out_of_fold"]["compound"]
    metrics["above_chance"] = main["p"] < 0.05
    metrics["useful"] = metrics["baselines"]["useful"]
    return metrics


def said_beforehand(description: dict[str, Any], source: str, unit: str) -> list[str]:
    """What limits every score of a screen, whatever the scores are.

    Parameters
    ----------
    description : dict
        The screen's screen.json.
    source : str
    unit : str
        What is scored: compound, or well.
    """
    return [text for text, holds in (
        (SIMULATED_CAVEAT, source == "simulated"),
        (ACTIVITY_CAVEAT, unit == "well"),
        (description.get("caveat"), "caveat" in description),
        (NON_COMMERCIAL_CAVEAT.format(description.get("licence")),
         description.get("non_commercial")),
    ) if holds]


def headline(metrics: dict[str, Any]) -> str:
    """The result in one sentence."""
    main = metrics["out_of_fold"]["compound"]
    chance = "above chance" if metrics["above_chance"] else "not above chance"
    return (
        f"average precision {main['average_precision']:.3f} "
        f"[{main['low']:.3f}, {main['high']:.3f}] over {main['compounds']} unseen "
        f"{metrics['unit']}s at a prevalence of {main['prevalence']:.3f}; permutation "
        f"p = {main['p']:.3g}: {chance}; best baseline {metrics['baselines']['best']} "
        f"{metrics['baselines']['scores'][metrics['baselines']['best']]['average_precision']:.3f}"
    )


def rounded(value: Any) -> Any:
    """Numbers to six digits, so that the last bits of a platform make no difference to git."""
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return None if not np.isfinite(value) else round(float(value), DIGITS)
    return value


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_atomically(path, table.round(DIGITS).to_csv(index=False, lineterminator="\n"))


def _log(params: Params, trained: Path, report: Path, metrics: dict[str, Any], embedded: Path,
         screen: Path, split: Path) -> None:
    import mlflow

    from moascope.params import Head
    from moascope.tracking.comparison import NOTE, headline_metrics, links, model_name
    from moascope.tracking.runs import flat_numbers, log_folder, resume_run

    run_id = json.loads((trained / "run.json").read_text())["run_id"]
    inputs = {"features": embedded, "screen": screen, "split": split, "trained": trained}
    numbers = flat_numbers({
        key: metrics[key] for key in ("out_of_fold", "held_out", "baselines", "mechanisms")
    } | {"invalid_random_image_split": metrics.get("random_image_split", {})})
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
