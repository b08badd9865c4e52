"""OME-Zarr arrays behind addresses: only the chunks of the planes that are read are fetched."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from moascope.addresses.cache import UNFINISHED, Sum, cache_folder, link_copy, note_sum
from moascope.addresses.folders import list_tree
from moascope.addresses.names import is_address, shown
from moascope.addresses.stores import TooLarge, Unavailable, Version, version_of
from moascope.screen.arrays import chunk_names
from moascope.screen.limits import PlaneError

_METADATA = ("zarr.json", ".zarray")
_CONNECTIONS = 4  # for one array; several are read at once
_TRIES = 3  # where the array changes meanwhile


def is_array_address(name: str) -> bool:
    """Whether a name is the address of an array, such as s3://bucket/plate.zarr/B/03/0/0."""
    *folders, last = name.split("/")
    return (is_address(name) and ("." not in last or last.endswith(".zarr"))
            and any(part.endswith(".zarr") for part in (*folders, last)))


@contextlib.contextmanager
def open_array(address: str, frames: Sequence[int]) -> Iterator[Path]:
    """Fetch the metadata of an array and the chunks of some planes, all of one version.

    Notes its sum, so that `moascope.addresses.cache.known_sum` knows it.

    Parameters
    ----------
    address : str
    frames : sequence of int
        As `moascope.screen.arrays.read_array_planes` counts them.

    Yields
    ------
    Path
        A folder that `read_array_planes` reads these planes from. A chunk that the store does not
        have is not there either: by the format, its pixels have the fill value.

    Raises
    ------
    PlaneError
        If the array is missing, or of a kind that moascope does not read.
    moascope.addresses.stores.Unavailable
        If the store cannot be used, or the array keeps changing.
    """
    with _scratch() as scratch:
        for number in range(_TRIES):
            folder = scratch / f"{number}"
            with contextlib.suppress(FileNotFoundError):
                there = _listed(address, folder)
                if _link(address, there, chunk_names(folder, shown(address), frames), folder):
                    break
        else:
            raise Unavailable(f"{shown(address)} changes while it is read. Wait until it is "
                              "complete, and run it again.")
        note_sum(address, _sum_of(there))
        yield folder


def array_sum_at(address: str) -> Sum:
    """What stands for an array behind an address, told by its store without sending the chunks.

    Returns
    -------
    Sum
        Bytes of all its files, and SHA-256 over their names, sizes and versions, which is its
        version, too.

    Raises
    ------
    PlaneError, moascope.addresses.stores.Unavailable
        As `open_array`.
    """
    with _scratch() as scratch:
        try:
            return _sum_of(_listed(address, scratch / "array"))
        except FileNotFoundError:
            raise PlaneError(f"{shown(address)} is missing.", "missing") from None


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    # On the disk of the copies, so that they can be linked.
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=cache) as folder:
        yield Path(folder)


def _listed(address: str, folder: Path) -> dict[str, Version]:
    """The files of an array that its store has; its metadata are put into a folder."""
    if address.startswith(("s3://", "gs://")):
        there = list_tree(address)
    else:
        there = _there(address, _METADATA[:1]) or _there(address, _METADATA[1:])
    metadata = [name for name in _METADATA if name in there]
    if not metadata:
        raise PlaneError(f"{shown(address)} is missing.", "missing")
    if not _link(address, there, metadata, folder):
        raise FileNotFoundError(address)
    # A web server has no list of its files.
    names = chunk_names(folder, shown(address))
    if not address.startswith(("s3://", "gs://")):
        there |= _there(address, names)
    there = {name: there[name] for name in (*metadata, *names) if name in there}
    if untold := [name for name, version in there.items() if not version.tag]:
        raise Unavailable(f"{shown(address)}: the store tells neither an ETag nor the date of "
                          f"{untold[0]}, so that a change could not be noticed. Copy the array to "
                          "another store or to a disk.")
    return there


def _there(address: str, names: Sequence[str]) -> dict[str, Version]:
    def version(name: str) -> Version | None:
        try:
            return version_of(f"{address}/{name}")
        except FileNotFoundError:
            return None

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return {name: found for name, found in zip(names, pool.map(version, names), strict=True)
                if found is not None}


def _link(address: str, there: Mapping[str, Version], names: Sequence[str], folder: Path) -> bool:
    """Put files that are there into a folder; whether all have the version that was told."""
    def link(name: str) -> bool:
        return link_copy(f"{address}/{name}", there[name].tag, folder / name)

    try:
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            return all(pool.map(link, [name for name in names if name in there]))
    except TooLarge as error:
        raise PlaneError(error.problems, "large") from None


def _sum_of(there: Mapping[str, Version]) -> Sum:
    lines = (f"{name}\0{version.bytes}\0{version.tag}\n" for name, version in sorted(there.items()))
    total = hashlib.sha256("".join(lines).encode()).hexdigest()
    return Sum(sum(max(version.bytes, 0) for version in there.values()), total, total)
