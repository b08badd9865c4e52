"""Every command in one list: which there are, in which group help shows them, and their order."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from moascope.cli.compounds import doses, similar
from moascope.cli.explore import explore
from moascope.cli.models import predict, promote, serve, summary
from moascope.cli.project import init, stage
from moascope.cli.run import run
from moascope.cli.screens import annotate, fetch, import_, layout, plan
from moascope.cli.study import distil, work

app = typer.Typer(
    name="moascope",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Predict from pictures of cells alone how a drug acts.\n\n"
         "[bold]moascope run PLATES[/bold] does everything, from plates to the report. Step by "
         "step: [bold]moascope init my_screen[/bold] makes a project. In it, [bold]dvc repro "
         "register report[/bold] runs the pipeline, [bold]dvc exp run -S train.dropout=0.5[/bold] "
         "runs an experiment, and [bold]mlflow ui[/bold] shows the runs.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from moascope.project.shipped import package_version

        print(f"moascope {package_version()}")
        raise typer.Exit


@app.callback()
def moascope(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True,
                                          help="Show the version and exit.")] = False,
) -> None:
    """Holds the options of `moascope` itself."""


COMMANDS = {
    "Project": {
        "run": run,
        "init": init,
        "summary": summary,
        "stage": stage,
    },
    "Screens": {
        "import": import_,
        "layout": layout,
        "explore": explore,
        "annotate": annotate,
        "fetch": fetch,
        "plan": plan,
    },
    "Compounds": {
        "similar": similar,
        "doses": doses,
    },
    "Models": {
        "predict": predict,
        "serve": serve,
        "promote": promote,
        "work": work,
        "distil": distil,
    },
}
# `stage` hands the options that follow its name to the stage.
PASSED_ON = {"stage": {"allow_extra_args": True, "ignore_unknown_options": True}}



def _paragraphs(text: str) -> str:
    """Help without the line breaks of the source, which the terminal would show."""
    return "\n\n".join(" ".join(paragraph.split())
                       for paragraph in inspect.cleandoc(text).split("\n\n"))


for _panel, _commands in COMMANDS.items():
    for _name, _function in _commands.items():
        app.command(_name, help=_paragraphs(_function.__doc__ or ""), rich_help_panel=_panel,
                    context_settings=PASSED_ON.get(_name))(_function)
