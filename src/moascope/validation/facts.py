"""Facts about every image plane, and the sites that they put into quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.columns import SITE
from moascope.screen.frames import image_sum, read_frames
from moascope.screen.limits import PlaneError
from moascope.screen.manifest import checksums
from moascope.screen.planes import open_plane
from moascope.screen.tables import Screen
from moascope.screen.unread import COLUMNS, NONE_UNREAD, planes_held
from moascope.work.processes import ended_worker, run_parallel

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Bit depths of cameras in use; 10 to 14 are stored in 16-bit files."""

REASONS = {
    "missing": "missing",
    "empty": "empty file",
    "truncated": "truncated",
    "unreadable": "unreadable",
    "frame": "no such frame in the file",
    "large": "too many pixels",
    "depth": "neither 8-bit nor 16-bit integers",
    "changed": "changed since acquire",
    "size": "other size than the plate's",
    "bits": "other bit depth than the plate's",
    "blank": "blank in every channel",
}
"""Why a site is quarantined, in the order in which reasons are listed."""

_SITES_A_TASK = 64
_EXPECTED = "Expected_"


def plane_facts(screen: Screen, manifest: pd.DataFrame, jobs: int) -> pd.DataFrame:
    """Decode every plane of a screen once and describe it.

    Parameters
    ----------
    screen : Screen
    manifest : DataFrame
        `FileName` and `SHA256` of the files at the time of acquire.
    jobs : int
        Number of processes.

    Returns
    -------
    DataFrame
        One row per plane, sorted by plate, well, site and channel: `Metadata_Plate`,
        `Metadata_Well`, `Metadata_Site`, `Channel`, `FileName`, `Frame`; `Readable` (bool),
        `Error` (a sentence or empty), `Height`, `Width` (int, 0 where unreadable), `DType` (str),
        `Min`, `Max`, `Mean` (float, NaN where unreadable), `AtMax` (share of pixels at the plane's
        largest value), `BitDepth` (int, of plate and channel), `Saturated` (share of pixels at the
        top code of that depth), `Blank` (bool, all pixels alike), `Problem` (a key of `REASONS` or
        empty); `Held`, `Colour`, `Signal` (int, as `planes_held` gives them).
    """
    # Tables instead of a dictionary per plane: a screen has millions of planes.
    sites = screen.sites[[*SITE, *(f"{what}_{channel}" for channel in screen.channels
                                   for what in ("FileName", "Frame"))]]
    sums = {f"{_EXPECTED}{channel}": checksums(manifest, sites[f"FileName_{channel}"])
            for channel in screen.channels}
    sites = sites.assign(**sums)
    if not screen.channels:
        return _no_planes()
    tasks = {str(start): (screen.images, screen.channels, sites.iloc[start:start + _SITES_A_TASK])
             for start in range(0, len(sites), _SITES_A_TASK)}
    facts: list[pd.DataFrame] = []
    for _, outcome in run_parallel(_facts_of_sites, tasks, jobs, "reading planes"):
        if isinstance(outcome, BrokenProcessPool):
            raise MoascopeError(ended_worker(
                "validate", len(facts) * _SITES_A_TASK, len(sites), "site", kept=False)) from None
        if isinstance(outcome, BaseException):
            raise outcome
        facts.append(outcome)
    planes = pd.concat(facts, ignore_index=True).astype(
        {"DType": "str", "Error": "str", "Problem": "str", "Channel": "str"})
    planes = planes.fillna(NONE_UNREAD).astype(dict.fromkeys(COLUMNS, "int64"))
    planes = planes.sort_values([*SITE, "Channel"], ignore_index=True, kind="stable")
    _add_saturation(planes)
    _compare_with_plate(planes)
    return planes


def _no_planes() -> pd.DataFrame:
    """What `plane_facts` gives for a screen without images."""
    none = {**dict.fromkeys([*SITE[:2], "Channel", "FileName", "Error", "DType", "Problem"], "str"),
            **dict.fromkeys([SITE[2], "Frame", "Height", "Width", "BitDepth", *COLUMNS], "int64"),
            **dict.fromkeys(["Min", "Max", "Mean", "AtMax", "Saturated"], "float64"),
            **dict.fromkeys(["Readable", "Blank"], "bool")}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in none.items()})


