"""What is written and shown of a decision, word by word."""

import pandas as pd
import pytest

from moascope.promotion.records import COLUMNS, _append_history, _text, note, sentence
from moascope.promotion.shown import show_decision, show_not_promoted

LINES = [{"name": "lift over a random list", "measured": 1.23456, "limit": 1.5, "sign": ">=",
          "passed": False},
         {"name": "permutation p", "measured": 0.01, "limit": 0.05, "sign": "<=", "passed": True},
         {"name": "more than cell count", "measured": None, "limit": None, "sign": ">",
          "passed": True}]
RECORD = {
    "name": "gpcr", "version": "3", "to": "staging", "decision": "promoted", "incumbent": None,
    "unit": "compound", "target": "t", "source": "folder", "requirements": LINES,
    "says_what_train_wrote": True,
    "held_out": {"compounds": 25, "positives": 4, "left_out_as_seen": 0, "asked_before": 0},
    "numbers": {"average_precision": 0.61234, "prevalence": 0.16}}
SCORED = "average precision 0.612 at a prevalence of 0.160 over 25 held-out compounds."


@pytest.mark.parametrize(("changes", "said"), [
    ({}, "Version 3 of 'gpcr' is now staging, as the first version: " + SCORED),
    ({"incumbent": "2"}, "Version 3 of 'gpcr' is now staging, replacing version 2: " + SCORED),
    ({"decision": "refused"}, "Version 3 of 'gpcr' is not promoted to staging: " + SCORED),
    ({"decision": "refused", "incumbent": "2"},
     "Version 3 of 'gpcr' is not promoted to staging; version 2 keeps it: " + SCORED),
    ({"decision": "holds", "to": "production"},
     "Version 3 of 'gpcr' already holds production; nothing changes."),
    ({"held_out": {"compounds": 1}, "unit": "well"},
     "Version 3 of 'gpcr' is now staging, as the first version: "
     + SCORED.replace("25 held-out compounds", "1 held-out well"))])
def test_a_decision_is_one_sentence(changes, said):
    assert sentence(RECORD | changes) == said


def test_mlflow_shows_every_requirement_in_a_table():
    assert note(RECORD) == (
        sentence(RECORD) + "\n\n| requirement | measured | limit | met |\n|---|---|---|---|"
        "\n| lift over a random list | 1.235 | >= 1.500 | **no** |"
        "\n| permutation p | 0.010 | <= 0.050 | yes |"
        "\n| more than cell count | - | > - | yes |")
    assert _text(0.12345678) == "0.123457" and _text(2.0) == "2"


def told(*runs, when=None):
    return pd.DataFrame([{column: "" for column in COLUMNS} | {"promotion_run": run, "when": run}
                         for run in runs], columns=COLUMNS, dtype="str")


def test_the_history_keeps_rows_of_other_registries_and_renews_its_own(tmp_path):
    path = tmp_path / "reports/history.csv"
    path.parent.mkdir()
    _append_history(path, told("r2", "r4"), "first")
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(written) == ["model", *COLUMNS]
    assert written["model"].tolist() == ["first", "first"]
    _append_history(path, told("r1", "r3"), "second")
    _append_history(path, told("r2", "r4").assign(decision="interrupted"), "first")
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert written["when"].tolist() == ["r1", "r2", "r3", "r4"]
    assert written["model"].tolist() == ["second", "first", "second", "first"]
    assert written["decision"].tolist() == ["", "interrupted", "", "interrupted"]
    assert (written["reasons"] == "").all()


def shown(capsys, monkeypatch, **changes):
    monkeypatch.setenv("COLUMNS", "90")
    show_decision(RECORD | changes)
    return capsys.readouterr().out.splitlines()


def test_the_terminal_shows_each_number_beside_its_limit(capsys, monkeypatch):
    lines = shown(capsys, monkeypatch)
    assert lines[0] == "gpcr version 3 to staging, target t, 25 held-out compounds (4 positive)"
    cells = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]
             for line in lines if line[0] in "│┃"]
    assert cells == [["requirement", "measured", "limit", "ok"],
                     ["lift over a random list", "1.235", ">= 1.500", "NO"],
                     ["permutation p", "0.010", "<= 0.050", "yes"],
                     ["more than cell count", "not measured", "–", "–"]]
    # Nothing limits this decision.
    assert lines[-1].startswith("└")
    # Where one of the two is known it is shown.
    lines = shown(capsys, monkeypatch, requirements=[LINES[2] | {"limit": 0.5}], unit="well",
                  held_out={"compounds": 6, "left_out_as_seen": 0, "asked_before": 0})
    assert lines[0].endswith("6 held-out wells")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["more than cell count", "–", "> 0.500", "yes"] in cells


@pytest.mark.parametrize(("changes", "said"), [
    ({"held_out": RECORD["held_out"] | {"left_out_as_seen": 2}},
     "2 held-out compounds excluded: one of the models was trained on them."),
    ({"says_what_train_wrote": False},
     "Version 3 is not the model in data/train, so its predictions are not checked against those "
     "of its training."),
    ({"held_out": RECORD["held_out"] | {"asked_before": 1}},
     "1 earlier decision used the same compounds. The more decisions, the more likely a pass is "
     "luck."),
    ({"source": "simulated"}, "A simulated screen proves the software, never the biology."),
])
def test_what_limits_a_decision_is_said_below_it(capsys, monkeypatch, changes, said):
    lines = shown(capsys, monkeypatch, **changes)
    last = max(at for at, line in enumerate(lines) if line.startswith("└"))
    assert " ".join(" ".join(lines[last + 1:]).split()) == said


def test_a_refusal_ends_with_what_was_done(capsys):
    show_not_promoted("The model stays.", ["one", "two"])
    assert capsys.readouterr().out == (
        "The model stays.\n  - one\n  - two\nThe run itself is complete, and its results are "
        "valid.\n")
