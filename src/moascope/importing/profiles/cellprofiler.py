"""CellProfiler's ExportToSpreadsheet: Image.csv, and a table per kind of object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.profiles.cells import Objects, open_cells
from moascope.importing.profiles.source import Average, Named, Source
from moascope.importing.profiles.text import open_text, read_header
from moascope.text import listing

_IMAGE, _OBJECT = "ImageNumber", "ObjectNumber"
_TABLE = re.compile(r"(?:.*_)?(?P<name>[^_]+)\.(?:csv|tsv|txt)(?:\.gz)?", re.IGNORECASE)


def is_export(columns: Sequence[str]) -> bool:
    """Whether a table's rows are objects that CellProfiler measured."""
    return _IMAGE in columns and _OBJECT in columns


def find_exports(files: Sequence[Path]) -> list[Path]:
    """Tables of objects with a table of images beside them."""
    images = {file.parent for file in files if _name(file).lower() == "image"}
    return [file for file in files if file.parent in images and _name(file).lower() not in (
        "image", "experiment") and is_export(read_header(file)[0])]


def open_exports(files: Sequence[Path], named: Named, how: Average) -> list[Source]:
    """One source per folder with Image.csv and tables of objects.

    Parameters
    ----------
    files : sequence of Path
    named : Named
    how : {"median", "mean"}

    Raises
    ------
    MoascopeError
        When objects lie in a folder without Image.csv, or images are numbered twice.
    """
    if not files:
        return []
    objects = [file for file in files if is_export(read_header(file)[0])]
    tables = {file.parent: file for file in files if _name(file).lower() == "image"}
    lonely = [file for file in objects if file.parent not in tables]
    if lonely or not objects:
        where = lonely[0].parent if lonely else files[0].parent
        raise MoascopeError(f"{where} needs Image.csv, which says the plate and well of each "
                            "image, and a table of objects such as Cells.csv, with the columns "
                            "ImageNumber and ObjectNumber. Name the folder that has both.")
    return [_open_folder(table, [file for file in objects if file.parent == folder], named, how)
            for folder, table in sorted(tables.items()) if folder in {o.parent for o in objects}]


def _open_folder(table: Path, files: Sequence[Path], named: Named, how: Average) -> Source:
    images = _read_images(table)
    return open_cells(f"{table.parent.name}/{table.name}", images,
                      [_objects(file) for file in sorted(files)], named, how)


def _read_images(table: Path) -> pd.DataFrame:
    columns, _, _ = read_header(table)
    if _IMAGE not in columns:
        raise MoascopeError(f"{table} has no column '{_IMAGE}'. Its columns are "
                            f"{listing(columns, 12)}.")
    source = open_text(table, Named())
    parts = [batch.about for batch in source.read(table.parent)]
    images = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[_IMAGE])
    twice = images[_IMAGE][images[_IMAGE].duplicated()]
    if len(twice):
        raise MoascopeError(f"{table} has image {twice.iloc[0]} twice. Keep the export of one run "
                            "in each folder.")
    about = [column for column in images if re.match(r"(image_)?metadata_", column, re.IGNORECASE)]
    return images.set_index(_IMAGE)[about]


def _objects(file: Path) -> Objects:
    source = open_text(file, Named())
    name = _name(file)
    left_out = {_IMAGE, _OBJECT}
    own = [at for at, feature in enumerate(source.features) if feature not in left_out]
    features = tuple(feature if (feature := source.features[at]).startswith(f"{name}_")
                     else f"{name}_{feature}" for at in own)

    def read() -> Iterator[tuple[pd.Series, np.ndarray]]:
        for about, values in source.read(file.parent):
            yield about[_IMAGE], values[:, own]

    return Objects(name, features, read)


def _name(file: Path) -> str:
    """Cells of Cells.csv and of MyExpt_Cells.csv."""
    match = _TABLE.fullmatch(file.name)
    return match["name"] if match else file.stem
