"""From light to a camera's 12-bit counts, with the faults that microscopes have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moascope.sources.simulated.seeds import stream

OFFSET = 120
CEILING = 4095
READ_NOISE = 6.0
COUNTS_PER_ELECTRON = 1.5
BACKGROUND = (35.0, 55.0, 50.0)
BATCH_GAIN_SD = 0.15
PLATE_GAIN_SD = 0.08
VIGNETTE = (0.15, 0.40)

# Share of the fields that suffer each fault.
FAULT_SHARES = {"blur": 0.03, "saturation": 0.01, "debris": 0.01, "empty": 0.005,
                "missing": 0.0025, "swapped": 0.0025}
ALL_CHANNELS = (0, 1, 2)


@dataclass(frozen=True)
class Fault:
    """The fault of a field, in which channels (by number), and how severe it is."""

    kind: str
    channels: tuple[int, ...]
    severity: float


def plate_illumination(seed: int, batch: str, plate: str, size: int) -> np.ndarray:
    """Factor by which a plate's optics multiply the light.

    Returns
    -------
    ndarray, float32, shape (3, size, size)
        Vignette (15-40 % darker at the far corner, centred off the middle) times the gain of batch
        and plate, per channel.
    """
    rng = stream(seed, "optics", plate)
    gain = np.exp(stream(seed, "gain", batch).normal(0, BATCH_GAIN_SD, 3)
                  + rng.normal(0, PLATE_GAIN_SD, 3))
    centre = rng.uniform(-0.3, 0.3, (3, 2))
    depth = rng.uniform(*VIGNETTE, 3)
    axis = np.linspace(-1, 1, size)
    squared = ((axis[None, :, None] - centre[:, 0, None, None]) ** 2
               + (axis[None, None, :] - centre[:, 1, None, None]) ** 2)
    squared /= squared.max(axis=(1, 2), keepdims=True)
    return (gain[:, None, None] * (1 - depth[:, None, None] * squared)).astype(np.float32)


def draw_fault(seed: int, plate: str, well: str, site: int) -> Fault | None:
    """Draw the fault of a field at random, None for most fields."""
    rng = stream(seed, "fault", plate, well, site)
    chance = rng.random()
    place = np.searchsorted(np.cumsum(list(FAULT_SHARES.values())), chance, side="right")
    if place == len(FAULT_SHARES):
        return None
    kind = list(FAULT_SHARES)[place]
    severity = float(rng.random())
    if kind in ("blur", "empty"):
        return Fault(kind, ALL_CHANNELS, severity)
    if kind == "swapped":
        return Fault(kind, (1, 2), severity)
    return Fault(kind, (int(rng.integers(3)),), severity)


def expose(
    rng: np.random.Generator, light: np.ndarray, illumination: np.ndarray, fault: Fault | None
) -> np.ndarray:
    """Turn light into camera counts.

    Parameters
    ----------
    rng : numpy Generator
        Used for this field's camera only.
    light : ndarray, float32, shape (3, size, size)
        From `cells.draw_field`; modified in place.
    illumination : ndarray, float32, shape (3, size, size)
        From `plate_illumination`.
    fault : Fault or None

    Returns
    -------
    ndarray, uint16, shape (3, size, size)
        Camera counts from 0 to 4095.
    """
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    if fault is not None:
        _spoil_light(light, fault)
    light += np.asarray(BACKGROUND, dtype=np.float32)[:, None, None]
    light *= illumination
    if fault is not None:
        _spoil_exposure(light, fault)
    # Above some twenty electrons a Poisson count is a normal one, at a tenth of the cost.
    noise *= np.sqrt(light * np.float32(COUNTS_PER_ELECTRON) + np.float32(READ_NOISE**2))
    light += noise
    light += np.float32(OFFSET + 0.5)
    counts = np.clip(light, 0, CEILING).astype(np.uint16)
    if fault is not None and fault.kind == "swapped":
        counts[[1, 2]] = counts[[2, 1]]
    return counts


def _spoil_light(light: np.ndarray, fault: Fault) -> None:
    from scipy.ndimage import gaussian_filter

    if fault.kind == "blur":
        for plane in light:
            gaussian_filter(plane, 1.5 + 1.5 * fault.severity, output=plane, mode="nearest")
    elif fault.kind == "empty":
        light[:] = 0
    elif fault.kind == "debris":
        for channel in fault.channels:
            light[channel] += _fleck(fault.severity, light.shape[-1])


def _spoil_exposure(light: np.ndarray, fault: Fault) -> None:
    for channel in fault.channels:
        if fault.kind == "saturation":
            # Exposed so long that between a tenth and a third of the field is at the ceiling.
            bright = np.percentile(light[channel], 90 - 20 * fault.severity)
            light[channel] *= CEILING / bright
        elif fault.kind == "missing":
            light[channel] = 0


def _fleck(severity: float, size: int) -> np.ndarray:
    """Draw a bright piece of dust or fibre, out of focus, somewhere in the field."""
    angle, along = 17 * math.pi * severity, 12 + 18 * severity
    middle = size * (0.25 + 0.5 * np.array([severity, (7 * severity) % 1]))
    y, x = np.mgrid[:size, :size] - middle[:, None, None]
    u = (math.cos(angle) * x + math.sin(angle) * y) / along
    v = (math.cos(angle) * y - math.sin(angle) * x - 6 * u**2) / 5
    return (3200 * np.exp(-(u**4) - v**2)).astype(np.float32)
