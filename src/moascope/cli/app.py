"""The commands beside the pipeline. The pipeline itself is run by `dvc repro`."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moascope.errors import MoascopeError, address_shown

app = typer.Typer(
    name="moascope",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Tells from pictures of cells alone how a drug acts.

    The pipeline runs by [bold]dvc repro[/bold] and every experiment by
    [bold]dvc exp run -S train.dropout=0.5[/bold]; [bold]mlflow ui[/bold] shows the runs.
    The commands here work with what it made.""",
)


class Level(StrEnum):
    """What one row of the predictions is."""

    site = "site"
    well = "well"
    compound = "compound"


class Kind(StrEnum):
    """What wrote a folder of plates."""

    auto = "auto"
    loaddata = "loaddata"
    imagexpress = "imagexpress"
    harmony = "harmony"
    cellvoyager = "cellvoyager"
    incell = "incell"
    ometiff = "ometiff"
    omezarr = "omezarr"
    regex = "regex"


@app.callback()
def moascope() -> None:
    """Keeps `predict` a command of its own however many commands there are."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="acquire, validate, ...; its options follow.")],
) -> None:
    """Run one stage, as dvc.yaml does. `dvc repro` runs whichever stages are out of date."""
    from moascope.stages.run import run_stage

    run_stage(name, context.args)


@app.command()
def predict(
    model: Annotated[str, typer.Option(help="models:/<name>@candidate, models:/<name>/3, "
                                            "runs:/<id>/model, or a folder such as "
                                            "data/train/model.")],
    screen: Annotated[Path, typer.Option(help="Folder with load_data.csv, layout.csv and "
                                              "annotations.csv.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    level: Annotated[Level, typer.Option(help="One row a site, a well or a compound.")]
    = Level.compound,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that prepare plates.")] = 2,
) -> None:
    """Predict a screen that the model need not have seen.

    Writes one row a unit: its Metadata_ columns, P_<class> for every class, and Predicted.

    Example: moascope predict --model models:/moascope@candidate --screen my_screen
    --level well --out predictions.csv
    """
    from moascope.learning.predictor import load_predictor, predict_screen
    from moascope.screen.tables import read_screen
    from moascope.work.files import write_atomically

    predictor = load_predictor(_model_folder(model))
    predictions, warnings = predict_screen(predictor, read_screen(screen), level.value, jobs)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, predictions.to_csv(index=False, lineterminator="\n"))
    print(f"{len(predictions)} predictions, one a {level.value}, are in {out}.")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(
        metavar="FOLDER", help="Holds the images of one plate or more; they stay where they are.")],
    out: Annotated[Path, typer.Option(help="Folder that receives the three tables.")],
    kind: Annotated[Kind, typer.Option(help="What wrote the images.")] = Kind.auto,
    pattern: Annotated[str | None, typer.Option(
        help="Regular expression with the groups plate, well (or row and column), site, channel, "
             "z, t; for --kind regex.")] = None,
    layout: Annotated[Path | None, typer.Option(
        help="Plate map: CSV with a row a well, or a grid of the plate.")] = None,
    channels: Annotated[str, typer.Option(
        help="New names of channels, such as w1=DNA,w2=GFP; an empty one leaves it out.")] = "",
    z: Annotated[int | None, typer.Option(help="Which plane of a stack; else the first.",
                                          show_default=False)] = None,
    t: Annotated[int | None, typer.Option(help="Which time point; else the first.",
                                          show_default=False)] = None,
    follow_links: Annotated[bool, typer.Option(
        "--follow-links", help="Take symbolic links that lead out of the folder.")] = False,
    update: Annotated[bool, typer.Option(
        "--update", help="Renew the tables in --out; what is filled in stays.")] = False,
) -> None:
    """Make the three tables of a screen from a folder of a microscope's images.

    Knows CellProfiler LoadData, ImageXpress, Opera Phenix (Harmony), CellVoyager, IN Cell, OME-TIFF
    and OME-Zarr; other names by a regular expression. What it cannot place is in unplaced.csv.

    Example: moascope import /plates/run7 --out run7 --channels w1=DNA,w2=GFP
    """
    from moascope.importing.plates import describe_import, import_plates, parse_channels

    imported = import_plates(
        folder, out, kind=kind.value, pattern=pattern, layout=layout,
        channels=parse_channels(channels), z=z, t=t, follow_links=follow_links, update=update)
    for warning in (*imported.notes, *imported.screen.warnings):
        print(f"note: {warning}", file=sys.stderr)
    print(describe_import(imported, out))


@app.command()
def work(
    data: Annotated[Path, typer.Option(help="The pipeline's data folder.")] = Path("data"),
) -> None:
    """Help the study that `dvc repro` is running, from another shell or another machine.

    Runs trials until as many as tune.trials asks for have begun. Start several, stop any of them
    at any time. Another machine needs the same data/ and params.yaml, and a database that both
    reach as tune.storage or $MOASCOPE_STORAGE.
    """
    from moascope.learning.examples import load_examples
    from moascope.learning.study import open_study, study_name, study_storage, top_up
    from moascope.params import load_params
    from moascope.text import counted

    params = load_params()
    for stage in ("embed", "acquire", "split"):
        if not (data / stage).is_dir():
            raise MoascopeError(f"{data / stage} is not there. Run `dvc repro split`, or bring it "
                                "here with `dvc pull`.")
    examples = load_examples(data / "embed", data / "acquire", data / "split")
    name = study_name(examples, params.tune.space, params.train, params.target)
    study = open_study(study_storage(params.tune, data / "tune" / "study.journal"), name,
                       params.tune, make=False)
    print(f"work: helps with the study '{name}'; Ctrl-C ends it and loses nothing but its trial",
          flush=True)
    ran = top_up(study, examples, params.tune, params.train, params.seed,
                 lambda study, trial: None, stay=False)
    print(f"work: {counted(ran, 'trial')} run here; all of {params.tune.trials} have begun")


@app.command()
def annotate(
    compounds: Annotated[Path, typer.Argument(metavar="IN.csv", help="annotations.csv, or a table "
                                              "of wells with Compound Name and Compound MoA; "
                                              "may be zipped.")],
    out: Annotated[Path, typer.Option(help="annotations.csv to write. If it is there, what "
                                           "persons said in it is kept.")],
    genes: Annotated[Path | None, typer.Option(help="Table of GPCR genes (hgnc_symbol).")] = None,
    targets: Annotated[Path | None, typer.Option(help="Table of compounds and their target "
                                                      "genes.")] = None,
    review: Annotated[Path | None, typer.Option(help="CSV file to write: what a person should "
                                                     "decide.")] = None,
    screen: Annotated[Path | None, typer.Option(help="Folder of the screen: orders the review by "
                                                     "images, and shows them.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Decide the review list in a browser, on "
                                                        "this machine.")] = False,
    curator: Annotated[str, typer.Option(envvar=["USER", "USERNAME"],
                                         help="Who decides.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
) -> None:
    """Decide from the words of each mechanism whether a GPCR is involved.

    Adds gpcr, gpcr_action, evidence and curator to each compound, by the versioned table of terms;
    lists what words cannot decide.

    Example: moascope annotate idr0088-screenA-annotation.csv.zip --out annotations.csv
    """
    from moascope.annotation.run import annotate_files, print_summary

    done = annotate_files(compounds, out, genes, targets, review, screen)
    print_summary(done, out, review)
    if serve:
        from moascope.annotation.serve import serve_review

        serve_review(done, out, curator, port)


@app.command()
def fetch(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it is, under which "
                                                            "licence, and whom to cite.")] = False,
    settings: Annotated[list[str] | None, typer.Option(
        "--set", "-S", help="A parameter, as for dvc exp run: acquire.source=idr0088")] = None,
) -> None:
    """Download the public screen that params.yaml selects (idr0088, bbbc021, bbbc013, bbbc016).

    `dvc repro` does so too; this is for looking first, and for downloading overnight. What is there
    is not asked for again, and a download that was cut off is gone on with.

    Example: moascope fetch --dry-run -S acquire.source=idr0088 -S idr0088.preset=honest
    """
    from moascope.params import load_params
    from moascope.sources.plan import plan_words
    from moascope.sources.remote import SOURCES, downloads_folder, fetch_remote, plan_remote

    params = load_params(settings=settings or ())
    if params.acquire.source not in SOURCES:
        raise MoascopeError(f"acquire.source is {params.acquire.source}, which needs no download. "
                            f"Set it to one of {', '.join(SOURCES)}.")
    if dry_run:
        for line in plan_words(plan_remote(params), params.acquire.per_second):
            print(line)
        return
    collected = fetch_remote(params)
    print(f"{len(collected.sites):,} images are in {downloads_folder(params.acquire)}, "
          f"{len(collected.missing):,} files are missing at the server. `dvc repro` finds them.")


@app.command()
def layout(
    screen: Annotated[Path, typer.Option(help="Folder with load_data.csv, layout.csv and "
                                              "annotations.csv; no image is read.")],
    out: Annotated[Path, typer.Option(help="Folder for screen.html and screen.json.")],
    target: Annotated[str, typer.Option(help="moa, gpcr, gpcr_agonist, gpcr_antagonist or one "
                                             "mechanism.")] = "moa",
) -> None:
    """Show what a screen's layout confounds, before anything is imaged or trained.

    Example: moascope layout --screen my_screen --out my_layout --target gpcr
    """
    from moascope.layout.page import SCREEN_PAGE, write_screen_page
    from moascope.learning.folds import assign_folds
    from moascope.params import Split
    from moascope.screen.description import read_description
    from moascope.screen.tables import read_screen
    from moascope.screen.targets import label_screen

    read = read_screen(screen)
    labels = label_screen(read, target)
    split = Split()
    folds = min(split.folds, len(labels.groups))
    groups = assign_folds(labels.groups, folds, split.repeats, holdout=0, seed=0)
    write_screen_page(out, read, labels, groups, read_description(screen), seed=0)
    print(f"The layout of {len(read.layout):,} wells is shown in {out / SCREEN_PAGE}.")


@app.command()
def distil(
    planes: Annotated[list[Path], typer.Argument(help="Screen folders, or folders of images. No "
                                                      "label is read.")],
    out: Annotated[Path, typer.Option(help="Folder for the student; a second call with the same "
                                           "options goes on where the first was stopped.")],
    teacher: Annotated[str, typer.Option(help="mobilenetv2, resnet50 or a .keras file.")]
    = "mobilenetv2",
    weights: Annotated[Path | None, typer.Option(help="The teacher's ImageNet weights, where they "
                                                      "cannot be downloaded.")] = None,
    width: Annotated[float, typer.Option(help="Share of MobileNetV2's channels: 0.35, 0.5 ...")]
    = 0.35,
    size: Annotated[int, typer.Option(min=32, help="Side of a crop, pixels.")] = 128,
    sees: Annotated[int, typer.Option(min=32, help="Side that the student shrinks a crop to: a "
                                                   "smaller one is faster.")] = 96,
    start: Annotated[str, typer.Option(help="random; teacher: a choice of its channels; or the "
                                           "path of another student.")]
    = "random",
    features: Annotated[int, typer.Option(help="Outputs of the student.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 2e-3,
    crops: Annotated[int, typer.Option(help="How many crops it learns from.")] = 450_000,
    native: Annotated[float, typer.Option(min=0, max=1, help="Share of crops that are not resized."
                                          )] = 0.5,
    loss: Annotated[str, typer.Option(help="mse or cosine.")] = "mse",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    most: Annotated[int, typer.Option(help="Planes a folder, at most.")] = 1300,
) -> None:
    """Teach a small network to see cells as a large one does, without labels.

    The result is a backbone: embed.backbone in params.yaml takes its path. KERAS_BACKEND=jax or
    torch trains the same on a GPU.

    Example: moascope distil data/acquire my_screen --out students/mine --crops 200000
    """
    from moascope.distillation.distil import distil as run
    from moascope.distillation.student import LOSSES, STARTS, Recipe
    from moascope.params import KERAS_FILE

    if loss not in LOSSES:
        raise MoascopeError(f"--loss {loss} is unknown; there are {', '.join(LOSSES)}.")
    if start not in STARTS and not start.endswith(KERAS_FILE):
        raise MoascopeError(f"--start {start} is unknown; there are {', '.join(STARTS)}, and the "
                            f"path of another student (*{KERAS_FILE}).")
    recipe = Recipe(width=width, size=size, sees=sees, start=start, features=features, loss=loss,
                    native=native, crops=crops, learning_rate=learning_rate, seed=seed)
    print(run(planes, out, teacher, weights, recipe, most))


@app.command()
def summary(
    report: Annotated[Path, typer.Option(help="The folder of reports.")] = Path("reports"),
) -> None:
    """Show the last run: its scores beside their nulls, and where to look further."""
    from rich.console import Console
    from rich.table import Table

    try:
        metrics = json.loads((report / "evaluate" / "metrics.json").read_text())
        registered = json.loads((report / "register" / "registration.json").read_text())
    except FileNotFoundError as missing:
        raise MoascopeError(
            f"{missing.filename} is not there: no run has ended here yet. Run `dvc repro`."
        ) from None
    console = Console()
    main = metrics["out_of_fold"]["compound"]
    table = Table(title=f"target {metrics['target']}, {metrics['source']} screen, "
                        f"{main['compounds']} unseen {metrics['unit']}s", title_justify="left")
    table.add_column("average precision of")
    table.add_column("AP", justify="right")
    table.add_column("95 % interval", justify="right")

    def row(name: str, score: dict, style: str | None = None) -> None:
        table.add_row(name, f"{score['average_precision']:.3f}",
                      f"{score['low']:.3f} to {score['high']:.3f}", style=style)

    row("the model", main, "bold")
    if "compound" in metrics["held_out"]:
        held = metrics["held_out"]["compound"]
        row(f"the model, {held['compounds']} held-out {metrics['unit']}s", held)
    table.add_row("chance (prevalence)", f"{main['prevalence']:.3f}",
                  f"{main['null_low']:.3f} to {main['null_high']:.3f}")
    for name, score in sorted(metrics["baselines"]["scores"].items()):
        if name != "prevalence":
            row(name.replace("_", " "), score)
    if "random_image_split" in metrics:
        leak = metrics["random_image_split"]["true_labels"]["compound"]
        row("INVALID: random split by image", leak, "dim")
    console.print(table)
    strong = sorted(metrics["mechanisms"].items(), key=lambda item: -item[1]["average_precision"])
    if strong:
        name, score = strong[0]
        console.print(f"Best-found mechanism: {name}, AP {score['average_precision']:.3f} at a "
                      f"prevalence of {score['prevalence']:.3f}.")
    console.print(f"Permutation p = {main['p']:.3g}: "
                  + ("above chance." if metrics["above_chance"] else "not above chance."))
    for caveat in metrics["caveats"] + metrics["warnings"]:
        console.print(caveat, style="yellow")
    console.print(f"Run {registered['run_id']}, model {registered['name']} version "
                  f"{registered['version']} (@{registered['alias']}).")
    console.print("Look at reports/evaluate/report.html, or start `mlflow ui` and open",
                  highlight=False)
    for words, link in _pages(registered):
        # A link that is broken over two lines cannot be clicked.
        console.print(f"  {words:<20} {link}", highlight=False, soft_wrap=True)


def _pages(registered: dict) -> list[tuple[str, str]]:
    """What to look at in MLflow, and where: on the server in use, or where `mlflow ui` serves."""
    from moascope.tracking.comparison import address, run_address, version_address

    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    base = (address_shown(server).rstrip("/") if server.startswith("http")
            else "http://127.0.0.1:5000")
    experiment, run = registered.get("experiment_id"), registered["run_id"]
    version = version_address(registered["name"], registered["version"])
    if experiment is None:   # registered by an earlier moascope
        return [("the model", f"{base}/{version}")]
    return [
        ("all results compared", f"{base}/{address(experiment, 'results')}"),
        ("the trials compared", f"{base}/{address(experiment, 'trials')}"),
        ("this run", f"{base}/{run_address(experiment, run)}"),
        ("the model", f"{base}/{version}"),
    ]


class Alias(StrEnum):
    """What a model is promoted to."""

    staging = "staging"
    production = "production"


@app.command()
def promote(
    to: Annotated[Alias, typer.Option(help="Production takes only what holds staging.")]
    = Alias.staging,
    model: Annotated[str | None, typer.Option(help="Name in the registry; without it, "
                                                   "register.name of params.yaml.")] = None,
    version: Annotated[int | None, typer.Option(help="Which version; without it, the one that "
                                                     "holds candidate (for production: "
                                                     "staging).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the decision, write "
                                                            "nothing.")] = False,
    unseen_only: Annotated[bool, typer.Option(
        "--unseen-only", help="Ask only about the held-out compounds that neither model was "
                              "trained on, where one of them knows some.")] = False,
    data: Annotated[Path, typer.Option(help="Folder of what the stages left.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="Folder for promotion.json and history.csv.")]
    = Path("reports/promote"),
) -> None:
    """Let a registered model through the gate to staging or production, or refuse it.

    The candidate and the model that holds the alias are loaded from the registry and asked about
    the held-out compounds, which neither was trained on. What the candidate has to show there is
    the section [bold]promote[/bold] of params.yaml: a floor, more than chance and than every
    baseline that sees no biology, and no less than the model that holds the alias.

    The winner gets the alias, and the exit status is 0. A loser changes no alias, the reasons are
    told, and the status is 1. Either way the decision is kept: in MLflow (experiment "<name>
    promotions", tags of the version) and in reports/promote.

    Example: moascope promote --dry-run && moascope promote && moascope promote --to production
    """
    from moascope.params import load_params
    from moascope.promotion.promote import promote as ask
    from moascope.promotion.promote import sentence

    record = ask(load_params(), data, report, to.value, model,
                 None if version is None else str(version), unseen_only, dry_run)
    if record["decision"] != "holds":
        _show_decision(record)
    said = ("Dry run, nothing is written. Without it: " if dry_run else "") + sentence(record)
    if record["decision"] == "refused":
        raise MoascopeError([said, *record["reasons"]])
    print(said)


def _show_decision(record: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    from moascope.text import counted

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    console = Console()
    held = record["held_out"]
    console.print(
        f"{record['name']} version {record['version']} to {record['to']}, target "
        f"{record['target']}, {held['compounds']} held-out {record['unit']}s"
        + (f" ({held['positives']} positive)" if "positives" in held else ""),
        style="italic", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("requirement")
    table.add_column("measured", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("ok")
    for line in record["requirements"]:
        table.add_row(line["name"], number(line["measured"]),
                      f"{line['sign']} {number(line['limit'])}",
                      "yes" if line["passed"] else "NO", style=None if line["passed"] else "bold")
    console.print(table)
    if held["left_out_as_seen"]:
        console.print(f"{held['left_out_as_seen']} held-out {record['unit']}s are left out: one of "
                      "the models was trained on them.", style="yellow")
    if not record["says_what_train_wrote"]:
        console.print(f"Version {record['version']} is not the model in data/train, so what it "
                      "says was not compared with what its training wrote.", style="yellow")
    if held["asked_before"]:
        console.print(f"{counted(held['asked_before'], 'decision')} about the same compounds came "
                      "before this one: the more there are, the luckier a winner may be.",
                      style="yellow")
    if record["source"] == "simulated":
        console.print("A simulated screen proves the software, never the biology.", style="yellow")


def _model_folder(model: str) -> Path:
    """The folder of a model given as a registry address or a path."""
    if "://" not in model and ":/" not in model:
        return Path(model)
    from moascope.tracking.registry import fetch_model

    return fetch_model(model)

