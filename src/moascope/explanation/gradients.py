"""Exact gradients: from a logit back through the head, and through a backbone's twin in Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moascope.explanation.ablation import first_layer
from moascope.features.backbones import APPLICATIONS, load_imagenet, load_own
from moascope.features.inference import on_grey_planes
from moascope.features.normalise import Sphering
from moascope.learning.head import FittedHeads, predict_logits
from moascope.quiet import import_keras

STEP = 1e-3


def keras_twin(name: str, weights: Path, crop: int) -> Any:
    """The network that a backbone was converted from.

    Parameters
    ----------
    name : str
    weights : Path
        From `features.backbones.find_weights`.
    crop : int
        Side of the planes, pixels.

    Returns
    -------
    keras.Model
        float32 [n, crop, crop, 1], 0 to 255 -> [n, features], as OpenVINO computes it.
    """
    if name in APPLICATIONS:
        return on_grey_planes(load_imagenet(name, weights, crop), APPLICATIONS[name].prepare, crop)
    return on_grey_planes(load_own(weights), None, crop)


def has_gradients() -> bool:
    """Whether Keras runs on TensorFlow, which this takes derivatives with."""
    return import_keras().backend.backend() == "tensorflow"


def plane_gradients(twin: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The gradient of a weighted sum of features by pixels.

    Parameters
    ----------
    twin : keras.Model
        From `keras_twin`.

    Returns
    -------
    callable
        Planes [n, crop, crop] and weights [n, features] -> float32, [n, crop, crop].
    """
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def backwards(pixels: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            total = tf.reduce_sum(twin(pixels, training=False) * weights)
        return tape.gradient(total, pixels)

    def gradients(planes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        found = backwards(tf.constant(planes[..., None], tf.float32),
                          tf.constant(weights, tf.float32))
        return found.numpy()[..., 0]

    return gradients


def head_gradient(heads: FittedHeads, index: int, sphering: Sphering | None,
                  features: np.ndarray, panels: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """The gradient of a contrast of logits by normalised, not yet sphered features.

    Parameters
    ----------
    heads : FittedHeads
    index : int
        Which of them.
    sphering : Sphering or None
        Between the features and the head.
    features : ndarray, float, [d]
    panels : ndarray, float, [p]
        What the head is given beyond them; see `learning.panels.inputs`.
    contrast : ndarray, float, [C]
        Weight of each logit.

    Returns
    -------
    ndarray, float64, [d]
    """
    kernel, centre, shift, tail = first_layer(heads, index, sphering, len(features))
    hidden = [((features - centre) @ kernel + panels @ tail + shift).astype(float)]
    for kernel_of, bias in zip(heads.kernels[1:], heads.biases[1:], strict=True):
        hidden.append(_activated(heads, hidden[-1]) @ kernel_of[index] + bias[index])
    upstream = np.asarray(contrast, float)
    for before, kernel_of in zip(hidden[-2::-1], heads.kernels[:0:-1], strict=True):
        # Activations work on each unit alone, and have few: their slopes are differences.
        slope = (_activated(heads, before + STEP) - _activated(heads, before - STEP)) / (2 * STEP)
        upstream = (kernel_of[index] @ upstream) * slope
    return kernel @ upstream


def _activated(heads: FittedHeads, hidden: np.ndarray) -> np.ndarray:
    """What a head's activation makes of units: it passes them on between two layers that do not."""
    width = len(hidden)
    none, one = np.zeros((1, width), np.float32), np.ones((1, width), np.float32)
    through = np.eye(width, dtype=np.float32)[None]
    return predict_logits(replace(heads, mean=none, scale=one, kernels=[through, through],
                                  biases=[none, none]), hidden[None])[0, 0].astype(float)
