"""Uneven illumination of one channel of one plate, estimated from the plate's own fields."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

BLOCKS = 16
DEGREES = (2, 4)
DEGREE = max(DEGREES)
TRUSTED_PERCENTILE = 98
LEAST_SITES = 32  # with fewer, the cells outweigh the lamp (tried on simulated plates)
GAIN_LIMITS = (0.5, 2.0)
EVEN = np.zeros((DEGREE + 1, DEGREE + 1))
EVEN[0, 0] = 1.0
EVEN.setflags(write=False)


def block_means(planes: np.ndarray) -> np.ndarray:
    """Mean of each cell of a coarse grid laid over planes.

    Parameters
    ----------
    planes : ndarray, [..., height, width]
        Planes, or a regular subset of the pixels of each.

    Returns
    -------
    ndarray, float32 [..., blocks, blocks]
        `BLOCKS` along each side, or the number of pixels if that is smaller.
    """
    rows, columns = (np.linspace(0, length, min(BLOCKS, length) + 1).astype(int)
                     for length in planes.shape[-2:])
    sums = np.add.reduceat(planes, rows[:-1], axis=-2, dtype=np.float32)
    sums = np.add.reduceat(sums, columns[:-1], axis=-1)
    return sums / np.multiply.outer(np.diff(rows), np.diff(columns)).astype(np.float32)


def fit_illumination(means: np.ndarray, dark: float) -> np.ndarray:
    """Fit the smooth gain that all fields of a plate and channel share.

    The mean of each block over all fields, above the dark level, is what a typical field shows
    there: cells lie elsewhere in every field, and the illumination is the same. (The median would
    show only background where cells are sparse, and the dark level is too uncertain for that.) A
    polynomial is fitted to the blocks instead of smoothing them, because it neither flattens the
    edge of the field nor needs upsampling. Its degree, possibly 0, is the one with which one half
    of the fields predicts the other half best: a plate with too few fields to tell the
    illumination from the cells is not corrected.

    Parameters
    ----------
    means : ndarray, float32 [sites, blocks, blocks]
        From `block_means`.
    dark : float
        Camera offset, in the units of the pixels.

    Returns
    -------
    ndarray, float64 [DEGREE + 1, DEGREE + 1]
        Chebyshev coefficients for `illumination`; `EVEN` if there are fewer than `LEAST_SITES`
        fields, if they hold no light, or if the illumination appears even.

    Notes
    -----
    The plate-wise mean field is that of CellProfiler's CorrectIlluminationCalculate ("Regular"),
    the polynomial model that of Likar et al., J. Microscopy 2000.
    """
    if len(means) < LEAST_SITES:
        return EVEN
    light = means - dark
    # A field with a fibre in it must not leave a shadow in all the others.
    light = np.minimum(light, np.percentile(light, TRUSTED_PERCENTILE, axis=0))
    if not min(light[0::2].mean(), light[1::2].mean()) > 0:
        return EVEN
    halves = [_relative(light[start::2]) for start in (0, 1)]
    errors = {
        degree: sum(
            np.mean((_polynomial(one, degree)[1] - other) ** 2)
            for one, other in (halves, halves[::-1])
        )
        for degree in (0, *DEGREES)
    }
    best = min(errors, key=errors.__getitem__)
    return _polynomial(_relative(light), best)[0] if best else EVEN


def _relative(light: np.ndarray) -> np.ndarray:
    typical = light.mean(axis=0)
    return typical / typical.mean()


def _polynomial(blocks: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares polynomial fitted to blocks: its coefficients and its values at the blocks."""
    centres = [(np.arange(cells) + 0.5) / cells * 2 - 1 for cells in blocks.shape]
    terms = chebyshev.chebvander2d(
        *np.meshgrid(*centres, indexing="ij"), (DEGREE, DEGREE))  # pyright: ignore[reportCallIssue]
    terms = terms.reshape(blocks.size, -1)
    kept = np.add.outer(np.arange(DEGREE + 1), np.arange(DEGREE + 1)).ravel() <= degree
    coefficients = np.zeros(terms.shape[1])
    coefficients[kept] = np.linalg.lstsq(terms[:, kept], blocks.ravel(), rcond=None)[0]
    return (coefficients.reshape(DEGREE + 1, DEGREE + 1),
            (terms @ coefficients).reshape(blocks.shape))


def illumination(coefficients: np.ndarray, rows: np.ndarray, columns: np.ndarray,
                 shape: tuple[int, int]) -> np.ndarray:
    """Gain at given pixel rows and columns of a field.

    Parameters
    ----------
    coefficients : ndarray
        From `fit_illumination`.
    rows, columns : ndarray of int
        Pixel positions along each axis; may lie outside the field for padded crops.
    shape : (int, int)
        Height and width of the field.

    Returns
    -------
    ndarray, float32 [rows, columns]
        Within `GAIN_LIMITS`, so that a bad estimate at a corner cannot blow up noise.
    """
    y, x = (
        chebyshev.chebvander(
            np.clip((positions + 0.5) / length * 2 - 1, -1, 1), DEGREE
        )
        for positions, length in zip((rows, columns), shape, strict=True)
    )
    return np.clip(y @ coefficients @ x.T, *GAIN_LIMITS).astype(np.float32)


def correct(counts: np.ndarray, light: np.ndarray, dark: np.float32) -> np.ndarray:
    """Divide the counts above the dark level by the gain; the dark level itself is kept.

    Keeping the dark level makes the result comparable with plates whose gain is unknown.

    Parameters
    ----------
    counts : ndarray of unsigned integer, [..., height, width]
    light : ndarray, float32, broadcast against `counts`
        From `illumination`.
    dark : float32

    Returns
    -------
    ndarray, float32
    """
    values = counts - dark
    values /= light
    values += dark
    return values
