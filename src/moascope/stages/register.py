"""Put the model into the MLflow registry as `candidate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moascope.features.backbones import is_deep
from moascope.models.predictor import load_predictor
from moascope.params import Params
from moascope.screen.tables import write_atomically
from moascope.stages.run import run
from moascope.tracking.comparison import links, model_name, run_address
from moascope.tracking.registry import log_candidate
from moascope.tracking.runs import dvc_digests, resume_run

if TYPE_CHECKING:
    from mlflow.entities import Run


def register(params: Params, trained: Path, evaluated: Path, screen: Path, split: Path,
             report: Path) -> str:
    """Register the trained model with its scores, digests and pinned requirements."""
    metrics = json.loads(evaluated.read_text())
    model = load_predictor(trained / "model")
    run_id = json.loads((trained / "run.json").read_text())["run_id"]
    inputs = {"trained": trained, "screen": screen, "split": split}
    tags = version_tags(params, model.embed.backbone, metrics)
    tags |= {f"digest.{name}": value for name, value in dvc_digests(inputs).items()}
    name = model_name(params.embed.backbone, model.head)
    with resume_run(params, run_id, name, "register", inputs) as active:
        registered = log_candidate(
            params.register_.name, trained / "model", model.channels, model.classes,
            is_deep(model.embed), tags, version_note(metrics, active),
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
        "prevalence": f"{main['prevalence']:.4f}",
        "permutation_p": f"{main['p']:.4f}",
        "licence": metrics["licence"] or "unknown",
        "citation": metrics.get("citation") or "unknown",
        "non_commercial": str(bool(metrics.get("non_commercial"))).lower(),
        "held_out_compounds": str(metrics["held_out"].get("compound", {}).get("compounds", 0)),
    }
    if params.acquire.source == "simulated":
        tags["caveat"] = "simulated screen: proves the software, never the biology"
    return tags


def version_note(metrics: dict[str, Any], run: Run) -> str:
    """The description of a model version, in Markdown: what it scored, and where it is from."""
    main = metrics["out_of_fold"]["compound"]
    caveats = "".join(f"\n\n> {text}" for text in metrics["caveats"])
    experiment, run_id = run.info.experiment_id, run.info.run_id
    return (f"**{metrics['target']}**: average precision {main['average_precision']:.3f} "
            f"[{main['low']:.3f}, {main['high']:.3f}] over {main['compounds']} unseen "
            f"{metrics['unit']}s at a prevalence of {main['prevalence']:.3f}, permutation p = "
            f"{main['p']:.3g}.{caveats}\n\n"
            f"[The run that made it]({run_address(experiment, run_id)}) · "
            f"{links(experiment, run_id)}")


if __name__ == "__main__":
    run(register)
