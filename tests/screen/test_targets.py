from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.screen.compounds import compound_group
from moascope.screen.question import Question
from moascope.screen.tables import Screen
from moascope.screen.targets import label_screen, refuse_few


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


def test_groups_and_wells_are_sorted_and_carry_what_is_known_of_them():
    table = rows(("b", "y|x", "yes", "agonist", "AQHHHDLHHXJYJD-UHFFFAOYSA-N"),
                 ("a", "z", "no", "", ""),
                 ("B2", "x|w", "yes", "antagonist|agonist", "AQHHHDLHHXJYJD-AWEZNQCLSA-N"),
                 ("never plated", "z", "no", "", ""))
    one = screen(table)
    layout = pd.concat([one.layout[one.layout["Metadata_Compound"] != "never plated"].iloc[::-1],
                        one.layout.iloc[:2].assign(Metadata_Plate="O"),
                        one.layout.iloc[:1].assign(Metadata_Well="Z99", Metadata_Compound=""),
                        one.layout.iloc[:1].assign(Metadata_Well="Z98", Metadata_Compound="odd")])
    labels = label_screen(replace(one, layout=layout), "gpcr")
    assert labels.question == Question("gpcr", ("not_gpcr", "gpcr"), True)
    expected = pd.DataFrame({
        "Metadata_Group": ["AQHHHDLHHXJYJD", "a"], "Metadata_Compound": ["B2|b", "a"],
        "Label": ["gpcr", "not_gpcr"], "Metadata_MoA": ["w|x|y", "z"],
        "gpcr_action": ["agonist|antagonist", ""]})
    pd.testing.assert_frame_equal(labels.groups, expected, check_dtype=False)
    assert labels.wells.to_numpy().tolist() == [
        ["O", "B01", "AQHHHDLHHXJYJD"], ["O", "B02", "a"], ["P", "B01", "AQHHHDLHHXJYJD"],
        ["P", "B02", "a"], ["P", "B03", "AQHHHDLHHXJYJD"]]
    assert list(labels.wells) == ["Metadata_Plate", "Metadata_Well", "Metadata_Group"]
    assert labels.warnings == ()


def test_what_the_annotations_do_not_say_is_empty():
    labels = label_screen(screen(rows(("a", "x"), ("b", "y"))), "x")
    assert labels.groups["gpcr_action"].tolist() == ["", ""]
    assert labels.groups["Metadata_MoA"].tolist() == ["x", "y"]


@pytest.mark.parametrize(("target", "classes", "moa"), [
    ("moa", ("negative control", "PI3K inhibitor"), "PI3K inhibitor"),
    ("PI3K inhibitor", ("not_PI3K inhibitor", "PI3K inhibitor"), "PI3K inhibitor")])
def test_wells_as_units_are_those_of_the_compound_and_of_the_controls(target, classes, moa):
    one = screen(rows(("w", moa, "yes", "agonist")), controls=2)
    layout = pd.concat([one.layout, one.layout.iloc[:1].assign(Metadata_Well="B09"),
                        one.layout.iloc[-1:].assign(Metadata_Well="B10", Metadata_Compound="")])
    labels = label_screen(replace(one, layout=layout), target)
    assert labels.question == Question(target, classes, True, "well")
    expected = pd.DataFrame([
        ("P/B01", "w", classes[1], moa, "agonist"), ("P/B02", "DMSO", classes[0], "", ""),
        ("P/B03", "DMSO", classes[0], "", ""), ("P/B09", "w", classes[1], moa, "agonist"),
        ("P/B10", "negative control", classes[0], "", "")], columns=list(labels.groups))
    pd.testing.assert_frame_equal(labels.groups, expected, check_dtype=False)
    assert list(labels.groups) == ["Metadata_Group", "Metadata_Compound", "Label", "Metadata_MoA",
                                   "gpcr_action"]
    assert labels.wells["Metadata_Group"].tolist() == expected["Metadata_Group"].tolist()
    assert labels.wells["Metadata_Well"].tolist() == ["B01", "B02", "B03", "B09", "B10"]
    assert labels.warnings[0].startswith("The screen has a single compound with a label, w: ")


def test_a_single_compound_without_controls_or_on_the_wrong_side_is_refused():
    with pytest.raises(MoascopeError, match="a single class here, x"):
        label_screen(screen(rows(("a", "x")), controls=0), "moa")
    with pytest.raises(MoascopeError) as error:
        label_screen(screen(rows(("a", "x", "no"))), "gpcr")
    assert str(error.value) == (
        "The only compound with a label, a, is not positive for target = gpcr. Ask for target=moa, "
        "or add annotated compounds.")


def test_the_case_and_blanks_of_yes_and_no_do_not_matter():
    table = rows(("a", "x", " Yes ", "AGONIST"), ("b", "x", "NO", ""), ("c", "x", "yes", "other"),
                 ("d", "x", "maybe", "agonist"))
    assert labels_of(label_screen(screen(table), "gpcr")) == {
        "a": "gpcr", "b": "not_gpcr", "c": "gpcr"}
    assert labels_of(label_screen(screen(table), "gpcr_agonist")) == {
        "a": "gpcr_agonist", "b": "not_gpcr_agonist", "c": "not_gpcr_agonist"}
    table[0]["gpcr_action"] = "antagonist"
    assert labels_of(label_screen(screen(table), "gpcr_antagonist"))["a"] == "gpcr_antagonist"


