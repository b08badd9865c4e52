"""Focus, saturation and content of a plane, and which sites are faulty."""

from __future__ import annotations

import functools
import math

import numpy as np

from moascope.pixels import scaling

FOCUS_TILE = 128
FOCUS_TILES = (3, 3)  # at most, down and across; fewer miss the cells of sparse fields
FOCUS_BAND = (1 / 32, 1 / 3)  # cycles per pixel: cell parts, above shading and below pixel noise
REDUCED_SIDE = 512  # pixels; nuclei of larger fields are counted at half their resolution
NUCLEI_LEVELS = 12  # bits
SMOOTHED_BITS = 4  # the weights of the smoothing add up to 16
HISTOGRAM_PIXELS = 32_768
STRIP = 64  # rows
SMALLEST_NUCLEUS = 12  # pixels of the field
NUCLEUS_NAMES = ("dna", "dapi", "hoechst", "nucle", "h2b", "draq5", "bfp", "blue")


def nucleus_channel(channels: tuple[str, ...], wanted: str = "auto") -> str | None:
    """The channel that shows nuclei: the given one, else one with a usual name, else the first."""
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
        Usually between -4 (blurred) and 0 (only noise); 0 for a constant plane.

    Notes
    -----
    CellProfiler MeasureImageQuality's PowerLogLogSlope (Field et al. 1997; Bray et al. 2012).
    Here the spectrum is averaged over windowed tiles (Welch's method), so that the time does not
    grow with the field and its borders do not count as edges.
    """
    import scipy.fft

    size = min(FOCUS_TILE, *plane.shape)
    window, width, ring, weights, offset = _spectrum_bins(size)
    rows, columns = (
        ((np.arange(count) + 0.5) * length / count - size / 2).astype(int)
        for length, count in ((length, min(length // size, most))
                              for length, most in zip(plane.shape, FOCUS_TILES, strict=True))
    )
    power = np.zeros((size, width), np.float32)
    tiles = np.empty((len(columns), size, size), np.float32)
    # A row of tiles at a time stays in the processor's cache.
    for y in rows:
        for tile, x in zip(tiles, columns, strict=True):
            tile[:] = plane[y : y + size, x : x + size]
        tiles -= tiles.reshape(len(tiles), -1).mean(axis=1)[:, None, None]
        tiles *= window
        # Columns beyond the band are left out of the second half of the transform.
        spectra = scipy.fft.fft(scipy.fft.rfft(tiles)[..., :width], axis=1)
        squares = spectra.view(np.float32)
        np.square(squares, out=squares)
        squares = squares.sum(axis=0)
        power += squares[:, 0::2]
        power += squares[:, 1::2]
    radial = np.bincount(ring, power.ravel(), len(weights) + 1)[1:]
    return float(weights @ np.log(radial) - offset) if np.all(radial > 0) else 0.0


@functools.cache
def _spectrum_bins(size: int) -> tuple[np.ndarray, int, np.ndarray, np.ndarray, float]:
    """Window, frequencies along a row, ring of each (0: none), and the fit of a line through rings.

    `weights @ log(sums) - offset` is its slope: a ring's mean is its sum by its members.
    """
    line = np.hanning(size + 2)[1:-1].astype(np.float32)
    along = np.fft.rfftfreq(size)
    along = along[along <= FOCUS_BAND[1]]
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), along, indexing="ij"))
    edges = np.geomspace(*FOCUS_BAND, 12)
    ring = np.digitize(radius, edges)
    ring[ring == len(edges)] = 0
    held = np.unique(ring[ring > 0])
    relabelled = np.searchsorted(held, ring) + 1
    relabelled[ring == 0] = 0
    frequencies = np.log(edges[held - 1] * edges[held]) / 2
    apart = frequencies - frequencies.mean()
    weights = apart / np.maximum(apart @ apart, np.finfo(float).tiny)
    members = np.bincount(relabelled.ravel())[1:]
    return (np.outer(line, line), len(along), relabelled.ravel(), weights,
            float(weights @ np.log(members)))


def count_nuclei(plane: np.ndarray) -> float:
    """Count bright blobs of about one size in a field.

    The field is smoothed and thresholded (Otsu), and connected components are counted. Components
    much smaller than the median are ignored as dirt; much larger ones count as the number of nuclei
    that fill their area.

    Parameters
    ----------
    plane : ndarray of uint8 or uint16, [height, width]
        The channel that shows nuclei.

    Returns
    -------
    float
        0 if nothing stands out from the noise of the background.

    Notes
    -----
    A field of at least `REDUCED_SIDE` pixels is counted at half its resolution. The smoothing has a
    standard deviation of one and a half pixels of the field in either case, so that nothing is
    lost by the reduction; reducing further would merge touching nuclei.
    """
    reduced = _reduced(plane) if min(plane.shape) >= REDUCED_SIDE else plane.astype(np.uint16)
    lowest, largest = int(reduced.min()), int(reduced.max())
    if lowest == largest:
        return 0.0
    reduced -= lowest
    # A dim field is widened: rounding to whole counts would leave nothing of it.
    spare = NUCLEI_LEVELS - (largest - lowest).bit_length()
    reduced <<= max(spare, 0)
    reduced >>= max(-spare, 0)
    smooth = _smoothed(reduced, 4 if reduced.size == plane.size else 1)
    # Neighbours are much alike by now: a part of them has the distribution of all.
    every = max(math.isqrt(smooth.size // HISTOGRAM_PIXELS), 1)
    sample = smooth[every // 2 :: every, every // 2 :: every] >> SMOOTHED_BITS
    darkest = int(sample.min())
    counts = np.bincount(sample.ravel())[darkest:]
    if len(counts) == 1:
        return 0.0
    threshold = otsu(counts)
    below, above = counts[: threshold + 1], counts[threshold + 1 :]
    background = _middle(below)
    away = np.abs(np.arange(len(below)) - background)
    noise = 1.4826 * _middle(np.bincount(away, below))
    if threshold + 1 + _middle(above) - background < 5 * noise:
        return 0.0
    areas = component_areas(smooth >= (darkest + threshold + 1) << SMOOTHED_BITS)
    areas = areas[areas * (plane.size / smooth.size) >= SMALLEST_NUCLEUS]
    if not len(areas):
        return 0.0
    typical = np.median(areas)
    return float(np.maximum(np.rint(areas[areas >= 0.2 * typical] / typical), 1).sum())


def _reduced(plane: np.ndarray) -> np.ndarray:
    """Sums of two by two pixels, scaled to fit uint16; an odd last row or column is cut."""
    rows, columns = (length // 2 for length in plane.shape)
    most = int(plane.max())
    wide = np.uint16 if most < 2**15 else np.uint32
    excess = max(most.bit_length() - 14, 0)
    sums = np.empty((rows, columns), np.uint16)
    # A strip at a time stays in the processor's cache.
    for start in range(0, rows, STRIP):
        strip = plane[2 * start : 2 * min(start + STRIP, rows), : 2 * columns]
        lines = np.add(strip[0::2], strip[1::2], dtype=wide, order="C")
        if wide is np.uint16:
            # Two neighbours are the halves of one number: several times as fast as by strides.
            pairs = lines.view(np.uint32)
            pairs = (pairs >> 16) + (pairs & 0xFFFF)
        else:
            pairs = lines[:, 0::2] + lines[:, 1::2]
        np.right_shift(pairs, excess, out=sums[start : start + STRIP], casting="unsafe")
    return sums


def _smoothed(levels: np.ndarray, times: int) -> np.ndarray:
    """Smooth with weights of 1, 2, 1 along both axes, `times` times; mirrored at the edge.

    Parameters
    ----------
    levels : ndarray of unsigned integer, [height, width]
        With `NUCLEI_LEVELS` bits.
    times : int

    Returns
    -------
    ndarray, uint16 [height, width]
        With `SMOOTHED_BITS` more.
    """
    rows, columns = levels.shape
    padded = np.empty((rows + 2, columns + 2), np.uint16)
    smooth = np.empty((rows, columns), np.uint16)
    for time in range(times):
        if time:
            levels >>= SMOOTHED_BITS
        padded[1:-1, 1:-1] = levels
        padded[[0, -1], 1:-1] = levels[[0, -1]]
        padded[:, [0, -1]] = padded[:, [1, -2]]
        for start in range(0, rows, STRIP):
            strip = padded[start : start + STRIP + 2]
            for _ in range(2):
                strip = strip[:-1] + strip[1:]
            strip = strip[:, :-1] + strip[:, 1:]
            np.add(strip[:, :-1], strip[:, 1:], out=smooth[start : start + STRIP])
        levels = smooth
    return smooth


def otsu(counts: np.ndarray) -> int:
    """Otsu's threshold of a histogram: the last bin of the lower class.

    Parameters
    ----------
    counts : ndarray [bins]
        The first and the last are not 0.

    Notes
    -----
    Otsu, IEEE Trans. Systems, Man and Cybernetics 1979: the split with the largest variance
    between the classes.
    """
    counts = np.asarray(counts, float)
    sums = np.cumsum(counts * np.arange(len(counts)))
    below = np.cumsum(counts)
    total, members = sums[-1], below[-1]
    below, sums = below[:-1], sums[:-1]
    return int(np.argmax((sums * members - below * total) ** 2 / (below * (members - below))))


def _middle(counts: np.ndarray) -> int:
    return int(scaling.percentiles(counts, (50,))[0])


def component_areas(mask: np.ndarray) -> np.ndarray:
    """Number of pixels in each connected component of a mask (4-connectivity).

    Parameters
    ----------
    mask : ndarray, bool [height, width]

    Returns
    -------
    ndarray, int [n]

    Notes
    -----
    Computed from runs along the rows, of which there are far fewer than pixels.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    # A column of background keeps runs of one row apart from those of the next.
    width = mask.shape[1] + 1
    flat = np.zeros((mask.shape[0], width), bool)
    flat[:, :-1] = mask
    flat = flat.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        edges = np.concatenate([[0], edges])
    starts, ends = edges[0::2], edges[1::2]
    first = np.searchsorted(ends, starts + width, "right")
    touching = np.searchsorted(starts, ends + width, "left") - first
    row_ends = np.cumsum(touching)
    other = np.arange(touching.sum()) - np.repeat(row_ends - touching - first, touching)
    links = csr_array((np.ones(len(other)), other, np.concatenate([[0], row_ends])),
                      (len(starts),) * 2)
    found, part = connected_components(links, directed=False)
    return np.bincount(part, ends - starts, found).astype(int)


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
        All false with fewer than eight values, whose quartiles say nothing.
    """
    known = values[np.isfinite(values)]
    if len(known) < 8:
        return np.zeros(len(values), dtype=bool)
    lower, upper = np.percentile(known, [25, 75])
    reach = fences * max(upper - lower, 1e-9 + 0.02 * np.abs(np.median(known)))
    with np.errstate(invalid="ignore"):
        return values < lower - reach if side == "low" else values > upper + reach


FOREGROUND_BINS = 256
POOLED = 4  # of so many samples one helps to find the threshold
SATURATED_SHARE = 0.005
BLURRED_FENCES = 2.5
EMPTY_SHARE = 0.1


def saturated(shares: np.ndarray) -> np.ndarray:
    """Sites with a channel whose brightest pixels are clipped by the camera.

    Parameters
    ----------
    shares : ndarray, float [sites, channels]
        Share of pixels at the camera's largest value.

    Returns
    -------
    ndarray, bool [sites]
        True if the share is above `SATURATED_SHARE` and far above that of the plate's other sites.
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
        Sites from which the threshold is computed.

    Returns
    -------
    ndarray, float32 [sites]
        By Otsu's threshold on the logarithm, which a few bright spots do not raise.
    """
    pool = samples[sound, ::POOLED] if sound.any() else samples[:, ::POOLED]
    pool = np.log1p(np.maximum(pool, 0)).ravel()
    if not pool.size or np.ptp(pool) == 0:
        return np.zeros(len(samples), np.float32)
    lowest = pool.min()
    width = (pool.max() - lowest) / FOREGROUND_BINS
    pool -= lowest
    pool /= width
    counts = np.bincount(np.minimum(pool, FOREGROUND_BINS - 1).astype(np.int32))
    threshold = np.expm1(lowest + (otsu(counts) + 0.5) * width)
    return (samples > threshold).mean(axis=1, dtype=np.float32)


def empty(shares: np.ndarray) -> np.ndarray:
    """Sites without cells: hardly any pixel above the plate's threshold in any channel.

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
        Sites that define what is usual, and that may be flagged.
    """
    if sound.sum() < 8 or not slopes.size:
        return np.zeros(len(slopes), bool)
    low, middle, high = np.percentile(slopes[sound], [25, 50, 75], axis=0)
    scores = ((slopes - middle) / np.maximum(high - low, 1e-3)).mean(axis=1)
    scores[~sound] = np.nan
    return outliers(scores, BLURRED_FENCES, "low")
