"""Simple models in the network's place: scikit-learn's predictions from arrays."""

import numpy as np
import pytest
from learnable import make_examples

from moascope.features import disk
from moascope.learning import simple
from moascope.learning.examples import Examples
from moascope.learning.final import fit_final, out_of_fold_table
from moascope.learning.nested import nested
from moascope.learning.panels import predict_by_panel
from moascope.learning.simple import KEPT_AS, fit_simple, simple_logits, simple_probability
from moascope.metrics import average_precision
from moascope.params import Head, Params, Train

KINDS = ("logistic", "neighbours", "trees")


def table(rows=60, features=90, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, rows)
    given = rng.normal(size=(rows, features)).astype(np.float32)
    given[:, 0] += 2 * label
    weight = rng.uniform(0.5, 1.5, rows).astype(np.float32)
    weight[:7] = 0
    return given, label, weight, rng.normal(size=(40, features)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3])
def test_trees_from_arrays_predict_exactly_what_scikit_learns_forest_does(classes):
    from sklearn.ensemble import ExtraTreesClassifier

    given, label, weight, asked = table(classes=classes)
    model = fit_simple(given, label, weight[None], classes, Head(head="trees"), seed=5)
    forest = ExtraTreesClassifier(200, random_state=5)
    forest.fit(given[7:], label[7:], sample_weight=weight[7:])
    np.testing.assert_allclose(simple_probability(model, asked), forest.predict_proba(asked),
                               rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_neighbours_are_scikit_learns_by_cosine(classes):
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    given, label, weight, asked = table(classes=classes)
    model = fit_simple(given, label, weight[None], classes, Head(head="neighbours"))
    scaler = StandardScaler().fit(given[7:])
    known = KNeighborsClassifier(5, metric="cosine", algorithm="brute",
                                 weights=lambda far: np.maximum(1 - far, 0) + 1e-9)
    known.fit(scaler.transform(given[7:]), label[7:])
    np.testing.assert_allclose(simple_probability(model, asked),
                               known.predict_proba(scaler.transform(asked)), atol=1e-4)


@pytest.mark.parametrize(("rows", "features"), [(40, 90), (200, 12)])
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_scikit_learns_with_more_rows_or_more_features(
        classes, rows, features):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    given, label, weight, asked = table(rows, features, classes)
    model = fit_simple(given, label, weight[None], classes, Head(head="logistic"))
    scaler = StandardScaler().fit(given[7:].astype(float))
    known = LogisticRegression(C=0.1, max_iter=10_000, tol=1e-8)
    known.fit(scaler.transform(given[7:]), label[7:], sample_weight=weight[7:])
    np.testing.assert_allclose(simple_probability(model, asked),
                               known.predict_proba(scaler.transform(asked)), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_model_sees_its_own_rows_and_labels_alone(kind):
    given, label, weight, asked = table()
    first, second = weight.copy(), weight.copy()
    first[20:], second[:20] = 0, 0
    other = (label + 1) % 3
    both = fit_simple(given, np.stack([label, other]), np.stack([first, second]), 3,
                      Head(head=kind))
    for index, (own, labels) in enumerate(((first, label), (second, other))):
        alone = fit_simple(given, labels, own[None], 3, Head(head=kind))
        np.testing.assert_allclose(logits_of(both, asked)[index], logits_of(alone, asked)[0],
                                   atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_training_lacks_is_the_least_likely_and_every_logit_is_finite(kind):
    given, label, weight, asked = table()
    model = fit_simple(given, np.where(label == 2, 0, label), weight[None], 3, Head(head=kind))
    logits = logits_of(model, asked)[0]
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits[:, 2], logits.min(axis=1))


@pytest.mark.parametrize("kind", ["neighbours", "trees"])
def test_what_is_not_wanted_is_left_at_zero_and_the_rest_is_as_before(kind):
    given, label, weight, asked = table()
    model = fit_simple(given, label, np.stack([weight, weight[::-1]]), 3, Head(head=kind))
    wanted = np.arange(len(asked)) % 2 == np.arange(2)[:, None]
    every, some = simple_logits(model, asked), simple_logits(model, asked, wanted)
    np.testing.assert_allclose(some[wanted], every[wanted], atol=1e-6)
    assert not some[~wanted].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_simple_model_takes_the_networks_place_in_nested_training(kind):
    examples = make_examples(compounds=45, panels=2, effect=8)
    params = Params(train=Train(head=kind))
    head = Head(head=kind, normalisation="plate")
    heads = {(repeat, fold): head for repeat in range(2) for fold in range(3)}
    logits, calibrations = nested(examples, heads, params.train, 0)
    found = out_of_fold_table(examples, "compound", logits, calibrations["compound"])
    assert average_precision((found["Label"] == "t").to_numpy(), found["P_t"].to_numpy()) > 0.9
    final, curves, _ = fit_final(examples, head, logits, params)
    assert curves == []
    said = predict_by_panel(final, examples.normalised("plate"), params.train)[0]
    held_out = (examples.group >= 0) & examples.held_out[examples.group]
    hit = examples.label[held_out] == 1
    gap = said[held_out, 1] - said[held_out, 0]
    assert gap[hit].mean() > gap[~hit].mean()


def test_arrays_alone_make_a_model_again():
    given, label, weight, asked = table()
    for kind, kept in KEPT_AS.items():
        model = fit_simple(given, label, weight[None], 3, Head(head=kind))
        again = kept(**{name: np.array(value) for name, value in vars(model).items()})
        assert all(value.dtype != object for value in vars(again).values())
        np.testing.assert_array_equal(simple_logits(again, asked), simple_logits(model, asked))


def test_a_compounds_row_is_the_mean_of_its_wells_in_a_panel_with_doses_first():
    examples = make_examples(compounds=12, panels=2, wells=3)
    # One dose has two wells, the other one: doses count alike, not wells.
    dose = examples.meta["Metadata_Concentration_uM"].replace(2.0, 1.0)
    examples = Examples(**vars(examples) | {
        "meta": examples.meta.assign(Metadata_Concentration_uM=dose), "_cache": {}})
    rows = examples.units()
    assert len(rows.meta) == 24
    for row, (group, panel) in enumerate(zip(rows.group, rows.panel, strict=True)):
        own = (examples.group == group) & (examples.panel == panel)
        expected = np.mean([examples.features[own & (dose == one).to_numpy()].mean(axis=0)
                            for one in (0.0, 1.0)], axis=0)
        np.testing.assert_allclose(rows.features[row], expected, atol=1e-5)


def test_rows_of_compounds_leave_out_what_belongs_to_none():
    examples = make_examples(compounds=12)
    group = np.where(examples.group == 3, -1, examples.group)
    rows = Examples(**vars(examples) | {"group": group, "_cache": {}}).units()
    assert sorted(rows.group) == [one for one in range(12) if one != 3]


def logits_of(model, asked):
    if hasattr(model, "kernels"):
        from moascope.learning.head import predict_logits

        return predict_logits(model, asked)
    return simple_logits(model, asked)


def test_neighbours_of_many_rows_are_found_a_few_rows_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    rows, label = rng.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
    model = fit_simple(rows, label, np.ones((1, 40), np.float32), 3, Head(head="neighbours"))
    asked = rng.normal(size=(23, 6)).astype(np.float32)
    whole = model.probability(asked)
    seen = []
    monkeypatch.setattr(disk, "PIECE", 8 * 40 * 5)
    monkeypatch.setattr(simple, "_directions", lambda features, *given, real=simple._directions: (
        seen.append(len(features)), real(features, *given))[1])
    np.testing.assert_allclose(model.probability(asked), whole, rtol=1e-12)
    assert seen == [40, 5, 5, 5, 5, 3]
