"""A project that is moved or copied finds its runs and models, and leaves the original alone."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from moascope.errors import MoascopeError
from moascope.params_file import parse_params
from moascope.tracking.moved import follow_project

PARAMS = parse_params({})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project, in a folder whose name needs quoting, with a run that has an artifact."""
    folder = tmp_path_factory.mktemp("a place") / "mlruns"   # the hardest name
    folder.mkdir()
    patch = pytest.MonkeyPatch()
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.delenv("DVC_ROOT", raising=False)
    patch.chdir(folder)
    with patch.context():
        run_in(folder)
    yield folder
    patch.undo()


def run_in(folder):
    import mlflow

    from moascope.tracking.runs import start_run

    with start_run(PARAMS, "one", "train", {}) as run:
        Path(folder / "x.txt").write_text("x")
        mlflow.log_artifact(str(folder / "x.txt"))
    return run.info.run_id


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of its own for every test, made by `cp -a`; the original stays where it is."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    copy = tmp_path / "a copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


def paths(folder):
    from moascope.tracking.moved import COLUMNS

    with sqlite3.connect(folder / "mlflow.db") as connection:
        return [value for table, column in COLUMNS
                for value, in connection.execute(f"SELECT {column} FROM {table}")
                if value and not value.startswith("models:")]


def test_a_run_in_a_copy_writes_into_the_copy_and_never_into_the_original(project, made, capsys):
    before = sorted(made.rglob("*"))
    run_id = run_in(project)
    assert sorted(made.rglob("*")) == before
    assert (project / "mlruns" / run_id / "artifacts/x.txt").exists()
    said = capsys.readouterr().err
    assert f"This project was at {made} and is now at {project}" in said
    run_in(project)
    assert capsys.readouterr().err == "", "it is said once"


def test_after_a_move_artifacts_are_found(project, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    moved = tmp_path / "moved"
    project.rename(moved)
    monkeypatch.chdir(moved)
    follow_project(moved)
    assert paths(moved)
    assert all("/moved/mlruns" in value for value in paths(moved))
    client = MlflowClient(f"sqlite:///{moved / 'mlflow.db'}")
    run, = client.search_runs(["1"])
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["x.txt"]


def test_a_database_that_came_without_its_artifacts_is_corrected_too(project):
    shutil.rmtree(project / "mlruns")
    follow_project(project)
    assert all("a%20copy/mlruns" in value or "a copy/mlruns" in value for value in paths(project))


def test_a_large_disk_that_somebody_chose_for_artifacts_stays(project, tmp_path):
    disk = tmp_path / "disk"
    (disk / "mlruns").mkdir(parents=True)
    with sqlite3.connect(project / "mlflow.db") as connection:
        connection.execute(
            "INSERT INTO experiments (name, artifact_location, lifecycle_stage) VALUES "
            "('large', ?, 'active')", (f"{disk}/mlruns",))
    follow_project(project)
    assert f"{disk}/mlruns" in paths(project)
    assert len([value for value in paths(project) if "a%20copy" in value]) >= 2


def test_what_is_in_place_is_not_written_to(project):
    follow_project(project)
    before = (project / "mlflow.db").read_bytes()
    follow_project(project)
    assert (project / "mlflow.db").read_bytes() == before


def test_a_database_that_cannot_be_read_is_a_sentence(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database at all, but some text of a person\n" * 40)
    with pytest.raises(MoascopeError, match=r"mlflow\.db cannot be used: file is not a database"):
        follow_project(tmp_path)
