"""A page that stands alone: one HTML file without scripts or anything to load from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from moascope.report.words import number, span, tidy


def render_page(template: str, **content: Any) -> str:
    """Fill a template of this package.

    Parameters
    ----------
    template : str
        Its file name. It may include others.
    **content
        What it names; text is escaped, and what it names but is not given is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("moascope.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, tidy=lambda text: tidy(text or ""))
    environment.globals.update(span=span)
    return environment.get_template(template).render(**content)