def test_an_unknown_mechanism_is_named_with_the_nearest_or_the_first_ones():
    table = rows(("a", "alpha"), ("b", "beta"), ("c", "gamma"), ("d", "delta|zeta"))
    for target, near in (("alphb", "'alpha'"), ("qqqqqqq", "'alpha' or 'beta' or 'delta'")):
        with pytest.raises(MoascopeError) as error:
            label_screen(screen(table), target)
        assert str(error.value).startswith(
            f"No compound of this screen has the mechanism '{target}' (params.yaml: target). Did "
            f"you mean {near}")
    with pytest.raises(MoascopeError, match=r"annotations.csv names no mechanism at all"):
        label_screen(screen(rows(("a", ""), ("b", ""))), "alpha")


def test_a_mechanism_inside_a_longer_one_is_unknown_and_said_to_be():
    table = rows(("a", "x"), ("b", "y"), ("c", "foo, x"), ("d", "foo, x|y"), ("e", "foo, x|x"))
    labels = label_screen(screen(table), "x")
    assert labels_of(labels) == {"a": "x", "b": "not_x", "e": "x"}
    assert labels.warnings == (
        "'x' stands inside a longer mechanism of 2 compounds, left out as unknown: c, d "
        "('foo, x'). Separate mechanisms by '|' in annotations.csv.",)


def groups_of(*moas, target="x"):
    return pd.DataFrame({
        "Metadata_Compound": [f"C{i}" for i in range(len(moas))], "Metadata_MoA": moas,
        "Label": [target if target in moa.split("|") else f"not_{target}" for moa in moas]})


ASKED = Question("x", ("not_x", "x"), True)


def test_three_of_each_class_are_enough():
    refuse_few(groups_of("x", "x", "x", "y", "y", "z"), ASKED)
    # Neither wells nor several classes are counted here.
    few = groups_of("x", "y", "y")
    refuse_few(few, replace(ASKED, unit="well"))
    refuse_few(few, Question("moa", ("x", "y"), False))


@pytest.mark.parametrize(("moas", "said"), [
    (("x", "x|y", "y", "y", "z", "z", "z", "z"),
     "2 positive compounds (C0, C1), and at least 3 are needed to learn from some and test on "
     "others. Annotate more compounds, or set another target. Mechanisms with at least 3 here: "
     "'z' (4), 'y' (3)."),
    (("x", "x", "x", "x", "y"),
     "1 negative compound (C4), and at least 3 are needed to learn from some and test on others. "
     "Annotate more compounds, or set another target. No mechanism of this screen has as many."),
    # One that all but two have leaves too few others.
    (("x|y", "x|y", "z", "z|y", "y"),
     "2 positive compounds (C0, C1), and at least 3 are needed to learn from some and test on "
     "others. Annotate more compounds, or set another target. No mechanism of this screen has as "
     "many."),
])
def test_a_class_of_too_few_compounds_is_refused_with_mechanisms_that_have_more(moas, said):
    with pytest.raises(MoascopeError) as error:
        refuse_few(groups_of(*moas), ASKED)
    assert str(error.value) == "target = x has " + said


@pytest.mark.parametrize(("table", "target", "said"), [
    (rows(("a", "x"), ("b", "y")), "gpcr",
     "target = gpcr needs the column 'gpcr' (yes, no or unknown) in annotations.csv, which is not "
     "there. Add it, or ask for target=moa or for one mechanism by its name."),
    (rows(("a", "x", "yes"), ("b", "y", "no")), "gpcr_antagonist",
     "target = gpcr_antagonist needs the column 'gpcr_action' (agonist, antagonist or other) in "
     "annotations.csv, which is not there. Add it, or ask for target=gpcr."),
    (rows(("a", "x", "yes"), ("b", "y", "yes")), "gpcr",
     "There is no negative compound for target = gpcr among the 2 annotated compounds of this "
     "screen. Check the annotations, or choose another target."),
    (rows(("a", "x", "no"), ("b", "y", "no"), ("c", "y", "no")), "gpcr",
     "There is no positive compound for target = gpcr among the 3 annotated compounds of this "
     "screen. Check the annotations, or choose another target."),
    (rows(("a", "x"), ("b", "x")), "moa",
     "target = moa has a single class here, x: there is nothing to tell apart. Add compounds of "
     "another mechanism, or negative controls."),
    (rows(("a", ""), ("b", "")), "moa",
     "No compound of this screen has a label for target = moa: every annotation is empty or "
     "unknown. Fill in annotations.csv.")])
def test_a_refusal_is_a_sentence_with_its_remedy(table, target, said):
    with pytest.raises(MoascopeError) as error:
        label_screen(screen(table), target)
    assert str(error.value) == said
