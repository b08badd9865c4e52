"""A local page from its routes: the defences around it, its templates and its errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from moascope.errors import MoascopeError
from moascope.web.defences import Application, KeyHolders, OwnForms, OwnHost, SecurityHeaders
from moascope.web.site import Site

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

MAX_BODY = 2**16
"""Largest form that is read, in bytes."""


def make_application(routes: Sequence[BaseRoute], site: Site) -> Application:
    """Put a page's routes behind all defences.

    Parameters
    ----------
    routes : sequence of BaseRoute
        Starlette's. A handler that is not a coroutine runs in a thread. It finds a form that was
        sent in `request.state.form`, and raises `HTTPException` with a sentence to refuse; of a
        MoascopeError the sentences are shown, with status 409.
    site : Site

    Returns
    -------
    Application
        ASGI, HTTP only.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.body_limit import RequestBodyLimitMiddleware

    app = Starlette(
        routes=routes,
        exception_handlers={MoascopeError: _tell},
        middleware=[Middleware(KeyHolders, site=site),
                    Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY),
                    Middleware(OwnForms, site=site)])
    app.router.redirect_slashes = False
    # Outside of Starlette, so that its own answer to a crash has the headers too.
    return SecurityHeaders(OwnHost(app, site))


def render_page(request: Request, site: Site, package: str, template: str,
                **content: Any) -> Response:
    """Answer with a filled-in template.

    Parameters
    ----------
    request : Request
    site : Site
    package, template : str
        The file and the package that it lies in, with those that it extends or includes. Besides
        `content` it knows `nonce`, for its
        style and script, `token`, for its forms, and the filter `query`, which makes the query
        string of a link and leaves out what is empty. All text is escaped; a name that is not
        given is an error.
    """
    from starlette.responses import HTMLResponse

    return HTMLResponse(_template(package, template).render(
        nonce=request.state.nonce, token=site.token, **content))


def query(fields: dict[str, Any]) -> str:
    """The query string of a link, without what is empty; a list repeats its name."""
    return "?" + urlencode({name: value for name, value in fields.items()
                            if value not in ("", None)}, doseq=True)


@cache
def _template(package: str, template: str) -> Any:
    from importlib.resources import files

    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda name: files(package).joinpath(name).read_text("utf-8")),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["query"] = query
    return environment.get_template(template)


async def _tell(request: Request, error: Exception) -> Response:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(f"{error}\n", 409)
