"""Measure embedding: `keras.Model.predict` against OpenVINO in single precision and in bfloat16.

    python benchmarks/embed.py

All see the same 8-bit planes of noisy blobs, in turn within a round, after a warm-up round. Keras
gets what a user would give it: float32 images of three channels, preprocessed outside the measured
time, in its own default batches. The rows "plate to table" are a prepared plate of sites of two
crops and three channels, from `crops.npy` to `features.parquet`; these include Keras's
preprocessing.

Prints a Markdown table with medians over the rounds. `x` is the speed relative to Keras in the same
run. `of the limit` compares the operations per second in single precision with those of
TensorFlow's product of two large matrices. `differs` is the largest difference from Keras's
outputs relative to the largest output, and the norm of all differences relative to that of all
outputs. cellmobile is the backbone that comes with moascope. The weights of resnet50 are random,
and those of mobilenetv2 where their file is missing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.features.backbones import (
    APPLICATIONS,
    PACKAGED,
    Backbone,
    keras_models_folder,
    load_imagenet,
    load_own,
)
from moascope.features.embed import embed_plate
from moascope.features.inference import compile_for_cpu
from moascope.pixels.prepared import PreparedPlate
from moascope.quiet import import_keras

CHANNELS = ("DNA", "Actin", "Tubulin")
PLANES = {("mobilenetv2", 128): 384, ("mobilenetv2", 224): 128, ("resnet50", 128): 96,
          ("resnet50", 224): 32, ("cellmobile", 128): 1024}
WEIGHTS = [folder / APPLICATIONS["mobilenetv2"].file
           for folder in (keras_models_folder(), Path("../shared/weights"))]
SITES, CROPS = 64, 2


@dataclass(frozen=True)
class Network:
    """A network, its preprocessing, and where its weights come from."""

    name: str
    weights: str
    model: Any
    prepare: Callable[[Any], Any] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=next(
        (path for path in WEIGHTS if path.is_file()), WEIGHTS[0]),
        help="ImageNet weights of mobilenetv2 (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| network | weights | planes | Keras, planes/s | OpenVINO f32, planes/s | x "
          "| of the limit | differs | OpenVINO bf16, planes/s | x | differs |\n"
          "|---|---|---|---|---|---|---|---|---|---|---|")
    limit = products_a_second()
    for row in rows(arguments.weights, arguments.rounds, limit):
        print(row, flush=True)
    print(f"\nLimit: {limit / 1e9:.0f} billion operations per second.")


def products_a_second(side: int = 2048, rounds: int = 7) -> float:
    """Operations per second of a product of two large float32 matrices, a median."""
    ops = import_keras().ops
    a = ops.convert_to_tensor(np.random.default_rng(0).random((side, side), np.float32))
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        # NumPy's own product is half as fast on some processors.
        ops.convert_to_numpy(ops.matmul(a, a))
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / float(np.median(seconds[1:]))


def operations(model: Any) -> int:
    """Multiplications and additions of a network's convolutions and dense layers, for a plane."""
    total = 0
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__name__ in ("Conv2D", "DepthwiseConv2D", "Dense"):
            kernel = layer.kernel.shape
            each = int(np.prod(kernel[:3] if "Depthwise" in type(layer).__name__ else kernel))
            places = np.prod(layer.output.shape[1:-1]) if len(layer.output.shape) == 4 else 1
            total += 2 * each * int(places)
    return total


def rows(weights: Path, rounds: int, limit: float) -> Iterator[str]:
    """Rows of the table, as they are measured."""
    for (name, crop), number in PLANES.items():
        network = open_network(name, crop, weights)
        arms = {precision: compile_for_cpu(network.model, network.prepare, crop, precision)
                for precision in ("f32", "bf16")}
        planes = draw(number, crop)
        images = seen_by(network, planes)
        calls = {"keras": lambda network=network, images=images: network.model.predict(
            images, verbose=0)}
        calls |= {arm: lambda infer=infer, planes=planes: infer(planes)
                  for arm, infer in arms.items()}
        yield row(network, f"{number} of {crop} px", number, *in_turn(calls, rounds), limit)
        if crop == 128:
            yield whole_plate(network, arms, rounds, limit)


def whole_plate(network: Network, arms: dict, rounds: int, limit: float) -> str:
    """A prepared plate, from its crops on disk to its table on disk."""
    blocks = draw(SITES * CROPS * len(CHANNELS), 128)
    infer = {"keras": lambda planes: network.model.predict(seen_by(network, planes),
                                                           verbose=0)} | arms
    width = network.model.output_shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        plate = write_plate(Path(folder), blocks)

        def embed(planes: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            names = tuple(f"{index:04d}" for index in range(width))
            embed_plate(PreparedPlate(plate), Path(folder), Backbone("Net", names, planes))
            table = pd.read_parquet(Path(folder) / "features.parquet")
            return table.filter(like="Net_").to_numpy()

        calls = {arm: lambda planes=planes: embed(planes) for arm, planes in infer.items()}
        return row(network, f"{len(blocks)} of 128 px, plate to table", len(blocks),
                   *in_turn(calls, rounds), limit)


def open_network(name: str, crop: int, file: Path) -> Network:
    if name in PACKAGED:
        return Network(name, "its own", load_own(PACKAGED[name]), None)
    prepare = APPLICATIONS[name].prepare
    if name == "mobilenetv2" and file.is_file():
        return Network(name, "ImageNet", load_imagenet(name, file, crop), prepare)
    import_keras().utils.set_random_seed(0)
    return Network(name, "random", APPLICATIONS[name].build(crop, None), prepare)


def in_turn(calls: dict[str, Callable[[], np.ndarray]], rounds: int):
    """Median seconds of each call, and its result."""
    results = {arm: call() for arm, call in calls.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in calls}
    for _ in range(rounds):
        for arm, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[arm].append(time.perf_counter() - start)
    return {arm: float(np.median(values)) for arm, values in seconds.items()}, results


def row(network: Network, what: str, number: int, seconds: dict[str, float],
        results: dict[str, np.ndarray], limit: float) -> str:
    keras = results["keras"]
    cells = [network.name, network.weights, what, f"{number / seconds['keras']:.0f}"]
    for arm in ("f32", "bf16"):
        cells += [f"{number / seconds[arm]:.0f}", f"{seconds['keras'] / seconds[arm]:.1f}"]
        if arm == "f32":
            done = operations(network.model) * number / seconds[arm]
            cells += [f"{done / limit:.0%}"]
        cells += [f"{np.abs(results[arm] - keras).max() / np.abs(keras).max():.1e}, "
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


def seen_by(network: Network, planes: np.ndarray) -> np.ndarray:
    """What a user would give the network: float32, preprocessed, three channels if need be."""
    images = planes[..., np.newaxis].astype(np.float32)
    if network.model.input_shape[-1] == 3:
        images = np.repeat(images, 3, axis=-1)
    if network.prepare:
        images = import_keras().ops.convert_to_numpy(network.prepare(images))
    return images


def write_plate(folder: Path, planes: np.ndarray) -> Path:
    """A folder of a prepared plate with these crops."""
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
