"""A project that was moved or copied: its database follows, so that runs and models are its own.

MLflow writes absolute paths: of experiments, runs, models and data. In a copy they lead to the
original, whose files a run of the copy would then write to; after a move they lead nowhere.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import quote, unquote

from moascope.errors import MoascopeError

DATABASE, ARTIFACTS = "mlflow.db", "mlruns"
# Where MLflow's tables hold paths of artifacts.
COLUMNS = (("experiments", "artifact_location"), ("runs", "artifact_uri"),
           ("logged_models", "artifact_location"), ("model_versions", "source"),
           ("model_versions", "storage_location"))
# Seconds to wait for another process that writes.
WAIT = 30.0


def follow_project(root: Path) -> None:
    """Correct the paths in a project's database where they are those of another place.

    Paths that somebody chose, such as a large disk for artifacts, stay. All is done in one
    transaction, and said on stderr.

    Parameters
    ----------
    root : Path
        Of the project, with `mlflow.db` and `mlruns`.

    Raises
    ------
    MoascopeError
        Where the database cannot be read or corrected.
    """
    database = root / DATABASE
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=WAIT)) as connection:
            moved = _moved(connection, root)
            if not moved:
                return
            with connection:   # one transaction
                connection.execute("BEGIN IMMEDIATE")
                # Another process may have been quicker.
                moved = _moved(connection, root)
                corrected = sum(_correct(connection, old, root) for old in moved)
    except sqlite3.Error as error:
        raise MoascopeError(
            f"{database} cannot be used: {error}. It must be a database of MLflow that may be "
            "written to, because it holds paths of this project, which has been moved or copied. "
            "Restore it from a backup, or remove it to begin with an empty one.") from None
    if corrected:
        most = max(moved, key=lambda old: moved[old])
        print(f"This project was at {_path(most)} and is now at {root}: "
              f"{corrected} paths in {DATABASE} are corrected, so that its runs and models are "
              "found here.", file=sys.stderr)


def _moved(connection: sqlite3.Connection, root: Path) -> dict[str, int]:
    """Former places of this project, as spelt in the database, and how many paths lead there."""
    counts: Counter[str] = Counter()
    held: dict[str, bool] = {}
    for table, column in _columns(connection):
        for value, in connection.execute(f"SELECT {column} FROM {table}"):
            old, rest = _parts(value or "")
            if old:
                counts[old] += 1
                held[old] = held.get(old, False) or bool(
                    rest and (root / ARTIFACTS / rest).exists())
    return {old: count for old, count in counts.items() if _was_here(old, root, held[old])}


def _was_here(old: str, root: Path, held: bool) -> bool:
    place = Path(_path(old))
    # A temporary workspace inside the project is no former place of it.
    if place.resolve().is_relative_to(root):
        return False
    return held or not (place / ARTIFACTS).exists() or (place / DATABASE).exists()


def _correct(connection: sqlite3.Connection, old: str, root: Path) -> int:
    new = f"file://{quote(root.as_posix())}" if old.startswith("file:") else root.as_posix()
    corrected = 0
    for table, column in _columns(connection):
        corrected += connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (new, len(old) + 1, f"{old}/{ARTIFACTS}", len(old) + len(ARTIFACTS) + 2,
             f"{old}/{ARTIFACTS}/")).rowcount
    if ("datasets",) in connection.execute("SELECT name FROM sqlite_master").fetchall():
        before = f'"uri": "{_path(old)}/data/'
        connection.execute(
            "UPDATE datasets SET dataset_source = replace(dataset_source, ?, ?)",
            (before, f'"uri": "{root.as_posix()}/data/'))
    return corrected


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Those of `COLUMNS` that this version of MLflow's database has."""
    return [(table, column) for table, column in COLUMNS
            if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}]


def _parts(value: str) -> tuple[str, str]:
    """The place before `/mlruns`, as spelt, and the decoded path behind it; empty elsewhere."""
    if not value.startswith(("/", "file:/")):
        return "", ""
    old, separator, rest = f"{value}/".rpartition(f"/{ARTIFACTS}/")
    return (old, unquote(rest).strip("/")) if separator else ("", "")


def _path(old: str) -> str:
    return unquote(old.removeprefix("file:").removeprefix("//")) if old.startswith("file:") else old
