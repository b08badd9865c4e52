"""Colour images and files of several planes: which plane of a file is a channel's picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.screen.frames import read_frames
from moascope.screen.limits import PlaneError
from moascope.screen.planes import open_plane
from moascope.screen.unread import (
    SAMPLES,
    planes_held,
    says_low_is_white,
    unread_planes,
)
from moascope.text import counted

_LOOKED_AT = 8
"""Files of a channel that are opened."""


def choose_samples(root: Path, sites: pd.DataFrame,
                   channels: Sequence[str]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Read each channel from the colour sample that holds its picture, where that can be told.

    Parameters
    ----------
    root : Path
        The folder that file names start from.
    sites : DataFrame
        The columns of load_data.csv.
    channels : sequence of str

    Returns
    -------
    DataFrame
        `sites`, with `Frame_<Channel>` where another sample than red is taken.
    list of str
        A sentence for each channel of which another sample is taken.
    list of str
        A sentence for each channel of whose few files looked at some cannot be read, or hold planes
        that are not read.
    """
    notes: list[str] = []
    facts = []
    unread: dict[str, list[str]] = {}
    inverted: dict[str, str] = {}
    for channel in channels:
        named = sites[sites[f"FileName_{channel}"] != ""]
        files = named[f"FileName_{channel}"]
        frames = (named[f"Frame_{channel}"] if f"Frame_{channel}" in named
                  else pd.Series(0, index=named.index))
        some = np.unique(np.linspace(0, len(files) - 1, _LOOKED_AT).astype(int))
        # A file of several channels or sites: its other planes are read there.
        shared = {file: set() for file in files.iloc[some]}
        for other in channels:
            column = sites[f"FileName_{other}"]
            for index in sites.index[column.isin(shared)]:
                shared[column[index]].add(int(sites[f"Frame_{other}"][index])
                                          if f"Frame_{other}" in sites else 0)
        held = []
        for file, frame in zip(files.iloc[some], frames.iloc[some], strict=True):
            try:
                with open_plane(root, file, [int(frame)]) as opened:
                    read_frames(opened, file, [int(frame)])
                    found = planes_held(opened, file, shared[file])
                    if says_low_is_white(opened):
                        inverted.setdefault(channel, file)
            except PlaneError as error:
                # validate says of every image whether it can be read.
                unread.setdefault(channel, []).append(error.problems[0])
                continue
            held.append({"Channel": channel, "FileName": file, "Frame": int(frame), **found})
        signals = {fact["Signal"] for fact in held}
        if len(signals) == 1 and -1 not in signals:
            signal = signals.pop()
            sites[f"Frame_{channel}"] = np.where(sites[f"FileName_{channel}"] != "", signal, 0)
            notes.append(f"Channel {channel} is in colour images; {SAMPLES[signal]}, the only "
                         f"sample with a picture in {counted(len(held), 'file')} looked at, is "
                         f"read (Frame_{channel} = {signal}).")
        else:
            facts += held
    left = [f"Channel {channel}: {counted(len(said), 'image')} of a few looked at cannot be read. "
            f"{said[0]}" for channel, said in unread.items()]
    left += [f"Channel {channel}: {file} says that its lowest value is white (WhiteIsZero). Its "
             "values are read as they are stored; if cells are dark in it, invert it first."
             for channel, file in inverted.items()]
    return sites, notes, left + (unread_planes(pd.DataFrame(facts)) if facts else [])
