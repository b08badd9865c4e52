"""What every kind of plate comes down to: planes, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from moascope.importing.tree import Tree

IMAGE = re.compile(r"\.(tiff?|png|jpe?g|bmp)$", re.IGNORECASE)
"""Names of files that moascope reads as images."""


class Plane(NamedTuple):
    """One image plane and where on which plate it was taken.

    `plate` and `channel` are keys: what the kind tells plates and channels apart by. `well` is as
    written there, `z` and `t` are numbers that order planes and times, `frame` is as in
    `moascope.screen.planes.read_plane`.
    """

    plate: str
    well: str
    site: int
    channel: str
    z: int
    t: int
    file: str
    frame: int


@dataclass
class Found:
    """What a kind made of a tree.

    Attributes
    ----------
    planes : list of Plane
    plates : dict of str to tuple of str
        For each plate's key what it may be called, the best name first; the last is unique.
    channels : dict of (str, str) to str
        What the instrument calls a plate's channel, where it says so.
    short : str
        What comes before the number of a channel that has no name: w of w1.
    unplaced : list of (str, str)
        Files, or names in an index, without a place, and why.
    read : set of str
        Files that were read for what they say of the others.
    wells : list of mapping
        What was said of wells: columns as in layout.csv and annotations.csv, the plate as its key.
    notes : list of str
        Sentences about what was guessed.
    """

    planes: list[Plane] = field(default_factory=list)
    plates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    channels: dict[tuple[str, str], str] = field(default_factory=dict)
    short: str = "w"
    unplaced: list[tuple[str, str]] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    wells: list[Mapping[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def folder_names(tree: Tree, folder: str) -> tuple[str, str]:
    """What a plate that is a folder may be called: the folder's own name, and its whole path."""
    root = tree.root.resolve().name or "plate"
    return (folder.rpartition("/")[2] or root, folder.replace("/", "_") or root)
