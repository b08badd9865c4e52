"""Cross-fitting: heads that each leave a part of the screen out, and what they predict for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moascope.learning.examples import Examples, averaging
from moascope.learning.head import FittedHeads
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows
from moascope.params import Head, Train


@dataclass(frozen=True)
class Parts:
    """Which rows each of K models learns from, and which model predicts each row.

    Attributes
    ----------
    learns : ndarray, bool, [K, n]
    left_out_by : ndarray, int, [n]
        The model that predicts the row and did not learn from it; -1 where none does.
    """

    learns: np.ndarray
    left_out_by: np.ndarray


def masks_without(examples: Examples, left_out: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Training rows of models that leave out folds of a repeat, and always the hold-out.

    Parameters
    ----------
    examples : Examples
    left_out : sequence of tuple
        (repeat, fold, ...), one tuple per model.

    Returns
    -------
    ndarray, bool, [K, n]
    """
    masks = []
    for repeat, *folds in left_out:
        group_mask = ~examples.held_out & ~np.isin(examples.folds(repeat), folds)
        masks.append((examples.group >= 0) & group_mask[examples.group])
    return np.stack(masks)


def leave_folds_out(examples: Examples, repeat: int = 0,
                    folds: Sequence[int] | None = None) -> Parts:
    """One model per fold: it learns from the other folds and predicts this one.

    Parameters
    ----------
    examples : Examples
    repeat : int
    folds : sequence of int, optional
        Some of the folds only; all of them by default.
    """
    fold_of = examples.fold_of_rows(repeat)
    chosen = list(range(examples.fold_count) if folds is None else folds)
    number = np.full(examples.fold_count + 1, -1)   # the last one answers for fold -1
    number[chosen] = np.arange(len(chosen))
    return Parts(masks_without(examples, [(repeat, fold) for fold in chosen]), number[fold_of])


@dataclass(frozen=True)
class CrossFit:
    """What cross-fitted heads predict for the rows that they left out.

    Attributes
    ----------
    sites : Examples
        All sites, normalised as the head takes them.
    rows : ndarray, int, [m]
        The sites that some model left out.
    heads : dict
        Panel -> FittedHeads of all labellings, one after the other.
    labels : ndarray, int, [L, G]
        The class of each unit in each labelling.
    logits : ndarray, float32, [L, m, C]
        Of `rows`, by the model that left each out.
    """

    sites: Examples
    rows: np.ndarray
    heads: dict[str, FittedHeads]
    labels: np.ndarray
    logits: np.ndarray

    def units(self, labelling: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Labels, int [units], and mean logits, float32 [units, C], of the screen's units."""
        matrix, units = averaging(self.sites.take(self.rows), "compound")
        label = self.labels[labelling][units["Group"].to_numpy()]
        return label, matrix @ self.logits[labelling]


def cross_fit(
    examples: Examples, head: Head, train: Train, seed: int,
    parts: Callable[[Examples], Parts] = leave_folds_out,
    labels: np.ndarray | None = None,
    watch: Callable[[str, int, FittedHeads], None] | None = None,
    watch_every: int = 0,
) -> CrossFit:
    """Train one head for every part that is left out, and predict that part.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
    seed : int
    parts : callable
        Says of any rows (sites, or wells where `train.level` is well) which model learns from
        which, and which one predicts which. By default, the folds of the first repeat.
    labels : ndarray, int, [L, G], optional
        Classes of the units in place of the true ones (for nulls); every labelling gets models of
        its own, trained together.
    watch, watch_every
        See `panels.fit_by_panel`.

    Returns
    -------
    CrossFit

    Raises
    ------
    MoascopeError
        When a panel shows some head fewer than two classes.
    """
    rows, sites = training_rows(examples, head, train)
    learns, left_out_by = parts(rows).learns, parts(sites).left_out_by
    row_labels = None
    if labels is not None:
        row_labels = np.where(rows.group >= 0, labels[:, rows.group], -1)
        row_labels = np.repeat(row_labels, len(learns), axis=0)
        learns = np.tile(learns, (len(labels), 1))
    heads = fit_by_panel(rows, learns, head, train, seed, label=row_labels, watch=watch,
                         watch_every=watch_every)
    shown = sites.group_label[None] if labels is None else labels
    logits = predict_by_panel(heads, sites, train)
    logits = logits.reshape(len(shown), -1, *logits.shape[1:])
    predicted = np.flatnonzero(left_out_by >= 0)
    return CrossFit(sites, predicted, heads, shown, logits[:, left_out_by[predicted], predicted])
