"""Put the model into the MLflow registry as `candidate`."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from moascope.evaluation.active import ranks_inactive
from moascope.features.backbones import bring_networks, is_deep
from moascope.features.table import profile_columns
from moascope.learning.final import run_of
from moascope.learning.model import read_model, write_verdict
from moascope.params import Params
from moascope.tracking.comparison import model_name
from moascope.tracking.registry import log_candidate, version_tags
from moascope.tracking.runs import dvc_digests, resume_run
from moascope.work.files import write_json


def register(params: Params, trained: Path, evaluated: Path, screen: Path, split: Path,
             report: Path) -> str:
    """Register the trained model with its scores, digests and pinned requirements."""
    metrics = json.loads(evaluated.read_text())
    model = read_model(trained / "model")
    run_id = run_of(trained)
    inputs = {"trained": trained, "screen": screen, "split": split}
    tags = version_tags(params, model.embed.backbone, metrics)
    tags |= {f"digest.{name}": value for name, value in dvc_digests(inputs).items()}
    name = model_name(model.embed.backbone, model.head)
    with resume_run(params, run_id, name, "register", inputs) as active:
        with tempfile.TemporaryDirectory(prefix="moascope-") as work:
            # The folder of a registered model also says what its evaluation found.
            folder = Path(shutil.copytree(trained / "model", Path(work) / "model"))
            write_verdict(folder, metrics["above_chance"], metrics["useful"],
                          ranks_inactive(metrics))
            bring_networks(read_model(folder).weights, model.prepare.crop)
            registered = log_candidate(
                params.register_.name, folder, model.channels, model.question.classes,
                is_deep(model.embed), tags, profile_columns(model.names),
            )
        registered["experiment_id"] = active.info.experiment_id
    write_json(report, registered | {"alias": "candidate", "tags": tags})
    return (f"version {registered['version']} of '{registered['name']}' is the candidate; "
            f"load it as models:/{registered['name']}@candidate")
