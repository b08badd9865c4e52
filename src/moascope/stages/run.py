"""How every stage starts and ends on the command line."""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path

from moascope.errors import run_to_exit_code
from moascope.params import load_params


def run(stage: Callable[..., str]) -> None:
    """Run one stage: its arguments but `params` are paths, given as options by dvc.yaml.

    Parameters
    ----------
    stage : callable
        `stage(params, **paths)`, which does the work and returns one sentence for the log.

    Notes
    -----
    Ends the process: 0 when the stage is done, 1 with a sentence on bad input.
    """
    name = stage.__name__
    names = [argument for argument in inspect.signature(stage).parameters if argument != "params"]
    parser = argparse.ArgumentParser(prog=f"moascope.stages.{name}", description=stage.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for argument in names:
        parser.add_argument(f"--{argument.replace('_', '-')}", type=Path, required=True)
    paths = vars(parser.parse_args())

    def program() -> None:
        start = time.perf_counter()
        sentence = stage(load_params(), **paths)
        print(f"{name}: {sentence} ({time.perf_counter() - start:.0f} s)")

    sys.exit(run_to_exit_code(program))
