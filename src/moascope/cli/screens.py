"""Commands for screens, before anything is trained: import, look, annotate, download."""

from __future__ import annotations

import dataclasses
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moascope.errors import MoascopeError


class Kind(StrEnum):
    """The software that wrote a folder of plates, or tables of profiles."""

    auto = "auto"
    loaddata = "loaddata"
    imagexpress = "imagexpress"
    harmony = "harmony"
    cellvoyager = "cellvoyager"
    incell = "incell"
    ometiff = "ometiff"
    omezarr = "omezarr"
    regex = "regex"
    pycytominer = "pycytominer"
    cytotable = "cytotable"
    cellprofiler = "cellprofiler"
    deepprofiler = "deepprofiler"
    matrix = "matrix"
    anndata = "anndata"


class Average(StrEnum):
    """How the cells of a well are averaged."""

    median = "median"
    mean = "mean"


def import_(
    paths: Annotated[list[str], typer.Argument(
        metavar="FOLDER|TABLE...", help="Folder with the images of one or more plates, which stay "
                                        "where they are; or a LoadData table, which may name them "
                                        "by addresses (s3://, gs://, https://); or tables of "
                                        "profiles, folders of them, or patterns such as "
                                        "'plates/*.parquet'.")],
    out: Annotated[Path, typer.Option(help="Folder to write the screen's tables to.")],
    kind: Annotated[Kind, typer.Option(
        metavar="KIND", help=f"What wrote the images or profiles: {', '.join(Kind)}.")] = Kind.auto,
    pattern: Annotated[str | None, typer.Option(
        help="For --kind regex: a regular expression with the groups plate, well (or row and "
             "column), site, channel, z, t.")] = None,
    layout: Annotated[Path | None, typer.Option(
        help="Plate map: a CSV file with one row per well, or a grid of the plate.")] = None,
    channels: Annotated[str, typer.Option(
        help="New names for channels, such as w1=DNA,w2=GFP; an empty name leaves the channel "
             "out.")] = "",
    z: Annotated[int | None, typer.Option(help="Plane to use from a stack, 0 for its "
                                               "projection; the first by default.",
                                          show_default=False)] = None,
    t: Annotated[int | None, typer.Option(help="Time point to use; the first by default.",
                                          show_default=False)] = None,
    follow_links: Annotated[bool, typer.Option(
        "--follow-links", help="Follow symbolic links that lead out of the folder.")] = False,
    update: Annotated[bool, typer.Option(
        "--update", help="Update the tables in --out and keep what you filled in.")] = False,
    annotations: Annotated[Path | None, typer.Option(
        help="Table with one row per compound: mechanism, structure, target.")] = None,
    replace: Annotated[list[str] | None, typer.Option(
        metavar="OLD=NEW", help="LoadData: a start of its paths, and the folder or address that it "
                                "is replaced by.")] = None,
    metadata: Annotated[Path | None, typer.Option(
        help="Profiles: a table with one row per row of a matrix, or DeepProfiler's "
             "index.")] = None,
    compound: Annotated[str | None, typer.Option(
        metavar="COLUMN", help="Profiles: the column that names the compound.")] = None,
    moa: Annotated[str | None, typer.Option(
        metavar="COLUMN", help="Profiles: the column with the mechanism.")] = None,
    plate: Annotated[str | None, typer.Option(
        metavar="COLUMN", help="Profiles: the column that names the plate.")] = None,
    well: Annotated[str | None, typer.Option(
        metavar="COLUMN", help="Profiles: the column that names the well.")] = None,
    average: Annotated[Average, typer.Option(
        metavar="median|mean", help="Profiles: how the cells of a well are averaged.")] = (
            Average.median),
) -> None:
    """Make a screen's tables from a microscope's image folder, or from profiles.

    Images: CellProfiler LoadData, ImageXpress, Opera Phenix (Harmony), CellVoyager, IN Cell,
    OME-TIFF and OME-Zarr; other file names by a regular expression. Files that cannot be placed
    are listed in unplaced.csv with the reason.

    Profiles: pycytominer (CSV, Parquet), CytoTable, CellProfiler (CSV, SQLite), DeepProfiler,
    NumPy matrices and AnnData; written to profiles.parquet, one row per well or site.

    Example: moascope import /plates/run7 --out run7 --channels w1=DNA,w2=GFP

    Example: moascope import load_data.csv --out my_screen

    Example: moascope import 'profiles/*_normalized.csv.gz' --out my_screen
    """
    from moascope.importing.given import find_given
    from moascope.importing.plates import import_plates, parse_channels, parse_replace
    from moascope.importing.words import describe_import, next_steps

    found, profiles_given = find_given(paths, kind.value, pattern)
    if profiles_given:
        from moascope.chemistry.structures import structures_of
        from moascope.features.advised import advised_settings, advised_words
        from moascope.importing.profiles.run import describe_profiles, import_profiles
        from moascope.importing.profiles.source import Named

        profiles = import_profiles(
            found, out, kind=kind.value, layout=layout, metadata=metadata, annotations=annotations,
            named=Named(compound, moa, plate, well), how=average.value, update=update)
        table = profiles.annotations
        # Structures are read for the first time after training, which is late to hear of them.
        refused = structures_of(table, list(table["Metadata_Compound"])).warnings
        wells = profiles.keys, profiles.layout
        profiles = dataclasses.replace(
            profiles, notes=(*profiles.notes, *refused, *advised_words(*wells)))
        settings = [f"{name}={value}" for name, value in advised_settings(*wells).items()]
        print(describe_profiles(profiles, out, next_steps(out, settings)))
        return
    for_profiles = {"--metadata": metadata, "--compound": compound, "--moa": moa,
                    "--plate": plate, "--well": well}
    if given := [option for option, value in for_profiles.items() if value]:
        raise MoascopeError(f"{given[0]} is for tables of profiles, and {found[0]} holds images.")
    imported = import_plates(
        found[0], out, kind=kind.value, pattern=pattern, layout=layout,
        channels=parse_channels(channels), z=z, t=t, follow_links=follow_links, update=update,
        annotations=annotations, replace=parse_replace(replace or ()))
    print(describe_import(imported, out))


