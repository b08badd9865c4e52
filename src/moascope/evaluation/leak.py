"""What a random split by image would have claimed: shown as invalid, because it teaches."""

from __future__ import annotations

from typing import Any

import numpy as np

from moascope.evaluation.scores import brief_scores, unit_scores
from moascope.learning.cross_fit import CrossFit, Parts, cross_fit
from moascope.learning.examples import Examples
from moascope.metrics import bootstrap_weights
from moascope.params import Evaluate, Head, Train

LEAK_CAVEAT = (
    "Invalid: a random split by image puts other images of the same compound into training. Shown "
    "because the difference to the grouped split is what the leak is worth. Its head can memorise, "
    "as the one that a study on such a split would choose."
)
# What a study on a leaky split would end with: nothing there speaks against memory.
# Its rows are sites whatever the head's level is: the split is by image.
MEMORISING = {"head": "network", "level": "site", "layers": 1, "width": 64, "dropout": 0.0,
              "l2": 0.0, "label_smoothing": 0.0, "learning_rate": 3e-3, "epochs": 40}


def evaluate_leak(
    examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """What a random split by image would have claimed, with true and with shuffled labels.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model; all but its normalisation and activation gives way to `MEMORISING`.
    settings : Evaluate
    seed : int

    Returns
    -------
    dict
        `valid` is False; see `LEAK_CAVEAT`. `true_labels` and `shuffled_labels`, and next to them
        `same_head_grouped`, the same head on the split by compound: the scores of each level,
        `site` and `compound`, as `scores.brief_scores` gives them.
    """
    labels = np.stack([examples.group_label, examples.group_label])
    dealt = np.flatnonzero(~examples.held_out & np.isin(np.arange(len(labels[0])), examples.group))
    labels[1, dealt] = np.random.default_rng(seed).permutation(labels[0, dealt])
    memorising = head.model_copy(update=MEMORISING)
    fitted = cross_fit(examples, memorising, train, seed,
                       lambda sites: _random_images(sites, seed), labels)
    found: dict[str, Any] = {"valid": False, "caveat": LEAK_CAVEAT}
    # The same head on the split by compound, so that the split alone differs.
    honest = cross_fit(examples, memorising, train, seed)
    found["same_head_grouped"] = _scores(honest, 0, examples, settings, seed)
    for number, name in enumerate(("true_labels", "shuffled_labels")):
        found[name] = _scores(fitted, number, examples, settings, seed)
    return found


def _scores(fitted: CrossFit, labelling: int, examples: Examples, settings: Evaluate,
            seed: int) -> dict[str, Any]:
    from scipy.special import log_softmax

    question = examples.question
    group = fitted.sites.group[fitted.rows]
    truth = fitted.labels[labelling, group]
    keep = question.counts(truth)
    return {
        "site": brief_scores(
            truth[keep], log_softmax(fitted.logits[labelling][keep], axis=1), question.scored,
            bootstrap_weights(group[keep], settings.bootstraps, seed), group[keep]),
        "compound": unit_scores(*fitted.units(labelling), question, settings, seed),
    }


def _random_images(sites: Examples, seed: int) -> Parts:
    """Sites outside the hold-out in as many parts as there are folds, whatever their compound."""
    from sklearn.model_selection import KFold

    pool = np.flatnonzero(sites.in_folds)
    part_of = np.full(len(sites.meta), -1)
    splits = KFold(sites.fold_count, shuffle=True, random_state=seed).split(pool)
    for part, (_, test) in enumerate(splits):
        part_of[pool[test]] = part
    learns = np.stack([(part_of >= 0) & (part_of != part) for part in range(sites.fold_count)])
    return Parts(learns, part_of)
