"""Planes of a Zarr array: OME-Zarr keeps each field of view as a folder of compressed chunks."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moascope.opening import MOST_JSON, open_file, parse_json, read_file
from moascope.screen.limits import (
    MAX_CHUNKS,
    MAX_PIXELS,
    PlaneError,
    check_decoded,
    check_frame,
    check_size,
)

_METADATA = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
_MAX_DEPTH = 64
# Bytes that a checksum, or a header, adds to a chunk.
_SLACK = 2**16
_DECLARING = ("blosc", "zstd", "lz4")

# Codecs that turn bytes into bytes or numbers into numbers: none of them can create an object or
# run code from a file. Codecs that do not declare their unpacked size (gzip, zlib, bz2, lzma) are
# excluded, because ten megabytes of them can unpack to ten gigabytes.
_V2_COMPRESSORS = {"blosc", "zstd", "lz4"}
_V2_FILTERS = {"delta", "shuffle"}
_V3_CODECS = {"bytes", "transpose", "blosc", "zstd", "crc32c", "sharding_indexed"}
_DTYPES = {"|u1": "uint8", "<u2": "uint16", ">u2": "uint16", "uint8": "uint8", "uint16": "uint16"}


class Header(NamedTuple):
    """An array's Zarr format (2 or 3), shape, shape of a decoded chunk, and codecs."""

    zarr_format: int
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    codecs: tuple[str, ...]


