"""What a head learns from and predicts: features, labels and folds, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.disk import (
    OnDisk,
    averaged,
    columns_of,
    is_large,
    mapped,
    portions,
    rows_of,
    written,
)
from moascope.features.normalise import Sphering, apply_sphering, fit_sphering, standardise_plates
from moascope.features.selection import distinct, is_known, measures_cells, varies
from moascope.features.table import FeatureTable, label_of
from moascope.params import Head
from moascope.screen.question import Question

UNLABELLED = -1
COUNT = "Count_"
INTENSITY = "Intensity_"
LEVELS = ("site", "well", "compound")
SITE_KEY = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
WELL_KEY = ["Metadata_Plate", "Metadata_Well"]


@dataclass(frozen=True)
class Examples:
    """Sites of one screen with everything a model may use of them.

    Attributes
    ----------
    meta : DataFrame, [n rows]
        `Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_Batch, Metadata_Panel,
        Metadata_Compound, Metadata_Concentration_uM, Metadata_Control`.
    features : ndarray, float32, [n, d]
        Of a large screen, a `features.disk.OnDisk`.
    names : tuple of str
        Of the d features.
    group : ndarray, int, [n]
        Row of `groups`, -1 where the site belongs to no labelled unit.
    groups : DataFrame, [G]
        One row per unit, with `Label`, `Holdout` and `Fold_<repeat>`; see `learning.folds`.
    question : Question
    sphering : Sphering or None
        The last transformation of the features, where they were sphered.
    panels : tuple of str
        Of the whole training screen, in order; empty: those of the rows.
    """

    meta: pd.DataFrame
    features: Any
    names: tuple[str, ...]
    group: np.ndarray
    groups: pd.DataFrame
    question: Question
    sphering: Sphering | None = None
    panels: tuple[str, ...] = ()
    _cache: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def controls(self) -> np.ndarray:
        """bool, [n]: the rows of negative controls that belong to no unit.

        A control that is scored must not normalise: among the controls that a normalisation is
        fitted to, every one lies closer to their middle than a well that it has not seen.
        """
        return (self.meta["Metadata_Control"] == "negative").to_numpy() & (self.group < 0)

    @property
    def panel(self) -> np.ndarray:
        """str, [n]."""
        return self.meta["Metadata_Panel"].to_numpy()

    @property
    def group_label(self) -> np.ndarray:
        """int, [G]: index into the question's classes."""
        return self.question.index(self.groups["Label"])

    @property
    def label(self) -> np.ndarray:
        """int, [n]: index into the question's classes, -1 where there is no label."""
        return np.where(self.group >= 0, self.group_label[self.group], UNLABELLED)

    @property
    def repeats(self) -> int:
        return sum(column.startswith("Fold_") for column in self.groups)

    def folds(self, repeat: int) -> np.ndarray:
        """int, [G]: the fold of each unit, -1 where held out."""
        return self.groups[f"Fold_{repeat}"].to_numpy()

    @property
    def fold_count(self) -> int:
        return int(self.folds(0).max()) + 1

    def fold_of_rows(self, repeat: int) -> np.ndarray:
        """int, [n]: the fold of each row's unit, -1 where held out or of no unit."""
        return np.where(self.group >= 0, self.folds(repeat)[self.group], -1)

    @property
    def held_out(self) -> np.ndarray:
        """bool, [G]: the units of the gate's hold-out set."""
        return self.groups["Holdout"].to_numpy(bool)

    @property
    def in_folds(self) -> np.ndarray:
        """bool, [n]: the rows of units that are in the folds, not held out."""
        return (self.group >= 0) & ~self.held_out[self.group]

    def seen_by(self, head: Head) -> Examples:
        """The rows as a head takes them: the features of its backbone, normalised.

        Raises
        ------
        MoascopeError
            Where the head wants a backbone that was not embedded.
        """
        return self.of_backbone(head.backbone).selected(head.selection).normalised(
            head.normalisation)

    def of_backbone(self, name: str) -> Examples:
        """The same rows with the features of one backbone, next to counts and intensities."""
        if name == "all":
            return self
        key = ("backbone", name)
        if key not in self._cache:
            prefix = label_of(name) + "_"
            if not any(feature.startswith(prefix) for feature in self.names):
                raise MoascopeError(
                    f"A head is to see the backbone '{name}' (train.backbone or "
                    "tune.space.backbone in params.yaml), but embed.backbone does not name it.")
            own = [i for i, feature in enumerate(self.names)
                   if feature.startswith((prefix, COUNT, INTENSITY))]
            self._cache[key] = self.with_features(own)
        return self._cache[key]

    def counts_and_intensities(self) -> Examples:
        """The same rows with what stands beside every backbone's features."""
        return self.with_features(np.flatnonzero(
            [name.startswith((COUNT, INTENSITY)) for name in self.names]))

    def with_features(self, own: np.ndarray | list[int]) -> Examples:
        """The same rows with some of the features (int, [k])."""
        own = np.asarray(own, int)
        return replace(self, features=columns_of(self.features, own), _cache={},
                       names=tuple(self.names[i] for i in own))

    def selected(self, how: str) -> Examples:
        """The same rows with the features worth having.

        Parameters
        ----------
        how : {"none", "measured", "distinct"}
            `measured`: without what does not measure cells by its name, is missing or is constant.
            `distinct`: then without near-duplicates. Chosen on the negative controls, which belong
            to no unit; where there are none, on all rows. No label is read.
        """
        if how == "none":
            return self
        key = ("selection", how)
        if key not in self._cache:
            own = np.flatnonzero(self._worth_having(how))
            if not len(own):
                raise MoascopeError(
                    f"No feature is left by train.selection={how}: all are missing, constant, or "
                    "places and numbers of cells. Use train.selection=none.")
            self._cache[key] = self.with_features(own)
        return self._cache[key]

    def _worth_having(self, how: str) -> np.ndarray:
        controls = self.controls
        fitted = controls if controls.any() else np.ones(len(self.meta), bool)
        kept = measures_cells(self.names) & varies(rows_of(self.features, fitted))
        kept &= is_known(self.features, self.panel)
        if how == "distinct":
            own = np.flatnonzero(kept)
            part = self.with_features(own)
            kept[own] = distinct(rows_of(part.normalised("plate").features, fitted))
        return kept

    def normalised(self, how: str) -> Examples:
        """The same rows with features made comparable between plates.

        Parameters
        ----------
        how : {"none", "plate", "plate+sphere", "moderated", "moderated+sphere"}
            `plate`: median and MAD of the plate's negative controls. `moderated`: for few controls,
            see `features.normalise.standardise_plates`. `sphere`: then whitened by the covariance
            of all negative controls. Controls belong to no unit, so
            nothing of a held-out compound is seen. Without negative controls both leave the
            features as they are: a plate's treated wells are no reference.
        """
        if how not in self._cache:
            features, sphering = self._normalise(how)
            self._cache[how] = replace(self, features=features, sphering=sphering, _cache={})
        return self._cache[how]

    def _normalise(self, how: str) -> tuple[Any, Sphering | None]:
        controls = self.controls
        if how == "none" or not controls.any():
            return mapped(self.features, lambda _, piece: np.nan_to_num(piece)), None
        table = FeatureTable(self.meta, self.features, list(self.names))
        features = standardise_plates(table, controls, "moderated" in how).X
        # One control does not vary.
        if "sphere" not in how or controls.sum() < 2:
            return features, None
        sphering = fit_sphering(rows_of(features, controls))
        return mapped(features, lambda _, piece: apply_sphering(piece, sphering)), sphering

    def take(self, rows: np.ndarray) -> Examples:
        """Some of the rows (bool or int, as numpy indexes)."""
        if rows.dtype == bool and rows.all():
            # A screen of one panel would be copied several times a trial.
            return self
        return replace(
            self,
            meta=self.meta.iloc[np.arange(len(self.meta))[rows]].reset_index(drop=True),
            features=rows_of(self.features, rows),
            group=self.group[rows],
            _cache={},
        )

    def units(self) -> Examples:
        """One row per unit and panel: the mean of its wells there, and of its doses before.

        Rows of no unit, as those of negative controls, are left out. What a row says of plate, well
        and batch is that of the first of its sites.
        """
        if "units" not in self._cache:
            features, meta, group = [], [], []
            for name in np.unique(self.panel):
                own = self.take(self.panel == name)
                if not (own.group >= 0).any():
                    continue
                matrix, units = averaging(own, "compound")
                features.append(averaged(matrix, own.features))
                group.append(units.pop("Group").to_numpy())
                meta.append(units)
            self._cache["units"] = replace(
                self, meta=pd.concat(meta, ignore_index=True),
                features=np.concatenate(features).astype(np.float32),
                group=np.concatenate(group), _cache={})
        return self._cache["units"]

    def wells(self) -> Examples:
        """One row per well: the mean of its sites."""
        code, first = _codes(self.meta[WELL_KEY])
        return replace(
            self,
            meta=self.meta.iloc[first].reset_index(drop=True),
            features=_means(self.features, code, len(first)),
            group=self.group[first],
            _cache={},
        )


