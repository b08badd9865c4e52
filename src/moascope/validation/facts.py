"""Facts about every image plane, and the sites that they put into quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.columns import SITE
from moascope.screen.manifest import checksums
from moascope.screen.planes import local_image
from moascope.screen.readings import (
    OF_FILE,
    PLANE,
    read_readings,
    stamps_of,
    write_readings,
)
from moascope.screen.tables import Screen
from moascope.screen.unread import COLUMNS
from moascope.validation.files import FileRead, read_file_once
from moascope.work.code import code_digest
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
_SUM = "Expected_"
_FILE = [*SITE, "FileName"]


def plane_facts(screen: Screen, manifest: pd.DataFrame, jobs: int,
                readings: Path | None = None) -> pd.DataFrame:
    """Describe every plane of a screen; what is not known from an earlier reading is decoded once.

    Parameters
    ----------
    screen : Screen
    manifest : DataFrame
        `FileName` and `SHA256` of the files at the time of acquire.
    jobs : int
        Number of processes.
    readings : Path, optional
        Where readings are kept (`moascope.screen.readings`): files that have not changed since
        theirs are not opened.

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
    if not screen.channels:
        return _no_planes()
    # Tables instead of a dictionary per plane: a screen has millions of planes.
    sites = screen.sites[[*SITE, *(f"{what}_{channel}" for channel in screen.channels
                                   for what in ("FileName", "Frame"))]]
    sums = {f"{_SUM}{channel}": checksums(manifest, sites[f"FileName_{channel}"])
            for channel in screen.channels}
    known: list[pd.DataFrame] = []
    if readings is not None:
        known, sites = _known(screen, sites.assign(**sums), readings)
    tasks = {str(start): (screen.images, screen.channels, sites.iloc[start:start + _SITES_A_TASK])
             for start in range(0, len(sites), _SITES_A_TASK)}
    facts: list[pd.DataFrame] = []
    for _, outcome in run_parallel(_facts_of_sites, tasks, jobs, "reading planes",
                                   local_image(screen)):
        if isinstance(outcome, BrokenProcessPool):
            raise MoascopeError(ended_worker(
                "validate", len(facts) * _SITES_A_TASK, len(sites), "site", kept=False)) from None
        if isinstance(outcome, BaseException):
            raise outcome
        facts.append(outcome)
    planes = pd.concat([*known, *facts], ignore_index=True)
    if readings is not None and facts:
        plates = pd.concat(facts)["Metadata_Plate"].unique()
        keep_readings(planes[planes["Metadata_Plate"].isin(plates)], readings)
    _mark_changed(planes, checksums(manifest, planes["FileName"]))
    return assess(planes.drop(columns=OF_FILE))


def facts_code() -> str:
    """A digest of the code that decides the facts of a file."""
    return code_digest(read_file_once)


def keep_readings(planes: pd.DataFrame, folder: Path) -> None:
    """Keep the readings of whole plates, without those of files that may change unnoticed.

    Parameters
    ----------
    planes : DataFrame
        As `file_facts` gives its rows.
    folder : Path
    """
    code = facts_code()
    for plate, rows in planes.groupby("Metadata_Plate"):
        write_readings(folder, code, str(plate), rows[rows["Stamp"] != ""])


def assess(planes: pd.DataFrame) -> pd.DataFrame:
    """Compare planes with the others of their plates, once the facts of each are known.

    Parameters
    ----------
    planes : DataFrame
        Rows of `file_facts` of whole plates, without `OF_FILE`.

    Returns
    -------
    DataFrame
        As `plane_facts`.
    """
    planes = planes.astype({**dict.fromkeys(("DType", "Error", "Problem", "Channel"), "str"),
                            **dict.fromkeys(COLUMNS, "int64")})
    planes = planes.sort_values([*SITE, "Channel"], ignore_index=True, kind="stable")
    _add_saturation(planes)
    _compare_with_plate(planes)
    return planes


