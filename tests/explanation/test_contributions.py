"""The shares of groups in single predictions: exact for linear heads."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import HEAD, TRAIN, as_screen, make_examples, with_plate_controls
from scipy.special import expit, logit

from moascope.explanation.compounds import compound_shares
from moascope.explanation.shares import margins
from moascope.learning.calibration import Calibration
from moascope.learning.final import final_model
from moascope.learning.panels import fit_by_panel
from moascope.learning.predictor import predict_features
from moascope.params import Embed, Params

NAMES = ("Intensity_DNA_Mean", "Intensity_Actin_Mean", *(f"CellMobile_DNA_{i}" for i in range(9)),
         *(f"CellMobile_Actin_{i}" for i in range(9)))
CALIBRATION = Calibration(0.5, -1.0, 0.5)


def made(head):
    """A model, the screen that it learnt from, and its features, far from 0 on every plate."""
    examples = with_plate_controls(make_examples(compounds=24, effect=4.0, panels=2),
                                   np.random.default_rng(3))
    examples = replace(examples, names=NAMES, features=examples.features + 5, _cache={})
    seen = examples.seen_by(head)
    heads = fit_by_panel(seen, seen.in_folds[None], head, TRAIN, 0)
    model = final_model(examples, heads, dict.fromkeys(("site", "well", "compound"), CALIBRATION),
                        head, Params(train=TRAIN, seed=0), (), Embed(), {})
    return model, *as_screen(examples)


def shares_of(world, meant=1):
    names = world[1].layout["Metadata_Compound"].unique()
    return compound_shares(*world, dict.fromkeys(names, meant))


@pytest.mark.parametrize("normalisation", ["plate", "plate+sphere", "none"])
def test_shares_of_a_linear_head_sum_to_the_distance_from_the_controls(normalisation):
    world = made(HEAD.model_copy(update={"normalisation": normalisation}))
    shares = shares_of(world)
    table = predict_features(*world, "compound")[0].set_index("Metadata_Compound")
    assert set(shares) == set(table.index)
    for name, own in shares.items():
        assert [one.kind for one in own] == ["channel", "channel"]
        whole = logit(table.loc[name, "P_t"])
        for one in own:
            assert expit(whole - one.log_odds) == pytest.approx(one.without, abs=1e-3)
    # What is left without either is the same for all: a well of the plate's controls.
    left = [logit(table.loc[name, "P_t"]) - sum(one.log_odds for one in own)
            for name, own in shares.items()]
    assert np.ptp(left) < 0.02
    for name in ("C0", "C3"):
        dna = next(one for one in shares[name] if one.group == "DNA")
        assert dna.log_odds > 1 and dna.without < table.loc[name, "P_t"] - 0.2


def test_the_class_that_is_meant_turns_the_sign():
    world = made(HEAD)
    one, other = shares_of(world, 1)["C0"], shares_of(world, 0)["C0"]
    np.testing.assert_allclose([a.log_odds for a in one], [-b.log_odds for b in other], rtol=1e-4)
    np.testing.assert_allclose([a.without for a in one], [1 - b.without for b in other], atol=1e-6)


def test_a_margin_is_against_the_mean_of_the_others():
    np.testing.assert_allclose(margins(np.array([[1.0, 2, 6], [0, 0, 3]]), 2), [4.5, 3])


def test_nothing_is_said_of_features_without_groups_or_of_no_compound():
    model, screen, table = made(HEAD)
    assert compound_shares(model, screen, table, {}) == {}
    names = tuple(f"one_{i}" for i in range(20))
    plain = replace(model, names=names), screen, replace(table, names=list(names))
    assert len(shares_of(plain)["C0"]) == 20
    same = ("Intensity_DNA_Mean", *(f"CellMobile_DNA_{i}" for i in range(19)))
    assert shares_of((replace(model, names=same), screen, replace(table, names=list(same)))) == {}
