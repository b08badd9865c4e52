"""Reading image planes: one channel of one field of view at a time, as the camera wrote it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from moascope.addresses.cache import open_copy
from moascope.addresses.names import is_address, shown
from moascope.addresses.stores import TooLarge
from moascope.screen.frames import open_image, read_frames
from moascope.screen.limits import MAX_PIXELS, PlaneError
from moascope.screen.remote_arrays import is_array_address, open_array

if TYPE_CHECKING:
    from moascope.screen.tables import Screen


def read_plane(path: Path, frame: int = 0, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one plane of an image file.

    Parameters
    ----------
    path : Path
        A TIFF (multi-page, palette, RGB, any compression that imagecodecs knows), PNG, JPEG or
        BMP file. Its first bytes decide what it is, never its name. Or the folder of
        a Zarr array (`moascope.screen.arrays`).
    frame : int
        Which plane of a file that has several, from 0: the page of a multi-page file, the sample
        (red 0, green 1, blue 2) of a colour image, the channel of an array.
    max_pixels : int
        A larger plane is refused from its header, before memory is taken for it.

    Returns
    -------
    ndarray of uint8 or uint16, shape [height, width]
        Values as stored: palettes are not applied and nothing is inverted or scaled.

    Raises
    ------
    PlaneError
        With the name of the file and the cause.
    """
    with open_image(Path(path)) as file:
        return read_frames(file, str(path), [frame], max_pixels)[frame]


def read_site(screen: Screen, row: Mapping[str, Any],
              channels: Sequence[str] | None = None) -> np.ndarray:
    """Read the planes of one site into one array; see `read_site_planes`.

    Returns
    -------
    ndarray of uint8 or uint16, shape [channels, height, width]
    """
    return np.stack(read_site_planes(screen, row, channels))


def read_site_planes(screen: Screen, row: Mapping[str, Any],
                     channels: Sequence[str] | None = None) -> list[np.ndarray]:
    """Read the planes of one site, each file opened and decoded once.

    Parameters
    ----------
    screen : Screen
        The screen the row comes from.
    row : mapping
        A row of `screen.sites`, as a Series or a dictionary.
    channels : sequence of str, optional
        Which channels, in this order; by default those that the site has (`site_channels`).

    Returns
    -------
    list of ndarray of uint8 or uint16, shape [height, width]
        One per channel.

    Raises
    ------
    PlaneError
        When a plane cannot be read, or planes of the site differ in size.
    """
    channels = site_channels(screen, row) if channels is None else list(channels)
    planes = dict(each_plane(screen, row, channels))
    return [planes[channel] for channel in channels]


def each_plane(screen: Screen, row: Mapping[str, Any],
               channels: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Read the planes of one site one after the other, each file opened and decoded once.

    The memory of a plane that the caller has released, still in the processor's cache, is used
    for the next one.

    Yields
    ------
    tuple of str and ndarray of uint8 or uint16, shape [height, width]
        A channel and its plane; channels of one file follow each other.

    Raises
    ------
    PlaneError
        As `read_site_planes`; planes that differ in size are reported after the last one.
    """
    if not channels:
        raise PlaneError(f"{_place(row)} names no image.", "missing")
    wanted: dict[str, dict[str, int]] = {}
    for channel in channels:
        wanted.setdefault(row[f"FileName_{channel}"], {})[channel] = int(row[f"Frame_{channel}"])
    shapes = {}
    for name, frames in wanted.items():
        if not name:
            raise PlaneError(f"{_place(row)} has no image for one of {', '.join(channels)}.",
                             "missing")
        with open_plane(screen.images, name, list(frames.values())) as file:
            planes = read_frames(file, name, list(frames.values()))
        for channel, frame in frames.items():
            shapes[channel] = planes[frame].shape
            yield channel, planes[frame]
        del planes
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{channel} {shapes[channel][1]}x{shapes[channel][0]}"
                          for channel in channels)
        raise PlaneError(f"{_place(row)}: its channels differ in size ({sizes} pixels).", "size")


def site_channels(screen: Screen, row: Mapping[str, Any]) -> list[str]:
    """The channels that a site has, in the screen's order; its panel may lack some."""
    return [channel for channel in screen.channels if row[f"FileName_{channel}"]]


def local_image(screen: Screen) -> Path | None:
    """An image file that this machine has; None where all are behind addresses or missing."""
    for channel in screen.channels:
        for name in screen.sites[f"FileName_{channel}"].unique():
            if name and not is_address(name) and (path := screen.images / name).exists():
                return path
    return None


@contextlib.contextmanager
def open_plane(images: Path, name: str, frames: Sequence[int]) -> Iterator[BinaryIO | Path]:
    """Open an image that a table names, `images` being the screen's folder of images.

    An image behind an address is fetched once and then read from its local copy
    (`moascope.addresses.cache`); of an array, the chunks of the planes `frames`.

    Yields
    ------
    binary file or Path
        As `moascope.screen.frames.open_image`.

    Raises
    ------
    PlaneError
        Where there is no such image, or it is too large.
    moascope.addresses.stores.Unavailable
        Where the store of an address cannot be used.
    """
    if not is_address(name):
        with open_image(images / name, name) as file:
            yield file
        return
    if is_array_address(name):
        with open_array(name, frames) as folder:
            yield folder
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_copy(name))
        except FileNotFoundError:
            raise PlaneError(f"{shown(name)} is missing.", "missing") from None
        except TooLarge as error:
            raise PlaneError(error.problems, "large") from None
        yield file


def _place(row: Mapping[str, Any]) -> str:
    return (f"Plate {row['Metadata_Plate']}, well {row['Metadata_Well']}, "
            f"site {row['Metadata_Site']}")
