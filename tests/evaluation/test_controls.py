"""Controls and unseen batches: cross-fitted heads, scored on what they left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, make_examples

from moascope.evaluation.batches import (
    leave_folds_and_batches_out,
    predict_unseen_batches,
    score_unseen_batches,
)
from moascope.evaluation.controls import evaluate_mechanisms
from moascope.params import Evaluate

MANY = Evaluate(bootstraps=50, permutations=300)
FEW = Evaluate(bootstraps=50, permutations=50, refits=1)


def in_batches(examples, count=2):
    """Wells dealt into batches by turns."""
    batch = [f"B{number % count}" for number in range(len(examples.meta))]
    return replace(examples, meta=examples.meta.assign(Metadata_Batch=batch), _cache={})


def test_a_mechanism_that_shows_is_found_and_one_that_does_not_is_not():
    found = {effect: evaluate_mechanisms(make_examples(compounds=45, effect=effect), MANY,
                                         seed=0)["a"] for effect in (3.0, 0.0)}
    assert found[3.0]["average_precision"] > 0.9
    assert found[0.0]["average_precision"] < 0.65
    assert found[3.0]["found"] and not found[0.0]["found"]
    # A third of 45 compounds, less the held-out fifth of each class.
    assert found[3.0]["compounds"] == 12


def test_a_mechanism_of_two_compounds_is_not_a_control():
    examples = make_examples()
    rare = np.where(np.arange(len(examples.groups)) < 2, "rare", "b")
    examples = replace(examples, groups=examples.groups.assign(Metadata_MoA=rare), _cache={})
    assert set(evaluate_mechanisms(examples, FEW, seed=0)) == set()


def mechanisms(names, effect_on, count=45):
    """Compounds with these mechanisms in turn; the first feature shows those of `effect_on`."""
    examples = make_examples(compounds=count, effect=0.0)
    moa = np.array([names[i % len(names)] for i in range(count)])
    features = examples.features.copy()
    features[:, 0] += 4.0 * np.isin(moa, effect_on)[examples.group]
    return replace(examples, features=features, _cache={},
                   groups=examples.groups.assign(Metadata_MoA=moa))


def test_a_compound_of_unknown_mechanism_is_neither_a_hit_nor_another():
    # The unknown ones look like the mechanism: as negatives they would hide it.
    found = evaluate_mechanisms(mechanisms(["m", "", "n"], ["m", ""]), MANY, seed=0)
    assert set(found) == {"m", "n"}
    assert found["m"]["average_precision"] > 0.9
    assert found["m"]["prevalence"] == pytest.approx(0.5, abs=0.1)


def test_a_compound_of_two_mechanisms_is_a_hit_of_both():
    found = evaluate_mechanisms(mechanisms(["a|b", "b", "c", "d"], ["a|b", "b"]), MANY, seed=0)
    assert set(found) == {"a", "b", "c", "d"}
    assert found["b"]["compounds"] > found["a"]["compounds"]
    assert found["b"]["average_precision"] > 0.9


def test_a_control_is_found_whatever_the_target_and_its_head_are():
    examples = mechanisms(["m", "n", "o", "p", "q"], ["m"])
    found = evaluate_mechanisms(examples, MANY, seed=0)
    shuffled = np.random.default_rng(0).permutation(examples.groups["Label"])
    other = replace(examples, groups=examples.groups.assign(Label=shuffled), _cache={})
    assert found["m"]["found"] and found == evaluate_mechanisms(other, MANY, seed=0)
    assert {"null_mean", "p", "low", "high", "lift"} <= set(found["m"])


def test_without_signal_no_control_is_found_on_nearly_every_screen():
    claims = []
    for seed in range(12):
        examples = make_examples(compounds=40, effect=0.0, seed=seed)
        moa = np.random.default_rng(seed).permutation(np.repeat(list("abcdefgh"), 5))
        examples = replace(examples, groups=examples.groups.assign(Metadata_MoA=moa), _cache={})
        claims.append(any(one["found"] for one in evaluate_mechanisms(
            examples, MANY, seed=0).values()))
    assert sum(claims) <= 2


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


def unseen_batches(examples, train=TRAIN):
    return score_unseen_batches(predict_unseen_batches(examples, HEAD, train, 0),
                                examples.question, FEW, 0)


def test_an_effect_shared_by_batches_is_found_in_an_unseen_one():
    found = unseen_batches(in_batches(make_examples(compounds=45)))
    assert found["batches"] == 2
    assert found["average_precision"] > 0.9
    assert unseen_batches(make_examples()) is None


def batch_of_panels(batches, compounds=45):
    """Panel number -> the batches that it is in, a plate in each."""
    parts = []
    for panel, own in enumerate(batches):
        for batch in own:
            one = make_examples(compounds=compounds, seed=10 * panel + batch)
            parts.append(replace(one, meta=one.meta.assign(
                Metadata_Panel=f"panel{panel}", Metadata_Batch=f"B{batch}",
                Metadata_Plate=f"P{panel}{batch}")))
    return replace(parts[0], meta=pd.concat([one.meta for one in parts], ignore_index=True),
                   features=np.concatenate([one.features for one in parts]),
                   group=np.concatenate([one.group for one in parts]), _cache={})


@pytest.mark.parametrize(("batches", "expected"), [
    ([(0, 1), (0, 1)], 2), ([(0, 1), (1,)], 2), ([(0, 1, 2), (0, 1)], 3), ([(0, 1), (2,)], 2),
    ([(0,), (1,)], None), ([(0,), (0,)], None)])
def test_a_panel_in_one_batch_neither_stops_the_score_nor_counts(batches, expected):
    train = TRAIN.model_copy(update={"panels": "separate"})
    found = unseen_batches(batch_of_panels(batches), train)
    assert (found and found["batches"]) == expected
    if expected:
        assert found["average_precision"] > 0.9
