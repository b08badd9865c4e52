"""Planes in several positions: cells lie in any direction, and networks answer to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

QUARTERS = 4  # turns of a square that leave it in place


def averaged(see: Callable[[np.ndarray], np.ndarray],
             turns: int) -> Callable[[np.ndarray], np.ndarray]:
    """Let a network see planes in several positions, and take the mean of its features.

    Cells lie in any direction. A network that was trained on photographs, or on few planes, gives
    other features for a turned crop, and these differences are noise to every head.

    Parameters
    ----------
    see : callable
        uint8 [n, side, side] -> float32 [n, d].
    turns : {1, 4, 8}
        1: planes as they are; 4: at each quarter turn; 8: these, and their mirror images.

    Returns
    -------
    callable
        As `see`. Planes that differ by one of the positions have equal features, up to rounding.
    """
    if turns == 1:
        return see

    def mean(planes: np.ndarray) -> np.ndarray:
        total = see(planes).astype(np.float64)
        for number in range(1, turns):
            seen = planes[:, :, ::-1] if number >= QUARTERS else planes
            total += see(np.rot90(seen, number % QUARTERS, axes=(1, 2)))
        return (total / turns).astype(np.float32)

    return mean