def layout(
    screen: Annotated[Path, typer.Option(help="Folder with load_data.csv or profiles, "
                                              "layout.csv and annotations.csv; images are not "
                                              "read.")],
    out: Annotated[Path, typer.Option(help="Folder to write screen.html and screen.json to.")],
    target: Annotated[str, typer.Option(help="moa, gpcr, gpcr_agonist, gpcr_antagonist or the name "
                                             "of one mechanism.")] = "moa",
) -> None:
    """Show which confounds a screen's layout has, before imaging or training.

    Example: moascope layout --screen my_screen --out my_layout --target gpcr
    """
    from moascope.layout.check import check_layout
    from moascope.text import assumed_lines

    checked = check_layout(screen, out, target)
    print(f"The layout of {len(checked.screen.layout):,} wells is shown in {checked.page}.")
    for line in assumed_lines((*checked.screen.warnings, *checked.labels.warnings)):
        print(line)


def annotate(
    compounds: Annotated[Path, typer.Argument(metavar="IN.csv", help="annotations.csv, or a table "
                                              "of wells with the columns Compound Name and "
                                              "Compound MoA; may be zipped.")],
    out: Annotated[Path, typer.Option(help="annotations.csv to write. Decisions by people in an "
                                           "existing file are kept.")],
    genes: Annotated[Path | None, typer.Option(help="Table of GPCR genes (hgnc_symbol).")] = None,
    targets: Annotated[Path | None, typer.Option(help="Table of compounds and their target "
                                                      "genes.")] = None,
    review: Annotated[Path | None, typer.Option(help="CSV file to write: the compounds that a "
                                                     "person should decide.")] = None,
    screen: Annotated[Path | None, typer.Option(help="Folder of the screen: sorts the review by "
                                                     "number of images, and shows them.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Review the open compounds in a browser, "
                                                        "on this machine.")] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Review the open compounds here, in the "
                                                    "terminal.")] = False,
    curator: Annotated[str, typer.Option(envvar=["USER", "USERNAME"],
                                         help="Name of the person who decides.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the review page; 0 takes any "
                                                             "free one.")] = 0,
    allow_outside: Annotated[bool, typer.Option(
        "--allow-outside", help="Also show images outside the folder, where its source.json or a "
                                "link leads to them.")] = False,
) -> None:
    """Decide from each mechanism's name whether a GPCR is involved.

    Adds the columns gpcr, gpcr_action, evidence and curator with a versioned table of terms, and
    lists the compounds that words cannot decide. A review (--ask, --serve) asks once for all
    compounds with the same undecided term.

    Example: moascope annotate idr0088-screenA-annotation.csv.zip --out annotations.csv
    """
    from moascope.annotation.run import annotate_files, print_summary

    if ask and serve:
        raise MoascopeError("--ask and --serve both begin a review. Leave one out.")
    done = annotate_files(compounds, out, genes, targets, review, screen, allow_outside)
    print_summary(done, out, review)
    if ask:
        from moascope.annotation.asking import ask_review

        ask_review(done, out, curator)
    if serve:
        from moascope.annotation.serve import serve_review

        serve_review(done, out, curator, port)


