"""Unseen compounds in a batch that training did not see either."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moascope.evaluation.scores import unit_scores
from moascope.learning.cross_fit import Parts, cross_fit, leave_folds_out
from moascope.learning.examples import Examples
from moascope.learning.panels import panel_rows
from moascope.params import Evaluate, Head, Train
from moascope.screen.question import Question


def leave_folds_and_batches_out(examples: Examples) -> Parts:
    """One model per batch and fold: it predicts the fold's rows in the batch, and saw neither."""
    folds = leave_folds_out(examples)
    batches, batch_of = np.unique(examples.meta["Metadata_Batch"], return_inverse=True)
    learns = np.concatenate([folds.learns & (batch_of != batch) for batch in range(len(batches))])
    both = batch_of * len(folds.learns) + folds.left_out_by
    return Parts(learns, np.where(folds.left_out_by >= 0, both, -1))


class UnseenBatches(NamedTuple):
    """Units as predicted by heads that saw neither the unit nor its batch.

    Attributes
    ----------
    label : ndarray, int, [units]
    logits : ndarray, float32, [units, C]
    batches : int
        How many there are.
    """

    label: np.ndarray
    logits: np.ndarray
    batches: int


def predict_unseen_batches(examples: Examples, head: Head, train: Train,
                           seed: int) -> UnseenBatches | None:
    """Fit one head per batch and fold, and predict what it did not see.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model.
    seed : int

    Returns
    -------
    UnseenBatches or None
        None where the screen has a single batch, or a class would be missing from some head's
        training, or no panel is in several batches. A panel that is in one batch only says nothing
        here.
    """
    spread = _spread_over_batches(examples, head, train)
    if spread is None:
        return None
    label, logits = cross_fit(*spread, train, seed, leave_folds_and_batches_out).units()
    return UnseenBatches(label, logits, len(np.unique(
        spread[0].meta["Metadata_Batch"][spread[0].label >= 0])))


def score_unseen_batches(predicted: UnseenBatches | None, question: Question, settings: Evaluate,
                         seed: int) -> dict[str, Any] | None:
    """See `scores.brief_scores`, and `batches`, their number; None where nothing can be scored."""
    if predicted is None or not question.present(
            predicted.label[question.counts(predicted.label)]):
        return None
    return unit_scores(predicted.label, predicted.logits, question, settings, seed) | {
        "batches": predicted.batches}


def _spread_over_batches(examples: Examples, head: Head,
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
        see compounds. None where `predict_unseen_batches` has nothing to say.
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
