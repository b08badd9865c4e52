"""What a person decides while the page is open: read from the table, written to it at once."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pandas as pd

from moascope.annotation.compounds import (
    DECIDED,
    UNNAMED,
    persons_evidence,
    read_earlier,
    write_annotations,
)
from moascope.annotation.decide import Decision
from moascope.annotation.pictures import View, find_views, render_view
from moascope.annotation.review import in_words
from moascope.annotation.run import Done
from moascope.errors import MoascopeError
from moascope.screen.tables import Screen


@dataclass
class Session:
    """The review list, and what was decided since the page was opened.

    The table on disk is the truth: every decision reads it again, changes one row and writes it
    whole, so that neither a kill nor a second tab loses a decision.

    Attributes
    ----------
    out : Path
    curator : str
    questions : dict of str to Series
        Rows of the review list by compound, in their order.
    decisions : dict of str to Decision
        What the terms and genes decide, by compound.
    images_are : str
        What the review list counts, "images" or "rows in <file>".
    screen : Screen or None
    decided_before : frozenset of str
        Compounds that a person had decided when the page was opened.
    touched : set of str
        Compounds that were decided in this session.
    history : list of (str, str, tuple of str, str)
        Tab, compound, the row before and the fingerprint after, for undoing.
    """

    out: Path
    curator: str
    questions: dict[str, pd.Series]
    decisions: dict[str, Decision]
    images_are: str
    screen: Screen | None = None
    decided_before: frozenset[str] = frozenset()
    touched: set[str] = field(default_factory=set)
    history: list[tuple[str, str, tuple[str, ...], str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.views = lru_cache(maxsize=256)(self._find_views)
        self.picture = lru_cache(maxsize=128)(self._render)

    def table(self) -> pd.DataFrame:
        """The annotations as they are on disk, by compound."""
        table = read_earlier(self.out)
        if table is None:
            raise MoascopeError(f"{self.out} is gone. Run moascope annotate again.")
        return table.set_index("Metadata_Compound", drop=False)

    def waiting(self, table: pd.DataFrame) -> list[str]:
        """Compounds of the review list that nobody has decided yet."""
        return [name for name in self.questions if not self.is_decided(name, table)]

    def is_decided(self, name: str, table: pd.DataFrame) -> bool:
        """Whether a person has decided; a decision of an earlier run that is listed is not one."""
        return name in self.touched or (
            name in table.index and bool(table.loc[name, "curator"])
            and name not in self.decided_before)

    def decide(self, name: str, gpcr: str, actions: list[str], seen: str, tab: str) -> str:
        """Write a person's decision.

        Parameters
        ----------
        name : str
        gpcr : {"yes", "no", "unknown"}
        actions : list of str
            Kept with a "yes" only.
        seen : str
            The `fingerprint` of the row that the person saw.
        tab : str
            Where it was decided, for undoing.

        Returns
        -------
        str
            Why nothing was written, in a sentence, or "".
        """
        with self.lock, _between_processes(self.out):
            table = self.table()
            if name not in table.index:
                return f"{name} is no longer in {self.out.name}."
            before = tuple(table.loc[name, DECIDED])
            if fingerprint(before) != seen:
                return (f"{name} has been changed in the meantime, to "
                        f"{in_words(before[0], before[1])}"
                        + (f" by {before[3]}" if before[3] else "")
                        + ". Your decision was not saved; look again.")
            after = (gpcr, "|".join(sorted(actions)) if gpcr == "yes" else "",
                     persons_evidence(self.decisions[name].evidence), self.curator)
            self._write(table, name, after)
            self.history.append((tab, name, before, fingerprint(after)))
            self.touched.add(name)
        return ""

    def undo(self, tab: str) -> tuple[str, str]:
        """Undo a tab's last decision; returns the compound, and why it was not undone or ""."""
        with self.lock, _between_processes(self.out):
            index = next((index for index in range(len(self.history) - 1, -1, -1)
                          if self.history[index][0] == tab), None)
            if index is None:
                return "", "There is nothing to undo in this tab."
            _, name, before, expected = self.history[index]
            table = self.table()
            if name not in table.index or fingerprint(tuple(table.loc[name, DECIDED])) != expected:
                del self.history[index]
                return name, (f"{name} has been changed in the meantime; the newer decision was "
                              "kept.")
            self._write(table, name, before)
            del self.history[index]
            if not any(entry[1] == name for entry in self.history):
                self.touched.discard(name)
        return name, ""

    def following(self, name: str) -> str:
        """The next compound that waits for a decision, or "" where none does."""
        waiting = self.waiting(self.table())
        order = list(self.questions)
        later = order[order.index(name) + 1:] if name in self.questions else order
        return next((other for other in later if other in set(waiting)),
                    waiting[0] if waiting else "")

    def _write(self, table: pd.DataFrame, name: str, values: tuple[str, ...]) -> None:
        table.loc[name, DECIDED] = list(values)
        write_annotations(self.out, table)

    def _find_views(self, name: str) -> tuple[View, ...]:
        return tuple(find_views(self.screen, name)) if self.screen is not None else ()

    def _render(self, view: View, treated: bool, channel: str) -> bytes:
        return render_view(self.screen, view, treated, channel)


def begin_session(done: Done, out: Path, curator: str) -> Session:
    """Begin to decide what `annotate_files` left to a person.

    Parameters
    ----------
    done : Done
    out : Path
        The annotations that it wrote.
    curator : str
        Who decides.
    """
    table = done.annotated.table
    return Session(
        out, curator.strip() or UNNAMED,
        {row["Metadata_Compound"]: row for _, row in done.review.iterrows()},
        dict(zip(table["Metadata_Compound"], done.annotated.decisions, strict=True)),
        done.images_are, done.screen,
        frozenset(table.loc[table["curator"] != "", "Metadata_Compound"]))


def fingerprint(values: tuple[str, ...]) -> str:
    """Of what a row says, to see whether it was changed in the meantime."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _between_processes(out: Path) -> Iterator[None]:
    """One process at a time reads and writes a table; without flock (Windows), one server only."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"moascope-annotate-{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
