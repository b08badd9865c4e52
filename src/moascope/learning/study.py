"""The Optuna study: which head, judged by inner folds only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError, address_shown
from moascope.learning.calibration import explained_information
from moascope.learning.cross_fit import masks_without
from moascope.learning.examples import Examples
from moascope.learning.nested import CHECKPOINTS, Inner, fold_pairs
from moascope.learning.panels import predict_by_panel, train_by_panel, training_rows
from moascope.learning.workers import run_trials
from moascope.params import Head, Train, Tune
from moascope.work.digests import code_digest

if TYPE_CHECKING:
    import optuna

CURVE = "inner_scores"
STORAGE_VARIABLE = "MOASCOPE_STORAGE"
# Of a study's first trials: how many are drawn at random, and how many are never pruned.
STARTUP = 10
NEVER_PRUNED = 5
LEAST_FOR_IMPORTANCE = 20


def study_storage(tune: Tune, journal: Path) -> str:
    """Where the study is kept: `$MOASCOPE_STORAGE`, else tune.storage, else the journal file."""
    return os.environ.get(STORAGE_VARIABLE) or tune.storage or str(journal)


def open_study(storage: str, name: str, tune: Tune | None = None, make: bool = True
               ) -> optuna.Study:
    """Open a study.

    Parameters
    ----------
    storage : str
        A database address (`postgresql://...`) or the path of a journal file. The journal suits
        one machine, a database many.
    name : str
    tune : Tune, optional
        `pruner` is read.
    make : bool
        Make the study where it is not there yet.

    Raises
    ------
    MoascopeError
        When the storage cannot be opened, or has no such study and is not to make one.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        backend = (optuna.storages.RDBStorage(storage) if "://" in storage
                   else _journal(Path(storage), make))
        names = backend and optuna.get_all_study_names(backend)
        if name in (names or []):
            # Making what is there already would add a line to the journal each time, and DVC
            # would find a study changed that was only looked at.
            study = optuna.load_study(storage=backend, study_name=name)
        elif make:
            study = optuna.create_study(storage=backend, study_name=name, direction="maximize",
                                        load_if_exists=True)
            with warnings.catch_warnings():
                # Optuna calls it experimental; without it the dashboard says "Objective 0".
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(["explained share of inner labels"])
        else:
            study = None
    except Exception as error:
        # Every database driver has its own exceptions; the address is what a person can mend.
        raise MoascopeError(
            f"The study's storage {address_shown(storage)} (params.yaml: tune.storage, or "
            f"${STORAGE_VARIABLE}) cannot be opened: {_without_secrets(error, storage)}"
        ) from None
    if study is None:
        raise MoascopeError(
            f"There is no study '{name}' in {address_shown(storage)}. Start the pipeline first "
            "(`dvc repro`), with the same params.yaml and the same data here as there."
        )
    study.sampler = _sampler(name)
    study.pruner = _pruner(tune or Tune())
    return study


def _without_secrets(error: Exception, storage: str) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package '{error.name}' is needed for it. Install it."
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    _, _, rest = storage.partition("://")
    # A password with an @ or a / in it is taken apart by whoever parses the address.
    parts = re.split(r"[:/@]", rest.rpartition("@")[0])[1:]
    for secret in [storage, *parts, *re.findall(r"[?&]password=([^&]+)", rest)]:
        line = line.replace(secret, "***") if secret else line
    return line


def _journal(path: Path, make: bool) -> optuna.storages.BaseStorage | None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    if not path.exists():
        if not make:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(str(path))
    backend = JournalFileBackend(str(path), lock_obj=lock)
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        # The machine went down, or the disk was full, in the middle of a line: what is appended
        # to it could not be read, and the trials behind it would be lost.
        lock.acquire()
        try:
            with path.open("r+b") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
        finally:
            lock.release()
    return JournalStorage(backend)


def _pruner(tune: Tune) -> optuna.pruners.BasePruner:
    import optuna

    if tune.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=NEVER_PRUNED)
    if tune.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1)
    return optuna.pruners.NopPruner()


def _sampler(name: str) -> optuna.samplers.BaseSampler:
    """TPE seeded, for each trial anew, by the study and the trial's number.

    A study that was stopped goes on as if it had not been, and no two workers draw the same.
    """
    import optuna

    class Numbered(optuna.samplers.BaseSampler):
        def before_trial(self, study, trial):
            self.tpe = optuna.samplers.TPESampler(
                n_startup_trials=STARTUP, seed=_seed_of(f"{name} {trial.number}"))

        def infer_relative_search_space(self, study, trial):
            return self.tpe.infer_relative_search_space(study, trial)

        def sample_relative(self, study, trial, search_space):
            return self.tpe.sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, name, distribution):
            return self.tpe.sample_independent(study, trial, name, distribution)

    return Numbered()


