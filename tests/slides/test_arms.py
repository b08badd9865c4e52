import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.finetuning.augmentation import augmentation
from moascope.learning.dealing import assign_folds
from moascope.learning.examples import Examples
from moascope.params import Baseline, Evaluate, Params
from moascope.params_file import parse_params
from moascope.screen.question import Question
from moascope.slides import arms as arms_module
from moascope.slides.arms import (
    BY_COMPOUND,
    BY_IMAGE,
    best_epoch,
    class_weights,
    compound_parts,
    epochs_to_overfit,
    fuse_by_rank,
    image_part,
    run_arm,
    try_arm,
    unit_probabilities,
)
from moascope.slides.composites import load_composites, mosaic, shrink
from moascope.slides.convnets import (
    ARMS,
    arm_weights,
    compile_arm,
    find_arm,
    predict_classes,
    restart,
    train_epochs,
)
from moascope.slides.results import (
    COLUMNS,
    INVALID,
    MODEL,
    NOT_RUN,
    SLIDES,
    curves_picture,
    results_markdown,
    results_table,
)
from moascope.stages.baseline import baseline

SIZE = 16
QUICK = Baseline(size=SIZE, epochs=3, batch_size=20)
FEW = Evaluate(bootstraps=20, permutations=20)


def make_pictures(compounds=24, wells=3, panels=("",), effect=120, label=None, seed=0):
    """One small picture a well; those of every third compound are redder."""
    rng = np.random.default_rng(seed)
    label = ["t" if i % 3 == 0 else "not_t" for i in range(compounds)] if label is None else label
    classes = ("not_t", "t") if set(label) <= {"t", "not_t"} else tuple(sorted(set(label)))
    groups = assign_folds(pd.DataFrame({
        "Metadata_Group": [f"g{i}" for i in range(compounds)],
        "Metadata_Compound": [f"C{i}" for i in range(compounds)], "Label": label,
    }), 3, 1, 0.2, seed=0)
    rows, pictures = [], []
    for number, panel in enumerate(panels):
        for i in range(compounds):
            for w in range(wells):
                picture = rng.integers(60, 100, (SIZE, SIZE, 3))
                picture[..., 0] += effect * (label[i] == classes[-1])
                pictures.append(picture)
                position = i * wells + w
                rows.append((f"P{number}", f"{chr(65 + position // 24)}{1 + position % 24:02d}", 1,
                             "B", panel, f"C{i}", float(w), "", i))
    meta = pd.DataFrame(rows, columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel",
        "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control", "Group"])
    examples = Examples(meta.drop(columns="Group"), np.asarray(pictures, np.uint8), (),
                        meta["Group"].to_numpy(), groups,
                        Question("t", classes, len(classes) == 2))
    return examples.take(~groups["Holdout"].to_numpy(bool)[examples.group])


@pytest.fixture(scope="module")
def scratch():
    """One compiled network for all tests that need any."""
    return compile_arm(ARMS["scratch"], QUICK, (SIZE, SIZE, 3), 2)


def kinds(model):
    return [layer.__class__.__name__ for layer in model.layers]


CONVOLUTION = ["Conv2D", "ReLU", "MaxPooling2D"]
END = ["Flatten", "Dense", "ReLU", "Dropout", "Dense"]


