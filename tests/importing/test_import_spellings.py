"""Plate maps as spreadsheets, other languages and tired people write them: right, or a sentence."""

from __future__ import annotations

import pytest

from moascope.errors import MoascopeError
from moascope.importing.controls import control_word
from moascope.importing.maps import read_plate_map
from moascope.screen.vehicles import is_vehicle, may_be_control


def read(tmp_path, text, encoding="utf-8"):
    """Compound, concentration and control by well, and the notes."""
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    wells, notes = read_plate_map(tmp_path / "m.csv")
    return {well["Metadata_Well"]: (well.get("Metadata_Compound", ""),
                                    well.get("Metadata_Concentration_uM", ""),
                                    well.get("Metadata_Control", ""))
            for well in wells}, "\n".join(notes)


def dose(tmp_path, header, value, delimiter="\t"):
    text = "\n".join(delimiter.join(cells) for cells in [
        ("Well", "Compound", header), ("B02", "a", value), ("B03", "DMSO", ""), ("",)])
    return float(read(tmp_path, text)[0]["B02"][1])


def refused(tmp_path, text):
    with pytest.raises(MoascopeError) as caught:
        read(tmp_path, text)
    return str(caught.value)


@pytest.mark.parametrize(("header", "value", "micromolar"), [
    ("log10 M", "-6", 1), ("logM", "-6,5", 10 ** -0.5), ("Log[M]", "\u22127", 0.1),
    ("Dose (log10 uM)", "1", 10), ("Concentration (log M)", "-9", 1e-3),
    ("Konzentration (nM)", "1000", 1), ("Concentración_nM", "5", 5e-3), ("Dosis (µM)", "2", 2),
    ("Conc", "1e\u22126 M", 1), ("Conc", "１０", 10), ("Conc", "1\u00a0µM", 1),
    ("Conc (mM)", "0,001", 1),
])
def test_a_dose_is_read_whatever_the_language_and_scale(tmp_path, header, value, micromolar):
    assert dose(tmp_path, header, value) == pytest.approx(micromolar)


@pytest.mark.parametrize(("header", "value", "sentence"), [
    ("Conc", "-6", "or name the column 'log10 M'"), ("log10 M", "6", "is not the logarithm"),
    ("log10 M", "-6 M", "is not the logarithm"),
    ("Conc", "1 000", "may separate thousands"), ("Conc", "1'000", "may separate thousands"),
    ("Conc", "1.000.000", "may separate thousands"), ("Conc", "5 %", "not a molar concentration"),
    ("Conc", "1 mg/mL", "not a molar concentration"), ("Conc", "<0.1", "is not a concentration"),
    ("Conc", "10-20", "not a molar"), ("Conc", "1:1000", "not a molar"),
])
def test_a_dose_that_can_be_read_two_ways_is_refused(tmp_path, header, value, sentence):
    text = f"Well\tCompound\t{header}\nB02\ta\t{value}\nB03\tDMSO\t\n"
    assert sentence in refused(tmp_path, text)


def test_the_point_of_german_thousands_is_not_a_decimal_point(tmp_path):
    head = "Well;Compound;Conc (nM)\n"
    assert "line 2: '1.000' has a point" in refused(tmp_path, f"{head}B02;a;1.000\nB03;b;370\n")
    assert "line 3: '1.000' has a point" in refused(tmp_path, f"{head}B02;a;0,5\nB03;b;1.000\n")
    wells, _ = read(tmp_path, f"{head}B02;a;3.333\nB03;b;0.370\n")
    assert wells["B02"][1] == "0.003333"


def test_units_of_merged_cells_are_asked_for_and_a_column_of_units_is_found(tmp_path):
    sentence = refused(tmp_path, "Well,Compound,Conc,Units\nB02,a,100,nM\nB03,b,100,\n")
    assert "line 3: '100' has no unit in the column of units" in sentence
    wells, notes = read(tmp_path, "Well,Compound,Conc,In\nB02,a,100,nM\nB03,DMSO,,\n")
    assert wells["B02"][1] == "0.1"
    assert "with the units of 'In'" in notes
    wells, notes = read(tmp_path, "Well,Compound,Conc,Sex\nB02,a,100,M\nB03,DMSO,,M\n")
    assert wells["B02"][1] == "100.0"


