"""Requests over HTTPS that are polite: few at once, paced, repeated after temporary errors."""

from __future__ import annotations

import contextlib
import email.utils
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from moascope.errors import MoascopeError
from moascope.opening import parse_json
from moascope.text import counted

if TYPE_CHECKING:
    from requests import Response, Session

GO_ON = "Complete files are kept; run the command again to resume."
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CHUNK = 1 << 18
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
_MOST_REDIRECTS = 5
_LEAST_BYTES = 1024  # in `timeout` seconds; a line slower than that is taken for dead
_WAIT_WORTH_A_WORD = 3.0  # seconds


class Absent(MoascopeError):
    """The server has no such file (404, 410)."""


class Unlike(MoascopeError):
    """What the server sends is not the expected file."""


class Trouble(MoascopeError):
    """The server did not answer as it should, after all attempts."""


class Passing(Exception):
    """Worth another attempt; `wait` is the time the server asked to wait, in seconds."""

    def __init__(self, cause: str, wait: float = 0.0):
        super().__init__(cause)
        self.wait = wait


class Stopped(Exception):
    """Another thread has failed for good, or the user has pressed Ctrl-C."""


@dataclass(frozen=True)
class Manners:
    """How to behave towards somebody else's server.

    Attributes
    ----------
    parallel : int
        Connections at once.
    per_second : float
        Requests a second, over all connections.
    attempts : int
        Attempts before a request fails. Attempts that received a megabyte or more of a file do not
        count.
    first_wait, longest_wait : float
        Seconds. The wait doubles from one attempt to the next, with a jitter of half of it;
        a Retry-After of the server is respected up to `longest_wait`.
    timeout : float
        Seconds without an answer, or with less than a kilobyte, after which a connection counts as
        dead.
    """

    parallel: int = 3
    per_second: float = 5.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    timeout: float = 60.0


@dataclass
class Visit:
    """An open session with one or more servers, from `visit`."""

    session: Session
    manners: Manners
    hosts: frozenset[str] = frozenset()
    stop: threading.Event = field(default_factory=threading.Event)
    gate: threading.Lock = field(default_factory=threading.Lock)
    next_request: float = 0.0
    received: int = 0


@contextlib.contextmanager
def visit(manners: Manners, hosts: Sequence[str] = ()) -> Iterator[Visit]:
    """Open a session.

    Parameters
    ----------
    manners : Manners
    hosts : sequence of str
        Hosts, as in an address (`name` or `name:port`), that a request may be redirected to,
        besides its own.
    """
    import requests
    from requests.adapters import HTTPAdapter

    with requests.Session() as session:
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=manners.parallel)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        # A compressed answer has no length to check and no place to resume from.
        session.headers.update({"User-Agent": "moascope", "Accept-Encoding": "identity"})
        yield Visit(session, manners, frozenset(hosts))


