"""From the text of a mechanism to GPCR yes, no or unknown; files in and files out."""

import re
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers import edit_csv, make_screen

from moascope.annotation.compounds import (
    DECIDED,
    annotate_compounds,
    read_compounds,
    read_genes,
    read_targets,
)
from moascope.annotation.decide import decide, read_term
from moascope.annotation.review import review_list
from moascope.annotation.run import annotate_files
from moascope.annotation.terms import load_terms, parse_terms, split_words
from moascope.cli.app import app
from moascope.errors import MoascopeError
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.sources.simulated import compounds as simulated

GENES = frozenset({"CHRM1", "DRD2", "HTR2A", "GRM5"})


def hard_terms():
    path = Path(__file__).with_name("moa_terms.csv")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def table(**moa):
    return pd.DataFrame({"Metadata_Compound": list(moa), "Metadata_MoA": list(moa.values())},
                        dtype="str")


def by_name(annotated):
    return annotated.table.set_index("Metadata_Compound")


# Words


@pytest.mark.parametrize("written_as", ["own", "screening library", "register"])
def test_every_hard_term_is_read_as_its_reason_says(written_as):
    terms = hard_terms()
    wrong = []
    for row in terms[terms["written_as"] == written_as].itertuples():
        found = decide(row.term)
        if (found.gpcr, found.action) != (row.gpcr, row.gpcr_action):
            wrong.append((row.term, row.reason, found))
    assert wrong == []


def test_the_hard_terms_are_hundreds_and_of_every_class():
    counts = hard_terms()["gpcr"].value_counts()
    assert counts["yes"] > 200 and counts["no"] > 200 and counts["unknown"] > 50


@pytest.mark.parametrize(("text", "words"), [
    ("5-HT2A receptors", "5 ht 2 a receptor"),
    ("5HT-2a  Receptor", "5 ht 2 a receptor"),
    ("β₂-adrenoceptors", "beta 2 adrenoceptor"),
    ("partial_agonist", "partial agonist"),
    ("oestrogen/tumour", "estrogen tumor"),
    ("", ""),
])
def test_spellings_of_one_thing_are_one_text(text, words):
    assert " ".join(split_words(text).words) == words


def test_evidence_quotes_the_text_as_it_was_written():
    found = decide("β₂-Adrenoceptor agonists")
    assert f"terms {load_terms().version}: " in found.evidence
    assert '"β₂-Adrenoceptor"' in found.evidence
    assert "adrenoceptors (GPCRs)" in found.evidence


def test_one_receptor_among_several_mechanisms_makes_a_yes_with_the_actions_of_receptors_only():
    found = decide("voltage-gated sodium channel blocker|opioid receptor agonist")
    assert (found.gpcr, found.action) == ("yes", "agonist")


def test_agonist_of_one_and_antagonist_of_another_is_both():
    found = decide("dopamine receptor agonist|serotonin receptor antagonist")
    assert found.action == "agonist|antagonist"
    assert dict(found.families) == {"dopamine receptors": "agonist",
                                    "5-hydroxytryptamine receptors": "antagonist"}


def test_what_words_cannot_decide_is_unknown_and_never_no():
    found = decide("HDAC inhibitor|glutamate receptor antagonist")
    assert found.gpcr == "unknown"
    assert "metabotropic (GPCR) or ionotropic" in found.question


def test_a_use_next_to_a_mechanism_decides_nothing():
    assert decide("analgesic|cyclooxygenase inhibitor").gpcr == "no"
    assert decide("analgesic").gpcr == "unknown"


def test_an_empty_mechanism_is_unknown_and_not_reviewed():
    found = decide("")
    assert (found.gpcr, found.question) == ("unknown", "")


def test_an_unknown_receptor_goes_to_review():
    assert decide("grommet receptor antagonist").gpcr == "unknown"
    assert "does not list this receptor" in decide("grommet receptor antagonist").question


@pytest.mark.parametrize("text", ["receptor", "α", "5", "agonist", "-/-", "of the", "ß receptor",
                                  "😀", "İ receptor agonist", "x" * 5000, "a " * 2000 + "receptor"])
def test_odd_texts_are_read_without_an_error(text):
    assert decide(text).gpcr in ("yes", "no", "unknown")