def test_a_dose_in_the_name_becomes_a_dose_of_one_compound(tmp_path):
    wells, notes = read(tmp_path, "Well,Treatment\nB02,aspirin 10 uM\nB03,aspirin_1µM\n"
                                  "B04,taxol (5 nM)\nB05,DMSO 0.1%\nB06,MK-801\n")
    assert wells == {"B02": ("aspirin", "10.0", ""), "B03": ("aspirin", "1.0", ""),
                     "B04": ("taxol", "0.005", ""), "B05": ("DMSO 0.1%", "", "negative"),
                     "B06": ("MK-801", "", "")}
    assert "3 names with a dose, such as 'aspirin 10 uM', read as 'aspirin' at 10 uM" in notes
    assert "line 2: the compound is 'aspirin 10 uM', and its concentration 5 uM" in refused(
        tmp_path, "Well,Compound,Conc_uM\nB02,aspirin 10 uM,5\nB03,DMSO,\n")


def test_names_that_end_in_the_same_numbers_are_pointed_out(tmp_path):
    wells, notes = read(tmp_path, "Well,Compound\nA1,aspirin_1\nA2,aspirin_10\nA3,taxol_1\n"
                                  "A4,taxol_10\nA5,DMSO\nA6,MK-801\n")
    assert wells["A01"][0] == "aspirin_1"
    assert "'aspirin', 'taxol' are each followed by 1, 10" in notes
    _, notes = read(tmp_path, "Well,Compound\nA1,CPD-1\nA2,CPD-2\nA3,MK-801\nA4,DMSO\n")
    assert "followed by" not in notes


def test_cells_left_blank_by_merging_are_pointed_out(tmp_path):
    _, notes = read(tmp_path, "Well,Compound,Conc_uM\nB02,a,1\nB03,,10\nB04,DMSO,0\n")
    assert "1 well with a concentration and without a compound: B03" in notes


@pytest.mark.parametrize("above", ["Plate map of run 7\n", "# made by hand\n\n",
                                   "Plate 1,,Treatment,\n"])
def test_lines_above_the_header_are_said(tmp_path, above):
    text = f"{above}Well,Compound,Conc (nM),x\nB02,a,1,\n"
    assert "the names of the columns seem to be in line" in refused(tmp_path, text)


def test_a_row_of_units_below_the_header_is_said(tmp_path):
    assert "line 2: it names no well" in refused(tmp_path,
                                                 "Well,Compound,Conc\n,,nM\nB02,a,1\n")


@pytest.mark.parametrize(("text", "encoding"), [
    ("sep=;\r\nWell;Compound;Conc (nM)\r\nB02;a;100\r\nB03;DMSO;\r\n", "utf-8"),
    ("Well\tCompound\tConc (nM)\nB02\ta\t100\nB03\tDMSO\t\n", "utf-16"),
    ("Well\tCompound\tConc (nM)\nB02\ta\t100\nB03\tDMSO\t\n", "utf-16-le"),
    ("Well\tCompound\tConc (nM)\nB02\ta\t100\nB03\tDMSO\t\n", "utf-16-be"),
    ("Well\tCompound\tConc (nM)\nB02\ta\t100\nB03\tDMSO\t\n", "utf-32"),
    ("\ufeff\ufeffWell,Compound,Conc (nM)\nB02,a,100\nB03,DMSO,\n", "utf-8"),
    ("Well,Compound,Conc (nM)\rB02,a,100\rB03,DMSO,\r", "utf-8"),
    ("Well|Compound|Conc (nM)\nB02|a|100\nB03|DMSO|\n", "utf-8"),
    ("Well,Compound,Conc (nM)\n\n,,\nB02,\u200ba,100\n , , \nB03,DMSO\u200b,\n", "utf-8"),
])
def test_every_way_of_saving_a_table_is_read_alike(tmp_path, text, encoding):
    wells, _ = read(tmp_path, text, encoding)
    assert wells == {"B02": ("a", "0.1", ""), "B03": ("DMSO", "", "negative")}


