"""Figures look the same in a notebook and on a page."""

import io

import matplotlib as mpl
import numpy as np
import pytest

from moascope.drawing.figures import BLUE, draw
from moascope.drawing.maps import PlateMap, plate_figure
from moascope.report.figures import reliability_bins, reliability_figure


@pytest.fixture
def bins():
    stated = np.linspace(0, 1, 80)
    return reliability_bins(stated, stated > 0.5)


def test_a_figure_made_by_hand_has_the_style_of_the_pages_and_leaves_matplotlib_as_it_was(bins):
    before = dict(mpl.rcParams)
    figure = reliability_figure(bins, "Observed", "Predicted")
    axis, = figure.axes
    assert not axis.spines["top"].get_visible()
    assert axis.xaxis.label.get_fontfamily() == ["DejaVu Sans"]
    assert BLUE in {line.get_color() for line in axis.get_lines()}
    assert dict(mpl.rcParams) == before


def test_a_notebook_can_show_and_change_a_figure(bins):
    figure = plate_figure([PlateMap("Cells", np.arange(96.0).reshape(8, 12), "measure")])
    figure.axes[0].set_title("Mine")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    assert content.getvalue().startswith(b"\x89PNG")


def test_a_figure_on_a_page_is_the_same_in_every_run(bins):
    one, two = (draw("reliability", "Reliability",
                     lambda: reliability_figure(bins, "Observed", "Predicted"))
                for _ in range(2))
    assert one == two
    assert 'aria-label="Reliability"' in one
