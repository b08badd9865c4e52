"""The features of a whole screen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.disk import is_large, written
from moascope.opening import undamaged
from moascope.screen.columns import SITE

FEATURES_FILE = "features.parquet"
_MOST_VALUES_PER_BYTE = 10_000
META_PREFIXES = ("Metadata_", "QC_")
PROFILES = "profiles"
LABELS = {"cellmobile": "CellMobile", "morphology": "Morphology", "mobilenetv2": "MobileNetV2",
          PROFILES: "Profiles", "resnet50": "ResNet50"}


@dataclass(frozen=True)
class FeatureTable:
    """Features of sites.

    Attributes
    ----------
    meta : DataFrame
        One row per site: the `Metadata_` columns and `QC_Pass`.
    X : ndarray, float32 [sites, features]
        NaN where a site has no such channel. Of a large screen it may be a `disk.OnDisk`.
    names : list of str
        One per column of `X`: `Count_...`, `Intensity_...` or `<Backbone>_<Channel>_...`.
    warnings : tuple of str
        One sentence for each site that was left out.
    """

    meta: pd.DataFrame
    X: Any
    names: list[str]
    warnings: tuple[str, ...] = ()


def load_quality(folder: Path) -> pd.DataFrame:
    """Which sites passed quality control; features are not read.

    Returns
    -------
    DataFrame
        One row per site: `Metadata_Plate`, `Metadata_Well`, `Metadata_Site`, `QC_Pass` (bool).

    Raises
    ------
    MoascopeError
        If there is no plate.
    """
    tables = []
    for path in _backbones(folder):
        with undamaged(path, "Run `dvc repro embed` again."):
            tables.append(pd.concat(
                [pd.read_parquet(file, columns=[*SITE, "QC_Pass"])
                 for file in sorted(path.glob(f"*/{FEATURES_FILE}"))], ignore_index=True))
    return _passed_everywhere(tables).astype({"QC_Pass": bool})


def load_features(folder: Path, on_disk: Path | None = None) -> FeatureTable:
    """Read all plates that `embed` wrote.

    Parameters
    ----------
    folder : Path
        `data/embed`: a folder per backbone, in it one per plate, with `features.parquet`.
    on_disk : Path, optional
        A folder on whose disk a table that is too large for memory may lie; see `features.disk`.

    Returns
    -------
    FeatureTable
        Plates in the order of their names, with the features of several backbones concatenated.
        A feature that a plate lacks, because its panel has other channels, is NaN there.

    Raises
    ------
    MoascopeError
        If there is no plate, or if the backbones saw different sites.
    """
    backbones = _backbones(folder)
    first, *others = [_look(path) for path in backbones]
    for path, other in zip(backbones[1:], others, strict=True):
        if other.rows != first.rows or not _sites(other.meta).equals(_sites(first.meta)):
            raise MoascopeError(f"{path} and {backbones[0]} hold features of different sites. Run "
                                "`dvc repro embed` again.")
    kept = _not_yet_seen([first.names, *(other.names for other in others)])
    names = [held.names[i] for held, own in zip([first, *others], kept, strict=True) for i in own]

    def plates() -> Iterator[np.ndarray]:
        for number in range(len(first.files)):
            blocks = [_plate(held, number) for held in (first, *others)]
            yield np.hstack([block[:, own] for block, own in zip(blocks, kept, strict=True)]) \
                if others else blocks[0]

    shape = (sum(first.rows), len(names))
    meta = _passed_everywhere([held.meta for held in (first, *others)])
    if on_disk is not None and is_large(shape):
        return FeatureTable(meta, written(shape, plates(), on_disk), names)
    start = 0
    with undamaged(folder, "Run `dvc repro embed` again."):
        X = np.empty(shape, np.float32)
        for block in plates():
            X[start : start + len(block)] = block
            start += len(block)
    return FeatureTable(meta, X, names)


def join_plates(plates: Sequence[tuple[pd.DataFrame, np.ndarray]],
                names: Sequence[Sequence[str]]) -> FeatureTable:
    """Join the features of one backbone on several plates.

    Parameters
    ----------
    plates : sequence of (DataFrame, ndarray)
        For each plate, its sites as `embed_plate` writes them, without the features (a table
        that begins with the `Metadata_` columns), and the features, float32 [sites, features].
    names : sequence of sequence of str
        For each plate, the names of its features.
    """
    measured = [[name for name in sites if not name.startswith(META_PREFIXES)]
                for sites, _ in plates]
    union = list(dict.fromkeys(name for pair in zip(measured, names, strict=True)
                               for own in pair for name in own))
    positions = {name: position for position, name in enumerate(union)}
    X = np.full((sum(len(sites) for sites, _ in plates), len(union)), np.nan, np.float32)
    start = 0
    for (sites, features), own, known in zip(plates, measured, names, strict=True):
        rows = slice(start, start + len(sites))
        X[rows, [positions[name] for name in own]] = sites[own].to_numpy(np.float32)
        X[rows, [positions[name] for name in known]] = features
        start = rows.stop
    meta = [sites.drop(columns=own) for (sites, _), own in zip(plates, measured, strict=True)]
    return FeatureTable(pd.concat(meta, ignore_index=True), X, union)


def join_backbones(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Concatenate the features of several backbones, which saw the same sites."""
    first, *others = tables
    kept = _not_yet_seen([table.names for table in tables])
    return FeatureTable(
        _passed_everywhere([table.meta for table in tables]),
        np.hstack([table.X[:, own] for table, own in zip(tables, kept, strict=True)])
        if others else first.X,
        [table.names[i] for table, own in zip(tables, kept, strict=True) for i in own],
    )


