"""The confounds of a screen's layout, measured without a single pixel.

Each measure lies between 0 and 1 and comes with its null: the values of the same screen when
compounds, controls or doses are assigned at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from moascope.layout.wells import labelled_wells, plate_maps
from moascope.metrics import average_precision
from moascope.screen.question import Question
from moascope.screen.wells import well_name

PERMUTATIONS = 200  # Enough for a p below 0.05 divided by the number of measures.
DEALS = 20  # Of every well of a screen: with thousands of wells the null hardly varies.
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
    found += [_controls_at_edge(wells, permutations, seed),
              _controls_in_own_columns(wells, permutations, seed),
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
                     for order in _orders(len(hit), permutations, seed)])
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
        return _not(name, "no compound is at the same dose on two plates")
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
    return _beside(name, value, null) | {
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
        return _not(name, "no place of a plate layout is used twice")
    group = labelled["Unit"].to_numpy()
    hit = _hits(groups, asked)
    if _one_sided(hit[group]):
        return _not(name, _ONE_CLASS)
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

    dealt = [score(hit[order]) for order in _orders(len(hit), DEALS, seed)]
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
        return _not(name, "no class has two units in the folds")
    place = np.full(len(groups), -1)
    place[np.flatnonzero((groups["Fold_0"] >= 0) & known)] = np.arange(len(inside))
    unit = place[labelled["Unit"]]
    own, unit = labelled[unit >= 0], unit[unit >= 0]
    blocks = features(own)
    if not blocks:
        return _not(name, "the screen has a single plate")
    X = _unit_shares(blocks, unit, len(inside))
    hit = _hits(inside, asked)
    orders = list(_orders(len(hit), permutations, seed))
    labellings = np.hstack([hit, *(hit[order] for order in orders)])
    scores = np.zeros_like(labellings)
    for repeat in range(repeats):
        fold = inside[f"Fold_{repeat}"].to_numpy()
        for held in range(fold.max() + 1):
            scores[fold == held] += _ridge(X[fold != held], labellings[fold != held],
                                           X[fold == held])
    each = np.array([average_precision(labellings[:, i] > 0, np.round(scores[:, i], 9))
                     for i in range(labellings.shape[1])]).reshape(-1, len(asked)).mean(axis=1)
    return _beside(name, each[0], each[1:]) | {
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
        return _not(name, f"the screen has a single {factor.lower()}")
    if _one_sided(hit[labelled["Unit"]]):
        return _not(name, _ONE_CLASS)
    size = np.asarray(counts.sum(axis=1)).ravel()

    def between(hit: np.ndarray) -> float:
        share = (counts @ hit) / size[:, None]
        mean = size @ share / size.sum()
        whole = size.sum() * (mean * (1 - mean)).sum()
        # A drawn labelling may give all imaged wells one class: nothing varies, so nothing lies
        # between levels.
        return float((size[:, None] * (share - mean) ** 2).sum() / whole) if whole > 0 else 0.0

    null = [between(hit[order]) for order in _orders(len(hit), permutations, seed)]
    share = (counts @ hit).sum(axis=1) / size
    own = {"levels": len(levels)}
    if len(asked) == 1:
        own |= {"lowest_share": float(share.min()), "lowest": levels[int(share.argmin())],
                "highest_share": float(share.max()), "highest": levels[int(share.argmax())]}
    units = (counts > 0).sum(axis=0)
    return _beside(name, between(hit), null) | own | {
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


def _controls_at_edge(wells: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """How well the distance to the edge separates negative controls from treated wells."""
    name = "controls_at_edge"
    control = (wells["Metadata_Control"] == "negative").to_numpy()
    if not control.any() or control.all():
        return _not(name, _WITHOUT[bool(control.any())])
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
    return _beside(name, value, null, two_sided=True) | {
        "controls": int(control.sum()),
        "columns": [int(column) + 1 for column in np.sort(columns.unique())],
        "columns_used": len(used),
        "in_outer_columns": float(columns.isin(used[[0, -1]]).mean()),
        "treated_in_outer_columns": float(
            wells.loc[~control, "Column"].isin(used[[0, -1]]).mean()),
        "fewest_on_a_plate": int(per_plate.min()), "most_on_a_plate": int(per_plate.max()),
    }


def _controls_in_own_columns(wells: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """Share of negative controls in columns without a treated well on any plate."""
    name = "controls_in_own_columns"
    control = (wells["Metadata_Control"] == "negative").to_numpy()
    if not control.any() or control.all():
        return _not(name, _WITHOUT[bool(control.any())])
    column, levels = pd.factorize(wells["Column"], sort=True)
    if len(levels) < 2:
        return _not(name, "the screen has a single column")
    every, controls = _by_plate(column, control, wells)
    total = every.sum(axis=0)

    def share(held: np.ndarray) -> float:
        return float(held[held == total].sum() / held.sum())

    null = [share(held) for held in _controls_dealt(every, controls, permutations, seed)]
    return _beside(name, share(controls.sum(axis=0)), null)


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


def _dose_by_column(treated: pd.DataFrame, permutations: int, seed: int) -> dict[str, Any]:
    """Share of the variance of log dose between columns.

    The null deals the doses of a compound anew among its wells of a plate: the compound stays
    where it is.
    """
    name = "dose_by_column"
    dosed = treated[treated["Metadata_Concentration_uM"] > 0]
    dose = np.log10(dosed["Metadata_Concentration_uM"].to_numpy())
    if not len(dose) or np.ptp(dose) == 0:
        return _not(name, "the screen has a single dose")
    column = pd.factorize(dosed["Column"])[0]
    if column.max() == 0:
        return _not(name, "the screen has a single column of compounds")
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
        return _not(name, "no compound has two doses on one plate")
    return _beside(name, between(centred), null) | {
        "doses": len(np.unique(dose)), "columns": len(size)}


# Nulls


def _orders(units: int, count: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng([seed, 0])
    for _ in range(count):
        yield generator.permutation(units)


def _beside(name: str, value: float, null: Any, two_sided: bool = False) -> dict[str, Any]:
    null = np.asarray(null, float)
    low, high = np.percentile(null, [2.5, 97.5])
    if two_sided:
        beyond = np.abs(null - null.mean()) >= abs(value - null.mean()) - 1e-12
    else:
        beyond = null >= value - 1e-12
    found = {"name": name, "value": float(value),
             "null": {"mean": float(null.mean()), "low": float(low), "high": float(high)}}
    if len(null) > DEALS:
        found["p"] = float((1 + beyond.sum()) / (1 + len(null)))
    return found


def _not(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "value": None, "why_not": reason}


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


