from dataclasses import replace

import numpy as np
import pytest
from learnable import HEAD, TRAIN, make_examples

from moascope.evaluation.abstention import evaluate_abstention, frequent_mechanisms, set_scores
from moascope.evaluation.batches import UnseenBatches
from moascope.learning.final import final_model, fit_final, predictions_table
from moascope.learning.nested import nested
from moascope.learning.trust import fit_trust
from moascope.params import Embed, Params
from moascope.screen.question import Question

BINARY = Question("t", ("not_t", "t"), True)


def test_a_small_case_counts_as_by_hand():
    within = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]], bool)
    found = set_scores(np.array([0, 1, 1, 0, 1]), within, BINARY)
    assert (found["n"], found["covered"], found["called"], found["right_when_called"],
            found["undecided"], found["empty"]) == (5, 3, 3, 2, 1, 1)
    assert found["by_class"] == {"not_t": {"n": 2, "covered": 1}, "t": {"n": 3, "covered": 2}}
    # Clopper and Pearson for 3 of 5, from their tables.
    assert found["low"] == pytest.approx(0.1466, abs=1e-4)
    assert found["high"] == pytest.approx(0.9473, abs=1e-4)
    assert set_scores(np.zeros(0, int), np.zeros((0, 2), bool), BINARY) is None


def test_mechanisms_of_one_compound_are_not_left_out():
    names = np.array(["b", "a", "a", "", "c", "b", "a"])
    assert frequent_mechanisms(names) == ["a", "b"]


def test_sets_of_unseen_compounds_hold_their_class_at_the_coverage():
    examples = make_examples(compounds=90, effect=1.0)
    examples = replace(examples, groups=examples.groups.assign(
        Metadata_MoA=[f"m{i % 6}" for i in range(90)]))
    params = Params(train=TRAIN, seed=0)
    outer = [(repeat, fold) for repeat in range(examples.repeats)
             for fold in range(examples.fold_count)]
    logits, inner = nested(examples, dict.fromkeys(outer, HEAD), params.train, 0)
    heads, _, calibrations = fit_final(examples, HEAD, logits, params)
    predictions = predictions_table(examples, "compound", logits, inner["compound"], heads,
                                    calibrations["compound"], HEAD, params)
    trust = fit_trust(examples, HEAD, params.train, logits, calibrations)
    model = final_model(examples, heads, calibrations, HEAD, params, (), Embed(), {}, trust)
    logits = np.array([[9, -9], [9, -9], [-9, 9]], np.float32)
    found = evaluate_abstention(predictions, examples, model, 0,
                                UnseenBatches(np.array([0, 1, 1]), logits, 2))
    unseen = found["unseen_compounds"]
    assert unseen["n"] == int((~examples.held_out).sum())
    assert unseen["high"] > 0.9 and unseen["share_covered"] > 0.8
    assert found["held_out"]["n"] == int(examples.held_out.sum())
    assert found["unseen_mechanisms"]["mechanisms"] == 6
    assert (found["unseen_batch"]["n"], found["unseen_batch"]["covered"]) == (3, 2)
    # Without controls there is nothing to measure a distance by.
    assert found["dmso_wells"] is None
    assert found["novel"] == {"held_out": None, "unseen_mechanisms": None}
    assert evaluate_abstention(predictions, examples, replace(model, trust=None), 0,
                               None) is None
