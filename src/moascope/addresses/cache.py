"""Local copies of files behind addresses: bounded, the least recently used removed first."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from moascope.addresses.names import shown
from moascope.addresses.stores import Unavailable, fetch, version_of
from moascope.errors import MoascopeError
from moascope.opening import open_file

FOLDER = "MOASCOPE_CACHE"
LIMIT = "MOASCOPE_CACHE_GB"
GIGABYTES = 20.0
_DATABASE = "planes.sqlite"
UNFINISHED = ".unfinished-"
"""How the names begin of what is still being fetched, at the top of the folder."""

_LEFT = 24 * 3600  # seconds after which nobody is at work on it any more
_OPENED = 5  # times, while other processes need the room
_REFUSED = 200  # times, while other processes make the list


class Sum(NamedTuple):
    """Size, SHA-256 and version of a file; as the store tells it, the version is its ETag."""

    bytes: int
    sha256: str
    tag: str


def cache_folder() -> Path:
    """Where copies are kept: $MOASCOPE_CACHE, or the user's folder of caches."""
    if named := os.environ.get(FOLDER):
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "moascope" / "planes"


def cache_limit() -> int:
    """Most bytes of all copies together: $MOASCOPE_CACHE_GB.

    Raises
    ------
    MoascopeError
        Where that is not a positive number.
    """
    said = os.environ.get(LIMIT) or GIGABYTES
    try:
        limit = float(said)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e9:
        raise MoascopeError(f"{LIMIT} is '{said}', not a number of gigabytes above 0. Set it to "
                            f"one, or leave it out for {GIGABYTES:g}.")
    return int(limit * 1e9)


@contextlib.contextmanager
def open_copy(address: str) -> Iterator[BinaryIO]:
    """Open the local copy of a file, which is fetched where there is none.

    Whether the store has another version by now is not asked: acquire asks (`current_sum`), and
    later stages compare with its checksum.

    Raises
    ------
    FileNotFoundError
        Where the store has no such file.
    moascope.addresses.stores.TooLarge, moascope.addresses.stores.Unavailable
    """
    for _ in range(_OPENED):
        path = _copy(address)
        # Another process may have made room in between.
        with contextlib.suppress(FileNotFoundError):
            file = open_file(path)
            break
    else:
        raise _no_room(address)
    with file:
        yield file


def _no_room(address: str) -> Unavailable:
    return Unavailable(f"{shown(address)}: the local copy is removed as soon as it is made. "
                       f"Raise {LIMIT} above {cache_limit() / 1e9:g}.")


def link_copy(address: str, tag: str, path: Path) -> bool:
    """Put the local copy of a file at a path of the cache's disk, where it is of one version.

    Parameters
    ----------
    address : str
    tag : str
        Of the version. Without a copy of that version, the file is fetched.
    path : Path
        What is put there stays, even where the copy is removed.

    Returns
    -------
    bool
        Whether the store still has that version, or the copy was there.

    Raises
    ------
    FileNotFoundError, moascope.addresses.stores.TooLarge, moascope.addresses.stores.Unavailable
    """
    known = known_sum(address)
    if known is None or known.tag != tag:
        _fetched(address)
    for _ in range(_OPENED):
        copy = _copy(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may have made room in between.
        with contextlib.suppress(FileNotFoundError):
            os.link(copy, path)
            known = known_sum(address)
            return known is not None and known.tag == tag
    raise _no_room(address)


def note_sum(address: str, total: Sum) -> None:
    """Note what is known of something that has no copy of its own."""
    with _database() as database:
        database.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, 0, ?)",
                         (address, *total, time.time()))


def current_sum(address: str) -> Sum:
    """Size and SHA-256 of a file as the store has it now; fetched only where its version is new.

    Raises
    ------
    FileNotFoundError, moascope.addresses.stores.TooLarge, moascope.addresses.stores.Unavailable
    """
    known = known_sum(address)
    if known and known.tag:
        version = version_of(address)
        if version.tag == known.tag and version.bytes in (-1, known.bytes):
            return known
    return _fetched(address)


def known_sum(address: str) -> Sum | None:
    """Size, SHA-256 and version of a file when it was fetched; None where it was not."""
    with _database() as database:
        known = database.execute("SELECT bytes, sha256, tag FROM copies WHERE address = ?",
                                 (address,)).fetchone()
    return Sum(*known) if known else None


def known_sums() -> dict[str, Sum]:
    """Size, SHA-256 and version of every file that was fetched, by its address.

    A file of that version is not fetched again for its sum, whether its copy is still held or not.
    """
    with _database() as database:
        return {address: Sum(*known) for address, *known in database.execute(
            "SELECT address, bytes, sha256, tag FROM copies")}


def _copy(address: str) -> Path:
    path = _path(address)
    with _database() as database:
        known = database.execute("SELECT bytes FROM copies WHERE address = ? AND held",
                                 (address,)).fetchone()
        # A crash of the machine may have cut it short.
        with contextlib.suppress(OSError):
            if known and path.stat().st_size == known[0]:
                database.execute("UPDATE copies SET used = ? WHERE address = ?",
                                 (time.time(), address))
                return path
    _fetched(address)
    return path


def _fetched(address: str) -> Sum:
    path, limit = _path(address), cache_limit()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(cache_folder())
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, dir=cache_folder())
    os.close(handle)
    partial = Path(name)
    try:
        version, total = fetch(address, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    with _database() as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, 1, ?)",
                         (address, version.bytes, total, version.tag, time.time()))
        _make_room(database, address, limit)
        database.execute("COMMIT")
    return Sum(version.bytes, total, version.tag)


@functools.cache
def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed had begun; no limit counts it."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < _LEFT:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _make_room(database: sqlite3.Connection, newest: str, limit: int) -> None:
    """Remove copies, the least recently used first; what is known about them is kept."""
    total = database.execute("SELECT COALESCE(SUM(bytes), 0) FROM copies WHERE held").fetchone()[0]
    if total <= limit:
        return
    for address, size in database.execute(
            "SELECT address, bytes FROM copies WHERE held AND address != ? ORDER BY used",
            (newest,)).fetchall():
        _path(address).unlink(missing_ok=True)
        database.execute("UPDATE copies SET held = 0 WHERE address = ?", (address,))
        total -= size
        if total <= limit:
            return


def _path(address: str) -> Path:
    name = hashlib.sha256(address.encode()).hexdigest()
    return cache_folder() / name[:2] / name


def _write_ahead(database: sqlite3.Connection) -> None:
    """Let readers and a writer go on side by side, once and for all.

    While one process turns a new database into such a one, SQLite refuses the others at once,
    whatever their patience.
    """
    for _ in range(_REFUSED):
        with contextlib.suppress(sqlite3.OperationalError):
            database.execute("PRAGMA journal_mode = WAL")
            return
        time.sleep(0.05)
    database.execute("PRAGMA journal_mode = WAL")


@contextlib.contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(folder / _DATABASE, timeout=60,
                                                isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = OFF")
            _write_ahead(database)
            database.execute(
                "CREATE TABLE IF NOT EXISTS copies (address TEXT PRIMARY KEY, bytes INTEGER, "
                "sha256 TEXT, tag TEXT, held INTEGER, used REAL) WITHOUT ROWID")
            yield database
    except sqlite3.Error as error:
        raise MoascopeError(f"{folder / _DATABASE}, which lists the local copies of images, "
                            f"cannot be used ({error}). Remove {folder}, or name another folder "
                            f"by {FOLDER}.") from None
