"""What the report and the terminal say of doses."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers import Page
from test_report import make_world

from moascope.drawing.figures import draw
from moascope.errors import MoascopeError
from moascope.evaluation.doses import CURVE_COLUMNS, DOSE_COLUMNS, DoseResponses
from moascope.report.activity import ActivityFound
from moascope.report.doses import (
    curve_sentence,
    dose_figure,
    dose_section,
    most_active,
    of_compound,
    show_doses,
)
from moascope.report.page import render_report

NOTHING = [np.nan] * 6
DOSES = [0.1, 1.0, 10.0]
FOUND = DoseResponses(
    pd.DataFrame([("rising", "A549", dose, 2, far, far / 1.1, far * 1.1, far)
                  for dose, far in zip(DOSES, (1.0, 2.0, 4.0), strict=True)]
                 + [(name, "A549", dose, 2, 1.0, 0.9, 1.2, np.nan)
                    for name in ("flat", "far") for dose in DOSES]
                 + [("single", "A549", 5.0, 2, 1.5, 1.4, 1.6, np.nan)], columns=DOSE_COLUMNS),
    pd.DataFrame([("far", "A549", 3, 6, 1.3, 0.5, 0.6, "all doses", *NOTHING),
                  ("flat", "A549", 3, 6, 1.3, 0.4, 0.6, "no", *NOTHING),
                  ("rising", "A549", 3, 6, 1.3, 0.0001, 0.0003, "yes", 4.5, 1.0, 1.2, 0.25, 0.1,
                   np.inf),
                  ("single", "A549", 1, 2, 1.3, np.nan, np.nan, "", *NOTHING)],
                 columns=CURVE_COLUMNS))


@pytest.mark.parametrize(("name", "words"), [
    ("rising", "rising, A549: moves away from DMSO as the dose rises (corrected p = 0.00030), and "
               "leaves its noise at 0.25 µM (point of departure; 90 % interval 0.1 to beyond the "
               "highest dose)."),
    ("flat", "flat, A549: no dose-response; it does not rise out of the noise of DMSO with the "
             "dose (corrected p = 0.600)."),
    ("far", "far, A549: beyond the noise of DMSO at all doses, so its point of departure is below "
            "the lowest."),
    ("single", "single, A549: 1 dose, and a curve needs 3; the distance stands alone."),
])
def test_every_response_has_its_sentence(name, words):
    assert curve_sentence(of_compound(FOUND, name).to_dict("records")[0]) == words


def test_the_section_counts_compounds_and_draws_those_that_rise():
    section = dose_section(FOUND)
    assert section["sentence"] == (
        "1 of 3 compounds with 3 or more doses move away from the negative controls as the dose "
        "rises, in at least one panel; 1 compound is beyond their noise at all doses.")
    assert "rising, A549: moves away" in section["drawing"]
    assert section["hidden"] == 0
    few = DoseResponses(FOUND.doses, FOUND.curves[FOUND.curves["response"] == ""])
    assert dose_section(few) == dose_section(None) == {}
    calm = DoseResponses(FOUND.doses, FOUND.curves[FOUND.curves["response"] == "no"])
    assert dose_section(calm)["drawing"] == ""


def test_a_compound_is_drawn_once_in_its_surest_panel():
    row = FOUND.curves.query("response == 'yes'")
    both = pd.concat([row.assign(Metadata_Panel="HepG2", p_value=0.01), row], ignore_index=True)
    assert most_active(both)["Metadata_Panel"].tolist() == ["A549"]


def test_the_figure_shows_means_noise_and_the_point_of_departure():
    figure = dose_figure(FOUND, FOUND.curves)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [f"{name}\nA549" for name in FOUND.curves["Metadata_Compound"]]
    rising = figure.axes[2]
    dots = next(line for line in rising.lines if line.get_marker() == "o")
    assert dots.get_ydata().tolist() == [1.0, 2.0, 4.0]
    assert [line.get_xdata()[0] for line in rising.lines if line.get_linestyle() == "--"] == [0.25]
    assert "svg" in draw("doses", "alt", partial(dose_figure, FOUND, FOUND.curves))


def test_the_terminal_shows_each_dose_at_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    show_doses(FOUND, "rising")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "rising, A549; DMSO ends at 1.30" in out
    assert [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")] == [
        "0.1", "1", "10"]
    with pytest.raises(MoascopeError, match="No distance from the negative controls is known of x"):
        of_compound(FOUND, "x")


def test_the_report_draws_the_responses(tmp_path):
    world = make_world()
    summary = {"compounds": {"tested": 3, "active": 1}, "threshold": 0.05, "warnings": [],
               "mechanisms": {"tested": 0, "consistent": 0}, "by_concentration_uM": {}}
    compounds = pd.DataFrame({"p_value": [0.01], "corrected_p_value": [0.02], "active": ["yes"],
                              "mean_average_precision": [0.9]})
    consistency = pd.DataFrame(columns=["Metadata_MoA", "p_value", "mean_average_precision"])
    page = Page(render_report(world.metrics, world.predictions, world.examples, tmp_path, None,
                              ActivityFound(summary, compounds, consistency, FOUND)))
    assert "Dose-responses 1 of 3 compounds with 3 or more doses move away" in page.text
    assert any(alt.startswith("Dose-responses of 1 compound. rising, A549") for alt in page.alts)
    assert "moascope doses COMPOUND" in page.text
