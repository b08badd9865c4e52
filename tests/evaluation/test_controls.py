"""Controls and unseen batches: cross-fitted heads, scored on what they left out."""

from dataclasses import replace

import numpy as np
from learnable import HEAD, TRAIN, make_examples

from moascope.evaluation.batches import evaluate_unseen_batches, leave_folds_and_batches_out
from moascope.evaluation.controls import evaluate_mechanisms
from moascope.params import Evaluate

FEW = Evaluate(bootstraps=50, permutations=50, refits=1)


def in_batches(examples, count=2):
    """Wells dealt into batches by turns."""
    batch = [f"B{number % count}" for number in range(len(examples.meta))]
    return replace(examples, meta=examples.meta.assign(Metadata_Batch=batch), _cache={})


def test_a_mechanism_that_shows_is_found_and_one_that_does_not_is_not():
    found = {effect: evaluate_mechanisms(make_examples(compounds=45, effect=effect), HEAD, TRAIN,
                                         FEW, seed=0)["a"] for effect in (3.0, 0.0)}
    assert found[3.0]["average_precision"] > 0.9
    assert found[0.0]["average_precision"] < 0.65
    # A third of 45 compounds, less the held-out fifth of each class.
    assert found[3.0]["compounds"] == 12


def test_a_mechanism_of_two_compounds_is_no_control():
    examples = make_examples()
    rare = np.where(np.arange(len(examples.groups)) < 2, "rare", "b")
    examples = replace(examples, groups=examples.groups.assign(Metadata_MoA=rare), _cache={})
    assert set(evaluate_mechanisms(examples, HEAD, TRAIN, FEW, seed=0)) == {"b"}


def test_unseen_batches_leave_out_both_the_fold_and_the_batch():
    examples = in_batches(make_examples(), 3)
    parts = leave_folds_and_batches_out(examples)
    assert len(parts.learns) == 9
    fold = examples.fold_of_rows(0)
    batch = examples.meta["Metadata_Batch"].to_numpy()
    assert (parts.left_out_by >= 0).tolist() == (fold >= 0).tolist()
    for row in np.flatnonzero(fold >= 0):
        learns = parts.learns[parts.left_out_by[row]]
        np.testing.assert_array_equal(
            learns, (fold >= 0) & (fold != fold[row]) & (batch != batch[row]))


def test_an_effect_shared_by_batches_is_found_in_an_unseen_one():
    found = evaluate_unseen_batches(in_batches(make_examples(compounds=45)), HEAD, TRAIN, FEW, 0)
    assert found["batches"] == 2
    assert found["average_precision"] > 0.9
    assert evaluate_unseen_batches(make_examples(), HEAD, TRAIN, FEW, 0) is None
