import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from moascope.evaluation.scores import score_table, scores_of
from moascope.metrics import null_mean
from moascope.params import Evaluate
from moascope.screen.question import Question

QUESTION = Question("t", ("not_t", "t"), binary=True)
SETTINGS = Evaluate(bootstraps=300, permutations=300)


def table(label, probability, cluster=None):
    probability = np.stack([1 - probability, probability], axis=1)
    cluster = np.arange(len(label)) if cluster is None else cluster
    return score_table(QUESTION, label, probability, probability.argmax(1), cluster, SETTINGS,
                       seed=0)


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(4)
    label = (rng.random(120) < 0.25).astype(int)
    probability = np.clip(rng.random(120) * 0.5 + label * 0.3, 0, 1)
    scores = table(label, probability)
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(label, probability))
    assert scores["brier"] == pytest.approx(sk.brier_score_loss(label, probability))
    assert scores["log_loss"] == pytest.approx(sk.log_loss(label, probability), rel=1e-4)
    assert scores["confusion"] == sk.confusion_matrix(label, probability >= 0.5).tolist()
    assert scores["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(label, probability >= 0.5))
    assert scores["low"] < scores["average_precision"] < scores["high"]
    assert scores["p"] == pytest.approx(1 / 301)


def test_a_useless_score_is_inside_its_null():
    rng = np.random.default_rng(5)
    label = (rng.random(300) < 0.2).astype(int)
    scores = table(label, rng.random(300))
    assert scores["null_low"] < scores["average_precision"] < scores["null_high"]
    assert scores["p"] > 0.05
    assert abs(scores["normalised_average_precision"]) < 0.1


def test_lift_is_over_the_mean_of_random_lists():
    rng = np.random.default_rng(7)
    label = (np.arange(60) < 6).astype(int)
    scores = table(label, rng.random(60))
    assert scores["null_mean"] == pytest.approx(null_mean(60, 6))
    assert scores["lift"] == pytest.approx(scores["average_precision"] / null_mean(60, 6))
    # Where images of a compound share a label, the permutations know their number.
    ten = table(np.repeat(label, 10), rng.random(600), np.repeat(np.arange(60), 10))
    assert ten["null_mean"] == pytest.approx(0.1, abs=0.02)


def test_of_several_classes_each_has_its_own_chance_and_small_ones_no_interval():
    question = Question("moa", ("a", "b", "c"), binary=False)
    label = np.repeat([0, 1, 2], [2, 8, 20])
    probability = np.random.default_rng(8).dirichlet(np.ones(3), 30)
    scores = score_table(question, label, probability, probability.argmax(1), np.arange(30),
                         SETTINGS, seed=0)
    of_class = scores["per_class"]
    assert of_class["a"]["low"] is None and of_class["a"]["high"] is None
    assert of_class["b"]["low"] <= of_class["b"]["average_precision"] <= of_class["b"]["high"]
    chances = [null_mean(30, count) for count in (2, 8, 20)]
    assert [of_class[name]["null_mean"] for name in "abc"] == pytest.approx(chances)
    assert scores["null_mean"] == pytest.approx(np.mean(chances))


@pytest.mark.parametrize("names", [("a", "b", "c"), ("b", "a", "c"), ("c", "a", "b")])
def test_one_testable_class_scores_the_same_wherever_it_stands_in_the_alphabet(names):
    big, *single = names
    question = Question("moa", ("a", "b", "c"), False, untestable=tuple(sorted(single)))
    predictions = pd.DataFrame({"Label": [big] * 6 + single, "Predicted": big,
                                "Metadata_Group": [f"g{i}" for i in range(8)]})
    for name in names:
        predictions[f"P_{name}"] = np.linspace(0.1, 0.5, 8)
    scores = scores_of(predictions, question, SETTINGS, seed=0)
    assert scores["average_precision"] == pytest.approx(
        sk.average_precision_score(np.arange(8) < 6, np.arange(8)))
    assert scores["prevalence"] == 0.75


def test_sister_images_do_not_narrow_the_interval():
    rng = np.random.default_rng(6)
    label = (rng.random(40) < 0.3).astype(int)
    probability = np.clip(rng.random(40) * 0.6 + label * 0.3, 0, 1)
    once = table(label, probability)
    ten = table(np.repeat(label, 10), np.repeat(probability, 10), np.repeat(np.arange(40), 10))
    assert ten["high"] - ten["low"] == pytest.approx(once["high"] - once["low"], rel=0.15)
