"""Compare backbones, crops and scaling on real cells, on compounds they have never seen.

    python benchmarks/backbones.py --backbones morphology mobilenetv2 my.keras

On bbbc021 every compound of a mechanism with two or more compounds is left out in turn; a scaled
logistic regression trained on the others then predicts its fields. On bbbc013 the score is the
area under the ROC curve of one plate's positive against its negative control wells, in leave-one-
well-out. Speed is that of 128 px planes through the backbone alone, all backbones in turn, the
median of five rounds. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from moascope.features.backbones import find_weights, open_backbone
from moascope.features.embed import features_of_screen
from moascope.features.table import FeatureTable
from moascope.params import Embed, Prepare
from moascope.screen.tables import Screen, read_screen

# The regression's strength: what suits 300 features need not suit 4,000.
STRENGTHS = {"morphology": 0.1}
STRENGTH = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--backbones", nargs="+", default=["morphology"])
    parser.add_argument("--weights", type=Path, help="ImageNet weights, of the networks named")
    parser.add_argument("--crops", nargs="+", default=["128x4"], metavar="SIDExNUMBER")
    parser.add_argument("--scales", nargs="+", default=["auto"], choices=["auto", "plate", "range"])
    parser.add_argument("--precisions", nargs="+", default=["f32"], choices=["f32", "bf16"])
    parser.add_argument("--turns", nargs="+", default=[1, 4], type=int, choices=[1, 4, 8])
    arguments = parser.parse_args()
    screen = read_screen(arguments.data / "bbbc021")
    one_plate = read_screen(arguments.data / "bbbc013")
    weights = str(arguments.weights) if arguments.weights else None
    arms = [Embed(backbone=name, weights=weights, precision=precision, turns=turns)
            for name in arguments.backbones
            for precision in (arguments.precisions if name != "morphology" else ["f32"])
            for turns in (arguments.turns if name != "morphology" else [1])]
    speeds = planes_a_second({name_of(arm): arm for arm in arms})
    print("| backbone | crops | scale | features per plane | bbbc021 accuracy | bbbc021 mAP "
          "| bbbc013 AUC | planes per second |")
    print("|---|---|---|---|---|---|---|---|")
    for crops in arguments.crops:
        side, number = map(int, crops.split("x"))
        for scale in arguments.scales:
            for arm in arms:
                prepare = Prepare(crop=side, crops=number, scale=scale)
                table = features(screen, prepare, arm)
                strength = STRENGTHS.get(arm.backbone, STRENGTH)
                accuracy, precision = unseen_compounds(screen, table, strength)
                area = controls_apart(one_plate, features(one_plate, prepare, arm))
                print(f"| {name_of(arm)} | {crops} | {scale} | {speeds[name_of(arm)][1]} "
                      f"| {accuracy:.3f} | {precision:.3f} | {area:.3f} "
                      f"| {speeds[name_of(arm)][0]:.0f} |", flush=True)


def name_of(arm: Embed) -> str:
    name = "+".join(Path(part).stem for part in arm.backbones)
    return (name + (" bf16" if arm.precision == "bf16" else "")
            + (f", {arm.turns} turns" if arm.turns > 1 else ""))


def planes_a_second(arms: dict[str, Embed]) -> dict[str, tuple[float, int]]:
    """Planes of 128 px per second, and features per plane, of single backbones."""
    planes = np.random.default_rng(0).integers(0, 256, (512, 128, 128)).astype(np.uint8)
    opened = {}
    for name, arm in arms.items():
        file = find_weights(arm.backbone, arm)
        opened[name] = open_backbone(arm.backbone, file, arm.precision, arm.turns, 128)
    times: dict[str, list[float]] = {name: [] for name in opened}
    for turn in range(6):
        for name, backbone in opened.items():
            start = time.perf_counter()
            backbone.planes(planes)
            if turn:   # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: (len(planes) / float(np.median(times[name])), len(opened[name].names))
            for name in opened}


def features(screen: Screen, prepare: Prepare, embed: Embed) -> FeatureTable:
    with tempfile.TemporaryDirectory() as folder:
        return features_of_screen(screen, prepare, embed, Path(folder))


def unseen_compounds(screen: Screen, table: FeatureTable, strength: float) -> tuple[float, float]:
    """Accuracy and mean average precision per image, leaving one compound out at a time."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = table.meta.merge(screen.layout, on=["Metadata_Plate", "Metadata_Well"], how="left")
    known = known.merge(screen.annotations, on="Metadata_Compound", how="left")
    moa = known["Metadata_MoA"].to_numpy(str)
    compound = known["Metadata_Compound"].to_numpy(str)
    askable = sorted(name for name in set(moa) if len(set(compound[moa == name])) > 1)
    classes = np.unique(moa)
    asked = np.isin(moa, askable)
    scores = np.zeros((len(moa), len(classes)))
    X = np.nan_to_num(table.X)
    for name in np.unique(compound[asked]):
        out = compound == name
        model = make_pipeline(StandardScaler(), LogisticRegression(
            C=strength, class_weight="balanced", max_iter=300))
        scores[out] = model.fit(X[~out], moa[~out]).predict_proba(X[out])
    accuracy = float((classes[scores[asked].argmax(axis=1)] == moa[asked]).mean())
    precisions = [average_precision_score(moa[asked] == name,
                                          scores[asked, classes.searchsorted(name)])
                  for name in askable]
    return accuracy, float(np.mean(precisions))


def controls_apart(screen: Screen, table: FeatureTable) -> float:
    """Area under the ROC curve of positive against negative control wells, each left out once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = table.meta.merge(screen.layout, on=["Metadata_Plate", "Metadata_Well"], how="left")
    control = known["Metadata_Control"].to_numpy(str)
    rows = control != ""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced"))
    scores = cross_val_predict(model, np.nan_to_num(table.X[rows]), control[rows] == "positive",
                               cv=LeaveOneOut(), method="decision_function")
    return float(roc_auc_score(control[rows] == "positive", scores))


if __name__ == "__main__":
    main()
