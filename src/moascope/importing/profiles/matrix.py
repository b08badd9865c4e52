"""Arrays of NumPy: a matrix with a row per well or site, and a table that says of which."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.parquet import open_parquet
from moascope.importing.profiles.source import Batch, Named, Source, clean_text
from moascope.importing.profiles.text import open_text, rows_per_chunk
from moascope.opening import open_file
from moascope.screen.columns import recognise
from moascope.text import cause, counted, listing

MOST_AT_ONCE = 2**31
"""Most bytes of an array that cannot be read row by row."""

_MATRICES = ("features", "x", "profiles", "embeddings", "embedding", "data", "arr0")
_PICKLED = ("holds pickled Python objects, which could run code when they are loaded, so it is not "
            "read. Save numbers alone: numpy.save(path, values.astype('float32')).")


@dataclass(frozen=True)
class Stored:
    """An array in a .npy file, or in a .npz archive.

    Attributes
    ----------
    path : Path
    member : str
        Its name in the archive; "" for a .npy file.
    shape : tuple of int
    dtype : dtype
    by_columns : bool
        Whether columns follow one another (Fortran order).
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @property
    def is_number(self) -> bool:
        return self.dtype.kind in "fiu"

    def chunks(self) -> Iterator[np.ndarray]:
        """float32 [rows, columns], some rows at a time; a vector is one row per value."""
        width = math.prod(self.shape[1:])
        rows = self.shape[0]
        with _stream(self.path, self.member) as file:
            _header(file, self.name)
            step = rows_per_chunk(width) if not self.by_columns else rows
            size = width * self.dtype.itemsize
            if self.by_columns and rows * size > MOST_AT_ONCE:
                raise MoascopeError(f"{self.name} is stored column by column and too large to be "
                                    "read so. Save it by numpy.ascontiguousarray.")
            for start in range(0, rows, max(1, step)):
                count = min(step, rows - start)
                content = file.read(count * size)
                if len(content) < count * size:
                    raise MoascopeError(f"{self.name} is cut off: it has fewer rows than its "
                                        f"header says ({rows:,}). Copy it again.")
                values = np.frombuffer(content, self.dtype)
                shape = (width, count) if self.by_columns else (count, width)
                values = values.reshape(shape)
                with np.errstate(over="ignore"):
                    yield np.asarray(values.T if self.by_columns else values, np.float32)

    def text(self) -> pd.Series:
        """A vector as text."""
        if math.prod(self.shape) * self.dtype.itemsize > MOST_AT_ONCE:
            raise MoascopeError(f"{self.name} is too large for a column of text.")
        with _stream(self.path, self.member) as file:
            _header(file, self.name)
            content = file.read(math.prod(self.shape) * self.dtype.itemsize)
        values = np.frombuffer(content, self.dtype)
        if self.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "replace")
        return clean_text(pd.Series(values.astype(str), dtype="str"))


def list_arrays(path: Path) -> list[Stored]:
    """The arrays of a .npy or .npz file, by their headers; nothing is unpickled.

    Raises
    ------
    MoascopeError
        When it is damaged.
    """
    try:
        if path.name.lower().endswith(".npy"):
            return [_stored(path, "", path.stat().st_size)]
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        return [_stored(path, info.filename, info.file_size) for info in members]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise MoascopeError(f"{path} cannot be read: {cause(error)}. It may be cut off; copy it "
                            "again.") from None


def open_matrix(files: Sequence[Path], metadata: Path | None, named: Named) -> list[Source]:
    """Matrices as sources of profiles.

    Parameters
    ----------
    files : sequence of Path
    metadata : Path, optional
        A table with a row per row of the matrix, in the same order. Without it, vectors of the same
        length in a .npz file are its columns.
    named : Named

    Raises
    ------
    MoascopeError
        When a matrix cannot be read, or the table has another number of rows.
    """
    if metadata is not None and len(files) > 1:
        raise MoascopeError(f"--metadata describes the rows of one matrix, and {len(files):,} are "
                            f"given ({listing(file.name for file in files)}). Import them one by "
                            "one, or join them.")
    return [_open_one(file, metadata, named) for file in files]


