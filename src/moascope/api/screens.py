"""Screens for a notebook that has none yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moascope.params_file import parse_params
from moascope.screen.tables import Screen, read_screen


def simulate_screen(folder: str | Path, *, seed: int = 0, jobs: int = 1,
                    **settings: Any) -> Screen:
    """Draw a simulated screen into a folder: plates, wells, compounds and images of cells.

    It tests software and teaches the workflow. Scores on it say nothing about biology.

    Parameters
    ----------
    folder : str or Path
        Missing or empty. It appears complete or not at all.
    seed : int
        The same seed and settings give the same bytes.
    jobs : int
        Processes that draw plates side by side.
    **settings
        Keys of the section `simulated` of params.yaml, such as `compounds=36`, `format=96` (wells
        per plate), `fields=1` (sites per well) and `signal=6.0` (strength of all mechanisms).

    Returns
    -------
    Screen

    Raises
    ------
    MoascopeError
        On a setting that is unknown or out of its range, or where the folder holds files.

    Examples
    --------
    >>> screen = moascope.simulate_screen("simulated", compounds=36, format=96)
    """
    from moascope.sources.simulated import simulate

    params = parse_params({"seed": seed, "simulated": settings}, "simulate_screen")
    simulate(params.simulated, params.seed, Path(folder), jobs)
    return read_screen(folder)
