"""The local page on a screen: its addresses and what they answer."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from moascope.errors import MoascopeError
from moascope.exploring.content import Explorer
from moascope.exploring.find import Asked
from moascope.exploring.pictures import HIGH, LOW, Look
from moascope.screen.limits import PlaneError
from moascope.text import is_number
from moascope.web.application import make_application, query, render_page
from moascope.web.defences import Application
from moascope.web.serving import serve_until_stopped
from moascope.web.site import Site, open_site

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

# A report stands alone and has styles and a script of its own. In a sandbox without an origin it
# can do what it does as a file, and reaches nothing of this site.
_OF_REPORTS = ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
               "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
               "frame-ancestors 'none'; sandbox allow-scripts")
# Opened by itself; in a page, a picture has no origin anyway.
_OF_DRAWINGS = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
# In a report, the place of a link that only this page can make; see `predictions.html.jinja`.
_COMPOUND = re.compile(r'<a data-compound="([^"]*)"')
_SMALLEST, _LARGEST = 32, 4096


def serve_explorer(explorer: Explorer, port: int = 0,
                   opened: Callable[[str], Any] | None = None, compound: str = "") -> None:
    """Show a screen in a browser until Ctrl-C.

    Parameters
    ----------
    explorer : Explorer
    port : int
        On 127.0.0.1; 0 takes any free one.
    opened : callable, optional
        Called with the address before it is served; the port already listens.
    compound : str
        Whose page the address opens; by default that of all compounds.

    Raises
    ------
    MoascopeError
        Where the port cannot be used.
    """
    site = open_site(port)
    address = site.address_of("/compound" + query({"name": compound}) if compound else "/")
    if opened is not None:
        opened(address)
    serve_until_stopped(explorer_application(explorer, site), site,
                        f"Explore: {address}\nNothing is changed. Press Ctrl-C to stop.")
    print("\nStopped.")


def explorer_application(explorer: Explorer, site: Site) -> Application:
    """The pages of a screen as an ASGI application behind the site's defences."""
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.routing import Route

    def page(request: Request, template: str, content: Callable[..., dict[str, Any] | None]
             ) -> Response:
        shown = content(request.query_params)
        if shown is None:
            raise HTTPException(404, "The screen has no such plate or compound.")
        return render_page(request, site, "moascope.exploring", template, **explorer.frame, **shown)

    def picture(request: Request) -> Response:
        look = read_look(explorer, request.query_params)
        row = look and explorer.pictures.site(look.plate, look.well, look.site)
        if not look or not row:
            raise HTTPException(404, "There is no such picture.")
        tag = f'"{explorer.pictures.tag(look, row)}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in re.split(r"\s*,\s*", request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        try:
            content = explorer.pictures.render(look, row, tag)
        except (PlaneError, MoascopeError) as error:
            return Response(_sentence_as_picture(error.problems[0]), media_type="image/svg+xml")
        return Response(content, media_type="image/png", headers=headers)

    def export(request: Request) -> Response:
        name, table = explorer.export(read_asked(request.query_params),
                                      request.query_params.getlist("compound"))
        return Response(table.to_csv(index=False, lineterminator="\n"), media_type="text/csv",
                        headers={"Content-Disposition": f'attachment; filename="{name}"'})

    def curves(request: Request) -> Response:
        drawing = explorer.curves(request.query_params.get("name", ""))
        if not drawing:
            raise HTTPException(404, "No curve of this compound can be drawn.")
        return Response(drawing, media_type="image/svg+xml",
                        headers={"Content-Security-Policy": _OF_DRAWINGS})

    def looked_at(request: Request) -> Response:
        found = explorer.said.maps.get(request.query_params.get("name", ""))
        if found is None:
            raise HTTPException(404, "No map of this compound has been made.")
        return Response(found[0], media_type="image/jpeg")

    def linked(place: re.Match[str]) -> str:
        name = html.unescape(place[1])
        if explorer.finder.row(name) < 0:
            return place[0]
        return f'{place[0]} href="{html.escape("/compound" + query({"name": name}))}"'

    def report(request: Request) -> Response:
        path = explorer.said.pages.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404, "This project has no such report yet.")
        return Response(_COMPOUND.sub(linked, path.read_text("utf-8")), media_type="text/html",
                        headers={"Content-Security-Policy": _OF_REPORTS})

    return make_application([
        Route("/", partial(page, template="map.html.jinja", content=lambda asked: explorer.map_page(
            read_asked(asked), asked.get("colour", ""), _number(asked.get("page", "")) or 1))),
        Route("/plate", partial(page, template="plate.html.jinja", content=lambda asked:
                                explorer.plate_page(asked.get("plate", ""), asked.get("colour", ""),
                                                    asked.get("well", ""), asked))),
        Route("/compound", partial(
            page, template="compound.html.jinja", content=lambda asked: explorer.compound_page(
                asked.get("name", ""), _number(asked.get("page", "")) or 1))),
        Route("/picture", picture), Route("/curves.svg", curves), Route("/map.jpg", looked_at),
        Route("/export.csv", export),
        Route("/report/{name}", report)], site)


def read_asked(given: Mapping[str, str]) -> Asked:
    """What is asked of the compounds; a box that is not four numbers is the whole map."""
    box: tuple[float, ...] = ()
    with contextlib.suppress(ValueError):
        box = tuple(float(part) for part in given.get("box", "").split(","))
    return Asked(given.get("q", "")[:200], given.get("mechanism", ""), given.get("activity", ""),
                 given.get("prediction", ""), given.get("panel", ""),
                 box if len(box) == 4 and all(-1 <= part <= 2 for part in box) else ())


def read_look(explorer: Explorer, given: Any) -> Look | None:
    """The picture that is asked for; None where the screen cannot have it."""
    plate = explorer.index.plate(given.get("plate", ""))
    site, side = _number(given.get("site", "")), _number(given.get("side", "")) or 0
    low, high = (_percentile(given.get(name, ""), default)
                 for name, default in (("low", LOW), ("high", HIGH)))
    if plate < 0 or site is None or low is None or high is None or low >= high:
        return None
    known = tuple(name for name in explorer.index.channels if name in given.getlist("channel"))
    return Look(plate, given.get("well", ""), site, known, low, high, given.get("beside", ""),
                min(max(side, _SMALLEST), _LARGEST) if side else 0)


def _number(text: str) -> int | None:
    return int(text) if is_number(text) else None


def _percentile(text: str, default: float) -> float | None:
    if not text:
        return default
    value = float(text) if re.fullmatch(r"\d{1,3}(\.\d{1,3})?", text, re.ASCII) else None
    return value if value is not None and value <= 100 else None


def _sentence_as_picture(sentence: str) -> bytes:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240"><rect width="640" '
            f'height="240" fill="#222"/><foreignObject x="20" y="20" width="600" height="200">'
            f'<p xmlns="http://www.w3.org/1999/xhtml" style="color:#eee;font:20px sans-serif">'
            f'{html.escape(sentence)}</p></foreignObject></svg>').encode()
