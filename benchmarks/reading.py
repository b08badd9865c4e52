"""How many bytes acquire, validate and prepare read of a screen, and how long they take.

    python benchmarks/reading.py                          # this code
    python benchmarks/reading.py --source OTHER/src       # another version of it

Writes screens of random planes (uncompressed 16-bit TIFF, two plates, three channels) on the disk
and in a bucket on this machine, and runs the three stages as dvc.yaml does, twice. Bytes are those
that all processes ask the system for (`rchar`), less what the same stages read where planes have 16
pixels: libraries and tables. Of the bucket they are those that its server sends, with room for a
quarter of the screen in the local cache. Processor time is told less that of the small planes, too.
With `--where arrays` a site is one OME-Zarr array in the bucket: five channels, of which three are
read, each stored at two resolutions; the size of the screen counts all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

SIZES = {512: 64, 1080: 32, 2160: 12}
"""Sites on a plate, by the height and width of a plane in pixels."""
CHANNELS = ("DNA", "Actin", "Tubulin")
ARRAY_CHANNELS = 5
STAGES = {
    "acquire": "--out data/acquire",
    "validate": "--screen data/acquire --out data/validate --report reports/validate",
    "prepare": "--screen data/acquire --validation data/validate --out data/prepare "
               "--report reports/prepare",
}
_SUBREAPER = 36  # of prctl: workers whose parent has ended are this process's to wait for


class Spent(NamedTuple):
    """Bytes that were read, seconds by the clock, and seconds of processors."""

    bytes: float
    seconds: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "src")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--where", nargs="+", default=["disk", "bucket"])
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    print("| images | planes | MB | run | read, MB | times | seconds | processor, s |\n"
          "|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        small = runs(Path(folder), 16, max(SIZES.values()), arguments.source.resolve(), None)
    for where in arguments.where:
        for size in arguments.sizes:
            for row in rows(where, size, arguments.source.resolve(), small):
                print(row, flush=True)


def rows(where: str, size: int, source: Path, small: list[Spent]):
    """Rows of the table for one screen."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        bucket = None
        if where != "disk":
            from buckets import bucket_server

            bucket = stack.enter_context(bucket_server())
        large = runs(Path(folder), size, SIZES[size], source, bucket, where == "arrays")
        total = 2 * SIZES[size] * len(CHANNELS) * size**2 * 2 / 1e6
        if where == "arrays":
            total *= ARRAY_CHANNELS / len(CHANNELS) * (1 + 1 / 4)
        for name, spent, base in zip(("first", "second"), large, small, strict=True):
            read = max(spent.bytes - (0 if bucket else base.bytes), 0) / 1e6
            yield (f"| {where} | {size} x {size} | {total:,.0f} | {name} | {read:,.0f} "
                   f"| {read / total:.2f} | {spent.seconds:.0f} "
                   f"| {spent.processor - base.processor:.1f} |")


def runs(work: Path, size: int, sites: int, source: Path, bucket,
         arrays: bool = False) -> list[Spent]:
    """Two runs of the three stages, one after the other."""
    write_screen(work / "screen", size, sites, bucket, arrays)
    (work / "data").mkdir()
    settings = {"acquire": {"source": "folder", "path": "screen", "allow_outside": True},
                "target": "moa"}
    (work / "params.yaml").write_text(yaml.safe_dump(settings))
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("AWS", "MLFLOW"))}
    environment |= {"PYTHONPATH": str(source), "MOASCOPE_CACHE": str(work / "cache")}
    if bucket is not None:
        quarter = 2 * sites * len(CHANNELS) * size**2 * 2 / 4e9
        environment |= {"AWS_ENDPOINT_URL": bucket.url, "MOASCOPE_CACHE_GB": f"{quarter:.6f}"}
    found = []
    for _ in range(2):
        if bucket is not None:
            bucket.forget()
        before = spent_so_far()
        for stage, paths in STAGES.items():
            command = [sys.executable, "-P", "-m", "moascope.cli", "stage", stage, *paths.split()]
            done = subprocess.run(command, cwd=work, env=environment, capture_output=True,
                                  text=True)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
            # Fork servers end after the stage that started them.
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
        after = spent_so_far()
        spent = Spent(*(late - early for late, early in zip(after, before, strict=True)))
        found.append(spent._replace(bytes=bucket.sent) if bucket is not None else spent)
    return found


def spent_so_far() -> Spent:
    """What the processes that this one has waited for have spent, and its own reading."""
    said = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(int(said["rchar"]), time.perf_counter(), used.ru_utime + used.ru_stime)


def write_screen(folder: Path, size: int, sites: int, bucket, arrays: bool = False) -> None:
    """Two plates of compounds of two mechanisms."""
    import tifffile

    rng = np.random.default_rng(0)
    rows, layout = [], []
    for plate in ("P1", "P2"):
        for site in range(sites):
            well = f"{'ABCDEFGH'[site // 12 % 8]}{1 + site % 12:02d}"
            place = {"Metadata_Plate": plate, "Metadata_Well": well}
            control = site % 12 < 2
            if site < 96:
                compound = "DMSO" if control else f"C{site % 12:02d}"
                layout.append(place | {
                    "Metadata_Compound": compound, "Metadata_Concentration_uM": "",
                    "Metadata_Control": "negative" if control else ""})
            row = place | {"Metadata_Site": 1 + site // 96}
            if arrays:
                name = f"{plate}.zarr/{well[0]}/{well[1:]}/{site // 96}"
                write_field(folder / name, rng.integers(
                    100, 4000, (ARRAY_CHANNELS, size, size), np.uint16))
                bucket.put_folder(folder / name, name)
                shutil.rmtree(folder / name)
                for number, channel in enumerate(CHANNELS):
                    row |= {f"FileName_{channel}": f"s3://gallery/{name}/0",
                            f"Frame_{channel}": number}
            for channel in () if arrays else CHANNELS:
                name = f"images/{plate}/{site}_{channel}.tif"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, rng.integers(100, 4000, (size, size), np.uint16))
                # As if written yesterday.
                os.utime(path, (time.time() - 86_400,) * 2)
                if bucket is not None:
                    name = bucket.put(name, path.read_bytes())
                    path.unlink()
                row |= {f"FileName_{channel}": name, f"Frame_{channel}": 0}
            rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "load_data.csv", index=False)
    pd.DataFrame(layout).to_csv(folder / "layout.csv", index=False)
    compounds = [f"C{number:02d}" for number in range(2, 12)]
    pd.DataFrame({"Metadata_Compound": compounds,
                  "Metadata_MoA": [("one", "two")[number % 2] for number in range(10)]}).to_csv(
        folder / "annotations.csv", index=False)


def write_field(folder: Path, values: np.ndarray) -> None:
    """Two resolutions of a field as arrays, a chunk for each channel, uncompressed."""
    import zarr

    for level in (0, 1):
        part = values[:, ::2**level, ::2**level]
        zarr.create_array(str(folder / f"{level}"), data=part, chunks=(1, *part.shape[1:]),
                          compressors=None, zarr_format=2)


if __name__ == "__main__":
    main()
