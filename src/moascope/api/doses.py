"""Dose-responses of the distance from the negative controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from moascope.api.features import feature_table
from moascope.api.plots import on_axes
from moascope.errors import MoascopeError
from moascope.evaluation.asked import asked_compound
from moascope.evaluation.doses import DoseResponses, measure_doses
from moascope.params_file import parse_params
from moascope.report.doses import PANEL_SIZE, draw_doses, of_compound, rows_of
from moascope.text import listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dose_responses(features: pd.DataFrame, *, threshold: float = 0.05, draws: int = 10_000,
                   seed: int = 0) -> DoseResponses:
    """Measure how far each compound is from the controls at each dose, and whether that rises.

    Parameters
    ----------
    features : DataFrame
        As `extract_features`, `read_features` or `add_metadata` give it.
    threshold : float
        Corrected p below which a response is taken for one.
    draws : int
        From wells that should not respond, for each p-value; at least 1,000.
    seed : int

    Returns
    -------
    DoseResponses
        `doses`, one row per compound, panel and dose, and `curves`, one row per compound and panel;
        its documentation lists their columns.

    Raises
    ------
    MoascopeError
        Where `threshold` or `draws` is out of its range.

    Notes
    -----
    See `moascope.evaluation.doses.measure_doses` for the method and its sources.

    Examples
    --------
    >>> responses = moascope.dose_responses(features)
    >>> responses.curves.query("response == 'yes'")
    """
    settings = parse_params({"activity": {"threshold": threshold, "null_size": draws // 10}},
                            "dose_responses").activity
    return measure_doses(feature_table(features), settings, seed)


def plot_doses(responses: DoseResponses, compound: str, panel: str | None = None,
               ax: Axes | None = None) -> Axes:
    """Distance from the controls over dose, with their noise, the curve and where it leaves.

    Parameters
    ----------
    responses : DoseResponses
    compound : str
        Case, blanks and kinds of dash do not matter.
    panel : str, optional
        By default the one with the smallest p.
    ax : matplotlib Axes, optional
        By default, those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    MoascopeError
        Where the compound or panel is not among the responses.

    Examples
    --------
    >>> moascope.plot_doses(responses, "SIM-0042")
    """
    name = asked_compound(compound, responses.curves.assign(Metadata_Control=""))
    own = of_compound(responses, name).sort_values("p_value")
    if panel is not None:
        panels = list(own["Metadata_Panel"])
        own = own[own["Metadata_Panel"] == panel]
        if not len(own):
            raise MoascopeError(f"{name} was not measured in panel {panel}; it was in "
                                f"{listing(panels)}.")
    curve = own.to_dict("records")[0]
    with on_axes(ax, PANEL_SIZE) as drawn:
        draw_doses(drawn, rows_of(responses.doses, curve), curve)
    return drawn
