"""The floor plan holds: what a stage imports is what DVC watches, and imports run downwards."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
STAGES = ["code", "acquire", "validate", "prepare", "embed", "split", "activity", "tune", "train",
          "evaluate", "report", "register", "baseline", "compare"]
# Gathers what the arms of another stage made, and is of its section and folder.
PART_OF = {"compare": "baseline"}
# Nothing about these can be chosen.
WITHOUT_PARAMETERS = ("code", "report")
# From the ground up, one room a floor: a room imports the rooms below it and never one above.
FLOORS = [
    "passwords", "errors", "quiet", "metrics", "text", "opening",
    "params", "params_file", "work", "web", "addresses", "screen", "chemistry",
    "importing", "annotation", "sources", "validation",
    "pixels", "features", "planning", "learning", "finetuning",
    "explanation", "evaluation",
    "tracking", "promotion", "serving",
    "drawing", "report", "layout", "api",
    "slides", "distillation", "exploring",
    "project", "stages", "running", "cli",
]
HEAVY = ("tensorflow", "keras", "mlflow", "great_expectations", "sklearn", "matplotlib", "optuna",
         "skimage", "copairs", "duckdb", "scipy.stats", "openvino", "zarr", "starlette", "uvicorn",
         "rdkit")
OF_DATA = ("numpy", "pandas", "pyarrow", "yaml")


@cache
def imported(path):
    """Modules of ours that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == "moascope":
                module = SOURCE.joinpath(*name.split("."))
                for candidate in (module.with_suffix(".py"), module / "__init__.py"):
                    if candidate.exists():
                        found.add(candidate)
    return frozenset(found)


def closure(path, cut=()):
    seen, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file in seen or any(file.is_relative_to(ROOT / part) for part in cut):
            continue
        seen.add(file)
        waiting += imported(file)
    return seen


def pipeline():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_one_word_is_stage_module_section_and_folder():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert list(pipeline()) == STAGES
    for stage, said in pipeline().items():
        assert (SOURCE / f"moascope/stages/{stage}.py").exists()
        home = PART_OF.get(stage, stage)
        assert home in params or stage in WITHOUT_PARAMETERS
        assert said["cmd"].startswith(f"moascope stage {stage} ")
        outs = [next(iter(out)) if isinstance(out, dict) else out
                for kind in ("outs", "metrics", "plots") for out in said.get(kind, [])]
        assert all(re.match(rf"(data|reports)/{home}(/|$)", out) for out in outs), outs


@pytest.mark.parametrize("stage", STAGES[1:])
def test_dvc_watches_the_code_of_every_stage_and_no_file_of_ours(stage):
    deps = pipeline()[stage]["deps"]
    assert f"data/code/{stage}" in deps
    assert not [dep for dep in deps if dep.startswith("src")]


def room(path):
    return path.relative_to(SOURCE / "moascope").parts[0].removesuffix(".py")


def test_every_room_has_its_floor():
    rooms = {room(path) for path in (SOURCE / "moascope").rglob("*.py")} - {"__init__"}
    assert rooms == set(FLOORS)
    assert len(FLOORS) == len(set(FLOORS))


def test_imports_run_strictly_downwards_and_nothing_imports_a_stage():
    for path in (SOURCE / "moascope").rglob("*.py"):
        if room(path) == "__init__":
            continue
        for other in imported(path):
            if room(other) not in (room(path), "__init__"):
                assert FLOORS.index(room(other)) < FLOORS.index(room(path)), (
                    f"{path} imports {other}, which is above it")
            if room(other) == "stages" and other.name not in ("run.py", "__init__.py"):
                raise AssertionError(f"{path} imports the stage {other}")


def test_no_two_files_import_each_other():
    for path in (SOURCE / "moascope").rglob("*.py"):
        for other in imported(path):
            assert path not in closure(other), f"{path} and {other} import each other"


