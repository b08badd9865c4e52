"""Commands for results and models: the last scores, predictions, promotion."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moascope.errors import MoascopeError


class Level(StrEnum):
    """What one row of the predictions is."""

    site = "site"
    well = "well"
    compound = "compound"


class Alias(StrEnum):
    """What a model is promoted to."""

    staging = "staging"
    production = "production"


def summary(
    report: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("reports"),
    data: Annotated[Path, typer.Option(help="Data folder of the project.")] = Path("data"),
) -> None:
    """Show the last run: its scores next to their nulls, and where to look further."""
    from moascope.report.summary import read_results, show_summary
    from moascope.tracking.pages import results_pages

    results = read_results(report, data)
    show_summary(results, results_pages(results.registered))


def predict(
    model: Annotated[str, typer.Option(help="models:/NAME@candidate, models:/NAME/3, "
                                            "runs:/ID/model, or a folder such as "
                                            "data/train/model.")],
    screen: Annotated[Path, typer.Option(help="Folder with load_data.csv or profiles, "
                                              "layout.csv and annotations.csv.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    level: Annotated[Level, typer.Option(help="One row per site, well or compound.")]
    = Level.compound,
    report: Annotated[Path | None, typer.Option(
        help="Also write a page (HTML) on the compounds that the model has not seen: images, "
             "neighbours, and what each prediction rests on.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that prepare plates.")] = 2,
    allow_outside: Annotated[bool, typer.Option(
        "--allow-outside", help="Also read images outside the folder, where its source.json or a "
                                "link leads to them.")] = False,
) -> None:
    """Predict the compounds of a screen with a trained model.

    Writes one row per site, well or compound: its Metadata_ columns, P_<class> for every class,
    Predicted, Set (the classes that cannot be excluded), Nearest (the most similar training
    compound), Novelty_P, Batch, Activity ("inactive: looks like DMSO", by the negative controls of
    these plates), and Call: a class, undecided, inactive, novel or control. docs/predictions.md
    explains them.

    Example: moascope predict --model models:/moascope@candidate --screen my_screen
    --level well --out predictions.csv
    """
    from moascope.api.models import load_model
    from moascope.evaluation.active import is_inactive, measured_activity, with_activity
    from moascope.learning.calls import CALL, EARLIER, summary, with_inactive
    from moascope.learning.predictions import for_people
    from moascope.learning.predictor import predict_features, screen_features
    from moascope.report.predicted import prediction_page
    from moascope.screen.description import read_description
    from moascope.screen.tables import read_given_screen
    from moascope.work.files import write_atomically, write_csv

    predictor = load_model(model)
    read = read_given_screen(screen, allow_outside)
    with contextlib.ExitStack() as scratch:
        # The page shows crops, which are kept only for it.
        work = None if report is None else Path(scratch.enter_context(
            tempfile.TemporaryDirectory(prefix="moascope-")))
        table = screen_features(predictor.model, read, jobs, work)
        activity = measured_activity(table, read.layout)
        if report is not None and work is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(report, prediction_page(
                predictor.model, read, table, activity.compounds, work / "prepare",
                simulated=read_description(screen).get("source") == "simulated").text)
    predictions, warnings = predict_features(predictor.model, read, table, level.value)
    predictions = with_activity(predictions, activity.compounds)
    inactive = is_inactive(predictions)
    predictions = with_inactive(predictions, inactive, predictor.model)
    for warning in (*warnings, *activity.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    write_csv(out, for_people(predictions))
    if CALL in predictions:
        print(summary(predictions, predictor.question, level.value, inactive))
    else:
        print(f"warning: {EARLIER}", file=sys.stderr)
    print(f"{len(predictions)} predictions, one per {level.value}, are in {out}.")
    if report is not None:
        print(f"The page is {report}.")


def serve(
    model: Annotated[str, typer.Argument(help="models:/NAME@staging, models:/NAME/3, "
                                              "runs:/ID/model, or a folder from `mlflow artifacts "
                                              "download`.")],
    screens: Annotated[Path | None, typer.Option(
        help="Folder of the screens that requests may name; MOASCOPE_SCREENS by default. Without "
             "one, images are refused.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at. The server knows no passwords: "
                                           "put a proxy that does before any other than this "
                                           "machine's own.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 5000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes with the model; one per "
                                                            "processor by default.")] = None,
) -> None:
    """Serve a registered model over HTTP, as MLflow does, with metrics and a log for machines.

    POST /invocations takes and gives what `mlflow models serve` does; /health, /ping and /version
    too; /metrics is for Prometheus. The log is one JSON object a line, each with the X-Request-ID
    of its request. docs/deploy.md shows a request.

    Example: moascope serve models:/moascope@staging --screens /plates --port 8080
    """
    from moascope.serving.serve import serve_model

    serve_model(model, host, port, screens, workers)


def promote(
    to: Annotated[Alias, typer.Option(help="Only the version that holds staging can go to "
                                           "production.")] = Alias.staging,
    model: Annotated[str | None, typer.Option(help="Name in the registry; register.name of "
                                                   "params.yaml by default.")] = None,
    version: Annotated[int | None, typer.Option(help="Version to promote; by default the one that "
                                                     "holds candidate (for production: "
                                                     "staging).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the decision and write "
                                                            "nothing.")] = False,
    unseen_only: Annotated[bool, typer.Option(
        "--unseen-only", help="Score only the held-out compounds that neither model was trained "
                              "on, if one of them was trained on some.")] = False,
    exit_zero: Annotated[bool, typer.Option(
        "--exit-zero", help="Exit with status 0 even if the model is refused or nothing can be "
                            "decided: for the last step of a run.")] = False,
    data: Annotated[Path, typer.Option(help="Data folder of the project.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="Folder for promotion.json and history.csv.")]
    = Path("reports/promote"),
) -> None:
    """Promote a registered model to staging or production, if it passes the gate.

    The candidate and the model that holds the alias are loaded from the registry and scored on the
    held-out compounds, which neither was trained on. The section [bold]promote[/bold] of
    params.yaml is the gate: a minimum score, better than chance and than every baseline that sees
    no biology, and not worse than the model that holds the alias.

    A model that passes gets the alias, and the exit status is 0. Otherwise no alias changes, the
    reasons are shown, and the status is 1. Every decision is recorded in MLflow (experiment
    "NAME promotions" and tags of the version) and in reports/promote.

    Example: moascope promote --dry-run && moascope promote && moascope promote --to production
    """
    from moascope.params_file import load_params
    from moascope.promotion.contenders import UndecidedError
    from moascope.promotion.promote import promote as decide
    from moascope.promotion.records import HOLDS, REFUSED, sentence
    from moascope.promotion.shown import show_decision, show_not_promoted

    try:
        record = decide(load_params(), data, report, to.value, model,
                        None if version is None else str(version), unseen_only, dry_run)
    except UndecidedError as undecided:
        if not exit_zero:
            raise
        show_not_promoted("The model stays a candidate: there is nothing to decide by.",
                          undecided.problems)
        return
    if record["decision"] != HOLDS:
        show_decision(record)
    said = ("Dry run, nothing is written. Without it: " if dry_run else "") + sentence(record)
    if record["decision"] == REFUSED and exit_zero:
        show_not_promoted(said, record["reasons"])
        return
    if record["decision"] == REFUSED:
        raise MoascopeError([said, *record["reasons"]])
    print(said)
