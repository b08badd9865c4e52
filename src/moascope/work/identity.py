"""Who is at work: a process named so that others can tell, later, whether it still runs."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any

import psutil

# The clock that a process's start is read from may be set while it runs.
SAME_START = 5.0


def this_process() -> dict[str, Any]:
    """This process, for a record that JSON can hold."""
    return {"host": socket.gethostname(), "machine": machine(), "process": os.getpid(),
            "started": psutil.Process().create_time()}


def has_ended(process: dict[str, Any]) -> bool | None:
    """Whether a process of `this_process` is gone; None where that cannot be seen from here."""
    if process.get("machine") != machine():
        boot = machine().split()[0]
        restarted = (process.get("host") == socket.gethostname()
                     and process.get("machine", boot).split()[0] != boot)
        return True if restarted else None
    try:
        found = psutil.Process(process["process"])
        # Numbers are given again; a process that nobody waited for has ended nevertheless.
        return (found.status() == psutil.STATUS_ZOMBIE
                or abs(found.create_time() - process.get("started", found.create_time()))
                > SAME_START)
    except psutil.NoSuchProcess:
        return True


def machine() -> str:
    """What tells machines apart, and containers, whose process numbers are their own."""
    try:
        # Names of hosts will not do: containers that share the host's network share its name.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{uuid.getnode():x}"
