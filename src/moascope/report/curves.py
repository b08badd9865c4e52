"""Tables behind plots, in the form that `dvc plots` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from moascope.learning.examples import Examples
from moascope.screen.question import Question
from moascope.work.files import write_csv

DIGITS = 6


def precision_recall_rows(predictions: pd.DataFrame, asked: list[str]) -> pd.DataFrame:
    """Points of the precision-recall curve of each class against the rest.

    Parameters
    ----------
    predictions : DataFrame
        With `Label` and `P_<class>`.
    asked : list of str
        Classes to draw.

    Returns
    -------
    DataFrame
        `class`, `recall`, `precision`, `prevalence`, by rising recall.
    """
    from sklearn.metrics import precision_recall_curve

    parts = []
    for name in asked:
        positive = (predictions["Label"] == name).to_numpy()
        if not positive.any():
            continue
        precision, recall, _ = precision_recall_curve(positive, predictions[f"P_{name}"])
        parts.append(pd.DataFrame({
            "class": name, "recall": recall[::-1], "precision": precision[::-1],
            "prevalence": positive.mean(),
        }))
    if not parts:
        return pd.DataFrame(columns=["class", "recall", "precision", "prevalence"])
    return pd.concat(parts, ignore_index=True)


def null_precision_band(
    positives: int, count: int, draws: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the precision of randomly ordered lists lies at each recall.

    Parameters
    ----------
    positives, count : int
        Hits among the units, and all units.
    draws, seed : int
        How many random lists.

    Returns
    -------
    recall, low, high : ndarray, float, [positives]
        The central 95 % at the recall that each further hit gives.
    """
    generator = np.random.default_rng(seed)
    ranks = np.stack([
        np.sort(generator.choice(count, positives, replace=False)) + 1 for _ in range(draws)
    ])
    found = np.arange(1, positives + 1)
    low, high = np.percentile(found / ranks, [2.5, 97.5], axis=0)
    return found / positives, low, high


def confusion_rows(predictions: pd.DataFrame, question: Question) -> pd.DataFrame:
    """One row per prediction, actual against predicted, for DVC's confusion template.

    Parameters
    ----------
    predictions : DataFrame
        With `Label` and `Predicted`.
    question : Question
        Only rows whose actual class can be scored are kept.
    """
    keep = question.counts(question.index(predictions["Label"]))
    return (
        predictions.loc[keep, ["Label", "Predicted"]]
        .rename(columns={"Label": "actual", "Predicted": "predicted"})
        .reset_index(drop=True)
    )


def write_curves(report: Path, predictions: dict[str, pd.DataFrame], examples: Examples) -> None:
    """Write the tables behind the curve and the confusion matrices, out of fold."""
    out_of_fold = {level: table[table["Split"] == "out_of_fold"]
                   for level, table in predictions.items()}
    question = examples.question
    write_csv(report / "pr_curve.csv",
              precision_recall_rows(out_of_fold["compound"], question.scored_names), DIGITS)
    for level in ("site", "compound"):
        write_csv(report / f"confusion_{level}.csv",
                  confusion_rows(out_of_fold[level], question), DIGITS)
