"""Files over HTTPS: resumed, checked, polite, and each there whole or not at all."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from moascope.errors import MoascopeError
from moascope.text import counted, listing
from moascope.work.files import write_atomically

if TYPE_CHECKING:
    from requests import Response, Session

GO_ON = "What is complete is kept; run it again to go on."
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CHUNK = 1 << 18
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
_MOST_REDIRECTS = 5
_FAILED_IN_A_ROW = 25
_PROGRESS_THAT_COUNTS = 1 << 20
_LEAST_BYTES = 1024  # in `timeout` seconds; a line slower than that is taken for dead
_TRIES_OF_WRONG_CONTENT = 2
_WAIT_WORTH_A_WORD = 3.0  # seconds


class Absent(MoascopeError):
    """The server says that there is no such file (404, 410)."""


class Unlike(MoascopeError):
    """What the server sends is not the file that was described."""


class Trouble(MoascopeError):
    """The server did not answer as it should, however often it was asked."""


class _Passing(Exception):
    """Worth another attempt; `wait` is how long the server asked to wait, in seconds."""

    def __init__(self, cause: str, wait: float = 0.0):
        super().__init__(cause)
        self.wait = wait


class _Stopped(Exception):
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
        How often a request is made before its trouble is told. Attempts that brought a file on by
        a megabyte do not count.
    first_wait, longest_wait : float
        Seconds. The wait doubles from one attempt to the next, with a jitter of half of it; what
        the server asks for by Retry-After is waited for up to `longest_wait`.
    timeout : float
        Seconds without an answer, or with less than a kilobyte, after which a line is dead.
    """

    parallel: int = 3
    per_second: float = 5.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    timeout: float = 60.0


@dataclass(frozen=True)
class Wanted:
    """A file to have.

    Attributes
    ----------
    url : str
    path : Path
        Where it goes. A file of that name that is there (and of `size`, if that is known) is kept.
    size : int, optional
        Bytes, where they are known beforehand.
    sha256 : str, optional
        Hexadecimal.
    most_bytes : int
        More is refused.
    check : callable, optional
        `check(path)` raises a MoascopeError when the file is not what it should be.
    """

    url: str
    path: Path
    size: int | None = None
    sha256: str | None = None
    most_bytes: int = 1 << 26
    check: Callable[[Path], None] | None = None


@dataclass
class Visit:
    """An open session with one or more servers; made by `visit`."""

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
        Hosts, as in an address (`name` or `name:port`), that a request may be sent on to beside
        the one it was made to.
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


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep other processes from downloading into a folder; the system lets go of it on a kill.

    Raises
    ------
    MoascopeError
        When another process is at it.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise MoascopeError(cannot_write(folder, error)) from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MoascopeError(f"Another moascope is downloading into {folder}. Wait for it, or "
                                "name another folder in acquire.downloads.") from None
        yield


