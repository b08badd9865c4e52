"""Who is dealt where: nulls, the leak, batches, controls in parts; and consistency, asked names."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from learnable import HEAD, TRAIN, make_examples, with_plate_controls
from statsmodels.stats.multitest import multipletests

from moascope.errors import MoascopeError
from moascope.evaluation import batches, consistency, leak, nulls
from moascope.evaluation.asked import asked_compound, asked_dose
from moascope.evaluation.consistency import measure_consistency
from moascope.evaluation.cross_normalised import (
    cross_normalised,
    deal_controls,
    normalised_wells,
    some_sites,
)
from moascope.evaluation.oracle import evaluate_oracle, out_of_fold_logits, with_knobs
from moascope.evaluation.retrieval import SAME
from moascope.evaluation.scores import brief_scores, unit_scores
from moascope.features.normalise import apply_sphering, fit_sphering, standardise_plates
from moascope.features.table import FeatureTable
from moascope.learning.nested import ranking_score
from moascope.metrics import bootstrap_weights
from moascope.params import Activity, Evaluate
from moascope.screen.question import Question
from moascope.sources.simulated.compounds import KNOB_TABLE

SETTINGS = Evaluate(bootstraps=20, permutations=50)


# Shuffled labels


def test_shuffled_labels_are_dealt_within_folds_and_scored_as_they_were_dealt(monkeypatch):
    examples = make_examples(compounds=30)
    asked, logits = [], np.random.default_rng(1).normal(size=(3, 30, 2))

    def cross_fit(*given, labels):
        asked.append((given, labels))
        return SimpleNamespace(units=lambda number: (labels[number], logits[number]))

    monkeypatch.setattr(nulls, "cross_fit", cross_fit)
    found = nulls.shuffled_refits(examples, HEAD, TRAIN, 3, 9)
    (given, labels), = asked
    assert given == (examples, HEAD, TRAIN, 9) and labels.shape == (3, 30)
    own, fold = examples.group_label, examples.folds(0)
    rng = np.random.default_rng(9)
    for label in labels:
        assert (label[fold == -1] == own[fold == -1]).all()
        for number in range(3):
            np.testing.assert_array_equal(label[fold == number],
                                          rng.permutation(own[fold == number]))
    assert found == [ranking_score(label, own, examples.question)
                     for label, own in zip(labels, logits, strict=True)]


# The leak


def test_images_are_split_at_random_and_held_out_ones_are_in_no_part():
    examples = make_examples(compounds=20)
    parts = leak._random_images(examples, 4)
    inside = examples.in_folds
    assert (parts.left_out_by[~inside] == -1).all()
    sizes = np.bincount(parts.left_out_by[inside])
    assert len(sizes) == 3 and np.ptp(sizes) <= 1
    for part, learns in enumerate(parts.learns):
        np.testing.assert_array_equal(learns, inside & (parts.left_out_by != part))
    # Images of one compound are apart, and another seed deals anew.
    assert len(set(parts.left_out_by[examples.group == examples.group[inside][0]])) > 1
    assert (leak._random_images(examples, 5).left_out_by != parts.left_out_by).any()
    assert (leak._random_images(examples, 4).left_out_by == parts.left_out_by).all()


def test_the_leak_has_true_and_shuffled_labels_and_the_same_head_on_the_honest_split(monkeypatch):
    examples = make_examples(compounds=24)
    # A unit without a site keeps its label.
    absent = int(np.flatnonzero(~examples.held_out)[0])
    examples = examples.take(examples.group != absent)
    asked = []
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(examples.in_folds)

    def cross_fit(given, head, train, seed, parts=None, labels=None):
        labels = given.group_label[None] if labels is None else labels
        asked.append((given, head, train, seed, parts, labels))
        logits = rng.normal(size=(len(labels), len(rows), 2))
        units = np.unique(given.group[rows])
        return SimpleNamespace(
            sites=given, rows=rows, labels=labels, logits=logits,
            units=lambda number=0: (labels[number][units], logits[number][: len(units)]))

    monkeypatch.setattr(leak, "cross_fit", cross_fit)
    scored = []
    real = leak._scores
    monkeypatch.setattr(leak, "_scores", lambda fitted, number, *given: scored.append(
        (fitted, number, given)) or real(fitted, number, *given))
    found = leak.evaluate_leak(examples, HEAD, TRAIN, SETTINGS, 7)
    first, second = asked
    memorising = HEAD.model_copy(update=leak.MEMORISING)
    for given, head, train, seed, *_ in asked:
        assert given is examples and head == memorising and train is TRAIN and seed == 7
    assert second[4] is None
    np.testing.assert_array_equal(first[4](examples).left_out_by,
                                  leak._random_images(examples, 7).left_out_by)
    own, dealt = first[5]
    np.testing.assert_array_equal(own, examples.group_label)
    pool = np.flatnonzero(~examples.held_out & (np.arange(24) != absent))
    np.testing.assert_array_equal(dealt[pool],
                                  np.random.default_rng(7).permutation(own[pool]))
    rest = np.setdiff1d(np.arange(24), pool)
    np.testing.assert_array_equal(dealt[rest], own[rest])
    assert list(found) == ["valid", "caveat", "same_head_grouped", "true_labels",
                           "shuffled_labels"]
    assert found["caveat"] == leak.LEAK_CAVEAT and found["valid"] is False
    assert [(number, given) for _, number, given in scored] == [
        (number, (examples, SETTINGS, 7)) for number in (0, 0, 1)]
    for name, (fitted, number, _) in zip(list(found)[2:], scored, strict=True):
        truth = fitted.labels[number][examples.group[rows]]
        logits = fitted.logits[number]
        shown = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        group = examples.group[rows]
        expected = brief_scores(truth, shown, [1], bootstrap_weights(group, 20, 7), group)
        assert found[name]["site"] == pytest.approx(expected)
        assert found[name]["compound"] == unit_scores(*fitted.units(number), examples.question,
                                                      SETTINGS, 7)


def test_images_of_classes_that_cannot_be_scored_do_not_count():
    question = Question("m", ("a", "b", "c"), False, untestable=("c",))
    examples = make_examples(compounds=9, wells=1, sites=2)
    examples = replace(examples, question=question, _cache={},
                       groups=examples.groups.assign(Label=list("abc") * 3))
    rng = np.random.default_rng(0)
    rows = np.arange(len(examples.meta))
    logits = rng.normal(size=(1, len(rows), 3))
    fitted = SimpleNamespace(sites=examples, rows=rows, labels=examples.group_label[None],
                             logits=logits,
                             units=lambda number: (examples.group_label, logits[0, ::2]))
    found = leak._scores(fitted, 0, examples, SETTINGS, 0)
    keep = examples.label != 2
    shown = logits[0] - np.log(np.exp(logits[0]).sum(axis=1, keepdims=True))
    group = examples.group[keep]
    assert found["site"] == pytest.approx(brief_scores(
        examples.label[keep], shown[keep], [0, 1], bootstrap_weights(group, 20, 0), group))


# Batches


def in_batches(panels=2):
    """Compounds whose wells go through two batches; the last panel is in one alone."""
    examples = make_examples(compounds=12, wells=2, sites=1, panels=panels)
    batch = np.where(np.arange(len(examples.meta)) % 2, "B2", "B1")
    last = (examples.panel == f"panel{panels - 1}") & (panels > 1)
    return replace(examples, _cache={}, meta=examples.meta.assign(
        Metadata_Batch=np.where(last, "B1", batch)))


def test_a_row_is_predicted_by_the_model_that_saw_neither_its_fold_nor_its_batch():
    examples = in_batches(1)
    parts = batches.leave_folds_and_batches_out(examples)
    batch, fold = examples.meta["Metadata_Batch"].to_numpy(), examples.fold_of_rows(0)
    assert parts.learns.shape == (6, 24)
    for row in range(24):
        model = parts.left_out_by[row]
        if fold[row] < 0:
            assert model == -1
            continue
        expected = (fold >= 0) & (fold != fold[row]) & (batch != batch[row])
        np.testing.assert_array_equal(parts.learns[model], expected)


def test_panels_of_one_batch_are_left_out_and_a_compounds_row_becomes_its_wells():
    examples = in_batches()
    train = TRAIN.model_copy(update={"panels": "separate"})
    spread, head = batches._spread_over_batches(examples, HEAD, train)
    assert set(spread.panel) == {"panel0"} and head is HEAD
    compound = HEAD.model_copy(update={"level": "compound"})
    _, head = batches._spread_over_batches(examples, compound, train)
    assert head == compound.model_copy(update={"level": "well"})
    # Pooled, all panels are one.
    spread, _ = batches._spread_over_batches(examples, HEAD, TRAIN)
    assert set(spread.panel) == {"panel0", "panel1"}


def test_where_no_panel_is_in_two_batches_or_a_class_is_in_one_there_is_nothing_to_say():
    examples = in_batches(1)
    one = replace(examples, meta=examples.meta.assign(Metadata_Batch="B"), _cache={})
    assert batches._spread_over_batches(one, HEAD, TRAIN) is None
    # Controls of another batch are no second batch.
    controls = with_plate_controls(one, np.random.default_rng(0))
    control = controls.meta["Metadata_Control"] == "negative"
    other = replace(controls, _cache={}, meta=controls.meta.assign(
        Metadata_Batch=np.where(control, "B2", "B1")))
    assert batches._spread_over_batches(other, HEAD, TRAIN) is None
    hits = replace(examples, _cache={}, meta=examples.meta.assign(
        Metadata_Batch=np.where(examples.label == 1, "B1", examples.meta["Metadata_Batch"])))
    assert batches._spread_over_batches(hits, HEAD, TRAIN) is None


def test_units_of_an_unseen_batch_are_predicted_and_the_batches_counted(monkeypatch):
    examples = in_batches(1)
    asked, answer = [], (np.array([0, 1]), np.zeros((2, 2)))

    def cross_fit(*given):
        asked.append(given)
        return SimpleNamespace(units=lambda: answer)

    monkeypatch.setattr(batches, "cross_fit", cross_fit)
    found = batches.predict_unseen_batches(examples, HEAD, TRAIN, 3)
    assert found == (*answer, 2)
    (rows, head, train, seed, parts), = asked
    assert (rows, head, train, seed) == (examples, HEAD, TRAIN, 3)
    assert parts is batches.leave_folds_and_batches_out
    one = replace(examples, meta=examples.meta.assign(Metadata_Batch="B"), _cache={})
    assert batches.predict_unseen_batches(one, HEAD, TRAIN, 3) is None


def test_scores_in_an_unseen_batch_are_those_of_its_units():
    question = Question("m", ("a", "b", "c"), False, untestable=("c",))
    logits = np.random.default_rng(0).normal(size=(9, 3))
    label = np.array([0, 1, 2] * 3)
    shown = batches.UnseenBatches(label, logits, 4)
    assert batches.score_unseen_batches(shown, question, SETTINGS, 3) == unit_scores(
        label, logits, question, SETTINGS, 3) | {"batches": 4}
    # Without a compound of a scored class nothing can be.
    for nothing in (None, batches.UnseenBatches(np.full(9, 2), logits, 4)):
        assert batches.score_unseen_batches(nothing, question, SETTINGS, 3) is None


# Controls in parts


def plates(counts, sites=1):
    """Plates with so many control wells, and two treated ones."""
    rows = [(plate, well, site, control) for plate, count in counts.items()
            for well, control in [*((f"C{i:02d}", "negative") for i in range(count)),
                                  ("A01", ""), ("A02", "")] for site in range(sites)]
    return pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site",
                                       "Metadata_Control"])


@pytest.mark.parametrize(("counts", "sites", "parts", "lacking"), [
    ({"P": 8, "Q": 8}, 1, 2, []),        # four normalise, four are compared
    ({"P": 6, "Q": 8}, 1, 3, []),        # of six, four normalise
    ({"P": 5}, 1, 5, []),                # of five, four
    ({"P": 4}, 1, 2, ["P"]), ({"P": 8, "Q": 4}, 1, 2, ["Q"]),
    ({"P": 4}, 2, 2, []),                # two wells of two sites each
    ({"P": 8, "Q": 0}, 1, 2, ["Q"]), ({"P": 1}, 9, 2, ["P"])])
def test_controls_are_dealt_into_as_few_parts_as_suffice(counts, sites, parts, lacking):
    meta = plates(counts, sites)
    part, without = deal_controls(meta, np.random.default_rng(0))
    assert without == lacking
    control = (meta["Metadata_Control"] == "negative").to_numpy()
    assert (part[~control] == -1).all()
    assert part.max() + 1 <= parts
    if not lacking:
        assert set(part[control]) == set(range(parts))
    # All sites of a well, and a position on plates with the same controls, are in one part.
    dealt = meta.assign(Part=part)
    assert (dealt.groupby(["Metadata_Plate", "Metadata_Well"])["Part"].agg(np.ptp) == 0).all()
    if len(set(counts.values())) == 1:
        assert (dealt.groupby("Metadata_Well")["Part"].agg(np.ptp) == 0).all()
    drawn = {tuple(deal_controls(meta, np.random.default_rng(seed))[0]) for seed in range(4)}
    assert len(drawn) > 1 or control.sum() < 4 or sites == 9


def test_without_controls_every_plate_lacks_them():
    meta = plates({"Q": 0, "P": 0})
    part, lacking = deal_controls(meta, np.random.default_rng(0))
    assert (part == -1).all() and lacking == ["P", "Q"]


def table_of(meta, seed=0):
    X = np.random.default_rng(seed).normal(size=(len(meta), 3)).astype(np.float32)
    return FeatureTable(meta.assign(Metadata_Panel=""), X + 4, ["a", "b", "c"])


@pytest.mark.parametrize("how", ["plate", "plate+sphere", "moderated", "moderated+sphere"])
@pytest.mark.parametrize("scaled", [True, False])
def test_profiles_of_wells_are_means_of_normalised_sites(how, scaled):
    table = table_of(plates({"Q": 5, "P": 6}, sites=2))
    normalises = (table.meta["Metadata_Control"] == "negative").to_numpy()
    found = normalised_wells(table, normalises, how, scaled)
    X = standardise_plates(table, normalises, how.startswith("moderated")).X
    if how.endswith("sphere"):
        X = apply_sphering(X, fit_sphering(X[normalises]))
    expected = pd.DataFrame(X).groupby([table.meta["Metadata_Plate"],
                                        table.meta["Metadata_Well"]]).mean().to_numpy(copy=True)
    if scaled:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # Scaled by itself where nothing is said.
    if scaled:
        np.testing.assert_array_equal(normalised_wells(table, normalises, how), found)


def test_each_part_is_normalised_by_the_others():
    table = table_of(plates({"Q": 6, "P": 6}))
    dealt, _ = deal_controls(table.meta, np.random.default_rng(0))
    wells, profiles, part = cross_normalised(table, dealt, "plate")
    order = table.meta.sort_values(["Metadata_Plate", "Metadata_Well"]).index
    assert wells["Metadata_Well"].tolist() == table.meta["Metadata_Well"][order].tolist()
    assert wells["Metadata_Plate"].tolist() == ["P"] * 8 + ["Q"] * 8
    np.testing.assert_array_equal(part, dealt[order])
    assert len(profiles) == dealt.max() + 1 == 3
    for number, own in enumerate(profiles):
        np.testing.assert_array_equal(own, normalised_wells(
            table, (dealt >= 0) & (dealt != number), "plate"))


def test_some_sites_keep_their_features():
    table = table_of(plates({"P": 3}))
    own = some_sites(table, np.array([4, 1]))
    assert own.meta["Metadata_Well"].tolist() == ["A02", "C01"]
    assert own.meta.index.tolist() == [0, 1] and own.names == table.names
    np.testing.assert_array_equal(own.X, table.X[[4, 1]])


# Consistency


def test_mechanisms_are_corrected_for_their_number_and_consistent_below_the_threshold(monkeypatch):
    examples = make_examples(compounds=24)
    examples = replace(examples, groups=examples.groups.assign(
        Metadata_MoA=["" if i == 0 else f"m{i % 4}" + ("|once" if i == 5 else "")
                      for i in range(24)]), _cache={})
    p = iter([0.01, 0.04, 0.03, 0.5])
    asked = []
    monkeypatch.setattr(consistency, "_score", lambda profiles, whole, own, size, generator: (
        asked.append((profiles, whole, own, size)) or (0.5, 0.2, next(p))))
    active = pd.DataFrame({"Metadata_Compound": [f"C{i}" for i in range(24)],
                           "active": ["yes" if i % 2 else "no" for i in range(24)]})
    table = measure_consistency(examples, active, Activity(threshold=0.05, null_size=777), 0)
    assert list(table) == consistency.COLUMNS
    assert table["Metadata_MoA"].tolist() == ["m0", "m1", "m2", "m3"]     # once is one compound
    inside = [i for i in np.flatnonzero(~examples.held_out) if i]
    assert table["compounds"].tolist() == [sum(i % 4 == m for i in inside) for m in range(4)]
    assert table["active_compounds"].tolist() == [0, table["compounds"][1], 0,
                                                  table["compounds"][3]]
    expected = multipletests([0.01, 0.04, 0.03, 0.5], method="fdr_bh")[1]
    assert table["corrected_p_value"].tolist() == pytest.approx(expected)
    assert table["consistent"].tolist() == ["yes", "no", "no", "no"]
    assert table["mean_average_precision"].tolist() == [0.5] * 4
    assert table["null_mean"].tolist() == [0.2] * 4
    profiles, whole, own, size = asked[2]
    assert own.tolist() == [at for at, i in enumerate(inside) if i % 4 == 2] and size == 777
    np.testing.assert_allclose(np.linalg.norm(profiles, axis=1), 1, rtol=1e-5)
    # In units of what counts as rounding; chance orders what is equal.
    np.testing.assert_allclose(whole * SAME, profiles @ profiles.T, atol=1e-4)


def test_of_large_mechanisms_and_screens_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(consistency, "MOST_MEMBERS", 4)
    monkeypatch.setattr(consistency, "MOST_OTHERS", 6)
    asked = []
    monkeypatch.setattr(consistency, "average_precisions", lambda similarity, drawn, counted: (
        asked.append((similarity, drawn, counted)) or [np.arange(drawn.size).reshape(drawn.shape)
                                                       / drawn.size]))
    profiles = np.eye(30, dtype=np.float32)
    own = np.arange(20)
    score, null, p = consistency._score(profiles, None, own, 300, np.random.default_rng(0))
    (similarity, drawn, counted), = asked
    # Four members and six others; members that are not looked at are no others.
    assert similarity.shape == (10, 10) and drawn.shape == (301, 4)
    np.testing.assert_allclose(np.diag(similarity) * SAME, 1, atol=1e-4)
    assert drawn[0].tolist() == [0, 1, 2, 3] and (counted[0] == ~np.eye(4, dtype=bool)).all()
    scores = np.arange(301 * 4).reshape(301, 4).mean(axis=1) / (301 * 4)
    assert score == pytest.approx(scores[0]) and null == pytest.approx(scores[1:].mean())
    assert p == 1.0
    # With little room fewer permutations are made, and a hundred at least.
    monkeypatch.setattr(consistency, "MOST_WORK", 4 * 10 * 150)
    consistency._score(profiles, None, own, 300, np.random.default_rng(0))
    assert len(asked[1][1]) == 151
    monkeypatch.setattr(consistency, "MOST_WORK", 40)
    consistency._score(profiles, None, own, 300, np.random.default_rng(0))
    assert len(asked[2][1]) == 101
    # Of few compounds the similarity of all is known already.
    whole = np.arange(100.0).reshape(10, 10)
    consistency._score(profiles[:10], whole, np.array([3, 7]), 50, np.random.default_rng(0))
    rest = [0, 1, 2, 4, 5, 6, 8, 9]
    similarity = asked[3][0]
    assert len(similarity) == 8 and similarity[0, 1] == 37 and similarity[1, 0] == 73
    assert set((similarity[0, 2:] - 30).astype(int)) <= set(rest)


# The oracle


def test_a_class_that_the_knobs_training_lacks_is_ten_below_the_least_decision():
    examples = make_examples(compounds=9, wells=1, sites=1)
    question = Question("m", ("a", "b", "c"), False)
    groups = examples.groups.drop(columns="Fold_1").assign(
        Label=list("ababababc"), Holdout=False, Fold_0=[0, 0, 1, 1, 2, 2, 0, 0, 1])
    rng = np.random.default_rng(0)
    wells = replace(examples, groups=groups, question=question, _cache={},
                    features=rng.normal(size=(9, 2)).astype(np.float32), names=("x", "y"))
    logits = out_of_fold_logits(wells)
    own = groups["Fold_0"].to_numpy() == 1
    assert (logits[own, 2] == logits[own, :2].min() - 10).all()
    np.testing.assert_allclose(logits[own, 0], -logits[own, 1])


def test_knobs_are_those_of_the_well_in_the_order_of_their_table():
    wells = make_examples(compounds=4, wells=1, sites=1)
    keys = wells.meta[["Metadata_Plate", "Metadata_Well"]]
    knobs = keys.assign(Size=[1.0, 2, 3, 4], Shape=[5.0, 6, 7, 8]).iloc[::-1]
    found = with_knobs(wells, knobs)
    assert found.names == ("Size", "Shape") and found.features.dtype == np.float32
    assert found.features.tolist() == [[1, 5], [2, 6], [3, 7], [4, 8]]
    with pytest.raises(pd.errors.MergeError):
        with_knobs(wells, pd.concat([knobs, knobs]))


@pytest.mark.parametrize(("p", "observed", "expected"), [
    (0.049, 0.9, (0.6 - 0.3) / (0.9 - 0.3)), (0.05, 0.9, None), (0.01, 0.3, None)])
def test_efficiency_is_the_way_from_the_prevalence_to_an_oracle_above_chance(
        tmp_path, monkeypatch, p, observed, expected):
    examples = make_examples(compounds=12)
    wells = examples.wells().meta[["Metadata_Plate", "Metadata_Well"]].assign(Size=1.0)
    (tmp_path / KNOB_TABLE).parent.mkdir(parents=True, exist_ok=True)
    wells.to_parquet(tmp_path / KNOB_TABLE)
    null = np.where(np.arange(999) < p * 1000 - 1, observed - 1e-13, observed - 1e-11)
    monkeypatch.setattr("moascope.evaluation.oracle.unit_scores",
                        lambda *_: {"average_precision": observed})
    monkeypatch.setattr("moascope.evaluation.oracle.macro_average_precision", lambda *_: null)
    found = evaluate_oracle(examples, tmp_path, {"average_precision": 0.6, "prevalence": 0.3},
                            SETTINGS, 0)
    assert found["p"] == pytest.approx(p)
    assert found["efficiency"] == (expected if expected is None else pytest.approx(expected))


# Names and doses that are asked for


META = pd.DataFrame({"Metadata_Compound": ["Taxol", "taxol ", "DMSO", "", "AZ-1", "AZ-2", "AZ-3",
                                           "AZ-4"],
                     "Metadata_Control": ["", "", "negative", "", "", "", "", ""],
                     "Metadata_Concentration_uM": [1.0, 1.0, 0.0, 2.0, 0.5, 10.0, 3.0, np.nan]})


def test_a_name_is_the_screens_spelling_of_it():
    assert asked_compound("taxol ", META) == "taxol "
    assert asked_compound("TAXOL", META) == "Taxol"     # the first of those that are alike
    for name, said in (
            ("az-5", "The screen has no compound az-5. Do you mean AZ-4 or AZ-3 or AZ-2?"),
            ("qqqqq", "The screen has no compound qqqqq. Its compounds are in layout.csv "
                      "(Metadata_Compound), for example AZ-1, AZ-2, AZ-3 and 3 more."),
            ("dmsoo", "The screen has no compound dmsoo. Its compounds are in layout.csv "
                      "(Metadata_Compound), for example AZ-1, AZ-2, AZ-3 and 3 more."),
            (" dmso", "DMSO is the negative control that all compounds are compared with. Name a "
                      "compound.")):
        with pytest.raises(MoascopeError) as error:
            asked_compound(name, META)
        assert str(error.value) == said


def test_a_dose_is_found_with_the_digits_that_are_shown():
    meta = pd.DataFrame({"Metadata_Compound": ["A"] * 4 + ["B", "C"],
                         "Metadata_Concentration_uM": [0.3333, 3.0, 3.01, np.nan, 9.0, np.nan]})
    assert asked_dose("A", None, meta) == 3.01
    assert asked_dose("A", 0.333, meta) == 0.3333
    assert asked_dose("A", 3.004, meta) == 3.0 and asked_dose("A", 3.006, meta) == 3.01
    assert np.isnan(asked_dose("C", None, meta))
    for compound, dose, said in (
            ("A", 0.33, "A was not measured at 0.33 µM. It has 0.333, 3, 3.01."),
            ("C", 1.0, "C was not measured at 1 µM. No concentration of it is known.")):
        with pytest.raises(MoascopeError) as error:
            asked_dose(compound, dose, meta)
        assert str(error.value) == said
