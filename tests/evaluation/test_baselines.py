from dataclasses import replace

import numpy as np
import pytest
from learnable import HEAD, TRAIN, make_examples

from moascope.evaluation.baselines import (
    baseline_inputs,
    baseline_logits,
    evaluate_baselines,
    held_out_baseline_logits,
    unit_logits,
)
from moascope.learning.dealing import assign_folds
from moascope.params import Evaluate
from moascope.screen.question import Question

FEW = Evaluate(bootstraps=50, permutations=50, refits=1)


def test_shuffled_labels_can_be_learnt_from_however_few_hits_there_are():
    examples = make_examples(compounds=30)
    groups = examples.groups.drop(columns=["Holdout", "Fold_0", "Fold_1"])
    groups["Label"] = ["t" if i < 3 else "not_t" for i in range(30)]
    rare = replace(examples, groups=assign_folds(groups, 3, 1, 0.0, seed=0), _cache={})
    many = FEW.model_copy(update={"refits": 40})
    compounds = rare.groups.assign(P_t=0.5, P_not_t=0.5)
    scores = evaluate_baselines(compounds, rare, HEAD, TRAIN, many, seed=0)["scores"]
    assert scores["shuffled_labels"]["refits"] == 40
    assert 0 < scores["shuffled_labels"]["average_precision"] < 0.5


def test_a_baseline_sees_position_and_nothing_else():
    examples = make_examples(compounds=24).wells()
    inputs = baseline_inputs(examples)["position_only"]
    assert set(np.unique(inputs)) == {0.0, 1.0}
    logits = baseline_logits(examples, inputs)
    other = replace(examples, features=examples.features + 7, _cache={})
    np.testing.assert_array_equal(
        logits, baseline_logits(other, baseline_inputs(other)["position_only"]))
    units = examples.groups[~examples.groups["Holdout"]][["Metadata_Group"]].iloc[::-1]
    scores = unit_logits(examples, logits, units)
    assert scores.shape == (len(units), 2)


@pytest.mark.parametrize("binary", [True, False])
def test_baselines_and_models_are_compared_on_one_scale(binary):
    examples = make_examples(compounds=30).wells()
    if not binary:
        label = np.array(["a", "b", "c"])[np.arange(30) % 3]
        examples = replace(examples, groups=examples.groups.assign(Label=label), _cache={},
                           question=Question("moa", ("a", "b", "c"), False))
    logits = baseline_logits(examples, baseline_inputs(examples)["count_and_intensity"])
    once = replace(examples, groups=examples.groups.drop(columns="Fold_1"), _cache={})
    single = baseline_logits(once, baseline_inputs(once)["count_and_intensity"])
    rows = examples.in_folds
    assert np.exp(single[rows]).sum(axis=1) == pytest.approx(1)
    assert (logits[rows] < 0).all()
    held = held_out_baseline_logits(once, baseline_inputs(once)["count_and_intensity"])
    out = (once.group >= 0) & once.held_out[once.group]
    assert np.exp(held[out]).sum(axis=1) == pytest.approx(1)


def test_a_baseline_does_not_know_the_labels_of_what_it_predicts():
    """Wells of one compound on a plate of their own: what tells the plate tells the label."""
    examples = make_examples(compounds=24).wells()
    inputs = np.eye(len(examples.groups))[examples.group]
    examples = replace(examples, _cache={}, groups=examples.groups.drop(columns="Fold_1"))
    first = baseline_logits(examples, inputs)
    fold = examples.folds(0)
    turned = np.where(fold == 0, np.where(examples.groups["Label"] == "t", "not_t", "t"),
                      examples.groups["Label"])
    other = baseline_logits(replace(examples, _cache={},
                                    groups=examples.groups.assign(Label=turned)), inputs)
    own = fold[examples.group] == 0
    np.testing.assert_array_equal(first[own], other[own])
    assert not np.allclose(first[fold[examples.group] == 1], other[fold[examples.group] == 1])


def test_every_baseline_has_an_interval_around_its_score():
    examples = make_examples(compounds=30)
    compounds = examples.groups[~examples.groups["Holdout"]].assign(P_t=0.5, P_not_t=0.5)
    scores = evaluate_baselines(compounds, examples, HEAD, TRAIN, FEW, seed=0)["scores"]
    for name in ("position_only", "plate_only", "count_and_intensity"):
        low, high = scores[name]["low"], scores[name]["high"]
        assert low <= scores[name]["average_precision"] <= high and low < high, name


def test_many_plates_are_compared_without_their_zeros(monkeypatch):
    examples = make_examples()
    dense = baseline_inputs(examples)["plate_only"]
    monkeypatch.setattr("moascope.evaluation.baselines.MOST_DENSE", 0)
    inputs = baseline_inputs(examples)["plate_only"]
    assert not isinstance(inputs, np.ndarray)
    np.testing.assert_array_equal(inputs.toarray(), dense)
    for predicted in (baseline_logits, held_out_baseline_logits):
        np.testing.assert_allclose(predicted(examples, inputs), predicted(examples, dense),
                                   atol=2e-3)
