"""From logits to probabilities and decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moascope.screen.question import Question

# Standard deviation of the prior of the logarithm of a calibration's slope.
SLOPE_SPREAD = 0.5

# Newton steps of a calibration; a handful are enough.
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


def explained_by_unit(
    label: np.ndarray, logits: np.ndarray, group: np.ndarray, question: Question
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the labels' entropy that calibrated predictions explain, unit by unit.

    Parameters
    ----------
    label : ndarray, int, [n]
    logits : ndarray, float, [n, C]
        Of models that had not seen the units.
    group : ndarray, int, [n]
        The compound of each unit.
    question : Question

    Returns
    -------
    share : ndarray, float, [kept]
        1 - log loss / log loss of the class frequencies. Its mean is McFadden's R2: 1 is perfect,
        about 0 is chance. All 0 where the units are of one class.
    kept : ndarray, bool, [n]
        The units that count for the question's scores.
    """
    keep = question.counts(label)
    label, logits, group = label[keep], logits[keep], group[keep]
    if len(np.unique(label)) < 2:
        return np.zeros(len(label)), keep
    fitted = calibrate(label, logits, group, question.binary)
    probability = fitted.probability(logits.astype(float))
    loss = -np.log(np.clip(probability[np.arange(len(label)), label], 1e-12, 1))
    share = np.bincount(label) / len(label)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    return 1 - loss / entropy, keep


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


def calibrate_scored(
    label: np.ndarray, logits: np.ndarray, group: np.ndarray, question: Question
) -> Calibration:
    """Calibrate by the units that count for the question's scores: see `calibrate`."""
    keep = question.counts(label)
    return calibrate(label[keep], logits[keep], group[keep], question.binary)
