"""The planes of one open image file or array, whatever its format."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from moascope.opening import open_file
from moascope.screen.limits import (
    MAX_CHUNKS,
    MAX_PIXELS,
    PlaneError,
    check_decoded,
    check_depth,
    check_frame,
    check_size,
)
from moascope.screen.segments import BOUNDED, HEADED, declared_size
from moascope.text import explained, tidy

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NO_INTENSITIES = {5, 8, 9, 10}
"""TIFF photometric interpretations CMYK and CIE, ICC and ITU L*a*b*."""
_PILLOW_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}


@contextlib.contextmanager
def open_image(path: Path, name: str | None = None) -> Iterator[BinaryIO | Path]:
    """Open an image for `read_frames` and `image_sum`.

    Yields the open file, or the folder of a Zarr array. Sentences call it `name`, or else by its
    path.
    """
    name = name or str(path)
    try:
        file = open_file(path)
    except FileNotFoundError:
        raise PlaneError(f"{name} is missing.", "missing") from None
    except IsADirectoryError:
        from moascope.screen.arrays import is_array

        if not is_array(path):
            raise PlaneError(f"{name} is a folder, not an image.") from None
        yield path
        return
    except OSError as error:
        raise PlaneError(f"{shown(name)} cannot be opened: {error.strerror}.") from None
    with file:
        yield file


def image_sum(image: BinaryIO | Path) -> tuple[int, str]:
    """Bytes and SHA-256 of an open image; of an array, over all files of its folder."""
    if isinstance(image, Path):
        from moascope.screen.arrays import array_sum

        try:
            return array_sum(image)
        except OSError as error:
            raise PlaneError(f"{error.filename} cannot be read: {error.strerror}.") from None
    image.seek(0)
    total = hashlib.file_digest(image, "sha256").hexdigest()
    # What is in memory is summed where it lies.
    return image.seek(0, io.SEEK_END), total


def read_frames(file: BinaryIO | Path, name: str, frames: Sequence[int],
                max_pixels: int = MAX_PIXELS) -> dict[int, np.ndarray]:
    """Read several planes of one open file; see `read_plane`.

    Parameters
    ----------
    file : binary file or Path
        As `open_image` yields it; a file may be positioned anywhere.
    name : str
        Its name in messages.
    frames : sequence of int
        The planes wanted.

    Returns
    -------
    dict of int to ndarray of uint8 or uint16, shape [height, width]
    """
    try:
        with silence():
            if isinstance(file, Path):
                from moascope.screen.arrays import read_array_planes

                planes = read_array_planes(file, name, frames, max_pixels)
            else:
                planes = _file_frames(file, name, frames, max_pixels)
    except PlaneError:
        raise
    except Exception as error:  # Decoders raise anything on a broken file.
        truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
        cause = ("it is truncated" if truncated
                 else f"it is damaged ({explained(error)})")
        raise PlaneError(f"{name} cannot be read: {cause}.",
                         "truncated" if truncated else "unreadable") from None
    for plane in planes.values():
        check_depth(name, plane.dtype)
    return {frame: plane.astype(plane.dtype.newbyteorder("="), copy=False)
            for frame, plane in planes.items()}


def _file_frames(file: BinaryIO, name: str, frames: Sequence[int],
                 max_pixels: int) -> dict[int, np.ndarray]:
    file.seek(0)
    start = file.read(32)
    if not start:
        raise PlaneError(f"{name} is empty (0 bytes).", "empty")
    if start.startswith(_TIFF_STARTS):
        return _tiff_frames(file, name, frames, max_pixels)
    pillow = next((kind for mark, kind in _PILLOW_STARTS.items() if start.startswith(mark)), None)
    if not pillow:
        raise PlaneError(f"{name} is not an image that moascope reads (TIFF, PNG, JPEG or BMP).")
    return _pillow_frames(file, name, frames, max_pixels, pillow, start)


def _tiff_frames(file: BinaryIO, name: str, frames: Sequence[int],
                 max_pixels: int) -> dict[int, np.ndarray]:
    import tifffile

    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    planes: dict[int, np.ndarray] = {}
    with tifffile.TiffFile(file) as tiff:
        if not len(tiff.pages):
            raise PlaneError(f"{name} is a TIFF file without an image and may be truncated.",
                             "truncated")
        samples = tiff.pages[0].samplesperpixel
        count = len(tiff.pages) * samples
        for frame in dict.fromkeys(frames):
            if frame in planes:
                continue
            check_frame(name, frame, count)
            page = tiff.pages[frame // samples]
            check_size(name, page.imagewidth, page.imagelength, max_pixels)
            _check_page(file, name, page)
            # tifffile fills missing data with zeros, so check first where the data end.
            ends = [offset + length for offset, length in
                    zip(page.dataoffsets, page.databytecounts, strict=False)]
            if not ends or max(ends) > size:
                raise PlaneError(f"{name} cannot be read: it is truncated.", "truncated")
            if page.samplesperpixel != samples or set(page.axes) - set("YXS"):
                raise PlaneError(f"{name} mixes images of different kinds (axes {page.axes}).")
            image = page.asarray(maxworkers=1)
            if image is None or image.size == 0:
                raise PlaneError(f"{name} cannot be read: it is truncated.", "truncated")
            if "S" in page.axes:
                image = np.moveaxis(image, page.axes.index("S"), 0)
            else:
                image = image[np.newaxis]
            first = frame - frame % samples
            for wanted in frames:
                if first <= wanted < first + samples:
                    planes[wanted] = np.ascontiguousarray(image[wanted - first])
    return planes


def _check_page(file: BinaryIO, name: str, page: Any) -> None:
    """Refuse a page that would fill too much memory, from what it declares about itself."""
    check_depth(name, page.dtype)
    if page.photometric in _NO_INTENSITIES:
        raise PlaneError(f"{name} holds colours of another kind than red, green and blue "
                         f"({page.photometric.name}). Save each channel in grey.", "depth")
    rows, columns = min(page.rowsperstrip or 1, page.imagelength), page.imagewidth
    if page.is_tiled:
        # A tile may be far larger than its image.
        rows, columns = page.tilelength * max(page.tiledepth, 1), page.tilewidth
    together = page.samplesperpixel if page.planarconfig == 1 else 1
    count, size = len(page.dataoffsets), page.dtype.itemsize
    whole = math.prod(page.shape) * size
    check_decoded(name, max(whole, count * rows * columns * together * size))
    if count > MAX_CHUNKS:
        raise PlaneError(f"{name} is cut into {count:,} strips or tiles. Save it again with fewer.",
                         "large")
    if page.compression in HEADED and not page.parent.is_ndpi:
        tables = declared_size(page.compression, page.jpegtables or b"")
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
            file.seek(offset)
            check_decoded(name, max(tables, declared_size(page.compression, file.read(length))))
    elif page.compression not in BOUNDED:
        raise PlaneError(f"{name} is compressed in a way that moascope does not read (TIFF "
                         f"compression {int(page.compression)}). Save it again with LZW or "
                         "Deflate, or uncompressed.")


def frame_count(image: Path | BinaryIO) -> int:
    """How many planes an image file has, as `read_plane` counts them; 1 where that is unknown."""
    try:
        with silence(), (open_file(image) if isinstance(image, Path)
                         else contextlib.nullcontext(image)) as file:
            file.seek(0)
            start = file.read(32)
            file.seek(0)
            if start.startswith(_TIFF_STARTS):
                import tifffile

                with tifffile.TiffFile(file) as tiff:
                    # ImageJ describes the first of a very long stack alone.
                    told = (tiff.imagej_metadata or {}).get("images", 1)
                    pages = max(len(tiff.pages), told if isinstance(told, int) else 1)
                    return max(1, pages * int(tiff.pages[0].samplesperpixel))
            from PIL import Image

            with Image.open(file, formats=list(_PILLOW_STARTS.values())) as picture:
                return len(picture.getbands())
    except Exception:  # As in `read_frames`; reading it will say what is wrong.
        return 1


def tiff_description(path: Path) -> str:
    """The ImageDescription of a TIFF file's first page; empty where it has none."""
    import tifffile

    try:
        with silence(), open_file(path) as file, tifffile.TiffFile(file) as tiff:
            return str(tiff.pages[0].description)
    except Exception:  # As in `read_frames`.
        return ""


