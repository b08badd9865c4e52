"""Damaged and hostile inputs end in a result or a sentence: never in another error, nor in a hang.

What is read, and how it is damaged, is in tests/fuzzing.py.
"""

import contextlib
import random
import tempfile
import time
from pathlib import Path

import pytest
from fuzzing import PIXELS, READERS, SECONDS, mutate, try_many, try_one
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moascope.errors import MoascopeError
from moascope.screen.planes import read_plane


@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_seed_itself_is_read(reader):
    assert try_one(reader, None) == "result"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reader=st.sampled_from(sorted(READERS)), number=st.integers(0, 10**9))
def test_a_mutated_input_is_a_result_or_a_sentence(reader, number):
    try_one(reader, number)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_inputs_are_results_or_sentences():
    outcomes = try_many(list(READERS), 10_000 // len(READERS) + 1)
    assert outcomes.total() >= 10_000
    assert not [reader for reader, outcome in outcomes if outcome == "FINDING"]


def zarr_array(folder: Path, **options) -> None:
    import zarr

    array = zarr.create_array(folder / "a", shape=PIXELS.shape, dtype=PIXELS.dtype,
                              chunks=(16, 16), **options)
    array[:] = PIXELS


@pytest.mark.parametrize("codec", ["zstd", "blosc"])
@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 10**9))
def test_a_mutated_array_is_a_result_or_a_sentence(codec, number):
    draw = random.Random(number)
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        from numcodecs import Blosc, Zstd

        zarr_array(Path(folder), zarr_format=2,
                   compressors={"zstd": Zstd(), "blosc": Blosc()}[codec])
        file = draw.choice(sorted((Path(folder) / "a").rglob("*")))
        if file.is_file():
            file.write_bytes(mutate(file.read_bytes(), draw))
        start = time.monotonic()
        with contextlib.suppress(MoascopeError):
            read_plane(Path(folder) / "a")
        assert time.monotonic() - start < SECONDS
