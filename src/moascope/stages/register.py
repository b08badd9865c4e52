"""Put the model into the MLflow registry as `candidate`."""

from __future__ import annotations

import json
from pathlib import Path

from moascope.features.backbones import is_deep
from moascope.models.predictor import load_predictor
from moascope.params import Params
from moascope.screen.tables import write_atomically
from moascope.stages.run import run
from moascope.tracking.registry import log_candidate
from moascope.tracking.runs import dvc_digests, resume_run


def register(params: Params, trained: Path, evaluated: Path, screen: Path, report: Path) -> str:
    """Register the trained model with its scores, digests and pinned requirements."""
    metrics = json.loads(evaluated.read_text())
    model = load_predictor(trained / "model")
    main = metrics["out_of_fold"]["compound"]
    run_id = json.loads((trained / "run.json").read_text())["run_id"]
    inputs = {"trained": trained, "screen": screen}
    tags = {
        "target": params.target,
        "source": params.acquire.source,
        "backbone": model.embed.backbone,
        "average_precision": f"{main['average_precision']:.4f}",
        "prevalence": f"{main['prevalence']:.4f}",
        "permutation_p": f"{main['p']:.4f}",
        "licence": metrics["licence"] or "unknown",
        "held_out_compounds": str(metrics["held_out"].get("compound", {}).get("compounds", 0)),
        **{f"digest.{name}": value for name, value in dvc_digests(inputs).items()},
    }
    if params.acquire.source == "simulated":
        tags["caveat"] = "simulated screen: proves the software, never the biology"
    name = f"{params.target} {params.embed.backbone}"
    with resume_run(params, run_id, name, "register", inputs):
        registered = log_candidate(
            params.register_.name, trained / "model", model.channels, model.classes,
            is_deep(model.embed), tags,
        )
    report.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(report, json.dumps(registered | {"alias": "candidate", "tags": tags},
                                        indent=2, sort_keys=True) + "\n")
    return (f"version {registered['version']} of '{registered['name']}' is the candidate; "
            f"load it as models:/{registered['name']}@candidate")


if __name__ == "__main__":
    run(register)
