"""From what was measured on a few sites to what each stage costs on the whole screen."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moascope.errors import MoascopeError
from moascope.features.disk import MOST_IN_MEMORY
from moascope.params import Params
from moascope.pixels.sites import SAMPLED_PIXELS
from moascope.planning.measuring import Measured
from moascope.screen.manifest import MANIFEST, read_manifest
from moascope.screen.tables import Screen

MIB = float(2**20)


class Start(NamedTuple):
    """What a stage costs on a screen of no size, and what each further site adds to its tables."""

    processor: float  # s
    site: float       # s
    memory: float     # MiB


# What `python benchmarks/planning.py --known` measured on screens of 96 and, up to activity, 192
# compounds; how it grows, from benchmarks/growth.csv and the study in benchmarks/README.md.
STARTS = {
    "acquire": Start(2.0, 0.0, 250), "validate": Start(10.1, 0.0, 385),
    "prepare": Start(3.0, 0.0, 160), "embed": Start(1.5, 0.0, 180),
    "split": Start(3.2, 3e-4, 230), "activity": Start(4.2, 1.7e-3, 240),
    "tune": Start(11.0, 0.0, 1095), "train": Start(11.0, 0.0, 990),
    "evaluate": Start(15.0, 0.0, 1065), "report": Start(16.0, 0.0, 435),
    "register": Start(4.0, 0.0, 218),
}
# Of a trial; and of each million of features (sites times features) in each pair of folds.
TRIAL, TRIAL_PAIR_MILLION = 0.9, 0.05
TRAIN_PAIR, TRAIN_MILLION, TRAIN_PAIR_MILLION = 0.07, 0.8, 0.03
REFIT, REFIT_MILLION, EVALUATE_MILLION, RESAMPLES = 1.0, 0.5, 0.9, 2.0
SPEED = 0.0236
"""Seconds that the work of `processor_speed` takes on the machine of these numbers."""

# Copies of all features that a stage holds at its peak, at 4 bytes a value.
COPIES = {"activity": 4, "tune": 9, "train": 6, "evaluate": 8, "report": 1}
_SITE_TABLES = 2.7 * 1024   # bytes of memory, as docs/scale.md has them
_PLANE_FACTS = 1.05 * 1024
_ON_DISK = 200              # bytes of a plane's name, checksum and place
_FACTS_ON_DISK = 20
_COLUMN_ON_DISK = 700       # bytes of a column's description in each plate's Parquet file
_PREDICTIONS = 1500         # bytes of a site's predictions, at all levels
_MODEL = 1e6
_ALIKE = ("acquire", "embed")  # plates are divided among cores


@dataclass(frozen=True)
class Size:
    """How large a screen is; `stated` is whether the bytes are those of its manifest."""

    plates: int
    wells: int
    sites: int
    planes: int
    compounds: int
    bytes: int
    stated: bool


@dataclass(frozen=True)
class Cost:
    """What a stage costs.

    Attributes
    ----------
    stage : str
    processor, clock : float
        Seconds of all processors together, and by the clock.
    memory, disk : float
        Bytes: the peak of all processes together, and what the stage leaves.
    measured : bool
        Whether it rests on a measurement of this screen on this machine.
    """

    stage: str
    processor: float
    clock: float
    memory: float
    disk: float
    measured: bool


def size_of(screen: Screen, folder: Path, plane_bytes: float) -> Size:
    """Count a screen; without a manifest its bytes are those of the sample, times its planes."""
    planes = sum(int((screen.sites[f"FileName_{channel}"] != "").sum())
                 for channel in screen.channels)
    stated = (folder / MANIFEST).is_file()
    total = int(read_manifest(folder)["Bytes"].sum()) if stated else round(plane_bytes * planes)
    treated = screen.layout[screen.layout["Metadata_Control"] != "negative"]["Metadata_Compound"]
    return Size(screen.sites["Metadata_Plate"].nunique(),
                len(screen.sites[["Metadata_Plate", "Metadata_Well"]].drop_duplicates()),
                len(screen.sites), planes, treated[treated != ""].nunique(), total, stated)


def processor_speed() -> float:
    """How fast a core is, next to that of the machine on which the known costs were measured."""
    def once() -> float:
        start = time.process_time()
        # No routine that is many times as fast on one kind of processor as on another: with a sort
        # of NumPy's in it, a machine as fast as the other passed for half as fast.
        sum(number * number for number in range(500_000))
        return time.process_time() - start

    return SPEED / min(once() for _ in range(5))


def costs_of(size: Size, measured: Measured, params: Params, jobs: int,
             speed: float) -> list[Cost]:
    """The cost of every stage up to the report.

    Parameters
    ----------
    size : Size
    measured : Measured
    params : Params
    jobs : int
        Processes.
    speed : float
        From `processor_speed`.

    Raises
    ------
    MoascopeError
        Where the model is fine-tuned, which is not planned.

    Notes
    -----
    Acquire and embed: the sample's cost of a site, times their number, and the start of the stage.
    Validate and prepare: their start. The other stages: what they took on simulated screens, by the
    number of sites, features, folds and trials.
    """
    if params.train.fine_tune:
        raise MoascopeError("train.fine_tune is set, and what fine-tuning costs is not planned. "
                            "Plan without it; docs/finetune.md has measured times.")
    # Validate and prepare take what acquire leaves of the files that it reads.
    images = {"acquire": size.sites * measured.read_site + size.plates * measured.read_plate,
              "embed": size.sites * measured.embed_site}
    heads = _heads(size, measured, params)
    reading = size.bytes / measured.rate / jobs
    memory, disk = _memory(size, measured, jobs), _disk(size, measured)
    found = []
    for stage, start in STARTS.items():
        begin = (start.processor + start.site * size.sites) / speed
        work = images.get(stage, 0.0) + heads.get(stage, 0.0) / speed
        clock = begin + work
        if stage in _ALIKE:
            clock = begin + max(work / jobs, reading if stage == "acquire" else 0.0)
        found.append(Cost(stage, begin + work, clock, memory[stage], disk.get(stage, 0.0),
                          stage in images))
    return found


def _heads(size: Size, measured: Measured, params: Params) -> dict[str, float]:
    """Processor seconds of the stages that train heads, on the machine of the known costs."""
    folds, repeats = params.split.folds, params.split.repeats
    pairs = folds * (folds - 1) / 2 * repeats
    millions = size.sites * measured.features / 1e6
    thousands = (params.evaluate.bootstraps + params.evaluate.permutations) / 1000
    return {
        "tune": params.tune.trials * (TRIAL + TRIAL_PAIR_MILLION * millions * pairs),
        "train": TRAIN_PAIR * pairs + (TRAIN_MILLION + TRAIN_PAIR_MILLION * pairs) * millions,
        "evaluate": (params.evaluate.refits * (REFIT + REFIT_MILLION * millions)
                     + EVALUATE_MILLION * millions + RESAMPLES * thousands)}


def _memory(size: Size, measured: Measured, jobs: int) -> dict[str, float]:
    features = 4.0 * measured.features * size.sites
    # Of each site of a plate: crops as they were, a sample of each plane, and while a channel is
    # measured its sample three times as floats; of two sites, planes as floats.
    pixels = measured.height * measured.width
    step = max(math.ceil(math.sqrt(pixels / SAMPLED_PIXELS)), 1)
    site = (2 * measured.crop_bytes
            + (2 * measured.channels + 12) * pixels / step**2)
    plates = min(jobs, size.plates) * (size.sites / size.plates * site + 2 * 16 * pixels)
    crops = 2 * measured.crop_bytes * size.sites / size.plates
    grown = {"acquire": _SITE_TABLES * size.sites + plates,
             "validate": _PLANE_FACTS * size.planes,
             # Acquire leaves the plates ready.
             "prepare": crops, "embed": crops,
             "split": 7 * 1024.0 * size.sites,
             # Features beyond what memory is asked to hold lie on disk.
             **{stage: copies * min(features, MOST_IN_MEMORY)
                for stage, copies in COPIES.items()}}
    return {stage: start.memory * MIB + grown.get(stage, 0.0) for stage, start in STARTS.items()}


def _disk(size: Size, measured: Measured) -> dict[str, float]:
    return {
        "acquire": _ON_DISK * size.planes, "validate": _FACTS_ON_DISK * size.planes,
        "prepare": measured.crop_bytes * size.sites,
        "embed": measured.features * (4.0 * size.sites + _COLUMN_ON_DISK * size.plates),
        "train": _MODEL + _PREDICTIONS * size.sites, "evaluate": 200.0 * size.sites}
