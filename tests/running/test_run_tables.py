"""The tables of a project: made from plates, kept where a person edited them, or refused."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import write_tiff
from profiled import make_profiles

from moascope.errors import MoascopeError
from moascope.running.plates import Plates, find_plates, plates_digest, project_folder
from moascope.running.state import State, alone, read_state, write_state
from moascope.running.tables import (
    Options,
    annotate_tables,
    make_tables,
    refuse_gaps,
)

WELLS = ("A01", "A02", "B01", "B02")


@pytest.fixture
def plates(tmp_path):
    """A folder as ImageXpress names its files: two wavelengths, one site, four wells."""
    folder = tmp_path / "plates" / "run7"
    for well in WELLS:
        for wavelength in (1, 2):
            write_tiff(folder / f"run7_{well}_s1_w{wavelength}.tif",
                       np.full((8, 8), 100 * wavelength, np.uint16))
    return folder


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def tables(tmp_path):
    """A plate map and a table of compounds."""
    pd.DataFrame({"Well": WELLS, "Compound": ["DMSO", "A", "B", "A"],
                  "Control": ["negative", "", "", ""]}).to_csv(tmp_path / "map.csv", index=False)
    pd.DataFrame({"compound": ["A", "B"], "moa": ["opioid receptor agonist", "HDAC inhibitor"]}
                 ).to_csv(tmp_path / "compounds.csv", index=False)
    return Options(layout=tmp_path / "map.csv", moa=tmp_path / "compounds.csv")


def read(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def made(project, plates, options=None):
    found = find_plates([str(plates)])
    return make_tables(project, found, options or Options(),
                       read_state(project) or State(list(found.given)))


# Which folder


def test_a_project_lies_in_the_current_folder_and_never_in_the_plates(plates, tmp_path,
                                                                      monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = find_plates([str(plates)])
    assert project_folder(found, None) == tmp_path / "run7_moascope"
    monkeypatch.chdir(plates)
    assert project_folder(find_plates(["."]), None) == plates.parent / "run7_moascope"
    with pytest.raises(MoascopeError, match=r"--out out lies inside .*run7, in which nothing is"):
        project_folder(found, Path("out"))


def test_a_pattern_gives_the_project_the_name_of_its_folder_whatever_it_matches(tmp_path,
                                                                                monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch1").mkdir()
    for number in (1, 2):
        make_profiles(tmp_path / "s", plates=1, table="profiles.csv")
        (tmp_path / "s/profiles.csv").replace(tmp_path / f"batch1/p{number}.csv")
        found = find_plates(["batch1/*.csv"])
        assert project_folder(found, None) == tmp_path / "batch1_moascope"
        assert found.given == (str(tmp_path / "batch1/*.csv"),)
        assert len(found.paths) == number and found.holds == "profiles"
    assert project_folder(find_plates(["batch1/p1.csv"]), None) == tmp_path / "p1_moascope"


def test_a_folder_with_all_three_tables_is_a_screen(tmp_path):
    assert find_plates([str(make_profiles(tmp_path / "s", plates=1))]).holds == "screen"
    (tmp_path / "s/layout.csv").unlink()
    assert find_plates([str(tmp_path / "s")]).holds == "profiles"


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(MoascopeError, match="does not exist"):
        find_plates([str(tmp_path / "no")])


def test_a_changed_added_or_removed_file_is_another_digest(plates, project):
    found = Plates((str(plates),), (plates,), "images")
    seen = {plates_digest(found, project)}
    os.utime(plates / "run7_A01_s1_w1.tif", (1, 1))
    seen.add(plates_digest(found, project))
    (plates / "deep").mkdir()
    (plates / "deep/new.tif").touch()
    seen.add(plates_digest(found, project))
    (plates / "run7_A01_s1_w1.tif").unlink()
    seen.add(plates_digest(found, project))
    assert len(seen) == 4
    assert plates_digest(found, project) in seen


# What is made


def test_tables_are_made_once_and_again_when_the_plates_change(plates, project, tables):
    first = made(project, plates, tables)
    assert first.said == "ImageXpress / MetaXpress: 1 plate, 4 wells, 4 sites, channels w1, w2"
    assert first.outside
    screen = project / "screen"
    assert read(screen / "annotations.csv")["Metadata_MoA"].tolist() == [
        "opioid receptor agonist", "HDAC inhibitor"]
    assert read(screen / "layout.csv")["Metadata_Control"].tolist() == ["negative", "", "", ""]
    before = json.loads((screen / "plates.json").read_text())
    assert made(project, plates, tables).said == ""
    # Pictures that change under the same names are another input of the stage acquire.
    os.utime(plates / "run7_A01_s1_w1.tif", (1, 1))
    assert made(project, plates, tables).said == first.said
    assert json.loads((screen / "plates.json").read_text())["digest"] != before["digest"]


def test_a_map_and_mechanisms_may_come_later(plates, project, tables):
    made(project, plates)
    with pytest.raises(MoascopeError, match=(
            r"No well of \S+layout.csv has a compound yet.*`moascope run p --layout MAP.csv`, or "
            r"fill in Metadata_Compound and Metadata_Control in \S+ and run `moascope run p`")):
        refuse_gaps(project / "screen", "images", "moa", ["moascope", "run", "p"])
    made(project, plates, Options(layout=tables.layout))
    with pytest.raises(MoascopeError, match=(
            r"None of the 2 compounds \(A, B\) has a mechanism yet.*`moascope run p --moa "
            r"COMPOUNDS.csv`, or fill in Metadata_MoA in \S+annotations.csv and run")):
        refuse_gaps(project / "screen", "images", "moa", ["moascope", "run", "p"])
    made(project, plates, tables)
    refuse_gaps(project / "screen", "images", "moa", ["moascope", "run", "p"])


def test_what_was_said_once_holds_in_later_runs(plates, project, tables):
    made(project, plates, Options(layout=tables.layout, channels="w1=DNA"))
    assert made(project, plates).said == ""
    made(project, plates, Options(moa=tables.moa))
    assert read(project / "screen/layout.csv")["Metadata_Compound"].tolist() == [
        "DMSO", "A", "B", "A"]
    assert "FileName_DNA" in read(project / "screen/load_data.csv")
    # A map that is gone has left its layout.
    tables.layout.unlink()
    os.utime(plates / "run7_A01_s1_w1.tif", (1, 1))
    assert made(project, plates).said
    assert read(project / "screen/layout.csv")["Metadata_Compound"].tolist() == [
        "DMSO", "A", "B", "A"]


def test_the_command_to_run_next_repeats_what_was_said(plates, project):
    made(project, plates)
    with pytest.raises(MoascopeError, match=r"`moascope run p --moa m.csv --layout MAP.csv`"):
        refuse_gaps(project / "screen", "images", "moa",
                    ["moascope", "run", "p", "--layout", "bad.csv", "--moa", "m.csv"])


def test_what_a_person_filled_in_stays_and_only_gaps_are_filled(plates, project, tables):
    made(project, plates, Options(layout=tables.layout))
    table = project / "screen/annotations.csv"
    table.write_text("Metadata_Compound,Metadata_MoA,Note\nA,,\nB,my own,mine\n")
    assert made(project, plates, Options(layout=tables.layout)).said == ""
    made(project, plates, tables)
    kept = read(table)
    assert kept["Metadata_MoA"].tolist() == ["opioid receptor agonist", "my own"]
    assert kept["Note"].tolist() == ["", "mine"]


def test_a_changed_table_of_compounds_replaces_what_no_person_edited(plates, project, tables):
    made(project, plates, tables)
    tables.moa.write_text("compound,moa\nA,tubulin inhibitor\nB,HDAC inhibitor\n")
    made(project, plates, tables)
    assert read(project / "screen/annotations.csv")["Metadata_MoA"][0] == "tubulin inhibitor"


def test_another_map_does_not_overwrite_a_layout_that_a_person_edited(plates, project, tables):
    made(project, plates, tables)
    layout = project / "screen/layout.csv"
    layout.write_text(layout.read_text().replace(",B,", ",C,"))
    # The same map as before stands for nothing new.
    os.utime(plates / "run7_A01_s1_w1.tif", (1, 1))
    made(project, plates, tables)
    assert "C" in read(layout)["Metadata_Compound"].tolist()
    tables.layout.write_text(tables.layout.read_text().replace("A02,A", "A02,D"))
    with pytest.raises(MoascopeError, match=r"layout.csv was edited since .* Leave out --layout"):
        made(project, plates, tables)
    assert "C" in read(layout)["Metadata_Compound"].tolist()


def test_tables_that_a_killed_run_left_half_written_are_made_anew(plates, project, tables):
    done = made(project, plates, tables)
    whole = {path.name: path.read_bytes() for path in (project / "screen").iterdir()}
    write_state(project, State(
        done.state.plates, writing=["layout.csv", "annotations.csv"]))
    (project / "screen/layout.csv").write_text("Metadata_Plate,Metad")
    (project / "screen/load_data.csv").unlink()
    made(project, plates, tables)
    assert {path.name: path.read_bytes() for path in (project / "screen").iterdir()} == whole


def test_decisions_of_a_person_survive_and_gpcr_is_decided_where_it_is_asked(plates, project,
                                                                             tables):
    state = made(project, plates, tables).state
    assert annotate_tables(project, "moa", state)[1:] == ("", 0)
    state, said, questions = annotate_tables(project, "gpcr", state)
    assert (said, questions) == (
        "2 compounds: 1 act through a GPCR, 1 do not, 0 unknown", 0)
    table = project / "screen/annotations.csv"
    assert read(table)["gpcr"].tolist() == ["yes", "no"]
    # What was annotated counts as ours: another table of compounds replaces it.
    tables.moa.write_text("compound,moa\nA,glutamate receptor agonist\nB,HDAC inhibitor\n")
    state = annotate_tables(project, "gpcr", made(project, plates, tables).state)[0]
    assert read(table)["gpcr"].tolist() == ["unknown", "no"]
    edited = read(table)
    edited.loc[0, ["gpcr", "curator"]] = ["yes", "anna"]
    edited.to_csv(table, index=False)
    os.utime(plates / "run7_A01_s1_w1.tif", (1, 1))
    annotate_tables(project, "gpcr", made(project, plates, tables).state)
    assert read(table)["curator"].tolist() == ["anna", ""]


def test_profiles_become_tables_too_and_a_column_gives_the_mechanism(tmp_path, project):
    folder = make_profiles(tmp_path / "s", plates=1, compounds=4, controls=2)
    whole = read(folder / "layout.csv").merge(pd.read_parquet(folder / "profiles.parquet"),
                                              on=["Metadata_Plate", "Metadata_Well"])
    whole["acts_as"] = whole["Metadata_Compound"].map({"C00": "opioid receptor agonist"}).fillna("")
    (tmp_path / "p").mkdir()
    whole.to_csv(tmp_path / "p/plate.csv", index=False)
    done = made(project, tmp_path / "p/plate.csv", Options(column="acts_as"))
    assert done.said.endswith(": 1 plate, 6 profiles of 60 features") and not done.outside
    known = read(project / "screen/annotations.csv").set_index("Metadata_Compound")
    assert known["Metadata_MoA"].to_dict() == {"C00": "opioid receptor agonist", "C01": "",
                                               "C02": "", "C03": ""}


def test_a_screen_without_the_column_gpcr_names_the_command_that_adds_it(tmp_path):
    folder = make_profiles(tmp_path / "s", plates=1)
    refuse_gaps(folder, "screen", "gpcr", ["moascope", "run", "s"])
    table = read(folder / "annotations.csv").drop(columns="gpcr")
    table.to_csv(folder / "annotations.csv", index=False)
    refuse_gaps(folder, "screen", "moa", ["moascope", "run", "s"])
    with pytest.raises(MoascopeError, match=r"`moascope annotate .*` adds it; then run `moas"):
        refuse_gaps(folder, "screen", "gpcr", ["moascope", "run", "s"])


def test_a_table_that_is_not_there_is_a_sentence(plates, project, tmp_path):
    with pytest.raises(MoascopeError, match=r"no.csv does not exist. Check the path of --moa"):
        made(project, plates, Options(moa=tmp_path / "no.csv"))


@pytest.mark.parametrize(("options", "words"), [
    (Options(column="acts_as"), "--moa acts_as is not a file. Give a table with a row per comp"),
    (Options(compound="drug"), "--compound is for tables of profiles, and .*run7 holds images"),
])
def test_columns_are_for_profiles(plates, project, options, words):
    with pytest.raises(MoascopeError, match=words):
        made(project, plates, options)


def test_a_project_is_held_by_one_run(project):
    with alone(project), pytest.raises(MoascopeError, match="project is running already"), \
            alone(project):
        pass
    with alone(project):
        pass
