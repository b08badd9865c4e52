"""Tables of features that lie on disk, because memory is not asked to hold them."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moascope.errors import MoascopeError

MOST_IN_MEMORY = 2**29
"""Bytes of a table above which it lies on disk. What is computed from it takes several times as
much."""

PIECE = 2**26
"""Bytes that are read and computed with at once."""

_FREE_AFTERWARDS = 2**28


class File:
    """A file without a name: it is gone when nobody reads it any more, or the process ends."""

    def __init__(self, folder: Path):
        self._file = tempfile.TemporaryFile(dir=folder)   # noqa: SIM115
        # A network may be fed by a thread of its own, and a file has one position.
        self._alone = threading.Lock()

    def write(self, piece: np.ndarray) -> None:
        """Append rows."""
        self._file.write(np.ascontiguousarray(piece, np.float32).data)

    def finish(self) -> None:
        """Write what is still held back, so that a full disk shows here and not at a read."""
        self._file.flush()

    def read_into(self, rows: np.ndarray, start: int) -> None:
        """Fill an array with what begins at a byte.

        Raises
        ------
        OSError
            Where there is less than the array holds.
        """
        with self._alone:
            self._file.seek(start)
            if self._file.readinto(rows.data) != rows.nbytes:
                raise OSError("features that lie on disk cannot be read back")

    def __del__(self) -> None:
        self._file.close()


class OnDisk:
    """Rows and columns of a table of float32 in a file, which are read when they are asked for.

    Parameters
    ----------
    file : File
        Row after row.
    folder : Path
        Where tables that are computed from this one lie.
    width : int
        Columns of the file.
    rows, columns : ndarray, int, [n] and [d]
        Which of the file belong to this table, in this order; all columns where none is named.
    beside : ndarray, float32, [n, p], optional
        Further columns, which are in memory.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, file: File, folder: Path, width: int, rows: np.ndarray,
                 columns: np.ndarray | None = None, beside: np.ndarray | None = None):
        self.file, self.folder, self.width = file, folder, width
        self.rows, self.columns, self.beside = rows, columns, beside

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d + p)."""
        own = self.width if self.columns is None else len(self.columns)
        return len(self.rows), own + (0 if self.beside is None else self.beside.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """float32, [rows, d + p]: some of the rows, as numpy indexes them, in memory."""
        at = self.rows[rows]
        found = np.empty((len(at), self.width), np.float32)
        # Rows that are neighbours in the file are read together.
        bounds = np.flatnonzero(np.diff(at, prepend=-2, append=-2) != 1) if len(at) else []
        for start, end in itertools.pairwise(bounds):
            self.file.read_into(found[start:end], int(at[start]) * self.width * 4)
        if self.columns is not None:
            found = found[:, self.columns]
        return found if self.beside is None else np.hstack([found, self.beside[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        # What takes it for an array gets one, whole.
        return self[:].astype(dtype or np.float32, copy=False)

    def take(self, rows: np.ndarray) -> OnDisk:
        """Some of the rows, still on disk."""
        return OnDisk(self.file, self.folder, self.width, self.rows[rows], self.columns,
                      None if self.beside is None else self.beside[rows])


def written(shape: tuple[int, int], pieces: Iterable[np.ndarray], folder: Path) -> OnDisk:
    """Write a table to disk, piece by piece.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the whole table.
    pieces : iterable of ndarray, float32, [rows, columns]
        One after the other.
    folder : Path
        On the disk that takes it.

    Raises
    ------
    MoascopeError
        Where the disk has no room for it.
    """
    needed, free = 4 * shape[0] * shape[1], shutil.disk_usage(folder).free
    if needed + _FREE_AFTERWARDS > free:
        raise MoascopeError(
            f"The features of {shape[0]:,} rows take {needed / 2**30:.1f} GiB on the disk of "
            f"{folder} while this runs, and {free / 2**30:.1f} GiB of it are free. Free more, or "
            "use a backbone with fewer features (params.yaml: embed.backbone).")
    file = File(folder)
    try:
        for piece in pieces:
            file.write(piece)
        file.finish()
    except OSError as error:
        # An error of writing does not say which file it was.
        error.filename = str(folder)
        raise
    return OnDisk(file, folder, shape[1], np.arange(shape[0]))


def is_large(shape: tuple[int, int]) -> bool:
    """Whether a table of float32 of this shape belongs on disk."""
    return 4 * shape[0] * shape[1] > MOST_IN_MEMORY


def portions(count: int, row_bytes: int) -> Iterator[slice]:
    """Slices of `count` rows that are about `PIECE` bytes each."""
    step = max(1, PIECE // max(1, row_bytes))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def pieces(X: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows of a table in order, a piece at a time; of one in memory, all at once.

    Parameters
    ----------
    X : ndarray or OnDisk, float32, [n, d]

    Yields
    ------
    at : slice
        Which rows.
    piece : ndarray, float32, [rows, d]
    """
    if not isinstance(X, OnDisk):
        yield slice(0, len(X)), X
        return
    if not len(X):
        yield slice(0, 0), np.empty(X.shape, np.float32)
    # Whole rows of the file are read, also where few of its columns are wanted.
    for at in portions(len(X), 4 * max(X.width, X.shape[1])):
        yield at, X[at]


