import numpy as np
import pytest
from sklearn import metrics as sk

from moascope.evaluation.scores import score_table
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


def test_sister_images_do_not_narrow_the_interval():
    rng = np.random.default_rng(6)
    label = (rng.random(40) < 0.3).astype(int)
    probability = np.clip(rng.random(40) * 0.6 + label * 0.3, 0, 1)
    once = table(label, probability)
    ten = table(np.repeat(label, 10), np.repeat(probability, 10), np.repeat(np.arange(40), 10))
    assert ten["high"] - ten["low"] == pytest.approx(once["high"] - once["low"], rel=0.15)
