import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.params import Head
from moascope.params_file import parse_params
from moascope.tracking.comparison import (
    address,
    model_name,
    pipeline_name,
    run_address,
    saved_views,
)
from moascope.tracking.numbers import HEADLINE, evaluation_metrics, flat_numbers, headline_metrics
from moascope.tracking.registry import pinned_requirements
from moascope.tracking.runs import dvc_digests, experiment_name, flat

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


def test_requirements_are_pinned_and_not_even_a_deep_backbone_needs_tensorflow():
    light, deep = pinned_requirements(False), pinned_requirements(True)
    assert all("==" in line for line in deep)
    assert not any(line.startswith("openvino") for line in light)
    assert any(line.startswith("openvino==") for line in deep)
    assert not any(line.startswith(("tensorflow", "keras")) for line in deep)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A database with its tables made, which takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path, monkeypatch, empty_database):
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def client(store):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


INPUTS = {"screen": Path("data/acquire"), "split": Path("data/split")}


def lock(screen="a" * 32, split="b" * 32):
    """dvc.lock as DVC leaves it when data and folds are made."""
    Path("dvc.lock").write_text(json.dumps({"stages": {
        "acquire": {"outs": [{"path": "data/acquire", "md5": screen}]},
        "split": {"outs": [{"path": "data/split", "md5": split}]},
    }}))


def logged(name, stage="train", score=None, **metrics):
    """A run of a stage, with a score where one is given; its id."""
    import mlflow

    from moascope.tracking.runs import start_run

    with start_run(PARAMS, name, stage, INPUTS) as run:
        if score is not None:
            mlflow.log_metrics(headline_metrics(
                {"average_precision": score, "low": score / 2, "high": 1, "prevalence": 0.1,
                 "null_mean": 0.15, "lift": 2, "p": 0.03}, 0.2))
        if metrics:
            mlflow.log_metrics(metrics)
    return run.info.run_id


def parent_of(client, run_id):
    return client.get_run(client.get_run(run_id).data.tags["mlflow.parentRunId"])


def test_runs_on_the_same_data_and_folds_share_a_parent(store, client):
    lock()
    one, two = logged("one"), logged("two")
    lock(split="c" * 32)
    other_folds = logged("other folds")
    lock(screen="d" * 32)
    other_data = logged("other data")
    parents = [parent_of(client, run).info.run_id for run in (one, two, other_folds, other_data)]
    assert parents[0] == parents[1]
    assert len(set(parents)) == 3


def test_a_run_outside_of_dvc_is_not_called_comparable(store, client):
    assert "mlflow.parentRunId" not in client.get_run(logged("by hand")).data.tags


def test_a_parent_is_named_for_people(store, client):
    Path("data/split").mkdir(parents=True)
    pd.DataFrame({"Holdout": [True, False, False]}).to_parquet("data/split/groups.parquet")
    Path("data/split/target.json").write_text(json.dumps({"unit": "compound"}))
    assert pipeline_name(PARAMS, Path("data/split")) == (
        "moa on plates, 2 compounds, 5 folds x 2")
    lock()
    assert parent_of(client, logged("one")).info.run_name.startswith("moa on plates, 2 compounds")


def test_models_are_named_for_people():
    assert model_name("morphology", Head(layers=0, dropout=0.25)) == (
        "morphology, linear, dropout 0.25")
    assert model_name("resnet50", Head(layers=2, width=32, dropout=0)) == (
        "resnet50, 2 layers of 32, dropout 0")


def test_the_parent_shows_the_latest_model_not_the_one_with_the_best_reported_score(store, client):
    lock()
    logged("lucky", score=0.9)
    latest = logged("latest", score=0.3)
    logged("baseline scratch", "baseline", score=0.95)
    parent = parent_of(client, latest)
    assert parent.data.metrics["average_precision"] == pytest.approx(0.3)
    assert parent.data.tags["latest_run"] == latest
    note = parent.data.tags["mlflow.note.content"]
    assert "reported scores are never used for selection" in note
    positions = [note.index(f"| [{name}]") for name in ("lucky", "latest", "baseline scratch")]
    assert positions == sorted(positions)   # in order of time


