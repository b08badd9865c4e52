"""OME-Zarr behind addresses: chunks that are read are fetched, and no others."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from helpers import edit_csv, make_screen

from moascope.addresses.stores import Unavailable
from moascope.params import Acquire, Params, Prepare
from moascope.screen.frames import read_frames
from moascope.screen.limits import PlaneError
from moascope.screen.manifest import make_manifest, read_manifest
from moascope.screen.planes import open_plane
from moascope.screen.remote_arrays import array_sum_at, is_array_address
from moascope.screen.tables import read_screen
from moascope.stages.acquire import acquire

NOISE = np.random.default_rng(0).integers(0, 4000, (3, 64, 80), np.uint16)
KINDS = {"v2": {"zarr_format": 2}, "v3": {"zarr_format": 3},
         "shards": {"zarr_format": 3, "shards": (1, 64, 80)},
         "unpacked": {"zarr_format": 2, "compressors": None}}


def write_array(folder: Path, kind: str = "v2", values: np.ndarray = NOISE) -> Path:
    zarr.create_array(str(folder), data=values, **{"chunks": (1, 64, 40), **KINDS[kind]})
    return folder


def read(address: str, *frames: int) -> dict[int, np.ndarray]:
    with open_plane(Path(), address, frames) as file:
        return read_frames(file, address, frames)


@pytest.fixture
def stored(bucket, tmp_path) -> Callable[..., str]:
    """Writes an array into the bucket, and gives its address."""
    def store(kind: str = "v2", values: np.ndarray = NOISE) -> str:
        bucket.clear("plate.zarr")
        bucket.put_folder(write_array(tmp_path / f"{kind}{values.sum()}", kind, values),
                          "plate.zarr/B/02/0/0")
        bucket.forget()
        return "s3://gallery/plate.zarr/B/02/0/0"
    return store


def fetched(bucket) -> list[str]:
    """The files that were sent, without lists of folders."""
    return sorted(name.removeprefix("plate.zarr/B/02/0/0/") for name in bucket.asked()
                  if not name.startswith("/gallery"))


@pytest.mark.parametrize("name,array", [
    ("s3://b/p.zarr/B/03/0/0", True), ("https://h/x/p.zarr/0", True), ("gs://b/p.ome.zarr", True),
    ("p.zarr/B/03/0/0", False), ("s3://b/p.zarr/thumbnail.png", False), ("s3://b/p/0", False)])
def test_what_lies_in_a_zarr_and_is_no_file_is_an_array(name, array):
    assert is_array_address(name) == array


@pytest.mark.parametrize("kind,chunks", [
    ("v2", ["1.0.0", "1.0.1"]), ("v3", ["c/1/0/0", "c/1/0/1"]), ("shards", ["c/1/0/0"]),
    ("unpacked", ["1.0.0", "1.0.1"])])
def test_a_plane_of_an_array_in_a_bucket_costs_its_chunks(stored, bucket, kind, chunks):
    address = stored(kind)
    np.testing.assert_array_equal(read(address, 1)[1], NOISE[1])
    metadata = ".zarray" if KINDS[kind]["zarr_format"] == 2 else "zarr.json"
    assert fetched(bucket) == sorted([metadata, *chunks])
    bucket.forget()
    planes = read(address, 0, 1)
    np.testing.assert_array_equal(planes[0], NOISE[0])
    np.testing.assert_array_equal(planes[1], NOISE[1])
    assert fetched(bucket) == [name.replace("1", "0", 1) for name in chunks]


@pytest.fixture
def web(bucket, tmp_path):
    """A folder on a web server, and the paths of which it has sent the content."""
    sent: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "web"))

        def log_message(self, *_: object) -> None:
            """Keeps the terminal of the tests clean."""

        def copyfile(self, source, outputfile) -> None:
            sent.append(self.path)
            super().copyfile(source, outputfile)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_address[1]}", sent
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("kind,chunks", [("v2", [".zarray", "2.0.0", "2.0.1"]),
                                         ("v3", ["c/2/0/0", "c/2/0/1", "zarr.json"])])
def test_a_plane_of_an_array_on_a_web_server_costs_its_chunks(web, kind, chunks):
    folder, url, sent = web
    write_array(folder / "p.zarr/0", kind)
    address = f"{url}/p.zarr/0"
    np.testing.assert_array_equal(read(address, 2)[2], NOISE[2])
    assert sorted(sent) == [f"/p.zarr/0/{name}" for name in chunks]
    sent.clear()
    np.testing.assert_array_equal(read(address, 2)[2], NOISE[2])
    before = array_sum_at(address)
    assert not sent and before.bytes == sum(
        (folder / "p.zarr/0" / name).stat().st_size for name in
        [next(name for name in chunks if "zarr" in name),
         *(name.replace("2", str(number), 1) for number in range(3) for name in chunks
           if "zarr" not in name)])
    with (folder / f"p.zarr/0/{chunks[1]}").open("ab") as file:
        file.write(b"x")
    assert array_sum_at(address).tag != before.tag
    (folder / f"p.zarr/0/{chunks[1]}").unlink()
    assert not read(address, 2)[2].all()
    with pytest.raises(PlaneError, match="is missing"):
        read(f"{url}/q.zarr/0", 0)


def test_a_chunk_that_is_not_there_has_the_fill_value_and_one_that_was_cut_short_is_damaged(
        stored, bucket):
    for kind, cause in ("v2", "damaged"), ("unpacked", "damaged"):
        address = stored(kind)
        bucket.client.delete_object(Bucket="gallery", Key="plate.zarr/B/02/0/0/0.0.0")
        plane = read(address, 0)[0]
        assert not plane[:, :40].any() and (plane[:, 40:] == NOISE[0, :, 40:]).all()
        bucket.put("plate.zarr/B/02/0/0/1.0.0", b"\x02\x01\x21\x02")
        with pytest.raises(PlaneError, match=cause):
            read(address, 1)
    bucket.clear("plate.zarr")
    with pytest.raises(PlaneError, match="is missing"):
        read(address, 0)


@pytest.mark.parametrize("fault", ["slow down", "cut 100", "garble", "internal"])
def test_a_chunk_that_comes_badly_is_fetched_again_and_one_that_never_comes_stops_the_run(
        stored, bucket, fault):
    address = stored()
    bucket.faults["GET plate.zarr/B/02/0/0/0.0.1"] = [fault] * 2
    np.testing.assert_array_equal(read(address, 0)[0], NOISE[0])
    bucket.always["GET plate.zarr/B/02/0/0/1.0.0"] = fault
    with pytest.raises(Unavailable, match="6 attempts failed"):
        read(address, 1)


def test_an_array_that_changes_between_its_list_and_its_chunks_is_listed_again(
        stored, bucket, monkeypatch):
    from moascope.screen import remote_arrays

    address, key = stored(), "plate.zarr/B/02/0/0/0.0.0"
    later = bucket.client.get_object(Bucket="gallery", Key=key.replace("0.0.0", "1.0.0"))
    content, listed = later["Body"].read(), remote_arrays._listed
    changes = [content]

    def list_then_change(*arguments):
        found = listed(*arguments)
        if changes:
            bucket.put(key, changes.pop())
        return found

    monkeypatch.setattr(remote_arrays, "_listed", list_then_change)
    assert (read(address, 0)[0][:, :40] == NOISE[1, :, :40]).all()
    # What is listed is held here, and the later version is not asked for.
    changes.append(b"later")
    assert (read(address, 0)[0][:, :40] == NOISE[1, :, :40]).all()
    # Another version is listed each time, and is gone when it is asked for.
    numbers = itertools.count()

    def change_twice(*arguments):
        bucket.put(key, b"%d" % next(numbers))
        changes.append(b"%d" % next(numbers))
        return list_then_change(*arguments)

    monkeypatch.setattr(remote_arrays, "_listed", change_twice)
    with pytest.raises(Unavailable, match="changes while it is"):
        read(address, 0)


@pytest.fixture
def screen(tmp_path, bucket) -> Path:
    """A screen whose fields are arrays of three channels in two levels; one channel is read."""
    import tifffile

    folder = make_screen(tmp_path / "screen", plates=2, wells=4, sites=1)
    table = pd.read_csv(folder / "load_data.csv")
    names = {}
    for row, (plate, well) in enumerate(zip(table["Metadata_Plate"], table["Metadata_Well"],
                                            strict=True)):
        planes = [tifffile.imread(folder / table[f"FileName_{channel}"][row])
                  for channel in ("DNA", "Actin")]
        at = f"{plate}.zarr/{well[0]}/{well[1:]}/0"
        for level in (0, 1):
            stack = np.stack([*planes, planes[0]])[:, ::2**level, ::2**level]
            bucket.put_folder(write_array(tmp_path / at / f"{level}", "v2", stack), f"{at}/{level}")
        names[row] = f"s3://gallery/{at}/0"
    edit_csv(folder / "load_data.csv", FileName_DNA=names, FileName_Actin=names,
             Frame_DNA=0, Frame_Actin=1)
    bucket.forget()
    return folder


def test_a_screen_of_arrays_in_a_bucket_is_read_by_chunk_and_once(screen, tmp_path, bucket):
    params = Params(acquire=Acquire(source="folder", path=str(screen), allow_outside=True),
                    prepare=Prepare(crop=32, crops=2))
    acquire(params, tmp_path / "work/acquire")
    sent = [name for name in bucket.asked() if not name.startswith("/gallery")]
    # Of eight fields, the metadata and two chunks of each of two channels of the first level.
    assert len(sent) == len(set(sent)) == 8 * (1 + 4)
    assert not [name for name in sent if "/0/1/" in name or name.rpartition("/")[2][0] == "2"]
    manifest = read_manifest(tmp_path / "work/acquire")
    assert len(manifest) == 8 and (manifest["SHA256"] == manifest["ETag"]).all()
    assert manifest["SHA256"].nunique() == 8 and (manifest["Bytes"] > 64 * 80 * 3).all()
    assert len(list((tmp_path / "work/.readings/plates").iterdir())) == 2
    # What no process has read yet has the same sums.
    again = make_manifest(read_screen(tmp_path / "work/acquire", True))
    pd.testing.assert_frame_equal(again, manifest, check_dtype=False)
    bucket.forget()
    acquire(params, tmp_path / "work/acquire")
    assert not [name for name in bucket.asked() if not name.startswith("/gallery")]
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "work/acquire"), manifest)
    # A changed chunk, of a channel that is not read, too: its field is of another version.
    bucket.put(sent[0].rpartition("/")[0] + "/2.0.0", b"other")
    acquire(params, tmp_path / "work/acquire")
    now = read_manifest(tmp_path / "work/acquire")
    assert (now["SHA256"] != manifest["SHA256"]).sum() == 1
