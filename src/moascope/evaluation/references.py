"""References: simple models on the same features and folds, which the model must not fall behind.

They are not nulls: what they see is the biology that the model sees. Nothing of them is tuned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.scores import brief_scores
from moascope.features.disk import averaged
from moascope.learning.examples import Examples, averaging
from moascope.learning.simple import fit_simple, simple_probability
from moascope.metrics import bootstrap_weights, macro_average_precision, paired_difference
from moascope.params import Evaluate, Head

REFERENCES = ("logistic", "neighbours", "trees")
# A class without a vote gets this probability.
LEAST = 1e-9


def evaluate_references(
    compounds: pd.DataFrame, examples: Examples, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Average precision of each reference, and how far the model is above it.

    Parameters
    ----------
    compounds : DataFrame
        The model's out-of-fold predictions, one row per unit.
    examples : Examples
        Sites.
    settings : Evaluate
        `bootstraps` is read.
    seed : int

    Returns
    -------
    dict
        Reference -> `scores.brief_scores`, and `model_minus_reference`: `difference`, `low`,
        `high`, paired over units.
    """
    question = examples.question
    rows, group = unit_rows(examples)
    label = examples.group_label[group]
    folds = np.stack([examples.folds(repeat)[group] for repeat in range(examples.repeats)])
    shown = compounds.set_index(compounds["Metadata_Group"].astype(str))
    names = examples.groups["Metadata_Group"].to_numpy()[group].astype(str)
    keep = question.counts(label) & np.isin(names, shown.index)
    model = shown.loc[names[keep], question.probabilities].to_numpy(float)
    label_kept, present = label[keep], question.present(label[keep])
    cluster = np.arange(len(label_kept))
    drawn = bootstrap_weights(cluster, settings.bootstraps, seed)
    found = {}
    for kind in REFERENCES:
        score = out_of_fold_scores(kind, rows, label, folds, len(question.classes), seed)[keep]
        difference, low, high = paired_difference(
            lambda w: macro_average_precision(label_kept, model, present, w),
            lambda w, score=score: macro_average_precision(label_kept, score, present, w),
            cluster, settings.bootstraps, seed)
        found[kind] = brief_scores(label_kept, score, present, drawn) | {
            "model_minus_reference": {"difference": difference, "low": low, "high": high}}
    return found


def unit_rows(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """One row per unit in the folds: its wells' mean in each panel, the panels side by side.

    Parameters
    ----------
    examples : Examples
        Sites.

    Returns
    -------
    rows : ndarray, float32, [units, panels * d]
        In robust deviations of the plate's negative controls; 0 in a panel that lacks the unit.
    group : ndarray, int, [units]
        The row of each in `examples.groups`.
    """
    sites = examples.normalised("plate")
    names = np.unique(sites.panel)
    found = np.zeros((len(examples.groups), len(names), sites.features.shape[1]), np.float32)
    seen = np.zeros(len(examples.groups), bool)
    for number, name in enumerate(names):
        own = sites.take(sites.panel == name)
        if not (own.group >= 0).any():
            continue
        matrix, units = averaging(own, "compound")
        at = units["Group"].to_numpy()
        found[at, number] = averaged(matrix, own.features)
        seen[at] = True
    group = np.flatnonzero(seen & ~examples.held_out)
    return found[group].reshape(len(group), -1), group


def out_of_fold_scores(kind: str, rows: np.ndarray, label: np.ndarray, folds: np.ndarray,
                       classes: int, seed: int) -> np.ndarray:
    """Log-probabilities of rows by models that did not learn from their fold.

    Parameters
    ----------
    kind : {"logistic", "neighbours", "trees"}
        See `simple.fit_simple`.
    rows : ndarray, float, [n, d]
    label : ndarray, int, [n]
    folds : ndarray, int, [repeats, n]
    classes : int
    seed : int
        Of the trees.

    Returns
    -------
    ndarray, float64, [n, classes]
        Of the mean over the repeats. Rows whose training held a single class get the same of all
        classes.
    """
    found = np.zeros((len(rows), classes))
    for fold_of in folds:
        for fold in np.unique(fold_of):
            test = fold_of == fold
            known = label[~test]
            if len(np.unique(known)) < 2:
                found[test] += 1 / classes / len(folds)
                continue
            found[test] += predicted_probability(kind, rows[~test], known, rows[test], classes,
                                                 seed) / len(folds)
    return np.log(found)


def predicted_probability(kind: str, rows: np.ndarray, label: np.ndarray, asked: np.ndarray,
                          classes: int, seed: int) -> np.ndarray:
    """Probabilities of some rows by a model that learns from others; see `out_of_fold_scores`.

    Parameters
    ----------
    kind : {"logistic", "neighbours", "trees"}
    rows : ndarray, float, [n, d]
        To learn from.
    label : ndarray, int, [n]
        At least two classes.
    asked : ndarray, float, [m, d]
    classes, seed : int

    Returns
    -------
    ndarray, float64, [m, classes]
        Above zero also for a class that no row has.
    """
    # Every class counts alike.
    count = np.maximum(np.bincount(label), 1)
    balanced = (len(label) / count)[label] / len(np.unique(label))
    model = fit_simple(rows, label, balanced[None].astype(np.float32), classes, Head(head=kind),
                       seed)
    return np.maximum(simple_probability(model, asked), LEAST)


def recommended_head(references: dict[str, Any], head: Head) -> str | None:
    """The simple model to register in the place of the network, where one is demonstrably better.

    Parameters
    ----------
    references : dict
        Of `evaluate_references`.
    head : Head
        Of the model that they stand beside.

    Returns
    -------
    str or None
        The reference with the highest average precision of those that are above the model by the
        whole of their paired interval; None where there is none.
    """
    better = [kind for kind, score in references.items()
              if kind != head.head and score["model_minus_reference"]["high"] < 0]
    return max(better, key=lambda kind: references[kind]["average_precision"], default=None)
