"""Which features measure cells, and which of them say the same as another."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

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


def is_known(X: np.ndarray, panels: np.ndarray) -> np.ndarray:
    """Which features are there in at least 95 % of the rows of each panel that has them.

    Parameters
    ----------
    X : ndarray, float, [rows, features]
        NaN where a value is missing; throughout a panel where that lacks the channel.
    panels : ndarray, [rows]

    Returns
    -------
    ndarray, bool, [features]
    """
    known = np.zeros(X.shape[1], bool)
    spoilt = np.zeros(X.shape[1], bool)
    for panel in np.unique(panels):
        missing = np.isnan(X[panels == panel]).mean(axis=0)
        known |= missing < 1
        spoilt |= (missing > MOST_MISSING) & (missing < 1)
    return known & ~spoilt


def varies(X: np.ndarray) -> np.ndarray:
    """Which features are not the same in all rows.

    Parameters
    ----------
    X : ndarray, float, [rows, features]

    Returns
    -------
    ndarray, bool, [features]
        False where the largest and smallest value differ by less than a millionth of their size.
    """
    known = np.isfinite(X)
    top = np.where(known, X, -np.inf).max(axis=0, initial=-np.inf)
    bottom = np.where(known, X, np.inf).min(axis=0, initial=np.inf)
    size = np.maximum(np.abs(top), np.abs(bottom))
    return known.any(axis=0) & (top - bottom > _LEAST_SPREAD * size)


def distinct(X: np.ndarray) -> np.ndarray:
    """Which features are left when one of every two that say the same is dropped.

    Parameters
    ----------
    X : ndarray, float, [rows, features]
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
    Z = np.asarray(X, np.float64) - X.mean(axis=0, dtype=np.float64)
    norms = np.sqrt((Z**2).sum(axis=0))
    Z = (Z / np.where(norms > 0, norms, 1)).astype(np.float32)
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        before = np.flatnonzero(kept[:start])
        if len(before):
            kept[start:end] = ~(np.abs(Z[:, before].T @ Z[:, start:end]) > DUPLICATE).any(axis=0)
        own = np.abs(Z[:, start:end].T @ Z[:, start:end]) > DUPLICATE
        for at in range(end - start):
            kept[start + at] &= not (own[:at, at] & kept[start:start + at]).any()
    return kept
