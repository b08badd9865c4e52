"""What load_data.csv, layout.csv and annotations.csv must hold, and how they must agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.screen.checks import (
    check_plates,
    check_unique,
    check_wells,
    check_whole_numbers,
    check_words,
    is_canonical,
    report,
    require,
    stripped,
)
from moascope.screen.columns import (
    ANNOTATIONS,
    CONTROLS,
    GPCR,
    GPCR_ACTIONS,
    LAYOUT,
    SITE,
    WELL,
    plain,
)
from moascope.screen.compounds import dose_in_name, name_key, one_in_doses
from moascope.screen.filenames import check_files
from moascope.screen.numbers import POINTS, commas_may_separate, points_may_separate
from moascope.screen.reading import ROWS_AT_ONCE, CsvTable, Findings
from moascope.screen.terms import one_spelling
from moascope.screen.vehicles import is_vehicle
from moascope.text import counted, listing


def check_sites(
    table: CsvTable | None, images: Path, allow_outside: bool, allow_links: bool,
    findings: Findings, profiles: bool = False,
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Check load_data.csv.

    Parameters
    ----------
    table : CsvTable or None
    images : Path
    allow_outside, allow_links : bool
        As for `check_files`.
    findings : Findings
    profiles : bool
        Whether the screen has profiles, so that it needs no images.

    Returns
    -------
    sites : DataFrame or None
        As in `Screen`; None where columns are missing.
    channels : tuple of str
        In the order of the table.
    """
    if table is None:
        return None, ()
    channels = tuple(column.removeprefix("FileName_") for column in table.rows.columns
                     if column.startswith("FileName_") and column != "FileName_")
    complete = require(table, SITE, findings)
    if not channels and not profiles:
        findings.problems.append(
            "load_data.csv has no column 'FileName_<Channel>', such as FileName_DNA. "
            f"Its columns are {listing(table.rows.columns, 12)}. Add one per channel.")
    if not complete or not (channels or profiles):
        return None, ()

    plates = check_plates(table, findings)
    columns = {"Metadata_Plate": plates,
               "Metadata_Well": check_wells(table, plates, findings),
               "Metadata_Site": check_whole_numbers(table, "Metadata_Site", findings)}
    for column in ("Metadata_Batch", "Metadata_Panel"):
        columns[column] = (stripped(table.rows[column]) if column in table.rows
                           else pd.Series("", index=table.rows.index, dtype="str"))
    links: dict[str, set[str] | None] = {}
    for channel in channels:
        columns[f"FileName_{channel}"] = check_files(table, channel, images, allow_outside,
                                                     allow_links, findings, links)
        frame = f"Frame_{channel}"
        columns[frame] = (check_whole_numbers(table, frame, findings, default=0)
                          if frame in table.rows
                          else pd.Series(0, index=table.rows.index, dtype="int64"))
    # Columns that are as they were read are not copied: a screen has millions of rows.
    sites = pd.DataFrame(columns, copy=False)
    check_unique(table, sites[SITE], "site", "remove one, or number the sites of the well.",
                 findings)
    if channels:
        report(table, np.all([sites[f"FileName_{channel}"] == "" for channel in channels], axis=0),
               lambda row: f"plate {plates[row]}, well {sites['Metadata_Well'][row]} has no file "
                           "name in any channel. Name the image of at least one channel, or "
                           "remove the line.", findings)
        _warn_of_planes_named_twice(sites, channels, findings)

    known = {*sites.columns, *(f"PathName_{channel}" for channel in channels)}
    extra = [column for column in table.rows.columns if column not in known]
    for column in extra:
        sites[column] = table.rows[column]
    return sorted_by(sites, SITE), channels


