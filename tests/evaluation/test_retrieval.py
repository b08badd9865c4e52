"""Average precision is copairs'; random sets keep what the observed one has of each plate."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from moascope.evaluation.retrieval import (
    average_precisions,
    corrected,
    cosines,
    labellings,
    permutation_p,
    simes,
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_copairs_and_of_scikit_learn(seed):
    from copairs.map import average_precision

    rng = np.random.default_rng(seed)
    members, others = 5, 30
    profiles = rng.normal(size=(members + others, 8)).astype(np.float32)
    profiles[:members] += 0.7
    similarity = cosines(unit(profiles), rng)
    own, = average_precisions(similarity, np.arange(members)[None], [~np.eye(members, dtype=bool)])
    meta = pd.DataFrame({"Set": [0] * members + list(range(1, others + 1)),
                         "Control": [0] * members + [1] * others})
    theirs = average_precision(meta, profiles, ["Set"], [], [], ["Control"], progress_bar=False)
    assert own[0] == pytest.approx(theirs["average_precision"][:members].to_numpy(), abs=1e-6)
    for member in range(members):
        rest = np.arange(members + others) != member
        assert own[0, member] == pytest.approx(average_precision_score(
            (np.arange(members + others) < members)[rest], similarity[member, rest]))


def test_what_is_not_to_be_found_is_left_out_of_the_list():
    """Two others above the one that counts: at rank 1 without them, at rank 3 with them."""
    similarity = np.array([[9, 4, 8, 7, 1], [4, 9, 0, 0, 0], [8, 0, 9, 0, 0], [7, 0, 0, 9, 0],
                           [1, 0, 0, 0, 9]], float)
    counted = np.zeros((4, 4), bool)
    counted[0, 1] = True
    scores, = average_precisions(similarity, np.arange(4)[None], [counted])
    assert scores[0, 0] == 1
    assert np.isnan(scores[0, 1:]).all()   # nothing to find
    scores, = average_precisions(similarity, np.array([[0, 1]]), [~np.eye(2, dtype=bool)])
    assert scores[0, 0] == pytest.approx(1 / 3)


def test_equal_profiles_are_ranked_by_chance_and_not_by_their_place_in_the_table():
    profiles = unit(np.ones((30, 4)))
    scores = [average_precisions(cosines(profiles, np.random.default_rng(seed)),
                                 np.arange(3)[None], [~np.eye(3, dtype=bool)])[0].mean()
              for seed in range(30)]
    assert np.mean(scores) < 0.3


def test_random_sets_take_as_many_profiles_from_each_plate_as_the_observed_one():
    plates = np.array([0, 0, 1, *[0] * 6, *[1] * 6])
    drawn = labellings(plates, 3, 200, np.random.default_rng(0))
    assert drawn[0].tolist() == [0, 1, 2]
    assert (plates[drawn] == [0, 0, 1]).all()
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert len({tuple(row) for row in drawn.tolist()}) > 50


def test_p_counts_the_observed_set_and_ties():
    assert permutation_p(0.5, np.array([0.1, 0.5, 0.9, 0.2])) == pytest.approx(3 / 5)
    assert permutation_p(1.0, np.full(99, 0.2)) == pytest.approx(0.01)


def test_corrected_p_is_that_of_statsmodels_and_leaves_gaps():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).random(20) ** 2
    assert corrected(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    gaps = corrected(np.array([0.01, np.nan, 0.04]))
    assert gaps[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(gaps[1])
    assert np.isnan(corrected(np.array([np.nan]))).all()


def test_simes_by_hand():
    assert simes(np.array([0.04, 0.01, 0.5])) == pytest.approx(0.03)
    assert simes(np.array([0.2])) == pytest.approx(0.2)
