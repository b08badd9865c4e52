"""One pass over the files of a plate: each site decoded once, and what is kept of it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from moascope.params import Prepare
from moascope.pixels import crops, quality, scaling
from moascope.screen.frames import silence
from moascope.screen.limits import PlaneError
from moascope.screen.planes import each_plane
from moascope.work.processes import ahead

if TYPE_CHECKING:
    from moascope.screen.tables import Screen

PlaneReader = Callable[["Screen", Mapping[str, Any], Sequence[str]],
                       Iterator[tuple[str, np.ndarray]]]
SAMPLED_PIXELS = 16_384  # a regular subset of a field: enough for its distribution


@dataclass(frozen=True)
class Seen:
    """What one pass over the files keeps of the sites that could be read, in their order."""

    rows: list[int]  # positions in the plate's site table
    shape: tuple[int, int]  # of every plane
    raw: np.ndarray  # uint16 [sites, crops, channels, crop, crop]; of a plate, on disk
    samples: np.ndarray  # uint16 [sites, channels, height, width] of every so manyth pixel
    focus: np.ndarray  # float32 [sites, channels], NaN where a site has no such channel
    largest: np.ndarray  # int [sites, channels]
    at_largest: np.ndarray  # float32 [sites, channels], share of pixels at the largest value
    nuclei: np.ndarray  # float32 [sites]


def read_sites(screen: Screen, channels: tuple[str, ...], nuclei: str | None, scratch: Path,
               settings: Prepare, threads: int, shape: tuple[int, int] | None = None,
               read: PlaneReader = each_plane) -> tuple[Seen, list[str]]:
    """Read every site; fields not of size `shape` (by default, the first field's) are left out.

    `read` is called, in threads, as `moascope.screen.planes.each_plane` is.
    """
    seen: Seen | None = None
    problems = []
    sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    look = functools.partial(_look_at, screen, channels, nuclei, settings, read)
    records = screen.sites.to_dict("records")
    # Decoders are silenced here too, because the threads' own beginnings and ends of silence
    # overlap and would leave behind what one of them found.
    with (silence(), scratch.open("wb") as file,
          contextlib.closing(ahead(look, list(enumerate(records)), threads)) as sites):
        for row, site in zip(records, sites, strict=True):
            if isinstance(site, Seen):
                sizes[site.shape] += 1
                shape = shape or site.shape
                if site.shape != shape:
                    height, width = site.shape
                    site = PlaneError(f"it has {width}x{height} pixels, and most fields of the "
                                      f"plate have {shape[1]}x{shape[0]}.", "size")
            if isinstance(site, PlaneError):
                problems += [f"Plate {row['Metadata_Plate']}, well {row['Metadata_Well']}, site "
                             f"{row['Metadata_Site']} is left out: {problem}"
                             for problem in site.problems]
                continue
            seen = seen or _empty_record(len(records), len(channels), shape, settings)
            _note(seen, file, site)
    usual = max(sizes, key=sizes.__getitem__, default=shape)
    if usual != shape:
        del seen
        return read_sites(screen, channels, nuclei, scratch, settings, threads, usual, read)
    if seen is None:
        seen = _empty_record(0, len(channels), (settings.crop,) * 2, settings)
    count = len(seen.rows)
    kept = {field.name: getattr(seen, field.name)[:count] for field in dataclasses.fields(seen)
            if field.name not in ("rows", "shape", "raw")}
    if count:
        kept["raw"] = np.memmap(scratch, np.uint16, "r", shape=(count, *seen.raw.shape[1:]))
    return dataclasses.replace(seen, **kept), problems


def _look_at(screen: Screen, channels: tuple[str, ...], nuclei: str | None, settings: Prepare,
             read: PlaneReader, numbered: tuple[int, Mapping[str, Any]]) -> Seen | PlaneError:
    """Decode a site plane by plane, and measure each plane while it is in the CPU's cache."""
    number, row = numbered
    site: Seen | None = None
    try:
        for name, plane in read(screen, row,
                                [name for name in channels if row[f"FileName_{name}"]]):
            if site is None:
                site = _empty_record(1, len(channels), plane.shape, settings)
                site.rows.append(number)
            if plane.shape == site.shape:
                _measure(plane, site, channels.index(name), name == nuclei, settings)
            del plane  # Its memory, still in the cache, is for the next one.
    except PlaneError as error:
        return error
    return site  # pyright: ignore[reportReturnType]


def _measure(plane: np.ndarray, site: Seen, channel: int, shows_nuclei: bool,
             settings: Prepare) -> None:
    tiles = crops.tile_positions(plane.shape, settings.crop, settings.crops)
    largest = int(plane.max())
    site.raw[0, :, channel] = crops.cut(plane, tiles, settings.crop)
    site.samples[0, channel] = plane[sampled(plane.shape)]
    site.focus[0, channel] = quality.focus_slope(plane)
    site.largest[0, channel] = largest
    # Only a camera's limit can be where it cut off.
    site.at_largest[0, channel] = (np.count_nonzero(plane == largest) / plane.size
                                   if largest in scaling.LIMITS else 0)
    if shows_nuclei:
        site.nuclei[0] = quality.count_nuclei(plane)


def _empty_record(sites: int, channels: int, shape: tuple[int, int],
                  settings: Prepare) -> Seen:
    tiles = crops.tile_positions(shape, settings.crop, settings.crops)
    sides = [len(range(*part.indices(length)))
             for part, length in zip(sampled(shape), shape, strict=True)]
    return Seen(
        rows=[], shape=shape,
        # A plate's are on disk.
        raw=np.zeros((min(sites, 1), len(tiles), channels, *(settings.crop,) * 2), np.uint16),
        samples=np.zeros((sites, channels, *sides), np.uint16),
        focus=np.full((sites, channels), np.nan, np.float32),
        largest=np.full((sites, channels), -1),
        at_largest=np.full((sites, channels), np.nan, np.float32),
        nuclei=np.full(sites, np.nan, np.float32),
    )


def _note(seen: Seen, file: BinaryIO, site: Seen) -> None:
    # Written, not mapped: the system charges far more for the first touch of a mapped page.
    file.write(site.raw)  # pyright: ignore[reportCallIssue]
    for name in ("samples", "focus", "largest", "at_largest", "nuclei"):
        getattr(seen, name)[len(seen.rows)] = getattr(site, name)[0]
    seen.rows.extend(site.rows)


def sampled(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the regular subset of a field that stands for its distribution."""
    step = max(int(np.ceil(np.sqrt(shape[0] * shape[1] / SAMPLED_PIXELS))), 1)
    height, width = shape
    return (slice(min(step // 2, height - 1), None, step),
            slice(min(step // 2, width - 1), None, step))
