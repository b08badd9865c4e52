"""moascope import: OME-TIFF and OME-Zarr plates, and the reading of Zarr arrays."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_import import BOMB, first_pixels, reasons

from moascope.errors import MoascopeError
from moascope.importing.plates import import_plates
from moascope.params_file import parse_params
from moascope.screen.frames import image_sum, open_image
from moascope.screen.limits import PlaneError
from moascope.screen.manifest import read_manifest
from moascope.screen.planes import read_plane
from moascope.screen.tables import read_screen
from moascope.stages.acquire import acquire
from moascope.validation.facts import plane_facts

OME = ('<?xml version="1.0" encoding="UTF-8"?><OME '
       'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>')


def pixels(channels: int, z: int = 1, start: int = 1) -> np.ndarray:
    """[channels, z, 6, 8] planes whose first pixels are start, start + 1, ..."""
    planes = np.arange(channels * z * 48, dtype=np.uint16).reshape(channels, z, 6, 8)
    planes[:, :, 0, 0] = np.arange(start, start + channels * z).reshape(channels, z)
    return planes


# OME-TIFF


def ome_plate(folder: Path, companion: bool = False, z: int = 1) -> Path:
    """Wells B3 and H12 with two fields, each a file of two channels; XML in each, or in one."""
    folder.mkdir(parents=True, exist_ok=True)
    wells, images, files = "", "", []
    for number, (row, column, field) in enumerate([(1, 2, 0), (1, 2, 1), (7, 11, 0), (7, 11, 1)]):
        name = f"field_{number}.ome.tif"
        files.append((name, pixels(2, z, start=10 * number + 1)))
        if field == 0:
            wells += f'<Well ID="Well:{row}:{column}" Row="{row}" Column="{column}">'
        wells += (f'<WellSample ID="WellSample:{number}" Index="{number}">'
                  f'<ImageRef ID="Image:{number}"/></WellSample>') + ("</Well>" if field else "")
        images += (f'<Image ID="Image:{number}" Name="x"><Pixels ID="Pixels:{number}" '
                   f'DimensionOrder="XYZCT" SizeC="2" SizeT="1" SizeX="8" SizeY="6" SizeZ="{z}" '
                   'Type="uint16"><Channel ID="Channel:0:0" Name="DAPI" SamplesPerPixel="1"/>'
                   '<Channel ID="Channel:0:1" Name="GFP" SamplesPerPixel="1"/>'
                   f'<TiffData IFD="0" PlaneCount="{2 * z}"><UUID FileName="{name}">urn:uuid:1'
                   "</UUID></TiffData></Pixels></Image>")
    text = OME.format(f'<Plate ID="Plate:0" Name="Control Plate">{wells}</Plate>{images}')
    only = OME.format('<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:2"/>')
    for name, planes in files:
        tifffile.imwrite(folder / name, planes.reshape(-1, 6, 8), photometric="minisblack",
                         description=only if companion else text, metadata=None)
    if companion:
        (folder / "set.companion.ome").write_text(text)
    return folder


@pytest.mark.parametrize("companion", [False, True])
def test_an_ome_tiff_plate_is_placed_by_its_metadata(tmp_path, companion):
    imported = import_plates(ome_plate(tmp_path / "in", companion), tmp_path / "out")
    assert imported.kind == "OME-TIFF"
    assert list(imported.channels) == ["DAPI", "GFP"]
    found = first_pixels(tmp_path / "out")
    assert found["Control Plate", "B03", 1, "DAPI"] == 1
    assert found["Control Plate", "H12", 2, "GFP"] == 32
    assert len(found) == 8
    assert reasons(tmp_path / "out") == {}


def test_z_planes_of_an_ome_tiff_are_counted_in_its_own_order(tmp_path):
    folder = ome_plate(tmp_path / "in", z=3)
    import_plates(folder, tmp_path / "out", z=2)
    found = first_pixels(tmp_path / "out")
    # Z runs before C here: planes 0 1 2 are DAPI, 3 4 5 GFP.
    assert found["Control Plate", "B03", 1, "DAPI"] == 2
    assert found["Control Plate", "B03", 1, "GFP"] == 5


def test_an_ome_tiff_without_a_plate_is_left_to_its_name(tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/B02.ome.tif", pixels(2)[:, 0], metadata={"axes": "CYX"})
    with pytest.raises(MoascopeError, match="--kind regex"):
        import_plates(tmp_path / "in", tmp_path / "out")
    with pytest.raises(MoascopeError, match="describes no plate"):
        import_plates(tmp_path / "in", tmp_path / "out", kind="ometiff")
    import_plates(tmp_path / "in", tmp_path / "out", pattern=r"(?P<well>[A-H]\d\d)\.ome")
    assert first_pixels(tmp_path / "out") == {("in", "B02", 1, "w1"): 1, ("in", "B02", 1, "w2"): 2}


@pytest.mark.parametrize("change", [
    ('SizeC="2"', 'SizeC="1000000000"'), ('IFD="0"', 'IFD="-4"'), ('PlaneCount="2"',
                                                                 'PlaneCount="99999999"'),
    ('SamplesPerPixel="1"', 'SamplesPerPixel="three"'),
    ('SamplesPerPixel="1"', 'SamplesPerPixel="-1"'),
    ('SizeZ="1"', 'SizeZ="many"'), ('DimensionOrder="XYZCT"', 'DimensionOrder="XY"'),
])
def test_ome_xml_that_promises_the_impossible_places_nothing(tmp_path, change):
    folder = ome_plate(tmp_path / "in", companion=True)
    text = (folder / "set.companion.ome").read_text()
    assert change[0] in text
    (folder / "set.companion.ome").write_text(text.replace(*change))
    with pytest.raises(MoascopeError, match="could be read as"):
        import_plates(folder, tmp_path / "out")
    assert "that is not a number" in reasons(tmp_path / "out")["set.companion.ome"]


def test_samples_of_a_pixel_do_not_multiply_the_planes_of_a_file(tmp_path):
    folder = ome_plate(tmp_path / "in", companion=True)
    path = folder / "set.companion.ome"
    path.write_text(path.read_text().replace('SizeC="2"', 'SizeC="3000000"').replace(
        'SamplesPerPixel="1"', 'SamplesPerPixel="3000000"').replace('PlaneCount="2"',
                                                                    'PlaneCount="1"'))
    with pytest.raises(MoascopeError, match="could be read as"):
        import_plates(folder, tmp_path / "out")


def test_more_planes_than_memory_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("moascope.importing.ome._MAX_PLANES", 7)
    with pytest.raises(MoascopeError, match="more than 7 planes"):
        import_plates(ome_plate(tmp_path / "in"), tmp_path / "out")


def test_an_entity_bomb_in_ome_xml_is_refused(tmp_path):
    folder = ome_plate(tmp_path / "in", companion=True)
    text = (folder / "set.companion.ome").read_text().partition("?>")[2]
    (folder / "set.companion.ome").write_text(BOMB + text)
    with pytest.raises(MoascopeError, match="declares XML entities"):
        import_plates(folder, tmp_path / "out")


# OME-Zarr


def zarr_plate(folder: Path, version: int = 2, axes: str = "tczyx", z: int = 1,
               **options: object) -> Path:
    """plate.zarr as OME-Zarr 0.4 (Zarr v2) or 0.5 (v3): wells B/03 and C/4, two fields, two
    channels; a lower resolution beside each."""
    import zarr

    def attributes(of: dict[str, object]) -> dict[str, object]:
        return {"ome": {"version": "0.5", **of}} if version == 3 else of

    plate = folder / "plate.zarr"
    root = zarr.open_group(str(plate), mode="w", zarr_format=version)
    root.attrs.update(attributes({"plate": {
        "name": "Plate 7", "rows": [{"name": "B"}, {"name": "C"}],
        "columns": [{"name": "03"}, {"name": "4"}], "field_count": 2,
        "wells": [{"path": "B/03", "rowIndex": 0, "columnIndex": 0},
                  {"path": "C/4", "rowIndex": 1, "columnIndex": 1}]}}))
    for number, well in enumerate(("B/03", "C/4")):
        group = root.create_group(well)
        group.attrs.update(attributes({"well": {"images": [{"path": "0"}, {"path": "1"}]}}))
        for field in range(2):
            image = group.create_group(str(field))
            image.attrs.update(attributes({
                "multiscales": [{"axes": [{"name": axis} for axis in axes],
                                 "datasets": [{"path": "0"}, {"path": "1"}]}],
                "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}}))
            values = pixels(2, z, start=100 * number + 10 * field + 1)
            values = values.reshape([{"t": 1, "c": 2, "z": z, "y": 6, "x": 8}[axis]
                                     for axis in axes])
            for level, data in enumerate((values, values[..., ::2, ::2])):
                image.create_array(str(level), data=data, chunks=(1,) * (len(axes) - 2) + (4, 4),
                                   **options)
    return plate


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["tczyx", "cyx"])
def test_an_ome_zarr_plate_is_imported_acquired_and_read(tmp_path, version, axes):
    zarr_plate(tmp_path / "in", version, axes)
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert imported.kind == "OME-Zarr"
    assert imported.screen.sites["FileName_GFP"][0] == "plate.zarr/B/03/0/0"
    found = first_pixels(tmp_path / "out")
    assert len(found) == 8
    assert found["Plate 7", "B03", 0, "DAPI"] == 1
    assert found["Plate 7", "C04", 1, "GFP"] == 112
    assert reasons(tmp_path / "out") == {}


def test_the_plate_itself_may_be_the_folder(tmp_path):
    plate = zarr_plate(tmp_path / "in")
    import_plates(plate, tmp_path / "out")
    assert first_pixels(tmp_path / "out")["Plate 7", "C04", 1, "GFP"] == 112


@pytest.mark.parametrize("version", [2, 3])
def test_z_planes_of_an_ome_zarr_are_frames_of_their_array(tmp_path, version):
    zarr_plate(tmp_path / "in", version, z=3)
    import_plates(tmp_path / "in", tmp_path / "out", z=3)
    screen = read_screen(tmp_path / "out")
    assert (screen.sites["Frame_DAPI"][0], screen.sites["Frame_GFP"][0]) == (2, 5)
    assert first_pixels(tmp_path / "out")["Plate 7", "B03", 0, "GFP"] == 6


@pytest.mark.parametrize("path", ["../../secret", "/etc", "B/..", "B", 7, None])
def test_a_plate_cannot_name_what_lies_outside_of_it(tmp_path, path):
    plate = zarr_plate(tmp_path / "in")
    said = json.loads((plate / ".zattrs").read_text())
    said["plate"]["wells"][1]["path"] = path
    (plate / ".zattrs").write_text(json.dumps(said))
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert imported.screen.sites["Metadata_Well"].unique().tolist() == ["B03"]
    assert len(imported.unplaced) == 1


def test_a_link_out_of_an_ome_zarr_is_not_followed(tmp_path):
    plate = zarr_plate(tmp_path / "in")
    (plate / "C").rename(tmp_path / "C")
    (plate / "C").symlink_to(tmp_path / "C")
    import_plates(tmp_path / "in", tmp_path / "out")
    assert reasons(tmp_path / "out") == {"plate.zarr/C/4": "a link points outside the plate"}


def test_damaged_metadata_cost_their_own_field_only(tmp_path):
    plate = zarr_plate(tmp_path / "in")
    (plate / "B/03/1/.zattrs").write_text("{")
    (plate / "C/4/0/0/.zarray").write_text("[]")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert len(imported.screen.sites) == 2
    assert set(reasons(tmp_path / "out")) == {"plate.zarr/B/03/1", "plate.zarr/C/4/0"}


def test_a_field_whose_name_no_file_can_have_costs_itself_only(tmp_path):
    plate = zarr_plate(tmp_path / "in")
    said = json.loads((plate / "B/03/.zattrs").read_text())
    said["well"]["images"][0]["path"] = "9" * 5000
    (plate / "B/03/.zattrs").write_text(json.dumps(said))
    assert len(import_plates(tmp_path / "in", tmp_path / "out").screen.sites) == 3
    assert set(reasons(tmp_path / "out").values()) >= {"its path is not one that a file can have"}


# Reading arrays


def array(path: Path, values: np.ndarray, **options: object) -> Path:
    import zarr

    zarr.create_array(str(path), data=values, **{"chunks": (1, 4, 4), **options})
    return path


NOISE = np.random.default_rng(0).integers(1, 60000, (3, 6, 8), dtype=np.uint16)


@pytest.mark.parametrize("options", [
    {"zarr_format": 2}, {"zarr_format": 3}, {"zarr_format": 3, "shards": (1, 8, 8)},
    {"zarr_format": 2, "compressors": None}, {"zarr_format": 3, "compressors": None},
    {"zarr_format": 2, "chunks": (3, 6, 8)},
])
def test_planes_of_arrays_of_both_formats_are_read_as_stored(tmp_path, options):
    path = array(tmp_path / "a", NOISE, **options)
    for frame in range(3):
        np.testing.assert_array_equal(read_plane(path, frame), NOISE[frame])


def test_big_endian_and_8_bit_arrays_are_read(tmp_path):
    path = array(tmp_path / "big", NOISE.astype(">u2"), zarr_format=2)
    plane = read_plane(path, 1)
    assert plane.dtype == np.uint16
    np.testing.assert_array_equal(plane, NOISE[1])
    small = (NOISE // 256).astype(np.uint8)
    np.testing.assert_array_equal(read_plane(array(tmp_path / "8", small), 2), small[2])


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("changes", "kind", "words"), [
    ({"dtype": "|O"}, "depth", "holds |O values"),
    ({"dtype": "<f4"}, "depth", "holds <f4 values"),
    ({"filters": [{"id": "pickle"}]}, "unreadable", "'pickle', a codec"),
    ({"filters": [{"id": "json2"}]}, "unreadable", "'json2', a codec"),
    ({"compressor": {"id": "vlen-utf8"}}, "unreadable", "'vlen-utf8', a codec"),
    ({"shape": [3, 200000, 200000]}, "large", "200,000 x 200,000 pixels"),
    ({"chunks": [3, 200000, 200000]}, "large", "cut into chunks of"),
    ({"shape": [1, 11000, 11000], "chunks": [1, 1, 1]}, "large", "cut into chunks of"),
    ({"shape": []}, "unreadable", "not an image"),
    ({"shape": "many"}, "unreadable", "not have the metadata of a Zarr array"),
    ({"compressor": 7}, "unreadable", "not have the metadata of a Zarr array"),
    ({"chunks": [1, 0, 4]}, "unreadable", "not an image"),
])
def test_an_array_that_is_too_much_or_makes_objects_is_refused_unread(tmp_path, changes, kind,
                                                                     words):
    path = array(tmp_path / "a", NOISE, zarr_format=2)
    edit_json(path / ".zarray", **changes)
    with pytest.raises(PlaneError) as caught:
        read_plane(path)
    assert words in caught.value.problems[0]
    assert caught.value.kind == kind


def test_a_codec_inside_a_shard_is_looked_at_too(tmp_path):
    path = array(tmp_path / "a", NOISE, zarr_format=3, shards=(1, 8, 8))
    text = (path / "zarr.json").read_text()
    assert text.count('"zstd"') == 1
    (path / "zarr.json").write_text(text.replace('"zstd"', '"numcodecs.pickle"'))
    with pytest.raises(PlaneError, match=r"'numcodecs\.pickle', a codec"):
        read_plane(path)


@pytest.mark.parametrize("what", ["link", "pipe", "loop"])
def test_what_is_no_file_inside_an_array_is_refused_and_not_opened(tmp_path, what):
    path = array(tmp_path / "a", NOISE, zarr_format=2)
    if what == "pipe":
        os.mkfifo(path / "x")
    else:
        (path / "x").symlink_to("/dev/zero" if what == "link" else "/")
    with pytest.raises(PlaneError, match="neither a file nor a folder"):
        read_plane(path)
    with open_image(path) as image, pytest.raises(PlaneError, match="neither a file nor a folder"):
        image_sum(image)


@pytest.mark.parametrize("codec", ["blosc", "zstd", "lz4"])
def test_a_chunk_that_unpacks_to_more_than_the_array_has_is_refused(tmp_path, codec):
    import numcodecs

    compressor = numcodecs.get_codec({"id": codec})
    path = array(tmp_path / "a", NOISE, zarr_format=2, compressors=compressor)
    np.testing.assert_array_equal(read_plane(path), NOISE[0])
    (path / "0.0.0").write_bytes(compressor.encode(bytes(10**7)))
    with pytest.raises(PlaneError, match="larger than the metadata say") as caught:
        read_plane(path)
    assert caught.value.kind == "large"


@pytest.mark.parametrize("where", ["start", "end"])
def test_a_chunk_in_a_shard_that_unpacks_to_too_much_is_refused(tmp_path, where):
    import numcodecs

    path = array(tmp_path / "a", NOISE, zarr_format=3,
                 shards={"shape": (1, 8, 8), "index_location": where})
    np.testing.assert_array_equal(read_plane(path), NOISE[0])
    chunk = numcodecs.get_codec({"id": "zstd"}).encode(bytes(10**7))
    at = 68 if where == "start" else 0
    index = np.full(8, 2**64 - 1, dtype="<u8")
    index[:2] = at, len(chunk)
    table = index.tobytes() + bytes(4)
    (path / "c/0/0/0").write_bytes(table + chunk if where == "start" else chunk + table)
    with pytest.raises(PlaneError, match="larger than the metadata say"):
        read_plane(path)


@pytest.mark.parametrize("codec", ["gzip", "zlib", "bz2", "lzma"])
def test_a_codec_that_does_not_say_what_it_unpacks_to_is_refused(tmp_path, codec):
    path = array(tmp_path / "a", NOISE, zarr_format=2)
    edit_json(path / ".zarray", compressor={"id": codec})
    with pytest.raises(PlaneError, match=f"'{codec}', a codec"):
        read_plane(path)


def test_a_truncated_chunk_is_never_read_as_an_image(tmp_path):
    path = array(tmp_path / "a", NOISE, zarr_format=2)
    chunk = path / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(PlaneError, match="cannot be read"):
        read_plane(path)


def test_a_group_and_a_plane_that_is_not_there_have_their_sentences(tmp_path):
    plate = zarr_plate(tmp_path)
    with pytest.raises(PlaneError, match="is a Zarr group, not an array"):
        read_plane(plate / "B/03/0")
    with pytest.raises(PlaneError, match="frames 0 to 1, not frame 2") as caught:
        read_plane(plate / "B/03/0/0", 2)
    assert caught.value.kind == "frame"


def test_the_sum_of_an_array_changes_with_any_chunk_and_any_name(tmp_path):
    path = array(tmp_path / "a", NOISE, zarr_format=2)

    def total() -> str:
        with open_image(path) as image:
            return image_sum(image)[1]

    first = total()
    assert first == total()
    chunk = path / "0.0.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = total()
    chunk.write_bytes(content)
    chunk.rename(path / "0.0.9")
    assert len({first, changed, total()}) == 3


def test_the_sum_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with open_image(tmp_path / "a") as image:
        assert image_sum(image) == (3, hashlib.sha256(b"abc").hexdigest())


def test_an_array_that_changed_after_acquire_is_quarantined(tmp_path):
    zarr_plate(tmp_path / "in")
    import_plates(tmp_path / "in", tmp_path / "out")
    acquire(parse_params({"acquire": {"source": "folder", "path": str(tmp_path / "out"),
                                      "allow_outside": True}}), tmp_path / "acquired")
    manifest = read_manifest(tmp_path / "acquired")
    assert len(manifest) == 4
    assert manifest["Bytes"].min() > 100
    (tmp_path / "in/plate.zarr/B/03/0/0/.zattrs").write_text('{"a": 1}')
    facts = plane_facts(read_screen(tmp_path / "acquired"), manifest, 1)
    changed = facts[facts["Problem"] == "changed"]
    assert set(changed["FileName"]) == {"plate.zarr/B/03/0/0"}
