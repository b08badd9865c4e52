"""Which classes are scored, and which rows count for it."""

from dataclasses import asdict

import numpy as np
import pytest

from moascope.metrics import null_mean
from moascope.screen.question import Question

BINARY = Question("t", ("not_t", "t"), binary=True)
SEVERAL = Question("moa", ("a", "b", "c"), binary=False, untestable=("b",))


def test_a_binary_question_scores_its_positive_class_over_all_rows():
    label = np.array([0, 1, 0, 0])
    assert BINARY.scored == [1]
    assert BINARY.scored_names == ["t"]
    assert BINARY.counts(label).all()
    assert BINARY.present(label) == [1]
    assert BINARY.present(np.zeros(3, int)) == []
    assert BINARY.prevalence(label) == 0.25


def test_rows_of_a_class_that_cannot_be_tested_do_not_count():
    label = np.array([0, 1, 2, 2, -1])
    assert SEVERAL.scored_names == ["a", "c"]
    np.testing.assert_array_equal(SEVERAL.counts(label), [True, False, True, True, False])
    assert SEVERAL.present(np.array([1, 2])) == [2]
    # A mean over the classes, each against all rows: (1/5 + 2/5) / 2.
    assert SEVERAL.prevalence(label) == pytest.approx(0.3)


def test_a_single_scored_class_is_distinguished_from_all_the_rest():
    one = Question("moa", ("a", "b"), binary=False, untestable=("b",))
    assert one.scored == [0]
    assert one.counts(np.array([0, 1, 1])).all()


def test_a_random_list_scores_the_mean_of_its_classes():
    label = np.array([0, 1, 2, 2, 0, 0])
    expected = (null_mean(6, 3) + null_mean(6, 2)) / 2
    assert SEVERAL.null_mean(label) == pytest.approx(expected)


def test_names_become_the_numbers_of_their_columns():
    np.testing.assert_array_equal(SEVERAL.index(["c", "a", "", "b"]), [2, 0, -1, 1])
    assert SEVERAL.probabilities == ["P_a", "P_b", "P_c"]


@pytest.mark.parametrize("question", [BINARY, SEVERAL])
def test_a_question_survives_json(question):
    written = {**asdict(question), "warnings": []}
    written["classes"] = list(written["classes"])
    assert Question.from_dict(written) == question
    del written["untestable"]
    assert Question.from_dict(written).untestable == ()
