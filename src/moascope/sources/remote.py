"""Public sources: planned, downloaded once, and written as a screen folder.

Images go into a folder of downloads outside the stage's output, because DVC empties an output
before its stage runs. The screen refers to them by name and checksum, or has hard links.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from moascope.annotation.compounds import annotate_compounds
from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.params import Acquire, Params
from moascope.screen.columns import ANNOTATIONS
from moascope.screen.description import images_folder, write_description
from moascope.sources import bbbc, bbbc021, gallery, idr0088
from moascope.sources.download import sole_user
from moascope.sources.http import Manners, Visit, visit
from moascope.sources.plan import Collected, Origin, Plan, plan_words, refuse_too_much
from moascope.text import cause, counted, listing
from moascope.work.files import write_csv

MISSING_FILE = "missing.csv"
SOURCES: dict[str, tuple[Origin, Callable[..., Plan], Callable[..., Collected]]] = {
    "gallery": (gallery.ORIGIN, gallery.plan, gallery.collect),
    "idr0088": (idr0088.ORIGIN, idr0088.plan, idr0088.collect),
    "bbbc021": (bbbc021.ORIGIN, bbbc021.plan, bbbc021.collect),
    "bbbc013": (bbbc.ORIGIN_013, bbbc.plan_013, bbbc.collect_013),
    "bbbc016": (bbbc.ORIGIN_016, bbbc.plan_016, bbbc.collect_016),
}


def plan_remote(params: Params) -> Plan:
    """Plan what acquire would download from the source that acquire.source names.

    Raises
    ------
    MoascopeError
        When the selection is not possible, or its tables are not available.
    """
    _, plan, _ = SOURCES[params.acquire.source]
    folder = downloads_folder(params.acquire)
    with _visiting(params) as session:
        return plan(_section(params), folder, session)


def fetch_remote(params: Params) -> Collected:
    """Download what acquire.source and its section select; existing files are kept.

    The plan, with licence and citation, is printed before the download starts.

    Raises
    ------
    MoascopeError
        When it is too large, the server fails, or too many files are missing.
    """
    _, plan, collect = SOURCES[params.acquire.source]
    folder = downloads_folder(params.acquire)
    with sole_user(folder), _visiting(params) as session:
        planned = plan(_section(params), folder, session)
        for line in plan_words(planned, params.acquire.per_second):
            print(line, flush=True)
        refuse_too_much(planned, folder, params.acquire.max_gb)
        collected = collect(_section(params), folder, session, params.acquire.max_missing)
    for note in collected.notes:
        if note not in planned.notes:
            print(f"  note:     {note}", flush=True)
    return collected


def acquire_remote(params: Params, out: Path) -> str:
    """Acquire a public screen: download it, and write its tables to `out`.

    Returns
    -------
    str
        The end of the stage's sentence: the licence, and what is missing.
    """
    origin, _, _ = SOURCES[params.acquire.source]
    copied = params.acquire.images == "copy"
    if copied and stays_away(params.acquire):
        raise MoascopeError("acquire.images is copy, and images of the gallery stay in its bucket. "
                            "Set it to reference.")
    collected = fetch_remote(params)
    # A person's words stay; all other compounds are decided by the table of terms.
    annotations = annotate_compounds(
        with_curated(collected.annotations, Path(params.acquire.path))).table
    folder = downloads_folder(params.acquire)
    description: dict[str, Any] = {
        "source": params.acquire.source,
        "images": "." if copied else _as_given(params.acquire),
        "licence": origin.licence,
        "citation": origin.citation,
        "non_commercial": origin.non_commercial,
        "missing_files": len(collected.missing),
        **collected.about,
    }
    if copied:
        _link_images(collected.sites, folder, out)
    for name, table in (("load_data.csv", collected.sites), ("layout.csv", collected.layout),
                        ("annotations.csv", annotations),
                        (MISSING_FILE, collected.missing)):
        write_csv(out / name, table)
    write_description(out, description)
    said = f"; licence {origin.licence}" + (", NOT FOR COMMERCIAL USE" if origin.non_commercial
                                            else "")
    if len(collected.missing):
        lost = len(collected.missing[["Metadata_Plate", "Metadata_Well",
                                      "Metadata_Site"]].drop_duplicates())
        said = (f"; {counted(lost, 'site')} left out because a file is missing, see {MISSING_FILE} "
                f"next to the tables{said}")
    return said


def with_curated(annotations: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Replace the source's annotations by a person's, where there are any.

    Parameters
    ----------
    annotations : DataFrame
        As the source has them.
    path : Path
        acquire.path. Where it is a CSV file, its rows replace those of the same compounds, and its
        columns come along; anything else changes nothing.

    Raises
    ------
    MoascopeError
        When it is not such a table, or has none of the compounds.
    """
    if path.suffix.lower() != ".csv":
        return annotations
    path = images_folder(Path(), {"images": str(path)})
    key = "Metadata_Compound"
    try:
        with open_file(path) as file:
            curated = pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise MoascopeError(f"acquire.path is {path}, and there is no such file. Name your own "
                            "table of annotations, or leave acquire.path as it was.") from None
    except (OSError, ValueError) as error:
        raise MoascopeError(f"{path} cannot be read as annotations.csv "
                            f"({cause(error)}).") from None
    lacking = [column for column in ANNOTATIONS if column not in curated]
    if lacking:
        raise MoascopeError(f"{path} (acquire.path) has no column {listing(lacking)}. Its columns "
                            f"are {listing(curated.columns, 12)}.")
    curated = curated[curated[key].isin(annotations[key])]
    if not len(curated):
        raise MoascopeError(f"{path} (acquire.path) annotates none of the "
                            f"{counted(len(annotations), 'compound')} of the selection. Write the "
                            f"names as the source does: {listing(annotations[key], 3)}.")
    rest = annotations[~annotations[key].isin(curated[key])]
    return pd.concat([curated, rest], ignore_index=True).fillna("").sort_values(
        key, ignore_index=True, kind="stable")


def downloads_folder(params: Acquire) -> Path:
    """Where the downloads of a source lie: below acquire.downloads, one folder per source."""
    return images_folder(Path(), {"images": _as_given(params)})


def stays_away(params: Acquire) -> bool:
    """Whether the images of the source stay where they are, behind addresses."""
    return params.source == "gallery"


def _as_given(params: Acquire) -> str:
    # A relative folder stays relative, so that the screen can be used where the project moves to.
    return (Path(params.downloads) / params.source).as_posix()


def _section(params: Params) -> Any:
    return getattr(params, params.acquire.source)


@contextlib.contextmanager
def _visiting(params: Params) -> Iterator[Visit]:
    acquire, section = params.acquire, _section(params)
    manners = Manners(acquire.parallel, acquire.per_second, acquire.attempts,
                      timeout=acquire.timeout)
    # Addresses in the parameters may redirect to each other, and nowhere else.
    hosts = [urlsplit(value).netloc for value in section.model_dump().values()
             if isinstance(value, str) and "://" in value]
    with visit(manners, hosts) as session:
        yield session


def _link_images(sites: pd.DataFrame, folder: Path, out: Path) -> None:
    names = {name for column in sites.columns if column.startswith("FileName_")
             for name in sites[column]}
    for name in sorted(names):
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(folder / name, target)
        except OSError:
            # Another disk, or a file system without hard links.
            shutil.copyfile(folder / name, target)
