"""Put the model into the MLflow registry as `candidate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moascope.features.backbones import is_deep
from moascope.learning.predictor import load_predictor
from moascope.params import Params
from moascope.tracking.comparison import model_name
from moascope.tracking.registry import log_candidate
from moascope.tracking.runs import dvc_digests, resume_run
from moascope.work.files import write_atomically


def register(params: Params, trained: Path, evaluated: Path, screen: Path, split: Path,
             report: Path) -> str:
    """Register the trained model with its scores, digests and pinned requirements."""
    metrics = json.loads(evaluated.read_text())
    model = load_predictor(trained / "model")
    run_id = json.loads((trained / "run.json").read_text())["run_id"]
    inputs = {"trained": trained, "screen": screen, "split": split}
    tags = version_tags(params, model.embed.backbone, metrics)
    tags |= {f"digest.{name}": value for name, value in dvc_digests(inputs).items()}
    name = model_name(model.embed.backbone, model.head)
    with resume_run(params, run_id, name, "register", inputs) as active:
        registered = log_candidate(
            params.register_.name, trained / "model", model.channels, model.classes,
            is_deep(model.embed), tags,
        )
        registered["experiment_id"] = active.info.experiment_id
    report.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(report, json.dumps(registered | {"alias": "candidate", "tags": tags},
                                        indent=2, sort_keys=True) + "\n")
    return (f"version {registered['version']} of '{registered['name']}' is the candidate; "
            f"load it as models:/{registered['name']}@candidate")


def version_tags(params: Params, backbone: str, metrics: dict[str, Any]) -> dict[str, str]:
    """What the registry says of a model version: its question, its score, its data's licence."""
    main = metrics["out_of_fold"]["compound"]
    tags = {
        "target": params.target,
        "source": params.acquire.source,
        "backbone": backbone,
        "average_precision": f"{main['average_precision']:.4f}",
        "interval": f"{main['low']:.4f}, {main['high']:.4f}",
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
