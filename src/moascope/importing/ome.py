"""Plates in the open formats: OME-TIFF with SPW metadata, and OME-Zarr."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from moascope.errors import MoascopeError
from moascope.importing.found import Found, Plane, folder_names
from moascope.importing.names import letters_to_row, well_at
from moascope.importing.tree import Tree, locate, parents
from moascope.importing.xml import local, read_elements
from moascope.screen.arrays import array_header, zarr_metadata
from moascope.screen.frames import tiff_description
from moascope.screen.limits import PlaneError
from moascope.screen.wells import well_name
from moascope.text import counted, is_number

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TIFFS = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf")
COMPANIONS = (".companion.ome", ".ome.xml")

_MAX_SITES = 1_000_000
_MAX_PLANES = 5_000_000
_MAX_SAMPLES = 4


def find_ometiff(tree: Tree) -> Found:
    """Place OME-TIFF planes by the plate that their OME-XML describes (SPW: Plate, Well,
    WellSample).

    Each file of a set carries the XML of the whole set, or names a companion file that does; it is
    read once per set.

    Notes
    -----
    https://ome-model.readthedocs.io/en/stable/ome-tiff/specification.html and
    .../developers/screen-plate-well.html
    """
    found = Found(short="C")
    done: set[str] = set()
    plain: list[str] = []
    for file in tree.files:
        if file.lower().endswith(COMPANIONS):
            found.read.add(file)
            _read_ome(tree, file, tree.root / file, found, done)
    for file in tree.files:
        if not file.lower().endswith(TIFFS) or file in done:
            continue
        description = _description(tree.root / file)
        if not description:
            found.unplaced.append((file, "it has no OME-XML"))
        elif not _read_ome(tree, file, io.BytesIO(description), found, done) and file not in done:
            plain.append(file)
    found.unplaced += [(file, "its OME-XML describes no plate with this file") for file in plain]
    return found


def has_plate(tree: Tree) -> bool:
    """Whether the first OME-XML of a tree describes a plate, or names a companion."""
    for file in tree.files:
        if file.lower().endswith(COMPANIONS):
            return True
        if file.lower().endswith(TIFFS):
            description = _description(tree.root / file)
            return b"<Plate" in description or b":Plate" in description or (
                b"BinaryOnly" in description)
    return False


def find_omezarr(tree: Tree) -> Found:
    """Place the planes of OME-Zarr plates, of version 0.4 (Zarr v2) and 0.5 (Zarr v3).

    Of each field of view the first resolution is taken. A file name is the folder of its array,
    and the frame numbers its planes over t, c and z.

    Notes
    -----
    https://ngff.openmicroscopy.org/0.4/#plate-md and https://ngff.openmicroscopy.org/0.5/#plate-md
    """
    found = Found(short="C")
    for folder in tree.arrays:
        path = tree.root / folder
        try:
            attributes = _ome(zarr_metadata(path, folder or tree.root.name))
        except PlaneError as error:
            found.unplaced.append((folder or ".", error.problems[0]))
            continue
        if not isinstance(attributes.get("plate"), dict):
            found.unplaced.append((folder or ".", "a Zarr array or group, not an OME-Zarr plate"))
            continue
        _read_zarr_plate(tree, folder, attributes["plate"], found)
    return found


# OME-TIFF


def _description(path: Path) -> bytes:
    text = tiff_description(path).strip()
    return text.encode(errors="replace") if text.startswith("<") and text.endswith("OME>") else b""


def _read_ome(tree: Tree, file: str, source: Path | io.BytesIO, found: Found,
              done: set[str]) -> bool:
    """Place what one OME-XML describes; False where it has no plate."""
    folder = file.rpartition("/")[0]
    fields: dict[str, list[tuple[str, str, int]]] = {}
    images: list[Element] = []
    plates: list[str] = []
    for element in read_elements(source, {"Plate", "Image", "BinaryOnly"}, file):
        kind = local(element.tag)
        if kind == "BinaryOnly":
            companion = element.get("MetadataFile", "")
            known = locate(tree, folder, companion, beyond=True) if companion else None
            done.add(file)
            if known is None:
                found.unplaced.append((file, f"its metadata are in {companion}, which is not in "
                                             "the folder"))
            # A companion is read by itself.
            elif not any(plane.file == file for plane in found.planes):
                found.unplaced.append((file, f"{companion} does not name it"))
            return True
        if kind == "Plate":
            plates.append(_read_wells(tree, file, element, fields, found))
        else:
            images.append(element)
    if not fields:
        return False
    for image in images:
        for plate, well, site in fields.get(image.get("ID", ""), ()):
            _place_image(tree, file, image, plate, well, site, found, done)
    return True


def _read_wells(tree: Tree, file: str, plate: Element,
                fields: dict[str, list[tuple[str, str, int]]], found: Found) -> str:
    folder = file.rpartition("/")[0]
    written = plate.get("Name") or plate.get("ExternalIdentifier") or ""
    key = f"{folder}\n{plate.get('ID', '')}\n{written}"
    name, path = folder_names(tree, folder)
    stem = file.rpartition("/")[2].split(".")[0]
    found.plates[key] = ((written,) if written else ()) + (name, path, f"{path}_{stem}")
    for well in (part for part in plate if local(part.tag) == "Well"):
        try:
            position = well_name(int(well.get("Row", "")), int(well.get("Column", "")))
        except ValueError:
            found.unplaced.append((file, f"its OME-XML has a well at row {well.get('Row')} and "
                                         f"column {well.get('Column')}, which no plate has"))
            continue
        samples = [part for part in well if local(part.tag) == "WellSample"]
        # The index of a sample counts over the whole plate; in its well, the order is what is left.
        samples.sort(key=_index)
        for site, sample in enumerate(samples, 1):
            for reference in sample:
                if local(reference.tag) == "ImageRef":
                    fields.setdefault(reference.get("ID", ""), []).append((key, position, site))
    return key


def _index(sample: Element) -> int:
    index = sample.get("Index", "")
    return int(index) if is_number(index) else 0


def _place_image(tree: Tree, file: str, image: Element, plate: str, well: str, site: int,
                 found: Found, done: set[str]) -> None:
    folder = file.rpartition("/")[0]
    pixels = next((part for part in image if local(part.tag) == "Pixels"), None)
    if pixels is None:
        return
    samples = 1
    names = []
    try:
        for channel in (part for part in pixels if local(part.tag) == "Channel"):
            samples = int(channel.get("SamplesPerPixel") or 1)
            names.append(channel.get("Name") or channel.get("Fluor") or "")
            if not 1 <= samples <= _MAX_SAMPLES:
                raise ValueError
        sizes = {axis: int(pixels.get(f"Size{axis}") or 1) for axis in "CZT"}
        order = [axis for axis in pixels.get("DimensionOrder", "XYZCT") if axis in sizes]
        blocks = [part for part in pixels if local(part.tag) == "TiffData"]
        sizes["C"] //= samples
        if math.prod(sizes.values()) > _MAX_SITES or sorted(order) != ["C", "T", "Z"]:
            raise ValueError
        for block in blocks:
            _place_block(tree, folder, file, block, sizes, order, samples, (plate, well, site),
                         found, done)
    except (ValueError, ZeroDivisionError):
        found.unplaced.append((file, f"its OME-XML has a value for {image.get('ID')} that is not "
                                     "a number"))
        return
    for index, name in enumerate(names):
        if name and samples == 1:
            found.channels.setdefault((plate, str(index + 1)), name)


def _place_block(tree: Tree, folder: str, file: str, block: Element, sizes: Mapping[str, int],
                 order: list[str], samples: int, place: tuple[str, str, int], found: Found,
                 done: set[str]) -> None:
    """The planes of one TiffData: from a page on, so many planes from a place in C, Z and T on."""
    uuid = next((part for part in block if local(part.tag) == "UUID"), None)
    name = uuid.get("FileName") if uuid is not None else None
    target = locate(tree, folder, name) if name else file
    if target is None:
        found.unplaced.append((name or "(no name)", f"named by {file}, but not in the folder"))
        return
    done.add(target)
    total = math.prod(sizes.values())
    count = int(block.get("PlaneCount") or (1 if block.get("IFD") is not None else total))
    page = int(block.get("IFD") or 0)
    start, stride = 0, 1
    for axis in order:
        start += stride * int(block.get(f"First{axis}") or 0)
        stride *= sizes[axis]
    if min(count, page, start) < 0 or start + count > total:
        raise ValueError
    if len(found.planes) + count * samples > _MAX_PLANES:
        raise MoascopeError(f"With {file} there are more than {_MAX_PLANES:,} planes. Import fewer "
                            "plates at a time.")
    for step in range(count):
        rest, at = start + step, {}
        for axis in order:
            rest, at[axis] = divmod(rest, sizes[axis])
        for sample in range(samples):
            found.planes.append(Plane(*place, str(at["C"] * samples + sample + 1), at["Z"] + 1,
                                      at["T"] + 1, target, (page + step) * samples + sample))


# OME-Zarr


def _ome(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = metadata.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    return attributes["ome"] if isinstance(attributes.get("ome"), dict) else attributes


def _read_zarr_plate(tree: Tree, folder: str, plate: Mapping[str, Any], found: Found) -> None:
    key = folder or "."
    name, path = folder_names(tree, folder)
    stems = tuple(text.removesuffix(".zarr").removesuffix(".ome") or text for text in (name, path))
    written = plate.get("name")
    found.plates[key] = ((written,) if isinstance(written, str) and written else ()) + stems
    wells = plate.get("wells")
    acquisitions: set[str] = set()
    for well in wells if isinstance(wells, list) else []:
        at = well.get("path") if isinstance(well, dict) else None
        position = _position(at)
        if position is None:
            found.unplaced.append((f"{key}/{at}", "not the path of a well, such as A/1"))
            continue
        try:
            fields = list(_fields(tree, folder, at))
            numbered = all(is_number(field) for field, _ in fields)
            for order, (field, acquisition) in enumerate(fields, 1):
                acquisitions.add(str(acquisition))
                _place_field(tree, key, f"{at}/{field}", position,
                             int(field) if numbered else order, found)
        except PlaneError as error:
            found.unplaced.append((f"{key}/{at}", error.problems[0]))
    if len(acquisitions) > 1:
        found.notes.append(f"{key} has {counted(len(acquisitions), 'acquisition')}; the fields of "
                           "each count as separate sites.")


def _fields(tree: Tree, folder: str, well: str) -> Iterator[tuple[str, Any]]:
    attributes = _ome(zarr_metadata(_inside(tree, folder, well), f"{folder}/{well}"))
    images = attributes.get("well")
    images = images.get("images") if isinstance(images, dict) else None
    if not isinstance(images, list):
        raise PlaneError("its metadata name no images of the well")
    for image in images:
        if not isinstance(image, dict) or not _is_path(image.get("path")):
            raise PlaneError("its metadata name an image without a path")
        yield image["path"], image.get("acquisition")


def _place_field(tree: Tree, key: str, at: str, well: str, site: int, found: Found) -> None:
    folder = "" if key == "." else key
    full = f"{folder}/{at}" if folder else at
    try:
        attributes = _ome(zarr_metadata(_inside(tree, folder, at), full))
        try:
            scales = attributes["multiscales"][0]
            level = scales["datasets"][0]["path"]
            axes = [axis["name"] if isinstance(axis, dict) else axis for axis in scales["axes"]]
        except (KeyError, TypeError, IndexError):
            raise PlaneError("its metadata name no multiscale image") from None
        if not _is_path(level) or axes[-2:] != ["y", "x"] or set(axes[:-2]) - set("tcz"):
            raise PlaneError(f"its axes are {axes}, and moascope reads t, c, z, y, x")
        header = array_header(_inside(tree, folder, f"{at}/{level}"), f"{full}/{level}")
        if len(header.shape) != len(axes):
            raise PlaneError(f"its array has {len(header.shape)} axes, and its metadata "
                             f"{len(axes)}")
    except PlaneError as error:
        found.unplaced.append((full, error.problems[0]))
        return
    sizes = dict(zip(axes, header.shape, strict=True))
    names = _labels(attributes)
    leading = axes[:-2]
    total = math.prod(sizes[axis] for axis in leading)
    if total > _MAX_SITES:
        found.unplaced.append((full, f"it has {total:,} planes"))
        return
    for frame in range(total):
        rest, index = frame, dict.fromkeys("tcz", 0)
        for axis in reversed(leading):
            rest, index[axis] = divmod(rest, sizes[axis])
        channel = str(index["c"] + 1)
        if index["c"] < len(names) and names[index["c"]]:
            found.channels.setdefault((key, channel), names[index["c"]])
        found.planes.append(Plane(key, well, site, channel, index["z"] + 1, index["t"] + 1,
                                  f"{full}/{level}", frame))


def _labels(attributes: Mapping[str, Any]) -> list[str]:
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    return [str(channel.get("label") or "") if isinstance(channel, dict) else ""
            for channel in channels] if isinstance(channels, list) else []


def _position(path: Any) -> str | None:
    """B/03 is B03."""
    if not _is_path(path):
        return None
    row, _, column = path.partition("/")
    try:
        letters_to_row(row)
    except ValueError:
        return None
    return well_at(row, column) if column.isdecimal() else None


def _is_path(path: Any) -> bool:
    return (isinstance(path, str) and bool(path) and "\\" not in path
            and not path.startswith("/") and ".." not in PurePosixPath(path).parts)


def _inside(tree: Tree, folder: str, path: str) -> Path:
    """A path below a plate, checked for links that point outside it."""
    target = tree.root / folder / path
    home = (tree.root / folder).resolve()
    try:
        leaves = any((tree.root / folder / part).is_symlink()
                     and not target.resolve().is_relative_to(home) for part in parents(path))
    except OSError:
        # A name of thousands of letters.
        raise PlaneError("its path is not one that a file can have") from None
    if leaves:
        raise PlaneError("a link points outside the plate")
    return target
