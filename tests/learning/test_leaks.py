import pandas as pd
import pytest

from moascope.learning.leaks import LeakError, audit_leaks


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
