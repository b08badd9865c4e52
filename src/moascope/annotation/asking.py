"""The review in the terminal: a question at a time, one answer for all compounds that share it."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

from moascope.annotation.review import and_more, in_words
from moascope.annotation.run import Done
from moascope.annotation.session import Session, begin_session, fingerprint_of, stated_actions
from moascope.text import counted, listing, tidy

KEYS = """\
  y GPCR (ya agonist, yt antagonist, yo other; y alone as the words say)
  n not GPCR   u unknown   e each compound by itself   s skip   z undo   q stop"""
_ACTION_OF = {"a": "agonist", "t": "antagonist", "o": "other"}
_ANSWER = re.compile(r"y[ato]*|[nueszq]")
_VERDICTS = {"y": "yes", "n": "no", "u": "unknown"}
_TAB = "terminal"


def ask_review(done: Done, out: Path, curator: str, read: Callable[[str], str] = input) -> None:
    """Ask the questions of the review list until all are answered or skipped, or the person stops.

    Parameters
    ----------
    done : Done
        As from `annotate_files`.
    out : Path
        The annotations that it wrote; every answer goes there at once.
    curator : str
        Who decides.
    read : callable
        Prints a prompt and returns the line that the person enters; raises EOFError at the end.
    """
    if done.review.empty:
        print("Nothing to review.")
        return
    session = begin_session(done, out, curator)
    print(f"Every answer is saved to {out} at once, with the name {session.curator}.\n{KEYS}")
    skipped: set[str] = set()
    alone: set[int] = set()
    while name := next((name for name in session.waiting(session.table())
                        if name not in skipped), ""):
        number = int(session.questions[name]["number"])
        names = _show(session, name, number in alone)
        try:
            answer = read("> ").strip().lower()
        except EOFError:
            break
        if not _ANSWER.fullmatch(answer):
            print(f"'{tidy(answer, 20)}' is not one of the answers.\n{KEYS}")
        elif answer == "q":
            break
        elif answer == "s":
            skipped.update(names)
        elif answer == "e":
            alone.add(number)
        elif answer == "z":
            _undo(session, skipped)
        else:
            _decide(session, names, answer)
    print(f"{len(session.touched):,} decided in this session; all are in {out}.")


def _show(session: Session, name: str, alone: bool) -> tuple[str, ...]:
    """Print a question; returns the compounds that the answer is for."""
    table, listed = session.table(), session.questions[name]
    names = (name,) if alone else session.sharing(name, table)
    images = sum(int(session.questions[other]["images"]) for other in names)
    left = len({int(session.questions[other]["number"]) for other in session.waiting(table)})
    print(f"\n{counted(left, 'question')} left. {counted(len(names), 'compound')}, {images:,} "
          f"{session.images_are}:")
    for text in (listing((tidy(other, 60) for other in names), 3), tidy(listed["question"])):
        print(textwrap.fill(text, shutil.get_terminal_size().columns - 1, initial_indent="  ",
                            subsequent_indent="  ", break_on_hyphens=False))
    return names


def _decide(session: Session, names: tuple[str, ...], answer: str) -> None:
    table, name = session.table(), names[0]
    actions = sorted({_ACTION_OF[key] for key in answer[1:]}) or sorted(
        stated_actions(table.loc[name]))
    gpcr = _VERDICTS[answer[0]]
    decided, refusal = session.decide(name, gpcr, actions, fingerprint_of(table, names), _TAB,
                                      alone=len(names) == 1)
    said = in_words(gpcr, "|".join(actions) if gpcr == "yes" else "")
    print(refusal or f"Saved {and_more(name, decided)}: {said}.")


def _undo(session: Session, skipped: set[str]) -> None:
    names, refusal = session.undo(_TAB)
    skipped.difference_update(names)
    if not names:
        print("There is nothing to undo in this session.")
    else:
        print(refusal or f"Undid the decision on {and_more(names[0], len(names))}.")
