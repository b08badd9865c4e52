"""Memory and time of the stages before split on a table of profiles larger than memory allows.

Writes a table of random numbers, runs acquire, validate, prepare and embed on it as dvc.yaml starts
them, and prints what each took. `--row-group` is how many rows lie in one group of the Parquet
file: a table that was written in one piece is the hard case.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from stages import make_workspace, measure, stage_command

from moascope.screen.wells import well_name

WELLS = 384
COMPOUNDS = 40


def write_screen(folder: Path, wells: int, features: int, row_group: int, form: str) -> int:
    """Write a screen of random profiles; returns the bytes of its table."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    plates = -(-wells // WELLS)
    rows = pd.DataFrame({
        "Metadata_Plate": np.repeat([f"Plate{p:05d}" for p in range(plates)], WELLS)[:wells],
        "Metadata_Well": np.tile([well_name(i // 24, i % 24) for i in range(WELLS)],
                                 plates)[:wells]})
    names = [f"Cells_Feature_{i:04d}" for i in range(features)]
    schema = pa.schema([(name, pa.string()) for name in rows]
                       + [(name, pa.float32()) for name in names])
    path = folder / f"profiles.{form}"
    writer = (pa.parquet.ParquetWriter(path, schema) if form == "parquet"
              else pa.csv.CSVWriter(path, schema))
    with writer:
        for start in range(0, wells, row_group):
            own = rows.iloc[start:start + row_group]
            values = rng.standard_normal((features, len(own)), np.float32)
            writer.write_table(pa.Table.from_arrays(
                [pa.array(own[name]) for name in rows] + [pa.array(one) for one in values],
                schema=schema))
    number = np.arange(wells) % WELLS
    layout = rows.assign(
        Metadata_Compound=np.where(number % 12 == 0, "DMSO",
                                   [f"C{i % COMPOUNDS:02d}" for i in number]),
        Metadata_Concentration_uM=np.where(number % 12 == 0, "", "10"),
        Metadata_Control=np.where(number % 12 == 0, "negative", ""))
    layout.to_csv(folder / "layout.csv", index=False)
    pd.DataFrame({"Metadata_Compound": [f"C{i:02d}" for i in range(COMPOUNDS)],
                  "Metadata_MoA": ["a", "b"] * (COMPOUNDS // 2),
                  "gpcr": ["yes", "no"] * (COMPOUNDS // 2)}).to_csv(
        folder / "annotations.csv", index=False)
    return path.stat().st_size


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wells", type=int, default=131_072)
    parser.add_argument("--features", type=int, default=4_000)
    parser.add_argument("--row-group", type=int, default=32_768)
    parser.add_argument("--form", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--work", type=Path, help="Folder for the table and the results.")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="moascope-", dir=asked.work)).resolve()
    try:
        size = write_screen(folder / "screen", asked.wells, asked.features, asked.row_group,
                            asked.form)
        make_workspace(folder / "run", {
            "acquire": {"source": "folder", "path": str(folder / "screen")},
            "embed": {"backbone": "profiles"}})
        print(f"{asked.wells:,} wells x {asked.features:,} features, {asked.form} of "
              f"{size / 2**30:.2f} GiB, {asked.row_group:,} rows per group\n")
        print("| stage | seconds | peak, MiB |\n|---|---|---|")
        for stage in ("acquire", "validate", "prepare", "embed"):
            cost = measure(stage_command(stage), folder / "run")
            print(f"| {stage} | {cost.seconds:.0f} | {cost.peak:,.0f} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
