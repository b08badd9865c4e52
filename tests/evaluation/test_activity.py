"""Activity: compounds that do something are found, and those that do nothing are not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from moascope.evaluation.active import (
    called_active,
    ranks_inactive,
    read_compounds,
    score_active,
    summarise,
    with_activity,
)
from moascope.evaluation.activity import measure_activity
from moascope.evaluation.consistency import COLUMNS
from moascope.features.table import FeatureTable
from moascope.params import Activity, Evaluate, Simulated
from moascope.screen.question import Question
from moascope.screen.wells import well_name
from moascope.sources.simulated.compounds import KNOBS, draw_compounds
from moascope.sources.simulated.screen import design_plates, knob_table
from moascope.work.files import write_csv

SETTINGS = Activity(null_size=400)


def make_sites(seed=0, *, plates=2, compounds=12, doses=2, controls=16, features=40, strong=(),
               effect=4.0, position=0.0, same_place=False, replicates=1, panels=1):
    """Wells of noise; `strong` compounds share a direction of their own, positions theirs."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(compounds, features))
    places = position * rng.normal(size=(400, features))
    rows, X = [], []
    for p in range(plates):
        plate_effect = rng.normal(size=features)
        contents = [(-1, np.nan)] * controls + [
            (c, float(10 ** d)) for c in range(compounds) for d in range(doses)
            for _ in range(replicates)]
        treated = np.arange(controls, len(contents))
        order = np.concatenate([np.arange(controls),
                                treated if same_place else rng.permutation(treated)])
        for place, index in enumerate(order):
            c, dose = contents[index]
            values = rng.normal(size=features) + plate_effect + places[place]
            if c in strong:
                values = values + effect * own[c] / np.sqrt(features) * np.sqrt(10)
            rows.append((f"P{p}", well_name(1 + place // 24, 1 + place % 24), 1,
                         f"panel{p % panels}", "DMSO" if c < 0 else f"C{c:02d}", dose,
                         "negative" if c < 0 else "", True))
            X.append(values)
    meta = pd.DataFrame(rows, columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Panel", "Metadata_Compound",
        "Metadata_Concentration_uM", "Metadata_Control", "QC_Pass"])
    return FeatureTable(meta, np.asarray(X, np.float32), [f"M_{i}" for i in range(features)])


def share_active(result):
    return (result.compounds["active"] == "yes").mean()


@pytest.mark.parametrize("how", ["plate", "plate+sphere"])
@pytest.mark.parametrize("layout", [
    {"plates": 1, "doses": 6, "controls": 24, "features": 200},   # one plate, many features
    {"plates": 4, "doses": 1, "controls": 8},
    {"plates": 2, "doses": 4, "controls": 12, "same_place": True},
])
def test_compounds_that_do_nothing_are_not_active(how, layout):
    """Where the controls that normalise are also compared, most of them would be."""
    settings = Activity(null_size=400, normalisation=how)
    results = [measure_activity(make_sites(seed, compounds=15, **layout), settings, seed)
               for seed in range(4)]
    assert np.mean([share_active(result) for result in results]) <= 0.02
    assert np.mean([(result.compounds["p_value"] < 0.05).mean() for result in results]) < 0.12


def test_strong_compounds_are_active_and_the_others_are_not():
    result = measure_activity(make_sites(plates=4, strong=(2, 5, 7)), SETTINGS, 0)
    active = set(result.compounds.query("active == 'yes'")["Metadata_Compound"])
    assert active == {"C02", "C05", "C07"}
    doses = result.doses.set_index("Metadata_Compound")
    assert (doses.loc[sorted(active), "active"] == "yes").all()
    assert (doses.loc[~doses.index.isin(active), "active"] == "no").all()
    assert result.compounds.set_index("Metadata_Compound").loc["C02", "wells"] == 8
    assert not result.warnings


def test_a_dose_is_active_only_where_its_compound_is():
    result = measure_activity(make_sites(plates=3, strong=(1,), effect=2.0), SETTINGS, 1)
    of = result.compounds.set_index("Metadata_Compound")["corrected_p_value"]
    below = result.doses["corrected_p_value"] < result.doses["Metadata_Compound"].map(of) - 1e-12
    assert not below.any()
    assert (result.doses["corrected_p_value"] >= result.doses["p_value"] - 1e-12).all()


