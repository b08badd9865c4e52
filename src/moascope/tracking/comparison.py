"""Runs that may be compared: one parent run per data set and folds, and saved views of them.

MLflow's page keeps a view (columns, filter, order) in an experiment's tag
`mlflow.sharedViewState.<key>` and shows it where an address ends in `viewStateShareKey=<key>`.
Links start with `#`: they hold on whatever host and port the page is served.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from moascope.params import Head, Params
from moascope.passwords import scrub
from moascope.tracking.database import alone_with
from moascope.tracking.endings import process_tag
from moascope.tracking.numbers import HEADLINE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
VIEW = "mlflow.sharedViewState."
STAGE = "pipeline"
KINDS = {"logistic": "logistic regression", "neighbours": "nearest neighbours",
         "trees": "extremely randomised trees"}
INNER = "inner_explained_information"

SIMULATED = "> Simulated screen: these scores prove the software, never the biology."


# MLflow's page opens with menus for language models; this selects those for model training.
MENU = "workflowType=machine_learning"


def address(experiment_id: str, view: str) -> str:
    """Where MLflow's page shows a saved view: the part of the address from `#` on."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={view}&{MENU}"


def run_address(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Where MLflow's page shows a run, or one of its artifacts."""
    page = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{page}?{MENU}"


def version_address(name: str, version: str) -> str:
    """Where MLflow's page shows a version of a registered model."""
    return f"#/models/{quote(name, safe='')}/versions/{version}?{MENU}"


def saved_views() -> dict[str, str]:
    """Key -> the view as MLflow's page stores it.

    Returns
    -------
    dict
        `results`: every run with a score, models and baselines, with its nulls and its head.
        `trials`: every trial of every study, by the inner score, which selects.
    """
    heads = tuple(Head.model_fields)
    return {
        "results": _view(
            f"metrics.average_precision >= 0 and tags.stage != '{STAGE}'", "average_precision",
            metrics=HEADLINE, params=("embed.backbone", *(f"head.{name}" for name in heads)),
            tags=("stage", "dvc_exp_name"),
        ),
        "trials": _view(
            "tags.`optuna.state` LIKE '%'", f"best_{INNER}",
            metrics=(f"best_{INNER}",), params=heads, tags=("optuna.state", "optuna.study"),
        ),
    }


def _view(search: str, order: str, metrics: Sequence[str], params: Sequence[str],
          tags: Sequence[str]) -> str:
    columns = [f"{kind}.`{name}`"
               for kind, names in (("metrics", metrics), ("tags", tags), ("params", params))
               for name in names]
    # A header needs some seven pixels per letter and a margin; a number needs eighty.
    widths = {column: max(80, 7 * len(column.split("`")[1]) + 26) for column in columns}
    widths[f"metrics.`{order}`"] += 24   # the arrow
    return json.dumps({
        "searchFilter": search,
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns],
        "columnWidths": {"attributes.`Run Name`": 310, "runDateAndNestInfo": 150, **widths},
    }, sort_keys=True)


def prepare_experiment(client: MlflowClient, experiment: Experiment, params: Params) -> None:
    """Give an experiment its views and its description if it lacks them.

    A description that a person wrote is kept.
    """
    wanted = {
        # MLflow's page shows what belongs to training, not to language models.
        "mlflow.experimentKind": "custom_model_development",
        **{VIEW + key: view for key, view in saved_views().items()},
        NOTE: experiment.tags.get(NOTE) or _experiment_note(experiment.experiment_id, params),
    }
    for key, value in wanted.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)


def _experiment_note(experiment_id: str, params: Params) -> str:
    # The page shows the first line; the rest unfolds.
    caveat = f"\n\n{SIMULATED}" if params.acquire.source == "simulated" else ""
    return (
        f"[**Compare all results**]({address(experiment_id, 'results')}) · "
        f"[compare the studies' trials]({address(experiment_id, 'trials')})"
        f"{caveat}\n\n"
        f"Question: **{params.target}**. Runs below one parent use the same data and the same "
        "folds, so their scores may be compared; its description lists them in a table. The "
        "average precision is a result, never a criterion: the studies' inner score selects the "
        "model, and compounds held out from all of this decide its promotion."
    )


