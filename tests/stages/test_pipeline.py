"""The whole pipeline on a tiny simulated screen: run once, looked at from all sides."""

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import Page

import moascope
from moascope import cli
from moascope.evaluation.doses import read_doses
from moascope.work.files import rounded

# The first test waits for the whole pipeline, beside another process of tests.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
TINY = {
    "simulated": {"format": 96, "compounds": 36, "batches": 2, "fields": 1, "signal": 6.0,
                  "panels": ["A549 ACTB-RAB5A"]},
    "target": "gpcr",
    "prepare": {"crops": 1},
    "split": {"folds": 3, "repeats": 1, "holdout": 0.2},
    "activity": {"null_size": 200},
    "tune": {"trials": 3, "space": {"layers": [0, 1], "width": [8], "epochs": [5],
                                    "dropout": {"low": 0.0, "high": 0.5}}},
    "evaluate": {"bootstraps": 50, "permutations": 50, "refits": 1},
    "baseline": {"arms": ["scratch", "per_panel"], "size": 16, "epochs": 2},
}

# What a model says of itself depends on how a tiny screen falls out.
NO_VERDICT = pytest.mark.filterwarnings("ignore:By its own evaluation:UserWarning")

# Libraries that take seconds to import, and the stages that have a use for them.
SLOW = ("great_expectations", "keras", "matplotlib", "mlflow", "openvino", "optuna", "sklearn",
        "tensorflow", "zarr")
MAY_LOAD = {
    "acquire": set(),
    "validate": {"great_expectations", "mlflow"},
    "prepare": {"matplotlib"},
    # The first time that a machine sees a network; after that openvino alone.
    "embed": {"keras", "matplotlib", "openvino", "sklearn", "tensorflow"},
    "code": set(),
    "split": {"mlflow"},
    "activity": {"matplotlib", "sklearn"},
    # The maps of compounds without an annotation are asked of the network.
    "report": {"matplotlib", "mlflow", "openvino", "sklearn"},
    "tune": {"keras", "matplotlib", "mlflow", "optuna", "sklearn", "tensorflow"},
    "train": {"keras", "matplotlib", "mlflow", "sklearn", "tensorflow"},
    "evaluate": {"keras", "matplotlib", "mlflow", "sklearn", "tensorflow"},
    # As embed kept it, the network goes along with the model.
    "register": {"mlflow", "openvino"},
}
# Python runs a module of this name at its start; stages run with src first on their path.
NOTES_WHAT_IS_LOADED = f"""\
import atexit, pathlib, sys

def note():
    stage = sys.orig_argv[sys.orig_argv.index("stage") + 1]
    folder = pathlib.Path(__file__).parents[1] / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    loaded = [name for name in {SLOW} if name in sys.modules]
    (folder / f"loaded-{{stage}}").write_text(" ".join(loaded))

if "stage" in sys.orig_argv:
    atexit.register(note)
"""


