"""What validate says of profiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import make_screen
from profiled import make_profiles, write_profiles

from moascope.errors import MoascopeError
from moascope.params import Validate
from moascope.screen.manifest import make_manifest, write_manifest
from moascope.screen.tables import read_screen
from moascope.sources.folder import acquire_folder
from moascope.validation.checks import closing_words, stop_if_critical, validate_screen
from moascope.validation.profiles import profile_facts, profile_warnings


def acquired(folder, edit, tmp_path):
    """A screen of 64 wells and 60 features, whose table `edit` changes in place."""
    make_profiles(folder, plates=2)
    table = pd.read_parquet(folder / "profiles.parquet")
    edit(table)
    table.to_parquet(folder / "profiles.parquet", index=False)
    acquire_folder(folder, out := tmp_path / "acquired")
    write_manifest(make_manifest(read_screen(out)), out)
    return out


def spoil(table):
    table["Cells_Feature_0"] = np.nan
    table.loc[3, "Cells_Feature_1"] = np.nan
    table.loc[4, "Cells_Feature_2"] = np.inf
    table["Cells_Feature_3"] = 5.0
    table["Cells_Feature_4"] = table["Cells_Feature_5"]
    table.loc[6, "Cells_Feature_6"] += 1e6
    features = [name for name in table if name.startswith("Cells_")]
    table.loc[7, features] = table.loc[8, features]


def test_each_kind_of_feature_that_says_little_is_named(tmp_path):
    rows, features = profile_facts(
        read_screen(acquired(tmp_path / "screen", spoil, tmp_path)).profiles)
    of = features.set_index("Feature")
    assert of.loc["Cells_Feature_0", "Known"] == 0
    assert of.loc["Cells_Feature_1", "Known"] == pytest.approx(63 / 64)
    assert of.loc["Cells_Feature_2", "Infinite"] == 1
    assert of.index[of["Constant"]].tolist() == ["Cells_Feature_0", "Cells_Feature_3"]
    assert of.index[of["SameAs"] != ""].tolist() == ["Cells_Feature_5"]
    assert of.loc["Cells_Feature_5", "SameAs"] == "Cells_Feature_4"
    assert of.index[of["Far"] > 0].tolist() == ["Cells_Feature_6"]
    assert rows["Profile"].duplicated(keep=False).sum() == 2
    assert profile_warnings(rows, features) == [
        "1 feature of 60 has no value in any profile: Cells_Feature_0.",
        "1 feature of 60 lacks a value in some profiles: Cells_Feature_1.",
        "1 feature of 60 has infinite values, which count as missing: Cells_Feature_2.",
        "1 feature of 60 has one value in all profiles: Cells_Feature_3.",
        "1 feature of 60 repeats another feature: Cells_Feature_5.",
        "1 feature of 60 has values more than 500 robust standard deviations from the median of "
        "their plate: Cells_Feature_6.",
        "2 profiles are the same as another one, value by value: "
        + " and ".join(f"plate {p}, well {w}" for p, w in rows.loc[
            rows["Profile"].duplicated(keep=False),
            ["Metadata_Plate", "Metadata_Well"]].to_numpy()) + ".",
    ]


def test_validate_expects_of_rows_and_features_and_quarantines_an_empty_profile(tmp_path):
    def edit(table):
        spoil(table)
        table.loc[9, [name for name in table if name.startswith("Cells_")]] = np.nan

    folder = acquired(tmp_path / "screen", edit, tmp_path)
    found = validate_screen(Validate(), folder, tmp_path / "out", tmp_path / "report", 1)
    failed = {outcome["expectation"] for outcome in found["expectations"]
              if not outcome["success"]}
    assert failed == {
        "No site is quarantined", "Every profile has values",
        "No two profiles are the same, value by value", "No value is missing",
        "No value is infinite", "No feature is constant", "No feature repeats another",
        "No value is more than 500 robust standard deviations from the median of its plate"}
    assert found["profiles"] == {"features": 60, "rows": 64}
    assert found["quarantine"]["reasons"] == {"no value in its profile": 1}
    assert found["success"]
    stop_if_critical(found, Validate())
    assert closing_words(found, tmp_path / "v.json").startswith(
        "63 of 64 sites usable; 1 quarantined (1 no value in its profile); ")
    assert len(pd.read_csv(tmp_path / "out/quarantine.csv")) == 1


def test_profiles_that_are_all_alike_stop_the_run(tmp_path):
    def edit(table):
        table[[name for name in table if name.startswith("Cells_")]] = 1.0

    folder = acquired(tmp_path / "screen", edit, tmp_path)
    found = validate_screen(Validate(), folder, tmp_path / "out", tmp_path / "report", 1)
    with pytest.raises(MoascopeError, match="At least one feature differs between profiles"):
        stop_if_critical(found, Validate())


@pytest.mark.parametrize("by_site", [False, True])
def test_imaged_sites_without_a_profile_are_named(tmp_path, by_site):
    folder = make_screen(tmp_path / "screen", wells=4, compounds=2)
    sites = pd.read_csv(folder / "load_data.csv")
    rows = sites[["Metadata_Plate", "Metadata_Well", *(["Metadata_Site"] if by_site else [])]]
    table = rows.drop_duplicates().assign(Area=range(8 if by_site else 4)).iloc[1:]
    write_profiles(folder / "profiles.csv", table)
    acquire_folder(folder, out := tmp_path / "acquired")
    write_manifest(make_manifest(read_screen(out)), out)
    found = validate_screen(Validate(), out, tmp_path / "out", tmp_path / "report", 1)
    assert found["warnings"] == [
        f"{1 if by_site else 2} of 8 sites with images have no profile, and take no part where "
        "embed.backbone names profiles: plate Plate1, well B02."]
