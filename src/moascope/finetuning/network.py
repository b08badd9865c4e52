"""Train the last blocks of a backbone and a head together, from crops to classes.

Pure Keras: the same code runs on TensorFlow, JAX and PyTorch. All pixels lie on the device as
8-bit numbers, and so does everything else that a site has; what is fed to a step is the numbers of
its sites. Mirroring, turning and brightening happen on the device as well.

The start is a trained head on frozen features (linear probing, then fine-tuning [1]_): before the
first step the network says what that head says. Plates are normalised as they were for it, by what
the frozen network saw of their negative controls.

.. [1] Kumar et al., "Fine-tuning can distort pretrained features and underperform
   out-of-distribution", ICLR 2022.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moascope.features.backbones import APPLICATIONS, load_imagenet, load_own
from moascope.features.inference import on_grey_planes
from moascope.features.normalise import Sphering
from moascope.features.turns import QUARTERS
from moascope.finetuning.augmentation import augmentation
from moascope.learning.head import FittedHeads
from moascope.params import FineTune, Head
from moascope.quiet import import_keras

# What networks of blocks call them; any other layer is a block of its own.
BLOCK = re.compile(r"(?:\w*_)?conv\d+_block\d+|(?:\w*_)?block_?\d+")
PART = re.compile(r"_(?:bn|relu|pad|conv)$", re.IGNORECASE)


@dataclass(frozen=True)
class Sites:
    """What a network is given of n sites, and what a head sees next to its features.

    Attributes
    ----------
    crops : ndarray, uint8, [n, crops, shown channels, side, side]
    shown : ndarray, int, [shown channels]
        The place of each among all C channels that the head has features of.
    present : ndarray, bool, [n, C]
        Whether a site has the channel; the features of one that it lacks are 0.
    plate : ndarray, int, [n]
        Row of `centre` and `spread`.
    centre, spread : ndarray, float32, [plates, C * features]
        Subtracted from the network's features, and what they are then divided by.
    beside : ndarray, float32, [n, b]
        Normalised counts and intensities, which stand before the network's features.
    sphering : Sphering or None
        Applied to all of these next.
    panel : ndarray, float32, [n, p]
        Which panel a site is of, where panels share a head; p may be 0.
    turns : int
        In how many positions each crop is seen, as in `features.turns.averaged`.
    """

    crops: np.ndarray
    shown: np.ndarray
    present: np.ndarray
    plate: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    beside: np.ndarray
    sphering: Sphering | None
    panel: np.ndarray
    turns: int


def open_network(name: str, weights: Path, crop: int, precision: str) -> tuple[Any, Any]:
    """A backbone as it can be trained.

    Parameters
    ----------
    name : str
        mobilenetv2, resnet50, or the path of a user's own Keras model.
    weights : Path
        From `features.backbones.find_weights`.
    crop : int
        Side of the crops, pixels.
    precision : {"f32", "bf16"}
        Of the arithmetic; weights are float32. A user's own model keeps the one it was saved with.

    Returns
    -------
    network : keras.Model
        [n, h, w, 1 or 3] -> [n, features].
    prepare : callable or None
        The preprocessing that it was trained with.
    """
    if name not in APPLICATIONS:
        return load_own(weights), None
    with policy(precision):
        return load_imagenet(name, weights, crop), APPLICATIONS[name].prepare


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Networks that are built within have this precision: bf16 keeps float32 weights."""
    keras = import_keras()

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def open_last_blocks(network: Any, blocks: int) -> list[str]:
    """Leave only the last blocks of a network trainable.

    Batch normalisations stay as they are everywhere: with a few sites a step their statistics
    would be noise.

    Parameters
    ----------
    network : keras.Model
    blocks : int

    Returns
    -------
    list of str
        The blocks that are trainable now, in order: fewer where the network has no more.
    """
    keras = import_keras()

    # A layer's switch goes down to those within it: containers must not be the ones that are off.
    network.trainable = True
    layers = innermost(network)
    learnt = [layer for layer in layers if layer.trainable_weights
              and not isinstance(layer, keras.layers.BatchNormalization)]
    opened = list(dict.fromkeys(block_of(layer.name) for layer in learnt))[-blocks:]
    for layer in layers:
        layer.trainable = layer in learnt and block_of(layer.name) in opened
    return opened


