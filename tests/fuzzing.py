"""Inputs of every reader, and what is done to them: truncated, flipped, spliced, huge numbers.

    python tests/fuzzing.py 10000        # so many mutated inputs, counted by reader and outcome
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import resource
import sqlite3
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from moascope.annotation.compounds import read_compounds, read_earlier, read_genes, read_targets
from moascope.errors import MoascopeError
from moascope.features.normalise import Sphering
from moascope.features.table import load_features
from moascope.importing.imagexpress import read_htd
from moascope.importing.maps import read_plate_map
from moascope.importing.plates import import_plates
from moascope.importing.profiles.run import import_profiles
from moascope.learning.calibration import Calibration
from moascope.learning.examples import LEVELS
from moascope.learning.final import chosen_heads
from moascope.learning.folds import read_folds
from moascope.learning.head import FittedHeads
from moascope.learning.model import TrainedModel, read_model, save_model
from moascope.params import Embed, Head, Params, Prepare, Train
from moascope.params_file import load_params
from moascope.project.merge import merge_params
from moascope.screen.frames import frame_count, open_image, tiff_description
from moascope.screen.manifest import read_manifest
from moascope.screen.planes import read_plane
from moascope.screen.profiles import read_values
from moascope.screen.question import Question
from moascope.screen.tables import read_screen
from moascope.screen.unread import planes_held
from moascope.sources.bbbc import read_plate_map as read_bbbc_map
from moascope.sources.bbbc021 import read_columns
from moascope.sources.gallery.mechanisms import read_mechanisms
from moascope.sources.idr0088 import read_index
from moascope.sources.idr0088_wells import COLUMNS as IDR0088_COLUMNS
from moascope.sources.idr0088_wells import read_annotation
from moascope.sources.remote import with_curated
from moascope.sources.unpacking import unpack
from moascope.work.archives import check_archive, only_member

SECONDS = 5
"""Longest that one input may take."""

MOST_MEMORY = 2**20
"""KiB that the process may have held at its peak."""
MOST_GROWTH = 2**19
"""KiB that one reader may add to the peak of a process that held more before."""

PIXELS = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
COLOUR = np.stack([PIXELS % 251, PIXELS % 7, PIXELS % 13], axis=-1).astype(np.uint8)
HUGE = [b"9" * 30, b"9" * 4500, b"-1", b"1e999", b"NaN", b"4294967295", b"\0", b"\xff\xfe",
        b"[" * 3000, b"&a", b"*a", b'"', b"<" * 500, b"../", b"=1+1", b"\xc2\xa0", b"1,000",
        b"\xc2\xb5", b"{}", b"null", b"\r", b";", b"\t"]

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
TUNED = ("final: {dropout: 0.3, layers: 1, width: 32}\nfolds:\n  0/0: {dropout: 0.2}\n"
         "  0/1: {layers: 0}\n")
MAP = "Well,Compound,Concentration_uM,Control\nB02,aspirin,1.5,\nB03,DMSO,,negative\n"
DOSES = "Well;Compound;Dose;Unit;MoA\nB02;aspirin;1,5;nM;a|b\nB03;DMSO 0.1%;;;\n"
GRID = (",".join(["compound", *map(str, range(1, 13))]) + "\nA" + ",x" * 12 + "\nB" + ",y" * 12
        + "\n")
COMPOUNDS = ("Compound Name,Compound MoA,Compound InChIKey,Control Type,Target\n"
             "aspirin,COX inhibitor,BSYNRYMUTXBXSQ-UHFFFAOYSA-N,,PTGS1|PTGS2\nDMSO,,,negative,\n")
ANNOTATIONS = ("Metadata_Compound,Metadata_MoA,gpcr,gpcr_action,evidence,curator\n"
               "aspirin,COX inhibitor,no,,terms,\nx,agonist,yes,agonist,,me\n")
TARGETS = "compound,target\naspirin,PTGS1|PTGS2\nx,ADRB1\n"
HUB = ("!a comment\nname\tmoa\tInChIKey\nalpha \xe9\thistamine receptor antagonist|x\t"
       "AAAAAAAAAAAAAA-UHFFFAOYSA-N\n")
BBBC016 = "[agonist] in uM\n" + "0\n0.5\n" * 36
BBBC021 = "compound,concentration,moa\ntaxol,0.3,Microtubule stabilizers\nDMSO,0,DMSO\n"
LAYOUT = ("Metadata_Plate,Metadata_Well,Metadata_Compound,Metadata_Concentration_uM,"
          "Metadata_Control\nP1,B02,x,1,\n")
SOURCE_JSON = '{"source": "folder", "images": ".", "allow_outside": false}'
MANIFEST = "FileName,Bytes,SHA256\na.tif,12,ab\n"

Files = Mapping[str, bytes]
Reader = tuple[Callable[[], bytes], Callable[[bytes], Files], Callable[[Path], Any]]


def tiff(pixels: np.ndarray = PIXELS, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def picture(kind: str, pixels: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def archive(method: int, **files: bytes | str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in (files or {"p/a.tif": tiff(), "t.csv": MAP * 20}).items():
            file.writestr(name, content)
    return out.getvalue()


def parquet(table: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    table.to_parquet(out, index=False)
    return out.getvalue()


def idr0088() -> bytes:
    columns = [*IDR0088_COLUMNS]
    values = {"Plate": "P1", "Well": "B2", "Plate Location": "batch1/x",
              "Compound Concentration (microMolar)": "3", "Compound Name": "aspirin"}
    return "\n".join([",".join(columns), ",".join(values.get(name, "x") for name in columns), ""]
                     ).encode()


@cache
def model() -> dict[str, bytes]:
    """The files of a small model folder."""
    rng = np.random.default_rng(0)
    values = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    head = Head(layers=1, width=8)
    heads = FittedHeads(head, values(1, 4), np.ones((1, 4), np.float32),
                        [values(1, 4, 8), values(1, 8, 2)], [values(1, 8), values(1, 2)],
                        np.array([1], np.int32), values(1))
    trained = TrainedModel(
        Question("gpcr", ("not_gpcr", "gpcr"), True), {"": heads}, ("",),
        dict.fromkeys(LEVELS, Calibration(1.0, 0.0, 0.5)),
        Sphering(values(4), values(2, 4), values(2), values(1)[0]), ("a", "b", "c", "d"), ("DNA",),
        True, Prepare(), Embed(), head, Train(), {}, ("x",))
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        save_model(trained, Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@cache
def folds() -> dict[str, bytes]:
    """The files of `data/split` that are read again."""
    said = {"target": "moa", "classes": ["a", "b"], "binary": False, "unit": "compound",
            "untestable": [], "warnings": []}
    return {"target.json": json.dumps(said).encode(),
            "groups.parquet": parquet(pd.DataFrame({
                "Metadata_Group": ["x", "y"], "Metadata_Compound": ["x", "y"], "Label": [0, 1],
                "Holdout": [False, True], "Fold_0": [0, 1]})),
            "wells.parquet": parquet(pd.DataFrame({
                "Metadata_Plate": ["P1"], "Metadata_Well": ["B02"], "Metadata_Group": ["x"]}))}


def features() -> bytes:
    return parquet(pd.DataFrame({
        "Metadata_Plate": ["P1"] * 2, "Metadata_Well": ["B02", "B03"], "Metadata_Site": [1, 1],
        "Metadata_Batch": "", "Metadata_Panel": "", "QC_Pass": True, "QC_Reason": "",
        "DNA_0": np.float32([0.5, 1.5]), "DNA_1": np.float32([0.1, 0.2])}))


def profiles() -> pd.DataFrame:
    """Profiles of four wells as pycytominer writes them."""
    table = pd.DataFrame({
        "Metadata_Plate": "P1", "Metadata_Well": ["B02", "B03", "C02", "C03"],
        "Metadata_pert_iname": ["DMSO", "taxol", "x", "DMSO"], "Metadata_moa": ["", "a|b", "c", ""],
        "Metadata_mmoles_per_liter": [0.0, 10.0, 3.3, 0.0]})
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    return table.join(pd.DataFrame(values, columns=["Cells_Area", "Nuclei_Area", "Cells_Mean"]))


def database() -> bytes:
    """Single cells in SQLite as CellProfiler's cytominer-database has them."""
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        path = Path(folder) / "p.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            numbers = {"TableNumber": [1, 1, 2, 2], "ImageNumber": [1, 1, 2, 2]}
            pd.DataFrame({"TableNumber": [1, 2], "ImageNumber": [1, 2], "Metadata_Plate": "P1",
                          "Metadata_Well": ["B02", "B03"]}).to_sql("Image", connection, index=False)
            for name in ("Cells", "Nuclei"):
                pd.DataFrame({**numbers, "ObjectNumber": [1, 2, 1, 2],
                              f"{name}_AreaShape_Area": [1.0, 2.0, 3.0, 4.0]}).to_sql(
                    name, connection, index=False)
        return path.read_bytes()


