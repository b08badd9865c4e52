"""Folds by compound, and heads that are cross-validated on them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.api.features import feature_table
from moascope.errors import MoascopeError
from moascope.learning.dealing import deal
from moascope.learning.examples import LEVELS, Examples
from moascope.learning.families import with_families
from moascope.learning.final import chosen_heads, out_of_fold_table, resolve
from moascope.learning.folds import Folds
from moascope.learning.joining import dealt_examples
from moascope.learning.leaks import audit_leaks
from moascope.learning.nested import nested
from moascope.params import Head, Params, Train
from moascope.params_file import parse_params
from moascope.screen.columns import WELL
from moascope.screen.question import Question
from moascope.screen.tables import Screen
from moascope.screen.targets import label_screen
from moascope.text import counted, listing


def make_folds(screen: Screen, features: pd.DataFrame, target: str = "gpcr", *, folds: int = 5,
               repeats: int = 2, holdout: float = 0.2, group: str = "compound",
               seed: int = 0) -> Folds:
    """Assign the annotated compounds of a screen to stratified folds.

    All wells of a compound, and all its forms that share an InChIKey first block, are in one fold.

    Parameters
    ----------
    screen : Screen
        Its layout and annotations are read.
    features : DataFrame
        As `extract_features` gives it. Compounds without a site that passed quality control are
        left out.
    target : str
        `gpcr`, `gpcr_agonist`, `gpcr_antagonist`, `moa` (every mechanism), or one mechanism of
        action against the rest.
    folds : int
    repeats : int
        How many times compounds are assigned anew.
    holdout : float, 0 to 1
        Share of each class's compounds that no fold contains; they stay untouched for the
        promotion gate.
    group : {"compound", "scaffold", "cluster"}
        What stays together: a compound, all compounds of one Bemis-Murcko scaffold, or all of one
        cluster of similar structures. The last two need structures in the annotations.
    seed : int

    Returns
    -------
    Folds
        `folds.groups` is the table, one row per compound; `folds.split(features)` gives training
        and test rows as scikit-learn's `cv` takes them.

    Raises
    ------
    MoascopeError
        Where the annotations cannot answer the target, or there are fewer compounds than folds.

    Warns
    -----
    UserWarning
        For compounds that are left out, and classes that cannot be scored.

    Examples
    --------
    >>> folds = moascope.make_folds(screen, features, "Tubulin inhibitor")
    """
    params = parse_params({"target": target, "seed": seed, "split": {
        "folds": folds, "repeats": repeats, "holdout": holdout, "group": group}},
        "make_folds")
    table = feature_table(features)
    labels = with_families(label_screen(screen, params.target), screen.annotations,
                           params.split.group)
    dealt = deal(labels, table.meta[table.meta["QC_Pass"]],
                 params.split, params.seed)
    for sentence in dealt.warnings:
        warnings.warn(sentence, stacklevel=2)
    return dealt


@dataclass(frozen=True, repr=False)
class CrossValidation:
    """Predictions of compounds by heads that never saw them.

    Attributes
    ----------
    predictions : dict of str to DataFrame
        "site", "well" and "compound" -> one row per unit: its `Metadata_` columns, `P_<class>`
        (float, calibrated probability, mean over the repeats) for every class, `Predicted`,
        `Label`, `Split` ("out_of_fold") and `Threshold`.
    head : Head
        Hyperparameters; where a study chose one for each fold, those of the final head.
    train : Train
        What a training row is, and whether panels share a head.
    examples : Examples
        The sites that were used, with their features and folds.
    seed : int
    """

    predictions: Mapping[str, pd.DataFrame]
    head: Head
    train: Train
    examples: Examples
    seed: int

    @property
    def question(self) -> Question:
        """The target, its classes, and which of them can be scored."""
        return self.examples.question

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name}={value!r}" for name, value in self.head.described().items())
        return (f"CrossValidation(target {self.question.target}: "
                f"{len(self.predictions['compound'])} {self.question.unit}s out of fold, "
                f"{self.examples.fold_count} folds x {self.examples.repeats}; {chosen})")


def cross_validate(features: pd.DataFrame, folds: Folds, settings: Mapping[str, Any] | None = None,
                   *, tuned: str | Path | None = None, seed: int = 0,
                   **hyperparameters: Any) -> CrossValidation:
    """Train a head for every fold and predict the compounds that it left out.

    Nested: the calibration and the threshold of the model that predicts a fold come from inner
    models that did not see that fold either.

    Parameters
    ----------
    features : DataFrame
        As `extract_features` or `add_metadata` gives it, raw or normalised by other software (then
        with `normalisation="none"`).
    folds : Folds
    settings : mapping, optional
        Hyperparameters as a dict; keywords take precedence.
    tuned : str or Path, optional
        What a study chose for each fold (`data/tune/tuned.yaml`), in place of the defaults. The
        folds must be those of the study (`read_folds("data/split")`): with others, a choice has
        seen compounds that it is scored on.
    seed : int
        Of the initial weights and the order of training rows.
    **hyperparameters
        Keys of the section `train` of params.yaml: `head`, `layers`, `width`, `dropout`,
        `activation`, `learning_rate`, `l2`, `label_smoothing`, `normalisation`, `selection`,
        `backbone`,
        `epochs`, `batch_size`, `level` and `panels`.

    Returns
    -------
    CrossValidation

    Raises
    ------
    MoascopeError
        On a hyperparameter that is unknown or out of its range, where a panel shows some head fewer
        than two classes, where no compound of the folds has a feature, or where a compound is in
        two folds (`LeakError`).

    Warns
    -----
    UserWarning
        Where some compounds of the folds have no row that passed quality control.

    Examples
    --------
    >>> result = moascope.cross_validate(features, folds, layers=1, dropout=0.4)
    >>> result.predictions["compound"]
    """
    params = parse_params({"seed": seed, "train": {**(settings or {}), **hyperparameters}},
                          "cross_validate")
    table = feature_table(features)
    _audit(table.meta, folds)
    examples = dealt_examples(table, folds)
    _check_units(examples)
    outer = [(repeat, fold) for repeat in range(examples.repeats)
             for fold in range(examples.fold_count)]
    if tuned is None:
        head = resolve(params, {})
        heads = dict.fromkeys(outer, head)
    else:
        head, heads = _tuned(Path(tuned), params, outer)
    logits, calibrations = nested(examples, heads, params.train, params.seed)
    predictions = {level: out_of_fold_table(examples, level, logits, calibrations[level])
                   for level in LEVELS}
    return CrossValidation(predictions, head, params.train, examples, params.seed)


def _tuned(file: Path, params: Params,
           outer: list[tuple[int, int]]) -> tuple[Head, dict[tuple[int, int], Head]]:
    if not file.is_file():
        raise MoascopeError(f"There is no file {file}. A study writes data/tune/tuned.yaml.")
    head, heads = chosen_heads(file, params)
    if sorted(heads) != outer:
        raise MoascopeError(f"{file} is of a study with {len(heads)} folds in all repeats, and "
                            f"there are {len(outer)} here. Use the folds of the study "
                            "(moascope.read_folds), or leave out tuned.")
    return head, heads


def _check_units(examples: Examples) -> None:
    """Fail where no compound of the folds has a row, and warn where some have none."""
    present = set(examples.group[examples.in_folds])
    wanted = examples.groups.index[~examples.held_out]
    lost = examples.groups.loc[[one for one in wanted if one not in present], "Metadata_Compound"]
    if not present:
        raise MoascopeError("No compound of the folds has a row in the features that passed "
                            "quality control. Make the folds from the same screen and features.")
    if len(lost):
        warnings.warn(f"{counted(len(lost), 'compound')} of the folds have no row in the features "
                      f"that passed quality control and are not predicted: {listing(lost)}.",
                      stacklevel=3)


def _audit(meta: pd.DataFrame, folds: Folds) -> None:
    """Fail where a compound is in two folds: a table of folds may have been edited."""
    dealt = folds.groups.drop(columns="Metadata_Compound")
    rows = meta[[*WELL, "Metadata_Compound"]].drop_duplicates().merge(folds.wells, on=WELL)
    rows = rows.merge(dealt, on="Metadata_Group").assign(SHA256="")
    if folds.question.unit == "well":
        rows["Metadata_Compound"] = ""
    audit_leaks(rows, folds.repeats)
