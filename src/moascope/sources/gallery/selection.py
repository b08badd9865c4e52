"""What is chosen of the gallery: how much it is, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from moascope.addresses.cache import LIMIT, cache_limit, known_sums
from moascope.addresses.names import shown
from moascope.addresses.stores import is_anonymous
from moascope.errors import MoascopeError
from moascope.params import Gallery
from moascope.screen.columns import WELL
from moascope.screen.compounds import name_key, structure
from moascope.screen.wells import canonical_well
from moascope.sources.gallery.mechanisms import SETTING, Known, read_mechanisms
from moascope.sources.gallery.planes import NoTable, planes_of, sizes_of
from moascope.sources.gallery.tables import sum_of
from moascope.sources.gallery.wells import Wells, wells_of
from moascope.sources.http import Visit
from moascope.sources.plan import Collected, Origin, Plan, refuse_strange_names
from moascope.text import counted, listing

ORIGIN = Origin(
    title="Cell Painting Gallery",
    licence="CC0 1.0",
    citation=("Weisbart E et al. (2024) Cell Painting Gallery: an open resource for image-based "
              "profiling. Nature Methods. https://doi.org/10.1038/s41592-024-02399-z"),
    address="https://registry.opendata.aws/cellpainting-gallery/",
)
PUBLICATIONS = {
    "cpg0000-jump-pilot": (
        "Chandrasekaran SN et al. (2024) Three million images and morphological profiles of cells "
        "treated with matched chemical and genetic perturbations. Nature Methods. "
        "https://doi.org/10.1038/s41592-024-02241-6"),
    "cpg0004-lincs": (
        "Way GP et al. (2022) Morphology and gene expression profiling provide complementary "
        "information for mapping cell state. Cell Systems. "
        "https://doi.org/10.1016/j.cels.2022.10.001"),
    "cpg0016-jump": (
        "Chandrasekaran SN et al. (2023) JUMP Cell Painting dataset: morphological impact of "
        "136,000 chemical and genetic perturbations. bioRxiv. "
        "https://doi.org/10.1101/2023.03.23.534023"),
}
SAMPLED = 3
"""Plates whose tables and folders are read for a plan; larger selections are estimated by them."""



class Selection(NamedTuple):
    """The wells that are chosen, and what is known of their compounds."""

    wells: Wells
    mechanisms: dict[str, Known]
    tables: tuple[Path, ...]
    notes: tuple[str, ...]


def plan(params: Gallery, downloads: Path, _session: Visit) -> Plan:
    """Size of a selection; tables are fetched for it, and no image.

    Raises
    ------
    MoascopeError
    """
    chosen = select(params, downloads)
    plates = chosen.wells.plates
    step = max(1, len(plates) // SAMPLED)
    sampled = plates.iloc[::step][:SAMPLED] if len(plates) > SAMPLED else plates
    sites, notes, without = _sites(params, sampled, chosen.wells.wells, downloads)
    names = [name for channel in _channels(sites) for name in sites[f"FileName_{channel}"] if name]
    there, known = sizes_of(names), known_sums()
    due = [version.bytes for name, version in there.items()
           if name not in known or known[name].tag != version.tag]
    share = len(plates) / len(sampled)
    planes, images = round(len(names) * share), round(len(sites) * share)
    total = round(sum(version.bytes for version in there.values()) * share)
    notes = [*chosen.notes, *notes]
    if share > 1:
        notes.append(f"estimated by {len(sampled)} of {counted(len(plates), 'plate')}.")
    notes += _on_reading(params, names, there, len(due), total)
    treated = chosen.wells.wells
    treated = treated.loc[treated["Control"] != "negative", "Compound"]
    return Plan("gallery", _origin(params), len(plates) - len(without), len(chosen.wells.wells),
                treated[treated != ""].nunique(), images, planes, round(sum(due) * share),
                exact=share == 1, notes=tuple(dict.fromkeys(notes)), room=0, paced=False)


def collect(params: Gallery, downloads: Path, _session: Visit, most_missing: float) -> Collected:
    """Make the tables of a selection; its images stay in the bucket.

    Parameters
    ----------
    params : Gallery
    downloads : Path
        Where tables are kept.
    most_missing : float
        Share of the plates that may lack a table of their images.

    Raises
    ------
    MoascopeError
    """
    chosen = select(params, downloads)
    plates = chosen.wells.plates
    sites, notes, without = _sites(params, plates, chosen.wells.wells, downloads)
    if without and len(without) > most_missing * len(plates):
        raise MoascopeError(without[0].problems)
    notes += [problem for lost in without for problem in lost.problems]
    if len(plates["Source"].unique()) > 1:
        sites["Metadata_Batch"] = sites["Metadata_Source"] + " " + sites["Metadata_Batch"]
    imaged = pd.MultiIndex.from_frame(sites[WELL].drop_duplicates())
    wells = chosen.wells.wells
    wells = wells[pd.MultiIndex.from_frame(wells[["Plate", "Well"]]).isin(imaged)]
    layout = pd.DataFrame({
        "Metadata_Plate": wells["Plate"], "Metadata_Well": wells["Well"],
        "Metadata_Compound": wells["Compound"], "Metadata_Concentration_uM": wells["Dose"],
        "Metadata_Control": wells["Control"].where(wells["Compound"] != "", "")}).sort_values(
            WELL, ignore_index=True)
    said = [*chosen.notes, *notes]
    about = {
        "images": ".", "allow_outside": True, "citation": _origin(params).citation,
        "assumed": list(dict.fromkeys(said)),
        "tables_sha256": {path.name: sum_of(path) for path in chosen.tables},
        "selection": {key: value for key, value in params.model_dump(mode="json").items() if value},
    }
    return Collected(sites, layout, _annotations(layout, chosen), about=about,
                     notes=tuple(dict.fromkeys(notes)))


def select(params: Gallery, downloads: Path) -> Selection:
    """The wells that are chosen, with the negative controls of their plates.

    Raises
    ------
    MoascopeError
        Where nothing is left, or a name is unknown.
    """
    known, tables, notes = read_mechanisms(params.mechanisms, downloads)
    wells = wells_of(params, downloads)
    refuse_strange_names(wells.plates["Plate"], "The table of plates")
    table = wells.wells
    kept = pd.Series(True, index=table.index)
    if params.compounds:
        kept &= table["Compound"].isin(_named(params.compounds, wells, known))
    if params.wells:
        kept &= table["Well"].isin([canonical_well(well) for well in params.wells])
    if not kept.any():
        raise MoascopeError(
            "The selection of the gallery is empty: its plates have none of these wells. Check "
            "gallery.compounds and gallery.wells.")
    plates = wells.plates[wells.plates["Plate"].isin(table.loc[kept, "Plate"])]
    table = table[(kept | (table["Control"] == "negative")) & table["Plate"].isin(plates["Plate"])]
    chosen = Wells(plates.reset_index(drop=True), table.reset_index(drop=True), wells.compounds,
                   wells.tables, wells.notes)
    said = [*wells.notes, *notes, _on_mechanisms(params, chosen, known)]
    if not (table["Control"] == "negative").any():
        said.append("no well is a negative control; features are then compared with all wells.")
    return Selection(chosen, known, (*wells.tables, *tables), tuple(dict.fromkeys(said)))


def _named(names: Iterable[str], wells: Wells, known: dict[str, Known]) -> set[str]:
    """The compounds that are meant by identifiers, names or InChIKeys."""
    by_name: dict[str, set[str]] = {}
    for compound in wells.wells["Compound"].unique():
        about = wells.compounds.get(compound, {})
        block = structure(about.get("Metadata_InChIKey", ""))
        for name in (compound, about.get("Metadata_Name", ""),
                     known[block].name if block in known else "", block):
            if name:
                by_name.setdefault(name_key(name), set()).add(compound)
    chosen: set[str] = set()
    for name in names:
        found = by_name.get(name_key(structure(name) or name))
        if not found:
            raise MoascopeError(f"gallery.compounds names {name}, which is not on the chosen "
                                "plates. Write an identifier as in the tables, such as "
                                f"{listing(sorted(set(wells.wells['Compound']) - {''}), 3)}, an "
                                "InChIKey, or a name of gallery.mechanisms.")
        chosen |= found
    return chosen


def _sites(params: Gallery, plates: pd.DataFrame, wells: pd.DataFrame,
           downloads: Path) -> tuple[pd.DataFrame, list[str], list[NoTable]]:
    """The sites of the chosen wells, sentences, and the plates without a table of images."""
    parts, notes, without = [], [], []
    for source, batch, plate in plates[["Source", "Batch", "Plate"]].itertuples(index=False):
        try:
            planes = planes_of(params, source, batch, plate, downloads)
        except NoTable as error:
            without.append(error)
            continue
        named = set(wells.loc[wells["Plate"] == plate, "Well"])
        sites = planes.sites[planes.sites["Metadata_Well"].isin(named)]
        parts.append(sites.assign(Metadata_Batch=batch, Metadata_Source=source))
        notes += planes.notes
    if not parts:
        raise MoascopeError(without[0].problems)
    sites = pd.concat(parts, ignore_index=True)
    if not len(sites):
        raise MoascopeError("The tables of images name none of the chosen wells. Check "
                            "gallery.wells and gallery.compounds.")
    channels = _channels(sites)
    columns = [column for channel in channels
               for column in (f"FileName_{channel}", f"Frame_{channel}") if column in sites]
    sites[columns] = sites[columns].fillna("")
    return sites, list(dict.fromkeys(notes)), without


def _annotations(layout: pd.DataFrame, chosen: Selection) -> pd.DataFrame:
    treated = layout.loc[layout["Metadata_Control"] != "negative", "Metadata_Compound"]
    rows = []
    for compound in sorted(set(treated) - {""}):
        about = chosen.wells.compounds.get(compound, {})
        found = chosen.mechanisms.get(structure(about.get("Metadata_InChIKey", "")))
        rows.append({
            "Metadata_Compound": compound,
            "Metadata_MoA": found.moa if found else (
                "" if chosen.mechanisms else about.get("Metadata_MoA", "")),
            "Metadata_InChIKey": about.get("Metadata_InChIKey", ""),
            "Metadata_SMILES": about.get("Metadata_SMILES", ""),
            "Metadata_Name": about.get("Metadata_Name", "") or (found.name if found else "")})
    return pd.DataFrame(rows, columns=["Metadata_Compound", "Metadata_MoA", "Metadata_InChIKey",
                                       "Metadata_SMILES", "Metadata_Name"], dtype="str")


def _on_mechanisms(params: Gallery, chosen: Wells, known: dict[str, Known]) -> str:
    compounds = set(chosen.wells.loc[chosen.wells["Control"] != "negative", "Compound"]) - {""}
    own = sum(bool(chosen.compounds.get(one, {}).get("Metadata_MoA")) for one in compounds)
    if not known:
        return (f"{own:,} of {counted(len(compounds), 'compound')} with a mechanism, from the "
                "dataset's own table." if own else
                f"no compound has a mechanism; name tables in {SETTING}.")
    keys = [structure(chosen.compounds.get(one, {}).get("Metadata_InChIKey", ""))
            for one in compounds]
    told = sum(bool(key in known and known[key].moa) for key in keys)
    return (f"{told:,} of {counted(len(compounds), 'compound')} with a mechanism, joined by the "
            "first block of the InChIKey.")


def _on_reading(params: Gallery, names: Sequence[str], there: dict[str, object], due: int,
                total: int) -> list[str]:
    notes = [f"{shown(params.bucket)} is read "
             + ("anonymously." if params.bucket.startswith("s3:") and is_anonymous()
                else "with the credentials of this machine, where it has any.")]
    lost = sorted(set(names) - set(there))
    if lost:
        notes.append(f"{counted(len(lost), 'plane')} of the tables not in the bucket, such as "
                     f"{shown(lost[0])}; validate leaves their sites out.")
    if there and due < len(there):
        notes.append(f"{len(there) - due:,} of {counted(len(there), 'plane')} were fetched before, "
                     "and are not fetched again.")
    if total > cache_limit():
        notes.append(f"the local copies hold {cache_limit() / 1e9:,.0f} GB of {total / 1e9:,.0f} "
                     "GB, so other parameters of prepare fetch planes again. Raise "
                     f"{LIMIT} where the disk has room.")
    return notes


def _origin(params: Gallery) -> Origin:
    publication = PUBLICATIONS.get(params.dataset)
    cited = publication or (f"the publication of {params.dataset}, which "
                            "github.com/broadinstitute/cellpainting-gallery names")
    return Origin(f"{ORIGIN.title}, {params.dataset}", ORIGIN.licence,
                  f"{cited}; and {ORIGIN.citation}", ORIGIN.address)


def _channels(sites: pd.DataFrame) -> list[str]:
    return [column.removeprefix("FileName_") for column in sites
            if column.startswith("FileName_")]
