"""Positive controls: which mechanisms of a screen a simple model finds, whatever the target is."""

from __future__ import annotations

from typing import Any

import numpy as np

from moascope.evaluation.references import out_of_fold_scores, unit_rows
from moascope.evaluation.scores import brief_scores
from moascope.learning.dealing import FAMILY, assign_folds
from moascope.learning.examples import Examples
from moascope.metrics import bootstrap_weights, macro_average_precision, permuted_labels
from moascope.params import Evaluate
from moascope.screen.targets import moa_terms

# A mechanism needs some compounds before its average precision means anything.
LEAST_COMPOUNDS = 3
# Of all mechanisms together: each is found at this level divided by their number (Bonferroni).
FOUND_AT = 0.05


def evaluate_mechanisms(examples: Examples, settings: Evaluate, seed: int) -> dict[str, Any]:
    """Every mechanism against the rest by a learner of its own: what this screen can show at all.

    A head that was chosen for the target says little about another mechanism. Here each one has a
    regularised linear model, which needs no selection, and folds that spread its compounds evenly.

    Parameters
    ----------
    examples : Examples
        Sites.
    settings : Evaluate
        `bootstraps` and `permutations` are read.
    seed : int

    Returns
    -------
    dict
        Mechanism -> `scores.brief_scores`; `compounds`, how many have it; `p` of the permutation
        test; and `found`, whether p is below `FOUND_AT` divided by the number of mechanisms.
        Compounds of unknown mechanism are neither hits nor others. Empty where no mechanism has
        enough compounds, or wells are the units.
    """
    if examples.question.unit != "compound":
        return {}
    rows, group = unit_rows(examples)
    groups = examples.groups.iloc[group].reset_index(drop=True)
    terms = groups["Metadata_MoA"].fillna("").map(moa_terms)
    known = terms.map(len).to_numpy() > 0
    groups, rows, terms = groups[known].reset_index(drop=True), rows[known], list(terms[known])
    has = {name: np.array([name in own for own in terms])
           for name in sorted({name for own in terms for name in own})}
    has = {name: hit for name, hit in has.items()
           if hit.sum() >= LEAST_COMPOUNDS and (~hit).sum() >= LEAST_COMPOUNDS}
    unit = np.arange(len(groups))
    drawn = bootstrap_weights(unit, settings.bootstraps, seed)
    folds = min(examples.fold_count, len(groups.drop_duplicates(FAMILY)) if FAMILY in groups
                else len(groups))
    found = {}
    for name, hit in has.items():
        units = groups[[column for column in ("Metadata_Group", FAMILY) if column in groups]]
        table = assign_folds(units.assign(Label=np.where(hit, "hit", "other")),
                             folds, examples.repeats, 0.0, seed)
        dealt = np.stack([table[f"Fold_{repeat}"] for repeat in range(examples.repeats)])
        label = hit.astype(int)
        score = out_of_fold_scores("logistic", rows, label, dealt, 2, seed)
        null = macro_average_precision(
            permuted_labels(label, unit, settings.permutations, seed), score, [1])
        own = brief_scores(label, score, [1], drawn)
        p = float((1 + (null >= own["average_precision"] - 1e-12).sum()) / (1 + len(null)))
        found[name] = own | {"compounds": int(hit.sum()), "p": p,
                             "found": p * len(has) <= FOUND_AT}
    return found
