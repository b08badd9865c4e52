"""What the trials of a study say: the heads that they judged, the choice, tables for a person."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.params import Head

if TYPE_CHECKING:
    import optuna

# The attribute of a trial that holds its scores: a list of [epoch, score of each outer fold].
CURVE = "inner_scores"
LEAST_FOR_IMPORTANCE = 20


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
        `selection_score`, in the order of `Inner.outer_folds`.
    """

    trial: int
    epochs: int
    params: dict[str, Any]
    scores: np.ndarray



def candidates(study: optuna.Study) -> list[Candidate]:
    """Every head that the study has judged, in the order of trials and epochs.

    Those of pruned trials are among them: a head after twelve epochs is judged by what it is
    then, however its training would have gone on.
    """
    return [
        Candidate(trial.number, int(epochs), trial.params, np.asarray(scores))
        for trial in ended_trials(study)
        for epochs, *scores in trial.user_attrs.get(CURVE, [])
        if np.isfinite(scores).all()   # a training that diverged is not a choice
    ]



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
        hyperparameters by that fold's own inner scores, in which the fold itself has no part.
    """
    defaults = Head().model_dump()
    found = candidates(study) if study else []
    if not found:
        return {"final": defaults, "folds": {f"{r}/{f}": defaults for r, f in outer}}

    def chosen(score: Callable[[np.ndarray], float]) -> dict[str, Any]:
        best = max(found, key=lambda candidate: score(candidate.scores))
        return {**defaults, **best.params, "epochs": best.epochs}

    return {
        "final": chosen(lambda scores: float(scores.mean())),
        "folds": {
            f"{r}/{f}": chosen(lambda scores, i=i: float(scores[i]))
            for i, (r, f) in enumerate(outer)
        },
    }



def ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended well or were pruned."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)



def study_tables(study: optuna.Study) -> dict[str, pd.DataFrame]:
    """A study as tables for a person, without times: the same trials give the same bytes.

    Returns
    -------
    dict
        trials : `trial, state, score, best, epochs` and what was drawn, one row per ended trial;
        score is that of its best epoch, best the best score so far.
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
    best = dict(zip(trials["trial"], trials["score"], strict=True))
    return {"trials": trials, "curves": curves, "parameters": _parameters(study, best)}



def _parameters(study: optuna.Study, best: dict[int, float]) -> pd.DataFrame:
    import optuna

    trials = [trial for trial in ended_trials(study) if trial.number in best]
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

