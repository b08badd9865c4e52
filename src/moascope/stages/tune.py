"""Let Optuna choose the head, judged by inner folds that no reported score comes from."""

from __future__ import annotations

from pathlib import Path

import yaml

from moascope.evaluation.crossvalidate import Inner, fold_pairs
from moascope.evaluation.study import choices, open_study, study_name, top_up
from moascope.models.examples import load_examples
from moascope.params import Params
from moascope.screen.plates import code_digest
from moascope.screen.tables import write_atomically
from moascope.stages.run import run


def tune(params: Params, embedded: Path, screen: Path, split: Path, out: Path,
         journal: Path) -> str:
    """Search dropout, learning rate, layers and the rest of tune.space."""
    examples = load_examples(embedded, screen, split)
    outer = Inner(examples, fold_pairs(examples)).outer_folds()
    if params.tune.trials == 0:
        write_atomically(out, yaml.safe_dump(choices(None, outer), sort_keys=True))
        journal.touch()
        return "no trials asked for (tune.trials = 0); the defaults are used"

    from moascope.tracking.comparison import NOTE, address
    from moascope.tracking.runs import TrialLog, dvc_digests, log_data, start_run

    code = code_digest("moascope.models.head", "moascope.evaluation.crossvalidate")
    name = study_name(examples, params.tune.space, params.train, params.target, code)
    metric = "inner_explained_information"
    inputs = {"features": embedded, "screen": screen, "split": split}
    title = f"study of {params.tune.trials} trials"
    with start_run(params, title, "tune", inputs, system_metrics=True) as parent:
        import mlflow

        study = open_study(params.tune.storage or str(journal), name)
        ran = _with_progress(params, study, examples, TrialLog(parent, metric))
        chosen = choices(study, outer)
        write_atomically(out, yaml.safe_dump(chosen, sort_keys=True))
        mlflow.log_params({f"best.{key}": value for key, value in chosen["final"].items()})
        best = study.best_trial
        mlflow.log_metrics({metric: best.value, "trials": len(study.get_trials(deepcopy=False))})
        mlflow.set_tags({
            "optuna.study": name,
            NOTE: f"Trial {best.number} explains {best.value:.1%} of the inner folds' labels. This "
                  "chooses the head; no reported score comes from these folds.\n\n"
                  f"[Compare the trials]({address(parent.info.experiment_id, 'trials')})",
        })
        mlflow.log_artifact(str(out))
        log_data(params.acquire.source, dvc_digests(inputs).get("screen", ""), "tuning")
    return (f"{ran} trials run, {params.tune.trials} asked for; trial {best.number} explains "
            f"{best.value:.0%} of the inner folds' labels; this chooses, it is not reported")


def _with_progress(params: Params, study, examples, log) -> int:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not Console(stderr=True).is_terminal,
                  transient=True) as progress:
        bar = progress.add_task("tune", total=params.tune.trials)

        def finished(study, trial) -> None:
            log(study, trial)
            progress.update(bar, completed=trial.number + 1)

        return top_up(study, examples, params.tune, params.train, params.seed, finished)


if __name__ == "__main__":
    run(tune)