def pipeline_run(client: MlflowClient, experiment_id: str, params: Params,
                 digests: Mapping[str, str], split: Path | None, database: Path | None,
                 ) -> str | None:
    """The parent of all runs on this data and these folds: found, or made.

    Parameters
    ----------
    client : MlflowClient
    experiment_id : str
    params : Params
    digests : mapping
        DVC's digests of a stage's inputs. Without those of `screen` and `split` nobody knows what
        the run may be compared with, and it gets no parent.
    split : Path or None
        Folder of stage split, for the name.
    database : Path or None
        The database file, where it is local: two processes that both miss the parent then make a
        single one. On a server the older of the two stays.

    Returns
    -------
    str or None
        Run id.
    """
    if not (digests.get("screen") and digests.get("split")):
        return None
    key = f"{digests['screen'][:12]} {digests['split'][:12]}"
    if found := _parents(client, experiment_id, key):
        return found[0]
    with alone_with(database):
        if found := _parents(client, experiment_id, key):
            return found[0]
        made = client.create_run(experiment_id, run_name=pipeline_name(params, split), tags={
            "stage": STAGE, "pipeline": key, "source": params.acquire.source,
            "target": params.target, "digest.screen": digests["screen"],
            "digest.split": digests["split"], **process_tag(),
        }).info.run_id
        client.set_terminated(made)
        if (eldest := _parents(client, experiment_id, key)[0]) != made:
            client.delete_run(made)
        _adopt_validation(client, experiment_id, eldest, digests["screen"])
        return eldest


def screen_name(params: Params) -> str:
    """The name of the source; for folders of plates, the names of the folders."""
    if params.acquire.source == "folder":
        return scrub(" and ".join(Path(path).resolve().name for path in (
            params.acquire.path, *params.acquire.more)))
    return params.acquire.source


def pipeline_name(params: Params, split: Path | None) -> str:
    """The name of the parent run: "gpcr on simulated, 104 compounds, 5 folds x 2"."""
    import pandas as pd

    asked = ""
    if split is not None and (split / "groups.parquet").exists():
        unit = json.loads((split / "target.json").read_text())["unit"]
        held_out = pd.read_parquet(split / "groups.parquet", columns=["Holdout"])["Holdout"]
        asked = f"{int((~held_out.astype(bool)).sum())} {unit}s, "
    return (f"{params.target} on {screen_name(params)}, {asked}{params.split.folds} folds "
            f"x {params.split.repeats}")


def model_name(backbone: str, head: Head) -> str:
    """The name of a model's run: "morphology, 2 layers of 32, dropout 0.3"."""
    if head.head != "network":
        return f"{backbone}, {KINDS[head.head]}"
    if head.layers == 0:
        return f"{backbone}, linear, dropout {head.dropout:.2g}"
    layers = "1 layer" if head.layers == 1 else f"{head.layers} layers"
    return f"{backbone}, {layers} of {head.width}, dropout {head.dropout:.2g}"


