"""MLflow runs: where they go, what they are called and what every one of them carries."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from moascope.params import Params

if TYPE_CHECKING:
    from mlflow.entities import Run

# Variables that DVC sets while it runs a stage.
DVC_VARIABLES = ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")


def project_root() -> Path:
    """The repository that runs belong to: also inside a temporary workspace of `dvc exp run`."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def connect() -> str:
    """Point MLflow at the tracking server, and return its address.

    `MLFLOW_TRACKING_URI` decides; without it, `mlflow.db` at the root of the project, which is
    what a plain `mlflow ui` there shows.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    # Its running commentary (migrations, monitors, versions made) is not for our terminal.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)

    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / 'mlflow.db'}"
    mlflow.set_tracking_uri(address)
    # A run id from outside would turn children into the outer run (mlflow issue 15713).
    os.environ.pop("MLFLOW_RUN_ID", None)
    return address


def experiment_name(params: Params) -> str:
    """One experiment a screen and target, so that its runs are comparable row by row."""
    screen = (
        params.acquire.source
        if params.acquire.source != "folder"
        else Path(params.acquire.path).resolve().name
    )
    return f"{screen} {params.target}"


@contextlib.contextmanager
def start_run(
    params: Params,
    name: str,
    stage: str,
    inputs: Mapping[str, Path],
    system_metrics: bool = False,
) -> Iterator[Run]:
    """Open a run that carries the code commit, the parameters and the digests of its inputs.

    Parameters
    ----------
    params : Params
    name : str
        What a person reads in the list of runs.
    stage : str
    inputs : mapping
        Name -> path of what the stage reads; DVC's digests of them become tags.
    system_metrics : bool
        Log processor, memory (and GPU where `nvidia-ml-py` is there) while the run is open.
    """
    import mlflow

    connect()
    _set_experiment(experiment_name(params))
    with mlflow.start_run(run_name=name, log_system_metrics=system_metrics) as run:
        digests = dvc_digests(inputs)
        mlflow.set_tags({
            "stage": stage,
            "source": params.acquire.source,
            "target": params.target,
            **{variable.lower(): os.environ[variable]
               for variable in DVC_VARIABLES if os.environ.get(variable)},
            **{f"digest.{key}": digest for key, digest in digests.items()},
            **_git_state(),
        })
        mlflow.log_params(flat(params))
        yield run


@contextlib.contextmanager
def resume_run(params: Params, run_id: str, name: str, stage: str,
               inputs: Mapping[str, Path]) -> Iterator[Run]:
    """Go on with the run that made a model; where it is not in this database, open a new one.

    After `dvc pull` on another machine the model is there but its run is not: the new run then
    carries the same numbers, and the tag `original_run` names the old one.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    connect()
    try:
        mlflow.get_run(run_id)
    except MlflowException:
        print(f"{stage}: the run {run_id} that made this model is not in this tracking store; "
              "its results are logged to a new run.")
        with start_run(params, name, stage, inputs) as run:
            mlflow.set_tag("original_run", run_id)
            yield run
        return
    with mlflow.start_run(run_id=run_id) as run:
        yield run


def log_data(name: str, digest: str, context: str) -> None:
    """Name the data set of the active run by DVC's digest of it."""
    import mlflow
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource

    source = LocalArtifactDatasetSource(str(project_root() / "data/acquire"))
    # MLflow takes digests of at most 36 characters.
    dataset = MetaDataset(source, name=name, digest=(digest or "unknown")[:32])
    mlflow.log_input(dataset, context=context)


def log_validation(params: Params, validation: dict, data_docs: Path) -> None:
    """Keep the outcome of validation, and its Data Docs, in a run of its own.

    Parameters
    ----------
    params : Params
    validation : dict
        As in validation.json; numbers in it become metrics.
    data_docs : Path
        Folder of HTML pages.
    """
    import mlflow

    inputs = {"screen": Path("data/acquire")}
    with start_run(params, f"validate {experiment_name(params)}", "validate", inputs):
        mlflow.log_metrics({key: value for key, value in flat_numbers(validation).items()
                            if key.count(".") <= 1})
        mlflow.log_dict(validation, "validation.json")
        if data_docs.exists():
            mlflow.log_artifacts(str(data_docs), "data_docs")


