"""Which unit is in which fold or held out, and what belongs to it: rows, labels, splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.opening import MOST_JSON, parse_json, read_file, undamaged
from moascope.screen.columns import WELL
from moascope.screen.question import Question
from moascope.text import listing

HELD_OUT = -1
FILES = ("target.json", "groups.parquet", "wells.parquet")


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
        Where a file is missing or damaged.

    Examples
    --------
    >>> folds = moascope.read_folds("data/split")
    """
    folder = Path(folder)
    try:
        with undamaged(folder, "Run `dvc repro split` again."):
            said = parse_json(read_file(folder / "target.json", MOST_JSON))
            return Folds(pd.read_parquet(folder / "groups.parquet"),
                         pd.read_parquet(folder / "wells.parquet"),
                         Question.from_dict(said), list(said.get("warnings", [])))
    except FileNotFoundError:
        # pyarrow's error does not know the file's name.
        missing = [name for name in FILES if not (folder / name).exists()]
        raise MoascopeError(f"{folder} holds no folds: {listing(missing)} "
                            f"{'is' if len(missing) == 1 else 'are'} missing. "
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


