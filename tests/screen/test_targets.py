from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.screen.compounds import compound_group
from moascope.screen.tables import Screen
from moascope.screen.targets import label_screen


def screen(annotations, controls=2):
    """A screen of one well a compound, beside some DMSO wells."""
    table = pd.DataFrame(annotations).fillna("").astype("str")
    names = table["Metadata_Compound"].tolist()
    layout = pd.DataFrame({
        "Metadata_Plate": "P",
        "Metadata_Well": [f"B{i + 1:02d}" for i in range(len(names) + controls)],
        "Metadata_Compound": names + ["DMSO"] * controls,
        "Metadata_Concentration_uM": 1.0,
        "Metadata_Control": [""] * len(names) + ["negative"] * controls,
    })
    return Screen(sites=pd.DataFrame(), layout=layout, annotations=table, channels=("DNA",),
                  images=Path())


def rows(*annotated):
    keys = ("Metadata_Compound", "Metadata_MoA", "gpcr", "gpcr_action", "Metadata_InChIKey")
    return [dict(zip(keys, row, strict=False)) for row in annotated]


GPCRS = rows(
    ("a", "histamine receptor antagonist", "yes", "antagonist"),
    ("b", "dopamine receptor agonist", "yes", "agonist"),
    ("c", "tubulin inhibitor", "no"),
    ("d", "", "unknown"),
    ("e", "HDAC inhibitor|adrenergic receptor agonist|adrenergic receptor antagonist", "yes",
     "agonist|antagonist"),
    ("f", "GPCR ligand", "yes", ""),
)


def labels_of(labels):
    return dict(zip(labels.groups["Metadata_Compound"], labels.groups["Label"], strict=True))


def test_unknown_is_never_negative():
    labels = label_screen(screen(GPCRS), "gpcr")
    assert labels.question.classes == ("not_gpcr", "gpcr")
    assert labels_of(labels) == {"a": "gpcr", "b": "gpcr", "c": "not_gpcr", "e": "gpcr",
                                 "f": "gpcr"}


def test_a_target_with_an_action_leaves_out_compounds_without_one():
    labels = label_screen(screen(GPCRS), "gpcr_agonist")
    assert labels_of(labels) == {"a": "not_gpcr_agonist", "b": "gpcr_agonist",
                                 "c": "not_gpcr_agonist", "e": "gpcr_agonist"}


def test_one_mechanism_is_found_among_several_whatever_its_case():
    labels = label_screen(screen(GPCRS), "hdac INHIBITOR")
    assert labels.question.classes == ("not_HDAC inhibitor", "HDAC inhibitor")
    assert labels_of(labels)["e"] == "HDAC inhibitor"
    assert "d" not in labels_of(labels)


def test_moa_has_a_class_for_every_annotation():
    labels = label_screen(screen(rows(("a", "x"), ("b", "y|x"), ("c", "x | y"), ("d", ""))), "moa")
    assert labels.question.classes == ("x", "x|y")
    assert labels_of(labels) == {"a": "x", "b": "x|y", "c": "x|y"}
    assert not labels.question.binary


def test_negative_controls_are_no_compounds():
    one = screen(GPCRS)
    dmso = pd.DataFrame(rows(("DMSO", "vehicle", "no", ""))).astype("str")
    told = replace(one, annotations=pd.concat([one.annotations, dmso], ignore_index=True))
    labels = label_screen(told, "gpcr")
    assert "DMSO" not in labels_of(labels)
    assert set(labels.wells["Metadata_Well"]) == {"B01", "B02", "B03", "B05", "B06"}


def test_stereoisomers_are_one_group():
    table = rows(
        ("propranolol", "x", "yes", "", "AQHHHDLHHXJYJD-UHFFFAOYSA-N"),
        ("(S)-propranolol", "x", "yes", "", "AQHHHDLHHXJYJD-AWEZNQCLSA-N"),
        ("other", "y", "no", "", "BBBBBBBBBBBBBB-UHFFFAOYSA-N"),
    )
    labels = label_screen(screen(table), "gpcr")
    assert len(labels.groups) == 2
    assert "(S)-propranolol|propranolol" in set(labels.groups["Metadata_Compound"])


def test_forms_of_one_compound_that_disagree_are_left_out_and_reported():
    table = rows(
        ("p", "x", "yes", "", "AQHHHDLHHXJYJD-UHFFFAOYSA-N"),
        ("q", "x", "no", "", "AQHHHDLHHXJYJD-AWEZNQCLSA-N"),
        ("r", "y", "no"), ("s", "y", "yes"),
    )
    labels = label_screen(screen(table), "gpcr")
    assert set(labels.groups["Metadata_Compound"]) == {"r", "s"}
    assert "p and q are one compound" in labels.warnings[0]


def test_a_name_stands_in_where_there_is_no_key():
    assert compound_group(" AZ-A ", "") == compound_group("az-a")
    assert compound_group("x", "not a key") == "x"


def test_a_single_compound_is_compared_with_controls_well_by_well():
    labels = label_screen(screen(rows(("wortmannin", "PI3K inhibitor")), controls=3), "moa")
    assert labels.question.unit == "well"
    assert labels.question.classes == ("negative control", "PI3K inhibitor")
    assert labels.groups["Label"].value_counts().to_dict() == {"negative control": 3,
                                                               "PI3K inhibitor": 1}
    assert "nothing can be said about unseen compounds" in labels.warnings[0]


@pytest.mark.parametrize(
    ("table", "target", "sentence"),
    [
        (rows(("a", "x"), ("b", "y")), "gpcr", "needs the column 'gpcr'"),
        (rows(("a", "x", "no"), ("b", "y", "no")), "gpcr", "no positive compound"),
        (rows(("a", "x", "yes"), ("b", "y", "yes")), "gpcr", "no negative compound"),
        (rows(("a", "x", "unknown"), ("b", "", "unknown")), "gpcr", "empty or unknown"),
        (rows(("a", "x"), ("b", "x")), "moa", "a single class"),
        (rows(("a", "kinase inhibitor"), ("b", "y")), "kinase inhibitr", "Did you mean 'kinase i"),
        (rows(("a", "x", "yes"), ("b", "y", "no")), "gpcr_agonist", "'gpcr_action'"),
    ],
)
def test_a_target_that_cannot_be_predicted_says_why(table, target, sentence):
    with pytest.raises(MoascopeError) as error:
        label_screen(screen(table), target)
    assert sentence in str(error.value)
