"""Memory and time of the path from a table of profiles to a registered model, larger than memory.

    python benchmarks/profiles.py --wells 400000 --features 4000 --limit 12 --leak-epochs 1

Writes a table of random numbers as pycytominer names its columns, with the effects of plates and of
a third of the compounds, imports it, runs the stages on it as dvc.yaml starts them, one trial with
3 folds, and prints what each took. Compounds have 4 doses of 4 wells. `--row-group` is how many
rows lie in one group of the Parquet file: a table that was written in one piece is the hard case.
`--limit` is what the system lets a stage allocate, in GiB (`ulimit -d`).

`--leak-epochs` shortens the training of `random_image_split`, whose 40 epochs on all wells take
hours on a large table; its memory stays the same.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from stages import make_workspace, measure, stage_command

from moascope.screen.wells import well_name

WELLS, CONTROLS, DOSES, PLATES_A_MAP = 384, 32, 4, 4
STAGES = ("import", "acquire", "validate", "prepare", "embed", "split", "activity", "tune", "train",
          "evaluate", "report", "register")
MECHANISM = "adrenergic receptor agonist"


def wells_of(first: int, last: int) -> pd.DataFrame:
    """What a table of profiles says of its wells, from one row to another."""
    number = np.arange(first, last)
    plate, position = number // WELLS, number % WELLS
    treated = position - CONTROLS
    own = (WELLS - CONTROLS) // DOSES
    compound = plate // PLATES_A_MAP * own + treated % own
    control = treated < 0
    mechanism = np.where(compound % 3 == 0, MECHANISM,
                         [f"inhibitor of kinase {one % 40}" for one in compound])
    return pd.DataFrame({
        "Metadata_Plate": [f"Plate{one:05d}" for one in plate],
        "Metadata_Well": [well_name(one // 24 + 1, one % 24 + 1) for one in position],
        "Metadata_pert_iname": np.where(control, "DMSO", [f"C{one:06d}" for one in compound]),
        "Metadata_moa": np.where(control, "", mechanism),
        "Metadata_mmoles_per_liter": np.where(control, 0.0, 0.1 * 3.0 ** (treated // own)),
        "Metadata_pert_type": np.where(control, "control", "trt")})


def write_table(path: Path, wells: int, features: int, row_group: int) -> int:
    """Write a table of random profiles; returns its bytes."""
    rng = np.random.default_rng(0)
    effect = (rng.standard_normal(features) * 0.1).astype(np.float32)
    of_plate = rng.standard_normal((-(-wells // WELLS), features), np.float32)
    names = [f"Cells_Texture_{i:04d}" for i in range(features)]
    described = pa.Schema.from_pandas(wells_of(0, 1), preserve_index=False)
    schema = pa.schema([*described, *(pa.field(name, pa.float32()) for name in names)])
    writer = (pa.parquet.ParquetWriter(path, schema) if path.suffix == ".parquet"
              else pa.csv.CSVWriter(path, schema))
    with writer:
        for start in range(0, wells, row_group):
            own = wells_of(start, min(wells, start + row_group))
            values = rng.standard_normal((features, len(own)), np.float32)
            values += of_plate[(start + np.arange(len(own))) // WELLS].T
            values[:, (own["Metadata_moa"] == MECHANISM).to_numpy()] += effect[:, None]
            writer.write_table(pa.Table.from_arrays(
                [*pa.Table.from_pandas(own, described, preserve_index=False).columns,
                 *(pa.array(one) for one in values)], schema=schema))
    return path.stat().st_size


def command_of(stage: str, table: Path, folder: Path, limit: float, leak_epochs: int) -> str:
    """The shell command of a stage, bounded and with a shortened training on leaked wells."""
    said = {"import": f"moascope import {table} --out screen",
            "predict": "moascope predict --model data/train/model --screen screen --level well "
                       "--out wells.csv"}.get(stage) or stage_command(stage)
    program = (f"import sys; sys.path.insert(0, {str(folder / 'src')!r})\n"
               "from moascope.evaluation import leak\n"
               f"leak.MEMORISING['epochs'] = {leak_epochs}\n"
               "from moascope.cli import main\n"
               f"sys.argv = {shlex.split(said)!r}\n"
               "main()")
    # Arrow's own allocator sets aside a gigabyte at once, used or not, and the limit counts it.
    bound = (f"ulimit -d {int(limit * 2**20)} && ARROW_DEFAULT_MEMORY_POOL=system "
             if limit else "")
    return f"{bound}{sys.executable} -c {shlex.quote(program)}"


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wells", type=int, default=131_072)
    parser.add_argument("--features", type=int, default=4_000)
    parser.add_argument("--row-group", type=int, default=32_768)
    parser.add_argument("--form", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--until", choices=STAGES, default="embed", help="the last stage")
    parser.add_argument("--predict", action="store_true",
                        help="then predict the table as a new one; from train on")
    parser.add_argument("--limit", type=float, default=0.0, help="GiB; 0: none")
    parser.add_argument("--leak-epochs", type=int, default=40)
    parser.add_argument("--work", type=Path, help="folder for the table and the results")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="moascope-", dir=asked.work)).resolve()
    try:
        table, folder = work / f"profiles.{asked.form}", work / "run"
        size = write_table(table, asked.wells, asked.features, asked.row_group)
        make_workspace(folder, {
            "acquire": {"source": "folder", "path": "screen"}, "embed": {"backbone": "profiles"},
            "split": {"folds": 3, "repeats": 1}, "tune": {"trials": 1},
            "train": {"batch_size": 1024}, "evaluate": {"refits": 1}, "target": MECHANISM})
        print(f"{asked.wells:,} wells x {asked.features:,} features, {asked.form} of "
              f"{size / 2**30:.2f} GiB, {asked.row_group:,} rows per group\n")
        print("| stage | seconds | of processor | peak, MiB |\n|---|---|---|---|", flush=True)
        stages = STAGES[:STAGES.index(asked.until) + 1]
        for stage in [*stages, "predict"] if asked.predict else stages:
            cost = measure(command_of(stage, table, folder, asked.limit, asked.leak_epochs), folder)
            print(f"| {stage} | {cost.seconds:,.0f} | {cost.processor:,.0f} | {cost.peak:,.0f} |",
                  flush=True)
            if stage == "import":
                table.unlink()
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
