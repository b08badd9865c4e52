"""Memory of tune, train and evaluate on features that memory need not hold.

    python benchmarks/beyond_memory.py --sites 50000 100000 --features 3856 --limit 12
    python benchmarks/beyond_memory.py --sites 16000 --features 3856 --compare

Makes up what the stages before leave of a screen: tables, folds, and features of noise with the
effects of plates and of a third of the compounds. Runs the three stages on it as dvc.yaml starts
them, one trial with 3 folds, and prints the time and the peak memory of each. `--limit` is
what the system lets a stage allocate, in GiB (`ulimit -d`; files that the system keeps in memory
of its own accord do not count). `--compare` runs the stages twice, with the features in memory and
with the features on disk, and prints how far their scores are apart.

`--leak-epochs` shortens the training of `random_image_split`, whose 40 epochs on all images take
hours on a large screen; its memory stays the same.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from stages import make_workspace, measure, stage_command

from moascope.learning.dealing import deal
from moascope.params import Split
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.screen.wells import well_name
from moascope.work.files import write_json

WELLS, FIELDS, CONTROLS = 308, 2, 12
SPLIT = {"folds": 3, "repeats": 1}
BACKBONE, PREFIX = "morphology", "Morphology_DNA_"
STAGES = ("tune", "train", "evaluate")


def make_screen(folder: Path, sites: int, features: int, about: int) -> None:
    """Write data/acquire, data/embed, data/split and the activity of a made-up screen.

    Its compounds, `about` so many, fill whole plate maps, which the plates take in turn.
    """
    rng = np.random.default_rng(0)
    plates = -(-sites // (WELLS * FIELDS))
    maps = min(plates, -(-about // (WELLS - CONTROLS)))
    compounds = [f"C{number:05d}" for number in range(maps * (WELLS - CONTROLS))]
    hit = np.arange(len(compounds)) % 3 == 0
    names = ["Count_Nuclei", "Intensity_DNA_Mean",
             *(f"{PREFIX}{number:04d}" for number in range(features - 2))]
    effect = (rng.normal(size=(1, features)) * 0.1).astype(np.float32)
    acquired = folder / "data/acquire"
    acquired.mkdir(parents=True)
    quality, layout = [], []
    for plate in range(plates):
        number = plate % maps * (WELLS - CONTROLS) + np.arange(-CONTROLS, WELLS - CONTROLS)
        control = np.arange(WELLS) < CONTROLS
        wells = pd.DataFrame({
            "Metadata_Plate": f"Plate{plate:05d}",
            "Metadata_Well": [well_name(i // 22 + 1, i % 22 + 1) for i in range(WELLS)],
            "Metadata_Compound": ["DMSO" if own else compounds[i]
                                  for own, i in zip(control, number, strict=True)],
            "Metadata_Concentration_uM": np.where(control, np.nan, 10.0),
            "Metadata_Control": np.where(control, "negative", "")})
        layout.append(wells)
        rows = np.repeat(np.arange(WELLS), FIELDS)
        X = rng.standard_normal((len(rows), features), np.float32)
        X += rng.standard_normal((1, features), np.float32)
        X[hit[number[rows]] & ~control[rows]] += effect
        meta = wells.iloc[rows][["Metadata_Plate", "Metadata_Well"]].assign(
            Metadata_Site=np.tile(np.arange(1, FIELDS + 1), WELLS),
            Metadata_Batch=f"Batch{(plate + plate // maps) % 2}", Metadata_Panel="panel",
            QC_Pass=True)
        out = folder / f"data/embed/{BACKBONE}/Plate{plate:05d}"
        out.mkdir(parents=True)
        described = pa.Table.from_pandas(meta, preserve_index=False)
        pyarrow.parquet.write_table(
            pa.Table.from_arrays([*described.columns, *map(pa.array, X.T.copy())],
                                 [*described.column_names, *names]),
            out / "features.parquet", use_dictionary=False, write_statistics=False,
            compression="none")
        quality.append(meta)
    usable = pd.concat(quality, ignore_index=True)
    usable.drop(columns="QC_Pass").assign(FileName_DNA=[f"{i}.tif" for i in usable.index]).to_csv(
        acquired / "load_data.csv", index=False)
    pd.concat(layout).to_csv(acquired / "layout.csv", index=False)
    pd.DataFrame({"Metadata_Compound": compounds,
                  "Metadata_MoA": np.where(hit, "agonist", "inhibitor"),
                  "gpcr": np.where(hit, "yes", "no")}).to_csv(
        acquired / "annotations.csv", index=False)
    write_json(acquired / "source.json", {"source": "folder"})
    dealt = deal(label_screen(read_screen(acquired), "gpcr"), usable, Split(**SPLIT), 0)
    split = folder / "data/split"
    split.mkdir()
    dealt.groups.to_parquet(split / "groups.parquet", index=False)
    dealt.wells.to_parquet(split / "wells.parquet", index=False)
    write_json(split / "target.json", {**asdict(dealt.question), "warnings": dealt.warnings})
    (folder / "data/prepare").mkdir()
    activity = folder / "reports/activity"
    activity.mkdir(parents=True)
    pd.DataFrame({"Metadata_Compound": compounds, "active": ""}).to_csv(
        activity / "compounds.csv", index=False)


def run_stages(folder: Path, limit: float, leak_epochs: int, in_memory: str = "") -> None:
    """Run the stages and print a row of each."""
    for stage in STAGES:
        program = (f"import sys; sys.path.insert(0, {str(folder / 'src')!r})\n"
                   "from moascope.evaluation import leak\n"
                   f"leak.MEMORISING['epochs'] = {leak_epochs}\n"
                   "from moascope.features import disk\n"
                   f"disk.MOST_IN_MEMORY = {in_memory or 'disk.MOST_IN_MEMORY'}\n"
                   "from moascope.cli import main\n"
                   f"sys.argv = {shlex.split(stage_command(stage))!r}\n"
                   "main()")
        bound = f"ulimit -d {int(limit * 2**20)} && " if limit else ""
        cost = measure(f"{bound}{sys.executable} -c {shlex.quote(program)}", folder)
        print(f"| {stage} | {cost.seconds:,.0f} | {cost.processor:,.0f} | {cost.peak:,.0f} |",
              flush=True)


def differences(found: object, other: object) -> list[float]:
    """How far the numbers of two nested results are apart."""
    if isinstance(found, dict) and isinstance(other, dict):
        assert found.keys() == other.keys()
        return [gap for key in found for gap in differences(found[key], other[key])]
    if isinstance(found, list) and isinstance(other, list):
        return [gap for pair in zip(found, other, strict=True) for gap in differences(*pair)]
    numbers = isinstance(found, (int, float)) and isinstance(other, (int, float))
    return [abs(found - other)] if numbers else [0.0 if found == other else float("inf")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[50_000, 100_000])
    parser.add_argument("--features", type=int, default=3_856)
    parser.add_argument("--compounds", type=int, default=6_001, help="about, in whole plates")
    parser.add_argument("--limit", type=float, default=0.0, help="GiB; 0: none")
    parser.add_argument("--leak-epochs", type=int, default=40)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--work", type=Path, help="folder for the screen and the results")
    asked = parser.parse_args()
    for sites in asked.sites:
        folder = Path(tempfile.mkdtemp(prefix="moascope-", dir=asked.work)).resolve() / "run"
        try:
            make_workspace(folder, {
                "acquire": {"source": "folder"}, "embed": {"backbone": BACKBONE}, "split": SPLIT,
                "tune": {"trials": 1}, "train": {"batch_size": 1024}, "target": "gpcr",
                "evaluate": {"refits": 1}})
            make_screen(folder, sites, asked.features, asked.compounds)
            size = 4 * sites * asked.features / 2**30
            print(f"\n{sites:,} sites x {asked.features:,} features ({size:.2f} GiB)\n")
            print("| stage | seconds | of processor | peak, MiB |\n|---|---|---|---|", flush=True)
            if asked.compare:
                scores = []
                for in_memory in (str(2**40), "0"):
                    # A study that is there would go on where it stopped.
                    shutil.rmtree(folder / "data/tune", ignore_errors=True)
                    run_stages(folder, asked.limit, asked.leak_epochs, in_memory)
                    scores.append({
                        "trial": pd.read_csv(folder / "reports/tune/curves.csv")["score"].tolist(),
                        **json.loads((folder / "reports/evaluate/metrics.json").read_text())})
                gaps = np.array(differences(*scores))
                print(f"\n{len(gaps)} values of the study and metrics.json; "
                      f"{int((gaps > 0).sum())} differ, by {gaps.max():.2g} at most")
            else:
                run_stages(folder, asked.limit, asked.leak_epochs)
        finally:
            shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