def check_address(url: str) -> None:
    """Refuse an address that is not HTTPS; plain HTTP only to this machine.

    Raises
    ------
    MoascopeError
    """
    parts = urlsplit(url)
    if not parts.hostname or not (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        raise MoascopeError(f"'{url}' is no https:// address. Downloads go over HTTPS only, so "
                            "that nobody on the way can change them; correct it in params.yaml.")


def below(base: str, path: str) -> str:
    """Address of a path below a base address, whether that ends in a slash or not."""
    return f"{base.rstrip('/')}/{path}"


def fetch_all(session: Visit, wanted: Sequence[Wanted], label: str,
              most_missing: float = 0.0) -> dict[Path, str]:
    """Download files, a few at a time.

    Parameters
    ----------
    session : Visit
    wanted : sequence of Wanted
    label : str
        What the progress bar says.
    most_missing : float
        Share of the files that may be absent or spoilt at the server.

    Returns
    -------
    dict
        For each file that could not be had, by the path it should have gone to, why.

    Raises
    ------
    MoascopeError
        When too many are missing, or the server is in trouble. Complete files stay.
    """
    due = [one for one in wanted if not is_there(one)]
    failures: dict[Path, str] = {}
    in_a_row = 0
    with (_progress(session, len(due), label) as advance,
          ThreadPoolExecutor(session.manners.parallel) as pool):
        waiting: dict[Future[None], Wanted] = {}
        rest = iter(due)
        try:
            while True:
                # No more than a handful are handed out, so that a stop is a stop.
                while len(waiting) < 2 * session.manners.parallel and (one := next(rest, None)):
                    waiting[pool.submit(fetch, session, one)] = one
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    one = waiting.pop(future)
                    try:
                        future.result()
                        in_a_row = 0
                    except (Absent, Unlike) as error:
                        failures[one.path] = error.problems[0]
                        in_a_row += 1
                    advance()
                    _stop_if_too_many(failures, len(wanted), in_a_row, most_missing)
        except BaseException:
            session.stop.set()
            raise
        finally:
            for future in waiting:
                future.cancel()
    return failures


def fetch(session: Visit, wanted: Wanted) -> None:
    """Download one file, going on where an earlier call was cut off.

    The bytes gather in `.<name>.part` beside the file. The file appears under its own name once it
    is complete, of the right size and sum, and has passed its check.

    Raises
    ------
    Absent, Unlike, Trouble
        With one sentence each.

    Notes
    -----
    Resumed by a Range request with If-Range (RFC 9110, 13.1.5 and 14.2), so that a file that has
    changed at the server meanwhile comes anew and whole.
    """
    if is_there(wanted):
        return
    check_address(wanted.url)
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MoascopeError(cannot_write(wanted.path.parent, error)) from None
    part = wanted.path.with_name(f".{wanted.path.name}.part")
    attempt = wrong = 0
    while True:
        before = _size(part)
        try:
            _receive(session, wanted, part)
            _check_content(wanted, part)
        except _Passing as trouble:
            if _size(part) - before >= _PROGRESS_THAT_COUNTS:
                attempt = 0
            attempt += 1
            _wait_or_give_up(session, wanted.url, trouble, attempt)
        except Unlike:
            # What was spoilt on the way is right the next time; what lies there so is not.
            _forget(part)
            wrong += 1
            if wrong >= _TRIES_OF_WRONG_CONTENT:
                raise
        else:
            part.replace(wanted.path)
            _note(part).unlink(missing_ok=True)
            return


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
            with _open(session, url, {}) as response:
                if response.status_code != 200:
                    raise Trouble(f"{url} answered with status {response.status_code}. {GO_ON}")
                text = b"".join(_chunks(session, response, url, 1 << 26))
            return json.loads(text)
        except ValueError:
            raise Unlike(f"{url} sent {_kind_of(text[:512])} where JSON was expected. The service "
                         "may have changed or be under maintenance; open the address in a "
                         "browser.") from None
        except _Passing as trouble:
            attempt += 1
            _wait_or_give_up(session, url, trouble, attempt)


def greet(session: Visit, url: str) -> None:
    """Open a page for the cookies that it sets; its content does not matter.

    Raises
    ------
    Absent, Trouble
    """
    check_address(url)
    attempt = 0
    while True:
        try:
            _open(session, url, {}).close()
            return
        except _Passing as trouble:
            attempt += 1
            _wait_or_give_up(session, url, trouble, attempt)


def place_of(url: str, folder: Path) -> Path:
    """Where what came from an address is kept: another address is another file."""
    name = Path(urlsplit(url).path).name or "table"
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}"


def is_there(wanted: Wanted) -> bool:
    """Whether a file was downloaded before: files appear under their names only when complete."""
    size = _size(wanted.path)
    return size > 0 and wanted.size in (None, size)


# One attempt


def _receive(session: Visit, wanted: Wanted, part: Path) -> None:
    have, known = _size(part), _read_note(part)
    if have and (known.get("url") != wanted.url or not known.get("validator")
                 or have > known.get("total", have)):
        _forget(part)
        have = 0
    if have and have == known.get("total"):
        return
    headers = {"Range": f"bytes={have}-", "If-Range": known["validator"]} if have else {}
    with _open(session, wanted.url, headers) as response:
        if response.status_code == 416:
            _forget(part)
            raise _Passing("the server knows no such range of the file")
        if response.status_code == 206:
            start, total = _content_range(response)
            changed = _validator(response) not in ("", known.get("validator"))
            if not have or start != have or changed or total != known.get("total", total):
                _forget(part)
                raise _Passing("the server sent another piece of the file than was asked for")
        elif response.status_code == 200:
            have, total = 0, _content_length(response)
        else:
            raise Trouble(f"{wanted.url} answered with status {response.status_code}, which "
                          f"moascope does not know what to do with. {GO_ON}")
        _check_headers(wanted, response, total)
        if not have:
            _write_note(part, wanted.url, _validator(response), total)
        _append(session, wanted, part, have, total, response)


