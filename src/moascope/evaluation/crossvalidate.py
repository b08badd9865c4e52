"""Nested cross-validation by compound, with all of its networks trained together.

For the unit held out in fold k, the model that scores it was trained on the other folds, and
whatever was chosen for that model (hyperparameters, epoch, calibration, threshold) was chosen by
models that had not seen fold k either. A model trained without folds j and k serves twice: it is
inner for k when asked about j, and inner for j when asked about k.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.evaluation.metrics import macro_average_precision
from moascope.models.examples import LEVELS, Examples, averaging, averagings, row_weights
from moascope.models.head import FittedHeads, predict_logits, train_heads
from moascope.params import Head, Train

POOLED = ""
# Watched epochs; a study chooses among them.
CHECKPOINTS = 6
# Of the logarithm of a calibration's slope, before any unit is seen.
SLOPE_SPREAD = 0.5
# Of a calibration; a handful do.
MOST_STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """Turns mean logits of a level into probabilities and decisions.

    Attributes
    ----------
    slope : float
        Times the logits (the inverse of a temperature).
    offset : float
        Added to the positive class of a binary target; 0 otherwise.
    threshold : float or None
        The probability from which a binary target is called positive; None: the likeliest class.
    """

    slope: float
    offset: float
    threshold: float | None

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """float, [..., C] -> [..., C], rows sum to one."""
        from scipy.special import softmax

        scaled = self.slope * logits
        scaled[..., -1] += self.offset
        return softmax(scaled, axis=-1)

    def decide(self, probability: np.ndarray) -> np.ndarray:
        """float, [..., C] -> int, [...]."""
        if self.threshold is None:
            return probability.argmax(axis=-1)
        return (probability[..., 1] >= self.threshold).astype(int)


def fit_by_panel(
    training: Examples,
    masks: np.ndarray,
    head: Head,
    train: Train,
    seed: int,
    label: np.ndarray | None = None,
    watch: Callable[[str, int, FittedHeads], None] | None = None,
    watch_every: int = 0,
) -> dict[str, FittedHeads]:
    """Train one head a mask, for every panel by itself or for all together.

    Parameters
    ----------
    training : Examples
        Already normalised, at the level that is trained on.
    masks : ndarray, bool, [K, n]
        Rows that each head may see. Rows without a label are never seen.
    head : Head
    train : Train
        `panels` and `batch_size` are read.
    seed : int
    label : ndarray, int, [n] or [K, n], optional
        In place of the true labels (for nulls).
    watch : callable, optional
        `watch(panel, epoch, heads)`, called every `watch_every` epochs of a panel and at its end.
    watch_every : int
        Epochs between two notes of the loss; 0: it is noted at the end alone.

    Returns
    -------
    dict
        Panel name -> heads; the only name is "" where panels are pooled.

    Raises
    ------
    MoascopeError
        When a panel shows some head fewer than two classes.
    """
    fitted = {}
    for panel, given in _by_panel(training, masks, head, train, label):
        for heads in train_heads(*given, batch_size=train.batch_size, seed=seed,
                                 watch_every=watch_every):
            fitted[panel] = heads
            if watch:
                watch(panel, int(heads.epochs[-1]), heads)
    return fitted


def train_by_panel(
    training: Examples, masks: np.ndarray, head: Head, train: Train, seed: int, watch_every: int
) -> Iterator[tuple[int, dict[str, FittedHeads]]]:
    """As `fit_by_panel`, with a stop of all panels every few epochs to look at their heads.

    Yields
    ------
    epoch : int
    heads : dict
        Panel name -> heads after that many epochs.

    Raises
    ------
    MoascopeError
        When a panel shows some head fewer than two classes.
    """
    # Panels take turns, so that a training that goes nowhere is seen early in all of them.
    trainings = {panel: train_heads(*given, batch_size=train.batch_size, seed=seed,
                                    watch_every=watch_every)
                 for panel, given in _by_panel(training, masks, head, train)}
    for heads in zip(*trainings.values(), strict=True):
        yield int(heads[0].epochs[-1]), dict(zip(trainings, heads, strict=True))


def _by_panel(training: Examples, masks: np.ndarray, head: Head, train: Train,
              label: np.ndarray | None = None) -> Iterator[tuple[str, tuple]]:
    """Each panel's name, and what `train_heads` is given for it."""
    label = training.label if label is None else label
    labels = np.broadcast_to(label, masks.shape)
    for panel, rows in panel_rows(training, train):
        chosen = training.take(rows)
        weights = np.stack([
            row_weights(chosen, mask[rows], own[rows])
            for mask, own in zip(masks, labels, strict=True)
        ])
        for own, weight in zip(labels, weights, strict=True):
            if len(np.unique(own[rows][weight > 0])) < 2:
                raise MoascopeError(
                    f"Panel '{panel}' has too few annotated compounds to be learnt by itself. "
                    "Set train.panels=pooled in params.yaml, or add compounds to that panel."
                )
        usable = np.where(labels[:, rows] < 0, 0, labels[:, rows])
        yield panel, (inputs(chosen, train), usable[0] if label.ndim == 1 else usable, weights,
                      len(training.classes), head)


