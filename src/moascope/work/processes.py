"""Work in several processes, under a progress bar."""

from __future__ import annotations

import collections
import gc
import multiprocessing
import os
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
from typing import Any, TypeVar

from moascope.errors import scrub_what_is_logged
from moascope.text import counted
from moascope.work.processors import OBJECTS_BETWEEN_COLLECTIONS, usable_processors
from moascope.work.ray import RAY, run_on_ray

T = TypeVar("T")

R = TypeVar("R")


def run_parallel(function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]], jobs: int,
                 label: str, seen: Path | None = None) -> Iterator[tuple[str, Any]]:
    """Call `function(*arguments)` for each task, in processes, under a progress bar.

    Parameters
    ----------
    function : callable
    tasks : mapping
        Arguments by the name of a task.
    jobs : int
        Processes.
    label : str
        What the progress bar calls the work.
    seen : Path, optional
        A file that every machine of a cluster has to see, where tasks read files of its folder.

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
    With `$MOASCOPE_RAY` the tasks run on Ray, one processor each, whatever `jobs` says; machines
    of a cluster see no file of this one but those that the folder of `seen` has.
    """
    with progress(len(tasks), label) as advance:
        if tasks and os.environ.get(RAY):
            for name, outcome in run_on_ray(function, tasks, os.environ[RAY], seen):
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
        pool = ProcessPoolExecutor(min(jobs, len(tasks)), _context(function, tasks), start_worker)
        try:
            futures: dict[Future[Any], str] = {}
            for name, arguments in tasks.items():
                futures[_submitted(pool, function, arguments)] = name
            for future in as_completed(futures):
                advance()
                yield futures[future], future.exception() or future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def ended_worker(label: str, done: int, due: int, noun: str, kept: bool) -> str:
    """The sentence on a worker process that was ended from outside.

    Parameters
    ----------
    label : str
        Of the work.
    done, due : int
        Tasks.
    noun : str
        What a task is.
    kept : bool
        Whether what is done is there for the next run.
    """
    return (f"{label}: a worker process was ended from outside, most often because memory ran out, "
            f"after {done:,} of {counted(due, noun)}. "
            + ("Those are kept; run it again" if kept else "Nothing is lost; run it again")
            + ", and if it ends the same way, on fewer processors (`taskset -c 0 dvc repro`) or "
              "with more memory.")


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
    return usable_processors()


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


def _submitted(pool: ProcessPoolExecutor, function: Callable[..., Any],
               arguments: tuple[Any, ...]) -> Future[Any]:
    try:
        return pool.submit(function, *arguments)
    except BrokenProcessPool as error:
        # A worker was ended while others still got their tasks.
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def start_worker() -> None:
    """What a worker process does first: it hides passwords, leaves Ctrl-C alone, ends with us."""
    scrub_what_is_logged()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    # Ctrl-C reaches the whole group: a worker then ends without a traceback of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Workers wait on a queue for ever when the main process is killed outright.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
