"""Files behind addresses: an S3 server that misbehaves, and what is said about it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from public_server import PublicServer

from moascope.addresses import stores
from moascope.addresses.names import path_of_file_url, shown, unreadable
from moascope.addresses.stores import TooLarge, Unavailable, fetch, version_of

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def address(bucket):
    return bucket.put("plates/P 1/a+%20.tif", CONTENT)


def test_a_file_is_fetched_without_keys_and_with_its_version(bucket, address, tmp_path):
    version, total = fetch(address, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert total == hashlib.sha256(CONTENT).hexdigest()
    assert version.bytes == len(CONTENT)
    assert version.tag == hashlib.md5(CONTENT).hexdigest()
    assert version_of(address) == version


@pytest.mark.parametrize("fault", ["slow down", "internal", "cut 300", "garble"])
def test_a_passing_error_is_tried_again(bucket, address, tmp_path, fault):
    bucket.faults["GET plates/P 1/a+%20.tif"] = [fault, fault]
    fetch(address, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(bucket.asked()) == 3


def test_an_error_that_does_not_pass_is_told_after_all_attempts(bucket, address, tmp_path):
    bucket.always["*"] = "slow down"
    with pytest.raises(Unavailable, match=r"6 attempts failed, the last one because of status 503"):
        fetch(address, tmp_path / "a")
    assert len(bucket.requests) == 6


def test_a_missing_object_is_missing_at_once(bucket, tmp_path):
    with pytest.raises(FileNotFoundError):
        fetch("s3://gallery/plates/none.tif", tmp_path / "a")
    assert bucket.asked("HEAD") == ["plates/none.tif"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize(("fault", "said"), [
    ("skewed", "clock is wrong"), ("wrong key", "refuses anonymous access"),
    ("denied", "refuses anonymous access")])
def test_a_lasting_refusal_is_one_sentence_at_once(bucket, address, tmp_path, method, fault, said):
    bucket.always[f"{method} plates/P 1/a+%20.tif"] = fault
    with pytest.raises(Unavailable, match=said):
        fetch(address, tmp_path / "a")
    assert len(bucket.asked(method)) == 1


def test_wrong_keys_are_refused_without_being_shown(bucket, address, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAQQQQQQQQQQQQQQQQ")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-very-secret-key")
    bucket.always["*"] = "wrong key"
    with pytest.raises(Unavailable, match="refuses the keys of this machine") as caught:
        fetch(address, tmp_path / "a")
    assert "AKIA" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


def test_an_object_that_changes_while_it_is_sent_is_fetched_again(bucket, address, tmp_path,
                                                                  monkeypatch):
    ask = stores._ask
    newer = [CONTENT[::-1]]

    def then_change(asked):
        version = ask(asked)
        if newer:
            bucket.put("plates/P 1/a+%20.tif", newer.pop())
        return version

    monkeypatch.setattr(stores, "_ask", then_change)
    version, _ = fetch(address, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]
    assert version.tag == hashlib.md5(CONTENT[::-1]).hexdigest()


@pytest.mark.parametrize("encryption", ["aws:kms", "AES256"])
def test_the_tag_of_an_object_under_a_key_of_its_owner_is_not_an_md5(
        bucket, tmp_path, monkeypatch, encryption):
    address = bucket.put("plates/secret.tif", CONTENT, ServerSideEncryption=encryption)
    other = hashlib.md5(b"what S3 makes of ciphertext").hexdigest()
    ask = stores._ask
    monkeypatch.setattr(stores, "_ask", lambda asked: replace(ask(asked), tag=other, md5=other))
    if encryption == "AES256":
        with pytest.raises(Unavailable, match="not what the store announced"):
            fetch(address, tmp_path / "a")
    else:
        version, total = fetch(address, tmp_path / "a")
        assert version.tag == other and total == hashlib.sha256(CONTENT).hexdigest()


def test_a_file_that_is_too_large_is_not_fetched(bucket, address, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "MOST_BYTES", 1000)
    with pytest.raises(TooLarge, match="larger than"):
        fetch(address, tmp_path / "a")
    assert not bucket.asked()


def test_a_store_without_its_package_says_what_to_install(bucket, address, tmp_path, monkeypatch):
    import fsspec

    def missing(*_, **__):
        raise ImportError("s3fs")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(Unavailable, match=r"pip install 'moascope\[s3\]'"):
        fetch(address, tmp_path / "a")


# Over HTTP


def test_a_web_server_is_read_and_its_errors_told(bucket, tmp_path):
    with PublicServer({"/a%20b.tif": CONTENT, "/c.tif": CONTENT}) as server:
        url = server.url + "/a%20b.tif"
        server.faults["/a%20b.tif"] = ["status 503", "truncate 100"]
        version, total = fetch(url, tmp_path / "a")
        assert total == hashlib.sha256(CONTENT).hexdigest()
        assert version.bytes == len(CONTENT)
        with pytest.raises(FileNotFoundError):
            fetch(server.url + "/none.tif", tmp_path / "b")
        server.always["/c.tif"] = "redirect http://example.org/c.tif"
        with pytest.raises(Unavailable, match=r"redirects to http://example.org/c.tif, which is "
                                              "not protected"):
            fetch(server.url + "/c.tif", tmp_path / "c")


# Names


@pytest.mark.parametrize(("address", "said"), [
    ("ftp://host/a.tif", "scheme"), ("http://host/a.tif", "not protected"), ("s3://bucket", "names "
     "no file"), ("https://user:secret@host/a.tif", "login"), ("https://[::1/a.tif", "not a valid"),
    ("https://host/a.tif?X-Amz-Signature=abcdef", "signature"), ("http://[::1]:8/a.tif", ""),
    ("s3://bucket/a.tif", ""), ("gs://bucket/a.tif", ""), ("https://host/a.tif?plate=1", "")])
def test_addresses_are_judged_before_anything_is_asked(address, said):
    assert said in unreadable(address)
    assert bool(said) == bool(unreadable(address))
    assert "secret" not in shown(address)


@pytest.mark.parametrize(("url", "path"), [
    ("file:///data/P%201/a.tif", "/data/P 1/a.tif"), ("file:/data/a.tif", "/data/a.tif"),
    ("file://localhost/data/a.tif", "/data/a.tif"), ("file:///D:/a.tif", "D:/a.tif"),
    ("file://server/share/a.tif", "//server/share/a.tif"), ("a%20b.tif", "a%20b.tif")])
def test_a_file_url_is_a_path(url, path):
    assert path_of_file_url(url) == path
