"""Structure beside pictures, number by number, with learners replaced by fixed scores."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import make_examples

from moascope.chemistry.descriptors import CATIONIC_AMPHIPHILIC
from moascope.evaluation import chemistry
from moascope.evaluation.chemistry import (
    amphiphilic_scores,
    evaluate_chemistry,
    held_out_chemistry,
    mean_rank,
    with_chemistry,
)
from moascope.evaluation.scores import brief_scores
from moascope.learning import simple
from moascope.metrics import bootstrap_weights, macro_average_precision, paired_difference
from moascope.params import Evaluate
from moascope.screen.question import Question

SETTINGS = Evaluate(bootstraps=30, permutations=10)
# Compounds in the folds: one without a structure, one whose structure cannot be read.
WITHOUT, REFUSED = (next(i for i in np.flatnonzero(~make_examples(compounds=30).held_out)
                         if i % 3 == kind) for kind in (0, 1))
LOST = (f"C{WITHOUT}", f"C{REFUSED}")


def screen(several=False):
    examples = make_examples(compounds=30)
    if several:
        examples = replace(examples, _cache={}, groups=examples.groups.assign(
            Label=list("abc") * 10), question=Question("m", ("a", "b", "c"), False,
                                                       untestable=("c",)))
    names = examples.groups["Metadata_Compound"]
    annotations = pd.DataFrame({"Metadata_Compound": names,
                                "Metadata_SMILES": ["C" * (2 + i) + "N" for i in range(30)]})
    annotations.loc[[WITHOUT, REFUSED], "Metadata_SMILES"] = ["", "no structure"]
    table = examples.groups[~examples.held_out].iloc[::-1].reset_index(drop=True)
    share = np.random.default_rng(0).dirichlet(np.ones(len(examples.question.classes)), len(table))
    return examples, annotations, table.assign(**{
        name: share[:, i] for i, name in enumerate(examples.question.probabilities)})


@pytest.mark.parametrize("several", [False, True])
def test_structure_pictures_and_both_are_scored_over_the_same_compounds(monkeypatch, several):
    examples, annotations, table = screen(several)
    question = examples.question
    asked = []

    def scores(learner, rows, label, folds, classes, seed):
        asked.append((learner, rows, label, folds, classes, seed))
        return np.random.default_rng(len(asked)).normal(size=(len(label), classes))

    monkeypatch.setattr(chemistry, "out_of_fold_scores", scores)
    monkeypatch.setattr(chemistry, "INPUTS", {"one": lambda smiles: ("one", smiles),
                                              "two": lambda smiles: ("two", smiles)})
    monkeypatch.setattr(chemistry, "properties", lambda smiles: ("properties", smiles))
    monkeypatch.setattr(chemistry, "is_cationic_amphiphilic", lambda given: given)
    monkeypatch.setattr(chemistry, "amphiphilic_scores", lambda *given: given)
    found = evaluate_chemistry(table, examples, annotations, SETTINGS, 4)
    order = table.sort_values("Metadata_Group")
    order = order[order["Label"] != "c"]
    known = ~order["Metadata_Compound"].isin(LOST).to_numpy()
    assert (found["compounds"], found["without_structure"]) == (known.sum(), (~known).sum())
    assert found["refused"] == [LOST[1]] and found["note"] == ""
    order = order[known]
    label = question.index(order["Label"])
    model = order[question.probabilities].to_numpy()
    smiles = [f"{'C' * (2 + int(name[1:]))}N" for name in order["Metadata_Compound"]]
    classes, present = (3, [0, 1]) if several else (2, [1])
    assert [one[1] for one in asked] == [("one", smiles), ("two", smiles)]
    for learner, _, labels, folds, count, seed in asked:
        assert (learner, count, seed) == ("trees", classes, 4)
        np.testing.assert_array_equal(labels, label)
        np.testing.assert_array_equal(folds, order[["Fold_0", "Fold_1"]].to_numpy().T)
    cluster = np.arange(len(label))
    drawn = bootstrap_weights(cluster, 30, 4)

    def macro(score):
        return lambda weights: macro_average_precision(label, score, present, weights)

    for number, name in enumerate(("one", "two")):
        structure = np.random.default_rng(number + 1).normal(size=(len(label), classes))
        both = mean_rank(structure, model)
        expected = brief_scores(label, structure, present, drawn) | {
            "compounds": len(label), "model": brief_scores(label, model, present, drawn),
            "both": brief_scores(label, both, present, drawn)}
        for which, other in (("both", both), ("model", model)):
            expected[f"{which}_minus_structure"] = dict(zip(
                ("difference", "low", "high"), paired_difference(
                    macro(other), macro(structure), cluster, 30, 4), strict=True))
        assert found["baselines"][name] == expected
    given = found["cationic_amphiphilic"]
    assert given[0] == ("properties", smiles) and given[3] is question.binary
    np.testing.assert_array_equal(given[1], label)
    np.testing.assert_array_equal(given[2], model)
    assert given[4:] == (SETTINGS, 4)


def test_wells_have_no_structure_and_too_few_compounds_no_score(monkeypatch):
    monkeypatch.setattr(simple, "TREES", 5)
    examples, annotations, table = screen()
    of_wells = replace(examples, question=replace(examples.question, unit="well"), _cache={})
    assert evaluate_chemistry(table, of_wells, annotations, SETTINGS, 0) == {}
    shown = set(table["Metadata_Compound"][:20]) - set(LOST)
    for count, scored in ((10, True), (9, False)):
        some = annotations[annotations["Metadata_Compound"].isin(sorted(shown)[:count])]
        found = evaluate_chemistry(table, examples, some, SETTINGS, 0)
        assert bool(found["baselines"]) == scored and found["compounds"] == count
    assert found["note"] == (
        "What the model adds to structure is not known: only 9 scored compounds of "
        f"{len(table)} have a structure that RDKit can read, or they are of one class. Fill in "
        "Metadata_SMILES in annotations.csv.")
    assert found["cationic_amphiphilic"] == {}


def test_within_amphiphilic_compounds_the_model_is_scored_by_itself():
    rng = np.random.default_rng(0)
    amphiphilic, label = np.arange(30) < 12, np.arange(30) % 3 // 2
    model = rng.random((30, 2))
    found = amphiphilic_scores(amphiphilic, label, model, True, SETTINGS, 5)
    expected = {"rule": CATIONIC_AMPHIPHILIC}
    for name, part in (("within", amphiphilic), ("rest", ~amphiphilic)):
        drawn = bootstrap_weights(np.arange(part.sum()), 30, 5)
        expected[name] = {"compounds": part.sum()} | brief_scores(label[part], model[part], [1],
                                                                 drawn)
    first = np.column_stack([~amphiphilic, amphiphilic]).astype(float)
    expected |= {"share_of_hits": 4 / 10, "share_of_others": 8 / 20,
                 "alone": brief_scores(label, first, [1], bootstrap_weights(np.arange(30), 30, 5))}
    assert found == expected
    # Of several classes all that are there count, and nothing is put first.
    label = np.where(amphiphilic, np.arange(30) % 2, 2 * (np.arange(30) % 2))
    model = rng.random((30, 3))
    found = amphiphilic_scores(amphiphilic, label, model, False, SETTINGS, 5)
    assert set(found) == {"rule", "within", "rest"}
    assert found["rest"] == {"compounds": 18} | brief_scores(
        label[12:], model[12:], [0, 2], bootstrap_weights(np.arange(18), 30, 5))
    # One class alone is counted and not scored.
    found = amphiphilic_scores(amphiphilic, amphiphilic.astype(int), model, True, SETTINGS, 5)
    assert found["within"] == {"compounds": 12} and found["rest"] == {"compounds": 18}


def test_held_out_compounds_are_predicted_from_those_of_the_folds(monkeypatch):
    examples, annotations, _ = screen()
    asked = []

    def predicted(learner, rows, label, shown, classes, seed):
        asked.append((learner, rows, label, shown, classes, seed))
        return np.tile([0.25, 0.75], (len(shown), 1))

    monkeypatch.setattr(chemistry, "predicted_probability", predicted)
    monkeypatch.setattr(chemistry, "INPUTS", {"one": lambda smiles: smiles})
    units = examples.groups[examples.held_out].iloc[::-1].reset_index(drop=True)
    lone = annotations["Metadata_Compound"] == units["Metadata_Compound"][1]
    annotations.loc[lone, "Metadata_SMILES"] = ""
    found = held_out_chemistry("one", examples, units, annotations, 6)
    inside = examples.groups[~examples.held_out]
    known = inside[~inside["Metadata_Compound"].isin(LOST)]

    def smiles(names):
        return [f"{'C' * (2 + int(name[1:]))}N" for name in names
                if name not in (*LOST, units["Metadata_Compound"][1])]

    (learner, rows, label, shown, classes, seed), = asked
    assert (learner, classes, seed) == ("trees", 2, 6)
    assert rows == smiles(known["Metadata_Compound"]) and shown == smiles(
        units["Metadata_Compound"])
    np.testing.assert_array_equal(label, (known["Label"] == "t").astype(int))
    share = (inside["Label"] == "t").mean()
    expected = np.tile(np.log([0.25, 0.75]), (len(units), 1))
    without = units["Metadata_Compound"].isin([*LOST, units["Metadata_Compound"][1]])
    expected[without] = np.log([1 - share, share])
    np.testing.assert_allclose(found, expected)
    # Nobody that is asked, or too few to learn from, have a structure.
    some = annotations[annotations["Metadata_Compound"].isin(known["Metadata_Compound"])]
    assert held_out_chemistry("one", examples, units, some, 6) is None
    for count, there in ((10, True), (9, False)):
        few = pd.concat([some[:count], annotations[annotations["Metadata_Compound"].isin(
            units["Metadata_Compound"])]])
        answer = held_out_chemistry("one", examples, units, few, 6)
        assert (answer is not None) == there


def test_metrics_take_the_numbers_of_structure_that_every_baseline_has():
    score = dict.fromkeys(("average_precision", "low", "high", "prevalence", "null_mean", "lift",
                           "compounds", "model"), 0.5)
    baselines = {"scores": {"plate_only": 1}, "best": "plate_only"}
    found = with_chemistry(baselines, {"baselines": {"chemistry": score}})
    assert found == {"best": "plate_only", "chemistry": score, "scores": {
        "plate_only": 1, "chemistry": dict.fromkeys(
            ("average_precision", "low", "high", "prevalence", "null_mean", "lift"), 0.5)}}
    assert with_chemistry(baselines, {}) == baselines
