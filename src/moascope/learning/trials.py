"""What the trials of a study say: the heads that they judged, the choice, tables for a person."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.params import NETWORK, Head

if TYPE_CHECKING:
    import optuna

# The attributes of a trial that hold its scores, a list of [epoch, score of each outer fold], and
# in the same order of epochs what each inner fold adds to them, [outer folds][inner folds].
CURVE = "inner_scores"
PARTS = "inner_parts"
# Trials are drawn in the order of their numbers, and this one is the default head.
FIRST = 0
LEAST_FOR_IMPORTANCE = 20
# How often luck may pass for a better head: one standard error's share of a normal distribution.
LUCK = 0.16


@dataclass(frozen=True)
class Candidate:
    """A head as it was after some epochs of a trial.

    Attributes
    ----------
    trial : int
        Number of the trial.
    epochs : int
    params : dict
        What was drawn for it.
    scores : ndarray, float, [outer folds]
        In the order of `Inner.outer_folds`.
    parts : ndarray, float, [outer folds, inner folds]
        `study.selection_parts`; their mean over the inner folds is the score.
    """

    trial: int
    epochs: int
    params: dict[str, Any]
    scores: np.ndarray
    parts: np.ndarray


def candidates(study: optuna.Study) -> list[Candidate]:
    """Every head that the study has judged, in the order of trials and epochs.

    Those of pruned trials are among them: a head after twelve epochs is judged by what it is
    then, however its training would have gone on.
    """
    return [
        Candidate(trial.number, int(epochs), trial.params, np.asarray(scores), np.asarray(parts))
        for trial in ended_trials(study)
        for (epochs, *scores), parts in zip(trial.user_attrs.get(CURVE, []),
                                            trial.user_attrs.get(PARTS, []), strict=False)
        if np.isfinite(scores).all()   # a training that diverged is not a choice
    ]


@dataclass(frozen=True)
class Choice:
    """Which candidate is taken, and why.

    Attributes
    ----------
    candidate : Candidate
    why : {"best", "default", "chance"}
        `default`: the best of as many heads as good as the default would be as far above it by
        luck. `chance`: nothing explains the inner labels, and the default head is taken.
    best : Candidate
        The one with the highest score.
    """

    candidate: Candidate
    why: str
    best: Candidate


def choose(found: list[Candidate], outer: list[tuple[int, int]],
           fold: int | None = None) -> Choice:
    """The candidate with the highest score, unless the default head is as good.

    Parameters
    ----------
    found : list of Candidate
    outer : list of tuple
        (repeat, fold) in the order of `Inner.outer_folds`.
    fold : int, optional
        By the scores of this one alone (a position in `outer`); by the mean of all, if None.

    Notes
    -----
    The one-standard-error rule [1]_, for the difference to the default head on the same inner
    folds: the default is the head that few compounds can carry, and has to be beaten by more than
    luck. It is the study's first trial at the end of its training. The highest of many scores is
    lucky more often than one, and the standard error of a few folds is rough, so one standard
    error becomes the quantile of Student's t at `LUCK` divided by the number of other trials [2]_.

    .. [1] Breiman, Friedman, Olshen, Stone, "Classification and Regression Trees", 1984.
    .. [2] Dunn, "Multiple comparisons among means", J Am Stat Assoc 56, 1961.
    """
    from scipy.special import stdtrit

    def score(candidate: Candidate) -> float:
        return float(candidate.scores.mean() if fold is None else candidate.scores[fold])

    best = max(found, key=score)
    first = [candidate for candidate in found if candidate.trial == FIRST]
    if not first:
        return Choice(best, "best", best)
    default = first[-1]
    if score(best) <= 0:
        return Choice(default, "chance", best)
    others = len({candidate.trial for candidate in found} - {FIRST})
    inner = default.parts.shape[1] + (fold is None)
    errors = float(stdtrit(inner - 1, 1 - LUCK / max(others, 1)))
    gain = score(best) - score(default)
    if gain <= errors * _standard_error(best.parts - default.parts, outer, fold):
        return Choice(default, "default", best)
    return Choice(best, "best", best)


def _standard_error(parts: np.ndarray, outer: list[tuple[int, int]], fold: int | None) -> float:
    """Of the mean of inner folds; of all outer folds, where `fold` is None."""
    folds = parts.shape[1] + 1
    if fold is not None:
        return float(parts[fold].std(ddof=1) / np.sqrt(folds - 1))
    # A fold is an inner one of every other: it counts once, as the mean of what it adds to each.
    repeats = 1 + max(repeat for repeat, _ in outer)
    added = np.zeros((repeats, folds))
    for (repeat, left_out), own in zip(outer, parts, strict=True):
        inner = np.arange(folds) != left_out
        added[repeat, inner] += own / (folds - 1)
    # Repeats deal the same compounds anew and make no more of them.
    return float(np.sqrt(added.var(axis=1, ddof=1).mean() / folds))


def choices(study: optuna.Study | None, outer: list[tuple[int, int]]) -> dict[str, Any]:
    """The head chosen for the final model, and the one chosen for each outer fold.

    Parameters
    ----------
    study : optuna.Study or None
        None or without a finished trial: the defaults are chosen.
    outer : list of tuple
        (repeat, fold) in the order of `Inner.outer_folds`.

    Returns
    -------
    dict
        `final`: hyperparameters by the mean of all inner scores. `folds`: "repeat/fold" ->
        hyperparameters by that fold's own inner scores, in which the fold itself has no part. See
        `choose`.
    """
    defaults = Head().model_dump()
    found = candidates(study) if study else []
    if not found:
        return {"final": defaults, "folds": {f"{r}/{f}": defaults for r, f in outer}}

    def chosen(fold: int | None) -> dict[str, Any]:
        taken = choose(found, outer, fold).candidate
        return {**defaults, **taken.params, "epochs": taken.epochs}

    return {"final": chosen(None),
            "folds": {f"{r}/{f}": chosen(i) for i, (r, f) in enumerate(outer)}}


def ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended well or were pruned."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)



def study_tables(study: optuna.Study, taken: int = FIRST) -> dict[str, pd.DataFrame]:
    """A study as tables for a person, without times: the same trials give the same bytes.

    Parameters
    ----------
    study : optuna.Study
    taken : int
        The trial of the final head.

    Returns
    -------
    dict
        trials : `trial, state, score, best, epochs, taken` and what was drawn, one row per ended
        trial; score is that of its best epoch, best the best score so far, taken whether the final
        head is of this trial.
        curves : `trial, epoch, score`.
        parameters : `parameter, scale, importance`, one row for each that was not always the
        same; scale is log, linear or choice. Importance is PED-ANOVA's [1]_ (how far a parameter
        tells the best tenth of the trials from the others; sums to one), empty for fewer than 20
        trials.

    References
    ----------
    .. [1] Watanabe, Bansal, Hutter, "PED-ANOVA: efficiently quantifying hyperparameter importance
       in arbitrary subspaces", IJCAI 2023.
    """
    found = candidates(study)
    curves = pd.DataFrame([(one.trial, one.epochs, one.scores.mean()) for one in found],
                          columns=["trial", "epoch", "score"])
    rows = []
    for trial in ended_trials(study):
        own = [one for one in found if one.trial == trial.number]
        if own:
            top = max(own, key=lambda one: one.scores.mean())
            # The epochs that were drawn are the most a trial could have had.
            drawn = {name: value for name, value in trial.params.items() if name != "epochs"}
            rows.append({"trial": trial.number, "state": trial.state.name.lower(),
                         "score": float(top.scores.mean()), "epochs": top.epochs, **drawn})
    trials = pd.DataFrame(rows, columns=None if rows else ["trial", "state", "score", "epochs"])
    trials.insert(3, "best", trials["score"].cummax())
    trials.insert(5, "taken", trials["trial"] == taken)
    best = dict(zip(trials["trial"], trials["score"], strict=True))
    return {"trials": trials, "curves": curves, "parameters": _parameters(study, best)}



def _parameters(study: optuna.Study, best: dict[int, float]) -> pd.DataFrame:
    import optuna

    # Simple models have none of the network's parameters.
    trials = [trial for trial in ended_trials(study) if trial.number in best
              and trial.params.get("head", NETWORK) == NETWORK]
    scales = {
        name: "choice" if isinstance(entry, optuna.distributions.CategoricalDistribution)
        else "log" if getattr(entry, "log", False) else "linear"
        for trial in trials for name, entry in trial.distributions.items()
        if len({str(other.params.get(name)) for other in trials}) > 1
    }
    weights: dict[str, float] = {}
    if len(trials) >= LEAST_FOR_IMPORTANCE and scales:
        # Pruned trials count by what they had reached: without them, what makes a trial bad would
        # be missing.
        judged = optuna.create_study(direction="maximize")
        judged.add_trials([
            optuna.create_trial(
                params=trial.params, distributions=trial.distributions, value=best[trial.number])
            for trial in trials])
        with warnings.catch_warnings():
            # It warns where all trials are equally good; then there is nothing to tell apart.
            warnings.simplefilter("ignore")
            weights = optuna.importance.get_param_importances(judged, params=sorted(scales))
    order = sorted(scales, key=lambda name: (-weights.get(name, 0), name))
    return pd.DataFrame({"parameter": order, "scale": [scales[name] for name in order],
                         "importance": [weights.get(name, np.nan) for name in order]})

