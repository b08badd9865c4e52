"""Simple models next to the model: on the same folds, and never on what they predict."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import make_examples

from moascope.evaluation.references import (
    REFERENCES,
    evaluate_references,
    out_of_fold_scores,
    recommended_head,
    unit_rows,
)
from moascope.params import Evaluate, Head

FEW = Evaluate(bootstraps=100, permutations=50)


def predictions(examples, probability):
    groups = examples.groups[~examples.held_out].reset_index(drop=True)
    values = probability(groups["Label"].to_numpy() == "t")
    return groups.assign(P_t=values, P_not_t=1 - values)


def test_references_find_what_shows_and_a_model_at_chance_is_reported_as_such():
    examples = make_examples(compounds=60, panels=2)
    rng = np.random.default_rng(0)
    noise = predictions(examples, lambda hit: rng.random(len(hit)))
    for score in evaluate_references(noise, examples, FEW, 0).values():
        assert score["average_precision"] > 0.7
        assert score["model_minus_reference"]["high"] < 0
    perfect = predictions(examples, lambda hit: hit * 0.9 + 0.05)
    for score in evaluate_references(perfect, examples, FEW, 0).values():
        assert score["model_minus_reference"]["low"] >= -1e-9


def test_the_paired_difference_is_of_the_same_units_whatever_their_order():
    examples = make_examples(compounds=60)
    rng = np.random.default_rng(1)
    table = predictions(examples, lambda hit: rng.random(len(hit)))
    first = evaluate_references(table, examples, FEW, 0)
    again = evaluate_references(table.iloc[::-1].reset_index(drop=True), examples, FEW, 0)
    assert first == again


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_reference_does_not_know_the_labels_of_the_fold_that_it_predicts(kind):
    rng = np.random.default_rng(2)
    rows, label = rng.normal(size=(40, 6)), np.arange(40) % 2
    folds = (rng.permutation(40) % 4)[None]
    score = out_of_fold_scores(kind, rows, label, folds, 2, 0)
    turned = out_of_fold_scores(kind, rows, np.where(folds[0] == 1, 1 - label, label), folds, 2, 0)
    own = folds[0] == 1
    np.testing.assert_array_equal(score[own], turned[own])
    assert not np.allclose(score[~own], turned[~own])


def test_the_logistic_reference_is_scikit_learns_on_all_features():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(3)
    rows, label, folds = rng.normal(size=(30, 90)), np.arange(30) % 3, np.arange(30)[None] % 5
    score = out_of_fold_scores("logistic", rows, label, folds, 3, 0)
    train = folds[0] != 2
    model = make_pipeline(StandardScaler(), LogisticRegression(
        C=0.1, class_weight="balanced", max_iter=2000)).fit(rows[train], label[train])
    np.testing.assert_allclose(score[~train], model.predict_log_proba(rows[~train]), atol=2e-3)


def test_one_row_per_unit_holds_the_panels_side_by_side_and_no_held_out_unit():
    examples = make_examples(compounds=20, panels=2)
    kept = ~((examples.panel == "panel1") & (examples.group == 3))
    rows, group = unit_rows(examples.take(kept))
    assert rows.shape == (len(group), 40)
    assert not examples.held_out[group].any()
    for row, number in zip(rows, group, strict=True):
        for panel in range(2):
            own = (examples.group == number) & (examples.panel == f"panel{panel}") & kept
            mean = examples.features[own].mean(axis=0) if own.any() else np.zeros(20)
            np.testing.assert_allclose(row[20 * panel:20 * panel + 20], mean, atol=1e-4)


def test_a_class_that_training_lacks_is_the_least_likely_one():
    rng = np.random.default_rng(4)
    label, folds = np.array([0, 0, 0, 1, 1, 1, 2, 2]), np.array([[0, 1, 0, 1, 0, 1, 0, 0]])
    for kind in REFERENCES:
        score = out_of_fold_scores(kind, rng.normal(size=(8, 4)), label, folds, 3, 0)
        own = score[folds[0] == 0]
        np.testing.assert_array_equal(own[:, 2], own.min(axis=1))


@pytest.mark.parametrize(("highs", "head", "kind"), [
    ({"logistic": -0.01, "neighbours": 0.01, "trees": -0.01}, "network", "trees"),
    ({"logistic": -0.01, "neighbours": 0.01, "trees": 0.0}, "network", "logistic"),
    ({"logistic": 0.01, "neighbours": 0.01, "trees": 0.02}, "network", None),
    # A model is not recommended in its own place.
    ({"logistic": 0.01, "neighbours": 0.01, "trees": -0.02}, "trees", None),
])
def test_the_best_of_the_references_that_are_demonstrably_better_is_recommended(highs, head, kind):
    # Trees come first by score, neighbours last.
    order = {"logistic": 0.6, "neighbours": 0.5, "trees": 0.7}
    references = {name: {"average_precision": order[name], "model_minus_reference": {"high": high}}
                  for name, high in highs.items()}
    assert recommended_head(references, Head(head=head)) == kind


def test_several_classes_are_ranked_too():
    examples = make_examples(compounds=60)
    label = np.where(np.arange(60) % 3 == 0, "a", np.where(np.arange(60) % 3 == 1, "b", "c"))
    question = replace(examples.question, target="moa", classes=("a", "b", "c"), binary=False)
    several = replace(examples, groups=examples.groups.assign(Label=label), question=question,
                      _cache={})
    table = pd.DataFrame({"Metadata_Group": several.groups["Metadata_Group"][~several.held_out],
                          "P_a": 0.4, "P_b": 0.3, "P_c": 0.3})
    scores = evaluate_references(table, several, FEW, 0)
    assert all(score["average_precision"] > score["null_mean"] for score in scores.values())
