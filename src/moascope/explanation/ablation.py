"""What logits would be, if the features of a group were those of the plate's negative controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moascope.features.disk import pieces, rows_of
from moascope.features.normalise import Sphering, apply_sphering
from moascope.learning.examples import Examples
from moascope.learning.head import FittedHeads, predict_logits
from moascope.learning.panels import inputs, panel_rows, predict_by_panel
from moascope.learning.simple import Fitted
from moascope.params import Train


@dataclass(frozen=True)
class Reference:
    """The features that stand for "nothing happened here".

    Attributes
    ----------
    values : ndarray, float32, [R, d]
    of_row : ndarray, int, [n]
        Which of them a row takes.
    controls : bool
        Whether they are those of negative controls; else they are the mean of the panel's rows.
    """

    values: np.ndarray
    of_row: np.ndarray
    controls: bool

    def take(self, rows: np.ndarray) -> Reference:
        """Of some of the rows."""
        return replace(self, of_row=self.of_row[rows])


def reference_of(examples: Examples, controls: np.ndarray, normalisation: str) -> Reference:
    """What features are set to: the value of the plate's negative controls.

    Parameters
    ----------
    examples : Examples
        Sites, normalised but not sphered.
    controls : ndarray, bool, [n]
        Usable sites of negative controls.
    normalisation : str
        Of the head. After any but "none", the controls of each plate have the median 0.

    Returns
    -------
    Reference
        Without normalisation, the mean of the controls of the same plate and panel, or of the panel
        where the plate has none; without any controls, the mean of the panel's rows.
    """
    width = examples.features.shape[1]
    if normalisation != "none" and controls.any():
        return Reference(np.zeros((1, width), np.float32),
                         np.zeros(len(examples.meta), int), True)
    keys = examples.meta[["Metadata_Panel", "Metadata_Plate"]]
    of_row = keys.groupby(list(keys), sort=True).ngroup().to_numpy()
    values = np.zeros((of_row.max() + 1, width), np.float32)
    for number in range(len(values)):
        rows = of_row == number
        panel = examples.panel == examples.panel[rows][0]
        chosen = next(own for own in (rows & controls, panel & controls, panel) if own.any())
        own = rows_of(examples.features, chosen)
        values[number] = sum(len(piece) / len(own) * piece.mean(axis=0) for _, piece in pieces(own))
    return Reference(values, of_row, bool(controls.any()))


def ablated_logits(
    heads: dict[str, Fitted], examples: Examples, sphering: Sphering | None, train: Train,
    reference: Reference, masks: Sequence[np.ndarray], head_of_row: np.ndarray,
) -> np.ndarray:
    """Logits of rows as they are, and with each group of features at its reference.

    Parameters
    ----------
    heads : dict
        Panel -> heads.
    examples : Examples
        Rows, normalised but not sphered.
    sphering : Sphering or None
        What comes between them and the heads.
    train : Train
        `panels` is read.
    reference : Reference
    masks : sequence of ndarray, bool, [d]
    head_of_row : ndarray, int, [n]
        Which of the panel's heads predicts each row.

    Returns
    -------
    ndarray, float32, [1 + groups, n, C]
        The first are the logits as they are. Of a head without hidden layers the differences to
        it are exact shares: those of groups that part the features sum to the whole distance from
        the reference.
    """
    count = next(iter(heads.values())).count
    found = np.zeros((1 + len(masks), len(examples.meta), len(examples.question.classes)),
                     np.float32)
    if not all(isinstance(one, FittedHeads) for one in heads.values()):
        wanted = head_of_row == np.arange(count)[:, None]
        # A piece may lack a panel.
        names = examples.panels or tuple(np.unique(examples.panel))
        for at, piece in pieces(examples.features):
            own = np.arange(len(examples.meta))[at]
            for number, mask in enumerate([np.zeros(piece.shape[1], bool), *masks]):
                features = piece.copy()
                features[:, mask] = reference.values[:, mask][reference.of_row[at]]
                if sphering is not None:
                    features = apply_sphering(features, sphering)
                given = replace(examples.with_features([]).take(own), features=features,
                                names=examples.names, panels=names)
                found[number, at] = predict_by_panel(heads, given, train, wanted[:, at])[
                    head_of_row[at], np.arange(len(own))]
        return found
    panels = inputs(examples.with_features([]), train)
    for panel, own in panel_rows(examples, train):
        fitted = heads[panel]
        assert isinstance(fitted, FittedHeads)
        for index in np.unique(head_of_row[own]):
            rows = np.flatnonzero(own & (head_of_row == index))
            for at, features in pieces(rows_of(examples.features, rows)):
                found[:, rows[at]] = _through(
                    fitted, int(index), sphering, features, panels[rows[at]],
                    reference.values if len(reference.values) == 1
                    else reference.values[reference.of_row[rows[at]]], masks)
    return found


def _through(heads: FittedHeads, index: int, sphering: Sphering | None, features: np.ndarray,
             panels: np.ndarray, reference: np.ndarray,
             masks: Sequence[np.ndarray]) -> np.ndarray:
    """One pass through the first layer for all groups: what it is given adds up."""
    kernel, centre, shift, tail = first_layer(heads, index, sphering, features.shape[1])
    hidden = (features - centre) @ kernel + panels @ tail + shift
    later = later_layers(heads, index)
    away = features - reference
    return np.concatenate([predict_logits(later, hidden), *(
        predict_logits(later, hidden - away[:, mask] @ kernel[mask]) for mask in masks)])


def first_layer(heads: FittedHeads, index: int, sphering: Sphering | None, width: int,
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The first layer of a head as a function of features that are not sphered or standardised.

    Parameters
    ----------
    heads : FittedHeads
    index : int
        Which of them.
    sphering : Sphering or None
    width : int
        Number of features; what a head is given beyond them says which panel it is.

    Returns
    -------
    kernel : ndarray, float32, [width, outputs]
    centre : ndarray, float32, [width]
    shift : ndarray, float32, [outputs]
        The layer gives `(features - centre) @ kernel + panels @ tail + shift`.
    tail : ndarray, float32, [panels, outputs]
    """
    whole = heads.kernels[0][index] / heads.scale[index][:, None]
    kernel, tail, mean = whole[:width], whole[width:], heads.mean[index]
    shift = heads.biases[0][index] - mean[width:] @ tail
    if sphering is None:
        return kernel, mean[:width], shift, tail
    shift = shift - mean[:width] @ kernel
    # Symmetric, so that it may as well turn the weights.
    along = sphering.axes @ kernel * (sphering.gains - sphering.outside)[:, None]
    return (sphering.outside * kernel + sphering.axes.T @ along, sphering.mean, shift, tail)


def later_layers(heads: FittedHeads, index: int) -> FittedHeads:
    """What follows the first layer, as heads of their own that take what it gives."""
    outputs = heads.kernels[0].shape[-1]
    one = slice(index, index + 1)
    return replace(
        heads, mean=np.zeros((1, outputs), np.float32), scale=np.ones((1, outputs), np.float32),
        kernels=[np.eye(outputs, dtype=np.float32)[None], *(k[one] for k in heads.kernels[1:])],
        biases=[np.zeros((1, outputs), np.float32), *(b[one] for b in heads.biases[1:])])
