"""The validator of the three tables: every bad input has one sentence, and all are said at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import edit_csv, make_screen

from moascope.errors import MoascopeError
from moascope.screen.description import read_description, write_description
from moascope.screen.tables import read_screen, write_screen
from moascope.work.files import write_csv


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_screen(tmp_path / "screen", plates=2, images=False)


def problems(folder: Path, **options) -> list[str]:
    with pytest.raises(MoascopeError) as caught:
        read_screen(folder, **options)
    return caught.value.problems


def only_problem(folder: Path, **options) -> str:
    found = problems(folder, **options)
    assert len(found) == 1, found
    return found[0]


def replace(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def drop_column(path: Path, column: str) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.drop(columns=column).to_csv(path, index=False)


# What is read


def test_a_sound_screen_is_read_without_a_warning(folder):
    screen = read_screen(folder)
    assert screen.warnings == ()
    assert screen.channels == ("DNA", "Actin")
    assert list(screen.sites.columns) == [
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel",
        "FileName_DNA", "Frame_DNA", "FileName_Actin", "Frame_Actin"]
    assert screen.sites["Metadata_Site"].dtype == np.int64
    assert screen.layout["Metadata_Concentration_uM"].isna().sum() == 4
    assert screen.images == folder


def test_wells_are_spelt_alike_and_rows_are_sorted(folder):
    edit_csv(folder / "load_data.csv", Metadata_Well={0: "b2"})
    table = pd.read_csv(folder / "load_data.csv", dtype=str, keep_default_na=False)
    table.iloc[::-1].to_csv(folder / "load_data.csv", index=False)
    sites = read_screen(folder).sites
    assert sites["Metadata_Well"][0] == "B02"
    keys = sites[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]]
    pd.testing.assert_frame_equal(keys, keys.sort_values(list(keys)))


def test_wells_of_1536_plates_are_read(folder):
    for name in ("load_data.csv", "layout.csv"):
        table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
        table["Metadata_Well"] = table["Metadata_Well"].replace("B02", "AF48")
        table.to_csv(folder / name, index=False)
    assert "AF48" in set(read_screen(folder).sites["Metadata_Well"])


def test_missing_batch_and_panel_mean_one_of_each(folder):
    drop_column(folder / "load_data.csv", "Metadata_Batch")
    drop_column(folder / "load_data.csv", "Metadata_Panel")
    sites = read_screen(folder).sites
    assert set(sites["Metadata_Batch"]) == set(sites["Metadata_Panel"]) == {""}


def test_extra_columns_are_kept_untouched(folder):
    edit_csv(folder / "load_data.csv", Metadata_Microscope=" NA ", Quality="007")
    edit_csv(folder / "annotations.csv", note="1e5")
    screen = read_screen(folder)
    assert set(screen.sites["Metadata_Microscope"]) == {" NA "}
    assert set(screen.sites["Quality"]) == {"007"}
    assert set(screen.annotations["note"]) == {"1e5"}


def test_numbers_that_went_through_a_spreadsheet_are_read(folder):
    edit_csv(folder / "load_data.csv", Frame_DNA="1.0",
             Metadata_Site={0: "1.0"})
    sites = read_screen(folder).sites
    assert set(sites["Frame_DNA"]) == {1}


@pytest.mark.parametrize("encode", [
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace(",", ";").encode(),
    lambda text: text.replace(",", "\t").encode("utf-16"),
    lambda text: text.replace("Metadata_Well", " Metadata_Well ").encode(),
    lambda text: (text + "\n\n,,,,\n").encode(),
])
def test_files_as_spreadsheets_write_them_are_read(folder, encode):
    expected = read_screen(folder).layout
    path = folder / "layout.csv"
    path.write_bytes(encode(path.read_text()))
    screen = read_screen(folder)
    pd.testing.assert_frame_equal(screen.layout, expected)
    assert screen.warnings == ()


def test_a_decimal_comma_is_read_between_semicolons_and_reported(folder):
    path = folder / "layout.csv"
    path.write_text(path.read_text().replace("1.0", "0.3").replace(",", ";").replace("0.3", "0,3"))
    screen = read_screen(folder)
    assert 0.3 in set(screen.layout["Metadata_Concentration_uM"])
    assert "decimal comma" in screen.warnings[0]


def test_a_comma_that_may_separate_thousands_is_refused(folder):
    path = folder / "layout.csv"
    path.write_text(path.read_text().replace(",", ";").replace("1.0", "1,000"))
    with pytest.raises(MoascopeError, match="may separate thousands or decimals"):
        read_screen(folder)


def test_a_column_of_units_in_the_layout_is_said_to_be_unused(folder):
    path = folder / "layout.csv"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first + ",Units", *(line + ",nM" for line in rest)]) + "\n")
    assert "'Units', which is not used" in " ".join(read_screen(folder).warnings)


def test_wells_that_look_like_controls_and_are_not_marked_are_reported(folder):
    path = folder / "layout.csv"
    text = path.read_text()
    path.write_text(text.replace("DMSO", "DMSO 0.1%", 1).replace(",negative", ",", 1))
    assert "1 well of DMSO 0.1% not marked as negative controls" in " ".join(
        read_screen(folder).warnings)


def test_latin_1_is_read_with_a_warning(folder):
    path = folder / "annotations.csv"
    path.write_bytes(path.read_text().replace("tubulin", "tubulin µ").encode("latin-1"))
    screen = read_screen(folder)
    assert "tubulin µ inhibitor" in set(screen.annotations["Metadata_MoA"])
    assert "not UTF-8" in screen.warnings[0]


def test_windows_paths_and_path_columns_are_folded_into_the_file_name(folder):
    table = pd.read_csv(folder / "load_data.csv", dtype=str, keep_default_na=False)
    table["FileName_DNA"] = table["FileName_DNA"].str.replace("/", "\\")
    table["PathName_Actin"] = str(folder / "images" / "Plate1")
    table["FileName_Actin"] = [f"../Plate1/{number}.tif" for number in range(len(table))]
    table.to_csv(folder / "load_data.csv", index=False)
    sites = read_screen(folder).sites
    assert sites["FileName_DNA"][0] == "images/Plate1/B02_s1_DNA.tif"
    assert sites["FileName_Actin"][0] == "images/Plate1/0.tif"
    assert "PathName_Actin" not in sites


def test_a_panel_may_lack_a_channel(folder):
    edit_csv(folder / "load_data.csv", FileName_Actin={0: ""})
    assert read_screen(folder).sites["FileName_Actin"][0] == ""


def test_what_is_written_reads_the_same_and_has_the_same_bytes(folder, tmp_path):
    edit_csv(folder / "layout.csv", Metadata_Concentration_uM={3: "0.1", 4: "1e-3", 5: "3"})
    screen = read_screen(folder)
    write_screen(screen, tmp_path / "one")
    write_screen(read_screen(tmp_path / "one"), tmp_path / "two")
    for name in ("load_data.csv", "layout.csv", "annotations.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    again = read_screen(tmp_path / "one")
    pd.testing.assert_frame_equal(again.sites, screen.sites)
    pd.testing.assert_frame_equal(again.layout, screen.layout)
    pd.testing.assert_frame_equal(again.annotations, screen.annotations)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "annotations.csv", "layout.csv", "load_data.csv"]


def test_source_json_says_where_the_images_are(folder, tmp_path, monkeypatch):
    write_description(folder, {"images": "plates", "source": "folder"})
    assert read_screen(folder).images == Path("plates")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert read_screen(folder).images == tmp_path / "plates"
    (folder / "source.json").write_text("[1")
    with pytest.raises(MoascopeError, match=r"source\.json is not valid JSON"):
        read_description(folder)


def test_a_screen_that_an_earlier_release_acquired_is_described_by_screen_json(folder):
    (folder / "screen.json").write_text(json.dumps({"images": "plates", "licence": "CC0"}))
    assert read_screen(folder).images == Path("plates")
    assert read_description(folder)["licence"] == "CC0"
    with pytest.raises(MoascopeError, match=r"screen\.json says that the images lie outside"):
        read_screen(folder, received=True)
    write_description(folder, {"images": "."})
    assert read_screen(folder, received=True).images == folder


def test_what_layout_measured_describes_no_screen(folder):
    (folder / "screen.json").write_text(json.dumps({"source": "folder", "confounds": []}))
    assert read_description(folder) == {}


def test_who_reads_tables_only_does_not_look_where_images_are(folder):
    write_description(folder, {"images": "/"})
    edit_csv(folder / "load_data.csv", FileName_DNA={1: "../../elsewhere.tif"})
    assert read_screen(folder, tables_only=True).images == folder
    (folder / "source.json").write_text("[1")
    assert len(read_screen(folder, tables_only=True).layout)


# What is refused


def test_all_problems_of_all_tables_are_reported_at_once(folder):
    edit_csv(folder / "load_data.csv", Metadata_Well={1: "Q99"})
    edit_csv(folder / "layout.csv", Metadata_Concentration_uM={2: "-1"})
    drop_column(folder / "annotations.csv", "Metadata_MoA")
    found = problems(folder)
    assert [problem.split(",")[0].split(" ")[0] for problem in found] == [
        "load_data.csv", "layout.csv", "annotations.csv"]


def test_a_folder_that_does_not_exist(tmp_path):
    assert "is not a folder" in only_problem(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["load_data.csv", "layout.csv", "annotations.csv"])
def test_a_missing_table(folder, name):
    (folder / name).unlink()
    assert only_problem(folder).startswith(f"{name} is missing from ")


@pytest.mark.parametrize("name", ["load_data.csv", "layout.csv"])
def test_an_empty_table(folder, name):
    (folder / name).write_text("")
    assert f"{name} is empty" in only_problem(folder)


def test_a_table_with_a_header_only(folder):
    header = (folder / "layout.csv").read_text().splitlines()[0]
    (folder / "layout.csv").write_text(header + "\n")
    assert only_problem(folder).startswith("layout.csv has a header but no rows")


def test_a_screen_without_any_annotation_is_workable(folder):
    (folder / "annotations.csv").write_text("Metadata_Compound,Metadata_MoA\n")
    screen = read_screen(folder)
    assert len(screen.annotations) == 0
    assert screen.warnings == ("layout.csv has 4 compounds without a row in annotations.csv, "
                               "treated as of unknown mechanism: C00, C01, C02, C03.",)


def test_one_compound_named_with_its_doses_is_refused(folder):
    edit_csv(folder / "layout.csv", Metadata_Compound={2: "C00 1 uM", 3: "C00 10 uM"})
    assert only_problem(folder).startswith(
        "layout.csv names 'C00 1 uM', 'C00 10 uM', which are one compound in several doses. Write "
        "'C00' and put the doses into Metadata_Concentration_uM")


def test_a_quotation_mark_swallows_no_row(folder):
    text = (folder / "annotations.csv").read_text().replace("C00,histamine", 'C00,"histamine')
    (folder / "annotations.csv").write_text(text)
    assert only_problem(folder).startswith("annotations.csv, line 2: a quotation mark")


def test_the_point_of_german_thousands_is_refused(folder):
    edit_csv(folder / "layout.csv", Metadata_Concentration_uM="1.000")
    replace(folder / "layout.csv", ",", ";", -1)
    assert "whose point may separate thousands" in problems(folder)[0]


def test_an_excel_workbook_under_the_name_of_a_table(folder):
    (folder / "layout.csv").write_bytes(b"PK\x03\x04[Content_Types].xml" + bytes(100))
    assert "is an Excel workbook, not CSV" in only_problem(folder)


@pytest.mark.parametrize(("column", "renamed"), [
    ("Metadata_Compound", "compound"), ("Metadata_Well", "Well"),
    ("Metadata_Concentration_uM", "Concentration_uM"), ("Metadata_Plate", "Image_Metadata_Plate"),
])
def test_a_missing_column_with_a_near_name_is_suggested(folder, column, renamed):
    replace(folder / "layout.csv", column, renamed)
    sentence = only_problem(folder)
    assert sentence.startswith(f"layout.csv has no column '{column}'")
    assert f"Rename '{renamed}'" in sentence


def test_a_missing_column_without_a_near_name_lists_those_found(folder):
    drop_column(folder / "layout.csv", "Metadata_Control")
    sentence = only_problem(folder)
    assert "Its columns are Metadata_Plate, Metadata_Well, Metadata_Compound" in sentence


def test_no_image_column(folder):
    replace(folder / "load_data.csv", "FileName_DNA,FileName_Actin", "URL_DNA,URL_Actin")
    assert "has no column 'FileName_<Channel>'" in only_problem(folder)


def test_a_column_twice(folder):
    replace(folder / "layout.csv", "Metadata_Control", "Metadata_Well")
    assert only_problem(folder) == "layout.csv has the column 'Metadata_Well' twice. Remove one."


def test_a_line_of_another_length_names_its_line(folder):
    replace(folder / "annotations.csv", "C01,tubulin inhibitor", "C01,tubulin inhibitor, strong")
    assert only_problem(folder).startswith("annotations.csv, line 3: 4 values for 3 columns.")


def test_line_numbers_are_those_of_the_file_even_after_line_breaks_in_values(folder):
    replace(folder / "annotations.csv", "histamine receptor antagonist", '"histamine\nantagonist"')
    replace(folder / "annotations.csv", "C03,", ",")
    assert only_problem(folder).startswith("annotations.csv, line 6: ")


@pytest.mark.parametrize("name", ["load_data.csv", "layout.csv"])
def test_an_invalid_well_name(folder, name):
    edit_csv(folder / name, Metadata_Well={1: "R99"})
    assert only_problem(folder) == (
        f"{name}, line 3: plate Plate1: 'R99' is not a well name. Write a row A to AF and a "
        "column 1 to 48, like B02.")


@pytest.mark.parametrize("plate", ["", "a/b", "a\\b", ".hidden", "..", "a\tb", "x" * 201])
def test_a_plate_name_that_cannot_name_a_folder(folder, plate):
    edit_csv(folder / "load_data.csv", Metadata_Plate={1: plate})
    assert "cannot be a plate name" in only_problem(folder)


def test_a_site_listed_twice(folder):
    edit_csv(folder / "load_data.csv", Metadata_Site={1: "1"}, Metadata_Well={1: "b2"})
    assert only_problem(folder).startswith(
        "load_data.csv, line 3: plate Plate1, well B02, site 1 is already in line 2.")


def test_a_well_listed_twice(folder):
    edit_csv(folder / "layout.csv", Metadata_Well={1: "B2"})
    assert problems(folder) == [
        "layout.csv, line 3: plate Plate1, well B02 is already in line 2. "
        "Each well has one row; remove one."]


def test_many_rows_with_one_problem_make_few_sentences(folder):
    edit_csv(folder / "load_data.csv", Metadata_Well="none")
    found = problems(folder)
    assert len(found) == 11
    assert found[-1].startswith("load_data.csv: 22 more lines with the same problem as line 2: ")


@pytest.mark.parametrize("site", ["", "one", "-1", "1.5", "f01"])
def test_a_site_that_is_not_a_number(folder, site):
    edit_csv(folder / "load_data.csv", Metadata_Site={3: site})
    assert only_problem(folder).startswith(
        f"load_data.csv, line 5: Metadata_Site is '{site}', which is not a whole number")


def test_a_site_without_any_image(folder):
    edit_csv(folder / "load_data.csv", FileName_DNA={0: ""}, FileName_Actin={0: ""})
    assert "line 2: plate Plate1, well B02 has no file name in any channel" in only_problem(folder)


@pytest.mark.parametrize("concentration", ["ten", "-3", "1 uM", "inf", "1,5"])
def test_an_invalid_concentration(folder, concentration):
    edit_csv(folder / "layout.csv", Metadata_Concentration_uM={4: concentration})
    assert only_problem(folder).startswith(
        f"layout.csv, line 6: Metadata_Concentration_uM is '{concentration}', which is not a "
        "concentration in micromolar.")


def test_a_control_by_another_word(folder):
    edit_csv(folder / "layout.csv", Metadata_Control={0: "Negative Control"})
    assert only_problem(folder) == (
        "layout.csv, line 2: Metadata_Control is 'Negative Control'. "
        "Write 'negative', 'positive', or leave it empty.")


def test_a_control_without_a_compound(folder):
    edit_csv(folder / "layout.csv", Metadata_Compound={0: ""})
    assert "is a control without a Metadata_Compound" in only_problem(folder)


def test_an_annotation_without_a_compound(folder):
    edit_csv(folder / "annotations.csv", Metadata_Compound={2: " "})
    assert only_problem(folder) == (
        "annotations.csv, line 4: Metadata_Compound is empty. "
        "Name the compound, or remove the line.")


def test_a_compound_annotated_twice_alike_is_fine(folder):
    path = folder / "annotations.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    assert read_screen(folder).annotations["Metadata_Compound"].is_unique


def test_a_compound_annotated_twice_otherwise(folder):
    path = folder / "annotations.csv"
    path.write_text(path.read_text() + "C00,tubulin inhibitor,no\n")
    assert only_problem(folder).startswith(
        "annotations.csv, line 6: C00 is annotated differently in line 2.")


def test_an_invalid_gpcr_value(folder):
    edit_csv(folder / "annotations.csv", gpcr={0: "maybe"})
    assert "gpcr is 'maybe'. Write 'yes', 'no', 'unknown'" in only_problem(folder)


@pytest.mark.parametrize("name", [
    "../outside.tif", "images/../../outside.tif", "/etc/passwd", "..\\outside.tif",
    "C:\\data\\a.tif", "images/link_to_outside/a.tif", "images/link.tif",
])
def test_a_path_that_leaves_the_screen_folder(folder, name):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "a.tif").write_bytes(b"")
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images/link_to_outside").symlink_to(outside)
    (folder / "images/link.tif").symlink_to(outside / "a.tif")
    edit_csv(folder / "load_data.csv", FileName_DNA={0: name})
    sentence = only_problem(folder)
    assert sentence.startswith("load_data.csv, line 2: FileName_DNA points outside the screen's "
                               "folder (")
    assert "acquire.allow_outside" in sentence
    read_screen(folder, allow_outside=True)


def test_links_within_the_folder_are_fine(folder):
    (folder / "images/real").mkdir(parents=True)
    (folder / "images/alias").symlink_to(folder / "images/real")
    edit_csv(folder / "load_data.csv", FileName_DNA={0: "images/alias/a.tif"})
    assert read_screen(folder).sites["FileName_DNA"][0] == "images/alias/a.tif"


def test_no_site_in_the_layout(folder):
    edit_csv(folder / "layout.csv", Metadata_Plate="Other")
    found = problems(folder)
    assert found[-1].startswith("None of the wells of load_data.csv is in layout.csv")


# What is odd but workable


def test_some_sites_outside_the_layout_are_a_warning(folder):
    edit_csv(folder / "load_data.csv", Metadata_Well={0: "H12"})
    assert read_screen(folder).warnings == (
        "1 of 32 sites of load_data.csv lie in wells that layout.csv does not have: plate Plate1, "
        "well H12. Their compound is not known, so they are not used for training.",)


def test_names_that_differ_in_case_only_are_pointed_out(folder):
    edit_csv(folder / "annotations.csv", Metadata_Compound={0: "c00"})
    warnings = " ".join(read_screen(folder).warnings)
    assert "'C00' and 'c00'" in warnings


def test_one_picture_for_two_channels_is_pointed_out(folder):
    table = pd.read_csv(folder / "load_data.csv", dtype=str)
    edit_csv(folder / "load_data.csv", FileName_Actin=table["FileName_DNA"])
    assert "lists 32 planes more than once" in read_screen(folder).warnings[0]


@pytest.mark.real
@pytest.mark.parametrize(("name", "sites", "channels"), [
    ("bbbc021", 420, ("Actin", "Tubulin", "DNA")), ("bbbc013", 48, ("GFP", "DNA")),
])
def test_real_screens_are_read_without_a_warning(real_data, name, sites, channels):
    screen = read_screen(real_data / name)
    assert (len(screen.sites), screen.channels, screen.warnings) == (sites, channels, ())


@pytest.mark.parametrize(("address", "allowed", "said"), [
    ("s3://bucket/a.tif", False, "FileName_DNA names an image outside the screen's folder "
                                 "(s3://bucket/a.tif). Set acquire.allow_outside"),
    ("ftp://bucket/a.tif", True, "has a scheme that moascope does not read"),
    ("https://user:abcdef@host/a.tif", True, "holds a login")])
def test_an_address_is_allowed_as_any_place_outside(folder, address, allowed, said):
    edit_csv(folder / "load_data.csv", FileName_DNA={0: address})
    [sentence] = problems(folder, allow_outside=allowed)
    assert said in sentence
    assert "abcdef" not in sentence


def test_a_file_url_is_a_path_and_may_lead_outside_only_if_that_is_allowed(folder):
    inside = (folder / "images/a b.tif").resolve().as_uri()
    edit_csv(folder / "load_data.csv", FileName_DNA={0: inside, 1: "file:///etc/passwd"})
    [sentence] = problems(folder)
    assert "line 3: FileName_DNA points outside the screen's folder (/etc/passwd)" in sentence
    assert read_screen(folder, allow_outside=True).sites["FileName_DNA"][0] == "images/a b.tif"


def test_a_table_is_checked_part_by_part_as_it_is_whole(tmp_path, monkeypatch):
    folder = make_screen(tmp_path / "screen", plates=2, images=False)
    edit_csv(folder / "load_data.csv", Frame_DNA="0", Frame_Actin={3: "1", 9: "2"})
    table = pd.read_csv(folder / "load_data.csv", dtype=str, keep_default_na=False)
    # In another order, with a plane that two sites name, and a file of two frames.
    table.loc[8, "FileName_DNA"] = table.loc[1, "FileName_DNA"]
    table.loc[9, "FileName_DNA"] = table.loc[9, "FileName_Actin"]
    table[::-1].fillna("").to_csv(folder / "load_data.csv", index=False)
    whole = read_screen(folder)
    assert f"lists 1 plane more than once: {table.loc[1, 'FileName_DNA']}" in whole.warnings[0]
    for module in ("contract", "filenames"):
        monkeypatch.setattr(f"moascope.screen.{module}.ROWS_AT_ONCE", 3)
    parts = read_screen(folder)
    pd.testing.assert_frame_equal(parts.sites, whole.sites)
    assert parts.warnings == whole.warnings
    expected = whole.sites.to_csv(index=False, lineterminator="\n")
    monkeypatch.setattr("moascope.work.files._ROWS_AT_ONCE", 3)
    write_csv(tmp_path / "sites.csv", whole.sites)
    assert (tmp_path / "sites.csv").read_text() == expected
