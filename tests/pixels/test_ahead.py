"""Files are read once by acquire, and what that leaves changes no result of later stages."""

from __future__ import annotations

import collections
import functools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from helpers import edit_csv, make_screen, write_tiff

from moascope.params import Acquire, Params, Prepare
from moascope.pixels.ahead import take_ahead
from moascope.pixels.prepare import prepare_plates
from moascope.screen.manifest import read_manifest
from moascope.screen.readings import FOLDER, is_settled, stamp_of
from moascope.screen.tables import read_screen
from moascope.stages.acquire import acquire
from moascope.validation.facts import plane_facts, quarantined_sites, without_quarantined

SETTINGS = Prepare(crop=32, crops=2)


def settle(folder: Path) -> None:
    """Let images look as if they had been written a while ago."""
    for path in folder.rglob("*.tif"):
        before = path.stat().st_mtime_ns - 3_600_000_000_000
        os.utime(path, ns=(before, before))


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    folder = make_screen(tmp_path / "screen", plates=2, wells=6, sites=2)
    # Else some images are looked at for the sample of a colour that holds their picture.
    edit_csv(folder / "load_data.csv", Frame_DNA=0, Frame_Actin=0)
    settle(folder)
    return folder


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moascope.stages.acquire.default_jobs", lambda: 1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[str]:
    """How often each image was opened."""
    from moascope.screen import frames

    count: collections.Counter[str] = collections.Counter()
    open_file = frames.open_file

    def counted(path):
        count[f"{path.parent.name}/{path.name}"] += 1
        return open_file(path)

    monkeypatch.setattr(frames, "open_file", counted)
    return count


def run(folder: Path, work: Path, settings: Prepare = SETTINGS) -> tuple[int, int]:
    """Acquire, validate and prepare a screen, without what they have to do with other things."""
    params = Params(acquire=Acquire(source="folder", path=str(folder), allow_outside=True),
                    prepare=settings)
    acquire(params, work / "acquire")
    return go_on(work, settings)


def go_on(work: Path, settings: Prepare = SETTINGS) -> tuple[int, int]:
    screen, manifest = read_screen(work / "acquire"), read_manifest(work / "acquire")
    planes = plane_facts(screen, manifest, 1, work / FOLDER)
    planes.to_parquet(work / "planes.parquet")
    quarantined_sites(planes).to_csv(work / "quarantine.csv", index=False)
    return prepare_plates(without_quarantined(screen, work / "quarantine.csv"), work / "prepare",
                          settings, 1,
                          dict(zip(manifest["FileName"], manifest["SHA256"], strict=True)),
                          functools.partial(take_ahead, work / "acquire"))


def without_ahead(folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch,
                  settings: Prepare = SETTINGS) -> None:
    """The same where every stage reads the files for itself."""
    with monkeypatch.context() as patched:
        patched.setattr("moascope.stages.acquire.read_ahead", lambda *arguments: None)
        patched.setattr("moascope.validation.facts.read_readings",
                        lambda *arguments: pd.DataFrame())
        run(folder, work, settings)


def results(work: Path) -> dict[str, bytes]:
    files = [work / "acquire/manifest.csv", work / "planes.parquet", work / "quarantine.csv",
             *(path for path in (work / "prepare").rglob("*") if path.is_file())]
    return {path.relative_to(work).as_posix(): path.read_bytes() for path in files}


def damage(folder: Path) -> None:
    """Give the first plate a bad site of each kind that is noticed without the other sites."""
    images = folder / "images/Plate1"
    truncated, missing, empty, *_ = sorted(images.glob("*_s1_DNA.tif"))
    truncated.write_bytes(truncated.read_bytes()[:-200])
    missing.unlink()
    empty.write_text("<html>")
    for path in images.glob("B05_s2_*.tif"):
        write_tiff(path, np.full((64, 80), 100, np.uint16))
    shared = write_tiff(folder / "images/shared.tif", np.stack(
        [tifffile.imread(images / "B04_s2_DNA.tif")] * 2), photometric="minisblack")
    rows = pd.read_csv(folder / "load_data.csv")
    at = {row: f"images/{shared.name}" for row in rows.index[
        (rows["Metadata_Plate"] == "Plate1") & (rows["Metadata_Site"] == 2)
        & rows["Metadata_Well"].isin(["B02", "B04"])]}
    frames = dict(zip(at, (0, 5), strict=True))
    edit_csv(folder / "load_data.csv", FileName_DNA=at, FileName_Actin=at, Frame_Actin=frames)
    settle(folder)


