"""What a local page refuses, as ASGI middleware: each class wraps an application in one defence.

A page on 127.0.0.1 is within reach of every site that is open in the same browser and of everybody
with an account on the machine. After the OWASP cheat sheets on cross-site request forgery, DNS
rebinding and content security policy.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moascope.web.site import Site

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_CLOSE = {"Connection": "close"}


class SecurityHeaders:
    """Every answer tells the browser to load nothing from elsewhere and to keep nothing.

    Style and script run only with the nonce of this answer, `request.state.nonce`, and only in a
    page. A response may set its own Cache-Control, and a policy of its own for a page that stands
    alone.
    """

    def __init__(self, app: Application):
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        from starlette.datastructures import MutableHeaders

        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_page = headers.get("content-type", "").startswith("text/html")
                inline = f"'nonce-{nonce}'" if is_page else "'none'"
                headers.setdefault(
                    "Content-Security-Policy",
                    f"default-src 'none'; img-src 'self'; style-src {inline}; "
                    f"script-src {inline}; form-action 'self'; base-uri 'none'; "
                    "frame-ancestors 'none'")
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "same-origin"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


class OwnHost:
    """Refuses every Host but this site's, because another site's name may be made to lead here.

    Starlette's TrustedHostMiddleware would let any port through.
    """

    def __init__(self, app: Application, site: Site):
        self.app, self.site = app, site

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers

        if f"http://{Headers(scope=scope).get('host', '')}" in self.site.origins:
            await self.app(scope, receive, send)
        else:
            await _refuse(421, "This server answers to 127.0.0.1 and localhost only.")(
                scope, receive, send)


class KeyHolders:
    """Shows nothing without the key: it comes in the printed address and is kept in a cookie.

    The address with the key redirects to one without it, so that it does not stay in the
    browser's bar and history.
    """

    def __init__(self, app: Application, site: Site):
        self.app, self.site = app, site

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        from starlette.requests import HTTPConnection
        from starlette.responses import RedirectResponse, Response

        asked = HTTPConnection(scope)
        if scope["path"] == "/favicon.ico":
            answer = Response(status_code=204)
        elif is_same(asked.query_params.get("key", ""), self.site.key):
            # The whole address: one that began with two slashes would lead to another host.
            answer = RedirectResponse(asked.url.remove_query_params("key"), 303)
            # A report in its sandbox has no origin, and to a browser its links to this site come
            # from another one. Lax lets such links through, and neither forms nor pictures.
            answer.set_cookie(self.site.cookie, self.site.key, httponly=True, samesite="lax")
        elif is_same(asked.cookies.get(self.site.cookie, ""), self.site.key):
            await self.app(scope, receive, send)
            return
        else:
            answer = _refuse(403, "Open the address that moascope printed in the terminal; it "
                                  "holds the key to this page.")
        await answer(scope, receive, send)


class OwnForms:
    """Reads what is sent, and refuses it unless it came from a form of this site.

    A form must carry the site's token, and where the browser says which page sent it
    (`Origin`, `Sec-Fetch-Site`), it must be this one. The form that is let through is
    `request.state.form`.
    """

    def __init__(self, app: Application, site: Site):
        self.app, self.site = app, site

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        from starlette.datastructures import QueryParams
        from starlette.requests import ClientDisconnect, Request

        if scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            async with asyncio.timeout(self.site.patience):
                body = await request.body()
        except TimeoutError:
            await _refuse(408, "The form did not arrive.")(scope, receive, send)
            return
        except ClientDisconnect:
            return
        # Without files a form is sent as a query string, and Starlette's own reader of forms
        # would need another package for that.
        form = QueryParams(body.decode(errors="replace"))
        origin = request.headers.get("origin")
        if (is_same(form.get("token", ""), self.site.token)
                and (origin is None or origin in self.site.origins)
                and request.headers.get("sec-fetch-site", "same-origin") == "same-origin"):
            scope["state"]["form"] = form
            await self.app(scope, receive, send)
        else:
            await _refuse(403, "This form came from another page. Reload the page and try again.")(
                scope, receive, send)


def is_same(given: str, secret: str) -> bool:
    """Compare in a time that does not depend on how much of a guess is right."""
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


def _refuse(status: int, sentence: str) -> Any:
    from starlette.responses import PlainTextResponse

    # A refused request may be unread; the connection is not used for another one.
    return PlainTextResponse(sentence + "\n", status, headers=_CLOSE)
