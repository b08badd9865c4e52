"""What each well of a plate shows, laid out as on the plate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.drawing.maps import PlateMap, plate_grid
from moascope.learning.examples import WELL_KEY, Examples
from moascope.pixels.prepared import PreparedPlate, prepared_plates
from moascope.screen.wells import PLATE_SHAPES, plate_format

MOST_PLATES = 4
MOST_CHANNELS = 5
FLAGS = {"QC_Blurred": "blurred", "QC_Saturated": "saturated", "QC_Empty": "empty"}


def chosen_plates(meta: pd.DataFrame, most: int = MOST_PLATES) -> list[str]:
    """Some plates that show every batch and panel before any of them a second time.

    Parameters
    ----------
    meta : DataFrame
        With `Metadata_Plate`, `Metadata_Batch`, `Metadata_Panel`.
    most : int
    """
    plates = meta[["Metadata_Plate", "Metadata_Batch", "Metadata_Panel"]].drop_duplicates(
        "Metadata_Plate").sort_values("Metadata_Plate")
    turn = plates.groupby(["Metadata_Batch", "Metadata_Panel"]).cumcount()
    first = plates.assign(Turn=turn).sort_values(["Turn", "Metadata_Plate"], kind="stable")
    return sorted(first["Metadata_Plate"].head(most))


def quality_counts(prepared: Path) -> dict[str, int] | None:
    """How many images have each quality flag, over all plates; None without prepared plates."""
    columns = [*FLAGS, "QC_Pass"]
    tables = [plate.sites(columns) for plate in prepared_plates(prepared)]
    if not tables:
        return None
    sites = pd.concat(tables, ignore_index=True)
    found = {word: int(sites[flag].sum()) for flag, word in FLAGS.items()}
    return {"images": len(sites), "left_out": int((~sites["QC_Pass"]).sum()), **found}


def plate_maps(plate: str, examples: Examples, scores: pd.DataFrame, score_title: str,
               names: tuple[str, ...], prepared: Path) -> list[PlateMap]:
    """The heat maps of one plate.

    Parameters
    ----------
    plate : str
    examples : Examples
        Sites; stand in for measurements where `prepared` lacks the plate.
    scores : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Score`.
    score_title : str
    names : tuple of str
        Of the classes, as shown.
    prepared : Path
        Folder `data/prepare`.
    """
    own = examples.meta["Metadata_Plate"].to_numpy() == plate
    measured = PreparedPlate(prepared / plate)
    sites = measured.sites() if measured.exists else _measured(examples, own)
    wells = sorted(set(examples.meta.loc[own, "Metadata_Well"]) | set(sites["Metadata_Well"]))
    shape = PLATE_SHAPES[plate_format(wells)]

    def grid(values: Any, at: pd.Series) -> np.ndarray:
        return plate_grid(pd.Series(np.asarray(values, float), index=at.to_numpy()), shape)

    maps = [_layout(examples, own, names, grid)]
    part = scores[scores["Metadata_Plate"] == plate]
    if len(part):
        maps.append(PlateMap(score_title, grid(part["Score"], part["Metadata_Well"]), "score"))
    if "Count_Nuclei" in sites and sites["Count_Nuclei"].notna().any():
        maps.append(PlateMap("Cells counted in an image",
                             grid(sites["Count_Nuclei"], sites["Metadata_Well"]), "measure"))
    for column in _intensities(sites):
        channel = column.removeprefix("Intensity_").removesuffix("_Mean")
        maps.append(PlateMap(f"Mean intensity, {channel}",
                             grid(sites[column], sites["Metadata_Well"]), "measure"))
    if measured.exists:
        maps.append(_flags(sites, shape))
    return maps


def _layout(examples: Examples, own: np.ndarray, names: tuple[str, ...], grid: Any) -> PlateMap:
    meta = examples.meta[own]
    label = examples.label[own]
    control = examples.controls[own] & (label < 0)
    if len(names) > 7:
        names, label = ("compound",), np.minimum(label, 0)
    code = np.where(control, len(names), np.where(label >= 0, label, np.nan))
    first = ~meta["Metadata_Well"].duplicated().to_numpy()
    return PlateMap("What is in the well", grid(code[first], meta["Metadata_Well"][first]),
                    "class", (*names, "negative control"))


def _flags(sites: pd.DataFrame, shape: tuple[int, int]) -> PlateMap:
    """The flag that most of a well's flagged images have; 0 where no image has any."""
    counts = sites.groupby("Metadata_Well")[list(FLAGS)].sum()
    code = np.where(counts.any(axis=1), counts.to_numpy().argmax(axis=1) + 1.0, 0.0)
    grid = plate_grid(pd.Series(code, index=counts.index), shape)
    return PlateMap("Images excluded by QC", grid, "flag", ("none", *FLAGS.values()))


def _measured(examples: Examples, own: np.ndarray) -> pd.DataFrame:
    wanted = [i for i, name in enumerate(examples.names)
              if name == "Count_Nuclei" or _is_intensity(name)]
    values = pd.DataFrame(examples.features[own][:, wanted],
                          columns=[examples.names[i] for i in wanted])
    return pd.concat([examples.meta.loc[own, WELL_KEY].reset_index(drop=True), values], axis=1)


def _is_intensity(name: str) -> bool:
    return name.startswith("Intensity_") and name.endswith("_Mean")


def _intensities(sites: pd.DataFrame) -> list[str]:
    return [name for name in sites
            if _is_intensity(name) and sites[name].notna().any()][:MOST_CHANNELS]
