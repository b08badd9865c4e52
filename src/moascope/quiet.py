"""Keep libraries' start-up chatter from the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType


def import_keras() -> ModuleType:
    """Import Keras and wake its backend without the lines that TensorFlow prints on the way.

    They come from C++ and go to the process's standard error, where no Python setting reaches
    them; if the import fails, they are shown, because then they matter.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Retracing is expected: every shape of head is traced once.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with _held_back_stderr():
        import keras

        # The first operation makes the backend look for devices, and talk about it.
        keras.ops.zeros(1)
    return keras


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        # Something other than a file replaces stderr (a notebook, a test): nothing to hold.
        yield
        return
    sys.stderr.flush()
    kept = os.dup(descriptor)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), descriptor)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(kept, descriptor)
            os.close(kept)
            if failed:
                held.seek(0)
                os.write(descriptor, held.read())
