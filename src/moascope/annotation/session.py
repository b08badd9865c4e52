"""What a person decides while the page is open: read from the table, written to it at once."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
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
from moascope.annotation.decide import Decision, read_term
from moascope.annotation.pictures import View, find_views, render_view
from moascope.annotation.review import in_words
from moascope.annotation.run import Done
from moascope.errors import MoascopeError
from moascope.screen.tables import Screen
from moascope.screen.terms import split_terms
from moascope.text import listing


@dataclass(frozen=True)
class Answer:
    """One answer of a person.

    Attributes
    ----------
    tab : str
        Where it was given.
    before : dict of str to tuple of str
        By compound that it decided, the row before.
    after : dict of str to str
        By compound, the `fingerprint` of the row after.
    """

    tab: str
    before: dict[str, tuple[str, ...]]
    after: dict[str, str]


@dataclass
class Session:
    """The review list, and what was decided since the page was opened.

    The table on disk is the truth: every decision reads it again, changes its rows and writes it
    whole, so that neither a kill nor a second tab loses a decision. A question is asked once: one
    answer decides all compounds that share it, and each of them gets a row of its own.

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
    history : list of Answer
        For undoing.
    """

    out: Path
    curator: str
    questions: dict[str, pd.Series]
    decisions: dict[str, Decision]
    images_are: str
    screen: Screen | None = None
    decided_before: frozenset[str] = frozenset()
    touched: set[str] = field(default_factory=set)
    history: list[Answer] = field(default_factory=list)
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

    def sharing(self, name: str, table: pd.DataFrame) -> tuple[str, ...]:
        """A compound, and those that wait for the answer to the same question."""
        listed = self.questions.get(name)
        others = () if listed is None else (
            other for other, row in self.questions.items() if row["number"] == listed["number"]
            and other != name and other in table.index and not self.is_decided(other, table))
        return (name, *others)

    def asked(self, table: pd.DataFrame) -> dict[int, str]:
        """The compound that stands for each question, by number; one that waits, if any does."""
        first: dict[int, str] = {}
        for name in (*self.waiting(table), *self.questions):
            first.setdefault(self.questions[name]["number"], name)
        return dict(sorted(first.items()))

    def decide(self, name: str, gpcr: str, actions: list[str], seen: str, tab: str,
               alone: bool = True) -> tuple[int, str]:
        """Write a person's decision.

        Parameters
        ----------
        name : str
        gpcr : {"yes", "no", "unknown"}
        actions : list of str
            Kept with a "yes" only.
        seen : str
            The `fingerprint_of` the rows that are decided, as the person saw them.
        tab : str
            Where it was decided, for undoing.
        alone : bool
            Whether the answer is for this compound only, and not for those that share its question.

        Returns
        -------
        int
            How many compounds were decided: all, or none.
        str
            Why nothing was written, in a sentence, or "".
        """
        with self.lock, _between_processes(self.out):
            table = self.table()
            if name not in table.index:
                return 0, f"{name} is no longer in {self.out.name}."
            names = (name,) if alone else self.sharing(name, table)
            if fingerprint_of(table, names) != seen:
                return 0, self._changed(name, table, alone)
            answer = Answer(tab, {}, {})
            for other in names:
                after = (gpcr, "|".join(sorted(actions)) if gpcr == "yes" else "",
                         persons_evidence(self.decisions[other].evidence), self.curator)
                answer.before[other] = tuple(table.loc[other, DECIDED])
                answer.after[other] = fingerprint(after)
                table.loc[other, DECIDED] = list(after)
            write_annotations(self.out, table)
            self.history.append(answer)
            self.touched |= set(answer.after)
        return len(answer.after), ""

    def _changed(self, name: str, table: pd.DataFrame, alone: bool) -> str:
        gpcr, action, _, curator = table.loc[name, DECIDED]
        if not alone and not self.is_decided(name, table):
            return (f"A compound with the same question as {name} has been decided in the "
                    "meantime. Your decision was not saved; look again.")
        return (f"{name} has been changed in the meantime, to {in_words(gpcr, action)}"
                + (f" by {curator}" if curator else "")
                + ". Your decision was not saved; look again.")

    def undo(self, tab: str) -> tuple[list[str], str]:
        """Undo a tab's last answer; returns its compounds, and which were not undone or ""."""
        with self.lock, _between_processes(self.out):
            index = next((index for index in range(len(self.history) - 1, -1, -1)
                          if self.history[index].tab == tab), None)
            if index is None:
                return [], "There is nothing to undo in this tab."
            answer = self.history[index]
            table = self.table()
            newer = [name for name, expected in answer.after.items() if name not in table.index
                     or fingerprint(tuple(table.loc[name, DECIDED])) != expected]
            for name, before in answer.before.items():
                if name not in newer:
                    table.loc[name, DECIDED] = list(before)
            if len(newer) < len(answer.before):
                write_annotations(self.out, table)
            del self.history[index]
            self.touched -= {name for name in answer.before if name not in newer
                             and not any(name in other.after for other in self.history)}
        refusal = "" if not newer else (
            f"{listing(newer)} {'has' if len(newer) == 1 else 'have'} been changed in the "
            "meantime; the newer decision was kept.")
        return list(answer.before), refusal

    def following(self, name: str) -> str:
        """The next compound that waits for a decision, or "" where none does."""
        waiting = self.waiting(self.table())
        order = list(self.questions)
        later = order[order.index(name) + 1:] if name in self.questions else order
        return next((other for other in later if other in set(waiting)),
                    waiting[0] if waiting else "")

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


def stated_actions(row: pd.Series) -> set[str]:
    """The actions in a row of annotations.csv, or those that the words of its mechanism state."""
    readings = [read_term(term) for term in split_terms(row["Metadata_MoA"])]
    return set(row["gpcr_action"].split("|")) - {""} or {
        action for reading in readings if reading.says in ("yes", "unclear")
        for action in reading.actions}


def fingerprint(values: tuple[str, ...]) -> str:
    """Of what a row says, to see whether it was changed in the meantime."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:16]


def fingerprint_of(table: pd.DataFrame, names: Sequence[str]) -> str:
    """Of what the rows of several compounds say."""
    return fingerprint(tuple(cell for name in names for cell in (name, *table.loc[name, DECIDED])))


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