def test_position_alone_makes_no_compound_active_that_lies_in_several_positions():
    """Every dose lies in one position of every plate, and every position has an effect."""
    sites = [make_sites(seed, plates=3, doses=4, controls=20, position=1.0, same_place=True)
             for seed in range(3)]
    results = [measure_activity(one, SETTINGS, seed) for seed, one in enumerate(sites)]
    assert np.mean([share_active(result) for result in results]) <= 0.03
    for result in results:
        assert result.position["mean_average_precision"] > 2 * result.position["null_mean"]
        assert result.position["p"] < 0.02
    # A compound in a single position has no others: then position is all that its wells share.
    alone = measure_activity(make_sites(0, plates=3, doses=1, controls=20, position=1.0,
                                        same_place=True), SETTINGS, 0)
    assert share_active(alone) > 0.5


def test_without_a_position_effect_controls_of_one_position_reach_chance():
    result = measure_activity(make_sites(plates=3, doses=3, controls=20), SETTINGS, 0)
    assert result.position["p"] > 0.05
    assert result.position["positions"] == 20


def test_a_screen_without_controls_says_so_and_has_empty_values():
    table = make_sites()
    table.meta["Metadata_Control"] = ""
    result = measure_activity(table, SETTINGS, 0)
    assert result.warnings == ("Activity is not known: no well is marked as a negative control "
                               "(Metadata_Control in layout.csv).",)
    assert result.compounds["p_value"].isna().all()
    assert (result.doses["active"] == "").all()
    assert len(result.doses) == 12 * 2 + 1   # DMSO is a compound like others then


def test_a_plate_with_few_controls_and_a_compound_with_one_well_are_named():
    table = make_sites(plates=3, strong=(0,))
    meta = table.meta
    lone = (meta["Metadata_Compound"] == "C11") & (meta.index != meta.index[
        meta["Metadata_Compound"] == "C11"][0])
    few = ((meta["Metadata_Plate"] == "P2") & (meta["Metadata_Control"] == "negative")
           & (meta.groupby("Metadata_Plate").cumcount() >= 4))
    kept = ~(lone | few)
    result = measure_activity(
        replace(table, meta=meta[kept].reset_index(drop=True), X=table.X[kept]), SETTINGS, 0)
    assert result.warnings == (
        "1 plate with too few negative controls (fewer than 5 usable wells) is left out of "
        "activity: P2.",
        "1 compound with a single well cannot be tested for activity: C11.")
    said = result.compounds.set_index("Metadata_Compound")
    assert said.loc["C11", "active"] == ""
    assert np.isnan(said.loc["C11", "mean_average_precision"])
    assert said.loc["C00", "active"] == "yes"


def test_six_controls_a_plate_are_enough():
    result = measure_activity(make_sites(plates=3, controls=6, strong=(0, 3)), SETTINGS, 0)
    assert not result.warnings
    assert set(result.compounds.query("active == 'yes'")["Metadata_Compound"]) <= {"C00", "C03"}
    assert result.compounds.set_index("Metadata_Compound").loc["C00", "p_value"] < 0.02


def test_sites_that_failed_quality_control_do_not_count():
    table = make_sites(plates=4, strong=(2,))
    broken = replace(table, meta=pd.concat([table.meta, table.meta.assign(
        Metadata_Site=2, QC_Pass=False)], ignore_index=True),
        X=np.vstack([table.X, 1e6 * np.ones_like(table.X)]))
    pd.testing.assert_frame_equal(measure_activity(broken, SETTINGS, 0).compounds,
                                  measure_activity(table, SETTINGS, 0).compounds)


def test_the_order_of_rows_and_the_other_compounds_change_no_score():
    table = make_sites(plates=3, strong=(1,))
    order = np.random.default_rng(0).permutation(len(table.meta))
    turned = replace(table, meta=table.meta.iloc[order].reset_index(drop=True), X=table.X[order])
    pd.testing.assert_frame_equal(measure_activity(table, SETTINGS, 0).doses,
                                  measure_activity(turned, SETTINGS, 0).doses)


def truth(preset, seed, inert=False):
    """The true state of a simulated screen's cells, well by well, as if perfectly measured."""
    params = Simulated(preset=preset, compounds=60)
    compounds = draw_compounds(seed, params.compounds, params.panels)
    if inert:
        compounds = [replace(one, own_strength=0.0) for one in compounds]
    plates = design_plates(params, seed)
    knobs = knob_table(params, seed, compounds, plates)
    rows = [(plate.name, well.name, 1, plate.panel,
             "DMSO" if well.compound < 0 else compounds[well.compound].name, well.concentration,
             "negative" if well.compound < 0 else "", True)
            for plate in plates for well in plate.wells]
    meta = pd.DataFrame(rows, columns=make_sites(compounds=1).meta.columns)
    return FeatureTable(meta, knobs[list(KNOBS)].to_numpy(np.float32), list(KNOBS))


