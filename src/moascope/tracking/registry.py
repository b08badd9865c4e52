"""The MLflow registry: a model enters as `candidate`, with everything it needs to run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.tracking.comparison import links, run_address, screen_name
from moascope.tracking.runs import connect, require_store, store_shown
from moascope.work.digests import digest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CANDIDATE = "candidate"
# The name of a run's model among its artifacts.
MODEL = "model"

# What a model needs to prepare, embed and predict; heavier parts only where its backbone does.
SERVING = (
    "imagecodecs", "mahotas", "mlflow", "numpy", "pandas", "pillow", "pyarrow", "pydantic",
    "pyyaml", "rich", "scikit-image", "scikit-learn", "scipy", "tifffile",
)
# A network comes as OpenVINO runs it, so that Keras and TensorFlow are not needed.
DEEP = ("openvino",)


def pinned_requirements(deep: bool) -> list[str]:
    """The installed versions of what a model needs: `name==version`.

    Parameters
    ----------
    deep : bool
        Whether the model has a deep backbone.
    """
    names = SERVING + (DEEP if deep else ())
    return [f"{name}=={importlib.metadata.version(name)}" for name in sorted(names)]


def log_candidate(
    name: str, model: Path, channels: tuple[str, ...], classes: tuple[str, ...], deep: bool,
    tags: dict[str, str], profiles: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Log a model folder to the active run, register it, and give it the alias `candidate`.

    Can be repeated: a registration that was cut short is finished.

    Parameters
    ----------
    name : str
        Of the registered model.
    model : Path
        Folder from `learning.model.save_model`.
    channels : tuple of str
    classes : tuple of str
    deep : bool
    tags : dict
        Of the model version.
    profiles : tuple of str
        Columns of a screen's profiles that the model takes.

    Returns
    -------
    dict
        `name`, `version`, `run_id`, `model_uri`.
    """
    import mlflow
    from mlflow import MlflowClient

    package = Path(__file__).resolve().parents[1]
    requirements = pinned_requirements(deep)
    tags = tags | {"digest.package": digest(
        requirements, {path.relative_to(package).as_posix(): digest(path.read_bytes())
                       for path in sorted(package.rglob("*"))
                       if path.is_file() and "__pycache__" not in path.parts})}
    client = MlflowClient()
    run = mlflow.active_run()
    version = _registered(client, name, run.info.run_id, tags)
    if version is None:
        _withdraw_unregistered(client, run)
        version = _log_and_register(name, package, model, signature(channels, classes, profiles),
                                    requirements, tags)
    client.set_registered_model_alias(name, CANDIDATE, version)
    describe_version(name, version)
    return {
        "name": name,
        "version": version,
        "run_id": run.info.run_id,
        "model_uri": f"models:/{name}/{version}",
    }


def _log_and_register(name: str, package: Path, model: Path, signed: Any,
                      requirements: list[str], tags: dict[str, str]) -> str:
    import mlflow

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow comments on every step on stderr; the stage itself says what came of it.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        # An example would need its images; the signature says what is expected.
        warnings.filterwarnings("ignore", message=".*input example.*")
        info = mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(package / "tracking" / "pyfunc.py"),
            artifacts={"model": str(model)},
            code_paths=[str(package)],
            signature=signed,
            pip_requirements=requirements,
        )
        return str(mlflow.register_model(info.model_uri, name, tags=tags).version)


def _registered(client: MlflowClient, name: str, run_id: str, tags: dict[str, str]) -> str | None:
    """The version that this registration made before it was cut short, if it did.

    It is known by its run and its tags, which are those of the same model, scores and code:
    registering what is registered makes no second version.
    """
    found = [version for version in client.search_model_versions(
                 f"name = '{name}' and run_id = '{run_id}'")
             if all(version.tags.get(key) == value for key, value in tags.items())]
    return str(max(int(version.version) for version in found)) if found else None


