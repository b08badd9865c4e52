"""Every system of the slides on the folds of the main model, and on the slides' own invalid split.

The unit of an honest test is the compound: each fold's compounds are asked of a network that never
saw them. The slides split by image, at random; that is done as well, once, to show what it claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.scores import scores_of
from moascope.learning.cross_fit import masks_without
from moascope.learning.examples import Examples, averaging
from moascope.metrics import macro_average_precision
from moascope.params import Baseline, Evaluate
from moascope.slides.convnets import (
    LEAST_PROBABILITY,
    Arm,
    compile_arm,
    predict_classes,
    train_epochs,
)

BY_COMPOUND = "by compound"
BY_IMAGE = "random image split"
# The slides': training, validation, test.
IMAGE_SHARES = (0.6, 0.2, 0.2)
POOLED = ""


@dataclass(frozen=True)
class Part:
    """Which images one network learns from, which may choose its epoch, and which it is asked.

    Attributes
    ----------
    training, validation, test : ndarray, bool, [n]
        Validation images may be training images too: then the epoch is chosen by a network that
        was trained without them.
    """

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Tried:
    """What an arm said of the test images of one kind of split.

    Attributes
    ----------
    probability : ndarray, float, [n, C]
        NaN where an image was never asked.
    curves : DataFrame
        `split, part, panel, epoch, side, loss, guess, average_precision`; see `_judge`.
    epochs : list of int
        The epoch whose network was asked, one a network.
    seconds : float
        An epoch, median without the first epochs, in which Keras traces.
    """

    probability: np.ndarray
    curves: pd.DataFrame
    epochs: list[int]
    seconds: float


def compound_parts(examples: Examples) -> list[Part]:
    """The folds of the main model's first repeat; the next fold in turn may choose the epoch."""
    folds = int(examples.folds(0).max()) + 1
    fold_of = np.where(examples.group >= 0, examples.folds(0)[examples.group], -1)
    return [Part(masks_without(examples, [(0, fold)])[0], fold_of == (fold + 1) % folds,
                 fold_of == fold)
            for fold in range(folds)]


def image_part(examples: Examples, seed: int) -> Part:
    """The slides' split: images dealt at random, class by class. Invalid: compounds are everywhere.

    Parameters
    ----------
    examples : Examples
    seed : int

    Returns
    -------
    Part
        60 % training, 20 % validation and 20 % test images of the compounds in the folds.
    """
    generator = np.random.default_rng(seed)
    pool = examples.in_folds
    side = np.full(len(pool), -1)
    bounds = np.cumsum(IMAGE_SHARES)[:-1]
    for own in range(len(examples.question.classes)):
        members = generator.permutation(np.flatnonzero(pool & (examples.label == own)))
        side[members] = np.searchsorted(bounds, (np.arange(len(members)) + 0.5) / len(members))
    return Part(side == 0, side == 1, side == 2)


def try_arm(arm: Arm, settings: Baseline, examples: Examples, parts: list[Part], split: str,
            model: Any, seed: int) -> Tried:
    """Train an arm on every part of a split and ask it about the part's test images.

    Parameters
    ----------
    arm : Arm
    settings : Baseline
    examples : Examples
        `features` are pictures, or a frozen backbone's feature maps.
    parts : list of Part
    split : str
        Its name in the curves.
    model : keras.Model
        From `compile_arm`.
    seed : int

    Returns
    -------
    Tried
    """
    classes = len(examples.question.classes)
    probability = np.full((len(examples.meta), classes), np.nan)
    curves, epochs, seconds = [], [], []
    for number, part in enumerate(parts):
        for panel, rows in _panels(examples, arm):
            training, test = part.training & rows, part.test & rows
            if not test.any():
                continue
            stop = settings.epochs
            if arm.stops_early:
                validation = part.validation & rows
                stop = best_epoch(settings, examples, training & ~validation, validation, model,
                                  seed)
            for epoch, took, judged, said in _watched(settings, examples, training, test, model,
                                                      seed):
                seconds.append((epoch, took))
                curves += [{"split": split, "part": number, "panel": panel, "epoch": epoch, **row}
                           for row in judged]
                if epoch == stop:
                    probability[test] = said
            epochs.append(stop)
    later = [took for epoch, took in seconds if epoch > 1] or [took for _, took in seconds]
    return Tried(probability, pd.DataFrame(curves), epochs, float(np.median(later)))


