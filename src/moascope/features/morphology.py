"""Classical features of a crop: intensity, texture, granularity, objects, and channel pairs.

They need no weights. All are finite on any 8-bit plane, even a black one. Quantities that span
decades are logarithms, because linear models use them.
"""

from __future__ import annotations

import functools

import numpy as np

PERCENTILES = (5, 25, 50, 75, 95, 99)
BAND_SIGMAS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.3)  # pixels, half an octave apart
GRANULE_RADII = (1, 2, 3)  # pixels
COARSE_GRANULE_RADII = (4, 6, 8)  # pixels
HARALICK_DISTANCES = (1, 3, 6)  # pixels
HARALICK = ("AngularSecondMoment", "Contrast", "Correlation", "Variance",
            "InverseDifferenceMoment", "SumAverage", "SumVariance", "SumEntropy", "Entropy",
            "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2")
OBJECTS = ("Count", "Share", "Area", "AreaSpread", "Elongation", "Solidity", "Contrast",
           "Outline", "InnerSpread")
SMALLEST_OBJECT = 12  # pixels
RING = (1.0, 5.0)  # pixels outside an object

NAMES = (
    "Intensity_Mean", "Intensity_SD", "Intensity_Skewness", "Intensity_Kurtosis",
    "Intensity_Entropy",
    *(f"Intensity_P{share:02d}" for share in PERCENTILES),
    *(f"Band_{sigma:g}_{kind}" for sigma in BAND_SIGMAS[:-1]
      for kind in ("Energy", "Skewness", "Kurtosis")),
    *(f"Granularity_{radius}" for radius in (*GRANULE_RADII, *COARSE_GRANULE_RADII)),
    *(f"Haralick_{distance}_{name}" for distance in HARALICK_DISTANCES for name in HARALICK),
    *(f"Objects_{name}" for name in OBJECTS),
)
PAIR_NAMES = (
    "Correlation", "Correlation_Coarse", "Correlation_Fine", "Overlap",
    "FirstInSecond_Share", "SecondInFirst_Share",
    "FirstInSecond_InsideToRing", "FirstInSecond_RingToFar",
    "SecondInFirst_InsideToRing", "SecondInFirst_RingToFar",
)


def measure(planes: np.ndarray) -> np.ndarray:
    """Measure each plane.

    Parameters
    ----------
    planes : ndarray, uint8 [n, height, width]

    Returns
    -------
    ndarray, float32 [n, len(NAMES)]

    Notes
    -----
    Granularity as in CellProfiler's MeasureGranularity (Matheron's opening spectrum), textures
    after Haralick, Shanmugam and Dinstein 1973 through mahotas, bands as differences of
    Gaussians (Marr and Hildreth 1980).
    """
    features = np.empty((len(planes), len(NAMES)), np.float32)
    for index, plane in enumerate(planes):
        features[index] = np.concatenate([
            _intensity(plane), _bands(plane), _granularity(plane), _texture(plane),
            _objects(plane),
        ])
    return features


def measure_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Measure how two channels relate to each other.

    Parameters
    ----------
    first, second : ndarray, uint8 [n, height, width]

    Returns
    -------
    ndarray, float32 [n, len(PAIR_NAMES)]
        Correlations at three scales, overlap (Manders 1993), the share of one channel's intensity
        in the other's objects, and the contrast of one channel between the inside of the other's
        objects, a ring around them and the rest: with a nuclear stain, this is translocation.
    """
    return np.array(
        [_pair(*planes) for planes in zip(first, second, strict=True)], np.float32
    ).reshape(len(first), len(PAIR_NAMES))


def _intensity(plane: np.ndarray) -> list[float]:
    shares = np.bincount(plane.ravel(), minlength=256) / plane.size
    levels = np.arange(256)
    mean = float(shares @ levels)
    spread, skewness, kurtosis = _moments((levels - mean), shares)
    held = shares[shares > 0]
    percentiles = np.searchsorted(np.cumsum(shares), np.array(PERCENTILES) / 100 - 1e-9)
    return [np.log1p(mean), np.log1p(spread), skewness, kurtosis,
            float(-(held * np.log2(held)).sum()), *np.log1p(percentiles)]


def _moments(centred: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation, and skewness and kurtosis with compressed tails."""
    squares = centred * centred
    spread = float(np.sqrt(weights @ squares))
    scale = max(spread, 1e-3)
    return (spread, float(np.arcsinh(weights @ (squares * centred) / scale**3)),
            float(np.log1p(weights @ (squares * squares) / scale**4)))


@functools.cache
def _band_filters(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.fft.fftfreq(shape[0])[:, np.newaxis], np.fft.rfftfreq(shape[1])
    smooth = [np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2)) for sigma in BAND_SIGMAS]
    return -np.diff(np.stack(smooth), axis=0).astype(np.float32)


def _bands(plane: np.ndarray) -> np.ndarray:
    import scipy.fft

    spectrum = scipy.fft.rfft2(plane.astype(np.float32))
    bands = scipy.fft.irfft2(spectrum * _band_filters(plane.shape), s=plane.shape)
    bands = bands.reshape(len(bands), -1)
    squares = bands * bands
    variances = squares.mean(axis=1)
    spreads = np.maximum(np.sqrt(variances), 1e-3)
    skewness = np.einsum("ij,ij->i", squares, bands) / plane.size / spreads**3
    kurtosis = np.einsum("ij,ij->i", squares, squares) / plane.size / spreads**4
    return np.stack([np.log(spreads + 0.1), np.arcsinh(skewness), np.log1p(kurtosis)],
                    axis=1).ravel()


