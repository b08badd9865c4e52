"""From prepared plates to the table of features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import many_fields, write_plate

from moascope.errors import MoascopeError
from moascope.features.backbones import Backbone
from moascope.features.embed import embed_plate, embed_plates, embedded_with, features_of_screen
from moascope.features.table import load_features
from moascope.params import Embed, Prepare
from moascope.pixels.prepare import prepare_plates
from moascope.pixels.prepared import PreparedPlate

SETTINGS = Prepare(crop=48, crops=4)
MORPHOLOGY = Embed(backbone="morphology")


def two_channels(number: int, seed: int = 0) -> dict[tuple[str, int], np.ndarray]:
    return {key: np.stack([plane, plane[::-1] // 2])
            for key, plane in many_fields(number, seed).items()}


def mean_and_place() -> Backbone:
    """A backbone whose features are known: mean of a plane, its first pixel, a pair's product."""
    return Backbone(
        "Toy", ("Mean", "Corner"),
        lambda planes: np.stack([planes.mean(axis=(1, 2)), planes[:, 0, 0]], 1).astype(np.float32),
        ("Product",),
        lambda a, b: (a.mean(axis=(1, 2)) * b.mean(axis=(1, 2)))[:, np.newaxis].astype(np.float32))


def test_features_are_means_over_crops_in_the_order_of_their_names(tmp_path):
    screen = write_plate(tmp_path / "images", two_channels(70))
    prepare_plates(screen, tmp_path / "prepared", SETTINGS, 1)
    (tmp_path / "out").mkdir()
    embed_plate(PreparedPlate(tmp_path / "prepared" / "P1"), tmp_path / "out", mean_and_place())
    table = pd.read_parquet(tmp_path / "out" / "features.parquet")
    crops = np.load(tmp_path / "prepared" / "P1" / "crops.npy").astype(float)
    names = [name for name in table if name.startswith("Toy_")]
    assert names == ["Toy_DNA_Mean", "Toy_DNA_Corner", "Toy_GFP_Mean", "Toy_GFP_Corner",
                     "Toy_DNA_GFP_Product"]
    means = crops.mean(axis=(3, 4))
    assert np.allclose(table["Toy_GFP_Mean"], means[:, :, 1].mean(axis=1), rtol=1e-5)
    assert np.allclose(table["Toy_DNA_Corner"], crops[:, :, 0, 0, 0].mean(axis=1), rtol=1e-5)
    assert np.allclose(table["Toy_DNA_GFP_Product"], (means[:, :, 0] * means[:, :, 1]).mean(axis=1),
                       rtol=1e-5)
    assert {"Metadata_Well", "QC_Pass", "Count_Nuclei", "Intensity_DNA_Mean"} <= set(table)
    assert table[names].dtypes.eq(np.float32).all()


def test_a_plate_whose_crops_did_not_change_is_not_embedded_again(tmp_path):
    prepared, out = tmp_path / "prepared", tmp_path / "embedded"
    prepare_plates(write_plate(tmp_path / "images", many_fields(3)), prepared, SETTINGS, 1)
    assert embed_plates(prepared, out, MORPHOLOGY, 1) == {"morphology": (1, 0)}
    assert embed_plates(prepared, out, MORPHOLOGY, 1) == {"morphology": (0, 1)}
    (prepared / "P1" / "key.txt").write_text("changed")
    assert embed_plates(prepared, out, MORPHOLOGY, 1) == {"morphology": (1, 0)}


def test_a_second_backbone_is_added_and_keeps_the_features_of_the_first(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    file = tmp_path / "own.keras"
    keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Conv2D(3, 3)]).save(file)
    prepared, out = tmp_path / "prepared", tmp_path / "embedded"
    prepare_plates(write_plate(tmp_path / "images", two_channels(4)), prepared, SETTINGS, 1)
    embed_plates(prepared, out, MORPHOLOGY, 1)
    alone = load_features(out)
    both = Embed(backbone=f"morphology+{file}")
    assert embed_plates(prepared, out, both, 1) == {"morphology": (0, 1), str(file): (1, 0)}
    table = load_features(out)
    assert table.names == [*alone.names, *(f"own_{channel}_{index:04d}"
                                           for channel in ("DNA", "GFP") for index in range(3))]
    assert np.array_equal(table.X[:, : len(alone.names)], alone.X)
    assert np.isfinite(table.X[:, len(alone.names):]).all()
    # Features made with one file are not those of another one in its place.
    assert embedded_with(out, str(file), file)
    other = tmp_path / "other.keras"
    other.write_bytes(file.read_bytes() + b"0")
    assert not embedded_with(out, str(file), other)
    assert not embedded_with(tmp_path, str(file), file)
    assert embed_plates(prepared, out, MORPHOLOGY, 1) == {"morphology": (0, 1)}
    assert load_features(out).names == alone.names


