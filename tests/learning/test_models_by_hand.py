"""Models, what they keep and what they refuse, part by part."""

import dataclasses
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, make_examples, with_plate_controls
from scipy.stats import t as student

from moascope.errors import MoascopeError
from moascope.features.normalise import apply_sphering, fit_sphering, standardise_plates
from moascope.features.table import FeatureTable
from moascope.learning import final as final_module
from moascope.learning.batch_distance import (
    _apart,
    _by_plate,
    _upper_limit,
    control_plates,
)
from moascope.learning.calibration import Calibration
from moascope.learning.conformal import Limits, least_compounds, set_limits
from moascope.learning.examples import averaging
from moascope.learning.final import (
    chosen_heads,
    load_predictions,
    predictions_table,
    run_of,
    save_trained,
)
from moascope.learning.head import FittedHeads
from moascope.learning.model import (
    CHANCE,
    IN_PART,
    USEFUL,
    TrainedModel,
    identities,
    read_model,
    save_model,
    verdict_of,
    write_verdict,
)
from moascope.learning.nested import out_of_fold
from moascope.learning.novelty import known_compounds
from moascope.learning.simple import (
    Neighbours,
    Trees,
    _standardisation,
    fit_simple,
    simple_logits,
    solve_logistic,
)
from moascope.learning.trust import (
    Trust,
    consensus_of_training,
    consensus_profiles,
    fit_trust,
    out_of_fold_logits,
)
from moascope.params import Embed, Head, Params, Prepare
from moascope.params_file import parse_params
from moascope.screen.question import Question

BINARY = Question("t", ("not_t", "t"), True)


# Simple models


def forest(**changes):
    """Two trees: a root that asks for feature 1, with two leaves; a leaf alone."""
    return Trees(**{
        "roots": np.array([[0, 3]]), "feature": np.array([1, -1, -1, -1]),
        "threshold": np.array([0.5, 0, 0, 0]), "left": np.array([1, 0, 0, 0]),
        "right": np.array([2, 0, 0, 0]),
        "share": np.array([[0.5, 0.5], [1, 0], [0.25, 0.75], [0, 1]]), **changes})


def test_a_row_goes_left_up_to_the_threshold():
    model = forest()
    assert (model.count, model.votes) == (1, 2)
    found = model.probability(np.array([[9, 0.5], [9, 0.51], [0, -1]]))
    assert found.tolist() == [[0.5, 0.5], [0.125, 0.875], [0.5, 0.5]]


@pytest.mark.parametrize("changes", [
    {"roots": np.array([0, 3])}, {"share": np.ones(4)}, {"roots": np.zeros((1, 0), int)},
    {"threshold": np.zeros(3)}, {"left": np.array([1, 0, 0])}, {"right": np.array([2, 0, 0])},
    {"share": np.ones((3, 2))}, {"roots": np.array([[0, 4]])}, {"roots": np.array([[0, -1]])},
    {"left": np.array([0, 0, 0, 0])}, {"right": np.array([4, 0, 0, 0])},
    {"right": np.array([0, 0, 0, 0])}, {"left": np.array([4, 0, 0, 0])}])
def test_arrays_that_are_no_trees_are_refused(changes):
    with pytest.raises(ValueError, match="a model of trees do not fit each other"):
        forest(**changes)


def near(**changes):
    return Neighbours(**{
        "mean": np.zeros((2, 2)), "scale": np.ones((2, 2)),
        "rows": np.array([[1, 0], [0, 1], [1, 1]], np.float32),
        "label": np.array([[0, 1, 1], [1, 0, 0]]), "used": np.array([[1, 1, 1], [1, 0, 0]], bool),
        "classes": np.array(2), **changes})


@pytest.mark.parametrize("changes", [
    {"rows": np.ones(3)}, {"mean": np.zeros(2), "scale": np.ones(2)}, {"scale": np.ones((2, 3))},
    {"rows": np.ones((3, 3))}, {"used": np.ones((2, 3), int)}, {"label": np.zeros((2, 2), int)},
    {"used": np.ones((2, 2), bool), "label": np.zeros((2, 2), int)},
    {"used": np.ones((3, 3), bool), "label": np.zeros((3, 3), int)},
    {"used": np.array([[1, 1, 1], [0, 0, 0]], bool)},
    {"label": np.array([[0, 1, -1], [1, 0, 0]])}, {"label": np.array([[0, 1, 2], [1, 0, 0]])}])
