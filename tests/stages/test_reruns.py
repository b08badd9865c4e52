"""What `dvc repro` runs again after a change of the code: the stages that can reach it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moascope.stages.run import stage_names
from moascope.work.code import Code

ROOT = Path(__file__).parents[2]


def repro(folder):
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MLFLOW", "DVC", "PYTHONPATH"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["dvc", "repro"], cwd=folder, capture_output=True, text=True,
                          env=kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Running stage '(\w+)", done.stdout + done.stderr)) - {"code"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Our stages with our dependencies on code; their work is to write a word."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "params.yaml", folder)
    shutil.copy2(ROOT / ".dvcignore", folder)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    tiny = {"code": stages["code"]}
    for name, stage in stages.items():
        if name != "code":
            tiny[name] = {"cmd": f"mkdir -p made && echo done > made/{name}",
                          "deps": [dep for dep in stage["deps"] if dep.startswith("data/code/")],
                          "outs": [f"made/{name}"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": tiny}, sort_keys=False))
    subprocess.run([Path(sys.executable).parent / "dvc", "init", "-q", "--no-scm"], cwd=folder,
                   check=True)
    assert repro(folder) == set(tiny) - {"code"}
    return folder


def edit(project, name, old, new):
    path = project / "src/moascope" / name
    text = path.read_text()
    assert old in text, f"{name} no longer holds {old}"
    path.write_text(text.replace(old, new, 1))


def reach(project):
    """Stage -> the digests that `data/code` would get."""
    code = Code(project / "src/moascope")
    return {stage: code.reach(f"stages.{stage}:{stage}").digests for stage in stage_names()
            if stage != "code"}


def test_comments_and_what_no_stage_uses_run_nothing_again(project):
    for path in (project / "src/moascope").rglob("*.py"):
        text = path.read_text()
        path.write_text(re.sub(r'^    """(?=[A-Z])', '    """Changed. ', text, flags=re.M)
                        + "\n\n# changed\n")
    edit(project, "learning/leaks.py", "def audit_leaks(", "UNUSED = 1\n\n\ndef audit_leaks(")
    edit(project, "errors.py", "class MoascopeError", "UNUSED = 1\n\n\nclass MoascopeError")
    edit(project, "cli/app.py", "no_args_is_help=True", "no_args_is_help=False")
    assert repro(project) == set()


def test_a_changed_style_sheet_draws_the_pages_again_and_nothing_else(project):
    path = project / "src/moascope/drawing/page.css"
    path.write_text(path.read_text() + "\nh1 { color: teal }\n")
    assert repro(project) == {"report"}


def test_a_changed_function_runs_what_can_reach_it_and_nothing_else(project):
    changed = {
        # What is registered serves: it prepares and embeds too.
        ("pixels/illumination.py", "fit_illumination"): {"prepare", "register"},
        ("learning/leaks.py", "audit_leaks"): {"split"},
        ("learning/final.py", "fit_final"): {"train"},
        ("slides/composites.py", "shrink"): {"baseline"},
        ("sources/folder.py", "acquire_folder"): {"acquire"},
    }
    before = reach(project)
    for file, function in changed:
        change(project, file, function)
    after = reach(project)
    for (file, function), stages in changed.items():
        module = file.removesuffix(".py").replace("/", ".")
        assert {stage for stage in after
                if after[stage].get(module) != before[stage].get(module)} == stages, function
    assert repro(project) == set().union(*changed.values())


def change(project, file, function):
    """Put a statement into a function."""
    edit(project, file, f"def {function}(", f"CHANGED = 1\n\n\ndef {function}(")
    path = project / "src/moascope" / file
    text = path.read_text()
    start = text.index(f"def {function}(")
    place = re.compile(r"^    (?=\S)(?!\"\"\")", re.M).search(
        text, text.index('"""', text.index('"""', start) + 3) + 3).start()
    path.write_text(text[:place] + "    changed = CHANGED, 2\n" + text[place:])