def _open_one(path: Path, metadata: Path | None, named: Named) -> Source:
    arrays = list_arrays(path)
    matrix = _the_matrix(path, arrays)
    count, width = matrix.shape
    vectors = [array for array in arrays if len(array.shape) == 1 and not array.dtype.hasobject]
    titles = next((array.text().tolist() for array in vectors if array.shape[0] == width
                   and array.dtype.kind in "US" and array.shape[0] != count), None)
    features = tuple(titles if titles and len(set(titles)) == width else
                     (f"Feature_{at + 1}" for at in range(width)))
    if metadata is not None:
        said, notes = _read_metadata(metadata, named)
        if len(said) != count:
            raise MoascopeError(f"{metadata} has {counted(len(said), 'row')} and {matrix.name} "
                                f"{count:,}. Give a table with one row per row of the matrix, in "
                                "the same order.")
    else:
        said = pd.DataFrame({_column(array): array.text() for array in vectors
                             if array.shape[0] == count}, index=range(count), dtype="str")
        notes = []
        if said.empty:
            raise MoascopeError(f"{path} does not say which wells its {count:,} rows are of. Give "
                                "a table with one row per row of the matrix, with plate, well and "
                                "compound, by --metadata.")

    def read(scratch: Path) -> Iterator[Batch]:
        start = 0
        for values in matrix.chunks():
            part = said.iloc[start:start + len(values)].reset_index(drop=True)
            start += len(values)
            yield Batch(part, values)

    others = [_key(array) for array in arrays if len(array.shape) == 2 and array.is_number
              and array != matrix]
    if others:
        notes.append(f"{path.name}: {_key(matrix)} is read, and {listing(others)} not.")
    return Source(path.name, tuple(said.columns), features, read, tuple(notes))


def _the_matrix(path: Path, arrays: Sequence[Stored]) -> Stored:
    pickled = [array for array in arrays if array.dtype.hasobject]
    matrices = [array for array in arrays if len(array.shape) == 2 and array.is_number]
    if not matrices:
        if pickled:
            raise MoascopeError(f"{pickled[0].name} {_PICKLED}")
        shapes = listing(f"{array.name} {array.shape} {array.dtype}" for array in arrays)
        raise MoascopeError(f"{path} holds no matrix of numbers (rows x features): "
                            f"{shapes or 'it is empty'}.")
    if len(matrices) > 1:
        by_name = {_key(array).lower().replace("_", ""): array for array in matrices}
        known = [by_name[name] for name in _MATRICES if name in by_name]
        if not known:
            raise MoascopeError(f"{path} holds several matrices: "
                                f"{listing(_key(array) for array in matrices)}. Save one alone, or "
                                "call it features.")
        return known[0]
    return matrices[0]


def _read_metadata(path: Path, named: Named) -> tuple[pd.DataFrame, list[str]]:
    """All columns of a table as text."""
    if path.name.lower().endswith((".parquet", ".pq")):
        source = open_parquet(path, named, as_text=True)
    else:
        source = open_text(path, named, as_text=True)
    parts = [batch.about for batch in source.read(path.parent)]
    said = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=source.about)
    return said, list(source.notes)


def _column(array: Stored) -> str:
    """What a vector of an archive is called as a column: plates is the plate of each row."""
    key = _key(array)
    one = key.removesuffix("s")
    known = [bool(recognise([name], "profiles").columns) for name in (key, one)]
    return one if known == [False, True] else key


def _key(array: Stored) -> str:
    return array.member.removesuffix(".npy")


def _stored(path: Path, member: str, size: int) -> Stored:
    with _stream(path, member) as file:
        shape, by_columns, dtype = _header(file, f"{path.name}:{member}" if member else path.name)
    array = Stored(path, member, shape, dtype, by_columns)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise MoascopeError(f"{array.name} is cut off: its header says {shape} {dtype}, which is "
                            f"more than its {size:,} bytes. Copy it again.")
    return array


def _header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        return read(file)
    except (ValueError, EOFError, SyntaxError, TypeError, MemoryError,
            tokenize.TokenError) as error:
        raise MoascopeError(f"{name} is not an array of NumPy: {cause(error)}. Save it by "
                            "numpy.save or numpy.savez.") from None


@contextmanager
def _stream(path: Path, member: str) -> Iterator[BinaryIO | Any]:
    try:
        with open_file(path) as file:
            if not member:
                yield file
                return
            with zipfile.ZipFile(file) as archive, archive.open(member) as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError,
            NotImplementedError) as error:
        raise MoascopeError(f"{path} cannot be read: {cause(error)}. It may be cut off; copy it "
                            "again.") from None
