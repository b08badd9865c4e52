"""Measure `prepare` against the bare decoding of the same files.

    python benchmarks/prepare.py

Writes fields of nuclei and textures with photon noise as 16-bit TIFF (one file per channel), as
many plates as processes. Each round, warm processes first read every site with the reader of
`prepare` and discard it, then prepare every plate: decoding, QC, illumination, scaling,
crops on disk. The files are in the system's cache, so that decoding costs as little as it can.
Prints a Markdown table with the medians over the rounds. `wall` is by the clock, `processor` by
the time that the processes had a processor: on a busy machine the latter is more reliable.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.params import Prepare
from moascope.pixels.prepare import prepare_plate
from moascope.screen.planes import read_site_planes
from moascope.screen.tables import Screen
from moascope.work.processes import default_jobs

CHANNELS = ("DNA", "Actin", "Tubulin")
KINDS = {"uncompressed": {}, "LZW": {"compression": "lzw"}, "deflate": {"compression": "zlib"}}
FIELDS = 8  # different fields; a plate names each of them many times
PIXELS = 1.2e8  # a plate has that many to a channel, and 256 sites at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 1080, 2160])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=default_jobs())
    parser.add_argument("--threads", type=int, default=2, help="sites at a time per process")
    arguments = parser.parse_args()
    print("| field | TIFF | decode, ms per plane | prepare, ms per plane | decode share, wall "
          "| decode share, processor |\n|---|---|---|---|---|---|")
    for row in rows(arguments.sizes, arguments.rounds, arguments.jobs, arguments.threads):
        print(row, flush=True)


def rows(sizes: list[int], rounds: int, jobs: int, threads: int):
    """Rows of the table, as they are measured."""
    with (tempfile.TemporaryDirectory() as folder,
          ProcessPoolExecutor(jobs, get_context("spawn")) as pool):
        for size, kind in itertools.product(sizes, KINDS):
            screen = write_screen(Path(folder) / "images", size, KINDS[kind])
            decoding, preparing = (np.median([
                measured(pool, jobs, len(screen.sites) * len(CHANNELS), work, screen, *more)
                for _ in range(rounds + 1)][1:], axis=0)  # the first warms up
                for work, more in ((decode, ()), (prepare, (Path(folder), threads))))
            shares = decoding / preparing
            yield (f"| {size} x {size} | {kind} | {decoding[0]:.2f} | {preparing[0]:.2f} "
                   f"| {shares[0]:.0%} | {shares[1]:.0%} |")


def measured(pool: ProcessPoolExecutor, jobs: int, planes: int, work, *arguments):
    """Milliseconds per plane and process: of wall and of processor time."""
    start = time.perf_counter()
    seconds = [future.result() for future in [pool.submit(timed, work, *arguments)
                                              for _ in range(jobs)]]
    return 1e3 / planes * np.array([time.perf_counter() - start, np.mean(seconds)])


def timed(work, *arguments) -> float:
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def decode(screen: Screen) -> None:
    for row in screen.sites.to_dict("records"):
        read_site_planes(screen, row)


def prepare(screen: Screen, folder: Path, threads: int) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        prepare_plate(screen, Path(out), Prepare(), threads)


def write_screen(folder: Path, size: int, options: dict[str, str]) -> Screen:
    """A plate of fields of `size` pixels square."""
    import tifffile

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for field, channel in itertools.product(range(FIELDS), CHANNELS):
        tifffile.imwrite(folder / f"{field}_{channel}.tif", draw(rng, size, channel), **options)
    rows = []
    for site in range(int(np.clip(PIXELS / size**2, 16, 256))):
        well = f"{chr(ord('A') + site // 48)}{1 + site // 2 % 24:02d}"
        rows.append({"Metadata_Plate": "P1", "Metadata_Well": well,
                     "Metadata_Site": 1 + site % 2, "Metadata_Batch": "", "Metadata_Panel": ""}
                    | {f"FileName_{name}": f"{site % FIELDS}_{name}.tif" for name in CHANNELS}
                    | {f"Frame_{name}": 0 for name in CHANNELS})
    sites = pd.DataFrame(rows)
    wells = sites["Metadata_Well"].unique()
    layout = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": wells,
                           "Metadata_Control": np.where(np.arange(len(wells)) < 8, "negative", "")})
    return Screen(sites, layout, layout.iloc[:0], CHANNELS, folder)


def draw(rng: np.random.Generator, size: int, channel: str) -> np.ndarray:
    """Cells of about 20 pixels across in a field, with photon noise; uint16 [size, size]."""
    radius = 9 if channel == "DNA" else 18
    y, x = np.mgrid[-3 * radius : 3 * radius + 1, -3 * radius : 3 * radius + 1]
    spot = 1500 * np.exp(-(y**2 + x**2) / (2 * radius**2))
    plane = np.full((size + 6 * radius + 1,) * 2, 300.0)
    for row, column in rng.integers(0, size, (max(size**2 // 8000, 4), 2)):
        plane[row : row + len(spot), column : column + len(spot)] += spot
    return rng.poisson(plane[:size, :size]).astype(np.uint16)


if __name__ == "__main__":
    main()
