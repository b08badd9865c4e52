from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from moascope.errors import MoascopeError
from moascope.evaluation.baselines import (
    baseline_inputs,
    baseline_logits,
    evaluate_baselines,
    unit_logits,
)
from moascope.evaluation.leak import evaluate_leak
from moascope.features.embed import embed_for
from moascope.learning.calibration import SLOPE_SPREAD, calibrate
from moascope.learning.cross_fit import masks_without
from moascope.learning.examples import Examples, averaging, row_weights
from moascope.learning.folds import assign_folds
from moascope.learning.nested import (
    Inner,
    fold_pairs,
    nested,
    out_of_fold,
    ranking_score,
)
from moascope.learning.panels import fit_by_panel
from moascope.params import Embed, Evaluate, Head, Train
from moascope.screen.question import Question

HEAD = Head(layers=0, learning_rate=0.02, epochs=30, dropout=0, l2=1e-2)
TRAIN = Train(panels="pooled", batch_size=64)
FEW = Evaluate(bootstraps=50, permutations=50, refits=1)


def make_examples(compounds=30, wells=2, sites=2, effect=3.0, panels=1, well_noise=0.5, seed=0):
    """Compounds whose first feature tells the class, with wells and images that share noise."""
    rng = np.random.default_rng(seed)
    groups = pd.DataFrame({
        "Metadata_Group": [f"g{i}" for i in range(compounds)],
        "Metadata_Compound": [f"C{i}" for i in range(compounds)],
        "Label": ["t" if i % 3 == 0 else "not_t" for i in range(compounds)],
        "Metadata_MoA": ["a" if i % 3 == 0 else "b" for i in range(compounds)],
        "gpcr_action": "",
    })
    groups = assign_folds(groups, 3, 2, 0.2, seed=0)
    rows, features, group = [], [], []
    for panel in range(panels):
        for i in range(compounds):
            for w in range(wells):
                own = rng.normal(size=20) * well_noise
                own[0] += effect * (i % 3 == 0)
                number = i * wells + w
                well = f"{chr(65 + number // 24)}{1 + number % 24:02d}"
                for s in range(sites):
                    rows.append((f"P{panel}", well, s, "B", f"panel{panel}", f"C{i}", float(w), ""))
                    features.append(own + rng.normal(size=20) * 0.05)
                    group.append(i)
    meta = pd.DataFrame(rows, columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel",
        "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"])
    names = ("Count_Nuclei", "Intensity_DNA_Mean", *(f"M_{i}" for i in range(18)))
    return Examples(meta, np.asarray(features, np.float32), names, np.array(group), groups,
                    Question("t", ("not_t", "t"), True))


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


def test_a_study_asks_models_about_every_site_that_their_scores_rest_on():
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


def test_a_random_image_split_finds_what_is_not_there():
    examples = make_examples(compounds=45, effect=0.0, well_noise=1.5)
    leak = evaluate_leak(examples, HEAD, TRAIN, FEW, seed=0)
    assert leak["valid"] is False
    prevalence = leak["true_labels"]["site"]["prevalence"]
    assert leak["true_labels"]["site"]["average_precision"] > 1.5 * prevalence
    assert leak["shuffled_labels"]["site"]["average_precision"] > 1.5 * prevalence


def test_shuffled_labels_can_be_learnt_from_however_few_hits_there_are():
    examples = make_examples(compounds=30)
    groups = examples.groups.drop(columns=["Holdout", "Fold_0", "Fold_1"])
    groups["Label"] = ["t" if i < 3 else "not_t" for i in range(30)]
    rare = replace(examples, groups=assign_folds(groups, 3, 1, 0.0, seed=0), _cache={})
    many = FEW.model_copy(update={"refits": 40})
    compounds = rare.groups.assign(P_t=0.5, P_not_t=0.5)
    scores = evaluate_baselines(compounds, rare, HEAD, TRAIN, many, seed=0)["scores"]
    assert scores["shuffled_labels"]["refits"] == 40
    assert 0 < scores["shuffled_labels"]["average_precision"] < 0.5


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


def test_calibration_gives_probabilities_that_come_true():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=4000) * 2
    label = (rng.random(4000) < expit(0.7 * margin - 1)).astype(int)
    logits = np.stack([np.zeros(4000), margin], axis=1)
    calibration = calibrate(label, logits, np.arange(len(label)), binary=True)
    assert calibration.slope == pytest.approx(0.7, abs=0.08)
    assert calibration.offset == pytest.approx(-1, abs=0.12)
    probability = calibration.probability(logits.copy())[:, 1]
    for low in (0.0, 0.2, 0.5):
        bin_ = (probability >= low) & (probability < low + 0.3)
        assert probability[bin_].mean() == pytest.approx(label[bin_].mean(), abs=0.05)