def _withdraw_unregistered(client: MlflowClient, run: Run) -> None:
    """Delete models that a registration of this run logged and could not register any more."""
    sources = {version.source for version in
               client.search_model_versions(f"run_id = '{run.info.run_id}'")}
    for logged in client.search_logged_models(
            [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        if logged.name == MODEL and f"models:/{logged.model_id}" not in sources:
            client.delete_logged_model(logged.model_id)


def fetch_model(address: str, into: Path | None = None) -> Path:
    """The model folder of a registered or logged model, for `learning.model.read_model`.

    See `fetch_logged`, whose `artifacts/model` it is.
    """
    return fetch_logged(address, into) / "artifacts" / "model"


def fetch_logged(address: str, into: Path | None = None) -> Path:
    """A registered or logged model as MLflow keeps it: `MLmodel`, code and artifacts.

    Parameters
    ----------
    address : str
        models:/<name>@<alias>, models:/<name>/<version> or runs:/<id>/model.
    into : Path, optional
        A folder to copy it to; by default, the files of a local store are used in place.

    Raises
    ------
    MoascopeError
        Where there is no such model or it cannot be read.
    """
    import logging

    require_store(connect())
    import mlflow
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        local = mlflow.artifacts.download_artifacts(
            artifact_uri=address, dst_path=None if into is None else str(into))
    except (MlflowException, OSError) as error:
        raise MoascopeError(
            f"The model {address} cannot be loaded from {store_shown()}: "
            f"{str(error).splitlines()[0]}"
        ) from None
    return Path(local)


def version_of(address: str) -> str:
    """The version that models:/<name>@<alias> or models:/<name>/<version> is; else nothing."""
    from mlflow import MlflowClient

    name, _, alias = address.removeprefix("models:/").partition("@")
    if alias:
        return str(MlflowClient().get_model_version_by_alias(name, alias).version)
    return name.rpartition("/")[2] if address.startswith("models:/") else ""


def describe_version(name: str, version: str) -> None:
    """Write a version's description: its headline, the way to its run and report, its decisions.

    Everything in it is taken from the version's tags, so that it can be written again whenever
    one of them changes.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    found = client.get_model_version(name, version)
    try:
        experiment = client.get_run(found.run_id).info.experiment_id if found.run_id else None
    except MlflowException:
        experiment = None   # the run is gone for good; what the tags say stands without it
    client.update_model_version(name, version, description_of(found.tags, found.run_id, experiment))


def description_of(tags: dict[str, str], run_id: str, experiment: str | None) -> str:
    """A version's description in Markdown.

    Parameters
    ----------
    tags : dict
        Of the version.
    run_id : str
    experiment : str or None
        Of the run that trained it; None where it is gone. Links lead there in MLflow's own page.
    """
    lines = [
        f"**{tags.get('target', 'model')}** on {tags.get('backbone', 'unknown')} features, "
        f"{tags.get('screen') or tags.get('source', 'unknown')} screen: average precision "
        f"{tags.get('average_precision', '?')} [{tags.get('interval', '?')}] over unseen compounds "
        f"where a random list gives {tags.get('null_mean', '?')}, at a prevalence of "
        f"{tags.get('prevalence', '?')}, permutation p = "
        f"{tags.get('permutation_p', '?')}.",
    ]
    if experiment:
        lines.append(f"[The run that made it]({run_address(experiment, run_id)}) · "
                     f"{links(experiment, run_id)}")
    lines += [f"> {line}" for line in tags.get("caveat", "").splitlines()]
    for alias in ("staging", "production"):
        said = {key.rsplit(".", 1)[-1]: value for key, value in tags.items()
                if key.startswith(f"promotion.{alias}.")}
        if "decision" in said:
            lines.append(
                f"**{alias}**: {said['decision']} on {said['when']} by {said['who']}, average "
                f"precision {said['average_precision']} on the held-out compounds; incumbent: "
                f"{said['incumbent']}. {said['reasons']}"
            )
        if "replaced_by" in said:
            lines.append(f"**{alias}**: replaced by version {said['replaced_by']}.")
    return "\n\n".join(lines) + "\n"


def version_tags(params: Params, backbone: str, metrics: dict[str, Any]) -> dict[str, str]:
    """The tags of a model version: its question, its score and the licence of its data."""
    main = metrics["out_of_fold"]["compound"]
    tags = {
        "target": params.target,
        "screen": screen_name(params),
        "source": params.acquire.source,
        "backbone": backbone,
        "average_precision": f"{main['average_precision']:.4f}",
        "interval": "none" if main.get("low") is None
        else f"{main['low']:.4f}, {main['high']:.4f}",
        "null_mean": f"{main.get('null_mean', float('nan')):.4f}",
        "prevalence": f"{main['prevalence']:.4f}",
        "permutation_p": f"{main['p']:.4f}",
        "licence": metrics["licence"] or "unknown",
        "citation": metrics.get("citation") or "unknown",
        "non_commercial": str(bool(metrics.get("non_commercial"))).lower(),
        "held_out_compounds": str(metrics["held_out"].get("compound", {}).get("compounds", 0)),
    }
    if metrics.get("caveats"):
        tags["caveat"] = "\n".join(metrics["caveats"])
    return tags


def signature(channels: tuple[str, ...], classes: tuple[str, ...],
              profiles: tuple[str, ...] = ()) -> Any:
    """What the model takes and gives, as MLflow checks it.

    Rows of the input are sites: load_data.csv joined with layout.csv. Parameters: `screen`, the
    folder that file names start from, and `level`. Of a model that takes profiles, their columns
    are columns of the input, and a row may be a well.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    required = [ColSpec("string", "Metadata_Plate"), ColSpec("string", "Metadata_Well")]
    # MLflow refuses whole numbers for a column of doubles, and a file has them where all are whole.
    required += [ColSpec(AnyType(), column) for column in profiles]
    site = ColSpec("long", "Metadata_Site", required=bool(channels) or not profiles)
    required.insert(2, site)
    required += [ColSpec("string", f"FileName_{channel}") for channel in channels]
    optional = [ColSpec("string", f"Metadata_{column}", required=False)
                for column in ("Batch", "Panel", "Compound", "Control", "InChIKey")]
    # A column with empty cells comes as numbers, text or both; reading the rows checks it.
    optional.append(ColSpec(AnyType(), "Metadata_Concentration_uM", required=False))
    optional += [ColSpec("long", f"Frame_{channel}", required=False) for channel in channels]
    outputs = [ColSpec("string", "Metadata_Compound")]
    outputs += [ColSpec("double", f"P_{name}") for name in classes]
    outputs.append(ColSpec("string", "Predicted"))
    return ModelSignature(
        inputs=Schema(required + optional),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("screen", "string", ""),
                            ParamSpec("level", "string", "compound")]),
    )


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias -> version of a registered model.

    Raises
    ------
    MoascopeError
        Where there is no such model, or the registry does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        where = store_shown()
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise MoascopeError(
                f"There is no registered model '{name}' at {where}. Run `dvc repro "
                "register report` to register one, or choose another with --model."
            ) from None
        raise MoascopeError(
            f"The registry at {where} does not answer: {str(error).splitlines()[0]}"
        ) from None
    return {alias: str(version) for alias, version in found.aliases.items()}