def is_array(path: Path) -> bool:
    """Whether a folder is a Zarr array or group, of format 2 or 3."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def read_array_planes(path: Path, name: str, frames: Sequence[int],
                      max_pixels: int) -> dict[int, np.ndarray]:
    """Read planes of an array whose last two axes are y and x.

    Parameters
    ----------
    path : Path
        The folder of the array, such as plate.zarr/B/03/0/0.
    name : str
        Its name in messages.
    frames : sequence of int
        Planes, numbered over all axes before y and x with the last of them running fastest: the
        channel, for the usual t, c, z, y, x with one time point and one z.
    max_pixels : int
        Largest plane, and largest chunk, that is read.

    Returns
    -------
    dict of int to ndarray of uint8 or uint16, shape [height, width]

    Raises
    ------
    PlaneError
        When it is not such an array, is too large, or needs a codec that moascope does not read.

    Notes
    -----
    Zarr does not store chunks in which every pixel has the fill value, so a lost chunk reads as
    zeros: only the checksum of the folder tells the two apart.
    Zarr v2: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html, v3:
    https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html
    """
    header = array_header(path, name)
    leading = header.shape[:-2]
    _check_chunks(name, header, max_pixels)
    sharded = "sharding_indexed" in header.codecs
    for file in array_files(path):
        if file.name in _METADATA:
            continue
        parts = (_parts_of_shard(path, file, name, header) if sharded
                 else [(0, file.stat().st_size)])
        _check_chunk(file, name, header.codecs, 2 * math.prod(header.chunk), parts)
    import zarr

    array = zarr.open_array(str(path), mode="r", zarr_format=header.zarr_format)
    planes = {}
    for frame in dict.fromkeys(frames):
        check_frame(name, frame, math.prod(leading))
        planes[frame] = np.ascontiguousarray(array[*np.unravel_index(frame, leading)]
                                             if leading else array[:])
    return planes


def chunk_names(path: Path, name: str, frames: Sequence[int] | None = None,
                max_pixels: int = MAX_PIXELS) -> list[str]:
    """The files, below the folder of an array, that hold some of its planes, whether they exist.

    Parameters
    ----------
    path : Path
        Has the array's metadata, and need not have more.
    name : str
        Its name in messages.
    frames : sequence of int, optional
        As in `read_array_planes`, by default all; those that it does not have are left out.
    max_pixels : int

    Raises
    ------
    PlaneError
        As `read_array_planes`.
    """
    import zarr

    header = array_header(path, name)
    _check_chunks(name, header, max_pixels)
    array = zarr.open_array(str(path), mode="r", zarr_format=header.zarr_format)
    parts = array.shards or array.chunks
    grid = [math.ceil(side / part) for side, part in zip(header.shape, parts, strict=True)]
    if math.prod(grid) > MAX_CHUNKS:
        raise PlaneError(f"{name} is cut into {math.prod(grid):,} chunks. Write it again with one "
                         "chunk per plane.", "large")
    leading = header.shape[:-2]
    places = (list(itertools.product(*map(range, grid[:-2]))) if frames is None else
              [tuple(int(at) // part for at, part in zip(np.unravel_index(frame, leading), parts,
                                                         strict=False))
               if leading else () for frame in frames if 0 <= frame < math.prod(leading)])
    return [array.metadata.encode_chunk_key((*place, *corner)) for place in dict.fromkeys(places)
            for corner in itertools.product(*map(range, grid[-2:]))]


def _check_chunks(name: str, header: Header, max_pixels: int) -> None:
    height, width = header.shape[-2:]
    check_size(name, width, height, max_pixels)
    pieces = math.prod(math.ceil(side / part) for side, part
                       in zip((height, width), header.chunk[-2:], strict=True))
    if math.prod(header.chunk) > max_pixels or pieces > MAX_CHUNKS:
        chunk = "x".join(map(str, header.chunk))
        raise PlaneError(f"{name} is cut into chunks of {chunk}, which moascope does not read. "
                         "Write it again with one chunk per plane.", "large")
    # Chunks at the edges of a plane are decoded whole, too.
    check_decoded(name, 2 * pieces * math.prod(header.chunk))


def array_header(path: Path, name: str) -> Header:
    """Read and check the metadata of an array, before any of it is decoded.

    Raises
    ------
    PlaneError
        As `read_array_planes`.
    """
    metadata = zarr_metadata(path, name)
    if "shape" not in metadata:
        raise PlaneError(f"{name} is a Zarr group, not an array. Name the array of its first "
                         f"resolution, such as {name}/0.")
    try:
        header, dtype, codecs = (_header_v3 if metadata["zarr_format"] == 3 else _header_v2)(
            metadata)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        raise PlaneError(f"{name} does not have the metadata of a Zarr array.") from None
    if dtype not in _DTYPES:
        raise PlaneError(f"{name} holds {dtype} values, and moascope reads 8-bit and 16-bit "
                         "unsigned integers only. Export it as 16-bit.", "depth")
    allowed = _V3_CODECS if header.zarr_format == 3 else _V2_COMPRESSORS | _V2_FILTERS
    if unknown := [str(codec) for codec in codecs if codec not in allowed]:
        raise PlaneError(f"{name} is written with '{unknown[0]}', a codec that moascope does not "
                         f"read. It reads {', '.join(sorted(allowed))}.")
    if sum(codec in _DECLARING for codec in codecs) > 1:
        raise PlaneError(f"{name} is compressed twice, which moascope does not read. Write it "
                         "again with one compressor.")
    if len(header.shape) < 2 or len(header.chunk) != len(header.shape) or min(header.chunk) < 1:
        raise PlaneError(f"{name} has the shape {header.shape} in chunks of {header.chunk}, "
                         "which is not an image.")
    return header


def zarr_metadata(path: Path, name: str) -> dict[str, Any]:
    """The metadata of a Zarr array or group, with its attributes under `attributes`.

    Raises
    ------
    PlaneError
        When they are missing, too long or not a JSON object.
    """
    if (path / "zarr.json").is_file():
        return _read_json(path / "zarr.json", name)
    for kind in (".zarray", ".zgroup"):
        if (path / kind).is_file():
            attributes = path / ".zattrs"
            return {**_read_json(path / kind, name), "zarr_format": 2,
                    "attributes": _read_json(attributes, name) if attributes.is_file() else {}}
    raise PlaneError(f"{name} is neither a Zarr array nor a group.")


def array_sum(path: Path) -> tuple[int, str]:
    """Bytes and SHA-256 over all files below a folder: names, lengths and contents, in order.

    Returns
    -------
    tuple of int and str
    """
    total, size = hashlib.sha256(), 0
    for file in array_files(path):
        relative, length = file.relative_to(path).as_posix(), file.stat().st_size
        total.update(f"{len(relative.encode())}:{relative}:{length}:".encode())
        with open_file(file) as chunk:
            total.update(hashlib.file_digest(chunk, "sha256").digest())
        size += length
    return size, total.hexdigest()


def array_files(path: Path, depth: int = 0) -> Iterator[Path]:
    """The files below a folder, in order; anything but files and folders is refused."""
    if depth > _MAX_DEPTH:
        raise PlaneError(f"{path} is nested deeper than the chunks of an array.")
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from array_files(path / entry.name, depth + 1)
        elif entry.is_file(follow_symlinks=False):
            yield path / entry.name
        else:
            # A link may point anywhere, and opening a pipe would block for ever.
            raise PlaneError(f"{path / entry.name} is neither a file nor a folder, and a Zarr "
                             "array holds nothing else. Replace it by what it points to, or remove "
                             "it.")


def _check_chunk(file: Path, name: str, codecs: Sequence[str], size: int,
                 parts: Sequence[tuple[int, int]]) -> None:
    """Refuse a chunk whose headers claim more bytes than a chunk of its array has."""
    codec = next((codec for codec in codecs if codec in _DECLARING), None)
    declared = 0
    with open_file(file) as chunk:
        for at, length in parts:
            chunk.seek(at)
            # A chunk that is far longer than its content is refused below.
            start = chunk.read(min(length, 2 * size + _SLACK) if codec == "zstd" else 12)
            if codec == "blosc":
                declared = max(declared, *(int.from_bytes(start[i:i + 4], "little")
                                           for i in (4, 8)))
            elif codec == "lz4":
                declared = max(declared, int.from_bytes(start[:4], "little"))
            elif codec == "zstd":
                declared = max(declared, _zstd_size(start))
    most = max(len(parts), 1) * (2 * size + _SLACK)
    if declared > size + _SLACK or file.stat().st_size > most:
        raise PlaneError(f"{name} has a chunk, {file.name}, that is larger than the metadata say.",
                         "large")


def _parts_of_shard(path: Path, file: Path, name: str,
                    header: Header) -> list[tuple[int, int]]:
    """Where the chunks of a shard begin, and their lengths (Zarr v3, sharding_indexed)."""
    metadata = zarr_metadata(path, name)
    outer = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    count = math.prod(int(side) // part for side, part in zip(outer, header.chunk, strict=True))
    sharding = metadata["codecs"][0]["configuration"]
    index = [codec["name"] for codec in sharding["index_codecs"]]
    if (len(metadata["codecs"]) > 1 or header.codecs.count("sharding_indexed") > 1
            or index not in (["bytes"], ["bytes", "crc32c"]) or count > MAX_CHUNKS):
        raise PlaneError(f"{name} has shards of a kind that moascope does not read. Write it "
                         "again without shards.")
    length = 16 * count
    with open_file(file) as shard:
        if sharding.get("index_location", "end") == "end":
            whole = length + 4 * (len(index) - 1)
            shard.seek(max(file.stat().st_size - whole, 0))
        table = np.frombuffer(shard.read(length), dtype="<u8").reshape(-1, 2)
    # The offset of an absent chunk is 2^64 - 1.
    return [(int(at), int(length)) for at, length in table if at < 2**63]


def _zstd_size(content: bytes) -> int:
    """The sizes that the frames of a chunk state, in sum (RFC 8878, 3.1.1)."""
    total, at = 0, 0
    while at < len(content):
        magic = int.from_bytes(content[at:at + 4], "little")
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            # A frame to skip.
            at += 8 + int.from_bytes(content[at + 4:at + 8], "little")
            continue
        if magic != 0xFD2FB528 or at + 5 > len(content):
            # The decoder says what is wrong with it.
            return total
        descriptor = content[at + 4]
        single = bool(descriptor & 0x20)
        at += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
        width = (int(single), 2, 4, 8)[descriptor >> 6]
        if not width:
            raise PlaneError("A chunk of the array does not state its unpacked size, so it is not "
                             "read. Write the array again with blosc.")
        total += int.from_bytes(content[at:at + width], "little") + (256 if width == 2 else 0)
        at += width
        last = False
        while not last and at < len(content):
            block = int.from_bytes(content[at:at + 3], "little")
            # A block of one repeated byte (type 1) has only that byte.
            last, at = bool(block & 1), at + 3 + (1 if block >> 1 & 3 == 1 else block >> 3)
        at += 4 * bool(descriptor & 4)
    return total


def _read_json(path: Path, name: str) -> dict[str, Any]:
    if path.is_symlink():
        raise PlaneError(f"{name} has a {path.name} that is a link, and links are not "
                         "followed. Copy the file there.")
    try:
        metadata = parse_json(read_file(path, MOST_JSON))
    except (OSError, ValueError) as error:
        raise PlaneError(f"{name} has a {path.name} that cannot be read: "
                         f"{getattr(error, 'strerror', None) or error}.") from None
    if not isinstance(metadata, dict):
        raise PlaneError(f"{name} has a {path.name} that is not a JSON object.")
    return metadata


def _header_v2(metadata: Mapping[str, Any]) -> tuple[Header, str, list[str]]:
    codecs = [codec["id"] for codec in [metadata["compressor"], *(metadata["filters"] or [])]
              if codec is not None]
    header = Header(2, tuple(map(int, metadata["shape"])), tuple(map(int, metadata["chunks"])),
                    tuple(codecs))
    return header, str(metadata["dtype"]), codecs


def _header_v3(metadata: Mapping[str, Any]) -> tuple[Header, str, list[str]]:
    chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    codecs, waiting = [], list(metadata["codecs"])
    while waiting:
        codec = waiting.pop()
        codecs.append(codec["name"])
        inside = codec.get("configuration") or {}
        waiting += [*inside.get("codecs", []), *inside.get("index_codecs", [])]
        if codec["name"] == "sharding_indexed":
            chunk = inside["chunk_shape"]
    header = Header(3, tuple(map(int, metadata["shape"])), tuple(map(int, chunk)),
                    tuple(codecs))
    return header, str(metadata["data_type"]), codecs
