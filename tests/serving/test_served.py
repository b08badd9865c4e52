"""A served model as its clients, Prometheus and a supervisor see it: a real process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import moascope
from moascope.learning.calibration import Calibration
from moascope.learning.head import FittedHeads
from moascope.learning.model import TrainedModel, save_model
from moascope.params import Embed, Head, Prepare, Train
from moascope.screen.question import Question
from moascope.screen.wells import well_name

ROOT = Path(__file__).parents[2]
MOST_WAIT = 120
FEATURES = ("DNA_area", "DNA_mean", "Actin_mean")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of profiles as MLflow keeps it, with drawn weights."""
    import mlflow

    from moascope.tracking.registry import signature

    home = tmp_path_factory.mktemp("served")
    rng = np.random.default_rng(0)
    heads = FittedHeads(Head(layers=0), np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32),
                        [rng.normal(size=(1, 3, 2)).astype(np.float32)],
                        [np.zeros((1, 2), np.float32)], np.array([1]), np.zeros(1, np.float32))
    save_model(TrainedModel(
        question=Question("gpcr", ("not_gpcr", "gpcr"), True), heads={"": heads}, panels=("",),
        calibrations={level: Calibration(1.0, 0.0, 0.5) for level in ("site", "well", "compound")},
        sphering=None, names=tuple(f"Profiles_{name}" for name in FEATURES), channels=(),
        controls=False, prepare=Prepare(), embed=Embed(backbone="profiles"), head=Head(layers=0),
        train=Train()), home / "plain")
    package = Path(moascope.__file__).parent
    with warnings.catch_warnings():
        # MLflow comments on type hints and on a model without an example.
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            str(home / "model"), python_model=str(package / "tracking" / "pyfunc.py"),
            artifacts={"model": str(home / "plain")}, pip_requirements=["mlflow"],
            signature=signature((), ("not_gpcr", "gpcr"), FEATURES))
    return home


@dataclass
class Served:
    """A server and what it said."""

    process: subprocess.Popen
    log: Path
    address: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, data, {"Content-Type": "application/json"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=MOST_WAIT) as answer:
                self.headers = dict(answer.headers)
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            self.headers = dict(error.headers)
            return error.code, error.read().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def count(self, name: str) -> float:
        """A number of /metrics."""
        return sum(float(line.rpartition(" ")[2]) for line in self.ask("/metrics")[1].splitlines()
                   if line.startswith(name))


def absent():
    """Modules of this environment that an installation for serving alone has not."""
    locked = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(
        r"^([\w.-]+)==", (ROOT / "requirements-serve.lock").read_text(), flags=re.M)}
    return sorted(name for name, owners in packages_distributions().items()
                  if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
                  & {*locked, "moascope"})


@pytest.fixture(scope="module")
def served(folder):
    """One worker, so that a request meets the worker that the request before it met.

    It finds only what requirements-serve.lock installs.
    """
    log = folder / "log"
    (folder / "site").mkdir()
    # Python runs a module of this name at its start.
    (folder / "site" / "sitecustomize.py").write_text(
        f"import sys\nsys.modules |= dict.fromkeys({absent()}, None)\n")
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moascope.cli", "serve", str(folder / "model"), "--screens",
             str(folder), "--port", "0", "--workers", "1"],
            stdout=out, stderr=subprocess.STDOUT, cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(
                [str(folder / "site"), str(ROOT / "src")])})
    server = Served(process, log)
    begin = time.monotonic()
    while not (said := [line for line in server.lines() if line["message"] == "serving"]):
        assert process.poll() is None and time.monotonic() - begin < MOST_WAIT, log.read_text()
        time.sleep(0.1)
    server.address = f"http://127.0.0.1:{said[0]['port']}"
    yield server
    process.terminate()
    process.wait(MOST_WAIT)


