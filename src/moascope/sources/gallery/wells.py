"""Which plates, wells and compounds the gallery has: from JUMP's tables, or from plate maps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moascope.addresses.folders import list_folder
from moascope.addresses.names import shown
from moascope.errors import MoascopeError
from moascope.importing.controls import control_word
from moascope.importing.maps import read_plate_map
from moascope.params import Gallery
from moascope.screen.columns import plain
from moascope.screen.compounds import name_key
from moascope.screen.wells import canonical_well
from moascope.sources.gallery.tables import kept, read_text
from moascope.text import counted, listing

JUMP = "cpg0016-jump"
JUMP_TABLES = "https://raw.githubusercontent.com/jump-cellpainting/datasets/HEAD/metadata/"
# metadata/perturbation_control.csv of jump-cellpainting/datasets.
_CONTROLS = {
    "JCP2022_033924": ("negative", "DMSO"), "JCP2022_037716": ("positive", "AMG900"),
    "JCP2022_025848": ("positive", "dexamethasone"), "JCP2022_046054": ("positive", "FK-866"),
    "JCP2022_035095": ("positive", "LY2109761"), "JCP2022_064022": ("positive", "NVS-PAK1-1"),
    "JCP2022_050797": ("positive", "quinidine"), "JCP2022_012818": ("positive", "TC-S-7004"),
    "JCP2022_085227": ("positive", "aloxistatin"), "JCP2022_800001": ("negative", "no-guide"),
    "JCP2022_800002": ("negative", "non-targeting"), "JCP2022_805264": ("positive", "PLK1"),
    "JCP2022_915128": ("negative", "BFP"), "JCP2022_915129": ("negative", "HcRed"),
    "JCP2022_915130": ("negative", "LUCIFERASE"), "JCP2022_915131": ("negative", "LacZ"),
    "JCP2022_915132": ("positive", "eGFP"),
}
_EMPTY = ("JCP2022_999999", "JCP2022_UNKNOWN", "")
_GENES = ("JCP2022_8", "JCP2022_9")
_OF_COMPOUND = {"Metadata_InChIKey": ("inchikey",), "Metadata_SMILES": ("smiles",),
                "Metadata_MoA": ("moa",), "Metadata_Name": ("pertiname",)}
_ABOUT = ["Metadata_InChIKey", "Metadata_SMILES", "Metadata_MoA", "Metadata_Name"]
_NAMED_BY = ("broadsample", "pertiname", "broadid", "compound", "jcp2022")
_BROAD_ID = 13  # letters of BRD-K12345678, without salt and batch


@dataclass(frozen=True)
class Wells:
    """Plates, their wells and the compounds in them.

    Attributes
    ----------
    plates : DataFrame of str
        `Source`, `Batch`, `Plate`, sorted.
    wells : DataFrame of str
        `Plate`, `Well`, `Compound`, `Dose` (micromolar, or empty), `Control`.
    compounds : dict
        What is known of a compound: `Metadata_InChIKey`, `Metadata_SMILES`, `Metadata_MoA`,
        `Metadata_Name`.
    tables : tuple of Path
        The tables that were read.
    notes : tuple of str
        A sentence about each choice.
    """

    plates: pd.DataFrame
    wells: pd.DataFrame
    compounds: Mapping[str, Mapping[str, str]]
    tables: tuple[Path, ...]
    notes: tuple[str, ...]


def wells_of(params: Gallery, downloads: Path) -> Wells:
    """The chosen plates and all of their wells.

    Raises
    ------
    MoascopeError
        Where a table is missing, or has none of what is chosen.
    """
    if params.dataset == JUMP or params.plate_table or params.well_table:
        return _of_jump(params, downloads)
    return _of_plate_maps(params, downloads)


# JUMP's tables


def _of_jump(params: Gallery, downloads: Path) -> Wells:
    paths = [kept(getattr(params, key) or f"{JUMP_TABLES}{key.removesuffix('_table')}.csv.gz",
                  downloads, f"gallery.{key}")
             for key in ("plate_table", "well_table", "compound_table")]
    plates = read_text(paths[0], ["Metadata_Source", "Metadata_Batch", "Metadata_Plate"],
                       "gallery.plate_table").rename(columns=lambda name: name.removeprefix(
                           "Metadata_"))[["Source", "Batch", "Plate"]]
    plates = _chosen_plates(plates, params, "gallery.plate_table")
    wells = read_text(paths[1], ["Metadata_Source", "Metadata_Plate", "Metadata_Well",
                                 "Metadata_JCP2022"], "gallery.well_table")
    ours = pd.MultiIndex.from_frame(plates[["Source", "Plate"]])
    wells = wells[pd.MultiIndex.from_frame(wells[["Metadata_Source", "Metadata_Plate"]]).isin(ours)]
    code = wells["Metadata_JCP2022"]
    table = pd.DataFrame({
        "Plate": wells["Metadata_Plate"], "Well": _canonical(wells["Metadata_Well"]),
        "Compound": code.map(lambda one: _CONTROLS.get(one, ("", one))[1]).where(
            ~code.isin(_EMPTY), ""),
        "Dose": "", "Control": code.map(lambda one: _CONTROLS.get(one, ("", ""))[0])})
    about = read_text(paths[2], ["Metadata_JCP2022", "Metadata_InChIKey"],
                      "gallery.compound_table").drop_duplicates("Metadata_JCP2022")
    about = about[about["Metadata_JCP2022"].isin(code)]
    columns = [column for column in _ABOUT if column in about]
    compounds = {
        _CONTROLS.get(row["Metadata_JCP2022"], ("", row["Metadata_JCP2022"]))[1]:
        {column: row[column] for column in columns} for row in about.to_dict("records")}
    notes = [f"JUMP's identifiers name compounds, and {_CONTROLS['JCP2022_033924'][1]} "
             "(JCP2022_033924) is the negative control; JUMP's tables have no concentrations."]
    genes = int((code.str.startswith(_GENES) & ~code.isin(_EMPTY)).sum())
    if genes:
        notes.append(f"{counted(genes, 'well')} of genes (ORF or CRISPR) count as compounds "
                     "without a structure.")
    return Wells(plates, table.reset_index(drop=True), compounds, tuple(paths), tuple(notes))


# Plate maps


def _of_plate_maps(params: Gallery, downloads: Path) -> Wells:
    source, notes = _only_source(params)
    home = f"{params.bucket.rstrip('/')}/{params.dataset}/{source}/workspace/metadata"
    batches = sorted(name for name, version in list_folder(f"{home}/platemaps").items()
                     if version is None)
    if not batches:
        raise MoascopeError(f"{shown(home)}/platemaps has no batch. Check gallery.dataset and "
                            "gallery.source, or name tables like JUMP's in gallery.plate_table, "
                            "gallery.well_table and gallery.compound_table.")
    _refuse_unknown("gallery.batch", [params.batch] if params.batch else [], batches,
                    shown(f"{home}/platemaps"))
    tables, rows, entries = [], [], []
    for batch in [params.batch] if params.batch else batches:
        folder = f"{home}/platemaps/{batch}"
        path = kept(f"{folder}/barcode_platemap.csv", downloads, "The plates of a batch")
        barcodes = read_text(path, ["Assay_Plate_Barcode", "Plate_Map_Name"],
                             "the plates of a batch")
        tables.append(path)
        rows += [(source, batch, plate, f"{folder}/platemap/{name.removesuffix('.txt')}.txt")
                 for plate, name in zip(barcodes["Assay_Plate_Barcode"],
                                        barcodes["Plate_Map_Name"], strict=True) if plate]
    plates = _chosen_plates(pd.DataFrame(rows, columns=["Source", "Batch", "Plate", "Map"],
                                         dtype="str"), params, "barcode_platemap.csv")
    about, of_compounds = _external(params, home, downloads)
    for address, of_map in plates.groupby("Map"):
        path = kept(str(address), downloads, "A plate map")
        tables.append(path)
        wells, said = read_plate_map(path)
        notes += said
        entries += [(plate, well) for plate in of_map["Plate"] for well in wells]
    table = pd.DataFrame([{
        "Plate": plate, "Well": well["Metadata_Well"],
        "Compound": (compound := well.get("Metadata_Compound", "")),
        "Dose": well.get("Metadata_Concentration_uM", ""),
        "Control": well.get("Metadata_Control", "") or _known(about, compound).get("Control", "")}
        for plate, well in entries], dtype="str")
    compounds = {compound: {column: known[column] for column in _ABOUT if known.get(column)}
                 for compound in table["Compound"].unique() if (known := _known(about, compound))}
    return Wells(plates[["Source", "Batch", "Plate"]], table, compounds,
                 (*tables, *of_compounds), tuple(dict.fromkeys(notes)))


def _only_source(params: Gallery) -> tuple[str, list[str]]:
    if params.source:
        return params.source, []
    home = f"{params.bucket.rstrip('/')}/{params.dataset}"
    sources = sorted(name for name, version in list_folder(home).items() if version is None)
    if len(sources) != 1:
        raise MoascopeError(
            f"{shown(home)} has the sources {listing(sources, 20)}. Choose one by gallery.source."
            if sources else f"{shown(home)} is empty. Check gallery.dataset and gallery.bucket.")
    return sources[0], [f"{sources[0]} is the only source of {params.dataset}, and is read."]


def _external(params: Gallery, home: str,
              downloads: Path) -> tuple[dict[str, dict[str, str]], list[Path]]:
    """What tables of compounds say, by every name of a compound that they have."""
    folder = f"{home}/external_metadata"
    named = [params.compound_table] if params.compound_table else [
        f"{folder}/{name}" for name, version in sorted(list_folder(folder).items())
        if version is not None and name.removesuffix(".gz").endswith((".tsv", ".csv", ".txt"))]
    about: dict[str, dict[str, str]] = {}
    paths = []
    for one in named:
        path = kept(one, downloads, "gallery.compound_table")
        table = read_text(path, (), "gallery.compound_table")
        columns = {plain(column): column for column in table.columns}
        keys = [columns[key] for key in _NAMED_BY if key in columns]
        known = {ours: columns[theirs] for ours, spelt in _OF_COMPOUND.items()
                 for theirs in spelt if theirs in columns}
        controls = [columns[key] for key in ("controltype", "perttype") if key in columns]
        if not keys or not known:
            continue
        paths.append(path)
        for row in table.to_dict("records"):
            entry = {ours: row[theirs] for ours, theirs in known.items() if row[theirs]}
            word = next((row[column] for column in controls if row[column]), "")
            if control := control_word(word, row[keys[0]]) if word else "":
                entry["Control"] = control
            for key in keys:
                if row[key]:
                    merged = about.setdefault(name_key(row[key]), {})
                    for ours, text in entry.items():
                        merged.setdefault(ours, text)
                    if row[key].startswith("BRD-"):
                        about.setdefault(name_key(row[key][:_BROAD_ID]), merged)
    return about, paths


def _known(about: Mapping[str, Mapping[str, str]], compound: str) -> Mapping[str, str]:
    """What tables say of a compound, or of its structure where they do not have its sample."""
    return about.get(name_key(compound)) or about.get(name_key(compound[:_BROAD_ID])) or {}


# Both


def _chosen_plates(plates: pd.DataFrame, params: Gallery, table: str) -> pd.DataFrame:
    """The plates of the source and batch, or of them those that are named.

    Raises
    ------
    MoascopeError
        Where the table does not have what is named; with the most similar names.
    """
    for key, column, named in (("source", "Source", params.source),
                               ("batch", "Batch", params.batch)):
        _refuse_unknown(f"gallery.{key}", [named] if named else [], plates[column].unique(), table)
        plates = plates[plates[column] == named] if named else plates
    if not len(plates):
        raise MoascopeError(f"Batch {params.batch} is not one of {params.source}'s. Leave "
                            "gallery.source empty, or correct it.")
    _refuse_unknown("gallery.plates", params.plates, plates["Plate"].unique(), table)
    plates = plates[plates["Plate"].isin(params.plates)] if params.plates else plates
    twice = plates.loc[plates.duplicated("Plate"), "Plate"].unique()
    if len(twice):
        raise MoascopeError(f"{counted(len(twice), 'plate')} of {table} in several batches or "
                            f"sources: {listing(twice)}. Choose by gallery.source and "
                            "gallery.batch.")
    return plates.sort_values(["Source", "Batch", "Plate"], ignore_index=True)


def _refuse_unknown(setting: str, named: Iterable[str], there: Sequence[str], table: str) -> None:
    known = {str(one) for one in there}
    for name in named:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 3, 0.5) or sorted(known)
            raise MoascopeError(f"{setting} names {name}, which {table} does not have. Near it are "
                                f"{listing(near, 3)}.")


def _canonical(wells: pd.Series) -> pd.Series:
    known = {well: canonical_well(well) for well in wells.unique()}
    return wells.map(known).astype("str")
