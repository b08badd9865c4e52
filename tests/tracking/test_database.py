"""MLflow's database is whole, whenever its maker is killed."""

import sqlite3
import subprocess
import sys
import time

import pytest

from moascope.params_file import parse_params
from moascope.tracking.database import make_database, remove_half_made


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def half_made(database):
    """As MLflow leaves it when it is killed between its first tables and its last."""
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT)")
        connection.execute("CREATE TABLE issues (issue_id INTEGER)")


def test_a_database_that_was_half_made_is_made_anew_and_takes_a_run(project):
    from mlflow import MlflowClient

    from moascope.tracking.runs import start_run

    half_made(project / "mlflow.db")
    with start_run(parse_params({}), "one", "validate", {}) as run:
        pass
    found = MlflowClient(f"sqlite:///{project / 'mlflow.db'}").get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert not list(project.glob("mlflow.db.partial*"))


def test_a_maker_that_is_killed_leaves_no_database(project):
    program = ("from pathlib import Path; from moascope.tracking.database import make_database; "
               "print('begins', flush=True); make_database(Path('mlflow.db'), Path('mlruns'))")
    maker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert maker.stdout.readline() == "begins\n"
    partial = project / "mlflow.db.partial"
    while not (partial.exists() and partial.stat().st_size):
        assert maker.poll() is None
        time.sleep(0.01)
    maker.kill()
    maker.communicate()
    assert not (project / "mlflow.db").exists()
    make_database(project / "mlflow.db", project / "mlruns")
    with sqlite3.connect(project / "mlflow.db") as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    assert not partial.exists()


def test_only_a_database_without_an_experiment_is_removed(project):
    database = project / "mlflow.db"
    remove_half_made(database)
    for made in (lambda: half_made(database), database.touch):
        made()
        remove_half_made(database)
        assert not database.exists()
    half_made(database)
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO experiments VALUES (0, 'Default')")
    remove_half_made(database)
    assert database.exists()
    database.write_text("no database at all, but some text of a person\n" * 40)
    remove_half_made(database)
    assert database.exists()
