"""The one exception a user may see, and how a program ends on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable


class MoascopeError(Exception):
    """Input that moascope cannot work with, told in sentences that name what, where and the remedy.

    Parameters
    ----------
    problems : str or iterable of str
        One sentence, or one sentence for each problem found. All of them are shown, so that a
        person mends a table once and not once an error.
    """

    def __init__(self, problems: str | Iterable[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self):
        # Errors cross process boundaries (plates are worked on in parallel).
        return type(self), (self.problems,)


def address_shown(address: str) -> str:
    """The address of a database or server without user, password and options."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}" if rest else address


MOST_PROBLEMS_SHOWN = 20


def run_to_exit_code(program: Callable[[], object]) -> int:
    """Call `program`; on a MoascopeError print its sentences on stderr.

    Returns
    -------
    int
        0 when the program ended well, 1 on a MoascopeError, 130 on Ctrl-C.
    """
    try:
        program()
    except MoascopeError as error:
        for problem in error.problems[:MOST_PROBLEMS_SHOWN]:
            print(f"error: {problem}", file=sys.stderr)
        hidden = len(error.problems) - MOST_PROBLEMS_SHOWN
        if hidden > 0:
            print(f"error: and {hidden} more of the kind", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept and the next run goes on from it",
              file=sys.stderr)
        return 130
    return 0
