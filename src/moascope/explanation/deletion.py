"""Is a map true of the model? What is left of a prediction without the squares that it marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moascope.explanation.sight import Crop, Sight, crop_log_odds
from moascope.explanation.squares import SIDE, without_squares

MARKED = 0.2
"""Share of the squares that a deletion removes."""

DRAWS = 20
"""Random deletions of the same size."""


def deletion(sight: Sight, crop: Crop, other: np.ndarray, meant: int, maps: Sequence[np.ndarray],
             seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the log-odds lose without the squares that maps mark most, and without random ones.

    Parameters
    ----------
    sight : Sight
    crop : Crop
    other : ndarray, uint8, [C, side, side]
        What takes the place of a square.
    meant : int
        The class, against the mean of the others.
    maps : sequence of ndarray, float, [C, SIDE, SIDE]
        Of each, the `MARKED` share of all squares of all channels with the largest values goes.
    seed : int

    Returns
    -------
    lost : ndarray, float64, [maps]
    random : ndarray, float64, [DRAWS]

    Notes
    -----
    Samek et al., "Evaluating the visualization of what a deep neural network has learned", 2017.
    """
    size = len(crop.planes) * SIDE * SIDE
    count = round(MARKED * size)
    generator = np.random.default_rng(seed)
    chosen = [np.argsort(-one.ravel(), kind="stable")[:count] for one in maps]
    chosen += [generator.choice(size, count, replace=False) for _ in range(DRAWS)]
    marked = np.zeros((len(chosen), size), bool)
    for own, squares in zip(marked, chosen, strict=True):
        own[squares] = True
    variants = without_squares(crop.planes, other, marked.reshape(-1, len(crop.planes), SIDE, SIDE))
    odds, = crop_log_odds(sight, crop, np.concatenate([crop.planes[None], variants]), meant)
    lost = odds[0] - odds[1:]
    return lost[: len(maps)], lost[len(maps):]
