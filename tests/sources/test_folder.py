"""The acquire stage: sources, manifest, and that images stay where they are."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import edit_csv, make_screen, write_tiff

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.params_file import parse_params
from moascope.screen.description import read_description, write_description
from moascope.screen.manifest import make_manifest, read_manifest
from moascope.screen.tables import read_screen
from moascope.stages.acquire import acquire


def folder_params(path: Path | str, **options) -> Params:
    return parse_params({"acquire": {"source": "folder", "path": str(path), **options}})


def test_a_folder_is_referred_to_and_not_copied(screen_folder, tmp_path):
    sentence = acquire(folder_params(screen_folder), tmp_path / "acquire")
    assert sentence.startswith("16 sites on 1 plate, 2 channels, 32 image files")
    assert sorted(path.name for path in (tmp_path / "acquire").iterdir()) == [
        "annotations.csv", "layout.csv", "load_data.csv", "manifest.csv", "source.json"]
    screen = read_screen(tmp_path / "acquire")
    assert screen.images == screen_folder
    pd.testing.assert_frame_equal(screen.sites, read_screen(screen_folder).sites)


def test_the_manifest_holds_size_and_sum_of_every_file(screen_folder, tmp_path):
    acquire(folder_params(screen_folder), tmp_path / "acquire")
    manifest = read_manifest(tmp_path / "acquire")
    assert len(manifest) == 32
    for row in manifest.head(3).itertuples():
        content = (screen_folder / row.FileName).read_bytes()
        assert (row.Bytes, row.SHA256) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_missing_image_is_left_to_validate(screen_folder, tmp_path):
    gone = read_screen(screen_folder).sites["FileName_DNA"][0]
    (screen_folder / gone).unlink()
    sentence = acquire(folder_params(screen_folder), tmp_path / "acquire")
    assert sentence.endswith(", 1 of them missing")
    row = read_manifest(tmp_path / "acquire").set_index("FileName").loc[gone]
    assert (row["Bytes"], row["SHA256"]) == (0, "")


def test_the_same_folder_gives_the_same_bytes(screen_folder, tmp_path):
    for out in ("one", "two"):
        acquire(folder_params(screen_folder), tmp_path / out)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_relative_path_starts_from_the_repository_even_in_an_experiment(
        tmp_path, monkeypatch):
    make_screen(tmp_path / "repository" / "plates")
    experiment = tmp_path / "experiment"
    experiment.mkdir()
    monkeypatch.chdir(experiment)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    acquire(folder_params("plates"), Path("data/acquire"))
    assert read_description(Path("data/acquire"))["images"] == "plates"
    assert make_manifest(read_screen(Path("data/acquire")))["Bytes"].min() > 0


def test_a_failed_acquire_leaves_what_was_there(screen_folder, tmp_path):
    acquire(folder_params(screen_folder), tmp_path / "acquire")
    before = (tmp_path / "acquire/manifest.csv").read_bytes()
    edit_csv(screen_folder / "layout.csv", Metadata_Well={0: "none"})
    with pytest.raises(MoascopeError, match="is not a well name"):
        acquire(folder_params(screen_folder), tmp_path / "acquire")
    assert (tmp_path / "acquire/manifest.csv").read_bytes() == before


def test_a_path_that_is_not_a_folder_is_named(tmp_path):
    with pytest.raises(MoascopeError, match=r"acquire\.path is .*nowhere, which is not a folder"):
        acquire(folder_params(tmp_path / "nowhere"), tmp_path / "acquire")


def test_outside_images_need_leave_and_keep_it(screen_folder, tmp_path):
    images = tmp_path / "elsewhere"
    (screen_folder / "images").rename(images)
    table = pd.read_csv(screen_folder / "load_data.csv", dtype=str, keep_default_na=False)
    for column in ("FileName_DNA", "FileName_Actin"):
        table[column] = table[column].str.replace("images/", f"{images}/")
    table.to_csv(screen_folder / "load_data.csv", index=False)
    with pytest.raises(MoascopeError, match="points outside the screen's folder"):
        acquire(folder_params(screen_folder), tmp_path / "acquire")
    acquire(folder_params(screen_folder, allow_outside=True), tmp_path / "acquire")
    assert make_manifest(read_screen(tmp_path / "acquire"))["Bytes"].min() > 0


def test_a_folder_cannot_give_itself_leave(screen_folder, tmp_path):
    write_description(screen_folder, {"images": "/"})
    with pytest.raises(MoascopeError, match="says that the images lie outside"):
        acquire(folder_params(screen_folder), tmp_path / "acquire")
    write_description(screen_folder, {"images": ".", "allow_outside": True})
    with pytest.raises(MoascopeError, match="says that the images lie outside"):
        acquire(folder_params(screen_folder), tmp_path / "acquire")


def test_licence_and_citation_of_a_screen_are_carried_on(screen_folder, tmp_path):
    write_description(screen_folder, {"images": ".", "licence": "CC0", "citation": "Somebody 2020"})
    acquire(folder_params(screen_folder), tmp_path / "acquire")
    description = read_description(tmp_path / "acquire")
    assert (description["licence"], description["citation"]) == ("CC0", "Somebody 2020")


def test_an_invalid_manifest_ends_in_a_sentence(tmp_path):
    (tmp_path / "manifest.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MoascopeError, match="Run the acquire stage"):
        read_manifest(tmp_path)


def test_the_stage_ends_with_one_sentence_and_status_1_on_bad_input(screen_folder, tmp_path):
    edit_csv(screen_folder / "load_data.csv", Metadata_Well={1: "R99"})
    (tmp_path / "params.yaml").write_text(
        f"acquire: {{source: folder, path: {screen_folder}}}\n")
    done = subprocess.run([sys.executable, "-m", "moascope.cli", "stage", "acquire", "--out",
                           "out"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == ("error: load_data.csv, line 3: plate Plate1: 'R99' is not a well name. "
                           "Write a row A to AF and a column 1 to 48, like B02.\n")


def test_an_unknown_parameter_ends_with_one_sentence_and_status_1(tmp_path):
    (tmp_path / "params.yaml").write_text("acquire: {sourc: folder}\n")
    done = subprocess.run([sys.executable, "-m", "moascope.cli", "stage", "acquire", "--out",
                           "out"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("error: params.yaml: 'acquire.sourc' is not a parameter. "
                           "Did you mean 'acquire.source'?\n")


def test_the_picture_of_a_colour_image_is_read_unless_a_frame_is_named(tmp_path):
    folder = make_screen(tmp_path / "in", plates=1, channels=("DNA", "GFP"))
    for path in (folder / "images").rglob("*_GFP.tif"):
        values = np.zeros((64, 80, 3), np.uint8)
        values[60:, :9] = 255
        values[..., 1] = np.random.default_rng(0).integers(1, 200, (64, 80))
        write_tiff(path, values, photometric="rgb")
    sentence = acquire(folder_params(folder), tmp_path / "acquire")
    assert "channel GFP is in colour images; green, the only sample with a picture" in sentence
    assert (read_screen(tmp_path / "acquire").sites["Frame_GFP"] == 1).all()
    edit_csv(folder / "load_data.csv", Frame_GFP="0")
    assert "colour" not in acquire(folder_params(folder), tmp_path / "said")
    assert (read_screen(tmp_path / "said").sites["Frame_GFP"] == 0).all()
