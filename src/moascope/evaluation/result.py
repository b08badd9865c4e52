"""The result of a model on a screen: every score, null and caveat, and one sentence on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

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
from moascope.learning.examples import Examples
from moascope.learning.predictor import load_predictor
from moascope.params import Params


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
