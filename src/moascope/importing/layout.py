"""layout.csv and annotations.csv of imported plates: skeletons, or what is told of the wells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.found import Found
from moascope.importing.maps import read_plate_map
from moascope.screen.columns import ANNOTATIONS, LAYOUT, WELL
from moascope.screen.reading import read_rows
from moascope.screen.wells import canonical_well
from moascope.text import counted, listing

Told = dict[tuple[str, str], Mapping[str, str]]
"""By plate and well, columns of layout.csv and annotations.csv."""

_COMPOUND = ("Metadata_MoA", "Metadata_InChIKey", "Metadata_SMILES")


def told_by_images(found: Found, plates: Mapping[str, str]) -> Told:
    """What the images' own table says of wells; `plates` are the names of plates by their keys."""
    told: Told = {}
    for well in found.wells:
        if well["Metadata_Plate"] in plates:
            told.setdefault((plates[well["Metadata_Plate"]], well["Metadata_Well"]), well)
    return told


def told_by_map(layout: Path, imaged: pd.DataFrame, notes: list[str]) -> Told:
    """What a plate map says of wells that have images; `imaged` has a row for each of those.

    Raises
    ------
    MoascopeError
        Where it cannot be read, or knows none of the plates.
    """
    entries, said = read_plate_map(layout)
    notes += said
    wells = set(imaged[WELL].itertuples(index=False, name=None))
    told: Told = {}
    plates = {plate.casefold(): plate for plate, _ in sorted(wells)}
    unknown: set[str] = set()
    # What is said of one plate counts more than what is said of all.
    for entry in sorted(entries, key=lambda entry: "Metadata_Plate" in entry):
        written = entry.get("Metadata_Plate", "")
        if written and written.casefold() not in plates:
            unknown.add(written)
            continue
        for plate in [plates[written.casefold()]] if written else plates.values():
            told[plate, entry["Metadata_Well"]] = entry
    without_image = sum(well not in wells for well in told)
    without_map = len(wells - told.keys())
    if unknown:
        notes.append(f"{layout.name} has {counted(len(unknown), 'plate')} without images: "
                     f"{listing(sorted(unknown))}. Images are of {listing(plates.values())}.")
    if without_image:
        notes.append(f"{layout.name} has {counted(without_image, 'well')} without images; they "
                     "are left out of layout.csv.")
    if without_map:
        notes.append(f"{counted(without_map, 'well')} with images are not in {layout.name}; their "
                     "compound is left empty.")
    if not told:
        raise MoascopeError(f"{layout} says nothing of the plates that were found, "
                            f"{listing(plates.values())}. It has "
                            f"{listing(sorted(unknown)) or 'no well'}.")
    return told


def describe(wells: pd.DataFrame, told: Told,
             notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """layout.csv with every imaged well, and annotations.csv with every compound in them.

    What nothing is known of is left empty for a person to fill in; negative controls need no
    annotation.
    """
    rows = [{column: told.get((plate, well), {}).get(column, "") for column in LAYOUT[2:]}
            for plate, well in wells.itertuples(index=False)]
    layout = pd.concat([wells, pd.DataFrame(rows, columns=LAYOUT[2:], dtype="str")], axis=1)
    negative = set(layout.loc[layout["Metadata_Control"] == "negative", "Metadata_Compound"])
    compounds: dict[str, dict[str, str]] = {}
    unlike = set()
    for plate, well in wells.itertuples(index=False):
        said = told.get((plate, well), {})
        compound = said.get("Metadata_Compound", "")
        if not compound or compound in negative:
            continue
        about = {column: said[column] for column in _COMPOUND if said.get(column)}
        known = compounds.setdefault(compound, about)
        if known != about:
            unlike.add(compound)
    if unlike:
        notes.append(f"Compounds are described differently in different wells ({len(unlike):,}): "
                     f"{listing(sorted(unlike))}. annotations.csv has what the first well says.")
    columns = [column for column in _COMPOUND
               if column == "Metadata_MoA" or any(column in about for about in compounds.values())]
    table = [{"Metadata_Compound": compound, **{column: about.get(column, "")
                                                for column in columns}}
             for compound, about in sorted(compounds.items())]
    return layout, pd.DataFrame(table, columns=[ANNOTATIONS[0], *columns], dtype="str")


def keep_filled_in(path: Path, new: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The rows of a table that a person may have filled in, and those of `new` that it lacks.

    Raises
    ------
    MoascopeError
        Where the table cannot be read.
    """
    if not path.exists():
        return new
    rows, _ = read_rows(path)
    header = [cell.strip() for cell in rows.cells[0]] if rows.cells else []
    if not set(key) <= set(header) or any(len(cells) != len(header) for cells in rows.cells):
        raise MoascopeError(f"{path} has not the columns {' and '.join(key)}, or a line with "
                            "another number of values. Mend it, or move it away.")
    old = pd.DataFrame(rows.cells[1:], columns=header, dtype="str")
    dose = "Metadata_Concentration_uM"
    if rows.delimiter != "," and dose in old:
        # What is written has commas between values, where a decimal comma is no number.
        old[dose] = old[dose].str.replace(",", ".", regex=False)
    there = old[list(key)].apply(lambda column: column.str.strip())
    if "Metadata_Well" in key:
        there["Metadata_Well"] = there["Metadata_Well"].map(_canonical_or_as_is)
    missing = ~pd.MultiIndex.from_frame(new[list(key)]).isin(pd.MultiIndex.from_frame(there))
    both = pd.concat([old, new[missing]], ignore_index=True)
    return both.fillna("")


def _canonical_or_as_is(well: str) -> str:
    try:
        return canonical_well(well)
    except MoascopeError:
        return well
