"""Where MLflow's own page shows a run."""

from __future__ import annotations

import os
from typing import Any

from moascope.passwords import address_shown
from moascope.tracking.comparison import address, run_address, version_address
from moascope.tracking.moved import follow_project
from moascope.tracking.runs import project_root

# Where a plain `mlflow ui` serves.
LOCAL_PAGE = "http://127.0.0.1:5000"


def results_pages(registered: dict[str, Any]) -> list[tuple[str, str]]:
    """Pages of MLflow to look at after a run, on the server in use or on a local one.

    Parameters
    ----------
    registered : dict
        As in registration.json.

    Returns
    -------
    list of (str, str)
        Words and address. Empty where the tracking store is a database that is not here, as after
        `dvc pull` on another machine.
    """
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not server and not (project_root() / "mlflow.db").exists():
        return []
    if not server:
        # So that `mlflow ui` finds the artifacts of a project that was moved or copied.
        follow_project(project_root())
    base = address_shown(server).rstrip("/") if server.startswith("http") else LOCAL_PAGE
    experiment, run = registered.get("experiment_id"), registered["run_id"]
    model = ("the model", f"{base}/{version_address(registered['name'], registered['version'])}")
    if experiment is None:   # registered by an earlier moascope
        return [model]
    return [
        ("all results compared", f"{base}/{address(experiment, 'results')}"),
        ("the trials compared", f"{base}/{address(experiment, 'trials')}"),
        ("this run", f"{base}/{run_address(experiment, run)}"),
        model,
    ]
