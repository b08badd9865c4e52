"""Plates standardised by their controls, and sphering."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moascope.features.normalise import (
    apply_sphering,
    fit_sphering,
    plate_scales,
    standardise_plates,
)
from moascope.features.table import FeatureTable


def screen(plates: int = 3, sites: int = 40, features: int = 4, seed: int = 0,
           ) -> tuple[FeatureTable, np.ndarray]:
    """Plates with gains and offsets of their own; the first ten sites are controls."""
    rng = np.random.default_rng(seed)
    blocks, plate_names = [], []
    for plate in range(plates):
        values = rng.normal(size=(sites, features))
        values[10:] += np.arange(features)
        blocks.append(values * rng.uniform(0.5, 3, features) + rng.uniform(-9, 9, features))
        plate_names += [f"P{plate}"] * sites
    meta = pd.DataFrame({"Metadata_Plate": plate_names, "Metadata_Panel": ""})
    controls = np.tile(np.arange(sites) < 10, plates)
    X = np.concatenate(blocks).astype(np.float32)
    return FeatureTable(meta, X, [f"f{index}" for index in range(features)]), controls


def test_controls_of_every_plate_have_median_0_and_mad_1():
    table, controls = screen()
    normalised = standardise_plates(table, controls)
    for plate in ("P0", "P1", "P2"):
        values = normalised.X[controls & (table.meta["Metadata_Plate"] == plate).to_numpy()]
        assert np.allclose(np.median(values, axis=0), 0, atol=1e-4)
        assert np.allclose(1.4826 * np.median(np.abs(values), axis=0), 1, atol=1e-3)
    assert normalised.warnings == ()


def test_it_agrees_with_scipy_where_nothing_is_floored():
    import scipy.stats

    table, controls = screen(plates=1)
    centre = np.median(table.X[controls], axis=0)
    spread = scipy.stats.median_abs_deviation(table.X[controls], axis=0, scale="normal")
    assert np.allclose(standardise_plates(table, controls).X, (table.X - centre) / spread,
                       rtol=1e-3, atol=1e-3)


def test_gains_and_offsets_of_plates_go_and_treatments_stay():
    table, controls = screen(plates=6, sites=200)
    normalised = standardise_plates(table, controls).X[~controls]
    plates = table.meta["Metadata_Plate"].to_numpy()[~controls]
    means = np.stack([normalised[plates == plate].mean(axis=0) for plate in set(plates)])
    assert means[:, 3].min() > means[:, 0].max()


def few_controls(plates=60, count=6, sites=20, features=50, seed=0):
    """Plates alike in their spread, each with a few controls."""
    rng = np.random.default_rng(seed)
    meta = pd.DataFrame({"Metadata_Plate": np.repeat([f"P{n:02d}" for n in range(plates)], sites),
                         "Metadata_Panel": ""})
    X = rng.normal(size=(plates * sites, features)) * np.arange(1, features + 1)
    return FeatureTable(meta, X.astype(np.float32), [f"f{at}" for at in range(features)]), (
        np.tile(np.arange(sites) < count, plates))


def test_the_spread_of_few_controls_is_closer_to_the_truth_when_it_is_moderated():
    table, controls = few_controls()
    truth = np.arange(1, 51)
    errors = {}
    for moderated in (False, True):
        scales, _ = plate_scales(table, controls, moderated)
        errors[moderated] = np.std([spread / truth for _, _, spread in scales])
    assert errors[True] < errors[False] / 3


def test_a_moderated_variance_is_the_weighted_mean_of_the_plates_and_of_all():
    table, controls = few_controls(plates=3, count=5, features=1)
    plates = table.meta["Metadata_Plate"].to_numpy()
    own, around = {}, []
    for plate in ("P00", "P01", "P02"):
        values = table.X[controls & (plates == plate), 0]
        around.append(values - np.median(values))
        own[plate] = 1.4826 * np.median(np.abs(around[-1]))
    pooled = 15 / 12 * (1.4826 * np.median(np.abs(np.concatenate(around)))) ** 2
    scales, _ = plate_scales(table, controls, moderated=True)
    for (_, _, spread), plate in zip(scales, own, strict=True):
        assert spread[0] == pytest.approx(np.sqrt((20 * pooled + 4 * own[plate] ** 2) / 24),
                                          rel=1e-5)


def test_many_controls_are_moderated_little():
    table, controls = few_controls(plates=3, count=2000, sites=2000, features=2)
    for (_, _, own), (_, _, drawn) in zip(plate_scales(table, controls)[0],
                                          plate_scales(table, controls, True)[0], strict=True):
        assert np.allclose(own, drawn, rtol=0.01)


def test_moderated_values_are_clipped():
    table, controls = screen()
    table.X[-1, 0] = 1e6
    assert standardise_plates(table, controls, moderated=True).X.max() == 20


def test_without_controls_anywhere_nothing_is_changed():
    table, controls = screen()
    assert np.array_equal(standardise_plates(table, np.zeros_like(controls)).X, table.X)


def test_a_plate_without_controls_is_named_and_takes_the_others_scale():
    table, controls = screen()
    controls[:40] = False
    normalised = standardise_plates(table, controls)
    (warning,) = normalised.warnings
    assert "P0" in warning and "P1" not in warning
    assert np.isfinite(normalised.X).all()


def test_a_feature_that_is_constant_in_the_controls_does_not_explode():
    table, controls = screen(plates=5)
    table.X[:40][controls[:40], 1] = 3.0
    table.X[:, 2][controls] = 0.0
    normalised = standardise_plates(table, controls).X
    assert np.abs(normalised[:, 1]).max() < 1000
    assert not normalised[:, 2].any()


def test_a_channel_that_a_panel_lacks_becomes_0():
    table, controls = screen()
    table.X[:40, 3] = np.nan
    normalised = standardise_plates(table, controls).X
    assert not normalised[:40, 3].any()
    assert np.isfinite(normalised).all()


def test_sphering_makes_the_controls_covariance_the_identity():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) + 5
    sphered = apply_sphering(X, fit_sphering(X, shrinkage=0.0))
    assert np.allclose(np.cov(sphered.T), np.eye(6), atol=0.02)
    assert np.allclose(sphered.mean(axis=0), 0, atol=1e-3)


def test_sphering_is_the_inverse_root_of_the_shrunk_covariance():
    from scipy.linalg import fractional_matrix_power
    from sklearn.covariance import shrunk_covariance

    rng = np.random.default_rng(1)
    for controls in (15, 200):
        X = rng.normal(size=(controls, 30)) * np.linspace(0.5, 3, 30)
        covariance = shrunk_covariance(np.cov(X.T), 0.2)
        expected = (X - X.mean(axis=0)) @ fractional_matrix_power(covariance, -0.5)
        assert np.allclose(apply_sphering(X, fit_sphering(X, 0.2)), expected, atol=1e-3)


def test_a_direction_that_controls_do_not_show_is_scaled_by_one_factor():
    rng = np.random.default_rng(2)
    X = np.zeros((10, 50))
    X[:, :5] = rng.normal(size=(10, 5))
    sphering = fit_sphering(X, 0.1)
    far = np.zeros((2, 50))
    far[0, 20], far[1, 40] = 1, 1
    moved = apply_sphering(far + X.mean(axis=0), sphering)
    assert moved[0, 20] == pytest.approx(moved[1, 40], rel=1e-4)
    assert np.isfinite(moved).all()


def test_sphering_refuses_what_has_no_answer():
    with pytest.raises(ValueError, match="two controls"):
        fit_sphering(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="do not vary"):
        fit_sphering(np.ones((9, 3)))
    with pytest.raises(ValueError, match="more shrinkage"):
        fit_sphering(np.random.default_rng(0).normal(size=(5, 9)), shrinkage=0.0)
