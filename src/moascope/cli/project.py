"""Commands for a project: making it, bringing it up to date, running one of its stages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project; it is made if it does not "
                                                "exist.")] = Path(),
    upgrade: Annotated[bool, typer.Option(
        "--upgrade", help="Bring the stages and parameters of the installed moascope into an "
                          "existing project.")] = False,
) -> None:
    """Make a project: a folder in which `dvc repro` runs the pipeline.

    Sets up git and DVC and writes dvc.yaml, params.yaml and a README. Files that exist are kept.
    With --upgrade, your values, comments and own stages are kept, and every change is listed.

    Example: moascope init my_screen
    """
    if upgrade:
        from moascope.project.upgrade import upgrade_project

        changes = upgrade_project(folder)
        for change in changes:
            print(change)
        look = "Look" if folder.resolve() == Path.cwd() else f"In {folder}, look"
        print(f"{look} at the changes with `git diff` and commit them; `dvc repro register report` "
              "then runs what they affect." if changes else "The project is up to date.")
        return
    from moascope.project.make import make_project, next_steps

    made = make_project(folder)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{made.folder.resolve().name} is a moascope project"
          + (", and its files are committed." if made.committed else "."))
    print("Next, about five minutes for the simulated screen:")
    for command in next_steps(made):
        print(f"  {command}")
    print("Your own plates: see screen/README.md and acquire.source in params.yaml.")


def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="acquire, validate, ...; the stage's options "
                                             "follow.")],
) -> None:
    """Run one stage, as dvc.yaml does; `dvc repro` runs those that are out of date."""
    from moascope.stages.run import run_stage

    run_stage(name, context.args)
