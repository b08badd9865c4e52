"""Stage acquire: bring a screen in from its source, with a checksum of every image."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from moascope.features.profiles import check_measured
from moascope.params import Params
from moascope.pixels.ahead import read_ahead
from moascope.screen.manifest import make_manifest, write_manifest
from moascope.screen.tables import Screen, read_screen
from moascope.text import counted
from moascope.work.processes import default_jobs


def acquire(params: Params, out: Path) -> str:
    """Bring a screen in from the source that acquire.source names.

    Leaves a screen folder: three tables, source.json, manifest.csv with the size and SHA-256 of
    every image, and the images themselves where the source makes them. Images of the source
    `folder` stay where they are, and downloaded ones in acquire.downloads. Profiles are divided by
    plate.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    said, outside = "", params.acquire.allow_outside
    if params.acquire.source == "simulated":
        from moascope.sources.simulated import simulate

        simulate(params.simulated, params.seed, partial, default_jobs())
    elif params.acquire.source == "folder":
        from moascope.sources.folder import acquire_folder
        from moascope.sources.several import acquire_folders

        paths = [params.acquire.path, *params.acquire.more]
        notes = (acquire_folder(Path(paths[0]), partial, outside) if len(paths) == 1
                 else acquire_folders(paths, partial, outside))
        said = "".join(f"; {note[0].lower()}{note[1:].rstrip('.')}" for note in notes)
    else:
        from moascope.sources.remote import acquire_remote, stays_away

        said = acquire_remote(params, partial)
        outside = outside or stays_away(params.acquire)
    screen = read_screen(partial, outside)
    # Not among the parameters of this stage: it decides nothing here, and is told before hours of
    # work.
    check_measured(params.embed, bool(screen.channels), screen.profiles is not None)
    # Decides nothing here either: validate and prepare need the pixels of the files that are read.
    known = read_ahead(screen, params.prepare, out, default_jobs())
    manifest = make_manifest(screen, known=known)
    write_manifest(manifest, partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)

    lost = int((manifest["SHA256"] == "").sum())
    return (f"{counted(len(screen.sites), 'site')} on "
            f"{counted(screen.sites['Metadata_Plate'].nunique(), 'plate')}, "
            + ", ".join(_measured(screen, manifest))
            + (f", {lost:,} of them missing" if lost else "") + said)


def _measured(screen: Screen, manifest: pd.DataFrame) -> Iterator[str]:
    if screen.channels:
        yield (f"{counted(len(screen.channels), 'channel')}, "
               f"{counted(len(manifest), 'image file')} of {manifest['Bytes'].sum() / 1e6:,.0f} MB")
    if screen.profiles is not None:
        yield f"profiles of {counted(len(screen.profiles.features), 'feature')}"
