"""What the same procedure finds where there is nothing to find: heads refitted on dealt labels."""

from __future__ import annotations

import numpy as np

from moascope.learning.cross_fit import cross_fit
from moascope.learning.examples import Examples
from moascope.learning.nested import ranking_score
from moascope.params import Head, Train


def shuffled_refits(examples: Examples, head: Head, train: Train, refits: int,
                    seed: int) -> list[float]:
    """Average precision over units of models that are trained and scored on shuffled labels.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model.
    refits : int
        How many times labels are dealt anew.
    seed : int

    Returns
    -------
    list of float, [refits]
    """
    own, fold_of = examples.group_label, examples.folds(0)
    generator = np.random.default_rng(seed)
    dealt = np.tile(own, (refits, 1))
    for label in dealt:
        # Within folds, so that shuffled labels are as evenly dealt as the true ones: five
        # positives in one fold would leave nothing to learn from.
        for fold in range(examples.fold_count):
            members = np.flatnonzero(fold_of == fold)
            label[members] = generator.permutation(own[members])
    fitted = cross_fit(examples, head, train, seed, labels=dealt)
    return [ranking_score(*fitted.units(number), examples.question) for number in range(refits)]
