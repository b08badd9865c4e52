"""Which features measure cells, and which of them say the same as another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from moascope.features.disk import OnDisk, covariance_of, pieces

MOST_MISSING = 0.05
"""Share of a panel's rows in which a feature may be missing (pycytominer's `na_cutoff`)."""

DUPLICATE = 0.9
"""Absolute correlation above which two features say the same (pycytominer's
`corr_threshold`)."""

LEAST_ROWS = 10
"""Fewer rows correlate by chance."""

_LEAST_SPREAD = 1e-6
_BLOCK = 512

# As the CellProfiler manual names its measurements.
_NOT_OF_CELLS = re.compile("|".join((
    r"(^|_)Location_",
    r"AreaShape_Center_[XYZ]$",
    r"AreaShape_BoundingBox",
    r"AreaShape_Orientation$",
    r"EulerNumber$",
    r"(^|_)Number_Object_Number$",
    r"(^|_)(First|Second)ClosestObjectNumber",
    r"(^|_)(ObjectNumber|ImageNumber|TableNumber)$",
    r"(^|_)Parent_",
    r"(^|_)Children_",
    r"(^|_)(ExecutionTime|ModuleError|Group|ProcessingStatus)_",
    r"Correlation_Costes_",
    r"(^|_)Nuclei_Correlation_(Manders|RWC)_",
    r"(^|_)Nuclei_Granularity_1[4-6]_",
)))


def measures_cells(names: Sequence[str]) -> np.ndarray:
    """Which features are measurements of cells, judged by CellProfiler's names for them.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    ndarray, bool, [features]
        False for where in the picture a cell lies and how it is turned there, numbers of objects,
        parents and children, times, Euler numbers, and the correlations and granularities that are
        known to be noise. Names of other software are True.

    Notes
    -----
    Noise: Way, "Blocklist features", figshare 10.6084/m9.figshare.10255811, which pycytominer
    ships, written here as patterns of names without the stains; Costes' threshold is left out in
    the JUMP recipe. Places and numbers: CellProfiler's manual, "Measurement nomenclature".
    """
    return np.array([not _NOT_OF_CELLS.search(name) for name in names], bool)


def is_known(X: Any, panels: np.ndarray) -> np.ndarray:
    """Which features are there in at least 95 % of the rows of each panel that has them.

    Parameters
    ----------
    X : ndarray or OnDisk, float, [rows, features]
        NaN where a value is missing; throughout a panel where that lacks the channel.
    panels : ndarray, [rows]

    Returns
    -------
    ndarray, bool, [features]
    """
    known = np.zeros(X.shape[1], bool)
    spoilt = np.zeros(X.shape[1], bool)
    names = np.unique(panels)
    counts = np.zeros((len(names), X.shape[1]))
    for at, piece in pieces(X):
        for number, panel in enumerate(names):
            counts[number] += np.isnan(piece[panels[at] == panel]).sum(axis=0)
    for panel, count in zip(names, counts, strict=True):
        missing = count / (panels == panel).sum()
        known |= missing < 1
        spoilt |= (missing > MOST_MISSING) & (missing < 1)
    return known & ~spoilt


def varies(X: Any) -> np.ndarray:
    """Which features are not the same in all rows.

    Parameters
    ----------
    X : ndarray or OnDisk, float, [rows, features]

    Returns
    -------
    ndarray, bool, [features]
        False where the largest and smallest value differ by less than a millionth of their size.
    """
    top = np.full(X.shape[1], -np.inf, np.float32)
    bottom = -top
    for _, piece in pieces(X):
        known = np.isfinite(piece)
        top = np.maximum(top, np.where(known, piece, -np.inf).max(axis=0, initial=-np.inf))
        bottom = np.minimum(bottom, np.where(known, piece, np.inf).min(axis=0, initial=np.inf))
    some = top >= bottom
    top, bottom = np.where(some, top, 0), np.where(some, bottom, 0)
    return top - bottom > _LEAST_SPREAD * np.maximum(np.abs(top), np.abs(bottom))


def distinct(X: Any) -> np.ndarray:
    """Which features are left when one of every two that say the same is dropped.

    Parameters
    ----------
    X : ndarray or OnDisk, float, [rows, features]
        Without missing values.

    Returns
    -------
    ndarray, bool, [features]
        No two that are True correlate by more than `DUPLICATE`, up or down. All of them with fewer
        than `LEAST_ROWS` rows.

    Notes
    -----
    In the order of the table a feature is kept unless it says the same as one that is kept, so
    that what is dropped has a representative; pycytominer drops the one of each pair with the
    larger sum of correlations, and may drop both ends of a chain.
    """
    count, width = X.shape
    kept = np.ones(width, bool)
    if count < LEAST_ROWS:
        return kept
    correlation = _correlation(X)
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        before = np.flatnonzero(kept[:start])
        if len(before):
            kept[start:end] = ~(np.abs(correlation(before, slice(start, end)))
                                > DUPLICATE).any(axis=0)
        own = np.abs(correlation(slice(start, end), slice(start, end))) > DUPLICATE
        for at in range(end - start):
            kept[start + at] &= not (own[:at, at] & kept[start:start + at]).any()
    return kept


def _correlation(X: Any) -> Callable[[Any, Any], np.ndarray]:
    """A function from some columns and some others to their correlations."""
    if not isinstance(X, OnDisk):
        Z = np.asarray(X, np.float64) - X.mean(axis=0, dtype=np.float64)
        norms = np.sqrt((Z**2).sum(axis=0))
        Z = (Z / np.where(norms > 0, norms, 1)).astype(np.float32)
        return lambda some, others: Z[:, some].T @ Z[:, others]
    covariance = covariance_of(X)[1]
    spread = np.sqrt(np.diag(covariance))
    scale = 1 / np.where(spread > 0, spread, 1)
    return lambda some, others: (covariance[some][:, others] * scale[some][:, None]
                                 * scale[others])
