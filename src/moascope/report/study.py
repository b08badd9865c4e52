"""The study in pictures: what was tried, what mattered, and how trials went."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.drawing.figures import (
    BLUE,
    FAINT,
    MUTED,
    VERMILION,
    draw,
    in_house_style,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLES = ("trials", "curves", "parameters")
SCORE = "Explained share of inner labels"

def study_pictures(tables: Mapping[str, pd.DataFrame]) -> dict[str, tuple[str, Any]]:
    """What there is to draw of a study.

    Parameters
    ----------
    tables : mapping
        As `evaluation.study.study_tables` makes them.

    Returns
    -------
    dict
        Name -> words for those who cannot see it, and the call that draws the Figure.
    """
    trials, curves, parameters = (tables[name] for name in TABLES)
    if trials.empty:
        return {}
    best = trials.loc[trials["score"].idxmax()]
    pictures: dict[str, tuple[str, Any]] = {
        "history": (f"Scores of {len(trials)} trials in their order; the best is trial "
                    f"{best['trial']} with {best['score']:.3f}.",
                    partial(history_figure, trials)),
        "curves": ("Score over epochs, one line a trial.", partial(curves_figure, trials, curves)),
    }
    if parameters["importance"].notna().any():
        said = ", ".join(f"{row.parameter} {row.importance:.2f}"
                         for row in parameters.itertuples())
        pictures["importance"] = (f"Importance: {said}.", partial(importance_figure, parameters))
    if not parameters.empty:
        said = ", ".join(parameters["parameter"])
        pictures["slice"] = (f"Score against {said}, one dot a trial.",
                             partial(slice_figure, trials, parameters))
    return pictures


def save_pictures(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write `<name>.png` for each of `study_pictures`."""
    for name, (_, make) in study_pictures(tables).items():
        save(folder / f"{name}.png", name, make)


def study_section(folder: Path) -> dict[str, Any]:
    """What the report says of a study.

    Parameters
    ----------
    folder : Path
        With `trials.csv`, `curves.csv` and `parameters.csv`.

    Returns
    -------
    dict
        `trials`, `pruned` (counts), `best` (number of the best trial), `taken` (a sentence on the
        final model's trial) and an `<svg>` for each of `study_pictures`; empty where nothing was
        tried.
    """
    if not all((folder / f"{name}.csv").exists() for name in TABLES):
        return {}
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    trials = tables["trials"]
    if trials.empty:
        return {}
    best, taken = trials["score"].idxmax(), trials["taken"].idxmax()
    why = ("." if best == taken else
           ": no trial explains the inner labels." if trials["score"].max() <= 0 else
           f": trial {trials.loc[best, 'trial']} scores higher, but by less than one standard "
           "error over the inner folds.")
    default = "" if best == taken else "default "
    return {
        "taken": f"The final model uses the {default}settings of trial "
                 f"{trials.loc[taken, 'trial']}{why}",
        "trials": len(trials), "pruned": int((trials["state"] == "pruned").sum()),
        "best": int(trials.loc[best, "trial"]),
        **{name: draw(f"study-{name}", alt, make)
           for name, (alt, make) in study_pictures(tables).items()},
    }


@in_house_style
def history_figure(trials: pd.DataFrame) -> Figure:
    """The score of every trial in their order, and the best so far."""
    figure = new_figure(5.2, 3.1)
    axis = figure.subplots()
    _score_axis(axis, trials["score"])
    axis.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (5, 3)), label="Chance")
    axis.step(trials["trial"], trials["best"], where="post", color=VERMILION, linewidth=1.6,
              label="Best so far")
    _dots(axis, trials, trials["trial"])
    axis.set_xlim(-0.02 * len(trials) - 0.5, trials["trial"].max() + 0.02 * len(trials) + 0.5)
    axis.set(xlabel="Trial", ylabel=SCORE)
    axis.xaxis.get_major_locator().set_params(integer=True)  # pyright: ignore[reportCallIssue]
    figure.legend(loc="outside lower center", frameon=False, fontsize=8.5, ncols=4)
    return figure


