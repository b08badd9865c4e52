"""A process that holds the model and answers one request after the other."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections import Counter
from typing import Any, NamedTuple

from moascope.serving.logs import REQUEST, log_as_json
from moascope.work.processors import PROCESSORS, bound_threads

PLAIN = "text/plain"


class Answer(NamedTuple):
    """What a request gets.

    Attributes
    ----------
    body : str
    status : int
        Of HTTP.
    media_type : str
    calls : dict of str to int
        What the predictions say, and how many rows say it.
    """

    body: str
    status: int
    media_type: str
    calls: dict[str, int]


class _Model:
    """A model as MLflow's scoring server takes it, which notes what it predicts."""

    def __init__(self, model: Any):
        self._model, self.metadata = model, model.metadata
        self.calls: dict[str, int] = {}

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        table = self._model.predict(data, params=params)
        said = table["Call"] if "Call" in table else table["Predicted"]
        self.calls = dict(Counter(said.astype(str)))
        return table


_held: Any = None


def load(folder: str, processors: int) -> None:
    """Hold the model of this process.

    Parameters
    ----------
    folder : str
        A model as MLflow keeps it.
    processors : int
        How many the process may use.
    """
    global _held
    # Both may be sent to the whole group; what is being answered is finished, and the server, which
    # gets them too, ends its workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.environ[PROCESSORS] = str(processors)
    bound_threads()
    log_as_json()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.pyfunc
    import pandas as pd

    # Requests are tables of a few rows, where each step of Arrow's text costs more than all of its
    # cells: a quarter of the time of a request.
    pd.set_option("mode.string_storage", "python")
    _held = mlflow.pyfunc.load_model(folder)


def answer(body: bytes, content_type: str, request: str) -> Answer:
    """Answer a request to `/invocations` as MLflow's scoring server does.

    Parameters
    ----------
    body : bytes
    content_type : str
    request : str
        Its identifier, for the log.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations

    REQUEST.set(request)
    model = _Model(_held)
    try:
        given = invocations(body, content_type, model, _held.metadata.get_input_schema())
    except MlflowException as error:
        # MLflow puts the whole table before the sentence, and its traceback, which names files of
        # this machine, after it.
        sentence = error.message.rpartition("\nError: ")[2]
        return Answer(json.dumps({"error_code": error.error_code, "message": sentence}),
                      error.get_http_status_code(), "application/json", {})
    except Exception:
        logging.getLogger("moascope").exception("A request could not be read.")
        return Answer(json.dumps({"error_code": "INTERNAL_ERROR", "message":
                                  "The request could not be read. The server's log says why."}),
                      500, "application/json", {})
    return Answer(given.response, given.status, given.mimetype, model.calls)
