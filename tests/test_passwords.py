"""No message, parameter, tag, log or traceback shows a password."""

import logging
import subprocess
import sys
import threading

import pytest

from moascope.errors import MoascopeError, run_to_exit_code
from moascope.params_file import parse_params
from moascope.passwords import address_shown, scrub
from moascope.tracking.comparison import screen_name
from moascope.tracking.runs import flat

SPELLINGS = [
    "API request to http://anna:hunter22@lab:5000/api failed",
    "http://anna:hun/hunter22@lab/x",
    "HTTPS://anna:hunter22@lab",
    "http://hunter22@lab/x",
    "postgresql+psycopg2://anna:hunter%32%32@db/x and hunter22",
    "anna:hunter22@db/x",
    "postgresql://db/x?user=anna&password=hunter22",
    "postgresql://db/x?PASSWORD=hunter22&x=1",
    "postgresql://db/x?sslpassword=hunter22",
    "password%3Dhunter22",
    "host=db password='hunter22 hunter22'",
    "PGPASSWORD=hunter22 psql",
    "MLFLOW_TRACKING_TOKEN=hunter22",
    "{'password': 'hunter22', 'user': 'anna'}",
    '{"aws_secret_access_key": "hunter22"}',
    "s3://AKIAIOSFODNN7EXAMPLE:hunter22@bucket/key",
    "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=hunter22&X-Amz-Signature=hunter22",
    "Authorization: Basic hunter22",
    "'Authorization': 'Bearer hunter22'",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_password_is_hidden_in_every_spelling(text, monkeypatch):
    if "%32" in text:
        monkeypatch.setenv("MOASCOPE_STORAGE", text.split()[0])
    for shown in (scrub(text), str(MoascopeError(text)), scrub(repr(text))):
        assert "hunter" not in shown
        assert "AKIA" not in shown


@pytest.mark.parametrize(("variable", "value"), [
    ("MLFLOW_TRACKING_URI", "http://anna:hunt:er/22@lab/x"),
    ("MLFLOW_TRACKING_PASSWORD", "hunt:er/22"),
    ("PGPASSWORD", "hunt:er/22"),
    ("MOASCOPE_STORAGE", "postgresql://db/x?password=hunt%3Aer%2F22"),
    ("MOASCOPE_STORAGE", "host=db password='hunt:er/22'"),
    ("AWS_SECRET_ACCESS_KEY", "hunt:er/22"),
])
def test_a_password_of_the_environment_is_hidden_wherever_it_stands(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert "hunt" not in scrub("tried hunt:er/22 and hunt%3Aer%2F22, then hunt:er%2F22")


@pytest.mark.parametrize("text", [
    "There is no registry at /data/anna/p/mlflow.db yet.",
    "models:/moascope@candidate cannot be loaded from sqlite:////data/anna/mlflow.db",
    "postgresql://anna@db:5432/x does not answer",
    "[Report](#/experiments/1/runs/2?viewStateShareKey=results)",
    "ghrelin receptor: growth hormone secretagogue = agonist, plate A:B, dose 1@2",
    "Write to <mailto:anna@lab.org> about plate 12:30.",
    "C:\\plates\\one.tif, https://idr.openmicroscopy.org/webclient/?show=screen-2902",
])
def test_ordinary_text_stays_as_it_is(text):
    assert scrub(text) == text


def test_parameters_and_names_of_runs_hold_no_password():
    params = parse_params({"acquire": {"source": "folder", "path": "s3://anna:hunter22@bucket"},
                           "idr0088": {"files": "https://anna:hunter22@lab/x"}})
    logged = flat(params)
    assert "hunter22" not in str(logged)
    assert logged["train.dropout"] == "tuned"
    assert logged["validate.max_quarantined"] == 0.1
    assert "hunter22" not in screen_name(params)
    assert "hunter22" not in address_shown("https://anna:hunter22@lab/x?token=hunter22")


def test_a_traceback_and_the_log_hold_no_password(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:hunter22@lab")
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    before = logging.getLogRecordFactory()
    handler = logging.StreamHandler(sys.stderr)
    log = logging.getLogger("somebody's")
    log.addHandler(handler)

    def program():
        try:
            raise ValueError("hunter22 is wrong")
        except ValueError:
            log.exception("tried %s", "hunter22")
        log.warning("%s", "two", "arguments for hunter22")
        thread = threading.Thread(target=lambda: {}["hunter22"])
        thread.start()
        thread.join()
        raise RuntimeError("cannot reach http://anna:hunter22@lab/api")

    try:
        assert run_to_exit_code(program) == 1
    finally:
        logging.setLogRecordFactory(before)
        log.removeHandler(handler)
    shown = capsys.readouterr().err
    for words in ("RuntimeError: cannot reach http://***@lab/api", "tried ***",
                  "ValueError: *** is wrong", "KeyError: '***'"):
        assert words in shown
    assert "hunter22" not in shown


@pytest.mark.parametrize(("kind", "command"), [
    ("closed", ["predict", "--model", "models:/m@candidate", "--screen", ".", "--out", "x"]),
    ("silent", ["promote"]),
])
def test_a_server_that_does_not_answer_ends_a_command_in_a_sentence(
        kind, command, tmp_path, answerless):
    (tmp_path / "params.yaml").write_text("target: gpcr\n")
    address = f"http://anna:hunter22@127.0.0.1:{answerless[kind]}"
    done = subprocess.run([sys.executable, "-m", "moascope.cli", *command], cwd=tmp_path,
                          env=answerless["environment"] | {"MLFLOW_TRACKING_URI": address},
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: The tracking store http://127.0.0.1:"), done.stderr
    assert "does not answer" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hunter22" not in done.stderr + done.stdout


@pytest.fixture
def answerless():
    """Ports of this machine: one that nobody listens at, and one where nobody speaks."""
    import os
    import socket

    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))
        yield {"silent": silent.getsockname()[1], "closed": closed.getsockname()[1],
               "environment": dict(os.environ)}
