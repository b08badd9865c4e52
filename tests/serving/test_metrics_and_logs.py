"""What is counted and logged is what machines can read."""

import asyncio
import json
import logging
import math

import pytest

from moascope.serving.app import MOST_BYTES, make_app
from moascope.serving.logs import FIELDS, REQUEST, JsonLines, request_identifier
from moascope.serving.metrics import BUCKETS, Metrics
from moascope.serving.worker import Answer


class Instant:
    """Workers that answer at once."""

    alive = 1

    async def answer(self, body, content_type, request):
        return Answer("{}", 200, "application/json", {"gpcr": 1})


def ask(metrics, path="/invocations", body=b"{}", workers=None, **headers):
    """Status, headers and body of an answer."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST" if path == "/invocations" else "GET", "path": path,
             "query_string": b"", "http_version": "1.1",
             "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(make_app(workers or Instant(), metrics, "3")(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(
        message.get("body", b"") for message in sent)


def test_buckets_of_durations_are_cumulative_and_end_with_all():
    metrics = Metrics({"model": "m"})
    for seconds in (0.01, BUCKETS[3], 1e9):
        metrics.observe(200, seconds, {})
    found = [float(line.rpartition(" ")[2]) for line in metrics.text().splitlines()
             if line.startswith("moascope_request_seconds_bucket")]
    assert found == [1, 1, 1, *[2] * (len(BUCKETS) - 3), 3]
    assert math.isclose(float(next(line.rpartition(" ")[2] for line in metrics.text().splitlines()
                                   if line.startswith("moascope_request_seconds_sum"))),
                        0.01 + BUCKETS[3] + 1e9)


def test_a_label_cannot_end_its_line():
    text = Metrics({"model": 'a"b\\c\nd'}).text()
    assert r'moascope_model_info{model="a\"b\\c\nd"} 1' in text.splitlines()


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"', "a\nb", "é", "{}"])
def test_an_identifier_that_could_not_stand_in_a_log_is_replaced(given):
    assert request_identifier(given) != given
    assert request_identifier(given).isalnum()
    assert request_identifier("trace-1:2.3_4") == "trace-1:2.3_4"


def test_a_line_of_the_log_is_one_object_also_with_a_traceback():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("moascope", logging.ERROR, "f.py", 1, "it %s", ("failed",),
                                   (type(error), error, error.__traceback__))
    setattr(record, FIELDS, {"status": 500})
    token = REQUEST.set("r1")
    line = JsonLines().format(record)
    REQUEST.reset(token)
    assert "\n" not in line
    said = json.loads(line)
    assert (said["message"], said["level"], said["request_id"], said["status"]) == (
        "it failed", "error", "r1", 500)
    assert said["traceback"].endswith("ValueError: two\nlines")
    assert said["time"].endswith("Z")


def test_health_follows_the_workers():
    metrics, gone = Metrics({}), Instant()
    assert ask(metrics, "/health", workers=gone)[0] == 200
    gone.alive = 0
    assert ask(metrics, "/health", workers=gone)[0] == 503


def test_requests_beyond_those_that_may_wait_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr("moascope.serving.app.MOST_WAITING", 3)
    metrics = Metrics({})
    assert ask(metrics)[0] == 200
    metrics.waiting = 3
    status, headers, body = ask(metrics)
    assert (status, headers[b"retry-after"]) == (503, b"5")
    assert json.loads(body)["message"] == "3 requests wait already. Send this one again later."


def test_a_request_that_is_too_large_is_refused_before_it_is_read():
    status, headers, _ = ask(Metrics({}), **{"content-length": str(MOST_BYTES + 1)})
    assert status == 413
    assert b"x-request-id" in headers


def test_probes_are_not_counted_as_requests():
    metrics = Metrics({})
    ask(metrics, "/health")
    assert "moascope_request_seconds_count 0" in metrics.text()
    ask(metrics)
    assert "moascope_request_seconds_count 1" in metrics.text()
    assert 'moascope_predictions_total{call="gpcr"} 1' in metrics.text()
