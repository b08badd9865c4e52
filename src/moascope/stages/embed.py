"""embed: from crops to vectors."""

from __future__ import annotations

from pathlib import Path

from moascope.features.embed import embed_plates
from moascope.params import Params
from moascope.screen.profiles import read_profiles
from moascope.work.processes import default_jobs


def embed(params: Params, prepared: Path, screen: Path, out: Path) -> str:
    """Send each channel of every crop through the backbone; plates that did not change are kept.

    The backbone `profiles` takes the features that came with the screen.
    """
    outcome = embed_plates(prepared, out, params.embed, default_jobs(), read_profiles(screen))
    return "; ".join(f"{done} plates through {name}, {kept} unchanged"
                     for name, (done, kept) in outcome.items())
