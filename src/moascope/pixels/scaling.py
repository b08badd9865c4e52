"""From camera counts to eight bits, by one rule for a whole plate and channel."""

from __future__ import annotations

import numpy as np

BINS = 65_536
LIMITS = (255, 1023, 4095, 16_383, 65_535)  # of cameras with 8, 10, 12, 14 and 16 bits


def histogram(values: np.ndarray) -> np.ndarray:
    """Count every value of an unsigned integer array.

    Returns
    -------
    ndarray, int64 [65536]
    """
    return np.bincount(values.ravel(), minlength=BINS)


def percentiles(counts: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Percentiles of integers from their histogram, as `np.percentile(method="inverted_cdf")`.

    Parameters
    ----------
    counts : ndarray, int [bins]
        How often each value from 0 on occurs; at least one value.
    shares : tuple of float
        Percent, 0 to 100.
    """
    cumulated = np.cumsum(counts)
    ranks = np.maximum(np.ceil(np.asarray(shares) / 100 * cumulated[-1]), 1)
    return np.searchsorted(cumulated, ranks).astype(float).tolist()


def bit_depth_limit(largest: int) -> int:
    """Largest value of the camera that took a plane, which has 8, 10, 12, 14 or 16 bits."""
    return next(limit for limit in LIMITS if largest <= limit)


def lookup(low: float, high: float) -> np.ndarray:
    """Lookup table from 16-bit to 8-bit values, linear between two limits and clipped outside.

    Returns
    -------
    ndarray, uint8 [65536]
    """
    scaled = (np.arange(BINS, dtype=np.float32) - low) * (255.0 / max(high - low, 1.0))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
