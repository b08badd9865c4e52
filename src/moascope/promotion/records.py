"""Where a decision is written down: MLflow, the version, the files of reports/promote."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from moascope.promotion.gate import Decision
from moascope.text import counted
from moascope.tracking.endings import end_abandoned, process_tag
from moascope.tracking.registry import aliases_of, describe_version
from moascope.tracking.runs import open_experiment
from moascope.work.files import write_csv, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROMOTED, REFUSED, HOLDS = "promoted", "refused", "holds"
DIGITS = 6
COLUMNS = [
    "when", "to", "version", "decision", "average_precision", "prevalence", "p", "incumbent",
    "incumbent_average_precision", "difference", "worse", "compounds", "asked", "reasons", "who",
    "git_commit", "model_run", "promotion_run",
]


def history(client: MlflowClient, name: str) -> pd.DataFrame:
    """Every decision about a registered model in the registry, oldest first.

    Parameters
    ----------
    client : MlflowClient
    name : str
        Of the registered model.

    Returns
    -------
    DataFrame
        All text, columns `COLUMNS`. A decision that was interrupted while it was written, or
        overtaken by one of another machine, reads "interrupted".
    """
    experiment = client.get_experiment_by_name(promotions_of(name))
    rows: list[dict[str, str]] = []
    token = ""
    while experiment is not None and token is not None:
        page = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"],
                                  max_results=1000, page_token=token or None)
        for run in page:
            said = {**run.data.tags, "promotion_run": run.info.run_id}
            said |= {key: _text(value) for key, value in run.data.metrics.items()}
            if run.info.status != "FINISHED":
                said["decision"] = "interrupted"
            rows.append({column: said.get(column, "") for column in COLUMNS})
        token = page.token
    return pd.DataFrame(rows, columns=COLUMNS, dtype="str")


def promotions_of(name: str) -> str:
    """The experiment that keeps the decisions about a registered model."""
    return f"{name} promotions"


def write_decision(client: MlflowClient, record: dict[str, Any], decision: Decision,
                   report: Path) -> bool:
    """Record a decision everywhere, and give the alias to a candidate that passed.

    The decision's run stays open until the alias has moved, so that an interrupted decision
    can be recognised.

    Returns
    -------
    bool
        False if the holder has changed in the meantime; then nothing is moved.
    """
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    name, version, to = record["name"], record["version"], record["to"]
    numbers, against = record["numbers"], record["numbers"]["incumbent"] or {}
    verb = "->" if decision.passed else "refused for"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    experiment = open_experiment(client, promotions_of(name))
    end_abandoned(client, experiment.experiment_id)
    run = client.create_run(experiment.experiment_id, run_name=f"version {version} {verb} {to}",
                            tags=process_tag())
    own = run.info.run_id
    now = int(time.time() * 1000)
    metrics = {
        "average_precision": numbers["average_precision"], "prevalence": numbers["prevalence"],
        "lift": numbers["lift"], "p": numbers["p"],
        "incumbent_average_precision": against.get("average_precision"),
        "difference": against.get("difference"), "worse": against.get("worse"),
        **{f"baseline.{key}": value for key, value in numbers["baselines"].items()},
    }
    tags = {
        "decision": record["decision"], "to": to, "version": version, "when": record["when"],
        "who": record["who"], "incumbent": record["incumbent"] or "none",
        "reasons": " ".join(record["reasons"]), "asked": record["held_out"]["asked"],
        "compounds": str(record["held_out"]["compounds"]), "model_run": record["run_id"],
        "git_commit": record.get("git_commit", ""), "target": record["target"],
        "mlflow.user": record["who"], "mlflow.note.content": note(record),
    }
    client.log_batch(
        own, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()
                      if value is not None],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.log_dict(own, record, "promotion.json")
    said = {
        "decision": record["decision"], "when": record["when"], "who": record["who"],
        "average_precision": f"{numbers['average_precision']:.4f}",
        "incumbent": record["incumbent"] or "none",
        "reasons": " ".join(record["reasons"]) or "Every requirement is met.",
        "git_commit": record.get("git_commit", "unknown"), "promotion_run": own,
    }
    for key, value in said.items():
        client.set_model_version_tag(name, version, f"promotion.{to}.{key}", value)
    if decision.passed:
        if aliases_of(client, name).get(to) != record["incumbent"]:
            client.set_terminated(own, "KILLED")
            return False
        client.set_registered_model_alias(name, to, version)
        if record["incumbent"]:
            client.set_model_version_tag(name, record["incumbent"], f"promotion.{to}.replaced_by",
                                         version)
    client.set_terminated(own, "FINISHED")
    # The run that trained the model may have been deleted since; the decision does not need it.
    with contextlib.suppress(MlflowException):
        client.set_tag(record["run_id"], f"promotion.{to}", f"{record['decision']}: version "
                                                            f"{version}, {record['when']}")
        client.log_dict(record["run_id"], record, f"promotion/{to}.json")
    write_json(report / "promotion.json", record)
    _append_history(report / "history.csv", history(client, name), name)
    for one in {version, record["incumbent"] or version}:
        describe_version(name, one)
    return True


def note(record: dict[str, Any]) -> str:
    """A decision in Markdown, for MLflow's page of it."""
    rows = "".join(
        f"\n| {line['name']} | {_shown(line['measured'])} | {line['sign']} "
        f"{_shown(line['limit'])} | {'yes' if line['passed'] else '**no**'} |"
        for line in record["requirements"]
    )
    return (f"{sentence(record)}\n\n"
            f"| requirement | measured | limit | met |\n|---|---|---|---|{rows}")


def sentence(record: dict[str, Any]) -> str:
    """A decision in one sentence."""
    name, version, to = record["name"], record["version"], record["to"]
    if record["decision"] == HOLDS:
        return f"Version {version} of '{name}' already holds {to}; nothing changes."
    held, numbers = record["held_out"], record["numbers"]
    incumbent = record["incumbent"]
    ended = {
        PROMOTED: f"Version {version} of '{name}' is now {to}"
                  + (f", replacing version {incumbent}" if incumbent else ", as the first version"),
        REFUSED: f"Version {version} of '{name}' is not promoted to {to}"
                 + (f"; version {incumbent} keeps it" if incumbent else ""),
    }[record["decision"]]
    return (f"{ended}: average precision {numbers['average_precision']:.3f} at a prevalence of "
            f"{numbers['prevalence']:.3f} over "
            f"{counted(held['compounds'], 'held-out ' + record['unit'])}.")


def _append_history(path: Path, known: pd.DataFrame, name: str) -> None:
    """Add decisions of the registry that the file lacks; rows of other registries stay."""
    known = known.assign(model=name)
    if path.exists():
        before = pd.read_csv(path, dtype="str", keep_default_na=False)
        elsewhere = ~before["promotion_run"].isin(known["promotion_run"])
        known = pd.concat([before[elsewhere], known], ignore_index=True)
    known = known.sort_values("when", kind="stable")[["model", *COLUMNS]]
    write_csv(path, known)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _text(value: float) -> str:
    return f"{value:.6g}"
