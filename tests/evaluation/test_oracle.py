"""The oracle: the score that the true knobs of a simulated screen would give."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import make_examples
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from moascope.evaluation.oracle import (
    evaluate_oracle,
    out_of_fold_logits,
    panels_side_by_side,
    with_knobs,
)
from moascope.params import Evaluate
from moascope.sources.simulated.compounds import KNOB_TABLE, KNOBS

SETTINGS = Evaluate(bootstraps=50, permutations=99)
MODEL = {"average_precision": 0.6, "prevalence": 1 / 3}


def screen(folder, examples, effect, seed=1):
    """A screen folder that holds nothing but the knobs of the examples' wells."""
    rng = np.random.default_rng(seed)
    wells = examples.wells()
    knobs = rng.normal(size=(len(wells.meta), len(KNOBS)))
    knobs[:, 3] += effect * (wells.label == 1)
    table = wells.meta[["Metadata_Plate", "Metadata_Well"]].join(
        pd.DataFrame(knobs, columns=list(KNOBS)))
    path = folder / KNOB_TABLE
    path.parent.mkdir(parents=True)
    table.sample(frac=1, random_state=seed).to_parquet(path, index=False)
    return folder


def test_the_knobs_are_scored_whatever_the_features_show(tmp_path):
    blind = make_examples(compounds=45, effect=0.0, panels=2)
    found = evaluate_oracle(blind, screen(tmp_path, blind, 4.0), MODEL, SETTINGS, 0)
    assert found["average_precision"] > 0.95
    assert found["p"] == 0.01
    assert found["efficiency"] == pytest.approx(
        (0.6 - 1 / 3) / (found["average_precision"] - 1 / 3))


def test_an_oracle_at_chance_has_no_efficiency(tmp_path):
    clear = make_examples(compounds=45, effect=5.0)
    found = evaluate_oracle(clear, screen(tmp_path, clear, 0.0), MODEL, SETTINGS, 0)
    assert found["p"] > 0.05
    assert found["efficiency"] is None


def test_where_there_is_no_truth_or_wells_are_units_there_is_no_oracle(tmp_path):
    examples = make_examples()
    assert evaluate_oracle(examples, tmp_path, MODEL, SETTINGS, 0) == {}
    screen(tmp_path, examples, 4.0)
    of_wells = replace(examples, question=replace(examples.question, unit="well"), _cache={})
    assert evaluate_oracle(of_wells, tmp_path, MODEL, SETTINGS, 0) == {}


def test_a_unit_is_the_mean_of_its_wells_in_each_panel_and_zero_where_it_has_none():
    examples = make_examples(compounds=6, wells=2, sites=1, panels=2)
    values = np.arange(len(examples.meta), dtype=np.float32)[:, None]
    examples = replace(examples, features=values, names=("x",), panels=("panel0", "panel1"),
                       _cache={})
    # Rows run through the panels, then compounds, then their two wells.
    assert panels_side_by_side(examples)[:2].tolist() == [[0.5, 12.5], [2.5, 14.5]]
    left = examples.take(~((examples.group == 1) & (examples.panel == "panel1")))
    assert panels_side_by_side(left)[:2].tolist() == [[0.5, 12.5], [2.5, 0.0]]


def test_no_unit_is_predicted_by_a_model_that_learnt_from_it(tmp_path):
    """The oracle of the oracle: the same folds by hand, with scikit-learn alone."""
    examples = make_examples(compounds=45, panels=2)
    table = pd.read_parquet(screen(tmp_path, examples, 1.0) / KNOB_TABLE)
    wells = with_knobs(examples.wells(), table)
    rows, label = panels_side_by_side(wells), wells.group_label
    held_out = examples.held_out
    by_hand = np.zeros(len(label))
    for repeat in range(2):
        for fold in range(3):
            out = examples.folds(repeat) == fold
            model = make_pipeline(StandardScaler(), LogisticRegression(
                C=0.01, class_weight="balanced", max_iter=2000))
            model.fit(rows[~out & ~held_out], label[~out & ~held_out])
            by_hand[out] += model.decision_function(rows[out]) / 2
    logits = out_of_fold_logits(wells)
    assert logits[:, 1] - logits[:, 0] == pytest.approx(by_hand)
    scored = ~held_out
    assert evaluate_oracle(examples, tmp_path, MODEL, SETTINGS, 0)["average_precision"] == (
        pytest.approx(average_precision_score(label[scored], by_hand[scored])))
