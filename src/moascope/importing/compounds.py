"""What a table of compounds says about the compounds of an import."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.maps import refuse_ragged
from moascope.screen.columns import plain, recognise
from moascope.screen.compounds import name_key
from moascope.screen.reading import read_rows
from moascope.text import counted, listing

_ABOUT = ("Metadata_MoA", "Metadata_InChIKey", "Metadata_SMILES", "Metadata_InChI",
          "Metadata_Target")


def annotate_from(path: Path, annotations: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Fill gaps of annotations.csv from a table of compounds.

    Parameters
    ----------
    path : Path
        A CSV file with a column for the compound, and for its mechanism, structure or target; a
        compound may have several rows (doses) that agree.
    annotations : DataFrame
        As in annotations.csv; names are matched without case and blanks.
    notes : list of str
        Gets a sentence about each guess.

    Raises
    ------
    MoascopeError
        When the table cannot be read, names no compound, or has none of these.
    """
    rows, said = read_rows(path)
    if not rows.cells:
        raise MoascopeError(f"{path} is empty. Give a table with one row per compound.")
    header = [cell.strip() for cell in rows.cells[0]]
    refuse_ragged(rows, path.name)
    columns = _recognised(header)
    notes += said
    about = {column: at for column, at in columns.items() if column in _ABOUT}
    if "Metadata_Compound" not in columns or not about:
        raise MoascopeError(f"{path} needs a column for the compound and one for its mechanism, "
                            f"structure or target. Its columns are {listing(header, 12)}.")
    known: dict[str, dict[str, str]] = {}
    unlike: set[str] = set()
    for cells in rows.cells[1:]:
        name = cells[columns["Metadata_Compound"]].strip()
        entry = {column: text for column, at in about.items() if (text := cells[at].strip())}
        first = known.setdefault(name_key(name), entry) if name else entry
        if any(first.get(column, text) != text for column, text in entry.items()):
            unlike.add(name)
        for column, text in entry.items():
            first.setdefault(column, text)
    keys = annotations["Metadata_Compound"].map(name_key)
    missing = annotations.loc[~keys.isin(list(known)), "Metadata_Compound"]
    if len(missing) == len(annotations):
        raise MoascopeError(f"{path} has none of the {counted(len(annotations), 'compound')} of "
                            f"the screen ({listing(annotations['Metadata_Compound'], 3)}).")
    filled = annotations.copy()
    for column in about:
        own = filled[column] if column in filled else pd.Series("", index=filled.index)
        new = keys.map(lambda key, column=column: known.get(key, {}).get(column, ""))
        filled[column] = own.where(own != "", new).astype("str")
    if len(missing):
        notes.append(f"{path.name} lacks {counted(len(missing), 'compound')} of the screen: "
                     f"{listing(missing)}.")
    if unlike:
        notes.append(f"{path.name} describes {counted(len(unlike), 'compound')} in several ways, "
                     f"of which the first is read: {listing(sorted(unlike))}.")
    return filled


def _recognised(header: list[str]) -> dict[str, int]:
    """The known columns; identifiers of JUMP and the Broad Institute name compounds too."""
    columns = dict(recognise(header, "profiles").columns)
    columns.update(recognise(header, "compounds").columns)
    names = [plain(column) for column in header]
    if "Metadata_Compound" not in columns and "name" in names:
        columns["Metadata_Compound"] = names.index("name")
    return columns
