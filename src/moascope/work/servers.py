"""Whether a server answers, found out in seconds and told in one sentence."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from urllib.parse import SplitResult, urlsplit

from moascope.errors import MoascopeError
from moascope.passwords import address_shown

ANSWER_SECONDS = 10.0
# Looking up a name has no limit of its own.
LONGEST = 20.0
PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433}
# PostgreSQL answers this request for encryption with one letter, also before anybody logs in.
_ASK_POSTGRESQL = bytes([0, 0, 0, 8, 4, 210, 22, 47])


def require_answer(address: str, what: str, remedy: str) -> None:
    """Fail where the server of an address does not answer.

    Libraries try for minutes, with tracebacks. Addresses of files pass, and so do those of kinds
    of servers that are not known here.

    Parameters
    ----------
    address : str
        `http(s)://...` or that of a database.
    what : str
        What the server is, for the sentence: "The tracking server".
    remedy : str
        A sentence.

    Raises
    ------
    MoascopeError
        After at most 20 s.
    """
    said: list[str] = []

    def ask() -> None:
        try:
            said.append(_silence(address))
        except ValueError:
            # What cannot be parsed may be a part of the password.
            said.append("it is not an address")
        except (OSError, http.client.HTTPException) as error:
            said.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(LONGEST)
    reason = said[0] if said else f"no answer in {LONGEST:.0f} s"
    if reason:
        raise MoascopeError(
            f"{what} {address_shown(address)} does not answer ({reason.rstrip('.')}). {remedy}")


def _silence(address: str) -> str:
    """Why a server does not answer; empty where it does."""
    parts = urlsplit(address)
    host = parts.hostname
    if not host or "," in parts.netloc:   # a socket of this machine, or several servers
        return ""
    if parts.scheme.lower() in ("http", "https"):
        return _silence_of_web(parts, host)
    kind = parts.scheme.lower().partition("+")[0]
    port = parts.port or PORTS.get(kind)
    if port is None:
        return ""
    with socket.create_connection((host, port), ANSWER_SECONDS) as connection:
        if kind.startswith("postgres"):
            connection.sendall(_ASK_POSTGRESQL)
            if not connection.recv(1):
                return "it closes the connection"
    return ""


def _silence_of_web(parts: SplitResult, host: str) -> str:
    port = f":{parts.port}" if parts.port else ""
    host = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):
            return ""
    except urllib.error.HTTPError:
        return ""   # whatever it says, it answers
    except urllib.error.URLError as error:
        # Certificates are for the client to judge, which may know the authority.
        return "" if isinstance(error.reason, ssl.SSLError) else str(error.reason)
