"""The command that does everything: from plates to the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from moascope.cli.screens import Kind

INTERRUPTED = 130

def run(
    plates: Annotated[list[str], typer.Argument(
        metavar="PLATES", help="Folder of a microscope, a LoadData table, tables of profiles, "
                                  "or a folder that `moascope import` made. Nothing is written "
                                  "there.")],
    target: Annotated[str | None, typer.Option(
        help="moa, gpcr, gpcr_agonist, gpcr_antagonist or the name of one mechanism; moa by "
             "default.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(
        help="Folder of the project; PLATES_moascope in the current folder by default.",
        show_default=False)] = None,
    moa: Annotated[str | None, typer.Option(
        metavar="TABLE|COLUMN", help="Table with one row per compound and its mechanism; or, for "
                                     "profiles, the column with the mechanism.")] = None,
    layout: Annotated[Path | None, typer.Option(
        help="Plate map: a CSV file with one row per well, or a grid of the plate.")] = None,
    kind: Annotated[Kind, typer.Option(
        metavar="KIND", help="What wrote the plates, as for `moascope import`.")] = Kind.auto,
    pattern: Annotated[str | None, typer.Option(
        help="For --kind regex: how file names are read.")] = None,
    channels: Annotated[str, typer.Option(
        help="New names for channels, such as w1=DNA,w2=GFP.")] = "",
    compound: Annotated[str | None, typer.Option(
        metavar="COLUMN", help="Profiles: the column that names the compound.")] = None,
    allow_outside: Annotated[bool, typer.Option(
        "--allow-outside", help="Also read images outside a screen's folder, where its source.json "
                                "or a link leads to them.")] = False,
) -> None:
    """Do everything: import, check, annotate, train, evaluate, and write the report.

    Makes a project (as `moascope init` does), runs its pipeline in it, and ends with the verdict
    and where to look. The same command goes on where it was stopped, and repeats only what a
    change of the plates, tables or options affects.

    Example: moascope run /plates/run7 --layout map.csv --moa compounds.csv --target gpcr
    """
    from moascope.running.ending import ending
    from moascope.running.run import run_plates
    from moascope.running.shown import Shown
    from moascope.running.tables import Options

    # A column of CellProfiler may have a dot in its name, a table always has.
    table = Path(moa) if moa and (Path(moa).is_file() or "." in Path(moa).name) else None
    options = Options(
        kind=kind.value, pattern=pattern, channels=channels, compound=compound,
        layout=None if layout is None else layout.absolute(),
        moa=None if table is None else table.absolute(), column=None if table else moa)
    again = ["moascope", "run", *plates]
    for name, value in (("--target", target), ("--out", out), ("--kind", kind.value),
                        ("--pattern", pattern), ("--channels", channels),
                        ("--compound", compound), ("--layout", layout), ("--moa", moa)):
        if value and value != Kind.auto:
            again += [name, str(value)]
    shown = Shown()
    try:
        ran = run_plates(plates, out, target, options, allow_outside, again, shown)
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept, and the same command goes on from it.",
              file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    said, rows = ending(ran)
    shown.done(said, ran.seconds)
    shown.lines(rows)
