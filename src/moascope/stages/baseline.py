"""One system of the slides, trained on small colour pictures and scored on unseen compounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moascope.params import Params
from moascope.screen.tables import read_screen
from moascope.slides.arms import run_arm
from moascope.slides.composites import picture_examples
from moascope.slides.convnets import arm_weights, find_arm, frozen_features
from moascope.slides.runs import headline, log_arm, write_arm


def baseline(params: Params, prepared: Path, screen: Path, split: Path, out: Path) -> str:
    """Train and score one arm; the name of the folder `out` is the arm's."""
    name, settings = out.name, params.baseline
    arm = find_arm(name)
    weights, missing = arm_weights(arm, settings.weights)
    if not missing and not read_screen(screen).channels:
        missing = "the screen has profiles and no images."
    if not missing:
        size = settings.frozen_size if arm.backbone else settings.size
        examples = picture_examples(prepared, screen, split, size, settings.sites)
        panels = sorted(set(examples.panel))
        if arm.by_panel and len(panels) < 2:
            missing = "the screen has a single panel: this arm would be scratch again."
    if missing:
        write_arm(out, {"arm": name, "not_run": missing})
        return f"{name}: not run: {missing}"

    from moascope.tracking.runs import start_run

    inputs = {"prepared": prepared, "screen": screen, "split": split}
    with start_run(params, f"baseline {name}", "baseline", inputs) as active:
        if arm.backbone:
            examples = replace(examples, features=frozen_features(arm.backbone, weights,
                                                                  examples.features))
        scores, curves, predictions = run_arm(arm, settings, examples, params.evaluate,
                                              params.seed)
        scores = {
            "arm": name, "target": examples.question.target,
            "binary": examples.question.binary, "size": size,
            "images": len(examples.meta), "panels": panels, "run_id": active.info.run_id, **scores,
        }
        write_arm(out, scores, curves, predictions)
        log_arm(scores, curves, out)
    return f"{name}: {headline(scores)}"
