"""The head that is served, and the calibration that goes with it."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import HEAD, TRAIN, make_examples

from moascope.learning.examples import LEVELS
from moascope.learning.final import fit_final, resolve
from moascope.params import Params
from moascope.params_file import parse_params


def calibrations(repeats, level_noise=2.0):
    """Of outer models whose logits scatter around the truth, anew in every repeat."""
    examples = make_examples(compounds=300)
    fold = np.random.default_rng(0).integers(0, 3, (repeats, 300))
    groups = examples.groups.drop(columns=["Fold_0", "Fold_1"]).assign(
        **{f"Fold_{r}": np.where(examples.held_out, -1, fold[r]) for r in range(repeats)})
    examples = replace(examples, groups=groups, _cache={})
    noise = np.random.default_rng(0).normal(size=(repeats, 300)) * level_noise
    logits = {}
    for repeat in range(repeats):
        margin = (examples.group_label * 2 - 1 + noise[repeat])[examples.group]
        for number in range(3):
            logits[repeat, number] = np.stack([0 * margin, margin], 1).astype(np.float32)
    params = Params(train=TRAIN)
    head = HEAD.model_copy(update={"epochs": 1})
    return fit_final(examples, head, logits, params)[2]


@pytest.mark.parametrize("level", LEVELS)
def test_the_final_calibration_fits_one_model_however_many_repeats_there_are(level):
    one, five = calibrations(1)[level], calibrations(5)[level]
    # A margin of +-1 with noise of variance 4: log-odds are 2/4 of it. The mean of five models
    # would have a fifth of the noise, and a slope five times as steep.
    assert one.slope == pytest.approx(0.5, abs=0.12)
    assert five.slope == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(("train", "expected"), [
    # A network is what the study chose, but for what is given.
    ({}, {"head": "network", "layers": 1, "normalisation": "plate+sphere", "level": "site"}),
    ({"level": "well"}, {"head": "network", "layers": 1, "level": "well"}),
    # A simple model takes what the references take, but for what is given.
    ({"head": "trees"}, {"head": "trees", "normalisation": "plate", "level": "compound"}),
    ({"head": "trees", "level": "well"}, {"head": "trees", "normalisation": "plate",
                                          "level": "well"}),
])
def test_a_simple_model_ignores_the_study_and_a_network_does_not(train, expected):
    chosen = {"layers": 1, "level": "site", "normalisation": "plate+sphere"}
    head = resolve(parse_params({"train": train}), chosen).model_dump()
    assert {name: head[name] for name in expected} == expected


def test_the_kind_of_head_may_be_the_studys_choice():
    chosen = {"head": "trees", "level": "well", "normalisation": "plate+sphere"}
    head = resolve(parse_params({"train": {"head": "tuned"}}), chosen)
    assert (head.head, head.level, head.normalisation) == ("trees", "well", "plate+sphere")
    assert resolve(parse_params({}), chosen).head == "network"
