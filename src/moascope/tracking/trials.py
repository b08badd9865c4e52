"""The trials of a study as runs below the study's run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moascope.tracking.endings import process_tag

if TYPE_CHECKING:
    from mlflow.entities import Run

# How the run of a trial ends; a pruned or failed one ends as KILLED.
ENDED = {"COMPLETE": "FINISHED"}


class TrialLog:
    """Child runs of a study's run, one per trial.

    Parameters
    ----------
    parent : mlflow.entities.Run
        The study's run.
    metric : str
        Name of the score of a trial.
    """

    def __init__(self, parent: Run, metric: str):
        from mlflow import MlflowClient

        self.client = MlflowClient()
        self.parent = parent
        self.metric = metric
        self.cut_short: dict[int, str] = {}

    def known(self, study: str) -> set[int]:
        """Numbers of the study's trials that already have a run, below any parent.

        A run that was cut short while it was written is not among them; it is written again.
        """
        found: set[int] = set()
        self.cut_short = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.parent.info.experiment_id], f"tags.`optuna.study` = '{study}'",
                max_results=1000, page_token=token)
            for run in page:
                if "optuna.trial" not in run.data.tags:
                    continue
                number = int(run.data.tags["optuna.trial"])
                # The state is written last, and the run ended after it.
                state = run.data.tags.get("optuna.state")
                if state and run.info.status == ENDED.get(state, "KILLED"):
                    found.add(number)
                else:
                    self.cut_short[number] = run.info.run_id
            token = page.token
            if not token:
                return found

    def __call__(self, study: Any, trial: Any) -> None:
        """Log a finished Optuna trial. A pruned or failed one ends as KILLED."""
        from mlflow.entities import Metric, Param, RunTag

        stamp = int(trial.datetime_start.timestamp() * 1000)
        run_id = self.cut_short.get(trial.number) or self.client.create_run(
            self.parent.info.experiment_id,
            start_time=stamp,
            run_name=f"trial {trial.number:03d}",
            tags={"mlflow.parentRunId": self.parent.info.run_id, "stage": "tune",
                  "optuna.study": study.study_name, "optuna.trial": str(trial.number),
                  **process_tag()},
        ).info.run_id
        metrics = [
            Metric(self.metric, sum(scores) / len(scores), stamp, int(epoch))
            for epoch, *scores in trial.user_attrs.get("inner_scores", [])
        ]
        if trial.value is not None:
            metrics.append(Metric(f"best_{self.metric}", round(trial.value, 6), stamp, 0))
        self.client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(key, str(value)) for key, value in trial.params.items()],
            tags=[RunTag("optuna.state", trial.state.name)],
        )
        self.client.set_terminated(
            run_id, ENDED.get(trial.state.name, "KILLED"),
            end_time=int(trial.datetime_complete.timestamp() * 1000)
        )
