"""Unseen compounds in a batch that training did not see either."""

from __future__ import annotations

from typing import Any

import numpy as np

from moascope.evaluation.scores import unit_scores
from moascope.learning.cross_fit import Parts, cross_fit, leave_folds_out
from moascope.learning.examples import Examples
from moascope.learning.panels import panel_rows
from moascope.params import Evaluate, Head, Train


def leave_folds_and_batches_out(examples: Examples) -> Parts:
    """One model per batch and fold: it predicts the fold's rows in the batch, and saw neither."""
    folds = leave_folds_out(examples)
    batches, batch_of = np.unique(examples.meta["Metadata_Batch"], return_inverse=True)
    learns = np.concatenate([folds.learns & (batch_of != batch) for batch in range(len(batches))])
    both = batch_of * len(folds.learns) + folds.left_out_by
    return Parts(learns, np.where(folds.left_out_by >= 0, both, -1))


def evaluate_unseen_batches(
    examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int
) -> dict[str, Any] | None:
    """Scores over units that were predicted by heads which saw neither the unit nor its batch.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model.
    settings : Evaluate
    seed : int

    Returns
    -------
    dict or None
        See `scores.brief_scores`, and `batches`, their number. None where the screen has a single
        batch, or a class would be missing from some head's training, or no panel is in several
        batches. A panel that is in one batch only says nothing here.
    """
    question = examples.question
    spread = spread_over_batches(examples, head, train)
    if spread is None:
        return None
    fitted = cross_fit(*spread, train, seed, leave_folds_and_batches_out)
    found, logits = fitted.units()
    if not question.present(found[question.counts(found)]):
        return None
    batches = len(np.unique(spread[0].meta["Metadata_Batch"][spread[0].label >= 0]))
    return unit_scores(found, logits, question, settings, seed) | {"batches": batches}


def spread_over_batches(examples: Examples, head: Head,
                        train: Train) -> tuple[Examples, Head] | None:
    """The rows and the head that `leave_folds_and_batches_out` can be asked about.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train

    Returns
    -------
    tuple or None
        The rows of panels that are in several batches; the head, which sees wells where it would
        see compounds. None where `evaluate_unseen_batches` has nothing to say.
    """
    label = examples.label
    batch_of = examples.meta["Metadata_Batch"].to_numpy()
    counted = np.zeros(len(label), bool)
    for _, own in panel_rows(examples, train):
        counted |= own & (len(np.unique(batch_of[own & (label >= 0)])) > 1)
    spread = examples.take(counted)
    if head.level == "compound":
        # A compound's row is the mean over its batches, the unseen one among them.
        head = head.model_copy(update={"level": "well"})
    batches = len(np.unique(batch_of[counted & (label >= 0)]))
    if batches < 2 or any(
            len(np.unique(spread.label[learns])) < len(examples.question.classes)
            for learns in leave_folds_and_batches_out(spread).learns):
        return None
    return spread, head
