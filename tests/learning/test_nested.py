from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, make_examples

from moascope.errors import MoascopeError
from moascope.features.embed import embed_for
from moascope.learning.cross_fit import masks_without
from moascope.learning.examples import averaging, row_weights
from moascope.learning.nested import (
    Inner,
    fold_pairs,
    nested,
    out_of_fold,
    ranking_score,
)
from moascope.learning.panels import fit_by_panel
from moascope.params import Embed, Evaluate, Head

FEW = Evaluate(bootstraps=50, permutations=50, refits=1)


def test_training_rows_never_include_what_is_left_out_or_held_out():
    examples = make_examples()
    for (repeat, j, k), mask in zip(fold_pairs(examples),
                                    masks_without(examples, fold_pairs(examples)), strict=True):
        folds = examples.folds(repeat)[examples.group]
        assert not np.isin(folds[mask], [j, k, -1]).any()
        assert mask.any()


def test_inner_scores_know_nothing_of_the_outer_fold():
    examples = make_examples()
    pairs = fold_pairs(examples)
    inner = Inner(examples, pairs)
    logits = np.random.default_rng(0).normal(size=(len(pairs), len(examples.meta), 2)).astype("f4")
    outside = examples.folds(0)[examples.group] == 1
    changed = logits.copy()
    changed[:, outside] += 100
    for level in ("site", "well", "compound"):
        one = inner.pooled(logits, 0, 1, level)
        two = inner.pooled(changed, 0, 1, level)
        np.testing.assert_array_equal(one[1], two[1])
        three = inner.pooled(changed, 0, 0, level)
        assert np.abs(three[1]).max() > 50


def test_a_study_predicts_every_site_that_its_scores_rest_on():
    examples = make_examples()
    inner = Inner(examples, fold_pairs(examples))
    logits = np.random.default_rng(0).normal(size=(*inner.wanted().shape, 2)).astype(np.float32)
    for repeat, fold in inner.outer_folds():
        for level in ("compound", "site"):
            whole = inner.pooled(logits, repeat, fold, level)[1]
            asked = inner.pooled(logits * inner.wanted()[..., None], repeat, fold, level)[1]
            np.testing.assert_array_equal(whole, asked)
    assert not (inner.wanted() & masks_without(examples, inner.pairs)).any()


def test_labels_of_the_outer_fold_change_nothing_in_its_model_or_calibration():
    examples = make_examples()
    heads = {key: HEAD for key in Inner(examples, fold_pairs(examples)).outer_folds()}
    in_fold = examples.folds(0) == 0
    flipped = examples.groups.copy()
    flipped.loc[in_fold, "Label"] = [
        "t" if label == "not_t" else "not_t" for label in flipped.loc[in_fold, "Label"]
    ]
    other = replace(examples, groups=flipped, _cache={})
    one, calibration = nested(examples, heads, TRAIN, 0)
    two, recalibration = nested(other, heads, TRAIN, 0)
    np.testing.assert_allclose(one[0, 0], two[0, 0], atol=1e-5)
    for level in calibration:
        assert calibration[level][0, 0] == recalibration[level][0, 0]
    assert np.abs(one[0, 1] - two[0, 1]).max() > 1e-2


def test_a_real_effect_is_found_in_unseen_compounds_and_a_false_one_is_not():
    found = {}
    for effect in (3.0, 0.0):
        examples = make_examples(compounds=45, effect=effect)
        heads = {key: HEAD for key in Inner(examples, fold_pairs(examples)).outer_folds()}
        logits, calibrations = nested(examples, heads, TRAIN, 0)
        oof = out_of_fold(examples, "compound", logits, calibrations["compound"])
        label = examples.group_label[oof.units["Group"]]
        assert len(oof.units) == (~examples.groups["Holdout"]).sum()
        found[effect] = ranking_score(label, np.log(oof.probability), examples.question)
        np.testing.assert_allclose(oof.probability.sum(axis=1), 1, atol=1e-6)
    assert found[3.0] > 0.9
    assert found[0.0] < 0.65


