"""Files that others wrote: opened only if they are regular, and read up to a length."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MOST_JSON = 2**24
"""Most bytes of JSON that are read at once."""


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe, which would block, and a device, which never ends, are not.

    Raises
    ------
    OSError
        With a `strerror` for a sentence, also for a name that no file can have.
    """
    try:
        _refuse_special(path.stat().st_mode, path)
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except ValueError:
        # A NUL, or half of a pair of surrogates.
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    try:
        # It may have been replaced in between.
        _refuse_special(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def read_file(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes.

    Raises
    ------
    OSError
        As `open_file`, and for a file that is longer.
    """
    with open_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most / 2**20:,.0f} MiB", str(path))
    return content


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8.

    Raises
    ------
    ValueError
        Also where it is nested too deeply or has a number of thousands of digits.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_special(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
