"""The evaluation protocol: everything that is computed for a model, and one sentence on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.evaluation.abstention import evaluate_abstention
from moascope.evaluation.active import score_active
from moascope.evaluation.baselines import evaluate_baselines
from moascope.evaluation.batches import predict_unseen_batches, score_unseen_batches
from moascope.evaluation.caveats import caveats_of
from moascope.evaluation.chemistry import evaluate_chemistry, with_chemistry
from moascope.evaluation.controls import evaluate_mechanisms
from moascope.evaluation.leak import evaluate_leak
from moascope.evaluation.oracle import evaluate_oracle
from moascope.evaluation.references import evaluate_references, recommended_head
from moascope.evaluation.scores import evaluate_predictions
from moascope.explanation.out_of_fold import evaluate_groups
from moascope.explanation.shares import share_table
from moascope.learning.examples import Examples
from moascope.learning.model import read_model
from moascope.params import Params
from moascope.screen.description import read_description
from moascope.screen.tables import read_screen
from moascope.text import bracketed


def protocol(params: Params, examples: Examples, predictions: dict[str, pd.DataFrame],
             trained: Path, split: Path, screen: Path, activity: pd.DataFrame
             ) -> tuple[dict[str, Any], pd.DataFrame]:
    """All numbers of metrics.json, and what the prediction of every unseen compound rests on.

    Parameters
    ----------
    params : Params
    examples : Examples
        Sites.
    predictions : dict
        Level -> the predictions that `train` wrote.
    trained, split, screen : Path
        Folders `data/train`, `data/split`, `data/acquire`.
    activity : DataFrame
        `evaluation.activity.ActivityResult.compounds`.

    Returns
    -------
    metrics : dict
        What was evaluated (`target`, `classes`, `unit`, `head`, ...), `out_of_fold` and
        `held_out` scores by level, `by_panel`, `by_concentration_uM`, `by_mechanism`,
        `by_action`, `activity`, `baselines`, `references`, `recommended_head`, `mechanisms`,
        `abstention`, `explanation`, `unseen_batch`, `chemistry`, `random_image_split`, `oracle` (of
        a simulated screen), and the verdicts `above_chance` and `useful`.
    shares : DataFrame
        `explanation.compounds.share_table`, in calibrated log-odds.
    """
    settings, seed, question = params.evaluate, params.seed, examples.question
    model = read_model(trained / "model")
    with (split / "target.json").open() as file:
        said = json.load(file)
    description = read_description(screen)
    compounds = predictions["compound"]
    in_folds = compounds[compounds["Split"] == "out_of_fold"].reset_index(drop=True)
    # Asked twice, fitted once: it takes a head per batch and fold.
    unseen = predict_unseen_batches(examples, model.head, model.train, seed)
    metrics: dict[str, Any] = {
        "target": question.target,
        "classes": list(question.classes),
        "unit": question.unit,
        "source": params.acquire.source,
        "licence": description.get("licence", ""),
        "citation": description.get("citation", ""),
        "non_commercial": bool(description.get("non_commercial")),
        "backbone": model.embed.backbone,
        "not_testable": list(question.untestable),
        "warnings": said["warnings"],
        "caveats": caveats_of(description, params.acquire.source, question.unit,
                              len(set(examples.meta["Metadata_Batch"][examples.in_folds]))),
        "folds": params.split.folds,
        "repeats": examples.repeats,
        "split_by": params.split.group,
        "seed": seed,
        "head": model.head.described(),
        **evaluate_predictions(predictions, examples, settings, seed),
        "activity": score_active(in_folds, activity, question, settings, seed),
        "baselines": evaluate_baselines(in_folds, examples, model.head, model.train, settings,
                                        seed),
        "references": evaluate_references(in_folds, examples, settings, seed),
        "mechanisms": evaluate_mechanisms(examples, settings, seed),
        "abstention": evaluate_abstention(compounds, examples, model, seed, unseen),
        "explanation": evaluate_groups(examples, model.head, model.train, settings, seed),
        "unseen_batch": score_unseen_batches(unseen, question, settings, seed),
    }
    if question.unit == "compound":
        chemistry = evaluate_chemistry(
            in_folds, examples, read_screen(screen, tables_only=True).annotations, settings, seed)
        metrics["baselines"] = with_chemistry(metrics["baselines"], chemistry)
        metrics["warnings"] = metrics["warnings"] + chemistry.pop("warnings")
        metrics["chemistry"] = {key: value for key, value in chemistry.items()
                                if key != "baselines"}
        metrics["random_image_split"] = evaluate_leak(examples, model.head, model.train, settings,
                                                      seed)
    metrics["recommended_head"] = recommended_head(metrics["references"], model.head)
    main = metrics["out_of_fold"]["compound"]
    # Last: nothing above may depend on the truth.
    if params.acquire.source == "simulated" and (
            oracle := evaluate_oracle(examples, screen, main, settings, seed)):
        metrics["oracle"] = oracle
    metrics["above_chance"] = main["p"] < 0.05
    metrics["useful"] = metrics["baselines"]["useful"]
    if metrics["explanation"] is None:
        return metrics, share_table({}, {})
    shares = metrics["explanation"].pop("shares")
    shares["Log_Odds"] *= model.calibrations["compound"].slope
    return metrics, shares


def headline(metrics: dict[str, Any]) -> str:
    """The result in one sentence."""
    main = metrics["out_of_fold"]["compound"]
    chance = "above chance" if metrics["above_chance"] else "not above chance"
    return (
        f"average precision {main['average_precision']:.3f}"
        f"{bracketed(main)} over {main['compounds']} unseen "
        f"{metrics['unit']}s, where a random list gives {main['null_mean']:.3f} on average "
        f"(prevalence {main['prevalence']:.3f}); permutation "
        f"p = {main['p']:.3g}: {chance}; best baseline {metrics['baselines']['best']} "
        f"{metrics['baselines']['scores'][metrics['baselines']['best']]['average_precision']:.3f}"
    )