def test_each_panel_has_a_head_of_its_own_or_all_share_one():
    examples = make_examples(panels=2)
    mask = masks_without(examples, [(0, 0)])
    separate = fit_by_panel(examples, mask, HEAD, TRAIN.model_copy(
        update={"panels": "separate"}), 0)
    pooled = fit_by_panel(examples, mask, HEAD, TRAIN, 0)
    assert list(separate) == ["panel0", "panel1"]
    assert list(pooled) == [""]
    # The pooled head is told which panel a row is of.
    assert pooled[""].mean.shape[1] == separate["panel0"].mean.shape[1] + 2


def test_a_panel_with_one_class_is_a_sentence():
    examples = make_examples(panels=2)
    few = examples.take((examples.panel == "panel0") | (examples.label == 0))
    with pytest.raises(MoascopeError, match=r"train\.panels=pooled"):
        fit_by_panel(few, masks_without(few, [(0, 0)]), HEAD,
                     TRAIN.model_copy(update={"panels": "separate"}), 0)


def test_every_class_and_every_compound_counts_alike():
    examples = make_examples()
    training = np.ones(len(examples.meta), bool)
    training[5] = False  # one compound has an image less
    weights = row_weights(examples, training, examples.label)
    totals = np.bincount(examples.group, weights)
    for label in (0, 1):
        own = totals[examples.group_label == label]
        np.testing.assert_allclose(own, own[0], rtol=1e-4)
    np.testing.assert_allclose(weights[examples.label == 0].sum(),
                               weights[examples.label == 1].sum(), rtol=1e-4)
    assert weights[5] == 0
    assert weights[training].mean() == pytest.approx(1, rel=1e-4)


def test_averaging_is_a_mean_of_means():
    examples = make_examples(compounds=6, wells=3, sites=2)
    examples = examples.take(np.arange(len(examples.meta)) != 1)  # a well with one image left
    matrix, units = averaging(examples, "compound")
    values = np.arange(len(examples.meta), dtype=float)[:, None]
    expected = (
        examples.meta.assign(v=values[:, 0], g=examples.group)
        .groupby(["g", "Metadata_Concentration_uM", "Metadata_Well"])["v"].mean()
        .groupby(level=["g", "Metadata_Concentration_uM"]).mean().groupby(level="g").mean()
    )
    np.testing.assert_allclose((matrix @ values)[:, 0], expected[units["Group"]])


def test_an_inner_model_does_not_predict_a_unit_whose_class_it_never_saw():
    examples = make_examples(compounds=12)
    # The class t has two compounds, in folds 0 and 1 of the first repeat.
    groups = examples.groups.assign(Holdout=False, Fold_0=np.arange(12) % 3, Label="not_t")
    groups.loc[[0, 1], "Label"] = "t"
    told = replace(examples, groups=groups, _cache={})
    pairs = [(0, j, k) for j, k in ((0, 1), (0, 2), (1, 2))]
    logits = np.zeros((3, len(told.meta), 2), np.float32)
    inner = Inner(told, pairs)
    # For fold 0, the model without folds 0 and 1 never saw a t: compound 1 is left out.
    label, _, group = inner.pooled(logits, 0, 0, "compound")
    assert 1 not in group
    assert (label == 0).all()
    # For fold 2, the models without 0 and 2, and without 1 and 2, saw one t each.
    label, _, group = inner.pooled(logits, 0, 2, "compound")
    assert {0, 1} <= set(group)


def test_sphering_and_standardising_learn_from_controls_alone():
    examples = make_examples()
    rows = examples.meta.copy()
    rows.loc[rows.index[:12], "Metadata_Control"] = "negative"
    group = examples.group.copy()
    group[:12] = -1
    told = replace(examples, meta=rows, group=group, _cache={})
    changed = told.features.copy()
    changed[20:] *= 3
    other = replace(told, features=changed, _cache={})
    for how in ("plate", "plate+sphere"):
        np.testing.assert_allclose(told.normalised(how).features[:20],
                                   other.normalised(how).features[:20], rtol=1e-4, atol=1e-4)


