"""`moascope run` from a table of profiles: what it makes, says and keeps; the pipeline is slow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from profiled import make_profiles

from moascope import cli
from moascope.errors import MoascopeError
from moascope.layout.check import Checked
from moascope.project.make import make_project
from moascope.running import run
from moascope.running.ending import ending
from moascope.running.run import Ran
from moascope.running.state import alone
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen

ROOT = Path(__file__).parents[2]
TINY = {"split": {"folds": 3, "repeats": 1}, "tune": {"trials": 0},
        "evaluate": {"bootstraps": 50, "permutations": 50, "refits": 1}}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a table of profiles and one of compounds; git knows nobody there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    screen = make_profiles(tmp_path / "made", plates=3, compounds=24, features=40)
    layout = pd.read_csv(screen / "layout.csv", keep_default_na=False)
    layout.merge(pd.read_parquet(screen / "profiles.parquet"),
                 on=["Metadata_Plate", "Metadata_Well"]).to_csv("plates.csv", index=False)
    pd.read_csv(screen / "annotations.csv").drop(columns="gpcr").to_csv("compounds.csv",
                                                                        index=False)
    return tmp_path


@pytest.fixture
def say(lab, monkeypatch, capsys):
    """`moascope run plates.csv ...` in this process: exit status, output and error."""
    # No step takes a second, however busy the machine is.
    monkeypatch.setattr("moascope.running.shown.time", SimpleNamespace(monotonic=lambda: 0.0))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["moascope", "run", "plates.csv", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def without_pipeline(monkeypatch):
    """The stages do nothing but say so; the run has ended when they have."""
    calls = []

    def reproduce(project, tell, keep):
        with pytest.raises(MoascopeError, match="is running already"), alone(project):
            pass
        calls.append(project)
        tell("begins", "acquire", "")
        tell("done", "acquire", "96 sites (2 s)")
        tell("skipped", "embed", "")

    def check_layout(folder, out, target):
        out.mkdir(parents=True, exist_ok=True)
        (out / "screen.html").touch()
        labels = label_screen(read_screen(folder, tables_only=True), target)
        return Checked(read_screen(folder, tables_only=True), labels, out / "screen.html", "Fine.")

    monkeypatch.setattr(run, "reproduce", reproduce)
    # Drawing the page takes seconds; below, where a run is interrupted, it is drawn.
    monkeypatch.setattr(run, "check_layout", check_layout)
    monkeypatch.setattr("moascope.running.ending.ending", lambda ran: ("Yes.", [("report", "r")]))
    return calls


def params(lab):
    return yaml.safe_load((lab / "plates_moascope/params.yaml").read_text())


def test_without_mechanisms_it_ends_before_the_pipeline_and_goes_on_with_them(
        lab, say, without_pipeline):
    status, out, error = say("--target", "gpcr")
    assert (status, without_pipeline) == (1, [])
    assert error.splitlines()[-1].startswith("error: None of the 24 compounds (C00, C01, C02 and ")
    assert "`moascope run plates.csv --target gpcr --moa COMPOUNDS.csv`" in error
    status, out, _ = say("--moa", "compounds.csv")   # the target holds
    assert (status, without_pipeline) == (0, [lab / "plates_moascope"])
    assert "goes on from its last run" in out
    assert "annotate  24 compounds: 12 act through a GPCR, 12 do not, 0 unknown\n" in out
    assert "\nlayout    Fine.\n" in out
    assert "\nacquire   96 sites (2 s)\nembed     done before\n" in out
    assert out.endswith(" s. Yes.\nreport    r\n")
    assert max(map(len, out.splitlines())) <= max(80, len(str(lab)) + 60)


def test_too_few_compounds_of_a_class_are_told_before_the_pipeline(lab, say, without_pipeline):
    table = pd.read_csv("compounds.csv")
    table.loc[8:, "Metadata_MoA"] = "Tubulin inhibitor"   # four of the others are left
    table.to_csv("compounds.csv", index=False)
    status, _, error = say("--moa", "compounds.csv", "--target", "gpcr")
    assert (status, without_pipeline) == (1, [])
    assert "split.holdout = 0.2 of 4 compounds of 'gpcr' is less than one" in error
    assert f"params.yaml is {lab / 'plates_moascope/params.yaml'}. After a change, run" in error


def test_params_hold_what_was_said_and_keep_what_a_person_changed(lab, say, without_pipeline):
    say("--moa", "compounds.csv", "--target", "gpcr")
    made = params(lab)
    assert made["target"] == "gpcr"
    assert made["acquire"]["source"] == "folder" and made["acquire"]["path"] == "screen"
    assert made["embed"]["backbone"] == "profiles" and made["train"]["selection"] == "distinct"
    assert made["train"]["head"] == "tuned"
    path = lab / "plates_moascope/params.yaml"
    text = path.read_text()
    assert "# gpcr | gpcr_agonist" in text   # comments stay
    path.write_text(text.replace("selection: distinct", "selection: none"))
    status, out, _ = say("--moa", "compounds.csv")
    assert status == 0 and "import    done before, and the plates have not changed\n" in out
    assert "layout    done before" in out
    # The target is the project's where none is given.
    assert params(lab) == made | {"train": made["train"] | {"selection": "none"}}
    status, out, _ = say("--moa", "compounds.csv", "--target", "moa")
    assert params(lab)["target"] == "moa" and "layout    done before" not in out
    assert params(lab)["train"]["selection"] == "none"


def test_plates_are_compared_by_controls_once_there_are_some(lab, say, without_pipeline):
    table = pd.read_csv("plates.csv", keep_default_na=False)
    table[table["Metadata_Control"] == ""].to_csv("plates.csv", index=False)
    status, out, error = say("--moa", "compounds.csv", "--target", "gpcr")
    assert status == 0, error
    assert "No well is a negative control, so train.normalisation is none" in " ".join(out.split())
    assert params(lab)["train"]["normalisation"] == "none"
    table.to_csv("plates.csv", index=False)
    status, out, _ = say()
    assert status == 0 and "so train.normalisation" not in " ".join(out.split())
    assert params(lab)["train"]["normalisation"] == "moderated+sphere"


def test_a_normalisation_that_a_person_chose_outlives_new_controls(lab, say, without_pipeline):
    table = pd.read_csv("plates.csv", keep_default_na=False)
    table[table["Metadata_Control"] == ""].to_csv("plates.csv", index=False)
    say("--moa", "compounds.csv", "--target", "gpcr")
    path = lab / "plates_moascope/params.yaml"
    path.write_text(path.read_text().replace("  normalisation: none", "  normalisation: plate"))
    assert params(lab)["train"]["normalisation"] == "plate"
    table.to_csv("plates.csv", index=False)
    assert say()[0] == 0
    assert params(lab)["train"]["normalisation"] == "plate"


def test_what_else_lies_in_the_folder_is_never_taken_for_the_project(lab, say, without_pipeline):
    make_project(lab / "mine")
    status, _, error = say("--out", "mine")
    assert status == 1 and "a project that `moascope run` did not make" in error
    say("--moa", "compounds.csv")
    (lab / "plates.csv").rename(lab / "other.csv")
    with pytest.raises(MoascopeError, match=r"is the project of .*plates\.csv\. Name another"):
        run._require_project_of(lab / "plates_moascope", [str(lab / "other.csv")])
    assert len(without_pipeline) == 1


def test_a_screen_folder_is_read_where_it_is(lab, say, without_pipeline, monkeypatch):
    monkeypatch.chdir(lab)
    (lab / "plates.csv").unlink()
    (lab / "made").rename(lab / "plates.csv")   # a folder, whatever its name
    before = sorted(path.name for path in (lab / "plates.csv").iterdir())
    status, _, error = say("--moa", "compounds.csv", "--out", "p")
    assert status == 1 and "is a screen with its three tables, and --moa is for plates" in error
    status, out, error = say("--target", "gpcr", "--out", "p")
    assert status == 0, error
    assert "is a screen already and is read where it is" in " ".join(out.split())
    made = yaml.safe_load((lab / "p/params.yaml").read_text())
    assert made["acquire"]["path"] == str(lab / "plates.csv")
    assert sorted(path.name for path in (lab / "plates.csv").iterdir()) == before


def test_an_interrupt_is_exit_status_130_and_a_sentence(lab, say, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "reproduce", interrupted)
    status, _, error = say("--moa", "compounds.csv")
    assert status == 130
    assert (lab / "plates_moascope/reports/layout/screen.html").is_file()
    assert error.endswith("Stopped. What was finished is kept, and the same command goes on from "
                          "it.\n")


def test_the_ending_says_where_to_look_and_what_is_missing(tmp_path, monkeypatch):
    metrics = {"target": "gpcr", "unit": "compound", "out_of_fold": {}}
    monkeypatch.setattr("moascope.running.ending.read_results",
                        lambda report, data: SimpleNamespace(metrics=metrics))
    monkeypatch.setattr("moascope.running.ending.verdict", lambda metrics: ("no", "No."))
    monkeypatch.chdir(tmp_path)
    project = tmp_path / "my plates"
    said, rows = ending(Ran(project, project / "screen", 24, 20, 1, 3.0))
    assert said == "No."
    table = "'my plates/screen/annotations.csv'"
    assert rows == [
        ("compounds", "24 compounds, 20 with a mechanism"),
        ("report", "my plates/reports/report/report.html"),
        ("unknown", "my plates/reports/report/predictions.html: what the 4 compounds without a "
                    "mechanism look like"),
        ("layout", "my plates/reports/layout/screen.html"),
        ("next", "1 compound waits for your decision: moascope annotate "
                 f"{table} --out {table} --ask"),
        ("next", f"fill in Metadata_MoA of 4 compounds in {table}, where you know it"),
        ("next", "cd 'my plates' && moascope summary")]
    _, rows = ending(Ran(project, project / "screen", 24, 24, 0, 3.0))
    assert [name for name, _ in rows] == ["compounds", "report", "layout", "next"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("controls", ["controls", "no controls"])
def test_a_table_of_profiles_goes_to_its_report_and_nothing_is_done_twice(lab, say, controls):
    if controls == "no controls":
        table = pd.read_csv("plates.csv", keep_default_na=False)
        table[table["Metadata_Control"] == ""].to_csv("plates.csv", index=False)
    assert say()[0] == 1
    path = lab / "plates_moascope/params.yaml"
    content = yaml.safe_load(path.read_text())
    for section, values in TINY.items():
        content[section] |= values
    path.write_text(yaml.safe_dump(content, sort_keys=False))

    def moascope():
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
        done = subprocess.run(
            [sys.executable, "-m", "moascope.cli", "run", "plates.csv", "--moa", "compounds.csv",
             "--target", "gpcr"], cwd=lab, capture_output=True, text=True, env=kept, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = moascope()
    assert "images find" in said or "profiles find" in said
    assert (lab / "plates_moascope/reports/report/report.html").is_file()
    registered = json.loads((lab / "plates_moascope/reports/register/registration.json"
                             ).read_text())
    assert registered["version"] == "1"
    again = moascope()
    stages = again[again.index("\nacquire "):]
    assert stages.count(" done before\n") == 11
