"""How far the controls of a plate are from those that a model was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moascope.features.normalise import CLIP, LEAST_CONTROL_SITES, MAD_TO_SD

# Fewer distances say nothing of their spread.
LEAST_DISTANCES = 3


@dataclass(frozen=True)
class ControlPlates:
    """The negative controls of the plates that a model was trained with.

    Attributes
    ----------
    centres : ndarray, float32, [P, d]
        Median of the control sites, one row per plate and panel, before any normalisation.
    spreads : ndarray, float32, [P, d]
        Their scaled median absolute deviation, the same for all plates of a panel.
    panels : ndarray, str, [P]
    limits : ndarray, float, [P]
        The distance beyond which another plate of the panel is unlike; infinite where that cannot
        be said.
    """

    centres: np.ndarray
    spreads: np.ndarray
    panels: np.ndarray
    limits: np.ndarray

    def distances(self, meta: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
        """How far the controls of each plate are from the training's.

        Parameters
        ----------
        meta : DataFrame, [n]
            Of control sites: `Metadata_Plate`, `Metadata_Panel`.
        features : ndarray, float, [n, d]
            Before normalisation.

        Returns
        -------
        DataFrame
            One row per plate and panel that has enough controls and a limit: `Metadata_Plate`,
            `Metadata_Panel`, `Distance` (in standard deviations of a control site) and `Limit`.
        """
        rows = []
        keys, centres, _ = _by_plate(meta, features)
        for (plate, panel), centre in zip(keys, centres, strict=True):
            own = self.panels == panel
            if own.any() and np.isfinite(self.limits[own][0]):
                rows.append((plate, panel, _apart(centre, self.centres[own], self.spreads[own][0]),
                             float(self.limits[own][0])))
        return pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Panel", "Distance", "Limit"]
                            ).astype({"Distance": float, "Limit": float})


def control_plates(meta: pd.DataFrame, features: Any, rate: float) -> ControlPlates:
    """Calibrate the distance of another plate by leaving out one batch at a time.

    Parameters
    ----------
    meta : DataFrame, [n]
        Of control sites: `Metadata_Plate`, `Metadata_Panel`, `Metadata_Batch`.
    features : ndarray or OnDisk, float, [n, d]
        Before normalisation.
    rate : float
        Share of plates like those of training that may lie beyond the limit.

    Notes
    -----
    The distance is the root mean square, over features, of the difference from the mean of the
    other batches' plates. Where there is one batch, plates are left out, and the limit knows
    nothing of other batches. There are few plates, so the limit is not a rank among them but the
    upper prediction limit of a normal distribution of the distances' logarithms.
    """
    keys, centres, spreads = _by_plate(meta, features)
    panels = np.array([panel for _, panel in keys], dtype=str)
    batch = meta.groupby(["Metadata_Plate", "Metadata_Panel"])["Metadata_Batch"].first()
    batches = np.array([str(batch[key]) for key in keys], dtype=str)
    plates = np.array([plate for plate, _ in keys], dtype=str)
    limits = np.full(len(keys), np.inf)
    for panel in np.unique(panels):
        own = panels == panel
        spreads[own] = np.median(spreads[own], axis=0)
        part = batches if len(np.unique(batches[own])) > 1 else plates
        found = [_apart(centres[i], centres[own & (part != part[i])], spreads[i])
                 for i in np.flatnonzero(own) if (own & (part != part[i])).any()]
        limits[own] = _upper_limit(np.array(found), len(np.unique(part[own])), rate)
    return ControlPlates(centres.astype(np.float32), spreads.astype(np.float32), panels, limits)


def _upper_limit(distances: np.ndarray, parts: int, rate: float) -> float:
    from scipy.stats import t

    if len(distances) < LEAST_DISTANCES or not (distances > 0).all():
        return np.inf
    logs = np.log(distances)
    # Plates of one batch are not independent, so that the batches are counted.
    return float(np.exp(logs.mean() + t.ppf(1 - rate, parts - 1) * logs.std(ddof=1)
                        * np.sqrt(1 + 1 / parts)))


def _by_plate(meta: pd.DataFrame, features: Any
              ) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    keys, centres, spreads = [], [], []
    for key, rows in meta.groupby(["Metadata_Plate", "Metadata_Panel"]).indices.items():
        if len(rows) < LEAST_CONTROL_SITES:
            continue
        values = features[rows].astype(float)
        centre = np.median(values, axis=0)
        keys.append((str(key[0]), str(key[1])))
        centres.append(centre)
        spreads.append(MAD_TO_SD * np.median(np.abs(values - centre), axis=0))
    shape = (len(keys), features.shape[1])
    return keys, np.reshape(centres, shape), np.reshape(spreads, shape)


def _apart(centre: np.ndarray, others: np.ndarray, spread: np.ndarray) -> float:
    # A channel that the panel lacks is NaN, and a feature without any spread has no unit.
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = (centre - others.mean(axis=0)) / spread
    known = np.isfinite(scaled)
    return float(np.sqrt(np.square(np.clip(scaled[known], -CLIP, CLIP)).mean())) if known.any() \
        else 0.0
