"""Fine-tuning, with a network of two blocks on a screen of a few wells."""

import importlib.util
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import make_screen

from moascope.errors import MoascopeError
from moascope.features.embed import features_of_screen
from moascope.finetuning.comparison import compare
from moascope.finetuning.folds import (
    check_fine_tune,
    fine_tune_folds,
    live_last,
    load_crops,
    shown_sites,
)
from moascope.finetuning.network import (
    block_of,
    build_network,
    open_last_blocks,
    open_network,
    predict_sites,
    restart,
    train_network,
)
from moascope.learning.cross_fit import masks_without
from moascope.learning.dealing import assign_folds
from moascope.learning.examples import Examples, row_weights
from moascope.learning.joining import with_layout
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows
from moascope.params import Embed, FineTune, Head, Prepare, Train
from moascope.params_file import parse_params
from moascope.quiet import import_keras
from moascope.screen.question import Question
from moascope.screen.tables import read_screen

SETTINGS = FineTune(blocks=1, epochs=3, learning_rate=1e-3, batch_size=8)
TRAIN = Train(panels="pooled", fine_tune=SETTINGS)
HEAD = Head(level="site", normalisation="plate", l2=1e-2, layers=0, epochs=10, dropout=0.0)
COMPOUNDS = 9
TURNS = Embed().turns


