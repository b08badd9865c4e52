"""Plate maps: one row per well, or grids in the shape of the plate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.importing.names import letters_to_row, well_at
from moascope.screen.columns import CONTROLS, plain, recognise, spellings
from moascope.screen.reading import Rows, read_rows
from moascope.screen.wells import canonical_well, well_name
from moascope.text import counted, is_number, listing

_CONTROL_WORDS = {
    "negative": "negative", "neg": "negative", "negcon": "negative", "negativecontrol": "negative",
    "vehicle": "negative", "dmso": "negative", "untreated": "negative", "mock": "negative",
    "positive": "positive", "pos": "positive", "poscon": "positive", "positivecontrol": "positive",
    "poscondiverse": "positive", "posconcp": "positive", "posconorf": "positive",
    "": "", "none": "", "no": "", "na": "", "nan": "", "sample": "", "compound": "", "trt": "",
    "treatment": "", "treated": "", "test": "", "empty": "",
}
_VEHICLES = {"dmso", "vehicle", "negativecontrol", "solvent"}
_SIDES = {12: 8, 24: 16, 48: 32}


def places_wells(columns: Mapping[str, int]) -> bool:
    """Whether a table with these columns says which well each of its rows is about."""
    return "Metadata_Well" in columns or {"Metadata_Row", "Metadata_Column"} <= columns.keys()


def describe_wells(rows: Rows, columns: Mapping[str, int],
                   name: str) -> tuple[list[dict[str, str] | None], dict[int, str]]:
    """Read the wells of a long table.

    Returns
    -------
    list of dict or None
        One per row, with the columns of layout.csv and annotations.csv that the table has; the well
        in its canonical spelling, the concentration in micromolar as text. None where the well
        cannot be read.
    dict of int to str
        By line, a sentence about a well, concentration or control that cannot be read.
    """
    problems: dict[int, str] = {}
    wells: list[dict[str, str] | None] = []
    for line, cells in zip(rows.lines[1:], rows.cells[1:], strict=True):
        said = {meaning: cells[index].strip() for meaning, index in columns.items()
                if index < len(cells)}
        well = _well(said)
        if well is None:
            written = said.get("Metadata_Well") or (said.get("Metadata_Row", "")
                                                    + said.get("Metadata_Column", ""))
            problems[line] = (f"{name}, line {line}: '{written}' is not a well name. Write a row "
                              "A to AF and a column 1 to 48, like B02.")
            wells.append(None)
            continue
        entry = {column: said[column] for column in
                 ("Metadata_Plate", "Metadata_Compound", "Metadata_MoA", "Metadata_InChIKey",
                  "Metadata_SMILES") if column in said}
        entry["Metadata_Well"] = well
        for unit, factor in (("Metadata_Concentration_uM", 1.0),
                             ("Metadata_Concentration_nM", 1e-3),
                             ("Metadata_Concentration_mM", 1e3)):
            if said.get(unit):
                try:
                    entry["Metadata_Concentration_uM"] = _number(said[unit], rows, factor)
                except ValueError:
                    problems[line] = (f"{name}, line {line}: '{said[unit]}' is not a "
                                      "concentration. Write a number of 0 or more.")
        if "Metadata_Control" in said:
            word = _CONTROL_WORDS.get(plain(said["Metadata_Control"]))
            if word is None:
                problems[line] = (f"{name}, line {line}: '{said['Metadata_Control']}' is not "
                                  "a kind of control. Write "
                                  f"{' or '.join(filter(None, CONTROLS))}, or leave it empty.")
            entry["Metadata_Control"] = word or ""
        wells.append(entry)
    return wells, problems


def read_plate_map(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read a plate map: one row per well, or a grid in the shape of the plate.

    Parameters
    ----------
    path : Path
        A CSV file. Long: a column for the well (or for row and column) and one for the compound,
        optionally for plate, concentration, control and MoA. Grid: a line with the numbers of the
        columns, and below it one line per row that begins with the row's letter. The cell before
        the numbers says what the grid holds: `compound` (also where it is empty),
        `concentration_uM` or `control`; `Plate1:compound` is for one plate. A file may hold
        several grids.

    Returns
    -------
    tuple
        Wells as from `describe_wells`, where an entry without `Metadata_Plate` holds for every
        plate; and a sentence about each guess.

    Raises
    ------
    MoascopeError
        With a sentence for everything that cannot be read.
    """
    rows, notes = read_rows(path)
    if not rows.cells:
        raise MoascopeError(f"{path} is empty. Give a plate map with one row per well, or a grid "
                            "in the shape of the plate.")
    starts = [index for index, cells in enumerate(rows.cells) if _grid_width(cells)]
    if starts:
        wells = _read_grids(rows, starts, path.name)
    else:
        columns, several = recognise(rows.cells[0], "wells", per_channel=True)
        notes += [f"{path.name}: {note}." for note in several]
        if not places_wells(columns):
            raise MoascopeError(f"{path} has no column 'Well', no columns 'Row' and 'Column', and "
                                "no grid in the shape of a plate. Its columns are "
                                f"{listing(rows.cells[0], 12)}.")
        if "Metadata_Compound" not in columns:
            raise MoascopeError(f"{path} has no column 'Compound'. Its columns are "
                                f"{listing(rows.cells[0], 12)}.")
        wells = _strictly(rows, columns, path.name)
        if "Metadata_Concentration_uM" in columns:
            column = rows.cells[0][columns["Metadata_Concentration_uM"]]
            if not re.search(r"u_?m|µ_?m|micromolar", column, re.IGNORECASE):
                notes.append(f"{path.name}: the column '{column}' is read as micromolar.")
    notes += mark_vehicles(wells, path.name)
    return join_wells(wells, path.name), notes


