"""Which squares of a crop a prediction rests on, and whether random heads would say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from moascope.explanation.sight import Crop, Sight, crop_log_odds
from moascope.learning.head import FittedHeads
from moascope.learning.simple import Fitted

SIDE = 8
"""Squares along each side of a crop."""

SOFT = 1 / 32
"""Width of the seam of a square that is deleted (sigma of a Gaussian), in sides of a crop: networks
see hard seams as edges of cells."""


def square_values(sight: Sight, crop: Crop, level: np.ndarray, meant: int,
                  heads: Sequence[Mapping[str, Fitted]] = ()) -> np.ndarray:
    """What the log-odds of a class lose without each square of each channel.

    Parameters
    ----------
    sight : Sight
    crop : Crop
    level : ndarray, uint8, [C, side, side]
        What takes the place of a square; see `level_of`.
    meant : int
        The class, against the mean of the others.
    heads : sequence, optional
        In the place of the model's own.

    Returns
    -------
    ndarray, float64, [heads, C, SIDE, SIDE]
        Positive where the square speaks for the class.

    Notes
    -----
    Occlusion (Zeiler and Fergus, ECCV 2014), with soft seams.
    """
    count = len(crop.channels) * SIDE * SIDE
    marked = np.eye(count, dtype=bool).reshape(count, len(crop.channels), SIDE, SIDE)
    variants = np.concatenate([crop.planes[None], without_squares(crop.planes, level, marked)])
    odds = crop_log_odds(sight, crop, variants, meant, heads)
    return (odds[:, :1] - odds[:, 1:]).reshape(len(odds), *marked.shape[1:])


def without_squares(planes: np.ndarray, other: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """A crop in which squares are as in another crop, with soft seams.

    Parameters
    ----------
    planes, other : ndarray, uint8, [C, crop, crop]
    marked : ndarray, bool, [..., C, SIDE, SIDE]

    Returns
    -------
    ndarray, uint8, [..., C, crop, crop]
    """
    from scipy.ndimage import gaussian_filter

    side = planes.shape[-1]
    share = enlarged(marked.astype(np.float32), side)
    share = gaussian_filter(share, (*(0,) * (share.ndim - 2), SOFT * side, SOFT * side))
    return np.round(planes * (1 - share) + other * share).astype(np.uint8)


def level_of(planes: np.ndarray, control: np.ndarray | None) -> np.ndarray:
    """A crop without structure: what takes the place of a square.

    Parameters
    ----------
    planes : ndarray, uint8, [C, side, side]
    control : ndarray, uint8, [C, side, side], or None
        A crop of a negative control.

    Returns
    -------
    ndarray, uint8, [C, side, side]
        Each channel at the control's mean, or without a control at its own median.
    """
    level = (np.median(planes, axis=(-2, -1), keepdims=True) if control is None
             else control.mean(axis=(-2, -1), keepdims=True))
    return np.broadcast_to(level.round(), planes.shape).astype(np.uint8)


def enlarged(squares: np.ndarray, side: int) -> np.ndarray:
    """Values of squares [..., SIDE, SIDE] as values of pixels [..., side, side]."""
    of_pixel = np.arange(side) * SIDE // side
    return squares[..., of_pixel[:, None], of_pixel]


def random_heads(heads: Mapping[str, Fitted], seed: int) -> dict[str, Fitted]:
    """Heads of the same shape that have learnt nothing: weights as spread out as the trained ones.

    Parameters
    ----------
    heads : mapping
        Panel -> heads.
    seed : int
    """
    generator = np.random.default_rng(seed)
    return {panel: replace(one, kernels=[
        generator.normal(0, kernel.std(), kernel.shape).astype(np.float32)
        for kernel in one.kernels]) for panel, one in heads.items()
        if isinstance(one, FittedHeads)}


def agreement(effects: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """How much maps look like those of other heads.

    Parameters
    ----------
    effects : ndarray, float, [C, SIDE, SIDE]
    others : ndarray, float, [heads, C, SIDE, SIDE]

    Returns
    -------
    signed, absolute : float
        Mean rank correlation (Spearman) of the values, and of their sizes.

    Notes
    -----
    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map that stays the same when
    the weights are random shows the picture, not the model.
    """
    ranks = pd.DataFrame(np.stack([effects, *others]).reshape(1 + len(others), -1).T)
    signed, absolute = (float(one.corr("spearman").iloc[0, 1:].mean())
                        for one in (ranks, ranks.abs()))
    return signed, absolute
