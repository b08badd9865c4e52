"""`moascope import` for profiles: a screen's folder from tables of numbers per well."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.compounds import annotate_from
from moascope.importing.layout import (
    Told,
    describe,
    keep_filled_in,
    tables_said,
    told_by_map,
)
from moascope.importing.profiles.collect import PROFILES, Collected, collect
from moascope.importing.profiles.kinds import KINDS, Given, expand, files_of, recognise_profiles
from moascope.importing.profiles.place import FURTHER, Placed
from moascope.importing.profiles.source import Average, Named
from moascope.screen.columns import WELL
from moascope.screen.description import write_description
from moascope.screen.tables import read_screen
from moascope.text import assumed_lines, counted, listing
from moascope.work.files import write_csv

LAYOUT_TABLE, ANNOTATION_TABLE = "layout.csv", "annotations.csv"


@dataclass(frozen=True)
class ImportedProfiles:
    """The result of an import of profiles.

    Attributes
    ----------
    kind, told_by : str
        What kind of profiles was recognised, and from what.
    keys : DataFrame
        One row per profile: `Metadata_Plate`, `Metadata_Well`, and the site where there is one.
    features : tuple of str
    layout, annotations : DataFrame
        As in layout.csv and annotations.csv.
    notes : tuple of str
        A sentence about each guess and choice.
    """

    kind: str
    told_by: str
    keys: pd.DataFrame
    features: tuple[str, ...]
    layout: pd.DataFrame
    annotations: pd.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return (f"ImportedProfiles({counted(len(self.keys), 'profile')} of "
                f"{counted(len(self.features), 'feature')}; recognised {self.kind})")


def import_profiles(paths: Sequence[str | Path], out: str | Path, *, kind: str = "auto",
                    layout: str | Path | None = None, metadata: str | Path | None = None,
                    annotations: str | Path | None = None, named: Named | None = None,
                    how: Average = "median", update: bool = False) -> ImportedProfiles:
    """Write a screen's folder for tables of profiles.

    Parameters
    ----------
    paths : sequence of str or Path
        Tables, folders of tables, or patterns such as "plates/*.parquet".
    out : str or Path
        Receives profiles.parquet, layout.csv, annotations.csv and source.json.
    kind : str
        "auto" or a key of `moascope.importing.profiles.kinds.KINDS`.
    layout : str or Path, optional
        A plate map (`moascope.importing.maps.read_plate_map`), which counts before the tables.
    metadata : str or Path, optional
        A table with a row per row of a matrix, or DeepProfiler's index.
    annotations : str or Path, optional
        A table with a row per compound, from which mechanisms and structures are taken.
    named : Named, optional
        Columns that a person names.
    how : {"median", "mean"}
        How the cells or rows of a well are averaged.
    update : bool
        Whether existing tables are renewed. Rows of layout.csv and annotations.csv are kept, and
        new wells and compounds added.

    Returns
    -------
    ImportedProfiles

    Raises
    ------
    MoascopeError
        When the kind is not recognised, a table cannot be read, or a table would be overwritten.
    """
    out, named = Path(out), named or Named()
    layout = None if layout is None else Path(layout)
    found = expand(paths)
    _refuse_to_overwrite(out, layout, update)
    told_by = "--kind"
    if kind == "auto":
        recognised = recognise_profiles(found)
        if recognised is None:
            raise MoascopeError(f"{listing(found)} holds no profiles: no table with Metadata_ "
                                "columns and features, no SQLite, .npy, .npz or .h5ad file. Say "
                                "what it is by --kind.")
        kind, told_by = recognised
    files = [file for file in files_of(found, kind) if not file.resolve().is_relative_to(
        out.resolve())]
    sources = KINDS[kind][2](Given(tuple(files), None if metadata is None else Path(metadata),
                                   named, how))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MoascopeError(f"{out} cannot be created: {error.strerror}. Choose another "
                            "--out.") from None
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out) as scratch:
        target = Path(scratch) / PROFILES
        collected = collect(sources, named, how, Path(scratch), target)
        notes = list(collected.notes)
        wells, told = _told(collected, layout, notes)
        layout_table, annotation_table = describe(wells, told, notes)
        annotation_table = _with_further(annotation_table, collected.placed)
        if annotations is not None:
            annotation_table = annotate_from(Path(annotations), annotation_table, notes)
        if update:
            layout_table = keep_filled_in(out / LAYOUT_TABLE, layout_table, WELL)
            annotation_table = keep_filled_in(out / ANNOTATION_TABLE, annotation_table,
                                              ["Metadata_Compound"])
        notes += _missing_controls(layout_table)
        write_csv(target.parent / LAYOUT_TABLE, layout_table)
        write_csv(target.parent / ANNOTATION_TABLE, annotation_table)
        # Nothing is written that cannot be read back as a screen.
        notes += read_screen(target.parent).warnings
        for name in (PROFILES, LAYOUT_TABLE, ANNOTATION_TABLE):
            (target.parent / name).replace(out / name)
    write_description(out, {"source": "import", "kind": kind})
    return ImportedProfiles(KINDS[kind][0], told_by, collected.keys, collected.features,
                            layout_table, annotation_table, tuple(dict.fromkeys(notes)))


def _told(collected: Collected, layout: Path | None,
          notes: list[str]) -> tuple[pd.DataFrame, Told]:
    """The wells with a profile, and what tables and plate map say about them."""
    wells = collected.keys[WELL].drop_duplicates(ignore_index=True)
    placed = collected.placed
    told = dict(placed.told)
    if layout is not None:
        for key, said in told_by_map(layout, wells, notes, "profiles").items():
            told[key] = {**told.get(key, {}), **{column: text for column, text in said.items()
                                                 if text}}
    elif not placed.compounds_named:
        other = [column for column in placed.unread if not _is_number_of(column)]
        if other:
            raise MoascopeError(
                "No column is known to name the compounds. The columns that are not features are "
                f"{listing(map(repr, [*placed.recognised, *placed.unread]), 30)}. Name it by "
                "--compound COLUMN, or give a plate map by --layout.")
        notes.append("No column names the compounds, so layout.csv is to be filled in; a plate map "
                     "by --layout would do it.")
    return wells, told


def _is_number_of(column: str) -> bool:
    return column.startswith("Unnamed: ") or column.lower().endswith(("number", "__"))


def _with_further(annotations: pd.DataFrame, placed: Placed) -> pd.DataFrame:
    """annotations.csv with targets and InChI, where the tables have them."""
    for column in FURTHER:
        values = [placed.further.get(compound, {}).get(column, "")
                  for compound in annotations["Metadata_Compound"]]
        if any(values):
            annotations = annotations.assign(**{column: values})
    return annotations


def _missing_controls(layout: pd.DataFrame) -> list[str]:
    """A sentence where some plates have negative controls and others do not."""
    negative = (layout["Metadata_Control"] == "negative").groupby(layout["Metadata_Plate"]).sum()
    without = negative.index[negative == 0]
    if not len(without) or len(without) == len(negative):
        return []
    return [f"{counted(len(without), 'plate')} of {len(negative):,} without a negative control: "
            f"{listing(without)}. They are normalised by the other plates' controls, which does "
            "not make them comparable; leave them out if they can be spared."]


def _refuse_to_overwrite(out: Path, layout: Path | None, update: bool) -> None:
    if out.exists() and not out.is_dir():
        raise MoascopeError(f"--out is {out}, which is a file. Name a folder.")
    there = [name for name in (PROFILES, LAYOUT_TABLE, ANNOTATION_TABLE) if (out / name).exists()]
    if there and not update:
        raise MoascopeError(
            f"{out} already has a {there[0]}. Choose another --out, or add --update, which renews "
            f"{PROFILES} and keeps the rows of layout.csv and annotations.csv.")
    if layout is not None and (out / "layout.csv").exists():
        raise MoascopeError(f"{out / 'layout.csv'} already exists, and --update keeps it. Remove "
                            f"it to use {layout}, or leave out --layout.")


def describe_profiles(imported: ImportedProfiles, out: Path, next_steps: Sequence[str]) -> str:
    """The result of an import as lines for the terminal; the last are the next steps."""
    layout = imported.layout
    plates = sorted(layout["Metadata_Plate"].unique())
    wrote, to_fill_in = tables_said(layout, imported.annotations, out)
    lines = [
        f"recognised  {imported.kind}, by {imported.told_by}",
        f"plates      {len(plates):,}: {listing(plates)}",
        f"wells       {len(layout):,}",
        f"profiles    {len(imported.keys):,} of {counted(len(imported.features), 'feature')}, such "
        f"as {listing(imported.features, 3)}",
        f"wrote       {out / PROFILES}",
        *wrote, *to_fill_in,
    ]
    return "\n".join([*lines, *assumed_lines(imported.notes), *next_steps])