def test_nothing_heavy_is_imported_before_it_is_used():
    """In one process: what none of all modules loads, each alone does not load either."""
    modules = [*(f"stages.{stage}" for stage in STAGES), "cli.app"]
    code = ("import importlib, sys\n"
            f"for module in {modules}:\n"
            "    importlib.import_module(f'moascope.{module}')\n"
            f"    print(module, [name for name in {HEAVY} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} []" for module in modules]


def test_nothing_before_evaluate_can_read_the_truth_of_a_simulated_screen():
    """Only the simulator that writes the truth names its files, and only the oracle reads them."""
    home = SOURCE / "moascope"
    naming = {path.relative_to(home).as_posix() for path in home.rglob("*.py")
              if re.search(r"KNOB_TABLE|[\"'/]truth\b", path.read_text())}
    assert naming == {"sources/simulated/compounds.py", "sources/simulated/screen.py",
                      "evaluation/oracle.py"}
    reaching = {stage for stage in STAGES
                if home / "evaluation/oracle.py" in closure(home / f"stages/{stage}.py")}
    # The report prints what evaluate wrote, with its headline.
    assert reaching == {"evaluate", "report"}


def test_help_loads_nothing_that_works_with_data():
    code = ("import contextlib, io, sys\n"
            "from moascope.cli.app import app\n"
            "names = [command.name\n"
            "         for command in app.registered_commands]\n"
            "for words in [[], *([name] for name in names)]:\n"
            "    said = io.StringIO()\n"
            "    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):\n"
            "        app([*words, '--help'])\n"
            "    assert 'Usage' in said.getvalue()\n"
            f"print(len(names), [name for name in {(*HEAVY, *OF_DATA)} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    commands, _, loaded = done.stdout.strip().partition(" ")
    assert int(commands) > 5
    assert loaded == "[]"


def test_no_address_of_a_registry_and_no_path_of_a_machine_is_tracked():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.split()
    hosts = re.compile(r"https?://[\w.-]*(" + "py" + "pi|python" + "hosted|npm" + r"js)")
    for name in names:
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".lock", ".toml", ".yaml", ".yml", ".md", ""}:
            text = path.read_text(errors="ignore")
            assert not hosts.search(text), name
            assert not re.search(r"(^|[\s\"'=])/(home|root|work)/\w", text), name


def pinned(lock):
    """The requirements of a lock: name==version, and all that stands with it."""
    blocks = re.split(r"\n(?=\S)", (ROOT / lock).read_text())
    return {match[0]: block for block in blocks
            if (match := re.match(r"[A-Za-z0-9_.\[\]-]+==[^ ;]+", block))}


@pytest.mark.parametrize(("lock", "least"), [("requirements.lock", 100),
                                             ("requirements-serve.lock", 50)])
def test_a_lock_has_a_hash_for_every_requirement(lock, least):
    assert len(pinned(lock)) > least
    assert all("--hash=sha256:" in block for block in pinned(lock).values())


def test_what_serves_is_a_part_of_what_trains_without_the_heavy_ones():
    serving = set(pinned("requirements-serve.lock"))
    assert serving <= set(pinned("requirements.lock"))
    names = {requirement.partition("==")[0] for requirement in serving}
    assert not names & {"dvc", "great-expectations", "keras", "mlflow", "optuna", "tensorflow"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = set(project["dependency-groups"]["serve"]) - {"mlflow-skinny>=3.17,<4"}
    assert asked <= set(project["project"]["dependencies"])


def test_make_keeps_compiled_modules_whatever_the_shell_says():
    """Else every stage compiles TensorFlow, MLflow and Great Expectations anew."""
    said = subprocess.run(
        ["make", "--silent", "--eval", "said: ; @env", "said"], cwd=ROOT, capture_output=True,
        text=True, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}).stdout
    assert "PYTHONNOUSERSITE=1" in said
    assert "PYTHONDONTWRITEBYTECODE" not in said
