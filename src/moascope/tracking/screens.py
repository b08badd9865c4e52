"""A screen before any model: its validation and its page, as runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moascope.params import Params
from moascope.tracking.comparison import NOTE, run_address
from moascope.tracking.numbers import flat_numbers
from moascope.tracking.runs import experiment_name, start_run

if TYPE_CHECKING:
    from mlflow.entities import Run


def log_validation(params: Params, validation: dict, data_docs: Path) -> None:
    """Log the outcome of validation and its Data Docs to their own run.

    Parameters
    ----------
    params : Params
    validation : dict
        As in validation.json; numbers in it become metrics.
    data_docs : Path
        Folder of HTML pages.
    """
    import mlflow

    inputs = {"screen": Path("data/acquire")}
    name = f"validation, {validation['sites']:,} sites"
    with start_run(params, name, "validate", inputs) as run:
        mlflow.log_metrics({key: value for key, value in flat_numbers(validation).items()
                            if key.count(".") <= 1})
        mlflow.log_dict(validation, "validation.json")
        mlflow.set_tag(NOTE, validation_note(validation, run, data_docs.exists()))
        if data_docs.exists():
            mlflow.log_artifacts(str(data_docs), "data_docs")


def validation_note(validation: Mapping[str, Any], run: Run, documented: bool) -> str:
    """The description of a validation's run, in Markdown."""
    failed = [outcome["expectation"] for outcome in validation.get("expectations", [])
              if not outcome["success"]]
    sites, lost = validation["sites"], validation["quarantine"]["sites"]
    lines = [f"**{sites - lost:,} of {sites:,} sites usable**, {lost:,} in quarantine; "
             f"{validation['plates']} plates, {validation['compounds']} compounds."]
    lines += [f"- Not as expected: {sentence}" for sentence in failed]
    lines += [f"- {sentence}" for sentence in validation.get("warnings", [])]
    if documented:
        page = run_address(run.info.experiment_id, run.info.run_id, "data_docs/index.html")
        lines.append(f"\n[Great Expectations' Data Docs]({page})")
    return "\n".join(lines)


def log_screen(params: Params, content: dict) -> None:
    """Log the confounds of a screen's layout to their own run.

    Parameters
    ----------
    params : Params
    content : dict
        As in screen.json.
    """
    import mlflow

    inputs = {"screen": Path("data/acquire")}
    with start_run(params, f"screen {experiment_name(params)}", "split", inputs):
        mlflow.log_metrics({f"confound.{one['name']}": one["value"]
                            for one in content["confounds"] if one["value"] is not None})
        mlflow.log_dict(content, "screen.json")