def rows(count: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(count, 3)), columns=list(FEATURES))
    table.insert(0, "Metadata_Plate", "P1")
    table.insert(1, "Metadata_Well", [well_name(1 + number // 24, 1 + number % 24)
                                       for number in range(count)])
    table["Metadata_Compound"] = [f"C{number}" for number in range(count)]
    return {"dataframe_split": table.to_dict("split", index=False),
            "params": {"level": "well"}}


def test_a_server_gives_the_predictions_that_the_model_gives(served, folder):
    import mlflow

    status, said = served.ask("/invocations", rows())
    assert status == 200, said
    split = rows()["dataframe_split"]
    expected = mlflow.pyfunc.load_model(str(folder / "model")).predict(
        pd.DataFrame(split["data"], columns=split["columns"]), params={"level": "well"})
    assert json.loads(said)["predictions"] == json.loads(json.dumps(expected.to_dict("records")))


def test_a_server_finds_no_library_that_trains(served):
    code = "import sys; print([sys.modules.get(name, 0) for name in ('tensorflow', 'dvc')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(served.log.parent / "site")})
    assert done.stdout == "[None, None]\n"


def test_health_and_version_are_where_mlflow_has_them(served):
    from mlflow.version import VERSION

    assert [served.ask(path)[0] for path in ("/ping", "/health")] == [200, 200]
    assert served.ask("/version") == (200, VERSION)


def test_a_request_is_found_in_the_log_by_the_identifier_of_its_answer(served):
    served.ask("/invocations", rows(2), **{"X-Request-ID": "from-the-client"})
    assert served.headers["x-request-id"] == "from-the-client"
    served.ask("/invocations", rows(2), **{"X-Request-ID": 'no "name"'})
    own = served.headers["x-request-id"]
    assert own.isalnum()
    logged = {line.get("request_id"): line for line in served.lines()}
    for identifier in ("from-the-client", own):
        line = logged[identifier]
        assert (line["path"], line["status"], line["predictions"]) == ("/invocations", 200, 2)


@pytest.mark.parametrize(("body", "sentence"), [
    (b"{", "valid JSON"),
    (rows() | {"params": {"level": "plate"}},
     "'plate' is not a level; choose one of site, well, compound."),
])
def test_a_refusal_is_the_sentence_without_the_table_or_a_file_of_the_server(
        served, folder, body, sentence):
    status, said = served.ask("/invocations", body)
    assert status == 400
    assert sentence in json.loads(said)["message"]
    assert set(json.loads(said)) == {"error_code", "message"}
    for hidden in (str(folder), "site-packages", "Metadata_Well"):
        assert hidden not in said


def test_prometheus_reads_how_many_were_asked_and_what_was_said(served):
    before = [served.count(name) for name in ("moascope_request_seconds_count",
                                              "moascope_predictions_total",
                                              'moascope_requests_total{status="400"}')]
    served.ask("/invocations", rows(4))
    served.ask("/invocations", b"{")
    after = [served.count(name) for name in ("moascope_request_seconds_count",
                                             "moascope_predictions_total",
                                             'moascope_requests_total{status="400"}')]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 4, 1]
    assert served.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_a_worker_that_is_killed_costs_its_own_request_and_is_replaced(served):
    import psutil

    (worker,) = [child for child in psutil.Process(served.process.pid).children()
                 if "spawn_main" in " ".join(child.cmdline())]
    worker.send_signal(signal.SIGKILL)
    worker.wait(MOST_WAIT)
    status, said = served.ask("/invocations", rows())
    assert status == 503 and "memory ran out" in json.loads(said)["message"]
    assert served.headers["retry-after"] == "5"
    # The next one waits for the worker that takes its place.
    assert served.ask("/invocations", rows())[0] == 200
    assert served.count("moascope_worker_restarts_total") == 1


def test_a_server_that_is_told_to_stop_finishes_what_it_answers(served):
    """The last of this file: the server is gone afterwards."""
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.ask, "/invocations", rows(200))
        while not served.count("moascope_requests_in_progress") and not answer.done():
            time.sleep(0.001)
        os.kill(served.process.pid, signal.SIGTERM)
        assert answer.result()[0] == 200
    assert served.process.wait(MOST_WAIT) == 0
    assert served.lines()[-1]["message"] == "stopped"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["models:/none@staging"], "error: There is no registry at"),
    (["."], "error: . is not a model as MLflow keeps it: it has no MLmodel."),
    ([".", "--screens", "missing"], "error: missing is not a folder."),
])
def test_what_cannot_be_served_is_a_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    from moascope.cli.app import app
    from moascope.errors import run_to_exit_code

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert run_to_exit_code(lambda: app(["serve", *arguments], standalone_mode=False)) == 1
    assert capsys.readouterr().err.startswith(sentence)
