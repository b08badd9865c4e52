"""The one exception a user may see, and how a program ends on it."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
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
# As SQLite, NumPy and libraries say it that put an error of their own in place of the system's.
_SAID_TO_BE_FULL = re.compile("database or disk is full|[0-9]+ requested and [0-9]+ written|"
                              "No space left on device|Disk quota exceeded")


def full_disk(error: BaseException) -> OSError | None:
    """The error of a full disk that an exception is, or that it was raised from.

    Returns
    -------
    OSError or None
        Its `filename` says what was being written, where that is known.
    """
    found: OSError | None = None
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        is_full = isinstance(cause, OSError) and cause.errno in _FULL
        if is_full or _SAID_TO_BE_FULL.search(str(cause)):
            # Of a copy, the second is where it goes.
            name = (cause.filename2 or cause.filename) if isinstance(cause, OSError) else None
            name = name or (found.filename if found else None) or (
                "MLflow's database" if "database or disk" in str(cause) else None)
            found = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        cause = cause.__cause__ or cause.__context__
    return found


def cut_short(error: BaseException) -> Path | None:
    """Python's compiled copy of a module, of which a full disk took a part only.

    Python writes such a copy without looking whether all of it was taken, and from then on every
    import of the module fails.

    Parameters
    ----------
    error : BaseException
        Also what a command line made of the error of the import.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            if frame.f_code.co_name == "_compile_bytecode":
                return Path(frame.f_locals["bytecode_path"])
        cause = cause.__cause__ or cause.__context__
    return None


def run_to_exit_code(program: Callable[[], object]) -> int:
    """Call `program`; on a MoascopeError print its sentences on stderr.

    Any other exception is a mistake of ours and is shown with its traceback. Nothing that is
    printed or logged on the way holds a password.

    Returns
    -------
    int
        0 when the program ended well, 1 on an exception or when disk or memory is full, 130 on
        Ctrl-C.
    """
    scrub_what_is_logged()
    try:
        program()
    except (Exception, SystemExit) as error:
        if copy := cut_short(error):
            copy.unlink(missing_ok=True)
            print(f"error: Python's compiled copy of a module, {copy}, was cut short, most likely "
                  "by a full disk. It is removed: run the same command again.", file=sys.stderr)
        elif isinstance(error, SystemExit):
            raise
        elif full := full_disk(error):
            where = f" while writing {full.filename}" if full.filename else ""
            print(scrub(f"error: The disk is full{where}. Make room and run the same command "
                        "again; what was finished is kept."), file=sys.stderr)
        elif isinstance(error, MemoryError):
            wanted = f" ({error})" if str(error) else ""
            print(f"error: Memory ran out{wanted}. What was finished is kept. `moascope plan` says "
                  "how much memory each stage of a screen takes.", file=sys.stderr)
        elif isinstance(error, MoascopeError):
            for problem in error.problems[:MOST_PROBLEMS_SHOWN]:
                print(f"error: {problem}", file=sys.stderr)
            hidden = len(error.problems) - MOST_PROBLEMS_SHOWN
            if hidden > 0:
                print(f"error: and {hidden} more of the kind", file=sys.stderr)
        else:
            print(scrub(traceback.format_exc()), end="", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept and the next run goes on from it",
              file=sys.stderr)
        return 130
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
