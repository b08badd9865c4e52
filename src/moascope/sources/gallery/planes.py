"""The planes of the gallery's plates: their LoadData tables, and what the bucket says of sizes."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from moascope.addresses.folders import list_folder
from moascope.addresses.names import is_address, shown
from moascope.addresses.stores import Version
from moascope.errors import MoascopeError
from moascope.importing.found import NOT_AN_IMAGE
from moascope.importing.loaddata import find_loaddata
from moascope.importing.sites import place_sites
from moascope.importing.tree import Tree
from moascope.params import Gallery
from moascope.screen.reading import read_rows
from moascope.sources.gallery.tables import kept
from moascope.text import counted, listing

# Tables of the same images; those with illumination list the same planes and some .npy more.
_TABLES = ("load_data.parquet", "load_data.csv", "load_data.csv.gz",
           "load_data_with_illum.parquet", "load_data_with_illum.csv",
           "load_data_with_illum.csv.gz")
_CONNECTIONS = 8


class Planes(NamedTuple):
    """The sites of a plate.

    Attributes
    ----------
    sites : DataFrame
        As load_data.csv; file names are addresses.
    notes : tuple of str
        A sentence about each choice.
    """

    sites: pd.DataFrame
    notes: tuple[str, ...]


class NoTable(MoascopeError):
    """A plate whose folder has no LoadData table."""


def planes_of(params: Gallery, source: str, batch: str, plate: str, downloads: Path) -> Planes:
    """Read the LoadData table of a plate.

    Parameters
    ----------
    params : Gallery
    source, batch, plate : str
    downloads : Path
        Where tables are kept.

    Raises
    ------
    NoTable
        Where the bucket has none for the plate.
    MoascopeError
        Where it cannot be read, or names images outside the bucket.
    """
    home = f"{params.bucket.rstrip('/')}/{params.dataset}/{source}"
    folder = f"{home}/workspace/load_data_csv/{batch}/{plate}"
    there = list_folder(folder)
    table = next((name for name in _TABLES if there.get(name) is not None), None)
    if table is None:
        raise NoTable(f"{shown(folder)} has none of the tables {listing(_TABLES, 2)}; it has "
                      f"{listing(sorted(there)) or 'nothing'}. Leave plate {plate} out of "
                      "gallery.plates, or correct gallery.source and gallery.batch.")
    path = kept(f"{folder}/{table}", downloads, f"The LoadData table of plate {plate}")
    tree = Tree(path.parent, (path.name,))
    images = f"{home}/images/{batch}/images/"
    moved = _moved(path, batch, images)
    found = find_loaddata(tree, [path.name], moved)
    notes = [f"names of images that begin with {listing(moved, 1)} are read as {images}"
             ] if moved else []
    if not found.planes:
        raise MoascopeError(f"{shown(folder)}/{table} names no image that can be read: "
                            + listing((f"{file} ({why})" for file, why in found.unplaced), 1)
                            + ". Import it by `moascope import --replace`.")
    lost = [(file, why) for file, why in found.unplaced if why != NOT_AN_IMAGE
            and ".npy" not in file]
    if lost:
        notes.append(f"the table of plate {plate} has {counted(len(lost), 'name')} not read: "
                     f"{lost[0][0]} ({lost[0][1]}).")
    placed = place_sites(tree, found, _renamed(set(found.channels.values()), params, plate))
    sites = placed.table.assign(Metadata_Plate=plate)
    if len(placed.table["Metadata_Plate"].unique()) > 1:
        raise MoascopeError(f"{shown(folder)}/{table} is about "
                            f"{listing(placed.table['Metadata_Plate'].unique())}, and not about "
                            f"plate {plate} alone.")
    outside = [name for channel in placed.channels for name in sites[f"FileName_{channel}"]
               if name and not name.startswith(f"{params.bucket.rstrip('/')}/")]
    if outside:
        raise MoascopeError(f"{shown(folder)}/{table} names {shown(outside[0])}, which is not in "
                            "gallery.bucket. Import the table by `moascope import`, if you trust "
                            "it.")
    if params.sites:
        sites = sites[sites["Metadata_Site"].isin(params.sites)]
        if not len(sites):
            raise MoascopeError(f"Plate {plate} has none of the sites {listing(params.sites)}; it "
                                f"has {listing(sorted(placed.table['Metadata_Site'].unique()), 9)}."
                                " Correct gallery.sites.")
    return Planes(sites.reset_index(drop=True), (*notes, *placed.notes))


def sizes_of(addresses: list[str]) -> dict[str, Version]:
    """What the bucket says of files, by listing their folders; those it lacks are left out.

    A request lists a thousand files, where one for each would take hours for a plate.
    """
    folders = sorted({address.rpartition("/")[0] for address in addresses})
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        listed = dict(zip(folders, pool.map(list_folder, folders), strict=True))
    found = {}
    for address in addresses:
        folder, _, name = address.rpartition("/")
        if (version := listed[folder].get(name)) is not None:
            found[address] = version
    return found


def _renamed(there: set[str], params: Gallery, plate: str) -> dict[str, str]:
    """An empty new name for every channel that is not chosen."""
    ours = {name: name for name in there}
    unknown = [name for name in params.channels if name not in ours]
    if unknown:
        raise MoascopeError(f"gallery.channels names {unknown[0]}, which plate {plate} does not "
                            f"have. Its channels are {listing(sorted(ours), 12)}.")
    return {name: "" for name in there if params.channels and name not in params.channels}


def _moved(path: Path, batch: str, images: str) -> dict[str, str]:
    """Starts of paths of the machine that computed, and the folder that they are read as.

    The gallery keeps the images of a batch under images/<batch>/images, as that machine did.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        columns = [name for name in pq.read_schema(path).names if "PathName_" in name]
        texts = pq.read_table(path, columns=columns).to_pydict().values() if columns else ()
    else:
        rows, _ = read_rows(path)
        at = [index for index, name in enumerate(rows.cells[0]) if "PathName_" in name]
        texts = [[cells[index] for cells in rows.cells[1:] if index < len(cells)] for index in at]
    starts = {text for texts_of in texts for text in texts_of if text and not is_address(text)}
    found = {}
    for text in starts:
        start = re.match(rf".*/{re.escape(batch)}/images/", f"{text}/")
        if start:
            found[start[0]] = images
    return found
