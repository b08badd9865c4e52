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
    ("conc_nM", "500", "0.5"), ("Concentration (mM)", "0.005", "5.0"), ("Conc_M", "5e-6", "5.0"),
    ("Final Concentration [nM]", "5", "0.005"), ("conc", "", ""), ("Metadata_dose", "5", "5.0"),
    ("conc", "100 nM", "0.1"), ("Concentration_uM", "2e-3 mM", "2.0"), ("dose", "5\u03bcM", "5.0"),
    ("dose", "1 \u00b5mol/L", "1.0"), ("dose", "5 (nM)", "0.005"), ("dose", "2 umol L-1", "2.0"),
    ("pert_dose", "10", "10.0"),
])
def test_concentrations_become_micromolar(tmp_path, column, written, micromolar):
    path = write(tmp_path / "m.csv", f"Well,Compound,{column}\nA1,x,{written}\nA2,DMSO,\n")
    wells, notes = read_plate_map(path)
    assert wells[0].get("Metadata_Concentration_uM", "") == micromolar
    bare = "M" not in column.removeprefix("Metadata_")
    assert any("m.csv: " in note for note in notes) == (bare or " " in written)


@pytest.mark.parametrize("units", ["Units", "Unit", "conc_units", "pert_dose_unit"])
def test_a_column_of_units_counts(tmp_path, units):
    path = write(tmp_path / "m.csv", f"Well,Compound,Concentration,{units}\nA1,x,100,nM\n"
                                     "A2,y,10,uM\nA3,z,1,mM\nA4,DMSO,0.1,%\n")
    wells, notes = read_plate_map(path)
    assert [well.get("Metadata_Concentration_uM") for well in wells] == ["0.1", "10.0", "1000.0",
                                                                         None]
    assert notes[0] == (f"m.csv: 'Concentration' is read with the units of '{units}' "
                        "(0.1 to 1000 uM).")


@pytest.mark.parametrize(("table", "sentence"), [
    ("Concentration_uM,Units\nA1,x,5,nM\n", "has the unit 'nM' in the column of units and another"),
    ("Concentration\nA1,x,5 mg/ml\n", "'5 mg/ml' has the unit 'mg/ml', which is not a molar"),
    ("Conc_uM,Conc_nM\nA1,x,5,500\n", "'Conc_uM' says 5 uM and 'Conc_nM' says 0.5 uM"),
    ('Concentration\nA1,x,"1,000"\n', "has a comma that may separate thousands or decimals"),
    ("Concentration\nA1,x,1:1000\n", "which is not a molar concentration"),
    ("Concentration,Units\nA1,x,5,ug/mL\n", "has the unit 'ug/mL', which is not a molar"),
])
def test_a_dose_that_could_be_two_is_refused_with_its_line(tmp_path, table, sentence):
    with pytest.raises(MoascopeError, match=f"line 2: .*{sentence}"):
        read_plate_map(write(tmp_path / "m.csv", f"Well,Compound,{table}"))


def test_the_stock_is_not_the_well(tmp_path):
    path = write(tmp_path / "m.csv", "Well,Compound,mmoles_per_liter\nA1,x,10\nA2,DMSO,\n")
    wells, notes = read_plate_map(path)
    assert wells[0]["Metadata_Concentration_uM"] == "10.0"
    assert "diluted 1:1000 in the well: 10 mM becomes 10 uM" in notes[0]
    path = write(tmp_path / "m.csv", "Well,Compound,mmoles_per_liter\nA1,x,0.01\nA2,DMSO,\n")
    assert read_plate_map(path)[0][0]["Metadata_Concentration_uM"] == "10.0"
    path = write(tmp_path / "n.csv", "Well,Compound,Stock_mM\nA1,x,10\nA2,DMSO,\n")
    wells, notes = read_plate_map(path)
    assert "Metadata_Concentration_uM" not in wells[0]
    assert "no concentration is read; 'Stock_mM' may hold one" in notes[0]
    path = write(tmp_path / "n.csv", "Well,Compound,Concentration_mM\nA1,x,10\nA2,DMSO,\n")
    assert any("usual for a stock only" in note for note in read_plate_map(path)[1])


def test_thousands_and_decimals_are_told_apart_or_refused(tmp_path):
    with pytest.raises(MoascopeError, match="'1,000' has a comma"):
        read_plate_map(write(tmp_path / "m.csv", "Well;Compound;Dose_uM\nA1;x;1,000\n"))
    path = write(tmp_path / "m.csv", "Well;Compound;Dose_uM\nA1;x;1,125\nA2;y;0,5\n")
    wells, notes = read_plate_map(path)
    assert [well["Metadata_Concentration_uM"] for well in wells] == ["1.125", "0.5"]
    assert "the comma in 'Dose_uM' is read as a decimal comma (0.5 to 1.125 uM)" in notes[0]


