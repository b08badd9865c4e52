"""The figures of the page on a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from moascope.drawing.figures import BAND, BLUE, INK, MUTED, VERMILION, in_house_style, new_figure
from moascope.drawing.maps import PlateMap, plate_grid
from moascope.layout.words import Finding
from moascope.screen.wells import PLATE_SHAPES
from moascope.text import number, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"found": VERMILION, "hint": "#9a6a00", "none": BLUE}


@in_house_style
def confounds_figure(found: list[Finding]) -> Figure:
    """Every confound that was measured as a dot with its null, on one scale from 0 to 1."""
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import blended_transform_factory

    shown = [one for one in found if one.value is not None]
    figure = new_figure(10.4, 0.42 * len(shown) + 0.75)
    axis = figure.subplots()
    axis.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    axis.set_xticks(np.linspace(0, 1, 6))
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color="#eef0f2", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.set_yticks(range(len(shown)), [one.title for one in shown])
    right = blended_transform_factory(axis.transAxes, axis.transData)
    for y, one in enumerate(shown):
        colour = COLOURS[one.state]
        if one.low is not None:
            axis.add_patch(Rectangle((one.low, y - 0.34), max(one.high - one.low, 0.004), 0.68,
                                     facecolor=BAND, edgecolor="#b9b3a3", linewidth=0.6,
                                     zorder=0.5))
        axis.plot([one.value], [y], "o" if one.state == "none" else "D", color=colour,
                  markersize=7, markeredgecolor="white", markeredgewidth=0.8, zorder=3,
                  clip_on=False)
        axis.text(1.025, y, number(one.value), transform=right, va="center", fontsize=9,
                  color=INK, fontweight="bold" if one.state == "found" else "normal")
        axis.text(1.12, y, one.mark, transform=right, va="center", fontsize=7.8, color=MUTED)
    for tick, one in zip(axis.get_yticklabels(), shown, strict=True):
        tick.set_color(COLOURS[one.state] if one.state != "none" else INK)
        tick.set_fontweight("bold" if one.state == "found" else "normal")
    return figure


@in_house_style
def shares_figure(by_column: pd.DataFrame, by_plate: pd.DataFrame, what: str) -> Figure:
    """Share of a class at every column and plate, with what chance gives.

    Parameters
    ----------
    by_column, by_plate : DataFrame
        As `moascope.layout.confounds.class_shares` gives them.
    what : str
        The class.
    """
    figure = new_figure(10.4, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(3, 4))
    top = 1.08 * max(float(table[["share", "high"]].to_numpy().max())
                     for table in (by_column, by_plate))
    ordered = by_plate.sort_values(["share", "wells"], kind="stable")
    for axis, table, xlabel in ((left, by_column, "Column of the plate"),
                                (right, ordered, "Plates, in order of the share")):
        at = np.arange(len(table))
        many = len(table) > 60
        axis.bar(at, table["high"] - table["low"], bottom=table["low"],
                 width=1.0 if many else 0.8, color=BAND, linewidth=0,
                 label="95 % of random layouts")
        outside = (table["share"] < table["low"]) | (table["share"] > table["high"])
        for flag, colour, label in ((False, BLUE, "Measured"),
                                    (True, VERMILION, "Measured, outside the band")):
            part = (outside == flag).to_numpy()
            if part.any():
                axis.plot(at[part], table["share"].to_numpy()[part], "o" if not flag else "D",
                          color=colour, markersize=2.2 if many else 5, linewidth=0,
                          markeredgewidth=0, label=label)
        mean = float(np.average(table["share"], weights=table["wells"]))
        axis.axhline(mean, color=MUTED, linewidth=1, linestyle=(0, (5, 3)))
        axis.set(xlim=(-0.7, len(table) - 0.3), ylim=(0, min(top, 1.04)), xlabel=xlabel)
        axis.grid(axis="y", color="#eef0f2", linewidth=0.8)
        axis.set_axisbelow(True)
    step = max(len(by_column) // 12, 1)
    left.set_xticks(range(0, len(by_column), step), list(by_column.index[::step]))
    right.set_xticks([])
    left.set_ylabel(f"Share of wells: {tidy(what, 26)}")
    handles, labels = {}, []
    for axis in (left, right):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = sorted(handles, key=lambda label: (label.startswith("95"), label))
    figure.legend([handles[label] for label in labels], labels, loc="outside lower left",
                  frameon=False, fontsize=8.5, ncols=3)
    return figure


def place_maps(places: pd.DataFrame, size: str, what: str) -> list[PlateMap]:
    """What the wells hold, over all plates of one format.

    Parameters
    ----------
    places : DataFrame
        As `moascope.layout.facts.plate_summaries` gives it.
    size : str
        Wells per plate.
    what : str
        The class whose share is shown.
    """
    shape = PLATE_SHAPES[int(size)]

    def grid(values: pd.Series) -> np.ndarray:
        return plate_grid(values.astype(float), shape)

    kinds = ("compounds", "positive control", "both", "negative control")
    kind = np.select(
        [places["Negative"] > 0.999, places["Positive"] > 0.999,
         places["Negative"] + places["Positive"] > 0], [3, 1, 2], 0)
    maps = [PlateMap("Content", grid(pd.Series(kind, places.index)), "class", kinds)]
    several = places["Compounds"].where(places["Compounds"] > 0)
    if several.max() > several.min():
        maps.append(PlateMap("Different compounds", grid(several), "measure"))
    if places["Dose"].max() > places["Dose"].min():
        maps.append(PlateMap("Median dose, log10 µM", grid(places["Dose"]), "measure"))
    if places["Hits"].notna().any() and places["Hits"].max() > 0:
        maps.append(PlateMap(f"Share of {tidy(what, 26)}", grid(places["Hits"]), "score"))
    if places["Plates"].max() > places["Plates"].min():
        maps.append(PlateMap("Plates that use this well", grid(places["Plates"]), "measure"))
    if places["Missing"].max() > 0:
        maps.append(PlateMap("Share without an image", grid(places["Missing"]), "score"))
    return maps