def check_address(url: str) -> None:
    """Refuse an address that is not HTTPS; plain HTTP only to this machine.

    Raises
    ------
    MoascopeError
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        # Half of the brackets of an IPv6 address.
        parts, host = urlsplit(""), None
    if not host or not (parts.scheme == "https"
                        or (parts.scheme == "http" and host in _LOOPBACK)):
        raise MoascopeError(f"'{url}' is not an https:// address. Downloads use HTTPS only, so "
                            "that nobody can alter them on the way. Correct it in params.yaml.")


def below(base: str, path: str) -> str:
    """Address of a path below a base address, whether that ends in a slash or not."""
    return f"{base.rstrip('/')}/{path}"


def fetch_json(session: Visit, url: str) -> Any:
    """Ask for a JSON document of at most 64 MB.

    Raises
    ------
    Absent, Unlike, Trouble
    """
    check_address(url)
    attempt = 0
    while True:
        try:
            with request(session, url, {}) as response:
                if response.status_code != 200:
                    raise Trouble(f"{url} answered with status {response.status_code}. {GO_ON}")
                text = b"".join(chunks(session, response, url, 1 << 26))
            return parse_json(text)
        except ValueError:
            raise Unlike(f"{url} sent {kind_of(text[:512])} instead of JSON. The service may have "
                         "changed or be under maintenance; open the address in a "
                         "browser.") from None
        except Passing as trouble:
            attempt += 1
            wait_or_give_up(session, url, trouble, attempt)


def greet(session: Visit, url: str) -> None:
    """Open a page for the cookies that it sets; its content is not used.

    Raises
    ------
    Absent, Trouble
    """
    check_address(url)
    attempt = 0
    while True:
        try:
            request(session, url, {}).close()
            return
        except Passing as trouble:
            attempt += 1
            wait_or_give_up(session, url, trouble, attempt)


def chunks(session: Visit, response: Response, url: str, most: int) -> Iterator[bytes]:
    import urllib3

    length = content_length(response)
    got, window, since = 0, 0, time.monotonic()
    while True:
        if session.stop.is_set():
            raise Stopped
        try:
            chunk = response.raw.read1(_CHUNK, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Passing(_cause(error)) from None
        if not chunk:
            break
        got += len(chunk)
        window += len(chunk)
        if got > most:
            raise Unlike(f"{url} sends more than the {most:,} bytes allowed for it.")
        now = time.monotonic()
        if now - since > session.manners.timeout:
            if window < _LEAST_BYTES:
                raise Passing(f"only {window} bytes came in {now - since:.0f} s")
            window, since = 0, now
        session.received += len(chunk)
        yield chunk
    if length is not None and got < length:
        raise Passing(f"the answer broke off after {got:,} of {length:,} bytes")


def request(session: Visit, url: str, headers: dict[str, str]) -> Response:
    """Send a request, follow redirects to allowed hosts, and tell temporary errors from lasting."""
    import requests

    asked, host = url, urlsplit(url).netloc
    for _ in range(_MOST_REDIRECTS + 1):
        _pace(session)
        try:
            response = session.session.get(url, headers=headers, stream=True,
                                           allow_redirects=False,
                                           timeout=(session.manners.timeout,) * 2)
        except requests.exceptions.SSLError as error:
            raise Trouble(f"{url}: the certificate of the server cannot be trusted "
                          f"({_cause(error)}). Nothing was downloaded.") from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise Passing(_cause(error)) from None
        if not response.is_redirect:
            break
        response.close()
        url = urljoin(url, response.headers["Location"])
        target = urlsplit(url)
        if target.netloc not in {host, *session.hosts} or (
                urlsplit(asked).scheme == "https" and target.scheme != "https"):
            raise Trouble(f"{asked} redirects to {target.scheme}://{target.netloc}, which is not "
                          "one of the known hosts. Nothing was downloaded from there. If the "
                          "files have moved, put their new address into params.yaml.")
    else:
        raise Trouble(f"{asked} redirects in an endless loop. Open the address in a browser.")
    status = response.status_code
    if status in (200, 206, 416):
        return response
    asked_wait = _retry_after(response)
    response.close()
    if status in (404, 410):
        raise Absent(f"{asked} does not exist (status {status}). If the files have moved, put "
                     "their new address into params.yaml.")
    if status in _PASSING_STATUS:
        if asked_wait:
            # All threads wait, not only the one that received the answer.
            with session.gate:
                session.next_request = max(session.next_request, time.monotonic()
                                           + min(asked_wait, session.manners.longest_wait))
        raise Passing(f"status {status}", asked_wait)
    if status in (401, 403):
        raise Trouble(f"{asked} refuses access (status {status}). The data may have moved or "
                      f"need an account; open the address in a browser. {GO_ON}")
    raise Trouble(f"{asked} answered with status {status}. {GO_ON}")


def _pace(session: Visit) -> None:
    with session.gate:
        now = time.monotonic()
        start = max(now, session.next_request)
        session.next_request = start + 1 / session.manners.per_second
    if session.stop.wait(start - now):
        raise Stopped


def wait_or_give_up(session: Visit, url: str, trouble: Passing, attempt: int) -> None:
    manners = session.manners
    if trouble.wait > manners.longest_wait:
        raise Trouble(f"{url} asks to wait for {trouble.wait:,.0f} s ({trouble}). {GO_ON}")
    if attempt >= manners.attempts:
        raise Trouble(f"{url} is not available after {counted(attempt, 'attempt')}; the last one: "
                      f"{trouble}. Check the network and the server. {GO_ON}")
    backoff = min(manners.first_wait * 2 ** (attempt - 1), manners.longest_wait)
    seconds = max(trouble.wait, backoff * random.uniform(0.5, 1.5))
    if seconds >= _WAIT_WORTH_A_WORD:
        print(f"{url}: {trouble}; the next attempt is in {seconds:.0f} s", file=sys.stderr)
    if session.stop.wait(seconds):
        raise Stopped


def content_length(response: Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(value) if value.isdecimal() and not encoded else None


def content_range(response: Response) -> tuple[int, int | None]:
    unit, _, value = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = value.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or not start.isdecimal():
        return -1, None
    return int(start), int(total) if total.isdecimal() else None


def validator(response: Response) -> str:
    """A strong ETag, or the date: the values that If-Range accepts."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _retry_after(response: Response) -> float:
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def kind_of(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return "a web page" if text.startswith((b"<!doctype html", b"<html")) else "something else"


def _cause(error: BaseException) -> str:
    """The innermost message of an exception that wraps others."""
    import requests
    import urllib3

    inner: Any = error
    while True:
        reason = getattr(inner, "reason", None)
        nested = reason if isinstance(reason, BaseException) else next(
            (one for one in getattr(inner, "args", ()) if isinstance(one, BaseException)), None)
        if nested is None or nested is inner:
            break
        inner = nested
    # By its class it is a timeout, even where the connection was refused at once.
    if isinstance(inner, urllib3.exceptions.NewConnectionError):
        return str(inner).rpartition(": ")[2]
    timeouts = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, timeouts) or isinstance(inner, timeouts):
        return "no answer in time"
    if isinstance(inner, urllib3.exceptions.IncompleteRead):
        return f"the answer broke off after {inner.partial:,} bytes"
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return text.splitlines()[0]
