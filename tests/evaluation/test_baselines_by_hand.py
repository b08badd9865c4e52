"""Baselines and references, number by number, against scikit-learn on the same folds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, make_examples, with_plate_controls
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moascope.evaluation import baselines as module
from moascope.evaluation.baselines import (
    baseline_inputs,
    baseline_logits,
    evaluate_baselines,
    held_out_baseline_logits,
    unit_logits,
)
from moascope.evaluation.references import (
    REFERENCES,
    evaluate_references,
    out_of_fold_scores,
    unit_rows,
)
from moascope.evaluation.scores import brief_scores
from moascope.learning import simple
from moascope.learning.examples import Examples
from moascope.metrics import bootstrap_weights, macro_average_precision, paired_difference
from moascope.params import Evaluate
from moascope.screen.question import Question

SETTINGS = Evaluate(bootstraps=40, permutations=10, refits=0)
BINARY = Question("t", ("not_t", "t"), True)


def wells_by_hand():
    """Two plates of two treated wells and four controls, count and intensities as they come."""
    rows = [(plate, well, control) for plate in ("Q", "P") for well, control in (
        ("B03", ""), ("A12", ""), *((f"C{i:02d}", "negative") for i in range(1, 5)))]
    meta = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Control"])
    meta = meta.assign(Metadata_Site=1, Metadata_Panel="", Metadata_Batch="", Metadata_Compound="",
                       Metadata_Concentration_uM=1.0)
    features = np.array([[9, 1, 50, 7], [3, 1, 10, 7], [1, 1, 10, 7], [2, 2, 20, 7], [3, 3, 30, 7],
                         [4, 4, 40, 7]] * 2, np.float32)
    groups = pd.DataFrame({"Metadata_Group": ["a", "b"], "Label": ["t", "not_t"],
                           "Holdout": False, "Fold_0": [0, 1]})
    return Examples(meta, features, ("Count_Nuclei", "M_0", "Intensity_DNA_Mean", "M_1"),
                    np.array([0, 1, -1, -1, -1, -1] * 2), groups, BINARY)


def test_each_baseline_is_shown_what_its_name_says():
    inputs = baseline_inputs(wells_by_hand())
    assert list(inputs) == ["position_only", "plate_only", "cell_count", "count_and_intensity"]
    # Rows A, B, C and columns 1, 2, 3, 4, 12.
    assert inputs["position_only"][:4].tolist() == [
        [0, 1, 0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 1, 0, 0, 0]]
    assert inputs["plate_only"].tolist() == [[0, 1]] * 6 + [[1, 0]] * 6
    # Controls are 1, 2, 3, 4: median 2.5, median deviation 1.
    np.testing.assert_allclose(inputs["cell_count"][:3], [[6.5 / 1.4826], [0.5 / 1.4826],
                                                          [-1.5 / 1.4826]], rtol=1e-5)
    np.testing.assert_allclose(inputs["count_and_intensity"][:2], [
        [6.5 / 1.4826, 2.5 / 1.4826], [0.5 / 1.4826, -1.5 / 1.4826]], rtol=1e-5)
    bare = wells_by_hand().with_features([1, 3])
    assert list(baseline_inputs(bare)) == ["position_only", "plate_only"]
    both = baseline_inputs(wells_by_hand().with_features([1, 2]))
    assert list(both) == ["position_only", "plate_only", "count_and_intensity"]


def by_scikit_learn(examples, inputs, training, predicted):
    """Classes count alike, and the units of each."""
    label, group = examples.label, examples.group
    share = np.array([1 / ((group == own) & training).sum() if use else 0
                      for own, use in zip(group, training, strict=True)])
    for c in np.unique(label[training]):
        own = training & (label == c)
        share[own] /= share[own].sum()
    share *= training.sum() / share.sum()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(inputs[training], label[training],
              logisticregression__sample_weight=share[training])
    return model.predict_log_proba(inputs[predicted])


@pytest.mark.parametrize("classes", [2, 3])
def test_logits_are_scikit_learns_with_every_class_and_unit_of_it_counting_alike(classes):
    examples = make_examples(compounds=18, sites=1).wells()
    if classes == 3:
        examples = replace(examples, _cache={}, question=Question("m", ("a", "b", "c"), False),
                           groups=examples.groups.assign(Label=list("abc") * 6))
    # Not as many wells for every unit.
    examples = examples.take(np.arange(len(examples.meta)) % 7 != 0)
    inputs = np.random.default_rng(0).normal(size=(len(examples.meta), 3))
    held = held_out_baseline_logits(examples, inputs)
    out = examples.held_out[examples.group]
    assert (held[~out] == 0).all() and out.any()
    np.testing.assert_allclose(held[out], by_scikit_learn(examples, inputs, ~out, out), atol=1e-3)
    found = baseline_logits(examples, inputs)
    expected = np.zeros_like(found)
    for repeat in range(2):
        fold = examples.folds(repeat)[examples.group]
        for number in range(3):
            own = fold == number
            expected[own] += by_scikit_learn(examples, inputs, ~own & ~out, own) / 2
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (found[out] == 0).all()


def test_a_class_that_the_training_rows_lack_comes_ten_below_the_least_decision():
    examples = make_examples(compounds=12, sites=1).wells()
    label = np.array(list("aab" * 4))
    held = examples.held_out
    label[held] = "c"
    examples = replace(examples, _cache={}, question=Question("m", ("a", "b", "c"), False),
                       groups=examples.groups.assign(Label=label))
    inputs = np.random.default_rng(0).normal(size=(len(examples.meta), 2))
    found = held_out_baseline_logits(examples, inputs)[held[examples.group]]
    difference = found[:, 1] - found[:, 0]
    least = -np.abs(difference).max() / 2
    np.testing.assert_allclose(found[:, 2] - found[:, 0], least - 10 + difference / 2, atol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)


def test_logits_of_units_are_means_of_their_wells_in_the_order_that_is_asked():
    examples = make_examples(compounds=6, wells=2, sites=1).wells()
    logits = np.arange(24.0).reshape(12, 2)
    units = pd.DataFrame({"Metadata_Group": ["g4", "g0", "g5"]})
    np.testing.assert_allclose(unit_logits(examples, logits, units), [[17, 18], [1, 2], [21, 22]])


@pytest.mark.parametrize("several", [False, True])
def test_the_table_of_baselines_is_made_of_their_scores(monkeypatch, several):
    examples = with_plate_controls(make_examples(compounds=24), np.random.default_rng(0))
    compounds = examples.groups[~examples.held_out].iloc[::-1].reset_index(drop=True)
    share = np.random.default_rng(1).random(len(compounds))
    compounds = compounds.assign(P_t=share, P_not_t=1 - share)
    if several:
        question = Question("m", ("a", "b", "c"), False, untestable=("c",))
        names = np.array(list("abc") * 8)
        examples = replace(examples, question=question, _cache={},
                           groups=examples.groups.assign(Label=names))
        compounds["Label"] = names[~examples.held_out][::-1]
        compounds = compounds.assign(P_a=share, P_b=share[::-1], P_c=0.1)
    asked = []
    monkeypatch.setattr(module, "shuffled_refits",
                        lambda *given: asked.append(given) or [0.5, 0.1, 0.3])
    settings = SETTINGS.model_copy(update={"refits": 3})
    found = evaluate_baselines(compounds, examples, HEAD, TRAIN, settings, 8)
    assert asked == [(examples, HEAD, TRAIN, 3, 8)]
    question = examples.question
    label = question.index(compounds["Label"])
    keep = question.counts(label)
    units, label = compounds[keep], label[keep]
    classes = [0, 1] if several else [1]
    cluster = np.arange(len(label))
    drawn = bootstrap_weights(cluster, 40, 8)
    wells = examples.counts_and_intensities().wells()
    logits = {name: unit_logits(wells, baseline_logits(wells, inputs), units)
              for name, inputs in baseline_inputs(wells).items()}
    expected = {name: brief_scores(label, one, classes, drawn) for name, one in logits.items()}
    prevalence, chance = question.prevalence(label), question.null_mean(label)
    assert found["scores"] == expected | {
        "prevalence": {"average_precision": prevalence, "low": prevalence, "high": prevalence,
                       "null_mean": chance},
        "shuffled_labels": {"average_precision": pytest.approx(0.3), "low": 0.1, "high": 0.5,
                            "refits": 3, "prevalence": prevalence, "null_mean": chance}}
    best = max(expected, key=lambda name: expected[name]["average_precision"])
    assert found["best"] == best
    own = units[list(question.probabilities)].to_numpy()
    difference, low, high = paired_difference(
        lambda w: macro_average_precision(label, own, classes, w),
        lambda w: macro_average_precision(label, logits[best], classes, w), cluster, 40, 8)
    assert found["model_minus_best"] == {"difference": difference, "low": low, "high": high}
    assert found["useful"] == (low > 0)
    without = evaluate_baselines(compounds, examples, HEAD, TRAIN, SETTINGS, 8)
    assert set(without["scores"]) == set(expected) | {"prevalence"}


def test_a_model_is_useful_where_the_whole_interval_is_above_the_best_baseline():
    rng = np.random.default_rng(3)
    examples = make_examples(compounds=40)
    noise = rng.normal(size=examples.features.shape).astype(np.float32)
    label = rng.permutation(examples.groups["Label"].to_numpy())   # no layout tells them
    examples = replace(examples, features=noise, _cache={},
                       groups=examples.groups.assign(Label=label))
    compounds = examples.groups[~examples.held_out]
    hit = (compounds["Label"] == "t").to_numpy(float)
    for share, useful in ((hit, True), (1 - hit, False)):
        table = compounds.assign(P_t=share, P_not_t=1 - share)
        assert evaluate_baselines(table, examples, HEAD, TRAIN, SETTINGS, 0)["useful"] == useful


# References


def test_references_are_scored_over_the_units_that_count_and_the_model_predicted(monkeypatch):
    monkeypatch.setattr(simple, "TREES", 10)
    examples = make_examples(compounds=36, panels=2, effect=1.0)
    question = Question("m", ("a", "b", "c"), False, untestable=("c",))
    examples = replace(examples, question=question, _cache={},
                       groups=examples.groups.assign(Label=list("abc") * 12))
    groups = examples.groups[~examples.held_out].iloc[1:].iloc[::-1]
    rng = np.random.default_rng(0)
    table = groups[["Metadata_Group", "Label"]].assign(
        P_a=rng.random(len(groups)), P_b=rng.random(len(groups)), P_c=0.0)
    found = evaluate_references(table, examples, SETTINGS, 6)
    assert list(found) == list(REFERENCES) == ["logistic", "neighbours", "trees"]
    rows, group = unit_rows(examples)
    label = examples.group_label[group]
    folds = np.stack([examples.folds(0)[group], examples.folds(1)[group]])
    names = examples.groups["Metadata_Group"].to_numpy()[group]
    keep = (label != 2) & np.isin(names, table["Metadata_Group"])
    assert keep.sum() == (table["Label"] != "c").sum()
    own = table.set_index("Metadata_Group").loc[names[keep], ["P_a", "P_b", "P_c"]].to_numpy()
    cluster = np.arange(keep.sum())
    drawn = bootstrap_weights(cluster, 40, 6)
    for kind, scores in found.items():
        theirs = out_of_fold_scores(kind, rows, label, folds, 3, 6)[keep]
        difference, low, high = paired_difference(
            lambda w: macro_average_precision(label[keep], own, [0, 1], w),
            lambda w, theirs=theirs: macro_average_precision(label[keep], theirs, [0, 1], w),
            cluster, 40, 6)
        assert scores == brief_scores(label[keep], theirs, [0, 1], drawn) | {
            "model_minus_reference": {"difference": difference, "low": low, "high": high}}


def test_a_unit_without_a_site_or_a_panel_of_controls_alone_has_no_row():
    examples = with_plate_controls(make_examples(compounds=10, panels=2), np.random.default_rng(0))
    kept = (examples.group != 4) & ~((examples.panel == "panel1") & (examples.group >= 0))
    rows, group = unit_rows(examples.take(kept))
    assert 4 not in group and rows.dtype == np.float32
    assert set(group) == set(np.flatnonzero(~examples.held_out)) - {4}
    assert rows.shape == (len(group), 40) and (rows[:, 20:] == 0).all()
    normal = examples.normalised("plate")
    own = (examples.group == group[0]) & (examples.panel == "panel0")
    np.testing.assert_allclose(rows[0, :20], normal.features[own].mean(axis=0), rtol=1e-4)


def test_where_training_holds_one_class_all_are_as_likely_and_repeats_are_averaged():
    rng = np.random.default_rng(0)
    rows, label = rng.normal(size=(8, 3)), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    alone, mixed = np.repeat([0, 1], 4), np.tile([0, 1], 4)
    once = np.exp(out_of_fold_scores("logistic", rows, label, alone[None], 4, 0))
    np.testing.assert_allclose(once, 0.25)
    other = np.exp(out_of_fold_scores("logistic", rows, label, mixed[None], 4, 0))
    both = np.exp(out_of_fold_scores("logistic", rows, label, np.stack([alone, mixed]), 4, 0))
    np.testing.assert_allclose(both, (once + other) / 2)
