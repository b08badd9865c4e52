"""Gradient times input, for comparison: exact gradients from a logit back to the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from moascope.explanation.ablation import first_layer
from moascope.explanation.sight import Crop, Sight
from moascope.explanation.squares import SIDE
from moascope.features.backbones import PACKAGED, load_own
from moascope.features.inference import on_grey_planes
from moascope.learning.head import FittedHeads, predict_logits

STEP = 1e-3
BACKBONE = "cellmobile"


def open_twin(crop: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The packaged backbone backwards, through the Keras network that it was converted from.

    Returns
    -------
    callable
        Planes [n, crop, crop] and weights of features [n, f] -> the gradient of the weighted sum
        by pixels, float32, [n, crop, crop].
    """
    twin = on_grey_planes(load_own(PACKAGED[BACKBONE]), None, crop)
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def backwards(pixels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            total = tf.reduce_sum(twin(pixels, training=False) * weights)
        return tape.gradient(total, pixels)

    return lambda planes, weights: backwards(
        tf.constant(planes[..., None], tf.float32), tf.constant(weights, tf.float32)
    ).numpy()[..., 0]


def light_values(sight: Sight, crop: Crop, meant: int,
                 twin: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Gradient times input, summed over squares, float64 [C, SIDE, SIDE].

    The head is one of a model with a head per panel.
    """
    model, network = sight.model, sight.networks[0]
    heads = model.heads[sight.sites.panel[crop.row]]
    features, scale = sight.raw[crop.row].astype(float), np.float64(1)
    if len(sight.centre):
        plate = sight.plate[crop.row]
        scale = sight.spread[plate]
        features = (features - sight.centre[plate]) / scale
    contrast = np.full(len(model.question.classes), -1 / (len(model.question.classes) - 1))
    contrast[meant] = 1
    slopes = head_gradient(heads, model.sphering, np.nan_to_num(features), contrast) / scale
    at = {name: number for number, name in enumerate(model.names)}
    upward = np.stack([slopes[[at[f"{network.label}_{channel}_{name}"] for name in network.names]]
                       for channel in crop.channels]) / crop.count
    light = twin(crop.planes, upward).astype(float) * crop.planes
    side = light.shape[-1] // SIDE
    return light.reshape(len(light), SIDE, side, SIDE, side).sum(axis=(2, 4))


def head_gradient(heads: FittedHeads, sphering: Any, features: np.ndarray,
                  contrast: np.ndarray) -> np.ndarray:
    """The gradient of a contrast of logits by normalised, not yet sphered features."""
    kernel, centre, shift, _ = first_layer(heads, 0, sphering, len(features))
    hidden = [((features - centre) @ kernel + shift).astype(float)]
    for weights, bias in zip(heads.kernels[1:], heads.biases[1:], strict=True):
        hidden.append(activated(heads, hidden[-1]) @ weights[0] + bias[0])
    upstream = contrast.astype(float)
    for before, weights in zip(hidden[-2::-1], heads.kernels[:0:-1], strict=True):
        slope = (activated(heads, before + STEP) - activated(heads, before - STEP)) / (2 * STEP)
        upstream = (weights[0] @ upstream) * slope
    return kernel @ upstream


def activated(heads: FittedHeads, hidden: np.ndarray) -> np.ndarray:
    """What a head's activation makes of units: it passes them on between two layers that do not."""
    width = len(hidden)
    none, one = np.zeros((1, width), np.float32), np.ones((1, width), np.float32)
    through = np.eye(width, dtype=np.float32)[None]
    return predict_logits(replace(heads, mean=none, scale=one, kernels=[through, through],
                                  biases=[none, none]), hidden[None])[0, 0].astype(float)
