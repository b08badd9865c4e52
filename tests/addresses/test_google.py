"""Files at gs://, against a server with Google Cloud Storage's JSON API."""

from __future__ import annotations

import hashlib

import pytest
from google_store import google_store

from moascope.addresses.cache import current_sum, open_copy
from moascope.addresses.folders import list_folder
from moascope.addresses.stores import Unavailable, fetch, version_of

pytest.importorskip("gcsfs", reason="gs:// needs the extra gcs")
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def store(monkeypatch, tmp_path):
    with google_store() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("MOASCOPE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setattr("moascope.addresses.stores.FIRST_WAIT", 0.01)
        server.files["plates/P 1/a.tif"] = CONTENT
        yield server


def test_a_file_is_fetched_without_keys_and_with_its_version(store, tmp_path):
    version, total = fetch("gs://plates/P 1/a.tif", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert total == hashlib.sha256(CONTENT).hexdigest()
    assert version.md5 == hashlib.md5(CONTENT).hexdigest()
    assert version.bytes == len(CONTENT)
    assert version_of("gs://plates/P 1/a.tif") == version


def test_a_busy_server_is_asked_again(store, tmp_path):
    store.faults["P 1/a.tif"] = [503]
    fetch("gs://plates/P 1/a.tif", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert store.faults["P 1/a.tif"] == []


def test_a_missing_file_is_missing_and_a_refusal_is_a_sentence(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        version_of("gs://plates/none.tif")
    store.faults["P 1/a.tif"] = [403] * 20
    with pytest.raises(Unavailable, match="refuses access"):
        fetch("gs://plates/P 1/a.tif", tmp_path / "a")


def test_a_folder_lists_its_files_and_folders(store):
    store.files["plates/P 1/sub/b.tif"] = b"bb"
    found = list_folder("gs://plates/P 1")
    assert found["sub"] is None
    assert found["a.tif"] == version_of("gs://plates/P 1/a.tif")
    assert len(found) == 2
    assert list_folder("gs://plates/nothing") == {}


def test_a_second_look_downloads_nothing(store):
    first = current_sum("gs://plates/P 1/a.tif")
    with open_copy("gs://plates/P 1/a.tif") as file:
        assert file.read() == CONTENT
    assert current_sum("gs://plates/P 1/a.tif") == first
    assert store.requests.count("download P 1/a.tif") == 1