def test_a_name_in_two_families_is_refused():
    content = {"version": 1, "words": {"receptor": "receptor"}, "unstated": "", "inactive": "",
               "uses": {"question": "?", "names": ""}, "unclear": [], "not_gpcr": [],
               "gpcr": [{"family": "one", "names": "foo 1"}, {"family": "two", "names": "foo1"}]}
    with pytest.raises(ValueError, match="'foo1' is in 'one' and in 'two'"):
        parse_terms(content)
    content["gpcr"] = [{"family": "one", "names": "foo", "unless": ["bar"]}]
    with pytest.raises(ValueError, match="bar, which is not a family"):
        parse_terms(content)


def test_every_name_of_the_table_is_found_in_its_own_words():
    terms = load_terms()
    for rows in terms.patterns.values():
        for pattern, _, name in rows:
            words = [word for word in pattern.pattern.split(" ") if word.isalnum()]
            if pattern.pattern == "".join(f" {word}" for word in words) + "(?= )":
                assert any(match.name.family == name.family
                           for match in terms.find(tuple(words))), pattern.pattern


def test_the_simulated_screen_says_what_the_terms_say():
    drawn = simulated.annotation_table(simulated.draw_compounds(0, 140, ("A549 ACTB-RAB5A",)))
    assert (drawn["gpcr"] == "yes").sum() > 10
    for row in drawn.itertuples():
        found = decide(row.Metadata_MoA)
        assert (found.gpcr, found.action) == (row.gpcr, row.gpcr_action), row


# Genes


def test_genes_decide_what_words_cannot():
    assert decide("acetylcholine receptor agonist", {"CHRM1"}, GENES).gpcr == "yes"
    assert decide("acetylcholine receptor agonist", {"CHRM1"}, GENES).action == "agonist"
    assert decide("acetylcholine receptor agonist", {"CHRNA7"}, GENES).gpcr == "no"
    assert decide("", {"DRD2"}, GENES).families == (("(by target genes)", ""),)


def test_genes_never_overrule_words_but_raise_a_question():
    reuptake = decide("serotonin reuptake inhibitor", {"SLC6A4", "HTR2A"}, GENES, "genes.csv")
    assert (reuptake.gpcr, "HTR2A" in reuptake.question) == ("no", True)
    assert "genes: HTR2A is in genes.csv" in reuptake.evidence
    receptor = decide("dopamine receptor antagonist", {"SLC6A3"}, GENES)
    assert (receptor.gpcr, "SLC6A3" in receptor.question) == ("yes", True)
    agreed = decide("dopamine receptor antagonist", {"DRD2", "SLC6A3"}, GENES)
    assert agreed.question == ""


def test_proteins_that_their_own_table_calls_no_gpcrs_are_left_out(tmp_path):
    path = tmp_path / "genes.csv"
    path.write_text('hgnc_symbol,gtopdb_family\nDRD2,Dopamine receptors\n'
                    'TPRA1,"Other non-GPCR 7TM proteins"\n')
    genes, warnings = read_genes(path)
    assert genes == {"DRD2"} and "TPRA1" in warnings[0]


def test_a_bare_list_of_genes_is_read(tmp_path):
    path = tmp_path / "genes.txt"
    path.write_text("DRD2\ndrd3\n")
    assert read_genes(path)[0] == {"DRD2", "DRD3"}


def test_targets_may_stand_in_one_cell_or_in_several_rows(tmp_path):
    path = tmp_path / "targets.csv"
    path.write_text("pert_iname,target\nA,DRD2|drd3\nB,HTR2A\nb,GRM5\nC,\n")
    assert read_targets(path) == {"a": {"DRD2", "DRD3"}, "b": {"HTR2A", "GRM5"}}


# Persons


def test_a_persons_decision_is_kept_whatever_the_terms_say_and_the_disagreement_is_listed():
    earlier = pd.DataFrame([["A", "x", "no", "", "a person decided", "anna"]], columns=[
        "Metadata_Compound", "Metadata_MoA", "gpcr", "gpcr_action", "evidence", "curator"])
    annotated = annotate_compounds(table(A="opioid receptor agonist", B="HDAC inhibitor"),
                                   earlier=earlier)
    row = by_name(annotated).loc["A"]
    assert (row["gpcr"], row["curator"]) == ("no", "anna")
    assert row["evidence"].startswith("a person decided; terms")
    listed = review_list(annotated, {"A": 7})
    assert listed["question"].tolist() == ["anna decided no, but the terms say yes (agonist)."]
    assert listed["images"].tolist() == [7]


