"""Damaged and hostile inputs end in a result or a sentence: never in another error, nor in a hang.

Seeds are built here and then mutated: truncated, flipped, spliced, and given huge numbers.
"""

import contextlib
import io
import json
import random
import re
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from moascope.errors import MoascopeError
from moascope.importing.imagexpress import read_htd
from moascope.importing.maps import read_plate_map
from moascope.importing.plates import import_plates
from moascope.learning.model import read_model
from moascope.params import load_params
from moascope.screen.manifest import read_manifest
from moascope.screen.planes import frame_count, read_plane, tiff_description
from moascope.screen.tables import read_screen
from moascope.sources.archives import check_archive, only_member, unpack
from moascope.sources.idr0088 import read_annotation

SECONDS = 5
PIXELS = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
HUGE = [b"9" * 30, b"9" * 4500, b"-1", b"1e999", b"NaN", b"4294967295", b"\0", b"\xff\xfe",
        b"[" * 3000, b"&a", b"*a", b'"', b"<" * 500, b"../", b"=1+1"]

HARMONY = """<?xml version="1.0"?><EvaluationInputData xmlns="http://x/HarmonyV6"><Plates><Plate>
<PlateID>P1</PlateID><Name>P1</Name></Plate></Plates><Images><Image><URL>a.tif</URL><Row>2</Row>
<Col>2</Col><FieldID>1</FieldID><PlaneID>1</PlaneID><TimepointID>0</TimepointID>
<ChannelID>1</ChannelID><ChannelName>DNA</ChannelName></Image></Images></EvaluationInputData>"""
YOKOGAWA = """<?xml version="1.0"?><bts:MeasurementData xmlns:bts="http://x/1.0">
<bts:MeasurementRecord bts:Type="IMG" bts:Row="2" bts:Column="2" bts:FieldIndex="1"
 bts:TimePoint="1" bts:ZIndex="1" bts:Ch="1">a.tif</bts:MeasurementRecord></bts:MeasurementData>"""
XDCE = """<?xml version="1.0"?><ImageStack><Images><Image filename="a.tif"><Well label="B - 2">
<Row number="2"/><Column number="2"/></Well><ExcitationFilter name="DAPI"/><EmissionFilter
 name="DAPI"/><Identifier field_index="0" wave_index="0" z_index="0" time_index="0"/></Image>
</Images></ImageStack>"""
HTD = '"WellsSelection2", FALSE, TRUE\n"WaveName1", "DAPI"\n"EndFile"\n'
LOADDATA = "FileName_DNA,Metadata_Plate,Metadata_Well,Metadata_Site,Frame_DNA\na.tif,P1,B02,1,0\n"
OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Plate ID="Plate:0" Name="P1"><Well ID="W:0" Row="1" Column="1"><WellSample ID="S:0" Index="0">
<ImageRef ID="Image:0"/></WellSample></Well></Plate><Image ID="Image:0"><Pixels ID="Pixels:0"
 DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="32" SizeZ="1" SizeC="1" SizeT="1">
