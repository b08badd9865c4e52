"""How long `moascope import` takes over half a million file names, and over an index of them.

    PYTHONPATH=src python benchmarks/import_names.py

Names are generated in memory, so that no file system is measured: 29 plates of 384 wells, 9 sites
and 5 channels. Times are processor seconds of this process.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from moascope.importing.kinds import find_planes, recognise
from moascope.importing.sites import place_sites
from moascope.importing.tree import Tree
from moascope.importing.xml import read_elements
from moascope.screen.wells import well_name

GUID = "722986E3-C24E-4E7D-A484-F1578ECD7C53"


def places() -> Iterator[tuple[int, int, int, int, int]]:
    """Plate, row, column, site and channel of 501,120 images."""
    return ((plate, row, column, site, channel) for plate in range(29) for row in range(16)
            for column in range(24) for site in range(1, 10) for channel in range(1, 6))


def imagexpress() -> list[str]:
    return [f"Plate{p:02d}/TimePoint_1/Run_{well_name(r, c)}_s{s}_w{w}{GUID}.tif"
            for p, r, c, s, w in places()]


def harmony() -> list[str]:
    return [f"P{p:02d}__2020-11-08T18_18_00-Measurement1/Images/"
            f"r{r + 1:02d}c{c + 1:02d}f{s:02d}p01-ch{w}sk1fk1fl1.tiff"
            for p, r, c, s, w in places()]


def cellvoyager() -> list[str]:
    return [f"run/1100{p:02d}_{well_name(r, c)}_T0001F{s:03d}L01A01Z01C{w:02d}.tif"
            for p, r, c, s, w in places()]


def incell() -> list[str]:
    return [f"P{p:02d}/{well_name(r, 0)[0]} - {c + 1:02d}(fld {s} wv Filter{w} - Filter{w}).tif"
            for p, r, c, s, w in places()]


def time_names(name: str, files: list[str]) -> None:
    """From names to the rows of load_data.csv."""
    tree = Tree(Path("/nowhere"), tuple(sorted(files)))
    start = time.process_time()
    kind, _ = recognise(tree)
    placed = place_sites(tree, find_planes(tree, kind, None))
    seconds = time.process_time() - start
    print(f"{name:12} {len(files):,} names to {len(placed.table):,} sites in {seconds:.1f} s, "
          f"{len(placed.incomplete)} incomplete")


def time_index(images: int) -> None:
    """An index of Harmony's, streamed from disk."""
    entry = ("<Image Version='1'><id>x</id><State>Ok</State><URL>r01c01f01p01-ch1sk1fk1fl1.tiff"
             "</URL><Row>1</Row><Col>1</Col><FieldID>1</FieldID><PlaneID>1</PlaneID>"
             + "".join(f"<Key{key} Unit='m'>6.5E-07</Key{key}>" for key in range(20)) + "</Image>")
    with tempfile.TemporaryFile() as file:
        file.write(b"<E xmlns='HarmonyV6'><Images>")
        for _ in range(images):
            file.write(entry.encode())
        file.write(b"</Images></E>")
        size = file.tell()
        file.seek(0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        count = sum(1 for _ in read_elements(file, {"Image"}, "Index.xml"))
        seconds = time.process_time() - start
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"index        {count:,} images, {size / 1e6:.0f} MB of XML in {seconds:.1f} s and "
          f"{more:.0f} MiB of memory")


if __name__ == "__main__":
    time_index(100_000)
    for make in (imagexpress, harmony, cellvoyager, incell):
        time_names(make.__name__, make())
