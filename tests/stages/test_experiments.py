"""`dvc exp run` in temporary folders: no run is lost; what runs is the experiment's own code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import make_screen

ROOT = Path(__file__).parents[2]

# A stage as ours are, but cheap. What it prints first is changed by a test.
PROBE = '''\
from pathlib import Path

import moascope
from moascope.params import Params
from moascope.work.processes import run_parallel


def where(_):
    return str(Path(moascope.__file__).parent)


def probe(params: Params, split: Path, screen: Path, out: Path) -> str:
    import mlflow

    from moascope.tracking.runs import start_run

    pool = dict(run_parallel(where, {"a": (1,), "b": (2,)}, 2, "probe"))
    inputs = {"split": split, "screen": screen}
    with start_run(params, f"probe {params.train.dropout}", "train", inputs) as active:
        out.write_text("as committed\\n" + "\\n".join([where(0), pool["a"], pool["b"],
                                                       active.info.run_id]))
        mlflow.log_metric("average_precision", 0.5)
        mlflow.log_artifact(str(out))
    return "done"
'''


def environment():
    """What a person's shell has after activating the environment."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MLFLOW", "DVC", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def shell(*command, cwd, expect=0):
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True,
                          timeout=200, check=False)
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def commit(folder, words):
    shell("git", "add", "-A", cwd=folder)
    shell("git", "commit", "-qm", words, cwd=folder)


