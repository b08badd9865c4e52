from types import SimpleNamespace

import pandas as pd
import pytest

from moascope.learning import leaks
from moascope.learning.folds import Folds
from moascope.learning.leaks import LeakError, audit_leaks
from moascope.screen.question import Question


def plane_rows(**columns):
    table = pd.DataFrame({
        "Metadata_Plate": "P", "Metadata_Well": ["B02", "B03", "B04"],
        "Metadata_Group": ["g0", "g1", "g2"], "Metadata_Compound": ["C0", "C1", "C2"],
        "SHA256": ["x", "y", "z"], "Fold_0": [0, 1, 2],
    })
    return table.assign(**columns)


def test_clean_folds_pass_the_audit():
    assert audit_leaks(plane_rows(), 1)["wells"] == 3


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"SHA256": ["x", "x", "z"]}, "image file"),
        ({"Metadata_Well": ["B02", "B02", "B04"]}, "well"),
        ({"Metadata_Compound": ["C0", "C0", "C2"]}, "compound"),
        ({"Metadata_Group": ["g0", "g0", "g2"]}, "unit"),
        ({"Metadata_Compound": ["Taxol", " taxol", "C2"]}, "compound"),
        ({"Metadata_Compound": ["Taxol|x", "y|TAXOL", "C2"]}, "compound"),
        ({"Metadata_Family": ["f", "g", "f"]}, "family"),
        ({"Structure": ["RCINICONZNJXQF", "", "RCINICONZNJXQF"]}, "structure"),
    ],
)
def test_anything_shared_by_two_folds_is_a_leak(columns, word):
    with pytest.raises(LeakError, match=f"Leak: the {word} "):
        audit_leaks(plane_rows(**columns), 1)


def test_blank_pictures_are_no_leak():
    audit_leaks(plane_rows(SHA256=["", "", ""]), 1)


def test_the_audit_says_how_many_of_each_kind_it_compared():
    rows = plane_rows(SHA256=["x", "", ""], Profile=["p", "q", "q"], Structure=["s", "", ""],
                      Metadata_Family=["f", "g", "h"], Metadata_Compound=["C0|D", "C1", ""],
                      Fold_0=[0, 1, 1])
    assert audit_leaks(rows, 1) == {"groups": 3, "compounds": 3, "structures": 1, "families": 3,
                                    "wells": 3, "sha256s": 1, "profiles": 2}


@pytest.mark.parametrize(("column", "word", "advice"), [
    ("SHA256", "image file", "The same picture stands under different compounds; remove one of "
                             "them."),
    ("Profile", "profile", "The same profile stands under different compounds; remove one of "
                           "them."),
    ("Structure", "structure", "The folds table was not made by `split`.")])
def test_a_leak_names_what_is_shared_by_which_compounds_and_where(column, word, advice):
    rows = plane_rows(**{column: [40 * "k" + "X", "y", 40 * "k" + "X"]})
    with pytest.raises(LeakError) as error:
        audit_leaks(rows, 1)
    assert str(error.value) == (f"Leak: the {word} {40 * 'k'} (C0 and C2; P B02, P B04) is in "
                                f"several folds. {advice}")


def test_a_leak_of_the_last_repeat_is_a_leak():
    shared = {"SHA256": ["x", "x", "z"], "Fold_0": [0, 0, 1], "Fold_1": [0, 1, 1]}
    audit_leaks(plane_rows(**shared), 1)
    with pytest.raises(LeakError, match="image file x"):
        audit_leaks(plane_rows(**shared), 2)


def test_five_leaks_are_enough_to_be_told():
    table = pd.concat([plane_rows(SHA256=f"s{i}", Metadata_Group=[f"g{i}a", f"g{i}b", f"g{i}c"],
                                  Metadata_Compound=[f"C{i}a", f"C{i}b", f"C{i}c"],
                                  Metadata_Well=[f"A{i}", f"B{i}", f"C{i}"])
                       for i in range(7)], ignore_index=True)
    with pytest.raises(LeakError) as error:
        audit_leaks(table, 1)
    assert str(error.value).count("Leak: the image file") == 5
    assert "s0" in str(error.value) and "s5" not in str(error.value)
    # Three of the compounds and of the wells stand for all.
    table = plane_rows(SHA256="x")
    table = pd.concat([table, table.iloc[:1].assign(Metadata_Group="g3", Metadata_Compound="C3",
                                                    Metadata_Well="B05")], ignore_index=True)
    with pytest.raises(LeakError, match=r"\(C0 and C1 and C2; P B02, P B03, P B04\) is"):
        audit_leaks(table, 1)


