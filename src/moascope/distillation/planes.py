"""What a student learns from: image planes of any screen, unlabelled, and random crops of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moascope.addresses.names import is_address
from moascope.errors import MoascopeError
from moascope.pixels.scaling import bit_depth_limit, histogram, lookup, percentiles
from moascope.screen.frames import read_frames
from moascope.screen.limits import PlaneError
from moascope.screen.planes import open_plane
from moascope.screen.tables import read_given_screen

IMAGES = (".tif", ".tiff", ".png", ".bmp", ".jpg")
LIMITS = (0.1, 99.9)
SMALLEST_CROP = 96


@dataclass(frozen=True)
class Planes:
    """Planes in memory.

    Attributes
    ----------
    pixels : list of ndarray, uint8 [height, width]
    share : ndarray, float64 [planes]
        How often each is drawn: folders by the square root of their pixels, so that a large one
        does not drown a small one, and within a folder all alike.
    source : list of str
        The folder that each came from.
    digest : str
        SHA-256 of all pixels in their order.
    left_out : tuple of str
        Sentences about files that could not be read.
    """

    pixels: list[np.ndarray]
    share: np.ndarray
    source: list[str]
    digest: str
    left_out: tuple[str, ...]


def collect_planes(folders: Iterable[Path], most: int, seed: int,
                   allow_outside: bool = False) -> Planes:
    """Read the planes of screens, or of folders that hold nothing but images.

    Parameters
    ----------
    folders : iterable of Path
        Each is a screen folder (its tables say which files are planes of what) or is searched for
        image files.
    most : int
        Planes a folder, drawn at random where it has more.
    seed : int
    allow_outside : bool
        Whether a screen's images may lie outside its folder.

    Returns
    -------
    Planes
        16-bit planes are brought to 8 bits between the 0.1 and the 99.9 percentile of the plane's
        own channel, as prepare does; 8-bit planes stay as they are.

    Raises
    ------
    MoascopeError
        Where a folder has no plane.
    """
    pixels: list[np.ndarray] = []
    source: list[str] = []
    left_out: list[str] = []
    for folder in folders:
        named = _named_planes(folder, allow_outside)
        if len(named) > most:
            drawn = np.random.default_rng(seed).choice(len(named), most, replace=False)
            named = [named[i] for i in sorted(drawn)]
        found: dict[str, list[np.ndarray]] = {}
        for channel, name, frame in named:
            try:
                with open_plane(Path(), name, [frame]) as file:
                    plane = read_frames(file, name, [frame])[frame]
            except PlaneError as error:
                left_out += error.problems
                continue
            if min(plane.shape) >= SMALLEST_CROP:
                found.setdefault(channel, []).append(plane)
        if not found:
            raise MoascopeError(f"{folder} holds no image plane of at least {SMALLEST_CROP} pixels "
                                "square. Give screen folders, or folders of images.")
        for channel in sorted(found):
            pixels += _to_bytes(found[channel])
            source += [str(folder)] * len(found[channel])
    digest = hashlib.sha256()
    for plane in pixels:
        digest.update(np.ascontiguousarray(plane))
    return Planes(pixels, _shares(pixels, source), source, digest.hexdigest(), tuple(left_out))


def _shares(pixels: list[np.ndarray], source: list[str]) -> np.ndarray:
    names, code = np.unique(source, return_inverse=True)
    sizes = np.bincount(code, weights=[plane.size for plane in pixels], minlength=len(names))
    weights = np.sqrt(sizes)[code] / np.bincount(code)[code]
    return weights / weights.sum()


def _named_planes(folder: Path, allow_outside: bool) -> list[tuple[str, str, int]]:
    """(channel, file or address, frame) of every plane."""
    if (folder / "load_data.csv").exists():
        screen = read_given_screen(folder, allow_outside)
        return [
            (channel, name if is_address(name) else str(screen.images / name),
             int(row.get(f"Frame_{channel}", 0)))
            for row in screen.sites.to_dict("records")
            for channel in screen.channels if (name := row[f"FileName_{channel}"])
        ]
    return [("", str(path), 0) for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in IMAGES and path.is_file()]


def _to_bytes(planes: list[np.ndarray]) -> list[np.ndarray]:
    if all(plane.dtype == np.uint8 for plane in planes):
        return planes
    counts = np.sum([histogram(plane) for plane in planes], axis=0)
    low, high = percentiles(counts, LIMITS)
    table = lookup(low, max(high, low + bit_depth_limit(int(high)) / 255))
    return [table[plane] for plane in planes]


def cut_crops(planes: Planes, count: int, size: int, generator: np.random.Generator,
              native: float = 0.5) -> np.ndarray:
    """Draw random crops: other magnifications, turns, flips, exposures and mixtures of planes.

    Parameters
    ----------
    planes : Planes
    count, size : int
        How many, and their side in pixels.
    generator : numpy.random.Generator
    native : float
        Share of crops at the plane's own resolution. Whatever is resized is smoothed, and a student
        that saw no pixel as the camera left it fails on those that it is asked about.

    Returns
    -------
    ndarray, uint8 [count, size, size]

    Notes
    -----
    Other crops are a square of 96 pixels up to the whole plane (its side is drawn on a log scale),
    resized;
    exposure is a gain (log-normal, 0.25), an offset and a gamma of 0.7 to 1.4; a quarter of the
    crops are the mean of two, which shows cells on cells.
    """
    crops = np.empty((count, size, size), np.uint8)
    chosen = generator.choice(len(planes.pixels), size=(count, 2), p=planes.share)
    for i, (first, second) in enumerate(chosen):
        crop = _square(planes.pixels[first], size, generator, native)
        if generator.random() < 0.25:
            other = _square(planes.pixels[second], size, generator, native)
            share = generator.uniform(0.3, 0.7)
            crop = (share * crop + (1 - share) * other).astype(np.uint8)
        crops[i] = _expose(crop, generator)
    return crops


def _square(plane: np.ndarray, size: int, generator: np.random.Generator,
            native: float) -> np.ndarray:
    from PIL import Image

    height, width = plane.shape
    least, most = SMALLEST_CROP, min(height, width)
    side = round(float(np.exp(generator.uniform(np.log(least), np.log(most)))))
    if generator.random() < native and most >= size:
        side = size
    top, left = generator.integers(height - side + 1), generator.integers(width - side + 1)
    crop = np.asarray(
        Image.fromarray(plane[top : top + side, left : left + side]).resize(
            (size, size), Image.Resampling.BILINEAR)
    )
    crop = np.rot90(crop, generator.integers(4))  # pyright: ignore[reportCallIssue]
    return crop[:, ::-1] if generator.random() < 0.5 else crop


def _expose(crop: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    gain = np.exp(generator.normal(0, 0.25))
    offset = generator.normal(0, 6)
    gamma = np.exp(generator.uniform(np.log(0.7), np.log(1.4)))
    levels = 255 * (np.arange(256) / 255) ** gamma * gain + offset
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)[crop]