def bring_up_to_date(client: MlflowClient, parent: str) -> None:
    """Bring the numbers and the description of a parent run up to date with its children.

    The parent shows the numbers of the model that was evaluated last, and of the trial that the
    inner score selected. It never shows those of the child with the best reported score: taking
    the best of many reported scores would be selecting by them.
    """
    from mlflow.entities import Metric, RunTag

    run = client.get_run(parent)
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`{PARENT}` = '{parent}'",
        order_by=["attributes.start_time ASC"], max_results=1000,
    )
    latest = _latest([child for child in children if child.data.tags.get("stage") == "train"
                      and "average_precision" in child.data.metrics])
    study = _best_study(children)
    numbers: dict[str, float] = {}
    tags = {NOTE: pipeline_note(run, children, latest, study)}
    if latest:
        numbers |= {key: latest.data.metrics[key] for key in HEADLINE
                    if key in latest.data.metrics}
        tags["latest_run"] = latest.info.run_id
    if study:
        numbers[f"best_{INNER}"] = round(study.data.metrics[INNER], 6)
        tags["best_trial"] = _chosen(study)
    now = int(time.time() * 1000)
    known = run.data.metrics
    client.log_batch(
        parent,
        # A number that has not changed is not another point of its curve.
        metrics=[Metric(key, value, now, 0) for key, value in numbers.items()
                 if known.get(key) != value],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.set_terminated(parent)


def pipeline_note(run: Run, children: Sequence[Run], latest: Run | None, study: Run | None) -> str:
    """The description of a parent run, in Markdown."""
    experiment = run.info.experiment_id
    # The page shows some three lines before "Show more".
    lines = [f"[**Compare all results**]({address(experiment, 'results')}) · "
             f"[compare the studies' trials]({address(experiment, 'trials')})"]
    if latest:
        lines.append(f"**Latest model:** {_link(latest)}, average precision {_score(latest)} at a "
                     f"prevalence of {latest.data.metrics.get('prevalence', float('nan')):.3f}"
                     f"{_p(latest)}. [Its report]"
                     f"({run_address(experiment, latest.info.run_id, 'evaluation/report.html')}).")
    if run.data.tags.get("source") == "simulated":
        lines.append(SIMULATED)
    if study:
        lines.append(f"**Best trial by inner pseudo-R²** (used for selection, never reported; "
                     f"{study.data.metrics[INNER]:.3f}, {_link(study)}): {_chosen(study)}.")
    scored = [child for child in children if "average_precision" in child.data.metrics]
    if scored:
        rows = "".join(
            f"\n| {_link(child)} | {child.data.tags.get('stage', '')} | {_score(child)} "
            f"| {child.data.metrics.get('prevalence', float('nan')):.3f} "
            f"| {_number(child, 'best_baseline')} | {_number(child, 'permutation_p')} |"
            for child in scored
        )
        lines.append("| run | stage | average precision | prevalence | best baseline | p |\n"
                     f"|---|---|---|---|---|---|{rows}")
        lines.append("In order of time, on the same data and folds. The best of these rows is not "
                     "a result: reported scores are never used for selection.")
    validated = [child for child in children if child.data.tags.get("stage") == "validate"]
    if validated:
        lines.append(f"Data: {_link(validated[-1])}, DVC digest "
                     f"`{run.data.tags.get('digest.screen', '')}`.")
    return "\n\n".join(lines)


def links(experiment_id: str, run_id: str) -> str:
    """One line of Markdown for a model's run: its report, and the comparison with all results."""
    return (f"[Report]({run_address(experiment_id, run_id, 'evaluation/report.html')}) · "
            f"[compare with all results]({address(experiment_id, 'results')})")


def _link(run: Run) -> str:
    # A pipe would end the cell of a table.
    name = (run.info.run_name or run.info.run_id[:8]).replace("|", "/")
    return f"[{name}]({run_address(run.info.experiment_id, run.info.run_id)})"


def _number(run: Run, key: str) -> str:
    return f"{run.data.metrics[key]:.3f}" if key in run.data.metrics else ""


def _score(run: Run) -> str:
    found = run.data.metrics
    interval = (f" [{found['interval_low']:.3f}, {found['interval_high']:.3f}]"
                if {"interval_low", "interval_high"} <= found.keys() else "")
    return f"{found['average_precision']:.3f}{interval}"


def _p(run: Run) -> str:
    return (f", permutation p = {run.data.metrics['permutation_p']:.3g}"
            if "permutation_p" in run.data.metrics else "")


def _chosen(study: Run) -> str:
    best = {key.removeprefix("best."): value for key, value in study.data.params.items()
            if key.startswith("best.")}
    return ", ".join(f"{key} {_short(value)}" for key, value in sorted(best.items()))


def _short(value: str) -> str:
    with contextlib.suppress(ValueError):
        return f"{float(value):.3g}"
    return value


def _latest(runs: Sequence[Run]) -> Run | None:
    # An earlier run that DVC restored and evaluated again has a new end, but its old start.
    return max(runs, key=lambda run: run.info.end_time or 0, default=None)


def _best_study(children: Sequence[Run]) -> Run | None:
    studies = [child for child in children
               if child.data.tags.get("stage") == "tune" and INNER in child.data.metrics]
    return max(studies, key=lambda run: run.data.metrics[INNER], default=None)


def _parents(client: MlflowClient, experiment_id: str, key: str) -> list[str]:
    """Parents with this key, the oldest first."""
    found = client.search_runs(
        [experiment_id], f"tags.stage = '{STAGE}' and tags.pipeline = '{key}'",
        order_by=["attributes.start_time ASC"], max_results=10,
    )
    return [run.info.run_id for run in sorted(
        found, key=lambda run: (run.info.start_time, run.info.run_id))]


def _adopt_validation(client: MlflowClient, experiment_id: str, parent: str, screen: str) -> None:
    """Validation ends before the split; its run comes below the first parent on its data."""
    found = client.search_runs(
        [experiment_id], f"tags.stage = 'validate' and tags.`digest.screen` = '{screen}'",
        order_by=["attributes.start_time DESC"], max_results=1,
    )
    if found and PARENT not in found[0].data.tags:
        client.set_tag(found[0].info.run_id, PARENT, parent)
