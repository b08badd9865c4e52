"""Dose-response of the distance from the negative controls, and the dose at which it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from moascope.evaluation.cross_normalised import deal_controls, some_sites
from moascope.evaluation.distances import log_distances
from moascope.evaluation.hill import BELOW, Hill, best_of_grid, fit_hill, is_better_than_constant
from moascope.evaluation.retrieval import SAME, corrected
from moascope.features.table import FeatureTable
from moascope.params import Activity

DOSES_FILE, CURVES_FILE = "doses.csv", "curves.csv"
KEY = ["Metadata_Compound", "Metadata_Panel"]
DOSE = "Metadata_Concentration_uM"
DOSE_COLUMNS = [*KEY, DOSE, "wells", "distance", "lowest", "highest", "fitted"]
CURVE_COLUMNS = [*KEY, "doses", "wells", "noise", "p_value", "corrected_p_value", "response",
                 "top", "ec50_uM", "slope", "point_of_departure_uM", "low_uM", "high_uM"]
RISES, ABOVE, FLAT, UNTESTED = "yes", "all doses", "no", ""
LEAST_DOSES = 3
# Draws from the reference for each permutation of `activity`: a correction for hundreds of curves
# needs small p, and curves of one design share the draws.
DRAWS_PER_PERMUTATION = 10
# Places of the reference that suffice without those that lie on fewer plates.
LEAST_PLACES = 20
# Quartile ranges above the upper quartile: the noise of normal values exceeds it once in 287 times.
FENCE = 1.5
RESAMPLES = 500
INTERVAL = (5, 95)   # percent


@dataclass(frozen=True)
class DoseResponses:
    """What `measure_doses` finds.

    Attributes
    ----------
    doses : DataFrame
        One row per compound, panel and concentration: `wells`; `distance`, the geometric mean of
        the distances of its wells from the controls, 1 being that of controls; `lowest` and
        `highest` of the wells; `fitted`, the curve there, NaN without one.
    curves : DataFrame
        One row per compound and panel: the number of `doses` and `wells`; `noise`, the distance at
        which the noise of single control wells ends (one standard deviation); `p_value` and
        `corrected_p_value` of a rise with the dose; `response`: "yes", "all doses" (as far beyond
        the noise at every dose), "no", or empty with fewer than `LEAST_DOSES` doses; and with
        "yes", the curve's `top` (distance), `ec50_uM` and `slope`, the `point_of_departure_uM`
        and its 90 % interval, `low_uM` to `high_uM` (infinite where resamples do not reach it).
    """

    doses: pd.DataFrame
    curves: pd.DataFrame


class _Curve(NamedTuple):
    """The wells of one compound in one panel."""

    compound: str
    panel: str
    dose: np.ndarray
    response: np.ndarray
    controls: np.ndarray
    rise: float
    level: float

    @property
    def noise(self) -> float:
        return float(self.controls.std(ddof=1))


def measure_doses(table: FeatureTable, settings: Activity, seed: int) -> DoseResponses:
    """Measure how far each compound is from the controls at each dose, and whether that rises.

    Parameters
    ----------
    table : FeatureTable
        As for `activity.measure_activity`.
    settings : Activity
        `threshold` and `null_size` are read.
    seed : int

    Returns
    -------
    DoseResponses
        Plates with too few controls are left out.

    Notes
    -----
    - Distances are those of `distances.log_distances`; curves are fitted to their logarithms,
      because the scatter of a distance grows with it.
    - The test of a rise is Bartholomew's (Biometrika 46, 1959): the sum of squares of the means
      that rise with the dose and are nearest to those measured. A trend test before a curve is
      how transcriptomic point-of-departure studies filter (NTP Research Report 5, 2018).
    - Its null are places that should not respond: control wells and the lowest dose of all
      compounds on the same plates, each around their own median, without outliers (tcpl, too,
      takes the noise from low doses). A place is a well's position, averaged over plates, because
      what a position does is the same on all plates; the wells of a compound are averaged likewise.
      So a control at the edge of a plate, which differs from wells inside, makes no response. p is
      corrected for the number of curves by Benjamini and Hochberg.
    - Where it rises, a Hill curve is fitted, and kept if it is better than a constant by Akaike's
      criterion; see `hill`. The point of departure is the dose at which it leaves the noise: one
      standard deviation of the controls, the benchmark response that the EPA recommends for
      continuous data (Benchmark Dose Technical Guidance, EPA/100/R-12/001, 2012).
    - The interval repeats curve and noise with resampled controls: around the curve in the place of
      the compound's wells, and by themselves.
    """
    meta = table.meta
    negative = (meta["Metadata_Control"] == "negative").to_numpy()
    used = (meta["QC_Pass"].to_numpy(bool)
            & ((meta["Metadata_Compound"] != "").to_numpy() | negative))
    wells, curves = [], []
    for number, panel in enumerate(sorted(set(meta["Metadata_Panel"][used]))):
        rows = np.flatnonzero(used & (meta["Metadata_Panel"] == panel).to_numpy())
        generator = np.random.default_rng([seed, 3, number])
        own = some_sites(table, rows)
        dealt, without = deal_controls(own.meta, generator)
        fit = np.flatnonzero(~own.meta["Metadata_Plate"].isin(without))
        if not len(fit):
            continue
        measured, response = log_distances(some_sites(own, fit), dealt[fit])
        measured["Response"] = response
        wells.append(measured[measured["Metadata_Control"] != "negative"])
        curves += _tested(measured, panel, DRAWS_PER_PERMUTATION * settings.null_size, generator)
    if not wells:
        return DoseResponses(pd.DataFrame(columns=DOSE_COLUMNS),
                             pd.DataFrame(columns=CURVE_COLUMNS))
    found = _curves(curves, settings.threshold, np.random.default_rng([seed, 4]))
    return DoseResponses(_doses(pd.concat(wells, ignore_index=True), found), found)


def read_doses(folder: Path) -> DoseResponses:
    """`DoseResponses` as the stage `activity` wrote it into its folder of reports."""
    words = dict.fromkeys([*KEY, "response"], str)
    doses, curves = (
        pd.read_csv(folder / name, dtype=words, keep_default_na=False,
                    na_values={column: [""] for column in columns if column not in words})
        for name, columns in ((DOSES_FILE, DOSE_COLUMNS), (CURVES_FILE, CURVE_COLUMNS)))
    return DoseResponses(doses, curves)


def _tested(wells: pd.DataFrame, panel: str, draws: int, generator: np.random.Generator
            ) -> list[_Curve]:
    """Every compound of a panel with the p-values of a rise, and of a level above the reference."""
    treated = wells["Metadata_Control"] != "negative"
    known = wells[treated & (wells[DOSE] > 0)]
    lowest = known[DOSE] == known.groupby("Metadata_Compound")[DOSE].transform("min")
    several = known.groupby("Metadata_Compound")[DOSE].transform("nunique") >= LEAST_DOSES
    reference = pd.concat([wells[~treated], known[lowest & several]])
    plates = known.groupby("Metadata_Compound")["Metadata_Plate"].agg(
        lambda own: tuple(sorted(set(own))))
    rows = known.groupby("Metadata_Compound").indices
    found = []
    for on, compounds in plates.groupby(plates).groups.items():
        near = reference[reference["Metadata_Plate"].isin(on)]
        controls = near.loc[near["Metadata_Control"] == "negative", "Response"].to_numpy()
        places = _places(near)
        of_design: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        for compound in compounds:
            own = known.iloc[rows[compound]]
            dose, response = own[DOSE].to_numpy(float), own["Response"].to_numpy()
            at = own.groupby([DOSE, "Metadata_Well"])["Response"].agg(["mean", "size"])
            levels = at.index.get_level_values(DOSE).to_numpy()
            design = tuple(np.unique(levels, return_counts=True)[1])
            rise = level = np.nan
            if len(design) >= LEAST_DOSES and len(places) > 1 and len(controls) > 1:
                key = (*design, int(at["size"].median()))
                if key not in of_design:
                    of_design[key] = _chance(_alike(places, key[-1]), design, draws, generator)
                mean = at["mean"].to_numpy()
                observed = _rise(mean[None], design)[0], mean.mean()
                rise, level = ((1 + (null >= value - SAME).sum()) / (1 + draws)
                               for value, null in zip(observed, of_design[key], strict=True))
            found.append(_Curve(str(compound), panel, dose, response, controls, rise, level))
    return found


def _places(reference: pd.DataFrame) -> pd.DataFrame:
    """Mean response of each position that should not respond, around the median of its kind."""
    places = (reference.groupby(["Metadata_Control", "Metadata_Compound", "Metadata_Well"])
              ["Response"].agg(["mean", "size"]).reset_index())
    kind = places.groupby("Metadata_Control")["mean"]
    low, high = kind.transform("quantile", 0.25), kind.transform("quantile", 0.75)
    # What responds at the lowest dose already is far out (Tukey 1977), and no noise.
    noise = places["mean"] <= high + FENCE * (high - low)
    return places.assign(mean=places["mean"] - kind.transform("median"))[noise]


def _alike(places: pd.DataFrame, plates: int) -> np.ndarray:
    """Those that are means over as many plates, unless they are too few."""
    same = places[places["size"] == plates]
    return (same if len(same) >= LEAST_PLACES else places)["mean"].to_numpy()


def _chance(places: np.ndarray, design: tuple[int, ...], draws: int,
            generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What random places reach in the place of a compound: rise and mean, [draws] each."""
    count = sum(design)
    if len(places) < 2 * count:
        drawn = generator.choice(places, (draws, count))
    else:
        order = np.argpartition(generator.random((draws, len(places))), count, axis=1)[:, :count]
        drawn = generator.permuted(places[order], axis=1)
    return _rise(drawn, design), drawn.mean(axis=1)


