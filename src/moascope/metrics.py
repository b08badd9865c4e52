"""Average precision, and the resampling behind its intervals and nulls: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# An average precision of fewer positives has no interval.
LEAST_POSITIVES = 5

MOST_NUMBERS = 2**23
"""Of draws that are spread over rows at once: a thousand draws of a million images are 8 GB."""


@dataclass(frozen=True)
class Drawn:
    """What many draws give each row, kept as what they give each cluster.

    Attributes
    ----------
    values : ndarray, [B, clusters]
    code : ndarray, int, [n]
        The cluster of each row.
    """

    values: np.ndarray
    code: np.ndarray

    def portions(self) -> Iterator[np.ndarray]:
        """ndarray, [some draws, n], one after the other."""
        step = max(1, MOST_NUMBERS // max(1, len(self.code)))
        for start in range(0, len(self.values), step):
            yield self.values[start : start + step][:, self.code]


def average_precision(
    positive: np.ndarray, score: np.ndarray, weights: np.ndarray | Drawn | None = None
) -> np.ndarray:
    """Average precision for many weightings or labellings of the same ranking at once.

    Parameters
    ----------
    positive : ndarray, bool, [n] or [B, n]
        Which units are positive; one row per labelling.
    score : ndarray, float, [n]
        Higher is more positive. Equal scores are one threshold.
    weights : ndarray, float, [B, n], or Drawn, optional
        How often each unit counts (bootstrap multiplicities).

    Returns
    -------
    ndarray, float64, [B] (or a scalar array where neither has a leading axis)
        NaN where no positive unit counts.

    Notes
    -----
    The sum over thresholds of precision times the gain in recall, as
    `sklearn.metrics.average_precision_score`, against which it is tested; this one sorts once.
    """
    if isinstance(weights, Drawn):
        return np.concatenate([average_precision(positive, score, part)
                               for part in weights.portions()])
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    positive = np.asarray(positive, float)[..., order]
    counted = np.ones_like(positive) if weights is None else np.asarray(weights, float)[..., order]
    hits = np.cumsum(positive * counted, axis=-1)[..., last]
    seen = np.cumsum(counted, axis=-1)[..., last]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, hits / seen, 0)
        recall_gain = np.diff(hits, axis=-1, prepend=0) / hits[..., -1:]
    return (precision * recall_gain).sum(axis=-1)


def macro_average_precision(
    label: np.ndarray | Drawn,
    score: np.ndarray,
    classes: list[int],
    weights: np.ndarray | Drawn | None = None,
) -> np.ndarray:
    """Mean over classes of one-against-rest average precision.

    Parameters
    ----------
    label : ndarray, int, [n] or [B, n], or Drawn
    score : ndarray, float, [n, C]
        One column per class.
    classes : list of int
        Which classes count: `[1]` for a binary target.
    weights : ndarray, float, [B, n], or Drawn, optional

    Returns
    -------
    ndarray, float64, [B] or scalar
        A class without a positive unit in a labelling is left out of that mean.
    """
    if isinstance(label, Drawn):
        return np.concatenate([macro_average_precision(part, score, classes)
                               for part in label.portions()])
    each = [average_precision(label == c, score[:, c], weights) for c in classes]
    return np.nanmean(each, axis=0) if len(each) > 1 else np.asarray(each[0])


def null_mean(count: int, positives: int) -> float:
    """The mean average precision of a list in random order, exactly.

    With few positives it lies well above their share: 0.198 for 17 of 104.

    Parameters
    ----------
    count, positives : int
        Units, and the positives among them.

    Notes
    -----
    Over all orders without ties. At rank k a positive sees itself and, of the k - 1 before it, the
    share (P - 1) / (N - 1) of positives; its precision is the mean of that over k = 1 ... N [1]_.

    .. [1] Bestgen, "Exact expected average precision of the random baseline for system
       evaluation", Prague Bulletin of Mathematical Linguistics 103, 2015.
    """
    if count < 2:
        return float(positives > 0)
    harmonic = float((1 / np.arange(1, count + 1)).sum())
    return (harmonic + (positives - 1) / (count - 1) * (count - harmonic)) / count


def score_interval(observed: float, drawn: np.ndarray, positives: float,
                   ) -> tuple[float | None, float | None]:
    """The interval of an average precision, or none where it would say nothing.

    Parameters
    ----------
    observed : float
    drawn : ndarray, float, [B]
        Of the bootstrap.
    positives : float
        Positive units; of several classes, their mean number in a class.

    Returns
    -------
    low, high : float or None
        None below `LEAST_POSITIVES`: resamples of two compounds that are both found at the top
        would give [1, 1]. A drawn positive that comes twice stands next to itself, which lifts the
        average precision of resamples, so that the interval is widened to hold its value.
    """
    if positives < LEAST_POSITIVES:
        return None, None
    low, high = interval(drawn)
    return min(low, observed), max(high, observed)


def bootstrap_weights(cluster: np.ndarray, count: int, seed: int) -> np.ndarray | Drawn:
    """Multiplicities of units when whole clusters are drawn with replacement.

    Parameters
    ----------
    cluster : ndarray, int, [n]
        The independent unit (compound) that each row belongs to.
    count : int
    seed : int

    Returns
    -------
    ndarray, float64, [count, n], or Drawn
        The latter where these would be more than `MOST_NUMBERS`.
    """
    names, code = np.unique(cluster, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=count
    )
    return _spread(drawn.astype(float), code)


def _spread(values: np.ndarray, code: np.ndarray) -> np.ndarray | Drawn:
    """[B, clusters] -> [B, n]."""
    return (values[:, code] if len(values) * len(code) <= MOST_NUMBERS
            else Drawn(values, code))


def interval(values: np.ndarray) -> tuple[float, float]:
    """The central 95 % of values, NaN left out."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def permuted_labels(label: np.ndarray, cluster: np.ndarray, count: int,
                    seed: int) -> np.ndarray | Drawn:
    """Labels permuted among clusters: every row of a compound gets the same new label.

    Parameters
    ----------
    label, cluster : ndarray, int, [n]
        A cluster has one label.
    count, seed : int

    Returns
    -------
    ndarray, int, [count, n], or Drawn
        The latter where these would be more than `MOST_NUMBERS`.
    """
    _, first, code = np.unique(cluster, return_index=True, return_inverse=True)
    generator = np.random.default_rng(seed)
    own = label[first]
    return _spread(np.stack([generator.permutation(own) for _ in range(count)]), code)


def paired_difference(
    score: Callable[[np.ndarray | Drawn], np.ndarray],
    other: Callable[[np.ndarray | Drawn], np.ndarray],
    cluster: np.ndarray,
    bootstraps: int,
    seed: int,
) -> tuple[float, float, float]:
    """Difference of two scores of the same units, with its interval over compounds.

    Parameters
    ----------
    score, other : callable
        From weights ([B, n] or Drawn) to values [B].
    cluster : ndarray, int, [n]
    bootstraps, seed : int

    Returns
    -------
    observed, low, high : float
    """
    once = np.ones((1, len(cluster)))
    observed = float((score(once) - other(once))[0])
    drawn = bootstrap_weights(cluster, bootstraps, seed)
    low, high = interval(score(drawn) - other(drawn))
    return observed, min(low, observed), max(high, observed)
