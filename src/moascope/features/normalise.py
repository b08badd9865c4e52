"""Make plates comparable by their negative controls, and reduce the variation among controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from moascope.features.disk import OnDisk, covariance_of, mapped, portions
from moascope.features.table import FeatureTable

LEAST_CONTROL_SITES = 4
SPREAD_FLOOR = 0.1
MAD_TO_SD = 1.4826
NAMED_PLATES = 5
CLIP = 20.0
"""Moderated deviations beyond which a value says no more: a feature that is nearly constant in the
controls reaches thousands, and would decide every distance alone."""

PRIOR_CONTROLS = 20
"""Controls that the spread over all plates counts for when it moderates that of one plate."""


def standardise_plates(table: FeatureTable, controls: np.ndarray,
                       moderated: bool = False) -> FeatureTable:
    """Express every feature in robust standard deviations of its plate's negative controls.

    For each plate, the controls' median is subtracted and the result is divided by their scaled
    median absolute deviation. Panels within a plate are treated as separate plates.

    Parameters
    ----------
    table : FeatureTable
    controls : ndarray, bool [sites]
        Sites of negative controls that passed quality control.
    moderated : bool
        Whether the spread of each plate is drawn to that of all plates, and values are clipped at
        `CLIP`.

    Returns
    -------
    FeatureTable
        NaN (a channel that a panel lacks) becomes 0. If no plate has `LEAST_CONTROL_SITES` control
        sites, values are not changed, because a plate standardised on its treatments loses what
        they have in common. If only some plates lack controls, they use the median of the other
        plates' centres and spreads, and a warning names them.

    Notes
    -----
    `mad_robustize` of pycytominer with a floor: a deviation below `SPREAD_FLOOR` times the
    screen's typical deviation of that feature is raised to it, so that a feature that happens to
    be constant in a few controls does not explode.

    The spread of six wells is a poor estimate, and its error multiplies a feature of the whole
    plate. `moderated` weighs it, as a variance, with the spread of the controls of all plates of
    the panel around their own centres, which counts for `PRIOR_CONTROLS` controls: Smyth's
    moderated variance (Stat Appl Genet Mol Biol 3, 2004), with the weight of the prior fixed.
    """
    scales, lacking = plate_scales(table, controls, moderated)
    if not scales:
        return replace(table, X=mapped(table.X, lambda _, X: np.nan_to_num(X, nan=0.0)))

    def standardised(at: slice, piece: np.ndarray) -> np.ndarray:
        X = np.empty_like(piece)
        for rows, centre, spread in scales:
            first, last = np.searchsorted(rows, (at.start, at.stop))
            own = rows[first:last] - at.start
            if len(own):
                X[own] = np.nan_to_num((piece[own] - centre) / spread, nan=0.0)
        if moderated:
            np.clip(X, -CLIP, CLIP, out=X)
        return X

    warnings = list(table.warnings)
    if lacking:
        more = f" and {len(lacking) - NAMED_PLATES} more" if len(lacking) > NAMED_PLATES else ""
        warnings.append(
            f"{len(lacking)} plates have fewer than {LEAST_CONTROL_SITES} usable sites of the "
            f"negative control and are normalised with the median of the other plates: "
            f"{', '.join(lacking[:NAMED_PLATES])}{more}.")
    return replace(table, X=mapped(table.X, standardised), warnings=tuple(warnings))


def plate_scales(
    table: FeatureTable, controls: np.ndarray, moderated: bool = False
) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], list[str]]:
    """The centre and spread by which `standardise_plates` standardises each plate.

    Returns
    -------
    scales : list of tuple
        For each plate and panel: its rows (int, ascending), the centre and the spread (float,
        [features]). Empty if no plate has enough controls.
    lacking : list of str
        Plates without enough controls, which use the median of the other plates.
    """
    units = _plate_and_panel(table)
    centres, spreads = {}, {}
    for unit, rows in units.items():
        values = table.X[rows[controls[rows]]]
        if len(values) >= LEAST_CONTROL_SITES:
            centres[unit] = np.median(values, axis=0)
            spreads[unit] = MAD_TO_SD * np.median(np.abs(values - centres[unit]), axis=0)
    if not centres:
        return [], []
    if moderated:
        spreads = _moderated(table, controls, units, centres, spreads)
    usual_centre = _median_of_known(np.stack(list(centres.values())))
    usual_spread = _median_of_known(np.stack(list(spreads.values())))
    # A feature without any spread in the controls of most plates says nothing about a scale.
    usual_spread = np.where(usual_spread > 1e-6 * np.maximum(np.abs(usual_centre), 1e-3),
                            usual_spread, np.inf)
    scales = [(rows, centres.get(unit, usual_centre),
               np.maximum(spreads.get(unit, usual_spread), SPREAD_FLOOR * usual_spread))
              for unit, rows in units.items()]
    return scales, sorted({plate for plate, _ in units.keys() - centres.keys()})


def _moderated(table: FeatureTable, controls: np.ndarray, units: dict[tuple[str, str], np.ndarray],
               centres: dict[tuple[str, str], np.ndarray],
               spreads: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """The spread of each plate and panel, drawn to that of all plates of the panel."""
    drawn = {}
    for panel in {panel for _, panel in spreads}:
        own = [unit for unit in spreads if unit[1] == panel]
        counts = {unit: int(controls[units[unit]].sum()) for unit in own}
        # A centre that is fitted takes one degree of freedom of its plate.
        lost = sum(counts.values()) / (sum(counts.values()) - len(own))
        width = table.X.shape[1]
        deviation = np.empty(width, table.X.dtype)
        # A median needs all controls, so that columns are what is taken in portions; few, because
        # each reads the controls anew.
        for part in portions(width, sum(counts.values())):
            around = np.concatenate([
                table.X[units[unit][controls[units[unit]]]][:, part] - centres[unit][part]
                for unit in own])
            deviation[part] = np.median(np.abs(around), axis=0)
        pooled = lost * (MAD_TO_SD * deviation) ** 2
        for unit in own:
            free = counts[unit] - 1
            drawn[unit] = np.sqrt((PRIOR_CONTROLS * pooled + free * spreads[unit] ** 2)
                                  / (PRIOR_CONTROLS + free))
    return drawn


def _plate_and_panel(table: FeatureTable) -> dict[tuple[str, str], np.ndarray]:
    return {key: np.asarray(rows) for key, rows in
            table.meta.groupby(["Metadata_Plate", "Metadata_Panel"], sort=True).indices.items()}


def _median_of_known(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values).any(axis=0)
    return np.where(known, np.nanmedian(np.where(known, values, 0.0), axis=0), 0.0)


@dataclass(frozen=True)
class Sphering:
    """A symmetric linear map, stored as its action inside and outside a subspace.

    Attributes
    ----------
    mean : ndarray, float32 [features]
        Subtracted first.
    axes : ndarray, float32 [rank, features]
        Orthonormal directions in which the controls vary.
    gains : ndarray, float32 [rank]
        Factor along each of them.
    outside : ndarray, float32, a scalar
        Factor along every direction orthogonal to the axes.
    """

    mean: np.ndarray
    axes: np.ndarray
    gains: np.ndarray
    outside: np.ndarray


def fit_sphering(X_controls: Any, shrinkage: float = 0.1) -> Sphering:
    """Find the linear map after which the controls have unit variance in all directions.

    Directions in which controls differ from one another (position, batch, density) are scaled
    down; directions in which they agree are not scaled up without bound.

    Parameters
    ----------
    X_controls : ndarray, float [controls, features], or OnDisk
        Standardised features of negative controls, at least two rows.
    shrinkage : float
        Between 0 and 1: how far the covariance is shrunk towards a multiple of the identity
        (Ledoit and Wolf 2004). It must be above 0 if there are no more controls than features.

    Returns
    -------
    Sphering
        For `apply_sphering`. Symmetric (ZCA), so that a feature keeps its meaning.

    Raises
    ------
    ValueError
        With fewer than two controls, or if the shrunk covariance is singular.

    Notes
    -----
    pycytominer's Spherize (ZCA), with shrinkage instead of a tiny constant and computed from the
    singular values of the controls, so that time and memory grow with the number of controls
    and not with the square of the number of features. Directions outside the controls'
    subspace share one eigenvalue. Of controls that lie on disk and outnumber the features, the
    eigenvalues of the covariance are taken: the same up to rounding, which the shrinkage covers.
    """
    count, width = X_controls.shape
    if count < 2:
        raise ValueError(f"sphering needs two controls or more, and has {count}")
    # Taking off the mean leaves one direction fewer than there are controls.
    rank = min(count - 1, width)
    if isinstance(X_controls, OnDisk) and count > width:
        mean, covariance = covariance_of(X_controls)
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = np.maximum(variances[::-1], 0), axes.T[::-1]
    else:
        X = np.asarray(X_controls, np.float64)
        mean = X.mean(axis=0)
        _, singular, axes = np.linalg.svd(X - mean, full_matrices=False)
        variances, axes = singular[:rank] ** 2 / (count - 1), axes[:rank]
    floor = shrinkage * variances.sum() / width
    shrunk = (1 - shrinkage) * variances + floor
    outside = floor if rank < width else shrunk.min()
    if not min(shrunk.min(), outside) > 1e-12 * variances.max():
        raise ValueError("the controls do not vary in every direction: use more shrinkage")
    arrays = mean, axes, shrunk**-0.5, outside**-0.5
    return Sphering(*(np.asarray(array, np.float32) for array in arrays))


def apply_sphering(X: np.ndarray, sphering: Sphering) -> np.ndarray:
    """Apply a map from `fit_sphering`.

    Parameters
    ----------
    X : ndarray, float [sites, features]

    Returns
    -------
    ndarray, float32 [sites, features]
    """
    centred = np.asarray(X - sphering.mean, np.float32)
    along = centred @ sphering.axes.T
    along *= sphering.gains - sphering.outside
    return centred * sphering.outside + along @ sphering.axes
