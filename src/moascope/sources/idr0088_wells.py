"""The annotation table of idr0088, one row per well, and the tables of a selection of it."""

from __future__ import annotations

import difflib
import gzip
import io
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import open_file, read_up_to
from moascope.params import Idr0088
from moascope.screen.wells import canonical_well
from moascope.sources.download import Wanted, fetch, place_of
from moascope.sources.http import Visit
from moascope.sources.plan import refuse_strange_names
from moascope.text import cause, listing
from moascope.work.archives import only_member

CHANNELS = ("Nucleus", "Green", "Red")
MOST_TABLE_BYTES = 1 << 30
COLUMNS = {
    "Plate": "Plate", "Well": "Well", "Comment [Cell Line with Markers]": "Panel",
    "Compound Concentration (microMolar)": "Concentration", "Compound Set": "Set",
    "Compound MoA": "MoA", "Compound Name": "Compound", "Compound SMILES": "SMILES",
    "Compound InChIKey": "InChIKey", "Control Type": "Control", "Channels": "Channels",
    "Plate Location": "Location",
}


def annotation_file(params: Idr0088, downloads: Path, session: Visit) -> Path:
    """The annotation table on disk, downloaded if it is named by an address."""
    if "://" not in params.annotation:
        return Path(params.annotation)
    path = place_of(params.annotation, downloads)
    fetch(session, Wanted(params.annotation, path, most_bytes=1 << 28))
    return path


def read_annotation(path: Path) -> pd.DataFrame:
    """Read the annotation table: CSV, or a zip or gzip of it.

    Returns
    -------
    DataFrame of str
        One row per well, sorted by plate and well: `Plate`, `Well` (B02), `Panel` (such as
        A549 ACTB-RAB5A), `Batch`, `Location`, `Compound`, `Concentration`, `Control`, `Set`,
        `MoA`, `InChIKey`, `SMILES`, `Channels`.

    Raises
    ------
    MoascopeError
    """
    where = "Check idr0088.annotation in params.yaml."
    try:
        table = pd.read_csv(io.BytesIO(_table_bytes(path)), dtype=str, keep_default_na=False,
                            usecols=lambda column: column in COLUMNS)
    except FileNotFoundError:
        raise MoascopeError(f"There is no annotation table {path}. {where}") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise MoascopeError(f"{path} cannot be read as the annotation table of idr0088 "
                            f"({cause(error)}). {where}") from None
    lacking = [column for column in COLUMNS if column not in table]
    if lacking or not len(table):
        what = f"has no column {listing(repr(c) for c in lacking)}" if lacking else "has no rows"
        raise MoascopeError(f"{path} is not the annotation table of idr0088: it {what}. {where}")
    table = table.rename(columns=COLUMNS)
    refuse_strange_names(table["Plate"].unique(), str(path))
    canonical = {well: canonical_well(well) for well in table["Well"].unique()}
    table["Well"] = table["Well"].map(canonical).astype("str")
    table["Panel"] = table["Panel"].str.replace("-", " ", n=1)
    table["Batch"] = table["Location"].str.split("/").str[0]
    # Stereochemistry that the SMILES could not express follows it in braces.
    table["SMILES"] = table["SMILES"].str.split(" {", n=1, regex=False).str[0]
    return table.sort_values(["Plate", "Well"], ignore_index=True)


def _table_bytes(path: Path) -> bytes:
    if path.suffix == ".zip":
        return only_member(path, (".csv",), MOST_TABLE_BYTES)
    with open_file(path) as stored, (
            gzip.open(stored) if path.suffix == ".gz" else stored) as file:
        content = read_up_to(file, MOST_TABLE_BYTES + 1)
    if len(content) > MOST_TABLE_BYTES:
        raise ValueError(f"it is larger than {MOST_TABLE_BYTES:,} bytes")
    return content


