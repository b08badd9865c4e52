"""Which features are worth having: by name, by what is missing, and by what says the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moascope.features.selection import distinct, is_known, measures_cells, varies


@pytest.mark.parametrize("name, kept", [
    ("Cells_AreaShape_Area", True),
    ("Profiles_Nuclei_Texture_Variance_DNA_3_0", True),
    ("Cells_Neighbors_NumberOfNeighbors_10", True),
    ("Cells_RadialDistribution_MeanFrac_DNA_1of4", True),
    ("Cytoplasm_Granularity_14_ER", True),
    ("Cells_Correlation_Manders_DNA_ER", True),
    ("CellMobile_DNA_12", True),
    ("Cells_AreaShape_Center_X", False),
    ("Profiles_Cells_Location_CenterMassIntensity_X_DNA", False),
    ("Cells_AreaShape_EulerNumber", False),
    ("Cells_AreaShape_Orientation", False),
    ("Cells_Number_Object_Number", False),
    ("Cells_Parent_Nuclei", False),
    ("Nuclei_Children_Cells_Count", False),
    ("Cells_Neighbors_FirstClosestObjectNumber_10", False),
    ("Cells_AreaShape_BoundingBoxMaximum_X", False),
    ("Cells_Correlation_Costes_DNA_ER", False),
    ("Nuclei_Correlation_Manders_DNA_ER", False),
    ("Profiles_Nuclei_Granularity_14_ER", False),
])
def test_names_say_what_measures_cells(name, kept):
    assert measures_cells([name]).tolist() == [kept]


def test_every_feature_of_the_published_blocklist_is_left_out():
    import importlib.util
    from pathlib import Path

    home = Path(importlib.util.find_spec("pycytominer").origin).parent
    names = (home / "data" / "blocklist_features.txt").read_text().split()[1:]
    assert len(names) > 50
    assert not measures_cells(names).any()


def test_a_channel_that_a_panel_lacks_is_known_and_one_with_gaps_is_not():
    X = np.ones((40, 4), np.float32)
    panels = np.array(["a"] * 20 + ["b"] * 20)
    X[:20, 1] = np.nan
    X[:2, 2] = np.nan
    X[:, 3] = np.nan
    assert is_known(X, panels).tolist() == [True, True, False, False]


def test_constants_do_not_vary_whatever_their_size():
    X = np.array([[1e6, 1e-6, 0, 5, np.nan], [1e6 + 0.01, 2e-6, 0, 6, np.nan]])
    assert varies(X).tolist() == [False, True, False, True, False]


def test_of_features_that_say_the_same_the_first_is_kept():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    X = np.stack([a, -3 * a + 7, b, a + 0.1 * rng.normal(size=200), a + b], axis=1)
    assert distinct(X).tolist() == [True, False, True, False, True]


def test_no_two_that_are_left_correlate_above_the_threshold_as_pandas_computes_it():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 1200)) + 0.4 * rng.normal(size=(60, 1200))
    kept = distinct(X)
    correlation = np.abs(pd.DataFrame(X[:, kept]).corr().to_numpy())
    np.fill_diagonal(correlation, 0)
    assert correlation.max() <= 0.9 + 1e-6
    left = np.abs(np.corrcoef(X.T))[np.ix_(~kept, kept)]
    # What is dropped has a representative.
    assert (left.max(axis=1) > 0.9 - 1e-6).all() and 0 < kept.sum() < 1200


def test_a_few_rows_decide_nothing():
    assert distinct(np.arange(6.0)[:, None] * np.ones(3)).all()
