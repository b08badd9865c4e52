"""A network that looks at one quadrant: its map marks that quadrant and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import as_screen, make_examples, with_plate_controls
from looking import CHANNELS, CROP, NAMES, TOY, TRAIN, crop_of, quadrant, toy_model, toy_sight

from moascope.explanation import sight as module
from moascope.explanation.deletion import DRAWS, deletion
from moascope.explanation.sight import Crop, crop_log_odds, sight_of
from moascope.explanation.squares import (
    SIDE,
    agreement,
    level_of,
    random_heads,
    square_values,
    without_squares,
)
from moascope.features import disk
from moascope.learning.calibration import Calibration
from moascope.learning.final import final_model
from moascope.learning.panels import fit_by_panel, predict_by_panel
from moascope.learning.predictor import sites_of
from moascope.params import Embed, Head, Params

HALF = SIDE // 2


def test_only_the_quadrant_that_the_network_sees_is_marked_and_by_how_much():
    sight, crop = toy_sight([3.0, 0, 0, 0]), crop_of(100, 100, count=4)
    values, = square_values(sight, crop, np.full_like(crop.planes, 20), 1)
    # A square is 1/16 of the quadrant and 80 levels brighter than what takes its place: 5 of its
    # mean, a quarter of that of four crops, times a weight of 3 and a slope of 2. Its seam is soft
    # and loses nothing of it but at the borders of the quadrant and the crop.
    assert values[0, 1:3, 1:3].mean() == pytest.approx(5 / 4 * 3 * 2, rel=0.02)
    assert values[0, :HALF, :HALF].min() > 0.7 * values[0].max()
    # Next to the quadrant some of the seam lies in it; further away, and in the other channel,
    # nothing does.
    assert values[0, HALF].max() < 0.3 * values[0].max()
    assert not values[0, HALF + 1:].any() and not values[0, :, HALF + 1:].any()
    assert not values[1].any()
    against, = square_values(sight, crop, np.full_like(crop.planes, 20), 0)
    np.testing.assert_allclose(against, -values)
    other = crop_of(9, channels=("Brightfield",))
    assert not square_values(sight, other, np.zeros_like(other.planes), 1).any()


@pytest.mark.parametrize("normalisation, place", [
    ("none", "memory"), ("plate", "memory"), ("moderated+sphere", "memory"),
    ("moderated+sphere", "disk")])
def test_a_crop_as_it_is_has_the_models_own_logit_and_a_changed_one_that_of_its_features(
        normalisation, place, monkeypatch, tmp_path):
    """The changed crop is measured anew, site by site, as embedding it would."""
    rng = np.random.default_rng(0)
    examples = with_plate_controls(make_examples(compounds=12, panels=2), rng)
    pictures = rng.integers(0, 255, (len(examples.meta), 2, CROP, CROP)).astype(np.uint8)
    features = np.concatenate([quadrant(pictures[:, c]) for c in (0, 1)], axis=1)
    examples = replace(examples, names=NAMES, features=features, _cache={})
    head = Head(layers=1, width=3, activation="tanh", normalisation=normalisation, epochs=2,
                level="site")
    seen = examples.seen_by(head)
    heads = fit_by_panel(seen, seen.in_folds[None], head, TRAIN, 0)
    model = final_model(examples, heads, {"site": Calibration(1.0, 0.0, 0.5)}, head,
                        Params(train=TRAIN), CHANNELS, Embed(), {})
    monkeypatch.setattr(module, "open_backbone", lambda *_: TOY)
    monkeypatch.setattr(module, "find_weights", lambda *_: None)
    screen, table = as_screen(examples)
    held = table
    if place == "disk":
        monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)
        held = replace(table, X=disk.written(table.X.shape, [table.X], tmp_path))
    sight = sight_of(model, screen, held)

    def own(features):
        logits = predict_by_panel(model.heads, sites_of(model, screen, replace(
            table, X=features)), TRAIN)[0]
        return logits[:, 1] - logits[:, 0]

    row, changed = 7, pictures[8]
    crop = Crop(row, CHANNELS, pictures[row], 1)
    found, twice = crop_log_odds(sight, crop, np.stack([pictures[row], changed]), 1,
                                 [model.heads, random_heads(model.heads, 0)])
    after = features.copy()
    after[row] = np.concatenate([quadrant(changed[[c]])[0] for c in (0, 1)])
    np.testing.assert_allclose(found, [own(features)[row], own(after)[row]], rtol=1e-3, atol=1e-4)
    assert not np.allclose(found, twice)


def test_named_features_have_no_maps():
    model = replace(toy_model([1, 0, 0, 0]), embed=Embed(backbone="morphology"))
    assert sight_of(model, *as_screen(make_examples(compounds=3))) is None


def test_deleting_what_the_map_marks_costs_more_than_deleting_at_random():
    sight, crop = toy_sight([3.0, 0, 0, 0]), crop_of(100, 100)
    level = np.full_like(crop.planes, 20)
    values = square_values(sight, crop, level, 1)[0]
    (lost, least), random = deletion(sight, crop, level, 1, [values, -values], 0)
    assert len(random) == DRAWS
    assert lost > random.max() and abs(least) < random.min()
    # 26 of 128 squares: all 16 of the quadrant, and those next to it, on which the seam lies. Its
    # mean falls from 100 to 20, times 3 times 2.
    assert lost == pytest.approx(480, rel=0.01)


def test_a_seam_is_soft_and_the_middle_of_a_region_is_the_other_crop():
    planes, other = np.zeros((1, 64, 64), np.uint8), np.full((1, 64, 64), 200, np.uint8)
    marked = np.zeros((2, 1, SIDE, SIDE), bool)
    marked[1, 0, :, :HALF] = True
    nothing, half = without_squares(planes, other, marked)
    assert not nothing.any()
    line = half[0, 32].astype(int)
    assert line[10] == 200 and line[50] == 0 and 60 < line[31] < 140
    own = np.array([0, 1, 2, 3, 4, 5, 6, 7, 80], np.uint8).reshape(1, 3, 3)
    assert level_of(own, None).tolist() == [[[4] * 3] * 3]
    assert level_of(other, own).tolist() == np.full((1, 64, 64), 12).tolist()


def test_random_heads_have_weights_as_spread_out_and_maps_of_their_own():
    sight = toy_sight([3.0, -1.0, 0.5, 2.0])
    drawn = [random_heads(sight.model.heads, seed) for seed in range(5)]
    assert not np.allclose(drawn[0][""].kernels[0], drawn[1][""].kernels[0])
    rng = np.random.default_rng(1)
    crop = Crop(0, CHANNELS, rng.integers(0, 255, (2, CROP, CROP)).astype(np.uint8), 1)
    level = level_of(crop.planes, None)
    values, *others = square_values(sight, crop, level, 1, [sight.model.heads, *drawn])
    np.testing.assert_array_equal(values, square_values(sight, crop, level, 1)[0])
    assert len(others) == 5 and not np.allclose(others[0], others[1])
    assert agreement(values, np.stack([values, values])) == (1.0, 1.0)
    assert agreement(values, np.stack([-values])) == (-1.0, 1.0)