def _rise(values: np.ndarray, design: tuple[int, ...]) -> np.ndarray:
    """Bartholomew's sum of squares between the means that rise and are nearest to those of doses.

    Parameters
    ----------
    values : ndarray, float, [n, places]
        By rising dose.
    design : tuple of int
        Places at each dose.
    """
    ends = np.cumsum(design)
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)[:, ends - 1]],
                           axis=1)
    count = np.concatenate([[0], ends])
    levels = len(design)
    square = np.zeros(len(values))
    middle = total[:, -1] / count[-1]
    for at in range(levels):
        # The isotonic mean: the largest, over starts, of the smallest mean up to any end.
        fitted = np.max([np.min([(total[:, end] - total[:, start]) / (count[end] - count[start])
                                 for end in range(at + 1, levels + 1)], axis=0)
                         for start in range(at + 1)], axis=0)
        square += design[at] * (fitted - middle) ** 2
    return square


def _curves(curves: list[_Curve], threshold: float, generator: np.random.Generator
            ) -> pd.DataFrame:
    """The table of curves, with a Hill curve where the response rises with the dose."""
    rise, level = (corrected(np.array([getattr(one, name) for one in curves]))
                   for name in ("rise", "level"))
    rows = []
    for one, of_rise, of_level in zip(curves, rise, level, strict=True):
        row = {"Metadata_Compound": one.compound, "Metadata_Panel": one.panel,
               "doses": len(np.unique(one.dose)), "wells": len(one.dose),
               "noise": np.exp(one.noise), "p_value": one.rise, "corrected_p_value": of_rise,
               "response": UNTESTED if np.isnan(of_rise) else FLAT}
        means = pd.Series(one.response).groupby(one.dose).mean()
        fitted = _departure(one, generator) if of_rise < threshold else {}
        if fitted:
            row |= {"response": RISES, **fitted}
        elif of_level < threshold and means.min() > one.noise:
            row["response"] = ABOVE
        rows.append(row)
    return (pd.DataFrame(rows, columns=CURVE_COLUMNS)
            .sort_values(KEY, ignore_index=True))


