"""Local copies of files behind addresses."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from moascope.addresses.cache import cache_folder, current_sum, known_sums, open_copy
from moascope.errors import MoascopeError


def read(address):
    with open_copy(address) as file:
        return file.read()


def copies():
    return [path for path in cache_folder().rglob("*") if path.is_file()
            and "sqlite" not in path.name]


def test_a_file_is_fetched_once(bucket):
    address = bucket.put("a.tif", b"one")
    assert read(address) == read(address) == b"one"
    assert bucket.asked() == ["a.tif"]


def test_a_known_version_is_not_fetched_again_even_without_its_copy(bucket):
    address = bucket.put("a.tif", b"one")
    first = current_sum(address)
    copies()[0].unlink()
    assert current_sum(address) == first
    assert bucket.asked() == ["a.tif"]


def test_a_changed_object_is_fetched_again(bucket):
    address = bucket.put("a.tif", b"one")
    first = current_sum(address)
    bucket.put("a.tif", b"two")
    assert current_sum(address).sha256 != first.sha256
    assert read(address) == b"two"
    assert bucket.asked() == ["a.tif"] * 2


def test_a_copy_that_was_cut_short_is_made_anew(bucket):
    address = bucket.put("a.tif", b"one")
    read(address)
    copies()[0].write_bytes(b"o")
    assert read(address) == b"one"


def test_the_copies_stay_below_their_limit_and_the_least_used_go_first(bucket, monkeypatch):
    monkeypatch.setenv("MOASCOPE_CACHE_GB", str(2500 / 1e9))
    a, b, c = (bucket.put(f"{name}.tif", name.encode() * 1000) for name in "abc")
    for address in (a, b, a, c):
        read(address)
    assert sum(path.stat().st_size for path in copies()) == 2000
    bucket.forget()
    read(a)
    assert bucket.asked() == []
    read(b)
    assert bucket.asked() == ["b.tif"]


def test_a_fetch_that_fails_leaves_nothing_behind(bucket):
    with pytest.raises(FileNotFoundError):
        read("s3://gallery/none.tif")
    assert copies() == []


def test_what_killed_fetches_left_is_removed_a_day_later(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("MOASCOPE_CACHE", str(tmp_path / "cache"))
    old, new, array = (tmp_path / "cache" / f".unfinished-{name}" for name in ("a", "b", "c"))
    array.mkdir(parents=True)
    for path in (old, new, array / "chunk"):
        path.write_bytes(b"cut")
    for path in (old, array):
        os.utime(path, (time.time() - 90_000,) * 2)
    read(bucket.put("a.tif", b"one"))
    left = [path.name for path in (tmp_path / "cache").glob(".unfinished-*")]
    assert left == [new.name]


def test_readers_that_begin_together_make_one_list_of_copies(tmp_path, monkeypatch):
    """SQLite does not wait for another that turns a new database into one with a journal ahead."""
    for number in range(30):
        monkeypatch.setenv("MOASCOPE_CACHE", str(tmp_path / str(number)))
        gate = Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(together, [gate] * 8)) == [{}] * 8


def together(gate):
    gate.wait()
    return known_sums()


def test_many_readers_share_a_small_cache(bucket, monkeypatch):
    monkeypatch.setenv("MOASCOPE_CACHE_GB", str(2500 / 1e9))
    addresses = [bucket.put(f"{name}.tif", name.encode() * 1000) for name in "abcdef"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, addresses * 3))
    assert found == [name.encode() * 1000 for name in "abcdef"] * 3


@pytest.mark.parametrize("limit", ["none", "0", "-1", "nan"])
def test_a_limit_that_is_none_is_told(bucket, monkeypatch, limit):
    monkeypatch.setenv("MOASCOPE_CACHE_GB", limit)
    with pytest.raises(MoascopeError, match="not a number of gigabytes"):
        read(bucket.put("a.tif", b"one"))
