"""Compare backbones, crops and scaling on real cells, asked about compounds they never saw.

    python benchmarks/backbones.py --data ../shared/data --weights ../shared/weights/<file>.h5

On bbbc021 every compound of a mechanism with two or more compounds is left out in turn; a scaled
logistic regression trained on all others is asked about its fields. On bbbc013 the score is the
area under the ROC curve of one plate's positive against its negative control wells, in leave-one-
well-out. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from moascope.features.embed import features_of_screen
from moascope.features.table import FeatureTable
from moascope.params import Embed, Prepare
from moascope.screen.tables import Screen, read_screen

# Grid of the regression's strength: what suits 300 features need not suit 4,000.
STRENGTHS = {"morphology": 0.1, "mobilenetv2": 0.01, "resnet50": 0.01}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, help="ImageNet weights of MobileNetV2")
    parser.add_argument("--crops", nargs="+", default=["128x4"], metavar="SIDExNUMBER")
    parser.add_argument("--scales", nargs="+", default=["auto"], choices=["auto", "plate", "range"])
    parser.add_argument("--precisions", nargs="+", default=["f32"], choices=["f32", "bf16"])
    arguments = parser.parse_args()
    screen = read_screen(arguments.data / "bbbc021")
    one_plate = read_screen(arguments.data / "bbbc013")
    arms = [Embed()]
    if arguments.weights:
        arms += [Embed(backbone="mobilenetv2", weights=str(arguments.weights), precision=precision)
                 for precision in arguments.precisions]
    print("| backbone | crops | scale | features | bbbc021 accuracy | bbbc021 mAP "
          "| bbbc013 AUC | prepare ms/plane | embed ms/plane |")
    print("|---|---|---|---|---|---|---|---|---|")
    for crops in arguments.crops:
        side, number = map(int, crops.split("x"))
        for scale in arguments.scales:
            for arm in arms:
                prepare = Prepare(crop=side, crops=number, scale=scale)
                table, first, second = timed_features(screen, prepare, arm)
                accuracy, precision = unseen_compounds(screen, table, STRENGTHS[arm.backbone])
                area = controls_apart(one_plate, timed_features(one_plate, prepare, arm)[0])
                name = arm.backbone + (" bf16" if arm.precision == "bf16" else "")
                print(f"| {name} | {crops} | {scale} | {len(table.names)} | {accuracy:.3f} "
                      f"| {precision:.3f} | {area:.3f} | {first:.1f} | {second:.1f} |", flush=True)


def timed_features(screen: Screen, prepare: Prepare,
                   embed: Embed) -> tuple[FeatureTable, float, float]:
    """Features, and milliseconds a plane of prepare and of embed, one process each."""
    from moascope.features.embed import embed_plates
    from moascope.pixels.prepare import prepare_plates

    planes = len(screen.sites) * len(screen.channels)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        times = [time.perf_counter()]
        prepare_plates(screen, work / "prepare", prepare, 1)
        times.append(time.perf_counter())
        embed_plates(work / "prepare", work / "embed", embed, 1)
        times.append(time.perf_counter())
        # All is done already: this only reads the table, as serving does.
        table = features_of_screen(screen, prepare, embed, work)
    crops = planes * prepare.crops
    return table, 1e3 * (times[1] - times[0]) / planes, 1e3 * (times[2] - times[1]) / crops


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
