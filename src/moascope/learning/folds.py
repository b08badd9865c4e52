"""Which units are held out when: folds by compound, a frozen hold-out set, and the leak audit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.params import Split
from moascope.screen.columns import WELL
from moascope.screen.compounds import name_key, structure
from moascope.screen.manifest import checksums
from moascope.screen.question import Question
from moascope.screen.tables import Screen
from moascope.screen.targets import Labels
from moascope.text import counted

HELD_OUT = -1
# Of a class of two: a model that leaves out two folds must have one to learn from.
LEAST_UNITS = 3
# Of one class of several: one to learn from and one to find.
LEAST_UNITS_OF_SEVERAL = 2


class LeakError(MoascopeError):
    """Something that identifies a compound stands on both sides of a split."""


def assign_folds(
    groups: pd.DataFrame, folds: int, repeats: int, holdout: float, seed: int
) -> pd.DataFrame:
    """Assign units to a hold-out set and to stratified folds.

    Parameters
    ----------
    groups : DataFrame
        One row per unit, with `Metadata_Group` (unique) and `Label`.
    folds : int
        Number of folds.
    repeats : int
        How many times the units are dealt anew.
    holdout : float
        Share of the units of each class that no fold contains. Rounded down, so a class with few
        units gives none.
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
    A unit is one row here, so grouping is by construction. scikit-learn's StratifiedGroupKFold
    refuses screens whose every class has fewer units than folds; dealing class after class does
    not, and puts the two compounds of a small class into two folds.
    """
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


def untestable_classes(table: pd.DataFrame) -> list[str]:
    """Classes with a single unit in the folds: no model that could know them ever predicts it."""
    counts = table.loc[~table["Holdout"], "Label"].value_counts()
    return sorted(counts.index[counts < 2])


def audit_leaks(rows: pd.DataFrame, repeats: int) -> dict[str, int]:
    """Fail when anything that identifies a compound is in two folds.

    Parameters
    ----------
    rows : DataFrame
        One row per image plane in use: `Metadata_Plate`, `Metadata_Well`, `Metadata_Group`,
        `Metadata_Compound` (names joined by "|", compared as `name_key` compares them), `SHA256`
        (of the plane's file; empty where blank or unknown), `Holdout` and `Fold_<repeat>`;
        optionally `Structure`, the first block of the InChIKey.
    repeats : int

    Returns
    -------
    dict
        How many units, compounds, wells and files were checked.

    Raises
    ------
    LeakError
        With one sentence a leak.
    """
    problems = []
    checks = {
        "Metadata_Group": "unit",
        "Compound": "compound",
        "Structure": "structure",
        "Well": "well",
        "SHA256": "image file",
    }
    rows = rows.assign(Well=rows["Metadata_Plate"] + " " + rows["Metadata_Well"])
    compared = {}
    for column, word in checks.items():
        if column == "Compound":
            known = _by_name(rows, [f"Fold_{repeat}" for repeat in range(repeats)])
        elif column in rows:
            known = rows[rows[column] != ""]
        else:
            continue
        code, keys = pd.factorize(known[column])
        compared[column.removeprefix("Metadata_").lower() + "s"] = len(keys)
        for repeat in range(repeats):
            fold = known[f"Fold_{repeat}"].to_numpy()
            side = np.empty(len(keys), fold.dtype)
            side[code] = fold
            astray = np.unique(code[side[code] != fold])
            for key in sorted(keys[astray])[:5] if not problems else ():
                members = known[known[column] == key]
                compounds = " and ".join(sorted(members["Metadata_Compound"].unique())[:3])
                places = ", ".join(sorted(members["Well"].unique())[:3])
                problems.append(
                    f"Leak: the {word} {key[:40]} ({compounds}; {places}) is in several folds. "
                    + ("The same picture stands under different compounds; remove one of them."
                       if column == "SHA256" else "The folds table was not made by `split`.")
                )
    if problems:
        raise LeakError(problems)
    return compared


def _by_name(rows: pd.DataFrame, folds: list[str]) -> pd.DataFrame:
    """One row per compound name, well and fold, with `Compound`: the name as it is compared."""
    wells = rows[["Metadata_Compound", "Well", *folds]].drop_duplicates()
    keys = {names: sorted({name_key(name) for name in names.split("|")} - {""})
            for names in wells["Metadata_Compound"].unique()}
    named = wells.assign(Compound=wells["Metadata_Compound"].map(keys)).explode("Compound")
    return named[named["Compound"].notna()].reset_index(drop=True)


@dataclass(frozen=True, repr=False)
class Folds:
    """Units in folds.

    Attributes
    ----------
    groups : DataFrame
        One row per unit, from `assign_folds`: `Metadata_Group` (key), `Metadata_Compound`, `Label`,
        `Metadata_MoA`, `gpcr_action`, `Holdout` (bool) and `Fold_<repeat>` (int, -1 where held
        out).
    wells : DataFrame
        The wells of these units: `Metadata_Plate`, `Metadata_Well`, `Metadata_Group`.
    question : Question
        With the classes that have a single unit in the folds as `untestable`.
    warnings : list of str
    """

    groups: pd.DataFrame
    wells: pd.DataFrame
    question: Question
    warnings: list[str]

    @property
    def repeats(self) -> int:
        """How many times the units are dealt anew."""
        return sum(column.startswith("Fold_") for column in self.groups)

    def of_rows(self, rows: pd.DataFrame, repeat: int = 0) -> np.ndarray:
        """The fold of the unit that each row belongs to.

        Parameters
        ----------
        rows : DataFrame
            With `Metadata_Plate` and `Metadata_Well`.
        repeat : int

        Returns
        -------
        ndarray, int, [n]
            -1 where the unit is held out, or the row belongs to none.
        """
        unit = unit_of_rows(rows, self.wells, self.groups)
        fold = self.groups[f"Fold_{repeat}"].to_numpy()
        return np.where(unit >= 0, fold[unit], HELD_OUT)

    def labels(self, rows: pd.DataFrame) -> np.ndarray:
        """The class of the unit that each row belongs to.

        Parameters
        ----------
        rows : DataFrame
            With `Metadata_Plate` and `Metadata_Well`.

        Returns
        -------
        ndarray, str, [n]
            Empty where the row belongs to none, as those of negative controls.
        """
        unit = unit_of_rows(rows, self.wells, self.groups)
        return np.where(unit >= 0, self.groups["Label"].to_numpy()[unit], "")

    def split(self, rows: pd.DataFrame,
              repeat: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Training and test rows of each fold, as scikit-learn's `cv` takes them.

        Parameters
        ----------
        rows : DataFrame
            With `Metadata_Plate` and `Metadata_Well`.
        repeat : int

        Yields
        ------
        train, test : ndarray, int
            Positions of rows. No compound is on both sides, and held-out ones are on neither.

        Examples
        --------
        >>> y = folds.labels(features)
        >>> cross_val_score(model, X, y, cv=list(folds.split(features)))
        """
        fold = self.of_rows(rows, repeat)
        for number in range(int(self.groups[f"Fold_{repeat}"].max()) + 1):
            yield (np.flatnonzero((fold >= 0) & (fold != number)),
                   np.flatnonzero(fold == number))

    def __repr__(self) -> str:
        held_out = int(self.groups["Holdout"].sum())
        counts = self.groups["Label"].value_counts().sort_index()
        classes = ", ".join(f"{count} {name}" for name, count in counts.items())
        number = int(self.groups["Fold_0"].max()) + 1
        return (f"Folds({len(self.groups) - held_out} {self.question.unit}s in {number} folds x "
                f"{self.repeats}, {held_out} held out; {classes})")


def read_folds(folder: str | Path) -> Folds:
    """Read the folds that the stage `split` dealt.

    Parameters
    ----------
    folder : str or Path
        `data/split` of a project: groups.parquet, wells.parquet and target.json.

    Returns
    -------
    Folds

    Raises
    ------
    MoascopeError
        Where a file is missing.

    Examples
    --------
    >>> folds = moascope.read_folds("data/split")
    """
    folder = Path(folder)
    try:
        said = json.loads((folder / "target.json").read_text())
        return Folds(pd.read_parquet(folder / "groups.parquet"),
                     pd.read_parquet(folder / "wells.parquet"),
                     Question.from_dict(said), list(said.get("warnings", [])))
    except FileNotFoundError as error:
        raise MoascopeError(f"{folder} holds no folds: {Path(error.filename).name} is missing. "
                            "Run `dvc repro split` first.") from None


def unit_of_rows(rows: pd.DataFrame, wells: pd.DataFrame, groups: pd.DataFrame) -> np.ndarray:
    """The unit that each row belongs to.

    Parameters
    ----------
    rows : DataFrame
        With `Metadata_Plate` and `Metadata_Well`.
    wells : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Group`; one row per well.
    groups : DataFrame
        With `Metadata_Group`.

    Returns
    -------
    ndarray, int, [n]
        Row of `groups`, -1 where the well belongs to none.
    """
    group = rows[WELL].merge(wells, on=WELL, how="left", validate="many_to_one")["Metadata_Group"]
    row_of = pd.Series(np.arange(len(groups)), index=groups["Metadata_Group"])
    return group.map(row_of).fillna(HELD_OUT).astype(int).to_numpy()


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
            "none are held out, so that the model cannot be promoted. Raise split.holdout, or "
            "annotate more.")
    untestable = tuple(untestable_classes(table))
    if untestable:
        warnings.append(
            f"{len(untestable)} of {len(labels.question.classes)} classes have a single compound "
            f"({', '.join(untestable)}): the model learns them, but no unseen compound of theirs "
            "can be scored, so they are left out of the scores."
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
        if params.holdout and inside == whole:
            least = -(-100 // whole) / 100
            raise MoascopeError(
                f"split.holdout = {params.holdout:g} of {counted(whole, unit)} of {shown} is less "
                "than one, so that the promotion gate would have none to find. Set "
                + (f"split.holdout={least:g}, or " if whole > LEAST_UNITS else "")
                + "split.holdout=0 (the model can then not be promoted) in params.yaml, or "
                "annotate more.")


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
            f"{len(lost)} annotated compounds have no usable picture and are left out: "
            f"{', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}."
        )
    return labels.groups[present].reset_index(drop=True), wells, warnings


def plane_rows(facts: pd.DataFrame, manifest: pd.DataFrame, dealt: Folds,
               unit: str, screen: Screen | None = None) -> pd.DataFrame:
    """The planes of dealt units as `audit_leaks` takes them.

    Parameters
    ----------
    facts : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `FileName`, `Blank` of every plane.
    manifest : DataFrame
        `FileName`, `SHA256`.
    dealt : Folds
    unit : {"compound", "well"}
    screen : Screen, optional
        Gives each well's compound and its InChIKey as the tables have them, so that the audit does
        not rely on the units that were dealt.
    """
    # Blank pictures are alike by nature, and tell nothing of a compound.
    facts = facts[~facts["Blank"].astype(bool)]
    facts = facts[WELL].assign(SHA256=checksums(manifest, facts["FileName"]))
    facts = facts[facts["SHA256"].notna()]
    folds = [column for column in dealt.groups if column.startswith("Fold_")]
    wells = dealt.wells.merge(dealt.groups[["Metadata_Group", "Metadata_Compound", "Holdout",
                                            *folds]])
    if screen is not None:
        plated = screen.layout.set_index(WELL)["Metadata_Compound"]
        own = pd.Series(plated.reindex(pd.MultiIndex.from_frame(wells[WELL])).to_numpy())
        wells["Metadata_Compound"] = own.where(own.notna(), wells["Metadata_Compound"])
        if "Metadata_InChIKey" in screen.annotations:
            blocks = dict(zip(screen.annotations["Metadata_Compound"].map(name_key),
                              screen.annotations["Metadata_InChIKey"].map(structure), strict=True))
            wells["Structure"] = wells["Metadata_Compound"].map(
                lambda name: blocks.get(name_key(name), ""))
    rows = facts.merge(wells, on=WELL)
    if unit == "well":
        rows = rows.drop(columns="Structure", errors="ignore")
        rows["Metadata_Compound"] = ""
    return rows


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
