"""Plate maps: long tables and grids, as people write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import write_tiff
from test_import import image

from moascope.errors import MoascopeError
from moascope.importing.maps import read_plate_map
from moascope.importing.plates import import_plates
from moascope.screen.columns import recognise


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def compounds(path: Path) -> dict[str, str]:
    return {well["Metadata_Well"]: well["Metadata_Compound"] for well in read_plate_map(path)[0]}


def grid(title: str = "", **rows: str) -> str:
    """A grid of 96 wells; `A="DMSO,taxol"` is its first line."""
    lines = [title + "," + ",".join(map(str, range(1, 13)))]
    lines += [f"{letter},{cells}" for letter, cells in rows.items()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("header", [
    "Well,Compound", "Metadata_Well,Metadata_Compound", "well_position,broad_sample",
    "\ufeffWELL ID;Treatment", "Well\tDrug",
])
def test_the_usual_headers_are_understood(tmp_path, header):
    delimiter = next(mark for mark in ",;\t" if mark in header)
    text = f"{header}\nb2{delimiter}taxol\nAF48{delimiter}DMSO\n"
    assert compounds(write(tmp_path / "m.csv", text)) == {"B02": "taxol", "AF48": "DMSO"}


def test_rows_and_columns_make_wells_whether_letters_or_numbers(tmp_path):
    text = "Row,Column,Compound\nB,3,x\n2,4,y\nAA,1,z\n"
    assert compounds(write(tmp_path / "m.csv", text)) == {"B03": "x", "B04": "y", "AA01": "z"}


@pytest.mark.parametrize(("column", "written", "micromolar"), [
    ("Concentration_uM", "0.5", "0.5"), ("Dose (µM)", "0.5", "0.5"),
    ("conc_nM", "500", "0.5"), ("mmoles_per_liter", "5", "5000.0"), ("conc", "", ""),
])
def test_concentrations_become_micromolar(tmp_path, column, written, micromolar):
    path = write(tmp_path / "m.csv", f"Well,Compound,{column}\nA1,x,{written}\n")
    wells, notes = read_plate_map(path)
    assert wells[0].get("Metadata_Concentration_uM", "") == micromolar
    assert bool(notes) == (column == "conc")


def test_a_decimal_comma_is_one_where_semicolons_part_the_cells(tmp_path):
    path = write(tmp_path / "m.csv", "Well;Compound;Dose_uM\nA1;x;0,5\n")
    assert read_plate_map(path)[0][0]["Metadata_Concentration_uM"] == "0.5"


def test_words_for_controls_are_understood_and_dmso_is_one_where_there_are_none(tmp_path):
    path = write(tmp_path / "m.csv", "Well,Compound,control_type\nA1,DMSO,negcon\nA2,x,poscon\n"
                                     "A3,y,trt\n")
    wells, notes = read_plate_map(path)
    assert [well["Metadata_Control"] for well in wells] == ["negative", "positive", ""]
    assert notes == []
    path = write(tmp_path / "n.csv", "Well,Compound\nA1,DMSO\nA2,x\n")
    wells, notes = read_plate_map(path)
    assert [well.get("Metadata_Control", "") for well in wells] == ["negative", ""]
    assert notes == ["n.csv marks no controls; 1 well of DMSO used as negative controls."]


def test_a_grid_in_the_shape_of_the_plate_is_read(tmp_path):
    path = write(tmp_path / "m.csv", grid(A="DMSO,taxol", H=",,aspirin"))
    assert compounds(path) == {"A01": "DMSO", "A02": "taxol", "H03": "aspirin"}


def test_a_grid_of_384_wells_has_16_rows_and_a_96_one_8(tmp_path):
    head = "," + ",".join(f"{column:02d}" for column in range(1, 25))
    assert compounds(write(tmp_path / "m.csv", f"{head}\nP,x\n")) == {"P01": "x"}
    with pytest.raises(MoascopeError, match="'I' is not a row of a plate with 12 columns"):
        read_plate_map(write(tmp_path / "n.csv", grid(I="x")))


def test_grids_of_compounds_doses_and_plates_lie_in_one_file(tmp_path):
    text = (grid("compound", A="DMSO,taxol") + "\n" + grid("concentration_uM", A=",3")
            + "\n" + grid("control", A="negative,") + grid("P2:compound", B="x"))
    wells, notes = read_plate_map(write(tmp_path / "m.csv", text))
    assert notes == []
    of = {(well.get("Metadata_Plate"), well["Metadata_Well"]): well for well in wells}
    assert of[None, "A02"]["Metadata_Concentration_uM"] == "3.0"
    assert of[None, "A01"]["Metadata_Control"] == "negative"
    assert of["P2", "B01"]["Metadata_Compound"] == "x"
    with pytest.raises(MoascopeError, match="'volume' does not say what the grid holds"):
        read_plate_map(write(tmp_path / "n.csv", grid("volume", A="x")))


@pytest.mark.parametrize(("text", "sentence"), [
    ("Well,Compound\nZ99,x\n", "line 2: 'Z99' is not a well name"),
    ("Well,Compound,Dose_uM\nA1,x,much\n", "line 2: 'much' is not a concentration"),
    ("Well,Compound,Dose_uM\nA1,x,-1\n", "line 2: '-1' is not a concentration"),
    ("Well,Compound,Control\nA1,x,perhaps\n", "line 2: 'perhaps' is not a kind of control"),
    ("Well,Compound\nA1,x\nA01,y\n", "has two different entries for well A01: x, and y"),
    ("Well,Volume\nA1,x\n", "has no column 'Compound'"),
    ("Compound,Volume\nA1,x\n", "has no column 'Well'"),
    ("", "is empty"),
])
def test_a_map_that_cannot_be_read_names_line_and_cell(tmp_path, text, sentence):
    with pytest.raises(MoascopeError, match=sentence):
        read_plate_map(write(tmp_path / "m.csv", text))


def test_a_workbook_is_told_to_be_saved_as_csv(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(MoascopeError, match="is an Excel workbook"):
        read_plate_map(tmp_path / "m.csv")
    with pytest.raises(MoascopeError, match="cannot be read"):
        read_plate_map(tmp_path / "nowhere.csv")


def test_cellprofilers_channel_at_the_end_of_a_column_does_not_hide_it():
    header = ["Image_Metadata_Well_DAPI", "Image_Metadata_Plate_DAPI", "Image_FileName_DAPI"]
    assert recognise(header, "wells", per_channel=True) == (
        {"Metadata_Plate": 1, "Metadata_Well": 0}, [])
    assert recognise(header, "wells").columns == {}


# In an import


def plates(folder: Path, *names: str) -> Path:
    for plate in names:
        for well in ("A01", "A02", "A03"):
            image(folder / plate / f"x_{well}_s1_w1.tif")
    return folder


def test_a_map_without_plates_is_that_of_every_plate(tmp_path):
    path = write(tmp_path / "m.csv", "Well,Compound,MoA,InChIKey\nA1,DMSO,,\nA2,taxol,tubulin,K\n"
                                     "H12,aspirin,COX,\n")
    imported = import_plates(plates(tmp_path / "in", "P1", "P2"), tmp_path / "out", layout=path)
    layout = imported.screen.layout
    assert list(layout["Metadata_Compound"]) == ["DMSO", "taxol", ""] * 2
    assert list(layout["Metadata_Control"]) == ["negative", "", ""] * 2
    assert imported.screen.annotations.to_numpy().tolist() == [["taxol", "tubulin", "K"]]
    assert any("has 2 wells without images" in note for note in imported.notes)
    assert any("m.csv lacks 2 wells with images" in note for note in imported.notes)


def test_a_map_with_plates_is_matched_by_their_names(tmp_path):
    path = write(tmp_path / "m.csv", "Plate,Well,Compound\np1,A1,x\nP2,A1,y\nP9,A1,z\n")
    imported = import_plates(plates(tmp_path / "in", "P1", "P2"), tmp_path / "out", layout=path)
    layout = imported.screen.layout[imported.screen.layout["Metadata_Well"] == "A01"]
    assert list(layout["Metadata_Compound"]) == ["x", "y"]
    assert any("1 plate without images: P9. The images are of plates P1, P2" in note
               for note in imported.notes)


def test_what_a_map_says_of_one_plate_counts_more_than_what_it_says_of_all(tmp_path):
    path = write(tmp_path / "m.csv", grid("P2:compound", A="y,y,y") + grid(A="x,x,x"))
    imported = import_plates(plates(tmp_path / "in", "P1", "P2"), tmp_path / "out", layout=path)
    assert list(imported.screen.layout["Metadata_Compound"]) == ["x"] * 3 + ["y"] * 3


def test_a_map_of_other_plates_is_an_error(tmp_path):
    path = write(tmp_path / "m.csv", "Plate,Well,Compound\nX,A1,x\n")
    with pytest.raises(MoascopeError, match=r"has none of the plates that were found \(P1\)"):
        import_plates(plates(tmp_path / "in", "P1"), tmp_path / "out", layout=path)
    assert not (tmp_path / "out/layout.csv").exists()


def test_a_map_is_not_taken_in_place_of_a_filled_in_layout(tmp_path):
    path = write(tmp_path / "m.csv", "Well,Compound\nA1,x\n")
    folder = plates(tmp_path / "in", "P1")
    import_plates(folder, tmp_path / "out")
    with pytest.raises(MoascopeError, match=r"layout\.csv already exists"):
        import_plates(folder, tmp_path / "out", layout=path, update=True)


def test_a_name_that_breaks_csv_or_a_folder_survives(tmp_path):
    folder = tmp_path / "in" / 'odd, "plate"'
    write_tiff(folder / "x_A01_s1_w1.tif", np.ones((4, 4), np.uint16))
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert list(imported.screen.sites["Metadata_Plate"]) == ['odd, "plate"']
