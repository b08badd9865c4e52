"""Cross-fitting: heads that each leave a part of the screen out, and what they predict for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moascope.errors import MoascopeError
from moascope.learning.examples import Examples, averaging
from moascope.learning.panels import (
    fit_by_panel,
    panel_rows,
    predict_by_panel,
    training_rows,
)
from moascope.learning.simple import Fitted
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
        Panel -> heads of all labellings, one after the other.
    labels : ndarray, int, [L, G]
        The class of each unit in each labelling.
    logits : ndarray, float32, [L, m, C]
        Of `rows`, by the model that left each out.

    Notes
    -----
    A panel on which some model would see fewer than two classes in some labelling says nothing
    there: the sites that this model would predict are not among `rows`.
    """

    sites: Examples
    rows: np.ndarray
    heads: dict[str, Fitted]
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
    watch: Callable[[str, int, Fitted], None] | None = None,
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
        Says of any rows (sites, wells or compounds, as `head.level` has it) which model learns
        from which, and which one predicts which. By default, the folds of the first repeat.
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
        When no panel shows every head two classes.
    """
    rows, sites = training_rows(examples, head)
    learns, left_out_by = parts(rows).learns, parts(sites).left_out_by
    shown = examples.group_label[None] if labels is None else labels
    row_labels = np.where(rows.group >= 0, shown[:, rows.group], -1)
    able = _able(rows, learns, row_labels, train)
    silent = [panel for panel, models in able.items() if not models.any()]
    if len(silent) == len(able):
        raise MoascopeError(
            f"No panel has enough annotated compounds of two classes for the folds of '"
            f"{examples.question.target}'. Annotate more compounds, or set split.folds higher, so "
            "that each model learns from more of them.")
    if silent:
        heard = ~np.isin(rows.panel, silent)
        rows, learns, row_labels = rows.take(heard), learns[:, heard], row_labels[:, heard]
        left_out_by = np.where(np.isin(sites.panel, silent), -1, left_out_by)
    for panel, models in able.items():
        if models.any() and not models.all():
            # Heads of a panel are trained together. One with too little to learn from is given
            # what another one learns from, and is never asked.
            own = _of_panel(rows, panel)
            learns = np.where(own & ~models[:, None], learns[models.argmax()], learns)
            asked = models[left_out_by] & (left_out_by >= 0)
            left_out_by = np.where(_of_panel(sites, panel) & ~asked, -1, left_out_by)
    if labels is None:
        row_labels = None
    else:
        row_labels = np.repeat(row_labels, len(learns), axis=0)
        learns = np.tile(learns, (len(labels), 1))
    heads = fit_by_panel(rows, learns, head, train, seed, label=row_labels, watch=watch,
                         watch_every=watch_every)
    predicted = np.flatnonzero(left_out_by >= 0)
    logits = predict_by_panel(heads, sites.take(predicted), train)
    logits = logits.reshape(len(shown), -1, *logits.shape[1:])
    return CrossFit(sites, predicted, heads, shown,
                    logits[:, left_out_by[predicted], np.arange(len(predicted))])


def _able(rows: Examples, learns: np.ndarray, labels: np.ndarray,
          train: Train) -> dict[str, np.ndarray]:
    """Panel -> bool, [K]: whether a model sees two classes of it in every labelling."""
    return {
        panel: np.array([all(np.ptp(label[mask & own]) > 0 if (mask & own).any() else False
                             for label in labels) for mask in learns])
        for panel, own in panel_rows(rows, train)
    }


def _of_panel(examples: Examples, panel: str) -> np.ndarray:
    return (examples.panel == panel) if panel else np.ones(len(examples.meta), bool)
