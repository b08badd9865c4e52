"""Letters of other alphabets that look like Latin ones, typed or pasted by mistake."""

from __future__ import annotations

import unicodedata

_LATIN = dict(zip("АВЕЅІЈКМНОРСТУХаеѕіјорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
                  "ABESIJKMHOPCTYXaesijopcyxABEZHIKMNOPTYXo", strict=True))


def latin(text: str) -> str:
    """A name that mixes alphabets in Latin letters, as it looks; Greek and Russian words as is.

    A code of digits and letters that all look Latin, such as C00, is in Latin letters, too.
    """
    if text.isascii():
        return text
    letters = [c for c in text if c.isalpha()]
    is_code = any(map(str.isdigit, text)) and all(c in _LATIN for c in letters)
    if not is_code and not any(c.isascii() for c in letters):
        return text
    return "".join(_LATIN.get(c, c) for c in text)


def foreign_letter(text: str) -> str:
    """The first letter that only looks Latin, with its name for a sentence; empty without one."""
    return next((f"'{c}' ({unicodedata.name(c).capitalize()})" for c in text if c in _LATIN), "")


def seen(text: str) -> str:
    """A cell without blanks at its ends and characters that are not seen, such as U+200B."""
    if text.isascii():
        return text.strip()
    return "".join(c for c in text if unicodedata.category(c) != "Cf").strip()


def without_marks(text: str) -> str:
    """Compatible letters (NFKC) without accents and characters that are not seen."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn"))