def test_the_parent_shows_the_trial_that_the_inner_score_chose(store, client):
    import mlflow

    from moascope.tracking.runs import start_run

    lock()
    for inner, layers in ((0.1, 0), (0.4, 2), (0.2, 1)):
        with start_run(PARAMS, "study", "tune", INPUTS) as run:
            mlflow.log_metric("inner_explained_information", inner)
            mlflow.log_params({"best.layers": layers, "best.dropout": 0.123456})
    parent = parent_of(client, run.info.run_id)
    assert parent.data.metrics["best_inner_explained_information"] == pytest.approx(0.4)
    assert parent.data.tags["best_trial"] == "dropout 0.123, layers 2"
    assert "average_precision" not in parent.data.metrics


def test_validation_comes_below_the_parent_on_its_data(store, client):
    from moascope.tracking.screens import log_validation

    lock()
    log_validation(PARAMS, {
        "sites": 10, "plates": 1, "compounds": 3, "quarantine": {"sites": 2},
        "expectations": [{"success": False, "expectation": "Every plate has controls"}],
        "warnings": ["Plate 1 has no DMSO."],
    }, Path("nowhere"))
    parent = parent_of(client, logged("model"))
    experiment = parent.info.experiment_id
    validated, = client.search_runs([experiment], "tags.stage = 'validate'")
    assert validated.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run_address(experiment, validated.info.run_id) in parent.data.tags["mlflow.note.content"]
    note = validated.data.tags["mlflow.note.content"]
    for words in ("8 of 10 sites usable", "Every plate has controls", "Plate 1 has no DMSO."):
        assert words in note


def test_a_name_with_a_pipe_does_not_break_the_table_of_a_description(store, client):
    lock()
    parent = parent_of(client, logged("a | b", score=0.5))
    assert "[a / b]" in parent.data.tags["mlflow.note.content"]


# One process imports MLflow, which takes seconds, and then becomes three.
MAKERS = """
import multiprocessing, sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from mlflow import MlflowClient
from moascope.params_file import parse_params
from moascope.tracking.comparison import pipeline_run

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(3)

def make(_):
    client = MlflowClient(f"sqlite:///{sys.argv[1]}")
    create = client.create_run
    def slowly(*arguments, **named):
        time.sleep(0.5)   # so that all have looked before one has made it
        return create(*arguments, **named)
    client.create_run = slowly
    client.search_runs(["0"])
    barrier.wait(60)
    return pipeline_run(client, "0", parse_params({}), {"screen": "a", "split": "b"}, None,
                        Path(sys.argv[1]))

with fork.Pool(3) as pool:
    print(*pool.map(make, range(3), chunksize=1))
"""


def test_processes_that_start_at_once_make_one_parent_between_them(store, client):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MAKERS, store / "mlflow.db"],
                          capture_output=True, text=True, timeout=200, check=True)
    made = done.stdout.split()
    assert len(made) == 3
    assert [run.info.run_id for run in client.search_runs(["0"])] == list(set(made))


def test_on_a_server_the_elder_of_two_parents_stays(store, client, monkeypatch):
    """No lock reaches over machines: who finds an elder one withdraws its own."""
    from moascope.tracking import comparison

    digests = {"screen": "a", "split": "b"}
    elder = comparison.pipeline_run(client, "0", PARAMS, digests, None, None)
    looked = []
    parents = comparison._parents

    def blind_at_first(*arguments):
        looked.append(arguments)
        return [] if len(looked) <= 2 else parents(*arguments)

    monkeypatch.setattr(comparison, "_parents", blind_at_first)
    assert comparison.pipeline_run(client, "0", PARAMS, digests, None, None) == elder
    assert [run.info.run_id for run in client.search_runs(["0"])] == [elder]


def test_the_saved_view_of_results_holds_every_score_and_no_parent(store, client):
    lock()
    scored = {logged("model", score=0.4), logged("baseline scratch", "baseline", score=0.2)}
    logged("study", "tune")
    experiment = client.get_experiment_by_name("plates moa")
    view = json.loads(experiment.tags["mlflow.sharedViewState.results"])
    found = client.search_runs([experiment.experiment_id], view["searchFilter"],
                               order_by=[f"{view['orderByKey']} DESC"])
    assert {run.info.run_id for run in found} == scored
    assert [f"metrics.`{name}`" for name in HEADLINE] == view["selectedColumns"][:len(HEADLINE)]
    assert set(client.get_run(next(iter(scored))).data.metrics) == set(HEADLINE)


