"""Colour pictures of whole fields, as people look at them: what an image classifier is fed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.features.table import FeatureTable
from moascope.learning.examples import Examples
from moascope.learning.folds import read_folds
from moascope.learning.joining import join_examples
from moascope.pixels.prepared import some_prepared_plates
from moascope.screen.tables import read_screen

COLOURS = 3
SITES_AT_ONCE = 64  # bounds memory: crops are read from disk as they are needed


def load_composites(prepared: Path, size: int, sites: int) -> tuple[pd.DataFrame, np.ndarray]:
    """One small RGB picture a field.

    The crops of a field are put together again as a square mosaic and shrunk by averaging over
    areas. The panel's first three channels become red, green and blue; where it has fewer, they
    are repeated.

    Parameters
    ----------
    prepared : Path
        `data/prepare`; see `moascope.pixels.prepared`.
    size : int
        Side of a picture, pixels.
    sites : int
        Fields a well, at most: the first ones that passed quality control.

    Returns
    -------
    meta : DataFrame, [n]
        `Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_Batch, Metadata_Panel, QC_Pass`.
    pictures : ndarray, uint8, [n, size, size, 3]

    Raises
    ------
    MoascopeError
        Where there is no plate.

    Notes
    -----
    Crops that make no square are left out: of four, nine, ... all are used, of three only the
    first.
    """
    metas, pictures = [], []
    for plate in some_prepared_plates(prepared):
        meta = plate.sites()
        meta = meta[[name for name in meta if name.startswith("Metadata_")] + ["QC_Pass"]]
        meta = meta[meta["QC_Pass"].astype(bool)]
        meta = meta[meta.groupby("Metadata_Well", sort=False).cumcount() < sites]
        facts, stored = plate.facts, plate.crops()
        made = np.zeros((len(meta), size, size, COLOURS), np.uint8)
        for panel, rows in meta.reset_index(drop=True).groupby("Metadata_Panel").indices.items():
            present = [index for index, name in enumerate(facts["channels"])
                       if name in facts["panels"][panel]]
            if not present:
                continue
            colours = [present[colour % len(present)] for colour in range(COLOURS)]
            for start in range(0, len(rows), SITES_AT_ONCE):
                chosen = rows[start : start + SITES_AT_ONCE]
                block = stored[meta.index[chosen]][:, :, colours]
                made[chosen] = shrink(mosaic(block), size)
        metas.append(meta)
        pictures.append(made)
    return pd.concat(metas, ignore_index=True), np.concatenate(pictures)


def mosaic(crops: np.ndarray) -> np.ndarray:
    """Crops as one square picture, row by row.

    Parameters
    ----------
    crops : ndarray, [n, crops, channels, crop, crop]

    Returns
    -------
    ndarray, [n, channels, s * crop, s * crop]
        s is the whole part of the root of the number of crops.
    """
    count, number, channels, crop, _ = crops.shape
    side = math.isqrt(number)
    grid = crops[:, : side * side].reshape(count, side, side, channels, crop, crop)
    return grid.transpose(0, 3, 1, 4, 2, 5).reshape(count, channels, side * crop, side * crop)


def shrink(planes: np.ndarray, size: int) -> np.ndarray:
    """Square planes at another size, each new pixel the mean of the area that it covers.

    Parameters
    ----------
    planes : ndarray, uint8, [n, channels, length, length]
    size : int

    Returns
    -------
    ndarray, uint8, [n, size, size, channels]
    """
    length = planes.shape[-1]
    edges = np.arange(size + 1) * length / size
    pixel = np.arange(length)
    # How much of each old pixel (columns) lies in each new one (rows).
    share = np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel),
                    0, None).astype(np.float32)
    share /= share.sum(axis=1, keepdims=True)
    small = share @ planes.astype(np.float32) @ share.T
    return np.rint(small).astype(np.uint8).transpose(0, 2, 3, 1)


def picture_examples(prepared: Path, screen: Path, split: Path, size: int,
                     sites: int) -> Examples:
    """Labelled fields outside the hold-out, with a small colour picture of each as features."""
    meta, pictures = load_composites(prepared, size, sites)
    examples = join_examples(FeatureTable(meta, pictures, []), read_screen(screen).layout,
                             read_folds(split))
    return examples.take(examples.in_folds)
