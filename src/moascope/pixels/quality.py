"""What a plane's pixels tell about focus, saturation and content, and which sites are faulty."""

from __future__ import annotations

import functools

import numpy as np

FOCUS_TILE = 128
FOCUS_TILES = 9
FOCUS_BAND = (1 / 32, 1 / 3)  # cycles per pixel: cell parts, above shading and below pixel noise
NUCLEUS_NAMES = ("dna", "dapi", "hoechst", "nucle", "h2b", "draq5", "bfp", "blue")


def nucleus_channel(channels: tuple[str, ...], wanted: str = "auto") -> str | None:
    """The channel that shows nuclei: as asked for, else by its usual names, else the first."""
    if wanted != "auto":
        return wanted if wanted in channels else None
    named = (name for part in NUCLEUS_NAMES for name in channels if part in name.lower())
    return next(named, channels[0] if channels else None)


def focus_slope(plane: np.ndarray) -> float:
    """Slope of the log-log power spectrum; the blurrier a plane, the steeper it falls.

    Parameters
    ----------
    plane : ndarray, [height, width]

    Returns
    -------
    float
        Mostly between -4 (blurred) and 0 (nothing but noise); 0 for a constant plane.

    Notes
    -----
    CellProfiler MeasureImageQuality's PowerLogLogSlope (Field et al. 1997; Bray et al. 2012).
    Here the spectrum is averaged over windowed tiles (Welch's method), so that the cost does not
    grow with the field and its borders do not count as edges.
    """
    size = min(FOCUS_TILE, *plane.shape)
    counts = [min(length // size, int(FOCUS_TILES**0.5)) for length in plane.shape]
    starts = [
        np.linspace(0, length - size, count).astype(int)
        for length, count in zip(plane.shape, counts, strict=True)
    ]
    tiles = np.stack([
        plane[y : y + size, x : x + size] for y in starts[0] for x in starts[1]
    ]).astype(np.float32)
    tiles -= tiles.mean(axis=(1, 2), keepdims=True)
    window, ring, frequencies = _spectrum_bins(size)
    power = np.abs(np.fft.rfft2(tiles * window)) ** 2
    radial = np.bincount(ring, power.mean(axis=0).ravel(), len(frequencies) + 1)[1:]
    if not np.all(radial > 0):
        return 0.0
    members = np.bincount(ring, minlength=len(frequencies) + 1)[1:]
    return float(np.polyfit(np.log(frequencies), np.log(radial / members), 1)[0])


@functools.cache
def _spectrum_bins(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    line = np.hanning(size + 2)[1:-1].astype(np.float32)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij"))
    edges = np.geomspace(*FOCUS_BAND, 12)
    ring = np.digitize(radius, edges)
    ring[ring == len(edges)] = 0
    held = np.unique(ring[ring > 0])
    relabelled = np.searchsorted(held, ring) + 1
    relabelled[ring == 0] = 0
    centres = np.sqrt(edges[held - 1] * edges[held])
    return np.outer(line, line), relabelled.ravel(), centres


def count_nuclei(plane: np.ndarray) -> float:
    """Count bright blobs of about one size in a field.

    Smoothing, a threshold by Otsu, connected components; components much smaller than the
    median one are dirt, and much larger ones count as the number of nuclei that fill their area.

    Parameters
    ----------
    plane : ndarray, [height, width]
        The channel that shows nuclei.

    Returns
    -------
    float
        0 where nothing stands out from the background's noise.
    """
    import scipy.ndimage
    import skimage.filters

    smooth = scipy.ndimage.gaussian_filter(plane.astype(np.float32), 1.5, truncate=3)
    threshold = skimage.filters.threshold_otsu(smooth, nbins=128) if np.ptp(smooth) > 0 else 0
    mask = smooth > threshold
    below, above = smooth[~mask], smooth[mask]
    if not len(above) or not len(below):
        return 0.0
    background = np.median(below)
    noise = 1.4826 * np.median(np.abs(below - background))
    if np.median(above) - background < 5 * noise:
        return 0.0
    labels, found = scipy.ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=found + 1)[1:]
    areas = areas[areas >= 12]
    if not len(areas):
        return 0.0
    typical = np.median(areas)
    return float(np.maximum(np.rint(areas[areas >= 0.2 * typical] / typical), 1).sum())


def outliers(values: np.ndarray, fences: float, side: str) -> np.ndarray:
    """Tukey's rule: beyond the quartiles by more than `fences` interquartile ranges.

    Parameters
    ----------
    values : ndarray, float [n]
        Not-a-number is never an outlier.
    fences : float
        1.5 is the usual rule, 3 "far out".
    side : {"low", "high"}

    Returns
    -------
    ndarray, bool [n]
        All false below eight values: quartiles of fewer say nothing.
    """
    known = values[np.isfinite(values)]
    if len(known) < 8:
        return np.zeros(len(values), dtype=bool)
    lower, upper = np.percentile(known, [25, 75])
    reach = fences * max(upper - lower, 1e-9 + 0.02 * np.abs(np.median(known)))
    with np.errstate(invalid="ignore"):
        return values < lower - reach if side == "low" else values > upper + reach


SATURATED_SHARE = 0.005
BLURRED_FENCES = 2.5
EMPTY_SHARE = 0.1


def saturated(shares: np.ndarray) -> np.ndarray:
    """Sites with a channel whose brightest pixels were cut off by the camera.

    Parameters
    ----------
    shares : ndarray, float [sites, channels]
        Share of pixels at the camera's largest value.

    Returns
    -------
    ndarray, bool [sites]
        More than `SATURATED_SHARE`, and far more than the plate's other sites have.
    """
    if not shares.size:
        return np.zeros(len(shares), bool)
    return np.any([
        (share > SATURATED_SHARE) & (share > 3 * np.median(share)) for share in shares.T
    ], axis=0)


def foreground(samples: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Share of each site's pixels above a threshold that the whole plate shares.

    Parameters
    ----------
    samples : ndarray, float32 [sites, pixels]
    sound : ndarray, bool [sites]
        Sites from which the threshold is worked out.

    Returns
    -------
    ndarray, float32 [sites]
        By Otsu's threshold on the logarithm, which a few bright spots do not lift.
    """
    import skimage.filters

    pool = np.log1p(np.maximum(samples[sound] if sound.any() else samples, 0)).ravel()
    if not pool.size or np.ptp(pool) == 0:
        return np.zeros(len(samples), np.float32)
    threshold = np.expm1(skimage.filters.threshold_otsu(pool, nbins=256))
    return (samples > threshold).mean(axis=1, dtype=np.float32)


def empty(shares: np.ndarray) -> np.ndarray:
    """Sites without cells: in every channel next to nothing above the plate's threshold.

    Parameters
    ----------
    shares : ndarray, float [sites, channels]
        From `foreground`.
    """
    if not shares.size:
        return np.zeros(len(shares), bool)
    return np.all(shares < EMPTY_SHARE * np.median(shares, axis=0), axis=1)


def blurred(slopes: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Sites whose spectrum falls far more steeply than the plate's others, over all channels.

    Parameters
    ----------
    slopes : ndarray, float [sites, channels]
        From `focus_slope`.
    sound : ndarray, bool [sites]
        Sites that set what is usual, and that may be flagged.
    """
    if sound.sum() < 8 or not slopes.size:
        return np.zeros(len(slopes), bool)
    low, middle, high = np.percentile(slopes[sound], [25, 50, 75], axis=0)
    scores = ((slopes - middle) / np.maximum(high - low, 1e-3)).mean(axis=1)
    scores[~sound] = np.nan
    return outliers(scores, BLURRED_FENCES, "low")
