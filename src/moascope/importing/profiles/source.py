"""The common result of all kinds of profiles: rows of numbers, and what is said about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import pandas as pd

from moascope.importing.doses import may_be_dose
from moascope.screen.columns import plain, recognise

Average = Literal["median", "mean"]

MOST_COLUMNS = 200_000
"""Most columns of a table of profiles; the largest published ones have some 7,000."""

CHUNK_BYTES = 2**25
"""Bytes of features that are held at once while a table is read."""


class Batch(NamedTuple):
    """Some rows of a table of profiles.

    Attributes
    ----------
    about : DataFrame of str, [rows]
        The columns that are not features; empty text where nothing is said.
    values : ndarray, float32, [rows, features]
        NaN where a value is missing.
    """

    about: pd.DataFrame
    values: np.ndarray


@dataclass(frozen=True)
class Source:
    """A table of profiles that is read in batches.

    Attributes
    ----------
    name : str
        Of the file, for sentences.
    about : tuple of str
        The columns that are not features.
    features : tuple of str
    read : callable
        Gives the batches, from the first row on; takes a folder for what does not fit in memory.
    notes : tuple of str
        A sentence about each guess.
    decimal_comma : bool
        Whether numbers in `about` have a decimal comma.
    """

    name: str
    about: tuple[str, ...]
    features: tuple[str, ...]
    read: Callable[[Path], Iterator[Batch]] = field(repr=False)
    notes: tuple[str, ...] = ()
    decimal_comma: bool = False


@dataclass(frozen=True)
class Named:
    """Columns that a person names, by their names in the tables; None where none is named."""

    compound: str | None = None
    moa: str | None = None
    plate: str | None = None
    well: str | None = None

    @property
    def ours(self) -> Mapping[str, str]:
        """The named columns, by our name."""
        said = {"Metadata_Compound": self.compound, "Metadata_MoA": self.moa,
                "Metadata_Plate": self.plate, "Metadata_Well": self.well}
        return {ours: column for ours, column in said.items() if column}


# What CellProfiler and pandas number rows with, in any table.
_NUMBERS = {"imagenumber", "objectnumber", "tablenumber", "index", "unnamed0", "level0",
            "indexlevel0", ""}
# Words in names of numeric columns that identify or describe a row and do not measure it. They
# decide in tables that mark nothing by a prefix.
_DESCRIBING = {"id", "ids", "index", "idx", "number", "no", "nr", "num", "batch", "replicate",
               "rep", "plate", "well", "row", "col", "column", "site", "field", "fov", "date",
               "time", "day", "timepoint", "run", "year", "lot", "seed", "fold", "split", "label",
               "labels", "class", "target", "is", "barcode", "concentration", "conc", "dose",
               "dosage", "passage", "moa", "gpcr", "cid", "cas", "y"}
_COMPARTMENT = re.compile(r"(Cells|Nuclei|Cytoplasm|Image)_")


def is_marked(columns: Sequence[str]) -> bool:
    """Whether a table marks what is not a feature by the prefix Metadata_."""
    return any(re.match(r"(image_)?metadata_", column, re.IGNORECASE) for column in columns)


def choose_features(numeric: Sequence[str], columns: Sequence[str],
                    named: Named) -> tuple[list[str], list[str]]:
    """Tell features from numbers that describe a row.

    Parameters
    ----------
    numeric : sequence of str
        The columns that hold numbers.
    columns : sequence of str
        All columns of the table.
    named : Named

    Returns
    -------
    features : list of str
        In the order of the table.
    describing : list of str
        The other numeric columns, without those that have the prefix.
    """
    marked = is_marked(columns)
    by_compartment = any(map(_COMPARTMENT.match, columns))
    known = {columns[at] for at in recognise(columns, "profiles").columns.values()}
    known |= set(named.ours.values())
    features, describing = [], []
    for column in numeric:
        if re.match(r"(image_)?metadata_", column, re.IGNORECASE):
            continue
        if plain(column) in _NUMBERS:
            describing.append(column)
        elif by_compartment and _COMPARTMENT.match(column) and column not in known:
            features.append(column)
        elif (column in known or may_be_dose(column)
              or (plain(column) in _DESCRIBING if marked else _describes(column))):
            describing.append(column)
        else:
            features.append(column)
    return features, describing


def _describes(column: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)
    return any(word.lower() in _DESCRIBING for word in words)


def clean_text(column: pd.Series) -> pd.Series:
    """Text without blanks around it; empty where it stands for a missing value."""
    text = column.fillna("").astype("str").str.strip()
    return text.mask(text.str.casefold().isin(["nan", "na", "none", "null", "<na>", "nat"]), "")


def take_rows(disk: BinaryIO, rows: np.ndarray, width: int) -> np.ndarray:
    """Some rows of a float32 matrix on disk, consecutive ones read at once.

    Parameters
    ----------
    disk : file
    rows : ndarray, int, [n]
    width : int
        Columns of the matrix.

    Returns
    -------
    ndarray, float32, [n, width]
    """
    values = np.empty((len(rows), width), np.float32)
    breaks = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1), len(rows)]
    for start, end in pairwise(breaks):
        disk.seek(4 * width * int(rows[start]))
        values[start:end] = np.fromfile(disk, np.float32, (end - start) * width).reshape(-1, width)
    return values


def average(values: np.ndarray, how: Average) -> np.ndarray:
    """The median or mean of rows, column by column, over what is not missing.

    Parameters
    ----------
    values : ndarray, float32, [rows, features]
    how : {"median", "mean"}

    Returns
    -------
    ndarray, float32, [features]
        NaN where a column has no value.
    """
    if len(values) == 1:
        return values[0].astype(np.float32)
    known = ~np.isnan(values)
    if known.all():
        middle = np.median(values, axis=0) if how == "median" else values.mean(
            axis=0, dtype=np.float64)
        return middle.astype(np.float32)
    any_known = known.any(axis=0)
    result = np.full(values.shape[1], np.nan, np.float32)
    if how == "median":
        result[any_known] = np.nanmedian(values[:, any_known], axis=0)
    else:
        result[any_known] = np.nanmean(values[:, any_known], axis=0, dtype=np.float64)
    return result
