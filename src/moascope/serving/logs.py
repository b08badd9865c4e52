"""Logs for machines: one JSON object a line, each with the request that it belongs to."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import sys
import uuid
from datetime import UTC, datetime

from moascope.errors import scrub_what_is_logged

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="")
"""The identifier of the request that is being answered."""

FIELDS = "fields"
"""Key of `extra`: a dictionary whose entries become fields of the line."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


class JsonLines(logging.Formatter):
    """One line per record: `time` (UTC), `level`, `message`, `request_id` and own fields."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        line = {"time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "level": record.levelname.lower(), "message": record.getMessage()}
        if REQUEST.get():
            line["request_id"] = REQUEST.get()
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json() -> None:
    """Send this process's log to standard output, as `JsonLines`; passwords are hidden in it."""
    scrub_what_is_logged()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("moascope").setLevel(logging.INFO)
    logging.captureWarnings(True)


def request_identifier(given: str) -> str:
    """The identifier that a client gave, or a new one where that could not stand in a log."""
    return given if _IDENTIFIER.fullmatch(given) else uuid.uuid4().hex
