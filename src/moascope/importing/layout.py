"""layout.csv and annotations.csv of imported plates: filled in as far as the wells are known."""

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
    """What the table of the images says about wells; `plates` maps keys of plates to names."""
    told: Told = {}
    for well in found.wells:
        if well["Metadata_Plate"] in plates:
            told.setdefault((plates[well["Metadata_Plate"]], well["Metadata_Well"]), well)
    return told


def told_by_map(layout: Path, imaged: pd.DataFrame, notes: list[str],
                what: str = "images") -> Told:
    """What a plate map says about the wells that have images, one row each in `imaged`.

    `what` is what the wells have, in the sentences: images or profiles.

    Raises
    ------
    MoascopeError
        When it cannot be read, or has none of the plates.
    """
    entries, said = read_plate_map(layout)
    notes += said
    wells = set(imaged[WELL].itertuples(index=False, name=None))
    told: Told = {}
    plates = {plate.casefold(): plate for plate, _ in sorted(wells)}
    unknown: set[str] = set()
    # An entry for one plate overrides an entry for all plates.
    for entry in sorted(entries, key=lambda entry: "Metadata_Plate" in entry):
        written = entry.get("Metadata_Plate", "")
        if written and written.casefold() not in plates:
            unknown.add(written)
            continue
        for plate in [plates[written.casefold()]] if written else plates.values():
            told[plate, entry["Metadata_Well"]] = entry
    without_image = sorted(well for well in told if well not in wells)
    without_map = sorted(wells - told.keys())
    if unknown:
        notes.append(f"{layout.name} has {counted(len(unknown), 'plate')} without {what}: "
                     f"{listing(sorted(unknown))}. The {what} are of plates "
                     f"{listing(plates.values())}.")
    if without_image:
        notes.append(f"{layout.name} has {counted(len(without_image), 'well')} without {what}, "
                     f"which are left out of layout.csv: {listing(map(' '.join, without_image))}.")
    if without_map:
        notes.append(f"{layout.name} lacks {counted(len(without_map), 'well')} with {what}; their "
                     f"compound is left empty: {listing(map(' '.join, without_map))}.")
    if not told:
        raise MoascopeError(f"{layout} has none of the plates that were found "
                            f"({listing(plates.values())}). It has "
                            f"{listing(sorted(unknown)) or 'no well'}. Name the plates in its "
                            "column Plate as they were found, or remove the column if it holds for "
                            "all of them.")
    return told


def describe(wells: pd.DataFrame, told: Told,
             notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """layout.csv with every imaged well, and annotations.csv with every compound in them.

    Unknown cells are left empty for a person to fill in; negative controls need no annotation.
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
        notes.append(f"{counted(len(unlike), 'compound')} described differently in different "
                     f"wells: {listing(sorted(unlike))}. annotations.csv has the description of "
                     "the first well.")
    columns = [column for column in _COMPOUND
               if column == "Metadata_MoA" or any(column in about for about in compounds.values())]
    table = [{"Metadata_Compound": compound, **{column: about.get(column, "")
                                                for column in columns}}
             for compound, about in sorted(compounds.items())]
    return layout, pd.DataFrame(table, columns=[ANNOTATIONS[0], *columns], dtype="str")


def keep_filled_in(path: Path, new: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The rows of an existing table, which a person may have filled in, and new rows of `new`.

    Raises
    ------
    MoascopeError
        When the table cannot be read.
    """
    if not path.exists():
        return new
    rows, _ = read_rows(path)
    header = [cell.strip() for cell in rows.cells[0]] if rows.cells else []
    if not set(key) <= set(header) or any(len(cells) != len(header) for cells in rows.cells):
        raise MoascopeError(f"{path} lacks the columns {' and '.join(key)}, or has a line without "
                            "as many values as the header. Correct it, or move it away.")
    old = pd.DataFrame(rows.cells[1:], columns=header, dtype="str")
    dose = "Metadata_Concentration_uM"
    if rows.delimiter != "," and dose in old:
        # The table is written with commas between values, where a decimal comma is ambiguous.
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


def tables_said(layout: pd.DataFrame, annotations: pd.DataFrame,
                out: Path) -> tuple[list[str], list[str]]:
    """What an import says of layout.csv and annotations.csv in the folder `out`.

    Returns
    -------
    wrote : list of str
        A line per table.
    to_fill_in : list of str
        A line that names the columns without any value; empty where there are none.
    """
    treated = layout[layout["Metadata_Control"] != "negative"]
    compounds = set(treated["Metadata_Compound"]) - {""}
    controls = int((layout["Metadata_Control"] != "").sum())
    known = int((annotations["Metadata_MoA"] != "").sum())
    wrote = [
        f"            {out / 'layout.csv'}: {counted(len(layout), 'well')}, "
        f"{counted(len(compounds), 'compound')}, {counted(controls, 'control well')}",
        f"            {out / 'annotations.csv'}: {counted(len(annotations), 'compound')}, "
        f"{known:,} with a mechanism",
    ]
    columns = []
    if not compounds:
        columns.append("Metadata_Compound and Metadata_Control in layout.csv")
    if not known:
        columns.append("Metadata_MoA in annotations.csv")
    return wrote, [f"fill in     {' and '.join(columns)}"] if columns else []
