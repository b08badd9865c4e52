"""The complete idr0088 layout as tables without images, through validate and split.

Usage: python benchmarks/idr0088_tables.py ANNOTATION.csv.zip [--target gpcr] [--page FOLDER]

Makes the three tables of a screen from the annotation of idr0088 (Cox et al. 2020, CC BY-NC 4.0,
DOI 10.17867/10000150): 317,430 wells with two fields of three channels, under the names that the
archive documents. Facts and checksums of planes are made up, as if every image were sound and
different. Prints a Markdown table of the time and the peak memory of each step, the numbers that
a split of this screen must give, and how much the layout reveals about its compounds.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.annotation.compounds import annotate_compounds
from moascope.layout.page import write_screen_page
from moascope.learning.dealing import deal
from moascope.learning.folds import Folds
from moascope.learning.leaks import audit_leaks, plane_rows
from moascope.params import Split, Validate
from moascope.screen.columns import SITE, WELL
from moascope.screen.manifest import read_manifest, write_manifest
from moascope.screen.tables import Screen, read_screen
from moascope.screen.targets import Labels, label_screen
from moascope.sources.idr0088 import plane_name
from moascope.sources.idr0088_wells import CHANNELS, annotation_table, layout_table, read_annotation
from moascope.validation.expectations import check_expectations

FIELDS = 2


def make_tables(annotation: Path, folder: Path) -> None:
    """Write load_data.csv, layout.csv and annotations.csv of the whole screen."""
    wells = read_annotation(annotation)
    stem = wells["Plate"] + "_" + wells["Well"]
    sites = pd.concat([
        pd.DataFrame({
            "Metadata_Plate": wells["Plate"], "Metadata_Well": wells["Well"],
            "Metadata_Site": field, "Metadata_Batch": wells["Batch"],
            "Metadata_Panel": wells["Panel"],
            # The name that the archive documents, with the well's own part left to be filled in.
            **{f"FileName_{name}": wells["Location"] + "/" + wells["Plate"] + "/" + stem
               + plane_name("", "", field, number).removeprefix("_")
               for number, name in enumerate(CHANNELS, start=1)},
        })
        for field in range(1, FIELDS + 1)
    ])
    sites.to_csv(folder / "load_data.csv", index=False)
    layout_table(wells, sites).to_csv(folder / "layout.csv", index=False)
    annotations = annotate_compounds(annotation_table(wells, sites)).table
    annotations.to_csv(folder / "annotations.csv", index=False)


def sound_planes(screen: Screen) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Facts and a manifest as validate and acquire write them if every image is sound."""
    # One made-up sum a file: no two pictures are alike.
    parts = [screen.sites[SITE].assign(Channel=channel,
                                       FileName=screen.sites[f"FileName_{channel}"])
             for channel in screen.channels]
    planes = pd.concat(parts, ignore_index=True).sort_values([*SITE, "Channel"], ignore_index=True)
    planes = planes.assign(Frame=0, Readable=True, Error="", Height=1050, Width=1250,
                           DType="uint16", Min=90.0, Max=4000.0, Mean=400.0, AtMax=1e-6,
                           BitDepth=12, Saturated=0.0, Blank=False, Problem="")
    manifest = pd.DataFrame({"FileName": planes["FileName"], "Bytes": 2_627_290,
                             "SHA256": pd.Series(np.arange(len(planes))).astype("str")})
    return planes, manifest