def test_arrays_that_are_no_neighbours_are_refused(changes):
    with pytest.raises(ValueError, match="a model of neighbours do not fit each other"):
        near(**changes)


def test_neighbours_vote_by_their_cosine_and_against_it_count_for_next_to_nothing():
    model = near()
    assert (model.count, model.votes) == (2, 5)
    # Cosines of (2, 0): 1, 0 and 0.707; of (-1, 0): -1, 0, -0.707.
    root = np.sqrt(0.5)
    found = model.probability(np.array([[2.0, 0], [-1, 0]]))
    np.testing.assert_allclose(found, [[1 / (1 + root), root / (1 + root)], [1 / 3, 2 / 3]],
                               rtol=1e-6)
    np.testing.assert_allclose(model.probability(np.array([[0.0, 5]]), 1), [[0, 1]])


def test_logits_of_votes_have_one_more_that_is_spread_over_the_classes():
    model = forest()
    rows = np.array([[0, 0.0], [0, 9.0]])
    expected = np.log((model.probability(rows) * 2 + 0.5) / 3)
    found = simple_logits(model, rows)
    assert found.shape == (1, 2, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    some = simple_logits(model, rows, np.array([[False, True]]))
    np.testing.assert_allclose(some[0], [[0, 0], expected[1]], rtol=1e-6)


def test_a_feature_without_spread_in_training_is_divided_by_one():
    features = np.array([[1, 5, 1e6, 0], [3, 5, 1e6 + 0.5, 1e-3], [9, 9, 0, 9]], np.float32)
    mean, scale = _standardisation(features, np.array([[1, 0.1, 0]]))
    assert mean.dtype == scale.dtype == np.float32
    np.testing.assert_allclose(mean, [[2, 5, 1e6 + 0.25, 5e-4]], rtol=1e-6)
    # A quarter in a million is rounding; half a thousandth around zero is not.
    np.testing.assert_allclose(scale, [[1, 1, 1, 5e-4]], rtol=1e-5)


def test_a_class_that_logistic_regression_lacks_has_a_logit_of_minus_twenty():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 3)).astype(np.float32)
    model = fit_simple(rows, np.tile([0, 2], 6), np.ones((1, 12), np.float32), 3,
                       Head(head="logistic", layers=2))
    assert model.head.layers == 0 and model.head.head == "logistic"
    assert model.biases[0][0, 1] == -20 and not model.kernels[0][0][:, 1].any()
    assert model.biases[0][0, 0] == 0 and not model.kernels[0][0][:, 0].any()
    assert not len(model.epochs) and not len(model.loss)


@pytest.mark.parametrize("width", [3, 30])
def test_the_solver_gives_a_column_for_each_class_that_is_there(width):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    rows, weight = rng.normal(size=(15, width)), rng.uniform(0.5, 2, 15)
    for label in (np.tile([1, 4], 8)[:15], np.tile([0, 3, 5], 5)):
        kernel, bias, present = solve_logistic(rows, label, weight)
        known = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-10).fit(rows, label, weight)
        assert present.tolist() == sorted(set(label))
        logits = rows @ kernel + bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(shares / shares.sum(axis=1, keepdims=True),
                                   known.predict_proba(rows), atol=1e-4)
        if len(present) == 2:
            assert bias[0] == 0 and not kernel[:, 0].any()


# Controls of plates


def test_a_plate_of_controls_is_its_median_and_scaled_deviation():
    meta = pd.DataFrame({"Metadata_Plate": ["Q"] * 5 + ["P"] * 4 + ["R"] * 3,
                         "Metadata_Panel": "x"})
    values = np.array([[1.0], [2], [3], [4], [100], [5], [5], [7], [9], [0], [0], [0]])
    keys, centres, spreads = _by_plate(meta, values)
    assert keys == [("P", "x"), ("Q", "x")]      # three controls are too few
    assert centres.tolist() == [[6], [3]]
    np.testing.assert_allclose(spreads, [[1.4826 * 1], [1.4826 * 1]])