def with_controls(examples, count=24):
    """The first rows as negative controls of one plate."""
    rows = examples.meta.copy()
    rows.loc[rows.index[:count], "Metadata_Control"] = "negative"
    group = examples.group.copy()
    group[:count] = -1
    return replace(examples, meta=rows, group=group, _cache={})


def test_a_head_sees_the_features_that_are_worth_having_chosen_by_controls_alone():
    told = with_controls(make_examples())
    features = told.features.copy()
    features[:24, 1] = 3.0
    features[:, 2] = 2 * features[:, 0] + 1
    names = ["Cells_AreaShape_Area", *(f"Cells_Texture_{at}" for at in range(1, 4)),
             "Cells_Location_Center_X", *(f"f{at}" for at in range(5, features.shape[1]))]
    told = replace(told, features=features, names=tuple(names), _cache={})
    measured = told.seen_by(Head(selection="measured", normalisation="moderated"))
    assert measured.names == tuple(np.delete(names, [1, 4]))
    distinct = told.seen_by(Head(selection="distinct"))
    assert distinct.names == tuple(np.delete(names, [1, 2, 4]))
    assert told.seen_by(Head()).names == told.names
    changed = features.copy()
    changed[24:] = np.random.default_rng(0).normal(size=changed[24:].shape)
    other = replace(told, features=changed, _cache={})
    assert other.seen_by(Head(selection="distinct")).names == distinct.names


def test_a_screen_without_a_feature_worth_having_is_a_sentence():
    examples = make_examples()
    names = tuple(f"Cells_Location_{at}" for at in range(examples.features.shape[1]))
    with pytest.raises(MoascopeError, match="No feature is left"):
        replace(examples, names=names, _cache={}).seen_by(Head(selection="measured"))


def test_moderated_values_are_bounded_before_they_are_sphered():
    told = with_controls(make_examples())
    features = told.features.copy()
    features[-1, 0] = 1e6
    told = replace(told, features=features, _cache={})
    assert told.normalised("plate").features.max() > 1000
    assert told.normalised("moderated").features.max() == 20
    assert np.abs(told.normalised("moderated+sphere").features).max() < (
        np.abs(told.normalised("plate+sphere").features).max() / 10)


def test_a_head_sees_its_own_backbone_with_counts_and_intensities():
    examples = make_examples(compounds=9)
    names = ("Count_Nuclei", "Intensity_DNA_Mean", *(f"Morphology_{i}" for i in range(10)),
             *(f"MobileNetV2_{i}" for i in range(8)))
    examples = replace(examples, names=names, _cache={})
    assert examples.seen_by(Head(normalisation="none")).names == names
    seen = examples.seen_by(Head(normalisation="none", backbone="mobilenetv2"))
    assert seen.names == names[:2] + names[12:]
    np.testing.assert_array_equal(seen.features,
                                  np.delete(examples.features, np.arange(2, 12), axis=1))
    with pytest.raises(MoascopeError, match="does not name"):
        examples.seen_by(Head(backbone="resnet50"))


def test_serving_needs_the_backbone_alone_that_the_head_sees():
    both = Embed(backbone="morphology+mobilenetv2", weights={"mobilenetv2": "w.h5"})
    assert embed_for(both, Head()) == both
    assert embed_for(both, Head(backbone="morphology")) == Embed(
        backbone="morphology", weights={})
    assert embed_for(both, Head(backbone="mobilenetv2")).backbones == ("mobilenetv2",)




def test_a_well_is_the_mean_of_its_sites():
    examples = make_examples(compounds=4, wells=2, sites=3)
    wells = examples.wells()
    keys = ["Metadata_Plate", "Metadata_Well"]
    expected = pd.DataFrame(examples.features).groupby(
        [examples.meta[key] for key in keys]).mean()
    order = pd.MultiIndex.from_frame(wells.meta[keys])
    assert len(order) == 8
    np.testing.assert_allclose(wells.features, expected.loc[order], rtol=1e-5, atol=1e-6)
