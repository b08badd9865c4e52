"""Work on a Ray cluster in place of this machine: tasks bring along what they read."""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from moascope.errors import MoascopeError
from moascope.work.code import environment_digest

RAY = "MOASCOPE_RAY"
"""Environment variable: where tasks run in place of processes of this machine. `local`, `auto` or
the address of a running Ray cluster. Not a parameter: who does the work decides no result."""



STARTS = 3
"""How often a task is started whose machine or process is ended from outside."""


class Witness(NamedTuple):
    """A file by which a machine shows that it sees the same folder: its size and time in seconds.

    Of an array, which is a folder, the path alone counts.
    """

    path: str
    bytes: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Witness:
        status = path.stat()
        known = (-1, -1) if path.is_dir() else (status.st_size, int(status.st_mtime))
        return cls(str(path.absolute()), *known)

    def is_seen(self) -> bool:
        """Whether this machine has the same file at the same path."""
        try:
            return Witness.of(Path(self.path)) == self
        except OSError:
            return False


def run_on_ray(function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]], address: str,
               seen: Path | None) -> Iterator[tuple[str, Any]]:
    """As `moascope.work.processes.run_parallel`, on a cluster.

    Arguments are asked for when a machine is nearly free, and then sent: `tasks` may make them.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise MoascopeError(f"{RAY} is set, but Ray is not installed. Install it with `pip install "
                            f"'moascope[ray]'`, or unset {RAY}.") from None
    # Other machines that have this process's code at the same path use it, rather than a version
    # that is installed there.
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
        # A machine that is lost loses nothing: what a task makes is there once it comes back.
        remote = ray.remote(max_retries=STARTS - 1)(call_away)
        known = environment_digest(), str(Path.cwd()), None if seen is None else Witness.of(seen)
        sent = ray.put(function)
        due, waiting = iter(tasks), {}
        while True:
            # What is sent early takes room in this machine's memory.
            processors = int(ray.cluster_resources().get("CPU", 1))
            room = max(processors + processors // 4 + 1 - len(waiting), 0)
            for name in itertools.islice(due, room):
                waiting[remote.remote(*known, sent, tasks[name])] = name
            if not waiting:
                return
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                outcome = ray.get(done)
            except RayTaskError as error:
                # Its own errors come as results; this is one of getting there.
                outcome = MoascopeError(
                    "A machine of the Ray cluster cannot load what it is to run "
                    f"({str(error).splitlines()[-1]}). Install the same moascope, with the same "
                    "libraries, on every machine.")
            except RayError as error:
                outcome = BrokenProcessPool(str(error))
            name = waiting.pop(done)
            del done
            yield name, outcome
    finally:
        ray.shutdown()


def call_away(environment: str, folder: str, witness: Witness | None, function: Callable[..., Any],
              arguments: tuple[Any, ...]) -> Any:
    """Call `function(*arguments)` on this machine, if it would do the same as the caller's.

    Parameters
    ----------
    environment : str
        The caller's `environment_digest`.
    folder : str
        The caller's, from which relative paths of images start; it need not be there.
    witness : Witness, optional
        An image that this machine has to see.
    function : callable
    arguments : tuple

    Returns
    -------
    object
        What the function returned, or the exception that it raised; a MoascopeError where this
        machine has other code or sees other images.
    """
    here = f"The machine {platform.node()} of the Ray cluster"
    if environment != environment_digest():
        return MoascopeError(
            f"{here} has another version of moascope, or of a library that decides numbers. "
            f"Install what this machine has there, too, or unset {RAY}.")
    if witness is not None and not witness.is_seen():
        return MoascopeError(
            f"{here} does not see {witness.path}, or another file there. Share the folder of the "
            "images with every machine, at the same path, or keep them in a bucket and name them "
            f"by their addresses; or unset {RAY}.")
    if Path(folder).is_dir():
        os.chdir(folder)
    try:
        return function(*arguments)
    except Exception as error:
        return error
