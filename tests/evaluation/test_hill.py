"""Curves of known doses are found again, and leave the noise where they should."""

import numpy as np
import pytest

from moascope.evaluation.hill import Hill, best_of_grid, fit_hill, is_better_than_constant

DOSES = np.array([0.1, 0.3, 1.0, 3.0, 10.0])


def test_a_curve_by_hand():
    """Half of the top at the potency; with slope 2, a fifth of it at half the potency."""
    curve = Hill(top=2.0, ec50=4.0, slope=2.0)
    assert curve.at(np.array([4.0, 2.0])) == pytest.approx([1.0, 0.4])
    assert curve.dose_at(1.0) == pytest.approx(4.0)
    assert curve.dose_at(0.4) == pytest.approx(2.0)
    assert curve.dose_at(2.0) == np.inf


def test_a_curve_without_noise_is_found_exactly():
    dose = np.repeat(DOSES, 2)
    curve = fit_hill(dose, Hill(1.5, 1.2, 1.7).at(dose))
    assert curve == pytest.approx((1.5, 1.2, 1.7), rel=1e-3)


def test_the_grid_comes_near_for_many_curves_at_once():
    true = [Hill(1.5, 1.2, 1.7), Hill(3.0, 0.2, 1.0)]
    top, ec50, slope = best_of_grid(DOSES, np.stack([one.at(DOSES) for one in true]),
                                    np.full(5, 2))
    for one, *values in zip(true, top, ec50, slope, strict=True):
        assert values == pytest.approx(one, rel=0.15)


def test_what_lies_nearer_to_the_controls_than_controls_has_no_top():
    curve = fit_hill(DOSES, -np.ones(5))
    assert curve.top == pytest.approx(0, abs=1e-5)
    assert curve.dose_at(0.1) == np.inf


def test_a_constant_is_kept_where_nothing_rises():
    rng = np.random.default_rng(0)
    dose = np.repeat(DOSES, 3)
    flat = 0.5 + 0.1 * rng.normal(size=15)
    assert not is_better_than_constant(dose, flat, fit_hill(dose, flat))
    rising = Hill(2.0, 1.0, 1.5).at(dose) + 0.1 * rng.normal(size=15)
    assert is_better_than_constant(dose, rising, fit_hill(dose, rising))
