"""What prepare did to a screen, for a person: a small JSON and a picture of each plate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.pixels.prepare import FLAGS, plate_facts
from moascope.work.files import write_json

PLATES_SHOWN = 12


def read_prepared(prepared: Path) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The site tables of all prepared plates under one another, and the facts of each plate."""
    facts = plate_facts(prepared)
    tables = [pd.read_parquet(prepared / plate / "sites.parquet") for plate in facts]
    return pd.concat(tables, ignore_index=True), facts


def write_summary(sites: pd.DataFrame, facts: dict[str, dict[str, Any]], path: Path) -> None:
    """Write for each plate how many sites are flagged, and what was estimated of each channel."""
    plates = {
        plate: {
            "sites": len(rows),
            "flagged": {flag.removeprefix("QC_").lower(): int(rows[flag].sum()) for flag in FLAGS},
            "left_out": facts[plate]["left_out"],
            "panels": facts[plate]["panels"],
        }
        for plate, rows in sites.groupby("Metadata_Plate", sort=True)
    }
    total = {"sites": len(sites), "passed": int(sites["QC_Pass"].sum()),
             **{flag.removeprefix("QC_").lower(): int(sites[flag].sum()) for flag in FLAGS}}
    write_json(path, {"plates": plates, "total": total})


def draw_montage(prepared: Path, path: Path, most: int = PLATES_SHOWN) -> None:
    """Draw the first sound site of some plates, one row a plate and one column a channel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    facts = plate_facts(prepared)
    step = max(-(-len(facts) // most), 1)
    shown = {}
    for plate in list(facts)[::step]:
        sites = pd.read_parquet(prepared / plate / "sites.parquet")
        sound = np.flatnonzero(sites["QC_Pass"])
        if len(sound):
            crop = np.load(prepared / plate / "crops.npy", mmap_mode="r")[sound[0], 0]
            shown[f"{plate} {sites['Metadata_Well'].iloc[sound[0]]}"] = (
                crop, facts[plate]["channels"])
    if not shown:
        return
    widest = max(len(channels) for _, channels in shown.values())
    figure = Figure(figsize=(1.6 * widest, 1.8 * len(shown)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), widest, squeeze=False)
    for row, (place, (crop, channels)) in zip(axes, shown.items(), strict=True):
        for axis in row:
            axis.axis("off")
        for axis, plane, channel in zip(row, crop, channels, strict=False):
            axis.imshow(plane, cmap="gray", vmin=0, vmax=255)
            axis.set_title(channel, fontsize=7)
        row[0].text(0, 0, place, fontsize=6, color="yellow", va="top")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the software's name and version the same pixels give the same bytes.
    figure.savefig(path, metadata={"Software": None})
