import numpy as np
import pytest

from moascope.learning.conformal import Limits, least_compounds, set_limits
from moascope.screen.question import Question

BINARY = Question("t", ("not_t", "t"), True)
THREE = Question("moa", ("a", "b", "c"), False)


def drawn(rng, n, classes=2, strength=2.0):
    """Labels and probabilities that know something of them."""
    label = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + strength * np.eye(classes)[label]
    e = np.exp(logits)
    return label, e / e.sum(axis=1, keepdims=True)


def test_the_limit_of_nine_compounds_is_the_smallest_probability_of_the_true_class():
    true = np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3, 0.2])
    probability = np.column_stack([1 - true, true])
    found = set_limits(np.ones(9, int), probability, np.arange(9), BINARY, 0.9)
    # 0.9 x (9 + 1) = 9 compounds have to reach it.
    assert found.limits[1] == pytest.approx(0.2)
    found = set_limits(np.ones(9, int), probability, np.arange(9), BINARY, 0.8)
    assert found.limits[1] == pytest.approx(0.3)


def test_rare_classes_share_a_limit_that_frequent_ones_do_not_move():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [40, 6, 5])
    probability = drawn(rng, 51, 3)[1]
    found = set_limits(label, probability, np.arange(51), THREE, 0.9)
    assert found.own == (True, False, False)
    rare = np.sort(probability[np.arange(51), label][40:])[::-1]
    # 0.9 x (11 + 1) = 10.8: all eleven have to reach it.
    assert found.limits[1] == found.limits[2] == pytest.approx(rare[10])


def test_a_class_of_too_few_compounds_is_never_excluded():
    rng = np.random.default_rng(0)
    label, probability = np.repeat([0, 1], [60, 5]), drawn(rng, 65)[1]
    found = set_limits(label, probability, np.arange(65), BINARY, 0.9)
    assert found.limits[1] == 0 and found.limits[0] > 0 and found.decides
    few = set_limits(label[-5:], probability[-5:], np.arange(5), BINARY, 0.9)
    assert not few.decides and few.sets(probability).all()
    assert least_compounds(0.9) == 9 and least_compounds(0.8) == 4


def test_the_wells_of_a_compound_share_its_weight():
    label, probability = drawn(np.random.default_rng(1), 40)
    once = set_limits(label, probability, np.arange(40), BINARY, 0.8)
    thrice = set_limits(np.repeat(label, 3), np.repeat(probability, 3, axis=0),
                        np.repeat(np.arange(40), 3), BINARY, 0.8)
    assert thrice == once
    # One compound of many wells with strange predictions moves the limit as one compound does.
    strange = set_limits(np.append(label, np.ones(500, int)),
                         np.vstack([probability, np.tile([0.999, 0.001], (500, 1))]),
                         np.append(np.arange(40), np.full(500, 40)), BINARY, 0.8)
    assert strange.limits[1] > 0.01


@pytest.mark.filterwarnings("ignore")
def test_sets_are_those_of_mapie():
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):
        """Predicts the probabilities that it is given as features."""

        def fit(self, X, y):
            self.classes_ = np.arange(X.shape[1])
            self.fitted_ = True
            return self

        def predict_proba(self, X):
            return X

        def predict(self, X):
            return X.argmax(axis=1)

    rng = np.random.default_rng(2)
    label, probability = drawn(rng, 300, 2, 1.0)
    new = drawn(rng, 200, 2, 1.0)[1]
    known = Known().fit(probability, label)
    ours = set_limits(label, probability, np.arange(300), BINARY, 0.9).sets(new)
    for c in range(2):
        own = label == c
        oracle = SplitConformalClassifier(known, confidence_level=0.9, prefit=True,
                                          conformity_score="lac")
        oracle.conformalize(probability[own], label[own])
        theirs = oracle.predict_set(new)[1][:, c, 0]
        np.testing.assert_array_equal(ours[:, c], theirs)


def test_each_class_is_covered_at_the_stated_rate():
    rng = np.random.default_rng(3)
    hits = np.zeros(2)
    counts = np.zeros(2)
    for _ in range(200):
        label, probability = drawn(rng, 60, 2, 0.7)
        limits = set_limits(label, probability, np.arange(60), BINARY, 0.9)
        label, probability = drawn(rng, 60, 2, 0.7)
        within = limits.sets(probability)[np.arange(60), label]
        for c in range(2):
            hits[c] += within[label == c].sum()
            counts[c] += (label == c).sum()
    coverage = hits / counts
    assert (coverage > 0.89).all() and (coverage < 0.95).all()


def test_a_set_may_be_empty():
    assert Limits((0.6, 0.7), (True, True)).sets(np.array([[0.5, 0.5]])).sum() == 0
