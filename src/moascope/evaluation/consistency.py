"""Consistency: whether the compounds of a mechanism look alike, and unlike those of the others."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moascope.evaluation.active import called_active
from moascope.evaluation.activity import ACTIVE
from moascope.evaluation.references import unit_rows
from moascope.evaluation.retrieval import (
    MOST_ENTRIES,
    average_precisions,
    corrected,
    cosines,
    labellings,
    permutation_p,
)
from moascope.learning.examples import Examples
from moascope.params import Activity
from moascope.screen.targets import moa_terms

COLUMNS = ["Metadata_MoA", "compounds", "active_compounds", "mean_average_precision", "null_mean",
           "p_value", "corrected_p_value", "consistent"]
# Members of a large mechanism that are looked at; their number makes its score precise anyway.
MOST_MEMBERS = 50
# Compounds outside the mechanism that they are compared with: more take memory with their square.
MOST_OTHERS = 2000
# Entries of ranked lists for one mechanism: where there are more, fewer permutations are made.
MOST_WORK = 64 * MOST_ENTRIES
LEAST_PERMUTATIONS = 100


def measure_consistency(examples: Examples, compounds: pd.DataFrame, settings: Activity, seed: int
                        ) -> pd.DataFrame:
    """Test every mechanism: do its compounds find one another among all others?

    Parameters
    ----------
    examples : Examples
        Sites.
    compounds : DataFrame
        `ActivityResult.compounds`.
    settings : Activity
    seed : int

    Returns
    -------
    DataFrame
        One row per mechanism of two or more annotated compounds: `Metadata_MoA`, `compounds`,
        `active_compounds`, `mean_average_precision`, `null_mean`, `p_value` (against random sets
        of as many compounds), `corrected_p_value` (Benjamini and Hochberg) and `consistent`.

    Notes
    -----
    A compound's profile is the mean of its wells in each panel, the panels side by side, in robust
    deviations of the plate's negative controls. Held-out compounds are left out, since these
    numbers may be used to choose by; so are compounds of unknown mechanism, which may have any.
    """
    nothing = pd.DataFrame(columns=COLUMNS)
    if examples.question.unit != "compound" or not examples.in_folds.any():
        return nothing
    profiles, group = unit_rows(examples)
    groups = examples.groups.iloc[group].reset_index(drop=True)
    terms = [set(moa_terms(text)) for text in groups["Metadata_MoA"].fillna("")]
    known = np.array([bool(own) for own in terms])
    if known.sum() < 3:
        return nothing
    terms = [own for own, annotated in zip(terms, known, strict=True) if annotated]
    active = called_active(groups.loc[known, "Metadata_Compound"], compounds)
    profiles = profiles[known]
    length = np.linalg.norm(profiles, axis=1, keepdims=True)
    generator = np.random.default_rng([seed, 1])
    profiles /= np.where(length > 0, length, 1)
    whole = cosines(profiles, generator) if len(profiles) <= MOST_OTHERS else None
    found = []
    for name in sorted(set().union(*terms)):
        has = np.array([name in own for own in terms])
        if 2 <= has.sum() < len(has):
            found.append((name, int(has.sum()), int((has & (active == ACTIVE)).sum()),
                          *_score(profiles, whole, np.flatnonzero(has), settings.null_size,
                                  generator)))
    table = pd.DataFrame(found, columns=COLUMNS[:6])
    value = corrected(table["p_value"].to_numpy())
    return table.assign(corrected_p_value=value,
                        consistent=np.where(value < settings.threshold, "yes", "no"))


def _score(profiles: np.ndarray, whole: np.ndarray | None, own: np.ndarray, permutations: int,
           generator: np.random.Generator) -> tuple[float, float, float]:
    """Mean average precision, that of random sets, and p; `whole` is the similarity of all."""
    members = own if len(own) <= MOST_MEMBERS else np.sort(
        generator.choice(own, MOST_MEMBERS, replace=False))
    # Members that are not looked at are not among the others either.
    others = np.setdiff1d(np.arange(len(profiles)), own)
    if len(others) > MOST_OTHERS:
        others = np.sort(generator.choice(others, MOST_OTHERS, replace=False))
    pool = np.concatenate([members, others])
    similarity = (cosines(profiles[pool], generator) if whole is None
                  else whole[np.ix_(pool, pool)])
    permutations = max(LEAST_PERMUTATIONS,
                       min(permutations, MOST_WORK // (len(members) * len(pool))))
    drawn = labellings(np.zeros(len(pool)), len(members), permutations, generator)
    score, = average_precisions(similarity, drawn, [~np.eye(len(members), dtype=bool)])
    score = score.mean(axis=1)
    return float(score[0]), float(score[1:].mean()), permutation_p(float(score[0]), score[1:])
