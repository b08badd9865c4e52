"""The leak audit: nothing that identifies a compound is in two folds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.learning.folds import Folds
from moascope.screen.columns import WELL
from moascope.screen.compounds import name_key, structure
from moascope.screen.manifest import checksums
from moascope.screen.tables import Screen


class LeakError(MoascopeError):
    """Something that identifies a compound stands on both sides of a split."""


def audit_leaks(rows: pd.DataFrame, repeats: int) -> dict[str, int]:
    """Fail when anything that identifies a compound is in two folds.

    Parameters
    ----------
    rows : DataFrame
        One row per image plane in use: `Metadata_Plate`, `Metadata_Well`, `Metadata_Group`,
        `Metadata_Compound` (names joined by "|", compared as `name_key` compares them), `SHA256`
        (of the plane's file; empty where blank or unknown), `Holdout` and `Fold_<repeat>`;
        optionally `Structure`, the first block of the InChIKey, `Profile`, a digest of values
        that were measured elsewhere, and `Metadata_Family`, of which compounds stay together.
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
        "Metadata_Family": "family",
        "Well": "well",
        "SHA256": "image file",
        "Profile": "profile",
    }
    rows = rows.assign(Well=rows["Metadata_Plate"] + " " + rows["Metadata_Well"])
    folds = [f"Fold_{repeat}" for repeat in range(repeats)]
    compared = {}
    for column, word in checks.items():
        known = _by_name(rows, folds) if column == "Compound" else rows
        if column not in known:
            continue
        # A number of each name stands for it: screens have millions of planes.
        code, keys = pd.factorize(known[column].where(known[column] != ""))
        compared[_PLURALS.get(column, column.removeprefix("Metadata_").lower() + "s")] = len(keys)
        for repeat in folds:
            fold = known[repeat].to_numpy()[code >= 0]
            own = code[code >= 0]
            side = np.empty(len(keys), fold.dtype)
            side[own] = fold
            astray = np.unique(own[side[own] != fold])
            for key in sorted(keys[astray])[:5] if not problems else ():
                members = known[known[column] == key]
                compounds = " and ".join(sorted(members["Metadata_Compound"].unique())[:3])
                places = ", ".join(sorted(members["Well"].unique())[:3])
                problems.append(
                    f"Leak: the {word} {key[:40]} ({compounds}; {places}) is in several folds. "
                    + (f"The same {_ALIKE[column]} stands under different compounds; remove one "
                       "of them." if column in _ALIKE
                       else "The folds table was not made by `split`.")
                )
    if problems:
        raise LeakError(problems)
    return compared


_PLURALS = {"Metadata_Family": "families"}
_ALIKE = {"SHA256": "picture", "Profile": "profile"}


def _by_name(rows: pd.DataFrame, folds: list[str]) -> pd.DataFrame:
    """One row per compound name, well and fold, with `Compound`: the name as it is compared."""
    wells = rows[["Metadata_Compound", "Well", *folds]].drop_duplicates()
    keys = {names: sorted({name_key(name) for name in names.split("|")} - {""})
            for names in wells["Metadata_Compound"].unique()}
    named = wells.assign(Compound=wells["Metadata_Compound"].map(keys)).explode("Compound")
    return named[named["Compound"].notna()].reset_index(drop=True)


def plane_rows(facts: pd.DataFrame, manifest: pd.DataFrame, dealt: Folds,
               unit: str, screen: Screen | None = None) -> pd.DataFrame:
    """The planes of dealt units as `audit_leaks` takes them.

    Parameters
    ----------
    facts : DataFrame
        `Metadata_Plate`, `Metadata_Well`, `FileName`, `Blank` of every plane; of a screen with
        profiles also a row for each of them, with `Profile` and no file.
    manifest : DataFrame
        `FileName`, `SHA256`.
    dealt : Folds
    unit : {"compound", "well"}
    screen : Screen, optional
        Gives each well's compound and its InChIKey as the tables have them, so that the audit does
        not rely on the units that were dealt.
    """
    # Blank pictures are alike by nature, and tell nothing of a compound.
    facts = _only(facts, ~facts["Blank"].astype(bool))
    facts = facts[[*WELL, *(["Profile"] if "Profile" in facts else [])]].assign(
        SHA256=checksums(manifest, facts["FileName"]))
    del manifest   # as large as what is made of it
    if "Profile" in facts:
        facts = facts.assign(SHA256=facts["SHA256"].fillna(""))
        facts = _only(facts, (facts["SHA256"] != "") | (facts["Profile"] != ""))
    facts = _only(facts, facts["SHA256"].notna())
    folds = [column for column in dealt.groups if column.startswith("Fold_")]
    family = ["Metadata_Family"] if "Metadata_Family" in dealt.groups else []
    wells = dealt.wells.merge(dealt.groups[["Metadata_Group", "Metadata_Compound", "Holdout",
                                            *family, *folds]])
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


def _only(table: pd.DataFrame, wanted: pd.Series) -> pd.DataFrame:
    """Some rows of a table; the same table, and no copy of millions of rows, where it is all."""
    return table if wanted.all() else table[wanted]
