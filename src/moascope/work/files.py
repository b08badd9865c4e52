"""Files that appear whole or not at all, and the one way to write JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ROWS_AT_ONCE = 2**17

def write_atomically(path: Path, content: str | bytes | Iterable[bytes]) -> None:
    """Write a file that is either there whole or not at all, at once or part by part."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        if isinstance(content, (str, bytes)):
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            with partial.open("wb") as file:
                file.writelines(content)
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # An error of writing does not say which file it was.
            error.filename = error.filename or str(path)
        raise


def is_partial(path: Path) -> bool:
    """Whether a file is what `write_atomically` had written when it was killed."""
    return path.name.startswith(".") and path.name.endswith(".partial") and path.is_file()


def write_json(path: Path, content: Any, digits: int | None = None) -> None:
    """Write JSON for people and for git: sorted keys, an indent of two, a newline at the end.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    content
        Anything that JSON can hold.
    digits : int, optional
        Decimals that numbers are rounded to; see `rounded`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if digits is not None:
        content = rounded(content, digits)
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame, digits: int | None = None) -> None:
    """Write a table without its index, with the same line ends on every system.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    table : DataFrame
    digits : int, optional
        Decimals that numbers are rounded to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if digits is not None:
        table = table.round(digits)
    # The text of millions of rows is larger than their table.
    write_atomically(path, (
        table.iloc[start:start + _ROWS_AT_ONCE].to_csv(
            index=False, header=not start, lineterminator="\n").encode()
        for start in range(0, max(len(table), 1), _ROWS_AT_ONCE)))


def rounded(value: Any, digits: int = 6) -> Any:
    """Numbers rounded, so that the last bits of a platform make no difference to git.

    Keys become text, tuples become lists, NumPy's numbers become Python's, and what is not finite
    becomes None, because JSON has no word for it.
    """
    if isinstance(value, dict):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if hasattr(value, "dtype") and value.ndim == 0:
        value = value.item()
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
