"""From cells to wells: objects of images, averaged over the images of a well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.source import (
    Average,
    Batch,
    Named,
    Source,
    average,
    take_rows,
)
from moascope.screen.columns import recognise
from moascope.text import counted, listing


@dataclass(frozen=True)
class Objects:
    """The objects of one compartment, such as nuclei.

    Attributes
    ----------
    name : str
        Such as Nuclei; "" where the features name their compartments themselves.
    features : tuple of str
        As they are called in the profiles.
    read : callable
        Gives batches of (image of each object as text, float32 [objects, features]).
    """

    name: str
    features: tuple[str, ...]
    read: Callable[[], Iterator[tuple[pd.Series, np.ndarray]]]


def open_cells(name: str, images: pd.DataFrame, objects: Sequence[Objects], named: Named,
               how: Average) -> Source:
    """Wells as a source of profiles: the average of their objects, compartment by compartment.

    Parameters
    ----------
    name : str
        Of the export, for sentences.
    images : DataFrame of str, [images]
        What is said about each image; the index is its key.
    objects : sequence of Objects
    named : Named
    how : {"median", "mean"}

    Raises
    ------
    MoascopeError
        When there are no objects.
    """
    counts = [f"Count_{own.name or 'Objects'}" for own in objects]
    features = [*(feature for own in objects for feature in own.features), *counts]
    if not any(own.features for own in objects):
        raise MoascopeError(f"{name} has no object with a numeric feature.")
    columns = _well_columns(images, named)
    key = images[columns].agg("\n".join, axis=1) if columns else images.index.to_series()
    well, first = np.unique(key.to_numpy(dtype=object), return_inverse=True)[::-1]
    about = images.iloc[[int(np.flatnonzero(well == at)[0]) for at in range(len(first))]]
    about = about.drop(columns=_of_sites(images)).reset_index(drop=True)
    code = pd.Series(well, index=images.index)
    sites = np.bincount(well, minlength=len(first))

    def read(scratch: Path) -> Iterator[Batch]:
        parts = [_averages(name, own, code, len(first), how, scratch) for own in objects]
        values = np.hstack([*(middles for middles, _ in parts),
                            *((count / sites)[:, None] for _, count in parts)])
        yield Batch(about, values.astype(np.float32))

    notes = [f"{name}: the objects of each well are averaged by their {how} (--average mean or "
             f"median), {listing([own.name or 'all' for own in objects])} each by themselves; "
             f"{listing(counts)} is the number per image."]
    return Source(name, tuple(about.columns), tuple(features), read, tuple(notes))


def _well_columns(images: pd.DataFrame, named: Named) -> list[str]:
    found = recognise(list(images.columns), "profiles").columns
    meaning = {ours: images.columns[at] for ours, at in found.items()} | dict(named.ours)
    wanted = [meaning[ours] for ours in ("Metadata_Plate", "Metadata_Well", "Metadata_Row",
                                         "Metadata_Column") if ours in meaning]
    return [column for column in wanted if column in images]


def _of_sites(images: pd.DataFrame) -> list[str]:
    """Columns that say which of a well's images it is."""
    found = recognise(list(images.columns), "profiles").columns
    return [images.columns[found["Metadata_Site"]]] if "Metadata_Site" in found else []


def _averages(name: str, objects: Objects, code: pd.Series, wells: int, how: Average,
              scratch: Path) -> tuple[np.ndarray, np.ndarray]:
    """float32 [wells, features], NaN where a well has no object; and their number, [wells]."""
    width = len(objects.features)
    homes: list[np.ndarray] = []
    strangers = 0
    with (scratch / f"objects_{objects.name}").open("w+b") as disk:
        for images, values in objects.read():
            well = images.map(code).to_numpy(dtype=float, na_value=np.nan)
            known = ~np.isnan(well)
            strangers += int((~known).sum())
            homes.append(well[known].astype(np.int32))
            np.ascontiguousarray(values[known], np.float32).tofile(disk)
        if strangers:
            raise MoascopeError(f"{name}: {counted(strangers, 'object')} of {objects.name or 'it'} "
                                "belong to images that the table of images does not have. Export "
                                "both from one run.")
        home = np.concatenate(homes) if homes else np.zeros(0, np.int32)
        order = np.argsort(home, kind="stable")
        count = np.bincount(home, minlength=wells)
        middles = np.full((wells, width), np.nan, np.float32)
        start = 0
        for well, number in enumerate(count):
            own = order[start:start + number]
            start += number
            if number:
                middles[well] = average(take_rows(disk, own, width), how)
    (scratch / f"objects_{objects.name}").unlink()
    return middles, count
