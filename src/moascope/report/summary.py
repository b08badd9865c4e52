"""The last run as the terminal shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from moascope.errors import MoascopeError
from moascope.report.activity import activity_sentence
from moascope.report.chemistry import chemistry_sentence
from moascope.report.oracle import oracle_sentence
from moascope.report.words import (
    REFERENCES,
    controls_sentence,
    measured,
    recommendation,
    verdict,
)
from moascope.text import counted, span, tidy

PAGE = "report.html"
LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Results:
    """What the last run wrote.

    Attributes
    ----------
    metrics, registered : dict
        As metrics.json and registration.json hold them.
    promotion : dict
        The gate's last decision on the registered version, as promotion.json holds it; empty where
        there is none.
    page : Path or None
        The report for people, where it is there.
    outdated : bool
        Whether a later run trained or evaluated anew and did not come to its end.
    """

    metrics: dict[str, Any]
    registered: dict[str, Any]
    promotion: dict[str, Any]
    page: Path | None
    outdated: bool


def read_results(report: Path, data: Path) -> Results:
    """Read the results of the last run in this folder.

    Parameters
    ----------
    report, data : Path
        The folders of the reports and of the stages' data.

    Raises
    ------
    MoascopeError
        Where no run has ended here. The reports alone prove none: they are in git, so a fresh
        clone has those of somebody else's run.
    """
    if not (data / "train" / "run.json").is_file():
        raise MoascopeError(
            f"There are no results here yet: {data / 'train'} does not exist. Run `dvc repro "
            "register report` at the root of a project, or bring an earlier run's results with "
            "`dvc pull`.")
    try:
        metrics = json.loads((report / "evaluate" / "metrics.json").read_text())
        registered = json.loads((report / "register" / "registration.json").read_text())
    except FileNotFoundError as missing:
        raise MoascopeError(f"The last run has not come to its end: {missing.filename} does not "
                            "exist. Run `dvc repro register report`.") from None
    pages = sorted(report.rglob(PAGE))
    return Results(metrics, registered, _decision(report, registered),
                   pages[0] if pages else None, _outdated(data, report))


def _decision(report: Path, registered: dict[str, Any]) -> dict[str, Any]:
    """The gate's last decision, where it is about the registered version and no other."""
    path = report / "promote" / "promotion.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    own = all(record.get(key) == registered[key] for key in ("name", "version", "run_id"))
    return record if own else {}


def _outdated(data: Path, report: Path) -> bool:
    """Whether dvc.lock says that the model was registered from other files than there are now."""
    stages = (yaml.safe_load(LOCK.read_text()) or {}).get("stages", {}) if LOCK.is_file() else {}
    made = {out["path"]: out.get("md5") for stage in stages.values()
            for out in stage.get("outs", [])}
    return any(dep["path"] in made and made[dep["path"]] != dep.get("md5")
               for name in ("evaluate", "register")
               for dep in stages.get(name, {}).get("deps", []))


def show_summary(results: Results, pages: Sequence[tuple[str, str]]) -> None:
    """Print the scores next to their nulls, then where to look further.

    Parameters
    ----------
    results : Results
    pages : sequence of (str, str)
        What MLflow shows, and its address; empty where the run is in no tracking store here.
    """
    from rich.console import Console
    from rich.table import Table

    metrics, registered = results.metrics, results.registered
    console = Console()
    main, unit = metrics["out_of_fold"]["compound"], metrics["unit"]
    table = Table(title=f"target {tidy(metrics['target'])}, {metrics['source']} screen, "
                        f"{counted(main['compounds'], 'unseen ' + unit)}", title_justify="left")
    table.add_column("average precision of", overflow="fold")
    table.add_column("AP", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)

    def row(name: str, score: dict[str, Any], style: str | None = None) -> None:
        table.add_row(name, f"{score['average_precision']:.3f}",
                      span(score), style=style)

    row("the model", main, "bold")
    if "compound" in metrics["held_out"]:
        held = metrics["held_out"]["compound"]
        row(f"the model, {counted(held['compounds'], 'held-out ' + unit)}", held)
    table.add_row(f"a random list (prevalence {main['prevalence']:.3f})",
                  f"{main['null_mean']:.3f}",
                  f"{main['null_low']:.3f} to {main['null_high']:.3f}")
    for name, score in (metrics.get("references") or {}).items():
        row(f"reference: {REFERENCES[name].lower()}", score)
    for name, score in sorted(metrics["baselines"]["scores"].items()):
        if name != "prevalence":
            refits = f" (range of {score['refits']} refits)" if "refits" in score else ""
            row(name.replace("_", " ") + refits, score)
    if "oracle" in metrics:
        row("oracle (true state of the cells)", metrics["oracle"])
    if "random_image_split" in metrics:
        leak = metrics["random_image_split"]["true_labels"]["compound"]
        row(f"INVALID: random split by {measured(metrics)}", leak, "dim")
        grouped = metrics["random_image_split"].get("same_head_grouped")
        if grouped:
            row("the same head, split by compound", grouped["compound"], "dim")
    console.print(verdict(metrics)[1], style="bold", markup=False)
    console.print(table)
    if recommended := recommendation(metrics):
        console.print(f"A reference is demonstrably better than the model.{recommended}",
                      markup=False)
    if chemistry := chemistry_sentence(metrics):
        console.print(chemistry, markup=False)
    if metrics["mechanisms"]:
        console.print(controls_sentence(metrics), markup=False)
    console.print(f"Permutation p = {main['p']:.3g}: "
                  + ("above chance." if metrics["above_chance"] else "not above chance."))
    if tested := activity_sentence(metrics):
        console.print(f"Activity: {tested}", markup=False)
    if oracle := oracle_sentence(metrics):
        console.print(oracle)
    for caveat in metrics["caveats"] + metrics["warnings"]:
        console.print(caveat, style="yellow", markup=False)
    if results.outdated:
        console.print("A later run was not finished: these results are older than what is in "
                      "data/. Run `dvc repro register report`.", style="yellow")
    for sentence in _standing(registered, results.promotion):
        console.print(sentence, markup=False)
    if results.page:
        console.print(f"The report is {results.page}.", highlight=False, soft_wrap=True)
    if pages:
        console.print("More is in MLflow: start `mlflow ui` here and open", highlight=False)
    for words, link in pages:
        # A link that is broken over two lines cannot be clicked.
        console.print(f"  {words:<20} {link}", highlight=False, soft_wrap=True)


def _standing(registered: dict[str, Any], promotion: dict[str, Any]) -> list[str]:
    """Where the registered model stands, and what the gate said about it."""
    name, version = registered["name"], registered["version"]
    model = f"Model {name} version {version} (run {registered['run_id']})"
    if not promotion:
        return [f"{model} is the candidate. `moascope promote` decides whether it is good enough "
                "for staging."]
    numbers, to = promotion["numbers"], promotion["to"]
    held = counted(promotion["held_out"]["compounds"], "held-out " + promotion["unit"])
    if promotion["decision"] == "promoted":
        return [f"{model} is in {to}: it passed every test of the gate on {held}, which took no "
                f"part in training or tuning (average precision "
                f"{numbers['average_precision']:.3f}). Load it as models:/{name}@{to}."]
    return [f"{model} stays the candidate: on {held}, which took no part in training or tuning, "
            f"it does not show enough for {to}.", *promotion["reasons"]]