def stored(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    out = io.BytesIO()
    save(out, *arrays, **named)
    return out.getvalue()


def hdf5() -> bytes:
    """Profiles in AnnData's format."""
    import anndata

    table = profiles()
    about = table[["Metadata_Plate", "Metadata_Well"]].astype(object)
    about.index = pd.Index(list("abcd"), dtype=object)
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        path = Path(folder) / "p.h5ad"
        anndata.AnnData(table[["Cells_Area", "Nuclei_Area"]].to_numpy(), about,
                        pd.DataFrame(index=pd.Index(["a", "b"], dtype=object))).write_h5ad(path)
        return path.read_bytes()


def read_profile_screen(folder: Path) -> None:
    """A screen without images; its values are read piece by piece."""
    read = read_screen(folder).profiles
    assert read is not None
    for _ in read_values(read)[1]:
        pass


def import_table(name: str, **options: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> None:
        import_profiles([folder / name], folder / "out",
                        **{option: folder / file for option, file in options.items()})
    return read


def screen_of_profiles() -> Files:
    return {"layout.csv": LAYOUT.encode(), "annotations.csv": ANNOTATIONS.encode()}


def about_rows() -> Files:
    return {"m.csv": profiles().filter(like="Metadata_").to_csv(index=False).encode()}


def only(name: str) -> Callable[[bytes], Files]:
    """A folder with the mutated file of this name."""
    return lambda content: {name: content}


def beside_image(name: str) -> Callable[[bytes], Files]:
    return lambda content: {name: content, "a.tif": tiff()}


def within(others: Callable[[], Files], name: str) -> Callable[[bytes], Files]:
    """A folder whose other files are as they should be."""
    return lambda content: {**others(), name: content}


def screen() -> Files:
    return {"load_data.csv": LOADDATA.encode(), "layout.csv": LAYOUT.encode(),
            "annotations.csv": b"Metadata_Compound,Metadata_MoA\nx,agonist|b\n"}


def zarr_group(version: int) -> Callable[[], Files]:
    """An OME-Zarr plate of one well with one field."""
    def files() -> Files:
        import zarr

        with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
            root = zarr.open_group(f"{folder}/p.zarr", mode="w", zarr_format=version)
            well = root.create_group("B").create_group("02")
            image = well.create_group("0")
            array = image.create_array("0", shape=(1, 32, 32), dtype="uint16", chunks=(1, 16, 16))
            array[:] = PIXELS[np.newaxis]
            axes = [{"name": name} for name in "cyx"]
            said = {
                "p.zarr": (root, {"plate": {
                    "name": "P1", "rows": [{"name": "B"}], "columns": [{"name": "02"}],
                    "wells": [{"path": "B/02", "rowIndex": 0, "columnIndex": 0}]}}),
                "well": (well, {"well": {"images": [{"path": "0"}]}}),
                "image": (image, {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}],
                                  "omero": {"channels": [{"label": "DNA"}]}})}
            for group, attributes in said.values():
                group.attrs.update({"ome": {"version": "0.5"} | attributes} if version == 3
                                   else attributes)
            return {path.relative_to(folder).as_posix(): path.read_bytes()
                    for path in Path(folder).rglob("*") if path.is_file()}
    return cache(files)


