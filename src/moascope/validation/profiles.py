"""Facts about profiles: which values are missing, infinite or far out, which columns say nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from moascope.screen.columns import SITE, WELL
from moascope.screen.profile_plates import read_profile_plate
from moascope.screen.profiles import Profiles
from moascope.text import counted, listing
from moascope.work.processes import progress

PROFILE_FACTS = "profiles.parquet"

FAR = 500
"""Robust standard deviations of its plate beyond which a value is far out: the cut-off of
pycytominer's drop_outliers for normalised features."""

LEAST_TO_TELL = 50
"""Features from which two equal profiles are one measurement given twice: of a few rounded numbers,
several wells may well have the same."""

WITHOUT_VALUES = "no value in its profile"


def profile_facts(profiles: Profiles) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every profile once, plate by plate, and describe rows and features.

    Parameters
    ----------
    profiles : Profiles
        Divided by plate.

    Returns
    -------
    rows : DataFrame
        One row per profile: `Metadata_Plate`, `Metadata_Well`, `Metadata_Site`; `Known` (share of
        finite values) and `Profile` (digest of the values; empty where it tells nothing, because
        the features are few or all alike).
    features : DataFrame
        One row per feature: `Feature`; `Known` (share of profiles with a finite value), `Infinite`
        (int, profiles), `Constant` (bool: one value everywhere, or none), `SameAs` (the first
        feature with the same values, or empty), `Far` (int, profiles more than `FAR` robust
        standard deviations from the median of their plate).
    """
    names = profiles.features
    known, infinite, far = (np.zeros(len(names), np.int64) for _ in range(3))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    sums = [hashlib.sha256() for _ in names]
    rows, total = [], 0
    with progress(len(profiles.digests), "reading profiles") as advance:
        for plate in sorted(profiles.digests):
            sites, values = read_profile_plate(profiles, plate)
            finite = np.isfinite(values)
            total += len(values)
            known += finite.sum(axis=0)
            infinite += np.isinf(values).sum(axis=0)
            low = np.minimum(low, np.where(finite, values, np.inf).min(axis=0, initial=np.inf))
            high = np.maximum(high, np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf))
            far += _far(np.where(finite, values, np.nan))
            for total_of, column in zip(sums, np.ascontiguousarray(values.T), strict=True):
                total_of.update(column.data)
            rows.append(sites[SITE].assign(Known=finite.mean(axis=1), Profile=_digests(values)))
            advance()
    return pd.concat(rows, ignore_index=True), pd.DataFrame({
        "Feature": pd.Series(names, dtype="str"), "Known": known / max(total, 1),
        "Infinite": infinite, "Constant": (low >= high), "SameAs": _same(names, sums),
        "Far": far})


def _far(values: np.ndarray) -> np.ndarray:
    """How many values of each column lie far from the column's median, int [features]."""
    distance = np.abs(values - _median(values))
    spread = 1.4826 * _median(distance)
    return ((distance > FAR * spread) & (spread > 0)).sum(axis=0)


def _median(values: np.ndarray) -> np.ndarray:
    """Median of each column without its missing values, NaN where it has none.

    `np.nanmedian` takes twenty times as long, because it masks.
    """
    if not len(values):
        return np.full(values.shape[1], np.nan)
    ordered = np.sort(values, axis=0)   # NaN last
    count = (~np.isnan(values)).sum(axis=0)
    middle = [np.take_along_axis(ordered, np.maximum(at, 0)[np.newaxis], axis=0)[0]
              for at in ((count - 1) // 2, count // 2)]
    return np.where(count > 0, (middle[0] + middle[1]) / 2, np.nan)


def _digests(values: np.ndarray) -> list[str]:
    if values.shape[1] < LEAST_TO_TELL:
        return [""] * len(values)
    lowest = np.where(np.isnan(values), np.inf, values).min(axis=1)
    highest = np.where(np.isnan(values), -np.inf, values).max(axis=1)
    return [hashlib.sha256(row.data).hexdigest() if tells else ""
            for row, tells in zip(np.ascontiguousarray(values), lowest < highest, strict=True)]


def _same(names: tuple[str, ...], sums: list) -> list[str]:
    first: dict[str, str] = {}
    return [found if (found := first.setdefault(total.hexdigest(), name)) != name else ""
            for name, total in zip(names, sums, strict=True)]


def profile_warnings(rows: pd.DataFrame, features: pd.DataFrame) -> list[str]:
    """A sentence for each kind of feature that a model can do little with.

    Parameters
    ----------
    rows, features : DataFrame
        As `profile_facts` gives them.
    """
    kinds = [
        (features["Known"] == 0, "has no value in any profile", "have no value in any profile"),
        ((features["Known"] > 0) & (features["Known"] < 1) & (features["Infinite"] == 0),
         "lacks a value in some profiles", "lack a value in some profiles"),
        (features["Infinite"] > 0, "has infinite values, which count as missing",
         "have infinite values, which count as missing"),
        (features["Constant"] & (features["Known"] > 0), "has one value in all profiles",
         "have one value each in all profiles"),
        ((features["SameAs"] != "") & ~features["Constant"] & (features["Known"] > 0),
         "repeats another feature", "repeat another feature"),
        (features["Far"] > 0, f"has values more than {FAR} robust standard deviations from the "
         "median of their plate", f"have values more than {FAR} robust standard deviations from "
         "the median of their plate"),
    ]
    found = []
    for wrong, one, several in kinds:
        if count := int(wrong.sum()):
            found.append(f"{counted(count, 'feature')} of {len(features):,} "
                         f"{one if count == 1 else several}: "
                         f"{listing(features.loc[wrong, 'Feature'], 3)}.")
    empty = rows[rows["Known"] == 0]
    if len(empty):
        found.append(f"{counted(len(empty), 'profile')} without any value "
                     f"{'is' if len(empty) == 1 else 'are'} not used: "
                     f"{listing((f'plate {p}, well {w}' for p, w in empty[WELL].to_numpy()), 3)}.")
    again = rows[(rows["Profile"] != "") & rows.duplicated("Profile", keep=False)]
    if len(again):
        groups = [" and ".join(f"plate {p}, well {w}" for p, w in part[WELL].head(2).to_numpy())
                  for _, part in again.groupby("Profile", sort=False)]
        found.append(f"{counted(len(again), 'profile')} are the same as another one, value by "
                     f"value: {listing(groups, 3)}.")
    return found


def sites_without_profile(sites: pd.DataFrame, rows: pd.DataFrame, by_site: bool) -> list[str]:
    """A sentence on the imaged sites that have no profile; none where all have one.

    Parameters
    ----------
    sites : DataFrame
        Of the screen.
    rows : DataFrame
        As `profile_facts` gives it.
    by_site : bool
        Whether the profiles tell the sites of a well apart.
    """
    key = SITE if by_site else WELL
    there = pd.MultiIndex.from_frame(sites[key]).isin(pd.MultiIndex.from_frame(rows[key]))
    if there.all():
        return []
    lost = sites.loc[~there, WELL].drop_duplicates()
    return [f"{int((~there).sum()):,} of {counted(len(sites), 'site')} with images have no "
            "profile, and take no part where embed.backbone names profiles: "
            f"{listing((f'plate {p}, well {w}' for p, w in lost.to_numpy()), 3)}."]


def quarantined_profiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Sites of a screen without images whose profile has no value; see `quarantined_sites`."""
    empty = rows.loc[rows["Known"] == 0, SITE]
    return empty.assign(reason=WITHOUT_VALUES).astype({"reason": "str"}).reset_index(drop=True)
