"""A page that stands alone: one HTML file without scripts or anything to load from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from moascope.text import number, span, tidy


def render_page(package: str, template: str, **content: Any) -> str:
    """Fill a page's template.

    Parameters
    ----------
    package : str
        The package that the template lies in.
    template : str
        Its file name. It may include others of its package, and the style sheet `page.css`.
    **content
        What it names; text is escaped, and what it names but is not given is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def read(name: str) -> str:
        own = files(package).joinpath(name)
        return (own if own.is_file() else files("moascope.drawing").joinpath(name)).read_text(
            "utf-8")

    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, tidy=lambda text: tidy(text or ""))
    environment.globals.update(span=span)
    return environment.get_template(template).render(**content)
