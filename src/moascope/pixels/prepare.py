"""From a plate's image files to comparable 8-bit crops and one row of measurements per site."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.params import Prepare
from moascope.pixels import crops, illumination, quality, scaling
from moascope.pixels.plates import divide, plate_in, plate_key, threads_for
from moascope.pixels.prepared import CROPS_FILE, FACTS_FILE, SITES_FILE
from moascope.pixels.sites import Seen, read_sites, sampled
from moascope.screen.planes import local_image
from moascope.work.code import code_digest
from moascope.work.files import write_json
from moascope.work.plates import due_plates, update_plates
from moascope.work.processes import progress

if TYPE_CHECKING:
    from moascope.screen.tables import Screen

IDENTITY = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel"]
FLAGS = ("QC_Blurred", "QC_Saturated", "QC_Empty")
INTENSITIES = ("Mean", "Median", "P05", "P95", "SD")
DARK_PERCENTILE = 0.1
LEAST_CONTROL_WELLS = 4
LEAST_WELLS = 24
SCRATCH_FILE = "raw.tmp"  # in the plate's folder while the plate is prepared


def prepare_plate(screen: Screen, out: Path, settings: Prepare, threads: int = 1) -> list[str]:
    """Measure, correct, scale and cut the fields of one plate.

    Every file is decoded once. What depends on the whole plate (illumination, scaling, outliers) is
    computed from what this pass keeps; the files are not read again.

    Parameters
    ----------
    screen : Screen
        Sites and layout of one plate; channels without any site are left out.
    out : Path
        Existing folder; the files of a `prepared.PreparedPlate` are written to it.
    settings : Prepare
        The `prepare` section of the parameters.
    threads : int
        Number of sites decoded and measured at once; each needs the memory of one plane and of
        what is kept of the site.

    Returns
    -------
    list of str
        One sentence for each site that is left out because one of its planes cannot be used.
    """
    table, facts, _ = _prepare(screen, out, settings, threads)
    _write_tables(table, facts, out)
    return facts["left_out"]


def prepare_in_memory(screen: Screen, scratch: Path, settings: Prepare,
                      ) -> Iterator[tuple[pd.DataFrame, list[str], np.ndarray, list[str]]]:
    """What `prepare_plates` writes, plate by plate, with tables that never touch the disk.

    Parameters
    ----------
    screen : Screen
    scratch : Path
        Empty folder for crops; they stay there as long as the folder.
    settings : Prepare

    Yields
    ------
    sites : DataFrame
        As `PreparedPlate.sites`.
    channels : list of str
        In the order of the crops.
    crops : ndarray, uint8
        As `PreparedPlate.crops`.
    left_out : list of str
        A sentence for each site that could not be read.
    """
    names = sorted(screen.sites["Metadata_Plate"].unique())
    with progress(len(names), "prepare") as advance:
        for number, name in enumerate(names):
            folder = scratch / str(number)
            folder.mkdir()
            plate = dataclasses.replace(
                screen,
                sites=screen.sites[screen.sites["Metadata_Plate"] == name],
                layout=screen.layout[screen.layout["Metadata_Plate"] == name])
            sites, facts, crops = _prepare(plate, folder, settings, threads=2)
            yield sites, facts["channels"], crops, facts["left_out"]
            advance()


def _prepare(screen: Screen, folder: Path, settings: Prepare,
             threads: int) -> tuple[pd.DataFrame, dict[str, Any], np.ndarray]:
    """The sites of a plate, its facts, and its crops, which are written to the folder."""
    channels = channels_of(screen)
    seen, problems = read_sites(screen, channels, quality.nucleus_channel(
        channels, settings.nuclei), folder / SCRATCH_FILE, settings, threads)
    return _finish(screen, seen, folder, settings, problems)


def channels_of(screen: Screen) -> tuple[str, ...]:
    """The channels that any site of a plate has."""
    return tuple(name for name in screen.channels
                 if screen.sites[f"FileName_{name}"].ne("").any())


def finish_plate(screen: Screen, seen: Seen, out: Path, settings: Prepare) -> None:
    """What `prepare_plate` does once all sites have been read, and none of them is left out.

    Parameters
    ----------
    screen : Screen
    seen : Seen
        From `read_sites` of the same screen; its scratch file lies in `out`.
    out : Path
    settings : Prepare
    """
    table, facts, _ = _finish(screen, seen, out, settings, [])
    _write_tables(table, facts, out)


def _write_tables(table: pd.DataFrame, facts: dict[str, Any], out: Path) -> None:
    table.to_parquet(out / SITES_FILE, index=False)
    write_json(out / FACTS_FILE, facts)


def _finish(screen: Screen, seen: Seen, folder: Path, settings: Prepare,
            problems: list[str]) -> tuple[pd.DataFrame, dict[str, Any], np.ndarray]:
    channels = channels_of(screen)
    table = screen.sites.iloc[seen.rows][IDENTITY].reset_index(drop=True)
    wells = screen.layout["Metadata_Well"]
    controls = table["Metadata_Well"].isin(
        wells[screen.layout["Metadata_Control"] == "negative"]).to_numpy()
    columns = {name: np.full(len(table), np.nan, np.float32) for name in _measures(channels)}
    flags = {name: np.zeros(len(table), bool) for name in FLAGS}
    columns["Count_Nuclei"] = seen.nuclei
    panels, scales = {}, {}
    # Channels of one name may be different stains in different panels of a plate.
    for panel, rows in table.groupby("Metadata_Panel", sort=True).indices.items():
        panels[panel], scales[panel] = _finish_panel(
            seen, rows, columns, flags, channels, settings, table["Metadata_Well"].to_numpy(),
            controls)
    _write_crops(folder / CROPS_FILE, seen.raw, table["Metadata_Panel"].map(scales).tolist())
    (folder / SCRATCH_FILE).unlink(missing_ok=True)
    passed = ~np.any(list(flags.values()), axis=0)
    measured = pd.DataFrame({**columns, **flags, "QC_Pass": passed})
    facts = {"channels": list(channels),
             "nuclei": quality.nucleus_channel(channels, settings.nuclei),
             "left_out": problems, "panels": panels, "size": list(seen.shape)}
    return (pd.concat([table, measured], axis=1), facts,
            np.load(folder / CROPS_FILE, mmap_mode="r"))


def _measures(channels: tuple[str, ...]) -> list[str]:
    return [
        *(f"QC_{measure}_{name}" for name in channels
          for measure in ("Focus", "Saturated", "Foreground")),
        "Count_Nuclei",
        *(f"Intensity_{name}_{statistic}" for name in channels for statistic in INTENSITIES),
    ]


@dataclass(frozen=True)
class _Scale:
    """The conversion of a channel's raw crops to eight bits."""

    light: np.ndarray | None  # float32 [crops, crop, crop]; None where it is even
    dark: np.float32
    table: np.ndarray | None = None  # uint8 [65536]

    def correct(self, counts: np.ndarray) -> np.ndarray:
        if self.light is None:
            return counts
        values = illumination.correct(counts, self.light, self.dark)
        np.rint(values, out=values)
        return np.clip(values, 0, scaling.BINS - 1, out=values).astype(np.uint16)


