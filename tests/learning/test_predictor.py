import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import make_screen

from moascope.api.models import load_model
from moascope.errors import MoascopeError
from moascope.features.embed import features_of_screen
from moascope.features.normalise import standardise_plates
from moascope.features.table import FeatureTable
from moascope.learning.calibration import Calibration
from moascope.learning.head import FittedHeads
from moascope.learning.model import TrainedModel, read_model, save_model
from moascope.learning.predictor import predict_screen, sites_of
from moascope.learning.simple import fit_simple
from moascope.params import Embed, Head, Prepare, Train
from moascope.screen.question import Question
from moascope.screen.rows import screen_from_rows
from moascope.screen.tables import read_screen

PREPARE = Prepare(crop=32, crops=1, flat_field=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_screen(tmp_path_factory.mktemp("predictor") / "screen", plates=2, wells=10,
                       controls=4)


@pytest.fixture(scope="module")
def predictor(folder, tmp_path_factory):
    """A model with drawn weights: what it says is not the point here, that it says the same is."""
    table = features_of_screen(read_screen(folder), PREPARE, Embed(backbone="morphology"),
                               tmp_path_factory.mktemp("work"))
    rng = np.random.default_rng(0)
    count = len(table.names)
    heads = FittedHeads(Head(layers=0), np.zeros((1, count), np.float32),
                        np.ones((1, count), np.float32),
                        [rng.normal(size=(1, count, 2)).astype(np.float32) * 0.01],
                        [np.zeros((1, 2), np.float32)], np.array([1]), np.zeros(1, np.float32))
    return TrainedModel(
        question=Question("gpcr", ("not_gpcr", "gpcr"), True),
        heads={"": heads}, panels=("",),
        calibrations={level: Calibration(1.0, 0.0, 0.5) for level in ("site", "well", "compound")},
        sphering=None, names=tuple(table.names), channels=("DNA", "Actin"), controls=True,
        prepare=PREPARE, embed=Embed(backbone="morphology"), head=Head(layers=0), train=Train(),
    )


def test_a_saved_model_says_the_same(predictor, folder, tmp_path):
    save_model(predictor, tmp_path / "model")
    loaded = read_model(tmp_path / "model")
    screen = read_screen(folder)
    for level, rows in (("site", 40), ("well", 20), ("compound", 5)):
        one, _ = predict_screen(predictor, screen, level)
        two, _ = predict_screen(loaded, screen, level)
        pd.testing.assert_frame_equal(one, two)
        assert len(one) == rows
        assert list(one)[-3:] == ["P_not_gpcr", "P_gpcr", "Predicted"]
    assert not [path for path in (tmp_path / "model").rglob("*") if path.suffix == ".pkl"]


def test_a_model_of_before_there_were_turns_looks_at_crops_once(predictor, tmp_path):
    save_model(predictor, tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    assert read_model(tmp_path).embed.turns == description["embed"].pop("turns") == 4
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert read_model(tmp_path).embed.turns == 1


def test_a_model_of_moderated_features_predicts_from_such(predictor, folder, tmp_path):
    screen = read_screen(folder)
    table = features_of_screen(screen, PREPARE, Embed(backbone="morphology"), tmp_path)
    table.X[0] += 1e6
    head = predictor.head.model_copy(update={"normalisation": "moderated"})
    seen = sites_of(replace(predictor, head=head), screen, table)
    controls = ((seen.meta["Metadata_Control"] == "negative") & table.meta["QC_Pass"]).to_numpy()
    expected = standardise_plates(FeatureTable(seen.meta, table.X, table.names), controls,
                                  moderated=True).X
    np.testing.assert_array_equal(seen.features, expected)
    assert np.abs(sites_of(predictor, screen, table).features).max() > seen.features.max() == 20


@pytest.mark.parametrize("kind", ["logistic", "neighbours", "trees"])
def test_a_simple_model_is_saved_as_arrays_and_says_the_same(kind, predictor, folder, tmp_path):
    screen = read_screen(folder)
    table = features_of_screen(screen, PREPARE, Embed(backbone="morphology"), tmp_path)
    label = np.arange(len(table.X)) % 2
    head = Head(head=kind)
    model = replace(predictor, head=head, train=Train(head=kind), heads={"": fit_simple(
        np.nan_to_num(table.X), label, np.ones((1, len(label)), np.float32), 2, head)})
    save_model(model, tmp_path / "model")
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".npz"}
    with np.load(tmp_path / "model" / "heads_0.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    for level in ("site", "compound"):
        one, _ = predict_screen(model, screen, level)
        two, _ = predict_screen(read_model(tmp_path / "model"), screen, level)
        pd.testing.assert_frame_equal(one, two)
        assert np.ptp(one["P_gpcr"]) > 0


def test_trees_that_lead_back_to_themselves_or_nowhere_are_a_sentence(predictor, tmp_path):
    rng = np.random.default_rng(0)
    head = Head(head="trees")
    trees = fit_simple(rng.normal(size=(20, 3)).astype(np.float32), np.arange(20) % 2,
                       np.ones((1, 20), np.float32), 2, head)
    for change in ({"left": np.zeros_like(trees.left)}, {"right": trees.right + 10**6},
                   {"roots": trees.roots - 10**6}, {"share": trees.share[:-1]}):
        arrays = vars(trees) | change
        save_model(replace(predictor, head=head, heads={"": trees}), tmp_path)
        np.savez(tmp_path / "heads_0.npz", **arrays)
        with pytest.raises(MoascopeError, match="is damaged"):
            read_model(tmp_path)


def test_a_model_of_a_version_that_kept_the_level_elsewhere_is_read(predictor, tmp_path):
    save_model(predictor, tmp_path)
    said = json.loads((tmp_path / "model.json").read_text())
    del said["head"]["level"], said["head"]["head"]
    said["train"]["level"] = "well"
    (tmp_path / "model.json").write_text(json.dumps(said))
    assert read_model(tmp_path).head.level == "well"


def test_rows_in_memory_are_the_screen_on_disk(predictor, folder, tmp_path):
    screen = read_screen(folder)
    rows = screen.sites.merge(screen.layout, on=["Metadata_Plate", "Metadata_Well"])
    again = screen_from_rows(rows, folder, tmp_path)
    one, _ = predict_screen(predictor, screen, "well")
    two, _ = predict_screen(predictor, again, "well")
    pd.testing.assert_frame_equal(one, two)


def test_annotations_are_not_looked_at(predictor, folder):
    screen = read_screen(folder)
    blind = replace(screen, annotations=screen.annotations.assign(Metadata_MoA="", gpcr="unknown"))
    one, _ = predict_screen(predictor, screen, "compound")
    two, _ = predict_screen(predictor, blind, "compound")
    pd.testing.assert_frame_equal(one, two)


def test_a_site_that_cannot_be_read_is_named_and_the_rest_is_predicted(predictor, tmp_path):
    folder = make_screen(tmp_path / "screen", wells=10, controls=4)
    (folder / "images/Plate1/B02_s1_DNA.tif").write_bytes(b"no image")
    table, warnings = predict_screen(predictor, read_screen(folder), "site")
    assert len(table) == 19
    assert any("B02" in sentence for sentence in warnings)


def test_too_few_controls_are_said_and_not_passed_over(predictor, folder, tmp_path):
    few = read_screen(make_screen(tmp_path / "few", wells=10, controls=1))
    _, warnings = predict_screen(predictor, few, "well")
    assert warnings == (
        "No plate has the 4 usable sites of the negative control that the model needs to compare "
        "wells with (Plate1 has 1), so these predictions cannot be trusted. Add sites of control "
        "wells.",)
    screen = read_screen(folder)
    one_left = screen.layout["Metadata_Plate"].eq("Plate2") & screen.layout[
        "Metadata_Control"].eq("negative")
    first = one_left & ~one_left.cumsum().gt(1)
    layout = screen.layout.assign(Metadata_Control=screen.layout["Metadata_Control"].mask(
        one_left & ~first, ""))
    _, warnings = predict_screen(predictor, replace(screen, layout=layout), "well")
    assert warnings == (
        "1 plate with fewer than 4 usable sites of the negative control (Plate2 has 2) is "
        "normalised by the controls of the other plates.",)
    assert predict_screen(predictor, screen, "well")[1] == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": ("DNA",)}, "needs the channels DNA, Actin"),
        ({"controls": 0}, "Metadata_Control = negative"),
    ],
)
def test_a_screen_that_does_not_fit_the_model_is_a_sentence(predictor, tmp_path, options,
                                                            sentence):
    folder = make_screen(tmp_path / "screen", wells=10, **options)
    with pytest.raises(MoascopeError) as error:
        predict_screen(predictor, read_screen(folder), "well")
    assert sentence in str(error.value)


