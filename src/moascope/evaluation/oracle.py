"""The oracle of a simulated screen: the score that the true state of its cells would give.

It says how much of a low score is the screen's and how much the software's. It is computed from
the truth that the simulator keeps, after everything has been chosen and trained, and nothing else
may read that file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.scores import unit_scores
from moascope.learning.examples import WELL_KEY, Examples
from moascope.metrics import macro_average_precision, permuted_labels
from moascope.params import Evaluate
from moascope.sources.simulated.compounds import KNOB_TABLE

# Fixed before any screen was scored: with few compounds a strong penalty serves every screen.
C = 0.01
# An oracle that is no better than chance measures nothing that a model could be compared with.
MAX_P = 0.05


def evaluate_oracle(examples: Examples, screen: Path, model: dict[str, Any], settings: Evaluate,
                    seed: int) -> dict[str, Any]:
    """Average precision of a simple model of the true knobs, and how near the model comes to it.

    Parameters
    ----------
    examples : Examples
        Sites, with the folds of the model.
    screen : Path
        Folder of a simulated screen.
    model : dict
        The model's scores of compounds, out of fold: `average_precision` and `prevalence`.
    settings : Evaluate
        `bootstraps` and `permutations` are read.
    seed : int

    Returns
    -------
    dict
        `scores.brief_scores`, the permutation `p`, and `efficiency`: the model's way from the
        prevalence to the oracle, 1 where it reaches it; None where the oracle itself is at chance.
        Empty where wells are the units, or the screen is older than its oracle.

    Notes
    -----
    Knobs in robust deviations of the plate's DMSO, mean of a compound's wells in each panel, the
    panels side by side; logistic regression with balanced classes. A better learner may exceed it:
    it is a yardstick, not an upper bound.
    """
    from scipy.special import log_softmax

    path = screen / KNOB_TABLE
    question = examples.question
    if question.unit != "compound" or not path.is_file():
        return {}
    # No feature of the screen goes into it.
    wells = with_knobs(examples.with_features([]).wells(), pd.read_parquet(path))
    wells = wells.normalised("plate")
    scored = np.unique(wells.group[wells.in_folds])
    label = wells.group_label[scored]
    logits = out_of_fold_logits(wells)[scored]
    found: dict[str, Any] = unit_scores(label, logits, question, settings, seed)
    keep = question.counts(label)
    label, scores = label[keep], log_softmax(logits[keep], axis=1)
    present = question.present(label)
    drawn = permuted_labels(label, np.arange(len(label)), settings.permutations, seed)
    null = macro_average_precision(drawn, scores, present)
    observed = found["average_precision"]
    found["p"] = float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null)))
    gap = observed - model["prevalence"]
    found["efficiency"] = (float((model["average_precision"] - model["prevalence"]) / gap)
                           if found["p"] < MAX_P and gap > 0 else None)
    return found


def with_knobs(wells: Examples, knobs: pd.DataFrame) -> Examples:
    """The same wells with their true knobs as features.

    Parameters
    ----------
    wells : Examples
        One row per well.
    knobs : DataFrame
        As the simulator writes it: `WELL_KEY` and one column per knob.
    """
    names = tuple(name for name in knobs if name not in WELL_KEY)
    joined = wells.meta[WELL_KEY].merge(knobs, on=WELL_KEY, how="left", validate="one_to_one")
    return replace(wells, features=joined[list(names)].to_numpy(np.float32), names=names,
                   _cache={})


def panels_side_by_side(wells: Examples) -> np.ndarray:
    """One row per unit: the mean of its wells in each panel, one panel after the other.

    Returns
    -------
    ndarray, float64, [G, panels x d]
        0, where the negative controls lie, for a panel in which a unit has no well.
    """
    panels = wells.panels or tuple(sorted(set(wells.panel)))
    rows = np.zeros((len(wells.groups), len(panels), wells.features.shape[1]))
    for number, panel in enumerate(panels):
        own = (wells.group >= 0) & (wells.panel == panel)
        np.add.at(rows[:, number], wells.group[own], wells.features[own])
        count = np.bincount(wells.group[own], minlength=len(rows))
        rows[:, number] /= np.maximum(count, 1)[:, None]
    return rows.reshape(len(rows), -1)


def out_of_fold_logits(wells: Examples) -> np.ndarray:
    """Logits of units by the models that left their fold out, mean over the repeats.

    Returns
    -------
    ndarray, float64, [G, classes]
        0 for units in no fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, label = panels_side_by_side(wells), wells.group_label
    usable = np.isin(np.arange(len(label)), wells.group[wells.in_folds])
    logits = np.zeros((len(label), len(wells.question.classes)))
    for repeat in range(wells.repeats):
        fold_of = wells.folds(repeat)
        for fold in range(wells.fold_count):
            learns, left_out = usable & (fold_of != fold), usable & (fold_of == fold)
            model = make_pipeline(StandardScaler(), LogisticRegression(
                C=C, class_weight="balanced", max_iter=2000))
            decision = model.fit(rows[learns], label[learns]).decision_function(rows[left_out])
            if decision.ndim == 1:
                decision = np.stack([-decision / 2, decision / 2], axis=1)
            # A class that these units lack is the least likely one.
            full = np.full((len(decision), logits.shape[1]), decision.min() - 10)
            full[:, model.classes_] = decision
            logits[left_out] += full / wells.repeats
    return logits
