"""A plate simulator for tests: tiny screens, the same ones every time, in a fraction of a second.

    from helpers import make_screen
    folder = make_screen(tmp_path / "screen", plates=2, compounds=6)
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from moascope.screen.tables import Screen
from moascope.screen.wells import well_name

ROOT = Path(__file__).parents[1]


def make_screen(
    folder: Path,
    *,
    plates: int = 1,
    wells: int = 8,
    sites: int = 2,
    channels: Sequence[str] = ("DNA", "Actin"),
    size: int = 64,
    bits: int = 16,
    compounds: int = 4,
    controls: int = 2,
    batches: int = 1,
    panels: Sequence[str] = ("",),
    annotations: Mapping[str, str] | None = None,
    effect: float = 1.0,
    images: bool = True,
    seed: int = 0,
) -> Path:
    """Write a screen folder with images of bright blobs on a dim background.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    plates, wells, sites : int
        Plates, wells on each plate and sites in each well.
    channels : sequence of str
        Each is a TIFF of its own, `images/<plate>/<well>_s<site>_<channel>.tif`.
    size : int
        Height of the planes in pixels; they are a quarter wider than high, so that a swap of the
        two shows.
    bits : int
        8 or 16 (16 holds values of a 12-bit camera, 0 to 4095).
    compounds : int
        Wells that are no controls go through the compounds C00, C01, ... in turn, at 1 uM and 10
        uM. Each well has another compound than on the plate before, so that position tells little.
    controls : int
        How many wells of each plate are DMSO, the negative control.
    batches, panels
        Plates go through these in turn; batches are called Batch1, Batch2, ...
    annotations : mapping of str to str, optional
        MoA of each compound; by default even compounds are "histamine receptor antagonist" (with
        gpcr yes) and odd ones "tubulin inhibitor" (with gpcr no).
    effect : float
        How much the second mechanism differs in the pictures: its nuclei are larger and brighter.
        0 makes all wells alike but for noise.
    images : bool
        Whether image files are written, or only the tables.
    seed : int
        Another seed, another screen.

    Returns
    -------
    Path
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    load_data, layout = [], []
    columns = max(4, int(np.ceil(np.sqrt(wells * 1.5))))
    for p in range(plates):
        plate = f"Plate{p + 1}"
        for w in range(wells):
            well = well_name(1 + w // columns, 1 + w % columns)
            is_control = w < controls
            number = (w - controls + p) % max(compounds, 1)
            compound = "DMSO" if is_control or not compounds else f"C{number:02d}"
            layout.append({
                "Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Compound": compound,
                "Metadata_Concentration_uM": "" if compound == "DMSO" else ("1.0", "10.0")[p % 2],
                "Metadata_Control": "negative" if compound == "DMSO" else "",
            })
            strong = compound != "DMSO" and number % 2 == 1
            for site in range(1, sites + 1):
                row = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site,
                       "Metadata_Batch": f"Batch{p % batches + 1}",
                       "Metadata_Panel": panels[p % len(panels)]}
                rng = np.random.default_rng([seed, p, w, site])
                cells = _cells(rng, size)
                for channel in channels:
                    name = f"images/{plate}/{well}_s{site}_{channel}.tif"
                    row[f"FileName_{channel}"] = name
                    if images:
                        write_tiff(folder / name, plane(rng, cells, size, bits, channel,
                                                        effect if strong else 0.0))
                load_data.append(row)
    _write(folder / "load_data.csv", load_data)
    _write(folder / "layout.csv", layout)
    default = {f"C{number:02d}": ("histamine receptor antagonist", "tubulin inhibitor")[number % 2]
               for number in range(compounds)}
    moa = default if annotations is None else dict(annotations)
    frame = pd.DataFrame({"Metadata_Compound": list(moa), "Metadata_MoA": list(moa.values())},
                         dtype="str")
    frame["gpcr"] = ["yes" if "receptor" in term else "no" if term else "unknown"
                     for term in moa.values()]
    frame.to_csv(folder / "annotations.csv", index=False, lineterminator="\n")
    return folder


