import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.features import disk
from moascope.features.normalise import apply_sphering, fit_sphering, standardise_plates
from moascope.features.selection import distinct, is_known, varies
from moascope.features.table import FeatureTable, load_features


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(disk, "PIECE", 7 * 4 * 12)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)


def numbers(rows=90, columns=12, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def stored(X, folder):
    return disk.written(X.shape, np.array_split(X, 4), folder)


def test_any_rows_and_columns_come_back_as_they_were_written(tmp_path):
    X = numbers()
    kept = stored(X, tmp_path)
    chosen = np.random.default_rng(1).permutation(90)[:40]
    np.testing.assert_array_equal(kept[chosen], X[chosen])
    np.testing.assert_array_equal(kept[X[:, 0] > 0], X[X[:, 0] > 0])
    part = disk.columns_of(kept.take(chosen), np.array([5, 2, 9]))
    np.testing.assert_array_equal(part[3:30], X[chosen][3:30][:, [5, 2, 9]])
    twice = disk.columns_of(part, np.array([2, 0])).take(np.arange(10, 20))
    beside = numbers(10, 2, seed=2)
    np.testing.assert_array_equal(np.asarray(disk.with_beside(twice, beside)),
                                  np.hstack([X[chosen[10:20]][:, [9, 5]], beside]))
    assert kept[np.zeros(90, bool)].shape == (0, 12)
    assert disk.columns_of(kept, np.zeros(0, int)).shape == (90, 0)


def test_several_threads_read_one_table(tmp_path):
    X = numbers(2000, 50)
    kept = stored(X, tmp_path)

    def reads_wrong(seed):
        chosen = np.random.default_rng(seed).permutation(2000)[:300]
        return not np.array_equal(kept[chosen], X[chosen])

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(reads_wrong, range(40)))


def test_few_columns_of_a_large_table_are_in_memory(tmp_path, monkeypatch):
    X = numbers()
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 4 * 90 * 2)
    found = disk.columns_of(stored(X, tmp_path), np.array([3, 1]))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, X[:, [3, 1]])
    assert isinstance(disk.columns_of(stored(X, tmp_path), np.array([3, 1, 2])), disk.OnDisk)


def test_the_file_has_no_name_that_could_be_left_behind(tmp_path):
    kept = stored(numbers(), tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(kept) == 90


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**28))
    with pytest.raises(MoascopeError, match=r"features of 90 rows take 0\.0 GiB .*0\.2 GiB"):
        stored(numbers(), tmp_path)


def plates(folder, names, seed):
    for number, plate in enumerate(("A", "B", "C")):
        # The last plate lacks a channel.
        own = names[:-1] if plate == "C" else names
        X = numbers(11 + number, len(own), seed + number)
        meta = pd.DataFrame({"Metadata_Plate": plate, "Metadata_Site": range(len(X)),
                             "QC_Pass": [site != seed for site in range(len(X))]})
        (folder / plate).mkdir(parents=True)
        pd.concat([meta, pd.DataFrame(X, columns=own)], axis=1).to_parquet(
            folder / plate / "features.parquet", index=False)


def test_plates_of_several_backbones_are_the_same_table_on_disk_and_in_memory(tmp_path):
    plates(tmp_path / "one", ["Count_Nuclei", "One_a", "One_b"], 1)
    plates(tmp_path / "two", ["Count_Nuclei", "Two_a", "Two_b"], 2)
    memory, large = load_features(tmp_path), load_features(tmp_path, on_disk=tmp_path)
    assert isinstance(memory.X, np.ndarray)
    assert isinstance(large.X, disk.OnDisk)
    assert large.names == memory.names == ["Count_Nuclei", "One_a", "One_b", "Two_a", "Two_b"]
    pd.testing.assert_frame_equal(large.meta, memory.meta)
    np.testing.assert_array_equal(large.X[:], memory.X)
    assert np.isnan(memory.X[-13:, [2, 4]]).all()


@pytest.mark.parametrize("moderated", [False, True])
def test_plates_are_standardised_on_disk_as_in_memory(tmp_path, moderated):
    X = numbers() * np.linspace(1, 30, 12, dtype=np.float32)
    X[:20, 3] = np.nan
    meta = pd.DataFrame({"Metadata_Plate": np.repeat(["A", "B", "C"], 30),
                         # Panels take turns within a plate.
                         "Metadata_Panel": np.tile(["p", "q"], 45)})
    controls = np.arange(90) % 30 < 12
    controls[60:] = False
    table = FeatureTable(meta, X, [f"f{i}" for i in range(12)])
    large = standardise_plates(FeatureTable(meta, stored(X, tmp_path), table.names), controls,
                               moderated)
    memory = standardise_plates(table, controls, moderated)
    assert isinstance(large.X, disk.OnDisk)
    np.testing.assert_array_equal(large.X[:], memory.X)
    assert large.warnings == memory.warnings != ()


@pytest.mark.parametrize("controls", [90, 9])
def test_sphering_by_the_covariance_of_many_controls_is_that_of_their_singular_values(
        tmp_path, controls):
    X = numbers() @ numbers(12, 12, seed=3)
    memory = fit_sphering(X[:controls])
    large = fit_sphering(stored(X, tmp_path).take(np.arange(controls)))
    assert len(large.axes) == len(memory.axes) == min(controls - 1, 12)
    np.testing.assert_allclose(apply_sphering(X, large), apply_sphering(X, memory), rtol=2e-5,
                               atol=2e-5)


def test_the_features_worth_having_are_the_same_on_disk(tmp_path):
    X = numbers()
    X[:, 5] = 3
    X[:, 7] = -X[:, 2] + 0.01 * X[:, 4]
    X[:45, 8] = np.nan
    X[50:60, 9] = np.nan
    panels = np.repeat(["p", "q"], 45)
    kept = stored(X, tmp_path)
    known = is_known(kept, panels)
    np.testing.assert_array_equal(known, is_known(X, panels))
    np.testing.assert_array_equal(np.flatnonzero(~known), [9])
    np.testing.assert_array_equal(np.flatnonzero(~varies(kept)), [5])
    np.testing.assert_array_equal(varies(kept), varies(X))
    clean = np.nan_to_num(X)
    np.testing.assert_array_equal(np.flatnonzero(~distinct(stored(clean, tmp_path))), [7])
    np.testing.assert_array_equal(distinct(stored(clean, tmp_path)), distinct(clean))
