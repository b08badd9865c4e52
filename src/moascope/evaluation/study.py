"""The Optuna study: which head, judged by inner folds only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moascope.errors import MoascopeError
from moascope.evaluation.crossvalidate import (
    CHECKPOINTS,
    Inner,
    asked_classes,
    explained_information,
    fit_by_panel,
    fold_pairs,
    masks_without,
    predict_by_panel,
    training_rows,
)
from moascope.models.examples import Examples
from moascope.params import Head, Train, Tune

if TYPE_CHECKING:
    import optuna

CURVE = "inner_scores"


def open_study(storage: str, name: str) -> optuna.Study:
    """Open a study, or make it.

    Parameters
    ----------
    storage : str
        A database address (`postgresql://...`) or the path of a journal file. The journal suits
        one machine, a database many.
    name : str

    Raises
    ------
    MoascopeError
        When the storage cannot be opened.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if "://" in storage:
            backend: Any = optuna.storages.RDBStorage(storage, heartbeat_interval=60)
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            backend = optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(storage)
            )
        study = optuna.create_study(
            storage=backend, study_name=name, direction="maximize", load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),
        )
        # A resumed study must not draw again what it drew before it was stopped.
        seed = _seed_of(f"{name} {len(study.get_trials(deepcopy=False))}")
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        return study
    except Exception as error:
        # Every database driver has its own exceptions; the address is what a person can mend.
        raise MoascopeError(
            f"The study's storage (params.yaml: tune.storage = {storage.split('@')[-1]}) cannot be "
            f"opened: {str(error).splitlines()[0]}."
        ) from error


def study_name(examples: Examples, space: dict, train: Train, target: str, code: str) -> str:
    """A name that changes with everything that makes old trials incomparable."""
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(examples.features))
    digest.update(np.ascontiguousarray(examples.group))
    digest.update(examples.groups.to_csv(index=False).encode())
    digest.update(json.dumps([space, train.level, train.panels, train.batch_size, code]).encode())
    return f"{target} {digest.hexdigest()[:8]}"


def top_up(
    study: optuna.Study,
    examples: Examples,
    tune: Tune,
    train: Train,
    seed: int,
    finished: Callable[[optuna.Study, optuna.trial.FrozenTrial], None],
) -> int:
    """Run trials until `tune.trials` are finished.

    Parameters
    ----------
    study : optuna.Study
        Trials that an earlier, killed call left running are marked failed and replaced.
    examples : Examples
        Sites.
    tune, train : Tune, Train
    seed : int
    finished : callable
        Called with the study and each ended trial.

    Returns
    -------
    int
        How many trials were run now.
    """
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
    done = len(_ended(study))
    missing = max(0, tune.trials - done)
    if not missing:
        return 0
    if not study.get_trials(deepcopy=False):
        # The defaults come first, so that a study never ends with less than they give.
        study.enqueue_trial({name: value for name, value in Head().model_dump().items()
                             if name in tune.space and _inside(tune.space[name], value)})
    pairs = fold_pairs(examples)
    inner = Inner(examples, pairs)
    masks: dict[str, np.ndarray] = {}
    asked = asked_classes(examples)

    def objective(trial: optuna.Trial) -> float:
        head = suggest(trial, tune.space)
        rows, sites = training_rows(examples, head, train)
        if train.level not in masks:
            masks[train.level] = masks_without(rows, pairs)
        every = max(1, head.epochs // CHECKPOINTS)
        watched: dict[int, dict] = {}
        curve: list[list[float]] = []
        panels = None if train.panels == "pooled" else len(np.unique(examples.panel))

        def watch(panel: str, epoch: int, heads: Any) -> None:
            watched.setdefault(epoch, {})[panel] = heads

        fit_by_panel(rows, masks[train.level], head, train, seed, watch=watch, watch_every=every)
        for epoch in sorted(watched):
            if panels is not None and len(watched[epoch]) < panels:
                continue
            logits = predict_by_panel(watched[epoch], sites, train)
            scores = [selection_score(inner, logits, repeat, fold, asked)
                      for repeat, fold in inner.outer_folds()]
            curve.append([epoch, *scores])
            trial.report(float(np.mean(scores)), epoch)
            trial.set_user_attr(CURVE, curve)
        best = max(curve, key=lambda row: np.mean(row[1:]))
        trial.set_user_attr("epochs", best[0])
        return float(np.mean(best[1:]))

    study.optimize(objective, n_trials=missing, callbacks=[finished])
    return missing


def selection_score(inner: Inner, logits: np.ndarray, repeat: int, fold: int,
                    asked: list[int]) -> float:
    """What a trial is judged by for one outer fold: what its inner predictions explain.

    The mean over compounds and images of `explained_information`. Average precision would be the
    wrong judge: with ten compounds it takes a few values only, and half of all heads get the best.
    """
    return float(np.mean([
        explained_information(*inner.pooled(logits, repeat, fold, level),
                              inner.examples.binary, asked)
        for level in ("compound", "site")
    ]))


def suggest(trial: optuna.Trial, space: dict[str, Any]) -> Head:
    """Draw a head from a static space.

    Parameters
    ----------
    trial : optuna.Trial
    space : dict
        Hyperparameter -> a list of choices, or `{low, high}` with optional `log`.

    Raises
    ------
    MoascopeError
        When an entry names no hyperparameter or has another form.
    """
    drawn: dict[str, Any] = {}
    for name, entry in space.items():
        if name not in Head.model_fields:
            raise MoascopeError(
                f"params.yaml: tune.space has '{name}', which is no hyperparameter of the head. "
                f"There are: {', '.join(Head.model_fields)}."
            )
        if isinstance(entry, list) and entry:
            drawn[name] = trial.suggest_categorical(name, entry)
        elif isinstance(entry, dict) and {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
            draw = (trial.suggest_int if all(isinstance(entry[k], int) for k in ("low", "high"))
                    else trial.suggest_float)
            drawn[name] = draw(name, entry["low"], entry["high"], log=entry.get("log", False))
        else:
            raise MoascopeError(
                f"params.yaml: tune.space.{name} must be a list of choices or a range "
                "{low: ..., high: ..., log: true}."
            )
    return Head(**drawn)


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
    trials = _ended(study) if study else []
    candidates = [
        (row[0], np.asarray(row[1:]), trial.params)
        for trial in trials
        for row in trial.user_attrs.get(CURVE, [])
    ]
    if not candidates:
        return {"final": defaults, "folds": {f"{r}/{f}": defaults for r, f in outer}}

    def chosen(score: Callable[[np.ndarray], float]) -> dict[str, Any]:
        epochs, _, params = max(candidates, key=lambda candidate: score(candidate[1]))
        return {**defaults, **params, "epochs": epochs}

    return {
        "final": chosen(lambda scores: float(scores.mean())),
        "folds": {
            f"{r}/{f}": chosen(lambda scores, i=i: float(scores[i]))
            for i, (r, f) in enumerate(outer)
        },
    }


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def _inside(entry: Any, value: Any) -> bool:
    if isinstance(entry, list):
        return value in entry
    return isinstance(entry, dict) and entry["low"] <= value <= entry["high"]


def _seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
