"""The plates of a screen, each with its own rows of the tables, and the key of what it gives."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from moascope.params import Prepare
from moascope.work.digests import digest
from moascope.work.ray import RAY

if TYPE_CHECKING:
    from moascope.screen.tables import Screen

_SITES, _LAYOUT = "sites.parquet", "layout.parquet"


def divide(screen: Screen, tables: Path) -> Iterator[tuple[str, Screen]]:
    """Write the rows of each plate into a folder, for `plate_in`.

    A worker gets those, and not the tables of the whole screen.

    Yields
    ------
    tuple of str and Screen
        A plate and its rows, in the order of their names.
    """
    wells = dict(tuple(screen.layout.groupby("Metadata_Plate", sort=False)))
    for plate, sites in screen.sites.groupby("Metadata_Plate", sort=True):
        layout = wells.get(plate, screen.layout.iloc[:0])
        (tables / str(plate)).mkdir()
        sites.to_parquet(tables / str(plate) / _SITES)
        layout.to_parquet(tables / str(plate) / _LAYOUT)
        yield str(plate), dataclasses.replace(screen, sites=sites, layout=layout)


def plate_in(tables: Path, channels: tuple[str, ...], images: Path, plate: str) -> Screen:
    """Read the rows of one plate that `divide` wrote."""
    from moascope.screen.tables import Screen

    layout = pd.read_parquet(tables / plate / _LAYOUT)
    sites = pd.read_parquet(tables / plate / _SITES)
    return Screen(sites, layout, layout.iloc[:0], channels, images)


def plate_key(plate: Screen, settings: Prepare, code: str, digests: Mapping[str, str]) -> str:
    """A digest of all that a prepared plate depends on.

    Parameters
    ----------
    plate : Screen
        Rows of the plate: only the sites that are to be prepared.
    settings : Prepare
    code : str
        Digest of the code that prepares.
    digests : mapping of str to str
        Checksum of each image by its file name. A file without one is identified by its size and
        modification time.
    """
    files = sorted(set(plate.sites[[f"FileName_{channel}" for channel in plate.channels]]
                       .to_numpy().ravel()) - {""})
    layout = plate.layout
    controls = layout.loc[layout["Metadata_Control"] == "negative", "Metadata_Well"]
    return digest(plate.sites, sorted(controls), list(plate.channels), settings, code,
                  [[name, digests.get(name) or _stamp(plate.images, name)] for name in files])


def threads_for(plates: int, jobs: int) -> int:
    """Sites at a time in each process: as many processors as plates leave to each, and one more.

    It works while another waits for the disk. A task of Ray has one processor.
    """
    return (1 if os.environ.get(RAY) else max(jobs // max(plates, 1), 1)) + 1


def _stamp(images: Path, name: str) -> list[int]:
    try:
        status = (images / name).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
