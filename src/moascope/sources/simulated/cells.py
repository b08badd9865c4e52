"""Drawing a field of cells in three channels, before any optics."""

from __future__ import annotations

import functools
import math

import numpy as np

from moascope.sources.simulated.compounds import KNOBS
from moascope.sources.simulated.markers import Line, Marker

TEXTURE_SIDE = 256
TEXTURES = ("chromatin", "reticulum", "mitochondria", "microtubules", "bundles", "clumps")
# Cells of one well differ from each other by this share of the spread between wells.
CELL_SD = 0.3
NUCLEUS_PEAK = 1150.0
BRIGHTEST = 3300.0
MITOTIC_SHARE = 0.03
POINT_SPREAD = 0.9  # pixels, sigma of the objective's blur
VACUOLE_RADIUS = 1.7
MARGIN = 10         # cells are also drawn this many pixels outside, so that some are cut off

(COUNT, NUCLEAR_SIZE, NUCLEAR_INTENSITY, NUCLEAR_SHAPE, CELL_SIZE, GREEN_INTENSITY, GREEN_SPOTS,
 GREEN_PERINUCLEAR, RED_INTENSITY, RED_NUCLEAR, RED_FIBRES, VACUOLES) = range(len(KNOBS))


def draw_field(
    rng: np.random.Generator, knobs: np.ndarray, line: Line, green: Marker, red: Marker, size: int
) -> np.ndarray:
    """Draw one field of view.

    Parameters
    ----------
    rng : numpy Generator
        Used for this field only.
    knobs : ndarray, float, shape (12,)
        State of the well's cells in the order of `KNOBS`, 0 being an untreated average.
    line, green, red : Line, Marker, Marker
        See `markers.panel_parts`.
    size : int
        Side of the square field in pixels.

    Returns
    -------
    ndarray, float32, shape (3, size, size)
        Light in camera counts for Nucleus, Green and Red, blurred by the point spread function,
        without vignette, background or noise.
    """
    from scipy.ndimage import gaussian_filter

    # Beyond three standard deviations a real cell dies rather than grows without bound.
    knobs = 3 * np.tanh(np.asarray(knobs, dtype=float) / 3)
    centres = _place(rng, knobs, line, size)
    number = len(centres)
    state = knobs + CELL_SD * rng.normal(size=(number, len(KNOBS)))
    shape = _shapes(rng, state, knobs, line)
    body, nucleus, owner, outside = _paint(centres, shape, size)
    chromatin = _texture("chromatin", rng, size)

    brightness = np.exp(0.16 * state[:, NUCLEAR_INTENSITY]) * shape["condensed"]
    planes = np.empty((3, size, size), dtype=np.float32)
    planes[0] = (NUCLEUS_PEAK * nucleus * brightness.astype(np.float32)[owner]
                 * (0.72 + 0.28 * chromatin))
    holes = _vacuoles(rng, state, centres, shape, size)
    for channel, marker in ((1, green), (2, red)):
        planes[channel] = _marker(rng, marker, channel == 2, knobs, state, centres, shape,
                                  body, nucleus, owner, outside, holes, size)
    for plane in planes:
        gaussian_filter(plane, POINT_SPREAD, output=plane, mode="nearest", truncate=3.0)
    # Where spots pile up the label saturates softly, long before the camera does.
    planes /= np.sqrt(1 + (planes / np.float32(BRIGHTEST)) ** 2)
    return planes


def _place(rng: np.random.Generator, knobs: np.ndarray, line: Line, size: int) -> np.ndarray:
    """Place cells at random so that their nuclei do not overlap; shape (cells, 2)."""
    from scipy.spatial import cKDTree

    side = size + 2 * MARGIN
    expected = line.cells * (side / 128) ** 2 * math.exp(0.2 * knobs[COUNT])
    wanted = max(1, round(expected * (1 + 0.06 * rng.normal())))
    tried = rng.uniform(-MARGIN, size + MARGIN, size=(4 * wanted, 2))
    if line.clumping:
        islands = _texture("clumps", rng, side)
        at = np.clip((tried + MARGIN).astype(int), 0, side - 1)
        chance = 1 - line.clumping * (islands[at[:, 0], at[:, 1]] < 0.9)
        tried = tried[np.argsort(rng.random(len(tried)) > chance, kind="stable")]
    # Crowded cells stand closer.
    apart = line.nucleus * 1.08 * min(1.0, math.sqrt(30 / expected * (side / 128) ** 2))
    close = cKDTree(tried).query_pairs(apart, output_type="ndarray")
    stays = np.ones(len(tried), dtype=bool)
    # In the order of the first cell, so that whether it stays is settled when its turn comes.
    for first, second in close[np.lexsort(close.T[::-1])].tolist():
        if stays[first]:
            stays[second] = False
    return tried[stays][:wanted]