def test_the_distance_is_the_root_mean_square_over_what_is_known():
    others = np.array([[0, 0, np.nan, 1.0], [2, 4, np.nan, 1.0]])
    spread = np.array([2.0, 1.0, 1.0, 0.0])
    # (5 - 1) / 2 and (3 - 2) / 1.
    assert _apart(np.array([5.0, 3, 9, 1]), others, spread) == pytest.approx(np.sqrt(5 / 2))
    assert _apart(np.array([np.nan] * 4), others, spread) == 0.0


def test_the_limit_is_the_upper_prediction_limit_of_logarithms():
    distances = np.array([1.0, 2.0, 4.0, 8.0])
    logs = np.log(distances)
    for parts in (2, 4):
        expected = np.exp(logs.mean() + student.ppf(0.9, parts - 1) * logs.std(ddof=1)
                          * np.sqrt(1 + 1 / parts))
        assert _upper_limit(distances, parts, 0.1) == pytest.approx(expected)
    assert _upper_limit(distances[:3], 3, 0.1) < np.inf
    assert _upper_limit(distances[:2], 2, 0.1) == np.inf
    assert _upper_limit(np.array([0.0, 1, 2]), 3, 0.1) == np.inf


@pytest.mark.parametrize("batches", [1, 2])
def test_the_limit_of_a_panel_leaves_out_batches_or_plates(batches):
    rng = np.random.default_rng(3)
    meta = pd.DataFrame({
        "Metadata_Plate": np.repeat([f"P{i}" for i in range(7)], 6),
        "Metadata_Panel": np.repeat(["x"] * 5 + ["y"] * 2, 6),
        "Metadata_Batch": np.repeat([f"B{i % batches}" for i in range(7)], 6)})
    features = rng.normal(size=(42, 4)) + np.repeat(np.arange(7), 6)[:, None] * 0.3
    found = control_plates(meta, features, 0.05)
    assert found.panels.tolist() == ["x"] * 5 + ["y"] * 2
    centres = np.stack([np.median(features[i * 6:i * 6 + 6], axis=0) for i in range(7)])
    spread = np.stack([1.4826 * np.median(np.abs(features[i * 6:i * 6 + 6] - centres[i]), axis=0)
                       for i in range(7)])
    np.testing.assert_allclose(found.centres, centres, rtol=1e-5)
    np.testing.assert_allclose(found.spreads[:5], np.tile(np.median(spread[:5], axis=0), (5, 1)),
                               rtol=1e-5)
    np.testing.assert_allclose(found.spreads[5:], np.tile(np.median(spread[5:], axis=0), (2, 1)),
                               rtol=1e-5)
    assert found.centres.dtype == found.spreads.dtype == np.float32
    part = [f"B{i % batches}" if batches > 1 else i for i in range(5)]
    distances = [_apart(centres[i], centres[[j for j in range(5) if part[j] != part[i]]],
                        np.median(spread[:5], axis=0)) for i in range(5)]
    expected = _upper_limit(np.array(distances), len(set(part)), 0.05)
    np.testing.assert_allclose(found.limits, [expected] * 5 + [np.inf] * 2)
    # Asked about other plates: a panel without a limit says nothing.
    told = found.distances(meta.assign(Metadata_Plate=meta["Metadata_Plate"].str.lower()),
                           features)
    assert told["Metadata_Plate"].tolist() == [f"p{i}" for i in range(5)]
    assert told["Metadata_Panel"].tolist() == ["x"] * 5
    assert told["Distance"].to_numpy() == pytest.approx(
        [_apart(centres[i], found.centres[:5], found.spreads[0]) for i in range(5)], rel=1e-4)
    assert told["Limit"].to_numpy() == pytest.approx(np.full(5, expected))


# Sets


