"""Pictures of sites at full resolution, made on demand and kept in a bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moascope.addresses.names import is_address
from moascope.annotation.pictures import as_png, channel_colours, coloured
from moascope.exploring.index import Index
from moascope.screen.planes import read_site_planes, site_channels
from moascope.screen.tables import Screen
from moascope.work.digests import digest

PLANES_BYTES, PICTURES_BYTES = 256 * 2**20, 64 * 2**20
PLATES = 32
"""Plates whose tables of sites are kept."""

LOW, HIGH = 0.5, 99.8
"""Percentiles of the shown planes that are dark and bright, unless a person moves them."""


@dataclass(frozen=True)
class Look:
    """Which picture is asked for.

    Attributes
    ----------
    plate : int
        Row of `Index.plates`.
    well : str
    site : int
    channels : tuple of str
        Empty for all that the site has.
    low, high : float
        Percentiles, 0 to 100.
    beside : str
        A well of the same plate over whose first site the percentiles are taken, too, so that
        brighter is brighter; empty for none.
    side : int
        Longest side in pixels; 0 for the planes' own.
    """

    plate: int
    well: str
    site: int
    channels: tuple[str, ...] = ()
    low: float = LOW
    high: float = HIGH
    beside: str = ""
    side: int = 0


class Pictures:
    """Renders sites of an index; planes and pictures that were asked for last are kept."""

    def __init__(self, index: Index):
        self._index = index
        self._screen = Screen(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), index.channels,
                              index.images)
        self._planes = Bounded(PLANES_BYTES, lambda planes: sum(one.nbytes for one in planes))
        self._pictures = Bounded(PICTURES_BYTES, len)
        self._sites = Bounded(PLATES, lambda _: 1)

    def site(self, plate: int, well: str, site: int | None = None) -> dict[str, Any] | None:
        """A row of `Screen.sites`: that site of a well, or its first; None without one."""
        own = self.sites(plate, well)
        if site is not None:
            own = own[own["Metadata_Site"] == site]
        return own.iloc[0].to_dict() if len(own) else None

    def sites(self, plate: int, well: str) -> pd.DataFrame:
        """The sites of a well, as in `Screen.sites`."""
        sites = self._sites.get(plate, lambda: self._index.sites_of_plate(plate))
        return sites[(sites["Metadata_Well"] == well).to_numpy()]

    def tag(self, look: Look, row: dict[str, Any]) -> str:
        """What changes with the picture: the index, what is asked, and the state of its files."""
        state = []
        for channel in self._index.channels:
            name = row[f"FileName_{channel}"]
            if name and not is_address(name):
                try:
                    found = (self._index.images / name).stat()
                    state.append([name, found.st_size, found.st_mtime_ns])
                except OSError:
                    state.append([name])
        return digest(self._index.key, vars(look), state)[:32]

    def render(self, look: Look, row: dict[str, Any], tag: str) -> bytes:
        """The PNG of a site.

        Raises
        ------
        PlaneError
            Where a plane cannot be read.
        """
        return self._pictures.get(tag, lambda: self._render(look, row))

    def _render(self, look: Look, row: dict[str, Any]) -> bytes:
        has = site_channels(self._screen, row)
        channels = [name for name in has if name in look.channels] or has
        shown = self._read(row, has)
        beside = self.site(look.plate, look.beside) if look.beside else None
        sets = [shown]
        if beside is not None and site_channels(self._screen, beside) == has:
            sets.append(self._read(beside, has))
        at = [has.index(name) for name in channels]
        colours = channel_colours(has)
        limits = [np.percentile(np.concatenate([planes[i].ravel()[::7] for planes in sets]),
                                [look.low, look.high]) for i in at]
        return as_png(coloured([shown[i] for i in at], limits, [colours[i] for i in at]),
                      look.side)

    def _read(self, row: dict[str, Any], channels: list[str]) -> list[np.ndarray]:
        key = tuple(f"{row[f'FileName_{name}']}\0{row[f'Frame_{name}']}" for name in channels)
        return self._planes.get(key, lambda: read_site_planes(self._screen, row, channels))


class Bounded:
    """Values by key, together at most of a size; those that were asked for last stay.

    Parameters
    ----------
    most : int
    size : callable
        Of a value.
    """

    def __init__(self, most: int, size: Callable[[Any], int]):
        self._most, self._size = most, size
        self._held: OrderedDict[Any, Any] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value of a key, made where it is not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        value = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = value
                self._total += self._size(value)
            while self._total > self._most:
                self._total -= self._size(self._held.popitem(last=False)[1])
        return value
