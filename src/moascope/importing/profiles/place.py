"""Where each row of a table of profiles belongs: plate, well and site, and what is in the well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.doses import may_be_dose
from moascope.importing.layout import Told
from moascope.importing.maps import control_word, describe_wells, join_wells, mark_vehicles
from moascope.importing.names import well_at
from moascope.importing.profiles.source import Named, Source
from moascope.screen.columns import WELL, plain, recognise, spellings
from moascope.screen.reading import LINES_NAMED, Rows
from moascope.screen.vehicles import is_vehicle
from moascope.screen.wells import canonical_well, well_name
from moascope.text import counted, is_number, listing, tidy

KEY = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
FURTHER = ("Metadata_InChI", "Metadata_Target")
"""Columns of annotations.csv that plate maps of images do not give."""

_OPTIONAL = ("Metadata_Batch", "Metadata_Panel")
_PLACED = {*KEY, *_OPTIONAL, "Metadata_Row", "Metadata_Column"}
_ROWS, _COLUMNS = 32, 48
# Share of a column's values that are numbers from which its words are taken for a mistake.
_LEAST_NUMBERS = 0.5


@dataclass
class Placed:
    """Where rows belong, and what the tables say about wells.

    Attributes
    ----------
    keys : DataFrame of str, [rows]
        `Metadata_Plate` and `Metadata_Well`; `Metadata_Site` (int), `Metadata_Batch` and
        `Metadata_Panel` where a table has them.
    told : dict
        By plate and well, columns of layout.csv and annotations.csv.
    compounds_named : bool
        Whether a column names the compounds.
    recognised : list of str
        Columns that were read as something else than a compound.
    unread : list of str
        Columns that were not read: one of them may name the compounds.
    further : dict
        By compound, `Metadata_InChI` and `Metadata_Target`.
    notes : list of str
    """

    keys: pd.DataFrame
    told: Told
    compounds_named: bool
    recognised: list[str]
    unread: list[str]
    further: dict[str, dict[str, str]]
    notes: list[str]


@dataclass
class Placer:
    """Places rows batch by batch.

    Parameters
    ----------
    named : Named
    names : sequence of str
        Of the tables.
    """

    named: Named
    names: Sequence[str]
    _keys: list[pd.DataFrame] = field(default_factory=list)
    _about: dict[str, list[pd.DataFrame]] = field(default_factory=dict)
    _meaning: dict[str, dict[str, str]] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)
    _numbered: dict[str, int] = field(default_factory=dict)
    _wellless: dict[str, bool] = field(default_factory=dict)
    _commas: set[str] = field(default_factory=set)
    _unread: dict[str, list[str]] = field(default_factory=dict)

    def add(self, source: Source, about: pd.DataFrame) -> None:
        """Place the rows of a batch.

        Raises
        ------
        MoascopeError
            When a well or site cannot be read.
        """
        name = source.name
        if name not in self._meaning:
            self._meaning[name] = self._recognise(source)
            if source.decimal_comma:
                self._commas.add(name)
        meaning = self._meaning[name]
        first = self._rows.get(name, 0)
        self._rows[name] = first + len(about)
        said = pd.DataFrame({ours: about[column] for ours, column in meaning.items()},
                            index=about.index)
        keys = pd.DataFrame(index=about.index)
        if "Metadata_Plate" in said:
            keys["Metadata_Plate"] = said["Metadata_Plate"]
            lost = (keys["Metadata_Plate"] == "").to_numpy()
            if lost.any():
                raise MoascopeError(f"{name}, row {first + int(lost.argmax()) + 1}: the column "
                                    f"'{meaning['Metadata_Plate']}' is empty. Every profile "
                                    "belongs to a plate.")
        else:
            keys["Metadata_Plate"] = _stem(name)
        for column in _OPTIONAL:
            if column in said:
                keys[column] = said[column]
        self._place_wells(name, first, said, keys)
        if "Metadata_Site" in said:
            keys["Metadata_Site"] = _sites(name, first, meaning["Metadata_Site"],
                                           said["Metadata_Site"])
        self._keys.append(keys)
        dose = [column for column in about if may_be_dose(column)]
        wells = pd.concat([keys[WELL], said[[column for column in said if column not in _PLACED]],
                           about[[column for column in dose if column not in said]]], axis=1)
        names = [column for column in self._compound_columns(source)
                 if column not in wells and column != meaning.get("Metadata_Compound")]
        wells = pd.concat([wells, about[names]], axis=1)
        if name not in self._unread:
            unread = [column for column in about
                      if column not in (*meaning.values(), *dose, *names)]
            spoilt = [_spoilt(name, column, about[column]) for column in unread]
            self._notes += [note for note in spoilt if note]
            self._unread[name] = [column for column, note in zip(unread, spoilt, strict=True)
                                  if not note]
        wells["Row"] = range(first + 1, first + 1 + len(wells))
        self._about.setdefault(name, []).append(
            wells[~wells.duplicated(list(wells.columns[:-1]))])

    def _recognise(self, source: Source) -> dict[str, str]:
        found = recognise(source.about, "profiles")
        meaning = {ours: source.about[at] for ours, at in found.columns.items()}
        for ours, column in self.named.ours.items():
            if column not in source.about:
                option = ours.removeprefix("Metadata_").lower()
                raise MoascopeError(f"--{option} is '{column}', but {source.name} has no such "
                                    f"column. Its columns are {listing(source.about, 30)}.")
            meaning[ours] = column
        self._notes += [f"{source.name}: {note}." for note in found.notes
                        if not any(ours in note for ours in self.named.ours)]
        if "Metadata_Plate" not in meaning:
            self._notes.append(f"{source.name} has no column for the plate; the plate is called "
                               f"'{_stem(source.name)}'.")
        return meaning

    def _compound_columns(self, source: Source) -> list[str]:
        """Columns that may name a compound, the best first."""
        if self.named.compound:
            return [self.named.compound]
        by_name = {plain(column): column for column in reversed(source.about)}
        return [by_name[spelling] for spelling in spellings("profiles")["Metadata_Compound"]
                if spelling in by_name]

    def _place_wells(self, name: str, first: int, said: pd.DataFrame, keys: pd.DataFrame) -> None:
        if "Metadata_Well" in said:
            written = said["Metadata_Well"]
        elif {"Metadata_Row", "Metadata_Column"} <= set(said):
            written = said["Metadata_Row"] + "\n" + said["Metadata_Column"]
        else:
            written = None
        if written is not None and not self._wellless.get(name):
            wells = {text: _well(text) for text in written.unique()}
            bad = [text for text, well in wells.items() if well is None]
            if not bad or len(bad) < len(wells) or name in self._wellless:
                self._wellless[name] = False
                problems = []
                for text in bad[:LINES_NAMED]:
                    row = first + int((written == text).to_numpy().argmax()) + 1
                    shown = text.replace("\n", "")
                    problems.append(f"{name}, row {row}: '{shown}' is not a well name. Write a row "
                                    "A to AF and a column 1 to 48, like B02.")
                if problems:
                    raise MoascopeError(problems)
                keys["Metadata_Well"] = written.map(wells).astype("str")
                return
        if name not in self._wellless:
            self._wellless[name] = True
            what = (f"'{written.iloc[0]}' and the like are not well names" if written is not None
                    and len(written) else "it has no column for the well")
            self._notes.append(
                f"{name} does not say which wells its rows are of ({what}); each row is given a "
                "well of its own, in the order of the table. Positions, and baselines of position "
                "and plate, then mean the order of rows.")
        self._number(name, said, keys)

    def _number(self, name: str, said: pd.DataFrame, keys: pd.DataFrame) -> None:
        """Give each row a well of its own; a plate that is full is followed by another."""
        if "Metadata_Plate" not in said:
            batch = said["Metadata_Batch"] if "Metadata_Batch" in said else pd.Series(
                "", index=said.index)
            keys["Metadata_Plate"] = [f"{_stem(name)}_{text}" if text else _stem(name)
                                      for text in batch]
        plates, wells = [], []
        for plate in keys["Metadata_Plate"]:
            number = self._numbered.get(plate, 0)
            self._numbered[plate] = number + 1
            further, place = divmod(number, _ROWS * _COLUMNS)
            plates.append(f"{plate}-{further + 1}" if further else plate)
            wells.append(well_name(*divmod(place, _COLUMNS)))
        keys["Metadata_Plate"], keys["Metadata_Well"] = plates, wells

    def finish(self) -> Placed:
        """What was placed, and what the tables say about wells.

        Raises
        ------
        MoascopeError
            When two rows say different things about a well, or a dose cannot be read.
        """
        keys = pd.concat(self._keys, ignore_index=True) if self._keys else pd.DataFrame(
            columns=pd.Index(WELL))
        for column in _OPTIONAL:
            if column in keys:
                keys[column] = keys[column].fillna("")
        if "Metadata_Panel" in keys and len(set(keys["Metadata_Panel"])) == 1:
            # One cell line or stain throughout distinguishes nothing.
            keys = keys.drop(columns="Metadata_Panel")
        if "Metadata_Site" in keys and keys["Metadata_Site"].isna().any():
            keys = keys.drop(columns="Metadata_Site")
        entries: list[dict[str, str]] = []
        further: dict[str, dict[str, str]] = {}
        named = False
        for name, parts in self._about.items():
            wells = pd.concat(parts, ignore_index=True)
            wells = wells[~wells.duplicated([*wells.columns.drop("Row")])].fillna("")
            described = self._describe(name, wells, further)
            named |= "Metadata_Compound" in wells or bool(self.named.compound)
            entries += described
        title = listing(self.names, 3)
        self._notes += mark_vehicles(entries, title)
        told: Told = {(entry["Metadata_Plate"], entry["Metadata_Well"]): entry
                      for entry in join_wells(entries, title)}
        unread = list(dict.fromkeys(column for left in self._unread.values() for column in left))
        if unread:
            self._notes.append(f"{title}: {counted(len(unread), 'column')} not read: "
                               f"{listing(map(repr, unread), 12)}.")
        recognised = list(dict.fromkeys(column for meaning in self._meaning.values()
                                        for column in meaning.values()))
        return Placed(keys, told, named, recognised, unread, further,
                      list(dict.fromkeys(self._notes)))

    def _describe(self, name: str, wells: pd.DataFrame,
                  further: dict[str, dict[str, str]]) -> list[dict[str, str]]:
        self._fill_names(name, wells)
        columns = [column for column in wells if column != "Row"]
        if "Metadata_Control" in wells:
            self._read_controls(name, wells)
        rows = Rows([columns, *wells[columns].to_numpy(dtype=object).tolist()],
                    [0, *wells["Row"].tolist()], ";" if name in self._commas else ",")
        known = {column: at for at, column in enumerate(columns) if column.startswith("Metadata_")
                 and column in _OURS}
        described = describe_wells(rows, known, name)
        if described.problems:
            raise MoascopeError(problem.replace(", line ", ", row ")
                                for problem in described.problems.values())
        self._notes += described.notes
        entries = [entry for entry in described.wells if entry is not None]
        for entry, said in zip(entries, wells.to_dict("records"), strict=True):
            about = {column: said[column] for column in FURTHER if said.get(column)}
            if about and entry.get("Metadata_Compound"):
                further.setdefault(entry["Metadata_Compound"], about)
        return entries

    def _fill_names(self, name: str, wells: pd.DataFrame) -> None:
        """Name compounds without a name by another of the columns that could name them."""
        if "Metadata_Compound" not in wells:
            return
        for column in wells.columns:
            if column in _OURS or column == "Row" or may_be_dose(column):
                continue
            gaps = (wells["Metadata_Compound"] == "") & (wells[column] != "")
            if gaps.any():
                wells.loc[gaps, "Metadata_Compound"] = wells.loc[gaps, column]
                self._notes.append(f"{name}: {counted(int(gaps.sum()), 'well')} without a name "
                                   f"take it from '{column}'.")

    def _read_controls(self, name: str, wells: pd.DataFrame) -> None:
        """Make kinds of controls that a plate map would not have readable."""
        compound = wells.get("Metadata_Compound", pd.Series("", index=wells.index))
        solvent = wells.get("Metadata_Solvent", pd.Series("", index=wells.index))
        pairs = set(zip(wells["Metadata_Control"], compound, solvent, strict=True))
        unknown = {pair for pair in pairs if control_word(*pair) is None}
        if not unknown:
            return
        # Compounds that a table of treatments calls controls, next to DMSO, are positive ones.
        as_positive = {pair for pair in unknown if re.search(r"con|ctrl|ctl", plain(pair[0]))
                       and not is_vehicle(pair[1])}
        said = [*zip(wells["Metadata_Control"], compound, solvent, strict=True)]
        wells["Metadata_Control"] = ["positive" if pair in as_positive else
                                     "" if pair in unknown else pair[0] for pair in said]
        for pairs, what in ((as_positive, "positive controls"),
                            (unknown - as_positive, "compounds and not controls")):
            if pairs:
                self._notes.append(
                    f"{name}: wells of {listing(sorted({pair[1] for pair in pairs}))} with "
                    f"{listing(sorted({repr(pair[0]) for pair in pairs}))} as kind of control "
                    f"are read as {what}.")


_OURS = {"Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Metadata_Control",
         "Metadata_Solvent", "Metadata_MoA", "Metadata_InChIKey", "Metadata_SMILES", *FURTHER}


def _spoilt(name: str, column: str, text: pd.Series) -> str:
    """A sentence on a column of numbers that words, or decimal commas, keep from being a feature.

    `text` are the first rows of the table.
    """
    filled = text[text != ""]
    wrong = pd.to_numeric(filled, errors="coerce").isna()
    numbers = pd.to_numeric(filled.str.replace(",", ".", n=1), errors="coerce").notna()
    if not wrong.any() or numbers.sum() < _LEAST_NUMBERS * len(filled):
        return ""
    row = int(wrong.to_numpy().argmax())
    return (f"{name}: '{column}' is not read as a feature, because row {filled.index[row] + 1} "
            f"holds '{tidy(filled.iloc[row], 40)}', which is not a number. Correct it, or leave "
            "such values empty.")


def _stem(name: str) -> str:
    """A plate's name from that of its table."""
    stem = re.sub(r"\.(gz|csv|tsv|txt|parquet|pq|npz|npy|h5ad|sqlite3?|db)$", "",
                  name.rpartition("/")[2], flags=re.IGNORECASE)
    again = re.sub(r"\.(csv|tsv|txt)$", "", stem, flags=re.IGNORECASE)
    return again or "plate"


def _well(text: str) -> str | None:
    row, newline, column = text.partition("\n")
    if newline:
        return well_at(row, re.sub(r"\.0$", "", column)) if is_number(
            re.sub(r"\.0$", "", column)) and row else None
    try:
        return canonical_well(text)
    except MoascopeError:
        return None


def _sites(name: str, first: int, column: str, written: pd.Series) -> pd.Series:
    """Sites as whole numbers; missing where a table names none."""
    text = written.str.replace(r"\.0+$", "", regex=True).str.replace(
        r"^[A-Za-z_]*0*([0-9]+)$", r"\1", regex=True)
    wrong = ((text != "") & ~text.map(is_number)).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise MoascopeError(f"{name}, row {first + row + 1}: the column '{column}' is "
                            f"'{written.iloc[row]}', which is not the number of a site. Write a "
                            "whole number.")
    return pd.to_numeric(text.where(text != ""), errors="coerce").astype("Int64")
