"""The web application around a model: MLflow's contract, health, metrics and a log of requests."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from moascope.serving.logs import FIELDS, REQUEST, request_identifier
from moascope.serving.metrics import CONTENT_TYPE, Metrics
from moascope.serving.workers import Ended, Workers
from moascope.web.site import PATIENCE_S

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

IDENTIFIER = "X-Request-ID"
MOST_BYTES = 2**26
"""Largest request, in bytes."""
MOST_WAITING = 256
"""Requests that may wait or be answered at once; more are told to come again."""


def make_app(workers: Workers, metrics: Metrics, version: str) -> Any:
    """The application that answers for a model.

    Parameters
    ----------
    workers : Workers
    metrics : Metrics
        Gets what is answered.
    version : str
        Of MLflow, whose contract it is.

    Returns
    -------
    ASGI application
        `POST /invocations`, `GET /ping`, `/health`, `/version` as MLflow's scoring server has
        them, and `GET /metrics`. Each answer has the request's `X-Request-ID`.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.body_limit import RequestBodyLimitMiddleware
    from starlette.responses import JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route

    def refusal(status: int, code: str, sentence: str, **headers: str) -> Response:
        return JSONResponse({"error_code": code, "message": sentence}, status, headers)

    async def invocations(request: Request) -> Response:
        if metrics.waiting >= MOST_WAITING:
            return refusal(503, "TEMPORARILY_UNAVAILABLE", f"{MOST_WAITING} requests wait already. "
                           "Send this one again later.", **{"Retry-After": "5"})
        try:
            async with asyncio.timeout(PATIENCE_S):
                body = await request.body()
        except TimeoutError:
            return refusal(408, "BAD_REQUEST", "The request did not arrive. Send it again.")
        metrics.waiting += 1
        try:
            given = await workers.answer(body, request.headers.get("content-type", ""),
                                         REQUEST.get())
        except Ended:
            return refusal(503, "TEMPORARILY_UNAVAILABLE", "The process that was answering ended, "
                           "most often because memory ran out. Send fewer sites, or send them "
                           "again.", **{"Retry-After": "5"})
        finally:
            metrics.waiting -= 1
        request.state.calls = given.calls
        return Response(given.body, given.status, media_type=given.media_type)

    async def health(request: Request) -> Response:
        return Response("\n", 200 if workers.alive else 503, media_type="application/json")

    async def mlflow_version(request: Request) -> Response:
        return Response(version, media_type="application/json")

    async def counts(request: Request) -> Response:
        return PlainTextResponse(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app = Starlette(
        routes=[Route("/invocations", invocations, methods=["POST"]),
                Route("/ping", health), Route("/health", health),
                Route("/version", mlflow_version), Route("/metrics", counts)],
        middleware=[Middleware(RequestBodyLimitMiddleware, max_body_size=MOST_BYTES)])
    return Observed(app, metrics)


class Observed:
    """Gives each request its identifier, and notes in the log and the metrics what it got."""

    def __init__(self, app: Any, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers, MutableHeaders

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = request_identifier(Headers(scope=scope).get(IDENTIFIER, ""))
        token = REQUEST.set(identifier)
        begin, status, noted = time.perf_counter(), 500, False
        state = scope.setdefault("state", {})

        def note() -> None:
            nonlocal noted
            # Probes ask every few seconds, and would hide what people ask.
            if noted or scope["path"] != "/invocations":
                return
            noted, calls = True, state.get("calls", {})
            seconds = time.perf_counter() - begin
            self.metrics.observe(status, seconds, calls)
            logging.getLogger("moascope.requests").info(
                "request", extra={FIELDS: {
                    "method": scope["method"], "path": scope["path"], "status": status,
                    "seconds": round(seconds, 4), "predictions": sum(calls.values())}})

        async def send_with_identifier(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[IDENTIFIER] = identifier
            elif not message.get("more_body"):
                # Before whoever asked has the answer, and may look for it here.
                note()
            await send(message)

        try:
            await self.app(scope, receive, send_with_identifier)
        finally:
            note()
            REQUEST.reset(token)
