"""Dose-responses in words and pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.drawing.figures import (
    BAND,
    BLUE,
    INK,
    MUTED,
    VERMILION,
    draw,
    in_house_style,
    new_figure,
)
from moascope.errors import MoascopeError
from moascope.evaluation.doses import (
    ABOVE,
    CURVES_FILE,
    DOSE,
    KEY,
    LEAST_DOSES,
    RISES,
    UNTESTED,
    DoseResponses,
    read_doses,
)
from moascope.evaluation.hill import Hill
from moascope.text import counted, p_value, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_SIZE = (2.9, 2.5)   # inches
ACROSS = 3
# Curves that the report draws, one per compound.
MOST_CURVES = 12
LABEL = "Distance from DMSO"
ROOM = 1.5
TICKS = [2.0**power for power in range(-4, 11)]


def dose_section(found: DoseResponses | None) -> dict[str, Any]:
    """What the report shows of dose-responses; empty where no compound has enough doses.

    Parameters
    ----------
    found : DoseResponses or None
    """
    if found is None or not (found.curves["response"] != UNTESTED).any():
        return {}
    curves = found.curves[found.curves["response"] != UNTESTED]
    rising = curves[curves["response"] == RISES]
    shown = most_active(rising)
    drawing = "" if not len(shown) else draw(
        "doses", f"Dose-responses of {counted(len(shown), 'compound')}. " + " ".join(
            curve_sentence(row) for row in shown.to_dict("records")),
        partial(dose_figure, found, shown))
    tested = curves["Metadata_Compound"].nunique()
    above = curves.loc[curves["response"] == ABOVE, "Metadata_Compound"].nunique()
    said = (f"{rising['Metadata_Compound'].nunique()} of {counted(tested, 'compound')} with "
            f"{LEAST_DOSES} or more doses move away from the negative controls as the dose rises, "
            "in at least one panel")
    if above:
        said += (f"; {counted(above, 'compound')} {'is' if above == 1 else 'are'} beyond their "
                 "noise at all doses")
    return {"sentence": said + ".", "drawing": drawing,
            "hidden": rising["Metadata_Compound"].nunique() - len(shown)}


def most_active(curves: pd.DataFrame) -> pd.DataFrame:
    """One curve of each compound, the surest compounds first, at most `MOST_CURVES`."""
    surest = curves.sort_values(["p_value", "top", *KEY], ascending=[True, False, True, True])
    return surest.drop_duplicates("Metadata_Compound").head(MOST_CURVES)


def curve_sentence(curve: dict[str, Any]) -> str:
    """What was found of one compound in one panel.

    Parameters
    ----------
    curve : dict
        A row of `DoseResponses.curves`.
    """
    name = _name(curve)
    if curve["response"] == RISES:
        high = curve["high_uM"]
        upper = f"{dose_words(high)} µM" if np.isfinite(high) else "beyond the highest dose"
        return (f"{name}: moves away from DMSO as the dose rises (corrected p = "
                f"{p_value(curve['corrected_p_value'])}), and leaves its noise at "
                f"{dose_words(curve['point_of_departure_uM'])} µM (point of departure; 90 % "
                f"interval {dose_words(curve['low_uM'])} to {upper}).")
    if curve["response"] == ABOVE:
        return (f"{name}: beyond the noise of DMSO at all doses, so its point of departure is "
                "below the lowest.")
    if curve["response"] == UNTESTED:
        few = curve["doses"] < LEAST_DOSES
        return (f"{name}: {counted(int(curve['doses']), 'dose')}, and a curve needs {LEAST_DOSES}; "
                "the distance stands alone." if few else
                f"{name}: too few wells on its plates should not respond; no test is possible.")
    return (f"{name}: no dose-response; it does not rise out of the noise of DMSO with the dose "
            f"(corrected p = {p_value(curve['corrected_p_value'])}).")


def show_doses(found: DoseResponses, compound: str) -> None:
    """Print the distances of a compound at each dose, and what follows, panel by panel."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for row in of_compound(found, compound).to_dict("records"):
        own = rows_of(found.doses, row)
        table = Table(title=f"{_name(row)}; DMSO ends at {row['noise']:.2f}",
                      title_justify="left")
        for name in ("dose, µM", "wells", "distance", "of its wells", "curve"):
            table.add_column(name, justify="right", no_wrap=True)
        for dose in own.to_dict("records"):
            table.add_row(dose_words(dose[DOSE]), str(dose["wells"]), f"{dose['distance']:.2f}",
                          f"{dose['lowest']:.2f} to {dose['highest']:.2f}",
                          "–" if pd.isna(dose["fitted"]) else f"{dose['fitted']:.2f}")
        console.print(table)
        console.print(curve_sentence(row), markup=False, highlight=False)
        console.print()
    console.print("distance: from the DMSO wells of its plates, 1.00 being that of DMSO wells "
                  "themselves, whose noise ends at one standard deviation.",
                  markup=False, highlight=False, style="dim")