def _means(features: Any, code: np.ndarray, count: int) -> Any:
    """float32, [count, d]: the means of the rows of each code."""
    size = np.bincount(code, minlength=count)
    shape = (count, features.shape[1])
    order = np.argsort(code, kind="stable")
    ends = np.concatenate([[0], np.cumsum(size)])

    def means(own: slice, rows: Any) -> np.ndarray:
        sums = np.zeros((own.stop - own.start, shape[1]))
        np.add.at(sums, code[rows] - own.start, features[rows])
        return (sums / size[own, None]).astype(np.float32)

    if not isinstance(features, OnDisk):
        return means(slice(0, count), slice(None))
    found = (means(own, order[ends[own.start] : ends[own.stop]])
             for own in portions(count, 4 * shape[1] * int(size.max())))
    return written(shape, found, features.folder) if is_large(shape) else np.concatenate(
        list(found))


def row_weights(examples: Examples, training: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Weights that make every class count alike, and within a class every unit.

    Parameters
    ----------
    examples : Examples
    training : ndarray, bool, [n]
    label : ndarray, int, [n]

    Returns
    -------
    ndarray, float32, [n]
        0 outside training, mean 1 inside.
    """
    used = training & (label >= 0)
    weights = np.zeros(len(used), np.float32)
    if not used.any():
        return weights
    rows_of_group = np.bincount(examples.group[used], minlength=len(examples.groups))
    weights[used] = 1 / rows_of_group[examples.group[used]]
    total = np.bincount(label[used], weights=weights[used])
    weights[used] /= total[label[used]]
    return weights * (used.sum() / weights.sum())


def averaging(examples: Examples, level: str) -> tuple[Any, pd.DataFrame]:
    """How sites become units of a level: means of means, site -> well -> dose -> compound.

    Parameters
    ----------
    examples : Examples
    level : {"site", "well", "compound"}
        `compound` stands for the unit of the screen's labels; sites outside any unit (negative
        controls) count to none.

    Returns
    -------
    matrix : scipy.sparse.csr_array, float32, [units, n]
        Each row sums to one; `matrix @ logits` gives the units' logits.
    units : DataFrame, [units]
        The metadata of each unit; `Group` is its row in `examples.groups` (-1: none).
    """
    from scipy import sparse

    meta = examples.meta.assign(Group=examples.group)
    steps = {
        "site": [SITE_KEY],
        "well": [SITE_KEY, WELL_KEY],
        "compound": [SITE_KEY, WELL_KEY, ["Group", "Metadata_Concentration_uM"], ["Group"]],
    }[level]
    if level == "compound":
        meta = meta[meta["Group"] >= 0]
    everything: Any = sparse.eye_array(len(examples.meta), format="csr", dtype=np.float32)
    matrix = everything[
        np.flatnonzero(np.isin(np.arange(len(examples.meta)), meta.index))
    ]
    units = meta.reset_index(drop=True)
    for key in steps:
        code, first = _codes(units[key])
        size = np.bincount(code)
        mean = sparse.csr_array(
            (1 / size[code], (code, np.arange(len(code)))), shape=(len(size), len(code))
        )
        matrix = (mean @ matrix).astype(np.float32)
        units = units.iloc[first].reset_index(drop=True)
    return matrix, units


def averagings(examples: Examples) -> dict[str, tuple[Any, pd.DataFrame]]:
    """`averaging` for every level of `LEVELS`; computed once for the same examples."""
    if "averagings" not in examples._cache:
        examples._cache["averagings"] = {level: averaging(examples, level) for level in LEVELS}
    return examples._cache["averagings"]


def _codes(keys: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's key in order of first appearance, and the first row of each."""
    code = keys.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(code, return_index=True)
    return code, first
