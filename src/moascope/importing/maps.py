"""Plate maps: one row per well, or grids in the shape of the plate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from moascope.errors import MoascopeError
from moascope.importing.doses import is_dose, read_doses
from moascope.importing.names import letters_to_row, well_at
from moascope.screen.columns import CONTROLS, plain, recognise, spellings
from moascope.screen.reading import LINES_NAMED, Rows, read_rows
from moascope.screen.vehicles import is_vehicle, may_be_control
from moascope.screen.wells import canonical_well, well_name
from moascope.text import counted, is_number, listing

_CONTROL_WORDS = {
    **dict.fromkeys((
        "negative", "neg", "negcon", "negctrl", "negctl", "negcontrol", "negativecontrol",
        "negativectrl", "nc", "vehicle", "vehiclecontrol", "solvent", "solventcontrol", "dmso",
        "dmsocontrol", "untreated", "untreatedcontrol", "mock", "lowcontrol", "ctlvehicle",
        "ctluntrt", "ctlvector", "neutral", "neutralcontrol"), "negative"),
    **dict.fromkeys((
        "positive", "pos", "poscon", "posctrl", "posctl", "poscontrol", "positivecontrol",
        "positivectrl", "pc", "highcontrol", "poscondiverse", "posconcp", "posconorf",
        "reference", "referencecompound"), "positive"),
    **dict.fromkeys((
        "", "none", "no", "na", "nan", "n", "false", "0", "sample", "samples", "compound",
        "compounds", "trt", "trtcp", "treatment", "treated", "test", "testcompound", "drug",
        "empty", "unused"), ""),
}
# Whether the well is a control, and not which: its compound decides.
_CONTROL_OF_A_KIND = {"control", "controls", "ctrl", "ctl", "con", "yes", "y", "true", "1", "x",
                      "blank", "c"}
_NO_COMPOUND = {"na", "nan", "none", "null", "empty", "emptywell", "unused", "notused"}
UNNAMED_CONTROL = "negative control"
"""What a negative control without a compound is called."""
_SIDES = {12: 8, 24: 16, 48: 32}


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
    told = [{meaning: cells[index].strip() for meaning, index in columns.items()
             if index < len(cells)} for cells in rows.cells[1:]]
    alone = [_is_solvent_alone(said) for said in told]
    doses = read_doses(rows, name, alone)
    wells: list[dict[str, str] | None] = []
    emptied: dict[str, int] = {}
    filled: dict[str, int] = {}
    for line, said, dose in zip(rows.lines[1:], told, doses.values, strict=True):
        well = _well(said)
        if well is None:
            written = said.get("Metadata_Well") or (said.get("Metadata_Row", "")
                                                    + said.get("Metadata_Column", ""))
            problems[line] = (f"{name}, line {line}: '{written}' is not a well name. Write a row "
                              "A to AF and a column 1 to 48, like B02.")
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
        wells.append(entry)
    notes += doses.notes
    if emptied:
        notes.append(f"{name}: {counted(sum(emptied.values()), 'well')} of "
                     f"{listing(map(repr, sorted(emptied)))} {_are(emptied)} read as empty.")
    notes += [f"{name}: {counted(count, 'well')} without a compound {_are({'': count})} read as "
              f"'{what}'." for what, count in sorted(filled.items())]
    return Described(wells, problems, notes, {*columns.values(), *doses.used})


def _are(counts: Mapping[str, int]) -> str:
    return "is" if sum(counts.values()) == 1 else "are"


def _is_solvent_alone(said: Mapping[str, str]) -> bool:
    compound = said.get("Metadata_Compound", "")
    return not compound or is_vehicle(compound) or may_be_control(compound)


def _is_no_compound(compound: str) -> bool:
    return plain(compound) in _NO_COMPOUND or not any(map(str.isalnum, compound))


def control_word(word: str, compound: str, solvent: str = "") -> str | None:
    """The kind of control that a cell states of a well; None where it cannot be told."""
    text = plain(word)
    if text in _CONTROL_WORDS:
        return _CONTROL_WORDS[text]
    if is_vehicle(word):
        return "negative"
    if text in _CONTROL_OF_A_KIND:
        name = compound or solvent
        if not name or is_vehicle(name) or may_be_control(name):
            return "negative"
    return None


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
    starts = [] if places_wells(columns) else _grid_starts(rows)
    if starts:
        wells, said = _read_grids(rows, starts, path.name)
        notes += said
    else:
        notes += [f"{path.name}: {note}." for note in several]
        if not places_wells(columns):
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


def mark_vehicles(wells: Sequence[dict[str, str]], name: str) -> list[str]:
    """Mark wells of DMSO or vehicle as negative controls where a table marks none, and say so.

    Returns
    -------
    list of str
        Which wells were marked, which look like controls and were not, or that there are none.
    """
    if not any("Metadata_Compound" in well for well in wells):
        return []
    marks_some = any(well.get("Metadata_Control") == "negative" for well in wells)
    open_ = [well for well in wells if not well.get("Metadata_Control")]
    sure = [well for well in open_ if is_vehicle(well.get("Metadata_Compound", ""))]
    perhaps = [well for well in open_ if may_be_control(well.get("Metadata_Compound", ""))]
    if marks_some:
        alike = sure + perhaps
        if not alike:
            return []
        return [f"{name} marks other wells as negative controls, but not "
                f"{counted(len(alike), 'well')} of {_names(alike)}, which count as compounds. Mark "
                "them in the column Control if they are controls."]
    marked = sure or perhaps
    for well in marked:
        well["Metadata_Control"] = "negative"
    if not marked:
        empty = sum(not well.get("Metadata_Compound") for well in open_)
        without = f"; {counted(empty, 'well')} without a compound stay empty" if empty else ""
        return [f"{name} marks no negative controls and names no DMSO or vehicle{without}. "
                "Write negative in a column Control, or the solvent as the compound, if there are "
                "any."]
    notes = [f"{name} marks no controls; {counted(len(marked), 'well')} of {_names(marked)} used "
             "as negative controls."]
    if sure and perhaps:
        notes.append(f"{name} has {counted(len(perhaps), 'well')} of {_names(perhaps)}, which "
                     "count as compounds. Mark them in the column Control if they are controls.")
    return notes


def _names(wells: Sequence[Mapping[str, str]]) -> str:
    return listing(sorted({well["Metadata_Compound"] for well in wells}))


def _strictly(rows: Rows, columns: Mapping[str, int],
              name: str) -> tuple[list[dict[str, str]], list[str], set[int]]:
    wells, problems, notes, used = describe_wells(rows, columns, name)
    if problems:
        raise MoascopeError(problems.values())
    return [well for well in wells if well is not None], notes, used


def _read_grids(rows: Rows, starts: Sequence[int],
                name: str) -> tuple[list[dict[str, str]], list[str]]:
    wells: dict[tuple[str, str], dict[str, str]] = {}
    titles: dict[str, str] = {}
    problems = []
    for index in range(starts[0]):
        problems.append(f"{name}, line {rows.lines[index]}: '{rows.cells[index][0]}' stands above "
                        "the first grid. Remove the line.")
    for start, end in zip(starts, [*starts[1:], len(rows.cells)], strict=True):
        numbers = _grid_columns(rows.cells[start])
        plate, column = _grid_title(rows.cells[start][0])
        if column is None:
            problems.append(f"{name}, line {rows.lines[start]}: '{rows.cells[start][0]}' does not "
                            "say what the grid holds. Write compound, concentration_uM or control, "
                            "or leave it empty.")
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
                problems.append(f"{name}, line {line}: '{cells[0]}' is not a row of a plate with "
                                f"{width} columns. Begin each line with its letter, from A on.")
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
                        problems.append(f"{name}, line {line}: well {key[1]} has "
                                        f"'{entry[column]}' in an earlier grid and '{cell.strip()}'"
                                        " here. Keep one.")
    if problems:
        raise MoascopeError(problems)
    fixed = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound"]
    header = [*fixed, *(title for title in titles if title not in fixed)]
    table = Rows([header], [0], rows.delimiter)
    for (plate, well), said in wells.items():
        table.cells.append([plate, well, *(said.get(column, "") for column in header[2:])])
        table.lines.append(int(said["line"]))
    columns = {column: index for index, column in enumerate(header)
               if column.startswith("Metadata_")}
    described, notes, _ = _strictly(table, columns, name)
    for entry in described:
        if not entry["Metadata_Plate"]:
            del entry["Metadata_Plate"]
    return described, notes


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
