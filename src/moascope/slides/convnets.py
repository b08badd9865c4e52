"""The networks of the slides, and what the slides asked for next.

Each arm is a small function from the parameters to a list of Keras layers, and an entry in `ARMS`.
An arm's name in params.yaml (`baseline.arms`) makes it a row of the table.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moascope.errors import MoascopeError
from moascope.features.backbones import APPLICATIONS, find_weights, load_imagenet
from moascope.finetuning.augmentation import augmentation
from moascope.params import Baseline, Embed
from moascope.quiet import import_keras

IMAGES_AT_ONCE = 200
LEAST_PROBABILITY = 1e-7  # as in Keras's cross-entropy


@dataclass(frozen=True)
class Arm:
    """One system of the comparison.

    Attributes
    ----------
    layers : callable
        `layers(settings, outputs)` gives the layers between the input and the prediction.
    backbone : str or None
        The frozen ImageNet network whose feature maps are the input; None: the image is.
    stops_early : bool
        Whether the epoch is chosen, by an inner fold.
    by_panel : bool
        Whether every stain combination gets a model of its own.
    """

    layers: Callable[[Baseline, int], list[Any]]
    backbone: str | None = None
    stops_early: bool = False
    by_panel: bool = False


def scratch(settings: Baseline, outputs: int) -> list[Any]:
    """Conv 32, pool, Conv 64, pool, Flatten, Dense 32, Dropout, output: the slides' first try."""
    return _network(settings, outputs)


def extra_conv(settings: Baseline, outputs: int) -> list[Any]:
    """`scratch` with a third convolution of 128 filters."""
    return _network(settings, outputs, filters=(32, 64, 128))


def extra_dense(settings: Baseline, outputs: int) -> list[Any]:
    """`scratch` with a second dense layer of 16 units."""
    return _network(settings, outputs, dense=(32, 16))


def leaky_relu(settings: Baseline, outputs: int) -> list[Any]:
    """`scratch` with leaky ReLU in place of ReLU."""
    return _network(settings, outputs, slope=settings.slope)


def on_frozen(settings: Baseline, outputs: int) -> list[Any]:
    """Flatten, Dense 32, Dropout, output, on the feature maps of a frozen backbone."""
    return _network(settings, outputs, filters=())


def regularised(settings: Baseline, outputs: int) -> list[Any]:
    """`scratch` with L2 on every kernel, after flips, quarter turns and gain."""
    return [augmentation(settings.regularised.gain),
            *_network(settings, outputs, l2=settings.regularised.l2)]


ARMS: dict[str, Arm] = {
    "scratch": Arm(scratch),
    "extra_conv": Arm(extra_conv),
    "extra_dense": Arm(extra_dense),
    "leaky_relu": Arm(leaky_relu),
    "mobilenetv2": Arm(on_frozen, backbone="mobilenetv2"),
    "resnet50": Arm(on_frozen, backbone="resnet50"),
    "regularised": Arm(regularised, stops_early=True),
    "per_panel": Arm(scratch, by_panel=True),
}


def _network(settings: Baseline, outputs: int, filters: tuple[int, ...] = (32, 64),
             dense: tuple[int, ...] = (32,), slope: float = 0.0, l2: float = 0.0) -> list[Any]:
    keras = import_keras()
    layers = keras.layers

    def penalty() -> Any:
        return keras.regularizers.L2(l2) if l2 else None

    found: list[Any] = [layers.Rescaling(1 / 255)] if filters else []
    for number in filters:
        found += [layers.Conv2D(number, 3, kernel_regularizer=penalty()),
                  layers.LeakyReLU(slope) if slope else layers.ReLU(),
                  layers.MaxPooling2D(2)]
    found.append(layers.Flatten())
    for width in dense:
        found += [layers.Dense(width, kernel_regularizer=penalty()),
                  layers.LeakyReLU(slope) if slope else layers.ReLU()]
    found += [layers.Dropout(settings.dropout),
              layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax",
                           kernel_regularizer=penalty())]
    return found


