"""What a layout gives away: each measure against an oracle, a planted confound, a random deal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from moascope.layout.confounds import _ridge, class_shares, measure_confounds
from moascope.layout.wells import labelled_wells, plate_maps, well_table
from moascope.learning.dealing import assign_folds
from moascope.screen.tables import Screen
from moascope.screen.targets import label_screen
from moascope.screen.wells import well_name

ROWS, COLUMNS = range(1, 7), range(1, 11)


def make_layout(tmp_path, *, plates=6, classes=None, scatter=False, controls="edge", doses=2,
                seed=0):
    """A screen of thirty compounds in strips of `doses` wells on 96-well plates.

    `classes(compound)` says which are hits; `scatter` deals the wells of every plate anew;
    `controls` is "edge" (columns 1 and 12), "scattered" or "none".
    """
    rng = np.random.default_rng(seed)
    strips = [(row, column) for row in ROWS for column in COLUMNS[::doses]]
    rows = []
    for plate in range(plates):
        places = [(row, column + dose) for row, column in strips for dose in range(doses)]
        if scatter:
            places = [places[i] for i in rng.permutation(len(places))]
        wells = iter(places)
        for compound in range(len(strips)):
            for dose in range(doses):
                rows.append((f"P{plate}", *next(wells), f"C{compound:02d}", 10.0**dose, ""))
        if controls == "edge":
            rows += [(f"P{plate}", row, column, "DMSO", np.nan, "negative")
                     for row in ROWS for column in (0, 11)]
        elif controls == "scattered":
            for i in rng.choice(len(strips) * doses, 8, replace=False):
                back = len(rows) - len(strips) * doses + i
                rows[back] = (*rows[back][:3], "DMSO", np.nan, "negative")
    layout = pd.DataFrame(rows, columns=["Metadata_Plate", "Row", "Column", "Metadata_Compound",
                                         "Metadata_Concentration_uM", "Metadata_Control"])
    layout["Metadata_Well"] = [well_name(*at) for at in zip(layout["Row"], layout["Column"],
                                                            strict=True)]
    sites = layout[["Metadata_Plate", "Metadata_Well"]].assign(
        Metadata_Site=1, Metadata_Batch=layout["Metadata_Plate"].map(lambda name: "B" + name[1]),
        Metadata_Panel="one", FileName_DNA="a.tif", Frame_DNA=0)
    hit = classes or (lambda compound: compound % 3 == 0)
    annotations = pd.DataFrame({
        "Metadata_Compound": [f"C{i:02d}" for i in range(len(strips))],
        "Metadata_MoA": ["hit" if hit(i) else "rest" for i in range(len(strips))]}, dtype="str")
    return Screen(sites, layout.drop(columns=["Row", "Column"]), annotations, ("DNA",), tmp_path)


def measured(screen, target="hit", permutations=60, folds=5):
    labels = label_screen(screen, target)
    groups = assign_folds(labels.groups, folds, 2, 0.0, 0)
    found = measure_confounds(well_table(screen, labels), groups, labels.question, 2,
                              0, permutations)
    return {one["name"]: one for one in found}


def test_a_class_that_follows_rows_is_predicted_by_position(tmp_path):
    # Five compounds lie in each row: the first two rows are hits.
    found = measured(make_layout(tmp_path, classes=lambda compound: compound < 10))
    one = found["position_predicts_class"]
    assert one["value"] > 0.99
    assert one["value"] > one["null"]["high"]
    assert one["p"] == pytest.approx(1 / 61)
    assert found["class_by_row"]["value"] == pytest.approx(1)
    assert found["class_by_row"]["lowest_share"] == 0


def test_classes_dealt_at_random_are_inside_the_null(tmp_path):
    outside = 0
    for seed in range(6):
        hits = set(np.random.default_rng(seed).choice(30, 10, replace=False))
        screen = make_layout(tmp_path, classes=hits.__contains__, scatter=True, seed=seed)
        found = measured(screen, permutations=40)
        outside += sum(found[name]["p"] <= 0.05 for name in
                       ("position_predicts_class", "class_by_row", "class_by_column"))
    assert outside <= 4  # Of 18; a measure that always calls would give 18.


def test_replicates_in_one_well_are_found_and_scattered_ones_are_not(tmp_path):
    fixed = measured(make_layout(tmp_path))["replicates_in_place"]
    assert fixed["value"] == 1
    assert fixed["always_in_one_place"] == 1
    assert fixed["plate_maps"] == 1
    scattered = measured(make_layout(tmp_path, scatter=True))["replicates_in_place"]
    assert scattered["value"] < 0.06
    assert scattered["plate_maps"] == 6
    assert scattered["always_in_one_place"] == 0


def test_looking_a_place_up_scores_as_well_where_labels_are_shuffled(tmp_path):
    leak = measured(make_layout(tmp_path))["leak_by_place"]
    assert leak["value"] > 0.99
    assert leak["shuffled_labels"] > 0.99
    assert leak["prevalence"] == pytest.approx(1 / 3)


def test_a_place_tells_nothing_where_every_plate_is_dealt_anew(tmp_path):
    leak = measured(make_layout(tmp_path, scatter=True))["leak_by_place"]
    assert leak["value"] is None
    assert leak["why_not"] == "no place of a plate layout is used twice"


def test_the_edge_tells_controls_as_scikit_learn_says(tmp_path):
    from sklearn.metrics import roc_auc_score

    screen = make_layout(tmp_path)
    wells = well_table(screen, label_screen(screen, "hit"))
    control = wells["Metadata_Control"] == "negative"
    one = measured(screen)["controls_at_edge"]
    assert one["value"] == pytest.approx(roc_auc_score(control, -wells["EdgeDistance"]))
    assert one["columns"] == [1, 12]
    assert one["in_outer_columns"] == 1
    assert one["p"] == pytest.approx(1 / 61)


def test_controls_with_columns_of_their_own_are_found_and_scattered_ones_are_not(tmp_path):
    at_edge = measured(make_layout(tmp_path))["controls_in_own_columns"]
    assert at_edge["value"] == 1
    assert at_edge["null"]["high"] == 0
    scattered = measured(make_layout(tmp_path, controls="scattered"))
    assert scattered["controls_in_own_columns"]["value"] == 0
    assert scattered["controls_at_edge"]["p"] > 0.05


def test_missing_controls_are_reported(tmp_path):
    found = measured(make_layout(tmp_path, controls="none"))
    assert found["controls_at_edge"]["value"] is None
    assert found["controls_at_edge"]["why_not"] == "the screen has no negative controls"


def test_doses_that_follow_columns_are_found_and_scattered_ones_are_not(tmp_path):
    strips = measured(make_layout(tmp_path))["dose_by_column"]
    assert strips["value"] == pytest.approx(1)
    assert strips["null"]["high"] < 0.2
    scattered = measured(make_layout(tmp_path, scatter=True))["dose_by_column"]
    assert scattered["value"] < 0.2
    alone = measured(make_layout(tmp_path, doses=1))["dose_by_column"]
    assert alone["why_not"] == "the screen has a single dose"


@pytest.mark.parametrize("imaged", [True, False])
def test_imaged_wells_of_one_class_are_not_measured_which_is_reported(tmp_path, imaged):
    # Compounds of both classes are labelled, but wells of one class only have an image.
    screen = make_layout(tmp_path)
    compound = screen.layout["Metadata_Compound"]
    hit = compound.str[1:].where(compound != "DMSO", "1").astype(int) % 3 == 0
    kept = screen.layout[hit if imaged else ~hit]
    at = ["Metadata_Plate", "Metadata_Well"]
    found = measured(replace(screen, sites=screen.sites.merge(kept[at], on=at)))
    for name in ("leak_by_place", "class_by_row", "class_by_column", "class_by_plate"):
        assert found[name]["value"] is None
        assert found[name]["why_not"] == "all imaged wells are of one class"


def test_the_share_of_variance_is_that_of_an_analysis_of_variance(tmp_path):
    screen = make_layout(tmp_path, scatter=True)
    labels = label_screen(screen, "hit")
    groups = assign_folds(labels.groups, 5, 2, 0.0, 0)
    own = labelled_wells(well_table(screen, labels), groups)
    hit = (own["Label"] == "hit").astype(float)
    mean = hit.groupby(own["Column"]).transform("mean")
    expected = ((mean - hit.mean()) ** 2).sum() / ((hit - hit.mean()) ** 2).sum()
    assert measured(screen)["class_by_column"]["value"] == pytest.approx(expected)
    shares = class_shares(own, groups, "Column", ["hit"], 20, 0)
    assert shares["share"].to_numpy() == pytest.approx(
        hit.groupby(own["Column"]).mean().to_numpy())
    assert (shares["low"] <= shares["high"]).all()


def test_many_labellings_at_once_are_ridge_regressions_one_by_one():
    from scipy import sparse
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    X, Y, asked = rng.random((20, 5)), rng.integers(0, 2, (20, 3)).astype(float), rng.random((4, 5))
    found = _ridge(sparse.csr_matrix(X), Y, sparse.csr_matrix(asked))
    expected = Ridge(alpha=1).fit(X, Y).predict(asked) - Y.mean(axis=0)
    assert found == pytest.approx(expected)


def test_compounds_of_unknown_class_change_no_measure_of_the_class(tmp_path):
    screen = make_layout(tmp_path)
    fewer = Screen(screen.sites, screen.layout[screen.layout["Metadata_Compound"] != "C29"],
                   screen.annotations, screen.channels, tmp_path)
    unknown = screen.annotations.copy()
    unknown.loc[29, "Metadata_MoA"] = ""
    with_unknown = Screen(screen.sites, screen.layout, unknown, screen.channels, tmp_path)
    one, other = measured(fewer), measured(with_unknown)
    for name in ("position_predicts_class", "class_by_plate", "class_by_row"):
        assert one[name] == other[name]


def test_wells_without_an_image_are_no_batch_of_their_own(tmp_path):
    screen = make_layout(tmp_path)
    fewer = Screen(screen.sites.drop(range(5, 60)), screen.layout, screen.annotations, ("DNA",),
                   tmp_path)
    assert measured(fewer)["class_by_batch"]["levels"] == 6


def test_plates_that_repeat_a_layout_with_holes_have_one_map(tmp_path):
    screen = make_layout(tmp_path)
    rng = np.random.default_rng(0)
    kept = screen.layout[rng.random(len(screen.layout)) > 0.3]
    other = make_layout(tmp_path, plates=2, scatter=True, seed=3).layout
    other["Metadata_Plate"] = "X" + other["Metadata_Plate"]
    both = Screen(screen.sites, pd.concat([kept, other]), screen.annotations, ("DNA",), tmp_path)
    maps = plate_maps(well_table(both, label_screen(both, "hit")))
    assert len(set(maps[[f"P{i}" for i in range(6)]])) == 1
    assert maps.nunique() == 3


@pytest.mark.parametrize(("well", "distance"), [("H12", 0), ("P24", 0), ("AF48", 0), ("B03", 1)])
def test_distance_to_the_edge_is_that_of_the_plates_own_format(tmp_path, well, distance):
    screen = make_layout(tmp_path, plates=1)
    layout = screen.layout.copy()
    layout.loc[0, "Metadata_Well"] = well
    moved = Screen(screen.sites, layout, screen.annotations, ("DNA",), tmp_path)
    wells = well_table(moved, label_screen(moved, "hit"))
    assert wells.loc[wells["Metadata_Well"] == well, "EdgeDistance"].iloc[0] == distance


def test_the_same_screen_gives_the_same_numbers(tmp_path):
    screen = make_layout(tmp_path)
    assert measured(screen) == measured(screen)


def test_every_class_counts_where_there_are_several(tmp_path):
    screen = make_layout(tmp_path)
    annotations = screen.annotations.assign(
        Metadata_MoA=[("a", "b", "c")[i // 10] for i in range(30)])
    several = Screen(screen.sites, screen.layout, annotations, ("DNA",), tmp_path)
    found = measured(several, target="moa")
    assert found["position_predicts_class"]["value"] > 0.9
    assert found["position_predicts_class"]["prevalence"] == pytest.approx(1 / 3)
    assert "lowest_share" not in found["class_by_row"]