def mapped(X: Any, function: Callable[[slice, np.ndarray], np.ndarray]) -> Any:
    """A table of the same shape whose rows are computed from those of another.

    Parameters
    ----------
    X : ndarray or OnDisk, float32, [n, d]
    function : callable
        From which rows, and the rows, to rows.

    Returns
    -------
    ndarray or OnDisk, [n, d]
        Where `X` is.
    """
    if not isinstance(X, OnDisk):
        return function(slice(0, len(X)), X)
    return written(X.shape, (function(at, piece) for at, piece in pieces(X)), X.folder)


def rows_of(X: Any, rows: np.ndarray) -> Any:
    """Some of the rows of a table, where it is."""
    return X.take(rows) if isinstance(X, OnDisk) else X[rows]


def columns_of(X: Any, columns: np.ndarray) -> Any:
    """Some of the columns of a table: in memory if they fit there, else where it is.

    Parameters
    ----------
    X : ndarray or OnDisk, [n, d]
    columns : ndarray, int, [k]
    """
    if not isinstance(X, OnDisk):
        return X[:, columns]
    if X.beside is not None:
        raise ValueError("columns are chosen before others are put beside them")
    own = columns if X.columns is None else X.columns[columns]
    chosen = OnDisk(X.file, X.folder, X.width, X.rows, np.asarray(own, int))
    if is_large(chosen.shape):
        return chosen
    found = np.empty(chosen.shape, np.float32)
    if found.size:
        for at in portions(len(X), 4 * X.width):
            found[at] = chosen[at]
    return found


def with_beside(X: Any, columns: np.ndarray) -> Any:
    """A table with further columns at its end.

    Parameters
    ----------
    X : ndarray or OnDisk, float32, [n, d]
    columns : ndarray, float32, [n, p]
    """
    if not isinstance(X, OnDisk):
        return np.hstack([X, columns])
    return OnDisk(X.file, X.folder, X.width, X.rows, X.columns, columns)


def averaged(matrix: Any, X: Any) -> np.ndarray:
    """The product of a sparse matrix and a table.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array, [units, n]
        As `learning.examples.averaging` gives it.
    X : ndarray or OnDisk, float32, [n, d]

    Returns
    -------
    ndarray, float32, [units, d]
        In memory, because units are few.
    """
    if not isinstance(X, OnDisk):
        return matrix @ X
    found = np.zeros((matrix.shape[0], X.shape[1]), np.float32)
    by_row = matrix.tocsc()
    for at, piece in pieces(X):
        found += by_row[:, at] @ piece
    return found


def combined(matrix: Any, X: Any, finish: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The product of a sparse matrix and a table, where both sides have many rows.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array, [units, n]
    X : ndarray or OnDisk, float32, [n, d]
    finish : callable
        From rows of the product to what becomes of them.

    Returns
    -------
    ndarray or OnDisk, float32, [units, d]
        On disk where `X` is and the product is large.
    """
    if not isinstance(X, OnDisk):
        return finish((matrix @ X).astype(np.float32))

    def products() -> Iterator[np.ndarray]:
        most = int(np.diff(matrix.indptr).max(initial=1))
        for at in portions(matrix.shape[0], 4 * max(X.width, X.shape[1]) * most):
            own = matrix[at]
            rows = np.unique(own.indices)
            yield finish((own[:, rows] @ X[rows]).astype(np.float32))

    shape = matrix.shape[0], X.shape[1]
    return (written(shape, products(), X.folder) if is_large(shape)
            else np.concatenate([np.empty((0, shape[1]), np.float32), *products()]))


def covariance_of(X: OnDisk) -> tuple[np.ndarray, np.ndarray]:
    """The mean of rows, float64 [d], and their covariance, float64 [d, d]."""
    count, width = X.shape
    mean, products = np.zeros(width), np.zeros((width, width))
    for _, piece in pieces(X):
        mean += piece.sum(axis=0, dtype=np.float64) / count
    for _, piece in pieces(X):
        centred = piece - mean
        products += centred.T @ centred
    return mean, products / (count - 1)