def _shapes(
    rng: np.random.Generator, state: np.ndarray, knobs: np.ndarray, line: Line
) -> dict[str, np.ndarray]:
    number = len(state)
    angle = rng.uniform(0, 2 * math.pi, number)
    # Neighbouring cells of an elongated line lie side by side.
    body_angle = rng.uniform(0, math.pi) + rng.normal(0, 1.2 / line.elongation, number)
    nucleus = line.nucleus / 2 * np.exp(0.08 * state[:, NUCLEAR_SIZE])
    elongation = line.nuclear_elongation * np.exp(0.11 * state[:, NUCLEAR_SHAPE]).clip(min=0.8)
    body = line.radius * np.exp(0.09 * state[:, CELL_SIZE])
    condensed = np.ones(number)
    mitotic = rng.random(number) < MITOTIC_SHARE
    condensed[mitotic] = 1.6
    nucleus[mitotic] *= 0.72
    body[mitotic] *= 0.8
    return {
        "angle": body_angle,
        "nucleus_long": nucleus * np.sqrt(elongation),
        "nucleus_short": nucleus / np.sqrt(elongation),
        "lobes": 0.06 * np.exp(0.45 * state[:, NUCLEAR_SHAPE]).clip(max=3.5),
        "lobe_phase": rng.uniform(0, 2 * math.pi, number),
        "body_long": body * math.sqrt(line.elongation),
        "body_short": np.maximum(body / math.sqrt(line.elongation), nucleus * 1.12),
        "ruffle": np.full(number, line.ruffle),
        "ruffle_phase": rng.uniform(0, 2 * math.pi, number),
        "golgi_angle": angle,
        "condensed": condensed,
    }


