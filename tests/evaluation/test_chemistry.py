"""Structure next to pictures: the same folds, no label of what is predicted, paired differences."""

import numpy as np
import pandas as pd
import pytest
from learnable import make_examples

from moascope.evaluation.chemistry import (
    amphiphilic_scores,
    evaluate_chemistry,
    held_out_chemistry,
    mean_rank,
    with_chemistry,
)
from moascope.learning import simple
from moascope.params import Evaluate
from moascope.report.chemistry import amphiphilic_rows, chemistry_sentence

FEW = Evaluate(bootstraps=100, permutations=50)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """Separable molecules need no large forest."""
    monkeypatch.setattr(simple, "TREES", 20)


def predictions(examples, seed=0):
    groups = examples.groups[~examples.held_out].reset_index(drop=True)
    values = np.random.default_rng(seed).random(len(groups))
    return groups.assign(P_t=values, P_not_t=1 - values)


def annotated(examples, informative=True):
    """Hits are amines with chains of differing length, the others acids; or all are one series."""
    rows = []
    for number, (name, label) in enumerate(zip(
            examples.groups["Metadata_Compound"], examples.groups["Label"], strict=True)):
        chain = "C" * (1 + number % 7)
        amine = label == "t" if informative else number % 2
        rows.append((name, f"{chain}N(C)Cc1ccccc1" if amine else f"{chain}OC(=O)c1ccccc1"))
    return pd.DataFrame(rows, columns=["Metadata_Compound", "Metadata_SMILES"])


def test_structure_that_tells_the_class_is_found_and_pictures_at_chance_add_nothing():
    examples = make_examples(compounds=45)
    found = evaluate_chemistry(predictions(examples), examples, annotated(examples), FEW, 0)
    assert (found["compounds"], found["without_structure"], found["note"]) == (36, 0, "")
    for score in found["baselines"].values():
        assert score["average_precision"] > 0.95
        assert score["model"]["average_precision"] < 0.7
        assert score["both_minus_structure"]["difference"] < 0
        assert score["model_minus_structure"]["high"] < 0
    within = found["cationic_amphiphilic"]
    assert within["within"]["compounds"] + within["rest"]["compounds"] == 36


def test_pictures_that_know_more_than_structure_are_said_to_add_to_it():
    examples = make_examples(compounds=60)
    table = predictions(examples)
    hit = (table["Label"] == "t").to_numpy()
    perfect = table.assign(P_t=0.05 + 0.9 * hit, P_not_t=0.95 - 0.9 * hit)
    found = evaluate_chemistry(perfect, examples, annotated(examples, False), FEW, 0)
    for score in found["baselines"].values():
        assert score["both_minus_structure"]["low"] > 0
    metrics = {"chemistry": found, "baselines": with_chemistry({"scores": {}}, found)}
    assert "the pictures add to structure" in chemistry_sentence(metrics)
    assert set(metrics["baselines"]["scores"]["chemistry"]) == {
        "average_precision", "low", "high", "prevalence", "null_mean", "lift"}


def test_structure_does_not_know_the_labels_of_the_fold_that_it_predicts(monkeypatch):
    import moascope.evaluation.chemistry as room

    asked = []
    real = room.out_of_fold_scores
    monkeypatch.setattr(room, "out_of_fold_scores",
                        lambda *args: asked.append(args) or real(*args))
    examples = make_examples(compounds=45)
    table = predictions(examples).sample(frac=1, random_state=0)
    evaluate_chemistry(table, examples, annotated(examples), FEW, 0)
    order = table.sort_values("Metadata_Group")
    for _, _, label, folds, _, _ in asked:
        np.testing.assert_array_equal(label, order["Label"] == "t")
        np.testing.assert_array_equal(folds, order[["Fold_0", "Fold_1"]].to_numpy().T)


def test_compounds_without_a_readable_structure_are_left_out_and_counted():
    examples = make_examples(compounds=45)
    known = annotated(examples)
    scored = predictions(examples)["Metadata_Compound"].tolist()
    known.loc[known["Metadata_Compound"] == scored[0], "Metadata_SMILES"] = "C1CC"
    known = known[known["Metadata_Compound"] != scored[1]]
    found = evaluate_chemistry(predictions(examples), examples, known, FEW, 0)
    assert (found["compounds"], found["without_structure"]) == (34, 2)
    assert found["refused"] == [scored[0]]
    assert f"{scored[0]} ('C1CC')" in found["warnings"][0]
    metrics = {"chemistry": found, "baselines": with_chemistry({"scores": {}}, found)}
    assert ("Over 34 compounds with a structure (2 compounds without a readable structure left "
            "out), pictures alone reach") in chemistry_sentence(metrics)


def test_a_screen_without_structures_says_so_in_one_sentence():
    examples = make_examples(compounds=45)
    bare = annotated(examples)[["Metadata_Compound"]]
    found = evaluate_chemistry(predictions(examples), examples, bare, FEW, 0)
    assert found["baselines"] == {}
    assert found["note"] == ("What the model adds to structure is not known: annotations.csv has "
                             "no column Metadata_SMILES or Metadata_InChI.")
    few = evaluate_chemistry(predictions(examples), examples, annotated(examples)[:5], FEW, 0)
    assert "have a structure that RDKit can read" in few["note"]


def test_both_together_is_the_mean_of_two_ranks():
    one, two = np.array([[0.1], [0.2], [0.9]]), np.array([[5.0], [-3.0], [4.0]])
    assert mean_rank(one, two).ravel().tolist() == [2.0, 1.5, 2.5]


def test_a_model_that_only_sees_amphiphilic_amines_is_at_chance_within_them_and_the_rest():
    rng = np.random.default_rng(0)
    amphiphilic = np.arange(400) < 160
    label = (rng.random(400) < np.where(amphiphilic, 0.5, 0.1)).astype(int)
    score = amphiphilic + rng.random(400) * 0.5
    found = amphiphilic_scores(amphiphilic, label, np.stack([-score, score], 1), True, FEW, 0)
    assert found["alone"]["lift"] > 1.3
    assert found["within"]["lift"] == pytest.approx(1, abs=0.25)
    assert found["rest"]["lift"] == pytest.approx(1, abs=0.45)
    assert found["share_of_hits"] > 0.6 > found["share_of_others"]
    assert list(amphiphilic_rows({"chemistry": {"cationic_amphiphilic": found}})) == [
        "Cationic amphiphilic", "All others"]


def test_held_out_compounds_are_predicted_from_the_folds_alone():
    examples = make_examples(compounds=45)
    units = examples.groups[examples.held_out].iloc[::-1].reset_index(drop=True)
    known = annotated(examples)
    known.loc[known["Metadata_Compound"] == units["Metadata_Compound"][0], "Metadata_SMILES"] = ""
    logits = held_out_chemistry("chemistry_simple", examples, units, known, 0)
    hit = (units["Label"] == "t").to_numpy()
    assert logits[1:, 1][hit[1:]].min() > logits[1:, 1][~hit[1:]].max()
    share = (examples.groups["Label"][~examples.held_out] == "t").mean()
    assert np.exp(logits[0, 1]) == pytest.approx(share)
    assert held_out_chemistry("chemistry", examples, units, known[:3], 0) is None