def test_simulated_compounds_are_active_by_what_they_do_and_not_by_where_they_lie():
    """In the null preset mechanisms do nothing, but a compound has a weak effect of its own."""
    shares = {name: np.mean([share_active(measure_activity(truth(preset, seed, inert), SETTINGS,
                                                           seed)) for seed in seeds])
              for name, preset, inert, seeds in (("inert", "null", True, range(100, 103)),
                                                 ("null", "null", False, (100,)),
                                                 ("teaching", "teaching", False, (100,)))}
    assert shares["inert"] <= 0.02
    assert shares["null"] <= 0.2
    assert shares["teaching"] >= 0.3


def test_predictions_say_which_compounds_look_like_dmso(tmp_path):
    result = measure_activity(make_sites(plates=4, strong=(2,)), SETTINGS, 0)
    write_csv(tmp_path / "compounds.csv", result.compounds, 6)
    compounds = read_compounds(tmp_path)
    predictions = pd.DataFrame({"Metadata_Compound": ["C02", "C03", "C03|C02", "DMSO", "other"],
                                "Predicted": "t"})
    assert with_activity(predictions, compounds)["Activity"].tolist() == [
        "active", "inactive: looks like DMSO", "active", "", ""]
    assert called_active(predictions["Metadata_Compound"], compounds).tolist() == [
        "yes", "no", "yes", "", ""]


def test_the_score_among_active_compounds_has_its_own_null():
    question = Question("t", ("not_t", "t"), True)
    rng = np.random.default_rng(0)
    label = np.array([0, 1] * 20)
    active = np.arange(40) < 20
    score = np.where(active, label * 0.8 + 0.1 * rng.random(40), rng.random(40))
    predictions = pd.DataFrame({
        "Metadata_Compound": [f"C{i}" for i in range(40)], "Metadata_Group": range(40),
        "Label": np.where(label, "t", "not_t"), "P_t": score, "P_not_t": 1 - score,
        "Predicted": np.where(score > 0.5, "t", "not_t")})
    compounds = pd.DataFrame({"Metadata_Compound": predictions["Metadata_Compound"],
                              "active": np.where(active, "yes", "no")})
    found = score_active(predictions, compounds, question, Evaluate(bootstraps=50,
                                                                    permutations=200), 0)
    assert (found["units"], found["tested"], found["active"]) == (40, 40, 20)
    assert found["share_active"] == 0.5
    assert found["among_active"]["average_precision"] == 1
    assert found["among_active"]["n"] == 20
    assert found["among_active"]["p"] < 0.02
    assert found["among_inactive"]["n"] == 20
    assert found["among_inactive"]["p"] > 0.05
    assert not ranks_inactive({"above_chance": True, "activity": found})
    turned = score_active(predictions, compounds.assign(active=np.where(active, "no", "yes")),
                          question, Evaluate(bootstraps=50, permutations=200), 0)
    assert ranks_inactive({"above_chance": True, "activity": turned})
    # A part of the compounds shows nothing of a model that all of them find at chance.
    assert not ranks_inactive({"above_chance": False, "activity": turned})
    assert not ranks_inactive({"above_chance": True})
    nothing = score_active(predictions, compounds.assign(active=""), question, Evaluate(), 0)
    assert nothing["share_active"] is None
    assert nothing["among_active"] is None


def test_the_summary_counts_compounds_by_dose_and_panel():
    result = measure_activity(make_sites(plates=4, strong=(2, 5), panels=2), SETTINGS, 0)
    summary = summarise(result, pd.DataFrame(columns=COLUMNS), SETTINGS)
    assert summary["compounds"] == {"tested": 12, "active": 2, "untested": 0,
                                    "share_active": pytest.approx(2 / 12)}
    assert list(summary["by_concentration_uM"]) == ["1", "10"]
    assert set(summary["by_panel"]) == {"panel0", "panel1"}
    assert summary["by_concentration_uM"]["10"]["tested"] == 12


def test_two_wells_are_tested_and_one_is_not():
    """Two wells that are the same, and nothing like the controls, are found; one has no partner."""
    sites = make_sites(plates=2, compounds=4, doses=1, strong=(0, 1), effect=40.0)
    alone = (sites.meta["Metadata_Compound"] == "C01") & (sites.meta["Metadata_Plate"] == "P1")
    kept = np.flatnonzero(~alone)
    found = measure_activity(FeatureTable(sites.meta.iloc[kept].reset_index(drop=True),
                                          sites.X[kept], sites.names), SETTINGS, 0).compounds
    score = found.set_index("Metadata_Compound")["mean_average_precision"]
    assert score["C00"] == 1.0
    assert np.isnan(score["C01"])
