"""The figures of the report on matplotlib axes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from moascope.api.evaluation import Evaluation
from moascope.drawing.figures import CLASS_COLOURS, house_style
from moascope.drawing.maps import PlateMap, draw_map, plate_grid
from moascope.errors import MoascopeError
from moascope.report import figures
from moascope.report.scores import compared
from moascope.report.words import main_scores
from moascope.screen.columns import WELL
from moascope.screen.wells import PLATE_SHAPES, plate_format
from moascope.text import class_name, listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLATE_SIZE = (5.6, 3.0)   # inches


def plot_precision_recall(evaluation: Evaluation, ax: Axes | None = None) -> Axes:
    """Precision over recall of unseen compounds, with prevalence and, for one class, the null band.

    Parameters
    ----------
    evaluation : Evaluation
    ax : matplotlib Axes, optional
        By default, those of a new figure.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> ax = moascope.plot_precision_recall(evaluation)
    >>> ax.figure.savefig("precision_recall.png")
    """
    question = evaluation.result.question
    units = evaluation.result.predictions["compound"]
    units = units[question.counts(question.index(units["Label"]))]
    present = [name for name in question.scored_names if (units["Label"] == name).any()]
    with on_axes(ax, figures.CURVE_SIZE) as own:
        legend = figures.draw_precision_recall(
            own, units, present, lambda name: class_name(name, question.target),
            main_scores(dict(evaluation.metrics)))
        figures.place_legend(own, legend, below=ax is None)
    return own


def plot_comparison(evaluation: Evaluation, ax: Axes | None = None) -> Axes:
    """Average precision of the model and of every baseline, with intervals and the null.

    Parameters
    ----------
    evaluation : Evaluation
    ax : matplotlib Axes, optional
        By default, those of a new figure. The numbers stand to the right of the axes.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> moascope.plot_comparison(evaluation)
    """
    metrics = dict(evaluation.metrics)
    rows = compared(metrics)
    with on_axes(ax, figures.comparison_size(rows)) as own:
        figures.draw_comparison(own, rows, main_scores(metrics))
    return own


def plot_reliability(evaluation: Evaluation, ax: Axes | None = None) -> Axes:
    """Predicted probability of compounds against how often it is right.

    Parameters
    ----------
    evaluation : Evaluation
    ax : matplotlib Axes, optional
        By default, those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    MoascopeError
        Where there are too few compounds for two bins.

    Examples
    --------
    >>> moascope.plot_reliability(evaluation)
    """
    question = evaluation.result.question
    bins, observed, stated = figures.reliability_of(
        evaluation.result.predictions["compound"], question,
        lambda name: class_name(name, question.target))
    if len(bins) < 2:
        raise MoascopeError(f"A reliability curve needs at least {2 * figures.LEAST_UNITS_A_BIN} "
                            f"{question.unit}s.")
    with on_axes(ax, figures.RELIABILITY_SIZE) as own:
        figures.draw_reliability(own, bins, observed, stated)
    return own


def plot_plate(table: pd.DataFrame, column: str, plate: str | None = None,
               ax: Axes | None = None) -> Axes:
    """One column of a table over the wells of a plate.

    Parameters
    ----------
    table : DataFrame
        One row per site or well, with `Metadata_Plate` and `Metadata_Well`: a layout, features or
        predictions.
    column : str
        Numbers are averaged over the rows of a well; words and flags are shown as classes.
    plate : str, optional
        By default the first by name.
    ax : matplotlib Axes, optional
        By default, those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    MoascopeError
        Where the column or the plate is missing, or there are more classes than colours.

    Examples
    --------
    >>> moascope.plot_plate(features, "Count_Nuclei")
    >>> moascope.plot_plate(result.predictions["well"], "P_gpcr", plate="P1")
    """
    missing = [name for name in (*WELL, column) if name not in table]
    if missing:
        raise MoascopeError(f"The table has no column {listing(missing)}.")
    plates = sorted(table["Metadata_Plate"].unique())
    plate = plates[0] if plate is None and plates else plate
    rows = table[table["Metadata_Plate"] == plate]
    if rows.empty:
        raise MoascopeError(f"The table has no plate {plate}; it has {listing(plates)}.")
    values, names = _values(rows, column)
    grid = plate_grid(values, PLATE_SHAPES[plate_format(list(rows["Metadata_Well"]))])
    kind = "class" if names else "score" if column.startswith("P_") else "measure"
    with on_axes(ax, PLATE_SIZE) as own:
        draw_map(own, PlateMap(f"{column}, plate {plate}", grid, kind, names))
    return own


def _values(rows: pd.DataFrame, column: str) -> tuple[Any, tuple[str, ...]]:
    """A number for each row, indexed by well, and the classes that they stand for."""
    values = rows.set_index("Metadata_Well")[column]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.astype(float), ()
    words = values.astype(str)
    words = words[~words.index.duplicated()]
    names = sorted(words.unique(), key=lambda name: (name == "", name))
    if len(names) > len(CLASS_COLOURS) + 1:
        raise MoascopeError(f"{column} has {len(names)} different values on this plate; at most "
                            f"{len(CLASS_COLOURS) + 1} can be told apart by colour.")
    code = words.map({name: float(number) for number, name in enumerate(names)})
    return code, tuple(name or "(none)" for name in names)


@contextmanager
def on_axes(ax: Axes | None, size: tuple[float, float]) -> Generator[Axes]:
    """Axes that are given, or those of a new figure of this size in inches, in house style."""
    with house_style("notebook"):
        if ax is None:
            from matplotlib import pyplot as plt

            # A figure that pyplot knows is what a notebook shows below the cell.
            _, ax = plt.subplots(figsize=size, layout="constrained")
        yield ax
