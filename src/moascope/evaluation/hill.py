"""Hill curves that rise from the controls, and the dose at which they leave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# As in tcplfit2: slopes, potencies from a decade below the lowest dose to half a decade above the
# highest, and tops up to a little above what was measured.
SLOPES = (0.3, 8.0)
BELOW, ABOVE = 10.0, 10**0.5
BEYOND = 1.2
SLIGHT = 1e-6   # a top above zero, where nothing was measured above the controls
GRID_SLOPES, GRID_POTENCIES = 25, 100


class Hill(NamedTuple):
    """A curve top * x^slope / (x^slope + ec50^slope) over doses x; zero is the controls."""

    top: float
    ec50: float
    slope: float

    def at(self, dose: np.ndarray) -> np.ndarray:
        """Its value at some doses."""
        return self.top * _share(dose, self.ec50, self.slope)

    def dose_at(self, level: float) -> float:
        """The dose at which it reaches a level; infinite where it does not."""
        if not self.top > level:
            return float("inf")
        return float(self.ec50 * (level / (self.top - level)) ** (1 / self.slope))


def fit_hill(dose: np.ndarray, response: np.ndarray) -> Hill:
    """The curve of least squares, with bounds, from the best point of a grid.

    Parameters
    ----------
    dose : ndarray, float, [n]
        Above 0.
    response : ndarray, float, [n]
        Of wells; 0 is the controls.

    Notes
    -----
    The Hill model of tcplfit2 (Sheffield et al., Bioinformatics 38, 2022), which also rises from
    the controls.
    """
    from scipy.optimize import curve_fit

    levels, of = np.unique(dose, return_inverse=True)
    count = np.bincount(of)
    means = np.bincount(of, response) / count
    start = best_of_grid(levels, means[None], count)
    begin = Hill(*(float(one[0]) for one in start))
    low, high = _potencies(levels)
    # Potency is fitted as a logarithm, so that steps are alike at all doses.
    lower = np.array([0, np.log(low), SLOPES[0]])
    upper = np.array([max(BEYOND * means.max(), SLIGHT), np.log(high), SLOPES[1]])
    first = np.clip([begin.top, np.log(begin.ec50), begin.slope], lower, upper)
    try:
        fitted, _ = curve_fit(
            lambda x, top, potency, slope: top * _share(x, np.exp(potency), slope), dose, response,
            first, bounds=(lower, upper))
    except RuntimeError:
        # It did not converge: the grid is fine enough for a plot.
        return begin
    return Hill(float(fitted[0]), float(np.exp(fitted[1])), float(fitted[2]))


def best_of_grid(levels: np.ndarray, means: np.ndarray, count: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best curves of a grid of potencies and slopes, each with its best top.

    Parameters
    ----------
    levels : ndarray, float, [l]
        The doses.
    means : ndarray, float, [curves, l]
        Mean response at each dose.
    count : ndarray, int, [l] or [curves, l]
        Wells of each mean.

    Returns
    -------
    top, ec50, slope : ndarray, float, [curves]
    """
    low, high = _potencies(levels)
    potency, slope = (one.ravel() for one in np.meshgrid(
        np.geomspace(low, high, GRID_POTENCIES), np.geomspace(*SLOPES, GRID_SLOPES)))
    shape = _share(levels[None], potency[:, None], slope[:, None])
    weight = np.broadcast_to(count, means.shape)
    along = (weight * means) @ shape.T
    square = np.maximum(weight @ (shape**2).T, np.finfo(float).tiny)
    top = np.clip(along / square, 0, np.maximum(BEYOND * means.max(axis=1), SLIGHT)[:, None])
    best = (2 * top * along - top**2 * square).argmax(axis=1)   # explained sum of squares
    return top[np.arange(len(means)), best], potency[best], slope[best]


def is_better_than_constant(dose: np.ndarray, response: np.ndarray, curve: Hill) -> bool:
    """Whether a curve is worth its two further parameters, by Akaike's information criterion."""
    return bool(_aic(response - curve.at(dose), 3) < _aic(response - response.mean(), 1))


def _aic(residual: np.ndarray, parameters: int) -> float:
    square = max(float((residual**2).mean()), np.finfo(float).tiny)
    return len(residual) * np.log(square) + 2 * parameters


def _share(dose: np.ndarray, ec50: np.ndarray | float, slope: np.ndarray | float) -> np.ndarray:
    return 1 / (1 + (ec50 / dose) ** slope)


def _potencies(levels: np.ndarray) -> tuple[float, float]:
    return float(levels[0]) / BELOW, float(levels[-1]) * ABOVE
