"""Runs that a process left open when it was killed are ended by the next one."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from moascope.work.identity import has_ended, this_process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PROCESS = "process"
# A run of which nobody can say whether its process lives is ended after this time. One that lives
# nevertheless sets its own end later.
LONGEST_SECONDS = 24 * 3600


def process_tag() -> dict[str, str]:
    """The tag that names the process which writes a run."""
    return {PROCESS: json.dumps(this_process(), sort_keys=True)}


def end_abandoned(client: MlflowClient, experiment_id: str) -> None:
    """End, as KILLED, the open runs of an experiment whose process is gone."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'",
                                  max_results=1000):
        if _is_abandoned(run):
            client.set_terminated(run.info.run_id, "KILLED")


def _is_abandoned(run: Run) -> bool:
    ended = has_ended(json.loads(run.data.tags.get(PROCESS, "{}")))
    if ended is None:
        return time.time() - run.info.start_time / 1000 > LONGEST_SECONDS
    return ended
