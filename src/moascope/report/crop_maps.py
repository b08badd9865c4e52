"""A picture beside a crop: which squares of which channel speak for the class, which against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moascope.explanation.deletion import deletion
from moascope.explanation.sight import Crop, Sight
from moascope.explanation.squares import (
    agreement,
    enlarged,
    level_of,
    random_heads,
    square_values,
)
from moascope.learning.head import FittedHeads
from moascope.report.compounds import Picture, Typical, data_address, shown_range
from moascope.text import number, tidy

MOST_MAPS = 20          # on a page: each sends a hundred planes through the network
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
        The most log-odds that a square is worth, which has the full colour.
    signed, absolute : float or None
        Agreement with maps of random heads; see `explanation.squares.agreement`. None for heads
        of neighbours or trees, which have no weights to draw.
    lost, random : float
        Log-odds lost without the squares that are marked most, and without as many random ones.
    """

    picture: Picture
    largest: float
    signed: float | None
    absolute: float | None
    lost: float
    random: float


def crop_map(sight: Sight, found: Typical, meant: int) -> CropMap | None:
    """The map of a compound's typical crop.

    Parameters
    ----------
    sight : Sight
    found : Typical
        The compound and its control: where squares are deleted, the control's are in their place,
        or without a control a level.
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
    crop = Crop(row, found.channels, planes, found.count)
    control = found.crops.get("negative control")
    level, heads = level_of(planes, control), [sight.model.heads]
    if all(isinstance(one, FittedHeads) for one in sight.model.heads.values()):
        heads += [random_heads(sight.model.heads, seed) for seed in range(RANDOM_HEADS)]
    values, *others = square_values(sight, crop, level, meant, heads)
    signed, absolute = agreement(values, np.stack(others)) if others else (None, None)
    lost, random = deletion(sight, crop, level if control is None else control, meant, [values], 0)
    largest = float(np.abs(values).max())
    black, spread = shown_range(found)
    names = tuple(tidy(name, 20) for name in found.channels)
    picture = Picture(
        source=data_address(_coloured((planes - black[:, None, None]) / spread[:, None, None],
                                      values / max(largest, 1e-9))),
        place=f"at most {number(largest, 2)} a square",
        alt="map of the compound's image: what speaks for the class is blue, what speaks against "
            f"it is orange; channels from left to right: {', '.join(names)}",
        channels=names)
    return CropMap(picture, largest, signed, absolute, float(lost[0]), float(random.mean()))


def check_words(maps: Sequence[CropMap]) -> str:
    """What deletion and random heads say about maps, in sentences; empty where there are none.

    Whichever way the checks end.
    """
    if not maps:
        return ""
    lost, random = (np.array([getattr(one, name) for one in maps]) for name in ("lost", "random"))
    deleted = (f"Without the fifth of the squares that is marked most, the images lose "
               f"{number(lost.mean(), 1)} log-odds on average, without a random fifth "
               f"{number(random.mean(), 1)}; more than at random in {int((lost > random).sum())} "
               f"of {len(maps)}.")
    if lost.mean() <= random.mean():
        deleted += " So these maps do not show what the model needs: do not read them."
    known = [(one.signed, one.absolute) for one in maps
             if one.signed is not None and one.absolute is not None]
    if not known:
        return deleted
    signed, absolute = (float(one) for one in np.nanmean(np.array(known), axis=0))
    drawn = (f"Maps of {RANDOM_HEADS} heads with random weights have a mean rank correlation of "
             f"{number(signed, 2)} with these, and of {number(absolute, 2)} if signs are left out")
    if signed >= ALIKE:
        return (f"{deleted} {drawn}. They look alike: these maps show the pictures, not the model, "
                "and explain nothing.")
    if absolute >= ALIKE:
        return (f"{deleted} {drawn}. Where a map is strong depends on the picture more than on the "
                "model; only its signs are the model's.")
    return f"{deleted} {drawn}, so they depend on what the model has learnt."


def _coloured(planes: np.ndarray, effects: np.ndarray) -> list[np.ndarray]:
    """Grey planes under the colours of their squares: [crop, crop, 3] for each channel, 0 to 1."""
    values = enlarged(effects, planes.shape[-1])[..., None]
    grey = DIMMED * np.clip(planes, 0, 1)[..., None]
    opacity = OPAQUE * np.abs(values)
    return list(grey * (1 - opacity) + np.where(values > 0, FOR, AGAINST) * opacity)
