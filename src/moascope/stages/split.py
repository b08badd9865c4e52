"""Deal compounds into folds and a frozen hold-out, and prove that nothing leaks between them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from moascope.evaluation.folds import assign_folds, audit_leaks, untestable_classes
from moascope.features.table import load_features
from moascope.params import Params
from moascope.screen.tables import read_screen, write_atomically
from moascope.screen.targets import Labels, label_screen
from moascope.stages.run import run


def split(params: Params, screen: Path, planes: Path, embedded: Path, out: Path,
          report: Path) -> str:
    """Deal annotated compounds into folds and a hold-out set."""
    read = read_screen(screen)
    labels = label_screen(read, params.target)
    usable = load_features(embedded).meta
    usable = usable[usable["QC_Pass"].astype(bool)]
    groups, wells, warnings = usable_units(labels, usable)
    table = assign_folds(groups, params.split.folds, params.split.repeats, params.split.holdout,
                         params.seed)
    untestable = untestable_classes(table)
    if untestable:
        warnings.append(
            f"{len(untestable)} of {len(labels.classes)} classes have a single compound "
            f"({', '.join(untestable)}): the model learns them, but no unseen compound of theirs "
            "can be asked about, so they are left out of the scores."
        )
    audit = audit_leaks(_plane_rows(screen, planes, wells, table, labels.unit),
                        params.split.repeats)

    out.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out / "groups.parquet", index=False)
    wells.to_parquet(out / "wells.parquet", index=False)
    _write(out / "target.json", {
        "target": labels.target, "classes": labels.classes, "binary": labels.binary,
        "unit": labels.unit, "untestable": untestable, "warnings": warnings,
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
        "untestable": untestable, "warnings": warnings,
    })
    for warning in warnings:
        print(f"split: {warning}")
    return (f"{len(table) - held_out} {labels.unit}s of {len(labels.classes)} classes in "
            f"{params.split.folds} folds x {params.split.repeats}, {held_out} held out for the "
            "gate; no compound, well or picture is on two sides")


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


def _plane_rows(screen: Path, planes: Path, wells: pd.DataFrame, table: pd.DataFrame,
                unit: str) -> pd.DataFrame:
    facts = pd.read_parquet(planes / "planes.parquet")
    # Blank pictures are alike by nature, and tell nothing of a compound.
    facts = facts.loc[~facts["Blank"].astype(bool), ["Metadata_Plate", "Metadata_Well", "FileName"]]
    sums = pd.read_csv(screen / "manifest.csv", keep_default_na=False)[["FileName", "SHA256"]]
    rows = facts.drop_duplicates().merge(sums).merge(wells).merge(table)
    if unit == "well":
        rows["Metadata_Compound"] = ""
    return rows


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(split)
