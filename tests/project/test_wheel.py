"""A project outside the clone: the wheel in an environment of its own, and nothing of the clone."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from profiled import make_profiles

ROOT = Path(__file__).parents[2]
TINY = {
    "simulated": {"format": 96, "compounds": 36, "batches": 2, "fields": 1, "signal": 6.0,
                  "panels": ["A549 ACTB-RAB5A"]},
    "prepare": {"crops": 1},
    "split": {"folds": 3, "repeats": 1},
    "tune": {"trials": 2, "space": {"layers": [0], "width": [8], "epochs": [5]}},
    "evaluate": {"bootstraps": 50, "permutations": 50, "refits": 1},
}


def shell(*command, cwd, path, expect=0, timeout=280):
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MLFLOW", "DVC", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=kept | {
        "PATH": path, "DVC_NO_ANALYTICS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "80",
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t"}, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
                   cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("moascope-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """PATH of an environment with the wheel, which finds its dependencies in this one."""
    folder = tmp_path_factory.mktemp("env") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    here = Path(sys.executable).parent
    subprocess.run([here / "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python",
                    folder / "bin/python", wheel], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # A path of a .pth file is searched, but its own .pth files (an editable moascope) are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for program in ("dvc", "mlflow"):
        script = folder / "bin" / program
        body = (here / program).read_text().split("\n", 1)[1]
        script.write_text(f"#!{folder / 'bin/python'}\n{body}")
        script.chmod(0o755)
    return os.pathsep.join([str(folder / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])


@pytest.fixture(scope="module")
def project(installed, tmp_path_factory):
    """A project that `moascope init` made, with a tiny simulated screen."""
    folder = tmp_path_factory.mktemp("lab") / "my_screen"
    said = shell("moascope", "init", "my_screen", cwd=folder.parent, path=installed)
    assert "my_screen is a moascope project, and its files are committed." in said
    assert ("\n  cd my_screen\n  dvc repro register report\n  moascope promote --exit-zero\n"
            "  moascope summary\n") in said
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def test_the_wheel_ships_the_clones_own_stages_and_parameters(wheel):
    with zipfile.ZipFile(wheel) as held:
        for name in ("dvc.yaml", "params.yaml", "screen/README.md"):
            assert held.read(f"moascope/project/shipped/{name}") == (ROOT / name).read_bytes()
        assert not [name for name in held.namelist() if name.startswith("tests/")]


def test_no_stage_reads_a_file_of_the_clone(project):
    for stage in yaml.safe_load((project / "dvc.yaml").read_text())["stages"].values():
        assert not [dep for dep in stage.get("deps", []) if str(dep).startswith("src")]


def test_stages_run_on_the_installed_package(project, installed):
    said = shell("dvc", "repro", "acquire", cwd=project, path=installed)
    assert "\nacquire: " in said
    assert (project / "data/acquire/layout.csv").exists()
    said = shell("dvc", "repro", "acquire", cwd=project, path=installed)
    assert "Stage 'acquire' didn't change, skipping" in said
    where = shell("python", "-c", "import moascope; print(moascope.__file__)", cwd=project,
                  path=installed)
    assert "/venv/" in where and str(ROOT) not in where


def test_every_stage_is_known_where_nothing_has_run(installed, tmp_path):
    shell("moascope", "init", cwd=tmp_path, path=installed)
    listed = shell("dvc", "stage", "list", "--name-only", cwd=tmp_path, path=installed).split()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]:
        assert any(name.split("@")[0] == stage for name in listed), stage


def test_run_makes_its_project_on_the_installed_package(installed, tmp_path):
    profiles = make_profiles(tmp_path / "made", plates=1, compounds=4, controls=2)
    (profiles / "annotations.csv").unlink()
    layout = pd.read_csv(profiles / "layout.csv", keep_default_na=False)
    layout.merge(pd.read_parquet(profiles / "profiles.parquet"),
                 on=["Metadata_Plate", "Metadata_Well"]).to_csv(tmp_path / "p.csv", index=False)
    said = shell("moascope", "run", "p.csv", cwd=tmp_path, path=installed, expect=1)
    assert "1 plate, 6 profiles of 60 features" in " ".join(said.split())
    assert "`moascope run p.csv --moa COMPOUNDS.csv`" in said
    assert (tmp_path / "p_moascope/dvc.yaml").read_text() == (ROOT / "dvc.yaml").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_project_goes_from_nothing_to_a_promoted_model(project, installed, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, symlinks=True)
    shell("dvc", "repro", "register", "report", cwd=folder, path=installed, timeout=500)
    registered = json.loads((folder / "reports/register/registration.json").read_text())
    assert registered["version"] == "1"
    said = shell("moascope", "summary", cwd=folder, path=installed)
    assert "the model" in said and "a random list (prevalence" in said
    shell("moascope", "predict", "--model", "models:/moascope@candidate", "--screen",
          "data/acquire", "--out", "predictions.csv", cwd=folder, path=installed)
    assert (folder / "predictions.csv").read_text().startswith("Metadata_Compound")
    done = subprocess.run(["moascope", "promote", "--dry-run"], cwd=folder, capture_output=True,
                          text=True, env={**os.environ, "PATH": installed, "PYTHONPATH": ""},
                          check=False)
    assert done.returncode in (0, 1) and "lift over a random list" in done.stdout, done.stderr
    assert "up to date" in shell("moascope", "init", "--upgrade", cwd=folder, path=installed)
    said = shell("dvc", "repro", "register", "report", cwd=folder, path=installed)
    assert said.count("Running stage") == 1 and "Running stage 'code'" in said
