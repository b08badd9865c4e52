"""Mechanisms are one however they are spelt, and separated wherever they are several."""

import pytest

from moascope.screen.terms import moa_terms, names_within, one_spelling, split_terms, term_key


@pytest.mark.parametrize("other", [
    "tubulin inhibitor", "TUBULIN INHIBITOR", " Tubulin  inhibitor ", "Tubulin\u00a0inhibitor",
    "Tubulin-inhibitor", "Tubulin_inhibitor", "Tubulin inhibitors", "tubulin inhibitor.",
    "Tubulin\u200b inhibitor", "\uff34ubulin inhibitor", "tubulininhibitor",
])
def test_case_blanks_and_dashes_make_no_other_mechanism(other):
    assert term_key(other) == term_key("Tubulin inhibitor")
    cells = one_spelling(["Tubulin inhibitor", "Tubulin inhibitor", other]).cells
    assert set(cells) == {"Tubulin inhibitor"}


def test_greek_british_and_composed_letters_are_one():
    assert term_key("β-adrenergic agonist") == term_key("beta adrenergic agonist")
    assert term_key("microtubule destabiliser") == term_key("Microtubule Destabilizers")
    assert term_key("caf\u00e9 agonist") == term_key("cafe\u0301 agonist")
    assert term_key("5-HT1A agonist") != term_key("5-HT1B agonist")


@pytest.mark.parametrize("cell", [
    "HDAC inhibitor|tubulin inhibitor", "HDAC inhibitor | tubulin inhibitor",
    "HDAC inhibitor; tubulin inhibitor", "HDAC inhibitor;tubulin inhibitor",
    "HDAC inhibitor, tubulin inhibitor", "HDAC inhibitor,tubulin inhibitor",
    "HDAC inhibitor / tubulin inhibitor", "HDAC inhibitor + tubulin inhibitor",
    "HDAC inhibitor\ntubulin inhibitor", "HDAC inhibitor；tubulin inhibitor",
    "HDAC inhibitor||tubulin inhibitor|", "HDAC inhibitor, tubulin inhibitor, HDAC Inhibitor",
])
def test_mechanisms_are_split_at_every_separator(cell):
    assert moa_terms(cell) == ("HDAC inhibitor", "tubulin inhibitor")


@pytest.mark.parametrize("cell", [
    "inositol 1,4,5-trisphosphate receptor antagonist", "3',5'-cyclic-AMP inhibitor",
    "Ionotropic glutamate receptor, NMDA antagonist", "kinase inhibitor (JAK1, JAK2)",
    "GABA-A receptor; anion channel modulator", "mu opioid receptor agonist/antagonist",
    "D2/5-HT2A antagonist", "H+/K+ ATPase inhibitor", "Beta blocking agents, selective",
    "serotonin antagonist and reuptake inhibitor",
])
def test_one_mechanism_with_a_comma_or_slash_stays_one(cell):
    assert split_terms(cell) == (cell,)


def test_a_mechanism_without_an_action_is_known_from_another_row():
    assert one_spelling(["DNA damage, Protein synthesis", "DNA damage", "Protein synthesis"]
                        ).cells[0] == "DNA damage|Protein synthesis"


def test_spelling_twice_changes_nothing_more():
    cells = ["a inhibitor; b damage", "b damage, a Inhibitor", "a inhibitor", "b damage", "unknown"]
    once = one_spelling(cells)
    again = one_spelling(once.cells)
    assert again.cells == once.cells == ["a inhibitor|b damage", "b damage|a inhibitor",
                                         "a inhibitor", "b damage", ""]
    assert again.warnings == []


@pytest.mark.parametrize("word", ["unknown", "Unknown", "n/a", "NA", "none", "?", "-",
                                  "not known", "unknown mechanism", "nan"])
def test_words_for_nothing_are_no_mechanism(word):
    told = one_spelling([word, "HDAC inhibitor"])
    assert told.cells == ["", "HDAC inhibitor"]


def test_what_was_merged_split_or_left_whole_is_reported():
    warnings = one_spelling(["X inhibitor", "x inhibitor", "y damage, x inhibitor",
                             "X inhibitor; z inhibitor", "unknown"]).warnings
    assert "spells 1 mechanism in several ways, read as one: 'X inhibitor' = 'x inhibitor'" in (
        warnings[0])
    assert "not separated by '|'" in warnings[1]
    assert "with a comma or semicolon inside, read as one each: 'y damage, x inhibitor'" in (
        warnings[2])
    assert "1 row whose mechanism is 'unknown', read as not known" in warnings[3]


def test_a_mechanism_of_a_paragraph_is_quoted_in_part():
    paragraph = "binds x, and y in cells " + "of the brain " * 40
    warning, = one_spelling([paragraph, "X inhibitor"]).warnings
    assert "'binds x, and y in cells of" in warning and len(warning) < 250


def test_a_mechanism_inside_a_longer_one_is_seen():
    assert names_within("foo, tubulin inhibitor", "Tubulin inhibitor")
    assert names_within("kinase and tubulin inhibitor", "tubulin inhibitor")
    assert not names_within("non-tubulin inhibitor", "tubulin inhibitor")
    assert not names_within("tubulin inhibitor", "tubulin inhibitor")


def test_a_letter_of_another_alphabet_makes_no_other_mechanism():
    terms = one_spelling(["histamine antagonist", "hist\u0430mine antagonist"])
    assert terms.cells == ["histamine antagonist"] * 2
    assert "in several ways, read as one" in terms.warnings[0]
