"""A network that looks at one quadrant: its map marks that quadrant and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import as_screen, make_examples, with_plate_controls
from looking import CHANNELS, CROP, NAMES, TOY, TRAIN, quadrant, toy_model, toy_sight

from moascope.explanation import crops as module
from moascope.explanation.crops import (
    SIDE,
    agreement,
    crop_log_odds,
    flat,
    random_heads,
    sight_of,
    square_effects,
    with_squares,
)
from moascope.learning.calibration import Calibration
from moascope.learning.final import final_model
from moascope.learning.panels import fit_by_panel, predict_by_panel
from moascope.learning.predictor import sites_of
from moascope.params import Embed, Head, Params


def test_only_the_quadrant_that_the_network_sees_is_marked_and_by_how_much():
    sight = toy_sight([3.0, 0, 0, 0])
    planes = np.full((2, CROP, CROP), 100, np.uint8)
    other = np.full((2, CROP, CROP), 84, np.uint8)
    effects, = square_effects(sight, sight.row_of["P", "A01", 1], CHANNELS, planes, 4, [other], 1)
    # A square is 1/16 of the quadrant and 16 levels darker: its mean falls by 1, that of the four
    # crops by 1/4, times a weight of 3 and a slope of 2.
    half = SIDE // 2
    np.testing.assert_allclose(effects[0, :half, :half], 1.5, rtol=1e-5)
    assert not effects[0, half:].any() and not effects[0, :, half:].any() and not effects[1].any()
    against, = square_effects(sight, 0, CHANNELS, planes, 4, [other], 0)
    np.testing.assert_allclose(against, -effects)
    # Two others: their mean. One is as the crop itself.
    both, = square_effects(sight, 0, CHANNELS, planes, 4, [other, planes], 1)
    np.testing.assert_allclose(both, effects / 2, atol=1e-6)


def test_a_channel_that_the_model_does_not_take_has_no_effect():
    sight = toy_sight([3.0, 1, 1, 1])
    planes, other = (np.full((1, CROP, CROP), level, np.uint8) for level in (100, 50))
    effects, = square_effects(sight, 0, ("Brightfield",), planes, 1, [other], 1)
    assert not effects.any()


@pytest.mark.parametrize("normalisation", ["none", "plate", "moderated+sphere"])
def test_a_crop_as_it_is_has_the_models_own_logit_and_a_changed_one_that_of_its_features(
        normalisation, monkeypatch):
    """The changed crop is measured anew, site by site, as embedding it would."""
    rng = np.random.default_rng(0)
    examples = with_plate_controls(make_examples(compounds=12, panels=2), rng)
    pictures = rng.integers(0, 255, (len(examples.meta), 2, CROP, CROP)).astype(np.uint8)
    features = np.concatenate([quadrant(pictures[:, c]) for c in (0, 1)], axis=1)
    examples = replace(examples, names=NAMES, features=features, _cache={})
    head = Head(layers=1, width=3, normalisation=normalisation, epochs=2, level="site")
    seen = examples.seen_by(head)
    heads = fit_by_panel(seen, seen.in_folds[None], head, TRAIN, 0)
    model = final_model(examples, heads, {"site": Calibration(1.0, 0.0, 0.5)}, head,
                        Params(train=TRAIN), CHANNELS, Embed(), {})
    monkeypatch.setattr(module, "find_weights", lambda *_: None)
    monkeypatch.setattr(module, "open_backbone", lambda *_: TOY)
    screen, table = as_screen(examples)
    sight = sight_of(model, screen, table)

    def own(features):
        logits = predict_by_panel(model.heads, sites_of(model, screen, replace(
            table, X=features)), TRAIN)[0]
        return logits[:, 1] - logits[:, 0]

    row, changed = 7, pictures[8]
    found, = crop_log_odds(sight, row, CHANNELS, pictures[row], 1,
                           np.stack([pictures[row], changed]), 1)
    after = features.copy()
    after[row] = np.concatenate([quadrant(changed[[c]])[0] for c in (0, 1)])
    np.testing.assert_allclose(found, [own(features)[row], own(after)[row]], rtol=1e-3, atol=1e-4)


def test_named_features_have_no_maps():
    model = replace(toy_model([1, 0, 0, 0]), embed=Embed(backbone="morphology"))
    assert sight_of(model, *as_screen(make_examples(compounds=3))) is None


def test_squares_are_taken_from_the_other_crop_at_any_side():
    planes, other = np.zeros((1, 20, 20), np.uint8), np.ones((1, 20, 20), np.uint8)
    marked = np.zeros((1, SIDE, SIDE), bool)
    marked[0, 0, 7] = True
    mixed = with_squares(planes, other, marked)
    # Pixel p of 20 is of square 8 p / 20, rounded down.
    assert np.argwhere(mixed[0]).tolist() == [[y, x] for y in range(3) for x in range(18, 20)]
    assert flat(np.arange(9, dtype=np.uint8).reshape(1, 3, 3)).tolist() == [[[4] * 3] * 3]


def test_maps_of_random_heads_agree_where_the_picture_decides_and_not_where_the_model_does():
    sight = toy_sight([3.0, 0, 0, 0])
    rng = np.random.default_rng(1)
    planes, other = rng.integers(0, 255, (2, 2, CROP, CROP)).astype(np.uint8)
    drawn = [random_heads(sight.model.heads, seed) for seed in range(5)]
    assert not np.allclose(drawn[0][""].kernels[0], drawn[1][""].kernels[0])
    effects, *others = square_effects(sight, 0, CHANNELS, planes, 1, [other], 1,
                                      [sight.model.heads, *drawn])
    assert agreement(effects, np.stack([effects, effects])) == (1.0, 1.0)
    signed, absolute = agreement(effects, np.stack([-effects]))
    assert (signed, absolute) == (-1.0, 1.0)
    assert abs(agreement(effects, np.stack(others))[0]) < 0.5
