"""The question that is asked of a screen: which classes there are, and which can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moascope.metrics import null_mean


@dataclass(frozen=True)
class Question:
    """What a model is to tell apart, and which of its answers can be scored.

    Attributes
    ----------
    target : str
        The question, as in params.yaml.
    classes : tuple of str, [C]
        Class names in the order of all probability columns. A binary target t has the classes
        `("not_t", "t")`, so that index 1 is the positive one.
    binary : bool
        True when the target is one mechanism (or GPCR) against the rest.
    unit : {"compound", "well"}
        What a unit is. Wells only where a screen has a single compound; then nothing can be said
        about unseen compounds.
    untestable : tuple of str
        Classes that are learnt but cannot be scored: no unseen unit of theirs has another one in
        training.
    """

    target: str
    classes: tuple[str, ...]
    binary: bool
    unit: str = "compound"
    untestable: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Question:
        """The question in a JSON object that holds its fields (`dataclasses.asdict`) among others.

        A missing `untestable` means that every class can be scored.
        """
        return cls(values["target"], tuple(values["classes"]), values["binary"], values["unit"],
                   tuple(values.get("untestable", ())))

    @property
    def scored(self) -> list[int]:
        """Indices of the classes whose average precision counts: of a binary target, index 1."""
        if self.binary:
            return [1]
        return [i for i, name in enumerate(self.classes) if name not in self.untestable]

    @property
    def scored_names(self) -> list[str]:
        """The names of `scored`."""
        return [self.classes[i] for i in self.scored]

    @property
    def probabilities(self) -> list[str]:
        """The columns of a predictions table that hold the probability of each class."""
        return [f"P_{name}" for name in self.classes]

    def index(self, names: Sequence[str] | pd.Series | np.ndarray) -> np.ndarray:
        """int, [n]: the class of each name, -1 where it names none."""
        return pd.Index(self.classes).get_indexer(pd.Index(names))

    def counts(self, label: np.ndarray) -> np.ndarray:
        """Which rows enter a score, a calibration or a comparison.

        Parameters
        ----------
        label : ndarray, int, [n]
            Indices into `classes`.

        Returns
        -------
        ndarray, bool, [n]
            Rows of a class that is scored. Where a single class is scored, all rows: it is told
            from the rest.
        """
        scored = self.scored
        return np.ones(len(label), bool) if len(scored) == 1 else np.isin(label, scored)

    def present(self, label: np.ndarray) -> list[int]:
        """The scored classes that have a row among `label`, int [n]."""
        return [c for c in self.scored if (label == c).any()]

    def null_mean(self, label: np.ndarray) -> float:
        """The average precision of a random list: mean over the scored classes that are present.

        See `metrics.null_mean`.
        """
        return float(np.mean([null_mean(len(label), int((label == c).sum()))
                              for c in self.present(label)]))

    def prevalence(self, label: np.ndarray) -> float:
        """Mean over the scored classes that are present of their share of the rows, int [n]."""
        return float(np.mean([(label == c).mean() for c in self.present(label)]))
