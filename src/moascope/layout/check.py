"""A screen's layout before anything is trained: its page, and the verdict in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moascope.layout.page import SCREEN_PAGE, write_screen_page
from moascope.layout.words import findings, verdict
from moascope.screen.tables import Screen
from moascope.screen.targets import Labels


@dataclass(frozen=True)
class Checked:
    """What `check_layout` found.

    Attributes
    ----------
    screen : Screen
    labels : Labels
    page : Path
    verdict : str
        Which confounds the layout has, in a sentence.
    """

    screen: Screen
    labels: Labels
    page: Path
    verdict: str


def check_layout(folder: Path, out: Path, target: str) -> Checked:
    """Measure which confounds a screen's layout has; images are not read.

    Parameters
    ----------
    folder : Path
        The screen: its tables are enough.
    out : Path
        Receives screen.html and screen.json.
    target : str
        As `moascope.screen.targets.label_screen` takes it.

    Raises
    ------
    MoascopeError
        Where the tables cannot be read, or cannot answer the target.
    """
    from moascope.learning.dealing import assign_folds
    from moascope.params import Split
    from moascope.screen.description import read_description
    from moascope.screen.tables import read_screen
    from moascope.screen.targets import label_screen

    screen = read_screen(folder, tables_only=True)
    labels = label_screen(screen, target)
    split = Split()
    groups = assign_folds(labels.groups, min(split.folds, len(labels.groups)), split.repeats,
                          holdout=0, seed=0)
    content = write_screen_page(out, screen, labels, groups, read_description(folder), seed=0)
    return Checked(screen, labels, out / SCREEN_PAGE, verdict(findings(content))[1])