class Steps:
    """Wall time and peak memory of steps, as a table."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float]] = []

    def __call__(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # Starts the peak of memory anew.
        start, busy = time.perf_counter(), time.process_time()
        result = function(*arguments)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
        self.rows.append((name, seconds, busy, peak))
        print(f"| {name} | {seconds:.1f} | {busy:.1f} | {peak:.2f} |", flush=True)
        return result


def measure(annotation: Path, target: str, work: Path, page: Path) -> None:
    steps = Steps()
    print("| step | seconds | of processor | peak GiB |\n|---|---|---|---|")
    steps("make the three tables", make_tables, annotation, work)
    screen = steps("read_screen", read_screen, work)
    planes, manifest = steps("(facts and manifest made up)", sound_planes, screen)
    # Parquet and CSV, as the stages find them.
    planes.to_parquet(work / "planes.parquet", index=False)
    write_manifest(manifest, work)
    outcomes = steps("Great Expectations, five tables", check_expectations, screen, planes,
                     screen.sites.loc[[], SITE], Validate(), work / "data_docs")
    del planes, manifest
    labels = steps("label_screen", label_screen, screen, target)
    dealt = steps("deal into folds and hold-out", deal, labels, screen.sites, Split(), 0)
    facts = steps("read facts of planes", lambda: pd.read_parquet(
        work / "planes.parquet", columns=[*WELL, "FileName", "Blank"]))
    manifest = steps("read the manifest", read_manifest, work)
    rows = steps("planes of dealt compounds", plane_rows, facts, manifest, dealt,
                 labels.question.unit)
    audit = steps("leak audit", audit_leaks, rows, Split().repeats)
    del facts, manifest, rows
    content = steps("the screen's page", write_screen_page, page, screen, labels, dealt.groups,
                    {"source": "idr0088", "licence": "CC BY-NC 4.0",
                     "citation": "Cox et al. 2020, DOI 10.17867/10000150"}, 0)
    report(screen, outcomes, labels, dealt, audit, content, steps)


def report(screen: Screen, outcomes: list[dict[str, Any]], labels: Labels, dealt: Folds,
           audit: dict[str, int], content: dict[str, Any], steps: Steps) -> None:
    """Print the expected numbers of this screen and its confounds."""
    seconds = dict((name, took) for name, took, _, _ in steps.rows)
    checked = seconds["read_screen"] + seconds["Great Expectations, five tables"]
    names = [name for name, *_ in steps.rows]
    split = sum(seconds[name] for name in names[names.index("label_screen"):])
    print(f"| **tables read and checked** | {checked:.1f} | | |\n| **split** | {split:.1f} | | |")
    print(f"| **maximum** | | | {max(peak for *_, peak in steps.rows):.2f} |\n")
    known = screen.annotations[screen.annotations["Metadata_MoA"] != ""]
    block = screen.annotations["Metadata_InChIKey"].str[:14]
    shared = block[block.duplicated(keep=False)]
    print(f"{len(screen.layout):,} wells, {screen.layout['Metadata_Plate'].nunique():,} plates, "
          f"{len(screen.sites):,} sites; {len(known):,} compounds with a mechanism, "
          f"{len(screen.annotations) - len(known)} unknown; {len(shared)} compounds in "
          f"{shared.nunique()} groups of one InChIKey first block")
    print(f"{(known['gpcr'] == 'yes').sum()} of them GPCR, {(known['gpcr'] == 'unknown').sum()} "
          "unclear, by the words of their mechanisms")
    print(f"target {labels.question.target}: {dealt.groups['Label'].value_counts().to_dict()}, "
          f"{int(dealt.groups['Holdout'].sum())} held out; leak audit {audit}")
    failed = [outcome["expectation"] for outcome in outcomes if not outcome["success"]]
    print(f"{len(outcomes)} expectations; not met: {failed}\n")
    print("| confound | value | null, mean (95 %) | p |\n|---|---|---|---|")
    for one in content["confounds"]:
        null = one.get("null")
        said = (f"{null['mean']:.4f} ({null['low']:.4f} to {null['high']:.4f})" if null
                else one.get("why_not", f"{one.get('shuffled_labels', 0):.4f}, shuffled labels"))
        value = "" if one["value"] is None else f"{one['value']:.4f}"
        print(f"| {one['name']} | {value} | {said} | {one.get('p', '')} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("annotation", type=Path)
    parser.add_argument("--target", default="gpcr")
    parser.add_argument("--page", type=Path, help="folder for screen.html and screen.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        measure(options.annotation, options.target, Path(work), options.page or Path(work))


if __name__ == "__main__":
    main()
