"""MLflow runs: where they go, how they are named and what each of them carries."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.passwords import address_shown, scrub
from moascope.tracking.comparison import (
    PARENT,
    bring_up_to_date,
    pipeline_run,
    prepare_experiment,
    screen_name,
)
from moascope.tracking.database import make_database, remove_half_made
from moascope.tracking.endings import end_abandoned, process_tag
from moascope.tracking.moved import ARTIFACTS, DATABASE, follow_project
from moascope.work.servers import ANSWER_SECONDS, require_answer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

# Variables that DVC sets while it runs a stage.
DVC_VARIABLES = ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
HOW_TO_REACH = "Start it, or unset MLFLOW_TRACKING_URI to keep runs in mlflow.db here."
# MLflow would try for many minutes; with these, a server that dies meanwhile is reported in half
# of one. What the environment already says stands.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "12",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "PGCONNECT_TIMEOUT": f"{ANSWER_SECONDS:.0f}",
    # A server with a bucket would send its clients there, which not all of them can reach: they
    # would then try for minutes. A model is small enough to come through the server.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}


def project_root() -> Path:
    """The repository that runs belong to: also inside a temporary workspace of `dvc exp run`."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def connect(write: bool = False) -> str:
    """Point MLflow at the tracking server, and return its address.

    `MLFLOW_TRACKING_URI` decides; without it, `mlflow.db` at the root of the project, which is
    what a plain `mlflow ui` there shows. Where the project has been moved or copied, that database
    is corrected first.

    Parameters
    ----------
    write : bool
        Make the database where there is none.

    Raises
    ------
    MoascopeError
        Where the server does not answer.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # As with DVC and Great Expectations: no telemetry.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for variable, value in PATIENCE.items():
        os.environ.setdefault(variable, value)
    given = os.environ.get("MLFLOW_TRACKING_URI")
    address = given or f"sqlite:///{project_root() / DATABASE}"
    for server in {address, os.environ.get("MLFLOW_REGISTRY_URI") or address}:
        require_answer(server, "The tracking store", HOW_TO_REACH)
    database = _file(address)
    if database and database.parent.is_dir():
        remove_half_made(database)
    if database == project_root() / DATABASE:
        follow_project(project_root())
    import mlflow

    # Its running commentary (migrations, monitors, new versions) has no place in our terminal.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It logs an error of the database with its traceback before it raises it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

    if write and database and database.parent.is_dir():
        make_database(database, project_root() / ARTIFACTS)
    mlflow.set_tracking_uri(address)
    if not given:
        # MLflow writes the address into the environment, where it would decide for the next project
        # that this process opens.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    # A run id from outside would make the children part of that run (mlflow issue 15713).
    os.environ.pop("MLFLOW_RUN_ID", None)
    return address


def require_store(address: str) -> None:
    """Say so where the tracking store is a database file that is not there.

    Opening it would make an empty one, also where nothing is to be written.
    """
    path = address.removeprefix("sqlite:///")
    if address.startswith("sqlite:///") and not Path(path).exists():
        raise MoascopeError(
            f"There is no registry at {path} yet. Run `dvc repro register report` at the root "
            "of a project to train and register a model, or set MLFLOW_TRACKING_URI to the server "
            "that has one.")


def store_shown() -> str:
    """The tracking store's address, for a sentence: without user and password."""
    import mlflow

    return address_shown(mlflow.get_tracking_uri())