def test_backbones_that_saw_other_sites_are_not_joined(tmp_path):
    for label, rows in (("One", 2), ("Two", 3)):
        folder = tmp_path / label / "P1"
        folder.mkdir(parents=True)
        pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Site": range(rows),
                      f"{label}_x": np.zeros(rows, np.float32)}).to_parquet(
                          folder / "features.parquet")
    with pytest.raises(MoascopeError, match="different sites"):
        load_features(tmp_path)


def test_panels_with_other_channels_share_one_table(tmp_path):
    prepared = tmp_path / "prepared"
    for plate, planes in (("P1", many_fields(3)), ("P2", two_channels(4, seed=1))):
        prepare_plates(write_plate(tmp_path / "images", planes, plate=plate),
                       tmp_path / f"one_{plate}", SETTINGS, 1)
        prepared.mkdir(exist_ok=True)
        (tmp_path / f"one_{plate}" / plate).rename(prepared / plate)
    embed_plates(prepared, tmp_path / "embedded", MORPHOLOGY, 1)
    table = load_features(tmp_path / "embedded")
    assert table.meta["Metadata_Plate"].tolist() == ["P1"] * 3 + ["P2"] * 4
    assert len(set(table.names)) == len(table.names) == table.X.shape[1]
    gfp = [index for index, name in enumerate(table.names) if "GFP" in name]
    assert np.isnan(table.X[:3, gfp]).all() and np.isfinite(table.X[3:]).all()


def test_a_missing_channel_gives_no_feature_rather_than_that_of_a_black_plane(tmp_path):
    screen = write_plate(tmp_path / "images", two_channels(6))
    screen.sites.loc[4:, "FileName_GFP"] = ""
    screen.sites.loc[4:, "Metadata_Panel"] = "DNA only"
    table = features_of_screen(screen, SETTINGS, MORPHOLOGY, tmp_path / "work")
    of_gfp = np.array(["GFP" in name for name in table.names])
    assert np.isnan(table.X[4:][:, of_gfp]).all()
    assert np.isfinite(table.X[4:][:, ~of_gfp]).all() and np.isfinite(table.X[:4]).all()


def test_serving_gives_the_features_of_the_stages(tmp_path):
    screen = write_plate(tmp_path / "images", two_channels(5))
    prepare_plates(screen, tmp_path / "prepared", SETTINGS, 1)
    embed_plates(tmp_path / "prepared", tmp_path / "embedded", MORPHOLOGY, 1)
    stages = load_features(tmp_path / "embedded")
    for work in (tmp_path / "work", None):
        served = features_of_screen(screen, SETTINGS, MORPHOLOGY, work)
        assert served.names == stages.names
        assert np.array_equal(served.X, stages.X)
        pd.testing.assert_frame_equal(served.meta, stages.meta)
        assert served.warnings == ()


def test_features_in_memory_are_those_on_disk_where_panels_have_other_channels(tmp_path):
    screen = write_plate(tmp_path / "images", two_channels(6))
    screen.sites.loc[3:, "Metadata_Plate"] = "P2"
    screen.sites.loc[3:, "FileName_GFP"] = ""
    screen.sites.loc[3:, "Metadata_Panel"] = "DNA only"
    kept = features_of_screen(screen, SETTINGS, MORPHOLOGY, tmp_path / "work")
    made = features_of_screen(screen, SETTINGS, MORPHOLOGY)
    assert made.names == kept.names
    assert np.array_equal(made.X, kept.X, equal_nan=True)
    pd.testing.assert_frame_equal(made.meta, kept.meta)


def test_serving_leaves_out_what_it_cannot_read_and_says_so(tmp_path):
    screen = write_plate(tmp_path / "images", many_fields(4))
    (tmp_path / "images" / screen.sites["FileName_DNA"].iloc[0]).unlink()
    table = features_of_screen(screen, SETTINGS, MORPHOLOGY, tmp_path / "work")
    assert len(table.meta) == len(table.X) == 3
    (warning,) = table.warnings
    assert "well A01, site 1 is left out" in warning and "missing" in warning
    for name in screen.sites["FileName_DNA"].iloc[1:]:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(MoascopeError, match="No site of the screen could be read"):
        features_of_screen(screen, SETTINGS, MORPHOLOGY, tmp_path / "work2")


def test_a_folder_without_features_is_an_error(tmp_path):
    with pytest.raises(MoascopeError, match="no plate with features"):
        load_features(tmp_path)
