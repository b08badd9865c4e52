"""Plates that a CellProfiler LoadData table describes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from moascope.addresses.names import is_address, unreadable
from moascope.errors import MoascopeError
from moascope.importing.controls import mark_vehicles
from moascope.importing.found import IMAGE, NOT_AN_IMAGE, Found, Plane, folder_names
from moascope.importing.maps import describe_wells, join_wells, places_wells
from moascope.importing.tree import Tree, locate
from moascope.opening import undamaged
from moascope.screen.columns import plain, recognise
from moascope.screen.reading import Rows, read_header, read_rows
from moascope.text import counted, listing

_FILE = re.compile(r"(?:Image_)?(FileName|URL)_(.+)", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+|file:", re.IGNORECASE)
_SITE = re.compile(r"[A-Za-z]*0*([0-9]{1,18})(?:\.0)?")
_PLANES = frozenset({"z", "zindex", "plane", "planeid", "zplane", "zslice", "zstep", "slice"})
_TIMES = frozenset({"t", "timepoint", "timepointid", "timeindex", "timestep"})
_SERIES = re.compile(r"(?:Image_)?Series_.+", re.IGNORECASE)
_PARQUET = (".parquet", ".pq")
_MOST_CELLS = 200_000_000
# Columns of a table that names images and measures nothing.
_OF_IMAGES = re.compile(r"(?:Image_)?(FileName|PathName|URL|Series|Frame|Metadata|Group)_.+|"
                        r"TableNumber|ImageNumber|", re.IGNORECASE)
_FRAME = re.compile(r"[0-9]{1,18}(\.0)?")


def loaddata_tables(tree: Tree) -> list[str]:
    """The tables in a tree that name images: load_data.csv, else any with FileName_ or URL_."""
    tables = [file for file in tree.files if file.lower().endswith((".csv", *_PARQUET))
              and any(map(_FILE.fullmatch, _header(tree.root / file)))]
    named = [file for file in tables
             if file.rpartition("/")[2].lower().rpartition(".")[0] == "load_data"]
    return named or tables


def is_loaddata(path: Path) -> bool:
    """Whether a file is a table that names images and holds no measurement."""
    header = _header(path) if path.is_file() else []
    return (any(map(_FILE.fullmatch, header))
            and all(map(_OF_IMAGES.fullmatch, header)))


def find_loaddata(tree: Tree, tables: Sequence[str] | None = None,
                  replace: Mapping[str, str] | None = None) -> Found:
    """Place images by CellProfiler's LoadData tables.

    A row is a site. FileName_<Channel> or Image_FileName_<Channel>, with PathName_<Channel>, name
    its images, or URL_<Channel> does (CellProfiler's listing of image sets); Metadata_ columns give
    its place. A leading "Orig" of channels is dropped, and file: URLs are read as paths. Paths are
    usually those of another machine, so a file is found by the longest matching end of its path.
    Columns such as Metadata_PlaneID and Metadata_TimepointID give the plane of a stack and the time
    point. Without a column for the site, the rows of a well are its sites in order.

    Parameters
    ----------
    tree : Tree
    tables : sequence of str, optional
        Which files of the tree, CSV or Parquet; by default as `loaddata_tables`.
    replace : mapping of str to str, optional
        Starts of paths, and what they are replaced by: a folder or an address.

    Notes
    -----
    Seen in BBBC021_v1_image.csv (Image_Metadata_Well_DAPI), in the load_data.csv of the JUMP pilot
    and of the IGVF pipelines (Metadata_Col, Metadata_Row), and in pe2loaddata (Metadata_FieldID).
    In the Cell Painting Gallery, PathName_ holds an address, s3://cellpainting-gallery/...
    (cpg0016), or the path of the machine that computed (cpg0000), which `replace` turns into one.

    Raises
    ------
    MoascopeError
        When a table has no column for the well, or contradicts itself about one.
    """
    found = Found()
    for file in loaddata_tables(tree) if tables is None else tables:
        found.read.add(file)
        rows, notes = _rows(tree.root / file)
        found.notes += notes
        _read_table(tree, file, rows, found, replace or {})
    return found


def names_paths(path: Path, replace: Mapping[str, str]) -> bool:
    """Whether a table names any image by a path, and not by an address."""
    rows, _ = _rows(path)
    header = [cell.strip() for cell in rows.cells[0]]
    named = [(at, _column(header, "PathName", match[2]) if match[1].casefold() != "url" else None)
             for at, match in enumerate(map(_FILE.fullmatch, header)) if match]
    return any(cells[at].strip() and not is_address(_replaced(
                   cells[folder].strip() if folder is not None else "", cells[at].strip(), replace))
               for cells in rows.cells[1:] for at, folder in named
               if at < len(cells) and (folder is None or folder < len(cells)))


def _rows(path: Path) -> tuple[Rows, list[str]]:
    if not path.name.lower().endswith(_PARQUET):
        return read_rows(path)
    import pyarrow.parquet as pq

    with undamaged(path, "Save it again as Parquet or CSV."), pq.ParquetFile(path) as file:
        said = file.metadata
        if said.num_rows * said.num_columns > _MOST_CELLS:
            raise MoascopeError(f"{path} has {said.num_rows:,} rows of {said.num_columns:,} "
                                "columns, more than moascope reads at once. Split it by plate.")
        table = file.read().to_pydict()
    columns = [["" if value is None else str(value) for value in values]
               for values in table.values()]
    cells = [list(table), *map(list, zip(*columns, strict=True))]
    return Rows(cells, list(range(1, len(cells) + 1)), ","), []


def _header(path: Path) -> list[str]:
    try:
        if not path.name.lower().endswith(_PARQUET):
            return read_header(path)
        import pyarrow.parquet as pq

        return pq.read_schema(path).names
    except (OSError, ValueError):
        return []


def _read_table(tree: Tree, file: str, rows: Rows, found: Found,
                replace: Mapping[str, str]) -> None:
    header = [cell.strip() for cell in rows.cells[0]]
    columns, several = recognise(header, "wells", per_channel=True)
    found.notes += [f"{file}: {note}." for note in several]
    if not places_wells(columns):
        raise MoascopeError(f"{file} has no column 'Metadata_Well', and no columns 'Metadata_Row' "
                            "and 'Metadata_Col'. Its columns are "
                            f"{listing(header, 12)}.")
    # FileName_ counts before URL_ where a channel has both.
    matches = sorted((match[1].casefold() == "url", index, match[2])
                     for index, match in enumerate(map(_FILE.fullmatch, header)) if match)
    channels: dict[str, int] = {}
    for _, index, channel in matches:
        channels.setdefault(channel, index)
    names = {channel: channel.removeprefix("Orig") for channel in channels}
    if len(set(names.values())) < len(names):
        names = {channel: channel for channel in channels}
    folder = file.rpartition("/")[0]
    ragged = [line for line, cells in zip(rows.lines, rows.cells, strict=True)
              if len(cells) != len(header)]
    if ragged:
        raise MoascopeError(f"{file}, line {ragged[0]}: {counted(len(ragged), 'line')} without "
                            "as many values as the header. Save the table as plain CSV.")
    images = [(channel, index, _column(header, "PathName", channel),
               _column(header, "Frame", channel)) for channel, index in channels.items()]
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise MoascopeError(f"{file} has the column '{column}' twice. Remove one."
                            for column in twice)
    z_of, t_of = _steps(header, rows, _PLANES), _steps(header, rows, _TIMES)
    found.notes += _unread_series(header, rows, file)
    counts: dict[tuple[str, str, int, int], int] = {}
    told: list[dict[str, str]] = []
    wells, problems, notes, _ = describe_wells(rows, columns, file)
    found.notes += notes
    for entry, line, cells, z, t in zip(wells, rows.lines[1:], rows.cells[1:], z_of, t_of,
                                        strict=True):
        here = f"{file}, line {line}"
        if line in problems or entry is None:
            found.unplaced.append((here, problems[line].partition(": ")[2]))
            continue
        written = entry.pop("Metadata_Plate", "")
        plate = written or f"/{folder}"
        if plate not in found.plates:
            found.plates[plate] = ((written.replace("/", "_"),) if written
                                   else folder_names(tree, folder))
        well = entry["Metadata_Well"]
        counts[plate, well, z, t] = counts.get((plate, well, z, t), 0) + 1
        site = counts[plate, well, z, t]
        if "Metadata_Site" in columns:
            digits = _SITE.fullmatch(cells[columns["Metadata_Site"]].strip())
            if not digits:
                found.unplaced.append((here, "its site is not a number"))
                continue
            site = int(digits[1])
        if len(entry) > 1:
            told.append({**entry, "Metadata_Plate": plate})
        for channel, index, path, frame in images:
            name = cells[index].strip()
            if not name:
                continue
            folder_told = cells[path].strip() if path is not None else ""
            image = _image(tree, folder, folder_told, name, replace)
            plane = cells[frame].strip() if frame is not None else "0"
            if image is None:
                found.unplaced.append((f"{here}: {name}", "named there, but not in the folder"))
            elif not IMAGE.search(image):
                found.unplaced.append((image, NOT_AN_IMAGE))
            elif not _FRAME.fullmatch(plane or "0"):
                found.unplaced.append((f"{here}: {name}",
                                       f"its frame is '{plane}', not a whole number"))
            else:
                found.channels[plate, channel] = names[channel]
                found.planes.append(Plane(plate, well, site, channel, z, t, image,
                                          int(float(plane or "0"))))
    told = join_wells(told, file)
    found.notes += mark_vehicles(told, file)
    found.wells += told
    if "Metadata_Site" not in columns:
        found.notes.append(f"{file} has no column for the site; the rows of each well are numbered "
                           "as its sites 1, 2, ... in order.")


def _steps(header: list[str], rows: Rows, names: frozenset[str]) -> list[int]:
    """The z plane or the time point of each row; 1 where no column of whole numbers has them."""
    for at, column in enumerate(header):
        if plain(column) in names:
            numbers = [_SITE.fullmatch(cells[at].strip()) for cells in rows.cells[1:]]
            if all(numbers):
                return [int(number[1]) for number in numbers if number]
    return [1] * (len(rows.cells) - 1)


def _unread_series(header: list[str], rows: Rows, file: str) -> list[str]:
    """A sentence on columns that choose one of several pictures in a file, where one is chosen."""
    columns = [column for at, column in enumerate(header) if _SERIES.fullmatch(column)
               and any(cells[at].strip() not in ("", "0", "0.0") for cells in rows.cells[1:])]
    return [f"{file}: {listing(map(repr, columns))} not read. Columns Frame_<Channel> choose a "
            "plane of a file that holds several."] if columns else []


def _image(tree: Tree, folder: str, folder_told: str, name: str,
           replace: Mapping[str, str]) -> str | None:
    """The listed file that a table means, or the address that it names."""
    path = _replaced(folder_told, name, replace)
    if not _URL.match(path):
        return locate(tree, folder, path, beyond=True)
    found = locate(tree, folder, unquote(_URL.sub("", path, count=1)), beyond=True)
    return path if found is None and is_address(path) and not unreadable(path) else found


def _replaced(folder_told: str, name: str, replace: Mapping[str, str]) -> str:
    """Folder and name as one path or address, its start replaced."""
    path = name
    if folder_told and not _URL.match(name):
        path = f"{folder_told.rstrip('/')}/{name}"
    start = max((old for old in replace if path.startswith(old)), key=len, default=None)
    return path if start is None else replace[start] + path[len(start):]


def _column(header: list[str], kind: str, channel: str) -> int | None:
    named = (f"{kind}_{channel}", f"Image_{kind}_{channel}")
    return next((header.index(name) for name in named if name in header), None)
