"""What `moascope run` notes in a project, so that the same command goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from moascope.errors import MoascopeError
from moascope.project.make import ORIGIN
from moascope.work.files import write_json

STATE = f"{ORIGIN}/run.json"
LOCK = f"{ORIGIN}/run.lock"


@dataclass(frozen=True)
class State:
    """How far a project is, and from what.

    Attributes
    ----------
    plates : list of str
        What the person pointed at, as absolute paths.
    options : dict of str to str
        What a person said about the plates, by the name of the option; it holds in later runs.
    inputs : dict of str to str
        What the tables of the screen were made from: digests and options; empty before they are
        made.
    wrote : dict of str to str
        The digest of each table as `moascope run` wrote it; another one was edited by a person.
    writing : list of str
        Tables that are being written, whatever they hold: a run that was killed left them.
    settings : dict of str to object
        Parameters as `moascope run` set them; what a person changed since stays.
    layout : str
        Digest of what the page of the layout was drawn from.
    """

    plates: list[str]
    options: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    wrote: dict[str, str] = field(default_factory=dict)
    writing: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    layout: str = ""


def read_state(project: Path) -> State | None:
    """What an earlier run noted; None where there was none.

    Raises
    ------
    MoascopeError
        Where the note is damaged.
    """
    try:
        return State(**json.loads((project / STATE).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):
        raise MoascopeError(f"{project / STATE} is damaged. Remove it together with "
                            f"{project / 'dvc.yaml'}, and run the same command again.") from None


def write_state(project: Path, state: State) -> State:
    """Note how far a project is; returns `state`."""
    write_json(project / STATE, asdict(state))
    return state


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; "" where it is missing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def alone(project: Path) -> Iterator[int | None]:
    """Hold a project for this run; what it starts inherits the hold, by the number it yields.

    Raises
    ------
    MoascopeError
        Where another run holds it.
    """
    try:
        import fcntl
    except ImportError:   # Windows: DVC's own lock is all there is
        yield None
        return
    (project / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with (project / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MoascopeError(is_running(project)) from None
        yield file.fileno()


def is_running(project: Path) -> str:
    """The sentence for a project that is running already."""
    return (f"{project.name} is running already, in another terminal. Wait until it has ended, or "
            "end it there; then run the same command again, which goes on from what is finished.")
