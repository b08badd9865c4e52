"""A table of compounds in, the same table with a decision for each compound out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moascope.annotation.decide import Decision, decide
from moascope.annotation.terms import load_terms
from moascope.errors import MoascopeError
from moascope.importing.controls import control_word
from moascope.opening import read_file
from moascope.screen.columns import plain, recognise
from moascope.screen.compounds import name_key
from moascope.screen.reading import MOST_TABLE, Findings, is_workbook, parse_table
from moascope.screen.terms import split_terms
from moascope.screen.vehicles import is_vehicle
from moascope.text import counted, listing
from moascope.work.archives import is_archive, only_member
from moascope.work.files import write_csv

DECIDED = ["gpcr", "gpcr_action", "evidence", "curator"]
UNNAMED = "unnamed"
"""Curator of a decision that came without evidence and without a name."""

_SYMBOLS = ("hgncsymbol", "symbol", "genesymbol", "gene", "approvedsymbol")


@dataclass(frozen=True)
class Compounds:
    """What is known of each compound before a decision.

    Attributes
    ----------
    table : DataFrame
        One row per compound: `Metadata_Compound`, `Metadata_MoA`, then the other columns of the
        file; for a file of wells only InChIKey, SMILES and targets.
    rows : Series of int
        How many rows of the file each compound has, by name.
    warnings : tuple of str
    """

    table: pd.DataFrame
    rows: pd.Series
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Annotated:
    """Decisions on all compounds.

    Attributes
    ----------
    table : DataFrame
        The compounds with `gpcr`, `gpcr_action`, `evidence` and `curator`.
    decisions : tuple of Decision
        What the terms and genes decide for each row, also where the table holds a person's
        decision.
    """

    table: pd.DataFrame
    decisions: tuple[Decision, ...]


def read_compounds(path: Path) -> Compounds:
    """Read a table of compounds or of wells.

    Parameters
    ----------
    path : Path
        CSV or TSV, or a zip archive with one such file: annotations.csv, or a table of wells with
        columns such as Compound Name, Compound MoA, Compound InChIKey and Control Type (as the
        annotation of an IDR screen has them). Rows of negative controls and of a vehicle such as
        DMSO are left out.

    Raises
    ------
    MoascopeError
        Where the file cannot be read, names no compounds, or has no column of mechanisms.
    """
    frame, warnings = _read_table(path)
    named, notes = _recognise(path, frame.columns)
    warnings += notes
    for wanted, example, held in [("Metadata_Compound", "Compound Name", "compound names"),
                                  ("Metadata_MoA", "Compound MoA", "mechanisms")]:
        if wanted not in named:
            raise MoascopeError(f"{path} has no column '{wanted}' or '{example}'. It has "
                                f"{listing(frame.columns, 12)}. Rename the column of {held}.")
    control = named.pop("Metadata_Control", None)
    if control is not None:
        negative = [control_word(word, compound) == "negative" or "negative" in word.lower()
                    for word, compound in zip(frame[control], frame[named["Metadata_Compound"]],
                                              strict=True)]
        frame = frame[~pd.Series(negative, index=frame.index, dtype=bool)]
    vehicle = frame[named["Metadata_Compound"]].map(is_vehicle).astype(bool)
    if vehicle.any() and not vehicle.all():
        names = sorted(frame.loc[vehicle, named["Metadata_Compound"]].unique())
        warnings.append(f"{path.name}: {counted(int(vehicle.sum()), 'row')} of {listing(names)} "
                        "left out, because a vehicle has no mechanism.")
        frame = frame[~vehicle]
    if "Metadata_Compound" not in frame:
        frame = frame[list(named.values())]
    frame = frame.rename(columns={column: name for name, column in named.items()})
    rows = frame["Metadata_Compound"].str.strip().value_counts()
    frame = frame.drop_duplicates()
    frame = frame.apply(lambda column: column.str.strip())
    unnamed = int((frame["Metadata_Compound"] == "").sum())
    if unnamed:
        warnings.append(f"{path.name}: {counted(unnamed, 'row')} without a compound name left "
                        "out.")
        frame = frame[frame["Metadata_Compound"] != ""]
    if frame.empty:
        raise MoascopeError(f"{path} names no compound. Fill in the column Metadata_Compound.")
    several = frame.groupby("Metadata_Compound")["Metadata_MoA"].nunique()
    several = several[several > 1].index
    if len(several):
        warnings.append(f"{path.name}: mechanisms that differ between rows were joined for "
                        f"{counted(len(several), 'compound')}: {listing(several)}.")
    if frame["Metadata_Compound"].duplicated().any():
        joined = frame.groupby("Metadata_Compound", sort=False)
        frame = pd.DataFrame({
            column: joined[column].agg(_JOINED.get(column, _first_word))
            for column in frame.columns if column != "Metadata_Compound"}).reset_index()
    return Compounds(frame.reset_index(drop=True).astype("str"), rows, tuple(warnings))


def read_genes(path: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """Read a table of GPCR genes.

    Parameters
    ----------
    path : Path
        CSV or TSV with a column hgnc_symbol, symbol or gene, or a list with one symbol per line.
        Rows whose family says that they are not GPCRs are left out (the Guide to PHARMACOLOGY
        also lists other proteins with seven helices).

    Returns
    -------
    frozenset of str
        Symbols in upper case.
    tuple of str
        Warnings.
    """
    frame, warnings = _read_table(path)
    column = next((name for name in frame.columns if plain(name) in _SYMBOLS), None)
    if column is None and len(frame.columns) > 1:
        raise MoascopeError(f"{path} has no column 'symbol'. It has {listing(frame.columns, 12)}. "
                            "Rename the column of gene symbols.")
    symbols = (frame[column] if column is not None
               else pd.Series([frame.columns[0], *frame[frame.columns[0]]]))
    symbols = symbols.str.strip().str.upper()
    others = [name for name in frame.columns if "family" in name.lower()]
    foreign = pd.Series(False, index=frame.index)
    for name in others:
        foreign |= frame[name].str.contains("non-GPCR", case=False, regex=False)
    if foreign.any() and column is not None:
        warnings.append(f"{path.name}: left out {listing(symbols[foreign])}, because their family "
                        "says that they are not GPCRs.")
        symbols = symbols[~foreign]
    found = frozenset(symbols) - {""}
    if not found:
        raise MoascopeError(f"{path} names no gene. Write one symbol per line.")
    return found, tuple(warnings)


def read_targets(path: Path) -> dict[str, frozenset[str]]:
    """Read the target genes of compounds.

    Parameters
    ----------
    path : Path
        CSV or TSV with a column of compounds and one of gene symbols: several in one cell,
        separated by "|", "," or ";", or several rows per compound.

    Returns
    -------
    dict of str to frozenset of str
        Name of the compound (`name_key`) -> symbols in upper case.
    """
    frame, _ = _read_table(path)
    named, _ = _recognise(path, frame.columns)
    for wanted, example, held in [("Metadata_Compound", "compound", "compound names"),
                                  ("Metadata_Target", "target", "gene symbols")]:
        if wanted not in named:
            raise MoascopeError(f"{path} has no column '{example}'. It has "
                                f"{listing(frame.columns, 12)}. Rename the column of {held}.")
    found: dict[str, set[str]] = {}
    for compound, symbols in zip(frame[named["Metadata_Compound"]],
                                 frame[named["Metadata_Target"]], strict=True):
        found.setdefault(name_key(compound), set()).update(split_symbols(symbols))
    return {compound: frozenset(symbols) for compound, symbols in found.items() if symbols}


def split_symbols(text: str) -> frozenset[str]:
    """Gene symbols of a cell, in upper case."""
    return frozenset(symbol.strip().upper() for symbol in re.split(r"[|,;\s]+", text)
                     if symbol.strip())


def annotate_compounds(
    compounds: pd.DataFrame,
    *,
    targets: Mapping[str, frozenset[str]] | None = None,
    gpcr_genes: frozenset[str] = frozenset(),
    genes_name: str = "",
    earlier: pd.DataFrame | None = None,
) -> Annotated:
    """Decide for each compound whether it acts through a GPCR.

    Parameters
    ----------
    compounds : DataFrame
        One row per compound: `Metadata_Compound`, `Metadata_MoA`, optional `Metadata_Target`.
    targets : mapping, optional
        As from `read_targets`; added to the column `Metadata_Target`.
    gpcr_genes : frozenset of str
        As from `read_genes`. Without them, targets have no effect.
    genes_name : str
        Name of the table of genes, for the evidence.
    earlier : DataFrame, optional
        The table of an earlier run. A person's decisions in it, and then those in `compounds`,
        are kept whatever the terms and genes say.

    Returns
    -------
    Annotated
        Rows and columns in the order of `compounds`.
    """
    targets = targets or {}
    own = (compounds["Metadata_Target"].map(split_symbols) if "Metadata_Target" in compounds
           else [frozenset()] * len(compounds))
    remembered: dict[tuple[str, frozenset[str]], Decision] = {}
    decisions = []
    for name, moa, symbols in zip(compounds["Metadata_Compound"], compounds["Metadata_MoA"], own,
                                  strict=True):
        key = (moa, symbols | targets.get(name_key(name), frozenset()))
        if key not in remembered:
            remembered[key] = decide(*key, gpcr_genes, genes_name)
        decisions.append(remembered[key])
    persons = {**_persons_decisions(compounds), **_persons_decisions(earlier)}
    table = compounds.drop(columns=[column for column in DECIDED if column in compounds])
    decided = []
    for name, decision in zip(compounds["Metadata_Compound"], decisions, strict=True):
        if name in persons:
            gpcr, action, curator = persons[name]
            decided.append((gpcr, action, persons_evidence(decision.evidence), curator))
        else:
            decided.append((decision.gpcr, decision.action, decision.evidence, ""))
    table[DECIDED] = pd.DataFrame(decided, columns=DECIDED, index=table.index, dtype="str")
    return Annotated(table, tuple(decisions))


def persons_evidence(evidence: str) -> str:
    """Evidence of a row that a person decided; it still says what the terms and genes decide."""
    return f"a person decided; {evidence}"


def read_earlier(path: Path) -> pd.DataFrame | None:
    """The table of an earlier run, or None where there is none."""
    if not path.exists():
        return None
    frame, _ = _read_table(path)
    if "Metadata_Compound" not in frame:
        raise MoascopeError(f"{path} already exists and is not a table of annotations (it has "
                            "no column 'Metadata_Compound'). Choose another file with --out.")
    if "gpcr" not in frame and "Metadata_MoA" not in frame:
        raise MoascopeError(f"{path} already exists and is not a table of annotations (it has "
                            "neither a column 'gpcr' nor 'Metadata_MoA'; is it a layout?). "
                            "Choose another file with --out.")
    return frame.apply(lambda column: column.str.strip())


def keep_decided(compounds: pd.DataFrame,
                 earlier: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """Append the compounds of an earlier table that persons decided and this table lacks.

    Parameters
    ----------
    compounds : DataFrame
        One row per compound.
    earlier : DataFrame or None
        As from `read_earlier`.

    Returns
    -------
    DataFrame
        `compounds`, and below them the earlier rows, in their order, without the decision itself
        (`annotate_compounds` takes it from `earlier`). Columns of both; empty cells are "".
    list of str
        Names of the compounds that were appended.

    Raises
    ------
    MoascopeError
        Where a person's `gpcr` is not yes, no or unknown.
    """
    if earlier is None:
        return compounds, []
    lost = set(_persons_decisions(earlier)) - set(compounds["Metadata_Compound"]) - {""}
    if not lost:
        return compounds, []
    rows = earlier[earlier["Metadata_Compound"].isin(lost)].drop_duplicates("Metadata_Compound",
                                                                            keep="last")
    rows = rows.drop(columns=[column for column in DECIDED if column in rows])
    table = pd.concat([compounds, rows], ignore_index=True).fillna("").astype("str")
    return table, rows["Metadata_Compound"].tolist()


def write_annotations(path: Path, table: pd.DataFrame) -> None:
    """Write annotations.csv, the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, table)


