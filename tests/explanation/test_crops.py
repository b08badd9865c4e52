"""A network that looks at one quadrant: its map marks that quadrant and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import as_screen, make_examples, with_plate_controls
from looking import CHANNELS, CROP, NAMES, TOY, TRAIN, crop_of, quadrant, toy_model, toy_sight

from moascope.explanation import sight as module
from moascope.explanation.ablation import first_layer
from moascope.explanation.deletion import DRAWS, deletion, flat, without_squares
from moascope.explanation.gradients import head_gradient, keras_twin, plane_gradients
from moascope.explanation.sight import Crop, crop_log_odds, sight_of
from moascope.explanation.squares import SIDE, agreement, random_heads, square_values
from moascope.features.backbones import PACKAGED, open_backbone
from moascope.features.normalise import fit_sphering
from moascope.learning.calibration import Calibration
from moascope.learning.final import final_model
from moascope.learning.panels import fit_by_panel, predict_by_panel
from moascope.learning.predictor import sites_of
from moascope.params import Embed, Head, Params
from moascope.quiet import import_keras

HALF = SIDE // 2


def keras_quadrant():
    """`quadrant` as a Keras model."""
    keras = import_keras()
    given = keras.Input((CROP, CROP, 1))
    corner = keras.layers.Cropping2D(((0, CROP // 2), (0, CROP // 2)))(given)
    pooled = [keras.layers.GlobalAveragePooling2D()(one) for one in (corner, given)]
    return keras.Model(given, keras.layers.Concatenate()(pooled))


def test_only_the_quadrant_that_the_network_sees_is_marked_and_by_how_much():
    sight = toy_sight([3.0, 0, 0, 0])
    values, = square_values(sight, crop_of(100, 100, count=4), 1)
    # A square is 1/16 of the quadrant: 100 / 16 of its mean, a quarter of that of four crops, times
    # a weight of 3 and a slope of 2.
    np.testing.assert_allclose(values[0, :HALF, :HALF], 100 / 16 / 4 * 3 * 2, rtol=1e-5)
    assert not values[0, HALF:].any() and not values[0, :, HALF:].any() and not values[1].any()
    against, = square_values(sight, crop_of(100, 100, count=4), 0)
    np.testing.assert_allclose(against, -values)
    assert not square_values(sight, crop_of(9, channels=("Brightfield",)), 1).any()


def test_gradients_through_keras_are_those_of_the_network():
    twin = keras_quadrant()
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 255, (3, CROP, CROP)).astype(np.uint8)
    np.testing.assert_allclose(twin(planes[..., None].astype(np.float32)), TOY.planes(planes),
                               rtol=1e-5)
    weights = rng.normal(size=(3, 2))
    network, = toy_sight([1, 0, 0, 0]).networks
    np.testing.assert_allclose(plane_gradients(twin)(planes, weights),
                               network.gradients(planes, weights), rtol=1e-4, atol=1e-7)


def test_the_packaged_backbone_has_a_twin_that_says_the_same():
    file = PACKAGED["cellmobile"]
    planes = np.random.default_rng(0).integers(0, 255, (2, 64, 64)).astype(np.uint8)
    twin = keras_twin("cellmobile", file, 64)
    served = open_backbone("cellmobile", file, "f32", 64).planes(planes)
    np.testing.assert_allclose(twin(planes[..., None].astype(np.float32)), served, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("layers", [0, 2])
def test_the_gradient_of_a_head_is_what_its_logits_do(layers, activation):
    rng = np.random.default_rng(1)
    examples = with_plate_controls(make_examples(compounds=12, panels=2), rng).normalised("plate")
    head = Head(layers=layers, width=5, activation=activation, epochs=2, level="site")
    sphering = fit_sphering(examples.features[examples.controls])
    fitted = fit_by_panel(examples, examples.in_folds[None], head, TRAIN, 0)[""]
    features, panels = examples.features[3].astype(float), np.array([1.0, 0.0])

    def contrast(rows):
        kernel, centre, shift, tail = first_layer(fitted, 0, sphering, 20)
        hidden = (rows - centre) @ kernel + shift + panels @ tail
        for weights, bias in zip(fitted.kernels[1:], fitted.biases[1:], strict=True):
            hidden = np.asarray(getattr(import_keras().activations, activation)(hidden))
            hidden = hidden @ weights[0] + bias[0]
        return hidden @ [-1, 1]

    step = 1e-3 * np.eye(20)
    expected = (contrast(features + step) - contrast(features - step)) / 2e-3
    found = head_gradient(fitted, 0, sphering, features, panels, np.array([-1, 1]))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("normalisation", ["none", "plate", "moderated+sphere"])
def test_a_crop_as_it_is_has_the_models_own_logit_and_a_changed_one_that_of_its_features(
        normalisation, monkeypatch):
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
    monkeypatch.setattr(module, "keras_twin", lambda *_: keras_quadrant())
    screen, table = as_screen(examples)
    sight = sight_of(model, screen, table)

    def own(features):
        logits = predict_by_panel(model.heads, sites_of(model, screen, replace(
            table, X=features)), TRAIN)[0]
        return logits[:, 1] - logits[:, 0]

    row, changed = 7, pictures[8]
    crop = Crop(row, CHANNELS, pictures[row], 1)
    found = crop_log_odds(sight, crop, np.stack([pictures[row], changed]), 1)
    after = features.copy()
    after[row] = np.concatenate([quadrant(changed[[c]])[0] for c in (0, 1)])
    np.testing.assert_allclose(found, [own(features)[row], own(after)[row]], rtol=1e-3, atol=1e-4)
    # A little more light changes the log-odds by as little of the map's sum.
    more, less = features.copy(), features.copy()
    more[row] *= 1.001
    less[row] *= 0.999
    change = own(more)[row] - own(less)[row]
    total = square_values(sight, crop, 1).sum()
    assert abs(total) > 1e-3
    assert 0.002 * total == pytest.approx(change, rel=0.1)


def test_named_features_and_heads_without_derivatives_have_no_maps():
    model, screen = toy_model([1, 0, 0, 0]), as_screen(make_examples(compounds=3))
    assert sight_of(replace(model, embed=Embed(backbone="morphology")), *screen) is None
    assert sight_of(replace(model, heads={"": object()}), *screen) is None


def test_deleting_what_the_map_marks_costs_more_than_deleting_at_random():
    sight, crop = toy_sight([3.0, 0, 0, 0]), crop_of(100, 100)
    values = square_values(sight, crop, 1)[0]
    (lost, least), random = deletion(sight, crop, np.full_like(crop.planes, 20), 1,
                                     [values, -values], 0)
    assert len(random) == DRAWS
    assert lost > random.max() and abs(least) < random.min()
    # 26 of 128 squares: all 16 of the quadrant, whose mean falls from 100 to almost 20 (the seam
    # leaks out of it), times 3 times 2.
    assert 350 < lost < 480


def test_a_seam_is_soft_and_the_middle_of_a_region_is_the_other_crop():
    planes, other = np.zeros((1, 64, 64), np.uint8), np.full((1, 64, 64), 200, np.uint8)
    marked = np.zeros((2, 1, SIDE, SIDE), bool)
    marked[1, 0, :, :HALF] = True
    nothing, half = without_squares(planes, other, marked)
    assert not nothing.any()
    line = half[0, 32].astype(int)
    assert line[10] == 200 and line[50] == 0 and 60 < line[31] < 140
    assert flat(np.arange(9, dtype=np.uint8).reshape(1, 3, 3)).tolist() == [[[4] * 3] * 3]


def test_random_heads_have_weights_as_spread_out_and_maps_of_their_own():
    sight = toy_sight([3.0, -1.0, 0.5, 2.0])
    drawn = [random_heads(sight.model.heads, seed) for seed in range(5)]
    assert not np.allclose(drawn[0][""].kernels[0], drawn[1][""].kernels[0])
    rng = np.random.default_rng(1)
    crop = Crop(0, CHANNELS, rng.integers(0, 255, (2, CROP, CROP)).astype(np.uint8), 1)
    values, *others = square_values(sight, crop, 1, [sight.model.heads, *drawn])
    np.testing.assert_array_equal(values, square_values(sight, crop, 1)[0])
    assert len(others) == 5 and not np.allclose(others[0], others[1])
    assert agreement(values, np.stack([values, values])) == (1.0, 1.0)
    assert agreement(values, np.stack([-values])) == (-1.0, 1.0)
