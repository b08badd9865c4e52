"""The Optuna study: which head, judged by inner folds only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from moascope.features.disk import pieces
from moascope.learning.calibration import explained_by_unit
from moascope.learning.cross_fit import masks_without
from moascope.learning.examples import SITE_KEY, Examples
from moascope.learning.nested import CHECKPOINTS, Inner, fold_pairs
from moascope.learning.panels import predict_by_panel, train_by_panel, training_rows
from moascope.learning.space import check_space, suggest
from moascope.learning.trials import CURVE, PARTS
from moascope.learning.workers import run_trials
from moascope.params import Train, Tune
from moascope.work.code import code_digest

if TYPE_CHECKING:
    import optuna

# What decides which rows are normalised, trained and averaged together.
DECIDING = [*SITE_KEY, "Metadata_Panel", "Metadata_Concentration_uM", "Metadata_Control"]


def study_name(examples: Examples, space: dict, train: Train, target: str,
               code: str | None = None) -> str:
    """A name that changes with everything that makes old trials incomparable.

    Workers that have the same data, parameters and code work on the same study.

    Parameters
    ----------
    examples : Examples
        Sites.
    space : dict
        `tune.space` of params.yaml.
    train : Train
        `panels` and `batch_size` are read.
    target : str
        The name begins with it.
    code : str, optional
        A digest of the code that decides a trial's score; by default it is computed.
    """
    code = code or code_digest(make_objective)
    digest = hashlib.sha256()
    for _, piece in pieces(examples.features):
        digest.update(np.ascontiguousarray(piece))
    digest.update(np.ascontiguousarray(examples.group))
    digest.update(examples.groups.to_csv(index=False).encode())
    digest.update(examples.meta[DECIDING].to_csv(index=False).encode())
    digest.update(json.dumps([
        asdict(examples.question), examples.names, examples.panels,
        space, train.panels, train.batch_size, code]).encode())
    return f"{target} {digest.hexdigest()[:8]}"



def top_up(
    study: optuna.Study,
    examples: Examples,
    tune: Tune,
    train: Train,
    seed: int,
    ended: Callable[[optuna.Study, optuna.trial.FrozenTrial], None],
    stay: bool = True,
) -> int:
    """Run trials until `tune.trials` have ended, together with any other worker.

    Parameters
    ----------
    study : optuna.Study
    examples : Examples
        Sites.
    tune, train : Tune, Train
    seed : int
    ended : callable
        Called with the study and each trial that ends meanwhile.
    stay : bool
        See `workers.run_trials`.

    Returns
    -------
    int
        How many trials were run by this call.
    """
    check_space(tune.space)
    return run_trials(study, make_objective(examples, tune, train, seed), tune.trials, ended, stay)



def make_objective(examples: Examples, tune: Tune, train: Train, seed: int
                   ) -> Callable[[optuna.Trial], float]:
    """What a trial does: train a drawn head on every pair of folds left out, and judge it.

    A trial is judged after every few epochs by the mean over outer folds of `selection_score`,
    and may be pruned then. The scores of each outer fold, and what each inner fold adds to them,
    are kept in the trial; see `trials.choices`.

    Parameters
    ----------
    examples : Examples
        Sites.
    tune : Tune
        `space` is read.
    train : Train
    seed : int
    """
    pairs = fold_pairs(examples)
    inner = Inner(examples, pairs)
    masks: dict[str, np.ndarray] = {}
    wanted = inner.wanted()

    def objective(trial: optuna.Trial) -> float:
        import optuna

        head = suggest(trial, tune.space)
        rows, sites = training_rows(examples, head)
        if head.level not in masks:
            masks[head.level] = masks_without(rows, pairs)
        every = -(-head.epochs // CHECKPOINTS)
        curve: list[list[float]] = []
        shares: list[list[list[float]]] = []
        best = -np.inf
        # Of a trial that is run again, the worker before had been told to go on up to here.
        reported = trial.study.get_trials(deepcopy=False)[trial.number].last_step or 0
        for epoch, heads in train_by_panel(rows, masks[head.level], head, train, seed,
                                          every):
            logits = predict_by_panel(heads, sites, train, wanted)
            parts = [selection_parts(inner, logits, repeat, fold)
                     for repeat, fold in inner.outer_folds()]
            scores = [float(part.mean()) for part in parts]
            shares.append([part.tolist() for part in parts])
            curve.append([epoch, *scores])
            trial.set_user_attr(PARTS, shares)
            trial.set_user_attr(CURVE, curve)
            # A trial is worth what its best epoch is; where scores fall with training, the pruner
            # would compare what they fell to with what they had been.
            best = max(best, float(np.mean(scores)))
            if epoch > reported:
                trial.report(best, epoch)
            if reported <= epoch < head.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return best

    return objective



def selection_parts(inner: Inner, logits: np.ndarray, repeat: int, fold: int) -> np.ndarray:
    """What a trial is judged by for one outer fold: what its inner predictions explain.

    The mean over compounds and images of the share of the labels' entropy that calibrated
    predictions explain. Average precision would be the wrong judge: with ten compounds it takes
    only a few values, and half of all heads get the best.

    Parameters
    ----------
    inner : Inner
    logits : ndarray, float32, [pairs, n, C]
        Of sites.
    repeat, fold : int
        The outer fold.

    Returns
    -------
    ndarray, float, [folds - 1]
        What each inner fold adds, in the order of the folds; their mean is the score.
    """
    found = []
    for level in ("compound", "site"):
        label, pooled, group = inner.pooled(logits, repeat, fold, level)
        share, kept = explained_by_unit(label, pooled, group, inner.examples.question)
        fold_of = inner.examples.folds(repeat)[group[kept]]
        others = [other for other in range(inner.examples.fold_count) if other != fold]
        sums = np.array([share[fold_of == other].sum() for other in others])
        found.append(sums * len(others) / max(len(share), 1))
    return np.mean(found, axis=0)
