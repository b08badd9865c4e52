"""The simulated screen as a folder: from parameters to tables, images and the truth."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.params import Simulated
from moascope.screen.description import write_description
from moascope.sources.simulated.cells import draw_field
from moascope.sources.simulated.compounds import (
    KNOB_TABLE,
    KNOBS,
    Compound,
    annotation_table,
    draw_compounds,
    response,
    truth_table,
)
from moascope.sources.simulated.layout import FORMATS, Well, plate_maps
from moascope.sources.simulated.markers import panel_parts
from moascope.sources.simulated.optics import draw_fault, expose, plate_illumination
from moascope.sources.simulated.seeds import stream

CHANNELS = ("Nucleus", "Green", "Red")

BATCH_SD = 0.8
PLATE_SD = 0.35
GRADIENT_SD = 0.15
POSITION_SD = 0.4
WELL_SD = 0.9
FIELD_SD = 0.1
EDGE_COUNT = -0.9
EDGE_INTENSITY = 0.5
EDGE_DECAY_WELLS = 1.2

LICENCE = "Apache-2.0"
CITATION = ("Simulated by moascope on the layout of idr0088 (Cox et al. 2020, Scientific Reports "
            "10, 13262). No cell was harmed and none was imaged: scores on this screen prove the "
            "software, never the biology.")


@dataclass(frozen=True)
class Plate:
    """One plate: a map seen in a panel of a batch."""

    name: str
    batch: str
    panel: str
    wells: tuple[Well, ...]


def simulate(params: Simulated, seed: int, out: Path, jobs: int = 2) -> None:
    """Write a simulated screen: three tables, source.json, images and truth.

    Parameters
    ----------
    params : Simulated
        The section of params.yaml.
    seed : int
        The same seed and parameters give the same bytes, whatever `jobs` is.
    out : Path
        A folder that does not exist or is empty. It appears complete or not at all.
    jobs : int
        Number of processes that draw plates in parallel; 1 uses this process.

    Raises
    ------
    MoascopeError
        If a panel cannot be simulated, or if `out` contains files.
    """
    for panel in params.panels:
        panel_parts(panel)
    if not params.panels or len(set(params.panels)) < len(params.panels):
        raise MoascopeError("params.yaml: simulated.panels must name at least one panel, and each "
                            "only once.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MoascopeError(f"{out} already holds files; a simulated screen is only written into "
                            "an empty folder. Remove it or name another one.")
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "truth").mkdir(parents=True)

    compounds = draw_compounds(seed, params.compounds, params.panels)
    plates = design_plates(params, seed)
    faults = _draw_plates(params, seed, compounds, plates, partial / "images", jobs)

    _write_csv(_site_table(plates, params.fields), partial / "load_data.csv")
    _write_csv(_layout_table(plates, compounds), partial / "layout.csv")
    _write_csv(annotation_table(compounds), partial / "annotations.csv")
    _write_csv(truth_table(compounds, params.signal, params.shared_gpcr),
               partial / "truth" / "compounds.csv")
    _write_csv(_fault_table(faults), partial / "truth" / "faults.csv")
    knob_table(params, seed, compounds, plates).to_parquet(partial / KNOB_TABLE, index=False)
    about = {"source": "simulated", "images": ".", "licence": LICENCE, "citation": CITATION}
    write_description(partial, about)
    # An empty folder may stand where the screen goes; a rename replaces it.
    partial.replace(out)


def design_plates(params: Simulated, seed: int) -> list[Plate]:
    """Every plate: each map in each panel of each batch, sorted by name."""
    maps = plate_maps(seed, params.compounds, params.format, params.dmso)
    return sorted(
        (Plate(f"B{batch}-M{number}-{panel.replace(' ', '-')}", f"B{batch}", panel, tuple(wells))
         for batch in range(1, params.batches + 1)
         for number, wells in enumerate(maps, start=1)
         for panel in params.panels),
        key=lambda plate: plate.name)


def well_knobs(
    params: Simulated, seed: int, plate: Plate, well: Well, compound: Compound | None
) -> np.ndarray:
    """Sum of everything that moves the cells of a well away from an untreated average.

    Returns
    -------
    ndarray, float64, shape (12,)
        In the order of `KNOBS`, in standard deviations.
    """
    number = len(KNOBS)
    knobs = stream(seed, "batch", plate.batch, plate.panel).normal(0, BATCH_SD, number)
    rng = stream(seed, "plate", plate.name)
    knobs += rng.normal(0, PLATE_SD, number)
    size = FORMATS[params.format]
    slopes = rng.normal(0, GRADIENT_SD, (2, number))
    knobs += slopes[0] * (2 * well.row / (size.rows - 1) - 1)
    knobs += slopes[1] * (2 * well.column / (size.columns - 1) - 1)
    # The same in every plate: a position is a fingerprint, and so is all that always lies there.
    knobs += stream(seed, "position", well.row, well.column).normal(0, POSITION_SD, number)
    to_edge = min(well.row, size.rows - 1 - well.row,
                  well.column, size.columns - 1 - well.column)
    edge = math.exp(-to_edge / EDGE_DECAY_WELLS)
    knobs[KNOBS.index("count")] += EDGE_COUNT * edge
    for name in ("nuclear_intensity", "marker2_intensity", "marker3_intensity"):
        knobs[KNOBS.index(name)] += EDGE_INTENSITY * edge
    knobs += stream(seed, "well", plate.name, well.name).normal(0, WELL_SD, number)
    if compound is not None:
        knobs += response(seed, compound, well.concentration, plate.panel, params.signal,
                          params.shared_gpcr)
    return knobs


def knob_table(
    params: Simulated, seed: int, compounds: list[Compound], plates: list[Plate]
) -> pd.DataFrame:
    """The true state of the cells of every well.

    Returns
    -------
    DataFrame
        `Metadata_Plate`, `Metadata_Well` and a column per knob in the order of `KNOBS`, float64,
        as `well_knobs` gives them (fields scatter around them).
    """
    wells = [(plate, well) for plate in plates for well in plate.wells]
    knobs = np.stack([
        well_knobs(params, seed, plate, well,
                   compounds[well.compound] if well.compound >= 0 else None)
        for plate, well in wells])
    names = pd.DataFrame([(plate.name, well.name) for plate, well in wells],
                         columns=["Metadata_Plate", "Metadata_Well"])
    return names.join(pd.DataFrame(knobs, columns=list(KNOBS)))


def _draw_plates(
    params: Simulated, seed: int, compounds: list[Compound], plates: list[Plate], images: Path,
    jobs: int,
) -> list[tuple[str, str, int, str, str]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    faults = []
    with Progress(TextColumn("simulating plates"), BarColumn(), TextColumn(
            "{task.completed}/{task.total}"), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("plates", total=len(plates))
        for found in _finished_plates(params, seed, compounds, plates, images, jobs):
            faults += found
            progress.advance(task)
    return sorted(faults)


def _finished_plates(
    params: Simulated, seed: int, compounds: list[Compound], plates: list[Plate], images: Path,
    jobs: int,
) -> Iterator[list[tuple[str, str, int, str, str]]]:
    if jobs == 1 or len(plates) == 1:
        for plate in plates:
            yield _draw_plate(params, seed, compounds, plate, images)
        return
    # Fresh processes: a fork of one that runs threads (a progress bar, TensorFlow) may hang.
    with ProcessPoolExecutor(min(jobs, len(plates)), get_context("spawn")) as pool:
        waiting = [pool.submit(_draw_plate, params, seed, compounds, plate, images)
                   for plate in plates]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_plate(
    params: Simulated, seed: int, compounds: list[Compound], plate: Plate, images: Path
) -> list[tuple[str, str, int, str, str]]:
    from tifffile import imwrite

    folder = images / plate.name
    folder.mkdir(parents=True)
    line, green, red = panel_parts(plate.panel)
    illumination = plate_illumination(seed, plate.batch, plate.name, params.size)
    faults = []
    for well in plate.wells:
        compound = compounds[well.compound] if well.compound >= 0 else None
        state = well_knobs(params, seed, plate, well, compound)
        for site in range(1, params.fields + 1):
            rng = stream(seed, "field", plate.name, well.name, site)
            knobs = state + rng.normal(0, FIELD_SD, len(KNOBS))
            light = draw_field(rng, knobs, line, green, red, params.size)
            fault = draw_fault(seed, plate.name, well.name, site) if params.faults else None
            camera = stream(seed, "camera", plate.name, well.name, site)
            planes = expose(camera, light, illumination, fault)
            for channel, plane in zip(CHANNELS, planes, strict=True):
                imwrite(folder / f"{well.name}_s{site}_{channel}.tif", plane,
                        photometric="minisblack", metadata=None, software=False)
            if fault is not None:
                faults += [(plate.name, well.name, site, CHANNELS[channel], fault.kind)
                           for channel in fault.channels]
    return faults


def _site_table(plates: list[Plate], fields: int) -> pd.DataFrame:
    return pd.DataFrame([
        {"Metadata_Plate": plate.name, "Metadata_Well": well.name, "Metadata_Site": site,
         "Metadata_Batch": plate.batch, "Metadata_Panel": plate.panel}
        | {f"FileName_{channel}": f"images/{plate.name}/{well.name}_s{site}_{channel}.tif"
           for channel in CHANNELS}
        for plate in plates for well in plate.wells for site in range(1, fields + 1)
    ])


def _layout_table(plates: list[Plate], compounds: list[Compound]) -> pd.DataFrame:
    return pd.DataFrame([
        {"Metadata_Plate": plate.name, "Metadata_Well": well.name,
         "Metadata_Compound": "DMSO" if well.compound < 0 else compounds[well.compound].name,
         "Metadata_Concentration_uM": well.concentration,
         "Metadata_Control": "negative" if well.compound < 0 else ""}
        for plate in plates for well in plate.wells
    ])


def _fault_table(faults: list[tuple[str, str, int, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(faults, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Site",
                                         "channel", "fault"])


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")
