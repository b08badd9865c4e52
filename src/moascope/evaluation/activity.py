"""Activity: whether the wells of a compound look alike, and unlike the negative controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moascope.evaluation.cross_normalised import cross_normalised, deal_controls, some_sites
from moascope.evaluation.retrieval import (
    average_precisions,
    corrected,
    cosines,
    labellings,
    permutation_p,
    simes,
)
from moascope.features.normalise import LEAST_CONTROL_SITES
from moascope.features.table import FeatureTable
from moascope.params import Activity
from moascope.screen.columns import WELL
from moascope.text import counted, listing

DOSE = ["Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Panel"]
COMPOUND = ["Metadata_Compound"]
ACTIVE, INACTIVE, UNTESTED = "yes", "no", ""
# Of one compound in one panel, and of the controls that it is compared with: more would be slow and
# change little. Drawn at random.
MOST_WELLS = 60
MOST_CONTROLS = 200
# Permutations of all compounds are used together for those that fewer than `END_OF_OWN` of their
# own reach, where so many compounds are tested; `MOST_POOLED` of them are enough.
END_OF_OWN, LEAST_POOLED, MOST_POOLED = 10, 10, 1_000_000
# Standard deviation of permutations that are all the same but for rounding.
ROUNDING = 1e-6
# A compound that so few permutations already show to be inactive gets no more of them.
FIRST_LOOK = 100
CLEARLY_INACTIVE = 0.3
NOTHING = (np.nan, np.nan, np.nan)
WORTH_A_LOOK = 0.05


@dataclass(frozen=True)
class ActivityResult:
    """What `measure_activity` finds.

    Attributes
    ----------
    doses : DataFrame
        One row per compound, concentration and panel.
    compounds : DataFrame
        One row per compound: all its doses and panels together.
    position : dict
        What control wells of one position on several plates reach: `positions`, their
        `mean_average_precision`, and `null_mean`. Empty where no position has two.
    warnings : tuple of str
        What could not be tested, and why.
    """

    doses: pd.DataFrame
    compounds: pd.DataFrame
    position: dict[str, Any]
    warnings: tuple[str, ...]


class _Found(NamedTuple):
    """The average precision of one set of wells: observed, and of each permutation."""

    observed: float
    null: np.ndarray

    def brief(self) -> tuple[float, float, float]:
        """Observed, mean of the permutations, and p; NaN where nothing was to be found."""
        if not np.isfinite(self.observed):
            return NOTHING
        return self.observed, float(self.null.mean()), permutation_p(*self)


def measure_activity(table: FeatureTable, settings: Activity, seed: int) -> ActivityResult:
    """Test every compound and dose against the negative controls of its plates.

    Parameters
    ----------
    table : FeatureTable
        Sites with `Metadata_Plate`, `Metadata_Well`, `Metadata_Panel`, `Metadata_Compound`,
        `Metadata_Concentration_uM`, `Metadata_Control` and `QC_Pass`.
    settings : Activity
    seed : int

    Returns
    -------
    ActivityResult
        Rows that cannot be tested (a single well, no controls) have empty values and say so in
        `warnings`.

    Notes
    -----
    The score is mean average precision [1]_: a well ranks the other wells of its compound and the
    negative controls of the plates on which the compound lies, by the cosine of their profiles. p
    is the share of random sets of those wells and controls, as many from each plate, that score as
    well.

    - The controls that normalise are never those that are compared. Each plate's controls are dealt
      into parts, and every part in turn is compared with wells that the others normalise. Around
      controls that were centred or sphered by themselves every other well looks alike: with 24
      controls and 454 features, sphering makes every compound of pure noise active.
    - Wells in one position of several plates share what the position does, so they do not count as
      finding each other, unless a compound has no others. A dose that lies in one position finds
      the compound's other doses.
    - What fewer than ten of a compound's permutations reach is compared with the permutations of
      all compounds.
    - A compound is tested by all its wells together and by each dose alone, whichever says more.
      Doses are corrected within their compound, and are active only where the compound is.

    .. [1] Kalinin et al., Nature Communications 16, 2025, as copairs computes it.
    """
    meta = table.meta
    negative = (meta["Metadata_Control"] == "negative").to_numpy()
    named = (meta["Metadata_Compound"] != "").to_numpy()
    used = meta["QC_Pass"].to_numpy(bool) & (named | negative)
    # Of doses, many as they are, the permutations themselves are not kept.
    found: dict[tuple[str, float, str], tuple[float, float, float]] = {}
    whole: dict[str, list[_Found]] = {}
    places: list[_Found] = []
    lacking: list[str] = []
    for number, panel in enumerate(sorted(set(meta["Metadata_Panel"][used]))):
        rows = np.flatnonzero(used & (meta["Metadata_Panel"] == panel).to_numpy())
        own = some_sites(table, rows)
        generator = np.random.default_rng([seed, number])
        dealt, without = deal_controls(own.meta, generator)
        lacking += without
        fit = ~own.meta["Metadata_Plate"].isin(without).to_numpy()
        if not fit.any():
            continue
        if not fit.all():
            own, dealt = some_sites(own, np.flatnonzero(fit)), dealt[fit]
        wells, profiles, part = cross_normalised(own, dealt, settings.normalisation)
        _test_panel(panel, wells, profiles, part, settings.null_size, generator, found, whole)
        places += _test_positions(wells, profiles, part, generator)
    doses = _dose_table(meta[used & ~negative], found)
    compounds = _compound_table(meta[used & ~negative], doses, whole, settings)
    doses = _corrected_doses(doses, compounds, settings)
    return ActivityResult(doses, compounds, _position(places),
                          _warnings(doses, compounds, sorted(set(lacking)), bool(negative.any())))


def _test_panel(panel: str, wells: pd.DataFrame, profiles: list[Any], part: np.ndarray,
                permutations: int, generator: np.random.Generator,
                doses: dict[tuple[str, float, str], tuple[float, float, float]],
                compounds: dict[str, list[_Found]]) -> None:
    plate = pd.factorize(wells["Metadata_Plate"])[0]
    dose = wells["Metadata_Concentration_uM"].fillna(-1).to_numpy(float)
    position = pd.factorize(wells["Metadata_Well"])[0]
    treated = wells[part < 0]
    for compound, index in treated.groupby("Metadata_Compound", sort=True).indices.items():
        own = _some(treated.index.to_numpy()[index], MOST_WELLS, generator)
        if len(own) < 2:
            continue
        apart = _to_find(dose[own], position[own])
        levels = [np.ones(len(own), bool), *(dose[own] == value for value in np.unique(dose[own]))]
        first = min(permutations, FIRST_LOOK)
        found = _score(own, plate, profiles, part, apart, levels, first, generator)
        if first < permutations and (
                permutation_p(*found[0]) < CLEARLY_INACTIVE
                or min(permutation_p(*one) for one in found) < WORTH_A_LOOK):
            found = _score(own, plate, profiles, part, apart, levels, permutations, generator)
        all_doses, *each = found
        # The panels' permutations are paired at random; a first look is repeated to their number.
        compounds.setdefault(str(compound), []).append(
            _Found(all_doses.observed, generator.permutation(
                np.resize(all_doses.null, permutations)).astype(np.float32)))
        doses |= {(str(compound), value, panel): one.brief()
                  for value, one in zip(np.unique(dose[own]), each, strict=True)}


def _to_find(dose: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which wells of its compound each well is to find: as a compound, and as a dose.

    Those in other positions; as a dose, of these its own dose where there are any.
    """
    other = ~np.eye(len(dose), dtype=bool)
    apart = other & (position[:, None] != position[None])
    same = other & (dose[:, None] == dose[None])
    compound = apart if apart.any() else other
    own = np.where((same & apart).any(axis=1, keepdims=True), same & apart, compound)
    return compound, own


