"""Memory of acquire, validate and split on the tables of very many sites.

    python benchmarks/large_tables.py --sites 100000 1000000 --limit 8
    python benchmarks/large_tables.py --sites 1000000 --limit 8 --images

Makes up a screen whose profiles have a row per site, runs the stages up to split on it as dvc.yaml
starts them, and prints the time and the peak memory of each. With `--images` the screen names
three image files per site, which do not exist: the tables are then sent through the functions that
the stages call, and facts and checksums of planes are made up as if every image were sound and
different. `--limit` is what the system lets a process allocate, in GiB (`ulimit -d`).
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from stages import make_workspace, measure, stage_command

from moascope.screen.wells import well_name

WELLS, FIELDS, CONTROLS = 384, 9, 32
CHANNELS = ("DNA", "Actin", "Tubulin")
STAGES = ("acquire", "validate", "prepare", "embed", "split")


def make_tables(folder: Path, sites: int, features: int, compounds: int) -> None:
    """Write layout.csv, annotations.csv, and profiles.parquet or, without features, load_data.csv.
    """
    folder.mkdir(parents=True)
    first, layout = True, []
    rng = np.random.default_rng(0)
    writer = None
    for number, plate in enumerate(_plates(sites)):
        wells = pd.DataFrame({
            "Metadata_Plate": f"Plate{number:06d}",
            "Metadata_Well": [well_name(i // 24, i % 24) for i in range(WELLS)]})
        own = (number * (WELLS - CONTROLS) + np.arange(WELLS) - CONTROLS) % compounds
        control = np.arange(WELLS) < CONTROLS
        layout.append(wells.assign(
            Metadata_Compound=np.where(control, "DMSO", [f"C{i:06d}" for i in own]),
            Metadata_Concentration_uM=np.where(control, "", "10"),
            Metadata_Control=np.where(control, "negative", "")))
        rows = wells.loc[np.repeat(np.arange(WELLS), FIELDS)[:plate]].assign(
            Metadata_Site=np.tile(np.arange(1, FIELDS + 1), WELLS)[:plate],
            Metadata_Batch=f"Batch{number % 20:02d}")
        if features:
            values = rng.standard_normal((features, plate), np.float32)
            table = pa.Table.from_arrays(
                [*(pa.array(rows[name]) for name in rows), *map(pa.array, values)],
                [*rows, *(f"Cells_Feature_{i:03d}" for i in range(features))])
            writer = writer or pyarrow.parquet.ParquetWriter(folder / "profiles.parquet",
                                                             table.schema)
            writer.write_table(table)
        else:
            stem = (rows["Metadata_Plate"] + "/" + rows["Metadata_Plate"] + "_"
                    + rows["Metadata_Well"] + "_s" + rows["Metadata_Site"].astype("str") + "_w")
            rows = rows.assign(**{f"FileName_{channel}": stem + f"{at}.tif"
                                  for at, channel in enumerate(CHANNELS, 1)})
            rows.to_csv(folder / "load_data.csv", index=False, mode="w" if first else "a",
                        header=first)
            first = False
    if writer:
        writer.close()
    pd.concat(layout).to_csv(folder / "layout.csv", index=False)
    at = np.arange(compounds)
    pd.DataFrame({"Metadata_Compound": [f"C{i:06d}" for i in at],
                  "Metadata_MoA": np.where(at % 5 == 0, "agonist", "inhibitor"),
                  "gpcr": np.where(at % 5 == 0, "yes", "no")}).to_csv(
        folder / "annotations.csv", index=False)


def _plates(sites: int) -> Iterator[int]:
    """How many sites each plate has."""
    whole = WELLS * FIELDS
    yield from [whole] * (sites // whole)
    if sites % whole:
        yield sites % whole


def run_stages(folder: Path, limit: float) -> None:
    """Run the stages and print a row of each."""
    make_workspace(folder / "run", {
        "acquire": {"source": "folder", "path": str(folder / "screen")},
        "embed": {"backbone": "profiles"}})
    bound = f"ulimit -d {int(limit * 2**20)} && " if limit else ""
    for stage in STAGES:
        cost = measure(bound + stage_command(stage), folder / "run")
        print(f"| {stage} | {cost.seconds:,.0f} | {cost.processor:,.0f} | {cost.peak:,.0f} |",
              flush=True)


def run_tables(folder: Path) -> None:
    """Send the tables of a screen of images through what the stages call; print a row of each."""
    from idr0088_tables import Steps, sound_planes

    from moascope.layout.page import measure_screen
    from moascope.learning.dealing import deal
    from moascope.learning.leaks import audit_leaks, plane_rows
    from moascope.params import Split, Validate
    from moascope.screen.columns import SITE, WELL
    from moascope.screen.manifest import read_manifest, write_manifest
    from moascope.screen.tables import read_screen, write_screen
    from moascope.screen.targets import label_screen
    from moascope.validation.expectations import check_expectations
    from moascope.validation.facts import quarantined_sites

    steps = Steps()
    screen = steps("acquire: read_screen", read_screen, folder / "screen")
    out = folder / "acquired"
    steps("acquire: write_screen", write_screen, screen, out)
    del screen
    screen = steps("validate: read_screen", read_screen, out)
    planes, manifest = steps("(facts and manifest made up)", sound_planes, screen)
    planes.to_parquet(out / "planes.parquet", index=False)
    write_manifest(manifest, out)
    del manifest
    quarantine = steps("validate: quarantine", quarantined_sites, planes)
    steps("validate: Great Expectations", check_expectations, screen, planes, quarantine,
          Validate(), out / "data_docs")
    del planes
    labels = steps("split: label_screen", label_screen, screen, "gpcr")
    dealt = steps("split: deal", deal, labels, screen.sites, Split(), 0)
    rows = steps("split: planes of dealt compounds", lambda: plane_rows(
        pd.read_parquet(out / "planes.parquet", columns=[*WELL, "FileName", "Blank"]),
        read_manifest(out), dealt, "compound", screen))
    steps("split: leak audit", audit_leaks, rows, Split().repeats)
    del rows
    steps("split: layout", measure_screen, screen, labels, dealt.groups, {}, 0,
          screen.sites.loc[[], SITE])
    print(f"| **maximum** | | | {max(peak for *_, peak in steps.rows):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[100_000])
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--compounds", type=int, default=6_001)
    parser.add_argument("--limit", type=float, default=0.0, help="GiB; 0: none")
    parser.add_argument("--images", action="store_true")
    parser.add_argument("--work", type=Path, help="folder for the screen and the results")
    parser.add_argument("--made", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.made:
        run_tables(asked.made)
        return
    for sites in asked.sites:
        folder = Path(tempfile.mkdtemp(prefix="moascope-", dir=asked.work)).resolve()
        try:
            make_tables(folder / "screen", sites, 0 if asked.images else asked.features,
                        asked.compounds)
            unit = "GiB" if asked.images else "MiB"
            print(f"\n{sites:,} sites\n\n| stage | seconds | of processor | peak, {unit} |\n"
                  "|---|---|---|---|", flush=True)
            if asked.images:
                bound = f"ulimit -d {int(asked.limit * 2**20)} && " if asked.limit else ""
                subprocess.run(f"{bound}exec {shlex.quote(sys.executable)} "
                               f"{shlex.quote(__file__)} --made {shlex.quote(str(folder))}",
                               shell=True, check=True)
            else:
                run_stages(folder, asked.limit)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
