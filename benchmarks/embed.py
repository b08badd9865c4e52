"""Measure embedding: `keras.Model.predict` against OpenVINO in single precision and in bfloat16.

    python benchmarks/embed.py --weights mobilenet_v2_weights.h5

All see the same 8-bit planes of noisy blobs, in turn within a round, after a first round that
warms up. Keras gets what it would get from a user: float32 images of three channels, preprocessed
outside the time taken, in its own default batches. The rows "plate to table" are a prepared plate
of sites of two crops and three channels, from `crops.npy` to `features.parquet`; Keras's
preprocessing is in them. Prints a Markdown table with medians over the rounds; `x` is the speed
against Keras in that run, `differs` the largest difference from Keras's outputs relative to the
largest output, and the norm of all differences relative to that of all outputs. Without
`--weights` they are random.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.features.backbones import APPLICATIONS, Backbone, load_imagenet
from moascope.features.embed import embed_plate
from moascope.features.inference import compile_for_cpu
from moascope.quiet import import_keras

CHANNELS = ("DNA", "Actin", "Tubulin")
PLANES = {("mobilenetv2", 128): 384, ("mobilenetv2", 224): 128, ("resnet50", 128): 96,
          ("resnet50", 224): 32}
SITES, CROPS = 64, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="ImageNet weights of mobilenetv2")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| network | weights | planes | Keras, planes/s | OpenVINO f32, planes/s | x | differs "
          "| OpenVINO bf16, planes/s | x | differs |\n|---|---|---|---|---|---|---|---|---|---|")
    for row in rows(arguments.weights, arguments.rounds):
        print(row, flush=True)


def rows(weights: Path | None, rounds: int) -> Iterator[str]:
    """Rows of the table, as they are measured."""
    for (name, crop), number in PLANES.items():
        file = weights if name == "mobilenetv2" else None
        network, arms = open_arms(name, crop, file)
        planes = draw(number, crop)
        images = colour(planes, name)
        calls = {"keras": lambda network=network, images=images: network.predict(
            images, verbose=0)}
        calls |= {arm: lambda infer=infer, planes=planes: infer(planes)
                  for arm, infer in arms.items()}
        yield row(f"{name}", file, f"{number} of {crop} px", number, *in_turn(calls, rounds))
        if crop == 128:
            yield whole_plate(name, file, network, arms, rounds)


def whole_plate(name: str, file: Path | None, network, arms, rounds: int) -> str:
    """A prepared plate, from its crops on disk to its table on disk."""
    blocks = draw(SITES * CROPS * len(CHANNELS), 128)
    infer = {"keras": lambda planes: network.predict(colour(planes, name), verbose=0)} | arms
    width = network.output_shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        plate = write_plate(Path(folder), blocks)

        def embed(planes: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            names = tuple(f"{index:04d}" for index in range(width))
            embed_plate(plate, Path(folder), Backbone("Net", names, planes))
            table = pd.read_parquet(Path(folder) / "features.parquet")
            return table.filter(like="Net_").to_numpy()

        calls = {arm: lambda planes=planes: embed(planes) for arm, planes in infer.items()}
        return row(f"{name}, plate to table", file, f"{len(blocks)} of 128 px", len(blocks),
                   *in_turn(calls, rounds))


def open_arms(name: str, crop: int, file: Path | None):
    keras = import_keras()

    if file:
        network = load_imagenet(name, file, crop)
    else:
        keras.utils.set_random_seed(0)
        network = APPLICATIONS[name].build(crop, None)
    return network, {precision: compile_for_cpu(network, APPLICATIONS[name].prepare, crop,
                                                precision) for precision in ("f32", "bf16")}


def in_turn(calls: dict[str, Callable[[], np.ndarray]], rounds: int):
    """Median seconds of each call, and what it returned."""
    results = {arm: call() for arm, call in calls.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in calls}
    for _ in range(rounds):
        for arm, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[arm].append(time.perf_counter() - start)
    return {arm: float(np.median(values)) for arm, values in seconds.items()}, results


def row(title: str, file: Path | None, what: str, number: int, seconds: dict[str, float],
        results: dict[str, np.ndarray]) -> str:
    keras = results["keras"]
    cells = [title, "ImageNet" if file else "random", what, f"{number / seconds['keras']:.0f}"]
    for arm in ("f32", "bf16"):
        cells += [f"{number / seconds[arm]:.0f}", f"{seconds['keras'] / seconds[arm]:.1f}",
                  f"{np.abs(results[arm] - keras).max() / np.abs(keras).max():.1e}, "
                  f"{np.linalg.norm(results[arm] - keras) / np.linalg.norm(keras):.1e}"]
    return f"| {' | '.join(cells)} |"


def draw(number: int, crop: int) -> np.ndarray:
    """Planes of noisy blobs, uint8 [number, crop, crop]."""
    rng = np.random.default_rng(0)
    axis = np.arange(crop)
    planes = np.full((number, crop, crop), 20.0)
    for _ in range(8):
        row, column, width = (rng.uniform(low, high, (number, 1)) for low, high in
                              ((0, crop), (0, crop), (4, 12)))
        planes += 120 * (np.exp(-((axis - row) / width) ** 2)[:, :, np.newaxis]
                         * np.exp(-((axis - column) / width) ** 2)[:, np.newaxis])
    return np.clip(rng.poisson(planes), 0, 255).astype(np.uint8)


def colour(planes: np.ndarray, name: str) -> np.ndarray:
    keras = import_keras()

    three = np.repeat(planes[..., np.newaxis], 3, axis=-1).astype(np.float32)
    return keras.ops.convert_to_numpy(APPLICATIONS[name].prepare(three))


def write_plate(folder: Path, planes: np.ndarray) -> Path:
    """The folder of a prepared plate that has these crops."""
    crops = planes.reshape(SITES, CROPS, len(CHANNELS), *planes.shape[1:])
    np.save(folder / "crops.npy", crops)
    facts = {"channels": CHANNELS}
    (folder / "plate.json").write_text(json.dumps(facts))
    pd.DataFrame({"Metadata_Site": np.arange(SITES), "QC_Pass": True}
                 | {f"Intensity_{name}_Mean": 1.0 for name in CHANNELS}).to_parquet(
                     folder / "sites.parquet")
    return folder


if __name__ == "__main__":
    main()