def _score(own: np.ndarray, plate: np.ndarray, profiles: list[Any], part: np.ndarray,
           apart: tuple[np.ndarray, np.ndarray], levels: list[np.ndarray], permutations: int,
           generator: np.random.Generator) -> list[_Found]:
    """Average precision of all wells of a compound, and of those of each dose."""
    observed, null = np.zeros(len(levels)), np.zeros((len(levels), permutations))
    for number, profile in enumerate(profiles):
        controls = np.flatnonzero(part == number)
        controls = _some(controls[np.isin(plate[controls], plate[own])], MOST_CONTROLS, generator)
        pool = np.concatenate([own, controls])
        drawn = labellings(plate[pool], len(own), permutations, generator)
        whole, each = average_precisions(cosines(profile[pool], generator), drawn, apart)
        for level, members in enumerate(levels):
            score = _mean((whole if level == 0 else each)[:, members])
            observed[level] += score[0] / len(profiles)
            # The parts share the compound's wells: their permutations are taken as rising and
            # falling together, which no two tests do more than these.
            null[level] += np.sort(score[1:]) / len(profiles)
    return [_Found(float(score), chance) for score, chance in zip(observed, null, strict=True)]


def _mean(scores: np.ndarray) -> np.ndarray:
    """Of each row those columns that have a value; which ones is the same in every row."""
    known = np.isfinite(scores[0])
    return scores[:, known].mean(axis=1) if known.any() else np.full(len(scores), np.nan)


