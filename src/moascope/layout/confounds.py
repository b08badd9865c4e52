"""The confounds of a screen's layout, measured without a single pixel.

Each measure lies between 0 and 1 and comes with its null: the values of the same screen when
compounds, controls or doses are assigned at random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from moascope.layout.controls import controls_at_edge, controls_in_own_columns
from moascope.layout.nulls import DEALS, PERMUTATIONS, not_measured, orders, with_null
from moascope.layout.wells import labelled_wells, plate_maps
from moascope.metrics import average_precision
from moascope.screen.question import Question
from moascope.screen.wells import well_name

LEAK_FOLDS = 5


def measure_confounds(
    wells: pd.DataFrame, groups: pd.DataFrame, question: Question,
    repeats: int, seed: int, permutations: int = PERMUTATIONS,
) -> list[dict[str, Any]]:
    """Measure every confound that can be measured on this layout.

    Parameters
    ----------
    wells : DataFrame
        As `well_table` gives it.
    groups : DataFrame
        Units with `Metadata_Group`, `Label` and `Fold_<repeat>` (-1: held out).
    question : Question
    repeats : int
        How many columns `Fold_` there are.
    seed, permutations : int

    Returns
    -------
    list of dict
        `name`; `value`, or None with `why_not` where it cannot be measured; `null` with `mean`,
        `low`, `high` (central 95 %); `p` (share of the null at least as far out, the observed
        included; absent where the null was drawn `DEALS` times only); and numbers of its own.
    """
    asked = question.scored_names
    labelled = labelled_wells(wells, groups)
    treated = wells[wells["Metadata_Control"] != "negative"]
    maps = plate_maps(wells)
    found = [
        _replicates_in_place(treated, maps, seed),
        _leak_by_place(labelled, groups, maps, asked, seed),
        _predicts_class("position_predicts_class", _place_features, labelled, groups, asked,
                        repeats, permutations, seed),
        _predicts_class("plate_predicts_class", _plate_features, labelled, groups, asked, repeats,
                        permutations, seed),
    ]
    for factor in ("Row", "Column", "Plate", "Batch", "Panel"):
        found.append(_class_by(factor, labelled, groups, asked, permutations, seed))
    found += [controls_at_edge(wells, permutations, seed),
              controls_in_own_columns(wells, permutations, seed),
              _dose_by_column(treated, permutations, seed)]
    return found


def class_shares(labelled: pd.DataFrame, groups: pd.DataFrame, factor: str, asked: list[str],
                 permutations: int, seed: int) -> pd.DataFrame:
    """Share of wells of the scored classes at each level of a factor, with its null.

    Returns
    -------
    DataFrame
        Indexed by level: `wells` (int), `share`, and `low`, `high` (central 95 % of
        `permutations` labellings of the units).
    """
    counts, levels, hit = _counts_and_hits(labelled, groups, factor, asked)
    wells = np.asarray(counts.sum(axis=1)).ravel()
    share = counts @ hit.sum(axis=1) / wells
    null = np.array([counts @ hit[order].sum(axis=1) / wells
                     for order in orders(len(hit), permutations, seed)])
    low, high = np.percentile(null, [2.5, 97.5], axis=0)
    return pd.DataFrame({"wells": wells.astype(int), "share": share, "low": low, "high": high},
                        index=pd.Index(levels, name=factor))


# Where compounds lie


def _replicates_in_place(treated: pd.DataFrame, maps: pd.Series, seed: int) -> dict[str, Any]:
    name = "replicates_in_place"
    dose = treated["Metadata_Concentration_uM"].fillna(-1).astype(str)
    what = pd.factorize(treated["Metadata_Compound"] + "\0" + dose)[0]
    where = pd.factorize(treated["Metadata_Well"])[0]
    plate = pd.factorize(treated["Metadata_Plate"])[0]

    def share(what: np.ndarray) -> float:
        pairs = _pairs(what) - _pairs(what, plate)
        # Two wells of one plate never have one place, so these pairs lie on different plates.
        return _pairs(what, where) / pairs if pairs else np.nan

    value = share(what)
    if not np.isfinite(value):
        return not_measured(name, "no compound is at the same dose on two plates")
    generator = np.random.default_rng([seed, 1])
    order = np.argsort(plate, kind="stable")
    null = []
    for _ in range(DEALS):
        # Wells dealt anew within each plate: sorted by plate, then by chance.
        dealt = np.empty_like(what)
        dealt[order] = what[np.lexsort((generator.random(len(what)), plate))]
        null.append(share(dealt))
    table = pd.DataFrame({"what": what, "where": where, "plate": plate})
    spread = table.groupby("what").agg(places=("where", "nunique"), plates=("plate", "nunique"))
    spread = spread[spread["plates"] > 1]
    return with_null(name, value, null) | {
        "always_in_one_place": float((spread["places"] == 1).mean()),
        "doses_on_several_plates": len(spread), "plate_maps": int(maps.nunique()),
        "plates": len(maps),
    }


def _leak_by_place(labelled: pd.DataFrame, groups: pd.DataFrame, maps: pd.Series,
                   asked: list[str], seed: int) -> dict[str, Any]:
    """Average precision of looking a position up, under a random split by well."""
    name = "leak_by_place"
    place = pd.factorize(labelled["Metadata_Plate"].map(maps).astype("str") + " "
                         + labelled["Metadata_Well"])[0]
    if not len(place) or np.bincount(place).max() < 2:
        return not_measured(name, "no place of a plate layout is used twice")
    group = labelled["Unit"].to_numpy()
    hit = _hits(groups, asked)
    if _one_sided(hit[group]):
        return not_measured(name, _ONE_CLASS)
    fold = np.random.default_rng([seed, 2]).integers(LEAK_FOLDS, size=len(place))
    cell = place * LEAK_FOLDS + fold
    size = (place.max() + 1) * LEAK_FOLDS

    def others(weights: np.ndarray | None) -> np.ndarray:
        """Of wells at the same place in the other folds: how many, or the sum of weights."""
        sums = np.bincount(cell, weights, minlength=size).reshape(-1, LEAK_FOLDS)
        return (sums.sum(axis=1, keepdims=True) - sums).ravel()[cell]

    seen = others(None)

    def score(hit: np.ndarray) -> float:
        each = []
        for column in hit.T:
            known = column[group]
            if known.any():
                share = np.where(seen > 0, others(known) / np.maximum(seen, 1), known.mean())
                each.append(average_precision(known > 0, share))
        return float(np.mean(each)) if each else 0.0

    dealt = [score(hit[order]) for order in orders(len(hit), DEALS, seed)]
    shares = hit[group].mean(axis=0)
    return {"name": name, "value": score(hit), "prevalence": float(shares[shares > 0].mean()),
            "shuffled_labels": float(np.mean(dealt)), "wells": len(labelled)}


# What a place or a plate tells of the class


def _predicts_class(
    name: str, features: Callable[[pd.DataFrame], list[np.ndarray]], labelled: pd.DataFrame,
    groups: pd.DataFrame, asked: list[str], repeats: int, permutations: int, seed: int,
) -> dict[str, Any]:
    """Average precision over units unseen by a ridge regression on the layout."""
    known = np.isin(np.arange(len(groups)), labelled["Unit"].unique())
    inside = groups[(groups["Fold_0"] >= 0) & known]
    asked = [label for label in asked if (inside["Label"] == label).sum() > 1]
    if not asked:
        return not_measured(name, "no class has two units in the folds")
    place = np.full(len(groups), -1)
    place[np.flatnonzero((groups["Fold_0"] >= 0) & known)] = np.arange(len(inside))
    unit = place[labelled["Unit"]]
    own, unit = labelled[unit >= 0], unit[unit >= 0]
    blocks = features(own)
    if not blocks:
        return not_measured(name, "the screen has a single plate")
    X = _unit_shares(blocks, unit, len(inside))
    hit = _hits(inside, asked)
    dealt = list(orders(len(hit), permutations, seed))
    labellings = np.hstack([hit, *(hit[order] for order in dealt)])
    scores = np.zeros_like(labellings)
    for repeat in range(repeats):
        fold = inside[f"Fold_{repeat}"].to_numpy()
        for held in range(fold.max() + 1):
            scores[fold == held] += _ridge(X[fold != held], labellings[fold != held],
                                           X[fold == held])
    each = np.array([average_precision(labellings[:, i] > 0, np.round(scores[:, i], 9))
                     for i in range(labellings.shape[1])]).reshape(-1, len(asked)).mean(axis=1)
    return with_null(name, each[0], each[1:]) | {
        "prevalence": float(hit.mean()), "units": len(inside)}


def _place_features(own: pd.DataFrame) -> list[np.ndarray]:
    return [own["Row"].to_numpy(), own["Column"].to_numpy(),
            pd.factorize(own["Metadata_Well"])[0]]


def _plate_features(own: pd.DataFrame) -> list[np.ndarray]:
    plate, names = pd.factorize(own["Metadata_Plate"])
    return [plate] if len(names) > 1 else []


def _unit_shares(blocks: list[np.ndarray], unit: np.ndarray, units: int) -> Any:
    """For each unit, the share of its wells at every level of each block; blocks weigh the same.

    Returns
    -------
    csr_matrix, float64 [units, levels of all blocks]
    """
    from scipy import sparse

    found = []
    for code in blocks:
        counts = sparse.csr_matrix((np.ones(len(code)), (unit, code)),
                                   shape=(units, code.max() + 1))
        shares = sparse.diags(1 / np.asarray(counts.sum(axis=1)).ravel()) @ counts
        found.append(shares / np.sqrt(shares.multiply(shares).sum() / units))
    return sparse.csr_matrix(sparse.hstack(found))


def _ridge(X: Any, Y: np.ndarray, asked: Any) -> np.ndarray:
    """Ridge regression (penalty 1) of many labellings at once, as difference from their means.

    Without the mean of a fold's training labels in its scores, a fold with few hits does not rank
    above the others for being so.
    """
    centre = np.asarray(X.mean(axis=0)).ravel()
    gram = (X.T @ X).toarray() - X.shape[0] * np.outer(centre, centre)
    weights = np.linalg.solve(gram + np.eye(len(gram)), X.T @ (Y - Y.mean(axis=0)))
    return asked @ weights - centre @ weights


def _class_by(factor: str, labelled: pd.DataFrame, groups: pd.DataFrame, asked: list[str],
              permutations: int, seed: int) -> dict[str, Any]:
    """Share of the variance of the class (over wells) between the levels of a factor."""
    name = f"class_by_{factor.lower()}"
    counts, levels, hit = _counts_and_hits(labelled, groups, factor, asked)
    if len(levels) < 2:
        return not_measured(name, f"the screen has a single {factor.lower()}")
    if _one_sided(hit[labelled["Unit"]]):
        return not_measured(name, _ONE_CLASS)
    size = np.asarray(counts.sum(axis=1)).ravel()

    def between(hit: np.ndarray) -> float:
        share = (counts @ hit) / size[:, None]
        mean = size @ share / size.sum()
        whole = size.sum() * (mean * (1 - mean)).sum()
        # A drawn labelling may give all imaged wells one class: nothing varies, so nothing lies
        # between levels.
        return float((size[:, None] * (share - mean) ** 2).sum() / whole) if whole > 0 else 0.0

    null = [between(hit[order]) for order in orders(len(hit), permutations, seed)]
    share = (counts @ hit).sum(axis=1) / size
    own = {"levels": len(levels)}
    if len(asked) == 1:
        own |= {"lowest_share": float(share.min()), "lowest": levels[int(share.argmin())],
                "highest_share": float(share.max()), "highest": levels[int(share.argmax())]}
    units = (counts > 0).sum(axis=0)
    return with_null(name, between(hit), null) | own | {
        "units_at_every_level": float((units == len(levels)).mean())}


def _counts_and_hits(labelled: pd.DataFrame, groups: pd.DataFrame, factor: str,
                     asked: list[str]) -> tuple[Any, list[Any], np.ndarray]:
    """Wells of every unit at every level, the levels, and which classes each unit is of."""
    from scipy import sparse

    column = factor if factor in labelled else f"Metadata_{factor}"
    code, levels = pd.factorize(labelled[column], sort=True)
    counts = sparse.csr_matrix((np.ones(len(code)), (code, labelled["Unit"])),
                               shape=(len(levels), len(groups)))
    named = {"Row": lambda row: well_name(row, 0)[:-2], "Column": lambda column: str(column + 1)}
    return counts, [named.get(factor, str)(level) for level in levels], _hits(groups, asked)


# Controls and doses


def _dose_by_column(treated: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """Share of the variance of log dose between columns.

    The null deals the doses of a compound anew among its wells of a plate: the compound stays
    where it is.
    """
    name = "dose_by_column"
    dosed = treated[treated["Metadata_Concentration_uM"] > 0]
    dose = np.log10(dosed["Metadata_Concentration_uM"].to_numpy())
    if not len(dose) or np.ptp(dose) == 0:
        return not_measured(name, "the screen has a single dose")
    column = pd.factorize(dosed["Column"])[0]
    if column.max() == 0:
        return not_measured(name, "the screen has a single column of compounds")
    size = np.bincount(column)
    centred = dose - dose.mean()

    def between(values: np.ndarray) -> float:
        return float((np.bincount(column, values) ** 2 / size).sum() / (centred**2).sum())

    strip = pd.factorize(dosed["Metadata_Plate"] + "\0" + dosed["Metadata_Compound"])[0]
    order = np.argsort(strip, kind="stable")
    generator = np.random.default_rng([seed, 4])
    null = []
    for _ in range(min(permutations, DEALS)):
        dealt = np.empty_like(centred)
        dealt[order] = centred[np.lexsort((generator.random(len(strip)), strip))]
        null.append(between(dealt))
    if np.ptp([*null, between(centred)]) < 1e-12:
        return not_measured(name, "no compound has two doses on one plate")
    return with_null(name, between(centred), null) | {
        "doses": len(np.unique(dose)), "columns": len(size)}


# Nulls


_ONE_CLASS = "all imaged wells are of one class"


def _one_sided(hit: np.ndarray) -> bool:
    """Whether no class asked for has both wells of it and wells that are not."""
    return bool((hit.min(axis=0) == hit.max(axis=0)).all())


def _hits(groups: pd.DataFrame, asked: list[str]) -> np.ndarray:
    """Which classes each unit is of: float [units, classes]."""
    return (groups["Label"].to_numpy()[:, None] == np.array(asked, object)[None, :]).astype(float)


def _pairs(*codes: np.ndarray) -> float:
    """How many pairs of wells are alike in all codes."""
    both = codes[0].astype(np.int64)
    for other in codes[1:]:
        both = both * (int(other.max()) + 1) + other
    counts = np.unique(both, return_counts=True)[1].astype(float)
    return float((counts * (counts - 1) / 2).sum())


