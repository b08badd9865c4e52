"""The command line."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Entry point: sentences in place of tracebacks, and an exit status that means something."""
    from moascope.errors import run_to_exit_code

    sys.exit(run_to_exit_code(_run))


def _run() -> None:
    from moascope.cli.app import app
    from moascope.work.processors import OBJECTS_BETWEEN_COLLECTIONS, bound_threads

    bound_threads()
    # Libraries make half a million objects that stay. At its default the collector looks through
    # all of them again and again while they are imported: a quarter of what a stage takes to start.
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    app()
