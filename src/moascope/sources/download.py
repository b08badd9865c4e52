"""Downloaded files: resumed, checked, each of them whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from moascope.errors import MoascopeError
from moascope.opening import MOST_JSON, parse_json, read_file
from moascope.sources.http import (
    GO_ON,
    Absent,
    Passing,
    Trouble,
    Unlike,
    Visit,
    check_address,
    chunks,
    content_length,
    content_range,
    kind_of,
    request,
    validator,
    wait_or_give_up,
)
from moascope.text import counted, listing
from moascope.work.files import write_atomically

if TYPE_CHECKING:
    from requests import Response

_FAILED_IN_A_ROW = 25
_PROGRESS_THAT_COUNTS = 1 << 20
_TRIES_OF_WRONG_CONTENT = 2


@dataclass(frozen=True)
class Wanted:
    """A file to download.

    Attributes
    ----------
    url : str
    path : Path
        Where it goes. An existing file (of `size`, if that is known) is kept.
    size : int, optional
        Bytes, if known in advance.
    sha256 : str, optional
        Hexadecimal.
    most_bytes : int
        A larger file is refused.
    check : callable, optional
        `check(path)` raises a MoascopeError when the file is not what is expected.
    """

    url: str
    path: Path
    size: int | None = None
    sha256: str | None = None
    most_bytes: int = 1 << 26
    check: Callable[[Path], None] | None = None


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep other processes from downloading into a folder; the lock ends with the process.

    Raises
    ------
    MoascopeError
        When another process uses it.
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
        Share of the files that may be missing or damaged at the server.

    Returns
    -------
    dict
        The reason for each file that is not available, by the path it should have gone to.

    Raises
    ------
    MoascopeError
        When too many are missing, or the server fails. Complete files are kept.
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
                # Few requests are queued, so that stopping takes effect at once.
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
    """Download one file, resuming an interrupted download.

    The bytes gather in `.<name>.part` beside the file. The file appears under its own name once it
    is complete, of the right size and sum, and has passed its check.

    Raises
    ------
    Absent, Unlike, Trouble
        With one sentence each.

    Notes
    -----
    Resumed by a Range request with If-Range (RFC 9110, 13.1.5 and 14.2), so that a file that has
    changed at the server meanwhile is downloaded again as a whole.
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
        except Passing as trouble:
            if _size(part) - before >= _PROGRESS_THAT_COUNTS:
                attempt = 0
            attempt += 1
            wait_or_give_up(session, wanted.url, trouble, attempt)
        except Unlike:
            # Damage on the way is gone at the next attempt; damage at the server is not.
            _forget(part)
            wrong += 1
            if wrong >= _TRIES_OF_WRONG_CONTENT:
                raise
        else:
            part.replace(wanted.path)
            _note(part).unlink(missing_ok=True)
            return


def place_of(url: str, folder: Path) -> Path:
    """Where the file of an address is kept; each address has its own file."""
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
    with request(session, wanted.url, headers) as response:
        if response.status_code == 416:
            _forget(part)
            raise Passing("the server does not have this range of the file")
        if response.status_code == 206:
            start, total = content_range(response)
            changed = validator(response) not in ("", known.get("validator"))
            if not have or start != have or changed or total != known.get("total", total):
                _forget(part)
                raise Passing("the server sent another part of the file than was requested")
        elif response.status_code == 200:
            have, total = 0, content_length(response)
        else:
            raise Trouble(f"{wanted.url} answered with the unexpected status "
                          f"{response.status_code}. {GO_ON}")
        _check_headers(wanted, response, total)
        if not have:
            _write_note(part, wanted.url, validator(response), total)
        _append(session, wanted, part, have, total, response)


def _append(session: Visit, wanted: Wanted, part: Path, have: int, total: int | None,
            response: Response) -> None:
    try:
        file = part.open("r+b" if have else "wb")
    except OSError as error:
        raise MoascopeError(cannot_write(part, error)) from None
    with file:
        file.seek(have)
        for chunk in chunks(session, response, wanted.url, wanted.most_bytes - have):
            try:
                file.write(chunk)
                # Received bytes survive if the process is killed now.
                file.flush()
            except OSError as error:
                raise MoascopeError(cannot_write(part, error)) from None
        have = file.tell()
        file.truncate()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise Passing(f"the answer broke off after {have:,} of {total:,} bytes")


def _check_headers(wanted: Wanted, response: Response, total: int | None) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise Unlike(_is_html(wanted.url))
    if total is None:
        return
    if wanted.size is not None and total != wanted.size:
        raise Unlike(f"{wanted.url} has {total:,} bytes instead of {wanted.size:,}.")
    if total > wanted.most_bytes:
        raise Unlike(f"{wanted.url} has {total:,} bytes, more than the {wanted.most_bytes:,} "
                     "allowed for it.")


# What came


def _check_content(wanted: Wanted, part: Path) -> None:
    size = _size(part)
    with part.open("rb") as file:
        start = file.read(512)
        if kind_of(start) == "a web page":
            raise Unlike(_is_html(wanted.url))
        if not size:
            raise Unlike(f"{wanted.url} is empty (0 bytes).")
        if wanted.size not in (None, size):
            raise Unlike(f"{wanted.url} has {size:,} bytes instead of {wanted.size:,}.")
        if wanted.sha256:
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != wanted.sha256:
                raise Unlike(f"{wanted.url} has the SHA-256 {found} instead of "
                             f"{wanted.sha256}: it is not the file that moascope knows.")
    if wanted.check:
        try:
            wanted.check(part)
        except MoascopeError as error:
            problem = error.problems[0].replace(str(part), wanted.url)
            raise Unlike(problem) from None


def _is_html(url: str) -> str:
    return (f"{url} is a web page, not the file: the service may be under maintenance or the file "
            "may have moved. Open the address in a browser.")


def _stop_if_too_many(failures: dict[Path, str], total: int, in_a_row: int,
                      most_missing: float) -> None:
    if len(failures) <= most_missing * total and in_a_row < _FAILED_IN_A_ROW:
        return
    share = (f"{counted(in_a_row, 'file')} in a row" if in_a_row >= _FAILED_IN_A_ROW else
             f"more than the {most_missing:.1%} of {counted(total, 'file')} that "
             "acquire.max_missing allows")
    raise MoascopeError(f"{counted(len(failures), 'file')} not available, {share}: "
                        f"{listing((why.rstrip('.') for why in failures.values()), 3)}. {GO_ON}")


# The part file and the note beside it


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, Any]:
    try:
        note = parse_json(read_file(_note(part), MOST_JSON))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _write_note(part: Path, url: str, version: str, total: int | None) -> None:
    # Bytes of another version must be gone before the note describes this one.
    part.unlink(missing_ok=True)
    known = {"url": url, "validator": version} | ({} if total is None else {"total": total})
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
    """The sentence for a file or folder of downloads that cannot be written."""
    return (f"{path} cannot be written: {error.strerror}. Make room, or name another folder in "
            f"acquire.downloads. {GO_ON}")


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
