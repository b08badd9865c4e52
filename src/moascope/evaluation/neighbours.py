"""Consensus profiles of sets of wells, their similarity, and what controls in their place reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from moascope.evaluation.cross_normalised import (
    cross_normalised,
    deal_controls,
    normalised_wells,
    some_sites,
)
from moascope.evaluation.retrieval import SAME
from moascope.features.table import FeatureTable
from moascope.learning.novelty import of_length_one
from moascope.screen.columns import WELL

# Of one compound in one panel, and of the controls that it is compared with; drawn at random.
MOST_WELLS, MOST_CONTROLS = 60, 200


class Panel(NamedTuple):
    """The wells of one panel.

    Attributes
    ----------
    plate : ndarray, int, [wells]
    unit : ndarray, int, [wells]
        Row of the table of units, -1 for controls.
    part : ndarray, int, [wells]
        Part of the controls, -1 for treated wells and for controls that are not compared.
    profiles : list of ndarray, float32, [wells, d]
        For each part, by the controls of the others.
    """

    plate: np.ndarray
    unit: np.ndarray
    part: np.ndarray
    profiles: list[np.ndarray]


def panels_of(table: FeatureTable, used: np.ndarray, units: pd.DataFrame, by: list[str], query: int,
            how: str, seed: int) -> tuple[list[Panel], list[str]]:
    """The panels in which a unit has wells.

    Parameters
    ----------
    table : FeatureTable
    used : ndarray, bool, [sites]
    units : DataFrame
        With the columns `by`; what a unit is.
    by : list of str
    query : int
        Row of `units`.
    how : str
        See `normalised_wells`.
    seed : int

    Returns
    -------
    panels : list of Panel
        Where no panel has enough controls to hold some back, no control is compared.
    lacking : list of str
        The plates that are left out for their few controls.
    """
    tested, untested, lacking = [], [], []
    names = table.meta["Metadata_Panel"]
    for number, name in enumerate(sorted(set(names[used]))):
        sites = some_sites(table, np.flatnonzero(used & (names == name).to_numpy()))
        dealt, without = deal_controls(sites.meta, np.random.default_rng([seed, number]))
        fit = ~sites.meta["Metadata_Plate"].isin(without).to_numpy()
        lacking += without
        if fit.any():
            sites = some_sites(sites, np.flatnonzero(fit))
            wells, profiles, part = cross_normalised(sites, dealt[fit], how)
        else:
            controls = (sites.meta["Metadata_Control"] == "negative").to_numpy()
            profiles = [normalised_wells(sites, controls, how)]
            wells = sites.meta.drop_duplicates(WELL).sort_values(WELL, ignore_index=True)
            part = np.full(len(wells), -1)
        unit = (wells[by].merge(units.assign(Unit=np.arange(len(units))), on=by, how="left")
                ["Unit"].fillna(-1).to_numpy(int, copy=True))
        unit[(wells["Metadata_Control"] == "negative").to_numpy()] = -1
        if (unit == query).any():
            (tested if fit.any() else untested).append(
                Panel(pd.factorize(wells["Metadata_Plate"])[0], unit, part, profiles))
    return tested or untested, sorted(set(lacking)) if tested else []


def apart(panel: Panel, plates: np.ndarray) -> tuple[dict[int, np.ndarray], set[int]]:
    """The wells of every unit, without those on some plates where it has others.

    Returns
    -------
    wells : dict of int to ndarray
    shared : set of int
        Units that have wells only on those plates.
    """
    rows = np.flatnonzero(panel.unit >= 0)
    own = pd.Series(rows).groupby(panel.unit[rows]).agg(np.array)
    off = rows[~np.isin(panel.plate[rows], plates)]
    apart = pd.Series(off).groupby(panel.unit[off]).agg(np.array)
    return {**own, **apart}, set(own.index) - set(apart.index)


def limited(wells: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """At most so many of the wells, drawn at random."""
    return wells if len(wells) <= most else np.sort(generator.choice(wells, most, replace=False))


def _consensus(panel: Panel, chosen: Sequence[np.ndarray], part: int) -> np.ndarray:
    """The mean profile of each set of wells, of length one: float32, [sets, d]."""
    return of_length_one(np.stack([panel.profiles[part][wells].mean(axis=0) for wells in chosen]))


def compare(panel: Panel, own: np.ndarray, chosen: Sequence[np.ndarray], draws: int,
            generator: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """Similarity of one set of wells to others, and what chance gives.

    Parameters
    ----------
    panel : Panel
    own : ndarray, int
        The wells of the compound.
    chosen : sequence of ndarray, int
        The wells of each neighbour.

    Returns
    -------
    similarity : ndarray, float, [n]
    null : list of ndarray, float32, [draws, n]
        Of controls in the neighbour's place, and of controls in the compound's; empty where no
        control can be compared. Columns are permuted independently.
    """
    parts = len(panel.profiles)
    similarity = np.zeros(len(chosen))
    tested = bool((panel.part >= 0).any())
    null = [np.zeros((draws, len(chosen)), np.float32) for _ in range(2 * tested)]
    for part in range(parts):
        query = _consensus(panel, [own], part)[0]
        neighbours = _consensus(panel, chosen, part)
        similarity += neighbours @ query / parts
        if not tested:
            continue
        # The parts share the treated wells: their draws are taken as rising and falling
        # together, which no two tests do more than these.
        for column, wells in enumerate(chosen):
            drawn = drawn_controls(panel, wells, part, draws, generator)
            reached = _cosines(drawn.weights, panel.profiles[part][drawn.controls], query)
            null[0][:, column] += np.sort(widened(reached, drawn, generator)) / parts
        drawn = drawn_controls(panel, own, part, draws, generator)
        groups = of_length_one(drawn.weights @ panel.profiles[part][drawn.controls])
        null[1] += np.sort(widened(groups @ neighbours.T, drawn, generator), axis=0) / parts
    return similarity, [generator.permuted(one, axis=0) for one in null]


class Drawn(NamedTuple):
    """Random groups of controls.

    Attributes
    ----------
    weights : ndarray, float32, [draws, n]
        Of each control in the mean of each group; they sum to one.
    controls : ndarray, int, [n]
    widening : float
        How much more the wells scatter around the mean of the controls than these groups do.
    freedom : int
        Degrees of freedom that the controls leave for a spread.
    """

    weights: np.ndarray
    controls: np.ndarray
    widening: float
    freedom: int


def drawn_controls(panel: Panel, wells: np.ndarray, part: int, draws: int,
                   generator: np.random.Generator) -> Drawn:
    """Random groups of controls in the place of some wells, from each plate as they are.

    No control is in a group twice, because the cosine of a mean depends on how many wells it is of.
    Where a plate has less than two controls for each well, a group has half of its controls.
    """
    plates, counts = np.unique(panel.plate[wells], return_counts=True)
    most = max(2, MOST_CONTROLS // len(plates))
    pools = [limited(np.flatnonzero((panel.part == part) & (panel.plate == plate)), most, generator)
             for plate in plates]
    weights = np.zeros((draws, sum(map(len, pools))), np.float32)
    start, taken = 0, 0
    for pool, count in zip(pools, counts, strict=True):
        size = min(count, max(1, len(pool) // 2))
        drawn = start + np.argsort(generator.random((draws, len(pool))), axis=1)[:, :size]
        np.put_along_axis(weights, drawn, np.float32(count / len(wells) / size), axis=1)
        start, taken = start + len(pool), taken + size
    # Of the variance of one control: what a mean of the wells has around that of the controls, and
    # what a group has that is taken from them.
    wanted, held = 1 / len(wells) + 1 / start, max(1 / taken - 1 / start, 1 / (2 * start))
    return Drawn(weights, np.concatenate(pools), float(np.sqrt(wanted / held)),
                 max(1, start - len(plates)))


def widened(reached: np.ndarray, drawn: Drawn, generator: np.random.Generator) -> np.ndarray:
    """What groups of few controls reach, scattered as far as wells would be that are not of them.

    Parameters
    ----------
    reached : ndarray, float, [draws] or [draws, n]
    drawn : Drawn
    generator : Generator

    Notes
    -----
    As Student's t allows for a spread that is known from few: each distance from the mean is
    divided by the root of a chi-squared variable over its degrees of freedom.
    """
    centre = reached.mean(axis=0)
    spread = np.sqrt(generator.chisquare(drawn.freedom, reached.shape) / drawn.freedom)
    return centre + (reached - centre) * drawn.widening / spread


def _cosines(weights: np.ndarray, profiles: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Cosine of weighted means of profiles with a profile of length one: float, [sets].

    By the products of the profiles, of which there are fewer than sets.
    """
    along = weights @ (profiles @ query)
    square = ((weights @ (profiles @ profiles.T)) * weights).sum(axis=1)
    return along / np.sqrt(np.maximum(square, np.finfo(np.float32).tiny))


