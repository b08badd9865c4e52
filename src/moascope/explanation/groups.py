"""Which features belong together: to a channel, a part of the cell or a kind of measurement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from moascope.features.morphology import PAIR_NAMES
from moascope.features.table import LABELS, PROFILES
from moascope.learning.examples import COUNT, INTENSITY

CHANNEL, COMPARTMENT, FAMILY, FEATURE = "channel", "compartment", "measurement", "feature"
KINDS = (CHANNEL, COMPARTMENT, FAMILY, FEATURE)
"""By what features are grouped, in the order in which the report shows them."""

CELL_COUNT, NO_CHANNEL, OTHER = "cell count", "no channel", "other"
MOST_GROUPS = 40
"""Of a kind; a table may have hundreds of images."""

MOST_SINGLE = 40
"""Features without a structure in their names that are groups by themselves."""

# MeasurementType_Category_SpecificFeatureName_Parameters, in CellProfiler's words.
_CATEGORIES = ("AreaShape", "Children", "Correlation", "Granularity", "Intensity", "Location",
               "Neighbors", "Number", "Parent", "RadialDistribution", "Texture")
_MORPHOLOGY = {"Band": "Frequency bands", "Haralick": "Texture"}
_PAIRS = "Correlation"
_PROFILES = LABELS[PROFILES] + "_"


def feature_groups(names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Groups of features by their names.

    Parameters
    ----------
    names : sequence of str
        As `embed` names them: `Count_<objects>`, `Intensity_<Channel>_<name>`,
        `<Backbone>_<Channel>_<name>`, `<Backbone>_<A>_<B>_<name>` or `Profiles_<column>`.

    Returns
    -------
    dict
        Kind of `KINDS` -> group -> ndarray, bool, [features]. A feature of two channels is in both
        groups. Kinds by which all features are one group are left out, and so is the measurement
        where a backbone's features have no names of their own.

    Notes
    -----
    Columns of CellProfiler are read by its nomenclature, Object_Category_Feature_Parameters
    (manual, "How measurements are named"). Of other columns each is a group of its own, where there
    are at most `MOST_SINGLE`.
    """
    own = [name for name in names if not name.startswith(_PROFILES)]
    columns = [name.removeprefix(_PROFILES) for name in names if name.startswith(_PROFILES)]
    channels = _channels_of_images(own)
    images = _channels_of_columns(columns)
    said: dict[str, list[Iterable[str]]] = {kind: [] for kind in KINDS}
    for name in names:
        if name.startswith(_PROFILES):
            found = _of_column(name.removeprefix(_PROFILES), images)
        elif name.startswith(COUNT):
            found = {CHANNEL: (CELL_COUNT,), COMPARTMENT: (CELL_COUNT,), FAMILY: (CELL_COUNT,)}
        else:
            found = _of_image_feature(name, channels)
        for kind in KINDS:
            said[kind].append(found.get(kind, (OTHER,)))
    structured = bool(channels) or {of for one in said[FAMILY] for of in one} - {OTHER, CELL_COUNT}
    if not structured and len(names) <= MOST_SINGLE:
        said[FEATURE] = [(name.removeprefix(_PROFILES),) for name in names]
    groups = {kind: _masks(of) for kind, of in said.items()}
    measured = bool(set(groups[FAMILY]) & {"Texture", "AreaShape"})
    return {kind: dict(list(own.items())[:MOST_GROUPS]) for kind, own in groups.items()
            if len(own) > 1 and (kind != COMPARTMENT or columns)
            and (kind != FAMILY or measured)}


def _masks(said: Sequence[Iterable[str]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for at, groups in enumerate(said):
        for group in groups:
            found.setdefault(group, np.zeros(len(said), bool))[at] = True
    # What says the least by its name comes last.
    last = (CELL_COUNT, NO_CHANNEL, OTHER)
    order = sorted(found, key=lambda name: (last.index(name) + 1 if name in last else 0))
    return {name: found[name] for name in order}


def _channels_of_images(names: Sequence[str]) -> list[str]:
    """The channels, the longest names first: `DNA` may be a channel next to `DNA_2`."""
    found = dict.fromkeys(name.removeprefix(INTENSITY).rpartition("_")[0] for name in names
                          if name.startswith(INTENSITY))
    return sorted(filter(None, found), key=len, reverse=True)


def _of_image_feature(name: str, channels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    label, _, rest = name.partition("_")
    first = _leading(rest, channels)
    if not first:
        return {}
    rest = rest[len(first) + 1:]
    second = _leading(rest, channels)
    if second and rest[len(second) + 1:] in PAIR_NAMES:
        return {CHANNEL: (first, second), FAMILY: (_PAIRS,)}
    # Features of a network are numbered: all that is known of them is whose they are.
    family = rest.partition("_")[0] if label == LABELS["morphology"] else label
    return {CHANNEL: (first,), FAMILY: (_MORPHOLOGY.get(family, family),)}


def _leading(text: str, channels: Sequence[str]) -> str:
    return next((name for name in channels if text.startswith(name + "_")), "")


def _split(column: str) -> tuple[str, str, list[str]] | None:
    """Object, category, and what follows; None where a column is not named so."""
    words = column.split("_")
    at = next((i for i, word in enumerate(words) if i and word in _CATEGORIES), None)
    return None if at is None else (words[at - 1], words[at], words[at + 1:])


def _channels_of_columns(columns: Sequence[str]) -> list[str]:
    """The images that were measured: intensity and granularity end in the name of theirs."""
    found: dict[str, None] = {}
    for column in columns:
        parts = _split(column)
        if parts and parts[1] in ("Intensity", "Granularity") and len(parts[2]) > 1:
            found["_".join(parts[2][1:])] = None
    return sorted(found, key=len, reverse=True)


def _of_column(column: str, images: Sequence[str]) -> dict[str, tuple[str, ...]]:
    parts = _split(column)
    if parts is None:
        return {}
    compartment, category, rest = parts
    text, seen = "_" + "_".join(rest) + "_", []
    for image in images:
        if f"_{image}_" in text:
            seen.append(image)
            text = re.sub(f"_{re.escape(image)}(?=_)", "", text)
    return {CHANNEL: tuple(sorted(seen)) or (NO_CHANNEL,), COMPARTMENT: (compartment,),
            FAMILY: (category,)}