def test_a_panel_the_model_does_not_know_is_a_sentence(predictor, tmp_path):
    folder = make_screen(tmp_path / "screen", panels=("A549 X-Y",))
    strict = replace(predictor, panels=("A549 ACTB-RAB5A",))
    with pytest.raises(MoascopeError, match="this screen has the panel A549 X-Y"):
        predict_screen(strict, read_screen(folder), "well")


def test_a_new_screen_may_have_no_annotation_at_all(predictor, folder, tmp_path):
    other = make_screen(tmp_path / "screen", wells=10, controls=4, annotations={})
    table, _ = predict_screen(predictor, read_screen(other), "compound")
    assert "DMSO" in set(table["Metadata_Compound"])


def test_a_folder_that_is_not_a_model_ends_in_a_sentence(tmp_path):
    with pytest.raises(MoascopeError, match="is not a moascope model"):
        read_model(tmp_path)
    with pytest.raises(MoascopeError, match="is not a moascope model"):
        read_model(Path(tmp_path / "absent"))


def test_a_pooled_model_predicts_a_screen_of_one_of_its_panels(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=2, wells=10, controls=4, panels=("A", "B"))
    screen = read_screen(folder)
    table = features_of_screen(screen, PREPARE, Embed(backbone="morphology"), tmp_path / "work")
    count = len(table.names) + 2
    rng = np.random.default_rng(0)
    heads = FittedHeads(Head(layers=0), np.zeros((1, count), np.float32),
                        np.ones((1, count), np.float32),
                        [rng.normal(size=(1, count, 2)).astype(np.float32)],
                        [np.zeros((1, 2), np.float32)], np.array([1]), np.zeros(1, np.float32))
    model = TrainedModel(
        question=Question("gpcr", ("not_gpcr", "gpcr"), True),
        heads={"": heads}, panels=("A", "B"),
        calibrations={level: Calibration(1.0, 0.0, 0.5) for level in ("site", "well", "compound")},
        sphering=None, names=tuple(table.names), channels=("DNA", "Actin"), controls=True,
        prepare=PREPARE, embed=Embed(backbone="morphology"), head=Head(layers=0),
        train=Train(panels="pooled"),
    )
    whole, _ = predict_screen(model, screen, "well")
    of_b = screen.sites["Metadata_Panel"] == "B"
    alone, _ = predict_screen(model, replace(screen, sites=screen.sites[of_b]), "well")
    expected = whole[whole["Metadata_Panel"] == "B"].reset_index(drop=True)
    assert len(alone) == len(expected) > 0
    pd.testing.assert_frame_equal(alone, expected)


def test_a_panel_that_the_model_does_not_know_is_an_error(predictor, tmp_path):
    folder = make_screen(tmp_path / "screen", plates=1, wells=10, controls=4, panels=("A",))
    separate = replace(predictor, train=Train(panels="separate"))
    with pytest.raises(MoascopeError, match="knows no panel, this screen has the panel A"):
        predict_screen(separate, read_screen(folder), "well")


def test_a_loaded_model_predicts_a_screen_and_warns_of_what_it_left_out(predictor, tmp_path):
    save_model(predictor, tmp_path / "model")
    model = load_model(tmp_path / "model")
    assert repr(model) == ("Predictor(target gpcr: not_gpcr, gpcr; morphology features of DNA, "
                           "Actin)")
    folder = make_screen(tmp_path / "screen", wells=10, controls=4)
    (folder / "images/Plate1/B02_s1_DNA.tif").write_bytes(b"no image")
    screen = read_screen(folder)
    expected, left_out = predict_screen(predictor, screen, "well")
    assert len(left_out) == 1
    with pytest.warns(UserWarning) as caught:
        found = model.predict(screen, level="well")
    assert [str(one.message) for one in caught] == list(left_out)
    pd.testing.assert_frame_equal(found, expected)
