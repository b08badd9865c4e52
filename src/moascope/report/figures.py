"""The plots of the report on a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.drawing.figures import (
    BAND,
    BLUE,
    CLASS_COLOURS,
    FAINT,
    INK,
    MUTED,
    in_house_style,
    new_figure,
)
from moascope.report.curves import null_precision_band, precision_recall_rows
from moascope.screen.question import Question
from moascope.text import number, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = len(CLASS_COLOURS)
STYLES = ("-", "--", "-.", ":")
LEAST_UNITS_A_BIN, MOST_BINS = 8, 8
CURVE_SIZE, RELIABILITY_SIZE = (4.4, 4.9), (4.9, 4.0)   # inches
GAP = 1.45   # lines between two kinds of a comparison, with their heading


@dataclass(frozen=True)
class Compared:
    """One line of the comparison: a score with its interval, and what it is measured against."""

    name: str
    kind: str  # model, reference, baseline, invalid or memory
    scores: dict[str, Any]
    note: str = ""


@in_house_style
def precision_recall_figure(units: pd.DataFrame, asked: list[str], said: Callable[[str], str],
                            scores: dict[str, Any]) -> Figure:
    """A figure of its own for `draw_precision_recall`, with the legend below."""
    figure = new_figure(*CURVE_SIZE)
    axis = figure.subplots()
    place_legend(axis, draw_precision_recall(axis, units, asked, said, scores), below=True)
    return figure


def draw_precision_recall(axis: Axes, units: pd.DataFrame, asked: list[str],
                          said: Callable[[str], str], scores: dict[str, Any]) -> dict[str, Any]:
    """Precision over recall of units, with prevalence, and for one class the null band.

    Parameters
    ----------
    axis : Axes
    units : DataFrame
        With `Label` and `P_<class>`.
    asked : list of str
        Classes that are drawn.
    said : callable
        From a class to how it is shown.
    scores : dict
        Of these units: `average_precision`, or `per_class`.

    Returns
    -------
    dict
        What `place_legend` takes.
    """
    rows = precision_recall_rows(units, asked)
    axis.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="Recall: share of all hits found so far",
             ylabel="Precision: share of the list so far that are hits")
    axis.grid(color="#eef0f2", linewidth=0.8)
    axis.set_axisbelow(True)
    if len(asked) == 1:
        prevalence = float(rows["prevalence"].iloc[0])
        positives = int((units["Label"] == asked[0]).sum())
        recall, low, high = null_precision_band(positives, len(units))
        axis.fill_between(np.r_[0, recall], np.r_[low[0], low], np.r_[high[0], high], color=BAND,
                          linewidth=0, step="pre",
                          label="Null band: 95 % of random lists")
        axis.axhline(prevalence, color=MUTED, linewidth=1.2, linestyle=(0, (5, 3)),
                     label=f"Prevalence {number(prevalence)}")
        axis.step(*_at_hits(rows), where="pre", color=BLUE, linewidth=2,
                  label=f"Model, average precision {number(scores.get('average_precision'))}")
        handles, labels = axis.get_legend_handles_labels()
        return {"handles": handles[::-1], "labels": labels[::-1], "frameon": False,
                "fontsize": 8.5}
    own = scores.get("per_class") or {}
    order = sorted(rows["class"].unique(), key=lambda name: (
        -own.get(name, {}).get("average_precision", 0), name))
    for place, name in reversed(list(enumerate(order))):
        part = rows[rows["class"] == name]
        named = place < MOST_CURVES
        colour = CLASS_COLOURS[place] if named else FAINT
        label = f"{tidy(said(name), 34)} {number(own.get(name, {}).get('average_precision'))}"
        axis.axhline(part["prevalence"].iloc[0], color=colour, linewidth=0.9,
                     linestyle=(0, (1, 3)))
        axis.step(*_at_hits(part), where="pre", color=colour,
                  linewidth=1.9 if named else 1, label=label if named else None,
                  linestyle=STYLES[place % len(STYLES)] if named else "-")
    if len(order) > MOST_CURVES:
        axis.plot([], [], color=FAINT, label=f"the other {len(order) - MOST_CURVES} classes")
    handles, labels = axis.get_legend_handles_labels()
    last = len(handles) - (len(order) > MOST_CURVES)
    order_shown = [*reversed(range(last)), *range(last, len(handles))]
    return {"handles": [handles[i] for i in order_shown],
            "labels": [labels[i] for i in order_shown], "frameon": False, "fontsize": 8,
            "ncols": 2 if max(map(len, labels)) < 27 else 1}


def place_legend(axis: Axes, legend: dict[str, Any], below: bool) -> None:
    """A legend below the axes, at the left of their figure, or where it hides least inside them."""
    if below:
        axis.get_figure(root=True).legend(loc="outside lower left", **legend)
    else:
        axis.legend(loc="best", **legend)


def _at_hits(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at each hit: as steps, the area below them is the average precision."""
    best = rows[rows["recall"] > 0].groupby("recall")["precision"].max()
    return np.r_[0, best.index], np.r_[best.iloc[0], best]


