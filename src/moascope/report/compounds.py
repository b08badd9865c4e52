"""The compounds at the top of the model's list, with an image of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.learning.examples import Examples
from moascope.pixels.prepared import PreparedPlate
from moascope.screen.wells import well_position
from moascope.text import tidy

MOST_COMPOUNDS = 20
MOST_CHANNELS = 5
TILE = 96               # stored pixels of a channel's picture
GAP = 3
DARK, BRIGHT = 1, 99.7  # percentiles of both pictures that are shown black and white
LEAST_RANGE = 8         # of 256 grey levels, so that an empty image is not blown up


@dataclass(frozen=True)
class Picture:
    """Crops of one image, the channels side by side, as a data address."""

    source: str
    place: str
    alt: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Ranked:
    """One line of the list; by `name` the explorer knows the compound, `compound` is shown."""

    rank: int
    name: str
    compound: str
    mechanism: str
    actual: str
    predicted: str
    right: bool
    probability: float
    agreeing: int
    wells: int
    held_out: bool
    pictures: tuple[Picture, ...] = field(default=())


def ranked_compounds(predictions: dict[str, pd.DataFrame], examples: Examples, prepared: Path,
                     said: Callable[[str], str], most: int = MOST_COMPOUNDS) -> list[Ranked]:
    """Units sorted by the probability of the positive class, or of the predicted one of several.

    Parameters
    ----------
    predictions : dict
        Level -> predictions.
    examples : Examples
        Sites.
    prepared : Path
        Folder `data/prepare`; without it there are no pictures.
    said : callable
        From a class to how it is shown.
    most : int
    """
    units = predictions["compound"]
    question = examples.question
    columns = question.probabilities
    shown = units[columns[1]] if question.binary else units[columns].max(axis=1)
    order = np.lexsort((units["Metadata_Group"].to_numpy(), -shown.to_numpy(float)))[:most]
    moa = examples.groups.set_index("Metadata_Group").get("Metadata_MoA", pd.Series(dtype=str))
    of_plate = cache(lambda plate: plate_pictures(prepared, plate))
    wells = predictions["well"].groupby("Metadata_Group")
    sites = predictions["site"].groupby("Metadata_Group")
    controls = examples.meta[examples.controls]
    found = []
    for rank, at in enumerate(order, start=1):
        unit = units.iloc[at]
        group = unit["Metadata_Group"]
        # The list of a binary target is about the positive class, whatever was decided.
        meant = question.classes[1] if question.binary else unit["Predicted"]
        own = wells.get_group(group) if group in wells.groups else units.iloc[:0]
        pictures = ()
        if group in sites.groups:
            pictures = typical_pictures(typical_site(sites.get_group(group), f"P_{meant}",
                                                     controls, of_plate))
        found.append(Ranked(
            rank=rank, name=tidy(str(unit["Metadata_Compound"]).split("|")[0]),
            compound=_name(unit, examples), mechanism=tidy(moa.get(group, ""), 80),
            actual=said(unit["Label"]), predicted=said(unit["Predicted"]),
            right=unit["Label"] == unit["Predicted"], probability=float(shown.iloc[at]),
            agreeing=int((own["Predicted"] == meant).sum()), wells=len(own),
            held_out=unit["Split"] == "held_out", pictures=pictures,
        ))
    return found


def _name(unit: pd.Series, examples: Examples) -> str:
    name = tidy(str(unit["Metadata_Compound"]).replace("|", ", "), 80)
    if examples.question.unit == "compound":
        return name
    return f"{name}, {tidy(unit['Metadata_Group'])}"


def plate_pictures(prepared: Path, plate: str) -> tuple | None:
    """What `typical_pictures` needs of a plate in `data/prepare`; None where there is none."""
    own = PreparedPlate(prepared / plate)
    if not own.exists:
        return None
    sites = own.sites()
    row_of = {key: row for row, key in enumerate(
        zip(sites["Metadata_Well"], sites["Metadata_Site"], strict=True))}
    return row_of, sites, own.channels, own.crops()


@dataclass(frozen=True)
class Typical:
    """A typical image of a compound, and the nearest negative control on its plate.

    Attributes
    ----------
    plate : str
    places : dict
        "compound", and "negative control" where there is one -> well and site.
    crops : dict
        The same -> ndarray, uint8, [channels, crop, crop]: the first crop.
    channels : tuple of str
        Those that the site has.
    count : int
        Crops of a site.
    """

    plate: str
    places: dict[str, tuple[str, int]]
    crops: dict[str, np.ndarray]
    channels: tuple[str, ...]
    count: int


def typical_site(sites: pd.DataFrame, column: str, controls: pd.DataFrame,
                 of_plate: Callable[[str], tuple | None]) -> Typical | None:
    """A typical image at the highest dose, and one of the nearest control on its plate.

    Parameters
    ----------
    sites : DataFrame
        Predictions of the sites of one compound.
    column : str
        Of the probability that the image is typical for.
    controls : DataFrame
        Sites of negative controls.
    of_plate : callable
        From a plate to what `plate_pictures` gives.
    """
    dose = sites["Metadata_Concentration_uM"]
    if dose.notna().any():
        sites = sites[dose == dose.max()]
    ranked = sites.sort_values([column, "Metadata_Plate", "Metadata_Well", "Metadata_Site"])
    site = ranked.iloc[(len(ranked) - 1) // 2]
    plate = of_plate(site["Metadata_Plate"])
    key = (site["Metadata_Well"], site["Metadata_Site"])
    if plate is None or key not in plate[0]:
        return None
    row_of, table, channels, crops = plate
    row = row_of[key]
    present = [i for i, name in enumerate(channels)
               if np.isfinite(table.get(f"Intensity_{name}_Mean", pd.Series(0.0, table.index))
                              .iloc[row])][:MOST_CHANNELS]
    if not present or not crops.shape[1]:
        return None
    places = {"compound": key}
    control = _nearest_control(controls, site)
    if control in row_of and row_of[control] != row:
        places["negative control"] = control
    return Typical(site["Metadata_Plate"], places,
                   {who: np.asarray(crops[row_of[at], 0][present]) for who, at in places.items()},
                   tuple(channels[i] for i in present), crops.shape[1])


def typical_pictures(found: Typical | None) -> tuple[Picture, ...]:
    """The pictures of `typical_site`, the compound's first."""
    if found is None:
        return ()
    # One scale for both, channel by channel: a difference in brightness stays one.
    black, spread = shown_range(found)
    names = tuple(tidy(name, 20) for name in found.channels)
    return tuple(
        Picture(
            source=data_address([(plane - low) / wide for plane, low, wide
                                 in zip(planes.astype(np.float32), black, spread, strict=True)]),
            place=f"{tidy(found.plate, 18)} {found.places[who][0]}",
            alt=f"{who}, plate {tidy(found.plate)}, well {found.places[who][0]}; channels from "
                f"left to right: {', '.join(names)}",
            channels=names,
        )
        for who, planes in found.crops.items()
    )


