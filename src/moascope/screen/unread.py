"""Planes of image files that a screen does not read: colour samples, pages and stacks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.screen.frames import frame_count, read_frames
from moascope.text import counted, listing

SAMPLES = ("red", "green", "blue", "alpha")
COLUMNS = ["Held", "Colour", "Signal"]
NONE_UNREAD = {"Held": 0, "Colour": 0, "Signal": -1}
"""What `planes_held` says of a file whose planes are all read."""

_LIT = 0.2
"""Share of pixels unlike the background from which a sample holds a picture, and not a scale bar or
a label drawn into it."""


def planes_held(file: Any, name: str, used: Collection[int]) -> dict[str, int]:
    """How many planes a file has, and where its picture is if they are the samples of a colour.

    Parameters
    ----------
    file : binary file or Path
        As `moascope.screen.frames.open_image` yields it.
    name : str
        Its name in messages.
    used : collection of int
        Frames that the site reads from it.

    Returns
    -------
    dict
        `Held`: planes of the file, 0 where all of them are read. `Colour`: samples per pixel, 0 for
        pages. `Signal`: the one sample that holds a picture, -1 where it is read, where several do,
        or for pages.
    """
    if isinstance(file, Path):
        # The frames of an OME-Zarr array are chosen by its metadata.
        return NONE_UNREAD
    held = frame_count(file)
    if held <= len(set(used)):
        return NONE_UNREAD
    if held not in (3, 4) or not _is_colour(file):
        return {"Held": held, "Colour": 0, "Signal": -1}
    planes = read_frames(file, name, range(held))
    if all(np.array_equal(planes[0], planes[frame]) for frame in (1, 2)):
        # A grey picture saved in colour: each sample is the picture.
        return NONE_UNREAD
    lit = [frame for frame in range(3) if _share_lit(planes[frame]) >= _LIT]
    signal = lit[0] if len(lit) == 1 and lit[0] not in used else -1
    if len(lit) == 1 and lit[0] in used:
        return NONE_UNREAD
    return {"Held": held, "Colour": held, "Signal": signal}


def unread_planes(planes: pd.DataFrame) -> list[str]:
    """A sentence for each channel whose files hold planes that are not read.

    Parameters
    ----------
    planes : DataFrame
        `Channel`, `Frame`, `FileName` and the columns of `planes_held`.
    """
    used = planes.groupby("FileName")["Frame"].nunique()
    # A file of many sites has each of its planes read by one of them.
    left = planes[(planes["Held"] > 0) & (planes["FileName"].map(used) < planes["Held"])]
    sentences = []
    for (channel, held, colour, signal), rows in left.groupby(["Channel", *COLUMNS], sort=True):
        files = rows["FileName"].unique()
        frames = sorted(rows["Frame"].unique())
        what = f"Channel {channel}: {counted(len(files), 'file')}, such as {files[0]},"
        if not colour:
            which = "frame" if len(frames) == 1 else "frames"
            sentences.append(
                f"{what} with {held} planes, of which {which} {listing(frames)} "
                f"{'is' if len(frames) == 1 else 'are'} read. If they are channels or a stack, "
                f"choose one by Frame_{channel} in load_data.csv.")
            continue
        read = listing(SAMPLES[frame] for frame in frames if frame < len(SAMPLES))
        if signal >= 0:
            sentences.append(
                f"{what} in colour; {read} is read, and the picture is in {SAMPLES[signal]}. Add "
                f"a column Frame_{channel} with {signal} to load_data.csv.")
        else:
            sentences.append(
                f"{what} in colour; {read} alone is read. Choose another sample by Frame_{channel} "
                "(red 0, green 1, blue 2) in load_data.csv if it is not the channel's.")
    return sentences


def says_low_is_white(file: Any) -> bool:
    """Whether an open file is a TIFF whose lowest value is white (WhiteIsZero)."""
    import tifffile

    if not hasattr(file, "seek"):
        return False
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            return tiff.pages.first.photometric == 0
    except tifffile.TiffFileError:
        return False


def _is_colour(file: Any) -> bool:
    """Whether the planes of an open file, which has several, are samples of one picture."""
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            return len(tiff.pages) == 1
    except tifffile.TiffFileError:
        # Other formats have one picture.
        return True


def _share_lit(plane: np.ndarray) -> float:
    """Share of pixels unlike the most frequent value."""
    return 1 - float(np.bincount(plane.ravel()).max()) / plane.size
