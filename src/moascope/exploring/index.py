"""What the page shows, computed once and kept on disk until an input changes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.addresses.cache import cache_folder
from moascope.errors import MoascopeError
from moascope.exploring.profiles import How, consensus, place, well_profiles
from moascope.features.table import FeatureTable, load_features
from moascope.learning.joining import with_layout
from moascope.screen.columns import WELL
from moascope.screen.description import images_folder, read_description
from moascope.screen.tables import Screen, read_screen
from moascope.screen.wells import PLATE_SHAPES, well_position
from moascope.work.digests import digest

VERSION = 1
KEPT = 4
"""Indexes that stay in the cache; the oldest is removed."""

MEASURES = ("Cells", "Distance")


@dataclass(frozen=True)
class Index:
    """A screen as the page reads it.

    Attributes
    ----------
    key : str
        Digest of all that it was made from.
    compounds : DataFrame
        One row per compound, by name: `Metadata_Compound`, `Metadata_MoA`, `Control`, `Wells`,
        `Plates` (int), `Plate` (where most of its wells lie), `Batch` and `Panel` (joined by "|"),
        `Distance` (median of its wells), `Profile` (bool), `X`, `Y` (0 to 1).
    wells : DataFrame
        One row per well, by plate, row and column: `Metadata_Plate`, `Metadata_Well`, `Row`,
        `Column`, `Compound` (row of `compounds`, or -1), `Metadata_Concentration_uM`, `Control`,
        `Batch`, `Panel`, `Sites` (int), `Cells`, `Distance`.
    plates : DataFrame
        By name: `Metadata_Plate`, `Batch`, `First` and `Last` (rows of `wells`, half open),
        `Rows`, `Columns` (of its format), `Group` (its sites in sites.parquet, -1 without any).
    profiles : ndarray, float32, [compounds, d]
        Of length one, read from disk where they are used.
    channels : tuple of str
    images : Path
    map : {"umap", "pca"}
    folder : Path
    """

    key: str
    compounds: pd.DataFrame
    wells: pd.DataFrame
    plates: pd.DataFrame
    profiles: np.ndarray
    channels: tuple[str, ...]
    images: Path
    map: How
    folder: Path
    _of_plate: dict[str, int] = field(default_factory=dict, repr=False)
    _order: np.ndarray = field(default_factory=lambda: np.zeros(0, int), repr=False)
    _first: np.ndarray = field(default_factory=lambda: np.zeros(0, int), repr=False)
    _sites: Any = field(default=None, repr=False)

    def plate(self, name: str) -> int:
        """Row of `plates`, or -1."""
        return self._of_plate.get(name, -1)

    def wells_of_plate(self, number: int) -> pd.DataFrame:
        """The wells of one plate; nothing is copied."""
        return self.wells.iloc[self.plates["First"].iloc[number]:self.plates["Last"].iloc[number]]

    def wells_of_compound(self, number: int) -> pd.DataFrame:
        """The wells of one compound."""
        return self.wells.iloc[self._order[self._first[number]:self._first[number + 1]]]

    def sites_of_plate(self, number: int) -> pd.DataFrame:
        """The sites of one plate as in `Screen.sites`; one row group is read from disk."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.folder / "sites.parquet", memory_map=True,
                                         metadata=self._sites) as file:
            group = int(self.plates["Group"].iloc[number])
            # A plate is too small for threads to be worth their start.
            return (file.read_row_group(group, use_threads=False) if group >= 0
                    else file.schema_arrow.empty_table()).to_pandas(use_threads=False)


def choose_map(asked: str) -> How:
    """UMAP where it is asked for or, for "auto", where it is installed; else components.

    Raises
    ------
    MoascopeError
        Where UMAP is asked for and not installed.
    """
    from importlib.util import find_spec

    if asked == "pca" or (asked == "auto" and find_spec("umap") is None):
        return "pca"
    if find_spec("umap") is None:
        raise MoascopeError("UMAP is not installed. Install moascope[umap], or use --map pca.")
    return "umap"


