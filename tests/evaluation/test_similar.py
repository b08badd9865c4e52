"""Compounds that look alike are found and tested; what looks like DMSO is like nothing."""

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.evaluation.neighbours import Panel, apart, compare, drawn_controls, widened
from moascope.evaluation.similar import measure_similar
from moascope.features.table import FeatureTable
from moascope.screen.wells import well_name

KINASE, TUBULIN = "Kinase inhibitor", "Tubulin inhibitor"
MOA = {"C00": KINASE, "C01": KINASE, "C10": KINASE, "C02": TUBULIN, "C12": TUBULIN}


def make_sites(seed=0, *, effect=3.0, controls=16, features=40, maps=2, copies=2, panels=1):
    """Two plate maps of ten compounds each; five of them do something, three of these the same."""
    rng = np.random.default_rng(seed)
    mechanism = {name: rng.normal(size=features) for name in (KINASE, TUBULIN)}
    rows, X = [], []
    for panel in range(panels):
        for number in range(maps):
            wells = [("DMSO", np.nan)] * controls + [
                (f"C{10 * number + i:02d}", dose) for i in range(10) for dose in (1.0, 10.0)]
            for copy in range(copies):
                shift = rng.normal(size=features)
                for place, index in enumerate(rng.permutation(len(wells))):
                    compound, dose = wells[index]
                    values = rng.normal(size=features) + shift
                    if compound in MOA:
                        values = values + effect * mechanism[MOA[compound]] * (
                            0.3 if dose == 1 else 1.0)
                    rows.append((f"P{panel}{number}{copy}",
                                 well_name(1 + place // 24, 1 + place % 24), 1, f"panel{panel}",
                                 compound, dose, "negative" if compound == "DMSO" else "", True))
                    X.append(values)
    meta = pd.DataFrame(rows, columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Panel", "Metadata_Compound",
        "Metadata_Concentration_uM", "Metadata_Control", "QC_Pass"])
    return FeatureTable(meta, np.asarray(X, np.float32), [f"M_{i}" for i in range(features)])


def test_compounds_of_one_mechanism_come_first_and_are_like_no_control():
    found = measure_similar(make_sites(panels=2), "C00", MOA)
    assert list(found.table["Metadata_Compound"][:2]) in (["C01", "C10"], ["C10", "C01"])
    near = found.table[:2]
    assert (near["Metadata_MoA"] == KINASE).all()
    assert (near["similarity"] > 0.7).all()
    assert (near["corrected_p_value"] < 0.01).all()
    # Of 18 others, at most the third of the mechanism is nearer to it.
    assert (near["share_of_others"] <= 2 / 19).all()
    assert (found.table["corrected_p_value"][2:] > 0.05).all()
    assert len(found.table) == 19
    # Both panels, two plates each, two doses; of its own plate map all wells are on its plates.
    of = found.table.set_index("Metadata_Compound")
    assert of.loc[["C01", "C10"], "wells"].tolist() == [8, 8]
    assert of.loc[["C01", "C10"], "plates"].tolist() == ["shared", "other"]
    assert found.warnings == ("9 of the 19 neighbours have wells only on plates of C00; what a "
                              "plate does may add to their similarity.",)
    assert found.active == "" and (found.table["active"] == "").all()


def test_similarity_is_the_cosine_of_mean_wells():
    """By hand: the query lies along the first axis, the neighbour at 45 degrees."""
    profiles = np.array([[2, 0], [4, 0], [1, 0], [0, 1], [0, 0.5], [0, 1]], np.float32)
    panel = Panel(np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 1, -1, -1]),
                  np.array([-1, -1, -1, -1, 0, 0]), [profiles])
    similarity, null = compare(panel, np.array([0, 1]), [np.array([2, 3])], 500,
                               np.random.default_rng(0))
    assert similarity.tolist() == [pytest.approx(np.sqrt(0.5))]
    # One control on each plate, both along the second axis.
    assert np.unique(null[0]).tolist() == [0]
    assert null[1] == pytest.approx(np.full((500, 1), np.sqrt(0.5)), abs=1e-3)


def test_groups_of_controls_are_taken_by_plate_and_widened_by_hand():
    """Three wells of plate 0 and four of plate 1, against six controls each: all three, and three.

    Means of 7 wells and of 12 controls differ by 1/7 + 1/12 of the variance, means of 6 of the
    controls and of all of them by 1/6 - 1/12.
    """
    panel = Panel(np.repeat([0, 1, 0, 1], [3, 4, 6, 6]), np.repeat([0, -1], [7, 12]),
                  np.repeat([-1, 0], [7, 12]), [np.eye(19, dtype=np.float32)])
    drawn = drawn_controls(panel, np.arange(7), 0, 500, np.random.default_rng(0))
    assert sorted(drawn.controls) == list(range(7, 19))
    of_first = drawn.weights[:, panel.plate[drawn.controls] == 0]
    assert (of_first.round(5) == np.float32(1 / 7).round(5)).sum(axis=1).tolist() == [3] * 500
    assert drawn.weights.sum(axis=1) == pytest.approx(np.ones(500), abs=1e-6)
    assert drawn.widening == pytest.approx(np.sqrt((1 / 7 + 1 / 12) / (1 / 6 - 1 / 12)))
    assert drawn.freedom == 10
    reached = np.random.default_rng(1).normal(size=50_000)
    wider = widened(reached, drawn, np.random.default_rng(2))
    assert wider.mean() == pytest.approx(0, abs=0.03)
    assert np.mean(np.abs(wider) > drawn.widening * 2.228) == pytest.approx(0.05, abs=0.004)


