"""Work plate by plate, in parallel, and only where something changed."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from moascope.errors import MoascopeError
from moascope.work.files import is_partial
from moascope.work.parcels import Parcel, packed, unpack, unpacked_once
from moascope.work.processes import ended_worker, run_parallel
from moascope.work.ray import RAY

KEY_FILE = "key.txt"
_PARTIAL = ".partial-"
_STALE = ".stale-"


def update_plates(out: Path, keys: Mapping[str, str], work: Callable[..., None], jobs: int,
                  label: str, carried: Sequence[Path | None] = (), seen: Path | None = None,
                  ) -> tuple[int, int]:
    """Bring a folder of plates up to date.

    Parameters
    ----------
    out : Path
        The folder; each plate has a folder of its name in it, with `key.txt` beside its files.
    keys : mapping of str to str
        For each plate a digest of all that its result depends on. A plate whose folder bears
        another key is made anew, one that is not named here is removed.
    work : callable
        `work(plate, folder, *carried)` writes the plate's files into the empty `folder`. With
        `jobs` above 1 it is called in other processes, so it must be a function of a module or a
        `functools.partial` of one.
    jobs : int
        How many processes; 1 works in this one.
    label : str
        What the progress bar calls the work.
    carried, seen
        As in `make_plates`.

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
    failures: dict[str, BaseException] = {}
    for plate, outcome in make_plates(out, {plate: keys[plate] for plate in due}, work, jobs,
                                      label, carried, seen):
        if isinstance(outcome, BaseException):
            failures[plate] = outcome
    _raise_failures(failures, label, len(due))
    return len(due), len(keys) - len(due)


def due_plates(out: Path, keys: Mapping[str, str]) -> list[str]:
    """Plates that `update_plates` would make."""
    return [plate for plate in keys if _read_key(out / plate) != keys[plate]]


def make_plates(out: Path, keys: Mapping[str, str | None], work: Callable[..., Any], jobs: int,
                label: str, carried: Sequence[Path | None] = (), seen: Path | None = None,
                ) -> Iterator[tuple[str, Any]]:
    """Make plates in parallel, each of which appears whole or not at all.

    Parameters
    ----------
    out : Path
        The folder of plates; what it holds of these is replaced.
    keys : mapping of str to str
        The key of each plate; where it is None, `work` writes `key.txt`, or does not, and then the
        plate is not kept.
    work, jobs, label
        As in `update_plates`.
    carried : sequence of Path
        What `work` reads and machines of a cluster do not see: files, and folders that hold a
        folder or a Parquet file of each plate's name. There `work` gets other paths to what
        belongs to its plate.
    seen : Path, optional
        A file that they do have to see, in a folder that `work` reads, too.

    Yields
    ------
    tuple
        A plate, and what `work` returned or the exception that it raised, in the order of
        completion.
    """
    if not os.environ.get(RAY):
        tasks = {plate: (work, plate, out, key, carried) for plate, key in keys.items()}
        yield from run_parallel(_make_here, tasks, jobs, label)
        return
    common = [None if path is None or not path.is_file() else (path.name, packed(path))
              for path in carried]
    away = functools.partial(_make_away, work, common)
    for plate, outcome in run_parallel(away, _Loads(keys, carried), jobs, label, seen):
        if not isinstance(outcome, BaseException):
            made, outcome = outcome
            make_plate(plate, out, functools.partial(unpack, made))
        yield plate, outcome


def make_plate(plate: str, out: Path, work: Callable[[Path], Any]) -> Any:
    """Make the folder of a plate, which appears whole or not at all; what `work` returned.

    Parameters
    ----------
    plate : str
    out : Path
        The folder of plates; what it holds under this name is replaced.
    work : callable
        `work(folder)` writes the plate's files into the empty `folder`, `key.txt` among them where
        the plate is to be kept.
    """
    partial = out / f"{_PARTIAL}{plate}"
    partial.mkdir()
    try:
        result = work(partial)
        if (partial / KEY_FILE).exists():
            _replace(partial, out / plate)
        return result
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


def _make_here(work: Callable[..., Any], plate: str, out: Path, key: str | None,
               carried: Sequence[Path | None]) -> Any:
    return make_plate(plate, out, functools.partial(_made, work, plate, key, carried))


def _made(work: Callable[..., Any], plate: str, key: str | None, carried: Sequence[Path | None],
          folder: Path) -> Any:
    result = work(plate, folder, *carried)
    if key is not None:
        (folder / KEY_FILE).write_text(key + "\n")
    return result


class _Loads(Mapping[str, tuple[Any, ...]]):
    """Plates, their keys, and what they carry, which is read when it is to be sent."""

    def __init__(self, keys: Mapping[str, str | None], carried: Sequence[Path | None]):
        self._keys, self._carried = keys, carried

    def __getitem__(self, plate: str) -> tuple[Any, ...]:
        return plate, self._keys[plate], [
            {name: packed(path / name) for name in (plate, f"{plate}.parquet")}
            if path is not None and path.is_dir() else {} for path in self._carried]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _make_away(work: Callable[..., Any], common: Sequence[tuple[str, Parcel] | None], plate: str,
               key: str | None, loads: Sequence[Mapping[str, Parcel]]) -> tuple[Parcel, Any]:
    """The files of a plate, and what `work` returned, on a machine that sees no other files."""
    with tempfile.TemporaryDirectory(prefix="moascope-") as scratch:
        carried: list[Path | None] = []
        for number, (file, load) in enumerate(zip(common, loads, strict=True)):
            place = Path(scratch) / f"{number}"
            for name, parcel in load.items():
                unpack(parcel, place / name)
            carried.append(unpacked_once(file[1], file[0]) if file else place if load else None)
        folder = Path(scratch) / "made"
        folder.mkdir()
        result = _made(work, plate, key, carried, folder)
        # Nothing of a plate that is not to be kept.
        return packed(folder) if (folder / KEY_FILE).exists() else {}, result


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