def shown_range(found: Typical) -> tuple[np.ndarray, np.ndarray]:
    """Black, and the range from there to white: float, [channels] each."""
    both = np.stack([planes.astype(np.float32) for planes in found.crops.values()])
    black, white = np.percentile(both, [DARK, BRIGHT], axis=(0, 2, 3))
    return black, np.maximum(white - black, LEAST_RANGE)


def _nearest_control(controls: pd.DataFrame, site: pd.Series) -> tuple[str, int] | None:
    rows = controls[(controls["Metadata_Plate"] == site["Metadata_Plate"])
                    & (controls["Metadata_Panel"] == site["Metadata_Panel"])]
    rows = rows[rows["Metadata_Well"] != site["Metadata_Well"]]
    if rows.empty:
        return None
    row, column = well_position(site["Metadata_Well"])
    places = [well_position(well) for well in rows["Metadata_Well"]]
    far = [(r - row) ** 2 + (c - column) ** 2 for r, c in places]
    nearest = rows.iloc[int(np.argmin(far))]
    return nearest["Metadata_Well"], nearest["Metadata_Site"]


def data_address(planes: Sequence[np.ndarray]) -> str:
    """Planes side by side as a JPEG: each [height, width] or [height, width, 3], 0 to 1."""
    from PIL import Image

    tiles = []
    for plane in planes:
        picture = Image.fromarray(np.uint8(np.clip(plane, 0, 1) * 255 + 0.5))
        picture = np.asarray(picture.resize((TILE, TILE), Image.Resampling.BOX))
        tiles += [picture, np.full((TILE, GAP, *picture.shape[2:]), 255, np.uint8)]
    content = io.BytesIO()
    Image.fromarray(np.hstack(tiles[:-1])).save(content, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