def mark_vehicles(wells: Sequence[dict[str, str]], name: str) -> list[str]:
    """Mark wells of DMSO or vehicle as negative controls where a table marks none, and say so."""
    if any("Metadata_Control" in well for well in wells):
        return []
    marked = [well for well in wells if plain(well.get("Metadata_Compound", "")) in _VEHICLES]
    for well in marked:
        well["Metadata_Control"] = "negative"
    if not marked:
        return []
    names = listing(sorted({well["Metadata_Compound"] for well in marked}))
    return [f"{name} marks no controls; {counted(len(marked), 'well')} of {names} used as negative "
            "controls."]


def _strictly(rows: Rows, columns: Mapping[str, int], name: str) -> list[dict[str, str]]:
    wells, problems = describe_wells(rows, columns, name)
    if problems:
        raise MoascopeError(problems.values())
    return [well for well in wells if well is not None]


def _read_grids(rows: Rows, starts: Sequence[int], name: str) -> list[dict[str, str]]:
    wells: dict[tuple[str, str], dict[str, str]] = {}
    problems = []
    for start, end in zip(starts, [*starts[1:], len(rows.cells)], strict=True):
        width = _grid_width(rows.cells[start])
        plate, column = _grid_title(rows.cells[start][0])
        if column is None:
            problems.append(f"{name}, line {rows.lines[start]}: '{rows.cells[start][0]}' does not "
                            "say what the grid holds. Write compound, concentration_uM or control, "
                            "or leave it empty.")
            continue
        for line, cells in zip(rows.lines[start + 1:end], rows.cells[start + 1:end], strict=True):
            try:
                row = letters_to_row(cells[0])
                if row >= _SIDES[width]:
                    raise ValueError
            except ValueError:
                problems.append(f"{name}, line {line}: '{cells[0]}' is not a row of a plate with "
                                f"{width} columns. Begin each line with its letter, from A on.")
                continue
            for index, cell in enumerate(cells[1:width + 1]):
                if cell.strip():
                    key = (plate, well_name(row, index))
                    wells.setdefault(key, {"line": str(line)})[column] = cell.strip()
    if problems:
        raise MoascopeError(problems)
    header = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound",
              "Metadata_Concentration_uM", "Metadata_Concentration_nM", "Metadata_Control"]
    table = Rows([header], [0], rows.delimiter)
    columns = {column: index for index, column in enumerate(header)}
    for (plate, well), said in wells.items():
        table.cells.append([plate, well, *(said.get(column, "") for column in header[2:])])
        table.lines.append(int(said["line"]))
    if not any("Metadata_Control" in said for said in wells.values()):
        del columns["Metadata_Control"]
    described = _strictly(table, columns, name)
    for entry in described:
        if not entry["Metadata_Plate"]:
            del entry["Metadata_Plate"]
    return described


def _grid_width(cells: Sequence[str]) -> int:
    """12, 24 or 48 for the line above a grid, else 0."""
    numbers = [cell.strip() for cell in cells[1:]]
    while numbers and not numbers[-1]:
        numbers.pop()
    if len(numbers) not in _SIDES:
        return 0
    return len(numbers) * all(is_number(cell) and int(cell) == index
                              for index, cell in enumerate(numbers, 1))


def _grid_title(cell: str) -> tuple[str, str | None]:
    plate, colon, title = cell.strip().rpartition(":")
    word = plain(title)
    for column in ("Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Concentration_nM",
                   "Metadata_Control"):
        if word in spellings("wells")[column]:
            return plate.strip(), column
    if not colon and not word:
        return "", "Metadata_Compound"
    return plate, None


def join_wells(wells: Sequence[dict[str, str]], name: str) -> list[dict[str, str]]:
    """One entry per well; a table with one row per site repeats what it says about wells.

    Raises
    ------
    MoascopeError
        When two entries of a well differ.
    """
    first: dict[tuple[str | None, str], dict[str, str]] = {}
    problems = []
    for well in wells:
        key = (well.get("Metadata_Plate"), well["Metadata_Well"])
        known = first.setdefault(key, well)
        if known != well:
            # The key of a plate without a name is its folder.
            plate = f"plate {key[0].lstrip('/')}, " if (key[0] or "").strip("/") else ""
            problems.append(f"{name} has two different entries for {plate}well {key[1]}: "
                            f"{_words(known)}, and {_words(well)}. Keep one.")
    if problems:
        raise MoascopeError(dict.fromkeys(problems))
    return list(first.values())


def _words(well: Mapping[str, str]) -> str:
    dose = well.get("Metadata_Concentration_uM", "")
    return (well.get("Metadata_Compound") or "nothing") + (f" at {dose} uM" if dose else "")


def _well(said: Mapping[str, str]) -> str | None:
    if said.get("Metadata_Well"):
        try:
            return canonical_well(said["Metadata_Well"])
        except MoascopeError:
            return None
    row, column = said.get("Metadata_Row", ""), said.get("Metadata_Column", "")
    return well_at(row, column) if column.isdecimal() and row else None


def _number(text: str, rows: Rows, factor: float) -> str:
    if text.lower() in ("na", "nan"):
        return ""
    number = float(text.replace(",", ".") if rows.delimiter != "," else text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return repr(float(f"{number * factor:.9g}"))