def _some(index: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    if len(index) <= most:
        return index
    return np.sort(generator.choice(index, most, replace=False))


def _test_positions(wells: pd.DataFrame, profiles: list[Any], part: np.ndarray,
                    generator: np.random.Generator) -> list[_Found]:
    """The same test of control wells in one position of several plates, as if a compound."""
    plate = pd.factorize(wells["Metadata_Plate"])[0]
    found = []
    for number, profile in enumerate(profiles):
        controls = np.flatnonzero(part == number)
        for _, index in wells.iloc[controls].groupby("Metadata_Well", sort=True).indices.items():
            own = _some(controls[index], MOST_WELLS, generator)
            others = np.setdiff1d(controls[np.isin(plate[controls], plate[own])], controls[index])
            if len(own) < 2 or not len(others):
                continue
            pool = np.concatenate([own, _some(others, MOST_CONTROLS, generator)])
            drawn = labellings(plate[pool], len(own), FIRST_LOOK, generator)
            score, = average_precisions(cosines(profile[pool], generator), drawn,
                                        [~np.eye(len(own), dtype=bool)])
            score = score.mean(axis=1)
            found.append(_Found(float(score[0]), score[1:]))
    return found


def _position(places: list[_Found]) -> dict[str, Any]:
    if not places:
        return {}
    observed = float(np.mean([one.observed for one in places]))
    null = np.mean([one.null for one in places], axis=0)
    return {"positions": len(places), "mean_average_precision": observed,
            "null_mean": float(null.mean()), "p": permutation_p(observed, null)}


def _dose_table(treated: pd.DataFrame,
                found: dict[tuple[str, float, str], tuple[float, float, float]]) -> pd.DataFrame:
    wells = treated.drop_duplicates(WELL)
    table = (wells.groupby(DOSE, dropna=False, sort=True).size().rename("wells").reset_index())
    keys = list(zip(table["Metadata_Compound"], table["Metadata_Concentration_uM"].fillna(-1.0),
                    table["Metadata_Panel"], strict=True))
    return table.join(_values([found.get(key, NOTHING) for key in keys]))


def _values(found: list[tuple[float, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["mean_average_precision", "null_mean", "p_value"])


def _compound_table(treated: pd.DataFrame, doses: pd.DataFrame, whole: dict[str, list[_Found]],
                    settings: Activity) -> pd.DataFrame:
    wells = treated.drop_duplicates(WELL).groupby(COMPOUND, sort=True)
    table = wells.agg(wells=("Metadata_Well", "size"),
                      doses=("Metadata_Concentration_uM", "nunique"),
                      panels=("Metadata_Panel", "nunique")).reset_index()
    together = [_together(whole.get(name)) for name in table["Metadata_Compound"]]
    table = table.join(_values([NOTHING if one is None else one.brief() for one in together]))
    tail = _tail(together, table["p_value"].to_numpy())
    table["p_value"] = np.where(np.isnan(tail), table["p_value"], tail)
    own = doses[doses["p_value"].notna()].groupby("Metadata_Compound")["p_value"]
    of_doses = own.agg(lambda p: simes(p.to_numpy())).reindex(table["Metadata_Compound"])
    several = own.size().reindex(table["Metadata_Compound"]).fillna(0).to_numpy() > 1
    either = np.minimum(1, 2 * np.minimum(table["p_value"], of_doses.to_numpy()))
    table["p_value"] = np.where(several & table["p_value"].notna(), either, table["p_value"])
    table["corrected_p_value"] = corrected(table["p_value"].to_numpy())
    table["active"] = _said(table["corrected_p_value"], settings.threshold)
    return table


def _tail(found: list[_Found | None], p: np.ndarray) -> np.ndarray:
    """p of the compounds that next to none of their permutations reach; NaN for all others.

    By the permutations of all compounds, each in standard deviations from its own mean: those of
    one compound end at 1 / (1 + permutations), which a correction for thousands of compounds would
    lift above any threshold.
    """
    tail = np.full(len(found), np.nan)
    known = [one for one in found if one is not None and np.std(one.null) > ROUNDING]
    if len(known) < LEAST_POOLED:
        return tail
    step = max(1, sum(len(one.null) for one in known) // MOST_POOLED)
    pooled = np.sort(np.concatenate([_standard(one.null, one)[::step] for one in known]))
    for place, one in enumerate(found):
        if (one is not None and p[place] < END_OF_OWN / (1 + len(one.null))
                and np.std(one.null) > ROUNDING):
            reached = len(pooled) - np.searchsorted(pooled, _standard(one.observed, one) - 1e-9)
            tail[place] = (1 + reached) / (1 + len(pooled))
    return tail


def _standard(values: Any, found: _Found) -> Any:
    return (values - found.null.mean()) / found.null.std()


def _together(panels: list[_Found] | None) -> _Found | None:
    if not panels:
        return None
    return _Found(float(np.mean([one.observed for one in panels])),
                  np.mean([one.null for one in panels], axis=0))


def _corrected_doses(doses: pd.DataFrame, compounds: pd.DataFrame, settings: Activity
                     ) -> pd.DataFrame:
    within = doses.groupby("Metadata_Compound")["p_value"].transform(
        lambda p: corrected(p.to_numpy()))
    of_compound = doses["Metadata_Compound"].map(
        compounds.set_index("Metadata_Compound")["corrected_p_value"])
    value = np.where(within.notna(), np.maximum(within, of_compound), np.nan)
    return doses.assign(corrected_p_value=value, active=_said(value, settings.threshold))


def _said(p: Any, threshold: float) -> np.ndarray:
    p = np.asarray(p, float)
    return np.where(np.isnan(p), UNTESTED, np.where(p < threshold, ACTIVE, INACTIVE))


def _warnings(doses: pd.DataFrame, compounds: pd.DataFrame, lacking: list[str],
              controls: bool) -> tuple[str, ...]:
    if not controls:
        return ("Activity is not known: no well is marked as a negative control "
                "(Metadata_Control in layout.csv).",)
    found = []
    if lacking:
        found.append(
            f"{counted(len(lacking), 'plate')} with too few negative controls (fewer than "
            f"{LEAST_CONTROL_SITES + 1} usable wells) {'is' if len(lacking) == 1 else 'are'} left "
            f"out of activity: {listing(lacking)}.")
    alone = compounds[(compounds["active"] == UNTESTED) & (compounds["wells"] < 2)]
    if len(alone):
        found.append(f"{counted(len(alone), 'compound')} with a single well cannot be tested for "
                     f"activity: {listing(alone['Metadata_Compound'])}.")
    others = int((compounds["active"] == UNTESTED).sum()) - len(alone)
    if others:
        found.append(f"{counted(others, 'compound')} without two wells of one panel on plates with "
                     "controls cannot be tested for activity.")
    return tuple(found)
