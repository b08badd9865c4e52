"""The command that opens the explorer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class MapBy(StrEnum):
    """How compounds are placed on the map."""

    auto = "auto"
    umap = "umap"
    pca = "pca"


def explore(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any free "
                                                             "one.")] = 0,
    no_browser: Annotated[bool, typer.Option(
        "--no-browser", help="Print the address and open nothing.")] = False,
    map_by: Annotated[MapBy, typer.Option(
        "--map", metavar="auto|umap|pca", help="How compounds are placed; auto takes UMAP where "
                                               "the extra umap is installed.")] = MapBy.auto,
    compound: Annotated[str | None, typer.Option(
        help="Begin with the page of this compound; otherwise with all compounds.",
        show_default=False)] = None,
    predictions: Annotated[Path | None, typer.Option(
        help="Also show predictions of compounds that `moascope predict` wrote.")] = None,
    data: Annotated[Path, typer.Option(help="Data folder of the project.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("reports"),
) -> None:
    """Look at a screen in a browser, on this machine: a map of its compounds, plates, pictures.

    Needs `dvc repro embed`; shows activity after `dvc repro activity` and predictions after
    `dvc repro evaluate`. What the pages show is computed once and kept in the user's cache.
    docs/explore.md explains them.

    Example: moascope explore --compound SIM-0042 --port 8080 --no-browser
    """
    import webbrowser

    from moascope.evaluation.asked import asked_compound
    from moascope.exploring.content import Explorer
    from moascope.exploring.index import choose_map, open_index
    from moascope.exploring.said import read_said
    from moascope.exploring.serve import serve_explorer
    from moascope.params_file import load_params

    params = load_params()
    index = open_index(data, choose_map(map_by.value), params.seed)
    explorer = Explorer(index, read_said(report, params.target, predictions),
                        Path.cwd().name)
    asked = "" if compound is None else asked_compound(
        compound, index.compounds.rename(columns={"Control": "Metadata_Control"}))
    serve_explorer(explorer, port, None if no_browser else webbrowser.open, asked)