def select(table: pd.DataFrame, settings: Idr0088) -> pd.DataFrame:
    """The wells of a selection, and the negative controls of its plates.

    Raises
    ------
    MoascopeError
        When the selection names something that the table does not have, or is empty.
    """
    panels = [panel.replace("-", " ", 1) if " " not in panel else panel
              for panel in settings.panels]
    wells = [canonical_well(well) for well in settings.wells]
    problems = []
    for key, column, named in (("plates", "Plate", settings.plates), ("panels", "Panel", panels),
                               ("compounds", "Compound", settings.compounds),
                               ("wells", "Well", wells)):
        problems += _unknown(f"idr0088.{key}", named, table[column].unique())
    if problems:
        raise MoascopeError(problems)
    chosen = pd.Series(True, index=table.index)
    for column, named in (("Plate", settings.plates), ("Panel", panels)):
        if named:
            chosen &= table[column].isin(named)
    asked = chosen.copy()
    for column, named in (("Well", wells), ("Compound", settings.compounds)):
        if named:
            asked &= table[column].isin(named)
    plates = table.loc[asked, "Plate"].unique()
    chosen &= asked | ((table["Control"] != "") & table["Plate"].isin(plates))
    if not chosen.any():
        raise MoascopeError("The selection of idr0088 is empty: no well matches all of plates, "
                            "panels, compounds and wells. Widen them in params.yaml.")
    return table[chosen].reset_index(drop=True)


def layout_table(wells: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    """layout.csv of the wells that have a site."""
    wells = _with_sites(wells, sites)
    return pd.DataFrame({
        "Metadata_Plate": wells["Plate"],
        "Metadata_Well": wells["Well"],
        "Metadata_Compound": wells["Compound"],
        "Metadata_Concentration_uM": wells["Concentration"],
        "Metadata_Control": wells["Control"].map(
            {"Negative Control": "negative", "Positive Control": "positive"}).fillna(""),
    })


def annotation_table(wells: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    """annotations.csv of the compounds that have a site, without the negative control.

    Natural products have no mechanism in the table: theirs is empty, which means unknown.
    """
    wells = _with_sites(wells, sites)
    compounds = wells[(wells["Control"] == "") & (wells["Compound"] != "")].drop_duplicates(
        "Compound").sort_values("Compound")
    return pd.DataFrame({
        "Metadata_Compound": compounds["Compound"],
        "Metadata_MoA": compounds["MoA"],
        "Metadata_InChIKey": compounds["InChIKey"],
        "Metadata_SMILES": compounds["SMILES"],
        "Metadata_CompoundSet": compounds["Set"],
    }).reset_index(drop=True)


def channel_meaning(wells: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What each channel shows, by panel: Green and Red differ between panels."""
    meaning = {}
    for panel, said in wells.drop_duplicates("Panel")[["Panel", "Channels"]].to_numpy():
        parts = [part.partition(":")[2].strip() for part in said.split(", ")]
        meaning[panel] = dict(zip(CHANNELS, parts, strict=False))
    return meaning


def _with_sites(wells: pd.DataFrame, sites: pd.DataFrame) -> pd.DataFrame:
    known = pd.MultiIndex.from_frame(sites[["Metadata_Plate", "Metadata_Well"]])
    return wells[pd.MultiIndex.from_frame(wells[["Plate", "Well"]]).isin(known)].reset_index(
        drop=True)


def _unknown(key: str, named: Sequence[str], known: Iterable[str]) -> list[str]:
    known = list(known)
    lower = {name.casefold(): name for name in known}
    problems = []
    for name in named:
        if name in known:
            continue
        near = ([lower[name.casefold()]] if name.casefold() in lower
                else difflib.get_close_matches(name, known, n=2))
        hint = f" Did you mean {' or '.join(repr(one) for one in near)}?" if near else (
            f" It has {listing(repr(one) for one in sorted(known))}.")
        problems.append(f"{key} names '{name}', which the annotation table does not have.{hint}")
    return problems
