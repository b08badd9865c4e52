"""source.json: where a screen comes from, where its images are, its licence and citation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from moascope.errors import MoascopeError
from moascope.opening import MOST_JSON, parse_json, read_file
from moascope.work.files import write_json

DESCRIPTION = "source.json"
# Its name in screens that earlier releases acquired or imported.
EARLIER = "screen.json"
# What `moascope layout` measures is in a file of that name, too, and has this key.
MEASURED = "confounds"


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write source.json into a folder."""
    write_json(folder / DESCRIPTION, description)


def description_of(folder: Path) -> Path:
    """The file that describes a screen: source.json, or screen.json of an earlier release."""
    earlier = folder / EARLIER
    return earlier if earlier.exists() and not (folder / DESCRIPTION).exists() else (
        folder / DESCRIPTION)


def read_description(folder: Path) -> dict[str, Any]:
    """Read the description of a screen; empty where a folder has none.

    Raises
    ------
    MoascopeError
        When it is not valid JSON, or its `images` is not the name of a folder.
    """
    path = description_of(folder)
    try:
        description = parse_json(read_file(path, MOST_JSON))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise MoascopeError(f"{path} is not valid JSON ({error}). Run the acquire stage again, or "
                            "remove the file if you wrote it.") from None
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}. Run the acquire stage "
                            "again, or remove it if you wrote it.") from None
    if (not isinstance(description, dict) or not isinstance(description.get("images", "."), str)
            or "\0" in description.get("images", ".")):
        raise MoascopeError(f"{path} must be a JSON object whose 'images' names a folder. Run the "
                            "acquire stage again, or remove the file if you wrote it.")
    return {} if path.name == EARLIER and MEASURED in description else description


def images_folder(folder: Path, description: dict[str, Any]) -> Path:
    """The folder that file names start from, given its screen's description."""
    images = description.get("images", ".")
    if images == ".":
        return folder
    # `dvc exp run --temp` runs in a copy of the repository. What DVC or git put there belongs to
    # the experiment; everything else is in the repository itself, which DVC names in DVC_ROOT.
    if Path(images).exists():
        return Path(images)
    return Path(os.environ.get("DVC_ROOT", ".")) / images
