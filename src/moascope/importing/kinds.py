"""The kinds of plates that moascope reads, and how one is recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from moascope.errors import MoascopeError
from moascope.importing.cellvoyager import DATA, find_cellvoyager
from moascope.importing.found import IMAGE, Found
from moascope.importing.harmony import INDEXES, find_harmony
from moascope.importing.imagexpress import find_imagexpress
from moascope.importing.incell import find_incell
from moascope.importing.loaddata import find_loaddata, loaddata_tables
from moascope.importing.names import (
    CELLVOYAGER,
    HARMONY,
    IMAGEXPRESS,
    INCELL,
    find_regex,
    without_projection,
)
from moascope.importing.ome import find_ometiff, find_omezarr, has_plate
from moascope.importing.tree import LINK_OUT, Tree
from moascope.text import counted, listing

KINDS: Mapping[str, tuple[str, Callable[[Tree], Found]]] = {
    "loaddata": ("CellProfiler LoadData", find_loaddata),
    "omezarr": ("OME-Zarr", find_omezarr),
    "cellvoyager": ("Yokogawa CellVoyager", find_cellvoyager),
    "incell": ("IN Cell Analyzer", find_incell),
    "harmony": ("Opera Phenix / Harmony", find_harmony),
    "imagexpress": ("ImageXpress / MetaXpress", find_imagexpress),
    "ometiff": ("OME-TIFF", find_ometiff),
}
"""Name and reader of each kind, in the order in which `recognise` looks for them."""

_PATTERNS = {"imagexpress": IMAGEXPRESS, "harmony": HARMONY, "cellvoyager": CELLVOYAGER,
             "incell": INCELL}
_EXAMPLES = 20_000


def recognise(tree: Tree) -> tuple[str, str]:
    """Recognise the kind of plates in a tree.

    A table, an index or a plate description written by an instrument decides; without one, the
    pattern that most file names match.

    Returns
    -------
    tuple of str
        A key of `KINDS`, and what it was recognised from.

    Raises
    ------
    MoascopeError
        When no kind is recognised.
    """
    if tables := loaddata_tables(tree):
        return "loaddata", listing(tables, 3)
    if tree.arrays:
        return "omezarr", counted(len(tree.arrays), "Zarr group")
    marks = [("cellvoyager", (DATA,), "MeasurementData.mlf"),
             ("harmony", INDEXES, "Index.xml")]
    for kind, names, called in marks:
        if count := sum(len(tree.by_name.get(name, ())) for name in names):
            return kind, f"{count} {called}"
    for kind, ending in (("incell", ".xdce"), ("imagexpress", ".htd")):
        if files := [file for file in tree.files if file.lower().endswith(ending)]:
            return kind, f"{len(files)} {ending}"
    if has_plate(tree):
        return "ometiff", "OME-XML"
    files = [file for file in tree.files if IMAGE.search(file)]
    images = [file.rpartition("/")[2] for file in files]
    # A very large tree is judged by every nth file.
    some = images[::max(1, len(images) // _EXAMPLES)]
    matches = {kind: sum(_is_plain_match(kind, name) for name in some) for kind in _PATTERNS}
    best = max(matches, key=matches.__getitem__)
    if matches[best]:
        return best, "file names"
    if not images:
        if lead_out := links_out(tree):
            raise MoascopeError(f"{tree.root} holds {counted(lead_out, 'link')} that "
                                f"lead{'s' if lead_out == 1 else ''} out of it, and no image "
                                "otherwise. Add --follow-links to follow links.")
        if sentence := unread_formats(tree.files):
            raise MoascopeError(f"{tree.root} holds {sentence}")
        raise MoascopeError(f"{tree.root} holds no image that moascope reads (TIFF, PNG, JPEG, "
                            f"BMP or OME-Zarr) among {counted(len(tree.files), 'file')}.")
    raise MoascopeError(
        f"moascope does not recognise the kind of plates in {tree.root}: "
        f"{counted(len(files), 'image')}, such as {listing(files, 3)}. Say how to read the names: "
        "--kind regex --pattern '(?P<plate>[^/]+)/(?P<well>[A-Pa-p][0-9]{2})_s(?P<site>[0-9]+)_"
        "(?P<channel>[^_]+)\\.tif'.")


def find_planes(tree: Tree, kind: str, pattern: str | None) -> Found:
    """Place what is in a tree; `kind` is a key of `KINDS` or "regex" with a `pattern`."""
    if kind == "regex":
        if not pattern:
            raise MoascopeError("--kind regex needs --pattern, such as --pattern "
                                "'(?P<well>[A-P][0-9]{2})_s(?P<site>[0-9]+)_(?P<channel>.+)\\.tif'.")
        return find_regex(tree, pattern)
    return KINDS[kind][1](tree)


def unread_formats(files: Iterable[str]) -> str:
    """The rest of a sentence on files of instruments that moascope does not read; empty if none."""
    endings = Counter(ending for file in files
                      if (ending := file.rpartition(".")[2].lower()) in _FORMATS)
    if not endings:
        return ""
    said = listing(f"{counted(count, 'file')} of {_FORMATS[ending]} (.{ending})"
                   for ending, count in endings.most_common())
    return (f"{said}, which moascope does not read. Export TIFF or OME-TIFF from the instrument's "
            "software, or convert with Bio-Formats (bfconvert, bioformats2raw).")


_FORMATS = {"nd2": "Nikon NIS-Elements", "czi": "Zeiss ZEN", "zvi": "Zeiss AxioVision",
            "lsm": "Zeiss", "lif": "Leica LAS X", "lof": "Leica LAS X", "xlef": "Leica LAS X",
            "vsi": "Olympus", "oir": "Olympus", "oib": "Olympus", "oif": "Olympus",
            "flex": "Opera", "c01": "Cellomics", "dib": "Cellomics", "stk": "MetaMorph",
            "ims": "Imaris", "dv": "DeltaVision", "scn": "Leica", "ics": "ICS", "ids": "ICS",
            "mvd2": "Volocity"}


def links_out(tree: Tree) -> int:
    """How many links to outside the folder were not followed."""
    return sum(reason == LINK_OUT for _, reason in tree.left_out)


def other_kinds(files: Iterable[str], kind: str) -> dict[str, list[str]]:
    """Files whose names are those of another instrument, by its kind.

    Parameters
    ----------
    files : iterable of str
        Files that `kind` did not place.
    kind : str
        A key of `KINDS`, or "regex".
    """
    found: dict[str, list[str]] = {}
    for file in files:
        name = file.rpartition("/")[2]
        other = next((other for other in _PATTERNS
                      if IMAGE.search(name) and _is_plain_match(other, name)), None)
        if other is not None and other != kind:
            found.setdefault(other, []).append(file)
    return found


def _is_plain_match(kind: str, name: str) -> bool:
    match = _PATTERNS[kind].fullmatch(without_projection(name)[0])
    # Any name that ends in a letter and a number looks like a well imaged at one wavelength.
    return bool(match) and (kind != "imagexpress" or bool(match["site"] or match["channel"]))