@pytest.mark.parametrize("name", [
    "DMSO 0.1%", "DMSO (0.5 %)", "dmso", "Dimethyl sulfoxide", "dimethylsulphoxide", "DMSO_1",
    "0.1 % (v/v) DMSO", "Vehicle (DMSO)", "D.M.S.O.", "neg. control", "(CH3)2SO", "DMSO control",
])
def test_the_vehicle_is_found_however_it_is_spelt(tmp_path, name):
    path = write(tmp_path / "m.csv", f'Well,Compound\nA1,"{name}"\nA2,DMSO + taxol\n')
    wells, notes = read_plate_map(path)
    assert [well.get("Metadata_Control", "") for well in wells] == ["negative", ""]
    assert "m.csv marks no controls; 1 well of" in notes[0]


@pytest.mark.parametrize(("header", "line", "name"), [
    ("Compound,Control", "DMSO,", "DMSO"), ("broad_sample,solvent", ",DMSO", "DMSO"),
    ("Compound,Role", "DMSO,control", "DMSO"), ("Compound,pert_type", "DMSO,ctl_vehicle", "DMSO"),
    ("Compound,control_type", ",negcon", "negative control"), ("Compound,Role", "x,NC", "x"),
    ("Compound,Role", "untreated,", "untreated"), ("Compound,Type", "water,", "water"),
])
def test_a_control_is_found_by_solvent_and_role(tmp_path, header, line, name):
    path = write(tmp_path / "m.csv", f"Well,{header}\nA1,{line}\nA2,taxol,\n")
    wells, _ = read_plate_map(path)
    assert [well.get("Metadata_Control", "") for well in wells] == ["negative", ""]
    assert wells[0]["Metadata_Compound"] == name


def test_no_control_and_an_unmarked_one_are_said(tmp_path):
    path = write(tmp_path / "m.csv", "Well,Compound\nA1,taxol\nA2,\nA3,empty\n")
    assert read_plate_map(path)[1] == [
        "m.csv: 1 well of 'empty' is read as empty.",
        "m.csv marks no negative controls and names no DMSO or vehicle; 2 wells without a compound "
        "stay empty. Write negative in a column Control, or the solvent as the compound, if there "
        "are any."]
    path = write(tmp_path / "n.csv", "Well,Compound,Control\nA1,DMSO,negative\nA2,dmso 1%,\n")
    assert "but not 1 well of dmso 1%, which count as compounds" in read_plate_map(path)[1][0]


@pytest.mark.parametrize("row", ["A1,x,0,5", "A1,x", "A1,x,1,,,7"])
def test_a_row_of_another_length_is_refused_with_its_line(tmp_path, row):
    with pytest.raises(MoascopeError, match=r"m\.csv, line 2: . values for 3 columns"):
        read_plate_map(write(tmp_path / "m.csv", f"Well,Compound,Dose_uM\n{row}\n"))
    with pytest.raises(MoascopeError, match="line 2: 3 values for 2 columns"):
        read_plate_map(write(tmp_path / "n.csv", ",1,2\nA,x,0,5\n"))


@pytest.mark.parametrize(("columns", "row"), [
    (range(1, 4), "B"), (range(1, 5), "C"), (range(1, 7), "D"), (range(1, 9), "F"),
    (range(2, 12), "G"), (range(1, 25), "P"), (range(1, 49), "AF"), (range(3, 47, 2), "B"),
])
def test_grids_are_read_by_their_numbers(tmp_path, columns, row):
    text = ("compound," + ",".join(map(str, columns)) + "\n"
            + f"{row}," + ",".join(f"c{column}" for column in columns) + "\n")
    assert compounds(write(tmp_path / "m.csv", text)) == {
        f"{row}{column:02d}": f"c{column}" for column in columns}


def test_a_row_of_rising_doses_is_no_grid_of_its_own(tmp_path):
    text = "concentration (nM),1,2,3\nA,1,2,3\nB,4,5,6\n\ncompound,1,2,3\nA,DMSO,x,y\nB,z,z,z\n"
    wells, _ = read_plate_map(write(tmp_path / "m.csv", text))
    doses = {well["Metadata_Well"]: well["Metadata_Concentration_uM"] for well in wells}
    assert doses == {"A01": "0.001", "A02": "0.002", "A03": "0.003", "B01": "0.004",
                     "B02": "0.005", "B03": "0.006"}


def test_columns_that_are_not_read_are_named(tmp_path):
    path = write(tmp_path / "m.csv", "Well,Compound,mg_per_ml,Lot\nA1,DMSO,,\n")
    assert "m.csv: 2 columns not read: 'mg_per_ml', 'Lot'." in read_plate_map(path)[1]


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
    ("Well,Compound,Compound\nA1,x,y\n", "has the column 'Compound' twice"),
    ("Well,Volume\nA1,x\n", "has no column 'Compound'"),
    ("Compound,Volume\nA1,x\n", "has no column 'Well'"),
    ("", "is empty"),
])
def test_a_map_that_cannot_be_read_names_line_and_cell(tmp_path, text, sentence):
    with pytest.raises(MoascopeError, match=sentence):
        read_plate_map(write(tmp_path / "m.csv", text))


def test_a_workbook_is_told_to_be_saved_as_csv(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"PK\x03\x04[Content_Types].xml" + bytes(50))
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
