"""Deal compounds into folds and a frozen hold-out, and prove that nothing leaks between them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from moascope.features.table import load_quality
from moascope.layout.page import SCREEN_NUMBERS, measure_screen
from moascope.learning.dealing import deal, split_report
from moascope.learning.families import with_families
from moascope.learning.leaks import audit_leaks, plane_rows
from moascope.params import Params
from moascope.screen.columns import WELL
from moascope.screen.description import read_description
from moascope.screen.manifest import read_manifest
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen, refuse_few
from moascope.validation.profiles import PROFILE_FACTS
from moascope.work.files import write_json


def split(params: Params, screen: Path, planes: Path, embedded: Path, out: Path,
          report: Path) -> str:
    """Deal annotated compounds into folds and a hold-out set, and measure the layout."""
    from moascope.tracking.screens import log_screen

    read = read_screen(screen)
    labels = with_families(label_screen(read, params.target), read.annotations,
                           params.split.group)
    quality = load_quality(embedded)
    dealt = deal(labels, quality[quality["QC_Pass"]], params.split, params.seed)
    refuse_few(dealt.groups, labels.question)
    # Nothing here holds what the audit has done with: a screen has millions of planes.
    checked = audit_leaks(plane_rows(_measured(planes, read.profiles is not None),
                                     read_manifest(screen), dealt, labels.question.unit, read),
                          params.split.repeats)

    out.mkdir(parents=True, exist_ok=True)
    dealt.groups.to_parquet(out / "groups.parquet", index=False)
    dealt.wells.to_parquet(out / "wells.parquet", index=False)
    write_json(out / "target.json", {
        **asdict(dealt.question), "warnings": dealt.warnings,
    })
    write_json(report / "audit.json", split_report(dealt, checked, params.split))
    content = measure_screen(
        read, labels, dealt.groups, read_description(screen), params.seed,
        quarantine=pd.read_csv(planes / "quarantine.csv", dtype=str, keep_default_na=False),
        failed=quality[~quality["QC_Pass"]])
    write_json(report / SCREEN_NUMBERS, content)
    log_screen(params, content)
    for warning in dealt.warnings:
        print(f"split: {warning}")
    held_out = int(dealt.groups["Holdout"].sum())
    unit, classes = dealt.question.unit, dealt.question.classes
    measured = "image" if read.channels else "profile"
    whole = "compound" if params.split.group == "compound" else f"compound, {params.split.group}"
    return (f"{len(dealt.groups) - held_out} {unit}s of {len(classes)} classes in "
            f"{params.split.folds} folds x {params.split.repeats}, {held_out} held out for the "
            f"gate; no {whole}, well or {measured} is on both sides of a split. To see the layout "
            f"before training, run `moascope layout --screen {screen} --out layout`")


def _measured(planes: Path, profiles: bool) -> pd.DataFrame:
    """A row for each plane and each profile, as `plane_rows` takes them."""
    facts = pd.read_parquet(planes / "planes.parquet", columns=[*WELL, "FileName", "Blank"])
    if not profiles:
        return facts
    own = pd.read_parquet(planes / PROFILE_FACTS, columns=[*WELL, "Profile"])
    return pd.concat([facts.assign(Profile=""), own.assign(FileName="", Blank=False)],
                     ignore_index=True)
