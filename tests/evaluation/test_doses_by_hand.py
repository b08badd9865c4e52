"""The steps of a dose-response, each on numbers that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression
from statsmodels.stats.multitest import multipletests

from moascope.evaluation import doses as module
from moascope.evaluation.doses import (
    RESAMPLES,
    _alike,
    _chance,
    _Curve,
    _curves,
    _departure,
    _doses,
    _places,
    _resampled,
    _rise,
    _tested,
)
from moascope.evaluation.hill import (
    ABOVE,
    BELOW,
    GRID_POTENCIES,
    GRID_SLOPES,
    SLOPES,
    Hill,
    best_of_grid,
    fit_hill,
    is_better_than_constant,
)


@pytest.mark.parametrize("design", [(1, 1, 1, 1, 1), (2, 1, 3), (4, 4)])
def test_a_rise_is_that_of_scikit_learns_isotonic_regression(design):
    values = np.random.default_rng(0).normal(size=(20, sum(design)))
    dose = np.repeat(np.arange(len(design)), design)
    for row, found in zip(values, _rise(values, design), strict=True):
        fitted = IsotonicRegression().fit(dose, row).predict(dose)
        assert found == pytest.approx(((fitted - row.mean()) ** 2).sum())


def test_places_that_should_not_respond_are_around_the_median_of_their_kind():
    """Controls -1 ... 3 with one far out; lowest doses 9, 11; a well on two plates is a mean."""
    rows = [("negative", "DMSO", f"A{i:02d}", value)
            for i, value in enumerate([-1.0, 0.0, 1.0, 2.0, 3.0, 40.0])]
    rows += [("", "A", "B01", 8.0), ("", "A", "B01", 10.0), ("", "B", "B01", 11.0)]
    found = _places(pd.DataFrame(rows, columns=["Metadata_Control", "Metadata_Compound",
                                                "Metadata_Well", "Response"]))
    # The median of the controls is 1.5; their quartiles are 0.25 and 2.75, the fence 6.5.
    assert found["mean"].tolist() == [-1, 1, -2.5, -1.5, -0.5, 0.5, 1.5]
    assert found["size"].tolist() == [2, 1, 1, 1, 1, 1, 1]


def test_at_the_fence_is_no_outlier_and_beyond_it_is():
    """Quartiles 1 and 3 of 0 ... 4: the fence is at 6, which is the value of a sixth place."""
    for last, count in ((6.9, 6), (7.1, 5)):
        # Of 0 1 2 3 4 and x the quartiles are 1.25 and 3.75, the fence 7.5; of the mean of kinds.
        rows = [("negative", "DMSO", f"A{i}", value)
                for i, value in enumerate([0.0, 1.0, 2.0, 3.0, 4.0, last + 0.5])]
        found = _places(pd.DataFrame(rows, columns=["Metadata_Control", "Metadata_Compound",
                                                    "Metadata_Well", "Response"]))
        assert len(found) == count


def test_places_on_as_many_plates_are_taken_where_they_are_twenty():
    places = pd.DataFrame({"mean": np.arange(25.0), "size": [2] * 20 + [1] * 5})
    assert _alike(places, 2).tolist() == list(range(20))
    assert _alike(places, 1).tolist() == list(range(25))


@pytest.mark.parametrize("count", [30, 8])
def test_random_places_stand_for_a_compound(count):
    """Without repeats where there are twice as many places, and in any order."""
    places = np.arange(count, dtype=float)
    rise, mean = _chance(places, (2, 2, 1), 4000, np.random.default_rng(0))
    assert len(rise) == len(mean) == 4000 and (rise >= 0).all()
    assert mean.mean() == pytest.approx(places.mean(), abs=0.2 * places.std())
    of_five = places.var() / 5 * ((count - 5) / (count - 1) if count == 30 else 1)
    assert mean.var() == pytest.approx(of_five, rel=0.1)
    # As much as isotonic regression makes of the same draws.
    drawn = np.random.default_rng(1).choice(places, (4000, 5))
    assert rise.mean() == pytest.approx(_rise(drawn, (2, 2, 1)).mean(), rel=0.25)


def curve(compound, response, rise=0.5, level=0.5, dose=(0.1, 0.1, 1.0, 1.0, 10.0, 10.0),
          panel="p", scatter=0.1):
    controls = np.array([-1.0, 1.0, -1.0, 1.0]) * scatter
    return _Curve(compound, panel, np.array(dose), np.array(response, float), controls, rise, level)


def test_the_table_of_curves_says_which_rise_and_which_are_far_at_every_dose():
    far = [0.5, 0.52, 0.51, 0.5, 0.49, 0.52]
    noise = 0.1 * np.sqrt(4 / 3)
    curves = [curve("C", [0.0, 0.1, 1.0, 1.1, 2.0, 2.1], rise=0.001),
              curve("B", far, level=0.001), curve("A", far),
              curve("F", [0.0, 0.1, 0.5, 0.5, 0.5, 0.5], level=0.001),  # not at the lowest dose
              curve("D", [0.0, 0.1, 0.0, 0.1, 0.0, 0.1]),
              curve("E", [0.3, 0.4], rise=np.nan, level=np.nan, dose=(1.0, 10.0), panel="o")]
    found = _curves(curves, 0.05, np.random.default_rng(0)).set_index("Metadata_Compound")
    assert list(found.index) == ["A", "B", "C", "D", "E", "F"]
    assert found["response"].to_dict() == {"A": "no", "B": "all doses", "C": "yes", "D": "no",
                                           "E": "", "F": "no"}
    assert found.loc["E", ["Metadata_Panel", "doses", "wells"]].tolist() == ["o", 2, 2]
    assert found.loc["C", ["Metadata_Panel", "doses", "wells"]].tolist() == ["p", 3, 6]
    assert found["noise"].to_numpy() == pytest.approx(np.full(6, np.exp(noise)))
    p = [0.001, 0.5, 0.5, 0.5, 0.5]
    assert found.loc[["C", "B", "A", "F", "D"], "p_value"].tolist() == p
    assert found.loc[["C", "B", "A", "F", "D"], "corrected_p_value"].to_numpy() == pytest.approx(
        multipletests(p, method="fdr_bh")[1])
    assert np.isnan(found.loc["E", ["p_value", "corrected_p_value"]].to_numpy(float)).all()
    fitted = fit_hill(curves[0].dose, curves[0].response)
    assert found.loc["C", "top"] == pytest.approx(np.exp(fitted.top))
    assert found.loc["C", ["ec50_uM", "slope"]].tolist() == pytest.approx(
        [fitted.ec50, fitted.slope])
    assert found.loc["C", "point_of_departure_uM"] == pytest.approx(fitted.dose_at(noise))
    rest = found.drop(index="C")[["top", "ec50_uM", "slope", "point_of_departure_uM", "low_uM"]]
    assert rest.isna().all(axis=None)
    # Where the limit is lower nothing rises.
    again = _curves(curves, 0.0005, np.random.default_rng(0))
    assert set(again["response"]) == {"no", ""}


def test_a_curve_without_noise_departs_where_it_reaches_the_noise_of_controls():
    dose = np.repeat([0.1, 0.3, 1.0, 3.0, 10.0], 2)
    true = Hill(2.0, 1.0, 1.5)
    one = curve("A", true.at(dose), dose=dose, scatter=0.2)
    found = _departure(one, np.random.default_rng(0))
    assert list(found) == ["top", "ec50_uM", "slope", "point_of_departure_uM", "low_uM", "high_uM"]
    assert found["top"] == pytest.approx(np.exp(2.0), rel=1e-3)
    assert [found["ec50_uM"], found["slope"]] == pytest.approx([1.0, 1.5], rel=1e-3)
    expected = true.dose_at(0.2 * np.sqrt(4 / 3))
    assert found["point_of_departure_uM"] == pytest.approx(expected, rel=1e-3)
    assert found["low_uM"] < expected < found["high_uM"] < 1.0


@pytest.mark.parametrize("left", [0.0, 0.9])
def test_the_interval_is_that_of_curves_through_resampled_controls(left):
    """Around the curve; where it leaves more than the noise of controls, by as much as that."""
    dose = np.repeat([0.1, 0.3, 1.0, 3.0, 10.0], 2)
    true = Hill(3.0, 1.0, 1.5)
    one = curve("A", true.at(dose) + left * np.tile([1, -1], 5), dose=dose, scatter=0.2)
    found = _departure(one, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    fitted, levels = fit_hill(one.dose, one.response), np.unique(dose)
    residual = one.response - fitted.at(dose)
    wider = max(1, np.sqrt((residual**2).sum() / (10 - 3)) / (0.2 * np.sqrt(4 / 3)))
    assert (wider > 3) == (left > 0)

    def draw(values, count):
        return values[rng.integers(len(values), size=(500, count))]

    means = np.column_stack([fitted.at(level) + draw(one.controls * wider, 2).mean(axis=1)
                             for level in levels])
    noise = draw(one.controls, 4).std(axis=1, ddof=1)
    top, ec50, slope = best_of_grid(levels, means, np.full(5, 2))
    departures = sorted(
        max(0.1 / BELOW, ec50[i] * (noise[i] / (top[i] - noise[i])) ** (1 / slope[i])
            if top[i] > noise[i] else np.inf) for i in range(500))
    assert found["low_uM"] == pytest.approx(np.percentile(departures, 5, method="nearest"))
    assert found["high_uM"] == pytest.approx(np.percentile(departures, 95, method="nearest"))


def test_no_departure_lies_more_than_a_decade_below_the_doses_or_above_them():
    dose = np.repeat([1.0, 3.0, 10.0, 30.0], 3)
    flat = np.array([4.0, 4.1, 4.2, 4.1]).repeat(3)
    found = _departure(curve("A", flat, dose=dose, scatter=0.01), np.random.default_rng(0))
    if found:   # a curve better than a constant
        assert found["point_of_departure_uM"] >= 1.0 / BELOW - 1e-12
        assert found["low_uM"] >= 1.0 / BELOW - 1e-12
    # It leaves the noise of a single standard deviation of 3 beyond the highest dose.
    late = Hill(4.0, 100.0, 1.0).at(dose)
    assert _departure(curve("A", late, dose=dose, scatter=2.0), np.random.default_rng(0)) == {}
    # Resamples that do not reach the noise at the highest dose have no end.
    slight = Hill(1.0, 10.0, 2.0).at(dose)
    found = _departure(curve("A", slight, dose=dose, scatter=0.6), np.random.default_rng(0))
    assert np.isinf(found["high_uM"]) and found["point_of_departure_uM"] <= 30.0
    assert _departure(curve("A", np.zeros(12), dose=dose), np.random.default_rng(0)) == {}


def test_resamples_are_drawn_from_the_values_with_replacement():
    drawn = _resampled(np.array([1.0, 5.0, 9.0]), 4, np.random.default_rng(0))
    assert drawn.shape == (RESAMPLES, 4)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [1, 5, 9]
    assert (abs(counts / drawn.size - 1 / 3) < 0.04).all()


def test_doses_are_geometric_means_beside_the_curve():
    wells = pd.DataFrame([("A", "p", 1.0, 0.0), ("A", "p", 1.0, np.log(4)), ("A", "p", 10.0, 1.0),
                          ("B", "p", np.nan, -1.0)],
                         columns=["Metadata_Compound", "Metadata_Panel",
                                  "Metadata_Concentration_uM", "Response"])
    curves = pd.DataFrame({"Metadata_Compound": ["B", "A"], "Metadata_Panel": "p",
                           "top": [np.nan, np.exp(2.0)], "ec50_uM": [np.nan, 1.0],
                           "slope": [np.nan, 1.0], "other": 1})
    found = _doses(wells, curves)
    assert found["wells"].tolist() == [2, 1, 1]
    assert found["distance"].tolist() == pytest.approx([2.0, np.e, 1 / np.e])
    assert found["lowest"].tolist() == pytest.approx([1.0, np.e, 1 / np.e])
    assert found["highest"].tolist() == pytest.approx([4.0, np.e, 1 / np.e])
    assert found["fitted"].to_numpy() == pytest.approx(
        [np.e, np.exp(20 / 11), np.nan], nan_ok=True)
    assert list(found) == module.DOSE_COLUMNS


def plate_of(plate, responses):
    """Wells of one plate: (compound, dose, well, response)."""
    return pd.DataFrame(
        [(plate, well, compound, dose, "negative" if compound == "DMSO" else "", response)
         for compound, dose, well, response in responses],
        columns=["Metadata_Plate", "Metadata_Well", "Metadata_Compound",
                 "Metadata_Concentration_uM", "Metadata_Control", "Response"])


def test_p_of_a_rise_and_of_a_level_count_random_places(monkeypatch):
    """The draws are replaced: two of three reach A's rise, one its level."""
    rng = np.random.default_rng(0)
    controls = [("DMSO", np.nan, f"H{i:02d}", value)
                for i, value in enumerate(rng.normal(size=12))]
    a = [("A", dose, f"A{i:02d}", value) for i, (dose, value) in enumerate(
        [(0.1, 0.0), (1.0, 1.0), (10.0, 2.0)])]
    wells = pd.concat([plate_of("P", [*controls, *a, ("B", 1.0, "B01", 3.0),
                                      ("B", 10.0, "B02", 3.0), ("Z", 0.0, "B03", 9.0)]),
                       plate_of("Q", [("A", 10.0, "A02", 4.0), ("DMSO", np.nan, "H00", 0.5)])],
                      ignore_index=True)
    asked = []

    def chance(places, design, draws, generator):
        asked.append((places, design, draws))
        # A's means are 0, 1 and 3: squares around 4/3 sum to 42/9, their mean is 4/3.
        return np.array([42 / 9, 42 / 9 - 1e-9, 1.0]), np.array([4 / 3 + 1, 1.0, 0.0])

    monkeypatch.setattr(module, "_chance", chance)
    found = {one.compound: one for one in _tested(wells, "p", 3, np.random.default_rng(0))}
    assert set(found) == {"A", "B"}     # a dose of zero is none
    assert found["A"].rise == pytest.approx(3 / 4) and found["A"].level == pytest.approx(2 / 4)
    assert np.isnan(found["B"].rise) and np.isnan(found["B"].level)
    (places, design, draws), = asked
    assert design == (1, 1, 1) and draws == 3
    # Twelve controls, and the lowest dose of A, the one compound of three doses.
    assert len(places) == 13 and 0.0 in places
    assert found["A"].panel == "p" and found["A"].dose.tolist() == [0.1, 1, 10, 10]
    assert found["A"].response.tolist() == [0, 1, 2, 4]
    assert len(found["A"].controls) == 13 and len(found["B"].controls) == 12
    assert found["A"].noise == pytest.approx(np.std(found["A"].controls, ddof=1))


