"""Plate maps: one row per well, or grids in the shape of the plate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from moascope.errors import MoascopeError
from moascope.importing.controls import control_word, mark_vehicles
from moascope.importing.doses import dose_of_name, micromolar_text, read_doses
from moascope.importing.grids import wells_of_grids
from moascope.importing.names import well_at
from moascope.screen.columns import CONTROLS, plain, recognise
from moascope.screen.compounds import dose_in_name
from moascope.screen.lookalikes import seen
from moascope.screen.reading import LINES_NAMED, Rows, read_rows
from moascope.screen.vehicles import is_vehicle, may_be_control
from moascope.screen.wells import canonical_well
from moascope.text import counted, listing, tidy

_NO_COMPOUND = {"na", "nan", "none", "null", "empty", "emptywell", "unused", "notused"}
_NUMBERED = re.compile(r"(.*[^\W\d_])[ _-]([0-9]+(?:\.[0-9]+)?)")
UNNAMED_CONTROL = "negative control"
"""What a negative control without a compound is called."""
_LOOKED_AT = 50


class Described(NamedTuple):
    """What a long table says of its wells.

    Attributes
    ----------
    wells : list of dict or None
        One per row, with the columns of layout.csv and annotations.csv that the table has; the well
        in its canonical spelling, the concentration in micromolar as text. None where the well
        cannot be read.
    problems : dict of int to str
        By line, a sentence about a well, concentration or control that cannot be read.
    notes : list of str
        A sentence about each choice.
    used : set of int
        The columns that were read.
    """

    wells: list[dict[str, str] | None]
    problems: dict[int, str]
    notes: list[str]
    used: set[int]


def places_wells(columns: Mapping[str, int]) -> bool:
    """Whether a table with these columns says which well each of its rows is about."""
    return "Metadata_Well" in columns or {"Metadata_Row", "Metadata_Column"} <= columns.keys()


def describe_wells(rows: Rows, columns: Mapping[str, int], name: str) -> Described:
    """Read the wells of a long table; `columns` are those that `recognise` knows."""
    problems: dict[int, str] = {}
    notes: list[str] = []
    told = [{meaning: seen(cells[index]) for meaning, index in columns.items()
             if index < len(cells)} for cells in rows.cells[1:]]
    alone = [_is_solvent_alone(said) for said in told]
    doses = read_doses(rows, name, alone)
    wells: list[dict[str, str] | None] = []
    doses_taken: dict[str, tuple[str, str]] = {}
    dosed: list[str] = []
    emptied: dict[str, int] = {}
    filled: dict[str, int] = {}
    for line, said, dose in zip(rows.lines[1:], told, doses.values, strict=True):
        well = _well(said)
        if well is None:
            problems[line] = f"{name}, line {line}: {_not_a_well(said)}"
            wells.append(None)
            continue
        if line in doses.problems:
            problems[line] = doses.problems[line]
        entry = {column: said[column] for column in
                 ("Metadata_Plate", "Metadata_Compound", "Metadata_MoA", "Metadata_InChIKey",
                  "Metadata_SMILES") if column in said}
        entry["Metadata_Well"] = well
        if dose:
            entry["Metadata_Concentration_uM"] = dose
        if problem := _take_dose(entry, rows.delimiter, doses_taken):
            problems.setdefault(line, f"{name}, line {line}: {problem}")
        compound = entry.get("Metadata_Compound", "")
        if compound and _is_no_compound(compound):
            emptied[compound] = emptied.get(compound, 0) + 1
            compound = entry["Metadata_Compound"] = ""
        if "Metadata_Control" in said:
            word = control_word(said["Metadata_Control"], compound,
                                said.get("Metadata_Solvent", ""))
            if word is None:
                problems[line] = (f"{name}, line {line}: '{said['Metadata_Control']}' is not "
                                  "a kind of control. Write "
                                  f"{' or '.join(filter(None, CONTROLS))}, or leave it empty.")
            entry["Metadata_Control"] = word or ""
        if not compound and "Metadata_Compound" in entry:
            solvent = said.get("Metadata_Solvent", "")
            if solvent and entry.get("Metadata_Control") != "positive":
                entry["Metadata_Compound"] = solvent
                filled[solvent] = filled.get(solvent, 0) + 1
            elif entry.get("Metadata_Control") == "negative":
                entry["Metadata_Compound"] = UNNAMED_CONTROL
                filled[UNNAMED_CONTROL] = filled.get(UNNAMED_CONTROL, 0) + 1
        if not entry.get("Metadata_Compound") and float(dose or 0) > 0:
            dosed.append(well)
        wells.append(entry)
    notes += doses.notes
    if doses_taken:
        example, (compound, dose) = next(iter(doses_taken.items()))
        notes.append(f"{name}: {counted(len(doses_taken), 'name')} with a dose, such as "
                     f"'{example}', read as '{compound}' at {float(dose):g} uM.")
    if dosed:
        notes.append(f"{name}: {counted(len(dosed), 'well')} with a concentration and without a "
                     f"compound: {listing(dosed)}. Merged cells of a workbook leave their value in "
                     "the first row alone; fill the compound in if they are not empty.")
    notes += _numbered_alike(wells, name)
    if emptied:
        notes.append(f"{name}: {counted(sum(emptied.values()), 'well')} of "
                     f"{listing(map(repr, sorted(emptied)))} {_are(emptied)} read as empty.")
    notes += [f"{name}: {counted(count, 'well')} without a compound {_are({'': count})} read as "
              f"'{what}'." for what, count in sorted(filled.items())]
    return Described(wells, problems, notes, {*columns.values(), *doses.used})


def _take_dose(entry: dict[str, str], delimiter: str,
               taken: dict[str, tuple[str, str]]) -> str | None:
    """Move the dose in a compound's name, "aspirin 10 uM", to its own column; else a sentence."""
    compound = entry.get("Metadata_Compound", "")
    parts = dose_in_name(compound)
    value = dose_of_name(parts[1], parts[2], delimiter != ",") if parts else None
    if parts is None or value is None:
        return None
    told = entry.get("Metadata_Concentration_uM", "")
    if told and abs(float(told) - value) > 0.01 * value:
        return (f"the compound is '{compound}', and its concentration {float(told):g} uM. Correct "
                "one, and write the compound's name without a dose.")
    entry["Metadata_Compound"] = parts[0]
    entry["Metadata_Concentration_uM"] = told or micromolar_text(value)
    taken[compound] = parts[0], entry["Metadata_Concentration_uM"]
    return None