def _persons_decisions(table: pd.DataFrame | None) -> dict[str, tuple[str, str, str]]:
    """Compound -> gpcr, action and curator, where a person decided.

    A decision without evidence and without a curator was not made by moascope: somebody wrote it
    into the table, so it counts as a person's.
    """
    if table is None or "gpcr" not in table:
        return {}

    def column(name: str) -> pd.Series:
        return table[name] if name in table else pd.Series("", index=table.index)

    found = {}
    for name, gpcr, action, evidence, curator in zip(
            table["Metadata_Compound"], table["gpcr"].str.lower(),
            column("gpcr_action").str.lower(), column("evidence"), column("curator"),
            strict=True):
        if curator or (not evidence and gpcr in ("yes", "no")):
            found[name] = (gpcr or "unknown", action, curator or UNNAMED)
    wrong = [(name, gpcr) for name, (gpcr, _, _) in found.items()
             if gpcr not in ("yes", "no", "unknown")]
    if wrong:
        raise MoascopeError("{}: gpcr is '{}'. Write yes, no or unknown.".format(*wrong[0]))
    return found


def table_version() -> int:
    """Version of the term table in use."""
    return load_terms().version


def _join_terms(terms: pd.Series) -> str:
    return "|".join(split_terms("|".join(terms)))


def _join_targets(symbols: pd.Series) -> str:
    return "|".join(dict.fromkeys(part.strip() for text in symbols for part in text.split("|")
                                  if part.strip()))


_JOINED = {"Metadata_MoA": _join_terms, "Metadata_Target": _join_targets}


def _first_word(values: pd.Series) -> str:
    return next((value for value in values if value), "")


def _recognise(path: Path, columns: pd.Index) -> tuple[dict[str, str], list[str]]:
    """What the file calls each column that we know, and sentences about what was chosen."""
    found, notes = recognise(list(columns), "compounds")
    return ({name: columns[at] for name, at in found.items()},
            [f"{path.name}: {note}." for note in notes])


def _read_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """A CSV or TSV file, or the one in a zip archive, as text, and a sentence about each guess."""
    findings = Findings()
    try:
        inside = is_archive(path) and not is_workbook(path)
        content = (only_member(path, (".csv", ".tsv", ".txt"), MOST_TABLE) if inside
                   else read_file(path, MOST_TABLE))
    except FileNotFoundError:
        raise MoascopeError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    table = parse_table(str(path), content, findings, may_be_empty=True)
    if table is None:
        raise MoascopeError(findings.problems)
    return table.rows, findings.warnings