def repository(folder, stages):
    """Our code in a repository of its own, with a pipeline of a few cheap stages."""
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / "src/moascope/stages/probe.py").write_text(PROBE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    shell("git", "init", "-q", cwd=folder)
    # `dvc exp run` commits, too.
    shell("git", "config", "user.name", "t", cwd=folder)
    shell("git", "config", "user.email", "t@t", cwd=folder)
    shell("dvc", "init", "-q", cwd=folder)
    commit(folder, "start")
    return folder


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Data and folds under DVC, and a stage that makes an MLflow run."""
    folder = repository(tmp_path_factory.mktemp("probed"), {
        "deal": {"cmd": "mkdir -p data/split data/acquire && echo 1 > data/split/a "
                        "&& echo 1 > data/acquire/a",
                 "outs": ["data/split", "data/acquire"]},
        "probe": {"cmd": "moascope stage probe --split data/split --screen data/acquire "
                         "--out out.txt",
                  "params": ["train.dropout"],
                  "deps": ["src/moascope/stages/probe.py", "data/split", "data/acquire"],
                  "outs": ["out.txt"]},
    })
    shell("dvc", "repro", cwd=folder)
    commit(folder, "ran")
    return folder


def runs(folder):
    """Name -> run, of those that the stage made."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("simulated gpcr")
    found = client.search_runs([experiment.experiment_id], "tags.stage = 'train'")
    assert len(found) == len({run.info.run_name for run in found})
    return {run.info.run_name: run for run in found}


def artifact(run):
    return Path(run.info.artifact_uri.removeprefix("file://"), "out.txt").read_text().split("\n")


def test_a_temporary_experiment_keeps_its_run_and_runs_its_own_code(probed):
    before = set(runs(probed))
    stage = probed / "src/moascope/stages/probe.py"
    stage.write_text(PROBE.replace("as committed", "as changed in the workspace"))
    said = shell("dvc", "exp", "run", "--temp", "-S", "train.dropout=0.21", cwd=probed)
    stage.write_text(PROBE)
    assert "probe: done" in said
    made, = set(runs(probed)) - before
    assert made == "probe 0.21"
    run = runs(probed)[made]
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(probed / "mlruns")
    words, *places, _ = artifact(run)
    assert words == "as changed in the workspace"
    # The parent process and both of its workers imported the temporary folder's package.
    assert len(places) == 3
    assert all(Path(place).is_relative_to(probed / ".dvc/tmp/exps") for place in places)
    assert run.data.tags["dvc_exp_name"]
    assert run.data.tags["digest.split"].endswith(".dir")
    assert not list((probed / ".dvc/tmp/exps").rglob("mlflow.db"))


def test_queued_experiments_keep_their_runs_below_one_parent(probed):
    before = set(runs(probed))
    shell("dvc", "exp", "run", "--queue", "-S", "train.dropout=0.31,0.32", cwd=probed)
    shell("dvc", "queue", "start", "-j", "2", cwd=probed)
    wait_for_queue(probed, 2)
    found = runs(probed)
    assert set(found) - before == {"probe 0.31", "probe 0.32"}
    assert len({run.data.tags["mlflow.parentRunId"] for run in found.values()}) == 1
    for name in ("probe 0.31", "probe 0.32"):
        assert artifact(found[name])[0] == "as committed"
        assert str(probed / ".dvc/tmp/exps") in artifact(found[name])[1]
    shown = json.loads(shell("dvc", "exp", "show", "--json", cwd=probed))
    assert "0.32" in json.dumps(shown)


def wait_for_queue(folder, tasks, seconds=180):
    import time

    # Asking costs as much as the task itself.
    for _ in range(seconds // 5):
        time.sleep(5)
        status = shell("dvc", "queue", "status", cwd=folder)
        assert "Failed" not in status, status
        if status.count("Success") == tasks and "Running" not in status:
            return
    raise AssertionError(f"the queue has not ended in {seconds} s:\n{status}")


def test_going_back_to_earlier_parameters_makes_no_run_and_leads_to_the_earlier_one(probed):
    """DVC restores what the run left: stages that follow read the earlier run's id there."""
    shell("dvc", "repro", cwd=probed)
    before = runs(probed)
    earlier = (probed / "out.txt").read_text().split("\n")[-1]
    text = (probed / "params.yaml").read_text()
    (probed / "params.yaml").write_text(text.replace("dropout: tuned", "dropout: 0.41"))
    said = shell("dvc", "repro", cwd=probed)
    assert "Running stage 'probe'" in said
    assert len(runs(probed)) == len(before) + 1
    (probed / "params.yaml").write_text(text)
    said = shell("dvc", "repro", cwd=probed)
    assert "Running stage 'probe'" not in said
    assert len(runs(probed)) == len(before) + 1
    assert (probed / "out.txt").read_text().split("\n")[-1] == earlier
    assert earlier in {run.info.run_id for run in before.values()}


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    """A repository with the stages code and acquire, and a screen next to it and one in it."""
    beside = tmp_path_factory.mktemp("lab")
    make_screen(beside / "plates")
    folder = beside / "project"
    folder.mkdir()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    repository(folder, {name: stages[name] for name in ("code", "acquire")})
    make_screen(folder / "data/mine")
    shell("dvc", "add", "-q", "data/mine", cwd=folder)
    commit(folder, "my plates")
    return folder


def test_plates_that_dvc_keeps_are_the_experiments_own(plates):
    """What changes in the repository's own folder after queueing is not read."""
    shell("dvc", "exp", "run", "--queue", "-n", "mine", "-S", "acquire.source=folder", "-S",
          "acquire.path=data/mine", cwd=plates)
    shutil.rmtree(plates / "data/mine/images")
    shell("dvc", "queue", "start", cwd=plates)
    wait_for_queue(plates, 1)
    said = shell("dvc", "queue", "logs", "mine", cwd=plates)
    shell("dvc", "checkout", "-q", "data/mine.dvc", cwd=plates)
    assert "acquire: 16 sites" in said
    assert "missing" not in said


def test_plates_outside_the_repository_need_an_absolute_path(plates):
    outside = plates.parent / "plates"
    shell("dvc", "exp", "run", "--temp", "-S", "acquire.source=folder", "-S",
          f"acquire.path={outside}", cwd=plates)
    said = shell("dvc", "exp", "run", "-S", "acquire.source=folder", "-S",
                 "acquire.path=../plates", cwd=plates, expect=255)
    shell("git", "checkout", "-q", "params.yaml", cwd=plates)
    assert (f"error: acquire.path is ../plates, which points outside the repository. Write it in "
            f"params.yaml as {outside}, so that") in said
