"""Concentrations in the wells: from columns, units and values as people write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moascope.screen.columns import plain
from moascope.screen.numbers import POINTS, commas_may_separate, points_may_separate
from moascope.screen.reading import Rows
from moascope.text import counted, listing, tidy

# Micromolar in one unit; None for units that only a molar mass or a volume could convert.
_UNITS: Mapping[str, float | None] = {
    **dict.fromkeys(("pm", "picomolar", "pmoll", "pmolperl", "pmol/l"), 1e-6),
    **dict.fromkeys(("nm", "nanomolar", "nmoll", "nmolperl", "nmol/l", "nmolesperliter"), 1e-3),
    **dict.fromkeys(("um", "micromolar", "umoll", "umolperl", "umol/l", "umolesperliter",
                     "umolar"), 1.0),
    **dict.fromkeys(("mm", "millimolar", "mmoll", "mmolperl", "mmol/l", "mmolesperliter",
                     "mmolar"), 1e3),
    **dict.fromkeys(("molar", "moll", "molperl", "mol/l", "molesperliter"), 1e6),
    **dict.fromkeys(("pgml", "pg/ml", "pgperml", "ngml", "ng/ml", "ngperml", "ugml", "ug/ml",
                     "ugperml", "mgml", "mg/ml", "mgperml", "gl", "g/l", "mgl", "mg/l", "ugl",
                     "ug/l", "ngul", "ng/ul", "ugul", "ug/ul", "mgkg", "mg/kg", "percent", "%",
                     "pct", "vv", "%v/v", "%(v/v)", "wv", "%w/v", "%(w/v)", "x", "fold", "units",
                     "u/ml", "iu/ml", "uml", "iuml", "ul", "nl", "ml"), None),
}
_DOSE = re.compile(
    r"(?:final|compound|cmpd|cpd|drug|treatment|assay|well|pert|test|nominal|actual|sample|agent"
    r"|substance|molar|target|working|the|of|in|max)*"
    r"(?:concentrations?|concn?s?|doses?|dosage|molarity|mdose"
    r"|konzentration|konz|endkonzentration|dosis|concentracion|concentracao|concentrazione)"
    r"(?:of|in|the|final|well|assay|value|compound|drug|treatment)*")
_LIKE_DOSE = re.compile(r"conc|konz|dose|dosis|dosage|dosing|molar|molesper|dilution|stock|volume")
_LOG = re.compile(r"log(?:10)?")
_ENDS_IN_UNIT = re.compile(r"[\s_(\[](?:[pnuµμm]M|M)[)\]]?$")
_OF_STOCK = re.compile(r"stock|source|mother|master|library|parent")
_UNIT_COLUMN = re.compile(r"(?:.*(?:conc|dose|dosage|concentration|molarity).*|compound|drug)?"
                          r"units?|unitsof(?:conc|concentration|dose)|uom|einheit|unite|unidad")
_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:[.,][0-9]+)*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(.*)",
                     re.DOTALL)
_SEPARATED = re.compile(r"[\s'’_·]*[0-9]")
_BROAD = "mmolesperliter"
_HIGHEST_IN_WELLS = 1000.0
_HIGHEST_OF_WELLS_IN_MM = 0.1
_HIGHEST_OF_LOGS = 1e8


class Doses(NamedTuple):
    """The concentrations of a table.

    Attributes
    ----------
    values : list of str
        Micromolar as text, one per row below the header; empty where there is none.
    problems : dict of int to str
        By line, what cannot be read.
    notes : list of str
        A sentence about each choice.
    used : set of int
        The columns that were read.
    """

    values: list[str]
    problems: dict[int, str]
    notes: list[str]
    used: set[int]


def read_doses(rows: Rows, name: str, vehicles: Sequence[bool]) -> Doses:
    """Find and read the concentrations of a long table.

    Parameters
    ----------
    rows : Rows
        With a header.
    name : str
        The table in the sentences.
    vehicles : sequence of bool
        Which rows are of the solvent alone: "0.1 %" is not the concentration of a compound there.

    Notes
    -----
    A unit stands in the value ("100 nM"), in a column of units, or in the header
    ("Concentration_nM", "Dose (µM)"), in this order; without one the column is read as micromolar.
    A header such as "log10 M" makes a column one of decimal logarithms.
    `mmoles_per_liter` in plate maps of the Broad Institute is the stock's, of which a thousandth
    is in the well (github.com/jump-cellpainting/JUMP-Target).
    """
    header = rows.cells[0]
    named = [plain(column) for column in header]
    factors = {at: _header_factor(column, plain_name) for at, (column, plain_name) in
               enumerate(zip(header, named, strict=True))}
    with_unit = [at for at, factor in factors.items() if isinstance(factor, float)]
    bare = [at for at, column in enumerate(named) if _DOSE.fullmatch(column)]
    logs = {at: factor for at, column in enumerate(named)
            if (factor := _log_factor(column)) is not None}
    broad = [at for at, column in enumerate(named) if column == _BROAD]
    chosen = with_unit or bare[:1] or list(logs)[:1] or broad[:1]
    notes: list[str] = []
    problems: dict[int, str] = {}
    if not chosen:
        like = [column for column, plain_name in zip(header, named, strict=True)
                if _LIKE_DOSE.search(plain_name) or _ENDS_IN_UNIT.search(column.strip())]
        if like:
            notes.append(f"{name}: no concentration is read; {listing(map(repr, like))} "
                         "may hold one. Name the concentration in the well Concentration_uM, "
                         "_nM or _mM.")
        return Doses([""] * (len(rows.cells) - 1), {}, notes, set())
    if len(bare) > 1 and not with_unit:
        notes.append(f"{name}: '{header[bare[0]]}' is read as the concentration; "
                     f"{listing(repr(header[at]) for at in bare)} could all be meant.")
    units = _unit_column(rows, named, chosen)
    columns = []
    for at in chosen:
        texts = [cells[at].strip() for cells in rows.cells[1:] if at < len(cells)]
        log = at not in (*with_unit, *bare, *broad)
        factor = (logs[at] if log else factors[at] if at in with_unit
                  else _broad_factor(rows, at, name, notes) if at in broad else 1.0)
        columns.append(_Column(at, factor, at in with_unit, log,
                               rows.delimiter != "," and not commas_may_separate(texts),
                               points_may_separate(texts, rows.delimiter)))
    values, own_unit, commas = [], 0, 0
    for number, (line, cells) in enumerate(zip(rows.lines[1:], rows.cells[1:], strict=True)):
        unit = (cells[units].strip() if units is not None and units < len(cells)
                else None if units is None else "")
        found: dict[int, float] = {}
        for column in columns:
            at = column.at
            text = unicodedata.normalize("NFKC", cells[at]).strip() if at < len(cells) else ""
            text = text.replace("\u2212", "-")
            if text.casefold() in ("", "na", "nan", "n/a", "none", "-", "null"):
                continue
            try:
                found[at], spelt = _micromolar(text, unit, column)
                own_unit += spelt
                commas += "," in text
            except ValueError as error:
                if not vehicles[number]:
                    problems[line] = f"{name}, line {line}: '{tidy(text, most=60)}' {error}"
        if len(found) > 1 and max(found.values()) > 1.01 * min(found.values()):
            said = " and ".join(f"'{header[at]}' says {value:g} uM" for at, value in found.items())
            problems[line] = f"{name}, line {line}: {said}. Correct one, or remove its column."
        values.append(micromolar_text(next(iter(found.values()))) if found else "")
    notes += _said(name, header, columns, units, own_unit, commas, values,
                   chosen == broad[:1] and bool(broad))
    return Doses(values, problems, notes, {*chosen, *([units] if units is not None else [])})


class _Column(NamedTuple):
    """A column of concentrations, and how its cells are read."""

    at: int
    factor: float
    has_unit: bool
    log: bool
    decimal_comma: bool
    points_may_separate: bool


def micromolar_text(value: float) -> str:
    """A concentration as layout.csv has it."""
    return repr(float(f"{value:.9g}"))


def dose_of_name(number: str, unit: str, decimal_comma: bool) -> float | None:
    """Micromolar in the number and unit of a name; None where the number can be read two ways."""
    column = _Column(0, 1.0, False, False, decimal_comma, False)
    try:
        return _micromolar(f"{number} {unit}", None, column)[0]
    except ValueError:
        return None


def is_dose(title: str) -> bool:
    """Whether the title of a grid says that it holds concentrations."""
    name = plain(title)
    return (bool(_DOSE.fullmatch(name)) or isinstance(_header_factor(title, name), float)
            or _log_factor(name) is not None)


def may_be_dose(column: str) -> bool:
    """Whether a column's name says that it may hold concentrations, or their units."""
    name = plain(column)
    return bool(_DOSE.fullmatch(name) or _LIKE_DOSE.search(name) or _UNIT_COLUMN.fullmatch(name)
                or isinstance(_header_factor(column, name), float))