def plane(rng: np.random.Generator, cells: np.ndarray, size: int, bits: int, channel: str,
          effect: float = 0.0) -> np.ndarray:
    """One plane, [size, size * 5 // 4]: Gaussian blobs at `cells`, background and shot noise."""
    height, width = size, size * 5 // 4
    y, x = np.mgrid[:height, :width]
    # The blob's radius stands for the stain, so that channels differ.
    stain = 3.0 + zlib.crc32(channel.encode()) % 3
    radius = stain * (1 + 0.35 * effect) * size / 64
    light = np.full((height, width), 120.0)
    for cy, cx, brightness in cells:
        light += (900 * brightness * (1 + 0.5 * effect)
                  * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2)))
    light = rng.poisson(np.clip(light, 0, 4000))
    return (np.clip(light // 16, 0, 255).astype(np.uint8) if bits == 8
            else np.clip(light, 0, 4095).astype(np.uint16))


def write_tiff(path: Path, values: np.ndarray, **options: object) -> Path:
    """Write a TIFF; `options` are those of `tifffile.imwrite`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, **{"metadata": None, **options})
    return path


def edit_csv(path: Path, **changes: object) -> None:
    """Change a table in place: `column=value` in all rows, `column={row: value}` in some."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column, value in changes.items():
        if isinstance(value, Mapping):
            for row, cell in value.items():
                table.loc[row, column] = str(cell)
        else:
            table[column] = value
    table.to_csv(path, index=False, lineterminator="\n")


def _cells(rng: np.random.Generator, size: int) -> np.ndarray:
    count = int(rng.integers(6, 10))
    return np.column_stack([rng.uniform(0.1, 0.9, count) * size,
                            rng.uniform(0.1, 0.9, count) * size * 5 // 4,
                            rng.uniform(0.7, 1.3, count)])


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


def cells(rng: np.random.Generator, number: int = 12, size: int = 96,
          brightness: float = 1500.0) -> np.ndarray:
    """A field of round nuclei on a background of 200 counts; some are cut off at its edge."""
    y, x = np.mgrid[:size, :size]
    plane = np.full((size, size), 200.0)
    for _ in range(number):
        row, column = rng.uniform(-6, size + 6, 2)
        plane += brightness * ((y - row) ** 2 + (x - column) ** 2 < 5**2)
    return plane


def write_plate(folder: Path, planes: dict[tuple[str, int], np.ndarray],
                negatives: tuple[str, ...] = (), plate: str = "P1") -> Screen:
    """A screen of one plate and the channel DNA (DNA and GFP for planes with two)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    channels = ("DNA", "GFP")[: 1 if next(iter(planes.values())).ndim == 2 else 2]
    for (well, site), stack in planes.items():
        row = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site,
               "Metadata_Batch": "", "Metadata_Panel": ""}
        for channel, plane in zip(channels, stack.reshape(len(channels), *stack.shape[-2:]),
                                  strict=True):
            name = f"{plate}_{well}_{site}_{channel}.tif"
            tifffile.imwrite(folder / name, plane)
            row |= {f"FileName_{channel}": name, f"Frame_{channel}": 0}
        rows.append(row)
    wells = sorted({well for well, _ in planes})
    layout = pd.DataFrame({
        "Metadata_Plate": plate, "Metadata_Well": wells, "Metadata_Compound": "c",
        "Metadata_Concentration_uM": np.nan,
        "Metadata_Control": ["negative" if well in negatives else "" for well in wells]})
    annotations = pd.DataFrame({"Metadata_Compound": ["c"], "Metadata_MoA": ["m"]})
    return Screen(pd.DataFrame(rows), layout, annotations, channels, folder)


def many_fields(number: int, seed: int = 0, **kwargs: float) -> dict[tuple[str, int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        (f"A{1 + index // 2:02d}", 1 + index % 2):
            rng.poisson(cells(rng, **kwargs)).astype(np.uint16)
        for index in range(number)
    }


class Page(HTMLParser):
    """The words of a page, everything it would load, and its pictures' alternative texts."""

    def __init__(self, text: str):
        super().__init__()
        self.words, self.loads, self.alts, self.tags, self.ids = [], [], [], set(), []
        self.links = []
        self._hidden = False
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self._hidden = tag in ("style", "script")
        self.tags.add(tag)
        for name, value in attrs:
            if tag == "a" and name == "href" and not value.startswith("#"):
                self.links.append(value)
            elif name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
                self.loads.append(value)
            if name in ("alt", "aria-label"):
                self.alts.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

