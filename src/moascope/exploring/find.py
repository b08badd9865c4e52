"""Which compounds are asked for, which lie near one, and what colour each of them has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from moascope.exploring.index import Index
from moascope.exploring.said import UNPREDICTED, UNTESTED, Said
from moascope.screen.targets import moa_terms
from moascope.text import tidy

PAGE = 50
"""Rows of a list on one page."""

COLOURS = 7
"""Classes with a colour, a shape and a letter of their own; all others share the last."""

UNKNOWN, SEVERAL, OTHER, CONTROL = "unknown", "several", "other", "negative control"
_PLAIN = (UNKNOWN, UNTESTED, UNPREDICTED, SEVERAL)


@dataclass(frozen=True)
class Asked:
    """What a person asked for; empty text asks for everything.

    Attributes
    ----------
    text : str
        Part of a name or a mechanism; case does not matter.
    mechanism : str
        One term of `Metadata_MoA`.
    activity, prediction : str
        In words, as shown.
    panel : str
    box : tuple of float
        Left, top, right and bottom of a part of the map, 0 to 1; empty for the whole.
    """

    text: str = ""
    mechanism: str = ""
    activity: str = ""
    prediction: str = ""
    panel: str = ""
    box: tuple[float, ...] = ()


class Legend(NamedTuple):
    """Colours of compounds or wells.

    Attributes
    ----------
    code : ndarray, int
        Of each row: 0 to 6 for `names`, then 7 for all other classes, 8 for what is not known and
        9 for negative controls.
    names : list of (int, str, int)
        Code, class and number of rows.
    """

    code: np.ndarray
    names: list[tuple[int, str, int]]


OTHERS, NOTHING, CONTROLS = COLOURS, COLOURS + 1, COLOURS + 2


class Finder:
    """The compounds of an index with what was said of them, ready to be searched.

    Attributes
    ----------
    table : DataFrame
        `Index.compounds` with `Mechanism` (in words), `Activity`, `Prediction`.
    mechanisms, activities, predictions, panels : list of str
        What can be asked for.
    """

    def __init__(self, index: Index, said: Said):
        self.index = index
        table = index.compounds.copy()
        names = table["Metadata_Compound"]
        table["Mechanism"] = [tidy(moa.replace("|", ", ")) for moa in table["Metadata_MoA"]]
        table["Activity"] = [said.activity.get(name, {}).get("active", UNTESTED) for name in names]
        table["Prediction"] = [said.predictions.get(name, {}).get("call", UNPREDICTED)
                               for name in names]
        self.table = table
        self._text = [f"{name}\n{moa}".casefold()
                      for name, moa in zip(names, table["Mechanism"], strict=True)]
        self._terms = [frozenset(term.casefold() for term in moa_terms(moa))
                       for moa in table["Metadata_MoA"]]
        self._panels = [frozenset(panel.split("|")) for panel in table["Panel"]]
        terms = {term.casefold(): term for moa in table["Metadata_MoA"] for term in moa_terms(moa)}
        self.mechanisms = sorted(terms.values(), key=str.casefold)
        self.activities = sorted(set(table["Activity"]) - {UNTESTED})
        self.predictions = sorted(set(table["Prediction"]) - {UNPREDICTED})
        self.panels = sorted({panel for panels in self._panels for panel in panels} - {""})
        self._rows = {name: row for row, name in enumerate(names)}

    def row(self, name: str) -> int:
        """Row of a compound in `table`, or -1."""
        return self._rows.get(name, -1)

    def matching(self, asked: Asked) -> np.ndarray:
        """Rows of the compounds that are asked for, in the order of their names."""
        table = self.table
        kept = np.ones(len(table), bool)
        if text := asked.text.casefold().strip():
            kept &= [text in one for one in self._text]
        if term := asked.mechanism.casefold():
            kept &= [term in one for one in self._terms]
        if asked.panel:
            kept &= [asked.panel in one for one in self._panels]
        for column, value in (("Activity", asked.activity), ("Prediction", asked.prediction)):
            if value:
                kept &= (table[column] == value).to_numpy()
        if asked.box:
            left, top, right, bottom = asked.box
            x, y = table["X"].to_numpy(), table["Y"].to_numpy()
            kept &= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return np.flatnonzero(kept)

    def nearest(self, row: int, most: int = 10) -> list[tuple[int, float]]:
        """The other compounds most like one, and the cosine of the two profiles."""
        table, profiles = self.table, self.index.profiles
        has = table["Profile"].to_numpy(bool) & (table["Control"] != "negative").to_numpy()
        if not table["Profile"].iloc[row]:
            return []
        has[row] = False
        cosine = np.where(has, profiles @ profiles[row], -np.inf)
        best = np.argsort(-cosine, kind="stable")[:min(most, int(has.sum()))]
        return [(int(at), float(cosine[at])) for at in best]

    def legend(self, by: str) -> Legend:
        """Colours of all compounds.

        Parameters
        ----------
        by : {"mechanism", "activity", "prediction", "batch", "plate"}
        """
        table = self.table
        values = {"activity": table["Activity"], "prediction": table["Prediction"],
                  "batch": table["Batch"].map(lambda batch: SEVERAL if "|" in batch else batch),
                  "plate": table["Plate"].where(table["Plates"] == 1, SEVERAL),
                  }.get(by, table["Mechanism"])
        return legend_of(values, (table["Control"] == "negative").to_numpy())


def legend_of(values: pd.Series, negative: np.ndarray, ranks: Mapping[str, int] | None = None
              ) -> Legend:
    """Give the most frequent classes colours of their own.

    Parameters
    ----------
    values : Series of str
    negative : ndarray, bool
        Rows that are negative controls, whatever their value is.
    ranks : mapping of str to int, optional
        Codes that classes already have elsewhere; what is not in it is "other".
    """
    values = values.replace("", UNKNOWN).astype(str)
    plain = values.isin(_PLAIN).to_numpy()
    counts = values[~plain & ~negative].value_counts()
    if ranks is None:
        # The same class has the same colour whatever the order of rows is.
        order = sorted(counts.index, key=lambda name: (-counts[name], name))
        ranks = {name: code for code, name in enumerate(order[:COLOURS])}
    code = values.map(ranks).fillna(OTHERS).to_numpy(int)
    code[plain] = NOTHING
    code[negative] = CONTROLS
    names = [(rank, name, int(counts.get(name, 0))) for name, rank in
             sorted(ranks.items(), key=lambda item: item[1]) if counts.get(name, 0)]
    if others := int((code == OTHERS).sum()):
        kinds = len(set(values[code == OTHERS]))
        names.append((OTHERS, f"{kinds:,} others" if kinds > 1 else OTHER, others))
    if nothing := int((code == NOTHING).sum()):
        said = sorted(set(values[code == NOTHING]))
        names.append((NOTHING, said[0] if len(said) == 1 else "unknown or several", nothing))
    if negative.any():
        names.append((CONTROLS, CONTROL, int(negative.sum())))
    return Legend(code, names)


def scale_of(values: pd.Series, steps: int = 8) -> tuple[np.ndarray, list[float]]:
    """Numbers in steps of equal width between their 2nd and 98th percentiles.

    Returns
    -------
    step : ndarray, int
        0 to `steps` - 1; -1 where the value is not known.
    edges : list of float
        `steps` + 1; empty where nothing is known.
    """
    known = values.to_numpy(float)
    if not np.isfinite(known).any():
        return np.full(len(known), -1), []
    low, high = np.nanpercentile(known, [2, 98])
    high = high if high > low else low + max(abs(low), 1) * 0.1
    edges = np.linspace(low, high, steps + 1)
    step = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, steps - 1)
    return np.where(np.isfinite(known), step, -1), edges.tolist()