def predict_by_panel(
    heads: dict[str, FittedHeads], examples: Examples, train: Train,
    asked: np.ndarray | None = None,
) -> np.ndarray:
    """Logits of every head for every row, each row by the head of its panel.

    Parameters
    ----------
    heads : dict
        Panel -> FittedHeads.
    examples : Examples
    train : Train
    asked : ndarray, bool, [K, n], optional
        Which head is asked about which row; all about all, if None.

    Returns
    -------
    ndarray, float32, [K, n, C]
        0 where a head was not asked.
    """
    count = len(next(iter(heads.values())).mean)
    logits = np.zeros((count, len(examples.meta), len(examples.classes)), np.float32)
    for panel, rows in panel_rows(examples, train):
        logits[:, rows] = predict_logits(heads[panel], inputs(examples.take(rows), train),
                                         None if asked is None else asked[:, rows])
    return logits


def inputs(examples: Examples, train: Train) -> np.ndarray:
    """What a head is fed: the features, and where panels are pooled, which panel it is.

    Returns
    -------
    ndarray, float32, [n, d] or [n, d + panels]
    """
    # All that were trained on, whichever are at hand: a plate of one panel is asked about too.
    names = examples.panels or tuple(np.unique(examples.panel))
    if train.panels == "separate" or len(names) < 2:
        return examples.features
    which = examples.panel[:, None] == np.array(names)
    return np.hstack([examples.features, which.astype(np.float32)])


def panel_rows(examples: Examples, train: Train) -> Iterable[tuple[str, np.ndarray]]:
    """Each panel that has heads of its own, and its rows (bool, [n]); "" where they share."""
    if train.panels == "pooled":
        yield POOLED, np.ones(len(examples.meta), bool)
        return
    for panel in np.unique(examples.panel):
        yield str(panel), examples.panel == panel


def training_rows(examples: Examples, head: Head, train: Train) -> tuple[Examples, Examples]:
    """The normalised rows to learn from, and the normalised sites to be asked about."""
    sites = examples.seen_by(head)
    return (sites.wells() if train.level == "well" else sites), sites


def fold_pairs(examples: Examples) -> list[tuple[int, int, int]]:
    """(repeat, j, k), j < k: the pairs of folds that an inner model leaves out."""
    pairs = []
    for repeat in range(examples.repeats):
        folds = examples.folds(repeat)
        pairs += [(repeat, j, k) for j, k in itertools.combinations(range(folds.max() + 1), 2)]
    return pairs


def masks_without(examples: Examples, left_out: list[tuple[int, ...]]) -> np.ndarray:
    """Training rows of models that leave out folds of a repeat, and always the hold-out.

    Parameters
    ----------
    examples : Examples
    left_out : list of tuple
        (repeat, fold, ...), one tuple a model.

    Returns
    -------
    ndarray, bool, [K, n]
    """
    held_out = examples.groups["Holdout"].to_numpy(bool)
    masks = []
    for repeat, *folds in left_out:
        group_mask = ~held_out & ~np.isin(examples.folds(repeat), folds)
        masks.append((examples.group >= 0) & group_mask[examples.group])
    return np.stack(masks)


