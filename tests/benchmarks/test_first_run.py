"""The table of first runs: what is set, what a line says, and what a preset promises."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from moascope.params_file import load_params

ROOT = Path(__file__).parents[2]
METRICS = {
    "out_of_fold": {"compound": {"n": 104, "average_precision": 0.814, "null_mean": 0.189,
                                 "p": 0.001}},
    "oracle": {"average_precision": 0.844, "efficiency": 0.9576},
    "mechanisms": {"Tubulin inhibitor": {"average_precision": 0.74, "compounds": 4},
                   "HDAC inhibitor": {"average_precision": 0.1, "compounds": 5},
                   "Sulfonylurea": {"average_precision": 0.9, "compounds": 5}},
}
PROMOTED = {"decision": "promoted", "numbers": {"average_precision": 1.0}}


@pytest.fixture
def first_run(monkeypatch):
    spec = importlib.util.spec_from_file_location("first_run", ROOT / "benchmarks/first_run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("preset", ["teaching", "literature", "null"])
def test_a_run_has_its_preset_and_its_seed_and_everything_else_as_shipped(first_run, tmp_path,
                                                                          preset):
    path = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    before = load_params(path)
    first_run.set_parameters(path, preset, 1007)
    after = load_params(path)
    assert (after.seed, after.simulated.preset) == (1007, preset)
    changed = {name for name in before.model_dump()
               if before.model_dump()[name] != after.model_dump()[name]}
    assert changed - {"simulated"} == {"seed"}


def test_a_line_holds_the_scores_their_nulls_and_the_decision(first_run):
    run = first_run.FirstRun("teaching", 1007, METRICS, PROMOTED, 261.4)
    assert run.row() == ("| teaching | 1007 | 0.814 | 0.189 | 0.001 | 0.844 | 0.96 | 1 of 2 "
                         "| promoted | 1.000 | 261 |")
    without = first_run.FirstRun("null", 3, METRICS | {"oracle": {}}, {}, 10)
    assert "| – | – | 1 of 2 | undecided | – | 10 |" in without.row()


def test_a_run_is_as_its_preset_promises(first_run):
    def as_promised(preset, promotion=PROMOTED, p=0.001, mechanisms=METRICS["mechanisms"]):
        main = METRICS["out_of_fold"]["compound"] | {"p": p}
        metrics = {"out_of_fold": {"compound": main}, "mechanisms": mechanisms}
        return first_run.FirstRun(preset, 0, metrics, promotion, 1).as_it_should_be

    refused = {"decision": "refused"}
    assert as_promised("teaching")
    assert not as_promised("teaching", refused)
    assert not as_promised("teaching", p=0.02)
    assert not as_promised("teaching", mechanisms={})
    assert as_promised("null", refused) and as_promised("null", {})
    assert not as_promised("null")
    assert as_promised("literature") is None