DEALT = Folds(
    pd.DataFrame({"Metadata_Group": ["g0", "g1"], "Metadata_Compound": ["C0|D0", "C1"],
                  "Label": "t", "Holdout": [False, True], "Fold_0": [1, -1], "Fold_1": [0, -1]}),
    pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": ["A01", "A02", "A03"],
                  "Metadata_Group": ["g0", "g1", "g0"]}), Question("t", ("not_t", "t"), True), [])
FACTS = pd.DataFrame({"Metadata_Plate": "P",
                      "Metadata_Well": ["A01", "A01", "A02", "A03", "B01", "A03"],
                      "FileName": ["a", "b", "c", "d", "e", "f"],
                      "Blank": [False, True, False, False, False, False], "Other": 1})
MANIFEST = pd.DataFrame({"FileName": list("abcde"), "SHA256": ["sa", "sb", "sc", "sd", "se"]})


def test_planes_carry_their_checksum_and_the_folds_of_their_unit():
    """Neither the blank plane, nor the well of no unit, nor the file without a checksum."""
    rows = leaks.plane_rows(FACTS, MANIFEST, DEALT, "compound")
    expected = pd.DataFrame({
        "Metadata_Plate": "P", "Metadata_Well": ["A01", "A02", "A03"], "SHA256": ["sa", "sc", "sd"],
        "Metadata_Group": ["g0", "g1", "g0"], "Metadata_Compound": ["C0|D0", "C1", "C0|D0"],
        "Holdout": [False, True, False], "Fold_0": [1, -1, 1], "Fold_1": [0, -1, 0]})
    pd.testing.assert_frame_equal(rows, expected, check_dtype=False)


def test_a_family_and_a_profile_go_with_the_planes():
    """A row with neither a file nor a profile says nothing."""
    facts = FACTS.assign(Profile=["", "", "", "q", "r", ""])
    dealt = Folds(DEALT.groups.assign(Metadata_Family=["f", "h"]), DEALT.wells, DEALT.question, [])
    rows = leaks.plane_rows(facts, MANIFEST.iloc[:3], dealt, "compound")
    assert rows[["Metadata_Well", "SHA256", "Profile", "Metadata_Family"]].to_numpy().tolist() == [
        ["A01", "sa", "", "f"], ["A02", "sc", "", "h"], ["A03", "", "q", "f"]]


def test_the_audit_takes_names_and_structures_from_the_tables():
    key = "RCINICONZNJXQF-MZXODVADSA-N"
    screen = SimpleNamespace(
        layout=pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": ["A02", "A01"],
                             "Metadata_Compound": ["Plated", "C0"]}),
        annotations=pd.DataFrame({"Metadata_Compound": ["plated ", "other"],
                                  "Metadata_InChIKey": [key, ""]}))
    rows = leaks.plane_rows(FACTS, MANIFEST, DEALT, "compound", screen)
    # A well that the layout does not name keeps the names of its unit.
    assert rows["Metadata_Compound"].tolist() == ["C0", "Plated", "C0|D0"]
    assert rows["Structure"].tolist() == ["", key[:14], ""]
    # Of wells as units the compound is the same by design.
    rows = leaks.plane_rows(FACTS, MANIFEST, DEALT, "well", screen)
    assert rows["Metadata_Compound"].tolist() == [""] * 3 and "Structure" not in rows
    del screen.annotations["Metadata_InChIKey"]
    assert "Structure" not in leaks.plane_rows(FACTS, MANIFEST, DEALT, "compound", screen)
    rows = leaks.plane_rows(FACTS, MANIFEST, DEALT, "well")
    assert rows["Metadata_Compound"].tolist() == [""] * 3
