"""Sites, layout and folds become examples, row by row."""

import numpy as np
import pandas as pd
import pytest

from moascope.features.table import FeatureTable
from moascope.learning.folds import Folds
from moascope.learning.joining import join_examples, with_layout
from moascope.screen.question import Question

LAYOUT = pd.DataFrame({
    "Metadata_Plate": "P", "Metadata_Well": ["A02", "A01", "A04", "A03"],
    "Metadata_Compound": ["x", "y", "DMSO", "z"], "Metadata_Concentration_uM": [1.0, 2.0, 0.0, 3.0],
    "Metadata_Control": ["", "", "negative", "positive"], "Other": 1})
META = pd.DataFrame({
    "Metadata_Plate": "P", "Metadata_Well": ["A01", "A02", "A02", "A03", "A04", "A05", "A04"],
    "Metadata_Site": [1, 1, 2, 1, 1, 1, 2], "Metadata_Batch": "B",
    "Metadata_Panel": ["two", "one", "one", "zero", "two", "nowhere", "three"],
    "QC_Pass": [True, True, False, True, True, True, False]})


def test_a_site_gets_what_the_layout_says_of_its_well():
    joined = with_layout(META, LAYOUT)
    assert list(joined) == [*META, "Metadata_Compound", "Metadata_Concentration_uM",
                            "Metadata_Control"]
    assert joined["Metadata_Compound"].tolist() == ["y", "x", "x", "z", "DMSO", "", "DMSO"]
    assert joined["Metadata_Control"].tolist() == ["", "", "", "positive", "negative", "",
                                                   "negative"]
    assert joined["Metadata_Concentration_uM"].tolist()[:5] == [2.0, 1.0, 1.0, 3.0, 0.0]
    assert np.isnan(joined["Metadata_Concentration_uM"][5])


def test_a_well_that_the_layout_names_twice_is_an_error():
    with pytest.raises(pd.errors.MergeError):
        with_layout(META, pd.concat([LAYOUT, LAYOUT]))


def test_examples_are_good_sites_of_units_and_of_negative_controls():
    groups = pd.DataFrame({"Metadata_Group": ["x", "y"], "Label": ["t", "not_t"],
                           "Holdout": False, "Fold_0": [0, 1]})
    wells = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": ["A01", "A02"],
                          "Metadata_Group": ["y", "x"]})
    question = Question("t", ("not_t", "t"), True)
    features = np.arange(14, dtype=np.float32).reshape(7, 2)
    examples = join_examples(FeatureTable(META, features, ["f0", "f1"]), LAYOUT,
                             Folds(groups, wells, question, []))
    # Neither the site that failed, nor the positive control, nor the well without a layout.
    assert examples.meta["Metadata_Well"].tolist() == ["A01", "A02", "A04"]
    assert "QC_Pass" not in examples.meta
    np.testing.assert_array_equal(examples.features, features[[0, 1, 4]])
    assert examples.names == ("f0", "f1")
    assert examples.group.tolist() == [1, 0, -1]
    assert examples.groups is groups and examples.question is question
    assert examples.panels == ("one", "two")
