"""AnnData: a matrix of profiles with a table of its rows, in one .h5ad file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.source import Batch, Named, Source, clean_text
from moascope.importing.profiles.text import rows_per_chunk
from moascope.text import cause, counted, listing

_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


def open_anndata(path: Path, named: Named) -> Source:
    """A .h5ad file as a source of profiles, with obs as what is said about its rows.

    The profiles are X; in a file without X, its only layer or its only matrix in obsm.

    Raises
    ------
    MoascopeError
        When it cannot be read, or the extra `anndata` is not installed.
    """
    data = _open(path)
    try:
        where, name = _the_matrix(path, data)
        features = tuple(str(name) for name in data.var_names) if where != "obsm" else tuple(
            f"{name}_{at + 1}" for at in range(data.obsm[name].shape[1]))
        if len(set(features)) < len(features):
            raise MoascopeError(f"{path} has features of the same name in var. Rename them, for "
                                "example by var_names_make_unique.")
        obs = data.obs
        said = pd.DataFrame({str(column): clean_text(_text(obs[column])) for column in obs},
                            index=obs.index, dtype="str").reset_index(drop=True)
        notes = []
        if where != "X":
            notes.append(f"{path.name} has no X; {where}['{name}'] is read.")
        elif len(data.layers):
            notes.append(f"{path.name}: X is read, and {counted(len(data.layers), 'layer')} not: "
                         f"{listing(data.layers)}.")
        rows = data.n_obs
    finally:
        data.file.close()

    def read(scratch: Path) -> Iterator[Batch]:
        data = _open(path)
        try:
            step = rows_per_chunk(len(features))
            try:
                # A sparse matrix is small enough to be held.
                X = data.X if where == "X" else getattr(data, where)[name]
                X = X.to_memory() if hasattr(X, "to_memory") else X
            except _UNREADABLE as error:
                raise _unreadable(path, error) from None
            for start in range(0, rows, step):
                try:
                    part = X[start:start + step]
                except _UNREADABLE as error:
                    raise _unreadable(path, error) from None
                values = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
                with np.errstate(over="ignore"):
                    yield Batch(said.iloc[start:start + step].reset_index(drop=True),
                                values.astype(np.float32))
        finally:
            data.file.close()

    return Source(path.name, tuple(said.columns), features, read, tuple(notes))


def _the_matrix(path: Path, data: Any) -> tuple[str, str]:
    """Where the profiles are, and by which name: X, or the only layer or matrix of obsm."""
    # A file on disk without X raises in place of giving none.
    if _has_x(data):
        return "X", ""
    for where in ("layers", "obsm"):
        names = list(getattr(data, where))
        if len(names) == 1:
            return where, names[0]
        if names:
            break
    raise MoascopeError(f"{path} has no matrix X. Its layers are {listing(data.layers) or 'none'}, "
                        f"and its obsm {listing(data.obsm) or 'none'}. Save the profiles as X.")


def _has_x(data: Any) -> bool:
    try:
        return data.X is not None
    except KeyError:
        return False


def _text(column: Any) -> pd.Series:
    if pd.api.types.is_float_dtype(column):
        known = column.dropna()
        if len(known) and (known == known.round()).all() and (known.abs() < 2**53).all():
            return column.map(lambda number: "" if number != number else str(int(number)))
    return column.astype("object").where(column.notna(), "").astype("str")


def _open(path: Path) -> Any:
    try:
        import anndata
    except ImportError:
        raise MoascopeError(f"{path} needs the package anndata. Install it by "
                            "`pip install 'moascope[anndata]'`.") from None
    try:
        return anndata.read_h5ad(path, backed="r")
    except Exception as error:
        # What a damaged file raises is of many kinds, some of anndata's own.
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: BaseException) -> MoascopeError:
    return MoascopeError(f"{path} cannot be read as AnnData: {cause(error)}. Copy it again if it "
                         "was cut off.")
