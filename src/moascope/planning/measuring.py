"""What this machine needs for a few sites of a screen: reading and preparing them, embedding."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.backbones import find_weights, open_backbone
from moascope.features.embed import plate_features
from moascope.features.table import PROFILES
from moascope.params import Params
from moascope.pixels.ahead import read_ahead
from moascope.pixels.prepare import prepare_in_memory
from moascope.screen.manifest import make_manifest
from moascope.screen.readings import FOLDER
from moascope.screen.tables import Screen
from moascope.validation.facts import plane_facts

COUNT, INTENSITY = "Count_", "Intensity_"
FEW, MANY = 6, 72
"""Sites of the first look, which says how many more the time allows, and the most of them."""
SECONDS = 20.0
"""For all measurements together; opening a backbone for the first time is not counted."""


@dataclass(frozen=True)
class Measured:
    """Costs on this machine, in processor seconds unless another unit is named.

    Attributes
    ----------
    sites, planes : int
        How many were measured.
    seconds : float
        How long that took by the clock.
    plane_bytes : float
        Bytes of a plane's file.
    rate : float
        Bytes a second by the clock at which one process reads files and sums them up.
    read_site, read_plate : float
        Of a site, and of a plate however few sites it has: acquire reads its files, and checks and
        prepares what it reads for the stages that follow.
    embed_site : float
    crop_bytes : float
        On disk, of a site.
    features : int
        With counts and intensities.
    channels, height, width : int
        Of a site, and of a plane.
    """

    sites: int
    planes: int
    seconds: float
    plane_bytes: float
    rate: float
    read_site: float
    read_plate: float
    embed_site: float
    crop_bytes: float
    features: int
    channels: int
    height: int
    width: int


def measure(screen: Screen, params: Params) -> Measured:
    """Run the first stages on sites of the screen's fullest plate, in this process.

    Parameters
    ----------
    screen : Screen
        With images.
    params : Params
        `prepare` and `embed` are read.

    Raises
    ------
    MoascopeError
        Where none of the sampled sites can be read.
    """
    begun = time.perf_counter()
    few = _sample(screen, FEW)
    with _timed() as first:
        _read(few, params)
    # Once more, now that nothing is done for the first time.
    with _timed() as short:
        _read(few, params)
    each = short.clock / len(few.sites)
    # All passes over a site together take two or three times as long as this one.
    room = (SECONDS - first.clock) / (4 * each)
    sample = _sample(screen, int(np.clip(room, 2 * FEW, MANY)))
    count = len(sample.sites)
    remote = any(name.str.contains("://", regex=False).any() for _, name in
                 sample.sites.filter(like="FileName_").items())
    with _timed() as summed:
        # What is behind addresses is waited for, and not worked on.
        manifest = make_manifest(sample, jobs=None if remote else 1)
    with tempfile.TemporaryDirectory(prefix="moascope-") as folder:
        with _timed() as long:
            read_ahead(sample, params.prepare, Path(folder) / "acquire", jobs=1)
        facts = plane_facts(sample, manifest, 1, Path(folder) / FOLDER)
        sites, channels, crops = _prepare(sample, params, Path(folder))
        embedding, features, opening = 0.0, 0, 0.0
        for name in params.embed.backbones:
            if name == PROFILES:
                features += len(screen.profiles.features) if screen.profiles else 0
                continue
            with _timed() as opened:
                backbone = open_backbone(name, find_weights(name, params.embed),
                                         params.embed.precision, params.embed.turns,
                                         crops.shape[-1])
                kept, *_ = plate_features(sites.iloc[:1], channels, crops[:1], backbone)
            opening += opened.clock
            with _timed() as embedded:
                _, vectors, _ = plate_features(sites, channels, crops, backbone)
            embedding += embedded.processor / len(sites)
            features += vectors.shape[1]
        features += int(kept.columns.str.startswith((COUNT, INTENSITY)).sum())
        crop_bytes = crops.nbytes / len(sites)
    site = max(0.0, (long.processor - short.processor) / (count - len(few.sites)))
    readable = facts[facts["Readable"]]
    total = int(manifest["Bytes"].sum())
    return Measured(
        sites=count, planes=len(facts), seconds=time.perf_counter() - begun - opening,
        plane_bytes=total / len(facts), rate=total / max(summed.clock, 1e-9),
        read_site=site, read_plate=max(0.0, short.processor - len(few.sites) * site),
        embed_site=embedding, crop_bytes=crop_bytes, features=features,
        channels=len(channels), height=int(readable["Height"].median()),
        width=int(readable["Width"].median()))


def _sample(screen: Screen, count: int) -> Screen:
    """Sites at even distances on the plate that has the most."""
    plate = screen.sites["Metadata_Plate"].value_counts().index[0]
    sites = screen.sites[screen.sites["Metadata_Plate"] == plate]
    chosen = np.unique(np.linspace(0, len(sites) - 1, count).round().astype(int))
    return dataclasses.replace(
        screen, sites=sites.iloc[chosen].reset_index(drop=True),
        layout=screen.layout[screen.layout["Metadata_Plate"] == plate])


def _read(screen: Screen, params: Params) -> None:
    """What acquire does with files that it has to read."""
    with tempfile.TemporaryDirectory(prefix="moascope-") as folder:
        read_ahead(screen, params.prepare, Path(folder) / "acquire", jobs=1)


def _prepare(screen: Screen, params: Params,
             folder: Path) -> tuple[pd.DataFrame, list[str], np.ndarray]:
    sites, channels, crops, left_out = next(prepare_in_memory(screen, folder, params.prepare))
    if not len(sites):
        raise MoascopeError(["None of the sampled sites can be read.", *left_out])
    return sites, channels, crops


@dataclass
class _Time:
    clock: float = 0.0
    processor: float = 0.0


@contextlib.contextmanager
def _timed() -> Iterator[_Time]:
    spent = _Time()
    clock, processor = time.perf_counter(), time.process_time()
    yield spent
    spent.clock = time.perf_counter() - clock
    spent.processor = time.process_time() - processor
