import numpy as np
import pandas as pd
import pytest

from moascope.features.normalise import CLIP
from moascope.learning import novelty
from moascope.learning.batch_distance import _apart, control_plates
from moascope.learning.novelty import KnownCompounds, known_compounds, of_length_one


def test_distances_and_p_values_of_a_small_case():
    known = known_compounds(np.array([[1, 0], [2, 0], [0, 3.0]]))
    np.testing.assert_allclose(known.distances, [0, 0, 1], atol=1e-6)
    index, distance = known.nearest(np.array([[5.0, 0], [-1, 0]]))
    # The opposite of two compounds is nearest to the one at a right angle.
    assert index.tolist() == [0, 2]
    np.testing.assert_allclose(distance, [0, 1], atol=1e-6)
    np.testing.assert_allclose(known.p_values(np.array([0.5, 1.5])), [2 / 4, 1 / 4])


def test_a_compound_is_not_its_own_neighbour():
    known = known_compounds(np.array([[1, 0], [0, 1.0]]))
    index, distance = known.nearest(np.array([[1.0, 0]]), np.array([0]))
    assert index.tolist() == [1] and distance[0] == pytest.approx(1)


def test_compounds_like_those_of_training_are_rarely_novel_and_others_mostly():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 40)) * 3
    own, other = [], []
    for _ in range(30):
        known = known_compounds(centres[rng.integers(5, size=80)] + rng.normal(size=(80, 40)))
        like = centres[rng.integers(5, size=40)] + rng.normal(size=(40, 40))
        new = centres[np.full(40, 5)] + rng.normal(size=(40, 40))
        own += known.p_values(known.nearest(like)[1]).tolist()
        other += known.p_values(known.nearest(new)[1]).tolist()
    assert 0.02 < (np.array(own) <= 0.05).mean() < 0.07
    assert (np.array(other) <= 0.05).mean() > 0.95


def plates(rng, count, batches=1, shift=0.0, spread=0.3):
    rows, features = [], []
    for number in range(count):
        centre = rng.normal(size=30) * spread + shift
        for _ in range(16):
            rows.append((f"P{number}", "", f"B{number % batches}"))
            features.append(centre + rng.normal(size=30))
    return (pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Panel", "Metadata_Batch"]),
            np.array(features))


def test_a_plate_of_another_instrument_is_beyond_the_limit_and_one_of_the_same_is_not():
    rng = np.random.default_rng(1)
    known = control_plates(*plates(rng, 8), rate=0.05)
    same = pd.concat([known.distances(*plates(rng, 5)) for _ in range(20)])
    assert (same["Distance"] > same["Limit"]).mean() < 0.15
    other = known.distances(*plates(rng, 5, shift=2.0))
    assert (other["Distance"] > other["Limit"]).all()
    assert len(other) == 5


def test_two_plates_are_too_few_for_a_limit_and_an_unknown_panel_has_none():
    rng = np.random.default_rng(2)
    assert control_plates(*plates(rng, 2), rate=0.05).distances(*plates(rng, 3)).empty
    meta, features = plates(rng, 4)
    known = control_plates(meta, features, rate=0.05)
    assert known.distances(meta.assign(Metadata_Panel="other"), features).empty


def test_one_wild_feature_counts_to_a_limit_in_both_directions():
    wild = np.array([1e6, 0, 0, 0.0])
    for centre in (wild, -wild):
        # The root of the mean of four squares, of which one is the limit's.
        assert _apart(centre, np.zeros((2, 4)), np.ones(4)) == pytest.approx(CLIP / 2)


@pytest.mark.parametrize("block", [512, 2])
def test_the_nearest_compounds_are_those_of_scikit_learn(monkeypatch, block):
    from sklearn.metrics.pairwise import cosine_similarity

    monkeypatch.setattr(novelty, "BLOCK", block)
    rng = np.random.default_rng(4)
    profiles, other = rng.normal(size=(7, 5)), rng.normal(size=(5, 5))
    known = known_compounds(profiles)
    like = cosine_similarity(other, profiles)
    itself = np.array([-1, 3, -1, 0, 6])
    like[[1, 3, 4], [3, 0, 6]] = -np.inf
    index, similarity = known.several(other, itself, 3)
    np.testing.assert_array_equal(index, np.argsort(-like, axis=1)[:, :3])
    np.testing.assert_allclose(similarity, -np.sort(-like, axis=1)[:, :3], rtol=1e-5)
    assert similarity.dtype == np.float32
    nearest, distance = known.nearest(other, itself)
    np.testing.assert_array_equal(nearest, index[:, 0])
    np.testing.assert_allclose(distance, 1 - similarity[:, 0], atol=1e-6)
    # No more than are known; the compound itself is the last of them.
    index, similarity = known.several(other, itself, 50)
    assert index.shape == (5, 7)
    assert index[[1, 3, 4], -1].tolist() == [3, 0, 6]
    assert np.isneginf(similarity[[1, 3, 4], -1]).all() and np.isfinite(similarity[[0, 2]]).all()


def test_a_profile_of_zeros_is_at_a_right_angle_to_everything():
    np.testing.assert_array_equal(of_length_one(np.array([[3.0, 4.0], [0.0, 0.0]])),
                                  np.array([[0.6, 0.8], [0, 0]], np.float32))
    known = known_compounds(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(known.distances, [1, 1])


def test_where_nothing_is_known_the_distance_is_the_largest():
    known = KnownCompounds(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    index, distance = known.nearest(np.ones((2, 3)))
    assert index.tolist() == [0, 0] and distance.tolist() == [2, 2]
    assert known.p_values(distance).tolist() == [1, 1]


def test_as_far_as_a_training_compound_counts_as_farther():
    known = KnownCompounds(np.eye(3, dtype=np.float32), np.array([0.5, 0.2, 0.9], np.float32))
    assert known.p_values(np.float32([0.5, 0.51, 0.1, 0.95])).tolist() == [0.75, 0.5, 1, 0.25]