def sorted_by(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """A table in the order of some columns; no copy where it is in that order."""
    codes = [pd.factorize(table[column], sort=True)[0] for column in columns]
    order = np.lexsort(codes[::-1])
    if (order == np.arange(len(order))).all():
        return table
    return table.take(order).reset_index(drop=True)


def _warn_of_planes_named_twice(sites: pd.DataFrame, channels: Sequence[str],
                                findings: Findings) -> None:
    # Numbers stand for the names, because those of all planes are as large as the whole table.
    named = [(sites[f"FileName_{channel}"] != "").to_numpy(bool) for channel in channels]
    numbers = [_plane_numbers(sites[f"FileName_{channel}"], sites[f"Frame_{channel}"])
               for channel in channels]
    ordered = np.sort(np.concatenate([own[there] for own, there in zip(numbers, named,
                                                                       strict=True)]))
    alike = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(alike):
        return
    planes = pd.concat([
        sites.loc[there & np.isin(own, alike), [f"FileName_{channel}", f"Frame_{channel}"]]
        .set_axis(["file", "frame"], axis=1)
        for channel, own, there in zip(channels, numbers, named, strict=True)
    ])
    again = planes[planes.duplicated()]
    if len(again):
        examples = listing(again["file"].unique(), 3)
        findings.warnings.append(
            f"load_data.csv lists {counted(len(again), 'plane')} more than once: {examples}. Two "
            "channels or sites then show the same picture; if a file holds several channels, give "
            "each channel a Frame_ column.")


def _plane_numbers(names: pd.Series, frames: pd.Series) -> np.ndarray:
    """A number of 64 bits for each plane, the same for the same file and frame."""
    numbers = np.empty(len(names), np.uint64)
    for start in range(0, len(names), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        numbers[part] = pd.util.hash_array(names.iloc[part].to_numpy(object), categorize=False)
    # Odd, so that no two frames of a file fall together.
    return numbers + frames.to_numpy(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def check_layout(table: CsvTable | None, findings: Findings) -> pd.DataFrame | None:
    """Check layout.csv; None where columns are missing."""
    if table is None or not require(table, LAYOUT, findings):
        return None
    plates = check_plates(table, findings)
    layout = pd.DataFrame({
        "Metadata_Plate": plates,
        "Metadata_Well": check_wells(table, plates, findings),
        "Metadata_Compound": table.rows["Metadata_Compound"].str.strip(),
        "Metadata_Concentration_uM": _check_concentrations(table, findings),
        "Metadata_Control": check_words(table, "Metadata_Control", CONTROLS, findings),
    })
    units = [column for column in table.rows.columns
             if re.search(r"units?$", plain(column)) and table.rows[column].str.strip().any()]
    if units:
        findings.warnings.append(
            f"layout.csv has the column {listing(map(repr, units))}, which is not used: "
            "Metadata_Concentration_uM is always micromolar.")
    check_unique(table, layout[WELL], "well", "remove one.", findings)
    report(table, (layout["Metadata_Control"] != "") & (layout["Metadata_Compound"] == ""),
           lambda row: f"plate {plates[row]}, well {layout['Metadata_Well'][row]} is a control "
                       "without a Metadata_Compound. Name what is in it, such as DMSO.", findings)
    extra = [column for column in table.rows.columns if column not in LAYOUT]
    layout = pd.concat([layout, table.rows[extra]], axis=1)
    return layout.sort_values(WELL, ignore_index=True, kind="stable")


def _check_concentrations(table: CsvTable, findings: Findings) -> pd.Series:
    column = "Metadata_Concentration_uM"
    text = table.rows[column].str.strip()
    commas = text[text.str.contains(",", regex=False)]
    if points_may_separate(text, table.delimiter):
        pointed = text.str.fullmatch(POINTS)
        report(table, pointed,
               lambda row: f"{column} is '{text[row]}', whose point may separate thousands or "
                           "decimals. Write 1000 or 1,0.", findings)
        text = text.where(~pointed, "0")
    if commas_may_separate(commas):
        # Every comma may separate thousands: 1,000 is one or a thousand.
        report(table, text.index.isin(commas.index),
               lambda row: f"{column} is '{text[row]}', whose comma may separate thousands or "
                           "decimals. Write 1000 or 1.0.", findings)
        text = text.where(~text.index.isin(commas.index), "0")
    elif table.delimiter != "," and len(commas):
        text = text.str.replace(",", ".", regex=False)
        findings.warnings.append(f"{table.name} is separated by semicolons or tabs, so the comma "
                                 f"in {column} was read as a decimal comma.")
    blank = text.str.lower().isin(["", "na", "nan"])
    numbers = pd.to_numeric(text.where(~blank, "0"), errors="coerce")
    wrong = ~(numbers >= 0) | np.isinf(numbers)
    report(table, wrong,
           lambda row: f"{column} is '{table.rows[column][row].strip()}', which is not a "
                       "concentration in micromolar. Write a number of 0 or more without a unit, "
                       "or leave it empty.", findings)
    return numbers.astype("float64").where(~blank, np.nan)


def check_sites_have_wells(sites: pd.DataFrame, layout: pd.DataFrame, findings: Findings,
                           name: str = "load_data.csv") -> None:
    """Find sites whose well layout.csv does not have: one is a warning, all are a problem."""
    sites = sites.loc[is_canonical(sites["Metadata_Well"]), WELL]
    lost = ~_well_names(sites).isin(_well_names(layout))
    if not lost.any():
        return
    wells = sites.loc[lost, WELL].drop_duplicates()
    examples = listing((f"plate {plate}, well {well}" for plate, well in wells.to_numpy()), 3)
    if lost.all():
        findings.problems.append(
            f"None of the wells of {name} is in layout.csv ({examples}). Write "
            "Metadata_Plate the same way in both tables: layout.csv has "
            f"{listing(layout[WELL[0]].unique())}.")
    else:
        findings.warnings.append(
            f"{lost.sum():,} of {counted(len(sites), 'site')} of {name} lie in wells that "
            f"layout.csv does not have: {examples}. Their compound is not known, so they are not "
            "used for training.")


def warn_of_wells_without_profile(sites: pd.DataFrame, layout: pd.DataFrame, name: str,
                                  findings: Findings) -> None:
    """Warn of wells that hold a compound and have no row among the profiles."""
    held = layout.loc[layout["Metadata_Compound"] != "", WELL]
    lost = held[~pd.MultiIndex.from_frame(held).isin(pd.MultiIndex.from_frame(sites[WELL]))]
    if len(lost) and len(lost) < len(held):
        examples = listing((f"plate {plate}, well {well}" for plate, well in lost.to_numpy()), 3)
        findings.warnings.append(
            f"layout.csv has {counted(len(lost), 'well')} without a row in {name}, which are not "
            f"predicted: {examples}.")


def _well_names(table: pd.DataFrame) -> pd.Series:
    # No plate's name has a slash.
    return table["Metadata_Plate"] + "/" + table["Metadata_Well"]


def check_annotations(table: CsvTable | None, findings: Findings) -> pd.DataFrame | None:
    """Check annotations.csv; None where columns are missing."""
    if table is None or not require(table, ANNOTATIONS, findings):
        return None
    annotations = table.rows.copy()
    for column in (*ANNOTATIONS, "Metadata_InChIKey", "Metadata_SMILES"):
        if column in annotations:
            annotations[column] = annotations[column].str.strip()
    if "Metadata_InChIKey" in annotations:
        annotations["Metadata_InChIKey"] = annotations["Metadata_InChIKey"].str.upper()
    for column, words in [("gpcr", GPCR), ("gpcr_action", GPCR_ACTIONS)]:
        if column in annotations:
            annotations[column] = check_words(table, column, words, findings,
                                              several=column == "gpcr_action")
    terms = one_spelling(annotations["Metadata_MoA"].tolist(), table.name)
    annotations["Metadata_MoA"] = pd.Series(terms.cells, index=annotations.index, dtype="str")
    findings.warnings += terms.warnings
    compounds = annotations["Metadata_Compound"]
    report(table, compounds == "",
           lambda row: "Metadata_Compound is empty. Name the compound, or remove the line.",
           findings)
    distinct = annotations[(compounds != "") & ~annotations.duplicated()]
    first = distinct.index.to_series().groupby(distinct["Metadata_Compound"]).transform("first")
    conflicting = pd.Series(False, index=annotations.index)
    conflicting[distinct.index] = (first != distinct.index)
    report(table, conflicting,
           lambda row: f"{compounds[row]} is annotated differently in line "
                       f"{table.lines[first[row]]}. Each compound has one row; keep one, or join "
                       "two mechanisms with '|'.", findings)
    annotations = annotations[~annotations.duplicated()]
    leading = [*ANNOTATIONS, *(column for column in annotations if column not in ANNOTATIONS)]
    return annotations[leading].sort_values("Metadata_Compound", ignore_index=True, kind="stable")


def spell_compounds_alike(layout: pd.DataFrame, annotations: pd.DataFrame,
                          findings: Findings) -> pd.DataFrame:
    """layout.csv with compounds spelt as in annotations.csv, where only the spelling differs.

    Parameters
    ----------
    layout, annotations : DataFrame
        As `check_layout` and `check_annotations` give them.
    findings : Findings
        Gets a warning that names the spellings.
    """
    annotated = {name_key(name): name for name in reversed(annotations["Metadata_Compound"])}
    exact = set(annotations["Metadata_Compound"])
    spelt = {name: annotated[key] for name in layout["Metadata_Compound"].unique()
             if name not in exact and (key := name_key(name)) in annotated}
    if not spelt:
        return layout
    pairs = listing((f"'{ours}' and '{theirs}'" for ours, theirs in sorted(spelt.items())), 3)
    findings.warnings.append(
        f"{counted(len(spelt), 'compound')} spelt differently in layout.csv and annotations.csv, "
        f"by case, blanks or accents, and taken as the same: {pairs}.")
    names = layout["Metadata_Compound"].replace(spelt)
    return layout.assign(Metadata_Compound=names.astype("str"))


def warn_of_controls(layout: pd.DataFrame, findings: Findings) -> None:
    """Warn of wells that look like negative controls and are not marked."""
    control = layout["Metadata_Control"]
    names = layout.loc[control == "", "Metadata_Compound"]
    negative = {name_key(name) for name in
                layout.loc[control == "negative", "Metadata_Compound"].unique()}
    alike = sorted(name for name in names.unique() if name
                   and (is_vehicle(name) or name_key(name) in negative))
    if alike:
        wells = int(names.isin(alike).sum())
        findings.warnings.append(
            f"layout.csv has {counted(wells, 'well')} of {listing(alike)} not marked as negative "
            "controls, which count as compounds. Write negative in Metadata_Control if they are "
            "controls.")


def refuse_doses_in_names(layout: pd.DataFrame, findings: Findings) -> None:
    """Find names that differ in a dose alone: models would learn and predict one compound."""
    for names in one_in_doses(layout["Metadata_Compound"].unique()):
        said = dose_in_name(names[0])
        findings.problems.append(
            f"layout.csv names {listing((repr(name) for name in names), 3)}, which are one "
            f"compound in several doses. Write '{said[0] if said else names[0]}' and put the doses "
            "into Metadata_Concentration_uM.")


def check_compounds_are_annotated(layout: pd.DataFrame, annotations: pd.DataFrame,
                                  findings: Findings) -> None:
    """Warn of compounds that only one of layout.csv and annotations.csv names."""
    plated = layout.loc[layout["Metadata_Control"] != "negative", "Metadata_Compound"].unique()
    annotated = set(annotations["Metadata_Compound"])
    missing = sorted(compound for compound in plated if compound and compound not in annotated)
    if missing:
        findings.warnings.append(
            f"layout.csv has {counted(len(missing), 'compound')} without a row in "
            f"annotations.csv, treated as of unknown mechanism: {listing(missing)}.")
    unplated = sorted(annotated - set(layout["Metadata_Compound"]))
    if unplated:
        findings.warnings.append(
            f"annotations.csv has {counted(len(unplated), 'compound')} that are in no well of "
            f"layout.csv and are not used: {listing(unplated)}.")
