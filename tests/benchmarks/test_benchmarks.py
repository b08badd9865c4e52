"""The benchmarks' own machinery: nothing that failed is lost, and what is measured is all of it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def named(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}",
                                                      BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module
    return named


def test_a_part_that_fails_is_told_in_its_place_and_the_others_stay(load, tmp_path, monkeypatch):
    bench = load("bench")
    (tmp_path / "good.py").write_text('"""Measures."""\nprint("| a | 1 |")\n')
    (tmp_path / "bad.py").write_text(
        'print("| b | 2 |", flush=True)\nraise ValueError("no disk")\n')
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "PARTS", {"bad": "Bad", "good": "Good"})
    monkeypatch.setattr(sys, "argv", ["bench.py", "--out", str(tmp_path / "README.md")])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 1
    page = (tmp_path / "README.md").read_text()
    assert "| a | 1 |" in page
    assert "| b | 2 |" in page
    assert "**Failed.** It failed with status 1: ValueError: no disk" in page
    assert "failed: bad." in page


def test_a_part_that_is_absent_or_does_not_end_is_reported(load, tmp_path, monkeypatch):
    bench = load("bench")
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(bench, "HERE", tmp_path)
    assert "No such file" in bench.run_part("growth").failure
    monkeypatch.setattr(bench, "MOST_SECONDS", 1)
    assert "stopped after" in bench.run_part("slow").failure


def test_workers_count_and_a_failing_command_says_what_it_said(load, tmp_path):
    stages = load("stages")
    (tmp_path / "hold.py").write_text(
        "import subprocess, sys, time\n"
        "held = bytearray(b'x' * 60_000_000)\n"
        "if sys.argv[1:]:\n"
        "    time.sleep(2)\n"
        "else:\n"
        "    subprocess.run([sys.executable, __file__, 'child'])\n"
        "    print('done')\n")
    cost = stages.measure(f"{sys.executable} hold.py", tmp_path)
    assert cost.peak > 2 * 60e6 / 2**20
    assert cost.said == "done\n"
    with pytest.raises(RuntimeError, match="no such stage"):
        stages.measure("echo no such stage; exit 3", tmp_path)


def test_stages_are_started_as_dvc_starts_them(load, tmp_path):
    stages = load("stages")
    assert stages.stage_command("embed") == (
        "moascope stage embed --prepared data/prepare --screen data/acquire --out data/embed")
    assert stages.stage_command("baseline", {"arm": "scratch"}).endswith("data/baseline/scratch")
    stages.make_workspace(tmp_path / "w", {"seed": 7, "tune": {"trials": 1}})
    code = ("from moascope.params_file import load_params; p = load_params(); "
            "print(p.seed, p.tune.trials, len(p.tune.space) > 3)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "w", capture_output=True,
                          text=True, env={"PYTHONPATH": "src"}, check=True)
    assert done.stdout.split() == ["7", "1", "True"]


def test_slopes_are_of_the_last_step(load):
    growth = load("growth")
    rows = pd.DataFrame({"sites": [100, 400, 1600], "peak_mib": [50.0, 60.0, 240.0]})
    slope, more = growth.growth(rows, "peak_mib")
    assert slope == pytest.approx(1.0)
    assert more == pytest.approx([10 / 300, 180 / 1200])
