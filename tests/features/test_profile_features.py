"""The backbone `profiles`: rows, names, and how it stands beside backbones that see images."""

from __future__ import annotations

import tempfile

import numpy as np
import pandas as pd
import pytest
from helpers import make_screen
from profiled import make_profiles, write_profiles

from moascope.errors import MoascopeError
from moascope.features import disk
from moascope.features.embed import embed_plates, features_of_screen
from moascope.features.profiles import check_measured
from moascope.features.table import has_images, load_features, load_quality, profile_columns
from moascope.params import Embed, Prepare
from moascope.pixels.prepare import prepare_plates
from moascope.screen.profile_plates import write_profile_plates
from moascope.screen.profiles import read_profiles
from moascope.screen.tables import read_screen
from moascope.sources.folder import acquire_folder

PROFILES = Embed(backbone="profiles")
BOTH = Embed(backbone="morphology+profiles")
SMALL = Prepare(crop=32, crops=1)


def places(rows):
    """A number that tells plate and column of the well."""
    plate = rows["Metadata_Plate"].str[-1:].astype(int)
    return 100 * plate + rows["Metadata_Well"].str[1:].astype(int)


def with_profiles(folder, by_site, wells=8):
    """A screen with images of 2 sites per well, whose profile tells well and site."""
    make_screen(folder, plates=2, wells=wells, sites=2, controls=4)
    sites = pd.read_csv(folder / "load_data.csv")
    rows = sites[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]]
    if not by_site:
        rows = rows.drop(columns="Metadata_Site").drop_duplicates()
    table = rows.assign(Place=places(rows).astype(float))
    if by_site:
        table["Site"] = rows["Metadata_Site"].astype(float)
    write_profiles(folder / "profiles.parquet", table)
    return folder


def embedded(folder, tmp_path, embed):
    screen = read_screen(folder)
    (out := tmp_path / "acquired").mkdir()
    profiles = write_profile_plates(screen.profiles, out)
    prepare_plates(screen, tmp_path / "prepared", SMALL, 1)
    embed_plates(tmp_path / "prepared", tmp_path / "embedded", embed, 1, profiles)
    return load_features(tmp_path / "embedded")


@pytest.fixture
def acquired(tmp_path):
    acquire_folder(make_profiles(tmp_path / "screen", plates=2, features=12),
                   out := tmp_path / "acquired")
    return out


def test_features_are_the_profiles_under_the_name_of_their_backbone(acquired, tmp_path):
    profiles = read_profiles(acquired)
    embed_plates(tmp_path / "none", out := tmp_path / "embedded", PROFILES, 1, profiles)
    table = load_features(out)
    assert table.names == [f"Profiles_Cells_Feature_{i}" for i in range(12)]
    given = pd.read_parquet(tmp_path / "screen/profiles.parquet").set_index(
        ["Metadata_Plate", "Metadata_Well"])
    rows = given.loc[list(zip(table.meta["Metadata_Plate"], table.meta["Metadata_Well"],
                              strict=True))]
    assert np.array_equal(table.X, rows.to_numpy(np.float32))
    assert load_quality(out)["QC_Pass"].all()
    assert not has_images(table.names)
    assert profile_columns(table.names) == tuple(f"Cells_Feature_{i}" for i in range(12))


def test_only_a_plate_whose_profiles_changed_is_embedded_again(tmp_path):
    folder = make_profiles(tmp_path / "screen", plates=3, features=12)
    for number, expected in enumerate([(3, 0), (0, 3), (1, 2)]):
        if number == 2:
            table = pd.read_parquet(folder / "profiles.parquet")
            table.loc[0, "Cells_Feature_0"] += 1
            table.to_parquet(folder / "profiles.parquet", index=False)
        (acquired := tmp_path / f"acquired{number}").mkdir()
        acquire_folder(folder, acquired)
        assert embed_plates(tmp_path / "none", tmp_path / "embedded", PROFILES, 1,
                            read_profiles(acquired)) == {"profiles": expected}


def test_infinite_values_become_missing_and_an_empty_profile_is_left_out(tmp_path):
    folder = make_profiles(tmp_path / "screen", plates=1, features=4)
    table = pd.read_parquet(folder / "profiles.parquet")
    table.loc[0, "Cells_Feature_0"] = np.inf
    table.loc[1, [f"Cells_Feature_{i}" for i in range(4)]] = np.nan
    table.to_parquet(folder / "profiles.parquet", index=False)
    found = features_of_screen(read_screen(folder), SMALL, PROFILES)
    assert np.isnan(found.X).sum() == 1
    assert not np.isinf(found.X).any()
    assert len(found.meta) == len(table) - 1 and found.meta["QC_Pass"].all()
    well = table.loc[1, "Metadata_Well"]
    assert found.warnings == (f"1 profile without any value left out: plate Plate1, well {well}.",)


