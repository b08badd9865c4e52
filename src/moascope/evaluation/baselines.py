"""Baselines that see no biology, on the same folds as the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.nulls import shuffled_refits
from moascope.evaluation.scores import brief_scores
from moascope.features.disk import columns_of
from moascope.learning.cross_fit import leave_folds_out
from moascope.learning.examples import COUNT, INTENSITY, Examples, averaging, row_weights
from moascope.metrics import bootstrap_weights, macro_average_precision, paired_difference
from moascope.params import Evaluate, Head, Train
from moascope.screen.wells import well_position

MOST_DENSE = 2**27
"""Bytes of a one-hot table above which its zeros are not kept."""


def evaluate_baselines(
    compounds: pd.DataFrame, examples: Examples, head: Head, train: Train, settings: Evaluate,
    seed: int,
) -> dict[str, Any]:
    """Average precision of what sees no biology, and how far the model is above the best of it.

    Parameters
    ----------
    compounds : DataFrame
        The model's out-of-fold predictions, one row per unit.
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model; for the refits with shuffled labels.
    settings : Evaluate
    seed : int
    """
    question = examples.question
    wells = examples.counts_and_intensities().wells()
    label = question.index(compounds["Label"])
    keep = question.counts(label)
    units, label = compounds[keep].reset_index(drop=True), label[keep]
    cluster = np.arange(len(units))
    present = question.present(label)
    drawn = bootstrap_weights(cluster, settings.bootstraps, seed)
    scores = {}
    logits = {}
    for name, inputs in baseline_inputs(wells).items():
        logits[name] = unit_logits(wells, baseline_logits(wells, inputs), units)
        scores[name] = brief_scores(label, logits[name], present, drawn)
    prevalence = question.prevalence(label)
    chance = question.null_mean(label)
    scores["prevalence"] = {"average_precision": prevalence, "low": prevalence, "high": prevalence,
                            "null_mean": chance}
    if settings.refits:
        values = shuffled_refits(examples, head, train, settings.refits, seed)
        scores["shuffled_labels"] = {
            "average_precision": float(np.mean(values)),
            "low": float(np.min(values)), "high": float(np.max(values)),
            "refits": len(values), "prevalence": prevalence, "null_mean": chance,
        }
    best = max(logits, key=lambda name: scores[name]["average_precision"])
    own = units[question.probabilities].to_numpy(float)
    observed, low, high = paired_difference(
        lambda w: macro_average_precision(label, own, present, w),
        lambda w: macro_average_precision(label, logits[best], present, w),
        cluster, settings.bootstraps, seed,
    )
    return {
        "scores": scores,
        "best": best,
        "model_minus_best": {"difference": observed, "low": low, "high": high},
        "useful": low > 0,
    }


def baseline_inputs(examples: Examples) -> dict[str, Any]:
    """What each baseline is shown of the wells.

    Parameters
    ----------
    examples : Examples
        One row per well, as `Examples.wells` gives them; features as measured.

    Returns
    -------
    dict
        Name -> ndarray, float, [n, d]. `position_only`: row and column of the well.
        `plate_only`: which plate, a sparse array where there are many. `cell_count`: the count of
        nuclei. `count_and_intensity`: that and the intensities of all channels.
    """
    rows, columns = zip(*(well_position(well) for well in examples.meta["Metadata_Well"]),
                        strict=True)
    normal = examples.normalised("plate")
    counts = [i for i, name in enumerate(examples.names) if name.startswith(COUNT)]
    both = [i for i, name in enumerate(examples.names) if name.startswith((COUNT, INTENSITY))]
    found = {
        "position_only": np.hstack([_one_hot(rows), _one_hot(columns)]),
        "plate_only": _one_hot_plates(examples.meta["Metadata_Plate"]),
        "cell_count": np.asarray(columns_of(normal.features, np.array(counts, int))),
        "count_and_intensity": np.asarray(columns_of(normal.features, np.array(both, int))),
    }
    return {name: values for name, values in found.items() if values.shape[1]}


def baseline_logits(examples: Examples, inputs: Any) -> np.ndarray:
    """Out-of-fold log-probabilities of a logistic regression, averaged over the repeats.

    Parameters
    ----------
    examples : Examples
        One row per well.
    inputs : ndarray or sparse array, float, [n, d]

    Returns
    -------
    logits : ndarray, float, [n, C]
        Zero for rows in no fold.
    """
    logits = np.zeros((inputs.shape[0], len(examples.question.classes)))
    for repeat in range(examples.repeats):
        parts = leave_folds_out(examples, repeat)
        for fold, learns in enumerate(parts.learns):
            left_out = parts.left_out_by == fold
            logits[left_out] += _fitted(examples, inputs, learns, left_out) / examples.repeats
    return logits


def held_out_baseline_logits(examples: Examples, inputs: Any) -> np.ndarray:
    """Log-probabilities of a logistic regression that learnt from all folds, for held-out units.

    Parameters
    ----------
    examples : Examples
        One row per well.
    inputs : ndarray or sparse array, float, [n, d]

    Returns
    -------
    logits : ndarray, float, [n, C]
        Zero for rows that are not held out.
    """
    labelled = examples.group >= 0
    held_out = labelled & examples.held_out[examples.group]
    logits = np.zeros((inputs.shape[0], len(examples.question.classes)))
    logits[held_out] = _fitted(examples, inputs, labelled & ~held_out, held_out)
    return logits


def _fitted(examples: Examples, inputs: Any, training: np.ndarray,
            predicted: np.ndarray) -> np.ndarray:
    """Log-probabilities, [predicted rows, C], of a logistic regression of the training rows.

    On the scale on which a model's classes are compared: a raw decision value says nothing about
    the other classes of its row.
    """
    from scipy.special import log_softmax
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    label = examples.label
    weights = row_weights(examples, training, label)
    # Without zeros nothing can be centred; the intercept, which is not penalised, stands for it.
    model = make_pipeline(StandardScaler(with_mean=isinstance(inputs, np.ndarray)),
                          LogisticRegression(max_iter=300, C=0.1))
    model.fit(inputs[training], label[training],
              logisticregression__sample_weight=weights[training])
    decision = model.decision_function(inputs[predicted])
    if decision.ndim == 1:
        decision = np.stack([-decision / 2, decision / 2], axis=1)
    # A class that the training rows lack is the least likely one.
    full = np.full((int(predicted.sum()), len(examples.question.classes)), decision.min() - 10)
    full[:, model.classes_] = decision
    return log_softmax(full, axis=1)


def unit_logits(examples: Examples, logits: np.ndarray, units: pd.DataFrame) -> np.ndarray:
    """Logits of the screen's units, in the order of `units`.

    Parameters
    ----------
    examples : Examples
        The rows of `logits`.
    logits : ndarray, float, [n, C]
    units : DataFrame
        With `Metadata_Group`.

    Returns
    -------
    ndarray, float, [units, C]
    """
    matrix, own = averaging(examples, "compound")
    names = examples.groups["Metadata_Group"].to_numpy()[own["Group"]]
    order = pd.Series(np.arange(len(names)), index=names)[units["Metadata_Group"]].to_numpy()
    return (matrix @ logits)[order]


def _one_hot(values) -> np.ndarray:
    return pd.get_dummies(pd.Series(list(values), dtype="category")).to_numpy(float)


def _one_hot_plates(plates: pd.Series) -> Any:
    """A column for each plate; of many wells on many plates, a sparse array."""
    from scipy import sparse

    code, names = pd.factorize(plates, sort=True)
    if 8 * len(code) * len(names) <= MOST_DENSE:
        return _one_hot(plates)
    return sparse.csr_array((np.ones(len(code)), (np.arange(len(code)), code)),
                            shape=(len(code), len(names)))
