"""Screens of profiles: what is read, what is divided by plate, and each mistake's sentence."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers import edit_csv
from profiled import make_profiles, write_profiles

from moascope.errors import MoascopeError
from moascope.screen import profile_plates, profile_tables, profiles
from moascope.screen.profile_plates import read_profile_plate, write_profile_plates
from moascope.screen.tables import read_screen
from moascope.sources.folder import acquire_folder


def table_of(folder: Path) -> pd.DataFrame:
    path = next(path for path in folder.glob("profiles.*"))
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def change(folder: Path, edit) -> Path:
    """Write the table of a screen again after `edit(table)`, which may return another one."""
    path = next(path for path in folder.glob("profiles.*"))
    table = table_of(folder)
    changed = edit(table)
    write_profiles(path, table if changed is None else changed)
    return folder


def problems(folder: Path) -> str:
    with pytest.raises(MoascopeError) as found:
        read_screen(folder)
    return "\n".join(found.value.problems)


def divided(folder: Path, out: Path):
    out.mkdir()
    return write_profile_plates(read_screen(folder).profiles, out)


@pytest.fixture
def folder(tmp_path):
    return make_profiles(tmp_path / "screen", plates=2, compounds=6, controls=4, features=12)


@pytest.mark.parametrize("table", profiles.FILES)
@pytest.mark.parametrize("sites", [0, 2])
def test_every_value_of_a_table_is_in_the_file_of_its_plate(tmp_path, table, sites):
    folder = make_profiles(tmp_path / "screen", plates=2, compounds=6, features=12, sites=sites,
                           table=table)
    found = divided(folder, tmp_path / "out")
    assert found.by_site == bool(sites)
    given = table_of(folder).sort_values(["Metadata_Plate", "Metadata_Well"], kind="stable")
    for plate, rows in given.groupby("Metadata_Plate"):
        meta, values = read_profile_plate(found, plate)
        assert meta["Metadata_Well"].tolist() == rows["Metadata_Well"].tolist()
        assert values.dtype == np.float32
        assert np.array_equal(values, rows[list(found.features)].to_numpy(np.float32))


@pytest.mark.parametrize("table", ["profiles.parquet", "profiles.csv"])
def test_a_screen_of_profiles_has_their_rows_as_sites_and_no_channels(tmp_path, table):
    screen = read_screen(make_profiles(tmp_path / "screen", table=table))
    assert screen.channels == ()
    assert len(screen.sites) == 96
    assert set(screen.sites["Metadata_Site"]) == {1}
    assert repr(screen).endswith("profiles of 60 features)")
    assert screen.warnings == ()


def test_an_acquired_screen_of_profiles_reads_as_the_one_it_was_made_from(folder, tmp_path):
    acquire_folder(folder, out := tmp_path / "acquired")
    given, acquired = read_screen(folder), read_screen(out)
    for table in ("sites", "layout", "annotations"):
        pd.testing.assert_frame_equal(getattr(given, table), getattr(acquired, table))
    assert acquired.profiles.features == given.profiles.features
    assert acquired.warnings == given.warnings
    acquire_folder(out, again := tmp_path / "again")
    assert read_screen(again).profiles.digests == acquired.profiles.digests


def test_only_the_plate_that_changed_gets_another_digest(folder, tmp_path):
    before = divided(folder, tmp_path / "before").digests

    def edit(table):
        table.loc[table["Metadata_Plate"] == "Plate2", "Cells_Feature_3"] += 1

    after = divided(change(folder, edit), tmp_path / "after").digests
    assert before["Plate1"] == after["Plate1"]
    assert before["Plate2"] != after["Plate2"]


@pytest.mark.parametrize("table", ["profiles.parquet", "profiles.csv"])
def test_a_table_in_any_order_and_in_small_pieces_gives_the_same_plates(
        tmp_path, monkeypatch, table):
    folder = make_profiles(tmp_path / "screen", plates=3, features=12, sites=2, table=table)
    whole = divided(folder, tmp_path / "whole")
    change(folder, lambda table: table.sample(frac=1, random_state=0))
    monkeypatch.setattr(profile_tables, "BYTES_AT_ONCE", 2048)
    monkeypatch.setattr(profile_plates, "BYTES_AT_ONCE", 2048)
    monkeypatch.setattr(profile_tables, "_BLOCK", 4096)
    assert divided(folder, tmp_path / "pieces").digests == whole.digests


def test_a_long_row_group_is_read_a_few_columns_at_a_time(tmp_path, monkeypatch):
    folder = make_profiles(tmp_path / "screen", plates=1, features=12)
    monkeypatch.setattr(profile_tables, "BYTES_AT_ONCE", 32 * 8 * 5)
    blocks, pieces = profiles.read_values(read_screen(folder).profiles)
    assert [block.stop - block.start for block in blocks] == [5, 5, 2]
    assert [values.shape for _, _, values in pieces] == [(32, 5), (32, 5), (32, 2)]


def test_several_rows_of_a_well_are_averaged_without_the_missing_values(folder, tmp_path):
    def edit(table):
        more = table.assign(Cells_Feature_0=table["Cells_Feature_0"] + 2)
        more.loc[:, "Cells_Feature_1"] = np.nan
        return pd.concat([table, more], ignore_index=True)

    given = table_of(folder)
    screen = read_screen(change(folder, edit))
    assert screen.warnings == (
        "profiles.parquet has several rows for 20 wells (40 rows in all); the mean of a well's "
        "rows is its profile.",)
    found = divided(folder, tmp_path / "out")
    meta, values = read_profile_plate(found, "Plate1")
    own = given[given["Metadata_Plate"] == "Plate1"].set_index("Metadata_Well")
    own = own.loc[meta["Metadata_Well"]]
    np.testing.assert_allclose(values[:, 0], own["Cells_Feature_0"] + 1, rtol=1e-5)
    np.testing.assert_allclose(values[:, 1], own["Cells_Feature_1"], rtol=1e-5)


def test_columns_that_are_no_single_numbers_are_named_and_left_out(folder):
    def edit(table):
        table["gene"] = "ABC"
        table["passed"] = True

    screen = read_screen(change(folder, edit))
    assert screen.warnings == (
        "profiles.parquet: not used as features, because not all values are numbers: gene, "
        "passed. Correct those values, or leave them empty, where a column is a feature.",)
    assert len(screen.profiles.features) == 12


def test_a_word_in_the_last_line_of_a_csv_file_makes_its_column_one_of_words(
        tmp_path, monkeypatch):
    folder = make_profiles(tmp_path / "screen", features=12, table="profiles.csv")
    monkeypatch.setattr(profile_tables, "_BLOCK", 4096)

    def edit(table):
        table["Cells_Feature_3"] = table["Cells_Feature_3"].astype(object)
        table.loc[len(table) - 1, "Cells_Feature_3"] = "none seen"

    screen = read_screen(change(folder, edit))
    assert "because not all values are numbers: Cells_Feature_3." in screen.warnings[0]
    assert len(screen.profiles.features) == 11


def test_missing_and_infinite_values_of_a_csv_file_stay_what_they_are(tmp_path):
    folder = make_profiles(tmp_path / "screen", plates=1, features=4, table="profiles.csv")

    def edit(table):
        table.loc[0, "Cells_Feature_0"] = np.nan
        table.loc[1, "Cells_Feature_0"] = np.inf
        table.loc[2, "Cells_Feature_0"] = 1e300

    found = divided(change(folder, edit), tmp_path / "out")
    values = read_profile_plate(found, "Plate1")[1][:, 0]
    assert np.isnan(values).sum() == 1
    assert np.isinf(values).sum() == 2


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_row_numbers_that_pandas_writes_are_no_feature(tmp_path, index):
    folder = make_profiles(tmp_path / "screen", features=4, table="profiles.csv")
    table = pd.read_csv(folder / "profiles.csv").reset_index(names=index)
    table.to_csv(folder / "profiles.csv", index=False)
    screen = read_screen(folder)
    assert screen.profiles.features == tuple(f"Cells_Feature_{i}" for i in range(4))
    assert screen.warnings == ("profiles.csv has a column without a name, which is ignored.",)


def test_a_table_of_a_european_spreadsheet_is_read(tmp_path):
    folder = make_profiles(tmp_path / "screen", plates=1, features=4, table="profiles.csv")
    whole = divided(folder, tmp_path / "whole").digests
    pd.read_csv(folder / "profiles.csv").to_csv(folder / "profiles.csv", index=False, sep=";",
                                                decimal=",", encoding="utf-8-sig")
    assert divided(folder, tmp_path / "semicolons").digests == whole
    assert read_screen(folder).warnings == (
        "profiles.csv is separated by semicolons or tabs, and commas in its numbers were read as "
        "decimal commas.",)


SENTENCES = {
    "no numbers": (
        lambda table: table[["Metadata_Plate", "Metadata_Well"]].assign(gene="ABC"),
        "has no column of numbers besides those that start with Metadata_. Its other columns are "
        "gene, which are not single numbers. A profile has a column for each feature."),
    "a column of vectors": (
        lambda table: table[["Metadata_Plate", "Metadata_Well"]].assign(
            embedding=[[0.5, 1.5]] * len(table)),
        "embedding, which are not single numbers. A profile has a column for each feature."),
    "no plate": (
        lambda table: table.rename(columns={"Metadata_Plate": "plate"}),
        "has no column 'Metadata_Plate'. Rename 'plate' if it is that column. `moascope import` "
        "makes a screen from tables whose columns are named otherwise."),
    "no rows": (lambda table: table.head(0), "has a header but no rows. Fill it in with one row "
                                            "per well or site."),
    "a wrong well": (
        lambda table: table.assign(Metadata_Well=table["Metadata_Well"].replace("B02", "Z99")),
        "row 1: plate Plate1: 'Z99' is not a well name."),
    "a wrong site": (lambda table: table.assign(Metadata_Site="left"),
                     "row 1: Metadata_Site is 'left', which is not a whole number"),
    "other plates": (
        lambda table: table.assign(Metadata_Plate="p" + table["Metadata_Plate"]),
        "None of the wells of profiles.parquet is in layout.csv (plate pPlate1, well B02"),
    "two compounds": (
        lambda table: pd.concat([table.assign(Metadata_Compound="C00"),
                                 table.assign(Metadata_Compound="C01")], ignore_index=True),
        "row 21: plate Plate1, well B02 holds C01 here and C00 in row 1. A well holds one "
        "compound; correct the row or its well."),
    "another compound than the layout's": (
        lambda table: table.assign(Metadata_Compound="aspirin"),
        "profiles.parquet and layout.csv name different compounds in 20 wells: plate Plate1, well "
        "B02 holds aspirin in one and "),
}


@pytest.mark.parametrize("mistake", SENTENCES)
def test_a_mistake_is_a_sentence(folder, mistake):
    edit, sentence = SENTENCES[mistake]
    assert sentence in problems(change(folder, edit))


def test_a_csv_file_with_a_header_alone_is_a_sentence(tmp_path):
    folder = make_profiles(tmp_path / "screen", table="profiles.csv")
    assert "profiles.csv has a header but no rows" in problems(
        change(folder, lambda table: table.head(0)))


def test_wells_without_a_profile_and_profiles_without_a_well_are_named(folder):
    change(folder, lambda table: table.iloc[1:])
    edit_csv(folder / "layout.csv", Metadata_Well={19: "P20"})
    said = " ".join(read_screen(folder).warnings)
    assert ("1 of 19 sites of profiles.parquet lie in wells that layout.csv does not have: plate "
            "Plate2, well ") in said
    assert "layout.csv has 2 wells without a row in profiles.parquet, which are not predicted" \
        in said


def test_two_tables_of_profiles_are_one_too_many(folder):
    table_of(folder).to_csv(folder / "profiles.csv", index=False)
    assert "has profiles.parquet, profiles.csv. Keep one of them." in problems(folder)


def test_a_screen_without_images_and_profiles_is_a_sentence(folder):
    (folder / "profiles.parquet").unlink()
    assert "load_data.csv is missing" in problems(folder)


@pytest.mark.parametrize("damage", ["truncated", "words", "empty", "gzip"])
def test_a_damaged_table_is_a_sentence_that_names_it(tmp_path, damage):
    table = "profiles.csv.gz" if damage == "gzip" else "profiles.parquet"
    folder = make_profiles(tmp_path / "screen", features=12, table=table)
    path = folder / table
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:len(content) // 2], "words": b"not parquet" * 9,
                      "empty": b"", "gzip": content[:len(content) // 2]}[damage])
    said = problems(folder)
    assert said.startswith(f"{table} cannot be read (")
    assert said.count("\n") == 0


def test_a_damaged_column_is_a_sentence_while_plates_are_written(folder, tmp_path):
    path = folder / "profiles.parquet"
    found = read_screen(folder).profiles
    start = pa.parquet.read_metadata(path).row_group(0).column(5).data_page_offset
    content = bytearray(path.read_bytes())
    content[start:start + 40] = os.urandom(1) * 40
    path.write_bytes(bytes(content))
    (tmp_path / "out").mkdir()
    with pytest.raises(MoascopeError, match=r"profiles\.parquet cannot be read"):
        write_profile_plates(found, tmp_path / "out")


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    folder = make_profiles(tmp_path / "screen", features=4, table="profiles.csv.gz")
    monkeypatch.setattr(profile_tables, "_SMALL", 2**20)
    line = b"Plate1,B02" + b",0" * 4 + b"\n"
    header = b"Metadata_Plate,Metadata_Well,a,b,c,d\n"
    (folder / "profiles.csv.gz").write_bytes(gzip.compress(header + line * 2_000_000))
    assert problems(folder) == (
        "profiles.csv.gz unpacks to more than 200 times its size, which no table of measurements "
        "does. Write it again.")


def test_profiles_behind_a_link_are_not_followed_out_of_a_received_screen(folder, tmp_path):
    (folder / "profiles.parquet").rename(tmp_path / "elsewhere.parquet")
    (folder / "profiles.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    assert len(read_screen(folder).sites) == 20
    with pytest.raises(MoascopeError, match="is a link that leads out of"):
        read_screen(folder, received=True)


def test_an_acquired_screen_whose_plate_was_lost_says_so(folder, tmp_path):
    acquire_folder(folder, out := tmp_path / "acquired")
    (out / "profiles/Plate2.parquet").unlink()
    assert "lacks the profiles of Plate2. Run the acquire stage again" in problems(out)
