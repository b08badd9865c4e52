"""Centres and spreads of plates, and what is said of those without controls, worked by hand."""

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


def table_of(plates, panels=None, warnings=()):
    """Plate -> values of its sites, of one feature; the first four of five or more are controls."""
    panels = panels or {}
    rows = [(plate, panels.get(plate, ""), value, len(values) > 4 and at < 4)
            for plate, values in plates.items() for at, value in enumerate(values)]
    meta = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Panel", "Value", "Control"])
    X = meta[["Value"]].to_numpy(np.float32)
    return FeatureTable(meta[["Metadata_Plate", "Metadata_Panel"]], X, ["f"], tuple(warnings)), (
        meta["Control"].to_numpy(copy=True))


def test_scales_of_plates_by_hand():
    """Controls 1, 2, 4, 9 have the median 3 and deviations 2, 1, 1, 6; 10, 10, 10, 30 none."""
    table, controls = table_of({"Q": [1, 2, 4, 9, 50], "P": [10, 10, 10, 30, 11], "R": [7, 8]})
    scales, lacking = plate_scales(table, controls)
    assert lacking == ["R"]
    assert [rows.tolist() for rows, _, _ in scales] == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4], [10, 11]]
    assert [centre[0] for _, centre, _ in scales] == [10, 3, 6.5]
    # The usual spread is the median of 0 and 1.5 * 1.4826; a tenth of it is the floor.
    usual = 1.4826 * 0.75
    assert [spread[0] for _, _, spread in scales] == pytest.approx(
        [0.1 * usual, 1.4826 * 1.5, usual], rel=1e-5)
    found = standardise_plates(table, controls)
    assert found.X[10:, 0] == pytest.approx([0.5 / usual, 1.5 / usual], rel=1e-5)
    assert found.X[4, 0] == pytest.approx(47 / (1.4826 * 1.5), rel=1e-5)
    assert found.names == ["f"] and found.meta is table.meta


def test_four_controls_are_enough_and_three_are_not():
    table, controls = table_of({"P": [1, 2, 4, 9, 50]})
    assert len(plate_scales(table, controls)[0]) == 1
    controls[0] = False
    assert plate_scales(table, controls) == ([], [])


def test_panels_of_a_plate_have_scales_of_their_own():
    first, controls = table_of({"P": [1, 2, 4, 9, 5]}, {"P": "a"})
    other, _ = table_of({"P": [101, 102, 104, 109, 105]}, {"P": "b"})
    table = FeatureTable(pd.concat([other.meta, first.meta], ignore_index=True),
                         np.vstack([other.X, first.X]), ["f"])
    scales, lacking = plate_scales(table, np.tile(controls, 2))
    assert lacking == [] and [centre[0] for _, centre, _ in scales] == [3, 103]


def test_a_feature_that_is_constant_in_most_plates_becomes_zero():
    table, controls = table_of({"P": [5, 5, 5, 5, 9], "Q": [5, 5, 5, 5, 1], "R": [1, 2, 4, 9, 3]})
    assert plate_scales(table, controls)[0][0][2][0] == np.inf
    assert not standardise_plates(table, controls).X.any()


@pytest.mark.parametrize(("count", "named"), [
    (1, "A0"), (5, "A0, A1, A2, A3, A4"), (7, "A0, A1, A2, A3, A4 and 2 more")])
def test_plates_without_controls_are_named_behind_what_was_said_before(count, named):
    plates = {f"A{i}": [1, 2] for i in range(count)} | {"P": [1, 2, 4, 9, 50]}
    table, controls = table_of(plates, warnings=["before"])
    first, said = standardise_plates(table, controls).warnings
    assert first == "before"
    assert said == (f"{count} plates have fewer than 4 usable sites of the negative control and "
                    f"are normalised with the median of the other plates: {named}.")


def test_without_any_controls_what_is_missing_becomes_zero_and_nothing_is_said():
    table, controls = table_of({"P": [1, np.nan]})
    found = standardise_plates(table, controls)
    assert found.X.tolist() == [[1], [0]] and found.warnings == ()


def test_the_spread_of_a_panel_is_moderated_by_its_own_plates_alone():
    """By hand: deviations 2, 1, 1, 6 and 6, 1, 1, 5 around 3 and 13; 8 controls, 2 centres."""
    table, controls = table_of({"P": [1, 2, 4, 9, 5], "Q": [7, 12, 14, 18, 9],
                                "Z": [0, 1000, 3000, 9000, 5]}, {"Z": "other"})
    scales, _ = plate_scales(table, controls, moderated=True)
    pooled = 8 / 6 * (1.4826 * 1.5) ** 2
    for (_, _, spread), own in zip(scales, (1.5, 3), strict=False):
        assert spread[0] == pytest.approx(
            np.sqrt((20 * pooled + 3 * (1.4826 * own) ** 2) / 23), rel=1e-5)
    assert scales[2][2][0] > 1000
    wild, _ = table_of({"P": [1, 2, 4, 9, -5000], "Q": [11, 12, 14, 15, 5000]})
    found = standardise_plates(wild, np.tile([True] * 4 + [False], 2), moderated=True).X
    assert found[[4, 9], 0].tolist() == [-20, 20]
    assert standardise_plates(wild, np.tile([True] * 4 + [False], 2)).X[4, 0] < -1000


def test_sphering_scales_what_varies_and_what_does_not_by_hand():
    """Variances 8/3 and 2/3 along the axes, shrunk by a half to their mean of 5/3."""
    X = np.array([[3, 1], [-1, 1], [3, 1], [-1, 1], [1, 2], [1, 0.0]])
    variances = X.var(axis=0, ddof=1)
    found = fit_sphering(X, 0.5)
    shrunk = variances / 2 + variances.mean() / 2
    np.testing.assert_allclose(found.mean, X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(np.sort(found.gains), np.sort(shrunk ** -0.5), rtol=1e-6)
    assert found.outside == pytest.approx(shrunk.min() ** -0.5)
    assert found.mean.dtype == found.axes.dtype == found.gains.dtype == np.float32
    np.testing.assert_allclose(apply_sphering(X, found), (X - X.mean(axis=0)) / np.sqrt(shrunk),
                               atol=1e-6)
    # Of three features and two controls one direction varies; the others share the floor.
    two = np.array([[0.0, 0, 0], [2, 0, 0]])
    found = fit_sphering(two, 0.3)
    assert found.axes.shape == (1, 3)
    assert found.outside == pytest.approx((0.3 * 2 / 3) ** -0.5)
    assert found.gains[0] == pytest.approx((0.7 * 2 + 0.3 * 2 / 3) ** -0.5)
