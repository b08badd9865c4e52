"""The steps of the search for similar compounds, each on numbers that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest

from moascope.evaluation import similar as module
from moascope.evaluation.neighbours import (
    Panel,
    _cosines,
    compare,
    drawn_controls,
    limited,
    panels_of,
    seen_from,
)
from moascope.evaluation.similar import _compared, _is_dose, _p_values, _warnings
from moascope.features.table import FeatureTable

BY = ["Metadata_Compound"]


def sites(controls=6, plates=("P", "Q"), panel="one"):
    rows = [(plate, f"{'AB'[kind]}{i:02d}", panel, ("DMSO", "AB"[i % 2])[kind],
             ("negative", "")[kind])
            for plate in plates for kind, count in ((0, controls), (1, 4))
            for i in range(count)]
    meta = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Panel",
                                       "Metadata_Compound", "Metadata_Control"])
    X = np.random.default_rng(0).normal(size=(len(meta), 5)).astype(np.float32)
    return FeatureTable(meta.assign(Metadata_Site=1), X, [f"f{i}" for i in range(5)])


def joined(*tables):
    return FeatureTable(pd.concat([one.meta for one in tables], ignore_index=True),
                        np.vstack([one.X for one in tables]), tables[0].names)


UNITS = pd.DataFrame({"Metadata_Compound": ["A", "B", "C"]})


def test_panels_with_wells_of_the_compound_and_enough_controls_are_compared():
    table = joined(sites(), sites(panel="two", controls=2), sites(plates=("R",), panel="three"))
    table.meta.loc[table.meta["Metadata_Panel"] == "three", "Metadata_Compound"] = "C"
    used = np.ones(len(table.meta), bool)
    panels, lacking = panels_of(table, used, UNITS, BY, 0, "plate", 0)
    panel, = panels     # "two" has too few controls, "three" no A
    assert lacking == ["P", "Q"]
    assert panel.plate.tolist() == [0] * 10 + [1] * 10
    assert panel.unit.tolist() == [*[-1] * 6, 0, 1, 0, 1] * 2
    assert (panel.part[panel.unit >= 0] == -1).all()
    assert set(panel.part[panel.unit < 0]) == set(range(len(panel.profiles)))
    assert all(profile.shape == (20, 5) for profile in panel.profiles)
    # What only a panel without enough controls shows is compared, and not tested.
    few = sites(controls=2)
    panels, lacking = panels_of(few, np.ones(16 - 4, bool), UNITS, BY, 1, "plate", 0)
    assert lacking == [] and len(panels) == 1 and len(panels[0].profiles) == 1
    assert panels[0].unit.tolist() == [-1, -1, 0, 1, 0, 1] * 2
    assert panels[0].part.tolist() == [-1] * 12
    assert panels_of(few, np.ones(12, bool), UNITS, BY, 2, "plate", 0) == ([], [])


def test_sites_that_are_not_used_are_in_no_panel():
    table = sites()
    used = (table.meta["Metadata_Compound"] != "B").to_numpy()
    panels, _ = panels_of(table, used, UNITS, BY, 0, "plate", 0)
    assert sorted(set(panels[0].unit)) == [-1, 0] and len(panels[0].unit) == 16


def test_at_most_so_many_wells_are_drawn_and_kept_in_order():
    wells = np.arange(5, 25)
    assert limited(wells, 20, np.random.default_rng(0)) is wells
    drawn = limited(wells, 7, np.random.default_rng(0))
    assert len(set(drawn)) == 7 and (np.diff(drawn) > 0).all() and set(drawn) <= set(wells)


def test_the_cosine_of_weighted_means_is_that_of_the_means():
    rng = np.random.default_rng(0)
    profiles, weights = rng.normal(size=(6, 4)), rng.random((9, 6))
    query = rng.normal(size=4)
    query /= np.linalg.norm(query)
    means = weights @ profiles
    np.testing.assert_allclose(_cosines(weights, profiles, query),
                               means @ query / np.linalg.norm(means, axis=1))
    assert _cosines(np.zeros((1, 6)), profiles, query)[0] == 0


def test_similarity_is_the_mean_over_the_parts_of_controls():
    first = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    second = np.array([[1, 0], [0, 1], [0, 1], [1, 1]], np.float32)
    panel = Panel(np.zeros(4, int), np.array([0, 1, 2, -1]), np.full(4, -1), [first, second])
    similarity, null = compare(panel, np.array([0]), [np.array([1]), np.array([2]),
                                                      np.array([0, 2])], 10,
                               np.random.default_rng(0))
    assert similarity == pytest.approx([0.5, 0, np.sqrt(0.5)])
    assert null == []


def test_a_group_of_few_controls_has_half_of_them_and_weighs_as_the_wells_do():
    """Five wells of plate 0, one of plate 1; five controls there and one here."""
    panel = Panel(np.repeat([0, 1, 0, 1], [5, 1, 5, 1]), np.repeat([0, -1], [6, 6]),
                  np.repeat([-1, 0], [6, 6]), [np.eye(12, dtype=np.float32)])
    drawn = drawn_controls(panel, np.arange(6), 0, 200, np.random.default_rng(0))
    weights = drawn.weights
    # Two of five, each for 5/6 / 2; the one control of plate 1 for 1/6.
    assert np.sort(weights[:, :5], axis=1) == pytest.approx(
        np.tile([0, 0, 0, 5 / 12, 5 / 12], (200, 1)), abs=1e-6)
    assert weights[:, 5] == pytest.approx(np.full(200, 1 / 6), abs=1e-6)
    assert drawn.widening == pytest.approx(np.sqrt((1 / 6 + 1 / 6) / (1 / 3 - 1 / 6)))
    assert drawn.freedom == 4
    # Where all controls are taken, half the variance of their mean is kept for the groups.
    lone = drawn_controls(panel, np.array([5]), 0, 10, np.random.default_rng(0))
    assert lone.widening == pytest.approx(np.sqrt(2 / (1 / 2))) and lone.freedom == 1


def test_of_many_controls_so_many_are_drawn_for_each_plate(monkeypatch):
    monkeypatch.setattr("moascope.evaluation.neighbours.MOST_CONTROLS", 6)
    panel = Panel(np.repeat([0, 1, 0, 1], [1, 1, 9, 9]), np.repeat([0, -1], [2, 18]),
                  np.repeat([-1, 0], [2, 18]), [np.eye(20, dtype=np.float32)])
    both = drawn_controls(panel, np.arange(2), 0, 5, np.random.default_rng(0))
    assert len(both.controls) == 6 and (panel.plate[both.controls] == 0).sum() == 3
    assert len(drawn_controls(panel, np.array([0]), 0, 5, np.random.default_rng(0)).controls) == 6


def test_what_is_as_near_to_the_neighbour_as_the_compound_is_counted():
    """By hand: 0 is the query; of 2, 3 and 4, seen from 1, one is nearer and one is as near."""
    angles = np.radians([40, 0, 20, -40, 90])
    profiles = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    panel = Panel(np.arange(5), np.arange(5), np.full(5, -1), [profiles])
    names = np.array(["q", "n", "x", "y", "z"])

    def share(compound, similarity, panels=(panel,)):
        return seen_from(panels, compound, 0, np.array([1]), np.array([similarity]),
                         np.random.default_rng(0))[0]

    near = np.cos(np.radians(40))
    assert share(names, near) == pytest.approx((1 + 2) / (1 + 3))
    assert share(names, near + 1e-3) == pytest.approx((1 + 1) / (1 + 3))
    assert share(names, -1.0) == 1
    # Another dose of the neighbour or of the query is no other compound.
    assert share(np.array(["q", "n", "n", "y", "z"]), near) == pytest.approx((1 + 1) / (1 + 2))
    assert share(np.array(["q", "n", "x", "q", "z"]), near) == pytest.approx((1 + 1) / (1 + 2))
    # Over two panels it is the mean of both, and what only one has is compared there.
    other = Panel(np.arange(3), np.array([0, 1, 2]), np.full(3, -1),
                  [profiles[[0, 1, 4]]])
    # 2 is at 20 degrees in one panel and at 90 in the other: 0.47 on average.
    assert share(names, near, (panel, other)) == pytest.approx((1 + 1) / (1 + 3))
    assert share(names, 0.45, (panel, other)) == pytest.approx((1 + 2) / (1 + 3))


def test_neighbours_are_looked_at_without_the_plates_that_they_share():
    """1 lies on plates 0 and 1, the others on both: on plate 0 they are turned round."""
    profiles = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0], [1, 0]], np.float32)
    panel = Panel(np.array([2, 0, 2, 0, 1]), np.array([0, 1, 1, 2, 2]), np.full(5, -1),
                  [profiles])
    # 1 has another plate than the query's, 0: its well there is at -1. 2 has plate 1 beside 0.
    found = seen_from([panel], np.array(["q", "n", "x"]), 0, np.array([1]), np.array([0.5]),
                      np.random.default_rng(0))
    assert found[0] == pytest.approx(1 / 2)


def test_p_is_the_larger_of_both_questions_and_corrected_by_the_largest_of_each_draw():
    similarity = np.array([2.0, 0.0])
    one = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, -1.0], [1.0, 0.0]])
    two = np.array([[3.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    p, corrected = _p_values(similarity, [one, two])
    # Of the first 2.0 is reached once, of the second once; 0.0 is reached three times and twice.
    assert p.tolist() == pytest.approx([2 / 5, 4 / 5])
    deviations = [((null - null.mean(0)) / null.std(0)).max(axis=1) for null in (one, two)]
    expected = np.max([[(1 + (largest >= (value - null[:, i].mean()) / null[:, i].std() - 1e-6)
                         .sum()) / 5 for i, value in enumerate(similarity)]
                       for null, largest in zip((one, two), deviations, strict=True)], axis=0)
    assert corrected.tolist() == pytest.approx(np.maximum(expected, p).tolist())
    for nothing in (_p_values(similarity, []), _p_values(np.zeros(0), [np.zeros((4, 0))])):
        assert np.isnan(nothing[0]).all() and np.isnan(nothing[1]).all()
        assert len(nothing[0]) in (0, 2)
    # Controls that are all the same decide by the value alone.
    p, corrected = _p_values(np.array([0.5]), [np.full((9, 1), 0.2)])
    assert p[0] == pytest.approx(0.1) and corrected[0] == pytest.approx(0.1)


def test_similarity_over_panels_is_the_mean_over_those_that_both_have(monkeypatch):
    asked = []

    def compared(panel, own, chosen, draws, generator):
        asked.append((own.tolist(), [wells.tolist() for wells in chosen], draws))
        base = panel.profiles[0]
        return np.full(len(chosen), base), [np.full((draws, len(chosen)), base + part)
                                            for part in (10, 20)]

    monkeypatch.setattr(module, "compare", compared)
    # Units 0 (the query), 1, 2 and 3; 3 is another dose of the query. Plate 0 is the query's.
    first = Panel(np.array([0, 0, 1, 1, 0, 0]), np.array([0, 1, 1, 1, 2, 3]), np.full(6, -1), [1.0])
    second = Panel(np.array([0, 1]), np.array([0, 1]), np.full(2, -1), [3.0])
    lone = Panel(np.array([0, 1]), np.array([0, 3]), np.full(2, -1), [9.0])
    other = np.array([False, True, True, False])
    unit, table, chance = _compared([first, second, lone], 0, other, 5, np.random.default_rng(0))
    assert asked == [([0], [[2, 3], [4]], 5), ([0], [[1]], 5)]
    assert unit.tolist() == [1, 2]
    assert table["similarity"].tolist() == [2, 1]
    assert table["wells"].tolist() == [3, 1] and table["wells"].dtype == int
    assert table["plates"].tolist() == ["other", "shared"]
    assert [one.tolist() for one in chance] == [[[12, 11]] * 5, [[22, 21]] * 5]
    unit, table, chance = _compared([lone], 0, other, 5, np.random.default_rng(0))
    assert not len(unit) and table.empty and chance == []


def test_a_dose_is_found_also_where_none_is_known():
    units = pd.DataFrame({"Metadata_Concentration_uM": [1.0, np.nan, 3.0]})
    assert _is_dose(units, None).all()
    assert _is_dose(units, 3.0).tolist() == [False, False, True]
    assert _is_dose(units, np.nan).tolist() == [False, True, False]


@pytest.mark.parametrize(("lacking", "p", "plates", "said"), [
    ([], [0.1, np.nan], ["other", "other"], []),
    (["P", "R"], [0.1], ["other"],
     ["2 plates with too few negative controls (fewer than 5 usable wells) are left out: P, R."]),
    ([], [np.nan, np.nan], ["other", "shared"],
     ["Similarity is not tested: no plate has enough wells marked as a negative control "
      "(Metadata_Control in layout.csv).",
      "1 of the 2 neighbours have wells only on plates of a b; what a plate does may add to their "
      "similarity."]),
    (["P"], [0.1, 0.2], ["shared", "shared"],
     ["1 plate with too few negative controls (fewer than 5 usable wells) is left out: P.",
      "All 2 neighbours have wells only on plates of a b; what a plate does may add to their "
      "similarity."])])
def test_what_limits_a_search_is_said(lacking, p, plates, said):
    result = pd.DataFrame({"p_value": p, "plates": plates})
    assert list(_warnings("a  b", lacking, result)) == said


def test_activity_is_empty_where_nothing_is_known_of_it():
    names = np.array(["A", "B"])
    assert module._active(names, None).tolist() == ["", ""]
    known = pd.DataFrame({"Metadata_Compound": ["B"], "active": ["yes"]})
    assert module._active(names, known).tolist() == ["", "yes"]
