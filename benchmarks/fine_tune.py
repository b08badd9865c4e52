"""How fast the last blocks of a backbone train, and how close that is to the device's limit.

    KERAS_BACKEND=jax python benchmarks/fine_tune.py --precision bf16 --batch 64 --blocks 3

Networks have random weights, pixels are noise: neither changes the speed. A plane is one channel of
one crop; an image of the slides has three. `finetuning.network` runs through `fit`, including
augmentation. Each row is the median of `--rounds` epochs after the first, which compiles.

The reference, measured with the same backend and precision in the same run, is what a product of
two square matrices and a copy reach. Operations per plane are two for each multiplication
of convolutions and dense layers, forward through all of them and backward through the open blocks
(twice their forward part). Bytes per plane are every layer's output, written once and read once,
forward, and twice more for the open blocks; fusing layers, as XLA does, moves fewer. The larger of
the two shares is the limit that counts. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

from moascope.features.backbones import APPLICATIONS
from moascope.finetuning.network import (
    Sites,
    block_of,
    build_network,
    innermost,
    open_last_blocks,
    policy,
    train_network,
)
from moascope.params import FineTune, Head
from moascope.quiet import import_keras

CHANNELS = 3
SLIDES_IMAGES = 15_600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["mobilenetv2", "resnet50"],
                        choices=list(APPLICATIONS))
    parser.add_argument("--sides", nargs="+", type=int, default=[128, 224])
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16, help="sites per step")
    parser.add_argument("--steps", type=int, default=5, help="per epoch")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    keras = import_keras()
    devices = keras.distribution.list_devices()
    print(f"backend {keras.backend.backend()}, devices {', '.join(devices)}, {os.cpu_count()} "
          f"cores, load {os.getloadavg()[0]:.1f}, {arguments.precision}, {arguments.blocks} "
          f"block(s), {arguments.batch} sites of {CHANNELS} planes per step")
    product, copy = limits(arguments.precision)
    print(f"\na matrix product reaches {product / 1e12:.2f} TFLOP/s, a copy "
          f"{copy / 1e9:.0f} GB/s\n")
    print("| backbone | px | planes per second | MFLOP per plane | MB per plane "
          f"| share of the product | share of the copy "
          f"| {SLIDES_IMAGES:,} images of three channels |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.backbones:
        for side in arguments.sides:
            with policy(arguments.precision):
                network = APPLICATIONS[name].build(side, None)
            opened = open_last_blocks(network, arguments.blocks)
            settings = FineTune(blocks=arguments.blocks, batch_size=arguments.batch, epochs=1,
                                precision=arguments.precision)
            seconds = an_epoch(network, APPLICATIONS[name].prepare, side, settings,
                               arguments.steps, arguments.rounds)
            speed = arguments.batch * arguments.steps * CHANNELS / seconds
            operations, moved = cost(network, opened, 2 if arguments.precision == "bf16" else 4)
            print(f"| {name} | {side} | {speed:.0f} | {operations / 1e6:.0f} | {moved / 1e6:.0f} "
                  f"| {speed * operations / product:.0%} | {speed * moved / copy:.0%} "
                  f"| {SLIDES_IMAGES * CHANNELS / speed / 60:.1f} min |", flush=True)


def made_up(network: Any, side: int, count: int) -> Sites:
    """Sites of noise, one crop each, that nothing normalises."""
    generator = np.random.default_rng(0)
    width = CHANNELS * network.output_shape[-1]
    return Sites(
        crops=generator.integers(0, 256, (count, 1, CHANNELS, side, side)).astype(np.uint8),
        shown=np.arange(CHANNELS), present=np.ones((count, CHANNELS), bool),
        plate=np.zeros(count, int), centre=np.zeros((1, width), np.float32),
        spread=np.ones((1, width), np.float32), beside=np.zeros((count, 0), np.float32),
        sphering=None, panel=np.zeros((count, 0), np.float32), turns=1)


def an_epoch(network: Any, prepare: Any, side: int, settings: FineTune, steps: int,
             rounds: int) -> float:
    """Seconds per epoch once its step is compiled."""
    sites = made_up(network, side, settings.batch_size * steps)
    model = build_network(network, prepare, sites, Head(layers=0), 2, settings)
    label = np.arange(len(sites.plate)) % 2
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        train_network(model, label, np.ones(len(label)), 2, settings, 0)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def cost(network: Any, opened: list[str], width: int) -> tuple[float, float]:
    """Operations and bytes of a plane in training; see the docstring of this file."""
    keras = import_keras()

    operations = moved = 0.0
    for layer in innermost(network):
        if isinstance(layer, keras.layers.InputLayer):
            continue
        out = float(np.prod(layer.output.shape[1:]))
        # Each number of the output is a sum over the kernel without its outputs.
        products = 0.0
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            products = out * float(np.prod(layer.kernel.shape[:2]))
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            products = out * float(np.prod(layer.kernel.shape[:-1]))
        times = 3 if block_of(layer.name) in opened else 1
        operations += 2 * products * times
        moved += 2 * out * width * times
    return operations, moved


def limits(precision: str) -> tuple[float, float]:
    """Operations per second of a matrix product, bytes per second of a copy."""
    keras = import_keras()
    from keras import ops

    dtype = "bfloat16" if precision == "bf16" else "float32"
    side = 8192 if any("cpu" not in name for name in keras.distribution.list_devices()) else 2048
    a = ops.cast(np.random.default_rng(0).normal(size=(side, side)), dtype)
    long = ops.zeros((side * side * 4,), dtype)

    def fastest(work: Any) -> float:
        times = []
        for _ in range(6):
            start = time.perf_counter()
            done = work()
            # A number of the result is fetched: devices answer before they have finished.
            ops.convert_to_numpy(ops.ravel(done)[0])
            times.append(time.perf_counter() - start)
        return min(times)

    size = 2 if precision == "bf16" else 4
    return (2 * side**3 / fastest(lambda: ops.matmul(a, a)),
            2 * size * long.shape[0] / fastest(lambda: long + 1))


if __name__ == "__main__":
    main()
