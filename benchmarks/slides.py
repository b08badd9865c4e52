"""The pipeline of the slides, as a beginner writes it, next to moascope on the same images.

    python benchmarks/slides.py [--compounds 48] [--weights FILE]

A simulated screen is drawn at 128 px. The slides' side gets its fields as RGB pictures (PNG, drawn
beforehand and not counted), reads them with `keras.utils.image_dataset_from_directory` and fits
Flatten, Dense 32, Dropout and a sigmoid behind a frozen MobileNetV2: every epoch sends every
picture through the network. moascope's side is its stages as dvc.yaml starts them, start-up
included: prepare and embed once with the same network on every channel by itself, then the default
study, in which every trial is scored over all folds. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from stages import make_workspace, measure, stage_command

from moascope.quiet import import_keras
from moascope.screen.planes import read_site
from moascope.screen.tables import read_screen

SIDE = 128
BATCH = 100    # as in the slides,
EPOCHS = 10    # which trained each of their networks so long
STAGES = ["acquire", "validate", "prepare", "embed", "split", "tune"]


def write_pictures(screen_folder: Path, out: Path) -> int:
    """Write every field as an RGB picture into the folder of its class; how many."""
    screen = read_screen(screen_folder)
    hits = set(screen.annotations.loc[screen.annotations["gpcr"] == "yes", "Metadata_Compound"])
    wells = screen.layout[["Metadata_Plate", "Metadata_Well", "Metadata_Compound"]]
    sites = screen.sites.merge(wells, on=["Metadata_Plate", "Metadata_Well"])
    for name in ("gpcr", "other"):
        (out / name).mkdir(parents=True)
    for number, row in enumerate(sites.to_dict("records")):
        planes = read_site(screen, row, list(screen.channels)).astype(np.float32)
        low, high = np.percentile(planes, (0.1, 99.9), axis=(1, 2), keepdims=True)
        scaled = np.clip((planes - low) / np.maximum(high - low, 1) * 255, 0, 255)
        kind = "gpcr" if row["Metadata_Compound"] in hits else "other"
        Image.fromarray(np.moveaxis(scaled, 0, -1).astype(np.uint8)).save(
            out / kind / f"{number}.png")
    return len(sites)


def epoch_seconds(pictures: Path, weights: Path | None, epochs: int) -> list[float]:
    """Seconds of each epoch of the slides' network, the first with its tracing."""
    keras = import_keras()
    read = keras.utils.image_dataset_from_directory(
        pictures, label_mode="binary", image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False)
    network = keras.applications.MobileNetV2(
        include_top=False, weights=str(weights) if weights else None, input_shape=(SIDE, SIDE, 3))
    network.trainable = False
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 127.5, offset=-1), network,
        layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dropout(0.2),
        layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer="adam", loss="binary_crossentropy")
    took: list[float] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            took.append(time.perf_counter() - self.start)

    model.fit(read, epochs=epochs, callbacks=[Clock()], verbose=0)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=48, help="20 fields each, plus DMSO")
    parser.add_argument("--epochs", type=int, default=4, help="to time; the first is separate")
    parser.add_argument("--weights", type=Path, default=Path(
        "../shared/weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"))
    arguments = parser.parse_args()
    weights = arguments.weights.resolve() if arguments.weights.exists() else None
    simulated = {"preset": "literature", "format": 96, "compounds": arguments.compounds,
                 "batches": 2, "fields": 2, "size": SIDE, "panels": ["A549 ACTB-RAB5A"]}
    embed = ({"backbone": "mobilenetv2", "weights": str(weights)} if weights
             else {"backbone": "morphology"})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        make_workspace(folder, {"simulated": simulated, "embed": embed})
        costs = {stage: measure(stage_command(stage), folder) for stage in STAGES}
        images = write_pictures(folder / "data/acquire", Path(scratch) / "pictures")
        first, *others = epoch_seconds(Path(scratch) / "pictures", weights, arguments.epochs)
    epoch = float(np.median(others))
    once = costs["prepare"].seconds + costs["embed"].seconds
    study = costs["tune"].seconds
    trials = int(re.search(r"(\d+) asked for", costs["tune"].said)[1])
    report(images, weights is not None, first, epoch, once, study, trials)


def report(images: int, pretrained: bool, first: float, epoch: float, once: float, study: float,
           trials: int) -> None:
    """Print both sides for these images and compare them."""
    network = "MobileNetV2" if pretrained else (
        "MobileNetV2 on the slides' side (no weights: random ones, of the same cost), morphology "
        "on moascope's")

    def row(what: str, value: float) -> str:
        return f"| {what} | {value:.1f} | {1000 * value / images:.1f} | {value / epoch:.1f} |"

    print(f"{images:,} fields of {SIDE} px, three channels; {network}.\n")
    print("| | seconds | ms per field | epochs of the slides |\n|---|---|---|---|")
    print(row("slides: first epoch, with tracing", first))
    print(row("slides: one epoch (reference)", epoch))
    print(row(f"slides: one training of {EPOCHS} epochs on one split", EPOCHS * epoch))
    print(row(f"slides: {trials} such trainings, for a choice among them (computed)",
              trials * EPOCHS * epoch))
    print(row("moascope: prepare and embed, once", once))
    print(row(f"moascope: study of {trials} trials, each over all folds", study))
    print(row("moascope: both", once + study))
    print(f"\nChoosing among {trials} heads: {trials * EPOCHS * epoch / (once + study):.0f} times "
          "faster with features kept than with pictures read anew, start-up included; every "
          f"further trial costs {study / trials:.1f} s at most, or {study / trials / epoch:.2f} "
          "epochs of the slides.")


if __name__ == "__main__":
    main()