def test_what_the_terms_decided_in_an_earlier_run_is_not_a_persons_decision():
    first = annotate_compounds(table(A="opioid receptor agonist"))
    again = annotate_compounds(table(A="HDAC inhibitor"), earlier=first.table)
    assert by_name(again).loc["A", "gpcr"] == "no"


def test_decisions_on_compounds_that_the_next_input_lacks_stay(tmp_path, capsys):
    out = tmp_path / "ann.csv"
    (tmp_path / "all.csv").write_text("compound,moa,inchikey\nA,opioid agonist,K1\n"
                                      "B,glutamate antagonist,K2\nC,HDAC inhibitor,K3\n")
    annotate_files(tmp_path / "all.csv", out)
    decided = pd.read_csv(out, dtype=str, keep_default_na=False)
    decided.loc[1, ["gpcr", "gpcr_action", "curator"]] = ["yes", "antagonist", "anna"]
    decided.to_csv(out, index=False)
    (tmp_path / "subset.csv").write_text("compound,moa\nA,opioid agonist\n")
    for _ in range(2):
        annotate_files(tmp_path / "subset.csv", out)
        # B is anna's; C was the machine's and is not asked for any more.
        written = pd.read_csv(out, dtype=str, keep_default_na=False)
        assert written["Metadata_Compound"].tolist() == ["A", "B"]
        assert written.loc[1, ["Metadata_MoA", "Metadata_InChIKey", "gpcr", "gpcr_action",
                               "curator"]].tolist() == ["glutamate antagonist", "K2", "yes",
                                                        "antagonist", "anna"]
        assert "subset.csv lacks 1 compound that a person has decided" in (
            capsys.readouterr().err)
    annotate_files(tmp_path / "all.csv", out)
    assert pd.read_csv(out)["curator"].fillna("").tolist() == ["", "anna", ""]


def test_a_layout_is_not_overwritten(tmp_path):
    (tmp_path / "in.csv").write_text("compound,moa\nA,opioid agonist\n")
    layout = "Metadata_Plate,Metadata_Well,Metadata_Compound\nP1,A01,A\n"
    (tmp_path / "layout.csv").write_text(layout)
    with pytest.raises(MoascopeError, match="is it a layout"):
        annotate_files(tmp_path / "in.csv", tmp_path / "layout.csv")
    assert (tmp_path / "layout.csv").read_text() == layout


def test_a_decision_without_evidence_was_written_by_hand_and_is_kept():
    given = table(A="opioid receptor agonist").assign(gpcr="no")
    row = by_name(annotate_compounds(given)).loc["A"]
    assert (row["gpcr"], row["curator"]) == ("no", "unnamed")


def test_a_persons_decision_that_is_not_one_names_the_compound():
    with pytest.raises(MoascopeError, match="B: gpcr is 'maybe'"):
        annotate_compounds(table(A="", B="").assign(gpcr=["no", "Maybe"], curator=["", "anna"]))


def test_the_review_begins_with_what_most_images_depend_on():
    annotated = annotate_compounds(table(A="glutamate receptor agonist", B="GABA receptor agonist",
                                         C="HDAC inhibitor"))
    listed = review_list(annotated, {"A": 2, "B": 9, "C": 99})
    assert listed["Metadata_Compound"].tolist() == ["B", "A"]


def test_compounds_with_the_same_undecided_term_are_one_question_and_come_together():
    annotated = annotate_compounds(table(
        A="GABA receptor agonist", B="glutamate receptor agonist", C="HDAC inhibitor",
        D="HDAC inhibitor|Glutamate-receptor agonist", E="glutamate receptor antagonist"))
    listed = review_list(annotated, {"A": 6, "B": 1, "D": 7, "E": 2})
    # 8 images depend on one answer, however the term is written and whatever stands next to it.
    assert listed["Metadata_Compound"].tolist() == ["D", "B", "A", "E"]
    assert listed["number"].tolist() == [1, 1, 2, 3]


def test_the_same_conflict_of_words_and_genes_is_one_question_and_others_are_not():
    given = table(A="opioid receptor agonist", B="opioid receptor agonist",
                  C="opioid receptor agonist", D="dopamine receptor agonist")
    given["Metadata_Target"] = ["HDAC1", "HDAC1", "TUBB", "HDAC1"]
    listed = review_list(annotate_compounds(given, gpcr_genes=frozenset({"OPRM1"}),
                                            genes_name="genes"), {})
    assert dict(zip(listed["Metadata_Compound"], listed["number"], strict=True)) == {
        "A": 1, "B": 1, "C": 2, "D": 3}


