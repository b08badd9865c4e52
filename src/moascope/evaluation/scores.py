"""Scores of predictions with their intervals and nulls, whole and by panel, dose or mechanism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.learning.examples import Examples
from moascope.metrics import (
    Drawn,
    average_precision,
    bootstrap_weights,
    macro_average_precision,
    null_mean,
    permuted_labels,
    score_interval,
)
from moascope.params import Evaluate
from moascope.screen.question import Question


def score_table(
    question: Question,
    label: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    cluster: np.ndarray,
    settings: Evaluate,
    seed: int,
) -> dict[str, Any]:
    """All scores of one set of predictions.

    Parameters
    ----------
    question : Question
    label : ndarray, int, [n]
    probability : ndarray, float, [n, C]
    predicted : ndarray, int, [n]
    cluster : ndarray, int, [n]
        The compound of each row: what bootstrap and permutation draw.
    settings : Evaluate
        `bootstraps` and `permutations` are read.
    seed : int

    Returns
    -------
    dict
        Plain numbers: `n`, `compounds`, `positives` (binary) or `per_class`, `average_precision`
        (macro over classes where there are several) with `low` and `high` (None below five
        positives), `prevalence`, `null_mean` (what a random list gives), `lift` over it,
        `normalised_average_precision` [1]_, the permutation null and `p`, `roc_auc`, `brier`,
        `log_loss`, `accuracy`, `balanced_accuracy`, `precision_at_10`, `confusion`.

    Notes
    -----
    p counts the observed labelling among the permutations: (1 + exceedances) / (1 + permutations).
    `null_mean` is exact where every row is a unit of its own, and the permutations' mean where
    several rows share a label.

    .. [1] (AP - mu0) / (1 - mu0), mu0 the mean AP under permutation.
    """
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

    present = question.present(label)
    observed = float(macro_average_precision(label, probability, present))
    drawn = bootstrap_weights(cluster, settings.bootstraps, seed)
    low, high = score_interval(
        observed, macro_average_precision(label, probability, present, drawn),
        _positives(label, present, cluster))
    dealt = permuted_labels(label, cluster, settings.permutations, seed)
    null = macro_average_precision(dealt, probability, present)
    prevalence = question.prevalence(label)
    single = len(np.unique(cluster)) == len(label)
    mu0 = question.null_mean(label) if single else float(null.mean())
    onehot = np.eye(len(question.classes))[label]
    sharp = np.clip(probability, 1e-7, 1)
    auc = [roc_auc_score(label == c, probability[:, c]) for c in present if (label != c).any()]
    scores = {
        "n": len(label),
        "compounds": len(np.unique(cluster)),
        "average_precision": observed,
        "low": low,
        "high": high,
        "prevalence": prevalence,
        "lift": observed / mu0,
        "normalised_average_precision": (observed - mu0) / (1 - mu0),
        "null_mean": mu0,
        "null_low": float(np.percentile(null, 2.5)),
        "null_high": float(np.percentile(null, 97.5)),
        "p": float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null))),
        "roc_auc": float(np.mean(auc)) if auc else None,
        "brier": float(np.square(probability - onehot).sum(axis=1).mean() / 2),
        "log_loss": float(-np.log(sharp[np.arange(len(label)), label]).mean()),
        "accuracy": float((predicted == label).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(label, predicted))
        if set(predicted) <= set(label)
        else float(np.mean([(predicted[label == c] == c).mean() for c in np.unique(label)])),
        "confusion": confusion_matrix(
            label, predicted, labels=range(len(question.classes))).tolist(),
    }
    for top in (10, 20):
        if len(label) >= top:
            scores[f"precision_at_{top}"] = float(np.mean([
                (label[np.argsort(-probability[:, c], kind="stable")[:top]] == c).mean()
                for c in present
            ]))
    if question.binary:
        scores["positives"] = int((label == 1).sum())
    else:
        scores["per_class"] = {
            question.classes[c]: _one_class(label == c, probability[:, c], drawn, cluster) | {
                "n": int((label == c).sum()),
                "recall": float((predicted[label == c] == c).mean()),
            } | ({} if single else _by_permutation(dealt, label == c, probability, c))
            for c in present
        }
    return scores


def _positives(label: np.ndarray, present: list[int], cluster: np.ndarray) -> float:
    """Positive units, a mean over the classes."""
    return float(np.mean([len(np.unique(cluster[label == c])) for c in present]))


def _one_class(positive: np.ndarray, score: np.ndarray, drawn: np.ndarray | Drawn,
               cluster: np.ndarray) -> dict[str, Any]:
    """`brief_scores` of one class against the rest."""
    observed = float(average_precision(positive, score))
    low, high = score_interval(observed, average_precision(positive, score, drawn),
                               len(np.unique(cluster[positive])))
    chance = null_mean(len(positive), int(positive.sum()))
    return {"average_precision": observed, "low": low, "high": high,
            "prevalence": float(positive.mean()), "null_mean": chance, "lift": observed / chance}


def _by_permutation(dealt: np.ndarray | Drawn, positive: np.ndarray, probability: np.ndarray,
                    c: int) -> dict[str, Any]:
    """The null's mean of one class whose rows share labels, and the lift over it."""
    chance = float(np.nanmean(macro_average_precision(dealt, probability, [c])))
    observed = float(average_precision(positive, probability[:, c]))
    return {"null_mean": chance, "lift": observed / chance}


