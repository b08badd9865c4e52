"""A distillation from planes to a model file, tracked and resumable."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from moascope.distillation.planes import Planes, collect_planes
from moascope.distillation.student import (
    CURVE,
    STARTS,
    STATE,
    STUDENT,
    Recipe,
    open_teacher,
    train_student,
)
from moascope.errors import MoascopeError
from moascope.features.backbones import (
    APPLICATIONS,
    find_weights,
    load_imagenet,
    load_own,
    weights_digest,
)
from moascope.params import KERAS_FILE, Embed
from moascope.screen.description import read_description
from moascope.work.files import write_json

CARD = "card.json"


def distil(folders: Iterable[Path], out: Path, teacher: str, weights: Path | None, recipe: Recipe,
           most: int, allow_outside: bool = False) -> str:
    """Train a student on unlabelled planes and leave it as a model file.

    Parameters
    ----------
    folders : iterable of Path
        See `planes.collect_planes`.
    out : Path
        Gets `student.keras`, `card.json`, `curve.csv` and what resuming needs.
    teacher : str
        "mobilenetv2", "resnet50", or the path of a Keras model.
    weights : Path or None
        The teacher's ImageNet weights, where they are not in Keras's cache.
    recipe : Recipe
    most : int
        Planes a folder.
    allow_outside : bool
        Whether a screen's images may lie outside its folder.

    Returns
    -------
    str
        One sentence.

    Raises
    ------
    MoascopeError
        Where a folder has no planes, or the teacher is none.
    """
    if teacher not in APPLICATIONS and not teacher.endswith(KERAS_FILE):
        raise MoascopeError(f"'{teacher}' is not a teacher. There are {', '.join(APPLICATIONS)}, "
                            f"and any Keras model file (*{KERAS_FILE}).")
    if recipe.start == "teacher" and (teacher != "mobilenetv2" or recipe.width > 1):
        raise MoascopeError("--start teacher takes channels of mobilenetv2 for a student that is "
                            "no wider than it. Use --start random.")
    settings = Embed(backbone=teacher, weights=str(weights) if weights else None)
    file = find_weights(teacher, settings)
    begun_with = Path(recipe.start) if recipe.start not in STARTS else None
    if begun_with and not begun_with.is_file():
        raise MoascopeError(f"--start: there is no file {begun_with}.")
    planes = collect_planes(folders, most, recipe.seed, allow_outside)
    network = (load_imagenet(teacher, file, recipe.size) if teacher in APPLICATIONS
               else load_own(file))
    width = int(network.output_shape[-1])
    if not 1 <= recipe.features <= width:
        raise MoascopeError(f"The teacher gives {width} features; ask for 1 to {width} of them "
                            "(--features).")
    from mlflow import MlflowClient

    from moascope.tracking.runs import connect

    card = make_card(planes, teacher, weights_digest(file), recipe)
    address = connect(write=True)
    client = MlflowClient(address)
    run_id = _run(client, out, f"distil {Path(teacher).stem} to width {recipe.width:g}", card)
    network_says = open_teacher(teacher, network, recipe.size)

    def noted(step: int, loss: float) -> None:
        client.log_metric(run_id, "loss", loss, step=step)

    told = planes.digest + weights_digest(file) + weights_digest(begun_with)
    train_student(planes, network_says, recipe, out, told, noted,
                  network if teacher == "mobilenetv2" else None)
    curve = np.loadtxt(out / CURVE, delimiter=",", skiprows=1, ndmin=2)
    asked = json.loads((out / STATE).read_text())["asked"]
    if len(asked) > 1:
        card["crops_asked_for_at_step"] = asked
    card |= {"loss": round(float(curve[-10:, 1].mean()), 4),
             "bytes": (out / STUDENT).stat().st_size}
    write_json(out / CARD, card)
    for name in (STUDENT, CARD, CURVE):
        client.log_artifact(run_id, str(out / name))
    client.set_terminated(run_id)
    return (f"{out / STUDENT} ({card['bytes'] / 1e6:.1f} MB, {recipe.features} features) learnt "
            f"from {recipe.crops:,} crops of {len(planes.pixels):,} planes; loss {card['loss']}; "
            f"use it by embed.backbone: {out / STUDENT}")


def make_card(planes: Planes, teacher: str, digest: str, recipe: Recipe) -> dict[str, Any]:
    """What a model was made of and how, for the file beside it."""
    sources = {}
    for folder in sorted(set(planes.source)):
        said = read_description(Path(folder))
        sources[Path(folder).name] = {
            "planes": planes.source.count(folder),
            "licence": said.get("licence", "not stated"),
            "citation": said.get("citation", "not stated"),
        }
    return {"sources": sources, "planes_sha256": planes.digest, "teacher": Path(teacher).stem,
            "teacher_sha256": digest, "recipe": asdict(recipe), "left_out": list(planes.left_out)}


def _run(client, out: Path, name: str, card: dict) -> str:
    """The MLflow run of this folder: a resumed training goes on in the one that it began."""
    from mlflow.exceptions import MlflowException

    from moascope.tracking.endings import PROCESS, end_abandoned, process_tag
    from moascope.tracking.runs import open_experiment

    noted = out / "run.json"
    if noted.exists():
        run_id = json.loads(noted.read_text())["run_id"]
        try:
            client.set_tag(run_id, PROCESS, process_tag()[PROCESS])
            client.update_run(run_id, status="RUNNING")
            return run_id
        except MlflowException:
            pass  # another tracking server, or a database that is gone: a new run
    experiment_id = open_experiment(client, "distillation").experiment_id
    end_abandoned(client, experiment_id)
    run_id = client.create_run(experiment_id, run_name=name, tags=process_tag()).info.run_id
    for key, value in {**card["recipe"], "teacher": card["teacher"]}.items():
        client.log_param(run_id, key, value)
    out.mkdir(parents=True, exist_ok=True)
    write_json(noted, {"run_id": run_id})
    return run_id
