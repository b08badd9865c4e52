"""The source `bbbc021`: MCF-7 cells, 113 compounds in up to eight doses (Caie et al. 2010).

Fifty-five plates, each a zip archive. The prefix of a file name is not its plate, so every file is
looked up in the image table. Layout as read in that table; none of the addresses could be opened
when this was written.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import open_file
from moascope.params import Bbbc021
from moascope.sources.download import Wanted, fetch, fetch_all, place_of
from moascope.sources.http import Visit, below
from moascope.sources.plan import (
    MISSING,
    Collected,
    Origin,
    Plan,
    refuse_strange_names,
    without_missing,
)
from moascope.sources.unpacking import unpack
from moascope.text import cause, listing
from moascope.work.archives import check_archive

ORIGIN = Origin(
    title="Human MCF7 cells, compound-profiling experiment (BBBC021v1)",
    licence=("CC BY 4.0 as idr0035 at the Image Data Resource; the page of BBBC021 calls it the "
             "copyright of AstraZeneca"),
    citation=("We used image set BBBC021v1 [Caie et al., Molecular Cancer Therapeutics, 2010], "
              "available from the Broad Bioimage Benchmark Collection [Ljosa et al., Nature "
              "Methods, 2012]."),
    address="https://bbbc.broadinstitute.org/BBBC021",
)
IMAGE_TABLE = "BBBC021_v1_image.csv"
MOA_TABLE = "BBBC021_v1_moa.csv"
CHANNELS = {"DNA": "DAPI", "Tubulin": "Tubulin", "Actin": "Actin"}
"""Our name of each channel and the image table's."""

ARCHIVE_BYTES = 839_000_000     # of one plate; the others are assumed alike
UNPACKED_BYTES = 240 * 3 * 1280 * 1024 * 2  # of one plate: 60 wells of four sites
MOST_ARCHIVE_BYTES = 1 << 32
MOST_PLANE_BYTES = 1 << 25
CONTROL, NOTHING_KNOWN = "DMSO", "UNKNOWN"

_PLATE, _WELL = "Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI"
_COMPOUND, _DOSE = "Image_Metadata_Compound", "Image_Metadata_Concentration"
_SITE = re.compile(r"_s([0-9]+)_w1")


def plan(params: Bbbc021, downloads: Path, session: Visit) -> Plan:
    """Size of a selection; the two tables (4 MB) are downloaded for it."""
    sites, layout, _ = read_tables(params, downloads, session)
    plates = sites["Metadata_Plate"].nunique()
    due = plates - sum((downloads / "images" / plate).is_dir()
                       for plate in sites["Metadata_Plate"].unique())
    # Archives are unpacked one by one, and go as soon as they are.
    archives = due if params.keep_archives else min(due, 1)
    treated = layout.loc[layout["Metadata_Control"] == "", "Metadata_Compound"]
    notes = [f"each plate is an archive of about {ARCHIVE_BYTES / 1e9:.2f} GB, and takes about "
             "2 GB unpacked."]
    if due < plates:
        notes.append(f"{plates - due} of the plates are already downloaded.")
    if params.treatments == "annotated":
        notes.append("the layout has only DMSO and doses with a mechanism (bbbc021.treatments).")
    return Plan("bbbc021", ORIGIN, plates, len(layout), treated[treated != ""].nunique(),
                len(sites), due, due * ARCHIVE_BYTES, exact=False, notes=tuple(notes),
                room=due * UNPACKED_BYTES + archives * ARCHIVE_BYTES)


