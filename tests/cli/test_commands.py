"""The command line as a newcomer meets it: help, version, and folders in which nothing has run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moascope.cli.app import COMMANDS, app
from moascope.project.shipped import package_version
from moascope.promotion.shown import show_decision
from moascope.report.summary import read_results

ROOT = Path(__file__).parents[2]
NAMES = [name for commands in COMMANDS.values() for name in commands]


def test_the_version_is_that_of_the_package(say):
    assert say("--version") == (0, f"moascope {package_version()}\n", "")


def test_every_command_is_in_one_group_and_its_help_fits_80_columns():
    assert len(NAMES) == len(set(NAMES)) == len(app.registered_commands)
    for words in ([], *([name] for name in NAMES)):
        done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
        assert done.exit_code == 0 and "Usage: moascope" in done.output
        assert max(map(len, done.output.splitlines())) <= 80
        # A word that is cut off ends in an ellipsis.
        assert "…" not in done.output, done.output


def test_help_speaks_english():
    """Words for which the field has better ones."""
    said = " ".join(CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output
                    for words in ([], *([name] for name in NAMES)))
    for stilted in (r"row an? \w", r"\bone an? (site|well|compound)", "beside", "gone on with",
                    r"\bis no\b", "asked about", "at most"):
        assert not re.search(stilted, said), stilted


METRICS = {
    "target": "gpcr", "source": "simulated", "unit": "compound", "above_chance": False,
    "useful": False, "mechanisms": {}, "warnings": [],
    "caveats": ["These scores prove the software, never the biology."],
    "out_of_fold": {"compound": {"compounds": 104, "prevalence": 0.163, "average_precision": 0.136,
                                 "low": 0.087, "high": 0.229, "null_mean": 0.198,
                                 "null_low": 0.133, "null_high": 0.319, "p": 0.964}},
    "held_out": {},
    "baselines": {"best": "cell_count",
                  "scores": {"cell_count": {"average_precision": 0.19, "low": 0.116,
                                            "high": 0.342},
                             "shuffled_labels": {"average_precision": 0.162, "low": 0.152,
                                                 "high": 0.171, "refits": 5}}},
}
REGISTERED = {"name": "moascope", "version": "1", "run_id": "0123456789abcdef" * 2,
              "experiment_id": "1"}


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder like a fresh clone: reports of another machine's run, and no data."""
    for name, held in (("evaluate/metrics.json", METRICS),
                       ("register/registration.json", REGISTERED)):
        (tmp_path / "reports" / name).parent.mkdir(parents=True)
        (tmp_path / "reports" / name).write_text(json.dumps(held))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def test_a_fresh_clone_has_no_results_of_its_own(clone, say):
    status, out, error = say("summary")
    assert (status, out) == (1, "")
    assert error.startswith("error: There are no results here yet: data/train does not exist. Run "
                            "`dvc repro register report`")


def test_where_results_were_pulled_the_summary_shows_them_without_pages_of_a_store_elsewhere(
        clone, say):
    (clone / "data/train").mkdir(parents=True)
    (clone / "data/train/run.json").write_text("{}")
    status, out, error = say("summary")
    assert (status, error) == (0, "")
    assert out.startswith("No: on this screen, images do not find the unseen compounds")
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in out.splitlines() if "│" in line]
    assert rows == [["the model", "0.136", "0.087 to 0.229"],
                    ["a random list (prevalence 0.163)", "0.198", "0.133 to 0.319"],
                    ["cell count", "0.190", "0.116 to 0.342"],
                    ["shuffled labels (range of 5 refits)", "0.162", "0.152 to 0.171"]]
    assert "Permutation p = 0.964: not above chance." in out
    assert "mlflow ui" not in out
    (clone / "mlflow.db").touch()
    assert "http://127.0.0.1:5000/#/" in say("summary")[1]


def test_an_unfinished_run_is_reported(clone, say):
    (clone / "data/train").mkdir(parents=True)
    (clone / "data/train/run.json").write_text("{}")
    lock = ("stages:\n  train:\n    outs: [{{path: data/train, md5: {}}}]\n"
            "  evaluate:\n    deps: [{{path: data/train, md5: a}}]\n")
    (clone / "dvc.lock").write_text(lock.format("a"))
    assert not read_results(Path("reports"), Path("data")).outdated
    (clone / "dvc.lock").write_text(lock.format("b"))
    assert "A later run was not finished" in say("summary")[1]
    (clone / "reports/register/registration.json").unlink()
    status, _, error = say("summary")
    assert status == 1
    assert "registration.json does not exist. Run `dvc repro register report`." in error


PROMOTION = {"name": "moascope", "version": "1", "to": "staging", "decision": "promoted",
             "unit": "compound", "numbers": {"average_precision": 0.95},
             "held_out": {"compounds": 25}, "reasons": []}


@pytest.mark.parametrize(("record", "words"), [
    (None, "is the candidate. `moascope promote` decides"),
    ({}, "is in staging: it passed every test of the gate on 25 held-out compounds, which took no "
         "part in training or tuning (average precision 0.950). Load it as "
         "models:/moascope@staging."),
    ({"decision": "refused", "reasons": ["The permutation test gives p = 0.4."]},
     "stays the candidate: on 25 held-out compounds, which took no part in training or tuning, it "
     "does not show enough for staging. The permutation test gives p = 0.4."),
    # Decisions on other versions, and those that came with a clone.
    ({"version": "2"}, "is the candidate. `moascope promote` decides"),
    ({"run_id": "f" * 32}, "is the candidate. `moascope promote` decides"),
])
def test_the_summary_says_where_the_model_stands(clone, say, record, words):
    (clone / "data/train").mkdir(parents=True)
    (clone / "data/train/run.json").write_text("{}")
    if record is not None:
        own = {"run_id": REGISTERED["run_id"]}
        (clone / "reports/promote").mkdir()
        (clone / "reports/promote/promotion.json").write_text(
            json.dumps(PROMOTION | own | record))
    status, out, _ = say("summary")
    assert status == 0
    assert words in " ".join(out.split())