@pytest.mark.parametrize(("name", "layers", "parameters"), [
    ("scratch", ["Rescaling", *CONVOLUTION * 2, *END],
     (27 * 32 + 32) + (288 * 64 + 64) + (6400 * 32 + 32) + 33),
    ("extra_conv", ["Rescaling", *CONVOLUTION * 3, *END],
     (27 * 32 + 32) + (288 * 64 + 64) + (576 * 128 + 128) + (2048 * 32 + 32) + 33),
    ("extra_dense", ["Rescaling", *CONVOLUTION * 2, *END[:3], *END[1:]],
     (27 * 32 + 32) + (288 * 64 + 64) + (6400 * 32 + 32) + (32 * 16 + 16) + 17),
    ("leaky_relu", ["Rescaling", *["LeakyReLU" if kind == "ReLU" else kind
                                   for kind in (*CONVOLUTION * 2, *END)]],
     (27 * 32 + 32) + (288 * 64 + 64) + (6400 * 32 + 32) + 33),
    ("regularised", ["Augmentation", "Rescaling", *CONVOLUTION * 2, *END],
     (27 * 32 + 32) + (288 * 64 + 64) + (6400 * 32 + 32) + 33),
    ("per_panel", ["Rescaling", *CONVOLUTION * 2, *END],
     (27 * 32 + 32) + (288 * 64 + 64) + (6400 * 32 + 32) + 33),
])
def test_networks_are_those_of_the_slides(name, layers, parameters):
    model = compile_arm(ARMS[name], Baseline(size=48), (48, 48, 3), 2)
    assert kinds(model) == layers
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == parameters
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == (
        [32, 64, 128] if name == "extra_conv" else [32, 64])
    last, dropout = model.layers[-1], next(x for x in model.layers if hasattr(x, "rate"))
    assert (last.units, last.activation.__name__, dropout.rate) == (1, "sigmoid", 0.2)
    assert model.optimizer.__class__.__name__ == "Adam"
    penalised = [layer for layer in model.layers if getattr(layer, "kernel_regularizer", None)]
    assert len(penalised) == (4 if name == "regularised" else 0)
    if name == "leaky_relu":
        assert {layer.negative_slope for layer in model.layers
                if hasattr(layer, "negative_slope")} == {0.2}


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50"])
def test_frozen_backbones_are_followed_by_flatten_dense_dropout_dense(name):
    model = compile_arm(ARMS[name], QUICK, (3, 3, 1280), 4)
    assert kinds(model) == END
    assert model.count_params() == (11520 * 32 + 32) + (32 * 4 + 4)
    assert model.layers[-1].activation.__name__ == "softmax"
    assert ARMS[name].backbone == name


def test_every_arm_of_the_default_parameters_exists():
    assert set(Baseline().arms) == set(ARMS)


def test_an_unknown_arm_ends_in_one_sentence():
    with pytest.raises(MoascopeError, match=r"'scrach' is not an arm. Did you mean 'scratch'\?"):
        find_arm("scrach")


def test_weights_for_an_unknown_network_end_in_one_sentence():
    with pytest.raises(MoascopeError, match=r"baseline.weights = 'mobilnet' cannot be used"):
        parse_params({"baseline": {"weights": {"mobilnet": "x.h5"}}})


def test_a_restart_forgets_what_was_learnt(scratch):
    examples = make_pictures()

    def trained(seed):
        for _ in train_epochs(scratch, examples.features, examples.label,
                              np.ones(len(examples.label)), 2, QUICK, seed):
            pass
        return predict_classes(scratch, examples.features)

    first, other, again = trained(1), trained(2), trained(1)
    np.testing.assert_allclose(first, again, atol=1e-5)
    assert np.abs(first - other).max() > 1e-3
    restart(scratch, 0.1, 1)
    assert not any(np.any(np.asarray(v)) for v in scratch.optimizer.variables
                   if v is not scratch.optimizer._learning_rate)


def test_augmentation_makes_the_eight_symmetries_and_only_in_training():
    layer = augmentation(0.0)
    picture = np.arange(2 * 2 * 3, dtype=np.float32).reshape(1, 2, 2, 3)
    many = np.repeat(picture, 400, axis=0)
    made = np.asarray(layer(many, training=True))
    assert made.shape == many.shape
    corner = {tuple(one[..., 0].ravel().astype(int)) for one in made}
    expected = {tuple(np.rot90(side, turn)[..., 0].ravel().astype(int))
                for side in (picture[0], picture[0][::-1]) for turn in range(4)}
    assert corner == expected
    assert len(expected) == 8
    np.testing.assert_array_equal(np.asarray(layer(many, training=False)), many)


def test_gain_changes_each_channel_within_its_bounds():
    made = np.asarray(augmentation(0.2)(np.ones((500, 2, 2, 3), np.float32), training=True))
    assert made.min() >= 0.8 - 1e-6
    assert made.max() <= 1.2 + 1e-6
    assert made.std(axis=0).min() > 0.08
    # One factor a channel of a picture: no noise between pixels.
    assert np.ptp(made, axis=(1, 2)).max() < 1e-6
    assert abs(np.corrcoef(made[:, 0, 0, 0], made[:, 0, 0, 1])[0, 1]) < 0.2


def test_the_augmented_network_answers_the_same_twice():
    model = compile_arm(ARMS["regularised"], QUICK, (SIZE, SIZE, 3), 2)
    restart(model, 1e-3, 0)
    pictures = make_pictures().features
    np.testing.assert_array_equal(predict_classes(model, pictures),
                                  predict_classes(model, pictures))
    assert model.loss.label_smoothing == QUICK.regularised.label_smoothing


