"""The head that is registered, and what it and the heads of the folds predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.learning.calibration import Calibration, calibrate_scored
from moascope.learning.examples import LEVELS, Examples, averaging
from moascope.learning.head import FittedHeads, save_head
from moascope.learning.model import TrainedModel, identities, save_model
from moascope.learning.nested import out_of_fold
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows
from moascope.learning.predictions import prediction_table
from moascope.learning.simple import Fitted
from moascope.learning.trust import Trust, out_of_fold_logits
from moascope.opening import MOST_YAML, parse_yaml, read_file, undamaged
from moascope.params import TUNED, Embed, Head, Params
from moascope.work.files import write_json

CURVE_POINTS = 20


def chosen_heads(tuned: Path, params: Params) -> tuple[Head, dict[tuple[int, int], Head]]:
    """The head of the final model, and that of each outer fold, (repeat, fold) -> Head.

    Parameters
    ----------
    tuned : Path
        What the study chose: tuned.yaml.
    params : Params
        `train` is read; see `resolve`.

    Raises
    ------
    MoascopeError
        Where the file is damaged.
    """
    with undamaged(tuned, "Run `dvc repro tune` again."):
        chosen = parse_yaml(read_file(tuned, MOST_YAML).decode())
        folds = {(int(key.split("/")[0]), int(key.split("/")[1])): resolve(params, values)
                 for key, values in chosen["folds"].items()}
        return resolve(params, chosen["final"]), folds


def resolve(params: Params, chosen: dict[str, Any]) -> Head:
    """A head as params.yaml's `train` specifies it, the study's choice where that is `tuned`.

    Parameters
    ----------
    params : Params
    chosen : dict
        Hyperparameter -> value: the study's choice.
    """
    pinned = {
        name: value
        for name, value in params.train.model_dump().items()
        if name in Head.model_fields and value != TUNED
    }
    if params.train.head not in ("network", TUNED):
        # The study chose for a network; a simple model takes what the references take.
        chosen = {"normalisation": "plate"}
    return Head(**{**chosen, **pinned})


def fit_final(
    examples: Examples, head: Head, outer_logits: dict[tuple[int, int], np.ndarray], params: Params
) -> tuple[dict[str, Fitted], list[dict], dict[str, Calibration]]:
    """Train on everything outside the hold-out; calibrate by the predictions of the outer models.

    Parameters
    ----------
    examples : Examples
        Sites.
    head : Head
    outer_logits : dict
        (repeat, fold) -> ndarray, float32, [n, C], from `nested.nested`.
    params : Params
        `train` and `seed` are read.

    Returns
    -------
    heads : dict
        Panel -> heads, one of each.
    curves : list of dict
        `panel`, `epoch`, `loss`; empty for a simple model.
    calibrations : dict
        Level -> Calibration.
    """
    rows, _ = training_rows(examples, head)
    heads = fit_by_panel(rows, rows.in_folds[None], head, params.train, params.seed,
                         watch_every=max(1, head.epochs // CURVE_POINTS))
    curves = [
        {"panel": panel, "epoch": int(epoch), "loss": float(loss)}
        for panel, fitted in heads.items() if isinstance(fitted, FittedHeads)
        for epoch, loss in zip(fitted.epochs, fitted.loss, strict=True)
    ]
    calibrations = {}
    for level in LEVELS:
        # One model is served, so that the logits of single models are calibrated. Their mean over
        # the repeats varies less, and would give a slope that is too steep for one model.
        logits, compound = out_of_fold_logits(examples, level, outer_logits)
        calibrations[level] = calibrate_scored(
            examples.group_label[compound], logits, compound, examples.question)
    return heads, curves, calibrations


def predictions_table(
    examples: Examples, level: str, outer_logits: dict, outer_calibrations: dict,
    final: dict[str, Fitted], calibration: Calibration, head: Head, params: Params,
) -> pd.DataFrame:
    """Out-of-fold predictions of compounds in the folds, final predictions of the held-out ones.

    Parameters
    ----------
    examples : Examples
        Sites.
    level : {"site", "well", "compound"}
    outer_logits, outer_calibrations : dict
        (repeat, fold) -> logits, and the calibration of this level; from `nested.nested`.
    final : dict
        Panel -> heads of the final model, with its `calibration` of this level.
    calibration : Calibration
    head : Head
        Of the final model.
    params : Params
        `train` is read.

    Returns
    -------
    DataFrame
        The predictions table of the contract, and `Metadata_Group`, `Split` ("out_of_fold" or
        "held_out"), `Label`, `Threshold`.
    """
    tables = [out_of_fold_table(examples, level, outer_logits, outer_calibrations)]
    held_out = examples.held_out
    if held_out.any():
        sites = examples.seen_by(head)
        logits = predict_by_panel(final, sites, params.train)[0]
        matrix, units = averaging(examples, level)
        group = units["Group"].to_numpy()
        keep = np.flatnonzero((group >= 0) & held_out[group])
        probability = calibration.probability(matrix[keep] @ logits)
        tables.append(_annotated(examples, units.iloc[keep], probability,
                                 calibration.decide(probability), level, "held_out",
                                 calibration.threshold))
    return pd.concat(tables, ignore_index=True)


def out_of_fold_table(examples: Examples, level: str,
                      outer_logits: dict[tuple[int, int], np.ndarray],
                      outer_calibrations: dict[tuple[int, int], Calibration]) -> pd.DataFrame:
    """Predictions of the units in the folds, each by models that never saw its compound.

    Parameters
    ----------
    examples : Examples
        Sites.
    level : {"site", "well", "compound"}
    outer_logits, outer_calibrations : dict
        (repeat, fold) -> logits, and the calibration of this level; from `nested.nested`.

    Returns
    -------
    DataFrame
        As `predictions_table` gives it.
    """
    oof = out_of_fold(examples, level, outer_logits, outer_calibrations)
    return _annotated(examples, oof.units, oof.probability, oof.predicted, level, "out_of_fold",
                      oof.threshold)


def _annotated(examples: Examples, units: pd.DataFrame, probability: np.ndarray,
               predicted: np.ndarray, level: str, side: str,
               threshold: float | None) -> pd.DataFrame:
    table = prediction_table(units, probability, predicted, examples.question, level)
    groups = examples.groups.iloc[units["Group"].to_numpy()].reset_index(drop=True)
    table["Metadata_Group"] = groups["Metadata_Group"]
    if level == "compound":
        table["Metadata_Compound"] = groups["Metadata_Compound"]
    table["Label"] = groups["Label"]
    table["Split"] = side
    table["Threshold"] = threshold
    return table


def final_model(
    examples: Examples, heads: dict[str, Fitted], calibrations: dict[str, Calibration],
    head: Head, params: Params, channels: tuple[str, ...], embed: Embed, weights: dict[str, Path],
    trust: Trust | None = None,
) -> TrainedModel:
    """The model that is saved and served.

    Parameters
    ----------
    examples : Examples
        Sites of the training screen.
    heads, calibrations : dict
        From `fit_final`.
    head : Head
    params : Params
        `prepare` and `train` are kept in the model.
    channels : tuple of str
        Of the training screen.
    embed : Embed
        What serving the head needs; see `features.embed.embed_for`.
    weights : dict
        Backbone -> its weights file.
    trust : Trust, optional
        What the model needs to abstain.
    """
    sites = examples.seen_by(head)
    in_training = examples.groups[~examples.held_out]
    return TrainedModel(
        question=examples.question, heads=heads, panels=tuple(sorted(set(examples.panel))),
        calibrations=calibrations, sphering=sites.sphering, names=sites.names,
        channels=channels, controls=bool(examples.controls.any()), prepare=params.prepare,
        embed=embed, head=head, train=params.train, weights=weights,
        trained_on=tuple(sorted(set().union(*identities(in_training, examples.question.unit)))),
        trust=trust,
    )


def save_trained(out: Path, model: TrainedModel, predictions: dict[str, pd.DataFrame],
                 run: dict[str, str]) -> None:
    """Write `data/train`.

    Parameters
    ----------
    out : Path
        Gets `model/`, `keras/` with one Keras file per panel (none for neighbours or trees),
        `predictions_<level>.parquet` and `run.json`.
    model : TrainedModel
    predictions : dict
        Level -> DataFrame, from `predictions_table`.
    run : dict
        `run_id` and `experiment` of the training in MLflow.
    """
    (out / "keras").mkdir(parents=True)
    for level, table in predictions.items():
        table.to_parquet(out / f"predictions_{level}.parquet", index=False)
    save_model(model, out / "model")
    for panel, heads in model.heads.items():
        if isinstance(heads, FittedHeads):
            save_head(heads, 0, out / "keras" / f"head_{panel or 'pooled'}.keras")
    write_json(out / "run.json", run)


def load_predictions(trained: Path) -> dict[str, pd.DataFrame]:
    """The predictions that `save_trained` wrote, by level."""
    return {level: pd.read_parquet(trained / f"predictions_{level}.parquet") for level in LEVELS}


def run_of(trained: Path) -> str:
    """The MLflow run of the training that wrote a folder."""
    return json.loads((trained / "run.json").read_text())["run_id"]
