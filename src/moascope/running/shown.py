"""What `moascope run` shows: a line per step, and on a terminal a bar and the time."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moascope.running.pipeline import Told

_NAME = 10
_INDENT = " " * _NAME


class Shown:
    """The terminal of one run.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where lines go; standard output by default.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console

        self.console = console or Console(highlight=False, markup=False, emoji=False)

    def step(self, name: str, said: str, seconds: float | None = None) -> None:
        """A step and what came of it, with its name in a column of its own."""
        took = "" if seconds is None or seconds < 1 else f" ({seconds:.0f} s)"
        self._print(f"{name:<{_NAME - 1}} {said}{took}")

    def notes(self, sentences: Iterable[str]) -> None:
        """What was assumed, below its step."""
        for sentence in dict.fromkeys(sentences):
            self._print(f"{_INDENT}- {sentence}", _INDENT + "  ")

    @contextlib.contextmanager
    def working(self, name: str) -> Iterator[Callable[[str], None]]:
        """A step that may take long: a clock while it runs; the yielded call ends it."""
        begun = time.monotonic()
        said: list[str] = []
        with self._bar(name, None):
            yield said.append
        for sentence in said:
            self.step(name, sentence, time.monotonic() - begun)

    @contextlib.contextmanager
    def pipeline(self, total: int) -> Iterator[Told]:
        """The stages of the pipeline, as many as `total`."""
        with self._bar("pipeline", total) as (bar, task):
            def tell(what: str, stage: str, said: str) -> None:
                if what == "begins":
                    bar.update(task, description=stage)
                elif what == "line":
                    self._print(_INDENT + said, _INDENT)
                else:
                    self.step(stage, said or "done before")
                    bar.advance(task)

            yield tell

    def lines(self, rows: Iterable[tuple[str, str]]) -> None:
        """Names and what is said of them; a path without blanks is not broken."""
        for name, said in rows:
            self.step(name, said)

    def done(self, verdict: str, seconds: float) -> None:
        """What came of the whole run."""
        minutes, rest = divmod(round(seconds), 60)
        took = f"{minutes} min {rest} s" if minutes else f"{rest} s"
        self.console.print()
        self._print(f"Done in {took}. {verdict}", "")

    def _print(self, text: str, indent: str = _INDENT) -> None:
        self.console.print(textwrap.fill(
            text, self.console.width, subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False), soft_wrap=True)

    @contextlib.contextmanager
    def _bar(self, name: str, total: int | None) -> Iterator[tuple[Any, Any]]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        counted = () if total is None else (MofNCompleteColumn(),)
        with Progress(TextColumn("{task.description:<9}"), BarColumn(), *counted, Elapsed(),
                      console=self.console, transient=True,
                      disable=not self.console.is_terminal) as bar:
            yield bar, bar.add_task(name, total=total)
