"""Learning from features on disk says the same as in memory, and holds only pieces of them."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import TRAIN, as_screen, laid_on_disk, make_examples, with_plate_controls

from moascope.features import disk
from moascope.learning import training
from moascope.learning.final import final_model, fit_final, predictions_table
from moascope.learning.nested import fold_pairs, nested
from moascope.learning.predictor import predict_features
from moascope.learning.storage import open_study
from moascope.learning.study import study_name, top_up
from moascope.learning.trials import CURVE
from moascope.learning.trust import fit_trust
from moascope.params import Embed, Head, Params, Train, Tune

# Sums over pieces are sums in another order.
ROUNDING = 2e-4


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same examples in memory and on disk, there in pieces of a few rows."""
    rng = np.random.default_rng(0)
    memory = with_plate_controls(make_examples(compounds=24, panels=2, effect=1.0), rng)
    # Neighbours on disk need not be neighbours in the screen.
    memory = memory.take(rng.permutation(len(memory.meta)))
    memory.features[memory.panel == "panel1", 19] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "PIECE", 4 * 20 * 13)
        patch.setattr(disk, "MOST_IN_MEMORY", 0)
        yield memory, laid_on_disk(memory, tmp_path_factory.mktemp("disk"))


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=ROUNDING,
                               atol=ROUNDING)


@pytest.mark.parametrize("how", ["none", "plate", "moderated+sphere"])
@pytest.mark.parametrize("selection", ["none", "distinct"])
def test_rows_of_every_level_are_the_same(both, how, selection):
    memory, large = (one.selected(selection).normalised(how) for one in both)
    assert isinstance(large.features, disk.OnDisk)
    close(large.features, memory.features)
    close(large.wells().features, memory.wells().features)
    pd.testing.assert_frame_equal(large.wells().meta, memory.wells().meta)
    close(large.units().features, memory.units().features)


@pytest.mark.parametrize(("level", "kind", "panels"), [
    ("site", "network", "separate"), ("well", "network", "pooled"),
    ("compound", "neighbours", "pooled")])
def test_predictions_of_unseen_and_held_out_compounds_are_the_same(both, level, kind, panels):
    head = Head(head=kind, level=level, layers=1, width=8, epochs=4, dropout=0.2,
                normalisation="plate+sphere")
    params = Params(train=Train(panels=panels, batch_size=32))
    found = []
    for examples in both:
        logits, calibrations = nested(examples, {(0, 0): head}, params.train, 0)
        final, _, calibration = fit_final(examples, head, logits, params)
        tables = [predictions_table(examples, level, logits, calibrations[level], final,
                                    calibration[level], head, params)
                  for level in ("site", "compound")]
        trust = fit_trust(examples, head, params.train, logits, calibration)
        model = final_model(examples, final, calibration, head, params, ("DNA",), Embed(), {},
                            trust)
        # A p-value is a rank, which rounding may turn where two are equal.
        tables.append(predict_features(model, *as_screen(examples), "well")[0].drop(
            columns=["Novelty_P", "Call"]))
        found.append((tables, trust, model))
    (tables, trust, model), (own, own_trust, own_model) = found
    assert set(tables[0]["Split"]) == {"out_of_fold", "held_out"}
    for table, other in zip(tables, own, strict=True):
        pd.testing.assert_frame_equal(other, table, rtol=ROUNDING, atol=ROUNDING)
    close(own_trust.known.profiles, trust.known.profiles)
    close(own_trust.controls.spreads, trust.controls.spreads)
    close(own_model.sphering.gains, model.sphering.gains)


def test_a_study_has_the_same_name_and_the_same_scores(both, tmp_path):
    tune = Tune(trials=3, pruner="none", space={
        "layers": [0, 1], "width": [4], "epochs": [6], "level": ["compound", "site", "well"],
        "normalisation": ["plate", "plate+sphere"]})
    scores = []
    for number, examples in enumerate(both):
        name = study_name(examples, tune.space, TRAIN, "t", code="")
        study = open_study(str(tmp_path / f"{number}.journal"), name, tune)
        top_up(study, examples, tune, TRAIN, 0, lambda study, trial: None)
        scores.append((name, [trial.user_attrs[CURVE] for trial in study.trials]))
    (name, curves), (own, others) = scores
    assert own == name
    assert len({trial.params["level"] for trial in study.trials}) > 1
    close(others, curves)


def test_a_head_fed_with_rows_is_the_head_that_holds_them(both, monkeypatch):
    """To the last bit: the rows of a step are the same numbers."""
    rows = both[0].normalised("plate")
    label = np.maximum(rows.label, 0)
    weights = np.stack([(rows.group >= 0) & (rows.group % 3 != left) for left in range(3)])
    head = Head(layers=2, width=8, dropout=0.3, epochs=9)

    def trained():
        *_, last = training.train_heads(rows.features, label, weights, 2, head, 16, seed=4,
                                        watch_every=4)
        return last

    held = trained()
    monkeypatch.setattr(training, "MOST_HELD", 0)
    fed = trained()
    for own, other in zip(fed.kernels + fed.biases, held.kernels + held.biases, strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(fed.loss, held.loss)


def test_no_step_holds_more_than_pieces_of_the_table(tmp_path, monkeypatch):
    """32 MB of features, of which pieces of 1 MB are read, and units of 3 MB are made."""
    piece, width = 2**20, 2_000
    monkeypatch.setattr(disk, "PIECE", piece)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)
    small = with_plate_controls(make_examples(compounds=360, wells=2, sites=5),
                                np.random.default_rng(0), wells=40)
    rng = np.random.default_rng(1)
    blocks = (rng.normal(size=(10, width)) for _ in range(len(small.meta) // 10))
    examples = replace(small, _cache={}, names=tuple(f"f{i}" for i in range(width)),
                       features=disk.written((len(small.meta), width), blocks, tmp_path))
    assert 4 * len(small.meta) * width > 29e6
    head = Head(level="site", layers=1, width=4, epochs=1, normalisation="moderated")
    heads = {(0, 0): head}
    assert len(fold_pairs(examples)) == 6
    tracemalloc.start()
    try:
        logits, _ = nested(examples, heads, Train(), 0)
        fit_trust(examples, head, Train(), logits, {level: _calibration() for level in (
            "site", "well", "compound")})
        rows = examples.seen_by(head.model_copy(update={"level": "compound"})).units()
        assert len(rows.features) == 360
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24e6


def _calibration():
    from moascope.learning.calibration import Calibration

    return Calibration(1.0, 0.0, 0.5)
