"""Colour images and files of several planes: which plane of a file is a channel's picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.screen.frames import open_image
from moascope.screen.limits import PlaneError
from moascope.screen.unread import SAMPLES, planes_held, unread_planes
from moascope.text import counted

_LOOKED_AT = 8
"""Files of a channel that are opened."""


def choose_samples(root: Path, sites: pd.DataFrame,
                   channels: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
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
        A sentence for each channel in colour, and for each whose files hold planes that are not
        read, judged by a few files.
    """
    notes: list[str] = []
    facts = []
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
                with open_image(root / file, file) as opened:
                    found = planes_held(root / file, opened, file, shared[file])
            except PlaneError:
                # validate says which images cannot be read.
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
    return sites, notes + (unread_planes(pd.DataFrame(facts)) if facts else [])