def test_compounds_of_a_fold_are_never_learnt_from():
    examples = make_pictures()
    parts = compound_parts(examples)
    assert len(parts) == 3
    asked = np.zeros(len(examples.meta), int)
    for part in parts:
        assert not set(examples.group[part.training]) & set(examples.group[part.test])
        assert not set(examples.group[part.validation]) & set(examples.group[part.test])
        asked += part.test
    assert (asked == 1).all()


def test_the_image_split_of_the_slides_is_stratified_and_leaks():
    examples = make_pictures(wells=10)
    part = image_part(examples, 0)
    sides = np.stack([part.training, part.validation, part.test])
    assert (sides.sum(axis=0) == 1).all()
    for own in (0, 1):
        shares = sides[:, examples.label == own].mean(axis=1)
        np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.02)
    assert set(examples.group[part.training]) & set(examples.group[part.test])
    assert (image_part(examples, 1).test != part.test).any()


def test_a_class_of_few_images_is_dealt_too():
    examples = make_pictures(label=["a"] * 22 + ["b"] * 2, wells=1)
    part = image_part(examples, 0)
    assert part.training[examples.label == 1].any()


def test_class_weights_are_fifteen_or_balanced():
    np.testing.assert_array_equal(class_weights(np.array([0, 0, 1]), True, 2, QUICK), [1, 15])
    label = np.array([0] * 6 + [1] * 3 + [3])
    each = class_weights(label, False, 4, QUICK)
    totals = np.bincount(label, weights=each[label], minlength=4)
    np.testing.assert_allclose(totals[[0, 1, 3]], 10 / 3)
    assert each[2] == 0
    assert each[label].mean() == pytest.approx(1)


def test_fusion_is_the_mean_of_ranks_within_panels():
    scores = np.array([
        [[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [np.nan, np.nan]],
        [[0.999, 0.001], [0.998, 0.002], [np.nan, np.nan], [0.998, 0.002]],
    ])
    fused = fuse_by_rank(scores)
    # Ranks from the lowest, halved and divided by three; of the second panel two are tied.
    np.testing.assert_allclose(fused[:, 1], [
        np.mean([0.5 / 3, 0.5 / 3]), np.mean([1.5 / 3, 2.0 / 3]), 2.5 / 3, 2.0 / 3])
    np.testing.assert_allclose(fused.sum(axis=1), 1)


def test_a_panel_with_shrunken_scores_still_has_its_say():
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1], (2, 30))
    shrunken = scores.copy()
    shrunken[1] = 0.5 + 1e-4 * (scores[1] - 0.5)
    np.testing.assert_allclose(fuse_by_rank(scores), fuse_by_rank(shrunken))
    mean_rank = scores[..., 1].argsort(axis=1).argsort(axis=1).mean(axis=0)
    np.testing.assert_array_equal(fuse_by_rank(scores)[:, 1].argsort(kind="stable"),
                                  mean_rank.argsort(kind="stable"))


def test_compounds_of_two_panels_are_fused_by_rank_only_in_the_arm_that_says_so():
    examples = make_pictures(panels=("a", "b"))
    rng = np.random.default_rng(1)
    probability = rng.dirichlet([1, 1], len(examples.meta))
    pooled = unit_probabilities(ARMS["scratch"], examples, probability)["compound"][1]
    units, fused = unit_probabilities(ARMS["per_panel"], examples, probability)["compound"]
    logit = np.log(probability[:, 1] / probability[:, 0])
    by_hand = pd.DataFrame({"group": examples.group, "panel": examples.panel, "logit": logit})
    mean = by_hand.groupby("group")["logit"].mean()[units["Group"]].to_numpy()
    np.testing.assert_allclose(pooled[:, 1], 1 / (1 + np.exp(-mean)), atol=1e-5)
    by_panel = by_hand.groupby(["panel", "group"])["logit"].mean()
    places = (by_panel.groupby(level="panel").rank().sub(0.5).div(len(units))
              .groupby(level="group").mean()[units["Group"]])
    np.testing.assert_allclose(fused[:, 1], places, atol=1e-6)