def collect(params: Bbbc021, downloads: Path, session: Visit, most_missing: float) -> Collected:
    """Download and unpack the archives of a selection, and make its tables.

    An unpacked archive is removed, unless bbbc021.keep_archives is set; a plate whose folder exists
    is not downloaded again.

    Raises
    ------
    MoascopeError
    """
    sites, layout, annotations = read_tables(params, downloads, session)
    every, _, _ = read_tables(params.model_copy(update={"treatments": "all"}), downloads, session)
    plates = [plate for plate in sites["Metadata_Plate"].unique()
              if not (downloads / "images" / plate).is_dir()]
    archives = {plate: downloads / "archives" / f"{_archive(plate)}" for plate in plates}
    for plate in plates:
        # One by one: a plate is unpacked as soon as it is there, and needs its room only once.
        lost = fetch_all(session, [
            Wanted(below(params.files, quote(_archive(plate))), archives[plate],
                   most_bytes=MOST_ARCHIVE_BYTES, check=check_archive)],
            f"bbbc021: {plate}", most_missing=1.0)
        if lost:
            raise MoascopeError(f"{next(iter(lost.values()))} Leave the plate out of "
                                "bbbc021.plates to go on without it.")
        of_plate = every[every["Metadata_Plate"] == plate]
        names = [Path(name).name for channel in CHANNELS
                 for name in of_plate[f"FileName_{channel}"]]
        unpack(archives[plate], {name: name for name in names}, downloads / "images" / plate,
               MOST_PLANE_BYTES)
        if not params.keep_archives:
            archives[plate].unlink()
    missing = _missing(sites, downloads)
    if len(missing) > most_missing * len(sites) * len(CHANNELS):
        raise MoascopeError(f"{len(missing):,} planes of {IMAGE_TABLE} are in no archive, "
                            f"more than the {most_missing:.1%} that acquire.max_missing allows: "
                            f"{listing(missing['FileName'], 3)}.")
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in table_paths(params, downloads).items()}
    return Collected(without_missing(sites, missing), layout, annotations, missing,
                     {"tables_sha256": sums,
                      "selection": {"treatments": params.treatments} | (
                          {"plates": sorted(params.plates)} if params.plates else {})})


def table_paths(params: Bbbc021, downloads: Path) -> dict[str, Path]:
    """Where the two tables are kept, by name."""
    return {name: place_of(below(params.files, name), downloads)
            for name in (IMAGE_TABLE, MOA_TABLE)}


