"""How far wells are from the negative controls of their plates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.cross_normalised import normalised_wells
from moascope.features.disk import OnDisk, pieces
from moascope.features.table import FeatureTable
from moascope.screen.columns import WELL

# Directions in which the wells of a panel vary most; controls are too few for a covariance of more.
MOST_COMPONENTS = 20
# Values of wells that these directions are found from, where memory does not hold all wells.
MOST_VALUES = 2**26


def log_distances(sites: FeatureTable, dealt: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Logarithm of each well's Mahalanobis distance from the controls.

    Parameters
    ----------
    sites : FeatureTable
        Of one panel.
    dealt : ndarray, int, [sites]
        From `cross_normalised.deal_controls`.

    Returns
    -------
    wells : DataFrame
        The metadata of each well, sorted by plate and well.
    distance : ndarray, float64, [wells]
        Natural logarithm; 0 is the mean of the controls.

    Notes
    -----
    Wells are in robust deviations of the plate's controls with moderated spreads, on their leading
    principal components, and the covariance is that of the controls, shrunk by Ledoit and Wolf (J
    Multivar Anal 88, 2004). Of the ways to call hits in Cell Painting that Nyffeler et al.
    compare (SLAS Discov 26, 2021), fits of such distances had the fewest false hits of high
    potency.

    A control that shapes the covariance lies nearer to the middle than one that does not, so each
    part of the controls is measured by the others, and treated wells by every part in turn.
    """
    from sklearn.covariance import LedoitWolf

    first = sites.meta.groupby(WELL, sort=True).head(1).sort_values(WELL).index
    wells, part = sites.meta.loc[first].reset_index(drop=True), dealt[first]
    found = np.zeros(len(wells))
    parts = int(dealt.max()) + 1
    for number in range(parts):
        others = (dealt >= 0) & (dealt != number)
        X = _components(normalised_wells(sites, others, "moderated", scaled=False))
        fits = (part >= 0) & (part != number)
        covariance = LedoitWolf().fit(X[fits])
        # Squared; never zero, whose logarithm is none.
        own = np.log(np.maximum(covariance.mahalanobis(X), np.finfo(np.float32).tiny)) / 2
        middle = own[part == number].mean()
        found += np.where(part < 0, (own - middle) / parts, 0)
        found[part == number] = own[part == number] - middle
    return wells, found


def _components(X: Any) -> np.ndarray:
    """Wells, float32 [wells, d] or on disk, on their leading principal components."""
    from sklearn.decomposition import PCA

    axes = PCA(min(MOST_COMPONENTS, *X.shape), svd_solver="randomized", random_state=0)
    if not isinstance(X, OnDisk):
        return axes.fit_transform(X)
    few = min(len(X), max(axes.n_components, MOST_VALUES // X.shape[1]))
    axes.fit(X[np.sort(np.random.default_rng(0).choice(len(X), few, replace=False))])
    return np.concatenate([axes.transform(piece) for _, piece in pieces(X)])
