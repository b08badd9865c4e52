"""embed: from crops to vectors."""

from __future__ import annotations

from pathlib import Path

from moascope.features.embed import embed_plates
from moascope.params import Params
from moascope.work.processes import default_jobs


def embed(params: Params, prepared: Path, out: Path) -> str:
    """Send each channel of every crop through the backbone; plates that did not change are kept."""
    outcome = embed_plates(prepared, out, params.embed, default_jobs())
    return "; ".join(f"{done} plates through {name}, {kept} unchanged"
                     for name, (done, kept) in outcome.items())