def _finish_panel(seen: Seen, rows: np.ndarray, columns: dict[str, np.ndarray],
                  flags: dict[str, np.ndarray], channels: tuple[str, ...], settings: Prepare,
                  wells: np.ndarray, controls: np.ndarray,
                  ) -> tuple[dict[str, Any], dict[int, _Scale]]:
    """Flags of one panel of a plate, and the correction and scaling of its channels."""
    found: dict[str, Any] = {}
    scales: dict[int, _Scale] = {}
    present = [index for index in range(len(channels)) if (seen.largest[rows, index] >= 0).all()]
    depth = {index: scaling.bit_depth_limit(int(seen.largest[rows, index].max()))
             for index in present}
    for index in present:
        columns[f"QC_Saturated_{channels[index]}"][rows] = np.where(
            seen.largest[rows, index] == depth[index], seen.at_largest[rows, index], 0)
        columns[f"QC_Focus_{channels[index]}"][rows] = seen.focus[rows, index]
    flags["QC_Saturated"][rows] = quality.saturated(
        np.stack([columns[f"QC_Saturated_{channels[index]}"][rows] for index in present], axis=1))
    sound = ~flags["QC_Saturated"][rows]
    for index in present:
        name = channels[index]
        gain, dark = _estimate_illumination(seen, rows[sound], index, settings)
        light = _sampled_light(seen.shape, gain)
        samples = illumination.correct(seen.samples[rows, index], light, dark).reshape(
            len(rows), -1)
        for statistic, values in intensities(samples).items():
            columns[f"Intensity_{name}_{statistic}"][rows] = values
        columns[f"QC_Foreground_{name}"][rows] = quality.foreground(samples, sound)
        scales[index], (low, high, rule) = _scale(seen, rows, index, gain, dark, settings, sound,
                                                  wells[rows], controls[rows], depth[index])
        found[name] = {"dark": float(dark), "gain": [round(float(light.min()), 3),
                                              round(float(light.max()), 3)],
                       "high": high, "low": low, "saturation": depth[index], "scale": rule}
    flags["QC_Empty"][rows] = quality.empty(
        np.stack([columns[f"QC_Foreground_{channels[index]}"][rows] for index in present], axis=1))
    flags["QC_Blurred"][rows] = quality.blurred(
        seen.focus[rows][:, present], ~(flags["QC_Saturated"] | flags["QC_Empty"])[rows])
    return found, scales