def compile_arm(arm: Arm, settings: Baseline, shape: tuple[int, ...], classes: int) -> Any:
    """The arm's network, compiled; one serves all folds, so that it is traced once.

    Parameters
    ----------
    arm : Arm
    settings : Baseline
    shape : tuple of int
        Of one input.
    classes : int
        Two share one sigmoid output, as in the slides; more have a softmax.

    Returns
    -------
    keras.Model
        Adam on (binary) cross-entropy. Call `restart` before every training.
    """
    keras = import_keras()

    outputs = 1 if classes == 2 else classes
    model = keras.Sequential([keras.Input(shape), *arm.layers(settings, outputs)])
    smoothing = settings.regularised.label_smoothing if arm.stops_early else 0.0
    losses = keras.losses
    loss = (losses.BinaryCrossentropy(label_smoothing=smoothing) if outputs == 1
            else losses.CategoricalCrossentropy(label_smoothing=smoothing))
    model.compile(optimizer=keras.optimizers.Adam(settings.learning_rate), loss=loss)
    model.optimizer.build(model.trainable_variables)
    return model


def restart(model: Any, learning_rate: float, seed: int) -> None:
    """Fresh weights, noise and optimiser, the same ones for the same seed.

    Kernels are drawn from Glorot's uniform range [1]_, Keras's default; biases start from zero.

    .. [1] Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural
       networks", AISTATS 2010.
    """
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        start = np.zeros(shape, np.float32)
        if len(shape) > 1:
            window = int(np.prod(shape[:-2]))
            limit = np.sqrt(6 / (window * (shape[-2] + shape[-1])))
            start = generator.uniform(-limit, limit, shape).astype(np.float32)
        variable.assign(start)
    # What is left are the states of dropout and augmentation.
    for number, variable in enumerate(model.non_trainable_variables):
        variable.assign(np.array([seed, number], variable.dtype))
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    model.optimizer.learning_rate = learning_rate


def train_epochs(model: Any, pictures: np.ndarray, label: np.ndarray, weights: np.ndarray,
                 classes: int, settings: Baseline, seed: int) -> Iterator[tuple[int, float]]:
    """Train a network from its start, and hand over after every epoch.

    Parameters
    ----------
    model : keras.Model
        From `compile_arm`.
    pictures : ndarray, [n, ...]
    label : ndarray, int, [n]
    weights : ndarray, float, [n]
        Of each row in the loss.
    classes : int
    settings : Baseline
    seed : int

    Yields
    ------
    epoch : int
        From 1.
    seconds : float
        That the epoch took.
    """
    restart(model, settings.learning_rate, seed)
    target = (label[:, None] == 1 if classes == 2 else np.eye(classes)[label]).astype(np.float32)
    generator = np.random.default_rng(seed)
    for epoch in range(1, settings.epochs + 1):
        order = generator.permutation(len(label))
        start = time.perf_counter()
        model.fit(pictures[order], target[order], sample_weight=weights[order].astype(np.float32),
                  batch_size=settings.batch_size, shuffle=False, verbose=0)
        yield epoch, time.perf_counter() - start


def predict_classes(model: Any, pictures: np.ndarray) -> np.ndarray:
    """Probabilities of all classes.

    Returns
    -------
    ndarray, float64, [n, C]
        Rows sum to one; no probability is less than 1e-7.
    """
    said = model.predict(pictures, batch_size=IMAGES_AT_ONCE, verbose=0).astype(float)
    said = np.hstack([1 - said, said]) if said.shape[1] == 1 else said
    said = np.clip(said, LEAST_PROBABILITY, 1)
    return said / said.sum(axis=1, keepdims=True)


def frozen_features(name: str, weights: Path, pictures: np.ndarray) -> np.ndarray:
    """Last feature maps of a frozen ImageNet network: what its dense layers would be fed.

    Parameters
    ----------
    name : {"mobilenetv2", "resnet50"}
    weights : Path
        Its weights file, without the top.
    pictures : ndarray, uint8, [n, size, size, 3]
        Red, green, blue.

    Returns
    -------
    ndarray, float32, [n, height, width, filters]
    """
    keras = import_keras()

    whole = load_imagenet(name, weights, pictures.shape[1])
    colour = keras.Input(pictures.shape[1:])
    # ResNet50's weights are in the Caffe order: blue, green, red.
    ordered = colour[..., ::-1] if name == "resnet50" else colour
    maps = keras.Model(whole.input, whole.layers[-2].output)
    network = keras.Model(colour, maps(APPLICATIONS[name].prepare(ordered)))
    return network.predict(pictures, batch_size=IMAGES_AT_ONCE, verbose=0)


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
        f"params.yaml: baseline.arms: '{name}' is not an arm. "
        + (f"Did you mean '{near[0]}'? " if near else "")
        + f"There are {', '.join(ARMS)}; a new one is a function and an entry of ARMS in "
        "src/moascope/slides/convnets.py."
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