def _append(session: Visit, wanted: Wanted, part: Path, have: int, total: int | None,
            response: Response) -> None:
    try:
        file = part.open("r+b" if have else "wb")
    except OSError as error:
        raise MoascopeError(cannot_write(part, error)) from None
    with file:
        file.seek(have)
        for chunk in _chunks(session, response, wanted.url, wanted.most_bytes - have):
            try:
                file.write(chunk)
                # What has come is on disk when the process is killed the next moment.
                file.flush()
            except OSError as error:
                raise MoascopeError(cannot_write(part, error)) from None
        have = file.tell()
        file.truncate()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise _Passing(f"the answer broke off after {have:,} of {total:,} bytes")


def _chunks(session: Visit, response: Response, url: str, most: int) -> Iterator[bytes]:
    import urllib3

    length = _content_length(response)
    got, window, since = 0, 0, time.monotonic()
    while True:
        if session.stop.is_set():
            raise _Stopped
        try:
            chunk = response.raw.read1(_CHUNK, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _Passing(_cause(error)) from None
        if not chunk:
            break
        got += len(chunk)
        window += len(chunk)
        if got > most:
            raise Unlike(f"{url} sends more than the {most:,} bytes that are expected at most.")
        now = time.monotonic()
        if now - since > session.manners.timeout:
            if window < _LEAST_BYTES:
                raise _Passing(f"only {window} bytes came in {now - since:.0f} s")
            window, since = 0, now
        session.received += len(chunk)
        yield chunk
    if length is not None and got < length:
        raise _Passing(f"the answer broke off after {got:,} of {length:,} bytes")


def _open(session: Visit, url: str, headers: dict[str, str]) -> Response:
    """Ask, follow redirects within the allowed hosts, and tell passing trouble from lasting."""
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
            raise _Passing(_cause(error)) from None
        if not response.is_redirect:
            break
        response.close()
        url = urljoin(url, response.headers["Location"])
        target = urlsplit(url)
        if target.netloc not in {host, *session.hosts} or (
                urlsplit(asked).scheme == "https" and target.scheme != "https"):
            raise Trouble(f"{asked} sends on to {target.scheme}://{target.netloc}, which is not "
                          "one of the known hosts. Nothing was downloaded from there; if the "
                          "files have moved, put their new address into params.yaml.")
    else:
        raise Trouble(f"{asked} sends on from address to address without end.")
    status = response.status_code
    if status in (200, 206, 416):
        return response
    asked_wait = _retry_after(response)
    response.close()
    if status in (404, 410):
        raise Absent(f"{asked} does not exist (status {status}). If all of them have moved, put "
                     "their new address into params.yaml.")
    if status in _PASSING_STATUS:
        if asked_wait:
            # Everybody who was told to wait waits, not only the thread that was told.
            with session.gate:
                session.next_request = max(session.next_request, time.monotonic()
                                           + min(asked_wait, session.manners.longest_wait))
        raise _Passing(f"status {status}", asked_wait)
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
        raise _Stopped


def _wait_or_give_up(session: Visit, url: str, trouble: _Passing, attempt: int) -> None:
    manners = session.manners
    if trouble.wait > manners.longest_wait:
        raise Trouble(f"{url} asks to wait for {trouble.wait:,.0f} s ({trouble}). {GO_ON}")
    if attempt >= manners.attempts:
        raise Trouble(f"{url} could not be had in {counted(attempt, 'attempt')}; the last one: "
                      f"{trouble}. Look at the network and the server. {GO_ON}")
    backoff = min(manners.first_wait * 2 ** (attempt - 1), manners.longest_wait)
    seconds = max(trouble.wait, backoff * random.uniform(0.5, 1.5))
    if seconds >= _WAIT_WORTH_A_WORD:
        print(f"{url}: {trouble}; the next attempt is in {seconds:.0f} s", file=sys.stderr)
    if session.stop.wait(seconds):
        raise _Stopped


# Headers


def _content_length(response: Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return int(value) if value.isdecimal() and not encoded else None


def _content_range(response: Response) -> tuple[int, int | None]:
    unit, _, value = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = value.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or not start.isdecimal():
        return -1, None
    return int(start), int(total) if total.isdecimal() else None


def _validator(response: Response) -> str:
    """A strong ETag, or the date: what If-Range may be asked with."""
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


def _check_headers(wanted: Wanted, response: Response, total: int | None) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise Unlike(_is_html(wanted.url))
    if total is None:
        return
    if wanted.size is not None and total != wanted.size:
        raise Unlike(f"{wanted.url} has {total:,} bytes where {wanted.size:,} are expected.")
    if total > wanted.most_bytes:
        raise Unlike(f"{wanted.url} has {total:,} bytes, more than the {wanted.most_bytes:,} that "
                     "are expected at most.")


# What came


def _check_content(wanted: Wanted, part: Path) -> None:
    size = _size(part)
    with part.open("rb") as file:
        start = file.read(512)
        if _kind_of(start) == "a web page":
            raise Unlike(_is_html(wanted.url))
        if not size:
            raise Unlike(f"{wanted.url} is empty (0 bytes).")
        if wanted.size not in (None, size):
            raise Unlike(f"{wanted.url} has {size:,} bytes where {wanted.size:,} are expected.")
        if wanted.sha256:
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != wanted.sha256:
                raise Unlike(f"{wanted.url} has the SHA-256 {found}, and {wanted.sha256} is "
                             "expected: it is not the file that moascope knows.")
    if wanted.check:
        try:
            wanted.check(part)
        except MoascopeError as error:
            problem = error.problems[0].replace(str(part), wanted.url)
            raise Unlike(problem) from None


def _is_html(url: str) -> str:
    return (f"{url} is a web page, not the file: the service may be under maintenance or the file "
            "may have moved. Open the address in a browser.")


def _kind_of(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return "a web page" if text.startswith((b"<!doctype html", b"<html")) else "something else"


def _stop_if_too_many(failures: dict[Path, str], total: int, in_a_row: int,
                      most_missing: float) -> None:
    if len(failures) <= most_missing * total and in_a_row < _FAILED_IN_A_ROW:
        return
    share = (f"{counted(in_a_row, 'file')} in a row" if in_a_row >= _FAILED_IN_A_ROW else
             f"more than the {most_missing:.1%} of {counted(total, 'file')} that "
             "acquire.max_missing allows")
    raise MoascopeError(f"{counted(len(failures), 'file')} could not be had, {share}: "
                        f"{listing((why.rstrip('.') for why in failures.values()), 3)}. {GO_ON}")


# The part file and the note beside it


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, Any]:
    try:
        note = json.loads(_note(part).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(part: Path, url: str, validator: str, total: int | None) -> None:
    # The bytes of another version must be gone before the note speaks of this one.
    part.unlink(missing_ok=True)
    known = {"url": url, "validator": validator} | ({} if total is None else {"total": total})
    write_atomically(_note(part), json.dumps(known))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def cannot_write(path: Path, error: OSError) -> str:
    """The sentence for a file or folder of downloads that the system does not let be written."""
    return (f"{path} cannot be written: {error.strerror}. Make room, or name another folder in "
            f"acquire.downloads. {GO_ON}")


def _cause(error: BaseException) -> str:
    """The innermost words of an exception that wraps others."""
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
    # It counts as a timeout by its class, also where the connection was refused at once.
    if isinstance(inner, urllib3.exceptions.NewConnectionError):
        return str(inner).rpartition(": ")[2]
    timeouts = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, timeouts) or isinstance(inner, timeouts):
        return "no answer in time"
    if isinstance(inner, urllib3.exceptions.IncompleteRead):
        return f"the answer broke off after {inner.partial:,} bytes"
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return text.splitlines()[0]


@contextlib.contextmanager
def _progress(session: Visit, total: int, label: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal, that also counts bytes."""
    if not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Received(ProgressColumn):
        def render(self, task: Task) -> Text:
            size = session.received - before
            rate = size / task.elapsed if task.elapsed else 0.0
            return Text(f"{decimal(size)}, {decimal(int(rate))}/s")

    before = session.received
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Received(),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)