def _pillow_frames(file: BinaryIO, name: str, frames: Sequence[int], max_pixels: int, kind: str,
                   start: bytes) -> dict[int, np.ndarray]:
    from PIL import Image

    file.seek(0)
    with Image.open(file, formats=[kind]) as image:
        check_size(name, *image.size, max_pixels)
        # The deepest values that Pillow decodes to have 4 bytes.
        check_decoded(name, math.prod(image.size) * len(image.getbands())
                      * (4 if image.mode in ("I", "F") else 1 + image.mode.startswith("I;16")))
        deep_colour = kind == "PNG" and start[24] == 16 and start[25] in (2, 4, 6)
        if deep_colour:
            # Pillow would silently keep only the upper 8 of the 16 bits.
            import imagecodecs

            file.seek(0)
            values = imagecodecs.png_decode(file.read())
        else:
            if image.mode in ("CMYK", "LAB", "HSV"):
                raise PlaneError(f"{name} holds colours of another kind than red, green and blue "
                                 f"({image.mode}). Save each channel in grey.", "depth")
            if image.mode == "P" and not _is_scale(image.getpalette() or []):
                raise PlaneError(f"{name} has a palette whose colours do not rise in brightness, "
                                 "so its values are not intensities. Save it again in grey.",
                                 "depth")
            values = np.asarray(image)
            if image.mode == "I" and values.min() >= 0 and values.max() < 2**16:
                values = values.astype(np.uint16)
    values = values[np.newaxis] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    for frame in frames:
        check_frame(name, frame, len(values))
    return {frame: np.ascontiguousarray(values[frame]) for frame in frames}


def _is_scale(palette: Sequence[int]) -> bool:
    """Whether the colours of a palette grow brighter, but for a few that mark extremes."""
    colours = np.asarray(palette, float).reshape(-1, 3)
    falls = np.diff(colours @ (0.299, 0.587, 0.114)) < 0
    return int(falls.sum()) <= 3


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep decoders from logging and warning."""
    # tifffile logs and Pillow warns about files that are unusual but readable; PlaneError says
    # what matters to the person at the terminal.
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def shown(name: str) -> str:
    """A file's name for a sentence: overlong and unprintable ones as far as they can be shown."""
    return tidy(name.encode(errors="backslashreplace").decode(), most=200)
