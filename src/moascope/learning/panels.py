"""One head per panel, or one for all panels together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from moascope.errors import MoascopeError
from moascope.features.disk import with_beside
from moascope.learning.examples import Examples, row_weights
from moascope.learning.head import FittedHeads, predict_logits
from moascope.learning.simple import Fitted, fit_simple, simple_logits
from moascope.learning.training import train_heads
from moascope.params import Head, Train

POOLED = ""


def fit_by_panel(
    training: Examples,
    masks: np.ndarray,
    head: Head,
    train: Train,
    seed: int,
    label: np.ndarray | None = None,
    watch: Callable[[str, int, Fitted], None] | None = None,
    watch_every: int = 0,
) -> dict[str, Fitted]:
    """Train one head per mask, for every panel by itself or for all panels together.

    Parameters
    ----------
    training : Examples
        Already normalised, at the level that is trained on.
    masks : ndarray, bool, [K, n]
        Rows that each head may see. Rows without a label are never seen.
    head : Head
    train : Train
        `panels` and `batch_size` are read.
    seed : int
    label : ndarray, int, [n] or [K, n], optional
        In place of the true labels (for nulls).
    watch : callable, optional
        `watch(panel, epoch, heads)`, called every `watch_every` epochs of a panel and at its end.
    watch_every : int
        Epochs between two records of the loss; 0: it is recorded at the end alone.

    Returns
    -------
    dict
        Panel name -> heads; the only name is "" where panels are pooled.

    Raises
    ------
    MoascopeError
        When a panel shows some head fewer than two classes.
    """
    fitted = {}
    for panel, given in _by_panel(training, masks, head, train, label):
        for epoch, heads in _trained(given, head, train, seed, watch_every):
            fitted[panel] = heads
            if watch:
                watch(panel, epoch, heads)
    return fitted


def train_by_panel(
    training: Examples, masks: np.ndarray, head: Head, train: Train, seed: int, watch_every: int
) -> Iterator[tuple[int, dict[str, Fitted]]]:
    """As `fit_by_panel`, with a stop of all panels every few epochs to look at their heads.

    Yields
    ------
    epoch : int
    heads : dict
        Panel name -> heads after that many epochs.

    Raises
    ------
    MoascopeError
        When a panel shows some head fewer than two classes.
    """
    # Panels take turns, so that a training that goes nowhere is seen early in all of them.
    trainings = {panel: _trained(given, head, train, seed, watch_every)
                 for panel, given in _by_panel(training, masks, head, train)}
    for stops in zip(*trainings.values(), strict=True):
        yield stops[0][0], {panel: heads for panel, (_, heads)
                            in zip(trainings, stops, strict=True)}


def _trained(given: tuple, head: Head, train: Train, seed: int,
             watch_every: int) -> Iterator[tuple[int, Fitted]]:
    """Epochs, and the heads after that many; a simple model has its last ones alone."""
    if head.head != "network":
        yield head.epochs, fit_simple(*given, seed=seed)
        return
    for heads in train_heads(*given, batch_size=train.batch_size, seed=seed,
                             watch_every=watch_every):
        yield int(heads.epochs[-1]), heads


def _by_panel(training: Examples, masks: np.ndarray, head: Head, train: Train,
              label: np.ndarray | None = None) -> Iterator[tuple[str, tuple]]:
    """Each panel's name, and what `train_heads` is given for it."""
    label = training.label if label is None else label
    labels = np.broadcast_to(label, masks.shape)
    for panel, rows in panel_rows(training, train):
        chosen = training.take(rows)
        weights = np.stack([
            row_weights(chosen, mask[rows], own[rows])
            for mask, own in zip(masks, labels, strict=True)
        ])
        for own, weight in zip(labels, weights, strict=True):
            if len(np.unique(own[rows][weight > 0])) < 2:
                raise MoascopeError(
                    f"Panel '{panel}' has too few annotated compounds for a head of its own. "
                    "Set train.panels=pooled in params.yaml, or add compounds to that panel."
                    if panel else
                    "Without two of the folds, compounds of a single class are left to learn from. "
                    "Annotate more compounds, or use more folds (params.yaml: split.folds)."
                )
        usable = np.where(labels[:, rows] < 0, 0, labels[:, rows])
        yield panel, (inputs(chosen, train), usable[0] if label.ndim == 1 else usable, weights,
                      len(training.question.classes), head)


def predict_by_panel(
    heads: dict[str, Fitted], examples: Examples, train: Train,
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """Logits of every head for every row, each row by the head of its panel.

    Parameters
    ----------
    heads : dict
        Panel -> heads.
    examples : Examples
    train : Train
    wanted : ndarray, bool, [K, n], optional
        Which head predicts which row; every head every row, if None.

    Returns
    -------
    ndarray, float32, [K, n, C]
        0 where a row is not wanted of a head.
    """
    count = next(iter(heads.values())).count
    logits = np.zeros((count, len(examples.meta), len(examples.question.classes)), np.float32)
    for panel, rows in panel_rows(examples, train):
        own, given = heads[panel], inputs(examples.take(rows), train)
        asked = None if wanted is None else wanted[:, rows]
        logits[:, rows] = (predict_logits(own, given, asked) if isinstance(own, FittedHeads)
                           else simple_logits(own, given, asked))
    return logits


def inputs(examples: Examples, train: Train) -> Any:
    """What a head is given: the features, and where panels are pooled, which panel it is.

    Parameters
    ----------
    examples : Examples
    train : Train
        `panels` is read.

    Returns
    -------
    ndarray or OnDisk, float32, [n, d] or [n, d + panels]
    """
    # All panels of the training, whichever are at hand: a plate of one panel is predicted too.
    names = examples.panels or tuple(np.unique(examples.panel))
    if train.panels == "separate" or len(names) < 2:
        return examples.features
    which = examples.panel[:, None] == np.array(names)
    return with_beside(examples.features, which.astype(np.float32))


def panel_rows(examples: Examples, train: Train) -> Iterable[tuple[str, np.ndarray]]:
    """Each panel that has heads of its own, and its rows (bool, [n]); "" where they share."""
    if train.panels == "pooled":
        yield POOLED, np.ones(len(examples.meta), bool)
        return
    for panel in np.unique(examples.panel):
        yield str(panel), examples.panel == panel


def training_rows(examples: Examples, head: Head) -> tuple[Examples, Examples]:
    """The normalised rows to learn from, and the normalised sites to predict.

    Parameters
    ----------
    examples : Examples
        Sites.
    head : Head
        Its backbone, normalisation and level are read: the rows are sites, wells, or one per
        unit and panel.
    """
    sites = examples.seen_by(head)
    rows = {"site": lambda: sites, "well": sites.wells, "compound": sites.units}
    return rows[head.level](), sites
