"""The predictions table: one row per unit of a level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moascope.learning.calibration import Calibration
from moascope.learning.examples import Examples, averaging
from moascope.screen.question import Question

COLUMNS = {
    "site": ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
             "Metadata_Panel", "Metadata_Compound", "Metadata_Concentration_uM",
             "Metadata_Control"],
    "well": ["Metadata_Plate", "Metadata_Well", "Metadata_Batch", "Metadata_Panel",
             "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"],
    "compound": ["Metadata_Compound"],
}

# Decimals of what is written for people; of probabilities at least as many, see `for_people`.
DECIMALS = {"Nearest_Similarity": 3, "Novelty_P": 4}
OF_PROBABILITY, MOST_DECIMALS = 6, 12


def predictions_at(
    calibration: Calibration, sites: Examples, logits: np.ndarray, level: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of one level from the logits of sites, and the units that their rows are.

    Parameters
    ----------
    calibration : Calibration
        Of that level.
    sites : Examples
    logits : ndarray, float32, [n, C]
    level : {"site", "well", "compound"}
    """
    matrix, units = averaging(sites, level)
    probability = calibration.probability(matrix @ logits)
    return prediction_table(units, probability, calibration.decide(probability),
                            sites.question, level), units


def prediction_table(
    units: pd.DataFrame, probability: np.ndarray, predicted: np.ndarray,
    question: Question, level: str,
) -> pd.DataFrame:
    """The predictions table of the contract.

    Parameters
    ----------
    units : DataFrame, [units]
    probability : ndarray, float, [units, C]
    predicted : ndarray, int, [units]
    question : Question
    level : {"site", "well", "compound"}
    """
    table = units[COLUMNS[level]].reset_index(drop=True).copy()
    for index, column in enumerate(question.probabilities):
        table[column] = probability[:, index]
    table["Predicted"] = [question.classes[i] for i in predicted]
    return table


def for_people(predictions: pd.DataFrame) -> pd.DataFrame:
    """A predictions table with numbers of fixed length, as text.

    Parameters
    ----------
    predictions : DataFrame, [u]

    Returns
    -------
    DataFrame
        Probabilities have six decimals, and more where two rows that differ would become equal:
        sorted by any column, rows are in the same order as before. What is missing stays empty.
    """
    found = predictions.copy()
    for column in predictions:
        if column.startswith("P_"):
            digits = _telling_apart(predictions[column].to_numpy(float))
        elif column in DECIMALS:
            digits = DECIMALS[column]
        else:
            continue
        found[column] = [f"{value:.{digits}f}" if np.isfinite(value) else ""
                         for value in predictions[column]]
    return found


def _telling_apart(values: np.ndarray) -> int:
    different = len(np.unique(values))
    for digits in range(OF_PROBABILITY, MOST_DECIMALS):
        if len(np.unique(np.round(values, digits))) == different:
            return digits
    return MOST_DECIMALS
