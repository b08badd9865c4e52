"""The index of a screen: what it holds, when it is made anew, and where compounds lie."""

import numpy as np
import pandas as pd
import pytest
from explored import PROFILE, write_project

from moascope.errors import MoascopeError
from moascope.exploring import index as indexes
from moascope.exploring.find import (
    CONTROLS,
    NOTHING,
    OTHERS,
    Asked,
    legend_of,
    scale_of,
)
from moascope.exploring.index import choose_map, open_index
from moascope.exploring.pictures import Bounded
from moascope.exploring.profiles import consensus, place
from moascope.exploring.said import read_said


def names(explorer, rows):
    return explorer.finder.table["Metadata_Compound"].iloc[rows].tolist()


def test_wells_plates_and_sites_are_those_of_the_screen(explorer):
    index = explorer.index
    assert index.plates["Metadata_Plate"].tolist() == ["Plate1", "Plate2"]
    assert index.plates[["Rows", "Columns"]].to_numpy().tolist() == [[8, 12]] * 2
    assert len(index.wells_of_plate(1)) == 9
    assert set(index.wells_of_plate(1)["Metadata_Plate"]) == {"Plate2"}
    sites = index.sites_of_plate(1)
    assert len(sites) == 18 and set(sites["Metadata_Plate"]) == {"Plate2"}
    row = explorer.finder.row("C02")
    assert sorted(index.wells_of_compound(row)["Metadata_Plate"]) == ["Plate1", "Plate2"]
    one = index.compounds.iloc[row]
    assert (one["Wells"], one["Plates"], one["Batch"]) == (2, 2, "Batch1|Batch2")


def test_controls_lie_at_their_own_distance_and_compounds_further(explorer):
    table = explorer.index.compounds.set_index("Metadata_Compound")["Distance"]
    assert table["DMSO"] == pytest.approx(1, abs=0.3)
    assert (table.drop("DMSO") > 2).all()


def test_the_nearest_compounds_are_those_whose_profiles_point_the_same_way(explorer):
    finder = explorer.finder
    near = finder.nearest(finder.row("C00"))
    assert names(explorer, [near[0][0]]) == ["C02"]
    assert near[0][1] > 0.5 and len(near) == len(PROFILE) - 2
    assert "DMSO" not in names(explorer, [row for row, _ in near])


def test_an_index_is_kept_until_an_input_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("MOASCOPE_CACHE", str(tmp_path / "cache"))
    data = write_project(tmp_path) / "data"
    first = open_index(data, "pca")
    with monkeypatch.context() as patched:
        patched.setattr(indexes, "read_screen", lambda *_: pytest.fail("made anew"))
        assert open_index(data, "pca").key == first.key
    (data / "embed/CellMobile/Plate1/key.txt").write_text("two\n")
    second = open_index(data, "pca")
    assert second.key != first.key
    pd.testing.assert_frame_equal(first.wells, second.wells)
    monkeypatch.setattr(indexes, "KEPT", 2)
    for seed in (1, 2):
        open_index(data, "pca", seed)
    kept = list((tmp_path / "cache/explore").iterdir())
    assert len(kept) == indexes.KEPT


def test_without_features_a_sentence_says_what_to_run(tmp_path):
    (tmp_path / "acquire").mkdir()
    with pytest.raises(MoascopeError, match=r"embed does not exist. Run `dvc repro embed`"):
        open_index(tmp_path, "pca")


def test_umap_that_is_not_installed_is_a_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_map("auto") == "pca"
    with pytest.raises(MoascopeError, match=r"Install moascope\[umap\], or use --map pca"):
        choose_map("umap")


def test_every_panel_counts_alike_in_a_consensus():
    profiles = np.array([[4, 0], [4, 0], [4, 0], [0, 4]], np.float32)
    mean = consensus(profiles, np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]), 2)
    assert mean == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0, 0]]))


