"""The kinds of profiles that moascope reads, and how one is recognised."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.importing.found import IMAGE
from moascope.importing.profiles.cellprofiler import find_exports, is_export, open_exports
from moascope.importing.profiles.deepprofiler import find_features, open_deepprofiler
from moascope.importing.profiles.h5ad import open_anndata
from moascope.importing.profiles.matrix import open_matrix
from moascope.importing.profiles.parquet import open_parquet, read_columns
from moascope.importing.profiles.source import Average, Named, Source, is_marked
from moascope.importing.profiles.sqlite import is_sqlite, open_sqlite
from moascope.importing.profiles.text import open_text, read_header
from moascope.importing.tree import ARRAY_MARKS
from moascope.text import counted, listing

TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
PARQUET = (".parquet", ".pq")
SQLITE = (".sqlite", ".sqlite3", ".db")
ARRAYS = (".npy", ".npz")
ANNDATA = (".h5ad",)

_NAMES_IMAGES = re.compile(r"(image_)?(filename|url)_", re.IGNORECASE)
_LEAST_FEATURES = 3
"""A table in a folder with fewer numbers per row is a plate map or a list of compounds."""


@dataclass(frozen=True)
class Given:
    """What a person gives.

    Attributes
    ----------
    files : tuple of Path
    tables : Path or None
        A table with a row per row of a matrix, or the index of DeepProfiler.
    named : Named
    how : {"median", "mean"}
    """

    files: tuple[Path, ...]
    tables: Path | None
    named: Named
    how: Average


def _open_tables(given: Given) -> list[Source]:
    return [open_parquet(file, given.named) if _ends(file, PARQUET)
            else open_text(file, given.named) for file in given.files]


def _open_cellprofiler(given: Given) -> list[Source]:
    text = [file for file in given.files if _ends(file, TEXT)]
    return [*(open_sqlite(file, given.named, given.how) for file in given.files
              if file not in text), *open_exports(text, given.named, given.how)]


def _open_deepprofiler(given: Given) -> list[Source]:
    return [open_deepprofiler(given.files, given.tables, given.how)]


def _open_matrix(given: Given) -> list[Source]:
    return open_matrix(given.files, given.tables, given.named)


def _open_anndata(given: Given) -> list[Source]:
    return [open_anndata(file, given.named) for file in given.files]


KINDS: Mapping[str, tuple[str, tuple[str, ...], Callable[[Given], list[Source]]]] = {
    "pycytominer": ("a table of profiles, as pycytominer writes them", (*TEXT, *PARQUET),
                    _open_tables),
    "cytotable": ("single cells as CytoTable writes them", PARQUET, _open_tables),
    "cellprofiler": ("a CellProfiler export", (*TEXT, *SQLITE), _open_cellprofiler),
    "deepprofiler": ("DeepProfiler features", (".npz", ".csv"), _open_deepprofiler),
    "matrix": ("a matrix", ARRAYS, _open_matrix),
    "anndata": ("AnnData", ANNDATA, _open_anndata),
}
"""Name, endings of files and reader of each kind."""


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """Paths, with patterns such as plates/*.parquet replaced by what they match.

    Raises
    ------
    MoascopeError
        When a path does not exist, or a pattern matches nothing.
    """
    found: list[Path] = []
    for path in map(str, paths):
        if Path(path).exists():
            found.append(Path(path))
        elif matches := _matches(path):
            found += map(Path, matches)
        else:
            raise MoascopeError(f"{path} " + ("matches no file. Check the pattern."
                                              if glob.has_magic(path) else
                                              "does not exist. Name a folder of images, or tables "
                                              "of profiles."))
    return list(dict.fromkeys(found))


def _matches(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []  # noqa: PTH207


def files_of(paths: Sequence[Path], kind: str) -> list[Path]:
    """The files of one kind among paths and below folders.

    Raises
    ------
    MoascopeError
        When there is none.
    """
    ends = KINDS[kind][1]
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [file for file in _below(path) if _ends(file, ends)]
        else:
            files.append(path)
    if not files:
        raise MoascopeError(f"{listing(paths)} holds no file of --kind {kind} "
                            f"({', '.join(ends)}).")
    return list(dict.fromkeys(files))


def recognise_profiles(paths: Sequence[Path]) -> tuple[str, str] | None:
    """The kind of profiles that paths hold, and by what it was recognised; None for images.

    A file is a table of profiles; a folder is one of profiles where it holds no image.

    Raises
    ------
    MoascopeError
        When a file is of no kind that moascope reads, or files are of several kinds.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        below = _below(path)
        if any(IMAGE.search(file.name) or file.name in ARRAY_MARKS for file in below):
            return None
        files += [file for file in below if _ends(file, (*TEXT, *PARQUET, *SQLITE, *ARRAYS,
                                                         *ANNDATA))]
    if not files:
        return None
    if features := find_features(files):
        return "deepprofiler", counted(len(features), "file") + " of features per site"
    if exports := find_exports([file for file in files if _ends(file, TEXT)]):
        return "cellprofiler", listing((file.name for file in exports), 3)
    kinds: dict[str, list[str]] = {}
    for file in files:
        in_folder = file not in paths
        kind = _kind_of(file, in_folder)
        if kind is None and not in_folder:
            raise MoascopeError(f"{file} is not of a kind that moascope reads: a table (CSV, "
                                "Parquet), SQLite, .npy, .npz or .h5ad. Save a workbook as CSV.")
        if kind is not None:
            kinds.setdefault(kind, []).append(file.name)
    if not kinds:
        # Tables that mark nothing by a prefix, where there is nothing else.
        tables = [file for file in files if _ends(file, TEXT) and _measures(file)]
        kinds = {"pycytominer": [file.name for file in tables]} if tables else {}
    if not kinds:
        return None
    if len(kinds) > 1:
        several = "; ".join(f"{kind}: {listing(names, 2)}" for kind, names in kinds.items())
        aside = (" A table of the matrix's rows is given by --metadata."
                 if kinds.keys() == {"matrix", "pycytominer"} else "")
        raise MoascopeError(f"{listing(paths)} holds profiles of several kinds ({several}). Choose "
                            f"one by --kind, or name the files.{aside}")
    kind, names = next(iter(kinds.items()))
    return kind, listing(names, 3)


def _kind_of(file: Path, in_folder: bool) -> str | None:
    if _ends(file, ANNDATA):
        return "anndata"
    if _ends(file, ARRAYS):
        return "matrix"
    if _ends(file, SQLITE) or (file.is_file() and is_sqlite(file)):
        return "cellprofiler"
    if _ends(file, PARQUET):
        return "cytotable" if _has_cells(read_columns(file)) else "pycytominer"
    if not _ends(file, TEXT):
        return None
    if not in_folder:
        return "pycytominer"
    # A folder may hold maps and notes beside its profiles; a header decides.
    columns, _, _ = read_header(file)
    if is_export(columns) or any(map(_NAMES_IMAGES.match, columns)):
        return None
    others = sum(not is_marked([column]) for column in columns)
    return "pycytominer" if is_marked(columns) and others >= _LEAST_FEATURES else None


def _measures(file: Path) -> bool:
    """Whether a table that marks nothing by a prefix has numbers that could be features."""
    columns, _, _ = read_header(file)
    return (not is_export(columns) and not any(map(_NAMES_IMAGES.match, columns))
            and len(open_text(file, Named()).features) >= _LEAST_FEATURES)


def _has_cells(columns: Sequence[str]) -> bool:
    """Whether a table's rows are cells: CytoTable carries along the numbers of objects."""
    return any(column in ("Metadata_ImageNumber", "Metadata_ObjectNumber", "ImageNumber")
               or (column.startswith("Metadata_") and column.endswith("_Number_Object_Number"))
               for column in columns)


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()
                  and not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _ends(file: Path, ends: Sequence[str]) -> bool:
    return file.name.lower().endswith(tuple(ends))
