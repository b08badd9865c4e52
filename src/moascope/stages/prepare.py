"""prepare: from the camera's planes to comparable 8-bit crops."""

from __future__ import annotations

import functools
from pathlib import Path

from moascope.params import Params
from moascope.pixels.ahead import take_ahead
from moascope.pixels.prepare import prepare_plates
from moascope.pixels.summary import (
    draw_montage,
    read_prepared,
    write_no_pictures,
    write_summary,
)
from moascope.screen.manifest import read_manifest
from moascope.screen.tables import read_screen
from moascope.validation.facts import without_quarantined
from moascope.work.files import write_json
from moascope.work.processes import default_jobs

NO_IMAGES = "no_images.json"


def prepare(params: Params, screen: Path, validation: Path, out: Path, report: Path) -> str:
    """Correct illumination, flag bad sites, scale and cut; plates that did not change are kept."""
    read = read_screen(screen)
    if not read.channels:
        prepare_plates(read, out, params.prepare, default_jobs())
        # DVC warns of an empty folder.
        write_json(out / NO_IMAGES, {"sites": len(read.sites)})
        write_no_pictures(report / "quality.json", report / "montage.png")
        return "nothing to prepare: the screen has profiles and no images"
    (out / NO_IMAGES).unlink(missing_ok=True)
    usable = without_quarantined(read, validation / "quarantine.csv")
    manifest = read_manifest(screen)
    digests = dict(zip(manifest["FileName"], manifest["SHA256"], strict=True))
    done, kept = prepare_plates(usable, out, params.prepare, default_jobs(), digests,
                                functools.partial(take_ahead, screen))
    sites, facts = read_prepared(out)
    write_summary(sites, facts, report / "quality.json")
    draw_montage(out, report / "montage.png")
    flagged = int((~sites["QC_Pass"]).sum())
    return (f"{done} plates prepared, {kept} unchanged; {flagged:,} of {len(sites):,} sites are "
            "flagged and take no part in training and scoring")
