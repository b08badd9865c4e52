"""The classification heads: many small networks with a leading axis, one slice per head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moascope.features.disk import pieces, rows_of
from moascope.params import Head
from moascope.quiet import import_keras


@dataclass(frozen=True)
class FittedHeads:
    """Weights of K trained heads, and how they came to be.

    Attributes
    ----------
    head : Head
        The hyperparameters all K share.
    mean, scale : ndarray, float32, [K, d]
        Standardisation of the inputs, from the training rows of each head.
    kernels : list of ndarray, float32, [K, inputs, outputs]
        One for each layer, the last has one output a class.
    biases : list of ndarray, float32, [K, outputs]
    epochs : ndarray, int32, [stops]
        Epochs at which the loss was noted.
    loss : ndarray, float32, [stops]
        Mean over the K heads of the weighted training loss (cross-entropy plus L2) since the stop
        before.
    """

    head: Head
    mean: np.ndarray
    scale: np.ndarray
    kernels: list[np.ndarray]
    biases: list[np.ndarray]
    epochs: np.ndarray
    loss: np.ndarray

    @property
    def count(self) -> int:
        """K."""
        return len(self.mean)


def predict_logits(
    heads: FittedHeads, features: Any, wanted: np.ndarray | None = None
) -> np.ndarray:
    """Logits of every head for every row.

    Parameters
    ----------
    heads : FittedHeads
    features : ndarray or OnDisk, float32, [n, d]
    wanted : ndarray, bool, [K, n], optional
        Which head predicts which row; every head every row, if None.

    Returns
    -------
    ndarray, float32, [K, n, classes]
        0 where a row is not wanted of a head.
    """
    # Folding the standardisation into the first layer avoids K copies of the features.
    center = heads.mean[0]
    first = heads.kernels[0] / heads.scale[:, :, None]
    shift = heads.biases[0] - np.einsum("kd,kdo->ko", heads.mean - center, first)
    logits = np.zeros((len(first), len(features), heads.biases[-1].shape[-1]), np.float32)
    if wanted is None:
        wanted = np.ones((len(first), 1), bool)
        lead, code = [0], np.zeros(len(features), int)
    else:
        # Rows that are wanted of the same heads go through them together.
        _, lead, code = np.unique(np.packbits(wanted, axis=0), axis=1, return_index=True,
                                  return_inverse=True)
    for number, row in enumerate(lead):
        own, rows = np.flatnonzero(wanted[:, row]), np.flatnonzero(code == number)
        if not len(own):
            continue
        flat = first[own].transpose(1, 0, 2).reshape(first.shape[1], -1)
        for at, given in pieces(rows_of(features, rows)):
            product = (given.astype(np.float32, copy=False) - center) @ flat
            hidden = product.reshape(len(given), len(own), -1).transpose(1, 0, 2) + shift[own, None]
            for kernel, bias in zip(heads.kernels[1:], heads.biases[1:], strict=True):
                hidden = (_ACTIVATIONS[heads.head.activation](hidden) @ kernel[own]
                          + bias[own, None])
            logits[np.ix_(own, rows[at])] = hidden
    return logits



def save_head(heads: FittedHeads, index: int, path: Path) -> None:
    """Write one of the K heads as an ordinary Keras model file, standardisation included.

    Parameters
    ----------
    heads : FittedHeads
    index : int
        Which of the K heads.
    path : Path
        Ends in `.keras`.
    """
    keras = import_keras()

    layers: list = [keras.Input((heads.mean.shape[1],), name="features"),
                    keras.layers.Normalization(mean=heads.mean[index],
                                               variance=heads.scale[index] ** 2)]
    for number, kernel in enumerate(heads.kernels):
        last = number == len(heads.kernels) - 1
        layers.append(keras.layers.Dense(kernel.shape[-1],
                                         name="logits" if last else f"hidden_{number}"))
        if not last:
            layers.append(keras.layers.Activation(heads.head.activation))
            layers.append(keras.layers.Dropout(heads.head.dropout))
    model = keras.Sequential(layers, name="moascope_head")
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, kernel, bias in zip(dense, heads.kernels, heads.biases, strict=True):
        layer.set_weights([kernel[index], bias[index]])
    model.save(path)



def _leaky_relu(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, 0.2 * x)



def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return (0.5 * x * (1 + erf(x / np.float32(np.sqrt(2))))).astype(np.float32)



def _silu(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return x * expit(x)



# The same functions and constants as Keras's activations of these names (tested against them).
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "silu": _silu,
    "tanh": np.tanh,
}