def test_a_map_by_components_keeps_a_line_a_line():
    found = place(np.array([[0, 0], [1, 1], [2, 2], [4, 4]], np.float32), "pca")
    along = found[:, 0] if found[0, 0] < found[-1, 0] else 1 - found[:, 0]
    assert along == pytest.approx([0, 0.25, 0.5, 1])
    assert place(np.ones((1, 3), np.float32), "umap").tolist() == [[0, 0]]


@pytest.mark.parametrize(("asked", "found"), [
    (Asked(), sorted(PROFILE)),
    (Asked(text=" c0"), ["<b>\"C05", "=C04", "C00", "C01", "C02", "C03"]),
    (Asked(text="HISTAMINE"), ["C00", "C02"]),
    (Asked(mechanism="hdac inhibitor"), ["C02"]),
    (Asked(mechanism="hdac"), []),
    (Asked(activity="active"), ["C00"]),
    (Asked(prediction="not GPCR"), ["=C04", "C01"]),
    (Asked(prediction="not GPCR", text="c01"), ["C01"]),
    (Asked(panel="another"), []),
    (Asked(box=(2, 2, 2, 2)), [])])
def test_what_is_asked_for_is_found(explorer, asked, found):
    assert names(explorer, explorer.finder.matching(asked)) == found


def test_a_part_of_the_map_holds_what_lies_in_it(explorer):
    one = explorer.finder.table.set_index("Metadata_Compound").loc["C03"]
    x, y = one["X"], one["Y"]
    rows = explorer.finder.matching(Asked(box=(x - 1e-6, y - 1e-6, x + 1e-6, y + 1e-6)))
    assert names(explorer, rows) == ["C03"]


def test_the_most_frequent_classes_have_colours_and_the_others_share_one():
    values = pd.Series([*"aab", "unknown", "", *"cdefgh", "x"])
    negative = np.zeros(len(values), bool)
    negative[-1] = True
    legend = legend_of(values, negative)
    assert legend.code.tolist() == [0, 0, 1, NOTHING, NOTHING, 2, 3, 4, 5, 6, OTHERS, CONTROLS]
    assert legend.names[0] == (0, "a", 2)
    assert legend.names[-3:] == [(OTHERS, "other", 1), (NOTHING, "unknown", 2),
                                 (CONTROLS, "negative control", 1)]


def test_a_scale_has_equal_steps_and_says_what_is_not_measured():
    step, edges = scale_of(pd.Series([0.0, 1, 2, 3, 4, np.nan] * 20), steps=4)
    assert edges == pytest.approx([0, 1, 2, 3, 4])
    assert step[:6].tolist() == [0, 1, 2, 3, 3, -1]
    assert scale_of(pd.Series([np.nan]))[0].tolist() == [-1]
    assert scale_of(pd.Series([5.0, 5.0]))[0].tolist() == [0, 0]


def test_what_was_asked_for_first_leaves_a_full_memory_first():
    held, made = Bounded(10, len), []

    def make(key):
        made.append(key)
        return b"1234"

    for key in "abaca":
        held.get(key, lambda key=key: make(key))
    assert made == list("abc")
    held.get("b", lambda: make("b"))
    assert made == list("abcb")


def test_predictions_that_were_given_are_shown_where_nothing_was_scored(project, tmp_path):
    given = tmp_path / "given.csv"
    given.write_text("Metadata_Compound,P_not_gpcr,P_gpcr,Predicted,Set,Novelty_P,Call\n"
                     "C00,0.8,0.2,not_gpcr,not_gpcr,0.3,not_gpcr\n"
                     "C03,0.3,0.7,gpcr,gpcr|not_gpcr,,undecided\n")
    said = read_said(project / "reports", "gpcr", given).predictions
    assert said["C00"]["call"] == "GPCR" and said["C00"]["how"] == "out of fold"
    assert (said["C03"]["call"], said["C03"]["set"]) == ("undecided", "GPCR, not GPCR")
    given.write_text("a\n1\n")
    with pytest.raises(MoascopeError, match="is not a table of predictions of compounds"):
        read_said(project / "reports", "gpcr", given)
