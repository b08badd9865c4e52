"""Tables behind plots, in the form that `dvc plots` reads."""

from __future__ import annotations

import numpy as np
import pandas as pd


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
    return pd.concat(parts, ignore_index=True)


def confusion_rows(predictions: pd.DataFrame, asked: list[str], binary: bool) -> pd.DataFrame:
    """One row a prediction, actual against predicted, for DVC's confusion template.

    Parameters
    ----------
    predictions : DataFrame
        With `Label` and `Predicted`.
    asked : list of str
    binary : bool
        Otherwise only rows whose actual class can be asked about are kept.
    """
    keep = np.ones(len(predictions), bool) if binary else predictions["Label"].isin(asked)
    return (
        predictions.loc[keep, ["Label", "Predicted"]]
        .rename(columns={"Label": "actual", "Predicted": "predicted"})
        .reset_index(drop=True)
    )