def quarantined_sites(planes: pd.DataFrame) -> pd.DataFrame:
    """The sites that no later stage may use.

    Parameters
    ----------
    planes : DataFrame
        As `plane_facts` gives it.

    Returns
    -------
    DataFrame
        One row per site: `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` and `reason`, such as
        "truncated (DNA); missing (Actin)".
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    bad = planes[planes["Problem"] != ""]
    for kind in REASONS:
        of_kind = bad[bad["Problem"] == kind]
        for site, channels in of_kind.groupby(SITE, sort=True)["Channel"]:
            found.setdefault(site, []).append(f"{REASONS[kind]} ({', '.join(channels)})")
    all_blank = planes.groupby(SITE, sort=True)["Blank"].all()
    for site in all_blank.index[all_blank]:
        found.setdefault(site, []).append(REASONS["blank"])
    table = pd.DataFrame([(*site, "; ".join(reasons)) for site, reasons in sorted(found.items())],
                         columns=[*SITE, "reason"])
    return table.astype({"Metadata_Plate": "str", "Metadata_Well": "str", "Metadata_Site": "int64",
                         "reason": "str"})


def count_reasons(planes: pd.DataFrame, quarantine: pd.DataFrame) -> dict[str, int]:
    """How many sites are quarantined for each reason; a site with two reasons counts in both."""
    counts = {}
    for kind, reason in REASONS.items():
        if kind == "blank":
            sites = int(quarantine["reason"].str.contains(reason, regex=False).sum())
        else:
            sites = len(planes.loc[planes["Problem"] == kind, SITE].drop_duplicates())
        if sites:
            counts[reason] = sites
    return counts


def _facts_of_sites(images: Path, channels: Sequence[str], sites: pd.DataFrame) -> pd.DataFrame:
    facts = []
    for row in sites.to_dict("records"):
        files: dict[str, list[str]] = {}
        for channel in channels:
            if row[f"FileName_{channel}"]:
                files.setdefault(row[f"FileName_{channel}"], []).append(channel)
        for name, of_file in files.items():
            frames = [int(row[f"Frame_{channel}"]) for channel in of_file]
            expected = row[f"{_EXPECTED}{of_file[0]}"]
            described = _facts_of_file(images, name, frames,
                                       expected if isinstance(expected, str) else None)
            for channel, frame in zip(of_file, frames, strict=True):
                facts.append({**{column: row[column] for column in SITE}, "Channel": channel,
                              "FileName": name, "Frame": frame, **described[frame]})
    return pd.DataFrame(facts)


def _facts_of_file(images: Path, name: str, frames: Sequence[int],
                   expected: str | None) -> dict[int, dict[str, Any]]:
    try:
        with open_plane(images, name) as file:
            _, total = image_sum(file)
            changed = expected is not None and total != expected
            held = NONE_UNREAD
            try:
                planes = read_frames(file, name, frames)
                held = planes_held(file, name, frames)
            except PlaneError:
                if len(set(frames)) == 1:
                    raise
                # One wrong frame number must not quarantine the other channels of the file.
                return {frame: _facts_of_frame(file, name, frame, changed) for frame in frames}
            return {frame: _describe(planes[frame], name, changed) | held for frame in frames}
    except PlaneError as error:
        return dict.fromkeys(frames, _unreadable(error))


def _facts_of_frame(file: Any, name: str, frame: int, changed: bool) -> dict[str, Any]:
    try:
        return _describe(read_frames(file, name, [frame])[frame], name, changed)
    except PlaneError as error:
        return _unreadable(error)


def _describe(plane: np.ndarray, name: str, changed: bool) -> dict[str, Any]:
    low, high = int(plane.min()), int(plane.max())
    return {
        "Readable": True,
        "Error": f"{name} has changed since acquire." if changed else "",
        "Height": plane.shape[0], "Width": plane.shape[1], "DType": str(plane.dtype),
        "Min": float(low), "Max": float(high), "Mean": float(plane.mean(dtype=np.float64)),
        "AtMax": float(np.count_nonzero(plane == high) / plane.size),
        "Blank": low == high,
        "Problem": "changed" if changed else "",
    }


def _unreadable(error: PlaneError) -> dict[str, Any]:
    return {"Readable": False, "Error": error.problems[0], "Height": 0, "Width": 0, "DType": "",
            "Min": np.nan, "Max": np.nan, "Mean": np.nan, "AtMax": np.nan, "Blank": False,
            "Problem": error.kind}


def _add_saturation(planes: pd.DataFrame) -> None:
    tops = np.array([2**bits - 1 for bits in BIT_DEPTHS])
    largest = planes.groupby(["Metadata_Plate", "Channel"])["Max"].transform("max").fillna(0)
    depth = np.searchsorted(tops, largest.to_numpy())
    planes["BitDepth"] = np.array(BIT_DEPTHS)[depth]
    planes["Saturated"] = planes["AtMax"].where(planes["Max"] == tops[depth], 0.0)


def _compare_with_plate(planes: pd.DataFrame) -> None:
    sound = planes[planes["Problem"] == ""]
    size = list(zip(sound["Height"], sound["Width"], strict=True))
    usual_size = _usual(pd.Series(size, index=sound.index), sound["Metadata_Plate"])
    usual_type = _usual(sound["DType"], sound["Metadata_Plate"] + "\0" + sound["Channel"])
    other_size = sound.index[[a != b for a, b in zip(size, usual_size, strict=True)]]
    other_type = sound.index[(sound["DType"] != usual_type).to_numpy()]
    planes.loc[other_type, "Problem"] = "bits"
    planes.loc[other_size, "Problem"] = "size"
    for index in [*other_size, *other_type.difference(other_size)]:
        row = planes.loc[index]
        here = (f"{row['Width']}x{row['Height']} pixels" if row["Problem"] == "size"
                else row["DType"])
        planes.loc[index, "Error"] = (f"{row['FileName']} has {here}, unlike most of plate "
                                      f"{row['Metadata_Plate']}.")


def _usual(values: pd.Series, groups: pd.Series) -> pd.Series:
    """The most common value of each group, for each member; the last in sort order of a tie."""
    usual = {}
    for group, members in values.groupby(groups):
        counts = members.value_counts()
        usual[group] = max(counts.index[counts == counts.max()])
    return groups.map(usual)


def without_quarantined(screen: Screen, quarantine: Path) -> Screen:
    """The screen without the sites that validate put into quarantine.

    Raises
    ------
    MoascopeError
        Where nothing is left.
    """
    named = pd.read_csv(quarantine, dtype={column: str for column in SITE[:2]},
                        keep_default_na=False)
    bad = pd.MultiIndex.from_frame(named[SITE])
    sites = screen.sites[~pd.MultiIndex.from_frame(screen.sites[SITE]).isin(bad)]
    if sites.empty:
        raise MoascopeError(f"All sites are in quarantine; {quarantine} says why.")
    return replace(screen, sites=sites.reset_index(drop=True))