def brief_scores(label: np.ndarray, scores: np.ndarray, classes: list[int],
                 drawn: np.ndarray | Drawn, cluster: np.ndarray | None = None) -> dict[str, Any]:
    """Average precision alone, with its interval and what guessing gives.

    Parameters
    ----------
    label : ndarray, int, [n]
    scores : ndarray, float, [n, C]
        Higher is more of the class.
    classes : list of int
        Whose average precision counts; those without a row are left out.
    drawn : ndarray, float, [B, n]
        Bootstrap weights of the rows.
    cluster : ndarray, int, [n], optional
        The compound of each row, which decides whether there are enough for an interval; by
        default each row is one.

    Returns
    -------
    dict
        `average_precision`, `low` and `high` (None below five positives), `prevalence`,
        `null_mean` (the average precision of a random list), and `lift` over it.
    """
    cluster = np.arange(len(label)) if cluster is None else cluster
    present = [c for c in classes if (label == c).any()]
    observed = float(macro_average_precision(label, scores, present))
    low, high = score_interval(observed, macro_average_precision(label, scores, present, drawn),
                               _positives(label, present, cluster))
    prevalence = float(np.mean([(label == c).mean() for c in present]))
    chance = float(np.mean([null_mean(len(label), int((label == c).sum())) for c in present]))
    return {"average_precision": observed, "low": low, "high": high, "prevalence": prevalence,
            "null_mean": chance, "lift": observed / chance}


def unit_scores(label: np.ndarray, logits: np.ndarray, question: Question, settings: Evaluate,
                seed: int) -> dict[str, Any]:
    """`brief_scores` of independent units, of those that count.

    Parameters
    ----------
    label : ndarray, int, [units]
    logits : ndarray, float, [units, C]
    question : Question
    settings : Evaluate
        `bootstraps` is read.
    seed : int
    """
    from scipy.special import log_softmax

    keep = question.counts(label)
    drawn = bootstrap_weights(np.arange(int(keep.sum())), settings.bootstraps, seed)
    return brief_scores(label[keep], log_softmax(logits[keep], axis=1), question.scored, drawn)


def scores_of(
    predictions: pd.DataFrame, question: Question, settings: Evaluate, seed: int
) -> dict[str, Any] | None:
    """Scores of a predictions table; see `score_table`.

    Parameters
    ----------
    predictions : DataFrame
        With `Label`, `Metadata_Group`, `P_<class>` and `Predicted`. Rows of classes that cannot
        be scored are left out.
    question : Question
    settings : Evaluate
    seed : int

    Returns
    -------
    dict or None
        None where too little is left: fewer than two classes.
    """
    label = question.index(predictions["Label"])
    keep = question.counts(label)
    if len(np.unique(label[keep])) < 2:
        return None
    table = predictions[keep]
    return score_table(
        question, label[keep], table[question.probabilities].to_numpy(float),
        question.index(table["Predicted"]), pd.factorize(table["Metadata_Group"])[0],
        settings, seed)


def evaluate_predictions(
    predictions: dict[str, pd.DataFrame], examples: Examples, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Scores of the model at every level, and by panel, dose, mechanism and action.

    Parameters
    ----------
    predictions : dict
        Level -> the table that `train` writes.
    examples : Examples
        Sites.
    settings : Evaluate
    seed : int
    """
    question = examples.question
    found: dict[str, Any] = {}
    for side in ("out_of_fold", "held_out"):
        found[side] = {
            level: scores
            for level, table in predictions.items()
            if (scores := scores_of(table[table["Split"] == side], question, settings,
                                    seed)) is not None
        }
    sites = predictions["site"]
    sites = sites[sites["Split"] == "out_of_fold"]
    found["by_panel"] = _by(sites, "Metadata_Panel", question, settings, seed)
    found["by_concentration_uM"] = _by(sites, "Metadata_Concentration_uM", question, settings,
                                       seed)
    if question.binary and question.unit == "compound":
        compounds = predictions["compound"]
        compounds = compounds[compounds["Split"] == "out_of_fold"].merge(
            examples.groups[["Metadata_Group", "Metadata_MoA", "gpcr_action"]],
            on="Metadata_Group",
        )
        found["by_mechanism"] = _positives_by(compounds, "Metadata_MoA", question, settings, seed)
        found["by_action"] = _positives_by(compounds, "gpcr_action", question, settings, seed)
    return found


def _by(sites: pd.DataFrame, column: str, question: Question, settings: Evaluate,
        seed: int) -> dict[str, Any]:
    """Compound scores from the sites of one panel or dose alone: mean log-probability."""
    found = {}
    for value, part in sites.groupby(column):
        logs = part[question.probabilities].clip(lower=1e-7).apply(np.log)
        units = logs.groupby(part["Metadata_Group"]).mean()
        label = question.index(part.groupby("Metadata_Group")["Label"].first()[units.index])
        keep = question.counts(label)
        if len(np.unique(label[keep])) < 2 or not question.present(label[keep]):
            continue
        drawn = bootstrap_weights(np.arange(int(keep.sum())), settings.bootstraps, seed)
        name = f"{value:g}" if isinstance(value, float) else str(value)
        found[name] = brief_scores(label[keep], units.to_numpy()[keep], question.scored, drawn) | {
            "compounds": int(keep.sum())}
    return found if len(found) > 1 else {}


def _positives_by(compounds: pd.DataFrame, column: str, question: Question, settings: Evaluate,
                  seed: int) -> dict[str, Any]:
    """Positives of one kind against all negatives."""
    positive = compounds["Label"] == question.classes[1]
    score = compounds[question.probabilities[1]].to_numpy(float)
    found = {}
    for kind in sorted({part for value in compounds.loc[positive, column]
                        for part in value.split("|") if part}):
        own = positive & compounds[column].map(lambda value, k=kind: k in value.split("|"))
        keep = (own | ~positive).to_numpy()
        label = own.to_numpy()[keep]
        unit = np.arange(len(label))
        drawn = bootstrap_weights(unit, settings.bootstraps, seed)
        found[kind] = {"compounds": int(own.sum())} | _one_class(label, score[keep], drawn, unit)
    return found
