"""The main model's head on the same folds, watched as the arms are."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moascope.learning.examples import Examples, row_weights
from moascope.learning.head import FittedHeads, predict_logits
from moascope.learning.nested import asked_classes, masks_without
from moascope.learning.panels import fit_by_panel, inputs, training_rows
from moascope.params import Head, Train
from moascope.slides.arms import BY_COMPOUND, POOLED, softmax
from moascope.slides.convnets import LEAST_PROBABILITY


@dataclass(frozen=True)
class HeadCurves:
    """How the main model's head learnt on the same folds.

    Attributes
    ----------
    curves : DataFrame
        As `Tried.curves`, without average precision.
    parameters : int
        Of one model: the heads of all panels.
    seconds : float
        An epoch of one fold's model.
    """

    curves: pd.DataFrame
    parameters: int
    seconds: float


def head_curves(examples: Examples, head: Head, train: Train, seed: int) -> HeadCurves:
    """Train the main model's head on the folds of the first repeat, and watch both sides' loss.

    Parameters
    ----------
    examples : Examples
        Sites with their features.
    head, train : Head, Train
    seed : int
    """
    rows, sites = training_rows(examples, head, train)
    folds = int(sites.folds(0).max()) + 1
    left_out = [(0, fold) for fold in range(folds)]
    learnt = masks_without(sites, left_out)
    fold_of = np.where(sites.group >= 0, sites.folds(0)[sites.group], -1)
    found: list[dict] = []
    clock = {"": time.perf_counter()}
    seconds, parameters = [], {}

    def watch(panel: str, epoch: int, heads: FittedHeads) -> None:
        seconds.append((time.perf_counter() - clock[""]) / folds)
        parameters[panel] = sum(int(np.prod(values.shape[1:]))
                                for values in [*heads.kernels, *heads.biases])
        shown = np.ones(len(sites.meta), bool) if panel == POOLED else sites.panel == panel
        chosen = sites.take(shown)
        logits = predict_logits(heads, inputs(chosen, train))
        for fold in range(folds):
            probability = np.clip(softmax(logits[fold]), LEAST_PROBABILITY, 1)
            found.extend(
                {"split": BY_COMPOUND, "part": fold, "panel": panel, "epoch": epoch, "side": side}
                | _judge_head(chosen, mask[shown], learnt[fold][shown], probability)
                for side, mask in (("training", learnt[fold]), ("held out", fold_of == fold)))
        clock[""] = time.perf_counter()

    fit_by_panel(rows, masks_without(rows, left_out), head, train, seed, watch=watch,
                 watch_every=1)
    # The first call of each shape includes Keras's tracing.
    return HeadCurves(pd.DataFrame(found), sum(parameters.values()), float(np.median(seconds)))


def _judge_head(chosen: Examples, mask: np.ndarray, learnt: np.ndarray,
                probability: np.ndarray) -> dict[str, float]:
    asked, label = asked_classes(chosen), chosen.label
    if not chosen.binary:
        mask = mask & np.isin(label, asked)
    weight = row_weights(chosen, mask, label)
    if not weight.any():
        return {"loss": np.nan, "guess": np.nan}
    trained = row_weights(chosen, learnt, label)
    known = np.where(label >= 0, label, 0)
    share = np.bincount(known, weights=trained, minlength=len(chosen.classes))
    guess = np.clip(share / share.sum(), LEAST_PROBABILITY, 1)
    own = -np.log(probability[np.arange(len(known)), known])
    return {"loss": float(np.average(own, weights=weight)),
            "guess": float(np.average(-np.log(guess[known]), weights=weight))}
