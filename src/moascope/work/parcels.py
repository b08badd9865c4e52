"""Files that travel with a task to a machine that does not see them, and back."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Parcel = Mapping[str, np.ndarray]
"""Contents of files, uint8, by their paths: arrays, because Ray sends those without copying."""


def packed(path: Path) -> Parcel:
    """The content of a file, or of all files of a folder; nothing where there is neither."""
    if path.is_file():
        return {"": np.fromfile(path, np.uint8)}
    return {file.relative_to(path).as_posix(): np.fromfile(file, np.uint8)
            for file in sorted(path.rglob("*")) if file.is_file()}


def unpack(parcel: Parcel, path: Path) -> None:
    """Write what `packed` took to a path."""
    for name, content in parcel.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        content.tofile(file)


def unpacked_once(parcel: Parcel, name: str) -> Path:
    """The path of a file that many tasks bring along; it is there as long as this process is.

    Parameters
    ----------
    parcel : Parcel
        Of a file.
    name : str
        Of the file.
    """
    total = hashlib.sha256(parcel[""]).hexdigest()
    path = Path(_own_folder().name) / total / name
    if not path.is_file():
        unpack(parcel, path)
    return path


@functools.cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="moascope-")
