"""Other people's column names are recognised by one table, and never in silence where two fit."""

import pytest

from moascope.screen.columns import OF_COMPOUNDS, OF_WELLS, SPELLINGS, plain, recognise, spellings


@pytest.mark.parametrize(("header", "found"), [
    (["Metadata_Plate", "Metadata_Well", "Metadata_Compound"],
     {"Metadata_Plate": 0, "Metadata_Well": 1, "Metadata_Compound": 2}),
    # JUMP and LINCS
    (["Assay_Plate_Barcode", "well_position", "broad_sample", "mmoles_per_liter", "control_type"],
     {"Metadata_Plate": 0, "Metadata_Well": 1, "Metadata_Compound": 2, "Metadata_Control": 4}),
    # the Image Data Resource
    (["Plate", "Well", "Compound Name", "Compound InChIKey", "Compound MoA", "Control Type",
      "Compound Concentration (microMolar)"],
     {"Metadata_Plate": 0, "Metadata_Well": 1, "Metadata_Compound": 2, "Metadata_InChIKey": 3,
      "Metadata_MoA": 4, "Metadata_Control": 5}),
    (["Row", "Col", "Drug", "Solvent"],
     {"Metadata_Row": 0, "Metadata_Column": 1, "Metadata_Compound": 2, "Metadata_Solvent": 3}),
])
def test_tables_of_wells_are_understood_under_the_names_of_the_field(header, found):
    assert recognise(header, "wells") == (found, [])


def test_a_name_is_a_compound_only_in_a_table_of_compounds():
    assert recognise(["Name", "Gene", "Dose", "Role"], "compounds").columns == {
        "Metadata_Compound": 0, "Metadata_Target": 1}
    assert "Metadata_Compound" not in recognise(["Name", "Gene", "Dose", "Role"], "wells").columns


def test_our_own_name_counts_before_other_spellings():
    header = ["Compound Name", "metadata_compound", "Compound"]
    assert recognise(header, "compounds") == ({"Metadata_Compound": 1}, [])


def test_two_columns_that_fit_are_both_named():
    found, notes = recognise(["Well", "broad_sample", "pert_iname"], "wells")
    assert found == {"Metadata_Compound": 2, "Metadata_Well": 0}
    assert notes == ["'pert_iname' is read as Metadata_Compound; 'pert_iname', 'broad_sample' "
                     "could all be meant"]


@pytest.mark.parametrize("rows", ["wells", "compounds"])
def test_no_spelling_has_two_meanings(rows):
    every = [spelling for known in spellings(rows).values() for spelling in known]
    assert len(every) == len(set(every))
    assert all(plain(spelling) == spelling for spelling in every)
    assert {*SPELLINGS, *(OF_WELLS if rows == "wells" else OF_COMPOUNDS)} == set(spellings(rows))
