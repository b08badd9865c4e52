"""The review in the terminal: a question is asked once, and its answer can be undone."""

import pandas as pd
import pytest

from moascope.annotation.asking import ask_review
from moascope.annotation.run import annotate_files
from moascope.cli.app import app
from moascope.errors import MoascopeError

TERMS = {"A": "glutamate receptor antagonist", "B": "Glutamate receptor antagonist",
         "C": "glutamate receptor antagonist|HDAC inhibitor", "D": "GABA receptor agonist",
         "E": "opioid receptor agonist"}


@pytest.fixture
def ask(tmp_path, capsys):
    """Answer in turn: what was printed, and the table."""
    given, out = tmp_path / "in.csv", tmp_path / "out.csv"
    pd.DataFrame(TERMS.items(), columns=["compound", "moa"]).to_csv(given, index=False)

    def run(*answers):
        waiting = list(answers)

        def read(prompt):
            if not waiting:
                raise EOFError
            return waiting.pop(0)

        ask_review(annotate_files(given, out), out, "anna", read)
        assert not waiting
        table = pd.read_csv(out, dtype=str, keep_default_na=False)
        return capsys.readouterr().out, table.set_index("Metadata_Compound")

    return run


def test_one_answer_is_a_row_for_every_compound_with_the_term(ask):
    said, table = ask("y", "n")
    assert said.count("glutamate receptor antagonist: Is the receptor") == 1
    assert "2 questions left. 3 compounds, 3 rows in in.csv:\n  A, B, C\n" in said
    assert "Saved A and 2 more: yes (antagonist).\n" in said and "Saved D: no." in said
    assert table["gpcr"].tolist() == ["yes", "yes", "yes", "no", "yes"]
    assert table["gpcr_action"].tolist() == ["antagonist"] * 3 + ["", "agonist"]
    assert table["curator"].tolist() == ["anna"] * 4 + [""]
    assert '"HDAC inhibitor"' in table.loc["C", "evidence"]
    assert '"HDAC inhibitor"' not in table.loc["A", "evidence"]


def test_the_action_can_be_said_with_the_answer(ask):
    _, table = ask("yao", "q")
    assert table.loc[list("ABC"), "gpcr_action"].tolist() == ["agonist|other"] * 3


def test_an_answer_is_undone_for_all_its_compounds_and_asked_again(ask):
    said, table = ask("y", "z", "n", "z", "z", "q")
    assert said.count("Undid the decision on A and 2 more.") == 2
    assert "There is nothing to undo in this session." in said
    assert (table["curator"] == "").all()
    assert table["gpcr"].tolist() == ["unknown"] * 4 + ["yes"]


def test_compounds_with_one_term_can_be_answered_one_by_one(ask):
    said, table = ask("e", "y", "n", "s")
    assert "Saved A: yes (antagonist).\n" in said and "Saved B: no.\n" in said
    assert table["gpcr"].tolist() == ["yes", "no", "unknown", "unknown", "yes"]
    assert table["curator"].tolist() == ["anna", "anna", "", "", ""]


def test_what_is_skipped_or_left_at_the_end_of_the_input_stays_open(ask):
    said, table = ask("maybe", "s")
    assert "'maybe' is not one of the answers." in said
    assert "0 decided in this session" in said
    assert (table["curator"] == "").all()
    said, _ = ask("s", "s")
    assert said.endswith("out.csv.\n")


def test_a_review_is_in_the_terminal_or_on_the_page(tmp_path):
    with pytest.raises(MoascopeError, match="Leave one out"):
        app(["annotate", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"), "--ask",
             "--serve"], standalone_mode=False)
