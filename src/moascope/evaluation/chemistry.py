"""What the structure of the compounds tells without any picture, and what pictures add to it.

Not a null: structure knows biology, because medicinal chemists make series for a target. So it
takes no part in whether a model is useful; that pictures add to it is a result of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moascope.chemistry.descriptors import (
    CATIONIC_AMPHIPHILIC,
    fingerprints,
    is_cationic_amphiphilic,
    properties,
)
from moascope.chemistry.structures import Structures, structures_of
from moascope.evaluation.references import out_of_fold_scores, predicted_probability
from moascope.evaluation.scores import brief_scores
from moascope.learning.examples import Examples
from moascope.metrics import bootstrap_weights, macro_average_precision, paired_difference
from moascope.params import Evaluate
from moascope.text import counted

INPUTS = {"chemistry": fingerprints, "chemistry_simple": properties}
"""Baseline -> what it sees of each molecule."""
# The trees of the references: the same learner for both, so that inputs are compared and not
# learners. They need no scaling, take bits and properties alike, and nothing of them is tuned.
LEARNER = "trees"
LEAST_COMPOUNDS = 10
"""With fewer structures a fold has one or two to predict, and nothing is scored."""


@dataclass(frozen=True)
class Asked:
    """Units in the folds whose class counts, with the model's predictions and their structures.

    Attributes
    ----------
    label : ndarray, int, [n]
    model : ndarray, float, [n, C]
        The model's probabilities.
    folds : ndarray, int, [repeats, n]
    structures : Structures, [n]
    """

    label: np.ndarray
    model: np.ndarray
    folds: np.ndarray
    structures: Structures


def evaluate_chemistry(
    compounds: pd.DataFrame, examples: Examples, annotations: pd.DataFrame, settings: Evaluate,
    seed: int,
) -> dict[str, Any]:
    """Baselines of structure alone, on the model's folds, and the model within amphiphilic amines.

    Parameters
    ----------
    compounds : DataFrame
        The model's out-of-fold predictions, one row per unit.
    examples : Examples
        Sites.
    annotations : DataFrame
        With structures; see `chemistry.structures.structures_of`.
    settings : Evaluate
        `bootstraps` is read.
    seed : int

    Returns
    -------
    dict
        `compounds` with a structure, `without_structure`, `refused` (compounds whose structure
        RDKit cannot read), `note` (a sentence where nothing is scored, else empty), `warnings`,
        `cationic_amphiphilic`, and `baselines`: for "chemistry" and "chemistry_simple"
        `scores.brief_scores` over the compounds with a structure; `model` and `both` the same of
        the pictures' model and of both together, over the same compounds; `both_minus_structure`
        and `model_minus_structure`: `difference`, `low`, `high`, paired over compounds.

    Notes
    -----
    Both together is the mean of a compound's two ranks. Nothing is fitted to put them together, so
    nothing can leak and no compound is needed to choose weights; a model at chance therefore
    costs, where a weight of zero would cost nothing.
    """
    question = examples.question
    if question.unit != "compound":
        return {}
    asked = _asked(compounds, examples, annotations)
    known = asked.structures.known
    found: dict[str, Any] = {
        "compounds": int(known.sum()), "without_structure": int((~known).sum()),
        "refused": sorted(asked.structures.refused), "warnings": asked.structures.warnings,
        "note": "", "baselines": {}, "cationic_amphiphilic": {}}
    label, smiles = asked.label[known], list(asked.structures.smiles[known])
    present = question.present(label)
    if len(label) < LEAST_COMPOUNDS or not present or len(np.unique(label)) < 2:
        return found | {"note": _too_few(found, asked.structures.column)}
    cluster = np.arange(len(label))
    drawn = bootstrap_weights(cluster, settings.bootstraps, seed)
    model = asked.model[known]
    for name, read in INPUTS.items():
        structure = out_of_fold_scores(LEARNER, read(smiles), label, asked.folds[:, known],
                                       len(question.classes), seed)
        both = mean_rank(structure, model)
        own = brief_scores(label, structure, present, drawn) | {
            "compounds": len(label),
            "model": brief_scores(label, model, present, drawn),
            "both": brief_scores(label, both, present, drawn)}
        for which, other in (("both", both), ("model", model)):
            difference, low, high = paired_difference(
                lambda w, other=other: macro_average_precision(label, other, present, w),
                lambda w, structure=structure: macro_average_precision(
                    label, structure, present, w),
                cluster, settings.bootstraps, seed)
            own[f"{which}_minus_structure"] = {"difference": difference, "low": low, "high": high}
        found["baselines"][name] = own
    found["cationic_amphiphilic"] = amphiphilic_scores(
        is_cationic_amphiphilic(properties(smiles)), label, model, question.binary, settings, seed)
    return found


def with_chemistry(baselines: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The baselines of metrics.json with those of structure.

    Parameters
    ----------
    baselines : dict
        As `baselines.evaluate_baselines` gives them.
    found : dict
        As `evaluate_chemistry` gives it.
    """
    own = found.get("baselines", {})
    fields = ("average_precision", "low", "high", "prevalence", "null_mean", "lift")
    brief = {name: {field: score[field] for field in fields} for name, score in own.items()}
    return baselines | own | {"scores": baselines["scores"] | brief}