@in_house_style
def importance_figure(parameters: pd.DataFrame) -> Figure:
    """A bar for each hyperparameter."""
    rows = parameters.iloc[::-1]
    figure = new_figure(4.4, 0.34 * len(rows) + 0.7)
    axis = figure.subplots()
    bars = axis.barh(rows["parameter"].str.replace("_", " "), rows["importance"], color=BLUE,
                     height=0.62)
    axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8.5)
    axis.set(xlabel="Importance (PED-ANOVA)", xlim=(0, 1.15 * rows["importance"].max()))
    axis.tick_params(axis="y", length=0)
    return figure


@in_house_style
def slice_figure(trials: pd.DataFrame, parameters: pd.DataFrame) -> Figure:
    """The score against each hyperparameter, one panel each."""
    across = min(4, len(parameters))
    down = -(-len(parameters) // across)
    figure = new_figure(2.7 * across, 2.3 * down + 0.3)
    axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, len(trials))
    for axis, row in zip(axes, parameters.itertuples(), strict=False):
        values = trials[row.parameter]
        _score_axis(axis, trials["score"])
        if row.scale == "choice":
            choices = sorted(values.dropna().unique())
            values = values.map({choice: i for i, choice in enumerate(choices)}) + jitter
            axis.set_xticks(range(len(choices)), [str(choice) for choice in choices],
                            fontsize=8 if len(choices) < 4 else 7)
            axis.set_xlim(-0.5, len(choices) - 0.5)
        elif row.scale == "log":
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
        _dots(axis, trials, values)
        axis.set_xlabel(row.parameter.replace("_", " "))
    for axis in axes[len(parameters):]:
        axis.set_visible(False)
    for axis in axes[: len(parameters): across]:
        axis.set_ylabel("Explained share")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=8.5,
                  ncols=2)
    return figure


@in_house_style
def curves_figure(trials: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """The score of every trial over its epochs; the best one stands out."""
    figure = new_figure(5.2, 3.1)
    axis = figure.subplots()
    _score_axis(axis, curves["score"])
    best = trials.loc[trials["score"].idxmax(), "trial"]
    pruned = set(trials.loc[trials["state"] == "pruned", "trial"])
    for number, curve in curves.groupby("trial"):
        mine = number == best
        axis.plot(curve["epoch"], curve["score"],
                  color=VERMILION if mine else FAINT if number in pruned else BLUE,
                  linewidth=2 if mine else 0.8, alpha=1 if mine else 0.75,
                  zorder=3 if mine else 1 if number in pruned else 2,
                  label=f"Best: trial {number}" if mine else None)
        if number in pruned:
            axis.plot(curve["epoch"].iloc[-1:], curve["score"].iloc[-1:], "x", color=MUTED,
                      markersize=3.5, markeredgewidth=0.8)
    axis.plot([], [], color=BLUE, linewidth=0.8, label="Trained to the end")
    if pruned:
        axis.plot([], [], color=FAINT, marker="x", markeredgecolor=MUTED, markersize=4,
                  linewidth=0.8, label="Pruned")
    axis.set(xlabel="Epoch", ylabel=SCORE)
    figure.legend(loc="outside lower center", frameon=False, fontsize=8.5, ncols=3)
    return figure


def _dots(axis: Axes, trials: pd.DataFrame, place: pd.Series) -> None:
    pruned = trials["state"] == "pruned"
    # What is below the axis lies on its edge.
    scores = trials["score"].clip(lower=axis.get_ylim()[0])
    axis.plot(place[~pruned], scores[~pruned], "o", color=BLUE, markersize=4, clip_on=False,
              markeredgecolor="white", markeredgewidth=0.5, label="Trained to the end", zorder=3)
    if pruned.any():
        axis.plot(place[pruned], scores[pruned], "x", color=MUTED, markersize=4, clip_on=False,
                  markeredgewidth=1, label="Pruned")


def _score_axis(axis: Axes, scores: pd.Series) -> None:
    """Limits that a few hopeless trials do not decide."""
    low, middle, high = np.percentile(scores, [0, 50, 100])
    low = max(low, middle - 2 * max(high - middle, 0.01))
    margin = 0.06 * max(high - low, 0.01)
    axis.set_ylim(low - margin, high + margin)
    axis.grid(color="#eef0f2", linewidth=0.8)
    axis.set_axisbelow(True)