def evaluated(score=0.4):
    """A small metrics.json."""
    own = {"average_precision": score, "low": 0.2, "high": 0.7, "prevalence": 0.1, "lift": 4.0,
           "p": 0.01, "roc_auc": 0.8, "confusion": [[1, 2], [3, 4]]}
    return {
        "out_of_fold": {level: own for level in ("compound", "well", "site")},
        "held_out": {"compound": own},
        "mechanisms": {f"mechanism {i}": own for i in range(40)},
        "baselines": {"best": "position_only", "scores": {
            "position_only": {"average_precision": 0.2, "low": 0.1, "high": 0.3},
            "prevalence": {"average_precision": 0.1, "low": 0.1, "high": 0.1}}},
        "random_image_split": {"true_labels": {"compound": {"average_precision": 0.9}}},
    }


def test_a_models_run_has_tens_of_numbers_and_the_rest_is_in_its_artifacts():
    numbers = evaluation_metrics(evaluated())
    assert len(numbers) < 40
    assert not [name for name in numbers if "mechanism" in name]
    assert numbers["average_precision"] == numbers["held_out.average_precision"] == 0.4
    assert numbers["best_baseline"] == numbers["baseline.position_only"] == 0.2
    assert numbers["site.average_precision"] == 0.4
    assert numbers["compound.roc_auc"] == 0.8
    assert numbers["invalid.random_image_split"] == 0.9


def test_a_screen_on_which_nothing_is_held_out_or_leaks_has_fewer_numbers():
    wells = evaluated() | {"held_out": {}, "unseen_batch": {}}
    del wells["random_image_split"]
    numbers = evaluation_metrics(wells)
    assert not [name for name in numbers if name.startswith(("held_out", "invalid", "unseen"))]


def test_the_channels_that_are_missed_most_are_among_the_numbers():
    channels = {f"C {i}": {"lost": i / 10} for i in range(9)}
    parts = {"Cells": {"lost": 1.0}}
    numbers = evaluation_metrics(evaluated() | {"explanation": {
        "groups": {"channel": channels, "compartment": parts}}})
    lost = {name: value for name, value in numbers.items() if name.startswith("lost_without.")}
    assert lost == {f"lost_without.C {i}": i / 10 for i in range(3, 9)}
    assert not [name for name in evaluation_metrics(evaluated() | {"explanation": None})
                if name.startswith("lost")]


def test_the_comparison_of_all_results_shows_each_baseline_once(store, client):
    """Evaluated twice: the second time brings the same runs up to date."""
    from moascope.tracking.evaluations import log_baselines

    lock()
    run_id = logged("a model", score=0.4)
    model = client.get_run(run_id)
    log_baselines(model, evaluated())
    again = evaluated()
    again["baselines"]["scores"]["position_only"]["average_precision"] = 0.25
    log_baselines(model, again)
    view = json.loads(saved_views()["results"])
    shown = client.search_runs([model.info.experiment_id], view["searchFilter"],
                               order_by=[f"{view['orderByKey']} DESC"])
    assert [(run.info.run_name, run.data.metrics["average_precision"]) for run in shown] == [
        ("a model", 0.4), ("baseline position only", 0.25), ("baseline prevalence", 0.1)]
    parent = parent_of(client, run_id).info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in shown} == {parent}
    assert {run.data.metrics["prevalence"] for run in shown} == {0.1}


def test_a_data_set_is_called_by_its_screens_name(store, client):
    from moascope.tracking.runs import log_data, start_run

    with start_run(PARAMS, "one", "train", {}) as run:
        log_data(PARAMS, "a" * 40, "training")
    dataset, = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert dataset.dataset.name == "plates"


def test_the_saved_view_of_trials_holds_trials_by_what_chooses(store, client):
    import optuna

    from moascope.tracking.runs import start_run
    from moascope.tracking.trials import TrialLog

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock()
    study = optuna.create_study(direction="maximize")
    with start_run(PARAMS, "study", "tune", INPUTS) as parent:
        log = TrialLog(parent, "inner_explained_information")
        study.optimize(lambda trial: trial.suggest_float("dropout", 0, 0.5), 3, callbacks=[log])
    view = json.loads(saved_views()["trials"])
    found = client.search_runs([parent.info.experiment_id], view["searchFilter"],
                               order_by=[f"{view['orderByKey']} DESC"])
    assert [run.data.metrics["best_inner_explained_information"] for run in found] == sorted(
        (round(trial.value, 6) for trial in study.trials), reverse=True)
    assert {"params.`dropout`", "params.`layers`"} <= set(view["selectedColumns"])