@in_house_style
def comparison_figure(rows: list[Compared], null: dict[str, Any]) -> Figure:
    """A figure of its own for `draw_comparison`."""
    figure = new_figure(*comparison_size(rows))
    draw_comparison(figure.subplots(), rows, null)
    return figure


def comparison_size(rows: list[Compared]) -> tuple[float, float]:
    """Width and height in inches that the lines of a comparison need."""
    kinds = len({row.kind for row in rows})
    return 6.5, 0.295 * (len(rows) + GAP * kinds) + 0.75


def draw_comparison(axis: Axes, rows: list[Compared], null: dict[str, Any]) -> None:
    """Every score as a dot with its interval on one scale, invalid ones hatched and grey.

    Parameters
    ----------
    axis : Axes
    rows : list of Compared
        In the order of the lines, kinds together.
    null : dict
        Scores whose `null_low` and `null_high` hold where a row has none of its own.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import blended_transform_factory

    headings = {"model": "Model", "reference": "References: simple models, same features",
                "baseline": "Baselines",
                "invalid": "INVALID: random split by image (leaks compounds)",
                "memory": "The same head as in the invalid split"}
    lines: list[tuple[float, Compared]] = []
    titles: list[tuple[float, str]] = []
    at = 0.0
    for kind, heading in headings.items():
        own = [row for row in rows if row.kind == kind]
        if own:
            titles.append((at, heading))
            lines += [(at + 1 + place, row) for place, row in enumerate(own)]
            at += len(own) + GAP
    axis.set(xlim=(0, 1), ylim=(at - 0.6, -0.6), xlabel="Average precision")
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color="#eef0f2", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.set_yticks([y for y, _ in lines], [tidy(row.name, 38) for _, row in lines])
    right = blended_transform_factory(axis.transAxes, axis.transData)
    for y, heading in titles:
        axis.text(0, y, heading, transform=right, fontweight="bold", fontsize=9, va="center",
                  color=INK if not heading.startswith("INVALID") else "#8a1c00")
    for y, row in lines:
        scores = row.scores
        invalid = row.kind == "invalid"
        if invalid:
            axis.add_patch(Rectangle((0, y - 0.5), 1, 1, transform=right, facecolor="#f3f4f5",
                                     edgecolor="#b3b9c0", hatch="////", linewidth=0, zorder=0.5))
        else:
            low = scores.get("null_low", null.get("null_low"))
            high = scores.get("null_high", null.get("null_high"))
            if low is not None and high is not None:
                axis.add_patch(Rectangle((low, y - 0.5), high - low, 1, facecolor=BAND,
                                         linewidth=0, zorder=0.5))
            chance = scores.get("null_mean", null.get("null_mean"))
            if chance is not None:
                axis.plot([chance] * 2, [y - 0.5, y + 0.5], color=MUTED, linewidth=1.2,
                          linestyle=(0, (3, 2)), zorder=1)
        colour = BLUE if row.kind == "model" else "#7b848d" if invalid else INK
        value, low, high = (scores.get(key) for key in ("average_precision", "low", "high"))
        if low is not None and high is not None and high > low:
            axis.plot([low, high], [y, y], color=colour, zorder=2, solid_capstyle="butt",
                      linewidth=2.2 if row.kind == "model" else 1.5, clip_on=False)
        marker = {"model": "o", "reference": "D", "invalid": "X"}.get(row.kind, "s")
        axis.plot([value], [y], marker, color=colour, markersize=7 if row.kind == "model" else 5.5,
                  markeredgecolor="white", markeredgewidth=0.7, zorder=3, clip_on=False)
        said = number(value)
        if low is not None and high is not None and high > low:
            said += f"  [{number(low)}, {number(high)}]"
        axis.text(1.03, y, said, transform=right, va="center", fontsize=8.5,
                  color="#6b737c" if invalid else INK,
                  fontweight="bold" if row.kind == "model" else "normal")
    for tick, (_, row) in zip(axis.get_yticklabels(), lines, strict=True):
        tick.set_color("#6b737c" if row.kind == "invalid" else INK)
        tick.set_fontsize(8.5)


def reliability_bins(stated: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Stated probability against observed frequency in bins of equal size.

    Parameters
    ----------
    stated : ndarray, float, [n]
    right : ndarray, bool, [n]

    Returns
    -------
    DataFrame
        `n, stated, observed, low, high`, with Wilson's 95 % interval [1]_. Equal probabilities
        share a bin, so that bins may differ in size. Empty where units are too few for two bins.

    References
    ----------
    .. [1] Wilson EB (1927), J Am Stat Assoc 22:209.
    """
    bins = min(MOST_BINS, len(stated) // LEAST_UNITS_A_BIN)
    columns = ["n", "stated", "observed", "low", "high"]
    if bins < 2:
        return pd.DataFrame(columns=columns)
    table = pd.DataFrame({"stated": stated, "observed": right.astype(float)})
    table["cell"] = (table["stated"].rank(method="min") - 1) * bins // len(table)
    found = table.groupby("cell").agg(n=("stated", "size"), stated=("stated", "mean"),
                                      observed=("observed", "mean")).reset_index(drop=True)
    z = 1.959964
    n, p = found["n"], found["observed"]
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return found.assign(low=(centre - half).clip(0, 1), high=(centre + half).clip(0, 1))[columns]


def reliability_of(units: pd.DataFrame, question: Question,
                   said: Callable[[str], str]) -> tuple[pd.DataFrame, str, str]:
    """The bins of predictions, and what the two axes are called.

    Parameters
    ----------
    units : DataFrame
        With `Label`, `Predicted` and `P_<class>`.
    question : Question
    said : callable
        From a class to how it is shown.

    Returns
    -------
    bins : DataFrame
        As `reliability_bins` gives them.
    observed, stated : str
    """
    if question.binary:
        positive = question.classes[1]
        return (reliability_bins(units[f"P_{positive}"].to_numpy(float),
                                 (units["Label"] == positive).to_numpy()),
                f"Share that are {tidy(said(positive), 30)}", "Predicted probability")
    units = units[question.counts(question.index(units["Label"]))]
    return (reliability_bins(units[question.probabilities].max(axis=1).to_numpy(float),
                             (units["Label"] == units["Predicted"]).to_numpy()),
            "Share predicted correctly", "Probability of the predicted class")


@in_house_style
def reliability_figure(bins: pd.DataFrame, observed: str, stated: str) -> Figure:
    """A figure of its own for `draw_reliability`."""
    figure = new_figure(*RELIABILITY_SIZE)
    draw_reliability(figure.subplots(), bins, observed, stated)
    return figure


def draw_reliability(axis: Axes, bins: pd.DataFrame, observed: str, stated: str) -> None:
    """Bins of `reliability_bins` against the diagonal of perfect calibration.

    Parameters
    ----------
    axis : Axes
    bins : DataFrame
    observed, stated : str
        What the axes are called.
    """
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (5, 3)),
              label="Perfectly calibrated")
    error = np.maximum([bins["observed"] - bins["low"], bins["high"] - bins["observed"]], 0)
    axis.errorbar(bins["stated"], bins["observed"], yerr=error, fmt="o", color=BLUE,
                  markersize=5.5, elinewidth=1.4, label="Model, with 95 % interval")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=stated, ylabel=observed)
    axis.grid(color="#eef0f2", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.legend(loc="upper left", frameon=False, fontsize=8.5)
