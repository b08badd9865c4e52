"""Numbers, names and counts as people write them."""

from __future__ import annotations

import math
import struct
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

# Names that a sentence lists before it counts the rest.
EXAMPLES = 5
_LONGEST_NAME = 500   # an address of a file and why it is not available fit
GPCR_WORDS = {
    "gpcr": "GPCR",
    "gpcr_agonist": "GPCR agonist",
    "gpcr_antagonist": "GPCR antagonist",
}


def counted(count: int, noun: str) -> str:
    """A number with its noun, for a sentence: "1 site", "1,200 sites"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def listing(names: Iterable[Any], most: int = EXAMPLES) -> str:
    """A list for a sentence: the first few names, and how many more there are."""
    names = [str(name) for name in names]
    # A damaged table may have names of thousands of characters.
    names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names]
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def assumed_lines(sentences: Iterable[str]) -> list[str]:
    """Everything that was assumed, each sentence once, as lines of at most 80 characters."""
    lines: list[str] = []
    for sentence in dict.fromkeys(sentences):
        lines += textwrap.wrap(sentence, 80, initial_indent="  - ", subsequent_indent="    ",
                               break_long_words=False, break_on_hyphens=False)
    return ["assumed", *lines] if lines else []


def tidy(text: object, most: int = 0) -> str:
    """A name from a table as one line: control characters and runs of blanks become one blank.

    Parameters
    ----------
    text : object
    most : int
        Characters after which it is cut off with an ellipsis; 0 never cuts.
    """
    shown = "".join(" " if unicodedata.category(c).startswith("C") else c for c in str(text))
    shown = " ".join(shown.split())
    return shown if not most or len(shown) <= most else shown[: most - 1] + "…"


def is_number(text: str) -> bool:
    """Whether a text is a whole number without a sign that fits into 64 bits."""
    # Python refuses to convert thousands of digits.
    return text.isascii() and text.isdecimal() and len(text) <= 18


def cause(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none, for a sentence."""
    lines = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
    return tidy(lines[0] if lines else type(error).__name__, most=300).rstrip(".")


def explained(error: BaseException) -> str:
    """The cause of an error on a damaged file, without what only a programmer understands."""
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        return f"it lacks '{tidy(error.args[0], most=100)}'"
    if isinstance(error, (ArithmeticError, AssertionError, AttributeError, LookupError,
                          RecursionError, TypeError, struct.error)):
        return "its parts do not fit together"
    if "int_max_str_digits" in str(error):
        return "a number has thousands of digits"
    return cause(error)


def number(value: Any, digits: int = 3) -> str:
    """A number as people write it; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}".replace("-", "−")


def p_value(value: Any) -> str:
    """A permutation p with the digits that it can have."""
    return number(value, 5 if value is not None and value < 0.0005 else 3)


def bracketed(scores: Mapping[str, Any]) -> str:
    """The interval of a score behind its value, " [0.310, 0.520]"; nothing where it has none."""
    low, high = scores.get("low"), scores.get("high")
    return "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"


def span(scores: Mapping[str, Any], digits: int = 3) -> str:
    """The interval of a score, "0.31 to 0.52"; an en dash where it has none."""
    if scores.get("low") is None or scores.get("high") is None:
        return number(None)
    return f"{number(scores.get('low'), digits)} to {number(scores.get('high'), digits)}"


def class_name(name: str, target: str) -> str:
    """A class as a person says it: `not_gpcr` of target `gpcr` is "not GPCR"."""
    said = GPCR_WORDS.get(target, target)
    return {target: tidy(said), f"not_{target}": tidy(f"not {said}")}.get(name, tidy(name))