@pytest.mark.parametrize(("efficiency", "words"), [
    (0.803, "scores 0.932 on the same folds. The model reaches 80 % of the distance"),
    (None, "this screen holds nothing to find")])
def test_the_summary_of_a_simulated_screen_shows_its_oracle(clone, say, efficiency, words):
    (clone / "data/train").mkdir(parents=True)
    (clone / "data/train/run.json").write_text("{}")
    assert "oracle" not in say("summary")[1]
    (clone / "reports/evaluate/metrics.json").write_text(json.dumps(METRICS | {"oracle": {
        "average_precision": 0.932, "low": 0.9, "high": 0.96, "p": 0.3, "efficiency": efficiency}}))
    said = " ".join(say("summary")[1].split())
    assert "oracle (true state of the" in said and words in said


@pytest.mark.parametrize("kind", [None, "trees"])
def test_the_summary_recommends_a_simple_model_that_is_demonstrably_better(clone, say, kind):
    (clone / "data/train").mkdir(parents=True)
    (clone / "data/train/run.json").write_text("{}")
    (clone / "reports/evaluate/metrics.json").write_text(
        json.dumps(METRICS | {"recommended_head": kind}))
    said = " ".join(say("summary")[1].split())
    assert ("demonstrably better" in said) == bool(kind)
    assert ("`dvc exp run -S train.head=trees`" in said) == bool(kind)


@pytest.mark.parametrize("command", [
    ("predict", "--model", "models:/moascope@candidate", "--screen", ".", "--out", "x.csv"),
    ("predict", "--model", "runs:/0/model", "--screen", ".", "--out", "x.csv"),
    ("promote",), ("promote", "--dry-run")])
def test_a_command_that_finds_no_registry_leaves_none_behind(clone, say, command):
    before = sorted(clone.rglob("*"))
    status, out, error = say(*command)
    assert (status, out) == (1, "")
    assert error.startswith(f"error: There is no registry at {clone / 'mlflow.db'} yet.")
    assert sorted(clone.rglob("*")) == before


@pytest.mark.parametrize(("command", "words"), [
    (("work",), "data/embed does not exist"),
    (("fetch",), "acquire.source is simulated, which needs no download"),
    (("stage", "explode"), "'explode' is not a stage. The stages are acquire, "),
    (("stage", "prepare", "--screen", "data/acquire", "--validation", "data/validate", "--out", "x",
      "--report", "y"), "The stage prepare reads data/acquire, data/validate, which earlier stages "
                        "make. Run `dvc repro prepare`"),
    (("init", "--upgrade"), "is not a moascope project: it has no dvc.yaml"),
])
def test_bad_input_ends_in_one_sentence(clone, say, command, words):
    status, out, error = say(*command)
    assert (status, out) == (1, "")
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize("command", [("work",), ("fetch",), ("promote",)])
def test_outside_a_project_the_way_to_one_is_shown(tmp_path, monkeypatch, say, command):
    monkeypatch.chdir(tmp_path)
    status, _, error = say(*command)
    assert status == 1 and "`moascope init FOLDER`" in error
    assert not list(tmp_path.iterdir())


def test_a_decision_shows_its_numbers_at_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    long = "average precision above the baseline " + "position_only " * 8
    record = {"name": "m", "version": "1", "to": "staging", "target": "gpcr", "unit": "compound",
              "held_out": {"compounds": 25, "positives": 4, "left_out_as_seen": 1,
                           "asked_before": 1},
              "requirements": [{"name": long, "measured": 0.123, "limit": 0.456, "sign": ">",
                                "passed": False},
                               {"name": "more than cell count", "measured": None, "limit": None,
                                "sign": ">", "passed": True}],
              "says_what_train_wrote": True, "source": "simulated"}
    show_decision(record)
    out = capsys.readouterr().out
    assert "0.123" in out and "> 0.456" in out and " NO " in out
    assert "not measured" in out and " yes " not in out
    assert "1 held-out compound excluded" in out and "1 earlier decision used" in out


WHERE = '''\
from pathlib import Path


def where(params, out: Path) -> str:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    import moascope

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        out.write_text(f"{moascope.__file__} {pool.submit(file_of_worker).result()}")
    return "done"


def file_of_worker():
    import moascope

    return moascope.__file__
'''


def test_a_stage_runs_the_source_that_the_working_folder_holds(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src",
                    ignore=shutil.ignore_patterns("__pycache__", "*.keras"))
    (tmp_path / "src/moascope/stages/where.py").write_text(WHERE)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # Another copy comes first, as an installed one would.
    done = subprocess.run([sys.executable, "-m", "moascope.cli", "stage", "where", "--out", "w"],
                          cwd=tmp_path, env=kept | {"PYTHONPATH": str(ROOT / "src")},
                          capture_output=True, text=True, check=False)
    assert done.stdout.startswith("where: done ("), done.stderr
    assert (tmp_path / "w").read_text().split() == [str(tmp_path / "src/moascope/__init__.py")] * 2


def test_registration_of_a_run_names_every_page(clone):
    from moascope.tracking.pages import results_pages

    (clone / "mlflow.db").touch()
    assert len(results_pages(REGISTERED)) == 4
    earlier = {key: value for key, value in REGISTERED.items() if key != "experiment_id"}
    assert [words for words, _ in results_pages(earlier)] == ["the model"]
