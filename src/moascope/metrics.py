"""Scores with their intervals and nulls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def average_precision(
    positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average precision for many weightings or labellings of the same ranking at once.

    Parameters
    ----------
    positive : ndarray, bool, [n] or [B, n]
        Which units are positive; one row a labelling.
    score : ndarray, float, [n]
        Higher is more positive. Equal scores are one threshold.
    weights : ndarray, float, [B, n], optional
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
    label: np.ndarray,
    score: np.ndarray,
    classes: list[int],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Mean over classes of one-against-rest average precision.

    Parameters
    ----------
    label : ndarray, int, [n] or [B, n]
    score : ndarray, float, [n, C]
        A column a class.
    classes : list of int
        Which classes count: `[1]` for a binary target.
    weights : ndarray, float, [B, n], optional

    Returns
    -------
    ndarray, float64, [B] or scalar
        A class without a positive unit in a labelling is left out of that mean.
    """
    each = [average_precision(label == c, score[:, c], weights) for c in classes]
    return np.nanmean(each, axis=0) if len(each) > 1 else np.asarray(each[0])


def bootstrap_weights(cluster: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Multiplicities of units when whole clusters are drawn with replacement.

    Parameters
    ----------
    cluster : ndarray, int, [n]
        The independent unit (compound) that each row belongs to.
    count : int
    seed : int

    Returns
    -------
    ndarray, float64, [count, n]
    """
    names, code = np.unique(cluster, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=count
    )
    return drawn[:, code].astype(float)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The central 95 % of values, NaN left out."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def permuted_labels(label: np.ndarray, cluster: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Labels dealt anew among clusters: every row of a compound gets the same new label.

    Parameters
    ----------
    label, cluster : ndarray, int, [n]
        A cluster has one label.
    count, seed : int

    Returns
    -------
    ndarray, int, [count, n]
    """
    _, first, code = np.unique(cluster, return_index=True, return_inverse=True)
    generator = np.random.default_rng(seed)
    own = label[first]
    return np.stack([generator.permutation(own)[code] for _ in range(count)])


def score_table(
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    cluster: np.ndarray,
    classes: tuple[str, ...],
    asked: list[int],
    bootstraps: int,
    permutations: int,
    seed: int,
) -> dict:
    """All scores of one set of predictions.

    Parameters
    ----------
    label : ndarray, int, [n]
    probability : ndarray, float, [n, C]
    predicted : ndarray, int, [n]
    cluster : ndarray, int, [n]
        The compound of each row: what bootstrap and permutation draw.
    classes : tuple of str, [C]
    asked : list of int
        Classes whose average precision counts; `[1]` for a binary target.
    bootstraps, permutations, seed : int

    Returns
    -------
    dict
        Plain numbers: `n`, `compounds`, `positives` (binary) or `per_class`, `average_precision`
        (macro over classes where there are several) with `low` and `high`, `prevalence`, `lift`,
        `normalised_average_precision` [1]_, the permutation null and `p`, `roc_auc`, `brier`,
        `log_loss`, `accuracy`, `balanced_accuracy`, `precision_at_10`, `confusion`.

    Notes
    -----
    p counts the observed labelling among the permutations: (1 + exceedances) / (1 + permutations).

    .. [1] (AP - mu0) / (1 - mu0), mu0 the mean AP under permutation.
    """
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

    present = [c for c in asked if (label == c).any()]
    observed = float(macro_average_precision(label, probability, present))
    drawn = bootstrap_weights(cluster, bootstraps, seed)
    low, high = interval(macro_average_precision(label, probability, present, drawn))
    dealt = permuted_labels(label, cluster, permutations, seed)
    null = macro_average_precision(dealt, probability, present)
    prevalence = float(np.mean([(label == c).mean() for c in present]))
    mu0 = float(null.mean())
    onehot = np.eye(len(classes))[label]
    sharp = np.clip(probability, 1e-7, 1)
    auc = [roc_auc_score(label == c, probability[:, c]) for c in present if (label != c).any()]
    scores = {
        "n": len(label),
        "compounds": len(np.unique(cluster)),
        "average_precision": observed,
        "low": low,
        "high": high,
        "prevalence": prevalence,
        "lift": observed / prevalence,
        "normalised_average_precision": (observed - mu0) / (1 - mu0),
        "null_mean": mu0,
        "null_low": float(np.percentile(null, 2.5)),
        "null_high": float(np.percentile(null, 97.5)),
        "p": float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null))),
        "roc_auc": float(np.mean(auc)) if auc else None,
        "brier": float(np.square(probability - onehot).sum(axis=1).mean() / 2),
        "log_loss": float(-np.log(sharp[np.arange(len(label)), label]).mean()),
        "accuracy": float((predicted == label).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(label, predicted))
        if set(predicted) <= set(label)
        else float(np.mean([(predicted[label == c] == c).mean() for c in np.unique(label)])),
        "confusion": confusion_matrix(label, predicted, labels=range(len(classes))).tolist(),
    }
    for top in (10, 20):
        if len(label) >= top:
            scores[f"precision_at_{top}"] = float(np.mean([
                (label[np.argsort(-probability[:, c], kind="stable")[:top]] == c).mean()
                for c in present
            ]))
    if asked == [1]:
        scores["positives"] = int((label == 1).sum())
    else:
        each_low_high = [interval(average_precision(label == c, probability[:, c], drawn))
                         for c in present]
        scores["per_class"] = {
            classes[c]: {
                "n": int((label == c).sum()),
                "average_precision": float(average_precision(label == c, probability[:, c])),
                "low": bounds[0],
                "high": bounds[1],
                "prevalence": float((label == c).mean()),
                "recall": float((predicted[label == c] == c).mean()),
            }
            for c, bounds in zip(present, each_low_high, strict=True)
        }
    return scores


def paired_difference(
    score: Callable[[np.ndarray], np.ndarray],
    other: Callable[[np.ndarray], np.ndarray],
    cluster: np.ndarray,
    bootstraps: int,
    seed: int,
) -> tuple[float, float, float]:
    """Difference of two scores of the same units, with its interval over compounds.

    Parameters
    ----------
    score, other : callable
        From weights [B, n] to values [B].
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
    return observed, low, high
