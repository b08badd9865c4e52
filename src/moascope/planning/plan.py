"""`moascope plan`: how long a screen takes, and how much of everything."""

from __future__ import annotations

import shutil
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.planning.costs import costs_of, processor_speed, size_of
from moascope.planning.measuring import measure
from moascope.planning.words import plan_lines
from moascope.screen.description import images_folder
from moascope.screen.tables import read_given_screen
from moascope.work.processes import default_jobs

ACQUIRED = Path("data/acquire")


def plan_screen(screen: Path | None, params: Params, allow_outside: bool = False) -> list[str]:
    """Count a screen, measure a sample of it, and say what each stage costs.

    Parameters
    ----------
    screen : Path, optional
        Folder of the screen; by default what is acquired, else acquire.path.
    params : Params
    allow_outside : bool
        Whether the tables may name images outside the folder.

    Returns
    -------
    list of str
        Lines of at most 80 characters.

    Raises
    ------
    MoascopeError
        Where there is no screen to measure, or it has no images.
    """
    folder = screen or _screen_of_project(params)
    read = read_given_screen(folder, allow_outside or params.acquire.allow_outside)
    if not read.channels:
        raise MoascopeError(f"{folder} has profiles and no images, of which a sample could be "
                            "measured. docs/profiles.md has what tables of profiles cost.")
    measured = measure(read, params)
    size, jobs = size_of(read, folder, measured.plane_bytes), default_jobs()
    costs = costs_of(size, measured, params, jobs, processor_speed())
    left, notes = sum(cost.disk for cost in costs), []
    free = shutil.disk_usage(Path()).free
    if left > free:
        notes.append(f"This disk has {free / 1e9:,.1f} GB free, less than the stages leave. Use a "
                     "larger one.")
    return plan_lines(size, measured, costs, jobs, notes)


def _screen_of_project(params: Params) -> Path:
    if (ACQUIRED / "load_data.csv").is_file():
        return ACQUIRED
    if params.acquire.source == "folder":
        return images_folder(Path(), {"images": params.acquire.path})
    raise MoascopeError(
        f"Nothing is acquired yet, and acquire.source is {params.acquire.source}. Name the folder "
        "of a screen, or acquire a part of it first (`dvc repro acquire`); `moascope fetch "
        "--dry-run` says how large a public screen is.")
