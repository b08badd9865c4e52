"""The command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: sentences in place of tracebacks, and an exit status that means something."""
    from moascope.errors import run_to_exit_code

    sys.exit(run_to_exit_code(_run))


def _run() -> None:
    from moascope.cli.app import app
    from moascope.work.processors import bound_threads

    bound_threads()
    app()
