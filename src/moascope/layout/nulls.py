"""What a measure of a layout is compared with: the same screen dealt at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

PERMUTATIONS = 200  # Enough for a p below 0.05 divided by the number of measures.
DEALS = 20  # Of every well of a screen: with thousands of wells the null hardly varies.


def orders(units: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Units in `count` random orders, to give each the labels of another."""
    generator = np.random.default_rng([seed, 0])
    for _ in range(count):
        yield generator.permutation(units)


def with_null(name: str, value: float, null: Any, two_sided: bool = False) -> dict[str, Any]:
    """A measure with the middle and the central 95 % of its null, and its p where that is known."""
    null = np.asarray(null, float)
    low, high = np.percentile(null, [2.5, 97.5])
    if two_sided:
        beyond = np.abs(null - null.mean()) >= abs(value - null.mean()) - 1e-12
    else:
        beyond = null >= value - 1e-12
    found = {"name": name, "value": float(value),
             "null": {"mean": float(null.mean()), "low": float(low), "high": float(high)}}
    if len(null) > DEALS:
        found["p"] = float((1 + beyond.sum()) / (1 + len(null)))
    return found


def not_measured(name: str, reason: str) -> dict[str, Any]:
    """A measure that this layout does not allow, and why."""
    return {"name": name, "value": None, "why_not": reason}
