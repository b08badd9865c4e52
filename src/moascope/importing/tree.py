"""The files below a folder, listed once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moascope.errors import MoascopeError

LINK_OUT = "a link to outside the folder (--follow-links follows it)"

ARRAY_MARKS = {"zarr.json", ".zgroup", ".zattrs", ".zarray"}
"""A folder that holds one of these is a Zarr group or array; its chunks are not listed as
files."""


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    Attributes
    ----------
    root : Path
        The folder.
    files : tuple of str
        Paths of its files relative to `root`, POSIX, sorted.
    arrays : tuple of str
        Folders that are Zarr groups; what is in them is not among `files`. "" is `root` itself.
    left_out : tuple of (str, str)
        What was not listed, with the reason: hidden files, links to outside the folder.
    """

    root: Path
    files: tuple[str, ...]
    arrays: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @cached_property
    def known(self) -> frozenset[str]:
        """`files` as a set."""
        return frozenset(self.files)

    @cached_property
    def by_name(self) -> Mapping[str, list[str]]:
        """The files of each name, the name in lower case."""
        named: dict[str, list[str]] = {}
        for file in self.files:
            named.setdefault(file.rpartition("/")[2].lower(), []).append(file)
        return named

    @cached_property
    def tails(self) -> Mapping[tuple[str, str], list[str]]:
        """The folders that have files of a suffix, by every ending of their path."""
        pairs = {(file.rpartition(".")[2].lower(), file.rpartition("/")[0]) for file in self.files}
        folders: dict[tuple[str, str], list[str]] = {}
        for suffix, home in sorted(pairs):
            for count in range(len(home.split("/")) + 1):
                folders.setdefault((suffix, _tail(home, count)), []).append(home)
        return folders

    @cached_property
    def ranks(self) -> dict[tuple[str, tuple[str, ...]], dict[str, tuple[bool, int]]]:
        """How well folders match paths that were looked up; filled by `locate`."""
        return {}


def scan_tree(root: Path, follow_links: bool = False) -> Tree:
    """List all files below a folder, each folder read once.

    Parameters
    ----------
    root : Path
    follow_links : bool
        Whether symbolic links to outside `root` are followed. Links to inside never are: their
        targets are listed anyway.

    Raises
    ------
    MoascopeError
        When a folder cannot be read.
    """
    files: list[str] = []
    arrays: list[str] = []
    left_out: list[tuple[str, str]] = []
    real_root = root.resolve()
    seen = {str(real_root)}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = list(found)
        except OSError as error:
            raise MoascopeError(f"{root / folder} cannot be read: {error.strerror}.") from None
        if ARRAY_MARKS & {entry.name for entry in entries}:
            arrays.append(folder)
            continue
        prefix = f"{folder}/" if folder else ""
        for entry in entries:
            name = prefix + entry.name
            if unfit := _unfit_for_a_table(name):
                left_out.append((name.encode(errors="backslashreplace").decode(), unfit))
            elif entry.name.startswith("."):
                left_out.append((name, "hidden"))
            elif entry.is_symlink():
                reason = _reason_against_link(Path(entry.path), real_root, follow_links, seen)
                if reason:
                    left_out.append((name, reason))
                else:
                    (waiting if entry.is_dir() else files).append(name)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif entry.is_file(follow_symlinks=False):
                files.append(name)
            else:
                # Opening a pipe would block for ever.
                left_out.append((name, "neither a file nor a folder"))
    return Tree(root, tuple(sorted(files)), tuple(sorted(arrays)), tuple(sorted(left_out)))


def locate(tree: Tree, folder: str, name: str, beyond: bool = False) -> str | None:
    """The listed file that an index in `folder` means by `name`, or None.

    Instruments write paths of their own disks, so the listed file that shares the longest end of
    the path is meant. Where two files share it equally, or the folder could be another plate's,
    the answer is None. Only listed files are found, so no name points outside the tree.

    Parameters
    ----------
    tree : Tree
    folder : str
        The folder of the index; only files in and below it can be meant.
    name : str
        A name or a path, of any operating system.
    beyond : bool
        Whether files elsewhere may be meant, if the path names all of their folders that are not
        also above `folder`: tables often lie next to the folder of the images.
    """
    name = name.replace("\\", "/").strip()
    exact = f"{folder}/{name}" if folder else name
    if exact in tree.known:
        return exact
    parts = [part.lower() for part in name.split("/") if part not in ("", ".", "..")]
    if not parts:
        return None
    # An index of half a million images names few folders, again and again.
    ranks = tree.ranks.setdefault((folder, tuple(parts[:-1])), {})
    best: tuple[bool, int] = (False, -1)
    matches: list[str] = []
    for file in tree.by_name.get(parts[-1], ()):
        home = file.rpartition("/")[0]
        rank = ranks.get(home)
        if rank is None:
            rank = ranks[home] = (_is_below(home, folder),
                                  _shared(home.lower().split("/"), parts[:-1]))
        if not rank[0] and not beyond:
            continue
        if rank > best:
            best, matches = rank, [file]
        elif rank == best:
            matches.append(file)
    if len(matches) != 1 or not _is_told(tree, folder, matches[0], best[1], len(parts) > 1):
        return None
    return matches[0]


def parents(folder: str) -> Iterator[str]:
    """A relative folder and all above it, up to ""."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _unfit_for_a_table(name: str) -> str:
    """Why a path cannot be written to a table and read back unchanged; empty where it can."""
    if "\\" in name or name != name.strip() or not name.isprintable():
        return "its name has a backslash, a blank at one end or an unprintable character; rename it"
    return ""


def _is_below(home: str, folder: str) -> bool:
    return not folder or home == folder or home.startswith(f"{folder}/")


def _is_told(tree: Tree, folder: str, file: str, shared: int, has_folders: bool) -> bool:
    """Whether a path determines where `file` is, so that no other folder could be meant."""
    home = file.rpartition("/")[0]
    common = next(part for part in parents(folder) if _is_below(home, part))
    own = home[len(common):].strip("/")
    if shared >= len(own.split("/") if own else []):
        return True
    if common != folder:
        return False
    if not has_folders:
        return True
    # /data/P1/Images/a.tif is not P2/Images/a.tif where there is another folder Images.
    alike = tree.tails[file.rpartition(".")[2].lower(), _tail(home, shared)]
    return not any(other != home and _is_below(other, folder) for other in alike)


def _tail(home: str, count: int) -> str:
    return "/".join(home.lower().split("/")[-count:]) if count else ""


def _shared(one: list[str], other: list[str]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def _reason_against_link(path: Path, root: Path, follow_links: bool, seen: set[str]) -> str:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a broken link"
    if target.is_relative_to(root):
        return "a link to something else in the folder"
    if not follow_links:
        return LINK_OUT
    if target.is_dir():
        if str(target) in seen or root.is_relative_to(target):
            return "a link to a folder that was already listed"
        seen.add(str(target))
    return ""