@pytest.mark.parametrize("by_site", [False, True])
def test_each_imaged_site_takes_the_profile_of_its_site_or_well(tmp_path, by_site):
    table = embedded(with_profiles(tmp_path / "screen", by_site), tmp_path, BOTH)
    assert table.X[:, table.names.index("Profiles_Place")].tolist() == places(table.meta).tolist()
    assert len(table.meta) == 32
    assert any(name.startswith("Morphology_") for name in table.names)
    assert has_images(table.names)
    if by_site:
        assert (table.X[:, table.names.index("Profiles_Site")].tolist()
                == table.meta["Metadata_Site"].tolist())


def test_an_imaged_site_without_a_profile_takes_no_part(tmp_path):
    folder = with_profiles(tmp_path / "screen", by_site=False)
    table = pd.read_parquet(folder / "profiles.parquet")
    table[table["Metadata_Well"] != "B02"].to_parquet(folder / "profiles.parquet", index=False)
    found = embedded(folder, tmp_path, BOTH)
    lacking = found.meta["Metadata_Well"] == "B02"
    assert not found.meta.loc[lacking, "QC_Pass"].any()
    assert np.isnan(found.X[lacking, found.names.index("Profiles_Place")]).all()
    assert found.meta.loc[~lacking, "QC_Pass"].any()
    assert not load_quality(tmp_path / "embedded")["QC_Pass"][lacking].any()


def test_a_screen_in_memory_and_one_on_disk_have_the_same_features(tmp_path):
    screen = read_screen(with_profiles(tmp_path / "screen", by_site=True))
    memory = features_of_screen(screen, SMALL, BOTH)
    disk = features_of_screen(screen, SMALL, BOTH, tmp_path / "work")
    assert memory.names == disk.names
    assert np.array_equal(memory.X, disk.X)
    pd.testing.assert_frame_equal(memory.meta, disk.meta)


def test_profiles_beyond_memory_are_those_in_memory_and_outlive_their_folder(tmp_path,
                                                                             monkeypatch):
    folder = make_profiles(tmp_path / "screen", plates=2, features=5)
    table = pd.read_parquet(folder / "profiles.parquet")
    table.loc[[3, 40], [name for name in table if name.startswith("Cells_")]] = np.nan
    table.to_parquet(folder / "profiles.parquet", index=False)
    screen = read_screen(folder)
    memory = features_of_screen(screen, SMALL, PROFILES, on_disk=True)
    assert isinstance(memory.X, np.ndarray)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(disk, "PIECE", 4 * 5 * 7)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    large = features_of_screen(screen, SMALL, PROFILES, on_disk=True)
    assert isinstance(large.X, disk.OnDisk)
    assert not list(temporary.iterdir())
    assert memory.names == large.names and memory.warnings == large.warnings
    assert large.warnings[0].startswith("2 profiles without any value left out: plate Plate1")
    np.testing.assert_array_equal(large.X[:], memory.X)
    pd.testing.assert_frame_equal(large.meta, memory.meta)
    assert isinstance(features_of_screen(screen, SMALL, PROFILES).X, np.ndarray)


def test_a_column_that_counts_objects_is_the_cell_count(tmp_path):
    folder = make_profiles(tmp_path / "screen", plates=1, features=4)
    table = pd.read_parquet(folder / "profiles.parquet")
    table["Image_Count_Cells"], table["Count_Cells"] = 7, 8
    table.to_parquet(folder / "profiles.parquet", index=False)
    found = features_of_screen(read_screen(folder), SMALL, PROFILES)
    assert found.names[-2:] == ["Count_Cells", "Profiles_Count_Cells"]
    assert not has_images(found.names)


@pytest.mark.parametrize(("backbone", "images", "profiles", "sentence"), [
    ("cellmobile", False, True, "needs images, and the screen has profiles alone. Set "
                                "embed.backbone to profiles"),
    ("cellmobile+profiles", False, True, "needs images, and the screen has profiles alone"),
    ("profiles", True, False, "the screen has no profiles. Put profiles.parquet"),
])
def test_a_screen_that_lacks_what_a_backbone_needs_says_so(backbone, images, profiles, sentence):
    with pytest.raises(MoascopeError, match=sentence):
        check_measured(Embed(backbone=backbone), images, profiles)
