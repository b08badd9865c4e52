"""The size of a download, known before it starts, and its result."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.errors import MoascopeError
from moascope.text import counted, listing

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.()+ -]{0,199}")
MISSING = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "FileName", "reason"]


@dataclass(frozen=True)
class Origin:
    """Where a public screen comes from, its licence and how to cite it.

    Attributes
    ----------
    title, licence, citation, address : str
    non_commercial : bool
        Whether the licence forbids commercial use.
    """

    title: str
    licence: str
    citation: str
    address: str
    non_commercial: bool = False


@dataclass(frozen=True)
class Plan:
    """The size of a download.

    Attributes
    ----------
    source : str
    origin : Origin
    plates, wells, compounds : int
        Compounds without the negative control.
    images : int
        Sites, that is fields of view with all their channels.
    files : int
        Requests for images: planes, or archives.
    size : int
        Bytes to download.
    exact : bool
        Whether images, files and size are known rather than estimated.
    notes : tuple of str
        Sentences to read before it starts.
    room : int, optional
        Bytes still needed on disk: unpacked files of this selection that are not there yet, and
        archives until they are unpacked. `size` where it is not given.
    paced : bool
        Whether acquire.per_second bounds the requests.
    """

    source: str
    origin: Origin
    plates: int
    wells: int
    compounds: int
    images: int
    files: int
    size: int
    exact: bool = True
    notes: tuple[str, ...] = ()
    room: int | None = None
    paced: bool = True


@dataclass(frozen=True)
class Collected:
    """A downloaded screen: its tables, and the files that are not available.

    Attributes
    ----------
    sites, layout, annotations : DataFrame
        As in load_data.csv (file names start from the folder of downloads of the source),
        layout.csv and annotations.csv.
    missing : DataFrame
        One row per file that is not available (`MISSING`); its site is not in `sites`.
    about : mapping
        What source.json says besides source, licence and citation.
    notes : tuple of str
        A sentence about each deviation from the plan.
    """

    sites: pd.DataFrame
    layout: pd.DataFrame
    annotations: pd.DataFrame
    missing: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=MISSING))
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan_words(plan: Plan, per_second: float) -> list[str]:
    """The plan as lines for a terminal, at `per_second` requests per second."""
    about = "" if plan.exact else "about "
    size = f"{plan.size / 1e9:,.1f} GB" if plan.size >= 1e8 else f"{plan.size / 1e6:,.1f} MB"
    origin = plan.origin
    lines = [
        f"{plan.source}: {origin.title}",
        f"  {counted(plan.plates, 'plate')}, {counted(plan.wells, 'well')}, "
        f"{counted(plan.compounds, 'compound')}; {about}{counted(plan.images, 'image')}, "
        f"{about}{counted(plan.files, 'file')}, {about}{size} to download",
        f"  licence:  {origin.licence}" + (" (NOT FOR COMMERCIAL USE)" if origin.non_commercial
                                           else ""),
        f"  cite:     {origin.citation}",
        f"  from:     {origin.address}",
    ]
    hours = plan.files / per_second / 3600
    if plan.paced and hours > 0.1:
        lines.append(f"  time:     at least {hours:,.1f} h at {per_second:g} requests per second "
                     "(acquire.per_second)")
    return lines + [f"  note:     {note}" for note in plan.notes]


def refuse_too_much(plan: Plan, folder: Path, max_gb: float) -> None:
    """Refuse a download that is larger than allowed, or than the disk has room for.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Where the downloads go.
    max_gb : float
        As in acquire.max_gb, 10^9 bytes.

    Raises
    ------
    MoascopeError
    """
    if plan.size > max_gb * 1e9:
        raise MoascopeError(
            f"This selection of {plan.source} is {plan.size / 1e9:,.0f} GB, more than the "
            f"{max_gb:,.0f} GB that acquire.max_gb allows. Select less ({plan.source} in "
            "params.yaml), or raise acquire.max_gb.")
    folder.mkdir(parents=True, exist_ok=True)
    room = plan.size if plan.room is None else plan.room
    free = shutil.disk_usage(folder).free
    if room > free:
        raise MoascopeError(
            f"The rest of this selection of {plan.source} takes {room / 1e9:,.1f} GB, and {folder} "
            f"has {free / 1e9:,.1f} GB free. Name a folder on a larger disk in acquire.downloads.")


def refuse_strange_names(names: Iterable[str], where: str) -> None:
    """Refuse a name that could point outside the folder of downloads.

    Raises
    ------
    MoascopeError
    """
    strange = [name for name in names if not _PLAIN.fullmatch(name)]
    if strange:
        raise MoascopeError(f"{where} names {listing(map(repr, strange), 3)}, which cannot be the "
                            "name of a plate or file. This is not the table that moascope knows.")


def missing_rows(sites: pd.DataFrame, channels: tuple[str, ...],
                 failures: Mapping[str, str]) -> pd.DataFrame:
    """The files of `sites` that are among `failures` (name -> reason), one row each (`MISSING`)."""
    rows = []
    for channel in channels:
        lost = sites[sites[f"FileName_{channel}"].isin(failures.keys())]
        for row in lost.to_dict("records"):
            name = row[f"FileName_{channel}"]
            rows.append([row["Metadata_Plate"], row["Metadata_Well"], row["Metadata_Site"], name,
                         failures[name]])
    return pd.DataFrame(rows, columns=MISSING).sort_values(MISSING[:4], ignore_index=True)


def without_missing(sites: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    """The sites that have all their files."""
    lost = pd.MultiIndex.from_frame(missing[MISSING[:3]])
    return sites[~pd.MultiIndex.from_frame(sites[MISSING[:3]]).isin(lost)].reset_index(drop=True)
