"""How often sets hold the true class, and how often what should not be called is called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.batches import UnseenBatches
from moascope.learning.conformal import set_limits
from moascope.learning.cross_fit import Parts, cross_fit
from moascope.learning.examples import Examples, averaging
from moascope.learning.model import TrainedModel
from moascope.learning.novelty import KnownCompounds, known_compounds
from moascope.learning.panels import predict_by_panel
from moascope.learning.trust import Trust, consensus_profiles
from moascope.screen.question import Question

# A mechanism of one compound is not a mechanism that could have been known.
LEAST_COMPOUNDS = 2
# Mechanisms that are left out in turn, the most frequent ones.
MOST_MECHANISMS = 20


def evaluate_abstention(predictions: pd.DataFrame, examples: Examples, model: TrainedModel,
                        seed: int, unseen: UnseenBatches | None) -> dict[str, Any] | None:
    """What a model's sets and its novelty are worth on what it has not seen.

    Parameters
    ----------
    predictions : DataFrame
        Of compounds, as `train` wrote them.
    examples : Examples
        Sites.
    model : TrainedModel
        The final model.
    seed : int
    unseen : UnseenBatches or None
        As `batches.predict_unseen_batches` gives them for the final head.

    Returns
    -------
    dict or None
        `coverage` and `novelty_rate` as asked; `limits` of the final model's sets; and `set_scores`
        of `unseen_compounds` (out of fold: the limits are those of the other folds), of the
        `held_out` ones, of an `unseen_batch` and of `unseen_mechanisms` (by models that saw no
        compound of them); `dmso_wells`, how many would be called if nobody had marked them; and
        `novel`, the share called novel of held-out compounds and of unseen mechanisms. None where
        the model has nothing to abstain by.
    """
    trust, question = model.trust, examples.question
    if trust is None or question.unit != "compound":
        return None
    limits = trust.sets["compound"]
    sides = {side: predictions[predictions["Split"] == side].reset_index(drop=True)
             for side in ("out_of_fold", "held_out")}
    mechanisms = _unseen_mechanisms(examples, model, trust, seed)
    return {
        "coverage": trust.coverage,
        "novelty_rate": trust.rate,
        "training_compounds": len(trust.groups),
        "limits": dict(zip(question.classes, limits.limits, strict=True)),
        "own_limit": dict(zip(question.classes, limits.own, strict=True)),
        "unseen_compounds": _out_of_fold(sides["out_of_fold"], examples, trust.coverage),
        "held_out": set_scores(question.index(sides["held_out"]["Label"]), limits.sets(
            sides["held_out"][question.probabilities].to_numpy(float)), question),
        "unseen_batch": None if unseen is None else set_scores(
            unseen.label, _sets(model, trust, "compound", unseen.logits), question),
        "unseen_mechanisms": mechanisms,
        "dmso_wells": _controls(examples, model, trust),
        "novel": {"held_out": _novel_held_out(examples, model, trust),
                  "unseen_mechanisms": _novel_mechanisms(trust)},
    }


def set_scores(label: np.ndarray, within: np.ndarray, question: Question) -> dict[str, Any] | None:
    """How sets of classes fare against the truth.

    Parameters
    ----------
    label : ndarray, int, [n]
    within : ndarray, bool, [n, C]
    question : Question
        Compounds of classes that cannot be scored are left out.

    Returns
    -------
    dict or None
        `n`, `covered` and `share_covered` with `low` and `high` (95 %, Clopper and Pearson),
        `by_class` (`n`, `covered`), `called` (sets of one class), `right_when_called`, `undecided`
        (several classes) and `empty`. None where there are no compounds.
    """
    keep = question.counts(label) & (label >= 0)
    label, within = label[keep], within[keep]
    if not len(label):
        return None
    covered, size = within[np.arange(len(label)), label], within.sum(axis=1)
    called = size == 1
    return {
        "n": len(label), "covered": int(covered.sum()), **_share(covered),
        "by_class": {name: {"n": int((label == c).sum()), "covered": int(covered[label == c].sum())}
                     for c, name in enumerate(question.classes) if (label == c).any()},
        "called": int(called.sum()), "right_when_called": int((covered & called).sum()),
        "undecided": int((size > 1).sum()), "empty": int((size == 0).sum()),
    }


def _share(hits: np.ndarray) -> dict[str, float]:
    from scipy.stats import binomtest

    found = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, "exact")
    return {"share_covered": float(hits.mean()), "low": float(found.low),
            "high": float(found.high)}


def _out_of_fold(table: pd.DataFrame, examples: Examples, coverage: float) -> dict[str, Any] | None:
    """Each fold by the limits of the others, over all repeats' mean prediction."""
    question = examples.question
    label = question.index(table["Label"])
    probability = table[question.probabilities].to_numpy(float)
    fold = table["Metadata_Group"].map(
        examples.groups.set_index("Metadata_Group")["Fold_0"]).to_numpy()
    within = np.zeros(probability.shape, bool)
    for own in (fold == number for number in np.unique(fold)):
        limits = set_limits(label[~own], probability[~own], np.flatnonzero(~own), question,
                            coverage)
        within[own] = limits.sets(probability[own])
    return set_scores(label, within, question)