def test_acquire_opens_every_image_once_and_no_later_stage_opens_any(screen, tmp_path, opened):
    assert run(screen, tmp_path) == (2, 0)
    assert opened == {f"{path.parent.name}/{path.name}": 1 for path in screen.rglob("*.tif")}
    opened.clear()
    assert run(screen, tmp_path) == (0, 2)
    assert not opened
    changed = screen / "images/Plate2/B02_s1_DNA.tif"
    write_tiff(changed, tifffile.imread(changed) + 1)
    settle(screen / "images/Plate2")
    assert run(screen, tmp_path) == (1, 1)
    assert set(opened.values()) == {1}
    assert {name.split("/")[0] for name in opened} == {"Plate2"}


@pytest.mark.parametrize("wrong", [None, damage])
def test_stages_that_read_for_themselves_give_the_same_bytes(screen, tmp_path, monkeypatch, wrong):
    if wrong:
        wrong(screen)
    run(screen, tmp_path / "ahead")
    without_ahead(screen, tmp_path / "plain", monkeypatch)
    assert results(tmp_path / "ahead") == results(tmp_path / "plain")
    assert len(pd.read_csv(tmp_path / "ahead/quarantine.csv")) == (5 if wrong else 0)


def test_a_plate_that_does_not_hold_what_validate_lets_pass_is_prepared_from_its_files(
        screen, tmp_path, monkeypatch):
    odd = screen / "images/Plate2/B03_s1_DNA.tif"
    for path in (odd, Path(str(odd).replace("_DNA", "_Actin"))):
        write_tiff(path, np.arange(1280, dtype=np.uint16).reshape(32, 40))
    settle(screen)
    run(screen, tmp_path / "ahead")
    without_ahead(screen, tmp_path / "plain", monkeypatch)
    assert results(tmp_path / "ahead") == results(tmp_path / "plain")
    reasons = pd.read_csv(tmp_path / "ahead/quarantine.csv")["reason"].tolist()
    assert reasons == ["other size than the plate's (Actin, DNA)"]


def test_other_parameters_than_acquire_knew_are_worked_out_from_the_files(screen, tmp_path,
                                                                          monkeypatch):
    other = SETTINGS.model_copy(update={"crop": 16})
    run(screen, tmp_path / "ahead")
    shutil.rmtree(tmp_path / "ahead/prepare")
    params = Params(acquire=Acquire(source="folder", path=str(screen)), prepare=SETTINGS)
    shutil.rmtree(tmp_path / "ahead" / FOLDER)
    acquire(params, tmp_path / "ahead/acquire")
    assert len(list((tmp_path / "ahead" / FOLDER / "plates").iterdir())) == 2
    assert go_on(tmp_path / "ahead", other) == (2, 0)
    assert not (tmp_path / "ahead" / FOLDER / "plates").exists()
    without_ahead(screen, tmp_path / "plain", monkeypatch, other)
    assert results(tmp_path / "ahead") == results(tmp_path / "plain")


def test_an_image_that_changed_after_acquire_is_noticed_by_its_time(screen, tmp_path, opened):
    run(screen, tmp_path)
    path = screen / "images/Plate1/B02_s1_DNA.tif"
    write_tiff(path, tifffile.imread(path) + 1)
    opened.clear()
    go_on(tmp_path)
    # This one by validate, and other sites of the plate by prepare, which leaves its site out.
    assert len(opened) == 23 and set(opened.values()) == {1}
    assert {name.split("/")[0] for name in opened} == {"Plate1"}
    assert pd.read_csv(tmp_path / "quarantine.csv")["reason"].tolist() == [
        "changed since acquire (DNA)"]


def test_a_run_that_is_ended_knows_nothing_of_the_plate_it_was_at(screen, tmp_path, monkeypatch,
                                                                  opened):
    with monkeypatch.context() as patched:
        patched.setattr("moascope.pixels.ahead.finish_plate", ended)
        with pytest.raises(KeyboardInterrupt):
            run(screen, tmp_path)
    kept = tmp_path / FOLDER
    assert [path for path in kept.rglob("*") if path.is_file()] == [kept / ".gitignore"]
    (kept / "plates/.partial-Plate1").mkdir()
    opened.clear()
    assert run(screen, tmp_path) == (2, 0)
    assert set(opened.values()) == {1}


def ended(*arguments):
    raise KeyboardInterrupt


def test_damaged_readings_and_those_of_other_code_are_not_used(screen, tmp_path, monkeypatch,
                                                               opened):
    run(screen, tmp_path)
    for path in (tmp_path / FOLDER).rglob("*.parquet"):
        path.write_bytes(b"PAR1")
    opened.clear()
    run(screen, tmp_path)
    assert set(opened.values()) == {1} and len(opened) == 48
    before = results(tmp_path)
    opened.clear()
    for place in ("validation.facts", "pixels.ahead"):
        monkeypatch.setattr(f"moascope.{place}.facts_code", lambda: "0" * 64)
    run(screen, tmp_path)
    assert set(opened.values()) == {1} and len(opened) == 48
    assert results(tmp_path) == before
    assert len(list((tmp_path / FOLDER / "planes").iterdir())) == 1


