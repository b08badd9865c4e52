"""How every figure is drawn: one style, one palette, text in SVG kept as text."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

from moascope.work.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Given = ParamSpec("Given")

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


def in_house_style(make: Callable[Given, Figure]) -> Callable[Given, Figure]:
    """Let a function that makes a figure look the same in a notebook as on a page."""
    @functools.wraps(make)
    def styled(*given: Given.args, **named: Given.kwargs) -> Figure:
        with house_style(make.__name__):
            return make(*given, **named)

    return styled


@contextmanager
def house_style(name: str) -> Iterator[None]:
    """Draw as the pages do, and leave matplotlib's own settings as they were.

    Parameters
    ----------
    name : str
        Of the figure; keeps its SVG the same in every run.
    """
    import matplotlib as mpl

    # Without a fixed salt, identifiers inside the SVG would differ in every run.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names in scripts that this font lacks: the browser has a font for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def draw(name: str, alt: str, make: Callable[[], Figure]) -> str:
    """Draw a figure as an `<svg>` element.

    Parameters
    ----------
    name : str
        Unique on the page.
    alt : str
        What the figure shows, for those who cannot see it.
    make : callable
        Returns the Figure.

    Returns
    -------
    markupsafe.Markup
    """
    from markupsafe import Markup

    content = io.StringIO()
    with house_style(name):
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
    """A figure of this size in inches, with constrained layout."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(path: Path, name: str, make: Callable[[], Figure]) -> None:
    """Draw a figure into a PNG file; see `draw`."""
    with house_style(name):
        write_figure(path, make(), dpi=144)


def write_figure(path: Path, figure: Figure, dpi: float | str = "figure") -> None:
    """Write a figure as PNG: the same bytes whatever drew it, and whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    write_atomically(path, content.getvalue())