def of_compound(found: DoseResponses, compound: str) -> pd.DataFrame:
    """The curves of a compound, one per panel.

    Raises
    ------
    MoascopeError
        Where there is none.
    """
    own = found.curves[found.curves["Metadata_Compound"] == compound]
    if not len(own):
        raise MoascopeError(
            f"No distance from the negative controls is known of {tidy(compound)}: its wells have "
            "no concentration (Metadata_Concentration_uM in layout.csv), did not pass quality "
            "control, or lie on plates with too few negative controls.")
    return own


@in_house_style
def dose_figure(found: DoseResponses, curves: pd.DataFrame) -> Figure:
    """Small multiples, one for each curve.

    Parameters
    ----------
    found : DoseResponses
    curves : DataFrame
        Rows of `found.curves`, in order.
    """
    across = min(ACROSS, len(curves))
    down = -(-len(curves) // across)
    figure = new_figure(PANEL_SIZE[0] * across + 0.3, PANEL_SIZE[1] * down)
    axes = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
    for ax, row in zip(axes, curves.to_dict("records"), strict=False):
        draw_doses(ax, rows_of(found.doses, row), row)
    for place, ax in enumerate(axes):
        if place >= len(curves):
            ax.remove()
            continue
        if place % across:
            ax.set_ylabel("")
        if place + across < len(curves):
            ax.set_xlabel("")
    return figure


def draw_doses(ax: Axes, doses: pd.DataFrame, curve: dict[str, Any]) -> None:
    """Distance over dose: means with the range of wells, the noise, the curve, where it leaves.

    Parameters
    ----------
    ax : matplotlib Axes
    doses : DataFrame
        Rows of `DoseResponses.doses` of one compound and panel.
    curve : dict
        Its row of `DoseResponses.curves`.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    known = doses[doses[DOSE] > 0]
    dose = known[DOSE].to_numpy(float)
    ax.axhspan(1 / curve["noise"], curve["noise"], color=BAND, linewidth=0)
    ax.axhline(1, color=MUTED, linewidth=0.8)
    first = np.nanmin([dose.min(), curve["low_uM"]])
    # Room at both ends, also around a single dose.
    ax.set(xscale="log", yscale="log", xlabel="Concentration, µM", ylabel=LABEL,
           xlim=(first / ROOM, dose.max() * ROOM))
    ax.vlines(dose, known["lowest"], known["highest"], color=BLUE, linewidth=1.2, alpha=0.6)
    ax.plot(dose, known["distance"], "o", color=BLUE, markersize=4.5)
    if curve["response"] == RISES:
        x = np.geomspace(min(dose.min(), curve["point_of_departure_uM"]), dose.max(), 200)
        fitted = Hill(np.log(curve["top"]), curve["ec50_uM"], curve["slope"])
        ax.plot(x, np.exp(fitted.at(x)), color=INK, linewidth=1.2)
        high = min(curve["high_uM"], dose.max())
        ax.axvspan(curve["low_uM"], high, color=VERMILION, alpha=0.15, linewidth=0)
        ax.axvline(curve["point_of_departure_uM"], color=VERMILION, linestyle="--", linewidth=1)
    low, high = known["lowest"].min(), known["highest"].max()
    ax.set_ylim(min(low, 1 / curve["noise"]) / 1.15, max(high, curve["noise"]) * 1.15)
    ax.set_title(_title(curve), fontsize=8.5)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_minor_locator(NullLocator())
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in TICKS if low <= tick <= high])


def read_responses(folder: Path) -> DoseResponses | None:
    """What the stage `activity` wrote of doses; None before it has run."""
    return read_doses(folder) if (folder / CURVES_FILE).is_file() else None


def dose_words(dose: float) -> str:
    """A dose with three digits: "0.04", "12.5"; an en dash where it is not known."""
    return "–" if pd.isna(dose) else f"{dose:.3g}"


def rows_of(doses: pd.DataFrame, curve: dict[str, Any]) -> pd.DataFrame:
    """The doses of one compound and panel."""
    return doses[(doses[KEY] == pd.Series({key: curve[key] for key in KEY})).all(axis=1)]


def _name(curve: dict[str, Any]) -> str:
    panel = curve["Metadata_Panel"]
    return tidy(curve["Metadata_Compound"]) + (f", {tidy(panel)}" if panel else "")


def _title(curve: dict[str, Any]) -> str:
    panel = curve["Metadata_Panel"]
    return tidy(curve["Metadata_Compound"], 34) + (f"\n{tidy(panel, 34)}" if panel else "")
