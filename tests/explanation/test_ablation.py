"""Groups at the controls' value: exact shares of linear heads, and what is lost on unseen units."""

from dataclasses import replace

import numpy as np
import pytest
from learnable import HEAD, TRAIN, make_examples, with_plate_controls

from moascope.explanation.ablation import Reference, ablated_logits, reference_of
from moascope.explanation.out_of_fold import evaluate_groups
from moascope.features.normalise import apply_sphering, fit_sphering
from moascope.learning.head import FittedHeads
from moascope.learning.panels import fit_by_panel, predict_by_panel
from moascope.params import Evaluate, Head

SETTINGS = Evaluate(bootstraps=200, permutations=20, refits=0)
NOTHING = np.zeros(0, np.float32)
# Of the features of `make_examples`: the first tells the class, the others say nothing.
NAMES = ("Intensity_DNA_Mean", "Intensity_Actin_Mean", *(f"CellMobile_DNA_{i}" for i in range(9)),
         *(f"CellMobile_Actin_{i}" for i in range(9)))


def world(**options):
    examples = with_plate_controls(make_examples(**{"compounds": 60, "effect": 4.0} | options),
                                   np.random.default_rng(3))
    return replace(examples, names=NAMES, _cache={})


def masks_of(*groups, width=20):
    return [np.isin(np.arange(width), group) for group in groups]


def test_a_linear_head_loses_its_weights_times_the_distance_from_the_controls():
    examples = make_examples(compounds=3, wells=1, sites=1)
    examples = replace(examples, features=np.array([[1, 2, 3], [0, 1, 0], [4, 0, 1]], np.float32),
                       names=NAMES[:3], _cache={})
    kernel = np.array([[[0, 2.0], [0, -1.0], [0, 0.5]]], np.float32)
    heads = FittedHeads(Head(layers=0), np.array([[1, 1, 1]], np.float32),
                        np.array([[2, 1, 1]], np.float32), [kernel],
                        [np.array([[0, 3.0]], np.float32)], NOTHING, NOTHING)
    at_one = Reference(np.ones((1, 3), np.float32), np.zeros(3, int), True)
    whole, first, others = ablated_logits(
        {"": heads}, examples, None, TRAIN, at_one, masks_of([0], [1, 2], width=3),
        np.zeros(3, int))[..., 1]
    # 3 + 2 (x - 1) / 2 - (y - 1) + (z - 1) / 2
    np.testing.assert_allclose(whole, [3 + 0 - 1 + 1, 3 - 1 - 0 - 0.5, 3 + 3 + 1 + 0])
    np.testing.assert_allclose(whole - first, [0, -1, 3])
    np.testing.assert_allclose(whole - others, [-1 + 1, -0.5, 1])


@pytest.mark.parametrize(("head", "panels"), [
    (Head(layers=2, width=8, activation="gelu"), "pooled"), (Head(head="logistic"), "separate"),
    (Head(head="trees"), "separate"), (Head(head="neighbours"), "pooled")],
    ids=lambda value: getattr(value, "head", value))
def test_groups_are_set_before_sphering_whatever_the_head_is(head, panels):
    head = head.model_copy(update={"epochs": 2, "level": "site"})
    train = TRAIN.model_copy(update={"panels": panels})
    examples = world(compounds=24, panels=2).normalised("plate")
    sphering = fit_sphering(examples.features[examples.controls])
    sphered = replace(examples, features=apply_sphering(examples.features, sphering), _cache={})
    masks = np.stack([examples.in_folds & (examples.fold_of_rows(0) != fold) for fold in (0, 1)])
    heads = fit_by_panel(sphered, masks, head, train, 0)
    of_row = (np.arange(len(examples.meta)) % 2).astype(int)
    mask = masks_of([0, 5, 7])[0]
    zero = reference_of(examples, examples.controls, "plate")
    found = ablated_logits(heads, examples, sphering, train, zero, [mask], of_row)
    at = np.arange(len(of_row))
    np.testing.assert_allclose(
        found[0], predict_by_panel(heads, sphered, train)[of_row, at], rtol=1e-3, atol=1e-4)
    without = replace(examples, features=apply_sphering(np.where(mask, 0, examples.features),
                                                        sphering), _cache={})
    np.testing.assert_allclose(
        found[1], predict_by_panel(heads, without, train)[of_row, at], rtol=1e-3, atol=1e-4)


def test_without_normalisation_the_reference_is_what_the_plates_own_controls_show():
    examples = world(compounds=12, panels=2)
    shifted = replace(examples, _cache={}, features=examples.features + 7 * (
        examples.meta["Metadata_Plate"] == "P1").to_numpy()[:, None])
    found = reference_of(shifted, shifted.controls, "none")
    for plate in ("P0", "P1"):
        own = (shifted.meta["Metadata_Plate"] == plate).to_numpy()
        expected = shifted.features[own & shifted.controls].mean(axis=0)
        np.testing.assert_allclose(found.values[found.of_row[own]], expected[None].repeat(
            own.sum(), axis=0), rtol=1e-5)
    lone = shifted.take(~shifted.controls)
    bare = reference_of(lone, lone.controls, "plate")
    assert not bare.controls and found.controls
    np.testing.assert_allclose(bare.values[0], lone.features[lone.panel == "panel0"].mean(axis=0),
                               rtol=1e-5)


