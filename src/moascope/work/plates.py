"""Work plate by plate, in parallel, and only where something changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.work.files import is_partial
from moascope.work.processes import ended_worker, run_parallel

KEY_FILE = "key.txt"
_PARTIAL = ".partial-"
_STALE = ".stale-"


def update_plates(out: Path, keys: Mapping[str, str], work: Callable[[str, Path], None],
                  jobs: int, label: str) -> tuple[int, int]:
    """Bring a folder of plates up to date.

    Parameters
    ----------
    out : Path
        The folder; each plate has a folder of its name in it, with `key.txt` beside its files.
    keys : mapping of str to str
        For each plate a digest of all that its result depends on. A plate whose folder bears
        another key is made anew, one that is not named here is removed.
    work : callable
        `work(plate, folder)` writes the plate's files into the empty `folder`. With `jobs` above 1
        it is called in other processes, so it must be a function of a module or a
        `functools.partial` of one.
    jobs : int
        How many processes; 1 works in this one.
    label : str
        What the progress bar calls the work.

    Returns
    -------
    tuple of int
        How many plates were made and how many were kept.

    Raises
    ------
    MoascopeError
        When `work` raised it for some plates. The other plates are finished before, and what is
        finished is kept: a plate appears under its name only when it is complete, so that a call
        that is killed is gone on with by the next one.
    """
    out.mkdir(parents=True, exist_ok=True)
    for entry in out.iterdir():
        if entry.is_dir() and entry.name not in keys:
            shutil.rmtree(entry)
        elif is_partial(entry):
            # Of a call that was killed; DVC would take it for a part of the result.
            entry.unlink()
    due = due_plates(out, keys)
    tasks = {plate: (work, plate, out, keys[plate]) for plate in due}
    failures: dict[str, BaseException] = {}
    for plate, outcome in run_parallel(_make_plate, tasks, jobs, label):
        if isinstance(outcome, BaseException):
            failures[plate] = outcome
    _raise_failures(failures, label, len(due))
    return len(due), len(keys) - len(due)


def due_plates(out: Path, keys: Mapping[str, str]) -> list[str]:
    """Plates that `update_plates` would make."""
    return [plate for plate in keys if _read_key(out / plate) != keys[plate]]


def make_plate(plate: str, out: Path, work: Callable[[Path], str | None]) -> None:
    """Make the folder of a plate, which appears whole or not at all.

    Parameters
    ----------
    plate : str
    out : Path
        The folder of plates; what it holds under this name is replaced.
    work : callable
        `work(folder)` writes the plate's files into the empty `folder` and gives its key, or None
        where they are not to be kept.
    """
    partial = out / f"{_PARTIAL}{plate}"
    partial.mkdir()
    try:
        key = work(partial)
        if key is not None:
            (partial / KEY_FILE).write_text(key + "\n")
            _replace(partial, out / plate)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def take_plates(made: Path, out: Path, keys: Mapping[str, str]) -> int:
    """Move plates that `make_plate` made in one folder to another; the rest of them is removed.

    Parameters
    ----------
    made : Path
        Is gone afterwards; it need not be there.
    out : Path
        Plates of the wanted keys that it holds already stay.
    keys : mapping of str to str
        The wanted key of each plate; a plate with another one is not moved.

    Returns
    -------
    int
        How many plates were moved.
    """
    out.mkdir(parents=True, exist_ok=True)
    taken = [plate for plate in due_plates(out, keys) if _read_key(made / plate) == keys[plate]]
    for plate in taken:
        partial = out / f"{_PARTIAL}{plate}"
        shutil.rmtree(partial, ignore_errors=True)
        # The other folder may be on another disk.
        shutil.move(made / plate, partial)
        _replace(partial, out / plate)
    shutil.rmtree(made, ignore_errors=True)
    return len(taken)


def _make_plate(work: Callable[[str, Path], None], plate: str, out: Path, key: str) -> None:
    def keyed(folder: Path) -> str:
        work(plate, folder)
        return key

    make_plate(plate, out, keyed)


def _replace(partial: Path, final: Path) -> None:
    stale = final.with_name(f"{_STALE}{final.name}")
    try:
        if final.exists():
            final.rename(stale)
        partial.rename(final)
    finally:
        shutil.rmtree(stale, ignore_errors=True)


def _read_key(folder: Path) -> str | None:
    try:
        return (folder / KEY_FILE).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _raise_failures(failures: Mapping[str, BaseException], label: str, due: int) -> None:
    problems: list[str] = []
    for plate, failure in failures.items():
        if isinstance(failure, BrokenProcessPool):
            problems.append(ended_worker(label, due - len(failures), due, "plate", kept=True))
        elif isinstance(failure, MoascopeError):
            problems += failure.problems
        else:
            failure.add_note(f"{label}: while working on plate {plate}")
            raise failure
    if problems:
        raise MoascopeError(dict.fromkeys(problems))


