"""What the report says of the channels that the score rests on."""

from helpers import Page
from test_report import make_world

from moascope.report.explanation import explanation_section
from moascope.report.page import render_report


def group(lost, low, high, **more):
    return {"features": 10, "average_precision": 0.8 - lost, "lost": lost, "low": low,
            "high": high} | more


FOUND = {"average_precision": 0.8, "controls": True, "exact": True, "groups": {"channel": {
    "DNA": group(0.02, -0.05, 0.08), "Actin": group(0.3, 0.1, 0.5),
    "cell count": group(0.0, -0.01, 0.01)}}}


def test_what_is_lost_is_told_the_most_first():
    shown = explanation_section({"explanation": FOUND}, str)
    assert shown["sentence"] == ("Average precision over unseen compounds falls clearly without "
                                 "one channel: Actin (0.300).")
    table, = shown["tables"]
    assert [row["name"] for row in table.rows] == ["Actin", "DNA", "the cell count"]
    assert (table.first, table.classes, table.hidden) == ("Channel", (), 0)


def test_several_that_are_needed_are_counted_and_none_is_said():
    parts = {name: group(0.2, 0.1, 0.3) for name in "abcd"}
    both = FOUND | {"groups": {"compartment": parts}}
    assert explanation_section({"explanation": both}, str)["sentence"].endswith(
        "without any one of 4 parts of the cell: a (0.200), b (0.200), c (0.200) and 1 more.")
    few = FOUND | {"groups": {"measurement": {"Texture": group(0.4, None, None)}}}
    assert explanation_section({"explanation": few}, str)["sentence"].startswith(
        "No measurement is needed by itself")


def test_classes_have_columns_and_rows_have_a_limit():
    groups = {f"f{i:02d}": group(i / 100, None, None, by_class={"x": i / 100, "y": 0.0})
              for i in range(20)}
    table, = explanation_section(
        {"explanation": FOUND | {"groups": {"feature": groups}}}, str.upper)["tables"]
    assert table.classes == ("X", "Y") and table.hidden == 5
    assert table.rows[0]["name"] == "f19" and table.rows[0]["of_class"] == [0.19, 0.0]


def test_mechanisms_of_hits_have_a_table_of_what_they_are_recognised_by():
    lost = {"DNA": 0.1, "Actin": 2.0, "cell count": -0.1}
    found = FOUND | {"mechanisms": {"channel": {"kinase inhibitor": {"compounds": 3,
                                                                     "lost": lost}}}}
    table = explanation_section({"explanation": found}, str)["mechanisms"]
    assert table.groups == ("DNA", "Actin", "the cell count")
    assert table.rows == [{"name": "kinase inhibitor", "compounds": 3, "lost": [0.1, 2.0, -0.1],
                           "most": 1}]
    assert explanation_section({"explanation": FOUND}, str)["mechanisms"] is None


def test_the_report_shows_the_table(tmp_path):
    world = make_world()
    lost = {"DNA": 0.1, "Actin": 2.0, "cell count": -0.1}
    found = FOUND | {"mechanisms": {"channel": {"x": {"compounds": 3, "lost": lost}}}}
    text = render_report({**world.metrics, "explanation": found}, world.predictions,
                         world.examples, tmp_path)
    assert "x 3 0.10 2.00 −0.10" in Page(text).text
    assert "Actin 10 0.500 0.300 0.100 to 0.500" in Page(text).text


def test_where_nothing_was_measured_nothing_is_said():
    assert explanation_section({}, str) == explanation_section({"explanation": None}, str) == {}
