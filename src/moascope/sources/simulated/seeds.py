"""Random streams that depend on their purpose, not on the order in which they are used."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """The random generator that belongs to `key` in the screen of `seed`.

    Every plate, well and field draws from a stream of its own, so that the order in which
    processes finish cannot change a byte.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *words])))
