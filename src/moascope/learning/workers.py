"""Several processes, on one machine or many, run the trials of one Optuna study.

A trial that runs belongs to a worker. The worker says so in the trial, and goes on saying that it
lives; whoever notices that a trial's worker is gone runs the same trial again, with its number and
its parameters, so that a study that was interrupted ends like one that was not. The storage is all
that workers share, and it is the same procedure for a journal file and for a database.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from moascope.work.identity import has_ended, this_process

if TYPE_CHECKING:
    import optuna

# Seconds without a sign of life after which a worker elsewhere is taken to be gone.
LEASE = 60.0
SIGNS_A_LEASE = 6
PAUSE = 1.0
# Seconds after which a trial belongs to the last worker that claimed it.
CLAIM = 1.0
# A trial that ends its worker every time (memory, a fault in a library) is failed in the end.
MOST_ATTEMPTS = 10
WORKER = "worker"
SIGN = "sign_of_life"


def run_trials(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    target: int,
    ended: Callable[[optuna.Study, optuna.trial.FrozenTrial], None] = lambda study, trial: None,
    stay: bool = True,
    lease: float = LEASE,
) -> int:
    """Run trials until `target` of them have ended, whoever ran them.

    Parameters
    ----------
    study : optuna.Study
    objective : callable
        Returns a trial's score, or raises `optuna.TrialPruned`.
    target : int
        How many trials of the study are to end well or pruned. Trials that other workers are
        running count, so that workers together overshoot it by less than their number.
    ended : callable
        Called with the study and each trial, this worker's or another's, that ends meanwhile.
    stay : bool
        Wait for the trials of other workers, and run them where their workers are gone; otherwise
        return as soon as there is nothing left to begin.
    lease : float
        Seconds without a sign of life after which a trial of another machine is taken over.

    Returns
    -------
    int
        How many trials this worker ran.
    """
    from optuna.trial import TrialState

    reported = {trial.number for trial in study.get_trials(deepcopy=False)
            if trial.state.is_finished()}
    signs: dict[int, tuple[object, float]] = {}
    ran = 0
    while True:
        abandoned = _abandoned(study, signs, lease)
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.is_finished() and trial.number not in reported:
                reported.add(trial.number)
                ended(study, trial)
        done = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if abandoned and (done >= target or _attempts(abandoned[0]) >= MOST_ATTEMPTS):
            _fail(study, abandoned[0])
        elif abandoned:
            if claimed := _claim(study, abandoned[0]):
                _run_one(study, claimed, objective, lease)
                ran += 1
        elif done + running < target:
            _run_one(study, _begin(study), objective, lease)
            ran += 1
        elif running and stay:
            time.sleep(min(PAUSE, lease / SIGNS_A_LEASE))
        else:
            return ran


def _begin(study: optuna.Study) -> optuna.Trial:
    """A new trial that names its worker from the first moment, as `Study.ask` cannot."""
    import optuna

    named = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING,
                                      user_attrs={WORKER: this_process()})
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, named))


def _run_one(study: optuna.Study, trial: optuna.Trial, objective: Callable[[optuna.Trial], float],
             lease: float) -> None:
    from optuna import TrialPruned
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    # Only a worker that slept for longer than its lease (a closed laptop) finds its trial ended
    # by another; it leaves it at that.
    with contextlib.suppress(UpdateFinishedTrialError), _signs_of_life(trial, lease):
        try:
            score = objective(trial)
        except TrialPruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except UpdateFinishedTrialError:
            raise
        except BaseException:
            _release(study, trial.number)
            raise
        else:
            study.tell(trial, score, skip_if_finished=True)


@contextlib.contextmanager
def _signs_of_life(trial: optuna.Trial, lease: float) -> Iterator[None]:
    """While the block runs, change an attribute of the trial several times a lease."""
    over = threading.Event()

    def give_signs() -> None:
        number = 0
        while not over.wait(lease / SIGNS_A_LEASE):
            number += 1
            # A storage that does not answer just now gets the next sign; the trial itself will
            # find out if it stays away.
            with contextlib.suppress(Exception):
                trial.storage.set_trial_user_attr(trial._trial_id, SIGN, number)

    thread = threading.Thread(target=give_signs, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _abandoned(study: optuna.Study, signs: dict[int, tuple[object, float]],
               lease: float) -> list[optuna.trial.FrozenTrial]:
    """Running trials whose worker is gone; `signs` is what was seen of them, and when.

    A worker of this machine is gone when its process is. Of another machine's only the signs of
    life are seen; they are timed by the watcher's own clock, so that clocks need not agree.
    """
    from optuna.trial import TrialState

    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER, {})
        sign = (worker, trial.user_attrs.get(SIGN))
        now = time.monotonic()
        if trial.number not in signs or signs[trial.number][0] != sign:
            signs[trial.number] = (sign, now)
        silent = now - signs[trial.number][1] > lease
        if silent or worker.get("released") or has_ended(worker):
            found.append(trial)
    return found


def _claim(study: optuna.Study, abandoned: optuna.trial.FrozenTrial) -> optuna.Trial | None:
    """Take over a trial; None where another worker claims it too, and last.

    No storage can say "if it is still nobody's". All who noticed at the same moment have written
    their claim within a second, and the last one stands.
    """
    import optuna

    mine = this_process() | {"attempts": _attempts(abandoned) + 1, "claim": uuid.uuid4().hex}
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_user_attr(abandoned._trial_id, WORKER, mine)
        time.sleep(CLAIM)
        now = study._storage.get_trial(abandoned._trial_id)
        if now.user_attrs.get(WORKER) == mine and not now.state.is_finished():
            # It has its number and what was drawn for it; what was not is drawn as it would
            # have been.
            return optuna.Trial(study, abandoned._trial_id)
    return None


def _attempts(trial: optuna.trial.FrozenTrial) -> int:
    return trial.user_attrs.get(WORKER, {}).get("attempts", 1)


def _release(study: optuna.Study, number: int) -> None:
    """Leave a trial to whoever comes next, also to the next run."""
    # Where the storage is what failed, the end of this process says the same.
    with contextlib.suppress(Exception):
        trial = study.get_trials(deepcopy=False)[number]
        study._storage.set_trial_user_attr(
            trial._trial_id, WORKER, {"released": True, "attempts": _attempts(trial)})


def _fail(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    # Another worker may notice at the same moment.
    with contextlib.suppress(UpdateFinishedTrialError):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