def test_the_limit_of_a_class_is_what_its_compounds_reach():
    """Four compounds at 80 %: one that is not seen counts as a fifth, so that all four must."""
    label = np.array([0, 0, 0, 0, 0, 1, 1])
    share = np.array([0.9, 0.8, 0.6, 0.5, 0.7, 0.2, 0.4])     # of class 0
    probability = np.column_stack([share, 1 - share])
    compound = np.array([0, 1, 2, 3, 3, 4, 5])
    found = set_limits(label, probability, compound, BINARY, 0.8)
    assert found.own == (True, False) and found.limits == pytest.approx((0.5, 0.0))
    # At 70 % a compound's half suffices: 3 compounds and one of two wells are 0.7 of five.
    assert set_limits(label, probability, compound, BINARY, 0.7).limits[0] == pytest.approx(0.6)
    assert found.decides and not Limits((0.0, 0.0), (True, False)).decides
    assert found.sets(np.array([[0.5, 0.5], [0.5 - 1e-10, 0], [0.49, 1.0]])).tolist() == [
        [True, True], [True, True], [False, True]]
    assert [least_compounds(coverage) for coverage in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]


# The final model


def test_the_heads_that_were_chosen_are_read_for_every_fold(tmp_path):
    file = tmp_path / "tuned.yaml"
    params = parse_params({"train": {"level": "well"}})
    file.write_text("final: {layers: 1}\nfolds: {0/0: {layers: 2}, 1/12: {layers: 3}}\n")
    final, folds = chosen_heads(file, params)
    assert (final.layers, final.level) == (1, "well")
    assert {key: head.layers for key, head in folds.items()} == {(0, 0): 2, (1, 12): 3}
    for damaged in ("final: {layers: 1}\n", "final: [", "final: {layers: x}\nfolds: {}\n"):
        file.write_text(damaged)
        with pytest.raises(MoascopeError, match=r"Run `dvc repro tune` again"):
            chosen_heads(file, params)


class Shown:
    """A calibration whose numbers show which logits it was given."""

    def __init__(self, factor, threshold=0.5):
        self.factor, self.threshold = factor, threshold

    def probability(self, logits):
        return np.asarray(logits) * self.factor

    def decide(self, probability):
        return (probability[:, 1] >= 3).astype(int)


@pytest.mark.parametrize("level", ["site", "well", "compound"])
def test_predictions_are_of_the_outer_models_inside_and_of_the_final_one_outside(
        monkeypatch, level):
    examples = make_examples(compounds=9, wells=2, sites=2)
    rng = np.random.default_rng(0)
    logits = {(repeat, fold): rng.random((36, 2)) for repeat in range(2) for fold in range(3)}
    inner = {key: Shown(1 + number, 0.1 * number) for number, key in enumerate(logits)}
    said = rng.random((36, 2))
    monkeypatch.setattr(final_module, "predict_by_panel", lambda heads, sites, train: said[None])
    table = predictions_table(examples, level, logits, inner, {}, Shown(5.0, 0.7), HEAD,
                              Params(train=TRAIN))
    matrix, units = averaging(examples, level)
    group = units["Group"].to_numpy()
    inside = ~examples.held_out[group]
    assert table["Split"].tolist() == (["out_of_fold"] * inside.sum()
                                       + ["held_out"] * (~inside).sum())
    expected = np.zeros((len(group), 2))
    threshold = np.zeros(len(group))
    for (repeat, fold), own in logits.items():
        rows = examples.folds(repeat)[group] == fold
        expected[rows] += (matrix @ own)[rows] * inner[repeat, fold].factor / 2
        threshold[rows] += inner[repeat, fold].threshold / 2
    expected[~inside] = (matrix @ said)[~inside] * 5
    order = np.concatenate([np.flatnonzero(inside), np.flatnonzero(~inside)])
    np.testing.assert_allclose(table[["P_not_t", "P_t"]], expected[order], rtol=1e-5)
    groups = examples.groups.iloc[group[order]].reset_index(drop=True)
    for column in ("Metadata_Group", "Label", "Metadata_Compound"):
        assert table[column].tolist() == groups[column].tolist()
    held = (table["Split"] == "held_out").to_numpy()
    assert (table["Threshold"][held] == 0.7).all()
    assert table["Threshold"][~held].to_numpy() == pytest.approx(threshold[inside].mean())
    called = np.where(held, expected[order, 1] >= 3,
                      expected[order, 1] >= threshold[order])
    assert table["Predicted"].tolist() == [BINARY.classes[int(one)] for one in called]
    # Nothing is held out where nothing is.
    whole = replace(examples, groups=examples.groups.assign(Holdout=False), _cache={})
    assert set(predictions_table(whole, level, logits, inner, {}, Shown(5.0), HEAD,
                                 Params(train=TRAIN))["Split"]) == {"out_of_fold"}


