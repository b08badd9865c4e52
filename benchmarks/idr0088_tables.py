"""The complete idr0088 layout as tables without images, through validate and split.

Usage: python benchmarks/idr0088_tables.py ANNOTATION.csv.zip [--target gpcr] [--work FOLDER]

Makes the three tables of a screen from the annotation of idr0088 (Cox et al. 2020, CC BY-NC 4.0,
DOI 10.17867/10000150): 317,430 wells with two fields of three channels, under the names that the
archive documents. Facts and checksums of planes are made up, as if every image were sound and
different. Prints a Markdown table of the time and the peak memory of each step, the numbers that
a split of this screen must give, and how far the layout gives its compounds away.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.params import Split, Validate
from moascope.screen.tables import SITE, Screen, read_screen
from moascope.screen.targets import label_screen

CHANNELS = ("Segmentation", "GFP", "RFP")
FIELDS = 2
ROOT = "20200722-awss3/ds_hcs_02/PhenoPrintScreen/raw_images_for_IDR"
# The receptor families among the annotation's own terms; ionotropic glutamate is an ion channel.
FAMILIES = ("Adenosine", "Alpha-adrenergic", "Angiotensin", "Beta-adrenergic", "Cannabinoid",
            "Dopamine", "Histamine", "Metabotropic glutamate", "Opioid", "Serotonin")
GPCR = rf"(?:^|\|)(?:(?:{'|'.join(FAMILIES)}) receptor|mAChR) (?P<action>(?:ant)?agonist)?"


def make_tables(annotation: Path, folder: Path) -> None:
    """Write load_data.csv, layout.csv and annotations.csv of the whole screen."""
    table = pd.read_csv(annotation, dtype=str, keep_default_na=False)
    plate = table["Plate"]
    well = table["Well"].str[0] + table["Well"].str[1:].str.zfill(2)
    images = ROOT + "/" + table["Plate Location"] + "/" + plate + "/" + plate + "_" + well
    fields = []
    for field in range(1, FIELDS + 1):
        fields.append(pd.DataFrame({
            "Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": field,
            "Metadata_Batch": table["Plate Location"].str.split("/").str[0],
            "Metadata_Panel": table["Comment [Cell Line with Markers]"],
            **{f"FileName_{name}": images + f"_T0001F{field:03d}L01A0{c}Z01C0{c}.tif"
               for c, name in enumerate(CHANNELS, start=1)},
        }))
    pd.concat(fields).to_csv(folder / "load_data.csv", index=False)
    pd.DataFrame({
        "Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Compound": table["Compound Name"],
        "Metadata_Concentration_uM": table["Compound Concentration (microMolar)"],
        "Metadata_Control": table["Control Type"].map({"Negative Control": "negative", "": ""}),
    }).to_csv(folder / "layout.csv", index=False)

    compounds = table[table["Control Type"] == ""].drop_duplicates("Compound Name")
    moa = compounds["Compound MoA"]
    receptor = moa.str.contains(GPCR.replace("?P<action>", "?:"))
    actions = [("|".join(word for word in ("agonist", "antagonist")
                         if f" {word}" in terms) if hit else "")
               for terms, hit in zip(moa, receptor, strict=True)]
    pd.DataFrame({
        "Metadata_Compound": compounds["Compound Name"], "Metadata_MoA": moa,
        "Metadata_InChIKey": compounds["Compound InChIKey"],
        "gpcr": np.where(moa == "", "unknown", np.where(receptor, "yes", "no")),
    }).to_csv(folder / "annotations.csv", index=False)


def sound_planes(screen: Screen) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Facts and a manifest as validate and acquire leave them where every image is sound."""
    parts = [screen.sites[SITE].assign(Channel=channel,
                                       FileName=screen.sites[f"FileName_{channel}"])
             for channel in screen.channels]
    planes = pd.concat(parts, ignore_index=True).sort_values([*SITE, "Channel"], ignore_index=True)
    planes = planes.assign(Frame=0, Readable=True, Error="", Height=1050, Width=1250,
                           DType="uint16", Min=90.0, Max=4000.0, Mean=400.0, AtMax=1e-6,
                           BitDepth=12, Saturated=0.0, Blank=False, Problem="")
    manifest = pd.DataFrame({"FileName": planes["FileName"], "Bytes": 2_627_290,
                             "SHA256": pd.util.hash_array(planes["FileName"].to_numpy(object))})
    return planes, manifest.astype({"SHA256": "str"})


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("annotation", type=Path)
    parser.add_argument("--target", default="gpcr")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        measure(options.annotation, options.target, work)
