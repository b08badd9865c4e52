"""The features of a screen as a table that pandas, scikit-learn and pycytominer can work with."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.table import META_PREFIXES, FeatureTable, load_features
from moascope.learning.joining import with_layout
from moascope.params_file import parse_params
from moascope.screen.columns import SITE, WELL
from moascope.screen.tables import Screen
from moascope.screen.wells import canonical_well
from moascope.text import counted, listing

PASSED = "Metadata_QC_Pass"
OF_LAYOUT = ("Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control")


def extract_features(screen: Screen, backbone: str = "cellmobile", *,
                     weights: str | Path | None = None, precision: str = "f32",
                     cache: str | Path | None = None, jobs: int = 1,
                     **prepare: Any) -> pd.DataFrame:
    """Prepare the images of a screen and compute its features with a frozen backbone.

    Parameters
    ----------
    screen : Screen
    backbone : str
        `cellmobile` (comes with moascope), `morphology` (classical measurements), `mobilenetv2`,
        `resnet50`, the path of a Keras model (`.keras`), or several joined by `+`.
    weights : str or Path, optional
        The weights file of the backbone, where it cannot be downloaded.
    precision : {"f32", "bf16"}
    cache : str or Path, optional
        A folder that keeps crops and features, so that a second call computes only the plates
        that changed. By default nothing is kept.
    jobs : int
        Processes that prepare plates.
    **prepare
        Keys of the section `prepare` of params.yaml, such as `crop=128` (pixels) and `crops=4`
        (per field, at most).

    Returns
    -------
    DataFrame
        One row per site; see `add_metadata` for its `Metadata_` columns. Every other column is a
        feature (float32): `Count_Nuclei` (per field), `Intensity_<Channel>_<statistic>` and
        `<Backbone>_<Channel>_<name>`, NaN where a site has no such channel. Features are raw;
        `cross_validate` normalises them by the negative controls of their plate.

    Raises
    ------
    MoascopeError
        On a setting that is unknown or out of its range, where weights are not available, or where
        no site can be read.

    Warns
    -----
    UserWarning
        For each site that is left out because its images cannot be read.

    Examples
    --------
    >>> features = moascope.extract_features(screen, "morphology")
    """
    from moascope.features.embed import features_of_screen

    params = parse_params({
        "prepare": prepare,
        "embed": {"backbone": backbone, "precision": precision,
                  "weights": None if weights is None else str(weights)},
    }, "extract_features")
    with tempfile.TemporaryDirectory(prefix="moascope-") as temporary:
        table = features_of_screen(screen, params.prepare, params.embed,
                                   Path(temporary if cache is None else cache), jobs=jobs)
    for sentence in table.warnings:
        warnings.warn(sentence, stacklevel=2)
    return _frame(table, screen)


def read_features(folder: str | Path, screen: Screen) -> pd.DataFrame:
    """Read the features that the pipeline computed.

    Parameters
    ----------
    folder : str or Path
        `data/embed` of a project.
    screen : Screen
        The project's screen (`data/acquire`).

    Returns
    -------
    DataFrame
        As `extract_features` gives it.

    Raises
    ------
    MoascopeError
        Where the folder holds no features.

    Examples
    --------
    >>> screen = moascope.read_screen("data/acquire")
    >>> features = moascope.read_features("data/embed", screen)
    """
    return _frame(load_features(Path(folder)), screen)


def add_metadata(profiles: pd.DataFrame, screen: Screen) -> pd.DataFrame:
    """Add what a screen's tables say of each row's well and compound.

    Parameters
    ----------
    profiles : DataFrame
        Features of sites or wells, from any software: `Metadata_Plate` and `Metadata_Well`,
        optional `Metadata_Site`, `Metadata_Batch`, `Metadata_Panel` and `Metadata_QC_Pass`. Every
        column without the prefix `Metadata_` is a feature.
    screen : Screen

    Returns
    -------
    DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site` (int), `Metadata_Batch`,
        `Metadata_Panel`, `Metadata_Compound`, `Metadata_Concentration_uM` (float, micromolar),
        `Metadata_Control` ("negative", "positive" or empty), `Metadata_MoA` and
        `Metadata_QC_Pass` (bool), then the features. Other `Metadata_` columns are left out.

    Raises
    ------
    MoascopeError
        Where a column is missing, a feature is not a number or infinite, a well has no valid name,
        or no well is one of the screen's.

    Warns
    -----
    UserWarning
        Where some wells are not in the screen's layout. They have no compound, and are not used.

    Examples
    --------
    >>> profiles = pd.read_parquet("pycytominer/augmented.parquet")
    >>> features = moascope.add_metadata(profiles, screen)
    """
    missing = [column for column in WELL if column not in profiles]
    if missing:
        raise MoascopeError(f"The profiles have no column {listing(missing)}. Name the plate and "
                            "the well of each row, as in the screen's layout.")
    names = _feature_names(profiles)
    meta = profiles[WELL].astype(str).reset_index(drop=True)
    spelt = {name: canonical_well(name) for name in meta["Metadata_Well"].unique()}
    meta["Metadata_Well"] = meta["Metadata_Well"].map(spelt)
    _check_wells(meta, screen)
    meta["Metadata_Site"] = _given(profiles, "Metadata_Site", 1)
    for column in ("Metadata_Batch", "Metadata_Panel"):
        meta[column] = _given(profiles, column, "")
        meta[column] = meta[column].fillna("").astype(str)
    passed = _given(profiles, "QC_Pass" if "QC_Pass" in profiles else PASSED, True)
    if not pd.api.types.is_bool_dtype(pd.Series(passed)):
        raise MoascopeError(f"The column {PASSED} of the profiles must hold True or False.")
    meta = with_layout(meta, screen.layout)
    moa = screen.annotations.set_index("Metadata_Compound")["Metadata_MoA"]
    meta["Metadata_MoA"] = meta["Metadata_Compound"].map(moa).fillna("")
    meta[PASSED] = passed
    return pd.concat([meta, profiles[names].reset_index(drop=True)], axis=1)


def feature_table(features: pd.DataFrame) -> FeatureTable:
    """Features as the learning rooms take them.

    Parameters
    ----------
    features : DataFrame
        As `add_metadata` gives it.

    Raises
    ------
    MoascopeError
        Where a column is missing, or there is no feature.
    """
    columns = [*SITE, "Metadata_Batch", "Metadata_Panel", *OF_LAYOUT, PASSED]
    missing = [column for column in columns if column not in features]
    if missing:
        raise MoascopeError(f"The features have no column {listing(missing)}. Add what the screen "
                            "knows of each well with moascope.add_metadata(features, screen).")
    names = _feature_names(features)
    meta = features[columns].rename(columns={PASSED: "QC_Pass"}).reset_index(drop=True)
    return FeatureTable(meta, features[names].to_numpy("float32"), names)


def _feature_names(table: pd.DataFrame) -> list[str]:
    """The columns that are features.

    Raises
    ------
    MoascopeError
        Where there is none, one occurs twice, or one has values that no model can take.
    """
    import numpy as np

    names = [str(name) for name in table.columns if not str(name).startswith(META_PREFIXES)]
    if not names:
        raise MoascopeError("The table has no feature: every column starts with Metadata_.")
    twice = pd.Index(names)[pd.Index(names).duplicated()]
    if len(twice):
        raise MoascopeError(f"The table has {listing(twice)} twice. Remove one of each.")
    words = [name for name in names if not pd.api.types.is_numeric_dtype(table[name])]
    if words:
        raise MoascopeError(f"The columns {listing(words)} are not numbers. Remove them, or start "
                            "their names with Metadata_.")
    with np.errstate(over="ignore"):
        infinite = np.isinf(table[names].to_numpy("float32")).any(axis=0)
    if infinite.any():
        raise MoascopeError(
            f"The features {listing(np.array(names)[infinite])} have infinite values, or values "
            "beyond those of 32-bit numbers. Remove them, or replace the values by NaN.")
    return names


def _check_wells(meta: pd.DataFrame, screen: Screen) -> None:
    """Fail where no row is a well of the layout, and warn where some are not."""
    known = pd.MultiIndex.from_frame(screen.layout[WELL])
    found = pd.MultiIndex.from_frame(meta).isin(known)
    if not found.any():
        plate, well = meta.iloc[0] if len(meta) else ("", "")
        raise MoascopeError(
            f"No row of the profiles is a well of the screen (the first is plate {plate}, well "
            f"{well}; the screen's first is {' '.join(screen.layout[WELL].iloc[0])}). Name plates "
            "as the screen does.")
    if not found.all():
        strange = meta[~found].drop_duplicates().agg(" ".join, axis=1)
        warnings.warn(f"{counted(len(strange), 'well')} of the profiles are not in the screen's "
                      f"layout and are not used: {listing(strange)}.", stacklevel=3)


def _given(profiles: pd.DataFrame, column: str, default: int | str | bool) -> Any:
    return profiles[column].to_numpy() if column in profiles else default


def _frame(table: FeatureTable, screen: Screen) -> pd.DataFrame:
    return add_metadata(
        pd.concat([table.meta, pd.DataFrame(table.X, columns=table.names)], axis=1), screen)
