"""Numbers as spreadsheets of different languages write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

COMMAS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])")
"""What begins as a thousand with a comma may: 1,000, and 1,000.5."""

POINTS = re.compile(r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?![0-9])")
"""The same with a point, as in German."""


def commas_may_separate(texts: Iterable[str]) -> bool:
    """Whether every comma of a column could stand between thousands: 1,000 but never 0,5."""
    with_comma = [text for text in texts if "," in text]
    return bool(with_comma) and all(map(COMMAS.match, with_comma))


def points_may_separate(texts: Iterable[str], delimiter: str) -> bool:
    """Whether the point in a column could stand between thousands, as in a German 1.000.

    So it is where commas separate decimals in the same column, or where a table separated by
    semicolons has points in front of three digits alone and no value below one.
    """
    if delimiter == ",":
        return False
    texts = list(texts)
    if any("," in text for text in texts):
        return True
    pointed = [text for text in texts if "." in text]
    return delimiter == ";" and bool(pointed) and all(map(POINTS.match, pointed))