def best_epoch(settings: Baseline, examples: Examples, training: np.ndarray,
               validation: np.ndarray, model: Any, seed: int) -> int:
    """The epoch after which the loss on validation images is least.

    Parameters
    ----------
    settings : Baseline
    examples : Examples
    training, validation : ndarray, bool, [n]
        Without an image in common. Images of classes that training lacks are not judged by.
    model : keras.Model
    seed : int

    Returns
    -------
    int
        `settings.epochs` where no validation image can be judged by.
    """
    label = examples.label
    validation = validation & np.isin(label, label[training])
    if not validation.any():
        return settings.epochs
    losses = {epoch: judged[1]["loss"] for epoch, _, judged, _ in
              _watched(settings, examples, training, validation, model, seed)}
    return min(losses, key=losses.__getitem__)


def class_weights(label: np.ndarray, binary: bool, classes: int, settings: Baseline) -> np.ndarray:
    """How much an image of each class counts in the loss.

    Returns
    -------
    ndarray, float, [C]
        Binary: 1 and `positive_weight`, as in the slides. Several classes: inverse to their
        frequency in training, mean 1 over images; 0 for a class without images.
    """
    if binary:
        return np.array([1.0, settings.positive_weight])
    count = np.bincount(label, minlength=classes)
    return np.where(count > 0, len(label) / np.maximum(count, 1) / (count > 0).sum(), 0.0)


def _watched(settings: Baseline, examples: Examples, training: np.ndarray, held_out: np.ndarray,
             model: Any, seed: int) -> Iterator[tuple[int, float, list[dict], np.ndarray]]:
    """Train; after each epoch yield its number and seconds, two rows of curves, predictions."""
    label, classes = examples.label, len(examples.question.classes)
    each = class_weights(label[training], examples.question.binary, classes, settings)
    learnt = np.flatnonzero(training)
    asked = np.flatnonzero(held_out)
    # Losses of both sides are measured alike: by the network as it stands after the epoch, on as
    # many training images as are held out.
    shown = np.sort(np.random.default_rng(seed).permutation(learnt)[: len(asked)])
    share = np.bincount(label[learnt], weights=each[label[learnt]], minlength=classes)
    guess = np.clip(share / share.sum(), LEAST_PROBABILITY, 1)
    pictures = examples.features[learnt]
    checked = examples.features[np.concatenate([shown, asked])]
    for epoch, took in train_epochs(model, pictures, label[learnt], each[label[learnt]], classes,
                                    settings, seed):
        said = predict_classes(model, checked)
        judged = [_judge(examples, rows, own, guess, each) | {"side": side}
                  for side, rows, own in (("training", shown, said[: len(shown)]),
                                          ("held out", asked, said[len(shown):]))]
        yield epoch, took, judged, said[len(shown):]


def _judge(examples: Examples, rows: np.ndarray, probability: np.ndarray, guess: np.ndarray,
           each: np.ndarray) -> dict[str, float]:
    """Loss of images, weighted as in training; that of always guessing the weighted shares of the
    classes; average precision.
    """
    label = examples.label[rows]
    keep = examples.question.counts(label)
    label, probability = label[keep], probability[keep]
    weight = each[label]
    present = examples.question.present(label)
    if not weight.sum() or not present:
        return {"loss": np.nan, "guess": np.nan, "average_precision": np.nan}
    own = np.log(probability[np.arange(len(label)), label])
    return {
        "loss": float(-np.average(own, weights=weight)),
        "guess": float(-np.average(np.log(guess[label]), weights=weight)),
        "average_precision": float(macro_average_precision(label, probability, present)),
    }


def _panels(examples: Examples, arm: Arm) -> list[tuple[str, np.ndarray]]:
    if not arm.by_panel:
        return [(POOLED, np.ones(len(examples.meta), bool))]
    return [(str(panel), examples.panel == panel) for panel in np.unique(examples.panel)]


def fuse_by_rank(scores: np.ndarray) -> np.ndarray:
    """One score a unit from several models whose scores are not of one scale.

    Parameters
    ----------
    scores : ndarray, float, [panels, units, C]
        NaN where a unit was not seen by a panel.

    Returns
    -------
    ndarray, float, [units, C]
        The mean over panels of (rank - 1/2) / n among the panel's n units, equal scores sharing
        their mean rank; rows sum to one.
    """
    from scipy.stats import rankdata

    ranks = rankdata(scores, axis=1, nan_policy="omit")
    places = (ranks - 0.5) / np.isfinite(scores).sum(axis=1, keepdims=True)
    fused = np.nanmean(places, axis=0)
    return fused / fused.sum(axis=1, keepdims=True)


