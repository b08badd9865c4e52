"""How a stage starts and ends: what `moascope stage NAME` does."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import pkgutil
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from moascope.errors import MoascopeError, full_disk
from moascope.params_file import load_params
from moascope.work.plates import KEY_FILE

# What a stage writes; its other paths are read.
RESULTS = ("out", "journal", "report")
JOURNAL = ".journal"


def stage_names() -> list[str]:
    """The stages there are: each is a module of this package and a function of its name."""
    here = Path(__file__)
    return [module.name for module in pkgutil.iter_modules([str(here.parent)])
            if module.name != here.stem]


def run_stage(name: str, arguments: Sequence[str]) -> None:
    """Run one stage and print its closing sentence.

    A stage is a function `stage(params, **paths)` that returns one sentence for the log. Its
    arguments other than `params` are paths, which dvc.yaml gives as options.

    Raises
    ------
    MoascopeError
        On an unknown stage, and whatever the stage itself raises.
    """
    run_own_source(["stage", name, *arguments])
    if name not in stage_names():
        raise MoascopeError(f"'{name}' is not a stage. The stages are {', '.join(stage_names())}.")
    stage = getattr(importlib.import_module(f"moascope.stages.{name}"), name)
    parser = argparse.ArgumentParser(prog=f"moascope stage {name}")
    for argument in inspect.signature(stage).parameters:
        if argument != "params":
            parser.add_argument(f"--{argument.replace('_', '-')}", type=Path, required=True)
    paths = vars(parser.parse_args(arguments))
    require_inputs(name, paths)
    start, begun = time.perf_counter(), time.time()
    try:
        sentence = stage(load_params(), **paths)
    except Exception as error:
        full = full_disk(error)
        if full is None:
            raise
        results = [path for argument, path in paths.items() if argument in RESULTS]
        remove_unfinished(results, begun)
        full.filename = full.filename or ", ".join(map(str, results))
        raise full from None
    print(f"{name}: {sentence} ({time.perf_counter() - start:.0f} s)")


def require_inputs(name: str, paths: Mapping[str, Path]) -> None:
    """Say so where what a stage reads has not been made.

    Parameters
    ----------
    name : str
        The stage.
    paths : mapping
        Argument -> path, as dvc.yaml gives them.

    Raises
    ------
    MoascopeError
    """
    missing = sorted(str(path) for argument, path in paths.items()
                     if argument not in RESULTS and not path.exists())
    if missing:
        raise MoascopeError(
            f"The stage {name} reads {', '.join(missing)}, which earlier stages make. Run `dvc "
            f"repro {name}`, which runs what is missing first.")


def remove_unfinished(results: Sequence[Path], begun: float) -> None:
    """Remove what a stage wrote before the disk was full, except what the next run goes on from.

    Parameters
    ----------
    results : sequence of Path
        Its files and folders.
    begun : float
        When it began, in seconds since 1970.
    """
    for result in results:
        for partial in result.parent.glob(f".*{result.name}.*partial"):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        for file in [result, *result.rglob("*")]:
            kept = file.suffix == JOURNAL or (file.parent / KEY_FILE).is_file()
            # Some disks know the time of a file to two seconds.
            if file.is_file() and file.stat().st_mtime >= begun - 2 and not kept:
                file.unlink()


def run_own_source(arguments: Sequence[str]) -> None:
    """Start this command again with the working folder's own source, where it holds another.

    A clone, and each temporary workspace of `dvc exp run` in it, must run the code that it holds,
    whichever copy of moascope is installed. Does nothing where the working folder holds no source,
    or holds the one that is imported already.
    """
    source = Path.cwd() / "src"
    imported = Path(__file__).resolve().parents[2]
    if not (source / "moascope/stages/run.py").is_file() or imported == source.resolve():
        return
    path = os.environ.get("PYTHONPATH", "")
    if path.split(os.pathsep)[0] == str(source):
        raise MoascopeError(f"Python imports moascope from {imported} although {source} comes "
                            "first on PYTHONPATH. Run the stage with an ordinary Python.")
    # Worker processes inherit the path.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), path)))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "moascope.cli", *arguments])
