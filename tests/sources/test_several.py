"""Several screen folders that are acquired as one screen."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import edit_csv, make_screen
from profiled import make_profiles

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.params_file import parse_params
from moascope.screen.columns import SITE, WELL
from moascope.screen.description import read_description, write_description
from moascope.screen.manifest import read_manifest
from moascope.screen.profile_plates import read_profile_plate
from moascope.screen.tables import Screen, read_screen
from moascope.sources.several import acquire_folders
from moascope.stages.acquire import acquire
from moascope.stages.code import code


def params_of(first: Path, *more: Path) -> Params:
    return parse_params({"acquire": {"source": "folder", "path": str(first),
                                     "more": [str(path) for path in more]}})


def joined(tmp_path: Path, *folders: Path) -> Screen:
    out = tmp_path / "acquire"
    out.mkdir(parents=True, exist_ok=True)
    acquire_folders([str(path) for path in folders], out)
    return read_screen(out)


def test_plates_of_one_name_do_not_mix_and_every_image_is_found(tmp_path):
    folders = [make_screen(tmp_path / name, compounds=6, seed=seed)
               for seed, name in enumerate(("north", "south"))]
    for folder in folders:
        edit_csv(folder / "load_data.csv", Metadata_Batch="")
    one = read_screen(folders[0])
    sentence = acquire(params_of(*folders), tmp_path / "acquire")
    assert "screens share the plate names" in sentence
    screen = read_screen(tmp_path / "acquire")
    plate = one.sites["Metadata_Plate"][0]
    assert set(screen.sites["Metadata_Plate"]) == {f"north_{plate}", f"south_{plate}"}
    assert set(screen.layout["Metadata_Plate"]) == {f"north_{plate}", f"south_{plate}"}
    assert set(screen.sites["Metadata_Batch"]) == {"north", "south"}
    assert len(screen.sites) == 2 * len(one.sites)
    manifest = read_manifest(tmp_path / "acquire")
    assert len(manifest) == 2 * len(one.sites) * 2 and (manifest["SHA256"] != "").all()
    of_south = screen.sites[screen.sites["Metadata_Batch"] == "south"].iloc[0]
    assert (screen.images / of_south["FileName_DNA"]).read_bytes() == (
        folders[1] / read_screen(folders[1]).sites["FileName_DNA"][0]).read_bytes()


def test_names_that_only_one_screen_has_stay(tmp_path):
    north = make_screen(tmp_path / "north", batches=2, plates=2)
    south = make_screen(tmp_path / "south")
    edit_csv(south / "load_data.csv", Metadata_Plate="Other", Metadata_Batch="")
    edit_csv(south / "layout.csv", Metadata_Plate="Other")
    screen = joined(tmp_path, north, south)
    own = read_screen(north)
    assert set(screen.sites["Metadata_Plate"]) == {*own.sites["Metadata_Plate"], "Other"}
    assert set(screen.sites["Metadata_Batch"]) == {*own.sites["Metadata_Batch"], "south"}


def test_batches_that_two_screens_name_alike_are_two(tmp_path):
    folders = [make_screen(tmp_path / name, plates=2, batches=2) for name in ("north", "south")]
    batches = set(read_screen(folders[0]).sites["Metadata_Batch"])
    assert "" not in batches
    assert set(joined(tmp_path, *folders).sites["Metadata_Batch"]) == {
        f"{name}_{batch}" for name in ("north", "south") for batch in batches}


def test_profiles_keep_their_values_under_the_new_names(tmp_path):
    folders = [make_profiles(tmp_path / name, plates=2, seed=seed)
               for seed, name in enumerate(("north", "south"))]
    table = pd.read_parquet(folders[1] / "profiles.parquet")
    features = [name for name in table if not name.startswith("Metadata_")]
    # Columns in another order are the same features.
    table[[*table.columns.drop(features), *reversed(features)]].to_parquet(
        folders[1] / "profiles.parquet", index=False)
    screen = joined(tmp_path, *folders)
    assert screen.profiles is not None and len(screen.profiles.digests) == 4
    plate = table["Metadata_Plate"][0]
    sites, values = read_profile_plate(screen.profiles, f"south_{plate}")
    assert set(sites["Metadata_Batch"]) == {"south"}
    expected = table[table["Metadata_Plate"] == plate].sort_values("Metadata_Well")[
        list(screen.profiles.features)]
    np.testing.assert_array_equal(values, expected.to_numpy(np.float32))
    assert set(screen.sites["Metadata_Plate"]) == set(screen.profiles.digests)
    wells = pd.MultiIndex.from_frame(screen.layout[WELL])
    assert pd.MultiIndex.from_frame(sites[SITE[:2]]).isin(wells).all()


def test_annotations_are_joined_by_compound(tmp_path):
    north, south = make_screen(tmp_path / "north"), make_screen(tmp_path / "south")
    own = read_screen(north).annotations
    edit_csv(north / "annotations.csv", Metadata_MoA={0: ""}, Metadata_Vendor="A")
    edit_csv(south / "annotations.csv", Metadata_Compound={1: own["Metadata_Compound"][1].lower()})
    found = joined(tmp_path, north, south).annotations
    assert found["Metadata_Compound"].tolist() == own["Metadata_Compound"].tolist()
    assert found["Metadata_MoA"].tolist() == own["Metadata_MoA"].tolist()
    assert set(found["Metadata_Vendor"]) == {"A"}


def test_an_unclear_answer_gives_way_to_a_clear_one_and_else_stays(tmp_path):
    north, south = make_screen(tmp_path / "north"), make_screen(tmp_path / "south")
    edit_csv(north / "annotations.csv", gpcr="unknown")
    edit_csv(south / "annotations.csv", gpcr={0: "yes", 1: "", 2: "unknown", 3: "no"})
    found = joined(tmp_path, north, south).annotations
    assert found["gpcr"].tolist() == ["yes", "unknown", "unknown", "no"]


def test_contradicting_annotations_are_named_with_their_screens(tmp_path):
    north, south = make_screen(tmp_path / "north"), make_screen(tmp_path / "south")
    compound, moa = read_screen(north).annotations.loc[0, ["Metadata_Compound", "Metadata_MoA"]]
    edit_csv(south / "annotations.csv", Metadata_MoA={0: "Something else"})
    with pytest.raises(MoascopeError, match=(
            f"{compound} is annotated differently: Metadata_MoA is '{moa}' in north, "
            "'Something else' in south. Correct annotations.csv in one of the screens")):
        joined(tmp_path, north, south)


@pytest.mark.parametrize("wrong, sentence", [
    ("feature", "profiles of north and south differ in 1 feature: Cells_Feature_59"),
    ("site", "one has a profile per site and the other one per well"),
    ("images", "only one of them has profiles")])
def test_screens_that_measure_otherwise_are_refused(tmp_path, wrong, sentence):
    north = make_profiles(tmp_path / "north", plates=1)
    if wrong == "images":
        south = make_screen(tmp_path / "south")
    else:
        south = make_profiles(tmp_path / "south", plates=1, sites=2 if wrong == "site" else 0)
    if wrong == "feature":
        table = pd.read_parquet(south / "profiles.parquet")
        table.drop(columns="Cells_Feature_59").to_parquet(south / "profiles.parquet", index=False)
    with pytest.raises(MoascopeError, match=sentence):
        joined(tmp_path, north, south)


def test_other_channels_are_refused(tmp_path):
    with pytest.raises(MoascopeError, match="north has the channels DNA, Actin and south DNA, ER"):
        joined(tmp_path, make_screen(tmp_path / "north"),
               make_screen(tmp_path / "south", channels=("DNA", "ER")))


def test_two_folders_of_one_name_and_problems_of_a_screen_are_told(tmp_path):
    one, other = make_screen(tmp_path / "a/run"), make_screen(tmp_path / "b/run")
    with pytest.raises(MoascopeError, match="name several folders 'run'"):
        joined(tmp_path, one, other)
    other = other.rename(tmp_path / "other")
    edit_csv(other / "layout.csv", Metadata_Well={0: "none"})
    with pytest.raises(MoascopeError, match=r"other: layout\.csv, line 2: .* not a well name"):
        joined(tmp_path, one, other)
    with pytest.raises(MoascopeError, match=r"gone: acquire\.more is .*gone, which is not a"):
        joined(tmp_path, one, tmp_path / "gone")


def test_source_json_names_all_with_licence_and_citation(tmp_path):
    north, south = make_screen(tmp_path / "north"), make_screen(tmp_path / "south")
    write_description(south, {"images": ".", "licence": "CC BY-NC", "citation": "Somebody 2020",
                              "non_commercial": True})
    joined(tmp_path, north, south)
    said = read_description(tmp_path / "acquire")
    assert said["licence"] == "not stated; CC BY-NC" and said["non_commercial"]
    assert [(one["name"], one["path"], one["citation"]) for one in said["screens"]] == [
        ("north", str(north), "not stated"), ("south", str(south), "Somebody 2020")]


def test_relative_folders_stay_relative_where_they_share_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_screen(Path("screens/north"))
    make_screen(Path("screens/south"))
    screen = joined(Path("one"), Path("screens/north"), Path("screens/south"))
    assert screen.images == Path("screens")
    assert all((screen.images / name).is_file() for name in screen.sites["FileName_DNA"])
    make_screen(Path("apart"))
    screen = joined(Path("other"), Path("apart"), Path("screens/south"))
    assert all((screen.images / name).is_file() for name in screen.sites["FileName_DNA"])


def test_a_changed_file_in_a_further_folder_runs_acquire_again(tmp_path, monkeypatch):
    monkeypatch.setattr("moascope.stages.code.stage_lines", "code of {}\n".format)
    north, south = make_screen(tmp_path / "north"), make_screen(tmp_path / "south")
    noted = []
    for changed in (None, south / "layout.csv", north / "layout.csv"):
        if changed:
            os.utime(changed, ns=(1, changed.stat().st_mtime_ns + 1))
        code(params_of(north, south), tmp_path / "code")
        noted.append((tmp_path / "code/acquire").read_text())
    # DVC itself looks after acquire.path.
    assert noted[0] != noted[1] == noted[2]
    code(params_of(north), tmp_path / "code")
    assert noted[0].startswith((tmp_path / "code/acquire").read_text())


def test_only_folders_are_joined():
    with pytest.raises(MoascopeError, match=r"acquire.* needs acquire\.source: folder"):
        parse_params({"acquire": {"source": "simulated", "more": ["south"]}})
