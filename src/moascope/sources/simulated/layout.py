"""Where compounds and DMSO are on a plate: the layout of idr0088, and a small one with 96 wells."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moascope.sources.simulated.seeds import stream

DOSES_UM = (0.3, 1.0, 3.0, 9.0)


@dataclass(frozen=True)
class PlateFormat:
    """Size of a plate and the rectangle of wells in use; rows and columns count from 0."""

    rows: int
    columns: int
    used_rows: range
    compound_columns: range
    dmso_columns: tuple[int, int]


FORMATS = {
    384: PlateFormat(16, 24, range(1, 15), range(2, 22), (1, 22)),
    96: PlateFormat(8, 12, range(1, 7), range(2, 10), (1, 10)),
}


@dataclass(frozen=True)
class Well:
    """A well and its content; `compound` is an index into the list of compounds, -1 for DMSO."""

    row: int
    column: int
    compound: int
    concentration: float  # µM, NaN for DMSO

    @property
    def name(self) -> str:
        return f"{'ABCDEFGHIJKLMNOP'[self.row]}{self.column + 1:02d}"


def plate_maps(seed: int, compounds: int, wells: int, dmso: str) -> list[list[Well]]:
    """Assign compounds to wells, on as many plate maps as they need.

    Each compound occupies four adjacent wells of a row, with the dose increasing to the right. The
    assignment is random, and a map is the same in every batch and panel.

    Parameters
    ----------
    seed : int
        Seed of the screen.
    compounds : int
        Number of compounds.
    wells : {96, 384}
        Plate format.
    dmso : {"edge", "scattered", "both"}
        DMSO in the two outer columns as in idr0088, one well at each end of a row; or the same
        number of wells at random places in each row; or both, which replaces one compound per
        row.

    Returns
    -------
    list of list of Well
        One list per map, sorted by row and column.
    """
    plate = FORMATS[wells]
    strips_a_row = len(plate.compound_columns) // len(DOSES_UM) - (dmso == "both")
    capacity = strips_a_row * len(plate.used_rows)
    maps = math.ceil(compounds / capacity)
    order = stream(seed, "positions").permutation(compounds).tolist()
    return [_plate_map(seed, index, order[index::maps], plate, strips_a_row, dmso)
            for index in range(maps)]


def _plate_map(
    seed: int, index: int, members: list[int], plate: PlateFormat, strips_a_row: int, dmso: str
) -> list[Well]:
    rng = stream(seed, "map", index)
    strips = len(plate.used_rows) * strips_a_row
    # A map that is not full leaves wells empty at random places, not at its end.
    content = dict(zip(rng.permutation(strips)[: len(members)].tolist(), members, strict=True))
    wells = []
    for place, row in enumerate(plate.used_rows):
        edge = dmso in ("edge", "both")
        if edge:
            wells += [Well(row, column, -1, math.nan) for column in plate.dmso_columns]
        scattered = 0 if dmso == "edge" else (len(DOSES_UM) if dmso == "both" else 2)
        # -1 stands for a single DMSO well, any other number for a strip of four doses.
        sequence = [place * strips_a_row + i for i in range(strips_a_row)] + [-1] * scattered
        if scattered:
            sequence = rng.permutation(sequence).tolist()
        column = plate.compound_columns.start if edge else plate.dmso_columns[0]
        for item in sequence:
            if item == -1:
                wells.append(Well(row, column, -1, math.nan))
                column += 1
                continue
            if item in content:
                wells += [Well(row, column + step, content[item], dose)
                          for step, dose in enumerate(DOSES_UM)]
            column += len(DOSES_UM)
    return sorted(wells, key=lambda well: (well.row, well.column))