def test_wells_on_the_plates_of_the_compound_are_left_out_where_there_are_others():
    panel = Panel(np.array([0, 1, 0, 1, 0]), np.array([0, -1, 1, 1, 2]), np.full(5, -1),
                  [np.eye(5, dtype=np.float32)])
    wells, shared = apart(panel, np.array([0]))
    assert {unit: own.tolist() for unit, own in wells.items()} == {0: [0], 1: [3], 2: [4]}
    assert shared == {0, 2}


@pytest.mark.parametrize("query", ["C05", "C02"])
def test_what_looks_like_dmso_is_like_nothing(query):
    """Neither is an inactive compound like the active ones, nor the reverse; seeds chosen before.

    At five per cent, more than four of twenty screens would be wrong once in 390 times.
    """
    wrong = 0
    for seed in range(700, 720):
        sites = make_sites(seed, features=30, controls=12)
        lone = (sites.meta["Metadata_Compound"] != "C12").to_numpy()
        sites = FeatureTable(sites.meta[lone].reset_index(drop=True), sites.X[lone], sites.names)
        found = measure_similar(sites, query, MOA, draws=199, seed=seed).table
        wrong += bool((found["corrected_p_value"] < 0.05).any())
    assert wrong <= 4


def test_single_doses_are_compared():
    sites = make_sites(3)
    found = measure_similar(sites, "C00", MOA, level="dose")
    assert found.dose == 10
    first = found.table.iloc[:2]
    assert set(first["Metadata_Compound"]) == {"C01", "C10"}
    assert (first["Metadata_Concentration_uM"] == 10).all()
    assert len(found.table) == 38   # two doses of each other compound, none of its own
    low = measure_similar(sites, "C00", MOA, level="dose", dose=1.0)
    assert low.dose == 1
    assert low.table["similarity"][0] < found.table["similarity"][0]
    with pytest.raises(MoascopeError, match=r"C00 was not measured at 3 µM\. It has 1, 10\."):
        measure_similar(sites, "C00", MOA, level="dose", dose=3.0)


def test_names_are_found_as_people_write_them():
    sites = make_sites()
    assert measure_similar(sites, " c00 ", MOA, draws=100).compound == "C00"
    with pytest.raises(MoascopeError, match=r"no compound C0\. Do you mean C\d\d or C\d\d or C"):
        measure_similar(sites, "C0", MOA)
    with pytest.raises(MoascopeError, match=r"no compound haloperidol\. Its compounds are in"):
        measure_similar(sites, "haloperidol", MOA)
    with pytest.raises(MoascopeError, match="DMSO is the negative control"):
        measure_similar(sites, "dmso", MOA)


def test_activity_is_shown_where_it_is_known():
    activity = pd.DataFrame({"Metadata_Compound": ["C00", "C01", "C03"],
                             "active": ["yes", "yes", "no"]})
    found = measure_similar(make_sites(), "C00", MOA, activity, draws=100)
    of = found.table.set_index("Metadata_Compound")["active"]
    assert (found.active, of["C01"], of["C03"], of["C04"]) == ("yes", "yes", "no", "")


def test_without_controls_compounds_are_ranked_and_nothing_is_tested():
    sites = make_sites(maps=1, copies=1)
    kept = (sites.meta["Metadata_Control"] == "").to_numpy()
    bare = FeatureTable(sites.meta[kept].reset_index(drop=True), sites.X[kept], sites.names)
    found = measure_similar(bare, "C00", MOA)
    assert found.table["Metadata_Compound"][0] == "C01"
    assert found.table["p_value"].isna().all() and found.table["corrected_p_value"].isna().all()
    assert found.table["share_of_others"].notna().all()
    assert found.warnings[0].startswith("Similarity is not tested: no plate has enough wells")


def test_plates_with_few_controls_are_named():
    sites = make_sites()
    kept = ~((sites.meta["Metadata_Plate"] == "P001") & (sites.meta["Metadata_Control"] != "")
             & (sites.meta.groupby("Metadata_Plate").cumcount() > 5)).to_numpy()
    few = FeatureTable(sites.meta[kept].reset_index(drop=True), sites.X[kept], sites.names)
    found = measure_similar(few, "C00", MOA, draws=100)
    assert found.warnings[0] == ("1 plate with too few negative controls (fewer than 5 usable "
                                 "wells) is left out: P001.")
    assert found.table.set_index("Metadata_Compound").loc["C01", "wells"] == 2


def test_the_order_of_rows_changes_nothing():
    sites = make_sites(1)
    order = np.random.default_rng(0).permutation(len(sites.meta))
    turned = FeatureTable(sites.meta.iloc[order].reset_index(drop=True), sites.X[order],
                          sites.names)
    pd.testing.assert_frame_equal(measure_similar(sites, "C02", MOA, draws=100).table,
                                  measure_similar(turned, "C02", MOA, draws=100).table)
