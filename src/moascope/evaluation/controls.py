"""Positive controls: how well each mechanism of a screen is found on the same folds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from moascope.evaluation.scores import brief_scores
from moascope.learning.cross_fit import cross_fit
from moascope.learning.examples import Examples
from moascope.metrics import bootstrap_weights
from moascope.params import Evaluate, Head, Train
from moascope.screen.question import Question

# A mechanism needs some compounds before its average precision means anything.
LEAST_COMPOUNDS = 3


def evaluate_mechanisms(
    examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Every mechanism against the rest on the same folds: what this screen can show at all.

    Strong mechanisms are the positive control: where they are found and the target is not, the
    software works and the target's biology is not in the pictures.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model.
    settings : Evaluate
        `bootstraps` is read.
    seed : int

    Returns
    -------
    dict
        Mechanism -> `scores.brief_scores`, and `compounds`, how many have it. Empty where no
        mechanism has enough compounds, or wells are the units.
    """
    from scipy.special import log_softmax

    moa = examples.groups["Metadata_MoA"]
    counts = moa[~examples.held_out].value_counts()
    wanted = [name for name in counts.index[counts >= LEAST_COMPOUNDS] if name]
    if not wanted or examples.question.unit != "compound":
        return {}
    classes = ("other", *sorted(wanted))
    relabelled = replace(
        examples,
        groups=examples.groups.assign(Label=moa.where(moa.isin(wanted), "other")),
        question=Question("moa", classes, binary=False, untestable=("other",)), _cache={},
    )
    label, logits = cross_fit(relabelled, head, train, seed).units()
    scores = log_softmax(logits, axis=-1)
    drawn = bootstrap_weights(np.arange(len(label)), settings.bootstraps, seed)
    return {
        name: brief_scores(label, scores, [c], drawn) | {"compounds": int((label == c).sum())}
        for c, name in enumerate(classes) if c
    }