def _paint(
    centres: np.ndarray, shape: dict[str, np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Paint all cells: thickness of the body, nucleus, owner and pixels outside the nucleus."""
    reach = math.ceil(1.25 * shape["body_long"].max())
    corner = np.floor(centres).astype(int) - reach
    steps = np.arange(2 * reach + 1, dtype=np.float32)
    start = (corner - centres).astype(np.float32)
    y = (start[:, 0, None] + steps)[:, :, None]
    x = (start[:, 1, None] + steps)[:, None, :]

    def per_cell(name: str) -> np.ndarray:
        return shape[name].astype(np.float32)[:, None, None]

    cos, sin = np.cos(per_cell("angle")), np.sin(per_cell("angle"))
    along, across = cos * x + sin * y, cos * y - sin * x
    radius = np.sqrt(along * along + across * across) + np.float32(1e-3)
    c, s = along / radius, across / radius
    cos2, sin2 = c * c - s * s, 2 * c * s
    cos3 = c * cos2 - s * sin2

    lobed = 1 + per_cell("lobes") * (np.cos(per_cell("lobe_phase")) * cos3
                                     + np.sin(per_cell("lobe_phase")) * sin2)
    long, short = per_cell("nucleus_long"), per_cell("nucleus_short")
    nuclear_edge = lobed / np.sqrt((c / long) ** 2 + (s / short) ** 2)
    beyond = radius - nuclear_edge
    nucleus = np.clip(0.5 - beyond, 0, 1)
    nucleus *= 0.8 + 0.2 * np.clip(-beyond / 4, 0, 1)

    ruffled = 1 + per_cell("ruffle") * (np.cos(per_cell("ruffle_phase")) * cos3
                                        + np.sin(per_cell("ruffle_phase")) * sin2)
    long, short = per_cell("body_long"), per_cell("body_short")
    inside = 1 - radius * np.sqrt((c / long) ** 2 + (s / short) ** 2) / ruffled
    body = np.sqrt(np.clip(1.6 * inside, 0, 1))
    np.maximum(body, nucleus, out=body)

    canvas = np.zeros((size, size), dtype=np.float32)
    nuclei = np.zeros((size, size), dtype=np.float32)
    owner = np.zeros((size, size), dtype=np.intp)
    outside = np.full((size, size), 99, dtype=np.float32)
    width = 2 * reach + 1
    for index, (top, left) in enumerate(corner.tolist()):
        rows = slice(max(0, top), min(size, top + width))
        columns = slice(max(0, left), min(size, left + width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        patch = (index, slice(rows.start - top, rows.stop - top),
                 slice(columns.start - left, columns.stop - left))
        # Nuclei lie on top: a neighbour's flat border never covers them.
        height = body[patch] + nucleus[patch]
        view = canvas[rows, columns]
        on_top = height > view + nuclei[rows, columns]
        np.copyto(view, body[patch], where=on_top)
        np.copyto(nuclei[rows, columns], nucleus[patch], where=on_top)
        np.copyto(owner[rows, columns], index, where=on_top)
        np.copyto(outside[rows, columns], beyond[patch], where=on_top)
    return canvas, nuclei, owner, outside


def _marker(
    rng: np.random.Generator, marker: Marker, is_red: bool, knobs: np.ndarray, state: np.ndarray,
    centres: np.ndarray, shape: dict[str, np.ndarray], body: np.ndarray, nucleus: np.ndarray,
    owner: np.ndarray, outside: np.ndarray, holes: np.ndarray | None, size: int,
) -> np.ndarray:
    if is_red:
        spots, decay = marker.spots, marker.decay
        fibres = math.exp(0.28 * knobs[RED_FIBRES])
        shuttled = math.exp(0.33 * knobs[RED_NUCLEAR])
        intensity = np.exp(0.17 * state[:, RED_INTENSITY])
    else:
        spots = marker.spots * math.exp(0.33 * knobs[GREEN_SPOTS])
        decay = marker.decay * math.exp(-0.28 * knobs[GREEN_PERINUCLEAR])
        fibres = shuttled = 1.0
        intensity = np.exp(0.17 * state[:, GREEN_INTENSITY])

    falling = np.exp(np.maximum(outside, 0) * np.float32(-1 / decay))
    level = marker.diffuse * np.float32(1.0 / math.sqrt(shuttled)) * np.ones_like(body)
    network = max(marker.network, 0.1 if is_red else 0.0)
    if network:
        level += np.float32(network * fibres) * _texture(marker.texture, rng, size)
    level *= (1 - marker.near) + np.float32(1.6 * marker.near) * falling
    if marker.cortex:
        rim = np.clip(1 - np.abs(body - 0.45) * 3, 0, 1)
        level += np.float32(marker.cortex) * rim
    light = body * level
    # A nucleus displaces the cytoplasm of its cell, but a thin layer remains above it.
    inside = np.clip(nucleus * 1.25, 0, 1)
    light *= 1 - np.float32(0.8) * inside
    light += np.float32(marker.nuclear * shuttled) * nucleus
    if marker.where == "golgi" or spots:
        light += _spots(rng, marker, spots, decay, centres, shape, body, size)
    if holes is not None:
        light *= holes
    light *= (marker.peak * intensity).astype(np.float32)[owner]
    return light


def _spots(
    rng: np.random.Generator, marker: Marker, mean: float, decay: float, centres: np.ndarray,
    shape: dict[str, np.ndarray], body: np.ndarray, size: int,
) -> np.ndarray:
    counts = rng.poisson(mean, len(centres))
    cell = np.repeat(np.arange(len(centres)), counts)
    total = len(cell)
    edge = np.sqrt(shape["nucleus_long"] * shape["nucleus_short"])[cell]
    angle = rng.uniform(0, 2 * math.pi, total)
    if marker.where == "nucleus":
        distance = 0.8 * edge * np.sqrt(rng.random(total))
    elif marker.where == "golgi":
        spread = 0.45 * decay / marker.decay
        angle = shape["golgi_angle"][cell] + spread * rng.normal(size=total)
        distance = 1.1 * edge + 0.3 * decay * np.abs(rng.normal(size=total))
    else:
        distance = edge + rng.exponential(0.8 * decay, total)
    amplitude = (2 * math.pi * POINT_SPREAD**2 * marker.spot_peak
                 * rng.gamma(4.0, 0.25, total))
    # A spot wider than the point spread is a small cloud of points.
    points = 1 if marker.spot_size < 0.5 else 4
    centre = centres[cell] + distance[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    at = np.repeat(centre, points, axis=0)
    if points > 1:
        at = at + marker.spot_size * rng.normal(size=at.shape)
    light = np.repeat(amplitude / points**0.6, points)
    place = np.rint(at).astype(int)
    visible = ((place >= 0) & (place < size)).all(axis=1)
    flat = place[visible, 0] * size + place[visible, 1]
    # Spots that fell outside every cell are dimmed by the cell body that is not there.
    weights = light[visible] * (body.ravel()[flat] > 0.05)
    return np.bincount(flat, weights, minlength=size * size).reshape(size, size).astype(np.float32)


def _vacuoles(
    rng: np.random.Generator, state: np.ndarray, centres: np.ndarray, shape: dict[str, np.ndarray],
    size: int,
) -> np.ndarray | None:
    """Transmission of the cytoplasm: 1 except in swollen lysosomes; None without any."""
    from scipy.ndimage import gaussian_filter

    counts = rng.poisson(1.5 * np.exp(0.75 * state[:, VACUOLES].clip(max=3)))
    if not counts.any():
        return None
    cell = np.repeat(np.arange(len(centres)), counts)
    edge = np.sqrt(shape["nucleus_long"] * shape["nucleus_short"])[cell]
    angle = rng.uniform(0, 2 * math.pi, len(cell))
    distance = edge + 1.5 + rng.exponential(3.0, len(cell))
    at = centres[cell] + distance[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    place = np.rint(at).astype(int)
    place = place[((place >= 0) & (place < size)).all(axis=1)]
    marks = np.bincount(place[:, 0] * size + place[:, 1], minlength=size * size)
    marks = marks.reshape(size, size).astype(np.float32)
    gaussian_filter(marks, VACUOLE_RADIUS, output=marks, truncate=2.5)
    return 1 - np.minimum(marks * np.float32(2 * math.pi * VACUOLE_RADIUS**2), 0.95)


def _texture(kind: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """Cut a randomly rotated window out of the periodic texture of a kind; mean 1."""
    top, left, turn = rng.integers(TEXTURE_SIDE), rng.integers(TEXTURE_SIDE), rng.integers(8)
    sheet = _sheet(kind)
    while sheet.shape[0] < TEXTURE_SIDE + size:
        sheet = np.pad(sheet, (0, TEXTURE_SIDE), mode="wrap")
    window = sheet[top:top + size, left:left + size]
    window = window.T if turn & 1 else window
    return window[::-1 if turn & 2 else 1, ::-1 if turn & 4 else 1]


@functools.lru_cache(maxsize=len(TEXTURES))
def _sheet(kind: str) -> np.ndarray:
    """Make a periodic texture with mean 1; float32, tiled to twice TEXTURE_SIDE a side."""
    # The same sheets serve every screen: only where a field is cut from them is random.
    rng = np.random.Generator(np.random.SFC64(TEXTURES.index(kind)))

    def ridges(wavelength: float, width: float, stretch: float = 1.0) -> np.ndarray:
        # The zero lines of smooth noise are long, winding and never end: as filaments do.
        return np.exp(-(_smooth_noise(rng, wavelength, stretch) / width) ** 2)

    if kind == "chromatin":
        sheet = np.clip(1 + 0.5 * _smooth_noise(rng, 6), 0.1, None)
    elif kind == "reticulum":
        sheet = ridges(8, 0.45) + 0.5 * ridges(6, 0.5)
    elif kind == "mitochondria":
        sheet = ridges(10, 0.35) * np.clip(0.3 + _smooth_noise(rng, 9), 0, 1.2)
    elif kind == "microtubules":
        sheet = ridges(17, 0.22) + ridges(14, 0.22) + 0.7 * ridges(20, 0.2)
    elif kind == "bundles":
        sheet = ridges(9, 0.4, 7) * np.clip(0.7 + _smooth_noise(rng, 30), 0, 2)
    else:
        sheet = np.clip(1 + _smooth_noise(rng, 70), 0, None)
    return np.tile((sheet / sheet.mean()).astype(np.float32), (2, 2))


def _smooth_noise(
    rng: np.random.Generator, wavelength: float, stretch: float = 1.0
) -> np.ndarray:
    """Make periodic Gaussian noise of unit variance around one wavelength in pixels."""
    frequency = np.fft.fftfreq(TEXTURE_SIDE)
    radial = np.hypot(frequency[:, None] * stretch, frequency[None, :])
    band = np.exp(-(((radial - 1 / wavelength) * wavelength / 0.35) ** 2))
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(TEXTURE_SIDE, TEXTURE_SIDE))) * band).real
    return noise / noise.std()
