"""The doses of one compound: how far each is from the controls, the curve, and what follows."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pandas as pd

from moascope.drawing.figures import draw
from moascope.evaluation.doses import CURVE_COLUMNS, DOSE_COLUMNS, DoseResponses
from moascope.report.doses import ACROSS, curve_sentence, dose_figure, read_responses

# Of fewer doses, a curve says no more than the table beside it.
LEAST_DRAWN = 2
NOTHING_MEASURED = DoseResponses(pd.DataFrame(columns=DOSE_COLUMNS),
                                 pd.DataFrame(columns=CURVE_COLUMNS))
# Matplotlib's settings are those of the process, and every picture is drawn in a thread.
_DRAWING = threading.Lock()


def sorted_responses(folder: Path) -> DoseResponses:
    """What the stage `activity` measured of doses, by compound; empty before it has run."""
    found = read_responses(folder)
    if found is None:
        return NOTHING_MEASURED
    return DoseResponses(*(table.sort_values("Metadata_Compound", kind="stable", ignore_index=True)
                           for table in (found.doses, found.curves)))


def responses_of(responses: DoseResponses, compound: str) -> DoseResponses:
    """Those of one compound.

    Parameters
    ----------
    responses : DoseResponses
        From `sorted_responses`.
    compound : str
    """
    def own(table: pd.DataFrame) -> pd.DataFrame:
        first, last = (table["Metadata_Compound"].searchsorted(compound, side)
                       for side in ("left", "right"))
        return table.iloc[first:last]

    return DoseResponses(own(responses.doses), own(responses.curves))


def drawn_curves(own: DoseResponses) -> pd.DataFrame:
    """The curves of a compound, one for each panel, that have doses enough to draw."""
    return own.curves[own.curves["doses"] >= LEAST_DRAWN]


def said_of_doses(own: DoseResponses) -> list[str]:
    """A sentence for each panel: whether it responds, and its point of departure."""
    return [curve_sentence(row) for row in own.curves.to_dict("records")]


def draw_curves(own: DoseResponses) -> str:
    """The curves of a compound as SVG: distance over dose, noise of DMSO, point of departure."""
    with _DRAWING:
        return draw("doses", " ".join(said_of_doses(own)),
                    partial(dose_figure, own, drawn_curves(own)))


def curves_across(own: DoseResponses) -> int:
    """How many curves stand side by side in the picture."""
    return min(ACROSS, len(drawn_curves(own)))
