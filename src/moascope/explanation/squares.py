"""Which squares of a crop a prediction rests on, and whether random heads would say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from moascope.explanation.gradients import head_gradient
from moascope.explanation.sight import Crop, Sight, columns_of, is_clipped, standardised
from moascope.features.normalise import CLIP
from moascope.learning.head import FittedHeads
from moascope.learning.panels import POOLED, inputs
from moascope.learning.simple import Fitted

SIDE = 8
"""Squares along each side of a crop."""


def square_values(sight: Sight, crop: Crop, meant: int,
                  heads: Sequence[Mapping[str, Fitted]] = ()) -> np.ndarray:
    """How much the light of each square of each channel adds to the log-odds of a class.

    Parameters
    ----------
    sight : Sight
    crop : Crop
    meant : int
        The class, against the mean of the others.
    heads : sequence, optional
        In the place of the model's own.

    Returns
    -------
    ndarray, float64, [heads, C, SIDE, SIDE]
        Positive where the square speaks for the class; 0 in a channel that the model does not take.

    Notes
    -----
    Gradient times input, summed over squares (Shrikumar et al. 2016; Ancona et al., ICLR 2018):
    what a small share of a square's light changes, times the light. Exact gradients, through the
    head, whitening and normalisation and through the network.
    """
    found = [np.zeros((len(crop.channels), SIDE, SIDE)) for _ in heads or (0,)]
    model = sight.model
    for network in sight.networks:
        for into, one in zip(found, heads or (model.heads,), strict=True):
            slopes = _feature_gradient(sight, crop.row, one, meant)
            own = list(columns_of(model, network, crop.channels))
            if not own:
                continue
            seen = [number for number, _ in own]
            upward = np.stack([slopes[columns] for _, columns in own]) / crop.count
            light = network.gradients(crop.planes[seen], upward) * crop.planes[seen]
            into[seen] += _summed(light.astype(float))
    return np.stack(found)


def _feature_gradient(sight: Sight, row: int, heads: Mapping[str, Fitted],
                      meant: int) -> np.ndarray:
    """The gradient of the calibrated log-odds by the site's features as measured, float64 [d]."""
    model = sight.model
    panel = POOLED if model.train.panels == "pooled" else sight.sites.panel[row]
    own = heads[panel]
    assert isinstance(own, FittedHeads)
    standard = standardised(sight, row, sight.raw[[row]])[0]
    which = inputs(sight.sites.take(np.array([row])), model.train)[0]
    classes = len(model.question.classes)
    contrast = np.full(classes, -1 / (classes - 1))
    contrast[meant] = 1
    found = head_gradient(own, 0, model.sphering, standard, which, contrast)
    if is_clipped(sight):
        found = np.where(np.abs(standard) < CLIP, found, 0)
    if len(sight.centre):
        found = found / sight.spread[sight.plate[row]]
    return model.calibrations["site"].slope * found


def _summed(light: np.ndarray) -> np.ndarray:
    """Pixels [C, crop, crop] summed over squares, [C, SIDE, SIDE]."""
    side = light.shape[-1]
    starts = -(-np.arange(SIDE) * side // SIDE)
    return np.add.reduceat(np.add.reduceat(light, starts, axis=1), starts, axis=2)


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