def test_early_stopping_looks_at_the_inner_fold_only():
    examples = make_pictures()
    model = compile_arm(ARMS["regularised"], QUICK, (SIZE, SIZE, 3), 2)
    part = compound_parts(examples)[0]
    seen = []

    def spy(settings, shown, training, validation, *others):
        seen.append((set(shown.group[training]), set(shown.group[validation])))
        return 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms_module, "best_epoch", spy)
        tried = try_arm(ARMS["regularised"], QUICK, examples, [part], BY_COMPOUND, model, 0)
    (learnt, judged), = seen
    tested = set(examples.group[part.test])
    assert judged
    assert not learnt & judged
    assert not (learnt | judged) & tested
    assert tried.epochs == [2]

    ruined = replace(examples, features=examples.features.copy())
    ruined.features[part.test] = 255 - ruined.features[part.test]
    stop = [best_epoch(QUICK, shown, part.training & ~part.validation, part.validation, model, 0)
            for shown in (examples, ruined)]
    assert stop[0] == stop[1]


def test_answers_come_from_the_chosen_epoch(scratch):
    examples = make_pictures()
    part = compound_parts(examples)[0]
    stopping = replace(ARMS["scratch"], stops_early=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arms_module, "best_epoch", lambda *arguments: 1)
        early = try_arm(stopping, QUICK, examples, [part], BY_COMPOUND, scratch, 0)
    once = try_arm(ARMS["scratch"], QUICK.model_copy(update={"epochs": 1}), examples, [part],
                   BY_COMPOUND, scratch, 0)
    np.testing.assert_allclose(early.probability[part.test], once.probability[part.test],
                               atol=1e-5)
    assert early.curves["epoch"].max() == 3


def test_an_arm_finds_what_is_there_and_says_which_split_is_invalid():
    settings = Baseline(size=SIZE, epochs=8, batch_size=10)
    scores, curves, predictions = run_arm(ARMS["scratch"], settings, make_pictures(), FEW, 0)
    assert scores[BY_COMPOUND]["valid"] is True
    assert scores[BY_IMAGE]["valid"] is False
    assert scores[BY_COMPOUND]["compound"]["average_precision"] > 0.95
    assert scores[BY_COMPOUND]["site"]["confusion"][1][1] > 0
    one = predictions[(predictions["Split"] == BY_COMPOUND) & (predictions["Level"] == "compound")]
    assert one["Metadata_Group"].is_unique
    assert len(one) == scores[BY_COMPOUND]["compound"]["n"]
    assert (predictions["Predicted"] == np.where(predictions["P_t"] >= 0.5, "t", "not_t")).all()
    counted = curves.groupby(["split", "side"])["epoch"].agg(["min", "max", "size"])
    assert counted["size"].to_dict() == {
        (BY_COMPOUND, "held out"): 24, (BY_COMPOUND, "training"): 24,
        (BY_IMAGE, "held out"): 8, (BY_IMAGE, "training"): 8}
    learnt = curves[(curves["split"] == BY_COMPOUND) & (curves["side"] == "training")]
    assert learnt["loss"].iloc[7] < 0.5 * learnt["guess"].iloc[7]
    json.dumps(scores)


def test_several_classes_have_a_softmax_and_panels_models_of_their_own():
    label = [("a", "b", "c")[i % 3] for i in range(24)]
    examples = make_pictures(panels=("one", "two"), label=label, wells=2)
    scores, curves, predictions = run_arm(
        ARMS["per_panel"], Baseline(size=SIZE, epochs=6, batch_size=10), examples, FEW, 0)
    assert set(curves["panel"]) == {"one", "two"}
    np.testing.assert_allclose(predictions[["P_a", "P_b", "P_c"]].sum(axis=1), 1)
    found = scores[BY_COMPOUND]["compound"]["per_class"]["c"]
    assert found["average_precision"] > 0.8
    assert len(scores[BY_COMPOUND]["site"]["confusion"]) == 3


def test_the_loss_of_guessing_is_that_of_the_weighted_shares(scratch):
    examples = make_pictures()
    part = image_part(examples, 0)
    _, _, rows, _ = next(arms_module._watched(QUICK, examples, part.training, part.test, scratch,
                                              0))
    label = examples.label
    each = np.array([1, 15.0])
    share = each[label[part.training]][label[part.training] == 1].sum() / each[
        label[part.training]].sum()
    weight = each[label[part.test]]
    by_hand = -np.average(np.where(label[part.test] == 1, np.log(share), np.log(1 - share)),
                          weights=weight)
    assert rows[1]["side"] == "held out"
    assert rows[1]["guess"] == pytest.approx(by_hand)
    said = predict_classes(scratch, examples.features[part.test])
    loss = -np.average(np.log(said[np.arange(len(weight)), label[part.test]]), weights=weight)
    assert rows[1]["loss"] == pytest.approx(loss, rel=1e-4)