def test_what_a_person_decided_and_forms_of_a_compound_are_asked_about_one_by_one():
    earlier = pd.DataFrame([[name, "x", "no", "", "a person decided", "anna"] for name in "AB"],
                           columns=["Metadata_Compound", "Metadata_MoA", *DECIDED])
    given = table(A="opioid receptor agonist", B="opioid receptor agonist",
                  C="glutamate receptor agonist", D="glutamate receptor agonist",
                  E="opioid receptor agonist", F="HDAC inhibitor")
    given["Metadata_InChIKey"] = ["", "", "", "", "QGJZLNKBHJESQX-FZFNOLFKSA-N",
                                  "QGJZLNKBHJESQX-UHFFFAOYSA-N"]
    listed = review_list(annotate_compounds(given, earlier=earlier), {})
    assert dict(zip(listed["Metadata_Compound"], listed["number"], strict=True)) == {
        "A": 1, "B": 2, "C": 3, "D": 3, "E": 4, "F": 5}


def test_forms_of_one_compound_that_are_decided_differently_go_to_review():
    given = table(A="opioid receptor agonist", B="HDAC inhibitor")
    given["Metadata_InChIKey"] = ["QGJZLNKBHJESQX-FZFNOLFKSA-N", "QGJZLNKBHJESQX-UHFFFAOYSA-N"]
    listed = review_list(annotate_compounds(given), {})
    assert len(listed) == 2
    assert "A: yes, B: no" in listed["question"].iloc[0]


# Files


IDR = ("Plate,Well,Compound MoA,Compound Name,Compound SMILES,Compound InChIKey,Control Type\n"
       "1,B3,mAChR agonist,carbachol,C,AIXAANGOTKPUOY-UHFFFAOYSA-N,\n"
       "2,B3,mAChR agonist,carbachol,C,AIXAANGOTKPUOY-UHFFFAOYSA-N,\n"
       "1,B4,,quinine,C,LOUPRKONTZGTKE-WZBLMQSHSA-N,\n"
       "1,B2,,DMSO,,,Negative Control\n")


def test_a_table_of_wells_becomes_one_row_a_compound_without_controls(tmp_path):
    with zipfile.ZipFile(tmp_path / "wells.csv.zip", "w") as archive:
        archive.writestr("wells.csv", IDR)
    done = annotate_files(tmp_path / "wells.csv.zip", tmp_path / "out" / "annotations.csv")
    written = pd.read_csv(tmp_path / "out" / "annotations.csv", keep_default_na=False)
    assert written.columns.tolist() == ["Metadata_Compound", "Metadata_MoA", "Metadata_InChIKey",
                                        "Metadata_SMILES", "gpcr", "gpcr_action", "evidence",
                                        "curator"]
    assert written["Metadata_Compound"].tolist() == ["carbachol", "quinine"]
    assert written["gpcr"].tolist() == ["yes", "unknown"]
    assert done.review.empty