def _estimate_illumination(seen: Seen, rows: np.ndarray, channel: int,
                           settings: Prepare) -> tuple[np.ndarray, np.float32]:
    if not settings.flat_field or not len(rows):
        return illumination.EVEN, np.float32(0)
    samples = seen.samples[rows, channel]
    counts = scaling.histogram(samples)
    dark = np.float32(scaling.percentiles(counts, (DARK_PERCENTILE,))[0])
    return illumination.fit_illumination(illumination.block_means(samples), dark), dark


def _sampled_light(shape: tuple[int, int], gain: np.ndarray) -> np.ndarray:
    positions = [np.arange(length)[part]
                 for part, length in zip(sampled(shape), shape, strict=True)]
    return illumination.illumination(gain, *positions, shape)  # pyright: ignore[reportCallIssue]


def intensities(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Distribution of each site's pixels.

    Parameters
    ----------
    samples : ndarray, float32 [sites, pixels]
        Flat-fielded camera counts.

    Returns
    -------
    dict of str to ndarray, float32 [sites]
        For each of `INTENSITIES`.
    """
    # Sorting is native and vectorised, and several times as fast as `np.percentile`'s selection.
    ordered = np.sort(samples, axis=1)
    place = np.array([5, 50, 95]) / 100 * (samples.shape[1] - 1)
    before = place.astype(int)
    after = np.minimum(before + 1, samples.shape[1] - 1)
    p05, median, p95 = (ordered[:, before] + (ordered[:, after] - ordered[:, before])
                        * (place - before)).T
    mean = samples.mean(axis=1)
    ordered -= mean[:, np.newaxis]
    deviation = np.sqrt(np.square(ordered, out=ordered).mean(axis=1))
    values = mean, median, p05, p95, deviation
    return {name: np.asarray(value, np.float32)
            for name, value in zip(INTENSITIES, values, strict=True)}


def _scale(seen: Seen, rows: np.ndarray, channel: int, gain: np.ndarray, dark: np.float32,
           settings: Prepare, sound: np.ndarray, wells: np.ndarray, controls: np.ndarray,
           depth: int) -> tuple[_Scale, tuple[float, float, str]]:
    """Find the limits of a channel's scale, and the rule that set them."""
    crop = settings.crop
    light = None if gain is illumination.EVEN else np.stack([
        illumination.illumination(gain, y + np.arange(crop), x + np.arange(crop), seen.shape)
        for y, x in crops.tile_positions(seen.shape, crop, settings.crops)
    ])
    scale = _Scale(light, dark)
    reference, rule = _scale_rule(settings, sound, wells, controls)
    counts = np.zeros(scaling.BINS, np.int64)
    for row in rows[reference]:
        counts += scaling.histogram(scale.correct(seen.raw[row, :, channel]))
    if rule == "range" or not counts.any():
        low, high, rule = 0.0, float(depth), "range"
    else:
        low, high = scaling.percentiles(counts,
                                        (settings.low_percentile, settings.high_percentile))
    return dataclasses.replace(scale, table=scaling.lookup(low, high)), (low, high, rule)


def _write_crops(path: Path, raw: np.ndarray, scales: list[dict[int, _Scale]]) -> None:
    """Write all sites' crops as uint8; a channel that a site lacks is black."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": raw.shape})
        for counts, channels in zip(raw, scales, strict=True):
            scaled = np.zeros(counts.shape, np.uint8)
            for channel, scale in channels.items():
                scaled[:, channel] = scale.table.take(scale.correct(counts[:, channel]))
            file.write(scaled)


def _scale_rule(settings: Prepare, sound: np.ndarray, wells: np.ndarray,
                controls: np.ndarray) -> tuple[np.ndarray, str]:
    """Which sites set the limits of the scale, and the name of the rule."""
    if settings.scale == "range":
        return np.zeros(len(sound), bool), "range"
    if len(set(wells[sound & controls])) >= LEAST_CONTROL_WELLS:
        return sound & controls, "controls"
    if settings.scale == "plate" or len(set(wells[sound])) >= LEAST_WELLS:
        return sound, "plate"
    return np.zeros(len(sound), bool), "range"


def prepare_plates(screen: Screen, out: Path, settings: Prepare, jobs: int,
                   digests: Mapping[str, str] | None = None,
                   take: Callable[[Path, Mapping[str, str]], int] | None = None,
                   ) -> tuple[int, int]:
    """Bring the prepared plates of a screen up to date.

    Parameters
    ----------
    screen : Screen
        Only the sites that are to be prepared.
    out : Path
        Receives one folder per plate; a plate whose rows, files, parameters and code have not
        changed is kept.
    settings : Prepare
    jobs : int
        Number of processes.
    digests : mapping of str to str, optional
        Checksum of each image by its file name. A file that is not named here is identified by its
        size and modification time.
    take : callable, optional
        `take(out, keys)` may bring plates of these keys from elsewhere; it says how many.

    Returns
    -------
    tuple of int
        How many plates were prepared and how many were kept.
    """
    if not screen.channels:
        # A screen of profiles; plates that an earlier one left are removed.
        return update_plates(out, {}, _prepare_one, jobs, "prepare")
    code = prepare_code()
    with tempfile.TemporaryDirectory(prefix="moascope-") as scratch:
        keys = {name: plate_key(plate, settings, code, digests or {})
                for name, plate in divide(screen, Path(scratch))}
        taken = take(out, keys) if take else 0
        threads = threads_for(len(due_plates(out, keys)), jobs)
        work = functools.partial(_prepare_one, screen.channels, screen.images, settings, threads)
        done, kept = update_plates(out, keys, work, jobs, "prepare", (Path(scratch),),
                                   local_image(screen))
        return done + taken, kept - taken


def prepare_code() -> str:
    """A digest of the code that decides a prepared plate."""
    return code_digest(_prepare_one)


def _prepare_one(channels: tuple[str, ...], images: Path, settings: Prepare, threads: int,
                 plate: str, folder: Path, tables: Path) -> None:
    prepare_plate(plate_in(tables, channels, images, plate), folder, settings, threads)
