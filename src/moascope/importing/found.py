"""The common result of all kinds of plates: planes, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from moascope.importing.tree import Tree

IMAGE = re.compile(r"\.(tiff?|png|jpe?g|bmp)$", re.IGNORECASE)
"""Names of files that moascope reads as images."""

NOT_AN_IMAGE = "not an image that moascope reads, judged by its name"


class Plane(NamedTuple):
    """One image plane and where on which plate it was taken.

    `plate` and `channel` are keys that distinguish plates and channels, `well` is as written in the
    source, `z` and `t` order planes and time points, and `frame` is as in
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
    """The planes of a tree, as the reader of one kind of plates found them.

    Attributes
    ----------
    planes : list of Plane
    plates : dict of str to tuple of str
        Possible names of each plate, by its key, the best first; the last is unique.
    channels : dict of (str, str) to str
        The instrument's name of a plate's channel, where there is one.
    short : str
        Prefix for the number of a channel without a name: w of w1.
    unplaced : list of (str, str)
        Files, or names in an index, that could not be placed, and why.
    read : set of str
        Indexes and tables that were read.
    wells : list of mapping
        What is known about wells: columns as in layout.csv and annotations.csv, the plate by its
        key.
    projected : set of str
        Plates, by key, whose z of 0 is a projection of the stack and no plane of it.
    notes : list of str
        A sentence about each guess.
    """

    planes: list[Plane] = field(default_factory=list)
    plates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    channels: dict[tuple[str, str], str] = field(default_factory=dict)
    short: str = "w"
    unplaced: list[tuple[str, str]] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    wells: list[Mapping[str, str]] = field(default_factory=list)
    projected: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def folder_names(tree: Tree, folder: str) -> tuple[str, str]:
    """Names for a plate that is a folder: the name of the folder, and its whole path."""
    root = tree.root.resolve().name or "plate"
    return (folder.rpartition("/")[2] or root, folder.replace("/", "_") or root)
