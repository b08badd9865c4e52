"""Profiles of wells and compounds, and where compounds lie on a map."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import numpy as np
import pandas as pd

from moascope.features.normalise import apply_sphering, fit_sphering, standardise_plates
from moascope.features.table import FeatureTable
from moascope.learning.novelty import of_length_one
from moascope.quiet import import_keras
from moascope.screen.columns import WELL

How = Literal["umap", "pca"]
NEIGHBOURS = 15
"""Compounds that UMAP keeps together; its own default."""


def well_profiles(table: FeatureTable) -> tuple[pd.DataFrame, np.ndarray]:
    """Wells in deviations of their plate's negative controls.

    Parameters
    ----------
    table : FeatureTable
        Sites with `Metadata_Plate`, `Metadata_Well`, `Metadata_Control` and `QC_Pass`.

    Returns
    -------
    wells : DataFrame
        `Metadata_Plate`, `Metadata_Well`, sorted; wells with a site that passed quality control.
        `Cells` (float, mean number of nuclei per site; NaN where nothing was counted) and
        `Distance` (float, from the centre of the plate's controls, in medians of the distances of
        those controls; NaN where the plate has none).
    profiles : ndarray, float32, [wells, d]
        Moderated robust deviations, sphered by the controls where they allow it, averaged over
        sites. Without any control, standard scores over all wells.

    Notes
    -----
    The controls that a distance is measured in are those that normalised, so it is a number to
    look at and no test; `activity` and `similar` hold controls back.
    """
    passed = table.meta["QC_Pass"].to_numpy(bool)
    meta, X = table.meta[passed].reset_index(drop=True), table.X[passed]
    code = meta.groupby(WELL, sort=True).ngroup().to_numpy()
    first = np.unique(code, return_index=True)[1]
    negative = (meta["Metadata_Control"] == "negative").to_numpy()
    X = standardise_plates(FeatureTable(meta, X, table.names), negative, moderated=True).X
    if negative.any():
        # Too few controls, or all alike: nothing to sphere by.
        with contextlib.suppress(ValueError):
            X = apply_sphering(X, fit_sphering(X[negative]))
    profiles = _mean_of(code, X)
    if not negative.any():
        spread = profiles.std(axis=0)
        profiles = (profiles - profiles.mean(axis=0)) / np.where(spread > 0, spread, 1)
    wells = meta.loc[first, WELL].reset_index(drop=True)
    counts = [name for name in table.names if name.startswith("Count_")]
    wells["Cells"] = np.nan
    if counts:
        wells["Cells"] = _mean_of(code, table.X[passed][:, [table.names.index(counts[0])]])[:, 0]
    length = pd.Series(np.linalg.norm(profiles, axis=1))
    typical = length.where(negative[first]).groupby(wells["Metadata_Plate"]).transform("median")
    wells["Distance"] = (length / typical.where(typical > 0)).to_numpy()
    return wells, profiles.astype(np.float32)


def consensus(profiles: np.ndarray, compound: np.ndarray, panel: np.ndarray,
              compounds: int) -> np.ndarray:
    """Mean profiles of compounds; each panel counts alike, however many wells it has.

    Parameters
    ----------
    profiles : ndarray, float32, [wells, d]
    compound : ndarray, int, [wells]
        -1 for wells without a compound.
    panel : ndarray, int, [wells]
    compounds : int

    Returns
    -------
    ndarray, float32, [compounds, d]
        Of length one; zero where a compound has no well.
    """
    total = np.zeros((compounds, profiles.shape[1]), np.float64)
    count = np.zeros((compounds, 1))
    for one in np.unique(panel):
        own = (panel == one) & (compound >= 0)
        present, code = np.unique(compound[own], return_inverse=True)
        if len(present):
            total[present] += _mean_of(code, profiles[own])
            count[present] += 1
    return of_length_one(total / np.maximum(count, 1))


def place(profiles: np.ndarray, how: How, seed: int = 0) -> np.ndarray:
    """Places of compounds on a map: near is alike.

    Parameters
    ----------
    profiles : ndarray, float32, [n, d]
        Of length one.
    how : {"umap", "pca"}
        UMAP (McInnes, Healy and Melville 2018) by cosine, or the first two principal components.
        UMAP needs more compounds than neighbours; fewer get principal components.
    seed : int

    Returns
    -------
    ndarray, float, [n, 2]
        Each axis from 0 to 1.
    """
    found: Any = np.zeros((len(profiles), 2))
    if how == "umap" and len(profiles) > NEIGHBOURS:
        # UMAP imports TensorFlow where it is installed, which would talk.
        import_keras()
        from umap import UMAP

        found = UMAP(n_neighbors=NEIGHBOURS, metric="cosine", random_state=seed,
                     n_jobs=1).fit_transform(profiles)
    elif len(profiles) > 1:
        left, size, _ = np.linalg.svd(profiles - profiles.mean(axis=0), full_matrices=False)
        axes = (left * size)[:, :2]
        # The sign of a component is arbitrary; the same input gives the same map.
        found[:, : axes.shape[1]] = axes * np.where(
            axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])] < 0, -1, 1)
    low, high = found.min(axis=0, initial=np.inf), found.max(axis=0, initial=-np.inf)
    return (found - low) / np.where(high > low, high - low, 1) if len(found) else found


def _mean_of(code: np.ndarray, X: np.ndarray) -> np.ndarray:
    from scipy import sparse

    size = np.bincount(code)
    mean = sparse.csr_array((1 / size[code], (code, np.arange(len(code)))),
                            shape=(len(size), len(code)))
    return np.asarray(mean @ X)
