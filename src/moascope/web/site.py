"""Where a local page is: its port on this machine, and the secrets that open it."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, field

from moascope.errors import MoascopeError

HOST = "127.0.0.1"
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Site:
    """A local page before it is served.

    Attributes
    ----------
    listener : socket
        Bound to 127.0.0.1 and listening, so that a browser that comes early waits.
    port : int
    key : str
        Without it nothing is shown: other people with an account on this machine can reach the
        port too. It is in the printed address, and afterwards in a cookie.
    token : str
        In every form of the page; a form without it came from another page.
    patience : float
        Seconds that a client may be silent in the middle of a request.
    """

    listener: socket.socket
    port: int
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    patience: float = PATIENCE_S

    @property
    def origins(self) -> frozenset[str]:
        """What a browser calls this site."""
        return frozenset(f"http://{name}:{self.port}" for name in (HOST, "localhost"))

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers do not keep the cookies of two ports apart."""
        return f"moascope_{self.port}"

    @property
    def address(self) -> str:
        """What a person opens."""
        return self.address_of("/")

    def address_of(self, path: str) -> str:
        """What a person opens to begin with another page: a path with or without a query."""
        return f"http://{HOST}:{self.port}{path}{'&' if '?' in path else '?'}key={self.key}"


def open_site(port: int = 0) -> Site:
    """Listen on a port of this machine; 0 takes any free one.

    Raises
    ------
    MoascopeError
        Where the port cannot be used.
    """
    # asyncio sends at once (TCP_NODELAY) where the protocol is named; otherwise the body of an
    # answer waits up to 40 ms for the acknowledgement of its head.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        # A port is free as soon as its server has ended. On Windows the option means something
        # else: two servers would share the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise MoascopeError(f"Port {port} cannot be used ({error.strerror}). Choose another with "
                            "--port, or leave it out to use any free port.") from None
    return Site(listener, listener.getsockname()[1])
