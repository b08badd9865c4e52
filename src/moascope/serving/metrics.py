"""What a server of a model counts, as Prometheus reads it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Upper bounds in seconds: from a site of profiles to a plate of images.
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts since the start of the server.

    Parameters
    ----------
    model : mapping of str to str
        What is served: labels of `moascope_model_info`.

    Notes
    -----
    Prometheus's text format, version 0.0.4. Its Python client would need a file for each process;
    here one process counts for all.
    """

    def __init__(self, model: Mapping[str, str]):
        self._model = dict(model)
        self._requests: Counter[str] = Counter()
        self._durations: Counter[float] = Counter()
        self._seconds = 0.0
        self._predictions: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.waiting = 0
        self.restarts = 0

    def observe(self, status: int, seconds: float, calls: Mapping[str, int]) -> None:
        """Count an answered request.

        Parameters
        ----------
        status : int
            Of HTTP.
        seconds : float
            From the arrival of the request to its answer.
        calls : mapping of str to int
            What its predictions say, and how many say it.
        """
        with self._lock:
            self._requests[str(status)] += 1
            bound = next((bound for bound in BUCKETS if seconds <= bound), float("inf"))
            self._durations[bound] += 1
            self._seconds += seconds
            self._predictions.update(calls)

    def text(self) -> str:
        """All counts, in Prometheus's text format."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _head("moascope_model_info", "gauge", "The model that is served.")
        yield f"moascope_model_info{_labels(self._model)} 1"
        yield from _head("moascope_requests_total", "counter", "Answered requests, by status.")
        for status, count in sorted(self._requests.items()):
            yield f"moascope_requests_total{_labels({'status': status})} {count}"
        yield from _head("moascope_request_seconds", "histogram",
                         "Seconds from the arrival of a request to its answer.")
        below = 0
        for bound in (*BUCKETS, float("inf")):
            below += self._durations[bound]
            name = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f"moascope_request_seconds_bucket{_labels({'le': name})} {below}"
        yield f"moascope_request_seconds_sum {self._seconds:.6f}"
        yield f"moascope_request_seconds_count {below}"
        yield from _head("moascope_requests_in_progress", "gauge",
                         "Requests that wait or are being answered.")
        yield f"moascope_requests_in_progress {self.waiting}"
        yield from _head("moascope_predictions_total", "counter",
                         "Rows of answers, by what they say.")
        for call, count in sorted(self._predictions.items()):
            yield f"moascope_predictions_total{_labels({'call': call})} {count}"
        yield from _head("moascope_worker_restarts_total", "counter",
                         "Processes with the model that ended and were started again.")
        yield f"moascope_worker_restarts_total {self.restarts}"


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"


def _labels(values: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in values.items()) + "}"
