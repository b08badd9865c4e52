"""Positions of the native-resolution crops in a field."""

from __future__ import annotations

import functools

import numpy as np


@functools.cache
def tile_positions(shape: tuple[int, int], crop: int, crops: int) -> np.ndarray:
    """Upper left corners of the crops taken from a field.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the field, pixels.
    crop : int
        Side of a crop, pixels.
    crops : int
        Maximum number of crops.

    Returns
    -------
    ndarray, int [n, 2]
        Row and column of each corner, `1 <= n <= crops`; crops do not overlap. A negative corner
        means that the field is smaller than the crop there and has to be padded.

    Notes
    -----
    The tiles form a grid centred in the field. If more tiles fit than are wanted, the most evenly
    spread ones are taken: choosing by content (most foreground first) would make sparse fields
    look denser than they are, and cell density is a phenotype.
    """
    fit = [max(length // crop, 1) for length in shape]
    rows, columns = _even_shares(fit, crops)
    corners = []
    for length, n_fit, n_taken in zip(shape, fit, (rows, columns), strict=True):
        start = (length - n_fit * crop) // 2
        steps = ((np.arange(n_taken) + 0.5) * n_fit / n_taken).astype(int)
        corners.append(start + steps * crop)
    grid = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 2)
    taken = grid[((np.arange(min(crops, len(grid))) + 0.5) * len(grid)
                  / min(crops, len(grid))).astype(int)]
    taken.setflags(write=False)
    return taken


def _even_shares(fit: list[int], crops: int) -> tuple[int, int]:
    """Smallest sub-grid, as square as possible, that holds the wanted number of crops."""
    options = [
        (rows * columns, abs(rows - columns), rows, columns)
        for rows in range(1, fit[0] + 1)
        for columns in range(1, fit[1] + 1)
        if rows * columns >= min(crops, fit[0] * fit[1])
    ]
    return min(options)[2:]


def cut(plane: np.ndarray, corners: np.ndarray, crop: int) -> np.ndarray:
    """Cut crops from a plane, mirrored at its edge if the plane is smaller than a crop.

    Returns
    -------
    ndarray, [n, crop, crop]
        In the plane's dtype.
    """
    short = [max(crop - length, 0) for length in plane.shape]
    if any(short):
        before = [(length + 1) // 2 for length in short]
        plane = np.pad(
            plane,
            [(first, whole - first) for first, whole in zip(before, short, strict=True)],
            mode="symmetric",
        )
        corners = corners + before
    return np.stack([plane[y : y + crop, x : x + crop] for y, x in corners])