class TrialLog:
    """Child runs of a study's run, one a trial.

    Parameters
    ----------
    parent : mlflow.entities.Run
        The study's run.
    metric : str
        Name of what a trial is judged by.
    """

    def __init__(self, parent: Run, metric: str):
        from mlflow import MlflowClient

        self.client = MlflowClient()
        self.parent = parent
        self.metric = metric

    def __call__(self, study: Any, trial: Any) -> None:
        """Log an ended Optuna trial. A pruned or failed one ends as KILLED."""
        from mlflow.entities import Metric, Param, RunTag
        from optuna.trial import TrialState

        stamp = int(trial.datetime_start.timestamp() * 1000)
        run = self.client.create_run(
            self.parent.info.experiment_id,
            start_time=stamp,
            run_name=f"trial {trial.number:03d}",
            tags={"mlflow.parentRunId": self.parent.info.run_id},
        )
        metrics = [
            Metric(self.metric, sum(scores) / len(scores), stamp, int(epoch))
            for epoch, *scores in trial.user_attrs.get("inner_scores", [])
        ]
        if trial.value is not None:
            metrics.append(Metric(f"best_{self.metric}", trial.value, stamp, 0))
        self.client.log_batch(
            run.info.run_id,
            metrics=metrics,
            params=[Param(key, str(value)) for key, value in trial.params.items()],
            tags=[RunTag("stage", "tune"), RunTag("optuna.study", study.study_name),
                  RunTag("optuna.state", trial.state.name)],
        )
        ended = "FINISHED" if trial.state == TrialState.COMPLETE else "KILLED"
        self.client.set_terminated(
            run.info.run_id, ended, end_time=int(trial.datetime_complete.timestamp() * 1000)
        )


def log_curve(name: str, values: Mapping[int, float]) -> None:
    """Log a metric, step -> value, to the active run in one call."""
    import time

    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    MlflowClient().log_batch(
        mlflow.active_run().info.run_id,
        metrics=[Metric(name, float(value), now, step) for step, value in values.items()],
    )


def dvc_digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """DVC's digests of stage outputs, from dvc.lock in the working directory.

    Parameters
    ----------
    paths : mapping
        Name -> path, relative to the working directory.

    Returns
    -------
    dict
        Name -> md5 as in dvc.lock; a path that no stage has made is left out.
    """
    lock = Path("dvc.lock")
    if not lock.exists():
        return {}
    stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {})
    md5 = {
        out["path"]: out.get("md5", "")
        for stage in stages.values()
        for out in stage.get("outs", [])
    }
    return {name: md5[path.as_posix()] for name, path in paths.items() if path.as_posix() in md5}


def flat(params: Params) -> dict[str, Any]:
    """Parameters as MLflow lists them: `train.dropout`, ..."""
    found: dict[str, Any] = {}
    for section, values in params.model_dump(by_alias=True, mode="json").items():
        if isinstance(values, dict):
            found.update({f"{section}.{key}": value for key, value in values.items()})
        else:
            found[section] = values
    return found


def flat_numbers(nested: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested dictionary as MLflow metrics, their keys joined by dots.

    MLflow allows letters, digits, blanks and `_ - . / :` in names; others become `_`.
    """
    found: dict[str, float] = {}
    for key, value in nested.items():
        name = prefix + "".join(c if c.isalnum() or c in "_-/: " else "_" for c in str(key))
        if isinstance(value, Mapping):
            found.update(flat_numbers(value, name + "."))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value)
    return found


def _set_experiment(name: str) -> None:
    import mlflow

    if mlflow.get_tracking_uri().startswith("sqlite") and not mlflow.get_experiment_by_name(name):
        # Without it, runs of a temporary workspace would leave their artifacts there.
        location = (project_root() / "mlruns").as_uri()
        with contextlib.suppress(mlflow.exceptions.MlflowException):
            mlflow.create_experiment(name, artifact_location=location)
    # MLflow's page shows what belongs to training, not to language models.
    mlflow.set_experiment(name)
    mlflow.set_experiment_tag("mlflow.experimentKind", "custom_model_development")


def _git_state() -> dict[str, str]:
    """The commit, and whether the working tree differs from it (MLflow's own tag does not say)."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"git.commit": commit, "git.dirty": str(bool(git("status", "--porcelain"))).lower()}
