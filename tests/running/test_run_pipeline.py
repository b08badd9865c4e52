"""`dvc repro` below `moascope run`, on stages that take no time."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import yaml

from moascope.errors import MoascopeError
from moascope.project.make import make_project
from moascope.running.pipeline import pipeline_of, reproduce, stages_of

ROOT = Path(__file__).parents[2]


def stage(name, *deps, and_then="true"):
    """A stage that writes one file and says so as ours do."""
    out = f"data/{name}"
    return {"cmd": f"mkdir -p data && echo {name} > {out} && {and_then} && "
                   f"echo '{name}: 4 sites (0 s)'", "deps": list(deps), "outs": [out]}


def write_stages(folder, **stages):
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "project"
    make_project(folder)
    return folder


def told(project):
    events = []
    reproduce(project, lambda *event: events.append(event))
    return events


def test_the_stages_of_our_pipeline_are_those_that_the_report_needs():
    names = stages_of(pipeline_of(ROOT))
    assert names == ["code", "acquire", "validate", "prepare", "embed", "split", "activity", "tune",
                     "train", "evaluate", "report", "register"]
    assert stages_of(pipeline_of(ROOT), ["validate"]) == ["code", "acquire", "validate"]


def test_stages_are_told_as_they_run_and_what_is_done_is_not_repeated(project):
    (project / "input.txt").write_text("a")
    write_stages(project, acquire=stage("acquire", "input.txt", and_then="echo '  a warning'"),
                 register=stage("register", "data/acquire"), report=stage("report", "data/acquire"))
    assert told(project) == [
        ("begins", "acquire", ""), ("line", "acquire", "  a warning"),
        ("done", "acquire", "4 sites (0 s)"),
        ("begins", "register", ""), ("done", "register", "4 sites (0 s)"),
        ("begins", "report", ""), ("done", "report", "4 sites (0 s)")]
    assert told(project) == [("skipped", name, "") for name in ("acquire", "register", "report")]


def test_a_stage_that_fails_ends_in_its_own_sentences(project):
    write_stages(project, register=stage(
        "register", and_then="echo 'error: Column X is missing.' >&2 && exit 1"),
        report=stage("report"))
    with pytest.raises(MoascopeError) as failed:
        told(project)
    assert failed.value.problems == ["Column X is missing."]
    write_stages(project, register=stage("register", and_then="echo Killed && exit 137"),
                 report=stage("report"))
    events = []
    with pytest.raises(MoascopeError, match="The step register failed; what it said is above"):
        reproduce(project, lambda *event: events.append(event))
    assert events == [("begins", "register", ""), ("line", "register", "Killed")]


def test_a_project_that_is_running_is_a_sentence(project):
    write_stages(project, register=stage("register", and_then="sleep 60"), report=stage("report"))
    began, stop = threading.Event(), []

    def first():
        with pytest.raises(MoascopeError):
            reproduce(project, lambda *event: began.set())
        stop.append(True)

    thread = threading.Thread(target=first)
    thread.start()
    assert began.wait(60)
    with pytest.raises(MoascopeError, match="project is running already"):
        told(project)
    for process in psutil.Process().children(recursive=True):
        if process.cmdline()[:1] == ["sleep"]:
            process.kill()
    thread.join(60)
    assert stop


def test_an_interrupt_of_this_process_alone_ends_the_stages_too(project):
    write_stages(project, register=stage("register", and_then="sleep 61"), report=stage("report"))
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from pathlib import Path; from moascope.running.pipeline import reproduce; "
            f"reproduce(Path({str(project)!r}), lambda *event: print(*event, flush=True))")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL) as run:
        assert run.stdout.readline() == "begins register \n"
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGINT)
        run.wait(60)
    assert run.returncode != 0
    gone, alive = psutil.wait_procs(family, 20)
    assert gone and not alive


def test_stages_run_where_nobody_has_told_git_a_name_and_the_path_holds_no_moascope(tmp_path,
                                                                                    monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("NAME", "EMAIL"):
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.delenv(f"GIT_{who}_{name}", raising=False)
    made = make_project(tmp_path / "project")
    write_stages(made.folder, register=stage("register", and_then="command -v moascope > where"),
                 report=stage("report"))
    assert told(made.folder)[1] == ("done", "register", "4 sites (0 s)")
    where = (made.folder / "where").read_text().strip()
    assert Path(where).parent == Path(sys.executable).parent