def read_tables(params: Bbbc021, downloads: Path,
                session: Visit) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Make the three tables of a selection from the image table and the table of mechanisms.

    Returns
    -------
    sites, layout, annotations : DataFrame

    Raises
    ------
    MoascopeError

    Notes
    -----
    The table of mechanisms speaks of a compound in a dose: 103 doses of 38 compounds, those at
    which the compound visibly did what it is known for. No compound has two mechanisms in it, so
    that the mechanism becomes one of the compound. With `treatments: annotated` only those doses
    (and DMSO) are laid out, as in the literature on this set; with `all`, weaker and untold doses
    of these compounds bear the compound's mechanism too, and other compounds are unknown.
    """
    paths = table_paths(params, downloads)
    for name, path in paths.items():
        fetch(session, Wanted(below(params.files, name), path))
    images = read_columns(paths[IMAGE_TABLE], [_PLATE, _WELL, _COMPOUND, _DOSE] + [
        f"Image_FileName_{name}" for name in CHANNELS.values()])
    moa = read_columns(paths[MOA_TABLE], ["compound", "concentration", "moa"])
    unknown = sorted(set(params.plates) - set(images[_PLATE]))
    if unknown:
        raise MoascopeError(f"bbbc021.plates names {listing(unknown)}, which {IMAGE_TABLE} does "
                            f"not have. It has {listing(sorted(set(images[_PLATE])))}.")
    if params.plates:
        images = images[images[_PLATE].isin(params.plates)]
    images["dose"] = _numbers(images[_DOSE], IMAGE_TABLE, _DOSE)
    moa = moa[moa["compound"] != CONTROL]
    told = set(zip(moa["compound"], _numbers(moa["concentration"], MOA_TABLE, "concentration"),
                   strict=True))
    if params.treatments == "annotated":
        pairs = zip(images[_COMPOUND], images["dose"], strict=True)
        images = images[[pair in told or pair[0] == CONTROL for pair in pairs]]
    if not len(images):
        raise MoascopeError("The selection of bbbc021 is empty: these plates have no annotated "
                            "dose. Set bbbc021.treatments to all, or name other plates.")
    return _sites(images), _layout(images), _annotations(images, moa)


def _sites(images: pd.DataFrame) -> pd.DataFrame:
    first = images["Image_FileName_DAPI"]
    numbers = first.str.extract(_SITE)[0]
    if numbers.isna().any():
        raise MoascopeError(f"{IMAGE_TABLE}: '{first[numbers.isna()].iloc[0]}' does not "
                            "contain the site (_s1_w1). This is not the table that moascope knows.")
    refuse_strange_names(images[_PLATE].unique(), IMAGE_TABLE)
    sites = pd.DataFrame({
        "Metadata_Plate": images[_PLATE],
        "Metadata_Well": images[_WELL],
        "Metadata_Site": numbers.astype("int64"),
        "Metadata_Batch": images[_PLATE].str.split("_").str[0],
    })
    for channel, name in CHANNELS.items():
        files = images[f"Image_FileName_{name}"]
        refuse_strange_names(files, IMAGE_TABLE)
        sites[f"FileName_{channel}"] = "images/" + images[_PLATE] + "/" + files
    return sites.sort_values(MISSING[:3], ignore_index=True)


def _layout(images: pd.DataFrame) -> pd.DataFrame:
    wells = images.drop_duplicates([_PLATE, _WELL])
    control = wells[_COMPOUND] == CONTROL
    return pd.DataFrame({
        "Metadata_Plate": wells[_PLATE],
        "Metadata_Well": wells[_WELL],
        "Metadata_Compound": wells[_COMPOUND].where(wells[_COMPOUND] != NOTHING_KNOWN, ""),
        "Metadata_Concentration_uM": wells["dose"].where(~control),
        "Metadata_Control": control.map({True: "negative", False: ""}),
    }).sort_values(MISSING[:2], ignore_index=True)


def _annotations(images: pd.DataFrame, moa: pd.DataFrame) -> pd.DataFrame:
    several = moa.groupby("compound")["moa"].nunique()
    if (several > 1).any():
        raise MoascopeError(f"{MOA_TABLE} gives {listing(several[several > 1].index)} more than "
                            "one mechanism. This is not the table that moascope knows.")
    mechanism = moa.drop_duplicates("compound").set_index("compound")["moa"]
    compounds = sorted(set(images[_COMPOUND]) - {CONTROL, NOTHING_KNOWN})
    return pd.DataFrame({"Metadata_Compound": pd.Series(compounds, dtype="str"),
                         "Metadata_MoA": pd.Series([mechanism.get(name, "") for name in compounds],
                                                   dtype="str")})


def _missing(sites: pd.DataFrame, downloads: Path) -> pd.DataFrame:
    rows = []
    for channel in CHANNELS:
        for row in sites.to_dict("records"):
            name = row[f"FileName_{channel}"]
            if not (downloads / name).is_file():
                rows.append([*(row[key] for key in MISSING[:3]), name,
                             "it is not in the archive of its plate"])
    return pd.DataFrame(rows, columns=MISSING)


def _archive(plate: str) -> str:
    return f"BBBC021_v1_images_{plate}.zip"


def read_columns(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read the named columns of one of the two tables as text.

    Raises
    ------
    MoascopeError
        Where the file is not a table, or lacks a column.
    """
    try:
        with open_file(path) as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise MoascopeError(f"{path} is not a CSV table ({cause(error)}). Remove it "
                            "and run the command again.") from None
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise MoascopeError(f"{path} has no column {listing(repr(name) for name in lacking)}. "
                            "Remove it and run the command again; if that does not help, the table "
                            "has changed at its source.")
    return table[columns]


def _numbers(text: pd.Series, table: str, column: str) -> pd.Series:
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.isna().any():
        raise MoascopeError(f"{table}: {column} is '{text[numbers.isna()].iloc[0]}', which is not "
                            "a concentration. This is not the table that moascope knows.")
    # 0.3 and 0.300000 are one dose.
    return numbers.round(9)