@pytest.mark.parametrize("layers", [0, 1])
def test_what_tells_the_class_is_missed_and_what_does_not_is_not(layers):
    head = HEAD.model_copy(update={"layers": layers, "width": 8})
    found = evaluate_groups(world(), head, TRAIN, SETTINGS, 0)
    assert found["average_precision"] > 0.95
    assert found["controls"] and found["exact"] is (layers == 0)
    dna, actin = (found["groups"]["channel"][name] for name in ("DNA", "Actin"))
    assert dna["features"] == actin["features"] == 10
    assert dna["lost"] > 0.3 and dna["low"] > 0.1
    assert dna["average_precision"] + dna["lost"] == pytest.approx(found["average_precision"])
    assert abs(actin["lost"]) < 0.05 and actin["low"] <= actin["lost"] <= actin["high"]
    shares = found["shares"].pivot(index="Metadata_Compound", columns="Group", values="Log_Odds")
    unseen = world().groups[~world().held_out].set_index("Metadata_Compound")
    assert set(shares.index) == set(unseen.index) and set(found["shares"]["Class"]) == {"t"}
    hit = (unseen["Label"] == "t").reindex(shares.index)
    assert shares.loc[hit, "DNA"].min() > 0 > shares.loc[~hit, "DNA"].median()
    assert shares["Actin"].abs().mean() < 0.3 * shares["DNA"].abs().mean()


def test_each_mechanism_of_the_hits_has_its_own_channel():
    examples = world(compounds=90)
    kind = np.arange(90) % 6   # hits are 0 and 3
    features = examples.features.copy()
    of_row = np.where(examples.group >= 0, kind[examples.group], -1)
    features[of_row == 3, 0] -= 4
    features[of_row == 3, 1] += 4
    mechanisms = np.select([kind == 0, kind == 3], ["a", "b|both"], "c")
    examples = replace(examples, features=features, _cache={}, groups=examples.groups.assign(
        Metadata_MoA=mechanisms))
    found = evaluate_groups(examples, HEAD, TRAIN, SETTINGS, 0)["mechanisms"]["channel"]
    assert set(found) == {"a", "b", "both"}
    count = int((~examples.held_out & (mechanisms == "a")).sum())
    assert found["a"]["compounds"] == count
    assert found["a"]["lost"]["DNA"] > 2 * abs(found["a"]["lost"]["Actin"])
    assert found["b"]["lost"]["Actin"] > 2 * abs(found["b"]["lost"]["DNA"])
    assert found["b"] == found["both"]


def test_every_unit_is_explained_by_a_head_that_did_not_learn_from_it():
    """In noise a head knows its own compounds by heart, and would miss every channel of theirs."""
    head = HEAD.model_copy(update={"l2": 0.0, "epochs": 60})
    found = evaluate_groups(world(effect=0.0, well_noise=1.0), head, TRAIN, SETTINGS, 0)
    assert found["average_precision"] < 0.75
    for group in found["groups"]["channel"].values():
        assert group["low"] < 0 < group["high"]


def test_each_of_several_classes_has_its_own_loss():
    examples = world(compounds=90)
    third = np.array(["abc"[i % 3] for i in range(90)])
    features = examples.features.copy()
    features[:, 1] += 4 * (np.where(examples.group >= 0, third[examples.group], "") == "b")
    question = replace(examples.question, target="moa", classes=("a", "b", "c"), binary=False)
    examples = replace(examples, features=features, question=question, _cache={},
                       groups=examples.groups.assign(Label=third))
    groups = evaluate_groups(examples, HEAD, TRAIN, SETTINGS, 0)["groups"]["channel"]
    # Class a has the first feature (DNA), class b the second one (Actin), class c neither.
    assert groups["DNA"]["by_class"]["a"] > 0.3 > groups["DNA"]["by_class"]["b"]
    assert groups["Actin"]["by_class"]["b"] > 0.3 > groups["Actin"]["by_class"]["a"]


def test_features_without_groups_are_not_explained():
    examples = make_examples()
    plain = replace(examples, names=tuple(f"Profiles_own_{i}" for i in range(20)), _cache={})
    wide = replace(plain, names=("Intensity_DNA_Mean",) * 20, _cache={})
    assert evaluate_groups(wide, HEAD, TRAIN, SETTINGS, 0) is None
    assert len(evaluate_groups(plain, HEAD, TRAIN, SETTINGS, 0)["groups"]["feature"]) == 20
