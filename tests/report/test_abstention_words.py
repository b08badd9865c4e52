"""What the report says of abstention."""

from moascope.report.abstention import abstention_section

SCORES = {"n": 40, "share_covered": 0.9, "low": 0.8, "high": 0.96, "called": 30,
          "right_when_called": 27, "undecided": 8, "empty": 2,
          "by_class": {"gpcr": {"covered": 5, "n": 6}}}
FOUND = {"coverage": 0.9, "novelty_rate": 0.05, "own_limit": {"gpcr": False, "not_gpcr": True},
         "unseen_compounds": SCORES,
         "novel": {"held_out": {"novel": 0, "n": 1}, "unseen_mechanisms": {"novel": 4, "n": 94}},
         "dmso_wells": {"n": 224, "called": 8, "by_class": {"gpcr": 6, "not_gpcr": 2}}}


def test_the_table_and_the_sentences_hold_what_was_measured():
    shown = abstention_section({"abstention": FOUND}, str.upper)
    row, = shown["rows"]
    assert (row.name, row.count, row.covered) == ("unseen compounds", 40, "90 % (80 % to 96 %)")
    assert (row.called, row.right, row.undecided) == ("30 (75 %)", "27 of 30", "10")
    assert shown["classes"] == ["GPCR 5 of 6"] and shown["pooled"] == ["GPCR"]
    assert shown["sentences"] == [
        "At a rate of 5 %, 0 of 1 held-out compound and 4 of 94 compounds of mechanisms that are "
        "left out are called novel.",
        "Controls are never given a mechanism. Without their mark, 8 of 224 control wells would be "
        "called (6 GPCR, 2 NOT_GPCR)."]


def test_a_model_of_an_earlier_version_has_no_such_section():
    assert abstention_section({}, str) == {}
    assert abstention_section({"abstention": None}, str) == {}