# Hill curves


def test_the_best_of_the_grid_is_the_best_of_the_grid():
    rng = np.random.default_rng(0)
    levels = np.array([0.1, 0.5, 2.0, 10.0])
    means, count = rng.normal(size=(6, 4)) + np.arange(4), np.array([1, 2, 3, 1])
    found = np.array(best_of_grid(levels, means, count))
    potencies = np.geomspace(levels[0] / BELOW, levels[-1] * ABOVE, GRID_POTENCIES)
    slopes = np.geomspace(*SLOPES, GRID_SLOPES)
    for row, own in zip(means, found.T, strict=True):
        def square(curve, row=row):
            return (count * (row - curve.at(levels)) ** 2).sum()

        best = square(Hill(*own))
        for potency in potencies[::7]:
            for slope in slopes[::4]:
                for top in np.linspace(0, 1.2 * row.max(), 20):
                    assert best <= square(Hill(top, potency, slope)) + 1e-9
        assert 0 <= own[0] <= 1.2 * row.max() + 1e-12
        assert np.isclose(potencies, own[1]).any() and np.isclose(slopes, own[2]).any()


def test_a_fit_is_the_least_squares_of_scipy_within_its_bounds():
    from scipy.optimize import minimize

    rng = np.random.default_rng(1)
    dose = np.repeat([0.1, 0.3, 1.0, 3.0, 10.0], 2)
    for _ in range(5):
        response = Hill(2.0, rng.uniform(0.3, 3), 1.5).at(dose) + 0.2 * rng.normal(size=10)
        own = fit_hill(dose, response)
        best = min(minimize(
            lambda x, response=response: (
                (response - Hill(x[0], np.exp(x[1]), x[2]).at(dose)) ** 2).sum(),
            [2.0, start, 1.5], bounds=[
                (0, 1.2 * response.reshape(5, 2).mean(axis=1).max()),
                (np.log(0.1 / BELOW), np.log(10 * ABOVE)), SLOPES]).fun for start in (-1, 0, 1))
        assert ((response - own.at(dose)) ** 2).sum() <= best * (1 + 1e-4)


