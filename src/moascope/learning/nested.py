"""Nested cross-validation by compound, with all of its networks trained together.

For a unit of fold k, the model that scores it was trained on the other folds, and
whatever was chosen for that model (hyperparameters, epoch, calibration, threshold) was chosen by
models that had not seen fold k either. A model trained without folds j and k serves twice: it is
inner for k when it predicts j, and inner for j when it predicts k.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moascope.learning.calibration import Calibration, calibrate_scored
from moascope.learning.cross_fit import masks_without
from moascope.learning.examples import LEVELS, Examples, averaging, averagings
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows
from moascope.metrics import macro_average_precision
from moascope.params import Head, Train
from moascope.screen.question import Question

# Watched epochs; a study chooses among them.
CHECKPOINTS = 6


def fold_pairs(examples: Examples) -> list[tuple[int, int, int]]:
    """(repeat, j, k), j < k: the pairs of folds that an inner model leaves out."""
    pairs = []
    for repeat in range(examples.repeats):
        folds = examples.folds(repeat)
        pairs += [(repeat, j, k) for j, k in itertools.combinations(range(folds.max() + 1), 2)]
    return pairs


class Inner:
    """What inner models predict for the training compounds of every outer fold.

    Parameters
    ----------
    examples : Examples
        Sites.
    pairs : list of tuple
        As `fold_pairs` gives them; the order of the logits' leading axis.
    """

    def __init__(self, examples: Examples, pairs: list[tuple[int, int, int]]):
        self.examples = examples
        self.pairs = pairs
        self.levels = averagings(examples)
        # Whether a model had a unit of the class in training: without one it cannot predict it.
        self.knows = []
        for repeat, *both in pairs:
            trained = ~examples.held_out & ~np.isin(examples.folds(repeat), both)
            classes = np.arange(len(examples.question.classes))
            known = np.isin(classes, examples.group_label[trained])
            self.knows.append(known)
        self._parts: dict[tuple[int, int, str], tuple[Any, Any, Any]] = {}

    def wanted(self) -> np.ndarray:
        """bool, [pairs, n]: the sites that `pooled` wants of each model: those of its folds."""
        group = self.examples.group
        return np.stack([(group >= 0) & np.isin(self.examples.folds(repeat), both)[group]
                         for repeat, *both in self.pairs])

    def outer_folds(self) -> list[tuple[int, int]]:
        """(repeat, fold) of every outer model for which all inner models are at hand."""
        return sorted({(r, f) for r, *both in self.pairs for f in both})

    def pooled(self, logits: np.ndarray, repeat: int, fold: int,
               level: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits of the units outside `fold`, each by the model that left out its own fold too.

        A unit is left out where that model had no unit of its class to learn from, as happens to
        classes of two compounds.

        Parameters
        ----------
        logits : ndarray, float32, [pairs, n, C]
            Of sites.

        Returns
        -------
        label : ndarray, int, [units]
        pooled : ndarray, float32, [units, C]
        group : ndarray, int, [units]
            The compound of each.
        """
        key = (repeat, fold, level)
        if key not in self._parts:
            self._parts[key] = self._answering(*key)
        label, group, parts = self._parts[key]
        pooled = np.zeros((len(label), logits.shape[-1]), np.float32)
        for index, rows, matrix in parts:
            pooled[rows] = matrix @ logits[index]
        return label, pooled, group

    def _answering(self, repeat: int, fold: int, level: str) -> tuple[Any, Any, Any]:
        """What the logits do not change in `pooled`: which model predicts which units."""
        matrix, units = self.levels[level]
        group = units["Group"].to_numpy()
        folds = np.where(group >= 0, self.examples.folds(repeat)[group], -1)
        label = np.where(group >= 0, self.examples.group_label[group], 0)
        answering = np.full(len(units), -1)
        for index, (of, *both) in enumerate(self.pairs):
            if of != repeat or fold not in both:
                continue
            other = both[0] if both[1] == fold else both[1]
            answering[(folds == other) & self.knows[index][label]] = index
        predicted = np.flatnonzero(answering >= 0)
        parts = [(index, np.flatnonzero(answering[predicted] == index),
                  matrix[np.flatnonzero(answering == index)])
                 for index in np.unique(answering[predicted])]
        return label[predicted], group[predicted], parts


