"""Activity, dose-responses and consistency of features on disk are those of features in memory."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import laid_on_disk, make_examples, with_plate_controls
from test_activity import make_sites

from moascope.evaluation import consistency, distances
from moascope.evaluation.activity import measure_activity
from moascope.evaluation.consistency import measure_consistency
from moascope.evaluation.cross_normalised import cross_normalised, deal_controls
from moascope.evaluation.doses import measure_doses
from moascope.features import disk
from moascope.params import Activity


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(disk, "PIECE", 4 * 40 * 37)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)


def two_sites_a_well(**layout):
    """Wells of two sites, in another order than that of plates, and a plate without controls."""
    table = make_sites(plates=5, compounds=10, doses=3, strong=(2, 5), panels=2, **layout)
    meta = pd.concat([table.meta, table.meta.assign(Metadata_Site=2)], ignore_index=True)
    X = np.concatenate([table.X, table.X + 1]).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(meta))
    meta = meta.iloc[order].reset_index(drop=True)
    meta.loc[meta["Metadata_Plate"] == "P4", "Metadata_Control"] = ""
    meta["QC_Pass"] = np.arange(len(meta)) % 17 > 0
    return replace(table, meta=meta, X=X[order])


def on_disk(table, folder):
    return replace(table, X=disk.written(table.X.shape, [table.X], folder))


@pytest.mark.parametrize("how", ["plate", "plate+sphere"])
def test_activity_is_the_same(how, tmp_path):
    table = two_sites_a_well()
    settings = Activity(null_size=200, normalisation=how)
    memory, large = (measure_activity(one, settings, 0)
                     for one in (table, on_disk(table, tmp_path)))
    # The wells of the plate without controls are of a compound by that name, and not tested.
    assert set(memory.compounds["active"]) == {"yes", "no", ""}
    pd.testing.assert_frame_equal(large.compounds, memory.compounds, rtol=1e-6)
    pd.testing.assert_frame_equal(large.doses, memory.doses, rtol=1e-6)
    assert (large.position, large.warnings) == (pytest.approx(memory.position), memory.warnings)


def test_profiles_of_wells_stay_on_disk(tmp_path):
    """Where they are large; a small table of them is used from memory."""
    table = on_disk(two_sites_a_well(controls=20), tmp_path)
    own = np.flatnonzero(table.meta["Metadata_Panel"] == "panel0")
    sites = replace(table, meta=table.meta.iloc[own].reset_index(drop=True), X=table.X.take(own))
    dealt, _ = deal_controls(sites.meta, np.random.default_rng(0))
    wells, profiles, _ = cross_normalised(sites, dealt, "plate+sphere")
    assert all(isinstance(one, disk.OnDisk) for one in profiles)
    assert {one.shape for one in profiles} == {(len(wells), 40)}


def test_dose_responses_are_the_same(tmp_path):
    table = two_sites_a_well()
    memory, large = (measure_doses(one, Activity(null_size=100), 0)
                     for one in (table, on_disk(table, tmp_path)))
    assert len(memory.curves) == 20
    # The same principal components from two computations of a few digits.
    pd.testing.assert_frame_equal(large.doses, memory.doses, rtol=0.02)
    assert (large.curves["p_value"] - memory.curves["p_value"]).abs().max() < 0.05


def test_directions_are_found_from_a_part_of_the_wells(monkeypatch, tmp_path):
    """What varies much is found from a third of them as from all."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 40)).astype(np.float32)
    X[:, :20] *= 20
    monkeypatch.setattr(distances, "MOST_VALUES", 300 * 40)
    found = distances._components(disk.written(X.shape, [X], tmp_path))
    assert found.shape == (900, 20)
    assert (found**2).sum() == pytest.approx((X[:, :20]**2).sum(), rel=0.01)


def test_consistency_is_the_same(tmp_path):
    examples = with_plate_controls(make_examples(compounds=24, panels=2),
                                   np.random.default_rng(0))
    examples = replace(examples, groups=examples.groups.assign(Metadata_MoA=["a", "b", "c"] * 8),
                       _cache={})
    compounds = pd.DataFrame({"Metadata_Compound": examples.groups["Metadata_Compound"],
                              "active": "yes"})
    memory, large = (measure_consistency(one, compounds, Activity(null_size=100), 0)
                     for one in (examples, laid_on_disk(examples, tmp_path)))
    assert len(memory) == 3
    pd.testing.assert_frame_equal(large, memory, rtol=1e-6)


def test_a_mechanism_is_compared_with_a_part_of_very_many_compounds(monkeypatch):
    """It is found all the same, and one of noise is not."""
    examples = make_examples(compounds=120, effect=4.0)
    terms = np.where(examples.groups["Label"] == examples.question.classes[1], "found", "noise")
    terms[1::4] = "other"
    examples = replace(examples, groups=examples.groups.assign(Metadata_MoA=terms), _cache={})
    compounds = pd.DataFrame({"Metadata_Compound": examples.groups["Metadata_Compound"],
                              "active": "yes"})
    monkeypatch.setattr(consistency, "MOST_OTHERS", 25)
    table = measure_consistency(examples, compounds, Activity(null_size=200), 0)
    table = table.set_index("Metadata_MoA")
    members = table["compounds"] * examples.in_folds.mean()
    # A random list of as many members among 25 others, and not among all.
    assert table.loc["found", "null_mean"] == pytest.approx(
        members["found"] / (members["found"] + 25), abs=0.1)
    assert table.loc["found", "consistent"] == "yes"