def _numbered_alike(wells: Sequence[Mapping[str, str] | None], name: str) -> list[str]:
    """A sentence where several names end in the same numbers, which may be doses: aspirin_10."""
    if any(well and well.get("Metadata_Concentration_uM") for well in wells):
        return []
    numbers: dict[str, set[str]] = {}
    for compound in {well.get("Metadata_Compound", "") for well in wells if well}:
        if match := _NUMBERED.fullmatch(compound):
            numbers.setdefault(match[1], set()).add(match[2])
    alike = sorted(stem for stem, of_stem in numbers.items() if len(of_stem) > 1
                   and sum(of_stem == other for other in numbers.values()) > 1)
    if not alike:
        return []
    ends = sorted(numbers[alike[0]], key=float)
    return [f"{name}: {listing(map(repr, alike), 3)} are each followed by {listing(ends)}, and "
            "every name counts as a compound of its own. If the numbers are doses or replicates, "
            "give the doses a column of their own, and each compound one name."]


def _not_a_well(said: Mapping[str, str]) -> str:
    if "Metadata_Well" in said:
        try:
            canonical_well(said["Metadata_Well"])
        except MoascopeError as error:
            if said["Metadata_Well"]:
                return error.problems[0]
    row, column = said.get("Metadata_Row", ""), said.get("Metadata_Column", "")
    if not row + column:
        return "it names no well. Write one, such as B02, or remove the line."
    return (f"no plate has row '{tidy(row, most=60)}' and column '{tidy(column, most=60)}'. Write "
            "rows as A to AF or 1 to 32, and columns as 1 to 48.")


def _are(counts: Mapping[str, int]) -> str:
    return "is" if sum(counts.values()) == 1 else "are"