def ranking_score(label: np.ndarray, logits: np.ndarray, question: Question) -> float:
    """Macro average precision of units by their mean logits.

    Parameters
    ----------
    label : ndarray, int, [n]
    logits : ndarray, float, [n, C]
    question : Question
    """
    from scipy.special import log_softmax

    keep = question.counts(label)
    scores = log_softmax(logits[keep], axis=1)
    present = question.present(label[keep])
    return float(macro_average_precision(label[keep], scores, present)) if present else 0.0


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for every unit of a level, by models that never saw its compound.

    Attributes
    ----------
    units : DataFrame
        Metadata; `Group` is the row in the examples' groups.
    probability : ndarray, float64, [units, C]
        Mean over the repeats.
    predicted : ndarray, int, [units]
    threshold : float or None
        Mean over outer models.
    """

    units: pd.DataFrame
    probability: np.ndarray
    predicted: np.ndarray
    threshold: float | None


def out_of_fold(
    examples: Examples,
    level: str,
    outer_logits: dict[tuple[int, int], np.ndarray],
    calibrations: dict[tuple[int, int], Calibration],
) -> OutOfFold:
    """Collect what each outer model predicts for the fold that it left out.

    Parameters
    ----------
    examples : Examples
        Sites.
    level : str
    outer_logits : dict
        (repeat, fold) -> ndarray, float32, [n, C].
    calibrations : dict
        (repeat, fold) -> the inner calibration for this level.
    """
    matrix, units = averaging(examples, level)
    group = units["Group"].to_numpy()
    keep = (group >= 0) & ~examples.held_out[group]
    matrix, units = matrix[np.flatnonzero(keep)], units[keep].reset_index(drop=True)
    group = group[keep]
    by_repeat = np.zeros((examples.repeats, len(units), len(examples.question.classes)))
    thresholds = np.zeros((examples.repeats, len(units)))
    for (repeat, fold), logits in outer_logits.items():
        rows = examples.folds(repeat)[group] == fold
        calibration = calibrations[repeat, fold]
        by_repeat[repeat, rows] = calibration.probability(matrix[np.flatnonzero(rows)] @ logits)
        thresholds[repeat, rows] = calibration.threshold or 0
    probability = by_repeat.mean(axis=0)
    binary = next(iter(calibrations.values())).threshold is not None
    threshold = thresholds.mean(axis=0)
    predicted = (
        (probability[:, 1] >= threshold).astype(int) if binary else probability.argmax(axis=1)
    )
    return OutOfFold(units, probability, predicted, float(threshold.mean()) if binary else None)


def nested(
    examples: Examples, heads: dict[tuple[int, int], Head], train: Train, seed: int
) -> tuple[dict[tuple[int, int], np.ndarray], dict[str, dict[tuple[int, int], Calibration]]]:
    """Train every outer model, and calibrate it by inner models.

    Parameters
    ----------
    examples : Examples
        Sites.
    heads : dict
        (repeat, fold) -> the head chosen for that outer model.
    train : Train
    seed : int

    Returns
    -------
    outer_logits : dict
        (repeat, fold) -> ndarray, float32, [n, C]: logits of the model that left out the fold.
    calibrations : dict
        Level -> (repeat, fold) -> Calibration.
    """
    pairs = fold_pairs(examples)
    outer_logits: dict[tuple[int, int], np.ndarray] = {}
    calibrations: dict[str, dict[tuple[int, int], Calibration]] = {level: {} for level in LEVELS}
    # One outer model and its inner ones at a time: blocks of one shape share a compiled model,
    # and outer models may have chosen different heads.
    for (repeat, fold), head in heads.items():
        inner_pairs = [(r, j, k) for r, j, k in pairs if r == repeat and fold in (j, k)]
        rows, sites = training_rows(examples, head)
        masks = masks_without(rows, [(repeat, fold), *inner_pairs])
        logits = predict_by_panel(fit_by_panel(rows, masks, head, train, seed), sites, train)
        outer_logits[repeat, fold] = logits[0]
        inner = Inner(examples, inner_pairs)
        for level in LEVELS:
            calibrations[level][repeat, fold] = calibrate_scored(
                *inner.pooled(logits[1:], repeat, fold, level), examples.question
            )
    return outer_logits, calibrations


