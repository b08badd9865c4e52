from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, as_screen, make_examples, with_plate_controls

from moascope.errors import MoascopeError
from moascope.learning.calls import call_warnings, summary, with_inactive
from moascope.learning.final import final_model, fit_final
from moascope.learning.model import CHANCE, USEFUL, read_model, save_model, write_verdict
from moascope.learning.nested import nested
from moascope.learning.predictions import for_people
from moascope.learning.predictor import predict_features
from moascope.learning.trust import fit_trust
from moascope.params import Embed, Params


@pytest.fixture(scope="module")
def examples():
    return with_plate_controls(make_examples(compounds=60, effect=4.0),
                               np.random.default_rng(7))


@pytest.fixture(scope="module")
def model(examples):
    params = Params(train=TRAIN, seed=0)
    outer = [(repeat, fold) for repeat in range(examples.repeats)
             for fold in range(examples.fold_count)]
    logits, _ = nested(examples, dict.fromkeys(outer, HEAD), params.train, 0)
    heads, _, calibrations = fit_final(examples, HEAD, logits, params)
    trust = fit_trust(examples, HEAD, params.train, logits, calibrations)
    return final_model(examples, heads, calibrations, HEAD, params, (), Embed(), {}, trust)


def predicted(model, examples, level="compound"):
    return predict_features(model, *as_screen(examples), level)


def test_a_saved_model_abstains_in_the_same_way(model, examples, tmp_path):
    save_model(model, tmp_path / "model")
    write_verdict(tmp_path / "model", above_chance=True, useful=True)
    loaded = read_model(tmp_path / "model")
    for level in ("compound", "well", "site"):
        one, _ = predicted(model, examples, level)
        two, _ = predicted(loaded, examples, level)
        assert set(two.pop("Model")) == {USEFUL}
        assert set(one.pop("Model")) == {"not evaluated"}
        assert one.equals(two)
    assert not [path for path in (tmp_path / "model").rglob("*") if path.suffix == ".pkl"]
    write_verdict(tmp_path / "model", above_chance=False, useful=False)
    loaded = read_model(tmp_path / "model")
    assert "not better than chance" in " ".join(call_warnings(loaded, loaded.trust, two))
    (tmp_path / "model/verdict.json").write_text('{"verdict": "splendid"}')
    with pytest.raises(MoascopeError, match="damaged"):
        read_model(tmp_path / "model")


@pytest.mark.parametrize("level", ["compound", "well", "site"])
def test_controls_are_given_no_class(model, examples, level):
    table, _ = predicted(model, examples, level)
    control = table["Metadata_Compound"] == "DMSO"
    assert control.any()
    assert (table.loc[control, ["Predicted", "Set", "Nearest"]] == "").all(axis=None)
    assert (table.loc[control, "Call"] == "control").all()
    assert (table.loc[~control, "Predicted"] != "").all()


def test_a_call_is_a_set_of_one_class_and_mostly_right(model, examples):
    table, _ = predicted(model, examples)
    label = dict(zip(examples.groups["Metadata_Compound"], examples.groups["Label"], strict=True))
    called = table[table["Call"].isin(["t", "not_t"])]
    assert (called["Set"] == called["Call"]).all()
    assert len(called) > 40
    assert (called["Call"] == called["Metadata_Compound"].map(label)).mean() > 0.9


def test_the_nearest_compound_is_another_one(model, examples):
    table, _ = predicted(model, examples)
    treated = table[table["Call"] != "control"]
    assert (treated["Nearest"] != treated["Metadata_Compound"]).all()
    assert treated["Nearest_Similarity"].between(-1, 1).all()
    # Calibrated on themselves: few are novel.
    assert (treated["Call"] == "novel").mean() <= 0.1


def test_novel_are_those_whose_p_value_is_at_most_the_rate(model, examples):
    often = replace(model, trust=replace(model.trust, rate=0.5))
    table, _ = predicted(often, examples)
    treated = table[table["Call"] != "control"]
    novel = treated["Call"] == "novel"
    assert novel.any() and not novel.all()
    assert (novel == (treated["Novelty_P"] <= 0.5)).all()


def test_inactive_goes_before_all_but_controls(model, examples):
    table, _ = predicted(model, examples)
    inactive = np.ones(len(table), bool)
    found = with_inactive(table, inactive, model)
    assert set(found["Call"]) == {"inactive", "control"}
    assert summary(found, model.question, "compound", inactive) == (
        "60 compounds: 0 called, 0 undecided, 60 inactive, 0 novel.\n"
        "1 control gets no mechanism.")


def test_calls_below_one_half_are_counted_and_explained(model):
    table = pd.DataFrame({"P_not_t": [0.7, 0.6, 0.9, 0.6], "P_t": [0.3, 0.4, 0.1, 0.4],
                          "Call": ["t", "undecided", "not_t", "control"]})
    said = " ".join(summary(table, model.question, "compound").split())
    assert "1 of the 2 calls has a probability below 0.5: a class is called because" in said
    assert "below 0.5" not in summary(table[1:], model.question, "compound")


def test_inactive_does_not_decide_where_the_model_ranks_inactive_compounds(model, examples,
                                                                           tmp_path):
    save_model(model, tmp_path)
    calls = {}
    for ranks in (False, True):
        write_verdict(tmp_path, above_chance=True, useful=True, ranks_inactive=ranks)
        shown = read_model(tmp_path)
        table, _ = predicted(shown, examples)
        inactive = (table["Metadata_Compound"] != "DMSO").to_numpy()
        found = with_inactive(table, inactive, shown)
        calls[ranks] = set(found["Call"])
        said = summary(found, model.question, "compound", inactive)
        assert ("60 of the 60 look like DMSO" in said) == ranks
        assert max(map(len, said.splitlines())) <= 80
    assert calls[False] == {"inactive", "control"}
    assert {"t", "not_t"} <= calls[True] and "inactive" not in calls[True]
    # A verdict of an earlier version does not say so.
    (tmp_path / "verdict.json").write_text('{"verdict": "better than chance"}')
    assert not read_model(tmp_path).ranks_inactive


def test_numbers_for_people_are_short_and_keep_their_order():
    close = 0.5 + np.array([0, 1e-9, 2e-4])
    table = pd.DataFrame({"P_t": close, "Nearest_Similarity": [0.123456789, np.nan, -0.5],
                          "Novelty_P": [0.05001, 1.0, np.nan], "Metadata_Concentration_uM": 0.1})
    found = for_people(table)
    assert found["P_t"].tolist() == ["0.500000000", "0.500000001", "0.500200000"]
    assert for_people(table[["P_t"]].iloc[[0, 2]])["P_t"].tolist() == ["0.500000", "0.500200"]
    assert found["Nearest_Similarity"].tolist() == ["0.123", "", "-0.500"]
    assert found["Novelty_P"].tolist() == ["0.0500", "1.0000", ""]
    assert found["Metadata_Concentration_uM"].tolist() == [0.1] * 3


def test_a_model_of_an_earlier_version_predicts_without_these_columns(model, examples):
    old = replace(model, trust=None)
    table, warnings = predicted(old, examples)
    assert list(table)[-1] == "Predicted"
    assert warnings == ()
    assert with_inactive(table, np.ones(len(table), bool), old).equals(table)


def test_a_model_that_found_nothing_says_so(model, examples):
    _, warnings = predicted(replace(model, verdict=CHANCE), examples)
    assert any("not better than chance" in sentence for sentence in warnings)