def _is_solvent_alone(said: Mapping[str, str]) -> bool:
    compound = said.get("Metadata_Compound", "")
    return not compound or is_vehicle(compound) or may_be_control(compound)


def _is_no_compound(compound: str) -> bool:
    return plain(compound) in _NO_COMPOUND or not any(map(str.isalnum, compound))


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
    columns, several = recognise(rows.cells[0], "wells", per_channel=True)
    grids = None if places_wells(columns) else wells_of_grids(rows, path.name)
    if grids:
        table, said = grids
        columns = {column: at for at, column in enumerate(table.cells[0])
                   if column.startswith("Metadata_")}
        wells, further, _ = _strictly(table, columns, path.name)
        for well in wells:
            if not well["Metadata_Plate"]:
                del well["Metadata_Plate"]
        notes += said + further
    else:
        notes += [f"{path.name}: {note}." for note in several]
        if not places_wells(columns):
            _refuse_lines_above(rows, path.name)
            raise MoascopeError(f"{path} has no column 'Well', no columns 'Row' and 'Column', and "
                                "no grid of a plate: a line with the numbers of at least two "
                                "columns, such as 1, 2, 3, and below it lines that begin with A, "
                                f"B, C. Its first line has {listing(rows.cells[0], 12)}.")
        if "Metadata_Compound" not in columns:
            raise MoascopeError(f"{path} has no column 'Compound'. Its columns are "
                                f"{listing(rows.cells[0], 12)}.")
        twice = sorted({column.strip() for column in rows.cells[0] if column.strip()
                        and [other.strip() for other in rows.cells[0]].count(column.strip()) > 1})
        if twice:
            raise MoascopeError(f"{path.name} has the column '{column}' twice. Remove one."
                                for column in twice)
        refuse_ragged(rows, path.name)
        wells, said, used = _strictly(rows, columns, path.name)
        notes += said
        unread = [column for at, column in enumerate(rows.cells[0])
                  if at not in used and column.strip()]
        if unread:
            notes.append(f"{path.name}: {counted(len(unread), 'column')} not read: "
                         f"{listing(map(repr, unread), 12)}.")
    notes += mark_vehicles(wells, path.name)
    return join_wells(wells, path.name), notes


def _refuse_lines_above(rows: Rows, name: str) -> None:
    """Say where the header is, if it is not the first line."""
    for line, cells in zip(rows.lines[1:_LOOKED_AT], rows.cells[1:_LOOKED_AT], strict=False):
        columns = recognise(cells, "wells", per_channel=True).columns
        if places_wells(columns) and len(columns) > 1:
            raise MoascopeError(f"{name}: the names of the columns seem to be in line {line} "
                                f"({listing(cells, 4)}). Remove the lines above it, and write what "
                                "they say of the columns into their names.")


def refuse_ragged(rows: Rows, name: str) -> None:
    """Refuse a table with rows that have more or fewer values than its header.

    Raises
    ------
    MoascopeError
        With the first lines. Values that are missing or too many shift all that follow.
    """
    width = len(rows.cells[0])
    while width and not rows.cells[0][width - 1].strip():
        width -= 1
    wrong = [(line, cells) for line, cells in zip(rows.lines[1:], rows.cells[1:], strict=True)
             if len(cells) < width or any(cell.strip() for cell in cells[width:])]
    if wrong:
        problems = [f"{name}, line {line}: {counted(len(cells), 'value')} for "
                    f"{counted(width, 'column')}. Look for a missing value, or for a comma inside "
                    "a value (put that value in double quotes)."
                    for line, cells in wrong[:LINES_NAMED]]
        if len(wrong) > LINES_NAMED:
            problems.append(f"{name}: {len(wrong) - LINES_NAMED:,} more lines do not have as many "
                            "values as the header.")
        raise MoascopeError(problems)


def _strictly(rows: Rows, columns: Mapping[str, int],
              name: str) -> tuple[list[dict[str, str]], list[str], set[int]]:
    wells, problems, notes, used = describe_wells(rows, columns, name)
    if problems:
        raise MoascopeError(problems.values())
    return [well for well in wells if well is not None], notes, used


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