def test_a_fit_that_does_not_converge_is_the_best_of_the_grid(monkeypatch):
    import scipy.optimize

    def fail(*_, **__):
        raise RuntimeError("Optimal parameters not found")

    monkeypatch.setattr(scipy.optimize, "curve_fit", fail)
    dose = np.repeat([0.1, 1.0, 10.0], [1, 2, 1])
    response = np.array([0.1, 0.9, 1.3, 2.0])
    expected = best_of_grid(np.array([0.1, 1, 10]), np.array([[0.1, 1.1, 2.0]]),
                            np.array([1, 2, 1]))
    assert fit_hill(dose, response) == pytest.approx([one[0] for one in expected])


@pytest.mark.parametrize(("share", "better"), [(0.99, True), (1.01, False)])
def test_two_parameters_must_pay_for_themselves_by_akaike(share, better):
    """n log(mean square) + 2 k: of eight wells, the tie is where exp(-1/2) of the square is left.

    The curve goes through 1/2 and 2/3, whose variance is 1/144, and leaves s at both doses.
    """
    dose, curve = np.repeat([1.0, 2.0], 4), Hill(1.0, 1.0, 1.0)
    tie = np.exp(-0.5) / (1 - np.exp(-0.5)) / 144
    response = curve.at(dose) + np.tile([1.0, -1.0], 4) * np.sqrt(share * tie)
    assert is_better_than_constant(dose, response, curve) is better


def test_a_level_at_the_top_is_never_reached():
    one = Hill(2.0, 4.0, 1.0)
    assert one.dose_at(2.0) == np.inf and one.dose_at(2.5) == np.inf
    assert one.dose_at(1.999) == pytest.approx(4.0 * 1.999 / 0.001)
