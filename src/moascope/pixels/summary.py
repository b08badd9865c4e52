"""A summary of what prepare did to a screen: a small JSON and a picture of each plate."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.pixels.prepare import FLAGS
from moascope.pixels.prepared import prepared_plates
from moascope.work.files import write_atomically, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLATES_SHOWN = 12


def read_prepared(prepared: Path) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The concatenated site tables of all prepared plates, and the facts of each plate."""
    plates = prepared_plates(prepared)
    return (pd.concat([plate.sites() for plate in plates], ignore_index=True),
            {plate.name: plate.facts for plate in plates})


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
    """Draw the first unflagged site of some plates: a row per plate, a column per channel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plates = prepared_plates(prepared)
    step = max(-(-len(plates) // most), 1)
    shown = {}
    for plate in plates[::step]:
        sites = plate.sites()
        sound = np.flatnonzero(sites["QC_Pass"])
        if len(sound):
            place = f"{plate.name} {sites['Metadata_Well'].iloc[sound[0]]}"
            shown[place] = plate.crops()[sound[0], 0], plate.channels
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
    _save(figure, path)


def write_no_pictures(summary: Path, montage: Path) -> None:
    """Write the summary and the picture of a screen that has no images."""
    from matplotlib.figure import Figure

    write_json(summary, {"plates": {}, "total": dict.fromkeys(
        ["sites", "passed", *(flag.removeprefix("QC_").lower() for flag in FLAGS)], 0)})
    figure = Figure(figsize=(4, 1), dpi=100)
    figure.text(0.5, 0.5, "This screen has profiles and no images.", ha="center", va="center")
    _save(figure, montage)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    # Without the software's name and version the same pixels give the same bytes.
    figure.savefig(content, format="png", metadata={"Software": None})
    write_atomically(path, content.getvalue())