def innermost(network: Any) -> list[Any]:
    """The layers of a network that hold no others, in the order in which pixels go through."""
    within = getattr(network, "layers", None)
    if within is None:
        within = network._flatten_layers(include_self=False, recursive=False)
    found = [layer for one in within for layer in innermost(one)]
    return found or [network]


def block_of(layer: str) -> str:
    """The block that a layer's name says it belongs to."""
    found = BLOCK.match(layer)
    return found.group() if found else PART.sub("", layer)


def build_network(backbone: Any, prepare: Any, sites: Sites, head: Head, classes: int,
                  settings: FineTune) -> Any:
    """Backbone, normalisation and head as one compiled model over the numbers of sites.

    Parameters
    ----------
    backbone : keras.Model
        With the blocks open that are to be trained.
    prepare : callable or None
        See `open_network`.
    sites : Sites
        Copied to the device, once.
    head : Head
    classes : int
    settings : FineTune

    Returns
    -------
    keras.Model
        int32 [n] -> float32 logits [n, classes]. Call `restart` before every training.
    """
    keras = import_keras()
    from keras import ops

    _, count, channels, side, _ = sites.crops.shape
    everywhere = sites.present.shape[1]
    features = int(backbone.output_shape[-1])
    inputs = sites.beside.shape[1] + everywhere * features
    place = np.eye(everywhere, dtype=np.float32)[sites.shown]
    grey = on_grey_planes(backbone, prepare, side)

    class FineTuned(keras.Model):
        def __init__(self):
            super().__init__(name="fine_tuned", dtype="float32")
            self.augmentation = augmentation(settings.gain)
            self.grey = grey

            def constant(values, dtype="float32"):
                # Weights that nothing trains lie on the device, whatever the backend.
                held = self.add_weight(shape=values.shape, dtype=dtype, initializer="zeros",
                                       trainable=False, autocast=False)
                held.assign(np.asarray(values, dtype))
                return held

            self.crops = constant(sites.crops, "uint8")
            # [n, C, shown]: which plane is which channel of a site, where it has that channel.
            self.present = constant(sites.present[:, :, None] * place.T)
            self.plate = constant(sites.plate, "int32")
            self.centre, self.spread = constant(sites.centre), constant(sites.spread)
            self.beside, self.panel = constant(sites.beside), constant(sites.panel)
            self.sphering = sites.sphering and [
                constant(part) for part in (sites.sphering.mean, sites.sphering.axes,
                                            sites.sphering.gains - sites.sphering.outside,
                                            np.reshape(sites.sphering.outside, (1,)))]
            wide = inputs + sites.panel.shape[1]
            self.mean, self.scale = constant(np.zeros(wide)), constant(np.ones(wide))
            self.dropout = keras.layers.Dropout(head.dropout, seed=0)
            # A dropout of 0 draws nothing.
            self.noises = [self.augmentation.noise,
                           *([self.dropout.seed_generator] if head.dropout else [])]
            self.hidden = keras.activations.get(head.activation)
            self.dense = [
                keras.layers.Dense(width, kernel_regularizer=keras.regularizers.L2(head.l2),
                                   dtype="float32")
                for width in [*[head.width] * head.layers, classes]
            ]
            for layer, width in zip(self.dense, [wide, *[head.width] * head.layers], strict=True):
                layer.build((None, width))

        def given(self, planes):
            # Out of training, always: batch normalisations keep their statistics.
            return ops.cast(self.grey(planes, training=False), "float32")

        def seen(self, chosen, training):
            """The network's features of sites: means over crops, channel after channel."""
            crops = ops.reshape(ops.take(self.crops, chosen, axis=0), (-1, channels, side, side))
            crops = self.augmentation(ops.transpose(crops, (0, 2, 3, 1)), training=training)
            planes = ops.reshape(ops.transpose(crops, (0, 3, 1, 2)), (-1, side, side, 1))
            # While it learns, chance turns the crops.
            given = [self.given(planes)]
            for turn in range(1, 1 if training else sites.turns):
                turned = ops.flip(planes, 2) if turn >= QUARTERS else planes
                given.append(self.given(ops.rot90(turned, turn % QUARTERS, axes=(1, 2))))
            given = ops.mean(ops.stack(given), axis=0)
            return ops.mean(ops.reshape(given, (-1, count, channels, features)), axis=1)

        def call(self, chosen, training=False):
            plate = ops.take(self.plate, chosen, axis=0)
            # Absent channels are black in the store, which must not pass for a measurement.
            there = ops.take(self.present, chosen, axis=0)
            seen = ops.einsum("bsf,bcs->bcf", self.seen(chosen, training), there)
            seen = ops.reshape(seen, (-1, everywhere * features))
            centre = ops.take(self.centre, plate, axis=0)
            there = ops.repeat(ops.sum(there, axis=-1), features, axis=1)
            seen = there * (seen - centre) / ops.take(self.spread, plate, axis=0)
            x = ops.concatenate([ops.take(self.beside, chosen, axis=0), seen], axis=1)
            if self.sphering:
                mean, axes, gains, outside = self.sphering
                x = x - mean
                x = x * outside + ops.matmul(ops.matmul(x, ops.transpose(axes)) * gains, axes)
            x = ops.concatenate([x, ops.take(self.panel, chosen, axis=0)], axis=1)
            x = (x - self.mean) / self.scale
            for number, layer in enumerate(self.dense):
                x = self.dropout(self.hidden(x), training=training) if number else x
                x = layer(x)
            return x

    model = FineTuned()
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True,
                                                  label_smoothing=head.label_smoothing))
    model.optimizer.build(model.trainable_variables)
    # Copies: what a backend hands out may be the variable's own memory.
    model.began = [np.array(ops.convert_to_numpy(variable.value))
                   for variable in grey.variables]
    return model


