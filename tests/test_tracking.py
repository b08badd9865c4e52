from pathlib import Path

import pytest

from moascope.params import parse_params
from moascope.tracking.registry import pinned_requirements
from moascope.tracking.runs import dvc_digests, experiment_name, flat, flat_numbers

PARAMS = parse_params({"target": "moa", "acquire": {"source": "folder", "path": "a/plates"}})


def test_an_experiment_is_named_after_screen_and_target():
    assert experiment_name(PARAMS) == "plates moa"
    assert experiment_name(parse_params({})) == "simulated gpcr"


def test_parameters_are_listed_by_section():
    listed = flat(PARAMS)
    assert listed["train.dropout"] == "tuned"
    assert listed["validate.max_quarantined"] == 0.1
    assert listed["target"] == "moa"


def test_numbers_of_a_nested_result_become_metrics_that_mlflow_accepts():
    nested = {"a": {"5-HT (2A)": {"x": 1}, "flag": True, "text": "no"}, "b": 0.5}
    assert flat_numbers(nested) == {"a.5-HT _2A_.x": 1.0, "b": 0.5}


def test_digests_come_from_the_lock_of_dvc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dvc_digests({"screen": Path("data/acquire")}) == {}
    Path("dvc.lock").write_text(
        "stages:\n  acquire:\n    outs:\n    - path: data/acquire\n      md5: abc.dir\n")
    assert dvc_digests({"screen": Path("data/acquire"), "other": Path("x")}) == {
        "screen": "abc.dir"}


def test_requirements_are_pinned_and_only_a_deep_backbone_needs_tensorflow():
    light, deep = pinned_requirements(False), pinned_requirements(True)
    assert all("==" in line for line in deep)
    assert not any(line.startswith("tensorflow") for line in light)
    assert any(line.startswith("tensorflow==") for line in deep)


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_of_a_temporary_workspace_land_in_the_parent_repository(store, monkeypatch):
    from mlflow import MlflowClient

    from moascope.tracking.runs import resume_run, start_run

    workspace = store / "workspace"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("DVC_ROOT", str(store))
    monkeypatch.setenv("DVC_EXP_NAME", "try-one")
    with start_run(PARAMS, "one", "train", {}) as run:
        (workspace / "x.txt").write_text("x")
        import mlflow

        mlflow.log_artifact("x.txt")
    assert (store / "mlflow.db").exists()
    assert not (workspace / "mlflow.db").exists()
    assert list((store / "mlruns").rglob("x.txt"))
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    assert client.get_run(run.info.run_id).data.tags["dvc_exp_name"] == "try-one"

    with resume_run(PARAMS, run.info.run_id, "one", "evaluate", {}) as again:
        assert again.info.run_id == run.info.run_id


def test_a_run_that_is_not_in_this_store_is_said_and_logged_anew(store, capsys):
    from mlflow import MlflowClient

    from moascope.tracking.runs import resume_run

    with resume_run(PARAMS, "0" * 32, "again", "evaluate", {}) as run:
        pass
    assert "is not in this tracking store" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    assert client.get_run(run.info.run_id).data.tags["original_run"] == "0" * 32
