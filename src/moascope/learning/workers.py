"""Several processes, on one machine or many, run the trials of one Optuna study.

A trial that runs belongs to a worker. The worker says so in the trial, and goes on saying that it
lives; a trial whose worker is gone is failed and replaced by whoever notices. The storage is all
that workers share, and it is the same procedure for a journal file and for a database.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import optuna

# Seconds without a sign of life after which a worker elsewhere is taken to be gone.
LEASE = 60.0
SIGNS_A_LEASE = 6
PAUSE = 1.0
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
        Wait for the trials of other workers, and replace them where their workers are gone;
        otherwise return as soon as there is nothing left to begin.
    lease : float
        Seconds without a sign of life after which a trial of another machine is failed.

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
        _fail_abandoned(study, signs, lease)
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.is_finished() and trial.number not in reported:
                reported.add(trial.number)
                ended(study, trial)
        done = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if done + running < target:
            _run_one(study, objective, lease)
            ran += 1
        elif running and stay:
            time.sleep(min(PAUSE, lease / SIGNS_A_LEASE))
        else:
            return ran


def _run_one(study: optuna.Study, objective: Callable[[optuna.Trial], float],
             lease: float) -> None:
    from optuna import TrialPruned
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    trial = study.ask()
    with contextlib.suppress(UpdateFinishedTrialError):
        # Only a worker that slept for longer than its lease (a closed laptop) finds its trial
        # failed by another; it leaves it at that.
        trial.set_user_attr(WORKER, {"machine": _machine(), "process": os.getpid()})
        with _signs_of_life(trial, lease):
            try:
                score = objective(trial)
            except TrialPruned:
                study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            except UpdateFinishedTrialError:
                raise
            except BaseException:
                study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
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


def _fail_abandoned(study: optuna.Study, signs: dict[int, tuple[object, float]],
                    lease: float) -> None:
    """Fail running trials whose worker is gone; `signs` is what was seen of them, and when.

    A worker of this machine is gone when its process is. Of another machine's only the signs of
    life are seen; they are timed by the watcher's own clock, so that clocks need not agree.
    """
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER, {})
        sign = trial.user_attrs.get(SIGN)
        now = time.monotonic()
        if trial.number not in signs or signs[trial.number][0] != sign:
            signs[trial.number] = (sign, now)
        silent = now - signs[trial.number][1] > lease
        ended = (worker.get("machine") == _machine()
                 and not psutil.pid_exists(worker["process"]))
        if silent or ended:
            # Another worker may notice at the same moment.
            with contextlib.suppress(UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _machine() -> str:
    """What tells machines apart, and containers, whose process numbers are their own."""
    try:
        # Names of hosts will not do: containers that share the host's network share its name.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"