def test_the_epoch_after_which_training_only_memorises():
    def curves(held_out):
        return pd.DataFrame({"side": "held out", "epoch": range(1, len(held_out) + 1),
                             "loss": held_out, "guess": 2.0})

    assert epochs_to_overfit(curves([1.0, 0.7, 0.8, 0.9])) == 2
    assert epochs_to_overfit(curves([1.0, 0.9, 0.8])) is None


def prepared_plate(folder, crops, channels, panels=("",), passed=None):
    plate = folder / "P1"
    plate.mkdir(parents=True)
    count = len(crops)
    np.save(plate / "crops.npy", crops)
    pd.DataFrame({
        "Metadata_Plate": "P1", "Metadata_Well": [f"A{1 + i // 2:02d}" for i in range(count)],
        "Metadata_Site": [1 + i % 2 for i in range(count)], "Metadata_Batch": "",
        "Metadata_Panel": [panels[i % len(panels)] for i in range(count)],
        "QC_Pass": [True] * count if passed is None else passed, "Count_Nuclei": 1.0,
    }).to_parquet(plate / "sites.parquet")
    facts = {"channels": channels, "panels": {panel: {name: {} for name in channels}
                                              for panel in panels}}
    (plate / "plate.json").write_text(json.dumps(facts))
    (plate / "key.txt").write_text("key")
    return plate


def test_pictures_are_fields_in_three_colours_averaged_over_areas(tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (6, 4, 2, 32, 32), dtype=np.uint8)
    prepared_plate(tmp_path, crops, ["DNA", "Actin"], passed=[True, True, False, True, True, True])
    meta, pictures = load_composites(tmp_path, 16, 1)
    assert meta[["Metadata_Well", "Metadata_Site"]].to_numpy().tolist() == [
        ["A01", 1], ["A02", 2], ["A03", 1]]
    assert pictures.shape == (3, 16, 16, 3)
    field = np.block([[crops[3, 0, 0], crops[3, 1, 0]], [crops[3, 2, 0], crops[3, 3, 0]]])
    by_hand = field.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(pictures[1, ..., 0], by_hand, atol=0.51)
    np.testing.assert_array_equal(pictures[..., 0], pictures[..., 2])
    assert (pictures[..., 0] != pictures[..., 1]).any()
    assert len(load_composites(tmp_path, 16, 2)[0]) == 5


def test_channels_that_a_panel_lacks_give_no_black_colour(tmp_path):
    crops = np.zeros((2, 1, 4, 32, 32), np.uint8)
    crops[:, :, 0], crops[:, :, 2], crops[:, :, 3] = 10, 30, 40
    plate = prepared_plate(tmp_path, crops, ["DNA", "A", "B", "C"])
    facts = json.loads((plate / "plate.json").read_text())
    del facts["panels"][""]["A"]
    (plate / "plate.json").write_text(json.dumps(facts))
    assert load_composites(tmp_path, 16, 1)[1][0, 0, 0].tolist() == [10, 30, 40]


def test_shrinking_keeps_the_mean_where_sizes_do_not_divide():
    planes = np.random.default_rng(0).integers(0, 256, (2, 1, 50, 50), dtype=np.uint8)
    small = shrink(planes, 16)
    assert small.shape == (2, 16, 16, 1)
    np.testing.assert_allclose(small.mean(axis=(1, 2, 3)), planes.mean(axis=(1, 2, 3)), atol=0.3)
    assert mosaic(np.zeros((1, 3, 1, 8, 8))).shape == (1, 1, 8, 8)


