"""Names and positions of wells on plates of 96, 384 and 1,536 wells."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

from moascope.errors import MoascopeError
from moascope.screen.lookalikes import foreign_letter, seen
from moascope.text import tidy

PLATE_SHAPES = {96: (8, 12), 384: (16, 24), 1536: (32, 48)}
"""Rows and columns of each plate format (ANSI SLAS 4)."""

_ROWS, _COLUMNS = PLATE_SHAPES[1536]
_LETTERS = string.ascii_uppercase
_WELL = re.compile(r"(?:well[ _:-]*)?([A-Z]{1,2})[ _:-]*0*([1-9][0-9]?)", re.ASCII | re.I)
_BY_NUMBERS = re.compile(r"R(?:ow)?[ _-]*0*([1-9][0-9]?)[ _,-]*C(?:ol|olumn)?[ _-]*0*([1-9][0-9]?)",
                         re.ASCII | re.I)
_TURNED = re.compile(r"0*([1-9][0-9]?)[ _:-]*([A-Z]{1,2})", re.ASCII | re.I)


def well_name(row: int, column: int) -> str:
    """Name of the well at a position, both counted from 0: (1, 1) is B02, (26, 0) is AA01."""
    if not (0 <= row < _ROWS and 0 <= column < _COLUMNS):
        raise ValueError(f"no plate of at most 1,536 wells has row {row} and column {column}")
    letters = _LETTERS[row] if row < 26 else "A" + _LETTERS[row - 26]
    return f"{letters}{column + 1:02d}"


def well_position(name: str) -> tuple[int, int]:
    """Row and column of a well, both counted from 0.

    Parameters
    ----------
    name : str
        In any spelling: B02, B2, b2, AA1, B-02, B 02, R02C02.

    Raises
    ------
    MoascopeError
        When no plate of at most 1,536 wells has such a well.
    """
    text = name.strip()
    # Letters of full width, and characters that are not seen, as pasted from elsewhere.
    text = text if text.isascii() else seen(unicodedata.normalize("NFKC", text))
    if match := _BY_NUMBERS.fullmatch(text):
        row, column = int(match[1]) - 1, int(match[2]) - 1
        if row < _ROWS and column < _COLUMNS:
            return row, column
    elif match := _WELL.fullmatch(text):
        place = _position(match[1], match[2])
        if place:
            return place
    raise MoascopeError(f"'{tidy(name, most=60)}' is not a well name. {_remedy(text)}")


def _position(letters: str, column: str) -> tuple[int, int] | None:
    letters = letters.upper()
    row, at = _LETTERS.index(letters[-1]) + (26 if len(letters) == 2 else 0), int(column) - 1
    return (row, at) if letters[:-1] in ("", "A") and row < _ROWS and at < _COLUMNS else None


def _remedy(text: str) -> str:
    turned = _TURNED.fullmatch(text)
    if turned and (place := _position(turned[2], turned[1])):
        return (f"Write {well_name(*place)} if row {turned[2].upper()} and column {turned[1]} are "
                "meant.")
    if letter := foreign_letter(text):
        return f"Its {letter} only looks like a Latin letter. Type it as in B02."
    return "Write a row A to AF and a column 1 to 48, like B02."


def canonical_well(name: str) -> str:
    """The spelling that moascope uses: B02 for B2, b02 or B002.

    Raises
    ------
    MoascopeError
        As `well_position`.
    """
    return well_name(*well_position(name))


def plate_format(wells: Iterable[str]) -> int:
    """The smallest plate (96, 384 or 1536) that has all these wells.

    A 384-well plate of which only the top left corner was imaged counts as a 96-well plate: well
    names alone cannot tell the two apart.
    """
    positions = [well_position(well) for well in set(wells)]
    row = max((row for row, _ in positions), default=0)
    column = max((column for _, column in positions), default=0)
    return next(size for size, (rows, columns) in PLATE_SHAPES.items()
                if row < rows and column < columns)