def read_image(folder: Path) -> None:
    path = folder / "a.tif"
    frame_count(path)
    tiff_description(path)
    for read in (lambda: read_plane(path), lambda: read_plane(path, 1), lambda: held(path)):
        with contextlib.suppress(MoascopeError):
            read()


def held(path: Path) -> dict[str, int]:
    with open_image(path) as opened:
        return planes_held(opened, path.name, {0})


def read_zip(folder: Path) -> None:
    for read in (check_archive, lambda path: only_member(path, (".csv",), 10**6),
                 lambda path: unpack(path, {"a.tif": "a.tif"}, folder / "out", 10**6)):
        with contextlib.suppress(MoascopeError):
            read(folder / "a.zip")


def import_all(folder: Path) -> None:
    imported = import_plates(folder, folder / "out")
    assert len(imported.screen.sites)


def import_mapped(folder: Path) -> None:
    import_plates(folder, folder / "out", layout=folder / "m.csv")


def merge(folder: Path) -> None:
    base = "target: moa\nseed: 1\n"
    merge_params((folder / "params.yaml").read_text(encoding="utf-8", errors="surrogateescape"),
                 base, base + "tune: {trials: 3, workers: 1}\n")


def read_curated(folder: Path) -> None:
    with_curated(pd.DataFrame({"Metadata_Compound": ["aspirin"], "Metadata_MoA": [""]}),
                 (folder / "c.csv").absolute())


