"""Training the classification heads: many small networks as one.

Cross-validation trains the same network on many subsets of the same rows. Here all of them are
one model whose weights have a leading axis, one slice per subset, and a weight of zero hides a row
from a slice. One compiled training step serves all folds, and a second model of the same shape
needs no new tracing, because learning rate, dropout and L2 are variables.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from moascope.features.disk import OnDisk, pieces, rows_of
from moascope.learning.head import FittedHeads
from moascope.params import Head
from moascope.quiet import import_keras

ROWS_PADDED_TO = 64
MOST_HELD = 2**27
"""Bytes of rows that a compiled model may hold; of more it is given those of each step. Dozens of
models stay compiled, and each holds its rows."""

STEPS_A_CALL = 8
LEAST_STEPS_AN_EPOCH = 8


def train_heads(
    features: Any,
    labels: np.ndarray,
    weights: np.ndarray,
    classes: int,
    head: Head,
    batch_size: int = 256,
    seed: int = 0,
    watch_every: int = 0,
) -> Iterator[FittedHeads]:
    """Train K heads at once, with a stop every few epochs to look at them.

    Parameters
    ----------
    features : ndarray or OnDisk, float32, [n, d]
    labels : ndarray, int, [n] or [K, n]
        Class of each row; per head where labels differ between heads (permuted labels).
    weights : ndarray, float32, [K, n]
        How much a row counts for a head; 0 hides it. Every head must see a row.
    classes : int
    head : Head
    batch_size : int
        Rows per step; fewer where an epoch would have fewer than eight steps.
    seed : int
        Of initial weights, dropout and the order of rows.
    watch_every : int
        Epochs between two stops; 0: the end is the only one.

    Yields
    ------
    FittedHeads
        The heads as they are after `epochs[-1]` epochs; the last one is after `head.epochs`.
        Whoever asks for no more of them (a pruned trial) saves the rest of the training, and
        several trainings may take turns.

    Notes
    -----
    Adam [1]_ on the weighted softmax cross-entropy of each head. Adam is elementwise and every
    slice has its own loss, so K heads together equal K separate trainings on the same batches up
    to rounding.

    .. [1] Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """
    count = len(weights)
    weights = np.asarray(weights, np.float32)
    used = weights.any(axis=0)
    features = rows_of(features, used)
    labels, weights = labels[..., used], weights[:, used]
    rows = features.shape[0]
    held = not isinstance(features, OnDisk) and 4 * features.size <= MOST_HELD
    totals = weights.sum(axis=1, keepdims=True)
    if not (totals > 0).all():
        raise ValueError("every head needs a row with a positive weight")
    mean, scale = _standardisation(features, weights, totals)

    targets = np.eye(classes, dtype=np.float32)[labels]
    targets = targets[:, None] if targets.ndim == 2 else targets.transpose(1, 0, 2)
    targets = targets * (1 - head.label_smoothing) + head.label_smoothing / classes

    # Adam moves every weight by about the learning rate a step, whatever the gradient's size: a
    # small screen needs its steps more than its batches.
    batch = min(batch_size, -(-rows // LEAST_STEPS_AN_EPOCH))
    stops = _stops(head.epochs, watch_every)
    model = _compiled_model(
        # Padding to a common size lets panels of nearly one size share a compiled model.
        -(-rows // ROWS_PADDED_TO) * ROWS_PADDED_TO, features.shape[1], count, classes,
        # Without a hidden layer there is neither a width nor an activation to tell models apart.
        targets.shape[1], head.layers, head.width if head.layers else 0,
        head.activation if head.layers else "linear", held,
    )

    # Rows go in standardised for the first head: what differs for the others is then a small
    # correction.
    def standardised(rows: np.ndarray) -> np.ndarray:
        return (rows.astype(np.float32, copy=False) - mean[0]) / scale[0]

    # The mean weight of a head's rows is one, as if it were trained by itself.
    given = (standardised(features) if held else None, targets, (weights * (rows / totals)).T,
             (mean - mean[0]) / scale[0], scale / scale[0], head, seed)
    model.restart(*given)
    model.turn = turn = object()
    generator = np.random.default_rng(seed)
    history: list[float] = []
    order = np.zeros(0, np.int32)
    done = 0
    for stop in stops:
        # A compiled call makes STEPS_A_CALL steps; whole calls only, or Keras would trace anew.
        steps = max(1, round(stop * rows / batch / STEPS_A_CALL)) * STEPS_A_CALL - done
        if steps:
            while len(order) < steps * batch:
                order = np.append(order, generator.permutation(rows).astype(np.int32))
            own = order[: steps * batch]
            ended = model.fit(**(_fed(own, batch) if held else {
                "x": _read(own, batch, lambda chosen: standardised(features[chosen]))}),
                              shuffle=False, verbose=0)
            order = order[steps * batch:]
            done += steps
        history.append(float(ended.history["loss"][-1]) / count)
        state = model.state() if stop < head.epochs else None
        yield _collect(model, head, mean, scale, stops, history)
        if state and model.turn is not turn:
            # Another training of this shape had the compiled model in the meantime.
            model.restart(*given)
            model.resume(state)
            model.turn = turn



def _fed(order: np.ndarray, batch: int) -> dict[str, Any]:
    """Arguments of Keras's `fit` that make batches of these numbers of rows."""
    if import_keras().backend.backend() != "tensorflow":
        return {"x": order, "batch_size": batch}
    import tensorflow as tf

    # There is nothing to tune in it, and tf.data's tuner sleeps a quarter of a second before it
    # ends, at every stop.
    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": tf.data.Dataset.from_tensor_slices(order).batch(batch).with_options(options)}



