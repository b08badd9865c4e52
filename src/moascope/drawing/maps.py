"""Quantities over the wells of a plate, drawn as they lie on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.drawing.figures import (
    CLASS_COLOURS,
    FAINT,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILION,
    in_house_style,
)
from moascope.screen.wells import well_name, well_position
from moascope.text import tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PlateMap:
    """One quantity over the wells of a plate.

    Attributes
    ----------
    title : str
    grid : ndarray, float, [rows, columns]
        NaN where there is nothing to show.
    kind : {"class", "score", "measure", "flag"}
        What the colours stand for. For "class" and "flag" the values are indices into `names`;
        of "flag" the first is good.
    names : tuple of str
    """

    title: str
    grid: np.ndarray
    kind: str
    names: tuple[str, ...] = ()


def plate_grid(wells: pd.Series, shape: tuple[int, int]) -> np.ndarray:
    """Values of wells where they lie on the plate.

    Parameters
    ----------
    wells : Series of float
        Indexed by well name; a name that occurs twice gets the mean.
    shape : tuple of int
        Rows and columns of the plate.

    Returns
    -------
    ndarray, float, [rows, columns]
        B02 is at [1, 1]; NaN where no well is named.
    """
    grid = np.full(shape, np.nan)
    for well, value in wells.groupby(level=0).mean().items():
        grid[well_position(str(well))] = value
    return grid


@in_house_style
def plate_figure(maps: list[PlateMap]) -> Figure:
    """Heat maps of one plate side by side, A1 at the top left, every axis named as on the plate."""
    from matplotlib.figure import Figure

    across = 4 if len(maps) > 6 or len(maps) == 4 else 3
    down = -(-len(maps) // across)
    # In inches. Every plate format is two high and three wide, so places are known beforehand,
    # maps of several plates lie under one another, and no layout engine has to look for them.
    wide, head, side, legend = 10.8, 0.42, 0.22, 0.88
    cell = wide / across
    width = cell - side - legend
    tall = width * 2 / 3
    height = (tall + head) * down + 0.06
    figure = Figure(figsize=(wide, height))
    for place, one in enumerate(maps):
        row, column = divmod(place, across)
        bottom = height - (row + 1) * (tall + head)
        axis = figure.add_axes((
            (column * cell + side) / wide, bottom / height, width / wide, tall / height))
        draw_map(axis, one)
    return figure


def draw_map(axis: Axes, one: PlateMap) -> None:
    """One heat map, with its colour bar or the names of its classes to the right of the axes."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.ticker import MaxNLocator

    rows, columns = one.grid.shape
    limits: dict[str, Any] = {}
    grid, names = one.grid, one.names
    if names:
        colours = (["#d3dbe2", VERMILION, ORANGE, PURPLE] if one.kind == "flag"
                   else [*CLASS_COLOURS[: len(names) - 1], MUTED])
        # Only what the plate has gets a place in its legend.
        present = np.unique(grid[np.isfinite(grid)]).astype(int)
        grid = np.where(np.isfinite(grid), np.searchsorted(present, np.nan_to_num(grid)), np.nan)
        names = [names[i] for i in present]
        colourmap = ListedColormap([colours[i] for i in present])
        limits = {"norm": BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))}
    else:
        colourmap = colormaps["viridis"]
        low, high = np.nanpercentile(grid, [2, 98])
        if one.kind == "score":
            low, high = 0, float(np.nanmax(grid))
        if high - low < 1e-3 * abs(high):  # one well, or all alike
            low, high = low - 0.05 * abs(low), high + 0.05 * abs(high)
        limits = {"vmin": low, "vmax": max(high, low + 1e-6)}
    image = axis.imshow(grid, cmap=colourmap.with_extremes(bad="#f0f1f3"), aspect="equal",
                        interpolation="nearest", **limits)
    axis.set_title(tidy(one.title, 44), fontsize=8.5)
    step_down, step_across = max(rows // 8, 1), max(columns // 12, 1)
    axis.set_yticks(range(0, rows, step_down),
                    [well_name(row, 0)[:-2] for row in range(0, rows, step_down)])
    axis.set_xticks(range(0, columns, step_across), range(1, columns + 1, step_across))
    axis.tick_params(labelsize=6.5, length=0, pad=1.5, top=False, labeltop=True, bottom=False,
                     labelbottom=False)
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color(FAINT)
    bar = axis.figure.colorbar(image, cax=axis.inset_axes((1.02, 0, 0.03, 1)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6.5, length=0, pad=2)
    if names:
        bar.set_ticks(range(len(names)), labels=[tidy(name, 16) for name in names])
    else:
        bar.formatter.set_useOffset(False)  # pyright: ignore[reportAttributeAccessIssue]
        bar.ax.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