def _granularity(plane: np.ndarray) -> np.ndarray:
    fine = _opening_spectrum(plane, GRANULE_RADII)
    # Coarse grains look the same at half the resolution, for a quarter of the cost.
    rows, columns = (length // 2 * 2 for length in plane.shape)
    quarters = plane[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2)
    half = quarters.mean(axis=(1, 3), dtype=np.float32)
    coarse = _opening_spectrum(half, tuple(radius // 2 for radius in COARSE_GRANULE_RADII))
    return np.concatenate([fine, coarse])


def _opening_spectrum(plane: np.ndarray, radii: tuple[int, ...]) -> np.ndarray:
    import scipy.ndimage

    sums = [plane.sum(dtype=np.float64), *(
        scipy.ndimage.grey_opening(plane, (2 * radius + 1,) * 2).sum(dtype=np.float64)
        for radius in radii)]
    return -np.diff(sums) / max(sums[0], 1)


def _texture(plane: np.ndarray) -> np.ndarray:
    import mahotas

    # 32 grey levels: fewer than 256 make the matrices dense, and several times cheaper.
    levels = plane >> 3
    if levels.min() == levels.max():
        return np.zeros(len(HARALICK_DISTANCES) * len(HARALICK))
    values = np.concatenate([
        mahotas.features.haralick(levels, distance=distance).mean(axis=0)
        for distance in HARALICK_DISTANCES
    ])
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return np.sign(values) * np.log1p(100 * np.abs(values))


def _bright_parts(plane: np.ndarray) -> np.ndarray:
    """Pixels above Otsu's threshold of the slightly smoothed plane; none if the plane is flat."""
    import scipy.ndimage
    import skimage.filters

    smooth = scipy.ndimage.gaussian_filter(plane, 1.0, output=np.float32, truncate=3)
    if np.ptp(smooth) < 2:
        return np.zeros(plane.shape, bool)
    return smooth > skimage.filters.threshold_otsu(smooth, nbins=64)


def _objects(plane: np.ndarray) -> np.ndarray:
    import scipy.ndimage

    mask = _bright_parts(plane)
    labels, found = scipy.ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=found + 1)
    kept = np.flatnonzero(areas >= SMALLEST_OBJECT)
    kept = kept[kept > 0]
    if not len(kept):
        return np.zeros(len(OBJECTS))
    rows, columns = np.nonzero(mask)
    owner, light = labels[rows, columns], plane[rows, columns].astype(float)
    area = areas[kept].astype(float)

    def means(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, values, found + 1)[kept] / area

    # Second moments of each object, a pixel being a square of its own extent.
    y, x = means(rows), means(columns)
    yy, xx = means(rows**2) - y**2 + 1 / 12, means(columns**2) - x**2 + 1 / 12
    yx = means(rows * columns) - y * x
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    major, minor = middle + apart, np.maximum(middle - apart, 0.05)
    brightness = means(light)
    spread = np.sqrt(np.maximum(means(light**2) - brightness**2, 0))
    share = area / area.sum()
    outline = mask & ~scipy.ndimage.binary_erosion(mask)
    around = plane[~mask].mean() if not mask.all() else 0.0
    return np.array([
        np.log1p(len(kept)), mask.mean(), np.log(area.mean()), np.log1p(area.std()),
        np.log(share @ np.sqrt(major / minor)),
        share @ (area / (4 * np.pi * np.sqrt(major * minor))),
        np.log1p(max(share @ brightness - around, 0)), outline.sum() / mask.sum(),
        np.log1p(share @ spread),
    ])


def _pair(first: np.ndarray, second: np.ndarray) -> list[float]:
    import scipy.ndimage

    a, b = first.astype(np.float32), second.astype(np.float32)
    coarse_a, coarse_b = (scipy.ndimage.gaussian_filter(plane, 4, truncate=3) for plane in (a, b))
    inside_a, inside_b = _bright_parts(first), _bright_parts(second)
    return [
        _correlation(a, b), _correlation(coarse_a, coarse_b),
        _correlation(a - coarse_a, b - coarse_b),
        float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1)),
        float(a[inside_b].sum() / max(a.sum(), 1)), float(b[inside_a].sum() / max(b.sum(), 1)),
        *_contrasts(a, inside_b), *_contrasts(b, inside_a),
    ]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-3))


def _contrasts(plane: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Log ratios of mean intensity: inside to ring, ring to far."""
    import mahotas

    squared = mahotas.distance(~inside)
    ring = (squared > RING[0] ** 2) & (squared <= RING[1] ** 2)
    parts = inside, ring, squared > RING[1] ** 2
    if not inside.any():
        return 0.0, 0.0
    means = [plane[part].mean() if part.any() else plane.mean() for part in parts]
    # Two grey levels keep the ratio of dark to darker from meaning much.
    return (float(np.log((means[0] + 2) / (means[1] + 2))),
            float(np.log((means[1] + 2) / (means[2] + 2))))
