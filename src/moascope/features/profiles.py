"""The backbone `profiles`: features that other software measured, site by site."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.disk import pieces, rows_of
from moascope.features.table import FEATURES_FILE, PROFILES, FeatureTable, label_of
from moascope.params import Embed
from moascope.pixels.prepared import PreparedPlate
from moascope.screen.columns import SITE
from moascope.screen.profile_plates import read_profile_plate
from moascope.screen.profiles import COUNTS, Profiles
from moascope.text import counted, listing
from moascope.work.code import code_digest
from moascope.work.digests import digest
from moascope.work.plates import update_plates


def check_measured(settings: Embed, images: bool, profiles: bool) -> None:
    """Fail where a screen lacks what the backbones need.

    Parameters
    ----------
    settings : Embed
    images, profiles : bool
        What the screen has.

    Raises
    ------
    MoascopeError
    """
    if PROFILES in settings.backbones and not profiles:
        raise MoascopeError(
            f"embed.backbone is {settings.backbone}, and the screen has no profiles. Put "
            "profiles.parquet, profiles.csv or profiles.csv.gz next to its layout.csv, or set "
            "embed.backbone to one that sees images, such as cellmobile.")
    if not images and settings.backbones != (PROFILES,):
        raise MoascopeError(
            f"embed.backbone is {settings.backbone}, which needs images, and the screen has "
            "profiles alone. Set embed.backbone to profiles in params.yaml (or add "
            "-S embed.backbone=profiles to dvc exp run).")


def feature_names(profiles: Profiles) -> list[str]:
    """The names of a screen's profiles among all features.

    `Profiles_<column>`; a column that counts objects stays `Count_<object>`, so that it also
    stands for the cell count that the baselines see.
    """
    names = [match[2] if (match := COUNTS.fullmatch(column)) else f"{label_of(PROFILES)}_{column}"
             for column in profiles.features]
    # Count_Cells and Image_Count_Cells in one table.
    taken: set[str] = set()
    for number, name in enumerate(names):
        if name in taken:
            names[number] = f"{label_of(PROFILES)}_{profiles.features[number]}"
        taken.add(names[number])
    return names


def profile_features(profiles: Profiles, plate: str, prepared: PreparedPlate | None = None,
                     ) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """The features of one plate.

    Parameters
    ----------
    profiles : Profiles
        Divided by plate.
    plate : str
    prepared : PreparedPlate, optional
        Of a screen with images: its sites are the rows. Each takes the profile of its site or,
        where the profiles do not tell sites apart, of its well.

    Returns
    -------
    sites : DataFrame
        `Metadata_` columns and `QC_Pass`; of a screen with images also its counts and intensities.
        A site without any value in its profile does not pass.
    features : ndarray, float32 [sites, features]
        NaN where a value is missing or infinite.
    names : list of str
        As `feature_names`.
    """
    sites, values = read_profile_plate(profiles, plate)
    values[np.isinf(values)] = np.nan
    names = feature_names(profiles)
    if prepared is None:
        return sites.assign(QC_Pass=~np.isnan(values).all(axis=1)), values, names
    own = prepared.sites()
    own = own[[name for name in own.columns
               if name.startswith(("Metadata_", "Count_", "Intensity_")) or name == "QC_Pass"]]
    key = SITE if profiles.by_site else SITE[:2]
    if not profiles.by_site:
        sites = sites.drop_duplicates(key)
    at = pd.MultiIndex.from_frame(sites[key]).get_indexer(pd.MultiIndex.from_frame(own[key]))
    found = np.full((len(own), len(profiles.features)), np.nan, np.float32)
    found[at >= 0] = values[at[at >= 0]]
    # A number that both measured is taken from the images.
    kept = [i for i, name in enumerate(names) if name not in own]
    passed = own["QC_Pass"].astype(bool) & ~np.isnan(found).all(axis=1)
    return own.assign(QC_Pass=passed), found[:, kept], [names[i] for i in kept]


def embed_profiles(profiles: Profiles, plates: list[PreparedPlate], prepared: Path, out: Path,
                   jobs: int) -> tuple[int, int]:
    """Bring the features of all plates up to date.

    Parameters
    ----------
    profiles : Profiles
        Divided by plate.
    plates : list of PreparedPlate
        Of a screen with images; empty where it has none.
    prepared : Path
        The folder of `plates`.
    out : Path
        Gets one folder per plate with `features.parquet`. A plate whose profiles, prepared sites
        and code have not changed is kept.
    jobs : int
        Processes.

    Returns
    -------
    tuple of int
        How many plates were made and how many were kept.
    """
    code = code_digest(_embed_one)
    keys = {plate.name: digest(plate.key, profiles.digests.get(plate.name, ""), code)
            for plate in plates}
    if not plates:
        keys = {plate: digest(total, code) for plate, total in profiles.digests.items()}
    return update_plates(out, keys, functools.partial(_embed_one, profiles), jobs,
                         f"embed {label_of(PROFILES)}",
                         (profiles.path, prepared if plates else None))


def _embed_one(profiles: Profiles, plate: str, folder: Path, measured: Path,
               prepared: Path | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    own = None if prepared is None else PreparedPlate(prepared / plate)
    sites, values, names = profile_features(dataclasses.replace(profiles, path=measured), plate,
                                            own)
    described = pa.Table.from_pandas(sites, preserve_index=False)
    # At once: columns that are appended one by one cost the square of their number.
    columns = [*described.columns,
               *(pa.array(np.ascontiguousarray(column)) for column in values.T)]
    schema = pa.schema([*described.schema, *(pa.field(name, pa.float32()) for name in names)],
                       described.schema.metadata)
    pyarrow.parquet.write_table(pa.Table.from_arrays(columns, schema=schema),
                                folder / FEATURES_FILE, use_dictionary=False,
                                write_statistics=False)


def without_empty(table: FeatureTable) -> tuple[FeatureTable, list[str]]:
    """A table without the profiles that have no value, and a sentence that names them.

    Parameters
    ----------
    table : FeatureTable
    """
    empty = np.concatenate([np.isnan(piece).all(axis=1) for _, piece in pieces(table.X)])
    if not empty.any():
        return table, []
    where = table.meta.loc[empty, ["Metadata_Plate", "Metadata_Well"]].agg(", well ".join, axis=1)
    kept = FeatureTable(table.meta[~empty].reset_index(drop=True), rows_of(table.X, ~empty),
                        table.names)
    return kept, [f"{counted(int(empty.sum()), 'profile')} without any value left out: "
                  f"{listing(f'plate {place}' for place in where)}."]