class Inner:
    """What inner models say of the training compounds of every outer fold.

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
        held_out = examples.groups["Holdout"].to_numpy(bool)
        # Whether a model had a unit of the class in training: one that had none cannot be asked.
        self.knows = []
        for repeat, *both in pairs:
            trained = ~held_out & ~np.isin(examples.folds(repeat), both)
            known = np.isin(np.arange(len(examples.classes)), examples.group_label[trained])
            self.knows.append(known)
        self._parts: dict[tuple[int, int, str], tuple] = {}

    def asked(self) -> np.ndarray:
        """bool, [pairs, n]: the sites that `pooled` asks each model about: those of its folds."""
        group = self.examples.group
        return np.stack([(group >= 0) & np.isin(self.examples.folds(repeat), both)[group]
                         for repeat, *both in self.pairs])

    def outer_folds(self) -> list[tuple[int, int]]:
        """(repeat, fold) of every outer model for which all inner models are at hand."""
        return sorted({(r, f) for r, *both in self.pairs for f in both})

    def pooled(self, logits: np.ndarray, repeat: int, fold: int, level: str) -> tuple:
        """Logits of the units outside `fold`, each by the model that left out its own fold too.

        A unit is left out where that model had no unit of its class to learn from, as happens to
        classes of two compounds.

        Parameters
        ----------
        logits : ndarray, float32, [pairs, n, C]
            Of sites.

        Returns
        -------
        label : ndarray, int, [units asked]
        pooled : ndarray, float32, [units asked, C]
        group : ndarray, int, [units asked]
            The compound of each.
        """
        key = (repeat, fold, level)
        if key not in self._parts:
            self._parts[key] = self._asked(*key)
        label, group, parts = self._parts[key]
        pooled = np.zeros((len(label), logits.shape[-1]), np.float32)
        for index, rows, matrix in parts:
            pooled[rows] = matrix @ logits[index]
        return label, pooled, group

    def _asked(self, repeat: int, fold: int, level: str) -> tuple:
        """Of `pooled`, what the logits do not change: which model is asked about which units."""
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
        asked = np.flatnonzero(answering >= 0)
        parts = [(index, np.flatnonzero(answering[asked] == index),
                  matrix[np.flatnonzero(answering == index)])
                 for index in np.unique(answering[asked])]
        return label[asked], group[asked], parts


def asked_classes(examples: Examples) -> list[int]:
    """Indices of the classes whose average precision counts."""
    if examples.binary:
        return [1]
    return [i for i, name in enumerate(examples.classes) if name not in examples.untestable]


def ranking_score(label: np.ndarray, logits: np.ndarray, asked: list[int]) -> float:
    """Macro average precision of units by their mean logits.

    Parameters
    ----------
    label : ndarray, int, [n]
    logits : ndarray, float, [n, C]
    asked : list of int
    """
    from scipy.special import log_softmax

    keep = np.isin(label, asked) if len(asked) > 1 else np.ones(len(label), bool)
    scores = log_softmax(logits[keep], axis=-1)
    present = [c for c in asked if (label[keep] == c).any()]
    return float(macro_average_precision(label[keep], scores, present)) if present else 0.0


def explained_information(
    label: np.ndarray, logits: np.ndarray, group: np.ndarray, binary: bool, asked: list[int]
) -> float:
    """Share of the labels' entropy that calibrated predictions explain.

    Parameters
    ----------
    label : ndarray, int, [n]
    logits : ndarray, float, [n, C]
        Of models that had not seen the units.
    group : ndarray, int, [n]
        The compound of each unit.
    binary : bool
    asked : list of int

    Returns
    -------
    float
        1 - log loss / log loss of the class frequencies (McFadden's R2): 1 is perfect, about 0 is
        chance.
    """
    keep = np.ones(len(label), bool) if binary else np.isin(label, asked)
    label, logits, group = label[keep], logits[keep], group[keep]
    if len(np.unique(label)) < 2:
        return 0.0
    probability = calibrate(label, logits, group, binary).probability(logits.astype(float))
    loss = -np.log(np.clip(probability[np.arange(len(label)), label], 1e-12, 1)).mean()
    share = np.bincount(label) / len(label)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    return float(1 - loss / entropy)


def calibrate(
    label: np.ndarray, logits: np.ndarray, group: np.ndarray, binary: bool
) -> Calibration:
    """Fit probabilities to the logits of units that the models had not seen.

    Parameters
    ----------
    label : ndarray, int, [n]
    logits : ndarray, float, [n, C]
    group : ndarray, int, [n]
        The compound of each unit.
    binary : bool

    Returns
    -------
    Calibration
        Binary: Platt's two parameters and targets [1]_, and the threshold of the best balanced
        accuracy (Youden's J [3]_: with rare hits, F1 would call nearly everything a hit where
        there is little signal). Several classes: a temperature [2]_.

    Notes
    -----
    The slope stays positive: calibration may flatten a ranking, it must not turn it round. Its
    logarithm has a normal prior around 0 that weighs as much as a few compounds do, so that folds
    with ten compounds do not each get a scale of their own.

    .. [1] Platt, "Probabilistic outputs for support vector machines", 1999.
    .. [2] Guo et al., "On calibration of modern neural networks", ICML 2017.
    .. [3] Youden, "Index for rating diagnostic tests", Cancer 3, 1950.
    """
    from scipy.special import expit, softmax

    if len(np.unique(label)) < 2:
        # Nothing to calibrate by: the head's own probabilities stand.
        return Calibration(1.0, 0.0, 0.5 if binary else None)
    prior = 1 / (2 * SLOPE_SPREAD**2 * len(np.unique(group)))
    if not binary:
        own = logits[np.arange(len(label)), label].astype(float)

        def temperature(at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            slope = np.exp(at[0])
            scaled = slope * logits.astype(float)
            top = scaled.max(axis=1)
            share = softmax(scaled, axis=1)
            mean = (share * scaled).sum(axis=1)
            spread = (share * np.square(scaled)).sum(axis=1) - np.square(mean)
            fit = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top - slope * own
            first = (mean - slope * own).mean()
            return (fit.mean() + prior * at[0] ** 2, np.array([first + 2 * prior * at[0]]),
                    np.array([[first + spread.mean() + 2 * prior]]))

        found = _minimum(temperature, [0.0], [(-4.0, 3.0)])
        return Calibration(float(np.exp(found[0])), 0.0, None)

    margin = (logits[:, 1] - logits[:, 0]).astype(float)
    positives, negatives = int((label == 1).sum()), int((label == 0).sum())
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def platt(at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        scaled = np.exp(at[0]) * margin
        log_odds = scaled + at[1]
        share = expit(log_odds)
        error, weight = share - target, share * (1 - share)
        fit = (np.logaddexp(0, log_odds) - target * log_odds).mean()
        first = (error * scaled).mean()
        both = (weight * scaled).mean()
        return (fit + prior * at[0] ** 2,
                np.array([first + 2 * prior * at[0], error.mean()]),
                np.array([[(weight * scaled**2).mean() + first + 2 * prior, both],
                          [both, weight.mean()]]))

    found = _minimum(platt, [0.0, np.log((positives + 1) / (negatives + 1))],
                     [(-5.0, 3.0), (-20.0, 20.0)])
    slope, offset = float(np.exp(found[0])), float(found[1])
    probability = expit(slope * margin + offset)
    return Calibration(slope, offset, _best_threshold(label == 1, probability))


def _minimum(
    function: Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]],
    start: list[float], bounds: list[tuple[float, float]],
) -> np.ndarray:
    """Minimise a smooth function of one or two parameters within bounds, by damped Newton steps.

    A study calibrates thousands of times. For so few parameters scipy's minimisers spend nearly
    all of their time on themselves, and on waking the threads of a linear algebra library.

    Parameters
    ----------
    function : callable
        Returns value, gradient [p] and Hessian [p, p].
    start : list of float
    bounds : list of tuple
    """
    low, high = np.array(bounds).T
    at = np.clip(np.array(start, float), low, high)
    value, gradient, hessian = function(at)
    for _ in range(MOST_STEPS):
        # A parameter that pushes against its bound stays there.
        free = ~(((at <= low) & (gradient > 0)) | ((at >= high) & (gradient < 0)))
        if not free.any() or np.abs(gradient[free]).max() < 1e-9:
            break
        # Curvature upwards in every direction, or the step would climb.
        curvature, directions = np.linalg.eigh(hessian[np.ix_(free, free)])
        step = np.zeros(len(at))
        step[free] = directions @ (
            (directions.T @ gradient[free]) / np.maximum(np.abs(curvature), 1e-6))
        for shrink in 0.25 ** np.arange(12):
            tried = np.clip(at - shrink * step, low, high)
            outcome = function(tried)
            if outcome[0] < value:
                break
        else:
            break
        at, (value, gradient, hessian) = tried, outcome
    return at


def _best_threshold(positive: np.ndarray, probability: np.ndarray) -> float:
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    # Units of one probability fall on one side.
    last = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    recall = np.cumsum(positive[order])[last] / positive.sum()
    false_alarms = np.cumsum(~positive[order])[last] / (~positive).sum()
    best = int((recall - false_alarms).argmax())
    # Halfway to the next unit, so that the unit itself is not decided by rounding.
    following = ranked[last[best] + 1] if best + 1 < len(last) else 0.0
    return float((ranked[last[best]] + following) / 2)


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
    by_repeat : ndarray, float64, [repeats, units, C]
    """

    units: pd.DataFrame
    probability: np.ndarray
    predicted: np.ndarray
    threshold: float | None
    by_repeat: np.ndarray


def out_of_fold(
    examples: Examples,
    level: str,
    outer_logits: dict[tuple[int, int], np.ndarray],
    calibrations: dict[tuple[int, int], Calibration],
) -> OutOfFold:
    """Collect what each outer model says of the fold it left out.

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
    keep = (group >= 0) & ~examples.groups["Holdout"].to_numpy(bool)[group]
    matrix, units = matrix[np.flatnonzero(keep)], units[keep].reset_index(drop=True)
    group = group[keep]
    by_repeat = np.zeros((examples.repeats, len(units), len(examples.classes)))
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
    return OutOfFold(
        units, probability, predicted, float(threshold.mean()) if binary else None, by_repeat
    )


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
        (repeat, fold) -> ndarray, float32, [n, C]: what the model that left out the fold says.
    calibrations : dict
        Level -> (repeat, fold) -> Calibration.
    """
    pairs = fold_pairs(examples)
    outer_logits: dict[tuple[int, int], np.ndarray] = {}
    calibrations: dict[str, dict[tuple[int, int], Calibration]] = {level: {} for level in LEVELS}
    asked = asked_classes(examples)
    # One outer model and its inner ones at a time: blocks of one shape share a compiled model,
    # and outer models may have chosen different heads.
    for (repeat, fold), head in heads.items():
        inner_pairs = [(r, j, k) for r, j, k in pairs if r == repeat and fold in (j, k)]
        rows, sites = training_rows(examples, head, train)
        masks = masks_without(rows, [(repeat, fold), *inner_pairs])
        logits = predict_by_panel(fit_by_panel(rows, masks, head, train, seed), sites, train)
        outer_logits[repeat, fold] = logits[0]
        inner = Inner(examples, inner_pairs)
        for level in LEVELS:
            calibrations[level][repeat, fold] = calibrate_asked(
                *inner.pooled(logits[1:], repeat, fold, level), examples.binary, asked
            )
    return outer_logits, calibrations


def calibrate_asked(
    label: np.ndarray, logits: np.ndarray, group: np.ndarray, binary: bool, asked: list[int]
) -> Calibration:
    """Calibrate by the units whose class can be known: see `calibrate`."""
    keep = np.ones(len(label), bool) if binary else np.isin(label, asked)
    return calibrate(label[keep], logits[keep], group[keep], binary)
