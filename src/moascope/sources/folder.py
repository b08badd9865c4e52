"""The source `folder`: a screen on disk, whose images stay where they are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.importing.colours import choose_samples
from moascope.screen.description import (
    description_of,
    images_folder,
    read_description,
    write_description,
)
from moascope.screen.profile_plates import write_profile_plates
from moascope.screen.reading import read_header
from moascope.screen.tables import read_screen, write_screen


def acquire_folder(path: Path, out: Path, allow_outside: bool = False,
                   setting: str = "acquire.path") -> list[str]:
    """Import a screen folder: checked tables in canonical form that refer to its images.

    Parameters
    ----------
    path : Path
        A folder with load_data.csv and images, or with profiles, or both; layout.csv and
        annotations.csv. Where it is relative, it starts from the root of the repository.
    out : Path
        Receives the three tables, source.json, which points back to `path`, and the profiles, one
        file per plate.
    allow_outside : bool
        Whether the tables may name images outside `path`.
    setting : str
        Where in params.yaml `path` stands, for messages.

    Returns
    -------
    list of str
        A sentence for each channel in colour images whose picture is in another sample than red:
        that sample is read, unless load_data.csv has a column Frame_ for the channel.

    Raises
    ------
    MoascopeError
        With every problem of the tables. A missing image is not an error here: validate quarantines
        its site.
    """
    folder = images_folder(path, {"images": str(path)})
    if Path(os.path.normpath(path)).parts[:1] == (os.pardir,):
        # DVC resolves it from the temporary folder of an experiment, before our code runs.
        raise MoascopeError(f"{setting} is {path}, which points outside the repository. Write "
                            f"it in params.yaml as {folder.resolve()}, so that experiments in "
                            "temporary folders (dvc exp run --temp and --queue) find it too.")
    if not folder.is_dir():
        raise MoascopeError(f"{setting} is {path}, which is not a folder. Set it in "
                            "params.yaml to a folder with load_data.csv (or profiles), layout.csv "
                            "and annotations.csv.")
    described = read_description(folder)
    images = images_folder(folder, described)
    if not allow_outside and (described.get("allow_outside")
                              or not images.resolve().is_relative_to(folder.resolve())):
        raise MoascopeError(f"{description_of(folder)} says that the images lie outside the folder "
                            f"({described['images']}). Set acquire.allow_outside to true in "
                            "params.yaml if this is intended.")
    screen = read_screen(folder, allow_outside)
    notes: list[str] = []
    if screen.channels:
        header = read_header(folder / "load_data.csv")
        unsaid = [channel for channel in screen.channels if f"Frame_{channel}" not in header]
        sites, notes, _ = choose_samples(screen.images, screen.sites, unsaid)
        screen = replace(screen, sites=sites)
    description = {
        "source": "folder",
        # Profiles are copied, so that nothing points back where a screen has no images.
        **({"images": str(path) if images == folder else str(images)} if screen.channels else {}),
        "licence": described.get("licence", "not stated"),
        "citation": described.get("citation", "not stated"),
    }
    description |= {key: described[key] for key in ("non_commercial", "caveat") if key in described}
    if allow_outside:
        description["allow_outside"] = True
    write_screen(screen, out)
    if screen.profiles is not None:
        write_profile_plates(screen.profiles, out)
    write_description(out, description)
    return notes
