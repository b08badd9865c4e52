"""Work plate by plate, in parallel, and only where something changed."""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from moascope.errors import MoascopeError

T = TypeVar("T")
R = TypeVar("R")

KEY_FILE = "key.txt"
RAY = "MOASCOPE_RAY"
"""Environment variable: where tasks run in place of processes of this machine. `local`, `auto` or
the address of a running Ray cluster. Not a parameter: who does the work decides no result."""
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


def run_parallel(function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]], jobs: int,
                 label: str) -> Iterator[tuple[str, Any]]:
    """Call `function(*arguments)` for each task, in processes, under a progress bar.

    Yields
    ------
    tuple
        The name of the task and what it returned, or the exception that it raised; in the order
        of completion, which with several processes is not that of `tasks`.

    Raises
    ------
    MoascopeError
        Where `$MOASCOPE_RAY` names a cluster that cannot be used.

    Notes
    -----
    With `$MOASCOPE_RAY` the tasks run on Ray, one processor each, whatever `jobs` says.
    """
    with progress(len(tasks), label) as advance:
        if tasks and os.environ.get(RAY):
            for name, outcome in _run_on_ray(function, tasks, os.environ[RAY]):
                advance()
                yield name, outcome
            return
        if jobs <= 1 or len(tasks) <= 1:
            for name, arguments in tasks.items():
                try:
                    outcome = function(*arguments)
                except Exception as error:
                    outcome = error
                advance()
                yield name, outcome
            return
        pool = ProcessPoolExecutor(min(jobs, len(tasks)), _context(function, tasks), _start_worker)
        try:
            futures: dict[Future[Any], str] = {
                pool.submit(function, *arguments): name for name, arguments in tasks.items()
            }
            for future in as_completed(futures):
                advance()
                yield futures[future], future.exception() or future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def ahead(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Call a function in threads, ahead of the caller.

    Yields
    ------
    R
        Results in the order of the items; no more of them are under way or waiting than keep
        every thread and the caller busy.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[Future[R]] = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def default_jobs() -> int:
    """As many processes as this process may use processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal; yields the call that advances it."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)


def digest(*parts: Any) -> str:
    """SHA-256, in hexadecimal, of values that decide what a result will be.

    Parameters
    ----------
    *parts
        Bytes, params sections, tables, or anything that JSON can hold. Equal values give equal
        digests whatever the order of dictionary keys.
    """
    total = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else _canonical(part)
        # The length keeps ("ab", "c") apart from ("a", "bc").
        total.update(f"{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def code_digest(*modules: ModuleType | str) -> str:
    """SHA-256 of the source of modules, and of every module inside packages.

    Parameters
    ----------
    *modules
        Modules, or their dotted names; a name is looked up without importing the module itself.
    """
    parts: list[Any] = []
    for module in modules:
        name = module if isinstance(module, str) else module.__name__
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} has no source file")
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        parts += [[name, [file.relative_to(origin.parent).as_posix() for file in files]]]
        parts += [file.read_bytes() for file in files]
    return digest(*parts)


def _make_plate(work: Callable[[str, Path], None], plate: str, out: Path, key: str) -> None:
    partial, stale, final = out / f"{_PARTIAL}{plate}", out / f"{_STALE}{plate}", out / plate
    partial.mkdir()
    try:
        work(plate, partial)
        (partial / KEY_FILE).write_text(key + "\n")
        if final.exists():
            final.rename(stale)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
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
            problems.append(f"{label}: a worker process was ended from outside, often for want of "
                            f"memory, while {due - len(failures)} of {due} plates were done. "
                            "Those are kept; run it again, with fewer jobs if it ends so again.")
        elif isinstance(failure, MoascopeError):
            problems += failure.problems
        else:
            failure.add_note(f"{label}: while working on plate {plate}")
            raise failure
    if problems:
        raise MoascopeError(dict.fromkeys(problems))


def _canonical(part: Any) -> bytes:
    if hasattr(part, "model_dump"):
        part = part.model_dump(mode="json")
    elif hasattr(part, "to_csv"):
        part = part.to_csv(index=False, lineterminator="\n")
    return json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _context(function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]]) -> Any:
    # A forked child of a process with threads (TensorFlow's, the progress bar's) can hang.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # What the work imports is imported once in the server and not once in every worker.
    called = [function, *next(iter(tasks.values()))]
    modules = {getattr(getattr(value, "func", value), "__module__", None) for value in called}
    context.set_forkserver_preload(["pandas", *sorted(modules - {None, "__main__", "builtins"})])
    return context


def _run_on_ray(function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]],
                address: str) -> Iterator[tuple[str, Any]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MoascopeError(f"{RAY} is set, but Ray is not installed. Install it with `pip install "
                            f"'moascope[ray]'`, or unset {RAY}.") from None
    # The code of this process, not another version that is installed beside it.
    path = [str(Path(__file__).resolve().parents[2]),
            *(str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(
                os.pathsep) if entry)]
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False,
                 logging_level="ERROR",
                 runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(path)}})
    except (ConnectionError, ValueError) as error:
        raise MoascopeError(f"{RAY} is {address}, where no Ray cluster answers ({error}). Start "
                            f"one with `ray start --head`, or unset {RAY}.") from None
    try:
        # Started anew, a plate would find what its first try left.
        remote = ray.remote(max_retries=0)(_call_in_folder)
        waiting = {remote.remote(str(Path.cwd()), function, arguments): name
                   for name, arguments in tasks.items()}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as error:
                outcome = BrokenProcessPool(str(error))
            yield waiting.pop(done), outcome
    finally:
        ray.shutdown()


def _call_in_folder(folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    # Paths of stages are relative to the repository, which every machine sees at one place.
    os.chdir(folder)
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _start_worker() -> None:
    # Ctrl-C reaches the whole group: a worker then ends without a traceback of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Workers wait on a queue for ever when the main process is killed outright.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