def _sets(model: TrainedModel, trust: Trust, level: str, logits: np.ndarray) -> np.ndarray:
    return trust.sets[level].sets(model.calibrations[level].probability(logits.astype(float)))


def frequent_mechanisms(mechanisms: np.ndarray) -> list[str]:
    """The mechanisms that are left out in turn, the most frequent first.

    Parameters
    ----------
    mechanisms : ndarray, str, [n]
        Of compounds; empty: not known.
    """
    counts = pd.Series(mechanisms[mechanisms != ""]).value_counts()
    counts = counts[counts >= LEAST_COMPOUNDS]
    return sorted(counts.index, key=lambda name: (-counts[name], name))[:MOST_MECHANISMS]


def _unseen_mechanisms(examples: Examples, model: TrainedModel, trust: Trust,
                       seed: int) -> dict[str, Any] | None:
    """Sets of compounds by models that saw no compound of their mechanism."""
    question = examples.question
    mechanism = examples.groups["Metadata_MoA"].fillna("").to_numpy(dtype=str)
    names = frequent_mechanisms(mechanism[~examples.held_out])

    def parts(rows: Examples) -> Parts:
        own = np.where(rows.in_folds, mechanism[rows.group], "")
        number = np.array([names.index(name) if name in names else -1 for name in own])
        return Parts(np.stack([rows.in_folds & (number != i) for i in range(len(names))]), number)

    if len(names) < LEAST_COMPOUNDS or any(
            len(np.unique(examples.label[learns])) < 2 for learns in parts(examples).learns):
        return None
    fitted = cross_fit(examples, model.head, model.train, seed, parts)
    label, logits = fitted.units()
    within = _sets(model, trust, "compound", logits)
    if question.binary:
        found = set_scores(label, within, question)
        return found and found | {"mechanisms": len(names)}
    # The class itself is unseen, so that every call is a false one.
    size = within.sum(axis=1)
    if not len(label):
        return None
    return {"n": len(label), "called": int((size == 1).sum()), "undecided": int((size > 1).sum()),
            "empty": int((size == 0).sum()), "right_when_called": 0, "mechanisms": len(names)}


def _controls(examples: Examples, model: TrainedModel, trust: Trust) -> dict[str, Any] | None:
    """What the sets of control wells would be, if they were wells of a compound."""
    if not examples.controls.any():
        return None
    sites = examples.seen_by(model.head).take(examples.controls)
    logits = predict_by_panel(model.heads, sites, model.train)[0]
    within = _sets(model, trust, "well", averaging(sites, "well")[0] @ logits)
    called = within.sum(axis=1) == 1
    return {"n": len(within), "called": int(called.sum()),
            "by_class": {name: int((called & within[:, c]).sum())
                         for c, name in enumerate(examples.question.classes)}}


def _novel_held_out(examples: Examples, model: TrainedModel,
                    trust: Trust) -> dict[str, int] | None:
    if trust.known is None or not examples.held_out.any():
        return None
    seen = examples.of_backbone(model.head.backbone).selected(model.head.selection)
    sites = seen.take(seen.controls | ((seen.group >= 0) & ~seen.in_folds))
    profiles, _ = consensus_profiles(trust, sites, sites.features, sites.controls)
    return _novel(trust.known, profiles, trust.rate)


def _novel_mechanisms(trust: Trust) -> dict[str, int] | None:
    """Each frequent mechanism against the compounds of all others."""
    if trust.known is None:
        return None
    found = {"n": 0, "novel": 0}
    for name in frequent_mechanisms(trust.mechanisms):
        own = trust.mechanisms == name
        if (~own).sum() < LEAST_COMPOUNDS:
            continue
        one = _novel(known_compounds(trust.known.profiles[~own]), trust.known.profiles[own],
                     trust.rate)
        found = {key: found[key] + one[key] for key in found}
    return found if found["n"] else None


def _novel(known: KnownCompounds, profiles: np.ndarray, rate: float) -> dict[str, int]:
    p = known.p_values(known.nearest(profiles)[1])
    return {"n": len(p), "novel": int((p <= rate).sum())}