def open_index(data: Path, how: How, seed: int = 0) -> Index:
    """The index of a project; made where the cache has none of the same inputs.

    Parameters
    ----------
    data : Path
        Folder with the results of `acquire` and `embed`.
    how : {"umap", "pca"}
    seed : int
        Of the map.

    Raises
    ------
    MoascopeError
        Where a stage has not run, or its tables cannot be used.
    """
    for stage in ("acquire", "embed"):
        if not (data / stage).is_dir():
            raise MoascopeError(f"{data / stage} does not exist. Run `dvc repro embed` at the root "
                                "of a project, or bring an earlier run's results with `dvc pull`.")
    key = digest(VERSION, how, seed, _inputs(data))
    home = cache_folder() / "explore"
    if not (home / key / "index.json").is_file():
        screen, table = read_screen(data / "acquire"), load_features(data / "embed")
        table = FeatureTable(with_layout(table.meta, screen.layout), table.X, table.names)
        keep_index(home, key, screen, *well_profiles(table), how, seed)
    (home / key).touch()
    images = images_folder(data / "acquire", read_description(data / "acquire"))
    return load_index(home / key, images)


def keep_index(home: Path, key: str, screen: Screen, measured: pd.DataFrame, profiles: np.ndarray,
               how: How, seed: int = 0) -> None:
    """Compute an index and put it into the cache, whole or not at all.

    Parameters
    ----------
    home : Path
        Folder of the indexes.
    key : str
        Name of this one.
    screen : Screen
    measured : DataFrame
    profiles : ndarray, float32, [wells, d]
        Both from `profiles.well_profiles`.
    how : {"umap", "pca"}
    seed : int
    """
    home.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=home))
    try:
        wells = _well_table(screen, measured)
        names = pd.Index(sorted(set(screen.layout["Metadata_Compound"]) - {""}))
        wells["Compound"] = names.get_indexer(wells["Metadata_Compound"])
        plates = _plate_table(wells)
        rows = measured[WELL].merge(wells[[*WELL, "Compound", "Panel"]], on=WELL, how="left")
        mean = consensus(profiles, rows["Compound"].fillna(-1).to_numpy(int),
                         pd.factorize(rows["Panel"])[0], len(names))
        compounds = _compound_table(names, wells, screen.annotations)
        compounds["Profile"] = np.abs(mean).sum(axis=1) > 0
        places = np.full((len(names), 2), np.nan)
        shown = compounds["Profile"].to_numpy(bool)
        places[shown] = place(mean[shown], how, seed)
        compounds[["X", "Y"]] = places
        compounds.to_parquet(partial / "compounds.parquet", index=False)
        wells.drop(columns="Metadata_Compound").to_parquet(partial / "wells.parquet", index=False)
        plates["Group"] = _write_sites(partial / "sites.parquet", screen,
                                       plates["Metadata_Plate"])
        plates.to_parquet(partial / "plates.parquet", index=False)
        np.save(partial / "profiles.npy", mean)
        (partial / "index.json").write_text(json.dumps(
            {"channels": screen.channels, "map": how}))
        shutil.rmtree(home / key, ignore_errors=True)
        partial.rename(home / key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    earlier = sorted((entry for entry in home.iterdir() if not entry.name.startswith(".")),
                     key=lambda entry: entry.stat().st_mtime)
    for entry in earlier[:-KEPT]:
        shutil.rmtree(entry, ignore_errors=True)


def load_index(folder: Path, images: Path) -> Index:
    """Read an index that `keep_index` wrote; profiles and sites stay on disk."""
    import pyarrow.parquet

    said: Mapping[str, Any] = json.loads((folder / "index.json").read_text())
    compounds, wells, plates = (pd.read_parquet(folder / f"{name}.parquet")
                                for name in ("compounds", "wells", "plates"))
    compound = wells["Compound"].to_numpy()
    order = np.argsort(compound, kind="stable")
    return Index(
        folder.name, compounds, wells, plates, np.load(folder / "profiles.npy", mmap_mode="r"),
        tuple(said["channels"]), images, said["map"], folder,
        {name: row for row, name in enumerate(plates["Metadata_Plate"])}, order,
        np.searchsorted(compound[order], np.arange(len(compounds) + 1)),
        pyarrow.parquet.read_metadata(folder / "sites.parquet"))


def _inputs(data: Path) -> dict[str, str]:
    """Digests of the tables, and of what decided the features of each plate."""
    import hashlib

    found = {}
    for path in sorted([*(data / "acquire").glob("*.csv"),
                        *(data / "embed").glob("*/*/key.txt")]):
        with path.open("rb") as file:
            found[path.relative_to(data).as_posix()] = hashlib.file_digest(
                file, "sha256").hexdigest()
    return found


def _well_table(screen: Screen, measured: pd.DataFrame) -> pd.DataFrame:
    of_sites = screen.sites.groupby(WELL, as_index=False).agg(
        Batch=("Metadata_Batch", "first"), Panel=("Metadata_Panel", "first"),
        Sites=("Metadata_Site", "size"))
    wells = screen.layout[[*WELL, "Metadata_Compound", "Metadata_Concentration_uM"]].assign(
        Control=screen.layout["Metadata_Control"])
    wells = wells.merge(of_sites, on=WELL, how="left").merge(measured, on=WELL, how="left")
    wells["Sites"] = wells["Sites"].fillna(0).astype(int)
    for column in ("Batch", "Panel", "Control"):
        wells[column] = wells[column].fillna("").astype("category")
    # Few names for many wells.
    positions = {name: well_position(name) for name in wells["Metadata_Well"].unique()}
    wells["Row"] = wells["Metadata_Well"].map(lambda name: positions[name][0]).astype("int16")
    wells["Column"] = wells["Metadata_Well"].map(lambda name: positions[name][1]).astype("int16")
    wells = wells.sort_values(["Metadata_Plate", "Row", "Column"], ignore_index=True)
    return wells.astype({"Metadata_Plate": "category", "Metadata_Well": "category",
                         **dict.fromkeys(MEASURES, "float32")})


def _plate_table(wells: pd.DataFrame) -> pd.DataFrame:
    name = wells["Metadata_Plate"].astype(str).to_numpy()
    first = np.flatnonzero(np.r_[True, name[1:] != name[:-1]]) if len(name) else np.zeros(0, int)
    last = np.r_[first[1:], len(name)] if len(name) else first
    shapes = sorted(PLATE_SHAPES.values())
    size = [next(shape for shape in shapes if shape[0] > wells["Row"].iloc[a:b].max()
                 and shape[1] > wells["Column"].iloc[a:b].max())
            for a, b in zip(first, last, strict=True)]
    return pd.DataFrame({
        "Metadata_Plate": name[first], "Batch": wells["Batch"].astype(str).to_numpy()[first],
        "First": first, "Last": last, "Rows": [rows for rows, _ in size],
        "Columns": [columns for _, columns in size]})


def _compound_table(names: pd.Index, wells: pd.DataFrame, annotations: pd.DataFrame
                    ) -> pd.DataFrame:
    own = wells[wells["Compound"] >= 0]
    by = own.groupby("Compound", sort=True)
    moa = dict(zip(annotations["Metadata_Compound"], annotations["Metadata_MoA"].fillna(""),
                   strict=True))

    def joined(column: str) -> pd.Series:
        pairs = own[["Compound", column]].astype({column: str}).drop_duplicates()
        return pairs.sort_values(column).groupby("Compound")[column].agg(
            lambda values: "|".join(value for value in values if value))

    most = own[["Compound", "Metadata_Plate"]].astype({"Metadata_Plate": str}).value_counts(
        sort=False).reset_index().sort_values(
            ["Compound", "count", "Metadata_Plate"], ascending=[True, False, True])
    return pd.DataFrame({
        "Metadata_Compound": names, "Metadata_MoA": [moa.get(name, "") for name in names],
        "Control": by["Control"].first().astype(str).to_numpy(),
        "Wells": by.size().to_numpy(),
        "Plates": by["Metadata_Plate"].nunique().to_numpy(),
        "Plate": most.drop_duplicates("Compound")["Metadata_Plate"].to_numpy(),
        "Batch": joined("Batch").to_numpy(), "Panel": joined("Panel").to_numpy(),
        "Distance": by["Distance"].median().to_numpy(np.float32)})


def _write_sites(path: Path, screen: Screen, plates: pd.Series) -> np.ndarray:
    """One row group a plate, so that one is read at a time; returns the group of each plate."""
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.Table.from_pandas(screen.sites, preserve_index=False)
    name = screen.sites["Metadata_Plate"].to_numpy(str)
    first, last = (np.searchsorted(name, plates.to_numpy(str), side) for side in ("left", "right"))
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for start, end in zip(first, last, strict=True):
            if end > start:
                writer.write_table(table.slice(start, end - start), int(end - start))
    return np.where(last > first, np.cumsum(last > first) - 1, -1)