def environment(**extra):
    """What a person's shell has after activating the environment."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MLFLOW", "DVC", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"} | extra


def shell(*command, cwd, expect=0, timeout=580):
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True,
                          timeout=timeout)
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def checkout(folder):
    """A repository of its own with the working tree's files and tiny parameters."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] = {**params[section], **values} if isinstance(values, dict) else values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "src/sitecustomize.py").write_text(NOTES_WHAT_IS_LOADED)
    for command in (["init", "-q"], ["add", "-A"],
                    ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """A repository in which `dvc repro register report` has run."""
    folder = checkout(tmp_path_factory.mktemp("repository"))
    output = shell("dvc", "repro", "register", "report", cwd=folder)
    (folder / "output.txt").write_text(output)
    return folder


def metrics(folder):
    return json.loads((folder / "reports/evaluate/metrics.json").read_text())


def test_every_stage_says_one_line_in_plain_words(ran):
    output = (ran / "output.txt").read_text()
    for stage in ("acquire", "validate", "prepare", "embed", "split", "activity", "tune",
                  "train", "evaluate", "report", "register"):
        assert f"\n{stage}: " in output
    assert "Warning" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize("stage", MAY_LOAD)
def test_a_stage_loads_no_slow_library_that_it_has_no_use_for(ran, stage):
    loaded = (ran / f".dvc/tmp/loaded-{stage}").read_text().split()
    assert set(loaded) <= MAY_LOAD[stage]


def test_nothing_runs_again_when_nothing_changed(ran):
    said = shell("dvc", "repro", "register", "report", cwd=ran)
    assert re.findall("Running stage '(.*)'", said) == ["code"]


def test_every_score_is_next_to_its_nulls(ran):
    found = metrics(ran)
    main = found["out_of_fold"]["compound"]
    assert {"average_precision", "low", "high", "prevalence", "lift", "null_mean", "p",
            "normalised_average_precision", "confusion"} <= main.keys()
    assert {"prevalence", "shuffled_labels", "position_only", "plate_only", "cell_count",
            "count_and_intensity"} == found["baselines"]["scores"].keys()
    assert found["random_image_split"]["valid"] is False
    assert "never the biology" in found["caveats"][0]
    assert found["held_out"]["compound"]["compounds"] >= 5
    assert found["unseen_batch"]["batches"] == 2


def test_published_numbers_follow_from_the_published_predictions(ran):
    from sklearn.metrics import average_precision_score, confusion_matrix

    for level in ("site", "well", "compound"):
        table = pd.read_csv(ran / f"reports/evaluate/predictions_{level}.csv")
        for side in ("out_of_fold", "held_out"):
            part = table[table["Split"] == side]
            said = metrics(ran)[side][level]
            positive = part["Label"] == "gpcr"
            assert said["average_precision"] == pytest.approx(
                average_precision_score(positive, part["P_gpcr"]), abs=1e-3)
            assert said["confusion"] == confusion_matrix(
                part["Label"], part["Predicted"], labels=["not_gpcr", "gpcr"]).tolist()
        np.testing.assert_allclose(table["P_gpcr"] + table["P_not_gpcr"], 1, atol=1e-4)


def test_activity_is_in_tables_in_the_metrics_and_in_the_predictions(ran):
    folder = ran / "reports/activity"
    doses, compounds = (pd.read_csv(folder / f"{name}.csv") for name in ("activity", "compounds"))
    assert {"Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Panel",
            "mean_average_precision", "corrected_p_value", "active"} <= set(doses)
    assert {"Metadata_MoA", "mean_average_precision", "corrected_p_value"} <= set(
        pd.read_csv(folder / "consistency.csv"))
    responses = read_doses(folder)
    assert len(responses.curves) and set(responses.curves["response"]) <= {"", "no", "yes",
                                                                           "all doses"}
    assert (responses.doses["distance"] > 0).all()
    assert len(compounds) == TINY["simulated"]["compounds"]
    assert doses["p_value"].between(0, 1).all()
    assert (folder / "activity.png").stat().st_size > 5000
    predictions = pd.read_csv(ran / "reports/evaluate/predictions_compound.csv")
    unseen = predictions[predictions["Split"] == "out_of_fold"]
    found = metrics(ran)["activity"]
    assert found["active"] == (unseen["Activity"] == "active").sum()
    assert found["tested"] == len(unseen)


def test_no_compound_is_predicted_by_a_model_that_saw_it(ran):
    compounds = pd.read_csv(ran / "reports/evaluate/predictions_compound.csv")
    groups = pd.read_parquet(ran / "data/split/groups.parquet")
    assert sorted(compounds["Metadata_Group"]) == sorted(groups["Metadata_Group"])
    held_out = set(compounds.loc[compounds["Split"] == "held_out", "Metadata_Group"])
    assert held_out == set(groups.loc[groups["Holdout"], "Metadata_Group"])


@pytest.fixture(scope="session")
def client(ran):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{ran / 'mlflow.db'}")


def test_a_notebook_computes_what_the_stages_computed(ran):
    screen = moascope.read_screen(ran / "data/acquire")
    features = moascope.read_features(ran / "data/embed", screen)
    folds = moascope.make_folds(screen, features, "gpcr", **TINY["split"])
    dealt = moascope.read_folds(ran / "data/split")
    pd.testing.assert_frame_equal(folds.groups, dealt.groups)
    assert folds.question == dealt.question
    result = moascope.cross_validate(features, folds, tuned=ran / "data/tune/tuned.yaml")
    for level, table in result.predictions.items():
        own = pd.read_parquet(ran / f"data/train/predictions_{level}.parquet")
        own = own[own["Split"] == "out_of_fold"].reset_index(drop=True)
        pd.testing.assert_frame_equal(table, own)
    scored = rounded(dict(moascope.evaluate(result, **TINY["evaluate"]).metrics))
    published = metrics(ran)
    for name in ("out_of_fold", "baselines", "by_panel", "by_mechanism", "head", "useful"):
        assert scored[name] == published[name], name


def test_a_notebook_computes_the_features_of_the_stages(ran):
    """Also where the stages look at what validate quarantined, and a notebook at the images."""
    screen = moascope.read_screen(ran / "data/acquire")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)   # sites that are left out
        features = moascope.extract_features(screen, cache=ran / ".dvc/tmp/notebook", crops=1)
    expected = moascope.read_features(ran / "data/embed", screen)
    pd.testing.assert_frame_equal(features, expected, rtol=1e-4, atol=1e-5)