COLOURS = {"photometric": "rgb"}
TIFFS: Mapping[str, tuple[np.ndarray, dict[str, Any]]] = {
    "plain": (PIXELS, {}), "lzw": (PIXELS, {"compression": "lzw"}),
    "deflate": (PIXELS, {"compression": "zlib", "predictor": True}),
    "zstd": (PIXELS, {"compression": "zstd"}),
    "tiles": (PIXELS, {"tile": (16, 16), "compression": "zlib"}),
    "big": (PIXELS, {"bigtiff": True}), "big-endian": (PIXELS, {"byteorder": ">"}),
    "ome": (PIXELS, {"ome": True}), "lzma": (PIXELS, {"compression": "lzma"}),
    "jpeg2000": (PIXELS, {"compression": "jpeg2000"}),
    "jpeg": (COLOUR, {"compression": "jpeg", **COLOURS}), "colour": (COLOUR, COLOURS),
    "planar": (np.moveaxis(COLOUR, -1, 0), {"planarconfig": "separate", **COLOURS}),
    "pages": (np.stack([PIXELS, PIXELS[::-1]]), {"photometric": "minisblack"}),
    "packbits": (PIXELS.astype(np.uint8), {"compression": "packbits"}),
    "float": (PIXELS.astype(np.float32), {}), "signed": (PIXELS.astype(np.int16), {}),
}
GREY = (PIXELS % 256).astype(np.uint8)
SEPARATE = {"model": model, "folds": folds}
READERS: Mapping[str, Reader] = {
    **{f"tiff {name}": (lambda p=pixels, o=options: tiff(p, **o), only("a.tif"), read_image)
       for name, (pixels, options) in TIFFS.items()},
    **{f"{kind} {name}": (lambda k=kind, p=pixels: picture(k, p), only("a.tif"), read_image)
       for kind, name, pixels in [
           ("PNG", "grey", GREY), ("PNG", "deep", PIXELS), ("PNG", "colour", COLOUR),
           ("JPEG", "grey", GREY), ("JPEG", "colour", COLOUR), ("BMP", "grey", GREY),
           ("BMP", "colour", COLOUR)]},
    "params": (PARAMS.encode, only("params.yaml"), lambda f: load_params(f / "params.yaml")),
    "merge": (PARAMS.encode, only("params.yaml"), merge),
    "tuned": (TUNED.encode, only("t.yaml"), lambda f: chosen_heads(f / "t.yaml", Params())),
    "map": (MAP.encode, only("m.csv"), lambda f: read_plate_map(f / "m.csv")),
    "doses": (DOSES.encode, only("m.csv"), lambda f: read_plate_map(f / "m.csv")),
    "grid": (GRID.encode, only("m.csv"), lambda f: read_plate_map(f / "m.csv")),
    "mapped": (MAP.encode, lambda content: {"m.csv": content, "p_B02_s1_w1.tif": tiff()},
               import_mapped),
    "load_data": (LOADDATA.encode, within(screen, "load_data.csv"), read_screen),
    "layout": (LAYOUT.encode, within(screen, "layout.csv"), read_screen),
    "annotations": (ANNOTATIONS.encode, within(screen, "annotations.csv"), read_screen),
    "source.json": (SOURCE_JSON.encode, within(screen, "source.json"), read_screen),
    "screen.json": (SOURCE_JSON.encode, within(screen, "screen.json"), read_screen),
    "manifest": (MANIFEST.encode, only("manifest.csv"), read_manifest),
    "compounds": (COMPOUNDS.encode, only("c.csv"), lambda f: read_compounds(f / "c.csv")),
    "compounds zip": (lambda: archive(zipfile.ZIP_DEFLATED, **{"c.csv": COMPOUNDS}),
                      only("c.zip"), lambda f: read_compounds(f / "c.zip")),
    "earlier": (ANNOTATIONS.encode, only("c.csv"), lambda f: read_earlier(f / "c.csv")),
    "curated": (ANNOTATIONS.encode, only("c.csv"), read_curated),
    "genes": (lambda: b"symbol,family\nADRB1,adrenergic\n", only("g.csv"),
              lambda f: read_genes(f / "g.csv")),
    "targets": (TARGETS.encode, only("t.csv"), lambda f: read_targets(f / "t.csv")),
    "idr0088": (idr0088, only("a.csv"), lambda f: read_annotation(f / "a.csv")),
    "idr0088 gz": (lambda: gzip.compress(idr0088(), mtime=0), only("a.csv.gz"),
                   lambda f: read_annotation(f / "a.csv.gz")),
    "idr0088 index": (lambda: YOKOGAWA.replace(
        "a.tif", "1001_B02_T0001F001L01A01Z01C01.tif").encode(), only("i.mlf"),
        lambda f: read_index(f / "i.mlf", "1001")),
    "mechanisms": (lambda: HUB.encode("latin-1"), only("hub.txt"),
                   lambda f: read_mechanisms([str(f / "hub.txt")], f)),
    "mechanisms gz": (lambda: gzip.compress(HUB.encode("latin-1"), mtime=0), only("hub.txt.gz"),
                      lambda f: read_mechanisms([str(f / "hub.txt.gz")], f)),
    "bbbc016": (BBBC016.encode, only("m.txt"), lambda f: read_bbbc_map(f / "m.txt", 72)),
    "bbbc021": (BBBC021.encode, only("t.csv"),
                lambda f: read_columns(f / "t.csv", ["compound", "concentration", "moa"])),
    **{f"model {name}": (lambda n=name: model()[n], within(model, name), read_model)
       for name in ("model.json", "heads_0.npz", "sphering.npz")},
    **{f"folds {name}": (lambda n=name: folds()[n], within(folds, name), read_folds)
       for name in ("target.json", "groups.parquet", "wells.parquet")},
    **{name: (make, within(screen_of_profiles, name), read_profile_screen) for name, make in {
        "profiles.csv": lambda: profiles().to_csv(index=False).encode(),
        "profiles.csv.gz": lambda: gzip.compress(profiles().to_csv(index=False).encode(), mtime=0),
        "profiles.parquet": lambda: parquet(profiles())}.items()},
    **{f"table {name}": (make, only(name), import_table(name)) for name, make in {
        "p.csv": lambda: profiles().to_csv(index=False).encode(),
        "p.csv.gz": lambda: gzip.compress(profiles().to_csv(index=False).encode(), mtime=0),
        "p.parquet": lambda: parquet(profiles()), "p.sqlite": database,
        # An extra, which need not be installed.
        **({"p.h5ad": hdf5} if find_spec("anndata") else {})}.items()},
    **{f"matrix {name}": (make, within(about_rows, name), import_table(name, metadata="m.csv"))
       for name, make in {
           "p.npy": lambda: stored(np.save, profiles().filter(like="Area").to_numpy()),
           "p.npz": lambda: stored(np.savez, features=profiles().filter(like="Area").to_numpy())}
       .items()},
    "about compounds": (COMPOUNDS.replace("aspirin", "taxol").encode, lambda content: {
        "c.csv": content, "p.csv": profiles().to_csv(index=False).encode()},
        import_table("p.csv", annotations="c.csv")),
    "features": (features, lambda content: {"cellmobile/P1/features.parquet": content},
                 load_features),
    "harmony": (HARMONY.encode, beside_image("Index.idx.xml"), import_all),
    "cellvoyager": (YOKOGAWA.encode, beside_image("MeasurementData.mlf"), import_all),
    "incell": (XDCE.encode, beside_image("p.xdce"), import_all),
    "imagexpress": (HTD.encode, lambda content: {
        "p.htd": content, "p_B02_s1_w1.tif": tiff()}, import_all),
    "htd": (HTD.encode, only("a"), lambda f: read_htd((f / "a").read_bytes())),
    "loaddata": (LOADDATA.encode, beside_image("load_data.csv"), import_all),
    "companion": (OME.encode, beside_image("a.companion.ome"), import_all),
    "ome-tiff": (lambda: tiff(description=OME), only("a.ome.tif"), import_all),
    **{f"zarr {version} {name}": (
        lambda v=version, n=name: zarr_group(v)()[n], within(zarr_group(version), name),
        import_all)
       for version, names in {2: ("p.zarr/.zattrs", "p.zarr/B/02/.zattrs", "p.zarr/B/02/0/.zattrs",
                                  "p.zarr/B/02/0/0/.zarray"),
                              3: ("p.zarr/zarr.json", "p.zarr/B/02/0/zarr.json",
                                  "p.zarr/B/02/0/0/zarr.json")}.items() for name in names},
    **{f"zip {name}": (lambda m=m: archive(m), only("a.zip"), read_zip) for name, m in {
        "stored": zipfile.ZIP_STORED, "deflate": zipfile.ZIP_DEFLATED,
        "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.items()},
}


@cache
def seed(reader: str) -> bytes:
    """The unharmed input of a reader."""
    return READERS[reader][0]()


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


def try_one(reader: str, number: int | None) -> str:
    """Read an unharmed (None) or mutated input: "result" or "sentence"; all else is the finding."""
    _, files, read = READERS[reader]
    content = seed(reader) if number is None else mutate(seed(reader), random.Random(number))
    held_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="moascope-fuzz-") as folder:
        for name, data in files(content).items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        start = time.monotonic()
        try:
            read(Path(folder))
            outcome = "result"
        except MoascopeError as error:
            assert error.problems and all(problem.strip() for problem in error.problems)
            outcome = "sentence"
        assert time.monotonic() - start < SECONDS, f"{reader} {number} took too long"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most = max(MOST_MEMORY, held_before + MOST_GROWTH)
    assert peak < most, f"{reader} {number} took {peak >> 10} MiB"
    return outcome


def try_many(readers: list[str], number_of_each: int, first: int = 0) -> Counter[tuple[str, str]]:
    """Outcomes by reader; what is neither a result nor a sentence is printed and counted."""
    counts: Counter[tuple[str, str]] = Counter()
    for reader in readers:
        try_one(reader, None)
        for number in range(first, first + number_of_each):
            try:
                counts[reader, try_one(reader, number)] += 1
            except Exception:  # Whatever it is, it is the finding.
                counts[reader, "FINDING"] += 1
                print(f"--- {reader} {number}")
                traceback.print_exc(limit=-6, file=sys.stdout)
                sys.stdout.flush()
    return counts


if __name__ == "__main__":
    wanted, *named = sys.argv[1:]
    chosen = [reader for reader in READERS
              if not named or any(reader.startswith(name) for name in named)]
    outcomes = try_many(chosen, -(-int(wanted) // len(chosen)))
    for (name, outcome), count in sorted(outcomes.items()):
        print(f"{name}: {count} {outcome}")
    print(f"{outcomes.total():,} inputs of {len(chosen)} readers, "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at the peak")
