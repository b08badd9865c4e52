"""prepare: from the camera's planes to comparable 8-bit crops."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.pixels.prepare import prepare_plates
from moascope.pixels.summary import draw_montage, read_prepared, write_summary
from moascope.screen.columns import SITE
from moascope.screen.manifest import read_manifest
from moascope.screen.tables import Screen, read_screen
from moascope.work.processes import default_jobs


def prepare(params: Params, screen: Path, validation: Path, out: Path, report: Path) -> str:
    """Correct illumination, flag bad sites, scale and cut; plates that did not change are kept."""
    usable = without_quarantined(read_screen(screen), validation / "quarantine.csv")
    manifest = read_manifest(screen)
    digests = dict(zip(manifest["FileName"], manifest["SHA256"], strict=True))
    done, kept = prepare_plates(usable, out, params.prepare, default_jobs(), digests)
    sites, facts = read_prepared(out)
    write_summary(sites, facts, report / "quality.json")
    draw_montage(out, report / "montage.png")
    flagged = int((~sites["QC_Pass"]).sum())
    return (f"{done} plates prepared, {kept} unchanged; {flagged:,} of {len(sites):,} sites are "
            "flagged and take no part in training and scoring")


def without_quarantined(screen: Screen, quarantine: Path) -> Screen:
    """The screen without the sites that validate put into quarantine.

    Raises
    ------
    MoascopeError
        Where nothing is left.
    """
    from dataclasses import replace

    named = pd.read_csv(quarantine, dtype={column: str for column in SITE[:2]},
                        keep_default_na=False)
    bad = pd.MultiIndex.from_frame(named[SITE])
    sites = screen.sites[~pd.MultiIndex.from_frame(screen.sites[SITE]).isin(bad)]
    if sites.empty:
        raise MoascopeError(f"All sites are in quarantine; {quarantine} says why.")
    return replace(screen, sites=sites.reset_index(drop=True))
