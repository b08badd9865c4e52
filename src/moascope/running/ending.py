"""How `moascope run` ends: what was found, where to look, and what to do next."""

from __future__ import annotations

import shlex

from moascope.report.summary import read_results
from moascope.report.words import verdict
from moascope.running.plates import from_here
from moascope.running.run import Ran
from moascope.running.tables import ANNOTATIONS
from moascope.text import counted


def ending(ran: Ran) -> tuple[str, list[tuple[str, str]]]:
    """The verdict, and lines of a name and what is said of it.

    Paths are as the person reaches them from the current folder.
    """
    reports = ran.project / "reports"
    metrics = read_results(reports, ran.project / "data").metrics
    lacking = ran.compounds - ran.annotated
    compounds = f"{counted(ran.compounds, 'compound')}, {ran.annotated:,} with a mechanism"
    rows = [("compounds", compounds), ("report", from_here(reports / "report" / "report.html"))]
    if lacking:
        look = "looks" if lacking == 1 else "look"
        rows.append(("unknown", f"{from_here(reports / 'report' / 'predictions.html')}: what the "
                                f"{counted(lacking, 'compound')} without a mechanism {look} like"))
    rows.append(("layout", from_here(reports / "layout" / "screen.html")))
    table = shlex.quote(from_here(ran.screen / ANNOTATIONS))
    if ran.open_questions:
        waits = "waits" if ran.open_questions == 1 else "wait"
        rows.append(("next", f"{counted(ran.open_questions, 'compound')} {waits} for your "
                             f"decision: moascope annotate {table} --out {table} --ask"))
    if lacking:
        rows.append(("next", f"fill in Metadata_MoA of {counted(lacking, 'compound')} in "
                             f"{table}, where you know it"))
    rows.append(("next", f"cd {shlex.quote(from_here(ran.project))} && moascope summary"))
    return verdict(metrics)[1], rows