def test_an_experiments_description_links_its_views_and_a_persons_words_are_kept(store, client):
    lock()
    logged("one")
    experiment = client.get_experiment_by_name("plates moa")
    note = experiment.tags["mlflow.note.content"]
    assert note.startswith("[**Compare all results**]")   # the line that shows unfolded
    assert address(experiment.experiment_id, "results") in note
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "Ours.")
    logged("two")
    assert client.get_experiment_by_name("plates moa").tags["mlflow.note.content"] == "Ours."


def test_runs_of_a_temporary_workspace_land_in_the_parent_repository(store, client, monkeypatch):
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
    assert not (workspace / "mlflow.db").exists()
    assert list((store / "mlruns").rglob("x.txt"))
    assert client.get_run(run.info.run_id).data.tags["dvc_exp_name"] == "try-one"

    with resume_run(PARAMS, run.info.run_id, "one", "evaluate", {}) as again:
        assert again.info.run_id == run.info.run_id


def test_what_follows_a_run_that_is_not_in_this_store_goes_to_one_new_run(store, client, capsys):
    """After `dvc pull` on another machine, evaluate and register find no run of train's."""
    from moascope.tracking.runs import resume_run

    lock()
    with resume_run(PARAMS, "0" * 32, "again", "evaluate", INPUTS) as evaluated:
        pass
    assert "is not in this tracking store" in capsys.readouterr().out
    with resume_run(PARAMS, "0" * 32, "again", "register", INPUTS) as registered:
        pass
    assert registered.info.run_id == evaluated.info.run_id
    assert capsys.readouterr().out == ""
    assert client.get_run(evaluated.info.run_id).data.tags["original_run"] == "0" * 32


def test_a_run_that_a_person_deleted_is_not_written_to(store, client):
    from moascope.tracking.runs import resume_run

    lock()
    deleted = logged("one")
    client.delete_run(deleted)
    with resume_run(PARAMS, deleted, "one", "evaluate", INPUTS) as run:
        assert run.info.run_id != deleted


def test_evaluating_an_earlier_model_again_makes_it_the_latest(store, client):
    import mlflow

    from moascope.tracking.runs import resume_run

    lock()
    earlier = logged("earlier", score=0.3)
    logged("later", score=0.6)
    with resume_run(PARAMS, earlier, "earlier", "evaluate", INPUTS):
        mlflow.log_metric("average_precision", 0.31)
    assert parent_of(client, earlier).data.metrics["average_precision"] == pytest.approx(0.31)


def test_a_deleted_experiment_ends_in_a_sentence(store, client):
    logged("one")
    client.delete_experiment(client.get_experiment_by_name("plates moa").experiment_id)
    with pytest.raises(MoascopeError, match="mlflow experiments restore -x"):
        logged("two")