def two_blocks(path):
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((None, None, 1)), layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, strides=2, name="block_1_conv"),
        layers.BatchNormalization(name="block_1_bn"), layers.ReLU(),
        layers.Conv2D(6, 3, strides=2, name="block_2_conv"),
        layers.BatchNormalization(name="block_2_bn"), layers.ReLU(),
    ])
    model.save(path)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a screen, its crops and a network."""
    folder = tmp_path_factory.mktemp("finetune")
    make_screen(folder / "screen", plates=2, wells=22, sites=1, compounds=COMPOUNDS, controls=4)
    two_blocks(folder / "two.keras")
    return folder


@pytest.fixture(scope="module")
def examples(work):
    screen = read_screen(work / "screen")
    table = features_of_screen(screen, Prepare(crop=32, crops=2, flat_field=False),
                               Embed(backbone=str(work / "two.keras")), work)
    meta = with_layout(table.meta, screen.layout)
    names = [f"C{i:02d}" for i in range(COMPOUNDS)]
    groups = assign_folds(pd.DataFrame({
        "Metadata_Group": names, "Metadata_Compound": names,
        "Label": ["t" if i % 3 == 0 else "not_t" for i in range(COMPOUNDS)]}), 3, 1, 0.0, seed=0)
    group = meta["Metadata_Compound"].map({n: i for i, n in enumerate(names)}).fillna(-1)
    return Examples(meta.drop(columns="QC_Pass"), table.X, tuple(table.names),
                    group.to_numpy(int), groups, Question("t", ("not_t", "t"), True))


def one_network(work, examples, head=HEAD, settings=SETTINGS, train=TRAIN, darker=1,
                turns=TURNS):
    """A network before its first step, the head it starts from, and what that one says.

    Crops of hits are darker than those that features were made from, so many times.
    """
    name = str(work / "two.keras")
    own = live_last(examples, name)
    rows, sites = training_rows(own, head)
    mask = masks_without(sites, [(0, 0)])
    start = fit_by_panel(rows, mask, head, train, 0)
    said = predict_by_panel(start, sites, train)[0]
    shown = shown_sites(own, np.ones(len(own.meta), bool), work / "prepare", name, turns, head,
                        train)
    shown.crops[own.label == 1] //= darker
    network, prepare = open_network(name, work / "two.keras", 32, settings.precision)
    open_last_blocks(network, settings.blocks)
    model = build_network(network, prepare, shown, head, 2, settings)
    restart(model, start[""], settings, 0)
    return model, own, mask[0], said


def weights_of(model):
    keras = import_keras()
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable))
            for variable in model.weights}


def all_folds(work, examples, head=HEAD, train=TRAIN):
    heads = {(0, fold): head for fold in range(3)}
    return fine_tune_folds(examples, work / "prepare", str(work / "two.keras"),
                           work / "two.keras", TURNS, heads, train, 0)


@pytest.mark.parametrize("normalisation", ["none", "plate", "plate+sphere"])
@pytest.mark.parametrize("layers", [0, 1])
def test_before_the_first_step_a_network_says_what_its_head_says(work, examples, normalisation,
                                                                  layers):
    head = HEAD.model_copy(update={"normalisation": normalisation, "layers": layers, "width": 4})
    model, own, _, said = one_network(work, examples, head)
    rows = np.arange(len(own.meta))[::-1]
    assert np.abs(said).max() > 0.1
    np.testing.assert_allclose(predict_sites(model, rows, 8), said[rows], atol=2e-3)


@pytest.mark.parametrize("turns", [1, 8])
def test_a_network_looks_at_crops_as_often_as_its_features_did(work, examples, turns):
    table = features_of_screen(read_screen(work / "screen"),
                               Prepare(crop=32, crops=2, flat_field=False),
                               Embed(backbone=str(work / "two.keras"), turns=turns))
    again = replace(examples, features=table.X, _cache={})
    model, own, _, said = one_network(work, again, turns=turns)
    np.testing.assert_allclose(predict_sites(model, np.arange(len(own.meta)), 8), said, atol=2e-3)
    other, *_ = one_network(work, again, turns=4)
    assert np.abs(predict_sites(other, np.arange(len(own.meta)), 8) - said).max() > 0.02


def test_a_channel_that_a_site_lacks_is_not_taken_for_a_black_one(work, examples):
    lacking = replace(examples, features=examples.features.copy(), _cache={})
    actin = [i for i, name in enumerate(lacking.names) if "_Actin_" in name]
    lacking.features[np.ix_(np.arange(0, len(lacking.meta), 5), actin)] = np.nan
    model, own, _, said = one_network(work, lacking)
    np.testing.assert_allclose(predict_sites(model, np.arange(len(own.meta)), 8), said, atol=2e-3)


def test_only_the_last_blocks_and_the_head_are_trained_and_the_loss_falls(work, examples):
    settings = SETTINGS.model_copy(update={"epochs": 15, "learning_rate": 0.01})
    model, own, mask, _ = one_network(work, examples, settings=settings, darker=4)
    before = weights_of(model)
    losses = train_network(model, own.label, row_weights(own, mask, own.label), 2, settings, 0)
    after = weights_of(model)
    changed = {path.split("/")[-2] for path, value in before.items()
               if not np.array_equal(value, after[path])}
    assert "block_2_conv" in changed
    assert not changed & {"block_1_conv", "block_1_bn", "block_2_bn"}
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_a_restart_forgets_what_was_learnt_and_one_seed_gives_one_result(work, examples):
    one, again = (all_folds(work, examples).logits for _ in range(2))
    np.testing.assert_array_equal(one, again)
    started = all_folds(work, examples).start
    assert np.nanmax(np.abs(one - started)) > 1e-3


def test_no_label_of_a_fold_reaches_the_network_that_predicts_it(work, examples):
    honest = all_folds(work, examples)
    fold = examples.folds(0)
    turned = examples.groups.copy()
    own = fold == 1
    turned.loc[own, "Label"] = turned.loc[own, "Label"].map({"t": "not_t", "not_t": "t"})
    other = all_folds(work, replace(examples, groups=turned, _cache={}))
    site_fold = np.where(examples.group >= 0, fold[examples.group], -1)
    np.testing.assert_array_equal(honest.logits[site_fold == 1], other.logits[site_fold == 1])
    np.testing.assert_array_equal(honest.start[site_fold == 1], other.start[site_fold == 1])
    assert np.abs(honest.logits[site_fold == 0] - other.logits[site_fold == 0]).max() > 1e-3
    assert np.isnan(honest.logits[site_fold < 0]).all()


def test_panels_have_networks_of_their_own(work, examples):
    meta = examples.meta.assign(Metadata_Panel=examples.meta["Metadata_Plate"])
    apart = replace(examples, meta=meta, _cache={})
    train = TRAIN.model_copy(update={"panels": "separate"})
    found = all_folds(work, apart, train=train)
    assert set(found.curves["panel"]) == set(meta["Metadata_Plate"])
    assert len(found.curves) == 2 * 3 * SETTINGS.epochs
    assert np.isfinite(found.logits[apart.group >= 0]).all()
    pooled = all_folds(work, apart)
    np.testing.assert_array_equal(np.isfinite(pooled.logits), np.isfinite(found.logits))


def test_the_verdict_follows_from_the_interval_over_compounds(work, examples):
    found = all_folds(work, examples)
    label = np.where(examples.group >= 0, examples.label, 0)
    perfect = np.stack([-label, label], axis=1).astype(np.float32)
    outer = {(0, fold): found.start for fold in range(3)}
    scores, table = compare(examples, replace(found, logits=perfect), outer, 0)
    assert scores["average_precision"]["fine_tuned"] == 1
    assert scores["average_precision"]["frozen"] == scores["average_precision"]["start"]
    assert len(table) == COMPOUNDS
    alike, _ = compare(examples, replace(found, logits=found.start), outer, 0)
    assert alike["fine_tuned_minus"]["frozen"] == {"difference": 0, "low": 0, "high": 0}
    assert "does not beat" in alike["verdict"]
    worse, _ = compare(examples, replace(found, logits=-perfect),
                       {(0, fold): perfect for fold in range(3)}, 0)
    assert "is worse than" in worse["verdict"]


@pytest.mark.parametrize(("layer", "block"), [
    ("block_16_project_BN", "block_16"), ("Conv_1_bn", "Conv_1"), ("Conv_1", "Conv_1"),
    ("conv5_block3_2_conv", "conv5_block3"), ("conv1_conv", "conv1"), ("teacher", "teacher"),
])
def test_layers_belong_to_the_blocks_that_their_names_say(layer, block):
    assert block_of(layer) == block


def test_blocks_are_counted_from_the_end():
    keras = import_keras()
    network = keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False,
                                             weights=None, pooling="avg")
    assert open_last_blocks(network, 2) == ["block_16", "Conv_1"]
    trained = {variable.path.split("/")[-2] for variable in network.trainable_variables}
    assert trained == {"block_16_expand", "block_16_depthwise", "block_16_project", "Conv_1"}
    # Containers of other containers do not switch their layers off.
    outer = keras.Sequential([keras.Input((32, 32, 3)), network])
    assert open_last_blocks(outer, 1) == ["Conv_1"]
    assert len(outer.trainable_variables) == 1


def test_crops_are_those_of_the_given_sites(work, examples):
    meta = examples.meta.iloc[::-3]
    crops = load_crops(work / "prepare", meta, ["Actin", "Nothing"])
    plate = meta["Metadata_Plate"].iloc[0]
    stored = np.load(work / "prepare" / plate / "crops.npy")
    sites = pd.read_parquet(work / "prepare" / plate / "sites.parquet")
    row = np.flatnonzero((sites["Metadata_Well"] == meta["Metadata_Well"].iloc[0]).to_numpy())[0]
    names = sorted(("DNA", "Actin"), key=["DNA", "Actin"].index)
    np.testing.assert_array_equal(crops[0, :, 0], stored[row, :, names.index("Actin")])
    assert not crops[:, :, 1].any()
    with pytest.raises(MoascopeError, match="lacks sites"):
        load_crops(work / "prepare", meta.assign(Metadata_Site=99), ["Actin"])


@pytest.mark.parametrize(("backbones", "backbone", "sentence"), [
    (("morphology",), "all", "which is not a network. Set embed.backbone"),
    (("mobilenetv2", "resnet50"), "all", "mobilenetv2 and resnet50. Set train.backbone"),
    (("morphology", "mobilenetv2"), "morphology", "which is not a network"),
])
def test_what_cannot_be_fine_tuned_is_a_sentence(backbones, backbone, sentence):
    with pytest.raises(MoascopeError, match=sentence):
        check_fine_tune(SETTINGS, backbones, Head(backbone=backbone))


def test_a_simple_model_is_not_fine_tuned():
    with pytest.raises(MoascopeError, match=r"starts from a network, and train\.head is trees"):
        check_fine_tune(SETTINGS, ("resnet50",), Head(head="trees"))
    # A study may choose one for a single fold.
    with pytest.raises(MoascopeError, match=r"starts from a network, and train\.head is trees"):
        check_fine_tune(SETTINGS, ("resnet50",), Head(), [Head(), Head(head="trees")])
    assert check_fine_tune(None, ("resnet50",), Head(head="trees")) == ""


def test_only_one_network_is_fine_tuned_and_only_on_request():
    assert check_fine_tune(SETTINGS, ("morphology", "resnet50"), Head()) == "resnet50"
    assert check_fine_tune(None, ("morphology",), Head()) == ""


def test_a_wrong_setting_is_named_with_its_whole_key():
    with pytest.raises(MoascopeError, match=r"train\.fine_tune\.blocks = 0 cannot be used"):
        parse_params({"train": {"fine_tune": {"blocks": 0}}})
    with pytest.raises(MoascopeError, match=r"Did you mean 'train\.fine_tune\.epochs'"):
        parse_params({"train": {"fine_tune": {"epoch": 3}}})


# Features come from a run with TensorFlow, as `embed` needs it; nothing after them does.
ELSEWHERE = """
import pickle
import sys
from pathlib import Path

import test_finetune

work, made = Path(sys.argv[1]), Path(sys.argv[2])
examples = pickle.loads(made.read_bytes())
test_finetune.test_before_the_first_step_a_network_says_what_its_head_says(
    work, examples, "plate+sphere", 1)
test_finetune.test_only_the_last_blocks_and_the_head_are_trained_and_the_loss_falls(work, examples)
print(test_finetune.import_keras().backend.backend(), "tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_another_backend_trains_the_same_network_and_tensorflow_is_not_loaded(work, examples,
                                                                              tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    (tmp_path / "examples").write_bytes(pickle.dumps(replace(examples, _cache={})))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(work), str(tmp_path / "examples")],
        capture_output=True, text=True, cwd=Path(__file__).parent, timeout=200,
        env=os.environ | {"KERAS_BACKEND": backend,
                          "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [backend, "False"]
