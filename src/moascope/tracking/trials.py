"""The trials of a study as runs below the study's run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run


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

    def known(self, study: str) -> set[int]:
        """Numbers of the study's trials that already have a run, below any parent."""
        found: set[int] = set()
        token = None
        while True:
            page = self.client.search_runs(
                [self.parent.info.experiment_id], f"tags.`optuna.study` = '{study}'",
                max_results=1000, page_token=token)
            found |= {int(run.data.tags["optuna.trial"]) for run in page
                      if "optuna.trial" in run.data.tags}
            token = page.token
            if not token:
                return found

    def __call__(self, study: Any, trial: Any) -> None:
        """Log a finished Optuna trial. A pruned or failed one ends as KILLED."""
        from mlflow.entities import Metric, Param, RunTag
        from optuna.trial import TrialState

        stamp = int(trial.datetime_start.timestamp() * 1000)
        run = self.client.create_run(
            self.parent.info.experiment_id,
            start_time=stamp,
            run_name=f"trial {trial.number:03d}",
            tags={"mlflow.parentRunId": self.parent.info.run_id},
        )
        metrics = [
            Metric(self.metric, sum(scores) / len(scores), stamp, int(epoch))
            for epoch, *scores in trial.user_attrs.get("inner_scores", [])
        ]
        if trial.value is not None:
            metrics.append(Metric(f"best_{self.metric}", round(trial.value, 6), stamp, 0))
        self.client.log_batch(
            run.info.run_id,
            metrics=metrics,
            params=[Param(key, str(value)) for key, value in trial.params.items()],
            tags=[RunTag("stage", "tune"), RunTag("optuna.study", study.study_name),
                  RunTag("optuna.trial", str(trial.number)),
                  RunTag("optuna.state", trial.state.name)],
        )
        ended = "FINISHED" if trial.state == TrialState.COMPLETE else "KILLED"
        self.client.set_terminated(
            run.info.run_id, ended, end_time=int(trial.datetime_complete.timestamp() * 1000)
        )
