"""MLflow's database file: made whole or not at all.

MLflow makes its tables one after the other, in seconds, in the file itself. Of one that was killed
meanwhile it says for ever that a table exists already.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

# What SQLite itself may leave beside a database.
_BESIDE = ("", "-journal", "-wal", "-shm")


@contextlib.contextmanager
def alone_with(database: Path | None) -> Iterator[None]:
    """Keep other processes on this machine out while the database is a file."""
    if database is None:
        yield
        return
    with FileLock(f"{database}.lock"):
        yield


def make_database(database: Path, artifacts: Path) -> None:
    """Make MLflow's database where there is none.

    Parameters
    ----------
    database : Path
    artifacts : Path
        Folder for the artifacts of MLflow's own first experiment.
    """
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with alone_with(database):
        if database.exists():
            return
        partial = database.with_name(f"{database.name}.partial")
        _remove(partial)
        try:
            store = SqlAlchemyStore(f"sqlite:///{partial}", str(artifacts))
            store.engine.dispose()
            partial.replace(database)
        finally:
            _remove(partial)


def remove_half_made(database: Path) -> None:
    """Remove a database that was being made when its maker was killed; nothing is in it yet."""
    if not database.exists() or not _is_half_made(database):
        return
    with alone_with(database):
        if _is_half_made(database):
            _remove(database)


def _is_half_made(database: Path) -> bool:
    """Whether there is no experiment in it: the first is MLflow's own, and made last."""
    if not database.stat().st_size:
        return True
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return connection.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is None
    except sqlite3.Error:
        return False   # another kind of database, or none at all: not ours to remove


def _remove(database: Path) -> None:
    for ending in _BESIDE:
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
