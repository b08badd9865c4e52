"""How every picture of a page is drawn: one style, one palette, SVG text that stands inside."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
CLASS_COLOURS = (SKY, VERMILION, GREEN, ORANGE, PURPLE, BLUE, "#B8A800")
INK, MUTED, FAINT, BAND = "#1d2733", "#59636e", "#c9d1d9", "#e3e0d8"

_STYLE = {
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "axes.linewidth": 0.8,
    "axes.spines.right": False, "axes.spines.top": False, "axes.titlelocation": "left",
    "axes.titlesize": 10, "axes.titleweight": "bold", "font.family": "DejaVu Sans",
    "font.size": 9, "hatch.color": "#b3b9c0", "hatch.linewidth": 0.8,
    "svg.fonttype": "none", "text.color": INK, "text.parse_math": False,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
}


@contextmanager
def _drawing(name: str) -> Iterator[None]:
    import matplotlib as mpl

    # Without the salt, and the same one, identifiers inside the SVG would differ in every run.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names in scripts that the measuring font lacks: the browser has a font for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def draw(name: str, alt: str, make: Callable[[], Figure]) -> str:
    """Draw a figure and give it as an `<svg>` element.

    Parameters
    ----------
    name : str
        Unique on the page.
    alt : str
        What the picture shows, for those who cannot see it.
    make : callable
        Returns the Figure.
    """
    from markupsafe import Markup

    content = io.StringIO()
    with _drawing(name):
        figure = make()
        figure.savefig(content, format="svg", dpi=144,
                       metadata={key: None for key in ("Creator", "Date", "Format", "Type")})
    svg = content.getvalue()
    svg = svg[svg.index("<svg"):]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"',
                 lambda match: match[0] if match[1] in used else "", svg)
    width = re.search(r'width="([\d.]+)pt"', svg)[1]
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    opening = Markup('<svg role="img" aria-label="{}" style="max-width:{}pt"').format(alt, width)
    return opening + Markup(svg.removeprefix("<svg"))


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that lays out its parts itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(path: Path, name: str, make: Callable[[], Figure]) -> None:
    """Draw a figure into a PNG file; see `draw`."""
    with _drawing(name):
        make().savefig(path, dpi=144, metadata={"Software": None})
