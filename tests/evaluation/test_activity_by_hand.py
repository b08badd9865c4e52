"""The steps of the test of activity, each on numbers that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from moascope.evaluation import activity
from moascope.evaluation.active import (
    called_active,
    ranks_inactive,
    score_active,
    summarise,
)
from moascope.evaluation.activity import (
    ActivityResult,
    _compound_table,
    _corrected_doses,
    _dose_table,
    _Found,
    _mean,
    _position,
    _some,
    _tail,
    _to_find,
    _warnings,
)
from moascope.evaluation.scores import scores_of
from moascope.params import Activity, Evaluate
from moascope.screen.question import Question

SETTINGS = Activity(threshold=0.2)


def test_a_well_finds_its_dose_in_other_positions_and_the_compound_where_its_dose_has_none():
    compound, dose = _to_find(np.array([1, 1, 2, 2]), np.array([0, 1, 0, 0]))
    assert compound.astype(int).tolist() == [[0, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert dose.astype(int).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
    # In a single position the wells are all that there is.
    for found in _to_find(np.array([1, 1, 2]), np.array([5, 5, 5])):
        assert (found == ~np.eye(3, dtype=bool)).all()


def test_scores_are_means_over_the_wells_that_have_something_to_find():
    scores = np.array([[0.2, np.nan, 0.6], [0.4, np.nan, 1.0]])
    assert _mean(scores).tolist() == pytest.approx([0.4, 0.7])
    assert np.isnan(_mean(scores[:, 1:2])).all() and len(_mean(scores[:, 1:2])) == 2


def test_of_too_many_wells_some_are_drawn_once_and_kept_in_order():
    index = np.arange(10, 30)
    assert _some(index, 20, np.random.default_rng(0)) is index
    drawn = _some(index, 19, np.random.default_rng(0))
    assert len(set(drawn)) == 19 and (np.diff(drawn) > 0).all() and set(drawn) < set(index)


def test_positions_reach_the_mean_of_their_places():
    assert _position([]) == {}
    places = [_Found(0.5, np.array([0.1, 0.9, 0.3])), _Found(0.7, np.array([0.3, 0.9, 0.3]))]
    assert _position(places) == {
        "positions": 2, "mean_average_precision": pytest.approx(0.6),
        "null_mean": pytest.approx((0.2 + 0.9 + 0.3) / 3), "p": pytest.approx(2 / 4)}


# Two doses of A on two plates and panels, one of B, and C without a dose.
TREATED = pd.DataFrame([
    ("P", "A01", "one", "A", 1.0), ("P", "A01", "one", "A", 1.0), ("P", "A02", "one", "A", 10.0),
    ("Q", "A01", "two", "A", 1.0), ("P", "A03", "one", "B", 1.0), ("P", "A04", "one", "B", 1.0),
    ("P", "A05", "one", "C", np.nan)],
    columns=["Metadata_Plate", "Metadata_Well", "Metadata_Panel", "Metadata_Compound",
             "Metadata_Concentration_uM"])
DOSES = {("A", 1.0, "one"): _Found(0.9, np.array([0.1, 0.2, 0.9])),
         ("A", 10.0, "one"): _Found(0.5, np.array([0.6, 0.6, 0.6])),
         ("B", 1.0, "one"): _Found(np.nan, np.full(3, np.nan)),
         ("C", -1.0, "one"): _Found(0.8, np.array([0.1, 0.1, 0.1]))}
DOSES = {key: found.brief() for key, found in DOSES.items()}


def test_doses_have_their_wells_their_score_and_its_p():
    table = _dose_table(TREATED, DOSES)
    assert table[["Metadata_Compound", "Metadata_Panel", "wells"]].to_numpy().tolist() == [
        ["A", "one", 1], ["A", "two", 1], ["A", "one", 1], ["B", "one", 2], ["C", "one", 1]]
    assert table["Metadata_Concentration_uM"].tolist()[:4] == [1, 1, 10, 1]
    assert np.isnan(table["Metadata_Concentration_uM"][4])
    numbers = table[["mean_average_precision", "null_mean", "p_value"]].to_numpy()
    nothing = [np.nan] * 3
    np.testing.assert_allclose(numbers, [[0.9, 0.4, 0.5], nothing, [0.5, 0.6, 1.0], nothing,
                                         [0.8, 0.1, 0.25]])


def test_a_compound_is_judged_by_all_its_wells_or_by_its_doses_whichever_says_more():
    """A: 0.75 together, its doses 0.5 and 1.0, of which Simes makes 1.0. E: 0.5, and 0.1."""
    doses = _dose_table(TREATED, DOSES)
    more = pd.DataFrame({"Metadata_Compound": "E", "p_value": [0.05, 0.4]})
    treated = pd.concat([TREATED, TREATED.iloc[:1].assign(Metadata_Compound="E",
                                                          Metadata_Well="H01")])
    whole = {"A": [_Found(0.5, np.array([0.4, 0.6, 0.2])), _Found(0.3, np.array([0.3, 0.6, 0.2]))],
             "C": [_Found(0.8, np.array([0.1, 0.1, 0.1]))],
             "E": [_Found(0.4, np.array([0.1, 0.6, 0.2]))]}
    table = _compound_table(treated, pd.concat([doses, more]), whole, SETTINGS).set_index(
        "Metadata_Compound")
    assert table[["wells", "doses", "panels"]].to_numpy().tolist() == [
        [3, 2, 2], [2, 1, 1], [1, 0, 1], [1, 1, 1]]
    np.testing.assert_allclose(table["mean_average_precision"], [0.4, np.nan, 0.8, 0.4])
    np.testing.assert_allclose(table["null_mean"], [2.3 / 6, np.nan, 0.1, 0.3])
    # Twice the smaller of 0.5 and 1.0 is 1; C has one dose; E: twice 0.1.
    expected = np.array([1.0, np.nan, 0.25, 0.2])
    np.testing.assert_allclose(table["p_value"], expected)
    known = np.isfinite(expected)
    np.testing.assert_allclose(table["corrected_p_value"][known],
                               multipletests(expected[known], method="fdr_bh")[1])
    assert table["active"].tolist() == ["no", "", "no", "no"]
    low = _compound_table(treated, pd.concat([doses, more]), whole, Activity(threshold=0.5))
    assert low["active"].tolist() == ["no", "", "yes", "yes"]


def test_a_dose_is_active_only_where_its_compound_is():
    doses = pd.DataFrame({"Metadata_Compound": ["A", "A", "B", "C"],
                          "p_value": [0.01, 0.04, 0.02, np.nan]})
    compounds = pd.DataFrame({"Metadata_Compound": ["C", "B", "A"],
                              "corrected_p_value": [0.1, 0.3, 0.03]})
    found = _corrected_doses(doses, compounds, Activity(threshold=0.04))
    # 2 * 0.01 and 0.04, each no less than 0.03.
    np.testing.assert_allclose(found["corrected_p_value"], [0.03, 0.04, 0.3, np.nan])
    assert found["active"].tolist() == ["yes", "no", "no", ""]


def test_the_tail_of_a_compound_is_that_of_all_permutations_in_standard_deviations(monkeypatch):
    rng = np.random.default_rng(0)
    found = [_Found(one.mean() + far * one.std(), one) for one, far in
             ((rng.normal(size=50) * scale + scale, far)
              for scale, far in zip(range(1, 13), [9, 2.5, *[0.1] * 10], strict=True))]
    # Two that cannot be compared: untested, and a null without any scatter.
    found += [None, _Found(0.5, np.full(50, 0.2))]
    p = np.array([1 / 51, 9.9 / 51, 10.1 / 51, *[0.5] * 9, np.nan, 1 / 51])
    pooled = np.concatenate([(one.null - one.null.mean()) / one.null.std() for one in found[:12]])
    tail = _tail(found, p)
    np.testing.assert_allclose(tail[:2], [1 / 601, (1 + (pooled >= 2.5).sum()) / 601])
    assert np.isnan(tail[2:]).all()
    # Of many permutations every so-manieth is enough, and few compounds have none to share.
    monkeypatch.setattr(activity, "MOST_POOLED", 200)
    assert _tail(found, p)[0] == pytest.approx(1 / (1 + 12 * 17))
    monkeypatch.setattr(activity, "LEAST_POOLED", 13)
    assert np.isnan(_tail(found, p)).all()
    monkeypatch.setattr(activity, "LEAST_POOLED", 12)
    assert np.isfinite(_tail(found, p)).any()


def test_what_could_not_be_tested_is_said():
    compounds = pd.DataFrame({"Metadata_Compound": ["A", "B", "C", "D", "E"],
                              "wells": [1, 2, 1, 3, 1], "active": ["", "", "yes", "", ""]})
    assert _warnings(None, compounds, [], False) == (
        "Activity is not known: no well is marked as a negative control (Metadata_Control in "
        "layout.csv).",)
    assert _warnings(None, compounds, ["P", "Q"], True) == (
        "2 plates with too few negative controls (fewer than 5 usable wells) are left out of "
        "activity: P, Q.",
        "2 compounds with a single well cannot be tested for activity: A, E.",
        "2 compounds without two wells of one panel on plates with controls cannot be tested for "
        "activity.")
    assert _warnings(None, compounds[2:3], [], True) == ()
    assert _warnings(None, compounds[:1], ["P"], True)[0].endswith(
        "usable wells) is left out of activity: P.")


# What activity means for predictions


COMPOUNDS = pd.DataFrame({"Metadata_Compound": ["A", "B", "C", "D"],
                          "active": ["yes", "no", "", None]})


def test_one_active_name_is_enough():
    names = pd.Series(["A", "B|A", "B", "C", "B|C", "D", "nowhere", "A"])
    assert called_active(names, COMPOUNDS).tolist() == ["yes", "yes", "no", "", "no", "", "",
                                                        "yes"]


def test_scores_among_active_and_inactive_compounds_are_those_of_their_rows():
    question = Question("t", ("not_t", "t"), True)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"Metadata_Compound": ["A"] * 9 + ["B"] * 7 + ["C"] * 4,
                          "Label": ["t", "not_t"] * 10, "Predicted": "t",
                          "Metadata_Group": [f"g{i}" for i in range(20)], "P_t": rng.random(20)})
    table["P_not_t"] = 1 - table["P_t"]
    settings = Evaluate(bootstraps=10, permutations=10)
    found = score_active(table, COMPOUNDS, question, settings, 4)
    assert found == {
        "units": 20, "tested": 16, "active": 9, "share_active": 9 / 16,
        "among_active": scores_of(table[:9], question, settings, 4),
        "among_inactive": scores_of(table[9:16].reset_index(drop=True), question, settings, 4)}
    assert score_active(table[16:], COMPOUNDS, question, settings, 4) == {
        "units": 4, "tested": 0, "active": 0, "share_active": None, "among_active": None,
        "among_inactive": None}


@pytest.mark.parametrize(("metrics", "expected"), [
    ({"above_chance": True, "activity": {"among_inactive": {"p": 0.049}}}, True),
    ({"above_chance": True, "activity": {"among_inactive": {"p": 0.05}}}, False),
    ({"above_chance": False, "activity": {"among_inactive": {"p": 0.001}}}, False),
    ({"above_chance": True, "activity": {"among_inactive": {"p": None}}}, False),
    ({"above_chance": True, "activity": {"among_inactive": None}}, False),
    ({"above_chance": True, "activity": None}, False), ({"above_chance": True}, False),
    ({}, False)])
def test_a_model_ranks_inactive_compounds_where_that_was_shown(metrics, expected):
    assert ranks_inactive(metrics) is expected


def test_the_summary_counts_compounds_by_dose_and_panel():
    doses = pd.DataFrame([
        ("A", 1.0, "one", "yes"), ("A", 1.0, "two", "no"), ("B", 1.0, "one", "no"),
        ("B", 10.0, "one", "no"), ("C", 10.0, "one", ""), ("D", 0.0, "two", "yes")],
        columns=["Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Panel", "active"])
    consistency = pd.DataFrame({"consistent": ["yes", "no", "yes", "no", "no"]})
    result = ActivityResult(doses, COMPOUNDS, {"positions": 3}, ("one warning",))
    found = summarise(result, consistency, Activity(threshold=0.1, normalisation="plate+sphere"))

    def counts(tested, active, untested=0):
        return {"tested": tested, "active": active, "untested": untested,
                "share_active": active / tested if tested else None}

    compounds = found.pop("compounds")
    assert compounds == {"tested": 3, "active": 1, "untested": 1, "share_active": 1 / 3}
    assert found == {
        "threshold": 0.1, "normalisation": "plate+sphere",
        "by_concentration_uM": {"1": counts(2, 1), "10": counts(1, 0), "none": counts(1, 1)},
        "by_panel": {"one": counts(2, 1), "two": counts(2, 1)},
        "position": {"positions": 3}, "mechanisms": {"tested": 5, "consistent": 2},
        "warnings": ["one warning"]}


def test_many_doses_are_counted_in_half_decades():
    steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0, 11.0, 20.0, 30.0, 40.0]

    def names(dose):
        doses = pd.DataFrame({"Metadata_Compound": "A", "Metadata_Concentration_uM": dose,
                              "Metadata_Panel": "", "active": "yes"})
        result = ActivityResult(doses, COMPOUNDS[:3], {}, ())
        return set(summarise(result, pd.DataFrame({"consistent": []}), Activity())[
            "by_concentration_uM"])

    assert names(steps) == {f"{dose:g}" for dose in steps}
    assert names([*steps, 1.1]) == {"1", "3.16", "10", "31.6"}
