"""Plate maps in the shape of the plate: a line of column numbers, and a line per row below it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from moascope.errors import MoascopeError
from moascope.importing.doses import is_dose
from moascope.importing.names import letters_to_row
from moascope.screen.columns import plain, spellings
from moascope.screen.reading import Rows
from moascope.screen.wells import well_name
from moascope.text import counted, is_number, tidy

_SIDES = {12: 8, 24: 16, 48: 32}


def wells_of_grids(rows: Rows, name: str) -> tuple[Rows, list[str]] | None:
    """The grids of a file as a table with one row per well; None where it has no grid.

    Returns
    -------
    Rows
        With a header: `Metadata_Plate`, `Metadata_Well`, `Metadata_Compound`, and the titles of
        further grids.
    list of str
        A sentence about each guess.

    Raises
    ------
    MoascopeError
        With a sentence for everything in the grids that cannot be read.
    """
    starts, notes = _grid_starts(rows), []
    if not starts:
        turned = _turned(rows)
        starts = _grid_starts(turned) if turned else []
        if not turned or not starts:
            return None
        rows = turned
        notes.append(f"{name}: letters stand above the grid and numbers in front of it, so letters "
                     "are read as rows of the plate and numbers as its columns.")
    wells: dict[tuple[str, str], dict[str, str]] = {}
    titles: dict[str, str] = {}
    problems = []
    for index in range(starts[0]):
        above = tidy(next(filter(str.strip, rows.cells[index])), 60)
        problems.append(f"{name}, line {rows.lines[index]}: '{above}' stands above the first grid. "
                        "Remove the line.")
    for start, end in zip(starts, [*starts[1:], len(rows.cells)], strict=True):
        numbers = _grid_columns(rows.cells[start])
        plate, column = _grid_title(rows.cells[start][0])
        if column is None:
            problems.append(f"{name}, line {rows.lines[start]}: "
                            f"'{tidy(rows.cells[start][0], 60)}' does not say what the grid holds. "
                            "Write compound, concentration_uM or control, or leave it empty.")
            continue
        titles.setdefault(column, column)
        width = numbers[-1]
        rows_at_most = _SIDES.get(width, 32) if numbers[0] == 1 else 32
        for line, cells in zip(rows.lines[start + 1:end], rows.cells[start + 1:end], strict=True):
            try:
                row = letters_to_row(cells[0])
                if row >= rows_at_most:
                    raise ValueError
            except ValueError:
                problems.append(f"{name}, line {line}: '{tidy(cells[0], 60)}' is not a row of a "
                                f"plate with {width} columns. Begin each line with its letter, "
                                "from A on.")
                continue
            if any(cell.strip() for cell in cells[len(numbers) + 1:]):
                problems.append(f"{name}, line {line}: {counted(len(cells) - 1, 'value')} for "
                                f"{counted(len(numbers), 'column')}. Look for a comma inside a "
                                "value (put that value in double quotes).")
                continue
            for number, cell in zip(numbers, cells[1:], strict=False):
                if cell.strip():
                    key = (plate, well_name(row, number - 1))
                    entry = wells.setdefault(key, {"line": str(line)})
                    if entry.setdefault(column, cell.strip()) != cell.strip():
                        problems.append(
                            f"{name}, line {line}: well {key[1]} has '{tidy(entry[column], 60)}' "
                            f"in an earlier grid and '{tidy(cell, 60)}' here. Keep one, or say in "
                            "front of the numbers what this grid holds, such as concentration_uM.")
    if problems:
        raise MoascopeError(problems)
    fixed = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound"]
    header = [*fixed, *(title for title in titles if title not in fixed)]
    table = Rows([header], [0], rows.delimiter)
    for (plate, well), said in wells.items():
        table.cells.append([plate, well, *(said.get(column, "") for column in header[2:])])
        table.lines.append(int(said["line"]))
    return table, notes


def _turned(rows: Rows) -> Rows | None:
    """A single grid with rows and columns exchanged: letters above, numbers in front."""
    letters = [cell.strip() for cell in rows.cells[0][1:] if cell.strip()]
    width = len(rows.cells[0])
    if (len(letters) < 2 or len(rows.cells) < 3 or not all(map(_is_row, letters))
            or any(len(cells) != width for cells in rows.cells)
            or not all(is_number(cells[0].strip()) for cells in rows.cells[1:])):
        return None
    return Rows([list(cells) for cells in zip(*rows.cells, strict=True)],
                [rows.lines[0]] * width, rows.delimiter)


def _grid_starts(rows: Rows) -> list[int]:
    """The lines with the numbers of a grid's columns: the line below begins with a row's letter."""
    return [index for index, cells in enumerate(rows.cells[:-1])
            if _grid_columns(cells) and _is_row(rows.cells[index + 1][0])]


def _grid_columns(cells: Sequence[str]) -> list[int]:
    """The numbers of the columns in the line above a grid; empty for any other line."""
    numbers = [cell.strip() for cell in cells[1:]]
    while numbers and not numbers[-1]:
        numbers.pop()
    if len(numbers) < 2 or not all(is_number(cell) and len(cell) < 3 for cell in numbers):
        return []
    columns = [int(cell) for cell in numbers]
    rising = all(one < other for one, other in pairwise(columns))
    # A row of doses, A,1,2,3, has a letter where the line above a grid has its title.
    return columns if rising and columns[0] >= 1 and columns[-1] <= 48 and not _is_row(
        cells[0]) else []


def _is_row(cell: str) -> bool:
    try:
        return letters_to_row(cell) >= 0
    except ValueError:
        return False


def _grid_title(cell: str) -> tuple[str, str | None]:
    """The plate and the column that a grid holds; doses under their own title, for its unit."""
    plate, colon, title = cell.strip().rpartition(":")
    word = plain(title)
    for column in ("Metadata_Compound", "Metadata_Control"):
        if word in spellings("wells")[column]:
            return plate.strip(), column
    if is_dose(title):
        return plate.strip(), title.strip().removeprefix("Metadata_")
    if not colon and not word:
        return "", "Metadata_Compound"
    return plate, None
