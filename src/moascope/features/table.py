"""The features of a whole screen in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError

FEATURES_FILE = "features.parquet"
META_PREFIXES = ("Metadata_", "QC_")


@dataclass(frozen=True)
class FeatureTable:
    """Features of sites.

    Attributes
    ----------
    meta : DataFrame
        One row a site: the `Metadata_` columns and `QC_Pass`.
    X : ndarray, float32 [sites, features]
        NaN where a site has no such channel.
    names : list of str
        One a column of `X`: `Count_...`, `Intensity_...` or `<Backbone>_<Channel>_...`.
    warnings : tuple of str
        Sentences about sites that were left out.
    """

    meta: pd.DataFrame
    X: np.ndarray
    names: list[str]
    warnings: tuple[str, ...] = ()


def load_features(folder: Path) -> FeatureTable:
    """Read all plates that embed left.

    Parameters
    ----------
    folder : Path
        `data/embed`: one folder a plate, with `features.parquet` in it.

    Returns
    -------
    FeatureTable
        Plates in the order of their names. A feature that some plates lack, because their panel
        has other channels, is NaN there.

    Raises
    ------
    MoascopeError
        Where there is no plate.
    """
    import pyarrow.parquet

    files = sorted(folder.glob(f"*/{FEATURES_FILE}"))
    if not files:
        raise MoascopeError(f"{folder} holds no plate with features. Run `dvc repro embed` first.")
    columns = [[name for name in pyarrow.parquet.read_schema(file).names
                if not name.startswith("__")] for file in files]
    names = list(dict.fromkeys(
        name for held in columns for name in held if not name.startswith(META_PREFIXES)))
    rows = [pyarrow.parquet.read_metadata(file).num_rows for file in files]
    positions = {name: position for position, name in enumerate(names)}
    X = np.full((sum(rows), len(names)), np.nan, np.float32)
    meta = []
    start = 0
    for file, held, count in zip(files, columns, rows, strict=True):
        table = pyarrow.parquet.read_table(file)
        features = [name for name in held if name in positions]
        # Column by column, because a pandas copy of the block would double the memory.
        for name in features:
            X[start : start + count, positions[name]] = table[name].to_numpy()
        meta.append(table.select([name for name in held if name not in positions]).to_pandas())
        start += count
    return FeatureTable(pd.concat(meta, ignore_index=True), X, names)
