import itertools

import numpy as np
import pytest
from sklearn import metrics as sk

from moascope import metrics
from moascope.metrics import (
    average_precision,
    bootstrap_weights,
    interval,
    macro_average_precision,
    null_mean,
    paired_difference,
    permuted_labels,
    score_interval,
)


@pytest.mark.parametrize("decimals", [8, 1])
def test_average_precision_is_scikit_learns(decimals):
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.2
    score = np.round(rng.normal(size=200) + positive, decimals)  # one decimal: many ties
    assert average_precision(positive, score) == pytest.approx(
        sk.average_precision_score(positive, score)
    )


def test_weighted_average_precision_is_scikit_learns():
    rng = np.random.default_rng(1)
    positive = rng.random(100) < 0.3
    score = np.round(rng.normal(size=100), 1)
    weights = rng.integers(0, 4, (20, 100)).astype(float)
    expected = [sk.average_precision_score(positive, score, sample_weight=w) for w in weights]
    np.testing.assert_allclose(average_precision(positive, score, weights), expected)


def test_many_labellings_at_once_are_each_alone():
    rng = np.random.default_rng(2)
    score = rng.normal(size=50)
    labels = rng.random((10, 50)) < 0.4
    expected = [sk.average_precision_score(label, score) for label in labels]
    np.testing.assert_allclose(average_precision(labels, score), expected)


def test_draws_of_many_rows_are_scored_in_portions_and_score_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 9, 60)
    label = cluster % 3
    score = np.round(rng.normal(size=(60, 3)), 1)
    weights, dealt = bootstrap_weights(cluster, 25, 0), permuted_labels(label, cluster, 25, 0)
    monkeypatch.setattr(metrics, "MOST_NUMBERS", 60 * 7)
    drawn, labels = bootstrap_weights(cluster, 25, 0), permuted_labels(label, cluster, 25, 0)
    assert [len(part) for part in drawn.portions()] == [7, 7, 7, 4]
    for one in ([1], [0, 1, 2]):
        np.testing.assert_array_equal(macro_average_precision(label, score, one, drawn),
                                      macro_average_precision(label, score, one, weights))
        np.testing.assert_array_equal(macro_average_precision(labels, score, one),
                                      macro_average_precision(dealt, score, one))


def test_no_positive_is_nan_not_zero():
    assert np.isnan(average_precision(np.zeros(5, bool), np.arange(5.0)))


def test_macro_average_precision_is_the_mean_over_classes():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, 90)
    score = rng.random((90, 3))
    expected = np.mean([sk.average_precision_score(label == c, score[:, c]) for c in (0, 2)])
    assert macro_average_precision(label, score, [0, 2]) == pytest.approx(expected)


def test_bootstrap_draws_whole_compounds():
    cluster = np.repeat(np.arange(10), 4)
    weights = bootstrap_weights(cluster, 50, seed=0)
    assert (weights.reshape(50, 10, 4) == weights.reshape(50, 10, 4)[..., :1]).all()
    assert (weights[:, ::4].sum(axis=1) == 10).all()


def test_permutation_keeps_compounds_together_and_classes_in_number():
    cluster = np.repeat(np.arange(12), 3)
    label = (cluster < 4).astype(int)
    dealt = permuted_labels(label, cluster, 30, seed=0)
    assert (dealt.reshape(30, 12, 3) == dealt.reshape(30, 12, 3)[..., :1]).all()
    assert (dealt.sum(axis=1) == label.sum()).all()
    assert (dealt != label).any()


@pytest.mark.parametrize(("count", "positives"), [(1, 1), (2, 1), (5, 2), (6, 3), (6, 6), (7, 1)])
def test_the_nulls_mean_is_the_mean_over_all_orders(count, positives):
    every = [sk.average_precision_score(np.isin(np.arange(count), hits), -np.arange(count))
             for hits in itertools.combinations(range(count), positives)]
    assert null_mean(count, positives) == pytest.approx(np.mean(every))


def test_the_nulls_mean_lies_above_the_prevalence_where_positives_are_few():
    assert null_mean(104, 17) == pytest.approx(0.1978, abs=5e-5)
    assert null_mean(104, 2) == pytest.approx(0.0595, abs=5e-5)
    assert null_mean(25, 4) == pytest.approx(0.2586, abs=5e-5)


@pytest.mark.parametrize("positives", range(1, 9))
def test_an_interval_contains_its_value_and_needs_five_positives(positives):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        label = np.arange(40) < positives
        score = rng.normal(size=40) + label * rng.choice([0, 1, 9])
        observed = float(average_precision(label, score))
        drawn = average_precision(label, score, bootstrap_weights(np.arange(40), 200, seed))
        low, high = score_interval(observed, drawn, positives)
        if positives < 5:
            assert low is None and high is None
        else:
            assert low <= observed <= high


def test_paired_difference_sees_a_small_but_steady_gain():
    rng = np.random.default_rng(7)
    label = rng.random(100) < 0.3
    noise = rng.normal(size=100)
    better, worse = noise + 1.5 * label, noise + 0.5 * label
    observed, low, high = paired_difference(
        lambda w: average_precision(label, better, w),
        lambda w: average_precision(label, worse, w), np.arange(100), 300, 0)
    assert 0 < low < observed < high


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # AP of an infinite sample, by a large one; 95 % nominal, and bootstrap intervals are known to
    # cover a little less in small samples.
    def sample(rng, count):
        label = (rng.random(count) < 0.3).astype(int)
        return label, rng.normal(size=count) + label

    label, score = sample(np.random.default_rng(0), 200_000)
    truth = float(average_precision(label == 1, score))
    covered = []
    for seed in range(120):
        label, score = sample(np.random.default_rng(seed + 1), 80)
        drawn = bootstrap_weights(np.arange(80), 300, seed)
        low, high = interval(average_precision(label == 1, score, drawn))
        covered.append(low <= truth <= high)
    assert 0.86 <= np.mean(covered) <= 1.0
