"""Work on a Ray cluster in place of this machine."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from moascope.errors import MoascopeError

RAY = "MOASCOPE_RAY"
"""Environment variable: where tasks run in place of processes of this machine. `local`, `auto` or
the address of a running Ray cluster. Not a parameter: who does the work decides no result."""


def run_on_ray(function: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]],
                address: str) -> Iterator[tuple[str, Any]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
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
        remote = ray.remote(max_retries=0)(call_in_folder)
        with tempfile.NamedTemporaryFile(prefix="moascope-") as mark:
            waiting = {remote.remote(str(Path.cwd()), mark.name, function, arguments): name
                       for name, arguments in tasks.items()}
            while waiting:
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                try:
                    outcome = ray.get(done)
                except RayTaskError as error:
                    # Its own errors come as results; this is one of getting there.
                    outcome = MoascopeError(
                        "A machine of the Ray cluster cannot load what it is to run "
                        f"({str(error).splitlines()[-1]}). Give every machine the same environment "
                        "and the same files at the same paths.")
                except RayError as error:
                    outcome = BrokenProcessPool(str(error))
                yield waiting.pop(done), outcome
    finally:
        ray.shutdown()


def call_in_folder(folder: str, mark: str, function: Callable[..., Any],
                   arguments: tuple[Any, ...]) -> Any:
    """Call `function(*arguments)` in a folder, where this machine sees the files of the caller's.

    Paths of stages are relative to the project, which every machine sees at one place, and some
    are in TMPDIR. A machine that does not would read other files, and write where nobody looks.

    Parameters
    ----------
    folder : str
        The project.
    mark : str
        A file that the caller made in TMPDIR.
    function : callable
    arguments : tuple

    Returns
    -------
    object
        What the function returned, or the exception that it raised; a MoascopeError where this
        machine sees other files.
    """
    for seen in (folder, mark):
        if not Path(seen).exists():
            return MoascopeError(
                f"The machine {platform.node()} of the Ray cluster does not see {seen}. Give every "
                "machine the project, its images and TMPDIR at the same paths, on a shared file "
                f"system, or unset {RAY}.")
    os.chdir(folder)
    try:
        return function(*arguments)
    except Exception as error:
        return error