def seen_from(panels: Sequence[Panel], compound: np.ndarray, query: int, viewed: np.ndarray,
               similarity: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Of each viewed unit: the share of other compounds that are as much like it as the query.

    Parameters
    ----------
    panels : sequence of Panel
    compound : ndarray, str, [units]
    query : int
    viewed : ndarray, int, [n]
    similarity : ndarray, float, [n]
        Of each to the query.

    Returns
    -------
    ndarray, float, [n]
    """
    found = np.zeros((len(viewed), len(compound)))
    count = np.zeros((len(viewed), len(compound)), int)
    for panel in panels:
        mine, _ = apart(panel, panel.plate[panel.unit == query])
        here = [row for row, unit in enumerate(viewed) if unit in mine]
        chosen = {row: limited(mine[viewed[row]], MOST_WELLS, generator) for row in here}
        plates = pd.Series({row: tuple(np.unique(panel.plate[wells]))
                            for row, wells in chosen.items()})
        # Units on the same plates see the same others.
        for own, rows in plates.groupby(plates).groups.items():
            others, _ = apart(panel, np.array(own))
            at = np.array(sorted(others))
            sets = [limited(others[unit], MOST_WELLS, generator) for unit in at]
            mean = np.mean([_consensus(panel, [chosen[row] for row in rows], part)
                            @ _consensus(panel, sets, part).T
                            for part in range(len(panel.profiles))], axis=0)
            found[np.ix_(rows, at)] += mean
            count[np.ix_(rows, at)] += 1
    found /= np.where(count, count, 1)
    share = np.empty(len(viewed))
    for row, unit in enumerate(viewed):
        other = (count[row] > 0) & (compound != compound[unit]) & (compound != compound[query])
        as_near = (found[row, other] >= similarity[row] - SAME).sum()
        share[row] = (1 + as_near) / (1 + other.sum())
    return share