def _header_factor(column: str, name: str) -> float | str | None:
    """Micromolar in one unit of a column; "mass" for other units, None where it has no unit."""
    if _OF_STOCK.search(name) or name == _BROAD or "log" in name or "unit" in name:
        return None
    if re.search(r"[\s_(\[]M[)\]]?$", column.strip()) and _DOSE.fullmatch(name[:-1]):
        return 1e6
    for unit in sorted(_UNITS, key=len, reverse=True):
        if name.endswith(unit) and (_DOSE.fullmatch(name[:-len(unit)])
                                    or (name == unit and len(unit) == 2 and _UNITS[unit])):
            factor = _UNITS[unit]
            return "mass" if factor is None else factor
    return None


def _log_factor(name: str) -> float | None:
    """Micromolar in one unit of a column of decimal logarithms: log10 M, Dose (log uM)."""
    rest = _LOG.sub("", name, count=1)
    if rest == name:
        return None
    if rest in ("m", "molar") or (rest.endswith("m") and _DOSE.fullmatch(rest[:-1])):
        return 1e6
    factor = _header_factor(rest, rest)
    return factor if isinstance(factor, float) else None


def _unit_column(rows: Rows, named: Sequence[str], doses: Sequence[int]) -> int | None:
    """The column that holds units, if one does; they may be of mass, and are refused then."""
    columns = {at: [cells[at] for cells in rows.cells[1:] if at < len(cells) and cells[at].strip()]
               for at in range(len(named)) if at not in doses}
    for at, cells in columns.items():
        if _UNIT_COLUMN.fullmatch(named[at]) and any(map(_is_unit, cells)):
            return at
    # Whatever its name: a column of nothing else. M alone may be the sex of a donor.
    return next((at for at, cells in columns.items() if cells and all(map(_is_unit, cells))
                 and any(_UNITS.get(_unit(cell).casefold()) for cell in cells)), None)