def mean_rank(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The mean of the ranks that two tables of scores give each row, by class.

    Parameters
    ----------
    one, two : ndarray, float, [n, C]

    Returns
    -------
    ndarray, float, [n, C]
    """
    from scipy.stats import rankdata

    return (rankdata(one, axis=0) + rankdata(two, axis=0)) / 2


def amphiphilic_scores(amphiphilic: np.ndarray, label: np.ndarray, model: np.ndarray,
                       binary: bool, settings: Evaluate, seed: int) -> dict[str, Any]:
    """The model's score within cationic amphiphilic compounds, and within the rest.

    Parameters
    ----------
    amphiphilic : ndarray, bool, [n]
    label : ndarray, int, [n]
    model : ndarray, float, [n, C]
    binary : bool
    settings : Evaluate
    seed : int

    Returns
    -------
    dict
        `rule`; `within` and `rest`: `compounds`, and `scores.brief_scores` where both classes are
        there; for a binary question `share_of_hits` and `share_of_others` that are amphiphilic,
        and `alone`: the score of a list that puts them first.
    """
    found: dict[str, Any] = {"rule": CATIONIC_AMPHIPHILIC}
    for name, part in (("within", amphiphilic), ("rest", ~amphiphilic)):
        own = label[part]
        there = [1] if binary else sorted(set(own.tolist()))
        scores: dict[str, Any] = {"compounds": int(part.sum())}
        if len(np.unique(own)) > 1:
            drawn = bootstrap_weights(np.arange(len(own)), settings.bootstraps, seed)
            scores |= brief_scores(own, model[part], there, drawn)
        found[name] = scores
    if binary:
        hit = label == 1
        drawn = bootstrap_weights(np.arange(len(label)), settings.bootstraps, seed)
        found |= {
            "share_of_hits": float(amphiphilic[hit].mean()),
            "share_of_others": float(amphiphilic[~hit].mean()),
            "alone": brief_scores(label, np.stack([~amphiphilic, amphiphilic], 1).astype(float),
                                  [1], drawn)}
    return found


def held_out_chemistry(name: str, examples: Examples, units: pd.DataFrame,
                       annotations: pd.DataFrame, seed: int) -> np.ndarray | None:
    """Log-probabilities of held-out units by their structure; learnt from all folds.

    Parameters
    ----------
    name : {"chemistry", "chemistry_simple"}
    examples : Examples
    units : DataFrame
        Held-out units, with `Metadata_Group`.
    annotations : DataFrame
    seed : int

    Returns
    -------
    ndarray, float, [units, C] or None
        Units without a structure get the shares of the classes. None where too few compounds of
        the folds, or no held-out one, have a structure.
    """
    groups = examples.groups[~examples.held_out]
    learnt = structures_of(annotations, groups["Metadata_Compound"].tolist())
    names = examples.groups.set_index("Metadata_Group")["Metadata_Compound"]
    asked = structures_of(annotations, names[units["Metadata_Group"]].tolist())
    label = examples.question.index(groups["Label"])
    classes = len(examples.question.classes)
    own = label[learnt.known]
    if len(own) < LEAST_COMPOUNDS or len(np.unique(own)) < 2 or not asked.known.any():
        return None
    share = np.bincount(label, minlength=classes) / len(label)
    found = np.tile(share, (len(units), 1))
    read = INPUTS[name]
    found[asked.known] = predicted_probability(
        LEARNER, read(list(learnt.smiles[learnt.known])), own,
        read(list(asked.smiles[asked.known])), classes, seed)
    return np.log(np.maximum(found, np.finfo(float).tiny))


def _asked(compounds: pd.DataFrame, examples: Examples, annotations: pd.DataFrame) -> Asked:
    question = examples.question
    groups = examples.groups.set_index(examples.groups["Metadata_Group"].astype(str))
    table = compounds.sort_values("Metadata_Group", kind="stable", ignore_index=True)
    table = table[question.counts(question.index(table["Label"]))]
    own = groups.loc[table["Metadata_Group"].astype(str)]
    return Asked(
        question.index(table["Label"]), table[question.probabilities].to_numpy(float),
        np.stack([own[f"Fold_{repeat}"].to_numpy() for repeat in range(examples.repeats)]),
        structures_of(annotations, own["Metadata_Compound"].tolist()))


def _too_few(found: dict[str, Any], column: str) -> str:
    if not column:
        return ("What the model adds to structure is not known: annotations.csv has no column "
                "Metadata_SMILES or Metadata_InChI.")
    return (f"What the model adds to structure is not known: only "
            f"{counted(found['compounds'], 'scored compound')} of "
            f"{found['compounds'] + found['without_structure']} have a structure that RDKit can "
            f"read, or they are of one class. Fill in {column} in annotations.csv.")
