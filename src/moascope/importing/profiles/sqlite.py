"""SQLite of CellProfiler: Per_Image and Per_Object, or Image and Cells as collected per plate."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.cells import Objects, open_cells
from moascope.importing.profiles.source import Average, Named, Source, clean_text
from moascope.importing.profiles.text import rows_per_chunk
from moascope.opening import open_file
from moascope.text import cause, listing

_MAGIC = b"SQLite format 3\0"
_KEYS = ("TableNumber", "ImageNumber")
_OF_IMAGES = re.compile(r"(?:.*_)?(?:per_)?images?", re.IGNORECASE)
_OF_OBJECTS = re.compile(r"(?:.*_)?per_", re.IGNORECASE)
# A Python number takes about eight times the bytes of one on disk.
_LARGER = 8


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database, judged by its first bytes."""
    try:
        with open_file(path) as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def open_sqlite(path: Path, named: Named, how: Average) -> Source:
    """A database of images and objects as a source of profiles per well.

    Parameters
    ----------
    path : Path
    named : Named
    how : {"median", "mean"}

    Raises
    ------
    MoascopeError
        When it is not a database of CellProfiler.
    """
    if not is_sqlite(path):
        raise MoascopeError(f"{path} is not a SQLite database. Name the file that CellProfiler or "
                            "cytominer-database wrote, or say what it is by --kind.")
    with _connected(path) as database:
        tables = {name: _columns(database, name) for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")}
        image = next((name for name, columns in tables.items()
                      if _OF_IMAGES.fullmatch(name) and "ImageNumber" in columns), None)
        objects = [name for name, columns in tables.items()
                   if name != image and "ImageNumber" in columns and any(
                       column.endswith(("ObjectNumber", "Number_Object_Number"))
                       for column in columns)]
        if image is None or not objects:
            raise MoascopeError(
                f"{path} is SQLite, but not of CellProfiler: it needs a table of images (Image or "
                "Per_Image) and one of objects (such as Cells or Per_Object), both with the column "
                f"ImageNumber. Its tables are {listing(tables) or 'none'}.")
        keys = [key for key in _KEYS if all(key in tables[name] for name in (image, *objects))]
        images = _read_images(database, image, tables[image], keys)
    if images.index.has_duplicates:
        raise MoascopeError(f"{path}: the table {image} has image "
                            f"{images.index[images.index.duplicated()][0]} twice.")
    # What the table of images and those of objects begin with is the name of the project.
    project = re.sub(r"(per_)?images?$", "", image, flags=re.IGNORECASE)
    parts = [_objects(path, name, project, tables[name], keys) for name in objects]
    return open_cells(path.name, images, parts, named, how)


def _read_images(database: sqlite3.Connection, table: str, columns: dict[str, str],
                 keys: Sequence[str]) -> pd.DataFrame:
    about = [column for column in columns
             if re.match(r"(image_)?metadata_", column, re.IGNORECASE)]
    rows = database.execute(f"SELECT {_quoted([*keys, *about])} FROM {_quoted([table])}").fetchall()
    images = pd.DataFrame(rows, columns=pd.Index([*keys, *about]), dtype=object).map(
        lambda value: "" if value is None else str(value))
    index = images[list(keys)].agg("\n".join, axis=1)
    return images[about].apply(clean_text).set_axis(index, axis=0)


def _objects(path: Path, table: str, project: str, columns: dict[str, str],
             keys: Sequence[str]) -> Objects:
    name = _OF_OBJECTS.sub("", table.removeprefix(project))
    name = "" if name.lower() == "object" else name[:1].upper() + name[1:]
    numeric = [column for column, kind in columns.items()
               if re.match(r"(REAL|FLOA|DOUB|INT|BIGINT|NUM|MEDIUMINT|SMALLINT|TINYINT)", kind)
               and column not in (*_KEYS, "ObjectNumber", "index")
               and not column.endswith("Number_Object_Number")
               and not re.match(r"(image_)?metadata_", column, re.IGNORECASE)]
    features = tuple(column if not name or column.startswith(f"{name}_") else f"{name}_{column}"
                     for column in numeric)

    def read() -> Iterator[tuple[pd.Series, np.ndarray]]:
        step = max(1, rows_per_chunk(len(numeric)) // _LARGER)
        with _connected(path) as database:
            found = database.execute(
                f"SELECT {_quoted([*keys, *numeric])} FROM {_quoted([table])}")
            while rows := found.fetchmany(step):
                key = pd.Series(["\n".join(map(str, row[:len(keys)])) for row in rows])
                try:
                    values = np.array([row[len(keys):] for row in rows], np.float64)
                except (TypeError, ValueError):
                    raise MoascopeError(f"{path}: the table {table} holds text in a column of "
                                        "numbers. Export it again.") from None
                with np.errstate(over="ignore"):
                    yield key, values.astype(np.float32)

    return Objects(name, features, read)


def _columns(database: sqlite3.Connection, table: str) -> dict[str, str]:
    return {row[1]: str(row[2]).upper() for row in database.execute(
        f"PRAGMA table_info({_quoted([table])})")}


def _quoted(names: Sequence[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


class _connected:
    """A database that is only read; what it cannot do is told in a sentence."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._database = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)
            self._database.execute("PRAGMA trusted_schema = OFF")
        except sqlite3.Error as error:
            raise self._sentence(error) from None
        return self._database

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            raise self._sentence(error) from None

    def _sentence(self, error: sqlite3.Error) -> MoascopeError:
        return MoascopeError(f"{self._path} cannot be read as SQLite: {cause(error)}. Copy it "
                             "again if it was cut off.")
