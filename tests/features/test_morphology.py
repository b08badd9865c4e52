"""The classical features: finite everywhere, and each moves with what it is named for."""

from __future__ import annotations

import numpy as np
import pytest

from moascope.features.morphology import NAMES, PAIR_NAMES, measure, measure_pairs


def discs(number: int, radius: float, seed: int = 0, size: int = 128,
          brightness: int = 150) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    plane = np.full((size, size), 10)
    for row, column in rng.uniform(radius, size - radius, (number, 2)):
        plane[(y - row) ** 2 + (x - column) ** 2 < radius**2] = brightness
    return (plane + rng.integers(0, 4, plane.shape)).astype(np.uint8)


def feature(name: str, plane: np.ndarray) -> float:
    return float(measure(plane[np.newaxis])[0, NAMES.index(name)])


def pair_feature(name: str, first: np.ndarray, second: np.ndarray) -> float:
    return float(measure_pairs(first[np.newaxis], second[np.newaxis])[0, PAIR_NAMES.index(name)])


EXTREMES = {
    "black": np.zeros((128, 128), np.uint8),
    "white": np.full((128, 128), 255, np.uint8),
    "one pixel": np.pad(np.full((1, 1), 255, np.uint8), ((5, 122), (5, 122))),
    "halves": np.repeat([[0] * 64 + [255] * 64], 128, axis=0).astype(np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8),
}


@pytest.mark.parametrize("first", EXTREMES)
def test_extreme_planes_give_finite_numbers(first):
    plane = EXTREMES[first]
    assert np.isfinite(measure(plane[np.newaxis])).all()
    for other in EXTREMES.values():
        assert np.isfinite(measure_pairs(plane[np.newaxis], other[np.newaxis])).all()


def test_names_are_as_many_as_features_and_differ():
    assert len(set(NAMES)) == len(NAMES) == measure(EXTREMES["noise"][np.newaxis]).shape[1]
    assert len(set(PAIR_NAMES)) == len(PAIR_NAMES)
    assert measure(np.zeros((0, 128, 128), np.uint8)).shape == (0, len(NAMES))
    assert measure_pairs(*np.zeros((2, 0, 128, 128), np.uint8)).shape == (0, len(PAIR_NAMES))


def test_a_plane_is_measured_alike_alone_and_among_others():
    planes = np.stack([discs(10, 5), discs(20, 3, seed=1), EXTREMES["noise"]])
    assert np.array_equal(measure(planes)[1], measure(planes[1:2])[0])


def test_turns_and_flips_change_next_to_nothing():
    plane = discs(12, 6)
    reference = measure(plane[np.newaxis])[0]
    for turned in (np.rot90(plane), plane[::-1], plane[:, ::-1]):
        assert np.allclose(measure(np.ascontiguousarray(turned)[np.newaxis])[0], reference,
                           rtol=0.02, atol=0.02)


def test_intensity_features_are_those_of_numpy_and_scipy():
    import scipy.stats

    plane = EXTREMES["noise"] // 2
    assert feature("Intensity_Mean", plane) == pytest.approx(np.log1p(plane.mean()))
    assert feature("Intensity_SD", plane) == pytest.approx(np.log1p(plane.std()))
    assert feature("Intensity_Skewness", plane) == pytest.approx(
        np.arcsinh(scipy.stats.skew(plane.ravel().astype(float))), abs=1e-5)
    assert feature("Intensity_Kurtosis", plane) == pytest.approx(
        np.log1p(scipy.stats.kurtosis(plane.ravel().astype(float), fisher=False)))
    assert feature("Intensity_P95", plane) == pytest.approx(
        np.log1p(np.percentile(plane, 95, method="inverted_cdf")))


def test_granularity_tells_the_size_of_grains():
    fine, coarse = discs(40, 2.2), discs(12, 7.5)
    assert feature("Granularity_2", fine) > feature("Granularity_2", coarse)
    assert feature("Granularity_6", fine) < feature("Granularity_6", coarse)


def test_objects_are_counted_and_sized():
    one = discs(1, 9, seed=3)
    assert feature("Objects_Count", one) == pytest.approx(np.log(2))
    assert feature("Objects_Area", one) == pytest.approx(np.log(np.pi * 81), rel=0.05)
    assert feature("Objects_Elongation", one) == pytest.approx(0, abs=0.05)
    assert feature("Objects_Solidity", one) == pytest.approx(1, abs=0.05)
    y, x = np.mgrid[:128, :128]
    rod = (10 + 150 * (np.abs(y - 64) < 3) * (np.abs(x - 64) < 24)).astype(np.uint8)
    assert feature("Objects_Elongation", rod) > np.log(5)


def test_light_that_moves_into_the_nucleus_shows_in_the_pair():
    nuclei = discs(12, 6)
    inside = nuclei
    outside = (160 - nuclei.astype(int)).clip(0, 255).astype(np.uint8)
    for name in ("FirstInSecond_InsideToRing", "FirstInSecond_Share", "Correlation"):
        assert pair_feature(name, inside, nuclei) > pair_feature(name, outside, nuclei) + 0.5
    assert pair_feature("Correlation", nuclei, nuclei) == pytest.approx(1)
    assert pair_feature("FirstInSecond_Share", inside, nuclei) == pytest.approx(
        pair_feature("SecondInFirst_Share", nuclei, inside))