@NO_VERDICT
def test_the_ten_lines_of_the_readme_run(ran, monkeypatch, capsys):
    monkeypatch.chdir(ran)
    import matplotlib

    matplotlib.use("Agg")
    lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len(lines.splitlines()) == 10
    names = {}
    exec(lines, names)
    assert "Cell count only" in capsys.readouterr().out
    assert set(names["wells"]["Predicted"]) <= {"gpcr", "not_gpcr", ""}


@NO_VERDICT
def test_the_example_of_the_documentation_runs(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(ran)
    maker = runpy.run_path(str(ROOT / "docs/make_example.py"))
    maker["run"](ROOT / "docs/example.py", tmp_path)
    assert "Cell count only" in (tmp_path / "example.md").read_text()
    assert len(list(tmp_path.glob("example_*.png"))) == 5


def test_mlflow_at_the_root_has_the_runs_and_the_candidate(ran, client):
    experiment = client.get_experiment_by_name("simulated gpcr")
    runs = client.search_runs(experiment.experiment_id)
    by_stage = {}
    for run in runs:
        by_stage.setdefault(run.data.tags["stage"], []).append(run)
    assert len(by_stage["validate"]) == 1
    study, = (r for r in by_stage["tune"] if "optuna.state" not in r.data.tags)
    trials = [r for r in by_stage["tune"] if r is not study]
    assert len(trials) == 3
    assert {r.data.tags["mlflow.parentRunId"] for r in trials} == {study.info.run_id}
    assert study.data.params["best.layers"] in ("0", "1")
    model, = by_stage["train"]
    assert model.data.metrics["average_precision"] == pytest.approx(
        metrics(ran)["out_of_fold"]["compound"]["average_precision"], abs=1e-5)
    curve = pd.read_csv(ran / "reports/train/curves.csv")
    logged = client.get_metric_history(model.info.run_id, "loss/A549 ACTB-RAB5A")
    assert [point.step for point in logged] == curve["epoch"].tolist()
    assert model.data.tags["digest.features"].endswith(".dir")
    assert "never the biology" in model.data.tags["mlflow.note.content"]
    parent, = by_stage["pipeline"]
    children = (study, model, *by_stage["validate"])
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert parent.info.run_name.endswith("compounds, 3 folds x 1")
    assert parent.data.metrics["average_precision"] == model.data.metrics["average_precision"]
    assert parent.data.metrics["best_inner_explained_information"] == pytest.approx(
        study.data.metrics["inner_explained_information"], abs=1e-6)
    version = client.get_model_version_by_alias("moascope", "candidate")
    assert "never the biology" in version.tags["caveat"]
    assert "never the biology" in version.description
    assert f"[{version.tags['interval']}]" in version.description
    registered = json.loads((ran / "reports/register/registration.json").read_text())
    assert registered["version"] == str(version.version)
    assert f"runs/{model.info.run_id}" in version.description
    artifacts = {item.path for item in client.list_artifacts(model.info.run_id, "evaluation")}
    assert "evaluation/report.html" in artifacts
    pages = {item.path for item in client.list_artifacts(by_stage["validate"][0].info.run_id,
                                                         "data_docs")}
    assert "data_docs/index.html" in pages


@pytest.fixture(scope="session")
def unseen(tmp_path_factory):
    """A screen of the same kind that the model never saw."""
    from moascope.params import Simulated
    from moascope.sources.simulated import simulate

    folder = tmp_path_factory.mktemp("unseen") / "screen"
    settings = Simulated(**TINY["simulated"] | {"compounds": 12, "batches": 1})
    simulate(settings, 99, folder, 1)
    return folder


@pytest.fixture
def say(monkeypatch, capsys):
    """A command in this process: one of its own would import TensorFlow for seconds."""
    def run(*command, cwd, expect=(0,)):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["moascope", *command])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            # MLflow comments on the type hints of a model that it loads from code.
            warnings.simplefilter("ignore", UserWarning)
            cli.main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) in expect, said
        return said.out, said.err

    return run


