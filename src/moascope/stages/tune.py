"""Let Optuna choose the head, judged by inner folds that no reported score comes from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import yaml

from moascope.learning.examples import Examples
from moascope.learning.joining import load_examples
from moascope.learning.nested import Inner, fold_pairs
from moascope.learning.space import settled
from moascope.learning.storage import open_study, study_storage
from moascope.learning.study import study_name, top_up
from moascope.learning.trials import (
    Choice,
    candidates,
    choices,
    choose,
    ended_trials,
    study_tables,
)
from moascope.params import NETWORK, Params
from moascope.report.study import save_pictures
from moascope.text import counted
from moascope.work.files import write_atomically, write_csv
from moascope.work.processes import progress

if TYPE_CHECKING:
    import optuna

    from moascope.tracking.trials import TrialLog

METRIC = "inner_explained_information"
DIGITS = 6
NO_TRIALS = {"trials": ["trial", "state", "score", "best", "epochs", "taken"],
             "curves": ["trial", "epoch", "score"],
             "parameters": ["parameter", "scale", "importance"]}


def tune(params: Params, embedded: Path, screen: Path, split: Path, out: Path,
         journal: Path, report: Path) -> str:
    """Search dropout, learning rate, layers and the rest of tune.space."""
    examples = load_examples(embedded, screen, split)
    outer = Inner(examples, fold_pairs(examples)).outer_folds()
    # DVC expects its outputs also where no trial runs or a database holds the study.
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.touch()
    if params.tune.trials == 0:
        write_atomically(out, yaml.safe_dump(choices(None, outer), sort_keys=True))
        for table, columns in NO_TRIALS.items():
            write_csv(report / f"{table}.csv", pd.DataFrame(columns=columns))
        return "no trials wanted (tune.trials = 0); the defaults are used"

    from moascope.tracking.comparison import NOTE, address
    from moascope.tracking.runs import dvc_digests, log_data, start_run
    from moascope.tracking.trials import TrialLog

    settings = settled(params)
    name = study_name(examples, settings.space, params.train, params.target)
    inputs = {"features": embedded, "screen": screen, "split": split}
    title = f"study of {params.tune.trials} trials"
    with start_run(params, title, "tune", inputs, system_metrics=True) as parent:
        import mlflow

        study = open_study(study_storage(settings, journal), name, settings, seed=params.seed)
        ran = _with_progress(params, study, examples, TrialLog(parent, METRIC))
        chosen = choices(study, outer)
        write_atomically(out, yaml.safe_dump(chosen, sort_keys=True))
        mlflow.log_params({f"best.{key}": value for key, value in chosen["final"].items()})
        choice = choose(candidates(study), outer)
        best = choice.best
        tables = study_tables(study, choice.candidate.trial)
        pruned = int((tables["trials"]["state"] == "pruned").sum())
        mlflow.log_metrics({METRIC: best.scores.mean(), "best_trial": best.trial,
                            "trials": len(tables["trials"]), "trials_pruned": pruned})
        mlflow.set_tags({
            "optuna.study": name,
            NOTE: f"Best trial {best.trial}, inner pseudo-R² {best.scores.mean():.3f} (the share "
                  "of the inner folds' label entropy that it explains). Used for selection; no "
                  f"reported score comes from these folds. {_reason(choice)}\n\n"
                  f"[Compare the trials]({address(parent.info.experiment_id, 'trials')})",
        })
        mlflow.log_artifact(str(out))
        for table, rows in tables.items():
            write_csv(report / f"{table}.csv", rows, DIGITS)
        with tempfile.TemporaryDirectory() as folder:
            save_pictures(Path(folder), tables)
            mlflow.log_artifacts(folder, "study")
        log_data(params, dvc_digests(inputs).get("screen", ""), "tuning")
    elsewhere = len(tables["trials"]) - ran
    others = f", {elsewhere} by earlier runs or other workers" if elsewhere > 0 else ""
    share = round(best.scores.mean(), 2) + 0.0   # no minus before a zero
    return (f"{counted(ran, 'trial')} run{others}, {params.tune.trials} wanted in total, {pruned} "
            f"pruned; best trial {best.trial}, inner pseudo-R² {share:.2f} (used for selection, "
            f"never reported). {_reason(choice)}")


def _reason(choice: Choice) -> str:
    from moascope.tracking.comparison import KINDS

    kind = KINDS.get(choice.best.params.get("head", NETWORK))
    return {
        "best": f"The head of trial {choice.best.trial}{f' ({kind})' if kind else ''} is taken",
        "default": "The default linear head is taken, because no trial is better by more than "
                   "luck explains",
        "chance": "No head explains the inner labels: nothing in these features was found to tell "
                  "the classes apart, and the default linear head is taken",
    }[choice.why]


def _with_progress(params: Params, study: optuna.Study, examples: Examples, log: TrialLog) -> int:
    with progress(params.tune.trials, "tune") as advance:
        known = log.known(study.study_name)
        for trial in ended_trials(study):
            # Workers may have ended trials while no stage was running to log them.
            if trial.number not in known:
                log(study, trial)
            advance()

        def ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            log(study, trial)
            if trial.state.name != "FAIL":
                advance()

        return top_up(study, examples, settled(params), params.train, params.seed, ended)
