"""A simulator of profiles for tests: screens without images whose wells carry a known signal.

    from profiled import make_profiles
    folder = make_profiles(tmp_path / "screen", plates=3)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moascope.screen.wells import well_name

HISTAMINE, TUBULIN = "Histamine receptor antagonist", "Tubulin inhibitor"


def make_profiles(
    folder: Path,
    *,
    plates: int = 3,
    compounds: int = 24,
    controls: int = 8,
    features: int = 60,
    sites: int = 0,
    effect: float = 1.5,
    table: str = "profiles.parquet",
    seed: int = 0,
) -> Path:
    """Write a screen folder with profiles, layout.csv and annotations.csv.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    plates, compounds, controls : int
        Each plate has one well of every compound C00, C01, ..., each time in another place, and
        wells of DMSO.
    features : int
        `Cells_Feature_0`, ...: correlated noise, a shift for each plate, a scale for each feature.
    sites : int
        Rows per well, told apart by Metadata_Site; 0 for one row per well without that column.
    effect : float
        How far the compounds of the second mechanism are shifted, in standard deviations of a
        well, along a random direction of a third of the features; half as far for the other
        compounds, each along a direction of its own.
    table : str
        profiles.parquet, profiles.csv or profiles.csv.gz.
    seed : int
        Another seed, another screen.

    Returns
    -------
    Path
        `folder`.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    mixing = rng.normal(size=(6, features))
    scale = np.exp(rng.normal(size=features))
    shared = rng.normal(size=features) * (rng.uniform(size=features) < 1 / 3)
    own = rng.normal(size=(compounds, features)) * (rng.uniform(size=(compounds, features)) < 1 / 3)
    rows, values, layout = [], [], []
    columns = int(np.ceil(np.sqrt(1.5 * (compounds + controls))))
    for p in range(plates):
        plate, shift = f"Plate{p + 1}", rng.normal(size=features)
        contents = rng.permutation(compounds + controls)
        for place, content in enumerate(contents):
            well = well_name(1 + place // columns, 1 + place % columns)
            is_control = content >= compounds
            layout.append({
                "Metadata_Plate": plate, "Metadata_Well": well,
                "Metadata_Compound": "DMSO" if is_control else f"C{content:02d}",
                "Metadata_Concentration_uM": "" if is_control else "10",
                "Metadata_Control": "negative" if is_control else ""})
            centre = shift if is_control else (
                shift + effect * (shared if content % 2 else 0.5 * own[content]))
            for site in range(1, max(sites, 1) + 1):
                rows.append({"Metadata_Plate": plate, "Metadata_Well": well,
                             **({"Metadata_Site": site} if sites else {})})
                values.append(centre + 0.5 * rng.normal(size=6) @ mixing
                              + 0.7 * rng.normal(size=features))
    names = [f"Cells_Feature_{i}" for i in range(features)]
    profiles = pd.concat([pd.DataFrame(rows), pd.DataFrame(100 + scale * np.array(values),
                                                           columns=names)], axis=1)
    write_profiles(folder / table, profiles)
    pd.DataFrame(layout).to_csv(folder / "layout.csv", index=False)
    pd.DataFrame({
        "Metadata_Compound": [f"C{i:02d}" for i in range(compounds)],
        "Metadata_MoA": [TUBULIN if i % 2 else HISTAMINE for i in range(compounds)],
        "gpcr": ["no" if i % 2 else "yes" for i in range(compounds)],
    }).to_csv(folder / "annotations.csv", index=False)
    return folder


def write_profiles(path: Path, table: pd.DataFrame) -> None:
    """Write a table as its name says: Parquet, CSV or gzipped CSV."""
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False)