def _departure(one: _Curve, generator: np.random.Generator) -> dict[str, float]:
    """The curve of a response and where it leaves the noise; empty where it does not."""
    curve = fit_hill(one.dose, one.response)
    levels = np.unique(one.dose)
    if not (is_better_than_constant(one.dose, one.response, curve)
            and curve.dose_at(one.noise) <= levels[-1]):
        return {}
    count = np.array([(one.dose == level).sum() for level in levels])
    # Single wells say nothing of their scatter: it is that of the controls, or of what the curve
    # leaves, where that is more.
    left = np.sqrt(((one.response - curve.at(one.dose)) ** 2).sum() / max(1, len(one.dose) - 3))
    around = (one.controls - one.controls.mean()) * max(1.0, left / one.noise)
    means = np.stack([curve.at(level) + _resampled(around, wells, generator).mean(axis=1)
                      for level, wells in zip(levels, count, strict=True)], axis=1)
    noise = _resampled(one.controls, len(one.controls), generator).std(axis=1, ddof=1)
    found = [Hill(*values).dose_at(level) for *values, level in
             zip(*best_of_grid(levels, means, count), noise, strict=True)]
    least = levels[0] / BELOW
    low, high = np.percentile(np.clip(found, least, None), INTERVAL, method="nearest")
    return {"top": float(np.exp(curve.top)), "ec50_uM": curve.ec50, "slope": curve.slope,
            "point_of_departure_uM": max(curve.dose_at(one.noise), least),
            "low_uM": low, "high_uM": high if high <= levels[-1] else np.inf}


def _resampled(values: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """float, [RESAMPLES, count]."""
    return values[generator.integers(len(values), size=(RESAMPLES, count))]


def _doses(wells: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    table = (wells.groupby([*KEY, DOSE], dropna=False, sort=True)["Response"]
             .agg(wells="size", distance="mean", lowest="min", highest="max").reset_index())
    table[["distance", "lowest", "highest"]] = np.exp(table[["distance", "lowest", "highest"]])
    known = table[KEY].merge(curves[[*KEY, "top", "ec50_uM", "slope"]], on=KEY, how="left")
    curve = Hill(np.log(known["top"].to_numpy(float)), known["ec50_uM"].to_numpy(float),
                 known["slope"].to_numpy(float))
    return table.assign(fitted=np.exp(curve.at(table[DOSE].to_numpy(float))))