def unit_probabilities(arm: Arm, examples: Examples,
                       probability: np.ndarray) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    """Images and compounds with their probabilities, or for compounds of several panels, ranks.

    Parameters
    ----------
    arm : Arm
    examples : Examples
    probability : ndarray, float, [n, C]
        NaN where an image was not asked.

    Returns
    -------
    dict
        "site" and "compound" -> (units, ndarray, float, [units, C]).
    """
    tested = np.isfinite(probability).all(axis=1)
    chosen, logs = examples.take(tested), np.log(probability[tested])
    found = {}
    for level in ("site", "compound"):
        matrix, units = averaging(chosen, level)
        found[level] = units, softmax(matrix @ logs)
    panels = np.unique(chosen.panel)
    if arm.by_panel and len(panels) > 1:
        units = found["compound"][0]
        scores = np.full((len(panels), len(units), logs.shape[1]), np.nan)
        place = pd.Series(np.arange(len(units)), index=units["Group"])
        for number, panel in enumerate(panels):
            rows = chosen.panel == panel
            matrix, own = averaging(chosen.take(rows), "compound")
            scores[number, place[own["Group"]].to_numpy()] = softmax(matrix @ logs[rows])
        found["compound"] = units, fuse_by_rank(scores)
    return found


def predictions_of(examples: Examples, units: pd.DataFrame, probability: np.ndarray, level: str,
                   split: str) -> pd.DataFrame:
    """A table of predictions, as `evaluation.scores.scores_of` reads it.

    Predicted is the positive class from a probability of 0.5, as in the slides; of several classes
    the likeliest.
    """
    groups = examples.groups.iloc[units["Group"].to_numpy()].reset_index(drop=True)
    known = [name for name in units if name.startswith("Metadata_")] if level == "site" else []
    table = units[known].reset_index(drop=True)
    for index, column in enumerate(examples.question.probabilities):
        table[column] = probability[:, index]
    if examples.question.binary:
        predicted = (probability[:, 1] >= 0.5).astype(int)
    else:
        predicted = probability.argmax(axis=1)
    table["Predicted"] = [examples.question.classes[i] for i in predicted]
    table["Metadata_Group"] = groups["Metadata_Group"]
    table["Metadata_Compound"] = groups["Metadata_Compound"]
    table["Label"] = groups["Label"]
    table["Level"], table["Split"] = level, split
    return table


def run_arm(arm: Arm, settings: Baseline, examples: Examples, evaluate: Evaluate,
            seed: int) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """An arm by compound, and once by image, with all its scores.

    Parameters
    ----------
    arm : Arm
    settings : Baseline
    examples : Examples
        `features` are the arm's inputs.
    evaluate : Evaluate
        Resamples behind the intervals.
    seed : int

    Returns
    -------
    scores : dict
        `parameters`, and for each split `valid`, `epochs_to_overfit` (the epoch of the least mean
        held-out loss; None where it is the last one), `asked_after`, `seconds_an_epoch`, `site`
        and `compound` (see `evaluation.scores.score_table`).
    curves : DataFrame
        See `Tried`.
    predictions : DataFrame
    """
    model = compile_arm(arm, settings, examples.features.shape[1:], len(examples.question.classes))
    scores: dict[str, Any] = {"parameters": sum(
        int(np.prod(variable.shape)) for variable in model.trainable_variables)}
    splits = {BY_COMPOUND: compound_parts(examples), BY_IMAGE: [image_part(examples, seed)]}
    curves, tables = [], []
    for split, parts in splits.items():
        tried = try_arm(arm, settings, examples, parts, split, model, seed)
        own: dict[str, Any] = {
            "valid": split == BY_COMPOUND,
            "epochs_to_overfit": epochs_to_overfit(tried.curves),
            "asked_after": float(np.mean(tried.epochs)),
            "seconds_an_epoch": tried.seconds,
        }
        for level, (units, probability) in unit_probabilities(arm, examples,
                                                              tried.probability).items():
            table = predictions_of(examples, units, probability, level, split)
            own[level] = scores_of(table, examples.question, evaluate, seed)
            tables.append(table)
        scores[split] = own
        curves.append(tried.curves)
    return scores, pd.concat(curves, ignore_index=True), pd.concat(tables, ignore_index=True)


def epochs_to_overfit(curves: pd.DataFrame) -> int | None:
    """The epoch of the least mean held-out loss; None where the loss still falls at the last one.

    Parameters
    ----------
    curves : DataFrame
        `side`, `epoch`, `loss`, `guess`; of one split.
    """
    held_out = curves[curves["side"] == "held out"]
    mean = (held_out["loss"] / held_out["guess"]).groupby(held_out["epoch"]).mean().dropna()
    if mean.empty or mean.idxmin() == mean.index.max():
        return None
    return int(mean.idxmin())


def softmax(logits: np.ndarray) -> np.ndarray:
    """float, [..., C] -> float64, [..., C], rows sum to one."""
    from scipy import special

    return special.softmax(logits.astype(float), axis=-1)
