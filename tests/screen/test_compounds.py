"""One compound is one unit however its name is written, and the audit looks at names themselves."""

from itertools import permutations

import pandas as pd
import pytest
from test_targets import labels_of, rows, screen

from moascope.errors import MoascopeError
from moascope.learning.leaks import LeakError, audit_leaks
from moascope.screen.compounds import compound_groups, dose_in_name, name_key
from moascope.screen.targets import label_screen, refuse_few

KEY = "RCINICONZNJXQF-MZXODVADSA-N"


@pytest.mark.parametrize(("one", "other"), [
    ("Taxol", "taxol"), ("caf\u00e9in", "cafe\u0301in"), ("Trichostatin A", "trichostatinA"),
    ("Trichostatin A", "Trichostatin\u00a0 A"), ("\ufb01nasteride", "finasteride"),
    ("H\u2082O2", "H2O2"), ("SB\u2010431542", "SB-431542"), ("taxol\u200b", "taxol"),
    ("STRASSE", "stra\u00dfe"), ("\u0430spirin", "Aspirin"), ("m\u03bfrphine", "morphine"),
    ("\u042100", "C00"),
])
def test_case_composition_and_blanks_make_no_other_compound(one, other):
    assert name_key(one) == name_key(other)
    table = rows(("x1", "M"), ("x2", "N"), (one, "M", "", "", KEY), (other, "M"))
    labels = label_screen(screen(table), "moa")
    assert len(labels.groups) == 3
    of_both = labels.wells["Metadata_Well"].isin(["B03", "B04"])
    assert len(set(labels.wells.loc[of_both, "Metadata_Group"])) == 1


def test_a_greek_letter_is_not_the_latin_one_that_it_resembles_in_meaning():
    assert name_key("\u03b1-lactose") != name_key("a-lactose")
    russian = "\u0430\u0441\u043f\u0438\u0440\u0438\u043d"
    assert name_key(russian) == russian


@pytest.mark.parametrize(("name", "parts"), [
    ("aspirin 10 uM", ("aspirin", "10", "uM")),
    ("aspirin_0.1\u00b5M", ("aspirin", "0.1", "\u00b5M")),
    ("taxol (5 nM)", ("taxol", "5", "nM")), ("MK-801 1e-2 mM", ("MK-801", "1e-2", "mM")),
    ("aspirin 10um", None), ("MK-801", None), ("10 uM", None), ("BRD-K12345M", None),
])
def test_a_dose_in_a_name_is_found_where_its_unit_is_written(name, parts):
    assert dose_in_name(name) == parts


def test_numbers_keep_the_blank_between_them():
    assert name_key("cmp 7 12") != name_key("cmp 71 2")
    assert name_key("a-b") != name_key("ab")


def test_groups_do_not_depend_on_the_order_of_rows():
    table = [("Taxol", KEY), ("taxol", ""), ("paclitaxel", KEY), ("b", "")]
    found = {tuple(sorted(compound_groups(*zip(*order, strict=True)).items()))
             for order in permutations(table)}
    assert found == {(("Taxol", "RCINICONZNJXQF"), ("b", "b"), ("paclitaxel", "RCINICONZNJXQF"),
                      ("taxol", "RCINICONZNJXQF"))}


def test_a_layout_may_spell_a_compound_in_its_own_way():
    one = screen(rows(("Taxol", "M"), ("b", "N"), ("c", "N")))
    one.layout["Metadata_Compound"] = one.layout["Metadata_Compound"].replace("Taxol", "TAXOL ")
    labels = label_screen(one, "M")
    assert len(labels.wells) == 3


def test_the_audit_finds_a_compound_under_two_units():
    table = pd.DataFrame({
        "Metadata_Plate": "P", "Metadata_Well": ["A01", "A02"],
        "Metadata_Group": [KEY[:14], "taxol"],
        "Metadata_Compound": ["Taxol|paclitaxel", "taxol"], "SHA256": ["a", "b"],
        "Holdout": False, "Fold_0": [0, 1]})
    with pytest.raises(LeakError, match=r"the compound taxol .* is in several folds"):
        audit_leaks(table, 1)
    table["Metadata_Compound"], table["Structure"] = ["Taxol", "paclitaxel"], KEY[:14]
    with pytest.raises(LeakError, match="the structure RCINICONZNJXQF"):
        audit_leaks(table, 1)


def test_a_positive_is_never_among_the_negatives():
    table = rows(("a", "Tubulin inhibitor"), ("b", "tubulin  Inhibitor"),
                 ("c", "microtubule destabiliser, tubulin inhibitor"),
                 ("d", "HDAC inhibitor; Tubulin inhibitor"), ("e", "foo, tubulin inhibitor"),
                 ("f", "HDAC inhibitor"), ("g", "unknown"))
    labels = label_screen(screen(table), "tubulin inhibitor")
    positive = labels.question.target
    assert labels_of(labels) == {**dict.fromkeys("abcd", positive), "f": f"not_{positive}"}
    assert "longer mechanism of 1 compound" in labels.warnings[0]
    assert "e ('foo, tubulin" in labels.warnings[0]


def test_two_positives_are_refused_with_what_would_help():
    table = rows(("a", "x"), ("b", "x"), *((f"c{i}", "y") for i in range(3)),
                 *((f"d{i}", "z") for i in range(4)))
    labels = label_screen(screen(table), "x")
    with pytest.raises(MoascopeError, match=r"2 positive compounds \(a, b\), and at least 3"
                                            r".*Mechanisms with at least 3 here: 'z' \(4\), 'y'"):
        refuse_few(labels.groups, labels.question)
    refuse_few(label_screen(screen(table), "z").groups, label_screen(screen(table), "z").question)
