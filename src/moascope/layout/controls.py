"""Confounds of the negative controls: where they lie on their plates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.layout.nulls import not_measured, with_null


def controls_at_edge(wells: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """How well the distance to the edge separates negative controls from treated wells."""
    name = "controls_at_edge"
    control = (wells["Metadata_Control"] == "negative").to_numpy()
    if not control.any() or control.all():
        return not_measured(name, _WITHOUT[bool(control.any())])
    every, controls = _by_plate(wells["EdgeDistance"].to_numpy(), control, wells)

    def area(near: np.ndarray) -> float:
        """Area under the ROC curve, from controls counted by distance; ties count half."""
        rest = every.sum(axis=0) - near
        beyond = rest.sum() - np.cumsum(rest)
        return float(near @ (beyond + rest / 2) / (near.sum() * rest.sum()))

    value = area(controls.sum(axis=0))
    null = [area(near) for near in _controls_dealt(every, controls, permutations, seed)]
    columns = wells.loc[control, "Column"]
    used = np.sort(wells["Column"].unique())
    per_plate = controls.sum(axis=1)
    return with_null(name, value, null, two_sided=True) | {
        "controls": int(control.sum()),
        "columns": [int(column) + 1 for column in np.sort(columns.unique())],
        "columns_used": len(used),
        "in_outer_columns": float(columns.isin(used[[0, -1]]).mean()),
        "treated_in_outer_columns": float(
            wells.loc[~control, "Column"].isin(used[[0, -1]]).mean()),
        "fewest_on_a_plate": int(per_plate.min()), "most_on_a_plate": int(per_plate.max()),
    }


def controls_in_own_columns(wells: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """Share of negative controls in columns without a treated well on any plate."""
    name = "controls_in_own_columns"
    control = (wells["Metadata_Control"] == "negative").to_numpy()
    if not control.any() or control.all():
        return not_measured(name, _WITHOUT[bool(control.any())])
    column, levels = pd.factorize(wells["Column"], sort=True)
    if len(levels) < 2:
        return not_measured(name, "the screen has a single column")
    every, controls = _by_plate(column, control, wells)
    total = every.sum(axis=0)

    def share(held: np.ndarray) -> float:
        return float(held[held == total].sum() / held.sum())

    null = [share(held) for held in _controls_dealt(every, controls, permutations, seed)]
    return with_null(name, share(controls.sum(axis=0)), null)

_WITHOUT = {False: "the screen has no negative controls",
            True: "the screen has nothing but negative controls"}


def _by_plate(code: np.ndarray, control: np.ndarray,
              wells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Wells, and controls among them, of every plate at every level: int [plates, levels]."""
    plate = pd.factorize(wells["Metadata_Plate"])[0]
    depth = code.max() + 1
    cell, size = plate * depth + code, (plate.max() + 1) * depth
    return (np.bincount(cell, minlength=size).reshape(-1, depth),
            np.bincount(cell[control], minlength=size).reshape(-1, depth))


def _controls_dealt(every: np.ndarray, controls: np.ndarray, permutations: int,
                    seed: int) -> np.ndarray:
    """Controls shuffled among the wells of their plate: int [permutations, levels]."""
    generator = np.random.default_rng([seed, 3])
    return np.asarray(sum(
        generator.multivariate_hypergeometric(counts, number, size=permutations)
        for counts, number in zip(every, controls.sum(axis=1), strict=True)))