def test_a_tracking_server_that_does_not_answer_ends_in_a_sentence(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(MoascopeError, match=r"The tracking store http://127\.0\.0\.1:9 does not"):
        logged("one")


def test_a_run_whose_process_was_killed_is_ended_by_the_next_one(store, client):
    from moascope.tracking.endings import process_tag

    first = client.get_run(logged("one"))
    experiment = first.info.experiment_id
    # Process numbers end below this one, and a run without a process may be somebody's.
    gone = json.dumps(json.loads(process_tag()["process"]) | {"process": 2**22 + 1})
    killed = client.create_run(experiment, tags={"process": gone}).info.run_id
    alive = client.create_run(experiment, tags=process_tag()).info.run_id
    elsewhere = client.create_run(experiment, tags={"process": '{"machine": "elsewhere"}'})
    logged("two")
    status = {run.info.run_id: run.info.status for run in client.search_runs([experiment])}
    assert status[killed] == "KILLED"
    assert status[alive] == status[elsewhere.info.run_id] == "RUNNING"
    assert json.loads(first.data.tags["process"])["process"] == os.getpid()


def test_the_run_of_a_trial_that_was_cut_short_is_finished_and_not_doubled(store, client):
    import optuna

    from moascope.tracking.runs import start_run
    from moascope.tracking.trials import TrialLog

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", study_name="s")
    study.optimize(lambda trial: trial.suggest_float("dropout", 0, 0.5), 3)
    with start_run(PARAMS, "study", "tune", INPUTS) as parent:
        log = TrialLog(parent, "score")
        assert log.known("s") == set()
        log(study, study.trials[0])
        for step, trial in (("log_batch", study.trials[1]), ("set_terminated", study.trials[2])):
            kept = getattr(log.client, step)
            setattr(log.client, step, stopped)
            with pytest.raises(KeyboardInterrupt):
                log(study, trial)
            setattr(log.client, step, kept)
        again = TrialLog(parent, "score")
        assert again.known("s") == {0}
        for trial in study.trials[1:]:
            again(study, trial)
        assert again.known("s") == {0, 1, 2}
    runs = client.search_runs([parent.info.experiment_id], "tags.`optuna.study` = 's'")
    assert sorted(run.data.tags["optuna.trial"] for run in runs) == ["0", "1", "2"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def stopped(*arguments, **named):
    raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred")   # MLflow's own, on import
@pytest.mark.parametrize("step", ["register_model", "set_registered_model_alias",
                                  "update_model_version", "after"])
def test_a_registration_that_was_cut_short_is_finished_and_never_doubled(
        store, client, monkeypatch, step):
    import mlflow
    from mlflow import MlflowClient

    from moascope.tracking.registry import log_candidate
    from moascope.tracking.runs import resume_run

    (store / "model").mkdir()
    (store / "model/weights").write_text("w")

    def register(score="0.4"):
        with resume_run(PARAMS, run_id, "one", "register", INPUTS):
            return log_candidate("m", store / "model", ("DNA",), ("no", "yes"), False,
                                 {"average_precision": score})

    run_id = logged("one")
    home = mlflow if step == "register_model" else MlflowClient
    if step == "after":
        register()
    else:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(home, step, stopped)
            register()
    made = register()
    version, = client.search_model_versions("name = 'm'")
    assert made["version"] == str(version.version)
    found = client.get_model_version("m", version.version)
    assert found.aliases == ["candidate"]
    assert found.description.startswith("**model** on unknown features")
    models = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert [f"models:/{model.model_id}" for model in models] == [version.source]
    assert int(register(score="0.5")["version"]) == 2, "another score is another version"


def test_the_log_of_a_folder_leaves_out_what_dvc_keeps_in_it(store, client):
    from moascope.tracking.runs import log_folder, start_run

    folder = store / "report"
    folder.mkdir()
    for name in (".gitignore", "report.html"):
        (folder / name).write_text("x")
    with start_run(PARAMS, "one", "train", {}) as run:
        log_folder(folder, "evaluation")
    assert [item.path for item in client.list_artifacts(run.info.run_id, "evaluation")] == [
        "evaluation/report.html"]


@pytest.mark.slow
def test_a_newcomer_finds_the_comparison_in_one_click(store, client):
    """In MLflow's own page, in a browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium to look at MLflow's page with")
    lock()
    logged("a model", score=0.4)
    logged("baseline scratch", "baseline", score=0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "-h", "127.0.0.1", "-p", str(port), "--workers",
         "1"], cwd=store, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        with playwright.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            context = browser.new_context(viewport={"width": 2400, "height": 900})
            context.route("**/*", lambda route: route.continue_()
                          if "127.0.0.1" in route.request.url else route.abort())
            page = context.new_page()
            experiment = client.get_experiment_by_name("plates moa").experiment_id
            page.goto(f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs")
            link = page.get_by_role("link", name="Compare all results")
            with page.expect_popup(timeout=60_000) as opened:   # links open a tab of their own
                link.click(timeout=60_000)
            view = opened.value
            view.get_by_text("You're viewing a shared view").wait_for(timeout=60_000)
            view.get_by_role("link", name="baseline scratch").wait_for(timeout=60_000)
            shown = view.inner_text("body")
            browser.close()
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)
    for words in ("a model", *HEADLINE[:6]):
        assert words in shown, words


def wait_for(url, server, seconds=90):
    for _ in range(seconds * 2):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {url} in {seconds} s")


def test_the_store_follows_the_process_into_another_project(store, tmp_path, monkeypatch):
    from moascope.tracking.runs import connect

    first = connect()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert first == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert connect() == f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
