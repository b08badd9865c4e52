"""Profiles of wells that are compared with other controls than those that normalise them.

Around controls that were centred or sphered by themselves every other well looks alike, the more so
the more features there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.features.disk import combined, mapped, rows_of
from moascope.features.normalise import (
    LEAST_CONTROL_SITES,
    apply_sphering,
    fit_sphering,
    standardise_plates,
)
from moascope.features.table import FeatureTable
from moascope.learning.novelty import of_length_one
from moascope.screen.columns import WELL

# Of a plate's controls: all parts but one normalise, that one is compared.
MOST_PARTS = 5


def deal_controls(meta: pd.DataFrame, generator: np.random.Generator
                  ) -> tuple[np.ndarray, list[str]]:
    """Deal the wells of each plate's negative controls into parts, as few as suffice.

    Parameters
    ----------
    meta : DataFrame, [n]
        Sites of one panel.
    generator : Generator

    Returns
    -------
    part : ndarray, int, [n]
        -1 for sites of treated wells. A position goes to the same part on all plates that have
        the same controls.
    lacking : list of str
        Plates with too few controls: without one part, the others could not normalise.
    """
    negative = (meta["Metadata_Control"] == "negative").to_numpy()
    sites = meta.loc[negative].groupby(WELL, as_index=False).size()
    keys = dict(zip(sorted(set(sites["Metadata_Well"])),
                    generator.random(sites["Metadata_Well"].nunique()), strict=True))
    rank = sites["Metadata_Well"].map(keys).groupby(sites["Metadata_Plate"]).rank().astype(int)
    best: tuple[np.ndarray, list[str]] | None = None
    plates = sorted(set(meta["Metadata_Plate"]))
    # Few parts compare with many controls; small numbers of controls need them to normalise.
    for parts in range(2, MOST_PARTS + 1):
        part = (rank % parts).to_numpy()
        held = sites.assign(Part=part).pivot_table(
            index="Metadata_Plate", columns="Part", values="size", aggfunc="sum", fill_value=0,
        ).reindex(index=plates, columns=range(parts), fill_value=0)
        left = held.sum(axis=1).to_numpy()[:, None] - held.to_numpy()
        enough = ((left >= LEAST_CONTROL_SITES) & (held.to_numpy() > 0)).all(axis=1)
        lacking = [plate for plate, fits in zip(plates, enough, strict=True) if not fits]
        if best is None or len(lacking) < len(best[1]):
            best = part, lacking
        if not lacking:
            break
    part, lacking = best or (np.zeros(0, int), plates)
    joined = meta[WELL].merge(sites[WELL].assign(Part=part), on=WELL, how="left")["Part"]
    return joined.fillna(-1).astype(int).to_numpy(), lacking


def some_sites(table: FeatureTable, rows: np.ndarray) -> FeatureTable:
    """Some of the rows (int) of a table, with its features where they are."""
    return FeatureTable(table.meta.iloc[rows].reset_index(drop=True), rows_of(table.X, rows),
                        table.names)


def cross_normalised(sites: FeatureTable, dealt: np.ndarray, how: str
                     ) -> tuple[pd.DataFrame, list[Any], np.ndarray]:
    """Profiles of wells, once for each part of the controls, normalised by the other parts.

    Parameters
    ----------
    sites : FeatureTable
        Of one panel.
    dealt : ndarray, int, [sites]
        From `deal_controls`.
    how : {"plate", "plate+sphere", "moderated", "moderated+sphere"}
        As heads take them; see `Examples.normalised`.

    Returns
    -------
    wells : DataFrame
        The metadata of each well, sorted by plate and well.
    profiles : list of ndarray or OnDisk, float32, [wells, d]
        Of length one, or zero; one for each part.
    part : ndarray, int, [wells]
        -1 for treated wells.
    """
    parts = [normalised_wells(sites, (dealt >= 0) & (dealt != part), how)
             for part in range(dealt.max() + 1)]
    _, first = _wells(sites.meta)
    return (sites.meta.iloc[first].reset_index(drop=True),
            parts, dealt[first])


def normalised_wells(sites: FeatureTable, normalises: np.ndarray, how: str,
                     scaled: bool = True) -> Any:
    """Profiles of wells, the means of their normalised sites.

    Parameters
    ----------
    sites : FeatureTable
        Of one panel.
    normalises : ndarray, bool, [sites]
        The controls that normalise; without any, values are as they are.
    how : {"plate", "plate+sphere", "moderated", "moderated+sphere"}
    scaled : bool
        Whether each is scaled to length one (zero stays zero).

    Returns
    -------
    ndarray or OnDisk, float32, [wells, d]
        Sorted by plate and well.
    """
    from scipy import sparse

    code, _ = _wells(sites.meta)
    size = np.bincount(code)
    mean = sparse.csr_array((1 / size[code], (code, np.arange(len(code)))),
                            shape=(len(size), len(code)))
    X = standardise_plates(sites, normalises, "moderated" in how).X
    if "sphere" in how and normalises.any():
        sphering = fit_sphering(rows_of(X, np.flatnonzero(normalises)))
        X = mapped(X, lambda _, piece: apply_sphering(piece, sphering))
    return combined(mean, X, of_length_one if scaled else np.asarray)


def _wells(meta: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    code = meta.groupby(WELL, sort=True).ngroup().to_numpy()
    return code, np.unique(code, return_index=True)[1]
