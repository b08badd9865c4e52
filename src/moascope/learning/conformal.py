"""Sets of classes that hold the true one at a stated rate: conformal prediction, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moascope.screen.question import Question

# Probabilities of one unit, computed twice, may differ in their last digits.
SLACK = 1e-9


@dataclass(frozen=True)
class Limits:
    """From which probability on a class belongs to a unit's set.

    Attributes
    ----------
    limits : tuple of float, [C]
        0: the class is in every set, because there are too few compounds to exclude it.
    own : tuple of bool, [C]
        Whether the limit is of the class's own compounds, or of all rare classes together.
    """

    limits: tuple[float, ...]
    own: tuple[bool, ...]

    def sets(self, probability: np.ndarray) -> np.ndarray:
        """Which classes are in each unit's set: float, [n, C] -> bool, [n, C]."""
        return probability >= np.array(self.limits) - SLACK

    @property
    def decides(self) -> bool:
        """Whether any class can be left out of a set."""
        return any(limit > 0 for limit in self.limits)


def least_compounds(coverage: float) -> int:
    """Compounds that a class needs before any of its units can be excluded from a set."""
    return int(np.ceil(1 / (1 - coverage) - 1 - SLACK))


def set_limits(label: np.ndarray, probability: np.ndarray, compound: np.ndarray,
               question: Question, coverage: float) -> Limits:
    """The limits at which a set holds the true class of `coverage` of the compounds of each class.

    Parameters
    ----------
    label : ndarray, int, [n]
    probability : ndarray, float, [n, C]
        By models that had not seen the unit.
    compound : ndarray, int, [n]
        The compound of each unit: units of one compound are not independent.
    question : Question
    coverage : float
        Between 0 and 1.

    Notes
    -----
    The score is 1 - P(true class) [1]_ and its limit is taken within each class [2]_. Out-of-fold
    scores stand in for those of unseen compounds, as in cross-conformal prediction [3]_. A compound
    has several wells, sites and repeats, which share its weight [4]_. Classes of fewer compounds
    than `least_compounds` take one limit together, a cluster of classes as in [5]_; coverage then
    holds over them together and not for each. Where they are too few even so, they are never
    excluded.

    .. [1] Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
       levels", J Am Stat Assoc 114, 2019.
    .. [2] Vovk, "Conditional validity of inductive conformal predictors", Mach Learn 92, 2013.
    .. [3] Vovk, "Cross-conformal predictors", Ann Math Artif Intell 74, 2015.
    .. [4] Lee, Barber and Willett, "Distribution-free inference with hierarchical data", 2023.
    .. [5] Ding et al., "Class-conditional conformal prediction with many classes", NeurIPS 2023.
    """
    keep = question.counts(label)
    label, compound = label[keep], compound[keep]
    true = probability[keep][np.arange(len(label)), label]
    least = least_compounds(coverage)
    enough = [len(np.unique(compound[label == c])) >= least
              and (question.binary or c in question.scored)
              for c in range(len(question.classes))]
    # Not with the frequent classes: their compounds would decide the limit, and exclude rare ones.
    rare = ~np.isin(label, np.flatnonzero(enough))
    together = _limit(true[rare], compound[rare], coverage)
    return Limits(tuple(_limit(true[label == c], compound[label == c], coverage) if own
                        else together for c, own in enumerate(enough)), tuple(enough))


def _limit(true: np.ndarray, compound: np.ndarray, coverage: float) -> float:
    """The largest probability that at least `coverage` of the compounds and one more reach."""
    if not len(true):
        return 0.0
    _, code, size = np.unique(compound, return_inverse=True, return_counts=True)
    # An unseen compound counts as one that reaches no limit.
    weight = 1 / (len(size) + 1) / size[code]
    order = np.argsort(-true, kind="stable")
    reached = np.flatnonzero(np.cumsum(weight[order]) >= coverage - SLACK)
    return float(true[order][reached[0]]) if len(reached) else 0.0
