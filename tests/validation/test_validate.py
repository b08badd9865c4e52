"""The validate stage: facts of planes, quarantine, expectations, and what stops a run."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from helpers import edit_csv, make_screen, write_tiff

from moascope.errors import MoascopeError
from moascope.params import Validate
from moascope.params_file import parse_params
from moascope.screen.manifest import checksums, make_manifest
from moascope.screen.tables import read_screen
from moascope.screen.unread import unread_planes
from moascope.stages.acquire import acquire
from moascope.stages.validate import validate
from moascope.validation.checks import (
    stop_if_critical,
    unread_structures,
    validate_screen,
)
from moascope.validation.facts import count_reasons, plane_facts, quarantined_sites


def facts(folder: Path, jobs: int = 1, damage=None,
          allow_outside: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    screen = read_screen(folder, allow_outside)
    manifest = make_manifest(screen)
    if damage:
        damage()
    planes = plane_facts(screen, manifest, jobs)
    return planes, quarantined_sites(planes)


def end_worker(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_ends_validate_in_a_sentence(tmp_path, monkeypatch):
    folder = make_screen(tmp_path / "screen", plates=2, wells=40)
    monkeypatch.setattr("moascope.validation.facts._facts_of_sites", end_worker)
    with pytest.raises(MoascopeError) as ended:
        facts(folder, jobs=2)
    assert str(ended.value).startswith(
        "validate: a worker process was ended from outside, most often because memory ran out, "
        "after 0 of 160 sites. Nothing is lost; run it again")


def first_dna(folder: Path) -> Path:
    return folder / read_screen(folder).sites["FileName_DNA"][0]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_a_sound_screen_has_nothing_in_quarantine(screen_folder):
    planes, quarantine = facts(screen_folder)
    assert len(planes) == 32
    assert len(quarantine) == 0
    assert planes["Readable"].all()
    assert (planes["Error"] == "").all()
    assert set(planes["BitDepth"]) == {12}


def test_facts_are_those_of_the_pixels(screen_folder):
    planes, _ = facts(screen_folder)
    row = planes.iloc[0]
    values = tifffile.imread(screen_folder / row["FileName"])
    assert (row["Height"], row["Width"]) == values.shape == (64, 80)
    assert (row["Min"], row["Max"]) == (values.min(), values.max())
    assert row["Mean"] == pytest.approx(values.mean())


def test_checksums_are_found_by_name_or_absent():
    manifest = pd.DataFrame({"FileName": ["a", "b", "c"], "SHA256": ["1", "", "3"]}, dtype="str")
    names = pd.Series(["c", "", "b", "x"], index=[7, 5, 3, 1], dtype="str")
    found = checksums(manifest, names)
    assert list(found.index) == [7, 5, 3, 1]
    assert list(found.dropna().items()) == [(7, "3"), (3, "")]


def test_two_processes_find_the_same_as_one(tmp_path):
    folder = make_screen(tmp_path, plates=3, wells=12, sites=2)
    pd.testing.assert_frame_equal(facts(folder)[0], facts(folder, jobs=2)[0])


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda path: path.unlink(), "missing (DNA)"),
    (truncate, "truncated (DNA)"),
    (lambda path: path.write_bytes(b""), "empty file (DNA)"),
    (lambda path: path.write_text("<html>"), "unreadable (DNA)"),
    (lambda path: write_tiff(path, np.ones((64, 64), np.uint16)),
     "other size than the plate's (DNA)"),
    (lambda path: write_tiff(path, (np.arange(64 * 80) % 250).astype(np.uint8).reshape(64, 80)),
     "other bit depth than the plate's (DNA)"),
    (lambda path: write_tiff(path, np.ones((64, 80), np.float32)),
     "neither 8-bit nor 16-bit integers (DNA)"),
])
def test_a_bad_image_puts_its_site_and_no_other_into_quarantine(screen_folder, damage, reason):
    damage(first_dna(screen_folder))
    planes, quarantine = facts(screen_folder)
    assert quarantine.to_dict("records") == [{
        "Metadata_Plate": "Plate1", "Metadata_Well": "B02", "Metadata_Site": 1, "reason": reason}]
    assert count_reasons(planes, quarantine) == {reason.removesuffix(" (DNA)"): 1}
    sentences = planes.loc[planes["Problem"] != "", "Error"]
    assert len(sentences) == 1
    assert "images/Plate1/B02_s1_DNA.tif" in sentences.iloc[0]


def test_an_image_that_changed_after_acquire_is_quarantined(screen_folder):
    path = first_dna(screen_folder)
    values = tifffile.imread(path)
    values[0, 0] += 1
    _, quarantine = facts(screen_folder, damage=lambda: write_tiff(path, values))
    assert quarantine["reason"].tolist() == ["changed since acquire (DNA)"]


def test_a_site_is_quarantined_only_when_all_its_channels_are_blank(screen_folder):
    path = first_dna(screen_folder)
    write_tiff(path, np.full((64, 80), 100, np.uint16))
    planes, quarantine = facts(screen_folder)
    assert planes["Blank"].sum() == 1
    assert len(quarantine) == 0
    write_tiff(Path(str(path).replace("_DNA", "_Actin")), np.full((64, 80), 100, np.uint16))
    _, quarantine = facts(screen_folder)
    assert quarantine["reason"].tolist() == ["blank in every channel"]


def test_a_wrong_frame_condemns_its_channel_only(screen_folder):
    shared = screen_folder / "shared.tif"
    write_tiff(shared, np.stack([tifffile.imread(first_dna(screen_folder))] * 2),
               photometric="minisblack")
    edit_csv(screen_folder / "load_data.csv", FileName_DNA={0: "shared.tif"},
             FileName_Actin={0: "shared.tif"}, Frame_DNA={0: 1}, Frame_Actin={0: 5})
    planes, quarantine = facts(screen_folder)
    assert quarantine["reason"].tolist() == ["no such frame in the file (Actin)"]
    assert planes["Readable"].sum() == 31


@pytest.mark.parametrize(("top", "dtype", "bits"), [
    (255, np.uint8, 8), (1023, np.uint16, 10), (4095, np.uint16, 12), (16383, np.uint16, 14),
    (65535, np.uint16, 16),
])
def test_saturation_is_measured_at_the_top_code_of_the_camera(tmp_path, top, dtype, bits):
    folder = make_screen(tmp_path, wells=2, sites=1, channels=("DNA",), images=False)
    values = np.zeros((10, 10), dtype)
    write_tiff(folder / "images/Plate1/B03_s1_DNA.tif", values + 7)
    values[:2] = top
    write_tiff(folder / "images/Plate1/B02_s1_DNA.tif", values)
    planes, _ = facts(folder)
    assert planes["BitDepth"].tolist() == [bits, bits]
    assert planes["Saturated"].tolist() == [0.2, 0.0]


def test_an_address_without_an_image_is_quarantined(screen_folder, bucket):
    addresses = ["s3://gallery/none.tif", bucket.put("text.tif", b"no image")]
    edit_csv(screen_folder / "load_data.csv", FileName_DNA=dict(enumerate(addresses)))
    _, quarantine = facts(screen_folder, allow_outside=True)
    assert quarantine["reason"].tolist() == ["missing (DNA)", "unreadable (DNA)"]


# With Great Expectations


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> dict:
    """One screen with faults, validated once: Great Expectations takes seconds to import."""
    root = tmp_path_factory.mktemp("validated")
    folder = make_screen(root / "screen", plates=2, wells=8, sites=2, controls=4)
    truncate(first_dna(folder))
    edit_csv(folder / "annotations.csv", Metadata_InChIKey={0: "not a key"})
    edit_csv(folder / "annotations.csv", Metadata_MoA={1: ""})
    edit_csv(folder / "annotations.csv", gpcr_action={0: "agonist|antagonist"})
    acquire(parse_params({"acquire": {"source": "folder", "path": str(folder)}}),
            root / "acquire")
    validation = validate_screen(Validate(), root / "acquire", root / "validate",
                                 root / "reports", jobs=1)
    return {"root": root, "validation": validation}


def test_warnings_name_plate_and_well_and_do_not_stop(validated):
    failed = {outcome["expectation"]: outcome for outcome in validated["validation"]["expectations"]
              if not outcome["success"]}
    assert {name: outcome["examples"] for name, outcome in failed.items()} == {
        "No site is quarantined": ["plate Plate1, well B02, site 1"],
        "Every compound has a mechanism": ["compound C01"],
        "Every InChIKey is well formed": ["compound C00"],
        "Every plane can be read": ["plate Plate1, well B02, site 1, channel DNA"],
        "Every plane matches its plate and is unchanged since acquire":
            ["plate Plate1, well B02, site 1, channel DNA"],
    }
    assert {outcome["severity"] for outcome in failed.values()} == {"warning"}
    stop_if_critical(validated["validation"], Validate())


def test_validation_json_is_sorted_and_free_of_times_and_places(validated):
    text = (validated["root"] / "reports/validation.json").read_text()
    content = json.loads(text)
    assert content == validated["validation"]
    assert text == json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert str(validated["root"]) not in text
    assert content["quarantine"] == {
        "sites": 1, "reasons": {"truncated": 1},
        "examples": ["plate Plate1, well B02, site 1: truncated (DNA)"]}


def test_the_tables_for_later_stages_are_written(validated):
    quarantine = pd.read_csv(validated["root"] / "validate/quarantine.csv")
    assert list(quarantine.columns) == ["Metadata_Plate", "Metadata_Well", "Metadata_Site",
                                        "reason"]
    assert len(pd.read_parquet(validated["root"] / "validate/planes.parquet")) == 64
    assert not list((validated["root"] / "validate").glob(".*"))


def test_data_docs_open_without_a_network(validated):
    pages = list((validated["root"] / "reports/data_docs").rglob("*.html"))
    assert len(pages) == 11
    for page in pages:
        text = page.read_text()
        assert "<script" not in text
        assert 'src="http' not in text
        assert "<link" not in text
    index = (validated["root"] / "reports/data_docs/index.html").read_text()
    assert "plate Plate1, well B02, site 1, channel DNA" in index


def test_too_many_quarantined_sites_stop_the_run(validated):
    strict = Validate(max_quarantined=0.01)
    root = validated["root"]
    validation = validate_screen(strict, root / "acquire", root / "strict", root / "strict", jobs=1)
    with pytest.raises(MoascopeError) as caught:
        stop_if_critical(validation, strict)
    assert caught.value.problems == [
        "Quarantined: 1 of 32 sites (1 truncated), more than the 1.0% that "
        "validate.max_quarantined allows. First: plate Plate1, well B02, site 1: truncated (DNA). "
        "Restore the images or profiles and run acquire again, or raise "
        "validate.max_quarantined in params.yaml to go on without them."]
    assert json.loads((root / "strict/validation.json").read_text())["success"] is False


def test_tables_that_cannot_be_read_are_in_validation_json_too(screen_folder, tmp_path):
    edit_csv(screen_folder / "layout.csv", Metadata_Well={1: "B2"})
    with pytest.raises(MoascopeError, match="already in line 2"):
        validate_screen(Validate(), screen_folder, tmp_path / "v", tmp_path / "r", jobs=1)
    content = json.loads((tmp_path / "r/validation.json").read_text())
    assert content["success"] is False
    assert "already in line 2" in content["problems"][0]


def test_the_stage_says_what_it_found_in_one_sentence(validated, tmp_path, monkeypatch):
    logged = []
    stand_in = types.ModuleType("moascope.tracking.screens")
    stand_in.log_validation = lambda *arguments: logged.append(arguments)
    monkeypatch.setitem(sys.modules, "moascope.tracking.screens", stand_in)
    sentence = validate(parse_params({"target": "moa"}), validated["root"] / "acquire",
                        tmp_path / "v", tmp_path / "r")
    with pytest.raises(MoascopeError, match=r"2 negative compounds .* at least 3 are needed"):
        validate(parse_params({}), validated["root"] / "acquire", tmp_path / "v", tmp_path / "r")
    assert sentence == ("31 of 32 sites usable; 1 quarantined (1 truncated); 5 warnings, see "
                        f"{tmp_path / 'r' / 'validation.json'}")
    assert logged[0][1]["sites"] == 32
    assert (logged[0][2] / "index.html").is_file()


def test_planes_that_are_not_read_are_reported_with_the_column_that_reads_them(tmp_path):
    folder = make_screen(tmp_path / "screen", wells=4, sites=1, channels=("DNA", "GFP"))
    rng = np.random.default_rng(0)
    for file in sorted((folder / "images").rglob("*_GFP.tif")):
        values = np.zeros((64, 80, 3), np.uint8)
        values[60:, 2:8, 0] = 255
        values[..., 1] = rng.integers(1, 200, (64, 80))
        tifffile.imwrite(file, values, photometric="rgb")
    for file in sorted((folder / "images").rglob("*_DNA.tif")):
        tifffile.imwrite(file, rng.integers(0, 99, (3, 64, 80)).astype(np.uint16),
                         photometric="minisblack")
    screen = read_screen(folder)
    pages, colours = unread_planes(plane_facts(screen, make_manifest(screen), 1))
    assert "Channel DNA: 4 files" in pages and "with 3 planes, of which frame 0 is read" in pages
    assert "in colour; red is read, and the picture is in green" in colours
    assert "Add a column Frame_GFP with 1" in colours


def test_structures_that_cannot_be_read_are_named_of_the_compounds_on_the_plates(tmp_path):
    folder = make_screen(tmp_path / "screen", wells=8, sites=1, compounds=4)
    table = pd.read_csv(folder / "annotations.csv", dtype=str, keep_default_na=False)
    first, second, third = table["Metadata_Compound"][:3]
    table["SMILES"] = ""
    table["Metadata_InChI"] = ""
    table.loc[table["Metadata_Compound"] == first, "SMILES"] = "C1CC"
    table.loc[table["Metadata_Compound"] == second, "SMILES"] = "CCO"
    table.loc[table["Metadata_Compound"] == third, "Metadata_InChI"] = "InChI=1S/what"
    library = table.iloc[[0]].assign(Metadata_Compound="in the freezer", SMILES="C2CC")
    pd.concat([table, library]).to_csv(folder / "annotations.csv", index=False)
    assert unread_structures(read_screen(folder)) == [
        f"RDKit cannot read the structure of 2 compounds: {first} ('C1CC'), {third} "
        "('InChI=1S/what'). They count as compounds without a structure; correct Metadata_SMILES "
        "in annotations.csv."]
    edit_csv(folder / "annotations.csv", SMILES="", Metadata_InChI="")
    assert unread_structures(read_screen(folder)) == []
