"""Dealing units into a frozen hold-out set and into folds by compound."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.learning.folds import HELD_OUT, Folds
from moascope.params import Split
from moascope.screen.question import Question
from moascope.screen.targets import Labels
from moascope.text import counted, listing

# Of a class of two: a model that leaves out two folds must have one to learn from.
LEAST_UNITS = 3
# Of one class of several: one to learn from and one to find.
LEAST_UNITS_OF_SEVERAL = 2
FAMILY = "Metadata_Family"
"""Column of units that must be in one fold together; absent where each unit is dealt alone."""


def assign_folds(
    groups: pd.DataFrame, folds: int, repeats: int, holdout: float, seed: int
) -> pd.DataFrame:
    """Assign units to a hold-out set and to stratified folds.

    Parameters
    ----------
    groups : DataFrame
        One row per unit, with `Metadata_Group` (unique) and `Label`; optionally
        `Metadata_Family`, whose units stay together.
    folds : int
        Number of folds.
    repeats : int
        How many times the units are dealt anew.
    holdout : float
        Share of the units of each class that no fold contains. Rounded down, so a class with few
        units gives none; of families, those that fit in whole.
    seed : int
        Seeds the folds, not the hold-out: that one depends on the units alone, so that models of
        different seeds and studies are compared on the same held-out compounds.

    Returns
    -------
    DataFrame
        `groups` with boolean `Holdout` and integer `Fold_0` ... `Fold_<repeats-1>`, -1 where held
        out.

    Raises
    ------
    MoascopeError
        When there are fewer units than folds.

    Notes
    -----
    A unit is one row here, so grouping by compound is by construction. scikit-learn's
    StratifiedGroupKFold refuses screens whose every class has fewer units than folds; dealing
    class after class does not, and puts the two compounds of a small class into two folds.
    """
    if FAMILY in groups:
        return _assign_families(groups, folds, repeats, holdout, seed)
    table = groups.copy()
    table["Holdout"] = False
    rank = table["Metadata_Group"].map(_stable_rank)
    for _, members in rank.groupby(table["Label"]):
        ranked = members.sort_values().index
        table.loc[ranked[: int(holdout * len(members))], "Holdout"] = True
    pool = table.index[~table["Holdout"]]
    if len(pool) < folds:
        raise MoascopeError(
            f"{len(pool)} annotated compounds cannot be dealt into {folds} folds "
            f"(params.yaml: split.folds). Annotate more compounds, or set split.folds to at most "
            f"{len(pool)}."
        )
    for repeat in range(repeats):
        generator = np.random.default_rng([seed, repeat])
        # Dealt like cards, class after class: a class's units lie in as many folds as they can,
        # and folds differ in size by one at most.
        shuffled = pool[generator.permutation(len(pool))]
        dealt = table.loc[shuffled, "Label"].sort_values(kind="stable").index
        table[f"Fold_{repeat}"] = HELD_OUT
        table.loc[dealt, f"Fold_{repeat}"] = generator.permutation(folds)[
            np.arange(len(dealt)) % folds
        ]
    return table


def _assign_families(
    groups: pd.DataFrame, folds: int, repeats: int, holdout: float, seed: int
) -> pd.DataFrame:
    """`assign_folds` where units of one family stay together."""
    table = groups.copy()
    counts = pd.crosstab(table[FAMILY], table["Label"])
    size, whole = counts.to_numpy(), counts.to_numpy().sum(axis=0)
    left = (holdout * whole).astype(int)
    held = np.zeros(len(counts), bool)
    for at in sorted(range(len(counts)), key=lambda at: _stable_rank(str(counts.index[at]))):
        if (size[at] <= left).all():
            held[at] = True
            left = left - size[at]
    table["Holdout"] = table[FAMILY].isin(counts.index[held]).to_numpy()
    pool = np.flatnonzero(~held)
    if len(pool) < folds:
        raise MoascopeError(
            f"The compounds form {len(pool)} families outside the hold-out, which "
            f"cannot be dealt into {folds} folds (params.yaml: split.folds). Use "
            "split.group=compound, or fewer folds.")
    for repeat in range(repeats):
        generator = np.random.default_rng([seed, repeat])
        # The largest first, each to the fold where its classes are rarest: large families
        # cannot be evened out by what comes after them otherwise.
        order = generator.permutation(pool)
        order = order[np.argsort(-size[order].sum(axis=1), kind="stable")]
        inside = np.zeros((folds, size.shape[1]))
        fold_of = np.full(len(counts), HELD_OUT)
        for at in order:
            grown = (((inside + size[at]) ** 2 - inside ** 2) / whole).sum(axis=1)
            best = min(range(folds), key=lambda fold, grown=grown, inside=inside: (
                round(grown[fold], 9), inside[fold].sum()))
            fold_of[at] = best
            inside[best] += size[at]
        table[f"Fold_{repeat}"] = pd.Series(fold_of, counts.index)[table[FAMILY]].to_numpy()
    return table


def class_counts(table: pd.DataFrame) -> pd.Series:
    """Units of each class in the folds; those of one family count once, as they move together."""
    inside = table[~table["Holdout"]]
    if FAMILY in inside:
        inside = inside.drop_duplicates([FAMILY, "Label"])
    return inside["Label"].value_counts()


def untestable_classes(table: pd.DataFrame) -> list[str]:
    """Classes with a single unit in the folds: no model that could know them ever predicts it."""
    counts = class_counts(table)
    return sorted(counts.index[counts < 2])


def deal(labels: Labels, usable: pd.DataFrame, params: Split, seed: int) -> Folds:
    """Deal the labelled units that have a usable site; see `usable_units` and `assign_folds`.

    Parameters
    ----------
    labels : Labels
    usable : DataFrame
        Sites that passed quality control: `Metadata_Plate`, `Metadata_Well`.
    params : Split
    seed : int

    Raises
    ------
    MoascopeError
        When there are fewer units than folds, or a class is too small to be learnt and tested.
    """
    groups, wells, warnings = usable_units(labels, usable)
    if labels.question.unit == "well":
        groups, wells, warning = set_controls_aside(groups, wells, labels.question)
        warnings.append(warning)
    table = assign_folds(groups, params.folds, params.repeats, params.holdout, seed)
    _check_answerable(table, labels.question, params)
    if params.holdout and not table["Holdout"].any():
        warnings.append(
            f"No class has enough {labels.question.unit}s for split.holdout = {params.holdout:g}: "
            "none are held out, so the model cannot be promoted. Raise split.holdout, or "
            "annotate more.")
    missing = [name for name in labels.question.classes
               if not (table["Holdout"] & (table["Label"] == name)).any()]
    if FAMILY in table and table["Holdout"].any() and labels.question.binary and missing:
        warnings.append(
            f"No {params.group} with compounds of '{missing[0]}' is small enough for "
            f"split.holdout = {params.holdout:g}, so the model cannot be promoted. Raise "
            "split.holdout, or use split.group=compound.")
    untestable = tuple(untestable_classes(table))
    if untestable:
        warnings.append(
            f"{len(untestable)} of {len(labels.question.classes)} classes have a single "
            f"{params.group} ({', '.join(untestable)}): the model learns them, but no unseen "
            "compound of theirs can be scored, so they are left out of the scores."
        )
    return Folds(table, wells, replace(labels.question, untestable=untestable), warnings)


def set_controls_aside(
    groups: pd.DataFrame, wells: pd.DataFrame, question: Question
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Where wells are the units: take half of each plate's control wells out of the units.

    Parameters
    ----------
    groups, wells : DataFrame
        As in `Labels`.
    question : Question
        Its first class is that of the control wells.

    Returns
    -------
    groups, wells : DataFrame
        Without the control wells that normalise the others.
    warning : str

    Notes
    -----
    A control well that normalises cannot be scored as well: whatever is fitted to a few wells puts
    these wells closer to the middle than any other, so that even noise would tell them apart.
    """
    negative = set(groups.loc[groups["Label"] == question.classes[0], "Metadata_Group"])
    controls = wells[wells["Metadata_Group"].isin(negative)]
    rank = controls["Metadata_Group"].map(_stable_rank)
    place = rank.groupby(controls["Metadata_Plate"]).rank(method="first")
    size = controls.groupby("Metadata_Plate")["Metadata_Group"].transform("size")
    aside = set(controls.loc[place <= size // 2, "Metadata_Group"])
    warning = (
        f"{len(aside)} of {len(negative)} control wells normalise the other wells and are not "
        "scored themselves.")
    return (groups[~groups["Metadata_Group"].isin(aside)].reset_index(drop=True),
            wells[~wells["Metadata_Group"].isin(aside)].reset_index(drop=True), warning)


def _check_answerable(table: pd.DataFrame, question: Question, params: Split) -> None:
    """Refuse a question whose classes are too small for the folds or for the gate."""
    unit = question.unit
    if FAMILY in table:
        _check_families(table, question, params)
    in_folds = table.loc[~table["Holdout"], "Label"].value_counts()
    if not question.binary:
        if not (in_folds >= LEAST_UNITS_OF_SEVERAL).any():
            raise MoascopeError(
                f"Every mechanism has a single compound in the folds, so none can be found in a "
                f"compound that was not seen (params.yaml: target = {question.target}). Annotate "
                "more compounds of the same mechanism, or choose another target.")
        return
    for name in question.classes:
        inside, whole = int(in_folds.get(name, 0)), int((table["Label"] == name).sum())
        shown = f"'{name}'"
        if whole < LEAST_UNITS:
            raise MoascopeError(
                f"Only {counted(whole, unit)} of this screen {'is' if whole == 1 else 'are'} "
                f"{shown} (params.yaml: target = {question.target}). At least {LEAST_UNITS} are "
                "needed, because models leave out two folds at a time. Annotate more, or choose "
                "another target.")
        if inside < LEAST_UNITS:
            raise MoascopeError(
                f"split.holdout = {params.holdout:g} leaves {counted(inside, unit)} of {shown} in "
                f"the folds, and at least {LEAST_UNITS} are needed. Lower split.holdout in "
                "params.yaml, or annotate more.")
        if params.holdout and inside == whole and int(params.holdout * whole) == 0:
            least = -(-100 // whole) / 100
            raise MoascopeError(
                f"split.holdout = {params.holdout:g} of {counted(whole, unit)} of {shown} is less "
                "than one, so that the promotion gate would have none to find. Set "
                + (f"split.holdout={least:g}, or " if whole > LEAST_UNITS else "")
                + "split.holdout=0 (the model can then not be promoted) in params.yaml, or "
                "annotate more.")


def _check_families(table: pd.DataFrame, question: Question, params: Split) -> None:
    """Refuse a question whose classes lie in too few families."""
    families = class_counts(table)
    least = LEAST_UNITS if question.binary else LEAST_UNITS_OF_SEVERAL
    few = [name for name in question.classes if families.get(name, 0) < least]
    if few and (question.binary or len(few) == len(question.classes)):
        raise MoascopeError(
            f"In the folds the compounds of '{few[0]}' are {int(families.get(few[0], 0))} "
            f"{params.group}s (params.yaml: split.group = {params.group}), and at least {least} "
            "are needed. Use split.group=compound, or annotate compounds of other structures.")


def usable_units(
    labels: Labels, usable: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The labelled units that have a usable site, their wells, and sentences on the others.

    Parameters
    ----------
    labels : Labels
    usable : DataFrame
        Sites that passed quality control: `Metadata_Plate`, `Metadata_Well`.
    """
    wells = labels.wells.merge(
        usable[["Metadata_Plate", "Metadata_Well"]].drop_duplicates(), how="inner"
    )
    present = labels.groups["Metadata_Group"].isin(wells["Metadata_Group"])
    warnings = list(labels.warnings)
    lost = labels.groups.loc[~present, "Metadata_Compound"].tolist()
    if lost:
        warnings.append(
            f"{counted(len(lost), 'annotated compound')} without a usable picture left out: "
            f"{listing(lost)}."
        )
    return labels.groups[present].reset_index(drop=True), wells, warnings


def split_report(dealt: Folds, checked: dict[str, int], params: Split) -> dict[str, Any]:
    """What audit.json says: how many units of each class are where, and what was compared."""
    held_out = int(dealt.groups["Holdout"].sum())
    return {
        "checked_disjoint": checked,
        "units": {"in_folds": len(dealt.groups) - held_out, "held_out": held_out},
        "classes": {
            str(label): {"in_folds": int((~part["Holdout"]).sum()),
                         "held_out": int(part["Holdout"].sum())}
            for label, part in dealt.groups.groupby("Label")
        },
        "folds": params.folds, "repeats": params.repeats,
        "untestable": dealt.question.untestable, "warnings": dealt.warnings,
    }


def _stable_rank(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
