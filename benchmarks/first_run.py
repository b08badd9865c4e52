"""What a first run shows: every preset of the simulated screen, seed by seed, through the pipeline.

    python benchmarks/first_run.py --presets teaching null --seeds 0 1 2 3 4 5 6 7 8 9

Each run is a clone of this repository's last commit with another preset and seed in params.yaml,
and does what `make run` does: `dvc repro register report` and `moascope promote --exit-zero`.
Prints a Markdown table, row by row, and under it how many runs are as they should be. Seconds
are those of the run without the environment; runs follow one another.

A run of `teaching` is as it should be where the target is found (p <= 0.01), a strong mechanism
is found, and the model is promoted. A run of `null` is, where the gate refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moascope.metrics import null_mean
from moascope.params import SIMULATED_PRESETS
from moascope.sources.simulated.compounds import STRONG

ROOT = Path(__file__).resolve().parents[1]
FOUND_P = 0.01
# A control is found where it scores three times as high as a random list does on average.
TIMES_NULL = 3.0
HEADER = ("preset", "seed", "AP", "null mean", "p", "oracle", "efficiency",
          "strong mechanisms found", "gate", "AP held out", "seconds")


@dataclass(frozen=True)
class FirstRun:
    """What one run ended with.

    Attributes
    ----------
    preset : str
    seed : int
    metrics : dict
        metrics.json of the run.
    promotion : dict
        promotion.json; empty where nothing could be decided.
    seconds : float
    """

    preset: str
    seed: int
    metrics: dict[str, Any]
    promotion: dict[str, Any]
    seconds: float

    @property
    def strong(self) -> dict[str, float]:
        """Strong mechanism -> its average precision over the mean of random lists."""
        return {name: score["average_precision"]
                / null_mean(self.metrics["out_of_fold"]["compound"]["n"], score["compounds"])
                for name, score in self.metrics["mechanisms"].items() if name in STRONG}

    @property
    def found(self) -> list[str]:
        """The strong mechanisms that are found."""
        return [name for name, times in self.strong.items() if times >= TIMES_NULL]

    @property
    def promoted(self) -> bool:
        """Whether the model is in staging."""
        return self.promotion.get("decision") == "promoted"

    @property
    def as_it_should_be(self) -> bool | None:
        """What the preset promises; None where it promises nothing."""
        if self.preset == "teaching":
            p = self.metrics["out_of_fold"]["compound"]["p"]
            return p <= FOUND_P and bool(self.found) and self.promoted
        return not self.promoted if self.preset == "null" else None

    def row(self) -> str:
        """The run as a line of the table."""
        main = self.metrics["out_of_fold"]["compound"]
        oracle = self.metrics.get("oracle") or {}
        efficiency = oracle.get("efficiency")
        held_out = (self.promotion.get("numbers") or {}).get("average_precision")
        cells = (self.preset, self.seed, _shown(main["average_precision"]),
                 _shown(main["null_mean"]), f"{main['p']:.3g}",
                 _shown(oracle.get("average_precision")), _shown(efficiency, 2),
                 f"{len(self.found)} of {len(self.strong)}",
                 self.promotion.get("decision", "undecided"), _shown(held_out),
                 f"{self.seconds:.0f}")
        return "| " + " | ".join(map(str, cells)) + " |"


def run_once(preset: str, seed: int, folder: Path) -> FirstRun:
    """Clone, set preset and seed, and do what `make run` does.

    Raises
    ------
    subprocess.CalledProcessError
        Where a step fails; its output is printed.
    """
    subprocess.run(["git", "clone", "-q", "--shared", ROOT, folder], check=True)
    set_parameters(folder / "params.yaml", preset, seed)
    # A decision and scores that came with the clone are of another run.
    shutil.rmtree(folder / "reports/promote", ignore_errors=True)
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("MLFLOW", "DVC"))}
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"), "DVC_NO_ANALYTICS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    for command in (["dvc", "repro", "register", "report"], ["moascope", "promote", "--exit-zero"]):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True,
                              check=False)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
            done.check_returncode()
    seconds = time.perf_counter() - start
    decision = folder / "reports/promote/promotion.json"
    return FirstRun(preset, seed,
                    json.loads((folder / "reports/evaluate/metrics.json").read_text()),
                    json.loads(decision.read_text()) if decision.is_file() else {}, seconds)


def set_parameters(path: Path, preset: str, seed: int) -> None:
    """Write preset and seed into params.yaml, as a person with an editor does."""
    text, seeds = re.subn(r"^seed: .*$", f"seed: {seed}", path.read_text(), flags=re.MULTILINE)
    text, presets = re.subn(r"^(simulated:.*\n  preset: )\w+", rf"\g<1>{preset}", text,
                            flags=re.MULTILINE)
    assert (seeds, presets) == (1, 1), f"{path} has no seed or no simulated.preset"
    path.write_text(text)


def _shown(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(SIMULATED_PRESETS),
                        default=["teaching", "null"])
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--keep", type=Path, help="folder for the clones, which then stay")
    arguments = parser.parse_args()
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER), flush=True)
    runs = []
    for preset in arguments.presets:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                runs.append(run_once(preset, seed, (arguments.keep or Path(scratch))
                                     / f"{preset}-{seed}"))
            print(runs[-1].row(), flush=True)
    for preset in arguments.presets:
        own = [run.as_it_should_be for run in runs if run.preset == preset]
        if None not in own:
            print(f"\n{preset}: {sum(map(bool, own))} of {len(own)} runs are as they should be.")


if __name__ == "__main__":
    main()
