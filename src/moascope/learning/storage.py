"""Where a study is kept, and how its trials are drawn and pruned: opening an Optuna study."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moascope.errors import MoascopeError
from moascope.learning.space import given_to, kinds_of
from moascope.params import Tune
from moascope.passwords import address_shown, scrub
from moascope.work.servers import ANSWER_SECONDS, require_answer

if TYPE_CHECKING:
    import optuna
    from optuna.storages.journal._file import BaseJournalFileLock

STORAGE_VARIABLE = "MOASCOPE_STORAGE"

# Of a study's first trials: how many are drawn at random, and how many are never pruned.
STARTUP = 10
NEVER_PRUNED = 5


def study_storage(tune: Tune, journal: Path) -> str:
    """Where the study is kept: `$MOASCOPE_STORAGE`, else tune.storage, else the journal file."""
    return os.environ.get(STORAGE_VARIABLE) or tune.storage or str(journal)



def open_study(storage: str, name: str, tune: Tune | None = None, make: bool = True,
               seed: int = 0) -> optuna.Study:
    """Open a study.

    Parameters
    ----------
    storage : str
        A database address (`postgresql://...`) or the path of a journal file. The journal suits
        one machine, a database many.
    name : str
    tune : Tune, optional
        `pruner` is read, and of `space` where the defaults lie, which are tried first.
    make : bool
        Make the study where it is not there yet.
    seed : int
        Of the proposals. The study's name is not: it holds digests of features and code, which
        differ between machines by rounding, and the same project must propose the same trials.

    Raises
    ------
    MoascopeError
        When the storage cannot be opened, or has no such study and `make` is false.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in storage:
        # PostgreSQL's own library then gives up as soon as we do.
        os.environ.setdefault("PGCONNECT_TIMEOUT", f"{ANSWER_SECONDS:.0f}")
        require_answer(storage, "The study's storage", "Start it, or correct params.yaml: "
                       f"tune.storage or ${STORAGE_VARIABLE}.")
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
        # Every database driver has its own exceptions; the address is what a person can correct.
        raise MoascopeError(
            f"The study's storage {address_shown(storage)} (params.yaml: tune.storage, or "
            f"${STORAGE_VARIABLE}) cannot be opened: {_reason(error, storage)}"
        ) from None
    if study is None:
        raise MoascopeError(
            f"There is no study '{name}' in {address_shown(storage)}. Start the pipeline first "
            "(`dvc repro`), with the same params.yaml and the same data here as there."
        )
    study.sampler = _sampler(seed, (tune or Tune()).space)
    study.pruner = _pruner(tune or Tune())
    return study



def _reason(error: Exception, storage: str) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package '{error.name}' is needed for it. Install it."
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return scrub(line.replace(storage, address_shown(storage)), storage)



def _journal(path: Path, make: bool) -> optuna.storages.BaseStorage | None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if not path.exists():
        if not make:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = _journal_lock(path)
    path.touch()   # what is not there cannot be locked

    class Named(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            try:
                super().append_logs(logs)
            except OSError as error:
                # An error of writing does not say which file it was.
                error.filename = error.filename or str(path)
                raise

    backend = Named(str(path), lock_obj=lock)
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



def _journal_lock(path: Path) -> BaseJournalFileLock:
    """A lock on the journal itself, which the system releases when its holder is killed.

    Optuna's own are files that a killed worker leaves behind, and the next waits half a minute.
    """
    import threading

    from optuna.storages.journal import JournalFileSymlinkLock
    from optuna.storages.journal._file import BaseJournalFileLock

    try:
        import fcntl
    except ModuleNotFoundError:   # Windows
        return JournalFileSymlinkLock(str(path))

    class Lock(BaseJournalFileLock):
        def __init__(self):
            self.own_threads = threading.Lock()

        def acquire(self) -> bool:
            self.own_threads.acquire()
            self.file = path.open("r+b")
            fcntl.flock(self.file, fcntl.LOCK_EX)
            return True

        def release(self) -> None:
            self.file.close()
            self.own_threads.release()

    return Lock()


def _pruner(tune: Tune) -> optuna.pruners.BasePruner:
    import optuna

    if tune.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=NEVER_PRUNED)
    if tune.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1)
    return optuna.pruners.NopPruner()



def _sampler(seed: int, space: dict[str, Any]) -> optuna.samplers.BaseSampler:
    """TPE seeded, for each trial anew, by the seed and the trial's number.

    A study that was stopped goes on as if it had not been, and no two workers draw the same. The
    first trials are given what they try; see `space.given_to`.
    """
    import optuna

    kinds = len(kinds_of(space))

    class Numbered(optuna.samplers.BaseSampler):
        def before_trial(self, study, trial):
            self.given = given_to(trial.number, space)
            self.tpe = optuna.samplers.TPESampler(
                n_startup_trials=STARTUP, seed=_seed_of(f"{seed} {trial.number}"))

        def infer_relative_search_space(self, study, trial):
            if trial.number < kinds:
                return {}
            space = self.tpe.infer_relative_search_space(study, trial)
            return {name: entry for name, entry in space.items() if name not in self.given}

        def sample_relative(self, study, trial, search_space):
            return self.tpe.sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, name, distribution):
            if name in self.given:
                return self.given[name]
            return self.tpe.sample_independent(study, trial, name, distribution)

    return Numbered()



def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

