"""A picture beside a crop: which squares of which channel speak for the class, which against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moascope.explanation.crops import (
    Sight,
    agreement,
    enlarged,
    flat,
    random_heads,
    square_effects,
)
from moascope.learning.head import FittedHeads
from moascope.report.compounds import Picture, Typical, data_address, shown_range
from moascope.text import number, tidy

MOST_MAPS = 20          # on a page: each sends some hundred planes through the network
RANDOM_HEADS = 5
# Mean rank correlation from which maps are said to show the picture more than the model.
ALIKE = 0.5
# Okabe and Ito's sky blue and orange, which can be told apart by everybody, also on grey.
FOR, AGAINST = np.array([86, 180, 233]) / 255, np.array([230, 159, 0]) / 255
DIMMED, OPAQUE = 0.6, 0.85


@dataclass(frozen=True)
class CropMap:
    """A map of one crop.

    Attributes
    ----------
    picture : Picture
    largest : float
        The largest change of the log-odds, which has the full colour.
    signed, absolute : float or None
        Agreement with maps of random heads; None where the model has no weights to draw.
    """

    picture: Picture
    largest: float
    signed: float | None
    absolute: float | None


def crop_map(sight: Sight, found: Typical, meant: int) -> CropMap | None:
    """The map of a compound's typical crop.

    Parameters
    ----------
    sight : Sight
    found : Typical
        The compound and its control: squares of the one are replaced by those of the other, or
        where there is no control by the median of the crop.
    meant : int
        The class that is explained.

    Returns
    -------
    CropMap or None
        None where the features do not have this site.
    """
    row = sight.row_of.get((found.plate, *found.places["compound"]))
    if row is None:
        return None
    planes = found.crops["compound"]
    other = found.crops.get("negative control", flat(planes))
    heads, own = [sight.model.heads], sight.model.heads
    drawable = {panel: one for panel, one in own.items() if isinstance(one, FittedHeads)}
    if len(drawable) == len(own):
        heads += [random_heads(drawable, seed) for seed in range(RANDOM_HEADS)]
    effects, *others = square_effects(sight, row, found.channels, planes, found.count, [other],
                                      meant, heads)
    signed, absolute = agreement(effects, np.stack(others)) if others else (None, None)
    largest = float(np.abs(effects).max())
    black, spread = shown_range(found)
    names = ", ".join(tidy(name, 20) for name in found.channels)
    picture = Picture(
        source=data_address(_coloured((planes - black[:, None, None]) / spread[:, None, None],
                                      effects / max(largest, 1e-9))),
        place=f"at most {number(largest, 2)} a square",
        alt=f"map of the compound's image: what speaks for the class is blue, what speaks against "
            f"it is orange; channels from left to right: {names}",
        channels=tuple(tidy(name, 20) for name in found.channels))
    return CropMap(picture, largest, signed, absolute)


def sanity_words(maps: Sequence[CropMap]) -> str:
    """What maps of random heads say about these maps, in sentences; empty where there are none."""
    known = [(one.signed, one.absolute) for one in maps
             if one.signed is not None and one.absolute is not None]
    if not known:
        return ""
    signed, absolute = np.nanmean(np.array(known, float), axis=0)
    said = (f"Sanity check: maps of {RANDOM_HEADS} heads with random weights have a mean rank "
            f"correlation of {number(signed, 2)} with these, and of {number(absolute, 2)} if signs "
            "are left out.")
    if signed >= ALIKE:
        return said + (" They look alike: these maps show the pictures, not the model, and explain "
                       "nothing.")
    if absolute >= ALIKE:
        return said + (" Where a map is strong depends on the picture more than on the model; only "
                       "its signs are the model's.")
    return said + " So they show the model, not just where the pictures are bright."


def _coloured(planes: np.ndarray, effects: np.ndarray) -> list[np.ndarray]:
    """Grey planes under the colours of their squares: [crop, crop, 3] for each channel, 0 to 1."""
    values = enlarged(effects, planes.shape[-1])[..., None]
    grey = DIMMED * np.clip(planes, 0, 1)[..., None]
    opacity = OPAQUE * np.abs(values)
    return list(grey * (1 - opacity) + np.where(values > 0, FOR, AGAINST) * opacity)
