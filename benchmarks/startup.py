"""How long commands and stages take to start, and `dvc repro` when nothing has changed.

    python benchmarks/startup.py [--repository FOLDER]

Every command is started in turn, round by round; medians (libraries, for comparison, once). FOLDER
is a clone in which the pipeline has run; by default this one; if its pipeline is not up to date,
the table says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import yaml

from moascope.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
LIBRARIES = ["pandas", "mlflow", "great_expectations", "tensorflow"]
UP_TO_DATE = "Data and pipelines are up to date."


def seconds(command: list[str], folder: Path) -> float:
    """Wall time of a command; fails if the command fails."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PATH": PATH, "PYTHONPATH": str(ROOT / "src")})
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return took


def in_rounds(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, float]:
    """Median seconds of each command."""
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            took[name].append(seconds(command, folder))
    return {name: median(values) for name, values in took.items()}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=ROOT)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    moascope = [sys.executable, "-m", "moascope.cli"]
    names = sorted(command.name or command.callback.__name__.strip("_")
                   for command in app.registered_commands)
    bare = "`python -c pass`"
    took = in_rounds(
        {bare: python("pass"), "`moascope --help`": [*moascope, "--help"]}
        | {f"`moascope {name} --help`": [*moascope, name, "--help"] for name in names}
        | {f"import of stage {name}": python(f"import moascope.stages.{name}") for name in stages}
        | {"for comparison: `import pandas`": python("import pandas")}, ROOT, arguments.rounds)
    helps = {f"`moascope {name} --help`" for name in names}
    slowest = max(helps, key=took.__getitem__)
    took = {name: value for name, value in took.items() if name not in helps or name == slowest}
    took |= in_rounds({f"for comparison: `import {name}`": python(f"import {name}")
                       for name in LIBRARIES[1:]}, ROOT, 1)
    status = subprocess.run(["dvc", "status", "register"], cwd=arguments.repository, text=True,
                            capture_output=True, env=os.environ | {"PATH": PATH})
    nothing = "`dvc repro register report`, nothing changed"
    if UP_TO_DATE in status.stdout:
        took |= in_rounds({nothing: ["dvc", "repro", "register", "report"]},
                          arguments.repository, 3)
    print("| what | seconds | times bare Python |\n|---|---|---|")
    for name, value in took.items():
        said = f"{name}, the slowest of {len(helps)}" if name == slowest else name
        print(f"| {said} | {value:.2f} | {value / took[bare]:.0f} |")
    if nothing not in took:
        print(f"| {nothing} | not measured: the pipeline has not run here | |")


if __name__ == "__main__":
    main()