def file_facts(row: Mapping[str, Any], name: str, frames: Mapping[str, int],
               read: FileRead) -> list[dict[str, Any]]:
    """One row for each channel that a site has in a file: `PLANE`, facts, and `OF_FILE`.

    Parameters
    ----------
    row : mapping
        Of the site.
    name : str
    frames : mapping of str to int
        By channel.
    read : FileRead
    """
    return [{**{column: row[column] for column in SITE}, "Channel": channel, "FileName": name,
             "Frame": frame, **read.facts[frame], "Bytes": read.bytes, "SHA256": read.sha256,
             "Stamp": read.stamp} for channel, frame in frames.items()]


def _known(screen: Screen, sites: pd.DataFrame,
           folder: Path) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Readings of files that have not changed, and the sites of others, which alone they name."""
    code = facts_code()
    known = []
    names = {channel: sites[f"FileName_{channel}"].copy() for channel in screen.channels}
    for plate, at in sites.groupby("Metadata_Plate").indices.items():
        kept = read_readings(folder, code, str(plate))
        if kept.empty:
            continue
        rows = sites.iloc[at]
        wanted = pd.concat([
            rows[SITE].assign(Channel=channel, FileName=rows[f"FileName_{channel}"],
                              Frame=rows[f"Frame_{channel}"], SHA256=rows[f"{_SUM}{channel}"])
            for channel in screen.channels])
        found = kept.merge(wanted[wanted["FileName"] != ""], on=[*PLANE, "SHA256"])
        found = found[_unchanged(screen.images, found)]
        counts = [pd.MultiIndex.from_frame(table[_FILE]).value_counts()
                  for table in (found, wanted, kept)]
        # Of a file from which a site took other planes before, other facts may be known.
        same = pd.concat(counts, axis=1).eq(counts[0], axis=0).all(axis=1)
        same = same.index[same]
        for channel, column in names.items():
            of_site = rows[SITE].assign(FileName=rows[f"FileName_{channel}"])
            column.iloc[at[pd.MultiIndex.from_frame(of_site).isin(same)]] = ""
        known.append(found[pd.MultiIndex.from_frame(found[_FILE]).isin(same)][list(kept.columns)])
    sites = sites.assign(**{f"FileName_{channel}": column for channel, column in names.items()})
    due = np.any([column != "" for column in names.values()], axis=0)
    return [table for table in known if len(table)], sites[due]


def _unchanged(images: Path, readings: pd.DataFrame) -> np.ndarray:
    """Which readings are of files that are as they were; of addresses, acquire has asked."""
    files = readings[["FileName", "Stamp"]].drop_duplicates("FileName")
    files = files[~files["FileName"].str.contains("://", regex=False)]
    changed = files["FileName"][files["Stamp"].to_numpy(str)
                                != np.array(stamps_of(images, files["FileName"].tolist()), str)]
    return ~readings["FileName"].isin(changed).to_numpy()


def _mark_changed(planes: pd.DataFrame, expected: pd.Series) -> None:
    changed = (expected.notna() & (planes["SHA256"] != expected) & planes["Readable"]).to_numpy()
    planes.loc[changed, "Error"] = planes.loc[changed, "FileName"] + " has changed since acquire."
    planes.loc[changed, "Problem"] = "changed"


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
    summed: dict[str, FileRead] = {}
    for row in sites.to_dict("records"):
        files: dict[str, dict[str, int]] = {}
        for channel in channels:
            if row[f"FileName_{channel}"]:
                files.setdefault(row[f"FileName_{channel}"], {})[channel] = int(
                    row[f"Frame_{channel}"])
        for name, frames in files.items():
            read = read_file_once(images, name, list(frames.values()), summed.get(name))
            # Of a file with planes of several sites.
            summed[name] = read._replace(facts={}, planes={})
            facts += file_facts(row, name, frames, read)
    return pd.DataFrame(facts)


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
