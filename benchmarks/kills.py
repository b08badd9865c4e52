"""Kill the pipeline at random moments of every stage, and compare with an unbroken run.

A tiny screen goes through all stages once, unbroken. Then, in a fresh repository, `dvc repro` with
every process that it started is killed with SIGKILL at a random moment of a stage and started
again, several times for each stage. A repository that has reached its end is compared with the
unbroken one, and the next one begins, until so many kills are done.

Must be the same: what the study chose and its trials, all metrics, DVC's digests of all data. Must
hold: no run of MLflow is left open; there is one version, with alias and description, which
registration.json names; no trial is lost or doubled.

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
STAGES = [*yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]]
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
    parser.add_argument("--each", type=int, default=3, help="kills of a stage and repository")
    parser.add_argument("--minutes", type=float, default=600, help="begin no repository after")
    settings = parser.parse_args()
    rng = random.Random(settings.seed)
    end = time.monotonic() + 60 * settings.minutes
    kills: Counter[str] = Counter()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="moascope-kills-") as folder:
        # The code may be edited meanwhile.
        source = make_repository(ROOT, Path(folder) / "source")
        whole = make_repository(source, Path(folder) / "whole")
        seconds: dict[str, float] = {}
        start = time.monotonic()
        status, said = run(whole, seconds=seconds)
        if status:
            sys.exit(f"The unbroken run failed:\n{said}")
        print(f"unbroken: {time.monotonic() - start:.0f} s", flush=True)
        problems += [f"unbroken: {problem}" for problem in state_problems(whole)]
        number = 0
        while kills.total() < settings.kills and time.monotonic() < end:
            number += 1
            broken = make_repository(source, Path(folder) / f"broken{number}")
            before = kills.total()
            plan = [(stage, rng.random() * seconds[stage]) for stage in seconds
                    for _ in range(settings.each)][:settings.kills - before]
            found = kill_until_done(broken, plan, kills)
            # What ended badly has nothing to compare.
            found = found or [*differences(whole, broken), *state_problems(broken)]
            problems += [f"repository {number}: {problem}" for problem in found]
            print(f"repository {number}: {kills.total() - before} kills, "
                  f"{len(found)} problems", flush=True)
            shutil.rmtree(broken)
    print(f"\n{kills.total()} kills, by the stage that ran:\n\n| stage | kills |\n|---|---|")
    for stage, count in kills.most_common():
        print(f"| {stage} | {count} |")
    print("\n" + ("\n".join(problems) or "Everything is as in the unbroken run."))
    sys.exit(bool(problems))


def make_repository(source: Path, folder: Path) -> Path:
    """A repository with the code of another folder and tiny parameters."""
    folder.mkdir()
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns(
                "__pycache__", "cache", "tmp", "config.local"))
        elif (source / part).exists():
            shutil.copy2(source / part, folder / part)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] = {**params[section], **values} if isinstance(values, dict) else values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for command in (["init", "-q"], ["add", "-A"],
                    ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def run(folder: Path, stage: str = "", after: float = 0,
        seconds: dict[str, float] | None = None) -> tuple[int | None, str]:
    """Run the pipeline, and kill it with all its processes after some seconds of a stage.

    Parameters
    ----------
    folder : Path
    stage : str
        Empty to let it run.
    after : float
        Seconds from its start, or from that of the first stage that follows it.
    seconds : dict, optional
        Gets how long each stage took.

    Returns
    -------
    status : int or None
        None where it was killed.
    said : str
    """
    begun: dict[str, float] = {}
    with (tempfile.TemporaryDirectory() as place,
          Path(place, "said").open("w+") as output):
        process = subprocess.Popen(COMMAND, cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True, env=environment())
        while (status := process.poll()) is None:
            said = Path(place, "said").read_text()
            for name in re.findall(r"Running stage '([^']+)'", said):
                begun.setdefault(name, time.monotonic())
            # A stage that an earlier kill came too late for has ended: what follows it is killed.
            due = [moment for name, moment in begun.items()
                   if stage and STAGES.index(name) >= STAGES.index(stage)]
            if due and time.monotonic() - due[0] >= after:
                kill(process)
                break
            time.sleep(0.02)
        ends = [*list(begun.values())[1:], time.monotonic()]
        if seconds is not None:
            seconds |= {name: end - start for (name, start), end in
                        zip(begun.items(), ends, strict=True)}
        return status, Path(place, "said").read_text()


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MLFLOW", "DVC", "PYTHONPATH", "MOASCOPE"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it started, at once and without a word to them."""
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, 10)


def kill_until_done(folder: Path, plan: list[tuple[str, float]],
                    kills: Counter[str]) -> list[str]:
    """Kill the pipeline as planned, starting it again each time; returns what went wrong."""
    for stage, after in [*plan, ("", 0.0)]:
        status, said = run(folder, stage, after)
        if status is None:
            running = re.findall(r"Running stage '([^']+)'", said)
            kills[running[-1]] += 1
        elif status:
            return [f"ended with status {status}:\n{said[-3000:]}"]
    return []


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
    """Numbers of the study's trials that ended well or pruned."""
    import optuna

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return [trial.number for trial in _study(folder).trials if trial.state in ended]


def _study(folder: Path) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "data/tune/study.journal"))
    storage = optuna.storages.JournalStorage(backend)
    name, = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


if __name__ == "__main__":
    main()