@pytest.fixture
def predict(ran, say):
    return lambda *arguments, expect=0: say("predict", *arguments, cwd=ran, expect=(expect,))


@pytest.mark.parametrize("level", ["site", "well", "compound"])
def test_a_registered_model_predicts_a_screen_it_never_saw(ran, unseen, predict, level):
    out = ran / f"unseen_{level}.csv"
    said, _ = predict("--model", "models:/moascope@candidate", "--screen", str(unseen), "--level",
                      level, "--out", str(out),
                      *(["--report", str(ran / "unseen.html")] if level == "compound" else []))
    table = pd.read_csv(out)
    assert f"{len(table)} predictions" in said
    if level == "compound":
        page = Page((ran / "unseen.html").read_text())
        assert all(address.startswith("data:image/jpeg") for address in page.loads)
        assert any(alt.startswith("negative control, plate") for alt in page.alts)
    expected = {"site": 60, "well": 60, "compound": 13}[level]
    assert len(table) == expected
    assert {"P_gpcr", "P_not_gpcr", "Predicted"} <= set(table)
    np.testing.assert_allclose(table["P_gpcr"] + table["P_not_gpcr"], 1, atol=1e-6)
    assert table["P_gpcr"].nunique() > 5
    known = table.loc[table["Metadata_Compound"] != "DMSO", "Activity"]
    assert set(known) <= {"active", "inactive: looks like DMSO"}
    assert table.loc[table["Metadata_Compound"] == "DMSO", "Activity"].isna().all()