@pytest.mark.parametrize(("content", "sentence"), [
    (b'Well,Compound\nB02,"a\nB03,DMSO\nB04,b\n', "line 2: a quotation mark"),
    (b'Well,Compound\nB02,"a\nB03,b"\nB04,DMSO\n', "line 2: a quotation mark"),
    (b'Well,Compound\nB02,"a"b\nB04,DMSO\n', "line 2: a quotation mark"),
    (b"Well,Compound\nB02,a\nB0\x003,DMSO\n", "line 3: it holds a byte of value 0"),
    (b"\xff\xfeW\0e\0l", "begins as UTF-16 and is damaged"),
    (b"PK\x03\x04mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "LibreOffice workbook"),
    (b"PK\x03\x04[Content_Types].xml", "Excel workbook"), (b"PK\x03\x04m.csv", "a zip archive"),
    (b"%PDF-1.7", "a PDF"), (b"PAR1....", "a Parquet file"), (b"\x1f\x8b\x08", "gzip"),
])
def test_no_row_is_swallowed_and_what_is_no_table_is_named(tmp_path, content, sentence):
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(MoascopeError, match=sentence):
        read_plate_map(tmp_path / "m.csv")


def test_a_grid_with_letters_above_is_turned(tmp_path):
    wells, notes = read(tmp_path, ",A,B,C\n1,x,y,z\n2,DMSO,u,v\n")
    assert (wells["A02"], wells["C01"][0]) == (("DMSO", "", "negative"), "z")
    assert "letters are read as rows of the plate" in notes


def test_a_grid_may_hold_logarithms_and_one_without_a_title_is_asked_for(tmp_path):
    compounds = "compound,1,2\nA,x,y\nB,DMSO,u\n\n"
    wells, _ = read(tmp_path, f"{compounds}log10 M,1,2\nA,-6,-7\nB,,-5\n")
    assert wells["A02"] == ("y", "0.1", "")
    assert "say in front of the numbers what this grid holds" in refused(
        tmp_path, f"{compounds},1,2\nA,1,10\nB,0,5\n")


@pytest.mark.parametrize("name", [
    "diméthylsulfoxyde", "dimetilsulfóxido", "Dimetilsolfossido", "Methyl sulfoxide", "ДМСО",
    "二甲基亚砜", "DМSО", "ＤＭＳＯ", "DMSO_A", "DMSO rep 2", "Veh.", "Vehikel",
    "Lösungsmittelkontrolle", "solvant", "témoin négatif", "control negativo", "deuterated DMSO",
])
def test_the_vehicle_is_found_in_other_languages(name):
    assert is_vehicle(name)


@pytest.mark.parametrize("name", ["DMSO+staurosporine", "taxol in DMSO", "DMSO 10 uM aspirin",
                                  "positive control", "siRNA control"])
def test_what_is_more_than_the_vehicle_is_not_the_vehicle(name):
    assert not is_vehicle(name)
    assert not may_be_control(name)


def test_names_with_the_vehicle_in_them_and_marked_vehicles_are_pointed_out(tmp_path):
    _, notes = read(tmp_path, "Well,Compound\nA1,DMSO\nA2,DMSO+staurosporine\nA3,x in DMSO\n")
    assert "1 well of DMSO+staurosporine, which count" in notes
    _, notes = read(tmp_path, "Well,Compound,Control\nA1,DMSO,pos\nA2,a,neg\n")
    assert "1 well of DMSO as positive controls" in notes


@pytest.mark.parametrize(("word", "kind"), [
    ("Negativkontrolle", "negative"), ("témoin négatif", "negative"), ("ZPE", "negative"),
    ("Neg1", "negative"), ("ctrl-", "negative"), ("C-", "negative"), ("untrt", "negative"),
    ("Positivkontrolle", "positive"), ("HPE", "positive"), ("poscon_2", "positive"),
    ("C+", "positive"), ("+ control", "positive"), ("-", ""), ("cpd", ""), ("+", None),
    ("low", None), ("max", None), ("Kontrolle", None),
])
def test_controls_are_understood_by_word_language_and_sign(word, kind):
    assert control_word(word, "aspirin") == kind
