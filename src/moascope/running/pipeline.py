"""`dvc repro` with the stages' sentences in the place of DVC's own lines."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from moascope.errors import MoascopeError
from moascope.project.shipped import STAGES
from moascope.running.state import is_running

GOALS = ("register", "report")
_BEGINS = re.compile(r"Running stage '([^']+)'")
_SKIPPED = re.compile(r"(?:Stage )?'([^']+)' didn't change, skipping")
_ENDS = re.compile(r"(\w+): (.+ \(\d+ s\))$")
_LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
# What DVC says to those who work with it.
_OF_DVC = re.compile(
    r"$|> |(Updating|Generating) lock file|To track the changes with git|"
    r"\s+git add |To enable auto staging|\s+dvc config core\.autostage|Use `dvc push`|"
    r"Data and pipelines are up to date|Verifying |ERROR: failed to reproduce|"
    r"ERROR: (Unable to acquire lock|.* is busy)|If there's no process with such PID|"
    r"\s*\(PID \d+\)|WARNING: Process '.* had been killed|WARNING: '.*' is empty")
_OF_STAGES = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
_GRACE_S = 20

Told = Callable[[str, str, str], None]
"""Called with "begins", "done", "skipped" or "line", the stage, and what is said."""


def stages_of(pipeline: Mapping[str, Any], goals: Sequence[str] = GOALS) -> list[str]:
    """The stages that lead to some stages, in the order of dvc.yaml.

    Parameters
    ----------
    pipeline : mapping
        As dvc.yaml holds it.
    goals : sequence of str
    """
    stages = pipeline["stages"]
    made = {out: name for name, stage in stages.items() for out in _paths(stage, "outs", "metrics",
                                                                         "plots")}
    wanted, waiting = set(), list(goals)
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted.add(name)
        for dep in _paths(stages[name], "deps"):
            waiting += [maker for out, maker in made.items()
                        if dep == out or dep.startswith(f"{out}/")]
    return [name for name in stages if name in wanted]


def _paths(stage: Mapping[str, Any], *kinds: str) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry))
            for kind in kinds for entry in stage.get(kind, [])]


def reproduce(project: Path, tell: Told, keep: int | None = None) -> None:
    """Run the pipeline of a project as far as its report and its registered model.

    Parameters
    ----------
    project : Path
    tell : callable
        Gets what happens as it happens.
    keep : int, optional
        An open file that the pipeline inherits, and holds a lock by.

    Raises
    ------
    MoascopeError
        With the sentences of the stage that failed; where another process runs the project.
    KeyboardInterrupt
        After the stages have ended.
    """
    command = [sys.executable, "-P", "-m", "dvc", "repro", *GOALS]
    process = subprocess.Popen(
        command, cwd=project, env=_environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
        pass_fds=() if keep is None else (keep,))
    errors: list[str] = []
    stage = locked = ""
    with process:
        try:
            assert process.stdout is not None
            for line in map(str.rstrip, process.stdout):
                if begins := _BEGINS.match(line):
                    stage = begins[1]
                    tell("begins", stage, "")
                elif skipped := _SKIPPED.match(line):
                    tell("skipped", skipped[1], "")
                elif (ends := _ENDS.match(line)) and ends[1] == stage:
                    tell("done", stage, ends[2])
                elif line.startswith("error: "):
                    errors.append(line.removeprefix("error: "))
                elif _LOCKED.search(line):
                    locked = line
                elif not _OF_DVC.match(line):
                    tell("line", stage, line)
        except BaseException:
            _stop(process)
            raise
    if process.returncode and locked:
        raise MoascopeError(is_running(project))
    if process.returncode:
        raise MoascopeError(errors or f"The step {stage or 'dvc repro'} failed; what it said is "
                            "above. What was finished is kept: mend the cause and run the same "
                            "command again.")


def pipeline_of(project: Path) -> dict[str, Any]:
    """The pipeline of a project, as its dvc.yaml holds it."""
    return yaml.safe_load((project / STAGES).read_text())


def _environment() -> dict[str, str]:
    """Ours, in which the stages find this environment's `moascope` and each line comes at once."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_STAGES}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def _stop(process: subprocess.Popen[str]) -> None:
    """End the pipeline and its stages, as Ctrl-C in a terminal does."""
    import psutil

    # Ctrl-C reaches all of them; a signal to this process alone reaches none.
    with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
        family = [*psutil.Process(process.pid).children(recursive=True),
                  psutil.Process(process.pid)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
            return
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_GRACE_S)
            return
        for member in _alive(family):
            member.kill()


def _alive(family: Sequence[Any]) -> Iterator[Any]:
    return (member for member in family if member.is_running())