def experiment_name(params: Params) -> str:
    """One experiment per screen and target, so that its runs can be compared row by row."""
    return f"{screen_name(params)} {params.target}"


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
        As it appears in the list of runs.
    stage : str
    inputs : mapping
        Name -> path of what the stage reads; DVC's digests of them become tags. A run that reads
        `screen` and `split` comes below the parent of all runs on that data and those folds, which
        is brought up to date when the run ends.
    system_metrics : bool
        Log processor, memory (and GPU where `nvidia-ml-py` is there) while the run is open.
    """
    import mlflow
    from mlflow import MlflowClient

    connect(write=True)
    client = MlflowClient()
    experiment = open_experiment(client, experiment_name(params))
    prepare_experiment(client, experiment, params)
    experiment_id = experiment.experiment_id
    end_abandoned(client, experiment_id)
    digests = dvc_digests(inputs)
    parent = pipeline_run(client, experiment_id, params, digests, inputs.get("split"), _database())
    tags = {
        "stage": stage,
        "source": params.acquire.source,
        "target": params.target,
        **{variable.lower(): os.environ[variable]
           for variable in DVC_VARIABLES if os.environ.get(variable)},
        **{f"digest.{key}": digest for key, digest in digests.items()},
        **git_state(),
    }
    tags = {key: scrub(value) for key, value in tags.items()} | process_tag()
    with _answering(), mlflow.start_run(
            run_name=name, experiment_id=experiment_id, parent_run_id=parent, tags=tags,
            log_system_metrics=system_metrics) as run:
        mlflow.log_params(flat(params))
        yield run
    if parent:
        bring_up_to_date(client, parent)


@contextlib.contextmanager
def resume_run(params: Params, run_id: str, name: str, stage: str,
               inputs: Mapping[str, Path]) -> Iterator[Run]:
    """Continue the run that made a model; if it is not in this database, open a new one.

    After `dvc pull` on another machine the model is there but its run is not (or somebody deleted
    it): the new run then carries the same numbers, its tag `original_run` names the old one, and
    later stages continue it.
    """
    import mlflow
    from mlflow import MlflowClient

    connect(write=True)
    client = MlflowClient()
    known = _known_run(client, run_id) or _substitute(client, params, run_id)
    if known is None:
        print(f"{stage}: the run {run_id} that made this model is not in this tracking store; "
              "its results are logged to a new run.")
        # The new run stands for the one that trained.
        with start_run(params, name, "train", inputs) as run:
            mlflow.set_tag("original_run", run_id)
            yield run
        return
    end_abandoned(client, known.info.experiment_id)
    for key, value in process_tag().items():
        client.set_tag(known.info.run_id, key, value)
    with _answering(), mlflow.start_run(run_id=known.info.run_id) as run:
        yield run
    parent = known.data.tags.get(PARENT)
    if parent and _known_run(client, parent):
        bring_up_to_date(client, parent)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Say in one sentence that the server has gone while a run was open."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if "API request to" not in str(error):
            raise
        raise MoascopeError(f"The tracking store {store_shown()} does not answer any more: "
                            f"{str(error).splitlines()[0]} {HOW_TO_REACH}") from None


def _known_run(client: MlflowClient, run_id: str) -> Run | None:
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException:
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def _substitute(client: MlflowClient, params: Params, run_id: str) -> Run | None:
    """The run that an earlier stage opened in place of one that is not here."""
    experiment = client.get_experiment_by_name(experiment_name(params))
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.original_run = '{run_id}'",
                               max_results=1)
    return found[0] if found else None


def log_data(params: Params, digest: str, context: str) -> None:
    """Name the active run's data set after its screen, with DVC's digest of it."""
    import mlflow
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import (
        LocalArtifactDatasetSource,  # pyright: ignore[reportAttributeAccessIssue]
    )

    source = LocalArtifactDatasetSource(str(project_root() / "data/acquire"))
    # MLflow takes digests of at most 36 characters.
    dataset = MetaDataset(source, name=screen_name(params), digest=(digest or "unknown")[:32])
    mlflow.log_input(dataset, context=context)


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


def log_folder(folder: Path, name: str) -> None:
    """Log the files of a folder to the active run, without those of DVC and git."""
    import mlflow

    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            mlflow.log_artifact(str(path), name)


def dvc_digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """DVC's digests of stage outputs, from dvc.lock in the working directory.

    Parameters
    ----------
    paths : mapping
        Name -> path, relative to the working directory.

    Returns
    -------
    dict
        Name -> md5 as in dvc.lock; paths that no stage has made are absent.
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
    # Addresses of images and servers may hold passwords, and everybody reads what is logged.
    return {key: value if scrub(value) == str(value) else scrub(value)
            for key, value in found.items()}


def open_experiment(client: MlflowClient, name: str) -> Experiment:
    """An experiment of this tracking store; created if it does not exist."""
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    try:
        experiment = client.get_experiment_by_name(name)
    except MlflowException as error:
        raise MoascopeError(
            f"The tracking store {store_shown()} cannot be used: "
            f"{str(error).splitlines()[0]} {HOW_TO_REACH}") from None
    if experiment is not None and experiment.lifecycle_stage == LifecycleStage.DELETED:
        raise MoascopeError(
            f"The MLflow experiment '{name}' was deleted. Bring it back with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or remove it for good "
            "with `mlflow gc`.")
    if experiment is None:
        # Without its own location, runs of a temporary workspace would leave their artifacts there.
        location = (project_root() / ARTIFACTS).as_uri() if _database() else None
        # MLflow's page shows what belongs to training, not to language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        with contextlib.suppress(MlflowException):   # another process was quicker
            client.create_experiment(name, artifact_location=location, tags=tags)
        experiment = client.get_experiment_by_name(name)
    return experiment  # pyright: ignore[reportReturnType]


def _database() -> Path | None:
    """The database file, where the tracking store is one."""
    import mlflow

    return _file(mlflow.get_tracking_uri())


def _file(address: str) -> Path | None:
    return (Path(address.removeprefix("sqlite:///")).resolve()
            if address.startswith("sqlite:///") and "?" not in address else None)


def git_state() -> dict[str, str]:
    """The commit, and whether the working tree differs from it (MLflow's own tag does not say)."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    return {"git.commit": commit, "git.dirty": str(bool(git("status", "--porcelain"))).lower()}