def test_several_classes_are_called_by_the_likeliest_and_have_no_threshold():
    question = Question("m", ("a", "b", "c"), False)
    examples = make_examples(compounds=9, wells=1, sites=1)
    examples = replace(examples, question=question, _cache={},
                       groups=examples.groups.assign(Label=list("abc") * 3))
    rng = np.random.default_rng(0)
    logits = {(repeat, fold): rng.random((9, 3)) for repeat in range(2) for fold in range(3)}
    found = out_of_fold(examples, "compound", logits, dict.fromkeys(logits, Shown(1, None)))
    assert found.threshold is None
    assert found.predicted.tolist() == found.probability.argmax(axis=1).tolist()


def small_model(**changes):
    heads = FittedHeads(Head(layers=0, level="well"), np.zeros((1, 2), np.float32),
                        np.ones((1, 2), np.float32), [np.ones((1, 2, 2), np.float32)],
                        [np.zeros((1, 2), np.float32)], np.array([1]), np.zeros(1, np.float32))
    return TrainedModel(**{
        "question": Question("t", ("not_t", "t"), True, "compound", ("x",)), "heads": {"a": heads},
        "panels": ("a", "b"), "calibrations": {"site": Calibration(1.5, 0.2, 0.4)},
        "sphering": None, "names": ("f0", "f1"), "channels": ("DNA",), "controls": True,
        "prepare": Prepare(crop=32), "embed": Embed(backbone="morphology"), "head": heads.head,
        "train": TRAIN, "trained_on": ("k", "n"), **changes})


def small_trust():
    return Trust(0.8, 0.1, {"site": Limits((0.1, 0.2), (True, False))}, known_compounds(np.eye(2)),
                 np.array(["g0", "g1"]), np.array(["A|B", "C"]), np.array(["m", ""]),
                 np.array(["t", "not_t"]), fit_sphering(np.random.default_rng(0).normal(
                     size=(9, 2))), None)


@pytest.mark.parametrize("trust", [None, small_trust()])
def test_every_field_of_a_model_is_read_again(tmp_path, trust):
    weights = tmp_path / "own.onnx"
    weights.write_bytes(b"network")
    model = small_model(trust=trust, weights={"net": weights}, sphering=fit_sphering(
        np.random.default_rng(1).normal(size=(9, 2))))
    save_model(model, tmp_path / "deep/model")
    write_verdict(tmp_path / "deep/model", True, False, True)
    again = read_model(tmp_path / "deep/model")
    for field in dataclasses.fields(TrainedModel):
        one, two = getattr(model, field.name), getattr(again, field.name)
        if field.name in ("heads", "sphering", "trust"):
            assert repr(one) == repr(two)
        elif field.name not in ("weights", "verdict", "ranks_inactive"):
            assert one == two, field.name
    assert (again.verdict, again.ranks_inactive) == (IN_PART, True)
    assert again.weights["net"].read_bytes() == b"network"
    assert again.weights["net"].parent == tmp_path / "deep/model"
    assert list(again.heads) == ["a"]
    said = json.loads((tmp_path / "deep/model/model.json").read_text())
    assert "fine_tune" not in said["train"]
    del said["trained_on"], said["trust"]
    (tmp_path / "deep/model/model.json").write_text(json.dumps(said))
    old = read_model(tmp_path / "deep/model")
    assert old.trained_on is None and old.trust is None


