"""Deal compounds into folds and a frozen hold-out, and prove that nothing leaks between them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moascope.features.table import load_quality
from moascope.layout.page import SCREEN_PAGE, write_screen_page
from moascope.learning.folds import assign_folds, audit_leaks, untestable_classes
from moascope.params import Params, Split
from moascope.screen.columns import WELL
from moascope.screen.description import read_description
from moascope.screen.manifest import checksums, read_manifest
from moascope.screen.tables import read_screen
from moascope.screen.targets import Labels, label_screen
from moascope.work.files import write_atomically


def split(params: Params, screen: Path, planes: Path, embedded: Path, out: Path,
          report: Path) -> str:
    """Deal annotated compounds into folds and a hold-out set, and show the screen they are from."""
    from moascope.tracking.runs import log_screen_page

    read = read_screen(screen)
    labels = label_screen(read, params.target)
    quality = load_quality(embedded)
    dealt = deal(labels, quality[quality["QC_Pass"]], params.split, params.seed)
    facts = pd.read_parquet(planes / "planes.parquet", columns=[*WELL, "FileName", "Blank"])
    audit = audit_leaks(plane_rows(facts, read_manifest(screen), dealt, labels.unit),
                        params.split.repeats)
    table, warnings = dealt.groups, dealt.warnings

    out.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out / "groups.parquet", index=False)
    dealt.wells.to_parquet(out / "wells.parquet", index=False)
    _write(out / "target.json", {
        "target": labels.target, "classes": labels.classes, "binary": labels.binary,
        "unit": labels.unit, "untestable": dealt.untestable, "warnings": warnings,
    })
    held_out = int(table["Holdout"].sum())
    _write(report / "audit.json", {
        "checked_disjoint": audit,
        "units": {"in_folds": len(table) - held_out, "held_out": held_out},
        "classes": {
            str(label): {"in_folds": int((~part["Holdout"]).sum()),
                         "held_out": int(part["Holdout"].sum())}
            for label, part in table.groupby("Label")
        },
        "folds": params.split.folds, "repeats": params.split.repeats,
        "untestable": dealt.untestable, "warnings": warnings,
    })
    content = write_screen_page(
        report, read, labels, table, read_description(screen), params.seed,
        quarantine=pd.read_csv(planes / "quarantine.csv", dtype=str, keep_default_na=False),
        failed=quality[~quality["QC_Pass"]])
    log_screen_page(params, content, report / SCREEN_PAGE)
    for warning in warnings:
        print(f"split: {warning}")
    return (f"{len(table) - held_out} {labels.unit}s of {len(labels.classes)} classes in "
            f"{params.split.folds} folds x {params.split.repeats}, {held_out} held out for the "
            f"gate; no compound, well or picture is on two sides; see {report / SCREEN_PAGE}")


@dataclass(frozen=True)
class Dealt:
    """Units in folds.

    Attributes
    ----------
    groups : DataFrame
        As `moascope.learning.folds.assign_folds` gives it.
    wells : DataFrame
        The wells of these units: `Metadata_Plate`, `Metadata_Well`, `Metadata_Group`.
    untestable : list of str
        Classes with a single unit in the folds.
    warnings : list of str
    """

    groups: pd.DataFrame
    wells: pd.DataFrame
    untestable: list[str]
    warnings: list[str]


def deal(labels: Labels, usable: pd.DataFrame, params: Split, seed: int) -> Dealt:
    """Deal the labelled units that have a usable site; see `usable_units` and `assign_folds`."""
    groups, wells, warnings = usable_units(labels, usable)
    table = assign_folds(groups, params.folds, params.repeats, params.holdout, seed)
    untestable = untestable_classes(table)
    if untestable:
        warnings.append(
            f"{len(untestable)} of {len(labels.classes)} classes have a single compound "
            f"({', '.join(untestable)}): the model learns them, but no unseen compound of theirs "
            "can be asked about, so they are left out of the scores."
        )
    return Dealt(table, wells, untestable, warnings)


def usable_units(
    labels: Labels, usable: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The labelled units that have a usable site, their wells, and sentences on the others.

    Parameters
    ----------
    labels : Labels
    usable : DataFrame
        Sites that passed quality control: `Metadata_Plate`, `Metadata_Well`.
    """
    wells = labels.wells.merge(
        usable[["Metadata_Plate", "Metadata_Well"]].drop_duplicates(), how="inner"
    )
    present = labels.groups["Metadata_Group"].isin(wells["Metadata_Group"])
    warnings = list(labels.warnings)
    lost = labels.groups.loc[~present, "Metadata_Compound"].tolist()
    if lost:
        warnings.append(
            f"{len(lost)} annotated compounds have no usable picture and are left out: "
            f"{', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}."
        )
    return labels.groups[present].reset_index(drop=True), wells, warnings


def plane_rows(facts: pd.DataFrame, manifest: pd.DataFrame, dealt: Dealt,
               unit: str) -> pd.DataFrame:
    """The planes of dealt units as `audit_leaks` takes them.

    Parameters
    ----------
    facts : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `FileName`, `Blank` of every plane.
    manifest : DataFrame
        `FileName`, `SHA256`.
    dealt : Dealt
    unit : {"compound", "well"}
    """
    # Blank pictures are alike by nature, and tell nothing of a compound.
    facts = facts[~facts["Blank"].astype(bool)]
    facts = facts[WELL].assign(SHA256=checksums(manifest, facts["FileName"]))
    facts = facts[facts["SHA256"].notna()]
    folds = [column for column in dealt.groups if column.startswith("Fold_")]
    wells = dealt.wells.merge(dealt.groups[["Metadata_Group", "Metadata_Compound", "Holdout",
                                            *folds]])
    rows = facts.merge(wells, on=WELL)
    if unit == "well":
        rows["Metadata_Compound"] = ""
    return rows


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