def _read(order: np.ndarray, batch: int, rows: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Batches of the numbers of rows, and the rows themselves."""
    class Batches(import_keras().utils.PyDataset):
        def __len__(self):
            return len(order) // batch

        def __getitem__(self, number):
            chosen = order[number * batch : (number + 1) * batch]
            return ((chosen, rows(chosen)),)

    return Batches()



def _sum_of_squares(kernel: Any) -> tuple[Any, Callable[..., Any]]:
    """A sum, and its gradient in one pass over what is the largest array there is.

    As derived by a backend it takes four.
    """
    from keras import ops

    def gradient(*given, upstream=None):
        # TensorFlow and JAX give what comes from above alone; PyTorch names it, after the input.
        upstream = given[0] if upstream is None else upstream
        return (2 * upstream) * kernel

    return ops.sum(ops.square(kernel)), gradient



def _stops(epochs: int, watch_every: int) -> list[int]:
    """Epochs after which the loss is recorded, and a watcher is called."""
    every = watch_every or epochs
    return sorted({*range(every, epochs + 1, every), epochs})



def _collect(model: Any, head: Head, mean: np.ndarray, scale: np.ndarray, stops: list[int],
             history: list[float]) -> FittedHeads:
    kernels, biases = model.slices()
    return FittedHeads(head, mean, scale, kernels, biases,
                       np.asarray(stops[: len(history)], np.int32),
                       np.asarray(history, np.float32))



def _standardisation(
    features: Any, weights: np.ndarray, totals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    share = weights / totals
    # Centred first: the difference of two large squares has no digits left in single precision.
    center: Any = sum(len(piece) / len(features) * piece.mean(axis=0)
                      for _, piece in pieces(features))
    mean: Any = 0
    square: Any = 0
    for at, piece in pieces(features):
        centred = piece - center
        mean = mean + share[:, at] @ centred
        square = square + share[:, at] @ np.square(centred)
    variance = square - np.square(mean)
    # A feature without spread in training carries nothing; a scale of one keeps it harmless.
    scale = np.sqrt(np.maximum(variance, 0))
    scale = np.where(scale > 1e-6 * (1 + np.abs(center)), scale, 1)
    return (mean + center).astype(np.float32), scale.astype(np.float32)



@functools.lru_cache(maxsize=32)
def _compiled_model(rows: int, inputs: int, count: int, classes: int, labellings: int,
                    layers: int, width: int, activation: str, held: bool) -> Any:
    """A compiled Keras model of `count` stacked networks; cached by shape: it is traced once.

    Where they are held, the rows live in the model's variables, on the device, and what is fed to
    it is their numbers; else the rows of a step are fed with their numbers.
    """
    keras = import_keras()
    from keras import ops

    sizes = [inputs, *[width] * layers, classes]

    square_sum = ops.custom_gradient(_sum_of_squares)

    class Heads(keras.Model):
        def __init__(self):
            super().__init__(name="heads")
            self.noise = keras.random.SeedGenerator(0)
            constant = {"trainable": False, "initializer": "zeros"}
            self.rows = self.add_weight(shape=(rows if held else 0, inputs), name="rows",
                                        **constant)
            self.centers = self.add_weight(shape=(count, inputs), name="centers", **constant)
            self.targets = self.add_weight(shape=(rows, labellings, classes), name="targets",
                                           **constant)
            self.weighting = self.add_weight(shape=(rows, count), name="weighting", **constant)
            self.narrowing = self.add_weight(shape=(inputs, count, 1), name="narrowing",
                                             **constant)
            self.dropout = self.add_weight(shape=(), name="dropout", **constant)
            self.l2 = self.add_weight(shape=(), name="l2", **constant)
            # The first kernel is by far the largest. As one matrix for all heads it goes into one
            # product, and no step has to turn it round.
            self.kernels = [
                self.add_weight(shape=(count, a, b) if i else (a, count, b), initializer="zeros",
                                name=f"kernel_{i}")
                for i, (a, b) in enumerate(itertools.pairwise(sizes))
            ]
            self.biases = [
                self.add_weight(shape=(count, b), initializer="zeros", name=f"bias_{i}")
                for i, b in enumerate(sizes[1:])
            ]
            self.activation = keras.activations.get(activation)
            self.turn: object = None

        def call(self, fed, training=False):
            chosen, given = (fed, ops.take(self.rows, fed, axis=0)) if held else fed
            # Standardisation goes into the first layer: K copies of the rows are not needed. A
            # centre is taken off where it has gone through the same product as the rows.
            flat = ops.reshape(self.kernels[0] * self.narrowing, (inputs, -1))
            product = ops.matmul(given, flat)
            own = ops.reshape(ops.matmul(self.centers, flat), (count, count, sizes[1]))
            shift = ops.sum(own * ops.eye(count)[:, :, None], axis=0)
            hidden = ops.reshape(product, (-1, count, sizes[1])) + (self.biases[0] - shift)
            for kernel, bias in zip(self.kernels[1:], self.biases[1:], strict=True):
                hidden = self.activation(hidden)
                if training:
                    # One noise for all heads: a tenth of the numbers to draw for ten of them, and
                    # each head drops what it would drop by itself.
                    drawn = keras.random.uniform((ops.shape(chosen)[0], 1, width), seed=self.noise)
                    kept = ops.cast(drawn >= self.dropout, hidden.dtype)
                    hidden = hidden * (kept / (1 - self.dropout))
                hidden = ops.einsum("bki,kio->bko", hidden, kernel) + bias
            entropy = -ops.sum(
                ops.take(self.targets, chosen, axis=0) * ops.log_softmax(hidden), axis=-1
            )
            weighted = entropy * ops.take(self.weighting, chosen, axis=0)
            penalty = sum(square_sum(ops.convert_to_tensor(kernel))
                          for kernel in self.kernels)
            # A sum over heads, so that each head's gradient is that of a training by itself.
            self.add_loss(ops.sum(ops.mean(weighted, axis=0)) + self.l2 * penalty)
            return hidden

        def restart(self, features, targets, weights, mean, scale, head, seed):
            """New rows, fresh weights and optimiser, and the hyperparameters of a training."""
            for variable, values in ((self.rows, features), (self.targets, targets),
                                     (self.weighting, weights)):
                if values is None:
                    continue
                padded = np.zeros(variable.shape, np.float32)
                padded[: len(values)] = values
                variable.assign(padded)
            self.centers.assign(mean)
            self.narrowing.assign(1 / scale.T[:, :, None])
            self.dropout.assign(head.dropout)
            self.l2.assign(head.l2)
            generator = np.random.default_rng(seed)
            for number, (a, b) in enumerate(itertools.pairwise(sizes[:-1])):
                # Glorot's uniform range; every head starts from the same weights, so that heads
                # differ by what they are shown alone.
                limit = np.sqrt(6 / (a + b))
                start = generator.uniform(-limit, limit, (a, b)).astype(np.float32)
                kernel = self.kernels[number]
                kernel.assign(np.broadcast_to(start if number else start[:, None], kernel.shape))
            # From zero, because with more features than rows what is random at the start would
            # stay: no row says anything about it.
            self.kernels[-1].assign(np.zeros(self.kernels[-1].shape, np.float32))
            for bias in self.biases:
                bias.assign(np.zeros(bias.shape, np.float32))
            # The seed generator's state is a variable like any other: without this, a second
            # training would draw another dropout noise than the first.
            self.noise.state.assign(np.array([seed, 0]))
            for variable in self.optimizer.variables:
                variable.assign(np.zeros(variable.shape))
            self.optimizer.learning_rate = head.learning_rate

        def state(self):
            """All that a training has changed so far."""
            return [ops.convert_to_numpy(variable) for variable in self._changing()]

        def resume(self, state):
            """Go on from a `state` of the training that `restart` was called for."""
            for variable, value in zip(self._changing(), state, strict=True):
                variable.assign(value)

        def _changing(self):
            return [*self.kernels, *self.biases, self.noise.state, *self.optimizer.variables]

        def slices(self):
            first, *later = [np.asarray(ops.convert_to_numpy(kernel)) for kernel in self.kernels]
            return ([np.ascontiguousarray(first.transpose(1, 0, 2)), *later],
                    [ops.convert_to_numpy(bias) for bias in self.biases])

    model = Heads()
    # Keras takes one step per call where PyTorch is its backend.
    steps = 1 if keras.backend.backend() == "torch" else STEPS_A_CALL
    model.compile(optimizer=keras.optimizers.Adam(1e-3), steps_per_execution=steps)
    model.optimizer.build(model.trainable_variables)
    return model

