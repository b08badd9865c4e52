"""Serve a local page until the person stops it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from moascope.web.defences import Application
from moascope.web.site import Site

if TYPE_CHECKING:
    import socket

    import uvicorn

_GRACE_S = 5


def serve_until_stopped(app: Application, site: Site, greeting: str) -> None:
    """Serve until Ctrl-C; what is being answered then is finished first.

    Parameters
    ----------
    app : Application
    site : Site
    greeting : str
        Printed when the page can be opened.
    """
    # From here on Ctrl-C ends the page and nothing else, whatever it interrupts.
    with contextlib.suppress(KeyboardInterrupt):
        make_server(app, site, greeting).run(sockets=[site.listener])


def make_server(app: Application, site: Site, greeting: str = "") -> uvicorn.Server:
    """Uvicorn on this machine only: `run(sockets=[site.listener])` serves.

    It prints `greeting` once it answers and handles signals, nothing else but what goes wrong, and
    believes nothing that a proxy would tell, because there is none.
    """
    import uvicorn

    class GreetingServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and greeting:
                print(greeting, flush=True)

    return GreetingServer(uvicorn.Config(
        app, loop="asyncio", http=patient_protocol(site.patience), ws="none", lifespan="off",
        interface="asgi3", proxy_headers=False, server_header=False, log_config=None,
        log_level="error", access_log=False, timeout_keep_alive=int(max(site.patience, 1)),
        timeout_graceful_shutdown=_GRACE_S))


def patient_protocol(patience: float) -> Any:
    """HTTP as uvicorn speaks it, but a client that sends half a request is not waited for forever.

    Uvicorn's own limit, `timeout_keep_alive`, begins with the first answer.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
                self._wait()

        def _wait(self) -> None:
            self.timeout_keep_alive_task = self.loop.call_later(
                patience, self.timeout_keep_alive_handler)

    return PatientProtocol
