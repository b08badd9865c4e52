"""Which compounds look like a given one, and how surprising that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.evaluation.active import called_active
from moascope.evaluation.asked import asked_compound, asked_dose
from moascope.evaluation.neighbours import (
    MOST_WELLS,
    Panel,
    apart,
    compare,
    limited,
    panels_of,
    seen_from,
)
from moascope.evaluation.retrieval import SAME, permutation_p
from moascope.features.normalise import LEAST_CONTROL_SITES
from moascope.features.table import FeatureTable
from moascope.text import counted, listing, tidy

NORMALISATION = "moderated+sphere"
"""As for the column `Nearest` of predictions."""

OTHER_PLATES, SHARED_PLATES = "other", "shared"
# Neighbours from which the other compounds are looked at.
MOST_VIEWED = 500
COMPOUND, DOSE = "Metadata_Compound", "Metadata_Concentration_uM"


@dataclass(frozen=True)
class Similar:
    """What `measure_similar` finds.

    Attributes
    ----------
    compound : str
        As the screen spells it.
    dose : float or None
        Micromolar, where single doses are compared; None where whole compounds are.
    active : str
        Whether the compound itself is active: "yes", "no", or "" where that is not known.
    table : DataFrame
        One row per other compound (or dose), the most similar first; see `measure_similar`.
    warnings : tuple of str
        What could not be compared or tested, and why.
    """

    compound: str
    dose: float | None
    active: str
    table: pd.DataFrame
    warnings: tuple[str, ...]


def measure_similar(table: FeatureTable, compound: str, mechanisms: Mapping[str, str],
                    activity: pd.DataFrame | None = None, *,
                    level: Literal["compound", "dose"] = "compound", dose: float | None = None,
                    normalisation: str = NORMALISATION, draws: int = 1000,
                    seed: int = 0) -> Similar:
    """Rank all other compounds by how much they look like one, and test each similarity.

    Parameters
    ----------
    table : FeatureTable
        Sites with `Metadata_Plate`, `Metadata_Well`, `Metadata_Panel`, `Metadata_Compound`,
        `Metadata_Concentration_uM`, `Metadata_Control` and `QC_Pass`.
    compound : str
        Case, blanks and kinds of dash do not matter.
    mechanisms : mapping of str to str
        `Metadata_MoA` of each compound.
    activity : DataFrame, optional
        `ActivityResult.compounds`; without it `active` is empty.
    level : {"compound", "dose"}
        Whether a profile is of all doses of a compound, or of one.
    dose : float, optional
        The compound's dose, in micromolar, at the level `dose`; by default the highest.
    normalisation : {"plate", "plate+sphere", "moderated", "moderated+sphere"}
    draws : int
    seed : int

    Returns
    -------
    Similar
        Its table has the columns `Metadata_Compound` (at the level `dose` also
        `Metadata_Concentration_uM`), `Metadata_MoA`, `active`, `similarity` (cosine), `wells`
        (of the neighbour), `plates` ("other", or "shared" where it has wells only on plates of the
        compound), `p_value`, `corrected_p_value` (NaN without controls to compare with)
        and `share_of_others` (NaN after the first `MOST_VIEWED` rows).

    Raises
    ------
    MoascopeError
        Where the compound is not in the screen, is the negative control, or has no usable well.

    Notes
    -----
    A consensus profile is the mean of the wells of a compound in one panel, each in deviations of
    the plate's negative controls and scaled to length one. Similarity is the cosine, the mean over
    the panels that both have. A neighbour's wells on plates of the compound are left out where it
    has others, because wells of one plate share what the plate does.

    `p_value` answers two questions and is the larger answer: how often do negative controls,
    grouped by plate as the neighbour's wells are, look as much like the compound; and how often do
    controls grouped as the compound's wells are look as much like the neighbour. Two compounds are
    alike only where neither looks like controls (an intersection-union test: Berger, Technometrics
    24, 1982). Where there are few controls, their groups are widened as Student's t is; see
    `neighbours.widened`. As in `activity`, controls that normalise are never those that are
    compared.

    `corrected_p_value` is corrected for the number of compounds that were tried, by the largest of
    all standardised similarities in each draw (single-step maxT: Westfall and Young,
    Resampling-Based Multiple Testing, 1993).

    `share_of_others` looks from the neighbour: the share (1 + k) / (1 + n) of the n other compounds
    that are at least as much like it as the compound is. What is like everything has a large one.
    It is never below 1 / (1 + n), so it is a percentile and not a test.
    """
    meta = table.meta
    negative = (meta["Metadata_Control"] == "negative").to_numpy()
    treated = (meta[COMPOUND] != "").to_numpy() & ~negative
    passed = meta["QC_Pass"].to_numpy(bool)
    compound = asked_compound(compound, meta)
    known = meta[treated & passed]
    if not (known[COMPOUND] == compound).any():
        raise MoascopeError(f"{tidy(compound)} has no well that passed quality control. Look at "
                            "reports/prepare/quality.json.")
    own_dose = asked_dose(compound, dose, known) if level == "dose" else None
    by = [COMPOUND] if own_dose is None else [COMPOUND, DOSE]
    units = known[by].drop_duplicates().sort_values(by, ignore_index=True)
    names = units[COMPOUND].to_numpy(str)
    query = int(np.flatnonzero((names == compound) & _is_dose(units, own_dose))[0])
    panels, lacking = panels_of(table, passed & (treated | negative), units, by, query,
                              normalisation, seed)
    generator = np.random.default_rng([seed, 2])
    columns, result, chance = _compared(panels, query, names != compound, draws, generator)
    result["p_value"], result["corrected_p_value"] = _p_values(
        result["similarity"].to_numpy(), chance)
    result = pd.concat([units.iloc[columns].reset_index(drop=True), result], axis=1)
    result.insert(len(by), "Metadata_MoA", [mechanisms.get(name, "") for name in names[columns]])
    result.insert(len(by) + 1, "active", _active(names[columns], activity))
    order = np.argsort(-result["similarity"].to_numpy(), kind="stable")
    result, viewed = result.iloc[order].reset_index(drop=True), order[:MOST_VIEWED]
    result.loc[: len(viewed) - 1, "share_of_others"] = seen_from(
        panels, names, query, columns[viewed], result["similarity"].to_numpy(), generator)
    return Similar(compound, own_dose, str(_active(np.array([compound]), activity)[0]), result,
                   _warnings(compound, lacking, result))


def _is_dose(units: pd.DataFrame, dose: float | None) -> np.ndarray:
    if dose is None:
        return np.ones(len(units), bool)
    return (units[DOSE].isna() if np.isnan(dose) else units[DOSE] == dose).to_numpy()


def _active(names: np.ndarray, activity: pd.DataFrame | None) -> np.ndarray:
    if activity is None:
        return np.full(len(names), "", object)
    return called_active(pd.Series(names), activity)


def _compared(panels: Sequence[Panel], query: int, other: np.ndarray, draws: int,
              generator: np.random.Generator
              ) -> tuple[np.ndarray, pd.DataFrame, list[np.ndarray]]:
    """Similarity to every other unit, the mean over the panels that both have.

    Parameters
    ----------
    panels : sequence of Panel
    query : int
    other : ndarray, bool, [units]
        Units that may be neighbours.
    draws : int

    Returns
    -------
    unit : ndarray, int, [n]
    table : DataFrame, [n]
        `similarity`, `wells`, `plates`.
    chance : list of ndarray, float32, [draws, n]
        See `_compare`.
    """
    total, count, wells, shared = np.zeros((4, len(other)))
    chance: list[np.ndarray] = []
    for panel in panels:
        own = limited(np.flatnonzero(panel.unit == query), MOST_WELLS, generator)
        own_wells, on_shared = apart(panel, panel.plate[panel.unit == query])
        at = np.array([unit for unit in sorted(own_wells) if other[unit]], int)
        if not len(at):
            continue
        chosen = [limited(own_wells[unit], MOST_WELLS, generator) for unit in at]
        similarity, null = compare(panel, own, chosen, draws, generator)
        total[at] += similarity
        count[at] += 1
        wells[at] += [len(one) for one in chosen]
        shared[at] += [unit in on_shared for unit in at]
        chance = chance or [np.zeros((draws, len(other)), np.float32) for _ in null]
        for kept, one in zip(chance, null, strict=True):
            kept[:, at] += one
    unit = np.flatnonzero(count)
    table = pd.DataFrame({
        "similarity": total[unit] / count[unit], "wells": wells[unit].astype(int),
        "plates": np.where(shared[unit] > 0, SHARED_PLATES, OTHER_PLATES)})
    return unit, table, [kept[:, unit] / count[unit].astype(np.float32) for kept in chance]


def _p_values(similarity: np.ndarray, chance: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """p of each neighbour, and corrected for their number: the larger of the two questions'."""
    p, corrected = np.full((2, len(similarity)), np.nan)
    if not len(similarity) or not chance:
        return p, corrected
    p[:], corrected[:] = 0, 0
    for null in chance:
        centre, spread = null.mean(axis=0), np.maximum(null.std(axis=0), SAME)
        largest = ((null - centre) / spread).max(axis=1)
        own = [permutation_p(value, null[:, i]) for i, value in enumerate(similarity)]
        any_of_all = [permutation_p(value, largest) for value in (similarity - centre) / spread]
        p, corrected = np.maximum(p, own), np.maximum(corrected, any_of_all)
    return p, np.maximum(p, corrected)


def _warnings(compound: str, lacking: list[str], result: pd.DataFrame) -> tuple[str, ...]:
    found = []
    if lacking:
        found.append(f"{counted(len(lacking), 'plate')} with too few negative controls (fewer than "
                     f"{LEAST_CONTROL_SITES + 1} usable wells) "
                     f"{'is' if len(lacking) == 1 else 'are'} left out: {listing(lacking)}.")
    if result["p_value"].isna().all():
        found.append("Similarity is not tested: no plate has enough wells marked as a negative "
                     "control (Metadata_Control in layout.csv).")
    if shared := int((result["plates"] == SHARED_PLATES).sum()):
        all_of = f"{shared:,} of the {len(result):,}" if shared < len(result) else f"All {shared:,}"
        found.append(f"{all_of} neighbours have wells only on plates of "
                     f"{tidy(compound)}; what a plate does may add to their similarity.")
    return tuple(found)