def _factor(unit: str) -> float | None:
    """Micromolar in one unit; None where it is not a molar unit."""
    text = _unit(unit)
    return 1e6 if text == "M" else _UNITS.get(text.casefold())


def _is_unit(cell: str) -> bool:
    """Whether a cell is a unit, molar or not."""
    text = _unit(cell)
    return text == "M" or text.casefold() in _UNITS


def _unit(text: str) -> str:
    text = re.sub(r"[\s.·*^()\[\]]", "", unicodedata.normalize("NFKC", text)).replace("μ", "u")
    return re.sub(r"(?<=[lL])-1$", "", re.sub(r"lit(?:er|re)s?$", "l", text))


def _micromolar(text: str, unit: str | None, column: _Column) -> tuple[float, bool]:
    """A cell in micromolar, and whether it has a unit of its own.

    `unit` is None where the table has no column of units.

    Raises
    ------
    ValueError
        With the rest of a sentence that begins with the cell.
    """
    match = _NUMBER.fullmatch(text)
    if not match:
        raise ValueError("is not a concentration. Write a number of 0 or more.")
    digits, own = match[1], match[2]
    if _SEPARATED.match(own):
        raise ValueError("has a mark between digits that may separate thousands. Write a number "
                         "such as 1000 or 1.5.")
    if "," in digits:
        if not column.decimal_comma or digits.count(",") > 1 or "." in digits:
            raise ValueError("has a comma that may separate thousands or decimals. Write a number "
                             "such as 1000 or 1.5.")
        digits = digits.replace(",", ".")
    elif digits.count(".") > 1 or (column.points_may_separate and POINTS.fullmatch(digits)):
        raise ValueError("has a point that may separate thousands or decimals. Write a number such "
                         "as 1000 or 1,5.")
    number = float(digits)
    if column.log:
        value = 10.0 ** number * column.factor if abs(number) < 30 else float("inf")
        if own or not value <= _HIGHEST_OF_LOGS:
            raise ValueError("is not the logarithm of a concentration. Correct it, or write "
                             "concentrations into a column Concentration_uM.")
        return value, False
    if not 0 <= number < float("inf"):
        raise ValueError("is not a concentration. Write a number of 0 or more" + (
            ", or name the column 'log10 M' if it holds logarithms." if number < 0 else "."))
    if not number:
        return 0.0, False
    for written, source in ((own, "value"), (unit or "", "column of units")):
        if not written:
            continue
        found = _factor(written)
        if found is None:
            raise ValueError(f"has the unit '{tidy(written, most=40)}', which is not a molar "
                             "concentration. Write pM, nM, uM, mM or M.")
        if source != "value" and column.has_unit and found != column.factor:
            raise ValueError(f"has the unit '{written}' in the column of units and another in the "
                             "header. Correct one.")
        return number * found, source == "value"
    if unit == "" and not column.has_unit:
        raise ValueError("has no unit in the column of units. Fill it in: a merged cell of a "
                         "workbook leaves its unit in the first row alone.")
    return number * column.factor, False


