"""Who may be compared, and on which compounds."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.learning.examples import Examples
from moascope.params import Params
from moascope.promotion.contenders import (
    Contender,
    UndecidedError,
    asked_digest,
    check_comparable,
    load_pipeline,
    seen_in_training,
    unseen_hold_out,
)
from moascope.promotion.held_out import _aligned, _held_out_rows, _without_scored_controls, answers
from moascope.screen.question import Question
from moascope.screen.tables import Screen

QUESTION = Question("t", ("not_t", "t"), True)
GROUPS = pd.DataFrame({
    "Metadata_Group": ["g0", "g1", "g2", "g3"], "Metadata_Compound": ["A", "B", "C", "D"],
    "Label": ["t", "not_t", "t", "not_t"], "Holdout": [False, True, True, True],
    "Fold_0": [0, -1, -1, -1]})
META = pd.DataFrame({
    "Metadata_Plate": "P", "Metadata_Well": ["A01", "A01", "A02", "A03", "A04", "A05"],
    "Metadata_Site": [1, 2, 1, 1, 1, 1], "Metadata_Batch": "B", "Metadata_Panel": "",
    "Metadata_Compound": ["A", "A", "B", "C", "D", "DMSO"], "Metadata_Concentration_uM": 1.0,
    "Metadata_Control": ["", "", "", "", "", "negative"]})
EXAMPLES = Examples(META, np.zeros((6, 1), np.float32), ("f",), np.array([0, 0, 1, 2, 3, -1]),
                    GROUPS, QUESTION)


def contender(trained_on=(), version="4", question=QUESTION, **changes):
    return Contender(version, "run", SimpleNamespace(question=question, trained_on=trained_on,
                                                     **changes))


@pytest.mark.parametrize(("change", "said"), [
    ({"target": "u"}, "its target is u, and that of data/split is t"),
    ({"classes": ("not_t", "u")}, "its classes is not_t, u, and that of data/split is not_t, t"),
    ({"unit": "well"}, "its unit is well, and that of data/split is compound")])
def test_another_question_is_not_compared(change, said):
    other = contender(question=dataclasses.replace(QUESTION, **change))
    word = next(iter(change))
    with pytest.raises(UndecidedError) as error:
        check_comparable(other, EXAMPLES, "staging")
    assert str(error.value) == (
        f"Version 4 (staging) cannot be compared here: {said}. Give every question a registered "
        "model of its own (register.name in params.yaml), or run `dvc repro` with the "
        f"{word} that version 4 was trained for.")
    check_comparable(contender(), EXAMPLES, "staging")


def test_a_model_knows_what_it_was_trained_on():
    # By the group, or by a name that has since got a key.
    np.testing.assert_array_equal(
        seen_in_training(contender(("g1", "c", "other")), EXAMPLES, "candidate"),
        [False, True, True, False])
    for alias, advice in (("candidate", "to register a new one."), (
            "staging", "to register a new one, and remove the alias 'staging' from version 4 in "
                       "MLflow.")):
        with pytest.raises(UndecidedError) as error:
            seen_in_training(contender(None), EXAMPLES, alias)
        assert str(error.value).startswith("Version 4 (")
        assert str(error.value).endswith(advice) and f"({alias})" in str(error.value)


def test_what_a_contender_has_seen_is_excluded_or_refused():
    contenders = {"candidate": contender(("g0", "g1")),
                  "staging": contender(("g3", "g1"), version="3")}
    kept, left_out = unseen_hold_out(contenders, EXAMPLES, unseen_only=True)
    assert left_out == 2
    # Rows of units that are seen belong to none; the controls' stay as they are.
    assert kept.group.tolist() == [0, 0, -1, 2, -1, -1]
    assert kept.groups is EXAMPLES.groups and kept._cache is not EXAMPLES._cache
    with pytest.raises(UndecidedError) as error:
        unseen_hold_out(contenders, EXAMPLES, unseen_only=False)
    said = str(error.value)
    assert ("Version 4 (candidate) was trained on 1 of the 3 held-out compounds (B), so their "
            "scores on them say nothing. Run `dvc repro` to train on the current split, or add "
            "--unseen-only to use only the others.") in said
    assert ("Version 3 (staging) was trained on 2 of the 3 held-out compounds (B, D), so their "
            "scores on them say nothing. Restore split.holdout, the target and the annotations, or "
            "add --unseen-only to use only the others.") in said
    # What was trained on is no hold-out, whoever was trained on it.
    kept, left_out = unseen_hold_out({"candidate": contender(("g0",))}, EXAMPLES, False)
    assert left_out == 0 and kept.group.tolist() == EXAMPLES.group.tolist()


def test_the_same_compounds_with_the_same_labels_are_the_same_question():
    table = GROUPS[["Metadata_Group", "Label"]]
    same = asked_digest("t", table.iloc[::-1].assign(P_t=0.5))
    assert asked_digest("t", table) == same and len(same) == 16
    others = [asked_digest("u", table), asked_digest("t", table.assign(Label="t")),
              asked_digest("t", table.iloc[:3]),
              asked_digest("t", table.assign(Metadata_Group=list("abcd")))]
    assert len({same, *others}) == 5


def test_what_the_gate_needs_and_is_not_there_is_named(tmp_path):
    with pytest.raises(MoascopeError) as error:
        load_pipeline(tmp_path, Params())
    assert str(error.value) == (
        f"The gate needs what is not there: {tmp_path}/acquire, {tmp_path}/embed, {tmp_path}/split,"
        f" {tmp_path}/train. Run `dvc repro` (or `dvc pull`) first.")
    (tmp_path / "embed").mkdir()
    for file in ("acquire/load_data.csv", "split/groups.parquet"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    (tmp_path / "train").mkdir()
    with pytest.raises(MoascopeError, match=f"not there: {tmp_path}/train. Run"):
        load_pipeline(tmp_path, Params())


def test_logits_find_their_rows_and_what_has_none_is_missing():
    logits = np.array([[1.0, 2], [3, 4], [5, 6]], np.float32)
    own = META.iloc[[3, 0, 5]].reset_index(drop=True)
    aligned = _aligned(own, logits, META)
    assert aligned.dtype == np.float32
    np.testing.assert_array_equal(aligned[[3, 0, 5]], logits)
    assert np.isnan(aligned[[1, 2, 4]]).all()
    with pytest.raises(pd.errors.MergeError):
        _aligned(pd.concat([own, own], ignore_index=True), np.vstack([logits, logits]), META)


def test_rows_of_held_out_units_are_neither_trained_on_nor_controls():
    np.testing.assert_array_equal(_held_out_rows(EXAMPLES), [0, 0, 1, 1, 1, 0])


def test_a_control_well_that_is_scored_normalises_nothing():
    layout = META.drop_duplicates(["Metadata_Plate", "Metadata_Well"]).assign(
        Metadata_Control=["", "negative", "negative", "positive", "negative"])
    screen = Screen(pd.DataFrame(), layout, pd.DataFrame(), (), None)
    examples = dataclasses.replace(
        EXAMPLES, meta=META.assign(
            Metadata_Control=["", "", "negative", "negative", "", "negative"]),
        group=np.array([0, 0, 1, -1, 3, -1]))
    kept = _without_scored_controls(screen, examples).layout
    assert kept["Metadata_Control"].tolist() == ["", "", "negative", "positive", "negative"]
    assert layout["Metadata_Control"].tolist()[1] == "negative"


class Doubled:
    """A calibration whose numbers show which logits it was given."""

    def probability(self, logits):
        return logits * 2

    def decide(self, probability):
        return (probability[:, 1] > 1).astype(int)


def test_all_contenders_answer_from_the_sites_that_all_could_read():
    meta = META.assign(Metadata_Well=["A01", "A01", "A02", "A02", "A03", "A05"],
                       Metadata_Compound=["A", "A", "B", "B", "C", "DMSO"],
                       Metadata_Site=[1, 2, 1, 2, 1, 1])
    examples = dataclasses.replace(EXAMPLES, meta=meta, group=np.array([0, 0, 1, 1, 2, -1]))
    one = np.arange(12, dtype=np.float32).reshape(6, 2) / 10
    two = one[::-1].copy()
    two[3, 0] = np.nan          # a held-out site
    two[0, 1] = np.nan          # one of training
    own = SimpleNamespace(calibrations={"compound": Doubled(), "site": None})
    contenders = {"candidate": Contender("2", "r", own), "staging": Contender("1", "r", own)}
    kept, tables = answers(contenders, examples, {"candidate": one, "staging": two})
    assert kept.meta["Metadata_Site"].tolist() == [1, 2, 1, 1, 1]
    for alias, logits in (("candidate", one), ("staging", two)):
        table = tables[alias]
        assert table["Metadata_Group"].tolist() == ["g1", "g2"]
        assert table["Metadata_Compound"].tolist() == ["B", "C"]
        assert table["Label"].tolist() == ["not_t", "t"]
        np.testing.assert_allclose(table[["P_not_t", "P_t"]], 2 * logits[[2, 4]], rtol=1e-6)
        assert table["Predicted"].tolist() == [
            QUESTION.classes[int(value)] for value in (2 * logits[[2, 4], 1] > 1)]
    # Alone, the candidate answers from all its sites.
    _, alone = answers({"candidate": contenders["candidate"]}, examples, {"candidate": one})
    np.testing.assert_allclose(alone["candidate"]["P_t"], [one[2:4, 1].mean() * 2, one[4, 1] * 2],
                               rtol=1e-6)
    nothing = np.full((6, 2), np.nan)
    with pytest.raises(UndecidedError, match="No held-out compound is left to score"):
        answers(contenders, examples, {"candidate": one, "staging": nothing})
