"""What `dvc metrics show`, `dvc exp show` and `dvc plots show` show a person."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moascope.project.make import make_project
from moascope.report.dvc import dvc_metrics

SCORE = {"average_precision": 0.141711, "low": 0.090295, "high": 0.259142, "null_mean": 0.1978,
         "p": 0.918082}
METRICS = {
    "out_of_fold": {"compound": SCORE},
    "held_out": {"compound": {"average_precision": 0.777}},
    "baselines": {"best": "count_and_intensity",
                  "scores": {"count_and_intensity": {"average_precision": 0.244516}}},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A fresh project in which evaluate and train have run."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "person@example.org")
    folder = tmp_path / "project"
    make_project(folder)
    for stage in ("evaluate", "train"):
        (folder / "reports" / stage).mkdir(parents=True)
    (folder / "reports/evaluate/score.json").write_text(
        json.dumps(dvc_metrics(METRICS), sort_keys=True))
    (folder / "reports/evaluate/metrics.json").write_text(json.dumps(METRICS))
    (folder / "reports/train/curves.csv").write_text("panel,epoch,loss\na,1,2.5\na,2,1.5\n")
    (folder / "reports/evaluate/pr_curve.csv").write_text(
        "class,recall,precision,prevalence\ngpcr,0,1,0.2\ngpcr,1,0.2,0.2\n")
    return folder


def dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"COLUMNS": "80", "DVC_NO_ANALYTICS": "1"}, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_of_metrics_fits_eighty_columns_and_holds_what_matters(project):
    lines = dvc(project, "metrics", "show").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["Path", "AP", "baseline", "chance", "high", "low", "p"]
    assert lines[1].split() == ["reports/evaluate/score.json", "0.142", "0.245", "0.198", "0.259",
                                "0.09", "0.918"]


def test_experiments_are_never_compared_by_the_compounds_that_the_gate_holds_out(project):
    assert 0.777 not in dvc_metrics(METRICS).values()
    metrics = [name for name in dvc(project, "exp", "show", "--csv").splitlines()[0].split(",")
               if not name.startswith(("data/", "reports/", "src/")) and "." not in name]
    assert metrics[metrics.index("AP"):][:6] == ["AP", "baseline", "chance", "high",
                                                 "low", "p"]


def test_plots_are_drawn_without_a_network(project):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    dvc(project, "plots", "show", "reports/train/curves.csv", "reports/evaluate/pr_curve.csv")
    asked, problems = [], []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((project / "dvc_plots/index.html").as_uri())
        page.locator(".vega-embed canvas, .vega-embed svg").nth(1).wait_for(timeout=30_000)
        browser.close()
    assert problems == []
    assert [url for url in asked if url.startswith("http")] == []
