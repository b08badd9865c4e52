"""Kill the pipeline at random moments until it ends by itself, and compare with an unbroken run.

A tiny screen goes through all stages once, unbroken. Then, in a fresh repository, `dvc repro` with
every process that it started is killed with SIGKILL at a random moment and started again, and so
on; a repository that has come to its end is compared with the unbroken one, and the next one is
begun, until so many kills are done. Must be the same: what the study chose and its trials, all
metrics, DVC's digests of all data. Must hold: no run of MLflow is left open, one version with alias
and description, which registration.json names, and no trial is lost or doubled.

Run in the repository's root: python benchmarks/kills.py --kills 100
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("dvc", "repro", "register", "report")
PARTS = ("src", "screen", "dvc.yaml", "params.yaml", ".dvc", ".dvcignore", ".gitignore", "LICENSE",
         "pyproject.toml")
TINY: dict[str, Any] = {
    "simulated": {"format": 96, "compounds": 36, "batches": 2, "fields": 1, "signal": 6.0,
                  "panels": ["A549 ACTB-RAB5A"]},
    "prepare": {"crops": 1},
    "embed": {"backbone": "morphology"},
    "split": {"folds": 3, "repeats": 1, "holdout": 0.2},
    "tune": {"trials": 6, "space": {"layers": [0, 1], "width": [8], "epochs": [5],
                                    "dropout": {"low": 0.0, "high": 0.5}}},
    "evaluate": {"bootstraps": 50, "permutations": 50, "refits": 1},
}
SAME = ("data/tune/tuned.yaml", "reports/evaluate/metrics.json", "reports/tune/trials.csv",
        "reports/tune/curves.csv", "reports/train/curves.csv", "reports/validate/validation.json")
# These hold the ids of runs and versions, or times.
OWN = ("data/train", "reports/register", "reports/report", "data/tune/study.journal")


def main() -> None:
    """Run the experiment and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600, help="begin no repository after")
    settings = parser.parse_args()
    rng = random.Random(settings.seed)
    end = time.monotonic() + 60 * settings.minutes
    kills: Counter[str] = Counter()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="moascope-kills-") as folder:
        whole = make_repository(Path(folder) / "whole")
        start = time.monotonic()
        status, said = run(whole, None)
        if status:
            sys.exit(f"The unbroken run failed:\n{said}")
        seconds = time.monotonic() - start
        print(f"unbroken: {seconds:.0f} s", flush=True)
        problems += [f"unbroken: {problem}" for problem in state_problems(whole)]
        number = 0
        while kills.total() < settings.kills and time.monotonic() < end:
            number += 1
            broken = make_repository(Path(folder) / f"broken{number}")
            before = kills.total()
            problems += [f"repository {number}: {problem}" for problem in
                         kill_until_done(broken, rng, seconds / 6, kills, settings.kills, end)]
            found = [*differences(whole, broken), *state_problems(broken)]
            problems += [f"repository {number}: {problem}" for problem in found]
            print(f"repository {number}: {kills.total() - before} kills, "
                  f"{len(found)} problems", flush=True)
            shutil.rmtree(broken)
    print(f"\n{kills.total()} kills, by the stage that ran:\n\n| stage | kills |\n|---|---|")
    for stage, count in kills.most_common():
        print(f"| {stage} | {count} |")
    print("\n" + ("\n".join(problems) or "Everything is as in the unbroken run."))
    sys.exit(bool(problems))


def make_repository(folder: Path) -> Path:
    """A repository with the working tree's code and tiny parameters."""
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(
                "__pycache__", "cache", "tmp", "config.local"))
        elif (ROOT / part).exists():
            shutil.copy2(ROOT / part, folder / part)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] = {**params[section], **values} if isinstance(values, dict) else values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for command in (["init", "-q"], ["add", "-A"],
                    ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def run(folder: Path, seconds: float | None) -> tuple[int | None, str]:
    """Run the pipeline, and kill it with all its processes after some seconds.

    Returns
    -------
    status : int or None
        None where it was killed.
    said : str
    """
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MLFLOW", "DVC", "PYTHONPATH", "MOASCOPE"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            COMMAND, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env=kept | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"})
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()
            psutil.wait_procs(family, 10)
        output.seek(0)
        return status, output.read()


def kill_until_done(folder: Path, rng: random.Random, longest: float, kills: Counter[str],
                    most: int, end: float) -> list[str]:
    """Kill and start the pipeline until it has ended by itself; returns what went wrong."""
    while True:
        last = kills.total() >= most or time.monotonic() > end
        # Starting DVC takes a second or two, in which there is nothing to break.
        status, said = run(folder, None if last else 2 + rng.random() * longest)
        if status == 0:
            return []
        if status is not None:
            return [f"ended with status {status}:\n{said[-3000:]}"]
        stages = re.findall(r"Running stage '([^']+)'", said)
        kills[stages[-1] if stages else "(before a stage)"] += 1


def differences(whole: Path, broken: Path) -> list[str]:
    """What is not as in the unbroken run."""
    found = [f"{name} differs" for name in SAME
             if not (broken / name).exists()
             or (whole / name).read_bytes() != (broken / name).read_bytes()]
    one, other = (_digests(folder) for folder in (whole, broken))
    return found + [f"the digest of {path} differs" for path in sorted(one)
                    if one[path] != other.get(path)]


def _digests(folder: Path) -> dict[str, str]:
    if not (folder / "dvc.lock").exists():
        return {}
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values()
            for out in stage.get("outs", []) if not out["path"].startswith(OWN)}


def state_problems(folder: Path) -> list[str]:
    """What is wrong in MLflow's database and in the study."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = []
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=5000)
    found += [f"run '{run.info.run_name}' is left {run.info.status}" for run in runs
              if run.info.status not in ("FINISHED", "FAILED", "KILLED")]
    logged = Counter(run.data.tags["optuna.trial"] for run in runs
                     if "optuna.trial" in run.data.tags)
    wanted = {str(number) for number in range(TINY["tune"]["trials"])}
    if set(logged) != wanted or max(logged.values()) > 1:
        found.append(f"runs of trials are lost or doubled: {dict(logged)}")
    versions = client.search_model_versions("name = 'moascope'")
    registered = json.loads((folder / "reports/register/registration.json").read_text())
    holder = client.get_model_version_by_alias("moascope", "candidate").version
    if len(versions) != 1 or str(holder) != registered["version"]:
        found.append(f"{len(versions)} versions, the alias has {holder}, registration.json "
                     f"{registered['version']}")
    found += [f"version {version.version} has no description" for version in versions
              if not version.description]
    models = client.search_logged_models(experiments)
    if len(models) != len(versions):
        found.append(f"{len(models)} models are logged for {len(versions)} versions")
    numbers = Counter(_trials(folder))
    if set(numbers) != {int(number) for number in wanted}:
        found.append(f"trials are lost or doubled: {dict(numbers)}")
    return found


def _trials(folder: Path) -> list[int]:
    """Numbers of the study's trials, each of which must have ended well or pruned."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "data/tune/study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    name, = optuna.get_all_study_names(storage)
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return [trial.number for trial in optuna.load_study(study_name=name, storage=storage).trials
            if trial.state in states]


if __name__ == "__main__":
    main()
