"""Folds as other people use them: the fold and the class of each row, splits, what is read."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.learning.folds import Folds, read_folds, unit_of_rows
from moascope.screen.question import Question

GROUPS = pd.DataFrame({
    "Metadata_Group": ["a", "b", "c", "d", "e"], "Metadata_Compound": list("ABCDE"),
    "Label": ["t", "not_t", "t", "not_t", "t"], "Metadata_MoA": "", "gpcr_action": "",
    "Holdout": [False, False, False, False, True],
    "Fold_0": [0, 1, 2, 0, -1], "Fold_1": [1, 1, 0, 2, -1]})
WELLS = pd.DataFrame({
    "Metadata_Plate": ["P", "P", "P", "Q", "Q", "Q"],
    "Metadata_Well": ["A01", "A02", "A03", "A01", "A02", "A03"],
    "Metadata_Group": ["a", "b", "c", "d", "e", "a"]})
# In an order of their own, a well twice, and a control.
ROWS = pd.DataFrame({
    "Metadata_Plate": ["Q", "P", "P", "Q", "Q", "P", "P"],
    "Metadata_Well": ["A03", "A02", "H12", "A02", "A01", "A03", "A02"]})
FOLDS = Folds(GROUPS, WELLS, Question("t", ("not_t", "t"), True), ["one"])


def test_rows_know_their_unit_its_fold_and_its_class():
    np.testing.assert_array_equal(unit_of_rows(ROWS, WELLS, GROUPS), [0, 1, -1, 4, 3, 2, 1])
    np.testing.assert_array_equal(FOLDS.of_rows(ROWS), [0, 1, -1, -1, 0, 2, 1])
    np.testing.assert_array_equal(FOLDS.of_rows(ROWS, 1), [1, 1, -1, -1, 2, 0, 1])
    assert FOLDS.labels(ROWS).tolist() == ["t", "not_t", "", "t", "not_t", "t", "not_t"]
    assert FOLDS.repeats == 2


@pytest.mark.parametrize(("repeat", "expected"), [
    (0, [([1, 5, 6], [0, 4]), ([0, 4, 5], [1, 6]), ([0, 1, 4, 6], [5])]),
    (1, [([0, 1, 4, 6], [5]), ([4, 5], [0, 1, 6]), ([0, 1, 5, 6], [4])])])
def test_a_split_trains_on_the_other_folds_and_on_nothing_held_out(repeat, expected):
    found = [(train.tolist(), test.tolist()) for train, test in FOLDS.split(ROWS, repeat)]
    assert found == expected
    if repeat == 0:
        assert found == [(train.tolist(), test.tolist()) for train, test in FOLDS.split(ROWS)]


def test_folds_say_what_they_are():
    assert repr(FOLDS) == "Folds(4 compounds in 3 folds x 2, 1 held out; 2 not_t, 3 t)"


def test_a_well_that_stands_twice_in_a_table_is_an_error():
    with pytest.raises(pd.errors.MergeError):
        unit_of_rows(ROWS, pd.concat([WELLS, WELLS]), GROUPS)


def written(folder, **said):
    GROUPS.to_parquet(folder / "groups.parquet")
    WELLS.to_parquet(folder / "wells.parquet")
    question = {**dataclasses.asdict(FOLDS.question), **said}
    (folder / "target.json").write_text(json.dumps(question))
    return folder


def test_what_was_dealt_is_read_again(tmp_path):
    for folder in (written(tmp_path, warnings=["one"]), str(tmp_path)):
        folds = read_folds(folder)
        pd.testing.assert_frame_equal(folds.groups, GROUPS)
        pd.testing.assert_frame_equal(folds.wells, WELLS)
        assert folds.question == FOLDS.question and folds.warnings == ["one"]
    assert read_folds(written(tmp_path)).warnings == []


@pytest.mark.parametrize("missing", ["groups.parquet", "wells.parquet", "target.json"])
def test_what_is_missing_or_damaged_is_a_sentence(tmp_path, missing):
    written(tmp_path)
    (tmp_path / missing).write_bytes(b"{")
    with pytest.raises(MoascopeError, match=r"Run `dvc repro split` again"):
        read_folds(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(MoascopeError) as error:
        read_folds(tmp_path)
    assert str(error.value) == (f"{tmp_path} holds no folds: {missing} is missing. Run `dvc repro "
                                "split` first.")
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(MoascopeError, match=r": target.json, groups.parquet, wells.parquet are "):
        read_folds(tmp_path)