def test_the_threshold_is_the_best_balanced_accuracy_scikit_learn_finds():
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(1)
    label = (rng.random(200) < 0.3).astype(int)
    logits = np.stack([np.zeros(200), rng.normal(size=200) + label], axis=1)
    calibration = calibrate(label, logits, np.arange(len(label)), binary=True)
    probability = calibration.probability(logits.copy())
    best = max(balanced_accuracy_score(label, probability[:, 1] >= t) for t in probability[:, 1])
    assert balanced_accuracy_score(label, calibration.decide(probability)) == pytest.approx(best)


def test_calibration_may_flatten_a_ranking_but_never_turn_it_round():
    rng = np.random.default_rng(2)
    margin = rng.normal(size=300)
    label = (margin < 0).astype(int)
    logits = np.stack([np.zeros(300), margin], axis=1)
    calibration = calibrate(label, logits, np.arange(300), binary=True)
    assert calibration.slope > 0


def test_a_few_compounds_do_not_get_a_scale_of_their_own():
    rng = np.random.default_rng(3)
    label = np.repeat(rng.integers(0, 3, 8), 30)
    logits = rng.normal(size=(240, 3)) + 20 * np.eye(3)[label]
    few = calibrate(label, logits, np.repeat(np.arange(8), 30), binary=False)
    many = calibrate(label, logits, np.arange(240), binary=False)
    assert 1 <= few.slope <= many.slope


def test_a_unit_whose_class_the_inner_model_never_saw_is_not_asked_about():
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


def test_classes_that_cannot_be_tested_are_not_asked_about():
    examples = replace(make_examples(), _cache={}, question=Question(
        "moa", ("not_t", "t", "rare"), False, untestable=("rare",)))
    assert examples.question.scored == [0, 1]
    assert make_examples().question.scored == [1]


def test_a_baseline_sees_position_and_nothing_else():
    examples = make_examples(compounds=24).wells()
    inputs = baseline_inputs(examples)["position_only"]
    assert set(np.unique(inputs)) == {0.0, 1.0}
    logits = baseline_logits(examples, inputs)
    other = replace(examples, features=examples.features + 7, _cache={})
    np.testing.assert_array_equal(
        logits, baseline_logits(other, baseline_inputs(other)["position_only"]))
    units = examples.groups[~examples.groups["Holdout"]][["Metadata_Group"]].iloc[::-1]
    scores = unit_logits(examples, logits, units)
    assert scores.shape == (len(units), 2)


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


def test_a_head_sees_its_own_backbone_beside_counts_and_intensities():
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


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("classes", [2, 4])
def test_calibration_finds_the_minimum_that_scipy_finds(seed, classes):
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, 60) if classes > 2 else (rng.random(60) < 0.2).astype(int)
    # From no signal at all, over labels turned round, to a perfect ranking of any scale.
    sense = rng.choice([-3, 0, 0.3, 3])
    logits = (rng.normal(size=(60, classes)) + sense * np.eye(classes)[label]) * rng.choice(
        [1e-2, 1, 50])
    prior = 1 / (2 * SLOPE_SPREAD**2 * 20)
    positives = int((label == 1).sum())
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (60 - positives + 2))

    def loss(at):
        if classes == 2:
            odds = np.exp(at[0]) * (logits[:, 1] - logits[:, 0]) + at[1]
            fit = np.logaddexp(0, odds) - target * odds
        else:
            fit = -log_softmax(np.exp(at[0]) * logits, axis=-1)[np.arange(60), label]
        return fit.mean() + prior * at[0] ** 2

    ours = calibrate(label, logits, np.arange(60) % 20, binary=classes == 2)
    bounds = [(-5.0, 3.0), (-20.0, 20.0)] if classes == 2 else [(-4.0, 3.0)]
    theirs = min(
        minimize(loss, [slope, 0.0][: len(bounds)], method="L-BFGS-B", tol=1e-14, bounds=bounds).fun
        for slope in (-2.0, 0.0, 2.0))
    assert loss(np.array([np.log(ours.slope), ours.offset])) <= theirs + 1e-7
