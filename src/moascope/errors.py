"""The one exception a user may see, and how a program ends on it."""

from __future__ import annotations

import errno
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from moascope.passwords import scrub


class MoascopeError(Exception):
    """Input that moascope cannot work with, told in sentences that name what, where and the remedy.

    Parameters
    ----------
    problems : str or iterable of str
        One sentence, or one sentence for each problem found. All of them are shown, so that a
        person mends a table once and not once an error. Passwords in them are hidden.
    """

    def __init__(self, problems: str | Iterable[str]):
        self.problems = [scrub(problem) for problem in
                         ([problems] if isinstance(problems, str) else problems)]
        super().__init__("\n".join(self.problems))

    def __reduce__(self):
        # Errors cross process boundaries (plates are worked on in parallel).
        return type(self), (self.problems,)


MOST_PROBLEMS_SHOWN = 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_to_exit_code(program: Callable[[], object]) -> int:
    """Call `program`; on a MoascopeError print its sentences on stderr.

    Any other exception is a mistake of ours and is shown with its traceback. Nothing that is
    printed or logged on the way holds a password.

    Returns
    -------
    int
        0 when the program ended well, 1 on an exception or a full disk, 130 on Ctrl-C.
    """
    scrub_what_is_logged()
    try:
        program()
    except MoascopeError as error:
        for problem in error.problems[:MOST_PROBLEMS_SHOWN]:
            print(f"error: {problem}", file=sys.stderr)
        hidden = len(error.problems) - MOST_PROBLEMS_SHOWN
        if hidden > 0:
            print(f"error: and {hidden} more of the kind", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(f"error: The disk is full{where} ({error.strerror}). Make room and run the same "
              "command again; what was finished is kept.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept and the next run goes on from it",
              file=sys.stderr)
        return 130
    except Exception:
        print(scrub(traceback.format_exc()), end="", file=sys.stderr)
        return 1
    return 0


def scrub_what_is_logged() -> None:
    """Hide passwords in this process's log records, and in the tracebacks of its threads."""
    make = logging.getLogRecordFactory()
    if getattr(make, "scrubs", False):
        return

    def scrubbed(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(*arguments, **named)
        record.msg, record.args = scrub(_message(record)), None
        if record.exc_info and record.exc_info[0]:
            # A formatter that finds a text does not format the exception itself.
            record.exc_text = scrub("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return record

    scrubbed.scrubs = True  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(scrubbed)
    threading.excepthook = lambda failed: print(scrub("".join(traceback.format_exception(
        failed.exc_type, failed.exc_value, failed.exc_traceback))), end="", file=sys.stderr)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # As in logging itself: a record whose arguments do not fit must not end the program.
        return f"{record.msg} {record.args}"
