import numpy as np
import pytest
from scipy.special import expit

from moascope.learning.calibration import SLOPE_SPREAD, calibrate


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
