"""What is lost on unseen compounds without a channel, or without a kind of measurement."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from moascope.explanation.ablation import ablated_logits, reference_of
from moascope.explanation.groups import feature_groups
from moascope.explanation.shares import Share, largest_first, margins, share_table
from moascope.learning.cross_fit import cross_fit, leave_folds_out
from moascope.learning.examples import Examples, averaging
from moascope.metrics import (
    LEAST_POSITIVES,
    Drawn,
    average_precision,
    bootstrap_weights,
    interval,
    macro_average_precision,
)
from moascope.params import Evaluate, Head, Train
from moascope.screen.question import Question

LEAST_COMPOUNDS = 2
"""Compounds of a mechanism below which nothing is said of it: one does not stand for it."""


def evaluate_groups(examples: Examples, head: Head, train: Train, settings: Evaluate,
                    seed: int) -> dict[str, Any] | None:
    """Average precision over unseen units that is lost without each group of features.

    Every unit is predicted by the head of the fold that left it out, once as it is and once for
    each group with that group's features at the value of the plate's negative controls. Heads are
    not trained again: this is what they use, not what could be known without the group.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model; heads are trained on the folds of the first repeat.
    settings : Evaluate
        `bootstraps` is read.
    seed : int

    Returns
    -------
    dict or None
        `average_precision` of these heads with all features; `controls`, whether the features are
        set to those of negative controls (else to the mean of the panel); `exact`, whether the
        heads are linear; and `groups`: kind -> group -> `features` (how many), `average_precision`
        without them, and `lost` with `low` and `high` (95 %, bootstrap over units, paired; None
        below five positives); of several classes also `by_class`, what each loses; and of a binary
        target `mechanisms`: kind -> mechanism of the positives -> `compounds` and `lost`, what
        their logit loses on average without each group. `shares` is a table of `share_table`, the
        share of each group in the prediction of each compound, of the positive class or else of
        the likeliest one. None where the features cannot be told apart by their names, or nothing
        can be scored.

    Notes
    -----
    Occlusion of groups of inputs (Zeiler and Fergus 2014; Covert, Lundberg and Lee, "Explaining
    by removing", 2021). What two groups both say is lost with neither of them alone.
    """
    seen = examples.of_backbone(head.backbone).selected(head.selection)
    kinds = feature_groups(seen.names)
    if not kinds:
        return None
    fitted = cross_fit(examples, head, train, seed)
    standard = seen.normalised(head.normalisation.removesuffix("+sphere"))
    reference = reference_of(standard, standard.controls, head.normalisation)
    rows = standard.take(fitted.rows)
    logits = ablated_logits(
        fitted.heads, rows, fitted.sites.sphering, train, reference.take(fitted.rows),
        [mask for groups in kinds.values() for mask in groups.values()],
        leave_folds_out(fitted.sites).left_out_by[fitted.rows])
    matrix, units = averaging(rows, "compound")
    label = examples.group_label[units["Group"].to_numpy()]
    keep = examples.question.counts(label)
    if len(np.unique(label[keep])) < 2 or not examples.question.present(label[keep]):
        return None
    whole, *without = (matrix[np.flatnonzero(keep)] @ one for one in logits)
    losses = iter(_losses(label[keep], whole, without, examples.question, settings, seed))
    found = {
        "shares": _shares([matrix @ one for one in logits], examples.groups["Metadata_Compound"]
                          .iloc[units["Group"]].astype(str), kinds, examples.question),
        "average_precision": _scores(label[keep], whole, examples.question),
        "controls": reference.controls, "exact": is_linear(head),
        "groups": {kind: {name: {"features": int(mask.sum())} | next(losses)
                          for name, mask in groups.items()} for kind, groups in kinds.items()},
    }
    if examples.question.binary and "Metadata_MoA" in examples.groups:
        mechanism = examples.groups["Metadata_MoA"].fillna("").to_numpy(str)[
            units["Group"].to_numpy()[keep]]
        lost = iter([(whole - one) @ [-1, 1] for one in without])
        found["mechanisms"] = {kind: _of_mechanisms(
            np.where(label[keep] == 1, mechanism, ""), {name: next(lost) for name in groups})
            for kind, groups in kinds.items()}
    return found


def _shares(logits: list[np.ndarray], names: pd.Series, kinds: dict[str, dict[str, np.ndarray]],
            question: Question) -> pd.DataFrame:
    """What the logit of every unit's class loses without each group: a table of `share_table`."""
    if question.unit != "compound":
        return share_table({}, {})
    whole, *without = (one.astype(float) for one in logits)
    groups = [(kind, name) for kind, own in kinds.items() for name in own]
    found, meant = {}, {}
    for at, compound in enumerate(names):
        about = 1 if question.binary else int(whole[at].argmax())
        meant[compound] = question.classes[about]
        found[compound] = largest_first(
            [Share(kind, name, float(margins(whole[at], about) - margins(less[at], about)), np.nan)
             for (kind, name), less in zip(groups, without, strict=True)], list(kinds))
    return share_table(found, meant)


def is_linear(head: Head) -> bool:
    """Whether logits are sums over features."""
    return head.head == "logistic" or (head.head == "network" and head.layers == 0)


def _losses(label: np.ndarray, whole: np.ndarray, without: list[np.ndarray], question: Question,
            settings: Evaluate, seed: int) -> list[dict[str, Any]]:
    drawn = bootstrap_weights(np.arange(len(label)), settings.bootstraps, seed)
    classes = question.present(label)
    enough = np.mean([(label == c).sum() for c in classes]) >= LEAST_POSITIVES
    observed, resampled = (_scores(label, whole, question, w) for w in (None, drawn))
    of_class = _by_class(label, whole, question)
    found = []
    for logits in without:
        left = _scores(label, logits, question)
        lost, low, high = observed - left, None, None
        if enough:
            low, high = interval(resampled - _scores(label, logits, question, drawn))
            low, high = min(low, lost), max(high, lost)
        found.append({"average_precision": left, "lost": lost, "low": low, "high": high} | (
            {} if question.binary else {"by_class": {
                name: of_class[name] - score
                for name, score in _by_class(label, logits, question).items()}}))
    return found


def _of_mechanisms(mechanism: np.ndarray, lost: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean loss of the logit over the compounds of each mechanism that has several."""
    terms = [tuple(filter(None, text.split("|"))) for text in mechanism]
    counts = Counter(term for own in terms for term in own)
    found = {}
    for term in sorted(counts, key=lambda name: (-counts[name], name)):
        own = np.array([term in one for one in terms])
        if own.sum() >= LEAST_COMPOUNDS:
            found[term] = {"compounds": int(own.sum()),
                           "lost": {name: float(values[own].mean())
                                    for name, values in lost.items()}}
    return found


def _scores(label: np.ndarray, logits: np.ndarray, question: Question,
            drawn: np.ndarray | Drawn | None = None) -> Any:
    from scipy.special import log_softmax

    score = macro_average_precision(label, log_softmax(logits, axis=-1), question.present(label),
                                    drawn)
    return float(score) if drawn is None else score


def _by_class(label: np.ndarray, logits: np.ndarray, question: Question) -> dict[str, float]:
    from scipy.special import log_softmax

    score = log_softmax(logits, axis=-1)
    return {question.classes[c]: float(average_precision(label == c, score[:, c]))
            for c in question.present(label)}
