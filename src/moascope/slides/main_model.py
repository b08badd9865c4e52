"""The main model's head on the same folds, watched as the arms are."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moascope.learning.cross_fit import cross_fit, leave_folds_out
from moascope.learning.examples import Examples, row_weights
from moascope.learning.head import FittedHeads, predict_logits
from moascope.learning.panels import inputs
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
    sites = examples.seen_by(head)
    parts = leave_folds_out(sites)
    folds = len(parts.learns)
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
                | _judge_head(chosen, mask[shown], parts.learns[fold][shown], probability)
                for side, mask in (("training", parts.learns[fold]),
                                   ("held out", parts.left_out_by == fold)))
        clock[""] = time.perf_counter()

    cross_fit(examples, head, train, seed, watch=watch, watch_every=1)
    # The first call of each shape includes Keras's tracing.
    return HeadCurves(pd.DataFrame(found), sum(parameters.values()), float(np.median(seconds)))


def _judge_head(chosen: Examples, mask: np.ndarray, learnt: np.ndarray,
                probability: np.ndarray) -> dict[str, float]:
    label = chosen.label
    weight = row_weights(chosen, mask & chosen.question.counts(label), label)
    if not weight.any():
        return {"loss": np.nan, "guess": np.nan}
    trained = row_weights(chosen, learnt, label)
    known = np.where(label >= 0, label, 0)
    share = np.bincount(known, weights=trained, minlength=len(chosen.question.classes))
    guess = np.clip(share / share.sum(), LEAST_PROBABILITY, 1)
    own = -np.log(probability[np.arange(len(known)), known])
    return {"loss": float(np.average(own, weights=weight)),
            "guess": float(np.average(-np.log(guess[known]), weights=weight))}
