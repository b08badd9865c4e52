"""What is run: where the plates lie, which folder the project gets, and whether they changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.importing.given import find_given
from moascope.importing.loaddata import is_loaddata, names_paths
from moascope.screen.profiles import has_profiles
from moascope.work.digests import digest


@dataclass(frozen=True)
class Plates:
    """What a person points at.

    Attributes
    ----------
    given : tuple of str
        As the person wrote it, patterns too, from the root of the disk.
    paths : tuple of Path
        What was found there; absolute.
    holds : {"screen", "images", "profiles"}
        A screen has its three tables already, and is read where it is.
    """

    given: tuple[str, ...]
    paths: tuple[Path, ...]
    holds: str


def find_plates(given: Sequence[str], kind: str = "auto", pattern: str | None = None) -> Plates:
    """Recognise what a person points at.

    Raises
    ------
    MoascopeError
        Where it does not exist, or is of no kind that moascope reads.
    """
    first, written = Path(given[0]), tuple(str(Path(path).absolute()) for path in given)
    if len(given) == 1 and _is_screen(first):
        return Plates(written, (first.resolve(),), "screen")
    found, profiles = find_given(given, kind, pattern)
    if not found[0].exists():
        raise MoascopeError(f"{found[0]} does not exist. Name the folder of the plates.")
    return Plates(written, tuple(path.resolve() for path in found),
                  "profiles" if profiles else "images")


def _is_screen(folder: Path) -> bool:
    tables = [folder / name for name in ("layout.csv", "annotations.csv")]
    return all(table.is_file() for table in tables) and (
        (folder / "load_data.csv").is_file() or has_profiles(folder))


def project_folder(plates: Plates, out: Path | None) -> Path:
    """The folder of the project, absolute: never inside the plates.

    Raises
    ------
    MoascopeError
        Where `out` lies inside them.
    """
    first = plates.paths[0]
    folders = [path for path in plates.paths if path.is_dir()]
    if out is None:
        name = first.name if first.is_dir() else first.name.partition(".")[0]
        if not (len(plates.given) == 1 and Path(plates.given[0]).exists()):
            name = first.parent.name   # what a pattern matches may change
        here = Path.cwd().resolve()
        while any(here.is_relative_to(folder) for folder in folders):
            here = here.parent
        return here / f"{name or 'plates'}_moascope"
    project = out.resolve()
    for folder in folders:
        if project.is_relative_to(folder):
            raise MoascopeError(f"--out {out} lies inside {folder}, in which nothing is written. "
                                "Name a folder elsewhere.")
    return project


def plates_digest(plates: Plates, project: Path) -> str:
    """A digest of the names, sizes and times of all files of the plates."""
    roots = list(plates.paths)
    first = roots[0]
    if plates.holds == "images" and first.is_file() and is_loaddata(first) and names_paths(
            first, {}):
        roots.append(first.parent)
    return digest(sorted(entry for root in roots for entry in _files(root, project)))


def _files(root: Path, project: Path) -> Iterator[tuple[str, int, int]]:
    if root.is_file():
        about = root.stat()
        yield str(root), about.st_size, about.st_mtime_ns
        return
    with os.scandir(root) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if path != project:
                    yield from _files(path, project)
            else:
                about = entry.stat(follow_symlinks=False)
                yield entry.path, about.st_size, about.st_mtime_ns


def from_here(path: Path) -> str:
    """A path from the current folder, where it lies in it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
