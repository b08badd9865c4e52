"""What every picture that a network learns from may look like as well."""

from __future__ import annotations

from typing import Any

from moascope.quiet import import_keras


def augmentation(gain: float) -> Any:
    """A layer that mirrors, turns and brightens pictures while a network is trained, and only then.

    Parameters
    ----------
    gain : float
        Each channel of each picture is multiplied by a number from 1 - gain to 1 + gain.

    Returns
    -------
    keras.layers.Layer
        [n, side, side, channels] -> the same shape, as floats.

    Notes
    -----
    Two mirrorings and a transposition, each by the toss of a coin, make all eight symmetries of the
    square equally likely, the quarter turns among them.
    """
    keras = import_keras()
    from keras import ops

    class Augmentation(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="augmentation")
            self.noise = keras.random.SeedGenerator(0)

        def call(self, pictures, training=False):
            if not training:
                return pictures
            pictures = ops.cast(pictures, "float32")
            count, channels = ops.shape(pictures)[0], pictures.shape[-1]

            def drawn(width, low, high):
                return keras.random.uniform((count, 1, 1, width), low, high, seed=self.noise)

            for changed in (lambda x: ops.flip(x, 1), lambda x: ops.flip(x, 2),
                            lambda x: ops.transpose(x, (0, 2, 1, 3))):
                pictures = ops.where(drawn(1, 0.0, 1.0) < 0.5, changed(pictures), pictures)
            return pictures * drawn(channels, 1 - gain, 1 + gain)

    return Augmentation()
