"""One image file, read once: its size and sum, its planes, and facts about them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from moascope.addresses.cache import known_sum
from moascope.addresses.names import is_address
from moascope.opening import read_up_to
from moascope.screen.frames import image_sum, read_frames
from moascope.screen.limits import PlaneError
from moascope.screen.planes import open_plane
from moascope.screen.readings import is_settled, stamp_of
from moascope.screen.remote_arrays import is_array_address
from moascope.screen.unread import NONE_UNREAD, planes_held

LARGEST_HELD = 2**26
"""Bytes of a file that is read into memory at once; a larger one is summed first, then decoded."""


class FileRead(NamedTuple):
    """What one look at a file gives.

    Attributes
    ----------
    bytes : int
        Size; 0 where the file cannot be read.
    sha256 : str
        In hexadecimal; empty where the file cannot be read.
    stamp : str
        As `moascope.screen.readings.stamp_of`; empty where the file may change, or changed while
        it was read, without getting another one.
    facts : dict of int to dict
        Of each frame, by the columns of `moascope.validation.facts.plane_facts`.
    planes : dict of int to ndarray of uint8 or uint16, shape [height, width]
        The frames that can be decoded.
    problem : PlaneError or None
        Why a frame cannot be.
    """

    bytes: int
    sha256: str
    stamp: str
    facts: dict[int, dict[str, Any]]
    planes: dict[int, np.ndarray]
    problem: PlaneError | None = None


def read_file_once(images: Path, name: str, frames: Sequence[int],
                   summed: FileRead | None = None) -> FileRead:
    """Read a file, from the disk or the network once, and describe some of its planes.

    Parameters
    ----------
    images : Path
        The folder that names start from.
    name : str
        A path or an address.
    frames : sequence of int
        Planes, as `moascope.screen.planes.read_plane` counts them.
    summed : FileRead, optional
        What an earlier look at the same file for other frames gave; only these frames are then
        read.

    Raises
    ------
    moascope.addresses.stores.Unavailable
        Where the store of an address cannot be used.
    """
    begun = time.time_ns()
    stamp = "" if is_address(name) else stamp_of(images, name)
    if summed and not (summed.stamp and stamp in ("", summed.stamp)):
        summed = None
    try:
        with open_plane(images, name, frames) as file:
            held = file if summed else _held(file)
            size, total = summed[:2] if summed else _sum(name, held)
            found = _look(held, name, frames)
            if found[-1] is not None and held is not file:
                # A decoder's words may name what it read from.
                found = _look(file, name, frames)
    except PlaneError as error:
        return FileRead(0, "", "", dict.fromkeys(frames, _unreadable(error)), {}, error)
    if is_address(name):
        known = known_sum(name)
        stamp = known.tag if known and known.sha256 == total else ""
    elif stamp and not (is_settled(stamp, begun) and stamp == stamp_of(images, name)):
        stamp = ""
    return FileRead(size, total, stamp, *found)


def _sum(name: str, file: BinaryIO | Path) -> tuple[int, str]:
    known = known_sum(name) if is_array_address(name) else None
    # Of an array behind an address only some chunks are here.
    return image_sum(file) if known is None else known[:2]


def _held(file: BinaryIO | Path) -> BinaryIO | Path:
    """The content of a file in memory, where it is not too large; an array stays where it is."""
    if isinstance(file, Path) or os.fstat(file.fileno()).st_size > LARGEST_HELD:
        return file
    content = read_up_to(file, LARGEST_HELD + 1)
    # It may be growing.
    return io.BytesIO(content) if len(content) <= LARGEST_HELD else file


def _look(file: BinaryIO | Path, name: str, frames: Sequence[int],
          ) -> tuple[dict[int, dict[str, Any]], dict[int, np.ndarray], PlaneError | None]:
    try:
        planes = read_frames(file, name, frames)
        held = planes_held(file, name, frames)
        return {frame: _describe(plane) | held for frame, plane in planes.items()}, planes, None
    except PlaneError as error:
        if len(set(frames)) == 1:
            return dict.fromkeys(frames, _unreadable(error)), {}, error
    # One wrong frame number must not quarantine the other channels of the file.
    facts, planes, problem = {}, {}, None
    for frame in dict.fromkeys(frames):
        try:
            planes |= read_frames(file, name, [frame])
            facts[frame] = _describe(planes[frame]) | NONE_UNREAD
        except PlaneError as error:
            facts[frame], problem = _unreadable(error), problem or error
    return facts, planes, problem


def _describe(plane: np.ndarray) -> dict[str, Any]:
    low, high = int(plane.min()), int(plane.max())
    return {
        "Readable": True, "Error": "",
        "Height": plane.shape[0], "Width": plane.shape[1], "DType": str(plane.dtype),
        "Min": float(low), "Max": float(high), "Mean": float(plane.mean(dtype=np.float64)),
        "AtMax": float(np.count_nonzero(plane == high) / plane.size),
        "Blank": low == high, "Problem": "",
    }


def _unreadable(error: PlaneError) -> dict[str, Any]:
    return {"Readable": False, "Error": error.problems[0], "Height": 0, "Width": 0, "DType": "",
            "Min": np.nan, "Max": np.nan, "Mean": np.nan, "AtMax": np.nan, "Blank": False,
            "Problem": error.kind, **NONE_UNREAD}