def test_a_file_that_was_just_written_is_not_taken_for_unchanged(screen, tmp_path, opened):
    now = time.time_ns()
    assert not is_settled(f"10 {now} 1", now)
    assert not is_settled(f"10 {now // 10**9 * 10**9} 1", now)
    assert is_settled(f"10 {now - 10**9} 1", now)
    path = screen / "images/Plate1/B02_s1_DNA.tif"
    os.utime(path, ns=(now + 10**10, now + 10**10))
    run(screen, tmp_path)
    assert opened["Plate1/B02_s1_DNA.tif"] == 2 and sorted(set(opened.values())) == [1, 2]


def test_an_array_has_changed_where_any_of_its_files_has(tmp_path):
    for name in ("zarr.json", "c/0/0", "c/0/1"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text("{}")
    before = stamp_of(tmp_path, "a")
    assert stamp_of(tmp_path, "a") == before and is_settled(before, time.time_ns() + 10**10)
    os.utime(tmp_path / "a/c/0/1", ns=(1, 1))
    after = stamp_of(tmp_path, "a")
    assert "" != after != before
    assert stamp_of(tmp_path, "b") == ""


def test_objects_of_a_bucket_are_fetched_once_though_the_cache_holds_few(screen, tmp_path, bucket,
                                                                         monkeypatch):
    names = in_bucket(screen, bucket)
    monkeypatch.setenv("MOASCOPE_CACHE_GB", "0.0002")
    gone = names[-2]
    bucket.client.delete_object(Bucket="gallery", Key=gone)
    bucket.forget()
    run(screen, tmp_path)
    # What is not there is looked for in the list of its folder.
    asked = collections.Counter(name for name in bucket.asked() if name != "/gallery")
    assert asked == {name: 1 for name in names if name != gone}
    bucket.forget()
    bucket.put(names[0], b"no image")
    run(screen, tmp_path)
    # The plate of the object that has another version.
    assert {Path(name).parent.name for name in bucket.asked() if name != "/gallery"} == {"Plate1"}
    assert pd.read_csv(tmp_path / "quarantine.csv")["reason"].tolist() == [
        "unreadable (Actin)", "missing (Actin)"]


def test_plates_read_at_once_from_a_bucket_with_faults_give_the_same_as_one_by_one(
        screen, tmp_path, bucket):
    changed = screen / "images/Plate2/B02_s1_DNA.tif"
    new = tifffile.imread(changed) + 1
    names = in_bucket(screen, bucket)
    write_tiff(changed, new)
    bucket.replacements[str(changed.relative_to(screen))] = changed.read_bytes()
    for number, fault in enumerate(["slow down", "cut 100", "internal", "garble"]):
        # In both plates, a question and an answer, once and twice.
        for name in names[number::12]:
            bucket.faults[f"GET {name}"] = [fault] * 2
            bucket.faults[f"HEAD {name}"] = ["slow down"]
    bucket.faults[f"GET {changed.relative_to(screen)}"] = ["replace"]
    # Long enough for others to come meanwhile.
    bucket.delay = 0.05
    at_once = acquire_elsewhere(screen, tmp_path / "at once")
    assert 8 < bucket.most_busy <= 2 * 16
    assert not [fault for waiting in bucket.faults.values() for fault in waiting]
    bucket.forget()
    shutil.rmtree(tmp_path / "cache")
    params = Params(acquire=Acquire(source="folder", path=str(screen), allow_outside=True),
                    prepare=SETTINGS)
    acquire(params, tmp_path / "one by one/acquire")
    assert at_once == plates_of(tmp_path / "one by one")


def in_bucket(screen: Path, bucket) -> list[str]:
    """Put the images of a screen into a bucket; their keys."""
    table = pd.read_csv(screen / "load_data.csv")
    keys = []
    for channel in ("DNA", "Actin"):
        names = table[f"FileName_{channel}"]
        edit_csv(screen / "load_data.csv", **{f"FileName_{channel}": {
            row: bucket.put(name, (screen / name).read_bytes()) for row, name in names.items()}})
        keys += names.tolist()
    return sorted(keys)


def acquire_elsewhere(screen: Path, work: Path) -> dict[str, bytes]:
    """Acquire in a process whose two workers know where the bucket is."""
    work.mkdir(exist_ok=True)
    settings = {"acquire": {"source": "folder", "path": str(screen), "allow_outside": True},
                "prepare": SETTINGS.model_dump(), "target": "gpcr"}
    (work / "params.yaml").write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "moascope.cli", "stage", "acquire", "--out", "acquire"],
        cwd=work, env=os.environ | {"MOASCOPE_PROCESSORS": "2"}, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return plates_of(work)


def plates_of(work: Path) -> dict[str, bytes]:
    files = [work / "acquire/manifest.csv",
             *(path for path in (work / FOLDER / "plates").rglob("*") if path.is_file())]
    return {path.relative_to(work).as_posix(): path.read_bytes() for path in files}
