"""`moascope plan` next to what the stages then took.

    python benchmarks/planning.py            # the default simulated screen
    python benchmarks/planning.py --known    # small screens, by which the known costs were set

A simulated screen is planned as a folder of images, and every stage is run as dvc.yaml starts it.
The constants of `moascope.planning.costs` are set by the small screens alone, so that the default
screen tests them. Prints a table, and writes it to planning.csv where the screen is the default.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from stages import make_workspace, measure, stage_command

from moascope.params_file import parse_params
from moascope.planning.costs import costs_of, processor_speed, size_of
from moascope.planning.measuring import measure as measure_sample
from moascope.screen.tables import read_screen
from moascope.work.processes import default_jobs

KNOWN = [{"simulated": {"format": 96, "compounds": compounds, "batches": 2, "fields": 1,
                        "panels": ["A549 ACTB-RAB5A"]}} for compounds in (96, 192)]


def run(settings: dict[str, Any], scratch: Path) -> pd.DataFrame:
    """Plan a screen and run it; one row per stage."""
    make_workspace(scratch / "simulated", settings)
    measure(stage_command("acquire"), scratch / "simulated")
    screen = scratch / "screen"
    shutil.move(scratch / "simulated/data/acquire", screen)
    for name in ("source.json", "manifest.csv"):
        (screen / name).unlink()
    folder = scratch / "run"
    make_workspace(folder, {**settings, "acquire": {"source": "folder", "path": str(screen)}})
    params = parse_params(yaml.safe_load((folder / "params.yaml").read_text()))
    read = read_screen(screen)
    sample = measure_sample(read, params)
    said = costs_of(size_of(read, screen, sample.plane_bytes), sample, params, default_jobs(),
                    processor_speed())
    rows = []
    for cost in said:
        took = measure(stage_command(cost.stage), folder)
        left = sum(path.stat().st_size for path in (folder / "data" / cost.stage).rglob("*")
                   if path.is_file())
        rows.append({"stage": cost.stage, "sites": len(read.sites),
                     "core_seconds_said": round(cost.processor, 1),
                     "core_seconds_took": round(took.processor, 1),
                     "peak_mib_said": round(cost.memory / 2**20),
                     "peak_mib_took": round(took.peak),
                     "disk_mb_said": round(cost.disk / 1e6, 2),
                     "disk_mb_took": round(left / 1e6, 2)})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """Said and took, side by side, as Markdown."""
    lines = ["| stage | core-seconds, said | took | said / took | peak MiB, said | took "
             "| disk MB, said | took |", "|---|---|---|---|---|---|---|---|"]
    total = rows.sum(numeric_only=True)
    total["peak_mib_said"], total["peak_mib_took"] = (
        rows["peak_mib_said"].max(), rows["peak_mib_took"].max())
    for row in [*rows.to_dict("records"), {**total, "stage": "all"}]:
        share = row["core_seconds_said"] / row["core_seconds_took"]
        lines.append(
            f"| {row['stage']} | {row['core_seconds_said']:,.0f} "
            f"| {row['core_seconds_took']:,.0f} | {share:.2f} | {row['peak_mib_said']:,.0f} "
            f"| {row['peak_mib_took']:,.0f} | {row['disk_mb_said']:,.1f} "
            f"| {row['disk_mb_took']:,.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", action="store_true", help="the small screens")
    known = parser.parse_args().known
    for settings in KNOWN if known else [{}]:
        with tempfile.TemporaryDirectory() as scratch:
            rows = run(settings, Path(scratch))
        print(f"\n{rows['sites'][0]:,} sites\n\n{table(rows)}\n")
        if not known:
            rows.to_csv(Path(__file__).with_name("planning.csv"), index=False)


if __name__ == "__main__":
    main()
