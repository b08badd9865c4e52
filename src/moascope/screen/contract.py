"""What each of the three tables must say, and what they must say of one another."""

from __future__ import annotations

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
    tidy_terms,
)
from moascope.screen.columns import (
    ANNOTATIONS,
    CONTROLS,
    GPCR,
    GPCR_ACTIONS,
    LAYOUT,
    SITE,
    WELL,
)
from moascope.screen.filenames import check_files
from moascope.screen.reading import CsvTable, Findings
from moascope.text import listing


def check_sites(
    table: CsvTable | None, folder: Path, images: Path, allow_outside: bool, allow_links: bool,
    findings: Findings,
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    if table is None:
        return None, ()
    channels = tuple(column.removeprefix("FileName_") for column in table.rows.columns
                     if column.startswith("FileName_") and column != "FileName_")
    complete = require(table, SITE, findings)
    if not channels:
        findings.problems.append(
            "load_data.csv has no column 'FileName_<Channel>', such as FileName_DNA. "
            f"It has {listing(table.rows.columns, 12)}. Add one for each channel.")
    if not complete or not channels:
        return None, ()

    plates = check_plates(table, findings)
    sites = pd.DataFrame({"Metadata_Plate": plates,
                          "Metadata_Well": check_wells(table, plates, findings)})
    sites["Metadata_Site"] = check_whole_numbers(table, "Metadata_Site", findings)
    for column in ("Metadata_Batch", "Metadata_Panel"):
        sites[column] = (table.rows[column].str.strip() if column in table.rows
                         else pd.Series("", index=sites.index, dtype="str"))
    for channel in channels:
        sites[f"FileName_{channel}"] = check_files(table, channel, folder, images, allow_outside,
                                                    allow_links, findings)
        frame = f"Frame_{channel}"
        sites[frame] = (check_whole_numbers(table, frame, findings, default=0)
                        if frame in table.rows else 0)
    files = sites[[f"FileName_{channel}" for channel in channels]]
    report(table, (files == "").all(axis=1),
            lambda row: f"plate {plates[row]}, well {sites['Metadata_Well'][row]} names no image. "
                        "Name one for at least one channel or remove the line.", findings)
    check_unique(table, sites[SITE], "site", "remove one or number the sites.", findings)
    _warn_of_planes_named_twice(sites, channels, findings)

    known = {*sites.columns, *(f"PathName_{channel}" for channel in channels)}
    extra = [column for column in table.rows.columns if column not in known]
    sites = pd.concat([sites, table.rows[extra]], axis=1)
    return sites.sort_values(SITE, ignore_index=True, kind="stable"), channels


def _warn_of_planes_named_twice(sites: pd.DataFrame, channels: Sequence[str],
                                findings: Findings) -> None:
    planes = pd.concat([
        pd.DataFrame({"file": sites[f"FileName_{channel}"], "frame": sites[f"Frame_{channel}"]})
        for channel in channels
    ])
    again = planes[(planes["file"] != "") & planes.duplicated()]
    if len(again):
        examples = listing(again["file"].unique(), 3)
        findings.warnings.append(
            f"load_data.csv names planes more than once ({len(again):,}): {examples}. Two channels "
            "or sites then show the same picture; several channels in one file need a Frame_ "
            "column each.")


def check_layout(table: CsvTable | None, findings: Findings) -> pd.DataFrame | None:
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
    if table.decimal_comma and text.str.contains(",", regex=False).any():
        text = text.str.replace(",", ".", regex=False)
        findings.warnings.append(f"{table.name} is separated by semicolons or tabs; the comma in "
                                 f"{column} was read as the decimal mark.")
    blank = text.str.lower().isin(["", "na", "nan"])
    numbers = pd.to_numeric(text.where(~blank, "0"), errors="coerce")
    wrong = ~(numbers >= 0) | np.isinf(numbers)
    report(table, wrong,
            lambda row: f"{column} is '{table.rows[column][row].strip()}', which is no "
                        "concentration in micromolar. Write a number of 0 or more without a unit, "
                        "or leave it empty.", findings)
    return numbers.astype("float64").where(~blank, np.nan)


def check_sites_have_wells(sites: pd.DataFrame, layout: pd.DataFrame,
                            findings: Findings) -> None:
    known = pd.MultiIndex.from_frame(layout[WELL])
    sites = sites[is_canonical(sites["Metadata_Well"])]
    lost = ~pd.MultiIndex.from_frame(sites[WELL]).isin(known)
    if not lost.any():
        return
    wells = sites.loc[lost, WELL].drop_duplicates()
    examples = listing((f"plate {plate}, well {well}" for plate, well in wells.to_numpy()), 3)
    if lost.all():
        findings.problems.append(
            f"No site of load_data.csv has its well in layout.csv ({examples}). Metadata_Plate "
            f"must be written alike in both: layout.csv has {listing(layout[WELL[0]].unique())}.")
    else:
        findings.warnings.append(
            f"Sites in wells that layout.csv does not have ({lost.sum():,} of {len(sites):,}): "
            f"{examples}. Nothing is known of them, so nothing is learnt from them.")


def check_annotations(table: CsvTable | None, findings: Findings) -> pd.DataFrame | None:
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
    annotations["Metadata_MoA"] = annotations["Metadata_MoA"].map(tidy_terms).astype("str")
    compounds = annotations["Metadata_Compound"]
    report(table, compounds == "",
            lambda row: "an annotation without a Metadata_Compound. Name the compound or remove "
                        "the line.", findings)
    distinct = annotations[(compounds != "") & ~annotations.duplicated()]
    first = distinct.index.to_series().groupby(distinct["Metadata_Compound"]).transform("first")
    conflicting = pd.Series(False, index=annotations.index)
    conflicting[distinct.index] = (first != distinct.index)
    report(table, conflicting,
            lambda row: f"{compounds[row]} was annotated otherwise in line "
                        f"{table.lines[first[row]]}. Each compound has one row; keep one, or join "
                        "two mechanisms with '|'.", findings)
    annotations = annotations[~annotations.duplicated()]
    leading = [*ANNOTATIONS, *(column for column in annotations if column not in ANNOTATIONS)]
    return annotations[leading].sort_values("Metadata_Compound", ignore_index=True, kind="stable")


def check_compounds_are_annotated(layout: pd.DataFrame, annotations: pd.DataFrame,
                                   findings: Findings) -> None:
    plated = layout.loc[layout["Metadata_Control"] != "negative", "Metadata_Compound"].unique()
    annotated = set(annotations["Metadata_Compound"])
    by_lower = {compound.lower(): compound for compound in annotated}
    missing = sorted(compound for compound in plated if compound and compound not in annotated)
    if missing:
        findings.warnings.append(
            "Compounds of layout.csv without a row in annotations.csv count as unknown "
            f"({len(missing):,}): {listing(missing)}.")
    spelt = [(compound, by_lower[compound.lower()]) for compound in missing
             if compound.lower() in by_lower]
    if spelt:
        pairs = listing((f"'{ours}' and '{theirs}'" for ours, theirs in spelt), 3)
        findings.warnings.append(
            "Compounds differ between layout.csv and annotations.csv in upper and lower case only "
            f"({len(spelt):,}): {pairs}. Write them alike if they are the same.")
    unplated = sorted(annotated - set(layout["Metadata_Compound"]))
    if unplated:
        findings.warnings.append(
            f"Compounds of annotations.csv in no well of layout.csv are not used "
            f"({len(unplated):,}): {listing(unplated)}.")