def _not_yet_seen(names: Sequence[Sequence[str]]) -> list[list[int]]:
    """Which features each backbone adds to those of the first."""
    # Counts and intensities stand beside the features of every backbone; once is enough.
    first, *others = names
    seen = set(first)
    return [list(range(len(first))),
            *([i for i, name in enumerate(own) if name not in seen] for own in others)]


def _sites(meta: pd.DataFrame) -> pd.DataFrame:
    return meta.drop(columns="QC_Pass", errors="ignore")


def _passed_everywhere(metas: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The sites of several backbones; one that a backbone has nothing of does not pass."""
    if len(metas) == 1:
        return metas[0]
    passed = np.all([meta["QC_Pass"].to_numpy(bool) for meta in metas], axis=0)
    return metas[0].assign(QC_Pass=passed)


@dataclass(frozen=True)
class _Plates:
    """The plates of one backbone: all but the features themselves."""

    folder: Path
    files: list[Path]
    columns: list[list[str]]
    names: list[str]
    rows: list[int]
    meta: pd.DataFrame


def _look(folder: Path) -> _Plates:
    import pyarrow.parquet

    with undamaged(folder, "Run `dvc repro embed` again."):
        files = sorted(folder.glob(f"*/{FEATURES_FILE}"))
        columns = [[name for name in pyarrow.parquet.read_schema(file).names
                    if not name.startswith("__")] for file in files]
        names = dict.fromkeys(
            name for held in columns for name in held if not name.startswith(META_PREFIXES))
        rows = [pyarrow.parquet.read_metadata(file).num_rows for file in files]
        for file, held, count in zip(files, columns, rows, strict=True):
            if count * len(held) > _MOST_VALUES_PER_BYTE * file.stat().st_size:
                raise ValueError(f"{file.parent.name} states more rows than it can hold")
        meta = pd.concat([
            pyarrow.parquet.read_table(file, columns=[name for name in held if name not in names])
            .to_pandas() for file, held in zip(files, columns, strict=True)], ignore_index=True)
    return _Plates(folder, files, columns, list(names), rows, meta)


def _plate(held: _Plates, number: int) -> np.ndarray:
    """float32, [sites, names]: NaN where the plate has no such feature."""
    import pyarrow.parquet

    with undamaged(held.folder, "Run `dvc repro embed` again."):
        positions = {name: position for position, name in enumerate(held.names)}
        own = [name for name in held.columns[number] if name in positions]
        table = pyarrow.parquet.read_table(held.files[number], columns=own)
        X = np.full((held.rows[number], len(held.names)), np.nan, np.float32)
        # Column by column, because a pandas copy of the block would double the memory.
        for name in own:
            X[:, positions[name]] = table[name].to_numpy()
        return X


def _backbones(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*") if any(path.glob(f"*/{FEATURES_FILE}")))
    if not found:
        raise MoascopeError(f"{folder} holds no plate with features. Run `dvc repro embed` first.")
    return found


def profile_columns(names: Sequence[str]) -> tuple[str, ...]:
    """The columns of a screen's profiles that features of a model come from.

    Parameters
    ----------
    names : sequence of str
        The features of a model; without profiles among them nothing is returned.
    """
    prefix = label_of(PROFILES) + "_"
    own = tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    # A count of images is computed from them; without images it is a column of the profiles.
    counts = () if any(name.startswith("Intensity_") for name in names) else tuple(
        name for name in names if name.startswith("Count_"))
    return (*own, *counts) if own else ()


def has_images(names: Sequence[str]) -> bool:
    """Whether features come from images, and not from profiles alone."""
    prefix = label_of(PROFILES) + "_"
    return not any(name.startswith(prefix) for name in names) or any(
        not name.startswith((prefix, "Count_")) for name in names)


def label_of(name: str) -> str:
    """The first part of the names of a backbone's features.

    For a user's own model, the letters and digits of the file's name.
    """
    return LABELS.get(name) or re.sub(r"[^A-Za-z0-9]", "", Path(name).stem) or "Own"