<Channel ID="C:0" Name="DNA" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/></Pixels>
</Image></OME>"""
PARAMS = "target: moa\nseed: 1\ntrain:\n  dropout: &a 0.5\nevaluate: {}\ntune: {trials: 3}\n"
MAP = "Well,Compound,Concentration_uM,Control\nB02,aspirin,1.5,\nB03,DMSO,,negative\n"
GRID = (",".join(["compound", *map(str, range(1, 13))]) + "\nA" + ",x" * 12 + "\nB" + ",y" * 12
        + "\n")


def tiff(**options) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, PIXELS, **options)
    return out.getvalue()


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray((PIXELS % 256).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def archive(method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        file.writestr("p/a.tif", tiff())
        file.writestr("t.csv", MAP * 20)
    return out.getvalue()


def only(name):
    """A folder with the mutated file of this name."""
    return lambda folder, content: {name: content}


def beside_image(name):
    return lambda folder, content: {name: content, "a.tif": tiff()}


def read_image(folder):
    frame_count(folder / "a.tif")
    tiff_description(folder / "a.tif")
    for frame in (0, 1):
        with contextlib.suppress(MoascopeError):
            read_plane(folder / "a.tif", frame)


def read_zip(folder):
    for read in (check_archive, lambda path: only_member(path, ".csv", 10**6),
                 lambda path: unpack(path, {"a.tif": "a.tif"}, folder / "out", 10**6)):
        with contextlib.suppress(MoascopeError):
            read(folder / "a.zip")


def import_all(folder):
    import_plates(folder, folder / "out")


def zarr_array(folder: Path, **options) -> None:
    import zarr

    array = zarr.create_array(folder / "a", shape=PIXELS.shape, dtype=PIXELS.dtype,
                              chunks=(16, 16), **options)
    array[:] = PIXELS


def in_screen(name):
    def files(folder, content):
        base = {"load_data.csv": LOADDATA.encode(),
                "layout.csv": b"Metadata_Plate,Metadata_Well,Metadata_Compound,"
                              b"Metadata_Concentration_uM,Metadata_Control\nP1,B02,x,1,\n",
                "annotations.csv": b"Metadata_Compound,Metadata_MoA\nx,agonist|b\n"}
        return base | {name: content}
    return files


SOURCE_JSON = b'{"source": "folder", "images": ".", "allow_outside": false}'
IDR = ("Plate,Well,Compound\nP1,B02,x\n")
MANIFEST = b"FileName,Bytes,SHA256\na.tif,12,ab\n"
READERS = {
    **{f"tiff {name}": (lambda o=o: tiff(**o), only("a.tif"), read_image) for name, o in {
        "plain": {}, "lzw": {"compression": "lzw"}, "deflate": {"compression": "zlib"},
        "zstd": {"compression": "zstd"}, "tiles": {"tile": (16, 16), "compression": "zlib"},
        "big": {"bigtiff": True}, "ome": {"ome": True}, "lzma": {"compression": "lzma"},
        "jpeg2000": {"compression": "jpeg2000"}}.items()},
    **{kind: (lambda kind=kind: picture(kind), only("a.tif"), read_image)
       for kind in ("PNG", "JPEG", "BMP")},
    "params": (PARAMS.encode, only("params.yaml"), lambda f: load_params(f / "params.yaml")),
    "map": (MAP.encode, only("m.csv"), lambda f: read_plate_map(f / "m.csv")),
    "grid": (GRID.encode, only("m.csv"), lambda f: read_plate_map(f / "m.csv")),
    "load_data": (LOADDATA.encode, in_screen("load_data.csv"), read_screen),
    "layout": (lambda: in_screen("")(None, b"")["layout.csv"], in_screen("layout.csv"),
               read_screen),
    "annotations": (lambda: in_screen("")(None, b"")["annotations.csv"],
                    in_screen("annotations.csv"), read_screen),
    "source.json": (lambda: SOURCE_JSON, in_screen("source.json"), read_screen),
    "manifest": (lambda: MANIFEST, only("manifest.csv"), read_manifest),
    "idr0088": (IDR.encode, only("a.csv"), lambda f: read_annotation(f / "a.csv")),
    "model": (lambda: json.dumps({"heads": [""], "head": {"layers": 0}, "panels": [""]}).encode(),
              only("model.json"), read_model),
    "harmony": (HARMONY.encode, beside_image("Index.idx.xml"), import_all),
    "cellvoyager": (YOKOGAWA.encode, beside_image("MeasurementData.mlf"), import_all),
    "incell": (XDCE.encode, beside_image("p.xdce"), import_all),
    "imagexpress": (HTD.encode, lambda folder, content: {
        "p.htd": content, "p_B02_s1_w1.tif": tiff()}, import_all),
    "htd": (HTD.encode, only("a"), lambda f: read_htd((f / "a").read_bytes())),
    "loaddata": (LOADDATA.encode, beside_image("load_data.csv"), import_all),
    "companion": (OME.encode, beside_image("a.companion.ome"), import_all),
    "ome-tiff": (lambda: tiff(description=OME), only("a.ome.tif"), import_all),
    **{f"zip {name}": (lambda m=m: archive(m), only("a.zip"), read_zip) for name, m in {
        "stored": zipfile.ZIP_STORED, "deflate": zipfile.ZIP_DEFLATED,
        "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.items()},
}


def mutate(content: bytes, draw: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        kind, at = draw.randrange(6), draw.randrange(len(out) + 1)
        if kind == 0:
            del out[at:]
        elif kind == 1 and out:
            out[at % len(out)] ^= 1 << draw.randrange(8)
        elif kind == 2:
            end = min(len(out), at + draw.randint(1, 40))
            to = draw.randrange(len(out) + 1)
            out[to:to] = out[at:end]
        elif kind == 3:
            numbers = list(re.finditer(rb"[0-9]+", bytes(out)))
            where = draw.choice(numbers).span() if numbers else (at, at)
            out[slice(*where)] = draw.choice(HUGE)
        elif kind == 4:
            out[at:at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff",
                                          b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
        else:
            out[at:at] = draw.choice(HUGE)
    return bytes(out)


def try_one(reader: str, seed: bytes, number: int | None) -> str:
    """One mutated input: "result" or "sentence"; anything else is the finding."""
    _, files, read = READERS[reader]
    content = seed if number is None else mutate(seed, random.Random(number))
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        for name, data in files(Path(folder), content).items():
            (Path(folder) / name).write_bytes(data)
        start = time.monotonic()
        try:
            read(Path(folder))
            outcome = "result"
        except MoascopeError as error:
            assert error.problems and all(problem.strip() for problem in error.problems)
            outcome = "sentence"
        assert time.monotonic() - start < SECONDS, f"{reader} {number} took too long"
    return outcome


@pytest.fixture(scope="module")
def seeds():
    return {reader: make() for reader, (make, _, _) in READERS.items()}


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"model", "idr0088"}))
def test_a_seed_itself_is_read(reader, seeds):
    assert try_one(reader, seeds[reader], None) == "result"


@settings(max_examples=200, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(reader=st.sampled_from(sorted(READERS)), number=st.integers(0, 10**9))
def test_a_mutated_input_is_a_result_or_a_sentence(reader, number, seeds):
    try_one(reader, seeds[reader], number)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutated_inputs_are_results_or_sentences(seeds):
    counts = Counter((reader, try_one(reader, seeds[reader], number))
                     for number in range(10_000 // len(READERS) + 1) for reader in READERS)
    for (reader, outcome), count in sorted(counts.items()):
        print(f"{reader}: {count} {outcome}")
    assert sum(counts.values()) >= 10_000


@pytest.mark.parametrize("codec", ["zstd", "blosc"])
@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 10**9))
def test_a_mutated_array_is_a_result_or_a_sentence(codec, number):
    draw = random.Random(number)
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        from numcodecs import Blosc, Zstd

        zarr_array(Path(folder), zarr_format=2,
                   compressors={"zstd": Zstd(), "blosc": Blosc()}[codec])
        file = draw.choice(sorted((Path(folder) / "a").rglob("*")))
        if file.is_file():
            file.write_bytes(mutate(file.read_bytes(), draw))
        start = time.monotonic()
        with contextlib.suppress(MoascopeError):
            read_plane(Path(folder) / "a")
        assert time.monotonic() - start < SECONDS
