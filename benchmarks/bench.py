"""Run the benchmarks one after the other and write their output into README.md.

    python benchmarks/bench.py [part ...]

A part that fails or takes too long is reported in its place. The others still run, and the exit
status is 1.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = {
    "startup": "Start-up",
    "prepare": "Preparing plates",
    "embed": "Embedding",
    "study": "The study",
    "learning": "What the study finds",
    "fine_tune": "Fine-tuning",
    "slides": "The pipeline of the slides",
    "growth": "Growth",
}
PICTURES = {"growth": "growth.png"}
MOST_SECONDS = 900   # of one part
LIBRARIES = ["numpy", "pandas", "scikit-learn", "tensorflow", "keras", "openvino", "optuna",
             "mlflow", "great-expectations", "tifffile", "scikit-image", "dvc"]


@dataclass(frozen=True)
class Outcome:
    """The output of a part, how long it took, and why it failed, if it did."""

    said: str
    seconds: float
    failure: str = ""


def run_part(name: str) -> Outcome:
    """Run one script; never raises."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen([sys.executable, str(HERE / f"{name}.py")], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                               start_new_session=True)
    try:
        said, trouble = process.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return Outcome(said, time.perf_counter() - start,
                       f"It was stopped after {MOST_SECONDS} s.")
    seconds = time.perf_counter() - start
    if process.returncode:
        last = (trouble.strip().splitlines() or ["no output"])[-1]
        sys.stderr.write(trouble)
        return Outcome(said, seconds, f"It failed with status {process.returncode}: {last}")
    return Outcome(said, seconds)


def page(outcomes: dict[str, Outcome], minutes: float, load: float) -> str:
    """README.md: the machine, how long each part took, and its output."""
    failed = [name for name, outcome in outcomes.items() if outcome.failure]
    lines = ["# Benchmarks", "",
             "Written by `make bench`. Every ratio is of two things measured in one run on one "
             "machine, the reference beside it; a number without its reference is a fact of that "
             "machine.", "",
             "| machine | |", "|---|---|",
             *(f"| {name} | {value} |" for name, value in machine().items()),
             f"| load before the start | load average {load:.1f} |", "",
             "| part | seconds | |", "|---|---|---|",
             *(f"| [{PARTS[name]}](#{PARTS[name].lower().replace(' ', '-')}) "
               f"| {outcome.seconds:.0f} | {outcome.failure} |"
               for name, outcome in outcomes.items()), "",
             f"Total: {minutes:.0f} minutes"
             + (f"; failed: {', '.join(failed)}." if failed else ".")]
    for name, outcome in outcomes.items():
        lines += ["", f"## {PARTS[name]}", "", f"`python benchmarks/{name}.py`: {about(name)}"]
        if outcome.failure:
            lines += ["", f"**Failed.** {outcome.failure}"]
        if outcome.said.strip():
            lines += ["", outcome.said.strip()]
        if name in PICTURES and not outcome.failure:
            lines += ["", f"![{PARTS[name]}]({PICTURES[name]})"]
    others = sorted(path.stem for path in HERE.glob("*.py")
                    if path.stem not in PARTS and "__main__" in path.read_text()
                    and path != Path(__file__).resolve())
    lines += ["", "## Other benchmarks", "",
              "These take longer or need data of their own, and are run by hand:", "",
              *(f"- `{name}.py`: {about(name)}" for name in others), ""]
    return "\n".join(lines)


def about(name: str) -> str:
    """First sentence of a script's docstring."""
    path = HERE / f"{name}.py"
    said = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
    return (said or "").split("\n\n")[0].replace("\n", " ")


def machine() -> dict[str, str]:
    """The machine and versions that the numbers belong to."""
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True,
                              text=True).stdout.strip()

    information = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in
              (information.read_text().splitlines() if information.exists() else [])
              if line.startswith("model name")]
    changed = " with changes" if git("status", "--porcelain", "--", "src", "benchmarks/*.py",
                                     "params.yaml") else ""
    return {
        "processor": models[0] if models else platform.processor() or "unknown",
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                     else os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES),
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": (git("rev-parse", "--short=10", "HEAD") or "unknown") + changed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="part",
                        help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--out", type=Path, help="default: benchmarks/README.md, where no part is "
                                                 "left out")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    start, load = time.perf_counter(), os.getloadavg()[0]
    outcomes = {}
    for name in arguments.parts:
        print(f"{name} ...", end=" ", flush=True)
        outcomes[name] = run_part(name)
        print(f"{outcomes[name].seconds:.0f} s {outcomes[name].failure}", flush=True)
    written = page(outcomes, (time.perf_counter() - start) / 60, load)
    out = arguments.out or (HERE / "README.md" if set(outcomes) == set(PARTS) else None)
    if out:
        out.write_text(written)
    print(f"written to {out}" if out else written)
    sys.exit(any(outcome.failure for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
