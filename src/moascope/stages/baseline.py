"""One system of the slides, trained on small colour pictures and asked about unseen compounds."""

from __future__ import annotations

import difflib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.backbones import APPLICATIONS, find_weights
from moascope.features.table import FeatureTable
from moascope.learning.examples import Examples, join_examples
from moascope.params import Embed, Params
from moascope.slides.arms import BY_COMPOUND, BY_IMAGE, run_arm
from moascope.slides.composites import load_composites
from moascope.slides.convnets import ARMS, Arm, frozen_features
from moascope.work.files import write_atomically

DIGITS = 6


def baseline(params: Params, prepared: Path, screen: Path, split: Path, out: Path) -> str:
    """Train and score one arm; the name of the folder `out` is the arm's."""
    name, settings = out.name, params.baseline
    arm = find_arm(name)
    weights, missing = arm_weights(arm, settings.weights)
    if missing:
        scores: dict[str, Any] = {"arm": name, "not_run": missing}
        _write(out, scores, pd.DataFrame(), pd.DataFrame())
        return f"{name}: not run: {missing}"
    size = settings.frozen_size if arm.backbone else settings.size
    examples = picture_examples(prepared, screen, split, size, settings.sites)
    panels = sorted(set(examples.panel))
    if arm.by_panel and len(panels) < 2:
        missing = "the screen has a single stain combination: this arm would be scratch again."
        _write(out, {"arm": name, "not_run": missing}, pd.DataFrame(), pd.DataFrame())
        return f"{name}: not run: {missing}"

    from moascope.tracking.comparison import headline_metrics
    from moascope.tracking.runs import flat_numbers, log_curve, start_run

    inputs = {"prepared": prepared, "screen": screen, "split": split}
    with start_run(params, f"baseline {name}", "baseline", inputs) as active:
        import mlflow

        if arm.backbone:
            examples = replace(examples, features=frozen_features(arm.backbone, weights,
                                                                  examples.features))
        scores, curves, predictions = run_arm(arm, settings, examples, params.evaluate,
                                              params.seed)
        scores = {
            "arm": name, "target": examples.target, "binary": examples.binary, "size": size,
            "images": len(examples.meta), "panels": panels, "run_id": active.info.run_id, **scores,
        }
        _write(out, scores, curves, predictions)
        honest, leaky = scores[BY_COMPOUND], scores[BY_IMAGE]
        mlflow.set_tags({"arm": name, "valid": "true", "mlflow.note.content": note(scores)})
        mlflow.log_metrics(flat_numbers(honest) | flat_numbers({"leaky": leaky}))
        if honest["compound"]:
            mlflow.log_metrics(headline_metrics(honest["compound"]))
        mean = curves.groupby(["split", "side", "epoch"])[["loss", "average_precision"]].mean()
        for (kind, side), rows in mean.groupby(level=["split", "side"]):
            prefix = "" if kind == BY_COMPOUND else "leaky."
            for column in rows:
                log_curve(f"{prefix}{column}/{side.replace(' ', '_')}",
                          rows.droplevel(["split", "side"])[column].dropna().to_dict())
        mlflow.log_artifacts(str(out), "baseline")
    return f"{name}: {headline(scores)}"


def find_arm(name: str) -> Arm:
    """The arm of a name.

    Raises
    ------
    MoascopeError
        Where there is none.
    """
    if name in ARMS:
        return ARMS[name]
    near = difflib.get_close_matches(name, ARMS, n=1)
    raise MoascopeError(
        f"params.yaml: baseline.arms: '{name}' is no arm. "
        + (f"Did you mean '{near[0]}'? " if near else "")
        + f"There are {', '.join(ARMS)}; a new one is a function and an entry of ARMS in "
        "src/moascope/baseline/convnets.py."
    )


def arm_weights(arm: Arm, told: dict[str, str | None]) -> tuple[Path | None, str]:
    """The file of an arm's frozen backbone, or a sentence that says why it is not there.

    Raises
    ------
    MoascopeError
        Where params.yaml names a file that is not there or holds no weights: that is a mistake,
        where the want of a download is none.
    """
    if arm.backbone is None:
        return None, ""
    knob = f"baseline.weights.{arm.backbone}"
    path = told.get(arm.backbone)
    try:
        return find_weights(arm.backbone, Embed(backbone=arm.backbone, weights=path), knob), ""
    except MoascopeError:
        if path:
            raise
        return None, (f"the ImageNet weights of {arm.backbone} are not on this machine and could "
                      f"not be downloaded; set {knob} to the path of "
                      f"{APPLICATIONS[arm.backbone].file}.")


def picture_examples(prepared: Path, screen: Path, split: Path, size: int,
                     sites: int) -> Examples:
    """Labelled fields outside the hold-out, with a small colour picture of each as features."""
    meta, pictures = load_composites(prepared, size, sites)
    examples = join_examples(FeatureTable(meta, pictures, []), screen, split)
    held_out = examples.groups["Holdout"].to_numpy(bool)
    return examples.take((examples.group >= 0) & ~held_out[examples.group])


def headline(scores: dict[str, Any]) -> str:
    """The arm's result in one sentence."""
    said = []
    for split in (BY_COMPOUND, BY_IMAGE):
        own = scores[split]["compound"]
        if own is None:
            said.append(f"{split} too few classes to score")
            continue
        said.append(
            f"{'' if scores[split]['valid'] else 'INVALID '}{split} "
            f"{own['average_precision']:.3f} [{own['low']:.3f}, {own['high']:.3f}] at a prevalence "
            f"of {own['prevalence']:.3f}")
    return f"average precision of compounds {'; '.join(said)}"


def note(scores: dict[str, Any]) -> str:
    """The run's description in Markdown."""
    return (f"**baseline {scores['arm']}**, target {scores['target']}, {scores['images']} images "
            f"of {scores['size']} pixels: {headline(scores)}.\n\nMetrics that begin with `leaky.` "
            "come from the slides' random split by image and are invalid: images of the same "
            "compound are on both sides.\n")


def _write(out: Path, scores: dict[str, Any], curves: pd.DataFrame,
           predictions: pd.DataFrame) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "scores.json", json.dumps(scores, indent=1, sort_keys=True) + "\n")
    write_atomically(out / "curves.csv",
                     curves.round(DIGITS).to_csv(index=False, lineterminator="\n"))
    predictions.to_parquet(out / "predictions.parquet", index=False)
