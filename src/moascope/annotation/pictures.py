"""A compound's wells next to negative controls of the same plate, on one intensity scale."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from moascope.screen.planes import read_site, site_channels
from moascope.screen.tables import Screen
from moascope.screen.wells import well_position

MOST_VIEWS = 4
SIDE = 640
"""Longest side of a picture, in pixels; a larger plane is averaged down."""

_LOW, _HIGH = 0.5, 99.8
# By name where the name says it; else the first channel is taken for the nuclei and is blue.
_NAMED = {
    (64, 150, 255): ("dna", "dapi", "hoechst", "nucle", "bfp", "blue"),
    (0, 200, 110): ("green", "gfp", "fitc", "488"),
    (235, 70, 110): ("red", "rfp", "tritc", "cherry", "cy3", "cy5"),
}
_COLOURS = ((64, 150, 255), (255, 176, 0), (220, 60, 160), (0, 200, 110), (235, 70, 110),
            (200, 200, 200))


@dataclass(frozen=True)
class View:
    """One well of a compound and the control well that it is compared with.

    Attributes
    ----------
    plate, well, control_well : str
        `control_well` is "" where the plate has no negative control.
    control : str
        What is in the control well, such as DMSO.
    concentration : float
        Micromolar; NaN where it is not known.
    treated, untreated : int
        Rows of `screen.sites`; `untreated` is -1 where there is none.
    channels : tuple of str
        Of the treated site.
    """

    plate: str
    well: str
    control_well: str
    control: str
    concentration: float
    treated: int
    untreated: int
    channels: tuple[str, ...]


def find_views(screen: Screen, compound: str, most: int = MOST_VIEWS) -> list[View]:
    """Choose wells of a compound: the highest concentrations, on as many plates as there are.

    The control is the negative-control well of the same plate that is nearest, so that what a
    plate's edge does shows on both sides.
    """
    wells = screen.layout[screen.layout["Metadata_Compound"] == compound]
    first_sites = screen.sites.reset_index().groupby(["Metadata_Plate", "Metadata_Well"])["index"]
    first = first_sites.min()
    wells = wells[pd.MultiIndex.from_frame(wells[["Metadata_Plate", "Metadata_Well"]]
                                           ).isin(first.index)]
    wells = wells.sort_values(["Metadata_Concentration_uM", "Metadata_Plate", "Metadata_Well"],
                              ascending=[False, True, True])
    # First wells of all plates, then second wells: a plate's own look is not the compound's.
    turn = wells.groupby("Metadata_Plate").cumcount()
    wells = wells.assign(turn=turn).sort_values("turn", kind="stable").head(most)
    controls = screen.layout[(screen.layout["Metadata_Control"] == "negative")]
    views = []
    for row in wells.itertuples():
        plate, well = row.Metadata_Plate, row.Metadata_Well
        treated = int(first[plate, well])
        near = [(_distance(well, other), other, name) for other, name in controls.loc[
            controls["Metadata_Plate"] == plate,
            ["Metadata_Well", "Metadata_Compound"]].itertuples(index=False)
            if (plate, other) in first.index and other != well]
        _, control_well, control = min(near, default=(0, "", ""))
        views.append(View(
            plate, well, control_well, control, float(row.Metadata_Concentration_uM), treated,
            int(first[plate, control_well]) if control_well else -1,
            tuple(site_channels(screen, screen.sites.iloc[treated]))))
    return views


def render_view(screen: Screen, view: View, treated: bool, channel: str = "") -> bytes:
    """Render one side of a view.

    Parameters
    ----------
    screen : Screen
    view : View
    treated : bool
        The compound's well, or else the control.
    channel : str
        One channel in grey, or "" for all channels in colour.

    Returns
    -------
    bytes
        A PNG. Both sides of a view are scaled by the same limits, taken over both of them for
        each channel, so that brighter is brighter.

    Raises
    ------
    PlaneError
        Where a plane cannot be read.
    """
    channels = [channel] if channel in view.channels else list(view.channels)
    sides = {view.treated: read_site(screen, screen.sites.iloc[view.treated], channels)}
    if view.untreated >= 0:
        sides[view.untreated] = read_site(screen, screen.sites.iloc[view.untreated], channels)
    shown = sides[view.treated if treated else view.untreated]
    limits = [np.percentile(np.concatenate([planes[index].ravel()[::7]
                                            for planes in sides.values()]), [_LOW, _HIGH])
              for index in range(len(channels))]
    return as_png(coloured(shown, limits, channel_colours(view.channels)), SIDE)


def coloured(planes: Sequence[np.ndarray] | np.ndarray,
             limits: Sequence[Sequence[float] | np.ndarray],
             colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Planes as light: one alone in grey, several as the sum of their colours.

    Parameters
    ----------
    planes : sequence of ndarray, [height, width]
    limits : sequence of (float, float)
        Of each plane, the values that are dark and bright.
    colours : sequence of tuple of int
        Of each plane, 0 to 255.

    Returns
    -------
    ndarray, float32, [height, width] or [height, width, 3]
        0 to 1.
    """
    scaled = [np.clip((plane.astype(np.float32) - low) / max(high - low, 1.0), 0, 1)
              for plane, (low, high) in zip(planes, limits, strict=True)]
    if len(scaled) == 1:
        return scaled[0]
    light = np.zeros((*scaled[0].shape, 3), np.float32)
    for plane, colour in zip(scaled, colours, strict=True):
        light += plane[..., np.newaxis] * (np.array(colour, np.float32) / 255)
    return np.clip(light, 0, 1)


def channel_colours(channels: Sequence[str]) -> list[tuple[int, int, int]]:
    """A colour for each channel; colours repeat only where there are more channels than colours."""
    colours: dict[str, tuple[int, int, int]] = {}
    for channel in channels:
        named = next((colour for colour, words in _NAMED.items()
                      if any(word in channel.lower() for word in words)), None)
        if named is not None and named not in colours.values():
            colours[channel] = named
    left = [colour for colour in _COLOURS if colour not in colours.values()]
    for index, channel in enumerate(name for name in channels if name not in colours):
        colours[channel] = left[index % len(left)]
    return [colours[channel] for channel in channels]


def _distance(well: str, other: str) -> float:
    row, column = well_position(well)
    other_row, other_column = well_position(other)
    return (row - other_row) ** 2 + (column - other_column) ** 2


def as_png(light: np.ndarray, side: int = 0) -> bytes:
    """A picture from `coloured` as PNG; above 0, `side` is the longest that it may have."""
    from PIL import Image

    image = Image.fromarray((light * 255 + 0.5).astype(np.uint8))
    if 0 < side < max(image.size):
        scale = side / max(image.size)
        image = image.resize((max(1, round(image.width * scale)),
                              max(1, round(image.height * scale))), Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()
