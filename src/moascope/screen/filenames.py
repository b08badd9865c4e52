"""The file names in load_data.csv: one path per plane, which may not point outside the screen."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.addresses.names import is_address, path_of_file_url, shown, unreadable
from moascope.screen.checks import report
from moascope.screen.reading import ROWS_AT_ONCE, CsvTable, Findings


def check_files(table: CsvTable, channel: str, images: Path, allow_outside: bool,
                allow_links: bool, findings: Findings,
                links: dict[str, set[str] | None]) -> pd.Series:
    """The path of each row's image in one channel, relative to `images` where it lies there.

    Parameters
    ----------
    table : CsvTable
    channel : str
    images : Path
        The folder that file names start from.
    allow_outside : bool
        Whether a path may point outside `images`.
    allow_links : bool
        Whether a symbolic link in `images` may.
    findings : Findings
        Gets a problem for each line whose path is not allowed.
    links : dict
        What is known of links in folders; filled here, for the next channel.

    Returns
    -------
    Series of str
        POSIX, or an address; empty where the row has no image in the channel.
    """
    column = f"FileName_{channel}"
    joined = _joined(table, channel)
    root = images.resolve()
    prefixes = sorted({posixpath.abspath(images.as_posix()), root.as_posix()})

    def resolve(name: str) -> tuple[str, bool]:
        """A name relative to `images`, and whether it points outside."""
        if not name or is_address(name):
            return name, bool(name)
        name = _relative_to(posixpath.normpath(name), prefixes)
        leaves = name.startswith(("/", "../")) or name == ".." or _has_drive(name)
        return name, leaves or (not allow_links and _link_leaves(root, name, links))

    wrong = np.zeros(len(joined), bool)
    # Screens name millions of files in few folders, so folders are resolved, and not files.
    folders: dict[str, tuple[str, bool, bool]] = {}

    def name_of(path: str) -> tuple[str, bool]:
        """The name of a path in the screen, and whether it is not allowed."""
        start, slash, base = path.rpartition("/")
        start += slash
        if start not in folders:
            inside, leaves = resolve(f"{start}x") if start else ("x", False)
            linked = not allow_links and _links_of(root, inside.rpartition("/")[0], links) != set()
            folders[start] = inside[:-1], leaves, linked
        folder, leaves, linked = folders[start]
        name = folder + base
        if path and (linked or base in ("", ".", "..") or ":" in base or "\0" in base):
            name, leaves = resolve(path)
        return name, ((leaves and not allow_outside) or "\0" in path
                      or (is_address(path) and bool(unreadable(path))))

    # Part by part, because a name in a list takes twice the memory of one in a column.
    parts: list[pd.Series] = []
    for start in range(0, len(joined), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found = [name_of(path) for path in joined.iloc[part]]
        wrong[part] = [refused for _, refused in found]
        parts.append(pd.Series([name for name, _ in found], dtype="str"))
    names = pd.concat(parts, ignore_index=True) if parts else joined
    own = table.rows[f"FileName_{channel}"]

    def sentence(row: int) -> str:
        path = joined[row]
        if is_address(path):
            address = shown(path)
            if why := unreadable(path):
                return f"{column}: {address} {why}."
            return (f"{column} names an image outside the screen's folder ({address}). Set "
                    "acquire.allow_outside to true in params.yaml (or add --allow-outside) to "
                    "fetch it.")
        path = posixpath.normpath(path).replace("\0", "\\0")
        return (f"{column} points outside the screen's folder ({path}). Move the image into the "
                "folder, or set acquire.allow_outside to true in params.yaml if this is intended.")

    report(table, wrong, sentence, findings)
    return own if names.equals(own) else names


def _joined(table: CsvTable, channel: str) -> pd.Series:
    """Folder and file of a channel as one POSIX path, or as one address, of every row."""
    files = _paths_of_file_urls(table.rows[f"FileName_{channel}"].str.strip())
    name = files.str.replace("\\", "/", regex=False)
    if f"PathName_{channel}" in table.rows:
        folders = _paths_of_file_urls(table.rows[f"PathName_{channel}"].str.strip())
        path = folders.str.replace("\\", "/", regex=False)
        beside = (path + "/").where(~path.str.endswith("/"), path) + name
        name = beside.where((files != "") & (path != "") & ~name.str.startswith("/"), name)
        remote = (files != "") & folders.str.contains("://", regex=False)
        name = (folders.str.rstrip("/") + "/" + files).where(remote, name)
    remote = files.str.contains("://", regex=False)
    return files.where(remote, name) if remote.any() else name


def _paths_of_file_urls(names: pd.Series) -> pd.Series:
    told = names.str.startswith(("file:", "FILE:"))
    return names.where(~told, names[told].map(path_of_file_url)) if told.any() else names


def _relative_to(name: str, prefixes: Sequence[str]) -> str:
    if name.startswith("/"):
        for prefix in prefixes:
            if name.startswith(prefix.rstrip("/") + "/"):
                return name[len(prefix.rstrip("/")) + 1:]
    return name


def _has_drive(name: str) -> bool:
    return len(name) > 1 and name[1] == ":" and name[0].isalpha()


def _link_leaves(root: Path, name: str, links: dict[str, set[str] | None]) -> bool:
    """Whether a symbolic link in a path points outside `root`; `links` is a cache by folder."""
    folder, _, file = name.rpartition("/")
    of_folder = _links_of(root, folder, links)
    return of_folder is None or (file.casefold() in of_folder
                                 and not (root / name).resolve().is_relative_to(root))


def _links_of(root: Path, folder: str, links: dict[str, set[str] | None]) -> set[str] | None:
    if folder not in links:
        links[folder] = _links_in(root / folder, root)
    return links[folder]


def _links_in(folder: Path, root: Path) -> set[str] | None:
    """The symbolic links in a folder, or None for a folder outside `root`."""
    try:
        if not folder.resolve().is_relative_to(root):
            return None
        with os.scandir(folder) as entries:
            return {entry.name.casefold() for entry in entries if entry.is_symlink()}
    except (OSError, ValueError):
        return set()
