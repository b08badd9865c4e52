"""Files that others wrote: opened only if they are regular, and read up to a length."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from moascope.errors import MoascopeError
from moascope.text import explained

if TYPE_CHECKING:
    import numpy as np

MOST_JSON = 2**24
"""Most bytes of JSON that are read at once."""
MOST_YAML = 2**20
"""Most bytes of YAML that are read at once."""
PIECE = 2**24
MOST_VALUES = 10_000
MOST_NESTED = 50


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
        content = read_up_to(file, most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is longer than {most / 2**20:,.0f} MiB", str(path))
    return content


def read_up_to(file: BinaryIO, most: int) -> bytes:
    """Read a file to its end, or `most` bytes of it.

    `file.read(most)` sets aside as much memory as it is asked for, which a limit on a process may
    refuse, however short the file is.
    """
    pieces = []
    while most > 0 and (piece := file.read(min(most, PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


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


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file as `numpy.savez` writes it, uncompressed; no pickle is read.

    Raises
    ------
    OSError
        As `open_file`.
    ValueError
        Where it is damaged, or its arrays would fill more memory than the file has bytes.
    """
    import numpy as np

    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            with np.load(file, allow_pickle=False) as arrays:
                if sum(member.file_size for member in arrays.zip.infolist()) > size:
                    raise ValueError("it is compressed")
                return {name: arrays[name] for name in arrays.files}
    except (AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError,
            TypeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(explained(error)) from None


@contextlib.contextmanager
def undamaged(path: Path, remedy: str) -> Iterator[None]:
    """Turn what readers of JSON, YAML and Parquet raise on a damaged file into a sentence.

    `remedy` says what to do about it. A missing file stays a FileNotFoundError.
    """
    try:
        yield
    except (FileNotFoundError, MoascopeError):
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, TypeError,
            ValueError) as error:
        raise MoascopeError(f"{path} is damaged ({explained(error)}). {remedy}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_special(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))


def parse_yaml(text: str) -> Any:
    """Parse YAML of bounded depth and size, aliases counted as what they stand for.

    Raises
    ------
    ValueError
        With the cause, whatever is wrong with the text.
    """
    import yaml

    try:
        _check_size(text)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError) as error:
        # A value that is not what its tag or its looks say, such as !!bool 7.
        raise ValueError(f"a value in it cannot be read ({type(error).__name__})") from None


def _check_size(text: str) -> None:
    import yaml

    # A few lines of aliases of aliases can stand for more values than memory holds.
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            values += sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor] = values - before + 1
        values += 1
        if len(open_nodes) > MOST_NESTED:
            raise ValueError(f"it is nested more than {MOST_NESTED} deep")
        if values > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
