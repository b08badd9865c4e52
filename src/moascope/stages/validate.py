"""Stage validate: look at every table and every image before anything is computed from them."""

from __future__ import annotations

from pathlib import Path

from moascope.params import Params
from moascope.screen.readings import FOLDER
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen, refuse_few
from moascope.validation.checks import closing_words, stop_if_critical, validate_screen
from moascope.work.processes import default_jobs


def validate(params: Params, screen: Path, out: Path, report: Path) -> str:
    """Check the tables and every image; those that acquire read are not opened again.

    Leaves facts of every plane (planes.parquet), the sites that no later stage may use and why
    (quarantine.csv), and what was expected and found (validation.json, data_docs/index.html).
    Stops where something critical is wrong; all else is reported.
    """
    from moascope.tracking.screens import log_validation

    # A question that the annotations cannot answer should not wait until everything is embedded.
    labels = label_screen(read_screen(screen), params.target)
    refuse_few(labels.groups, labels.question)
    validation = validate_screen(params.validate_, screen, out, report, default_jobs(),
                                 screen.with_name(FOLDER))
    for warning in validation["warnings"]:
        print(f"validate: {warning}")
    log_validation(params, validation, report / "data_docs")
    stop_if_critical(validation, params.validate_)
    return closing_words(validation, report / "validation.json")