def test_a_served_model_gives_the_same_answer(ran, unseen, predict):
    out = ran / "by_command.csv"
    predict("--model", "data/train/model", "--screen", str(unseen), "--level", "well", "--out",
            str(out))
    sites = pd.read_csv(unseen / "load_data.csv")
    layout = pd.read_csv(unseen / "layout.csv", keep_default_na=False,
                         na_values={"Metadata_Concentration_uM": [""]})
    rows = sites.merge(layout, on=["Metadata_Plate", "Metadata_Well"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["mlflow", "models", "serve", "-m", "models:/moascope@candidate", "--env-manager", "local",
         "-h", "127.0.0.1", "-p", str(port), "--workers", "1"],
        cwd=ran, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment(MLFLOW_TRACKING_URI=f"sqlite:///{ran / 'mlflow.db'}",
                        MOASCOPE_SCREENS=str(unseen.parent)),
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        body = {"dataframe_split": json.loads(rows.to_json(orient="split", index=False)),
                "params": {"screen": unseen.name, "level": "well"}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            served = pd.DataFrame(json.load(answer)["predictions"])
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
        server.stderr.close()
    expected = pd.read_csv(out)
    merged = expected.merge(served, on=["Metadata_Plate", "Metadata_Well"])
    assert len(merged) == len(expected)
    np.testing.assert_allclose(merged["P_gpcr_x"], merged["P_gpcr_y"], atol=1e-5)


def wait_for(address, server, seconds=90):
    for _ in range(seconds * 2):
        assert server.poll() is None, server.stderr.read().decode()[-2000:]
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {address} in {seconds} s")


def test_the_summary_says_the_score_its_nulls_and_where_to_look(ran):
    said = " ".join(shell("moascope", "summary", cwd=ran).split())
    for words in ("the model", "a random list (prevalence", "position only", "INVALID",
                  "Permutation p", "never the biology", "version 1", "report.html", "mlflow ui",
                  "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=results"):
        assert words in said


def test_the_gate_hears_from_the_registry_what_train_wrote(ran, say):
    """Whoever wins: the model is asked by its serving path and compared with its training."""
    said, error = say("promote", "--dry-run", cwd=ran, expect=(0, 1))
    assert "lift over a random list" in said
    assert "was not compared" not in said
    assert "Dry run, nothing is written" in said + error
    assert not (ran / "reports/promote").exists()


def test_the_score_stands_next_to_its_oracle(ran):
    oracle = metrics(ran)["oracle"]
    main = metrics(ran)["out_of_fold"]["compound"]
    assert oracle["average_precision"] > main["null_high"]
    assert oracle["efficiency"] == pytest.approx(
        (main["average_precision"] - main["prevalence"])
        / (oracle["average_precision"] - main["prevalence"]), abs=1e-4)
    assert "Oracle of the simulated screen" in (ran / "reports/report/report.html").read_text()


def test_a_worker_runs_trials_of_the_same_study_and_the_stage_logs_them(ran, say, tmp_path):
    shutil.copytree(ran / "data", tmp_path / "data",
                    ignore=shutil.ignore_patterns("images", "prepare", "train"))
    shutil.copy(ran / "params.yaml", tmp_path)
    assert "0 trials run here" in say("work", cwd=tmp_path)[0]
    edited(tmp_path, "tune", "trials", 4)
    said, _ = say("work", cwd=tmp_path)
    assert "1 trial run here; all 4 trials have begun" in said
    said, _ = say("stage", "tune", "--embedded", "data/embed", "--screen", "data/acquire",
                  "--split", "data/split", "--out", "data/tune/tuned.yaml", "--journal",
                  "data/tune/study.journal", "--report", "reports/tune", cwd=tmp_path)
    assert "0 trials run, 4 by earlier runs or other workers, 4 wanted in total" in said
    assert len(pd.read_csv(tmp_path / "reports/tune/trials.csv")) == 4


def test_the_study_is_in_mlflow_in_pictures_and_in_the_report(ran, client):
    experiment = client.get_experiment_by_name("simulated gpcr")
    study, = client.search_runs(experiment.experiment_id,
                                "tags.stage = 'tune' and metrics.trials > 0")
    assert {item.path for item in client.list_artifacts(study.info.run_id, "study")} == {
        "study/history.png", "study/curves.png", "study/slice.png"}
    assert study.data.metrics["trials"] == 3
    assert study.data.params["tune.storage"] == "None"
    assert "How the model was chosen" in (ran / "reports/report/report.html").read_text()


def test_another_dropout_trains_again_but_embeds_nothing(ran):
    said = shell("dvc", "repro", "--dry", cwd=edited(ran, "train", "dropout", 0.33))
    shell("git", "checkout", "-q", "params.yaml", cwd=ran)
    assert "Running stage 'train'" in said  # a dry run does not know what follows from it
    for stage in ("acquire", "validate", "prepare", "embed", "split", "activity", "tune"):
        assert f"Running stage '{stage}'" not in said


def edited(folder, section, key, value):
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[section][key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def test_a_wrong_parameter_ends_in_one_sentence(ran):
    edited(ran, "split", "fold", 3)
    said = shell(sys.executable, "-m", "moascope.cli", "stage", "split", "--screen", "data/acquire",
                 "--planes", "data/validate", "--embedded", "data/embed", "--out", "x", "--report",
                 "y", cwd=ran, expect=1)
    shell("git", "checkout", "-q", "params.yaml", cwd=ran)
    assert said.strip() == (
        "error: params.yaml: 'split.fold' is not a parameter. Did you mean 'split.folds'?"
    )


def test_predicting_with_what_is_not_there_ends_in_one_sentence(predict, tmp_path):
    for model, screen, words in (
        ("models:/moascope@champion", "data/acquire", "cannot be loaded"),
        ("data/train", "data/acquire", "is not a moascope model"),
        ("data/train/model", str(tmp_path), "load_data.csv"),
    ):
        _, said = predict("--model", model, "--screen", screen, "--out", str(tmp_path / "x.csv"),
                          expect=1)
        assert words in said
        assert "Traceback" not in said
        assert not (tmp_path / "x.csv").exists()


@pytest.fixture(scope="session")
def compared(ran):
    """The rest of the pipeline: two arms, of which one has nothing to do, and their table."""
    return shell("dvc", "repro", cwd=ran)


def test_arms_stand_in_one_table_between_the_slides_and_the_main_model(ran, compared):
    assert "\nbaseline: scratch: average precision over compounds: by compound" in compared
    assert "\nbaseline: per_panel: not run: the screen has a single panel" in compared
    assert "\ncompare: 1 of 2 arms" in compared
    assert "Warning" not in compared
    table = pd.read_csv(ran / "reports/baseline/results.csv")
    assert table["arm"].tolist() == ["the slides", "scratch", "scratch", "per_panel",
                                     "main model", "main model"]
    assert table.loc[0, ["tn", "fp", "fn", "tp"]].tolist() == [4716, 156, 312, 16]
    main = metrics(ran)["out_of_fold"]
    assert table["ap_compounds"].iloc[-1] == pytest.approx(main["compound"]["average_precision"])
    # The same unseen compounds as the main model's, one picture a well.
    honest = table.iloc[1]
    assert honest["compounds"] == main["site"]["compounds"]
    assert 0 < honest[["tn", "fp", "fn", "tp"]].sum() <= main["site"]["n"]
    assert "never the biology" in (ran / "reports/baseline/results.md").read_text()
    assert (ran / "reports/baseline/curves.png").read_bytes().startswith(b"\x89PNG")


def test_an_arm_is_a_run_whose_leaky_numbers_say_so(ran, compared, client):
    experiment = client.get_experiment_by_name("simulated gpcr")
    run, = client.search_runs(experiment.experiment_id, "tags.stage = 'baseline'")
    assert run.info.run_name == "baseline scratch"
    assert run.data.tags["arm"] == "scratch"
    scores = json.loads((ran / "data/baseline/scratch/scores.json").read_text())
    assert run.data.metrics["average_precision"] == pytest.approx(
        scores["by compound"]["compound"]["average_precision"], abs=1e-6)
    assert run.data.metrics["leaky.compound.average_precision"] == pytest.approx(
        scores["random image split"]["compound"]["average_precision"])
    for name in ("loss/training", "loss/held_out", "average_precision/held_out",
                 "leaky.loss/held_out"):
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [1, 2]


def test_another_number_of_epochs_trains_the_arms_again_and_nothing_else(ran, compared):
    said = shell("dvc", "repro", "--dry", cwd=edited(ran, "baseline", "epochs", 3))
    shell("git", "checkout", "-q", "params.yaml", cwd=ran)
    assert "Running stage 'baseline@scratch'" in said
    for stage in ("split", "train", "evaluate", "register"):
        assert f"Running stage '{stage}'" not in said


def test_results_of_another_process_are_the_same_bytes(ran, say, tmp_path):
    """Metrics and predictions, trained and evaluated anew in the process of the tests."""
    stages = yaml.safe_load((ran / "dvc.yaml").read_text())["stages"]
    for name in ("data", "reports/activity", "params.yaml", "dvc.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ran / name)
    for stage in ("train", "evaluate"):
        command = stages[stage]["cmd"].replace("data/train", "trained").split()
        say(*command[1:], cwd=tmp_path)
    made = sorted((tmp_path / "reports/evaluate").iterdir())
    assert {"metrics.json", "predictions_site.csv"} <= {path.name for path in made}
    for path in made:
        if path.suffix in (".csv", ".json"):
            assert path.read_bytes() == (ran / "reports/evaluate" / path.name).read_bytes()