def _broad_factor(rows: Rows, at: int, name: str, notes: list[str]) -> float:
    numbers = [float(match[1].replace(",", ".")) for cells in rows.cells[1:] if at < len(cells)
               and (match := _NUMBER.fullmatch(cells[at].strip())) and match[1].count(",") < 2]
    header, most = rows.cells[0][at], max(numbers, default=0.0)
    if most <= _HIGHEST_OF_WELLS_IN_MM:
        notes.append(f"{name}: '{header}' is read as the concentration in the well, up to "
                     f"{1000 * most:g} uM. Add a column Concentration_uM if it is the stock's.")
        return 1e3
    notes.append(f"{name}: '{header}' is read as the stock's concentration, diluted 1:1000 in the "
                 f"well: {most:g} mM becomes {most:g} uM. Add a column Concentration_uM if the "
                 "wells hold another.")
    return 1.0


def _said(name: str, header: Sequence[str], columns: Sequence[_Column], units: int | None,
          own_unit: int, commas: int, values: Sequence[str], broad: bool) -> list[str]:
    notes, column = [], header[columns[0].at]
    known = [float(value) for value in values if value]
    span = f" ({min(known):g} to {max(known):g} uM)" if known else ""
    if columns[0].log:
        notes.append(f"{name}: '{column}' is read as decimal logarithms{span}.")
    elif units is not None:
        notes.append(f"{name}: '{column}' is read with the units of '{header[units]}'{span}.")
    elif own_unit:
        notes.append(f"{name}: {counted(own_unit, 'value')} of '{column}' "
                     f"{'has its' if own_unit == 1 else 'have their'} own unit, which is "
                     f"used{span}.")
    elif not columns[0].has_unit and not broad:
        notes.append(f"{name}: '{column}' has no unit and is read as micromolar{span}. Name it "
                     "Concentration_nM or _mM if it is not.")
    if commas:
        notes.append(f"{name}: the comma in '{column}' is read as a decimal comma{span}.")
    if known and max(known) > _HIGHEST_IN_WELLS:
        notes.append(f"{name}: '{column}' gives up to {max(known):,g} uM in a well, which is usual "
                     "for a stock only. If it is the stock's, add a column Concentration_uM.")
    return notes
