"""The stages as dvc.yaml starts them, each measured: wall time, processor time, peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.1  # seconds between two looks at the processes, at least
LOOKING = 0.02  # share of the time that looking may take, which large processes make slow


@dataclass(frozen=True)
class Cost:
    """What a command cost, with all processes that it started.

    Attributes
    ----------
    seconds : float
        Wall time.
    processor : float
        User and system time, seconds, as far as it was observed.
    peak : float
        MiB, the largest sum at one time; memory that processes share counts once.
    said : str
        Its standard output.
    """

    seconds: float
    processor: float
    peak: float
    said: str


def make_workspace(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make a folder in which stages can run: the code, and params.yaml with other values.

    Parameters
    ----------
    folder : Path
    settings : mapping
        Section -> values that override those of params.yaml, or a value.
    """
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in settings.items():
        params[section] = {**params[section], **values} if isinstance(values, dict) else values
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "src").symlink_to(ROOT / "src")


def stage_command(stage: str, item: Mapping[str, str] | None = None) -> str:
    """The shell command of a stage in dvc.yaml, with one item of its matrix."""
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    command = pipeline["stages"][stage]["cmd"]
    for key, value in (item or {}).items():
        command = command.replace(f"${{item.{key}}}", value)
    return command


def measure(command: str, folder: Path) -> Cost:
    """Run a shell command in a folder and watch its processes.

    Raises
    ------
    RuntimeError
        With its output, if it fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("MLFLOW", "DVC", "PYTHONPATH"))}
    environment |= {"PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    start, peak = time.perf_counter(), 0.0
    busy: dict[int, float] = {}
    with (folder / "said.txt").open("w+") as said:
        # Workers of a fork server are nobody's children that could be waited for, but stay in the
        # session.
        process = subprocess.Popen(command, shell=True, cwd=folder, env=environment, stdout=said,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        while process.poll() is None:
            began = time.perf_counter()
            peak = max(peak, _look(process.pid, busy))
            time.sleep(max(PAUSE, (time.perf_counter() - began) / LOOKING))
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{command}\n{text}")
    return Cost(seconds, sum(busy.values()), peak, text)


def _look(session: int, busy: dict[int, float]) -> float:
    """MiB that a session's processes hold; notes the processor time of each."""
    ticks, total = os.sysconf("SC_CLK_TCK"), 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name of a program may hold blanks; it ends with the last bracket.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != session:
                continue
            busy[int(folder.name)] = (int(fields[11]) + int(fields[12])) / ticks
            rollup = (folder / "smaps_rollup").read_text()
            total += int(rollup.partition("\nPss:")[2].split()[0])
        except (OSError, IndexError, ValueError):
            continue   # it has just ended
    return total / 1024
