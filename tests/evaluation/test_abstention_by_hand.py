"""Who is left out, and what is counted, when sets are asked about what they have not seen."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, make_examples, with_plate_controls

from moascope.evaluation import abstention
from moascope.learning.conformal import set_limits
from moascope.learning.novelty import known_compounds
from moascope.screen.question import Question

SEVERAL = Question("moa", ("not_t", "t"), False)
WITHIN = SimpleNamespace(sets=lambda probability: probability > 0.3)
AS_GIVEN = SimpleNamespace(probability=lambda logits: logits)
OTHERWISE = SimpleNamespace(probability=lambda logits: 1 - logits)


def model(**changes):
    return SimpleNamespace(head=HEAD, train=TRAIN, heads="heads", **{
        "calibrations": {"compound": AS_GIVEN, "well": OTHERWISE}, **changes})


def trust(**changes):
    return SimpleNamespace(sets={"compound": WITHIN, "well": WITHIN}, **changes)


@pytest.fixture
def fitted(monkeypatch):
    """`cross_fit` replaced: what it was asked, and fixed logits of four units."""
    asked = []
    label = np.array([0, 1, 1, 0])
    logits = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.2, 0.2]], np.float32)

    def cross_fit(*arguments):
        asked.append(arguments)
        return SimpleNamespace(units=lambda: (label, logits))

    monkeypatch.setattr(abstention, "cross_fit", cross_fit)
    return asked


def of_mechanisms(names, question=None):
    examples = make_examples(compounds=len(names), wells=1, sites=1)
    groups = examples.groups.assign(Metadata_MoA=names, Holdout=False)
    groups.loc[groups.index[-1], "Holdout"] = True
    return replace(examples, groups=groups, question=question or examples.question, _cache={})


def test_models_see_no_compound_of_the_mechanism_that_they_are_asked_about(fitted):
    examples = of_mechanisms(["m1", "m1", "m1", None, "m2", "m2", "once", "", "m2", "m1", "m2",
                              "m1"])
    found = abstention._unseen_mechanisms(examples, model(), trust(), 5)
    # One called and right, one called and wrong, one undecided, one empty.
    assert found == abstention.set_scores(
        np.array([0, 1, 1, 0]), np.array([[1, 0], [1, 0], [1, 1], [0, 0]], bool),
        examples.question) | {"mechanisms": 2}
    (given, head, train, seed, parts), = fitted
    assert (given, head, train, seed) == (examples, HEAD, TRAIN, 5)
    made = parts(examples)
    # The most frequent first, and by name where they are as many; the last compound is held out.
    assert made.left_out_by.tolist() == [0, 0, 0, -1, 1, 1, -1, -1, 1, 0, 1, -1]
    inside = np.arange(12) < 11
    for number in range(2):
        np.testing.assert_array_equal(made.learns[number],
                                      inside & (made.left_out_by != number))


def test_where_classes_are_mechanisms_every_call_of_an_unseen_one_is_false(fitted):
    names = ["m1", "m1", "m1", "m2", "m2", "m2", "m3", "m3", "m3"]
    found = abstention._unseen_mechanisms(of_mechanisms(names, SEVERAL), model(), trust(), 0)
    assert found == {"n": 4, "called": 2, "undecided": 1, "empty": 1, "right_when_called": 0,
                     "mechanisms": 3}


@pytest.mark.parametrize("names", [
    ["m1"] * 8 + [""],                      # a single mechanism
    ["t" if i % 3 == 0 else "other" for i in range(9)]])    # each is a class of its own
def test_too_few_mechanisms_are_not_asked_about(fitted, names):
    assert abstention._unseen_mechanisms(of_mechanisms(names), model(), trust(), 0) is None
    assert not fitted


def test_the_twenty_most_frequent_mechanisms_are_enough():
    names = [f"m{i:02d}" for i in range(25) for _ in range(2 + i // 5)]
    found = abstention.frequent_mechanisms(np.array([*names, "", "once"]))
    assert found == [f"m{i:02d}" for first in (20, 15, 10, 5) for i in range(first, first + 5)]


def test_control_wells_are_called_as_if_they_were_wells_of_a_compound(monkeypatch):
    examples = make_examples(compounds=9)
    assert abstention._controls(examples, model(), trust()) is None
    examples = with_plate_controls(examples, np.random.default_rng(0), wells=3)
    asked = []

    def predict(heads, sites, train):
        asked.append((heads, sites, train))
        # Of two sites a well; wells have a calibration of their own, which turns these round.
        return np.array([[[0.2, 0.9]] * 2 + [[0.9, 0.4], [0.7, 0.2]] + [[0.3, 0.4]] * 2])

    monkeypatch.setattr(abstention, "predict_by_panel", predict)
    found = abstention._controls(examples, model(), trust())
    # 0.8 and 0.1, 0.2 and 0.7, 0.7 and 0.6: the first two are called.
    assert found == {"n": 3, "called": 2, "by_class": {"not_t": 1, "t": 1}}
    (heads, sites, train), = asked
    assert heads == "heads" and train is TRAIN and len(sites.meta) == 6
    assert (sites.meta["Metadata_Control"] == "negative").all()


def test_compounds_out_of_fold_are_in_sets_by_the_limits_of_the_other_folds():
    examples = make_examples(compounds=30, wells=1, sites=1)
    groups = examples.groups
    rng = np.random.default_rng(2)
    chosen = np.flatnonzero(~examples.held_out)[::-1]
    share = rng.random(len(chosen))
    table = pd.DataFrame({"Metadata_Group": groups["Metadata_Group"].iloc[chosen],
                          "Label": groups["Label"].iloc[chosen],
                          "P_not_t": 1 - share, "P_t": share}).reset_index(drop=True)
    found = abstention._out_of_fold(table, examples, 0.8)
    label = examples.group_label[chosen]
    probability = np.column_stack([1 - share, share])
    fold = groups["Fold_0"].to_numpy()[chosen]
    within = np.zeros((len(chosen), 2), bool)
    for number in range(3):
        own = fold == number
        limits = set_limits(label[~own], probability[~own], np.flatnonzero(~own),
                            examples.question, 0.8)
        within[own] = limits.sets(probability[own])
    assert found == abstention.set_scores(label, within, examples.question)
    assert 0 < found["covered"] < found["n"] == len(chosen)


def test_novel_are_p_values_at_or_below_the_rate(monkeypatch):
    known = known_compounds(np.eye(4))
    # At a right angle to all like every known compound, opposite to one, and the same as one.
    profiles = np.array([[0, 0, 0, 0.0], [-1, -1, -1, -1], [1, 0, 0, 0]])
    assert abstention._novel(known, profiles, 0.2) == {"n": 3, "novel": 1}
    assert abstention._novel(known, profiles, 1.0) == {"n": 3, "novel": 3}
    mechanisms = np.array(["a", "a", "b", "b", "c"])
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(5, 6))
    kept = trust(known=known_compounds(shown), mechanisms=mechanisms, rate=0.5)
    expected = {"n": 0, "novel": 0}
    for name in ("a", "b"):
        own = mechanisms == name
        others = known_compounds(shown[~own])
        p = others.p_values(others.nearest(shown[own])[1])
        expected = {"n": expected["n"] + 2, "novel": expected["novel"] + int((p <= 0.5).sum())}
    assert abstention._novel_mechanisms(kept) == expected
    assert abstention._novel_mechanisms(trust(known=None)) is None
    # All but one of a single mechanism: too few others to know.
    kept = trust(known=known_compounds(shown), mechanisms=np.array(["a"] * 4 + [""]), rate=0.5)
    assert abstention._novel_mechanisms(kept) is None


def test_held_out_compounds_are_compared_with_those_of_training(monkeypatch):
    examples = with_plate_controls(make_examples(compounds=15), np.random.default_rng(1))
    known = known_compounds(np.eye(3))
    kept = trust(known=known, rate=0.3)
    asked = []

    def profiles(*given):
        asked.append(given)
        return np.array([[1, 0, 0], [0, -1, 0], [-1, -1, -1.0]]), None

    monkeypatch.setattr(abstention, "consensus_profiles", profiles)
    found = abstention._novel_held_out(examples, model(), kept)
    p = known.p_values(known.nearest(np.array([[1, 0, 0], [0, -1, 0], [-1, -1, -1.0]]))[1])
    assert found == {"n": 3, "novel": int((p <= 0.3).sum())}
    (given, sites, raw, controls), = asked
    held_out = set(examples.groups["Metadata_Compound"][examples.held_out])
    assert given is kept and set(sites.meta["Metadata_Compound"]) == held_out | {"DMSO"}
    assert raw is sites.features and controls.sum() == 16
    assert (sites.meta["Metadata_Compound"][controls] == "DMSO").all()
    assert abstention._novel_held_out(examples, model(), trust(known=None)) is None
    whole = replace(examples, groups=examples.groups.assign(Holdout=False), _cache={})
    assert abstention._novel_held_out(whole, model(), kept) is None


def test_all_parts_of_the_answer_are_of_the_compounds_they_name(monkeypatch):
    examples = make_examples(compounds=12, wells=1, sites=1)
    for name in ("_unseen_mechanisms", "_controls", "_novel_held_out",
                 "_novel_mechanisms", "_out_of_fold"):
        monkeypatch.setattr(abstention, name, lambda *given, name=name: (name, given))
    groups = examples.groups
    table = groups[["Metadata_Group", "Label"]].assign(
        P_not_t=np.linspace(0, 1, 12), P_t=np.linspace(1, 0, 12),
        Split=np.where(examples.held_out, "held_out", "out_of_fold"))
    limits = SimpleNamespace(limits=(0.2, 0.3), own=(True, False), sets=WITHIN.sets)
    kept = trust(coverage=0.8, rate=0.05, groups=np.array(["a"] * 7))
    kept.sets["compound"] = limits
    asked = model(trust=kept)
    unseen = SimpleNamespace(label=np.array([0, 1, 1]),
                             logits=np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.4]]))
    found = abstention.evaluate_abstention(table, examples, asked, 3, unseen)
    held = table[examples.held_out]
    pd.testing.assert_frame_equal(found["unseen_compounds"][1][0],
                                  table[~examples.held_out].reset_index(drop=True))
    assert found.pop("unseen_compounds")[1][1:] == (examples, 0.8)
    assert found == {
        "coverage": 0.8, "novelty_rate": 0.05, "training_compounds": 7,
        "limits": {"not_t": 0.2, "t": 0.3}, "own_limit": {"not_t": True, "t": False},
        "held_out": abstention.set_scores(
            examples.question.index(held["Label"]),
            held[["P_not_t", "P_t"]].to_numpy() > 0.3, examples.question),
        "unseen_batch": abstention.set_scores(
            np.array([0, 1, 1]), np.array([[1, 0], [1, 0], [1, 1]], bool), examples.question),
        "unseen_mechanisms": ("_unseen_mechanisms", (examples, asked, kept, 3)),
        "dmso_wells": ("_controls", (examples, asked, kept)),
        "novel": {"held_out": ("_novel_held_out", (examples, asked, kept)),
                  "unseen_mechanisms": ("_novel_mechanisms", (kept,))}}
    of_wells = replace(examples, question=replace(examples.question, unit="well"), _cache={})
    assert abstention.evaluate_abstention(table, of_wells, asked, 3, unseen) is None
    assert abstention.evaluate_abstention(table, examples, asked, 3, None)["unseen_batch"] is None