def test_a_second_run_writes_the_same_bytes(tmp_path):
    (tmp_path / "in.csv").write_text(IDR)
    annotate_files(tmp_path / "in.csv", tmp_path / "out.csv")
    first = (tmp_path / "out.csv").read_bytes()
    annotate_files(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == first
    annotate_files(tmp_path / "out.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == first


def test_a_compound_with_two_mechanisms_in_its_rows_has_both(tmp_path):
    (tmp_path / "in.csv").write_text("compound,moa\nA,HDAC inhibitor\nA,opioid agonist\n")
    given = read_compounds(tmp_path / "in.csv")
    assert given.table["Metadata_MoA"].tolist() == ["HDAC inhibitor|opioid agonist"]
    assert "differ between rows" in given.warnings[0]


def test_an_annotated_screen_can_be_read_and_learnt_from(tmp_path):
    folder = make_screen(tmp_path, images=False, annotations={
        "C00": "opioid receptor agonist|histamine receptor antagonist", "C01": "HDAC inhibitor",
        "C02": "glutamate receptor agonist", "C03": ""})
    annotations = pd.read_csv(folder / "annotations.csv", dtype=str, keep_default_na=False)
    annotations.drop(columns="gpcr").to_csv(folder / "annotations.csv", index=False)
    done = annotate_files(folder / "annotations.csv", folder / "annotations.csv", screen=folder)
    assert done.review["images"].tolist() == [2]
    screen = read_screen(folder)
    assert screen.annotations["gpcr_action"].tolist()[0] == "agonist|antagonist"
    for target in ("gpcr", "gpcr_agonist", "gpcr_antagonist"):
        labels = label_screen(screen, target).groups.set_index("Metadata_Compound")["Label"]
        assert labels.to_dict() == {"C00": target, "C01": f"not_{target}"}


def test_an_unknown_action_is_an_error(tmp_path):
    folder = make_screen(tmp_path, images=False)
    edit_csv(folder / "annotations.csv", gpcr_action={0: "agonist|blocker"})
    with pytest.raises(MoascopeError, match=r"gpcr_action is 'agonist\|blocker'"):
        read_screen(folder)


@pytest.mark.parametrize(("content", "sentence"), [
    ("", "is empty"),
    ("a,b\n1,2\n", "has no column 'Metadata_Compound' or 'Compound Name'"),
    ("compound,x\nA,2\n", "has no column 'Metadata_MoA' or 'Compound MoA'"),
    ("compound,moa\n,x\n", "names no compound"),
    ('compound,moa\nA,"x\nB,y\n', "line 2: a quotation mark"),
])
def test_what_is_wrong_with_the_input_is_a_sentence(tmp_path, content, sentence):
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(MoascopeError, match=sentence):
        annotate_files(tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_files_that_are_not_input_are_errors(tmp_path):
    with pytest.raises(MoascopeError, match="does not exist"):
        read_compounds(tmp_path / "in.csv")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.csv", IDR)
        archive.writestr("b.csv", IDR)
    with pytest.raises(MoascopeError, match="must hold exactly one file that ends in"):
        read_compounds(tmp_path / "in.zip")
    (tmp_path / "in.csv").write_text(IDR)
    (tmp_path / "out.csv").write_text("precious,table\n1,2\n")
    with pytest.raises(MoascopeError, match="is not a table of annotations"):
        annotate_files(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "precious,table\n1,2\n"


def test_letters_of_windows_and_semicolons_are_read(tmp_path):
    (tmp_path / "in.csv").write_bytes("compound;moa\nA;β-blocker\n".encode("utf-8-sig"))
    assert by_name(annotate_compounds(read_compounds(tmp_path / "in.csv").table)
                   ).loc["A", "gpcr"] == "yes"
    (tmp_path / "in.csv").write_bytes("compound;moa\nCafé;µ-opioid agonist\n".encode("cp1252"))
    assert read_compounds(tmp_path / "in.csv").table["Metadata_Compound"].tolist() == ["Café"]


def test_targets_without_genes_are_an_error(tmp_path):
    (tmp_path / "in.csv").write_text(IDR)
    with pytest.raises(MoascopeError, match="--targets needs --genes"):
        annotate_files(tmp_path / "in.csv", tmp_path / "out.csv", targets=tmp_path / "t.csv")


def shown_by_the_command(table, folder, capsys, monkeypatch, columns=80):
    """What `moascope annotate` prints of a table in a terminal that is so many columns wide."""
    monkeypatch.setenv("COLUMNS", str(columns))
    pd.DataFrame(table, columns=["compound", "moa"]).to_csv(folder / "in.csv", index=False)
    app(["annotate", str(folder / "in.csv"), "--out", str(folder / "out.csv"), "--review",
         str(folder / "review.csv")], standalone_mode=False)
    return capsys.readouterr().out


def test_the_command_prints_families_and_what_to_review(tmp_path, capsys, monkeypatch):
    printed = shown_by_the_command([("A", "opioid agonist"), ("B", "glutamate antagonist")],
                                   tmp_path, capsys, monkeypatch)
    assert "1 act through a GPCR, 0 do not, 1 unknown" in printed
    assert re.search(r"^ opioid +1 +1 *$", printed, re.M)
    assert re.search(r"^ +1 +B +glutamate antagonist: Is the receptor", printed, re.M)
    assert pd.read_csv(tmp_path / "review.csv").columns.tolist() == [
        "Metadata_Compound", "Metadata_MoA", "question", "images", "suggestion", "number"]


def test_the_terminal_lists_a_question_once_with_its_compounds(tmp_path, capsys, monkeypatch):
    rows = [(name, "glutamate antagonist") for name in "BCDEF"] + [("A", "GABA agonist")]
    printed = shown_by_the_command(rows, tmp_path, capsys, monkeypatch)
    assert "To review: 6 compounds with 2 questions, most rows in in.csv first" in printed
    assert re.search(r"^ +5 +B and 4 more +glutamate antagonist: Is the receptor", printed, re.M)
    assert re.search(r"^ +1 +A +GABA agonist: ", printed, re.M)


def test_the_numbers_of_every_family_fit_into_80_columns(tmp_path, capsys, monkeypatch):
    """All actions there are, and the family with the longest name of the term table."""
    terms = load_terms()
    longest = max((name for rows in terms.patterns.values() for _, _, name in rows
                   if name.says == "yes"), key=lambda name: len(name.family)).family
    word = next(pattern.pattern.replace("(?= )", "").strip() for rows in terms.patterns.values()
                for pattern, literal, name in rows
                if name.family == longest and name.kind == "names" and literal
                and re.fullmatch(r"[ a-z]+", pattern.pattern.replace("(?= )", "")))
    stated = ["agonist"] * 1234 + ["antagonist"] * 321 + ["allosteric modulator"] * 43 + [""] * 7
    moas = [f"{word} receptor {action}" for action in stated]
    moas += [f"{word} receptor agonist|{word} receptor antagonist"] * 56
    printed = shown_by_the_command([(f"C{row}", moa) for row, moa in enumerate(moas)],
                                   tmp_path, capsys, monkeypatch)
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith("Saved"))
    assert "1,661 act through a GPCR" in printed
    numbers = r" +1,234 +321 +56 +43 +7 +1,661 *$"
    assert re.search(r"^ \S.*" + numbers, printed, re.M), printed
    assert re.search(r"^ compounds" + numbers, printed, re.M), printed


def test_the_numbers_of_the_review_fit_next_to_very_long_names(tmp_path, capsys, monkeypatch):
    names = ["x" * 200, "a name of many words " * 20, "[red]not a colour[/red]", "two\nlines"]
    terms = ["glutamate receptor agonist", "glutamate antagonist", "glutamate receptor modulator",
             "glutamate agonist"]
    rows = [(name, term) for name, term in zip(names, terms, strict=True) for _ in range(1200)]
    # Wells of one compound are rows that differ in something else.
    monkeypatch.setenv("COLUMNS", "80")
    table = pd.DataFrame(rows, columns=["compound", "moa"]).assign(well=range(len(rows)))
    table.to_csv(tmp_path / "in.csv", index=False)
    app(["annotate", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")],
        standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert "4 unknown" in lines[0]
    assert len([line for line in lines if re.match(r" 1,200 +\S+.* glutamate", line)]) == 4
    assert any("[red]not a colour[/red]" in line for line in lines)
    assert all(len(line) <= 80 for line in lines if not line.startswith("Saved"))


def test_a_mechanism_of_a_paragraph_keeps_its_question_in_few_lines(tmp_path, capsys, monkeypatch):
    paragraph = "glutamate antagonist that crosses the membrane and was used in the " + "cell " * 80
    printed = shown_by_the_command([("B", paragraph)], tmp_path, capsys, monkeypatch)
    assert "Is the receptor" in " ".join(printed.split())
    assert len(printed.splitlines()) < 15
    assert paragraph.strip() in pd.read_csv(tmp_path / "review.csv")["question"][0]


def test_many_wells_are_annotated_in_seconds(tmp_path):
    names = [f"D{row % 1000}" for row in range(300_000)]
    rows = pd.DataFrame({"Plate": range(300_000), "Compound Name": names})
    rows["Compound MoA"] = [f"dopamine receptor antagonist|{name}" for name in names]
    rows.to_csv(tmp_path / "in.csv", index=False)
    start = time.perf_counter()
    done = annotate_files(tmp_path / "in.csv", tmp_path / "out.csv")
    assert time.perf_counter() - start < 20
    assert len(done.annotated.table) == 1000


# Real tables


@pytest.mark.real
def test_idr0088_has_the_known_compounds_of_each_class(real_data, tmp_path):
    path = real_data / "tables" / "idr0088-screenA-annotation.csv.zip"
    done = annotate_files(path, tmp_path / "annotations.csv")
    known = done.annotated.table[done.annotated.table["Metadata_MoA"] != ""]
    assert len(known) == 1007
    yes = known[known["gpcr"] == "yes"]
    assert yes["gpcr_action"].value_counts().to_dict() == {
        "antagonist": 91, "agonist": 58, "agonist|antagonist": 4, "other": 1}
    # Two of the 852 that are no GPCR by their text are "Unknown target Unknown_MoA", and unknown
    # is never negative.
    assert (known["gpcr"] == "no").sum() == 850
    assert known.loc[known["gpcr"] == "unknown", "Metadata_MoA"].value_counts().to_dict() == {
        "Unknown target Unknown_MoA": 2, "Bile acid receptor agonist": 1}
    # Two compounds of unknown target are one question.
    assert done.review["Metadata_Compound"].tolist() == ["2-methoxyestradiol", "CGK-733",
                                                         "betulinic-acid"]
    assert done.review["number"].tolist() == [1, 1, 2]


@pytest.mark.real
def test_idr0088_shows_its_numbers_at_80_columns(real_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    app(["annotate", str(real_data / "tables" / "idr0088-screenA-annotation.csv.zip"), "--out",
         str(tmp_path / "out.csv")], standalone_mode=False)
    printed = capsys.readouterr().out
    assert re.search(r"^ adrenoceptors +25 +23 +48 *$", printed, re.M)
    assert re.search(r"^ compounds +58 +91 +4 +1 +154 *$", printed, re.M)
    assert re.search(r"^ +432 +betulinic-acid +Bile acid", printed, re.M)


@pytest.mark.real
def test_receptors_of_the_guide_to_pharmacology_are_known_by_gene_name_and_family(real_data):
    guide = pd.read_csv(real_data / "tables" / "human_gpcr_symbols_gtopdb_2025.3.csv", dtype=str,
                        keep_default_na=False)
    guide = guide[~guide["gtopdb_family"].str.contains("non-GPCR")]

    def unknown(names, suffix):
        plain = {re.sub("<.*?>", "", name).removesuffix("s") for name in names}
        return {name for name in plain
                if read_term(f"{name}{'' if 'receptor' in name else suffix} antagonist").says
                != "yes"}

    # RHO is also the GTPase; a mechanism that says Rho means that.
    assert unknown(guide["hgnc_symbol"], "") - {""} == {"RHO"}
    # Guide's own short forms of which the words could be something else.
    assert len(unknown(guide["gtopdb_target"], " receptor")) <= 4
    assert unknown(guide["gtopdb_family"], " receptor") == {
        "Bile acid receptor", "Class C Orphan", "Class A Orphans with emerging pharmacology",
        "Class A Orphans with no pharmacology", "Class A Orphans with only surrogate ligand"}


def test_the_term_table_is_short_lines_of_plain_text():
    from importlib.resources import files

    text = files("moascope.annotation").joinpath("terms.yaml").read_text()
    assert all(len(line) <= 100 for line in text.splitlines())
    assert isinstance(yaml.safe_load(text)["version"], int)


@pytest.mark.parametrize("role", ["negcon", "NC", "vehicle", "negative control", "control"])
def test_controls_are_left_out_whatever_word_marks_them(tmp_path, role):
    path = tmp_path / "w.csv"
    path.write_text(f"Compound,MoA,Control Type\nDMSO,,{role}\na,HDAC inhibitor,\n")
    assert list(read_compounds(path).table["Metadata_Compound"]) == ["a"]


def test_a_vehicle_that_nothing_marks_is_left_out_and_said(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("Compound,MoA\nDMSO 0.1%,\na,HDAC inhibitor\n")
    read = read_compounds(path)
    assert list(read.table["Metadata_Compound"]) == ["a"]
    assert "1 row of DMSO 0.1% left out" in read.warnings[0]


@pytest.mark.parametrize("text", ["Compound,MoA\na,x,y\nb,z\n", "Compound,MoA\na,x\nb,y,z\n",
                                  "Compound,MoA,SMILES\na,x,C\nb,y\n"])
def test_a_ragged_table_of_compounds_is_refused(tmp_path, text):
    (tmp_path / "w.csv").write_text(text)
    sentence = r"w\.csv, line [23]: [23] values for [23] columns"
    with pytest.raises(MoascopeError, match=sentence):
        read_compounds(tmp_path / "w.csv")


def test_a_table_of_compounds_in_utf_16_is_read(tmp_path):
    (tmp_path / "w.csv").write_text("Compound\tMoA\nβ-estradiol\tx\n", encoding="utf-16")
    assert list(read_compounds(tmp_path / "w.csv").table["Metadata_Compound"]) == ["β-estradiol"]
