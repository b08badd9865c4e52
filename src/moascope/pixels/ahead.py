"""Files that acquire has to read are read once: sums, facts and a prepared plate in one pass.

What this leaves decides no result: validate and prepare take it where it is what they would make
from the same files, and make it themselves where it is not there.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.addresses.cache import current_sum
from moascope.addresses.names import is_address
from moascope.addresses.stores import TooLarge
from moascope.errors import MoascopeError
from moascope.params import Prepare
from moascope.pixels.plates import divide, plate_in, plate_key, threads_for
from moascope.pixels.prepare import SCRATCH_FILE, channels_of, finish_plate, prepare_code
from moascope.pixels.quality import nucleus_channel
from moascope.pixels.sites import Seen, read_sites
from moascope.screen.columns import SITE
from moascope.screen.limits import PlaneError
from moascope.screen.planes import local_image
from moascope.screen.readings import FOLDER, OF_FILE, forget_readings, read_readings, stamps_of
from moascope.screen.remote_arrays import is_array_address
from moascope.screen.tables import Screen
from moascope.validation.facts import (
    assess,
    facts_code,
    file_facts,
    keep_readings,
    quarantined_sites,
)
from moascope.validation.files import FileRead, read_file_once
from moascope.work.plates import KEY_FILE, make_plates, take_plates
from moascope.work.processes import ended_worker

_FILES = ["FileName", *OF_FILE]
# To stores, for a plate and for all that are read at once on this machine: what they wait for is
# the network, and no processor.
_CONNECTIONS, _MOST_CONNECTIONS = 16, 64


def read_ahead(screen: Screen, settings: Prepare, acquired: Path, jobs: int) -> pd.DataFrame:
    """Read the files of all plates of which any is new or has changed.

    Leaves beside the acquired screen what reading them gave (`moascope.screen.readings`) and the
    prepared plates, which `take_ahead` then moves to where they belong.

    Parameters
    ----------
    screen : Screen
    settings : Prepare
    acquired : Path
        The folder that the screen will be in; the screen may lie elsewhere now.
    jobs : int
        Processes.

    Returns
    -------
    DataFrame
        `FileName`, `Bytes`, `SHA256` and `Stamp` of all files that are known now.

    Raises
    ------
    moascope.addresses.stores.Unavailable
        Where a store cannot be used.
    MoascopeError
        Where a process was ended from outside.
    """
    if not screen.channels:
        return pd.DataFrame({column: pd.Series(dtype="str") for column in _FILES})
    folder = acquired.with_name(FOLDER)
    code = facts_code()
    names = screen.sites["Metadata_Plate"].unique()
    forget_readings(folder, code, names)
    ahead = folder / "plates"
    ahead.mkdir(exist_ok=True)
    for entry in ahead.iterdir():
        if entry.name not in names:
            shutil.rmtree(entry)
    with tempfile.TemporaryDirectory(prefix="moascope-") as tables:
        known, due = [], []
        for name, plate in divide(screen, Path(tables)):
            files = _known_files(plate, read_readings(folder, code, name))
            if files is None:
                due.append(name)
            else:
                known.append(files)
        threads = threads_for(len(due), jobs)
        at_once = max(min(jobs, len(due)), 1)
        connections = max(min(_CONNECTIONS, _MOST_CONNECTIONS // at_once), threads)
        work = functools.partial(_read_plate, screen.channels, screen.images, settings,
                                 prepare_code(), threads, connections)
        for done, (_, outcome) in enumerate(make_plates(
                ahead, dict.fromkeys(due), work, jobs, "reading plates", (Path(tables),),
                local_image(screen))):
            if isinstance(outcome, BrokenProcessPool):
                raise MoascopeError(ended_worker("acquire", done, len(due), "plate",
                                                 kept=True)) from None
            if isinstance(outcome, BaseException):
                raise outcome
            # After the plate: of one that was not finished nothing is known, and it is read again.
            keep_readings(outcome, folder)
            known.append(outcome[_FILES].drop_duplicates("FileName"))
    files = pd.concat(known, ignore_index=True)
    return files[files["SHA256"] != ""].drop_duplicates("FileName", ignore_index=True)


def take_ahead(acquired: Path, out: Path, keys: Mapping[str, str]) -> int:
    """Move plates that were prepared while acquire read their files to where they belong.

    Parameters
    ----------
    acquired : Path
        Where the screen is.
    out : Path
        The prepared plates.
    keys : mapping of str to str
        As `moascope.work.plates.update_plates` takes them: a plate with another key is not taken.

    Returns
    -------
    int
        How many plates were moved.
    """
    return take_plates(acquired.with_name(FOLDER) / "plates", out, keys)


def _known_files(plate: Screen, readings: pd.DataFrame) -> pd.DataFrame | None:
    """What is known of the files of a plate, if none of those that are there has to be read."""
    if readings.empty:
        return None
    known = readings[_FILES].drop_duplicates("FileName")
    stamps = dict(zip(known["FileName"], known["Stamp"], strict=True))
    columns = [f"FileName_{channel}" for channel in plate.channels]
    names = sorted(set(plate.sites[columns].to_numpy().ravel()) - {""})
    now = stamps_of(plate.images, names)
    if any(stamp and stamps.get(name) != stamp for name, stamp in zip(names, now, strict=True)):
        return None
    there = [name for name, stamp in zip(names, now, strict=True) if stamp]
    return known[known["FileName"].isin(there)]


def _read_plate(channels: tuple[str, ...], images: Path, settings: Prepare, code: str,
                threads: int, connections: int, plate: str, folder: Path,
                tables: Path) -> pd.DataFrame:
    """Read all files of a plate, prepare it if nothing speaks against it; facts of its planes."""
    screen = plate_in(tables, channels, images, plate)
    if any(screen.sites[f"FileName_{channel}"].map(is_address).any() for channel in channels):
        threads = connections
    reader = _Reader()
    of_plate = channels_of(screen)
    seen, _ = read_sites(screen, of_plate, nucleus_channel(of_plate, settings.nuclei),
                         folder / SCRATCH_FILE, settings, threads, read=reader.planes)
    planes = pd.DataFrame(reader.facts)
    _prepare(screen, seen, planes, settings, code, folder)
    return planes


def _prepare(screen: Screen, seen: Seen, planes: pd.DataFrame, settings: Prepare, code: str,
             out: Path) -> None:
    """Finish a plate, and write its key, if it holds just the sites that validate will let pass."""
    quarantine = quarantined_sites(assess(planes.drop(columns=OF_FILE)))
    passes = ~pd.MultiIndex.from_frame(screen.sites[SITE]).isin(
        pd.MultiIndex.from_frame(quarantine[SITE]))
    usable = replace(screen, sites=screen.sites[passes].reset_index(drop=True))
    if (not seen.rows or seen.rows != np.flatnonzero(passes).tolist()
            or channels_of(usable) != channels_of(screen)):
        return
    finish_plate(usable, replace(seen, rows=list(range(len(seen.rows)))), out, settings)
    key = plate_key(usable, settings, code, dict(zip(planes["FileName"], planes["SHA256"],
                                                     strict=True)))
    (out / KEY_FILE).write_text(key + "\n")


class _Reader:
    """Reads sites for `read_sites`, and notes what it learns about their files."""

    def __init__(self) -> None:
        self.facts: list[dict[str, Any]] = []
        self._summed: dict[str, FileRead] = {}

    def planes(self, screen: Screen, row: Mapping[str, Any],
               channels: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """As `moascope.screen.planes.each_plane`; reads on after a plane that cannot be used."""
        files: dict[str, dict[str, int]] = {}
        for channel in channels:
            files.setdefault(row[f"FileName_{channel}"], {})[channel] = int(
                row[f"Frame_{channel}"])
        problem: PlaneError | None = None
        facts, shapes = [], set()
        for name, frames in files.items():
            read = self._read(screen.images, name, list(frames.values()))
            facts += file_facts(row, name, frames, read)
            problem = problem or read.problem
            for channel, frame in frames.items():
                if frame in read.planes:
                    shapes.add(read.planes[frame].shape)
                    yield channel, read.planes[frame]
            del read
        self.facts += facts
        if problem is None and all(plane["Blank"] for plane in facts):
            problem = PlaneError("blank")
        if problem is None and len(shapes) > 1:
            problem = PlaneError("size", "size")
        # Whoever reads this: validate says what is wrong with the site.
        if problem is not None:
            raise problem

    def _read(self, images: Path, name: str, frames: Sequence[int]) -> FileRead:
        gone = False
        # Whoever opens an array asks for its version.
        if is_address(name) and not is_array_address(name) and name not in self._summed:
            try:
                # Asks the store for the version that it has now.
                current_sum(name)
            except (FileNotFoundError, TooLarge):
                gone = True
        read = read_file_once(images, name, frames, self._summed.get(name))
        if gone:
            # There may still be a copy.
            read = read._replace(bytes=0, sha256="", stamp="")
        self._summed[name] = read._replace(facts={}, planes={})
        return read
