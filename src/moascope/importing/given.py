"""What a person points at: a folder or table of images, or tables of profiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.importing.loaddata import is_loaddata
from moascope.importing.profiles.kinds import KINDS, expand, recognise_profiles


def find_given(paths: Sequence[str], kind: str = "auto",
               pattern: str | None = None) -> tuple[list[Path], bool]:
    """The paths that a person gives, and whether they hold profiles.

    Parameters
    ----------
    paths : sequence of str
        One folder of images or LoadData table; or tables of profiles, folders of them, or patterns
        such as "plates/*.parquet".
    kind : str
        "auto", "regex" or a key of the kinds of plates or profiles.
    pattern : str, optional
        How file names of images are read.

    Returns
    -------
    found : list of Path
    profiles : bool

    Raises
    ------
    MoascopeError
        Where a path does not exist, or several hold images.
    """
    of_profiles = kind in KINDS
    found = expand(paths) if of_profiles or kind == "auto" else [Path(path) for path in paths]
    if of_profiles or (kind == "auto" and pattern is None and not is_loaddata(found[0])
                       and recognise_profiles(found)):
        return found, True
    if len(found) > 1:
        raise MoascopeError(f"{found[0]} holds images. Import one folder of images at a time.")
    return found, False
