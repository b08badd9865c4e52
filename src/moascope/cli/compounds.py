"""Commands about one compound: what looks like it, and what its doses do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    import pandas as pd

    from moascope.features.table import FeatureTable


class Unit(StrEnum):
    """What is compared."""

    compound = "compound"
    dose = "dose"


def similar(
    compound: Annotated[str, typer.Argument(help="Its name in layout.csv (Metadata_Compound).")],
    top: Annotated[int, typer.Option(min=1, help="Number of compounds to show.")] = 10,
    level: Annotated[Unit, typer.Option(
        metavar="compound|dose", help="Whether all doses of a compound are taken together, or "
                                      "each is compared.")] = Unit.compound,
    dose: Annotated[float | None, typer.Option(
        help="With --level dose: the compound's dose in µM; the highest by default.",
        show_default=False)] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write all compounds to.")] = None,
    data: Annotated[Path, typer.Option(help="Data folder of the project.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("reports"),
) -> None:
    """Show which compounds look like a given one, and how surprising that is.

    Compares mean profiles, without a model: it needs `dvc repro embed` (and `dvc repro activity`
    to say which compounds are active). Every similarity is tested against negative controls that
    are grouped by plate as the compounds are, and corrected for the number of compounds.
    docs/similar.md explains the table.

    Example: moascope similar SIM-0042 --top 5 --csv similar.csv
    """
    from moascope.evaluation.similar import measure_similar
    from moascope.params_file import load_params
    from moascope.report.similar import show_similar
    from moascope.work.files import write_csv

    project = _project(data, report)
    found = measure_similar(project.table, compound, project.mechanisms, project.activity,
                            level=level.value, dose=dose, seed=load_params().seed)
    show_similar(found, top)
    if csv is not None:
        write_csv(csv, found.table, 6)
        print(f"All {len(found.table):,} rows are in {csv}.")


def doses(
    compound: Annotated[str, typer.Argument(help="Its name in layout.csv (Metadata_Compound).")],
    out: Annotated[Path | None, typer.Option(help="Picture to write (PNG).")] = None,
    data: Annotated[Path, typer.Option(help="Data folder of the project.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("reports"),
) -> None:
    """Show how far a compound is from DMSO at each dose, and the dose at which that begins.

    Reads what `dvc repro activity` measured. Where the distance rises with the dose, a Hill curve
    is fitted, and the point of departure is the dose at which it leaves the noise of DMSO.
    docs/similar.md explains both.

    Example: moascope doses SIM-0042 --out doses.png
    """
    from functools import partial

    from moascope.drawing.figures import save
    from moascope.errors import MoascopeError
    from moascope.evaluation.asked import asked_compound
    from moascope.report.doses import dose_figure, of_compound, read_responses, show_doses
    from moascope.screen.tables import read_screen

    found = read_responses(report / "activity")
    if found is None or not (data / "acquire").is_dir():
        raise MoascopeError(f"{report / 'activity'} holds no dose-responses. Run `dvc repro "
                            "activity` at the root of a project.")
    name = asked_compound(compound, read_screen(data / "acquire", tables_only=True).layout)
    show_doses(found, name)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        save(out, "doses", partial(dose_figure, found, of_compound(found, name)))
        print(f"The picture is {out}.")


class _Project(NamedTuple):
    """The features of a project with what its tables and the stage `activity` say."""

    table: FeatureTable
    mechanisms: dict[str, str]
    activity: pd.DataFrame | None


def _project(data: Path, report: Path) -> _Project:
    from dataclasses import replace

    from moascope.errors import MoascopeError
    from moascope.evaluation.active import read_compounds
    from moascope.features.table import load_features
    from moascope.learning.joining import with_layout
    from moascope.screen.tables import read_screen

    for stage in ("acquire", "embed"):
        if not (data / stage).is_dir():
            raise MoascopeError(f"{data / stage} does not exist. Run `dvc repro embed` at the root "
                                "of a project, or bring an earlier run's results with `dvc pull`.")
    table, screen = load_features(data / "embed"), read_screen(data / "acquire")
    tested = (report / "activity" / "compounds.csv").is_file()
    return _Project(replace(table, meta=with_layout(table.meta, screen.layout)),
                    dict(zip(screen.annotations["Metadata_Compound"],
                             screen.annotations["Metadata_MoA"].fillna(""), strict=True)),
                    read_compounds(report / "activity") if tested else None)