def test_a_verdict_is_one_of_three_and_a_model_without_one_has_none(tmp_path):
    assert verdict_of(True, True) == USEFUL and verdict_of(True, False) == IN_PART
    assert verdict_of(False, True) == verdict_of(False, False) == CHANCE
    save_model(small_model(), tmp_path)
    again = read_model(tmp_path)
    assert again.verdict == "" and again.ranks_inactive is False
    write_verdict(tmp_path, True, True)
    again = read_model(tmp_path)
    assert again.verdict == USEFUL and again.ranks_inactive is False
    # Only the word itself counts.
    (tmp_path / "verdict.json").write_text(json.dumps({"verdict": USEFUL, "ranks_inactive": 1}))
    assert read_model(tmp_path).ranks_inactive is False


def test_a_folder_that_is_no_model_or_a_damaged_one_is_a_sentence(tmp_path):
    with pytest.raises(MoascopeError) as error:
        read_model(tmp_path / "nowhere")
    assert str(error.value) == (f"{tmp_path / 'nowhere'} is not a moascope model: it has no "
                                "model.json.")
    save_model(small_model(), tmp_path)
    (tmp_path / "heads_0.npz").unlink()
    with pytest.raises(MoascopeError, match=r"is not a moascope model: it has no heads_0\.npz\."):
        read_model(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(MoascopeError, match=r"is damaged and cannot be read as a moascope model "
                                            r"\(it lacks 'train'\)\. Copy it again, or train it"):
        read_model(tmp_path)


def test_a_compound_is_known_by_its_group_and_names_and_a_well_by_its_group():
    groups = pd.DataFrame({"Metadata_Group": ["KEY", "p/a01"],
                           "Metadata_Compound": ["A|B b", "DMSO"]})
    assert identities(groups, "well") == [{"KEY"}, {"p/a01"}]
    compound, well = identities(groups, "compound")
    assert {"KEY", "a"} <= compound and {"p/a01", "dmso"} <= well
    assert not compound & well


def test_what_training_leaves_is_read_again(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(final_module, "save_head",
                        lambda heads, number, path: written.append((heads, number, path)))
    table = pd.DataFrame({"P_t": [0.5]})
    trees = fit_simple(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32),
                       np.arange(8) % 2, np.ones((1, 8), np.float32), 2, Head(head="trees"))
    model = small_model()
    model = replace(model, heads={"": model.heads["a"], "b": model.heads["a"]})
    predictions = {level: table.assign(Level=level) for level in ("site", "well", "compound")}
    save_trained(tmp_path, model, predictions, {"run_id": "r7", "experiment": "e"})
    assert written == [(model.heads[""], 0, tmp_path / "keras/head_pooled.keras"),
                       (model.heads["b"], 0, tmp_path / "keras/head_b.keras")]
    assert (tmp_path / "keras").is_dir()
    assert run_of(tmp_path) == "r7"
    found = load_predictions(tmp_path)
    assert {level: own["Level"].tolist() for level, own in found.items()} == {
        level: [level] for level in predictions}
    assert read_model(tmp_path / "model").panels == ("a", "b")
    other = tmp_path / "other"
    save_trained(other, replace(model, heads={"": trees}, head=Head(head="trees")), predictions,
                 {"run_id": "r"})
    assert len(written) == 2


# Trust


def test_logits_of_single_models_are_pooled_with_their_compound():
    examples = make_examples(compounds=9, wells=2, sites=1)
    rng = np.random.default_rng(0)
    logits = {(repeat, fold): rng.random((18, 2)).astype(np.float32)
              for repeat in range(2) for fold in range(3)}
    for level in ("well", "compound"):
        pooled, compound = out_of_fold_logits(examples, level, logits)
        matrix, units = averaging(examples, level)
        group = units["Group"].to_numpy()
        expected, of = [], []
        for (repeat, fold), own in logits.items():
            rows = np.flatnonzero(examples.folds(repeat)[group] == fold)
            expected.append((matrix @ own)[rows])
            of += group[rows].tolist()
        np.testing.assert_allclose(pooled, np.concatenate(expected), rtol=1e-5)
        assert compound.tolist() == of
        assert np.bincount(compound, minlength=9).tolist() == [
            0 if held else 2 * (2 if level == "well" else 1) for held in examples.held_out]


def test_consensus_profiles_are_means_of_moderated_and_sphered_sites():
    examples = with_plate_controls(make_examples(compounds=9), np.random.default_rng(0))
    profiles, group, sphering = consensus_of_training(examples)
    controls = examples.controls
    X = standardise_plates(FeatureTable(examples.meta, examples.features, list(examples.names)),
                           controls, moderated=True).X
    assert group.tolist() == np.flatnonzero(~examples.held_out).tolist()
    sphered = apply_sphering(X, fit_sphering(X[controls]))
    matrix, units = averaging(examples, "compound")
    expected = dict(zip(units["Group"], matrix @ sphered, strict=True))
    np.testing.assert_allclose(profiles, [expected[one] for one in group], atol=1e-3)
    np.testing.assert_allclose(sphering.mean, fit_sphering(X[controls]).mean, atol=1e-6)
    # The same of a screen that is predicted, all of whose compounds have one.
    kept = SimpleNamespace(sphering=sphering)
    again, of = consensus_profiles(kept, examples, examples.features, controls)
    assert of.tolist() == list(range(9))
    np.testing.assert_allclose(again[~examples.held_out], profiles, atol=1e-3)
    plain, _ = consensus_profiles(SimpleNamespace(sphering=None), examples, examples.features,
                                  controls)
    np.testing.assert_allclose(plain, matrix @ X, atol=1e-4)


def test_without_controls_or_compounds_there_are_no_profiles():
    examples = make_examples(compounds=9)
    controls = with_plate_controls(examples, np.random.default_rng(0))
    wells = replace(controls, question=replace(BINARY, unit="well"), _cache={})
    none = replace(controls, groups=controls.groups.assign(Holdout=True), _cache={})
    for one in (examples, wells, none):
        profiles, group, sphering = consensus_of_training(one)
        assert profiles is None and sphering is None
        assert len(group) == 0 and group.dtype == int
    # Controls that are all alike cannot sphere.
    alike = replace(controls, _cache={}, features=np.where(
        controls.controls[:, None], np.float32(1), controls.features))
    profiles, _, sphering = consensus_of_training(alike)
    assert profiles is not None and sphering is None


def test_trust_is_learnt_from_the_folds_at_every_level():
    examples = with_plate_controls(make_examples(compounds=24, panels=1), np.random.default_rng(0))
    groups = examples.groups.assign(Metadata_MoA=[None if i % 5 == 0 else "m" for i in range(24)])
    examples = replace(examples, groups=groups, _cache={})
    rng = np.random.default_rng(0)
    rows = len(examples.meta)
    logits = {(repeat, fold): rng.normal(size=(rows, 2)).astype(np.float32)
              for repeat in range(2) for fold in range(3)}
    calibrations = {level: Calibration(1 + number, 0.3, 0.5)
                    for number, level in enumerate(("site", "well", "compound"))}
    train = TRAIN.model_copy(update={"coverage": 0.7, "novelty_rate": 0.2})
    found = fit_trust(examples, HEAD, train, logits, calibrations)
    assert (found.coverage, found.rate) == (0.7, 0.2)
    for level, calibration in calibrations.items():
        pooled, compound = out_of_fold_logits(examples, level, logits)
        assert found.sets[level] == set_limits(
            examples.group_label[compound], calibration.probability(pooled.astype(float)),
            compound, examples.question, 0.7)
    inside = groups[~examples.held_out]
    assert found.groups.tolist() == inside["Metadata_Group"].tolist()
    assert found.compounds.tolist() == inside["Metadata_Compound"].tolist()
    assert found.labels.tolist() == inside["Label"].tolist()
    assert found.mechanisms.tolist() == inside["Metadata_MoA"].fillna("").tolist()
    profiles, _, _ = consensus_of_training(examples)
    np.testing.assert_array_equal(found.known.profiles, known_compounds(profiles).profiles)
    controls = examples.controls
    expected = control_plates(examples.meta[controls], examples.features[controls], 0.2)
    np.testing.assert_array_equal(found.controls.centres, expected.centres)
    np.testing.assert_array_equal(found.controls.limits, expected.limits)
    bare = fit_trust(examples.take(~controls), HEAD, train, {
        key: own[~controls] for key, own in logits.items()}, calibrations)
    assert bare.controls is None and bare.known is None and bare.sphering is None
    assert not len(bare.groups)
