"""Compare recipes of a student on real cells: one thing changed at a time, everything else alike.

    python benchmarks/students.py --weights mobilenet_v2....h5 --simulated FOLDER --out FOLDER

Every arm learns from the same number of crops and is then scored as in benchmarks/backbones.py:
on bbbc021 with compounds left out, on bbbc013 with one plate's controls. Speed is
that of 128 px planes through OpenVINO, all in turn, the median of five rounds. The last rows are
the teacher and the backbone that comes with moascope. FOLDER after --simulated is a simulated
screen of many panels, as `Simulated(panels=..., size=256)` makes it. Students stay in --out, and a
second call resumes there. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from backbones import controls_apart, planes_a_second, unseen_compounds

from moascope.distillation.planes import collect_planes
from moascope.distillation.student import CURVE, STATE, STUDENT, Recipe, open_teacher, train_student
from moascope.features.backbones import load_imagenet, weights_digest
from moascope.features.embed import features_of_screen
from moascope.params import Embed, Prepare
from moascope.screen.tables import read_screen

ALL = ("bbbc021", "bbbc013", "samples_16bit", "simulated")
PLANES_A_FOLDER = 1300
STRENGTH = 0.01


@dataclass(frozen=True)
class Arm:
    """How an arm differs from the first one."""

    recipe: dict = field(default_factory=dict)
    sources: tuple[str, ...] = ALL


ARMS = {
    "width 0.35, sees 96 px, mse, all planes": Arm(),
    "width 0.5": Arm({"width": 0.5}),
    "sees 128 px": Arm({"sees": 128}),
    "sees 64 px": Arm({"sees": 64}),
    "cosine loss": Arm({"loss": "cosine"}),
    "starts from the teacher's channels": Arm({"start": "teacher"}),
    "the same, half the learning rate": Arm({"start": "teacher", "learning_rate": 1e-3}),
    "1,024 outputs": Arm({"features": 1024}),
    "real planes only": Arm(sources=ALL[:3]),
    "simulated planes only": Arm(sources=ALL[3:]),
    "without bbbc021": Arm(sources=ALL[1:]),
    "half as many crops": Arm({"crops": 0.5}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--simulated", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="of the teacher, MobileNetV2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=25_600)
    parser.add_argument("--arms", nargs="+", type=int, help="by their numbers, from 0")
    arguments = parser.parse_args()
    network = load_imagenet("mobilenetv2", arguments.weights, Recipe().size)
    teach = open_teacher("mobilenetv2", network, Recipe().size)
    rows = {}
    for number, (name, arm) in enumerate(ARMS.items()):
        if arguments.arms and number not in arguments.arms:
            continue
        folder = arguments.out / str(number)
        recipe = replace(Recipe(crops=arguments.crops), **arm.recipe)
        if arm.recipe.get("crops"):
            recipe = replace(recipe, crops=int(arguments.crops * arm.recipe["crops"]))
        if not trained(folder, recipe):
            planes = collect_planes([arguments.simulated if source == "simulated"
                                     else arguments.data / source for source in arm.sources],
                                    PLANES_A_FOLDER, recipe.seed)
            train_student(planes, teach, recipe, folder,
                          planes.digest + weights_digest(arguments.weights), network=network)
        rows[name] = (str(folder / STUDENT), recipe.crops, last_loss(folder))
    rows["cellmobile, as shipped"] = ("cellmobile", None, None)
    rows["its teacher, MobileNetV2"] = ("mobilenetv2", None, None)
    report(rows, arguments)


def report(rows: dict[str, tuple], arguments: argparse.Namespace) -> None:
    screens = [read_screen(arguments.data / name) for name in ("bbbc021", "bbbc013")]
    print("| student | crops | loss | bbbc021 accuracy | bbbc021 mAP | bbbc013 AUC "
          "| planes per second |")
    print("|---|---|---|---|---|---|---|")
    opened = {name: Embed(backbone=backbone, weights=str(arguments.weights))
              for name, (backbone, _, _) in rows.items()}
    speeds = planes_a_second(opened)
    for name, (_, crops, loss) in rows.items():
        tables = [features_of_screen(screen, Prepare(), opened[name],
                                     arguments.out / "features" / str(number))
                  for number, screen in enumerate(screens)]
        accuracy, precision = unseen_compounds(screens[0], tables[0], STRENGTH)
        area = controls_apart(screens[1], tables[1])
        print(f"| {name} | {f'{crops:,}' if crops else ''} | {f'{loss:.3f}' if loss else ''} "
              f"| {accuracy:.3f} | {precision:.3f} | {area:.3f} | {speeds[name][0]:.0f} |",
              flush=True)


def trained(folder: Path, recipe: Recipe) -> bool:
    """Whether a student of exactly this recipe exists."""
    if not (folder / STUDENT).exists():
        return False
    state = json.loads((folder / STATE).read_text())
    asked = {**asdict(recipe), "crops": state["asked"][-1][1]}
    return asked == {key: state["identity"].get(key, recipe.crops) for key in asked} \
        and state["asked"][-1][1] == recipe.crops


def last_loss(folder: Path) -> float:
    """Mean over the last tenth of the recorded steps."""
    curve = np.loadtxt(folder / CURVE, delimiter=",", skiprows=1, ndmin=2)
    return float(curve[-max(len(curve) // 10, 1):, 1].mean())


if __name__ == "__main__":
    main()