def restart(model: Any, start: FittedHeads, settings: FineTune, seed: int) -> None:
    """The backbone as it came, the head as it was trained on frozen features, a fresh optimiser.

    Parameters
    ----------
    model : keras.Model
        From `build_network`.
    start : FittedHeads
        One head.
    settings : FineTune
    seed : int
        Of dropout and augmentation.
    """
    for variable, value in zip(model.grey.variables, model.began, strict=True):
        variable.assign(value)
    model.mean.assign(start.mean[0])
    model.scale.assign(start.scale[0])
    for layer, kernel, bias in zip(model.dense, start.kernels, start.biases, strict=True):
        layer.kernel.assign(kernel[0])
        layer.bias.assign(bias[0])
    for number, noise in enumerate(model.noises):
        noise.state.assign(np.array([seed, number], "uint32"))
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))
    model.optimizer.learning_rate = settings.learning_rate


def train_network(model: Any, label: np.ndarray, weights: np.ndarray, classes: int,
                  settings: FineTune, seed: int) -> list[float]:
    """Train from where the model stands.

    Parameters
    ----------
    model : keras.Model
    label : ndarray, int, [n]
    weights : ndarray, float, [n]
        How much a site counts in the loss; one of weight 0 is never shown.
    classes : int
    settings : FineTune
    seed : int
        Of the order of sites.

    Returns
    -------
    list of float
        Mean loss of each epoch.
    """
    rows = np.flatnonzero(weights > 0)
    mean = weights[rows].mean()
    batch = min(settings.batch_size, len(rows))
    steps = -(-len(rows) // batch)
    generator = np.random.default_rng(seed)
    order = np.zeros(0, int)
    losses = []
    for _ in range(settings.epochs):
        # Whole batches only, or the step would be compiled once more: what is left of an order
        # begins the next epoch.
        while len(order) < steps * batch:
            order = np.append(order, generator.permutation(rows))
        now, order = order[: steps * batch], order[steps * batch :]
        ended = model.fit(now.astype(np.int32), np.eye(classes, dtype=np.float32)[label[now]],
                          sample_weight=(weights[now] / mean).astype(np.float32),
                          batch_size=batch, shuffle=False, verbose=0)
        losses.append(float(ended.history["loss"][-1]))
    return losses


def predict_sites(model: Any, rows: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits of sites.

    Parameters
    ----------
    model : keras.Model
    rows : ndarray, int, [m]
        Numbers of sites.
    batch_size : int

    Returns
    -------
    ndarray, float32, [m, classes]
    """
    padded = np.resize(rows, -(-len(rows) // batch_size) * batch_size).astype(np.int32)
    return model.predict(padded, batch_size=batch_size, verbose=0)[: len(rows)]

