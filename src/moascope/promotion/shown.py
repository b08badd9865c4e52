"""A decision of the gate as the terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moascope.text import counted


def show_not_promoted(said: str, reasons: Sequence[str]) -> None:
    """Print why a model is not promoted as the end of a run that has done all it should."""
    print(said)
    for reason in reasons:
        print(f"  - {reason}")
    print("The run itself is complete, and its results are valid.")


def show_decision(record: dict[str, Any]) -> None:
    """Print each requirement with its measurement, and what limits the decision.

    Parameters
    ----------
    record : dict
        As `promote` returns it.
    """
    from rich.console import Console
    from rich.table import Table

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    console = Console()
    held = record["held_out"]
    console.print(
        f"{record['name']} version {record['version']} to {record['to']}, target "
        f"{record['target']}, {held['compounds']} held-out {record['unit']}s"
        + (f" ({held['positives']} positive)" if "positives" in held else ""),
        style="italic", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("requirement", overflow="fold")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("ok", no_wrap=True)
    for line in record["requirements"]:
        if line["measured"] is None and line["limit"] is None:   # no cells were counted
            table.add_row(line["name"], "not measured", "–", "–")
            continue
        table.add_row(line["name"], number(line["measured"]),
                      f"{line['sign']} {number(line['limit'])}",
                      "yes" if line["passed"] else "NO", style=None if line["passed"] else "bold")
    console.print(table)
    if held["left_out_as_seen"]:
        console.print(f"{counted(held['left_out_as_seen'], 'held-out ' + record['unit'])} "
                      "excluded: one of the models was trained on them.", style="yellow")
    if not record["says_what_train_wrote"]:
        console.print(f"Version {record['version']} is not the model in data/train, so its "
                      "predictions are not checked against those of its training.", style="yellow")
    if held["asked_before"]:
        console.print(f"{counted(held['asked_before'], 'earlier decision')} used the same "
                      "compounds. The more decisions, the more likely a pass is luck.",
                      style="yellow")
    if record["source"] == "simulated":
        console.print("A simulated screen proves the software, never the biology.", style="yellow")
