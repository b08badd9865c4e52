"""Prepared plates: the one place that knows their files and the axes of their crops."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.work.plates import KEY_FILE

CROPS_FILE = "crops.npy"
SITES_FILE = "sites.parquet"
FACTS_FILE = "plate.json"


@dataclass(frozen=True)
class PreparedPlate:
    """A plate as `prepare.prepare_plate` writes it; each part is read from disk when it is used.

    Attributes
    ----------
    folder : Path
        `data/prepare/<plate>`.
    """

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def exists(self) -> bool:
        """Whether the plate exists and is complete."""
        return all((self.folder / name).is_file() for name in (CROPS_FILE, SITES_FILE, FACTS_FILE))

    @property
    def key(self) -> str:
        """A digest of everything that the plate depends on; see `work.plates.update_plates`."""
        return (self.folder / KEY_FILE).read_text()

    @property
    def facts(self) -> dict[str, Any]:
        """`channels` in the order of the crops, `nuclei`, `panels` (what was estimated), `size`
        (of a field, pixels), and `left_out`, a sentence for each site that could not be read.
        """
        return json.loads((self.folder / FACTS_FILE).read_text())

    @property
    def channels(self) -> list[str]:
        """In the order of the crops."""
        return list(self.facts["channels"])

    def sites(self, columns: list[str] | None = None) -> pd.DataFrame:
        """One row per site, in the order of the crops: `Metadata_`, `QC_` and measured columns."""
        return pd.read_parquet(self.folder / SITES_FILE, columns=columns)

    def crops(self) -> np.ndarray:
        """uint8, [sites, crops, channels, crop, crop], on disk (a memory map).

        A channel that a site lacks is black.
        """
        return np.load(self.folder / CROPS_FILE, mmap_mode="r")


def prepared_plates(prepared: Path) -> list[PreparedPlate]:
    """The plates of `data/prepare` by name; none where there are none."""
    # A folder whose name starts with a dot is a plate that is still being written.
    return [PreparedPlate(file.parent) for file in sorted(prepared.glob(f"*/{FACTS_FILE}"))
            if not file.parent.name.startswith(".")]


def some_prepared_plates(prepared: Path) -> list[PreparedPlate]:
    """As `prepared_plates`, which must not be empty.

    Raises
    ------
    MoascopeError
        If there are none.
    """
    plates = prepared_plates(prepared)
    if not plates:
        raise MoascopeError(f"{prepared} holds no prepared plate. Run `dvc repro prepare` first.")
    return plates