def fetch(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the size, the licence and "
                                                            "what to cite.")] = False,
    settings: Annotated[list[str] | None, typer.Option(
        "--set", "-S", help="Set a parameter, as with dvc exp run: acquire.source=idr0088")] = None,
) -> None:
    """Download a public screen (gallery, idr0088, bbbc021, bbbc013, bbbc016).

    `dvc repro` downloads it too; use this to look first or to download overnight. Files that are
    there are not downloaded again, and interrupted downloads resume. Images of the gallery stay in
    its bucket: `dvc repro acquire` reads them, and this fetches their tables.

    Example: moascope fetch --dry-run -S acquire.source=idr0088 -S idr0088.preset=honest

    Example: moascope fetch --dry-run -S acquire.source=gallery -S gallery.plates=[BR00117035]
    """
    from moascope.params_file import load_params
    from moascope.sources.plan import plan_words
    from moascope.sources.remote import (
        SOURCES,
        downloads_folder,
        fetch_remote,
        plan_remote,
        stays_away,
    )

    params = load_params(settings=settings or ())
    if params.acquire.source not in SOURCES:
        raise MoascopeError(f"acquire.source is {params.acquire.source}, which needs no download. "
                            f"Set it to one of {', '.join(SOURCES)}, for example with "
                            f"-S acquire.source={next(iter(SOURCES))}.")
    if dry_run:
        for line in plan_words(plan_remote(params), params.acquire.per_second):
            print(line)
        return
    collected = fetch_remote(params)
    uses = shlex.join(["dvc", "exp", "run", *(word for one in settings for word in ("-S", one))]
                      if settings else ["dvc", "repro", "register", "report"])
    if stays_away(params.acquire):
        print(f"{len(collected.sites):,} images stay in {params.gallery.bucket}. `{uses}` reads "
              "them.")
        return
    print(f"{len(collected.sites):,} images are in {downloads_folder(params.acquire)}; the server "
          f"lacks {len(collected.missing):,} files. `{uses}` uses them.")


def plan(
    screen: Annotated[Path | None, typer.Argument(
        metavar="SCREEN", help="Folder of the screen; by default data/acquire, or else "
                                 "acquire.path.")] = None,
    settings: Annotated[list[str] | None, typer.Option(
        "--set", "-S", help="Set a parameter, as with dvc exp run: tune.trials=100")] = None,
    allow_outside: Annotated[bool, typer.Option(
        "--allow-outside", help="Also read images outside the folder, where its source.json or a "
                                "link leads to them.")] = False,
) -> None:
    """Say how long a screen takes, and how much memory and disk, before running it.

    Counts its plates, sites, planes and bytes, and prepares and embeds a few of its sites, which
    takes less than half a minute. Stages that train are computed from runs on simulated screens.

    Example: moascope plan my_screen -S tune.trials=100
    """
    from moascope.params_file import load_params
    from moascope.planning.plan import plan_screen

    for line in plan_screen(screen, load_params(settings=settings or ()), allow_outside):
        print(line)
