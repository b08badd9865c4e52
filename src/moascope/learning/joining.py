"""Features, layout and folds of a screen joined to examples, row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from moascope.features.table import FeatureTable, load_features
from moascope.learning.examples import WELL_KEY, Examples
from moascope.learning.folds import Folds, read_folds, unit_of_rows


def load_examples(embedded: Path, screen: Path, split: Path) -> Examples:
    """Join what embed, acquire and split left.

    Parameters
    ----------
    embedded, screen, split : Path
        Folders `data/embed`, `data/acquire`, `data/split`.

    Returns
    -------
    Examples
        Sites that passed quality control and are negative controls or belong to a labelled unit.
    """
    from moascope.screen.tables import read_screen

    return join_examples(load_features(embedded, on_disk=embedded), read_screen(screen).layout,
                         read_folds(split))


def join_examples(table: FeatureTable, layout: pd.DataFrame, folds: Folds) -> Examples:
    """What is known of sites, whatever stands for their features; see `load_examples`.

    Parameters
    ----------
    table : FeatureTable
        `X` may have more axes than two (pictures).
    layout : DataFrame
        One row per well; see `with_layout`.
    folds : Folds
    """
    return dealt_examples(replace(table, meta=with_layout(table.meta, layout)), folds)


def dealt_examples(table: FeatureTable, folds: Folds) -> Examples:
    """Sites whose wells are known, with the folds of their units; see `load_examples`.

    Parameters
    ----------
    table : FeatureTable
        Its `meta` has the columns of `Examples.meta` and `QC_Pass`.
    folds : Folds
    """
    meta = table.meta
    group = unit_of_rows(meta, folds.wells, folds.groups)
    used = meta["QC_Pass"].to_numpy(bool) & (
        (group >= 0) | (meta["Metadata_Control"] == "negative").to_numpy()
    )
    examples = Examples(
        meta=meta.drop(columns="QC_Pass"),
        features=table.X,
        names=tuple(table.names),
        group=group,
        groups=folds.groups,
        question=folds.question,
        panels=tuple(sorted(set(meta["Metadata_Panel"][used]))),
    )
    return examples.take(used)


def with_layout(meta: pd.DataFrame, layout: pd.DataFrame) -> pd.DataFrame:
    """Rows of sites with what the layout says of their wells.

    Parameters
    ----------
    meta : DataFrame
        With `Metadata_Plate` and `Metadata_Well`.
    layout : DataFrame
        One row per well. A site whose well it does not name has no compound and is not a control.
    """
    columns = [*WELL_KEY, "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"]
    joined = meta.merge(layout[columns], on=WELL_KEY, how="left", validate="many_to_one")
    for column in ("Metadata_Compound", "Metadata_Control"):
        joined[column] = joined[column].fillna("")
    return joined