def test_an_arm_whose_weights_are_not_there_is_a_row_and_no_error(tmp_path, monkeypatch):
    from moascope.features import backbones

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def no_network(name):
        raise MoascopeError("no network")

    monkeypatch.setattr(backbones, "_download", no_network)
    out = tmp_path / "resnet50"
    said = baseline(Params(), tmp_path, tmp_path, tmp_path, out)
    assert "not run: the ImageNet weights of resnet50 are not on this machine" in said
    scores = json.loads((out / "scores.json").read_text())
    assert "baseline.weights.resnet50" in scores["not_run"]
    assert str(tmp_path) not in scores["not_run"]
    row = table([scores]).set_index("arm").loc["resnet50"]
    assert row["split"] == NOT_RUN
    assert row["note"].startswith("not run: the ImageNet weights")
    with pytest.raises(MoascopeError, match=r"baseline.weights.resnet50: there is no file x.h5"):
        arm_weights(ARMS["resnet50"], {"resnet50": "x.h5"})


def said(ap, confusion=None):
    found = {"average_precision": ap, "low": ap - 0.1, "high": ap + 0.1, "prevalence": 0.2,
             "lift": ap / 0.2}
    return found if confusion is None else found | {
        "confusion": confusion, "log_loss": 0.6, "accuracy": 0.7, "n": 100, "compounds": 10}


def table(arms=()):
    metrics = {
        "repeats": 2,
        "out_of_fold": {"site": said(0.4, [[50, 10], [20, 20]]), "compound": said(0.5)},
        "random_image_split": {"true_labels": {"site": said(0.8), "compound": said(0.9)}},
    }
    head = {"parameters": 7, "epochs_to_overfit": None, "asked_after": 40,
            "seconds_an_epoch": 0.0123}
    return results_table(list(arms), metrics, head)


def arm_scores():
    own = {"epochs_to_overfit": 2, "asked_after": 10.0, "seconds_an_epoch": 1.234,
           "site": said(0.3, [[1, 2], [3, 4]]), "compound": said(0.3)}
    return {"arm": "scratch", "parameters": 5, BY_COMPOUND: own | {"valid": True},
            BY_IMAGE: own | {"valid": False}}


def test_the_first_line_is_the_slides_and_the_last_the_main_model():
    found = table([arm_scores()])
    assert list(found) == COLUMNS
    first, last = found.iloc[0], found.iloc[-1]
    assert first["arm"] == SLIDES
    assert first["split"] == INVALID
    assert (first["test_loss"], first["ap_images"], first["slides_ap"]) == (0.6283, 0.0733, 0.0733)
    assert [first[k] for k in ("tn", "fp", "fn", "tp")] == [4716, 156, 312, 16]
    assert first["fn"] + first["tp"] == 328
    assert first["prevalence_images"] == pytest.approx(0.0631, abs=1e-4)
    assert first["lift_images"] == pytest.approx(1.162, abs=1e-3)
    assert (last["arm"], last["split"], last["ap_compounds"]) == (MODEL, BY_COMPOUND, 0.5)
    assert last["parameters"] == 7


def test_every_arm_has_an_honest_row_and_one_marked_invalid():
    rows = table([arm_scores()])
    rows = rows[rows["arm"] == "scratch"]
    assert rows["split"].tolist() == [BY_COMPOUND, INVALID]
    assert [rows.iloc[0][k] for k in ("tn", "fp", "fn", "tp")] == [1, 2, 3, 4]
    assert rows["slides_ap"].tolist()[1] == 0.0657
    assert rows["seconds_an_epoch"].tolist() == [1.2, 1.2]


def test_the_markdown_says_that_simulated_scores_prove_no_biology():
    lines = results_markdown(table([arm_scores()]), "gpcr", True, "Facts.").splitlines()
    assert any("never the biology" in line for line in lines)
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[1].startswith("| the slides | INVALID: random image split |")
    assert "4,716 156 312 16" in rows[1]
    assert rows[-1].startswith("| **main model** | by compound |")
    assert {line.count("|") for line in rows} == {13}
    assert "never the biology" not in results_markdown(table(), "gpcr", False, "Facts.")


def test_the_picture_is_the_same_bytes_for_the_same_curves():
    curves = pd.DataFrame([
        {"split": split, "part": 0, "panel": "", "epoch": epoch, "side": side, "loss": 1 / epoch,
         "guess": 1.0}
        for split in (BY_COMPOUND, BY_IMAGE) for side in ("training", "held out")
        for epoch in (1, 2, 3)])
    picture = curves_picture({"scratch": curves, MODEL: curves}, {"scratch": 2.0})
    assert picture.startswith(b"\x89PNG")
    assert picture == curves_picture({"scratch": curves, MODEL: curves}, {"scratch": 2.0})