def study_name(examples: Examples, space: dict, train: Train, target: str,
               code: str | None = None) -> str:
    """A name that changes with everything that makes old trials incomparable.

    Workers that have the same data, parameters and code work on the same study.
    """
    code = code or code_digest(
        "moascope.features.normalise", "moascope.learning.calibration",
        "moascope.learning.cross_fit", "moascope.learning.examples", "moascope.learning.head",
        "moascope.learning.nested", "moascope.learning.panels", "moascope.learning.study",
        "moascope.screen.question")
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
    ended: Callable[[optuna.Study, optuna.trial.FrozenTrial], None],
    stay: bool = True,
) -> int:
    """Run trials until `tune.trials` have ended, beside whoever else does so.

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
        See `evaluation.workers.run_trials`.

    Returns
    -------
    int
        How many trials were run by this call.
    """
    check_space(tune.space)
    if tune.trials and not study.get_trials(deepcopy=False):
        # The defaults come first, so that a study never ends with less than they give.
        study.enqueue_trial({name: value for name, value in Head().model_dump().items()
                             if name in tune.space and _inside(tune.space[name], value)})
    return run_trials(study, make_objective(examples, tune, train, seed), tune.trials, ended, stay)


def make_objective(examples: Examples, tune: Tune, train: Train, seed: int
                   ) -> Callable[[optuna.Trial], float]:
    """What a trial does: train a drawn head on every pair of folds left out, and judge it.

    A trial is judged after every few epochs by the mean over outer folds of `selection_score`,
    and may be pruned then. The scores of each outer fold are kept in the trial; see `choices`.
    """
    pairs = fold_pairs(examples)
    inner = Inner(examples, pairs)
    masks: dict[str, np.ndarray] = {}
    sites_asked = inner.asked()

    def objective(trial: optuna.Trial) -> float:
        import optuna

        head = suggest(trial, tune.space)
        rows, sites = training_rows(examples, head, train)
        if train.level not in masks:
            masks[train.level] = masks_without(rows, pairs)
        every = -(-head.epochs // CHECKPOINTS)
        curve: list[list[float]] = []
        best = -np.inf
        for epoch, heads in train_by_panel(rows, masks[train.level], head, train, seed, every):
            logits = predict_by_panel(heads, sites, train, sites_asked)
            scores = [selection_score(inner, logits, repeat, fold)
                      for repeat, fold in inner.outer_folds()]
            curve.append([epoch, *scores])
            trial.set_user_attr(CURVE, curve)
            # A trial is worth what its best epoch is; where scores fall with training, the pruner
            # would compare what they fell to with what they had been.
            best = max(best, float(np.mean(scores)))
            trial.report(best, epoch)
            if epoch < head.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return best

    return objective


def selection_score(inner: Inner, logits: np.ndarray, repeat: int, fold: int) -> float:
    """What a trial is judged by for one outer fold: what its inner predictions explain.

    The mean over compounds and images of `explained_information`. Average precision would be the
    wrong judge: with ten compounds it takes a few values only, and half of all heads get the best.
    """
    return float(np.mean([
        explained_information(*inner.pooled(logits, repeat, fold, level), inner.examples.question)
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
    check_space(space)
    drawn: dict[str, Any] = {}
    for name, entry in space.items():
        if isinstance(entry, list):
            drawn[name] = trial.suggest_categorical(name, entry)
        else:
            draw = (trial.suggest_int if all(isinstance(entry[k], int) for k in ("low", "high"))
                    else trial.suggest_float)
            drawn[name] = draw(name, entry["low"], entry["high"], log=entry.get("log", False))
    return Head(**drawn)


def check_space(space: dict[str, Any]) -> None:
    """Fail on an entry that names no hyperparameter, has no sound form, or leads out of range.

    Raises
    ------
    MoascopeError
        With a sentence for each.
    """
    problems = []
    for name, entry in space.items():
        where = f"params.yaml: tune.space.{name}"
        if name not in Head.model_fields:
            problems.append(
                f"params.yaml: tune.space has '{name}', which is no hyperparameter of the head. "
                f"There are: {', '.join(Head.model_fields)}.")
        elif isinstance(entry, list) and entry:
            problems += [sentence for value in entry if (sentence := _refused(name, value))]
        elif not (isinstance(entry, dict) and {"low", "high"} <= set(entry) <= {"low", "high",
                                                                                "log"}):
            problems.append(f"{where} must be a list of choices or a range "
                            "{low: ..., high: ..., log: true}.")
        elif not all(isinstance(entry[end], (int, float)) for end in ("low", "high")):
            problems.append(f"{where}: low and high must be numbers. YAML takes 1e-4 for a word; "
                            "write 0.0001 or 1.0e-4.")
        elif entry["low"] > entry["high"] or (entry.get("log") and entry["low"] <= 0):
            problems.append(f"{where}: low must not be above high, and on a log scale it must be "
                            "above 0.")
        else:
            problems += [sentence for end in ("low", "high")
                         if (sentence := _refused(name, entry[end]))]
    if problems:
        raise MoascopeError(problems)


def _refused(name: str, value: Any) -> str:
    from pydantic import ValidationError

    try:
        Head(**{name: value})
    except ValidationError as error:
        return (f"params.yaml: tune.space.{name}: {value!r} cannot be used: "
                f"{error.errors()[0]['msg'].lower()}.")
    return ""


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
        if np.isfinite(scores).all()   # a training that ran away is no choice
    ]


def study_tables(study: optuna.Study) -> dict[str, pd.DataFrame]:
    """What a person wants to see of a study, without times: the same trials give the same bytes.

    Returns
    -------
    dict
        trials : `trial, state, score, best, epochs` and what was drawn, one row an ended trial;
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
        else "log" if entry.log else "linear"
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


def ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended well or were pruned."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def _inside(entry: Any, value: Any) -> bool:
    if isinstance(entry, list):
        return value in entry
    return isinstance(entry, dict) and entry["low"] <= value <= entry["high"]


def _seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
