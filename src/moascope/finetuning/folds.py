"""Fine-tuned networks of every fold: each is trained on the other folds and predicts this one.

How often a network goes through the data, and how fast it learns, is set beforehand: nothing is
chosen by what is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.disk import columns_of
from moascope.features.normalise import plate_scales
from moascope.features.table import FeatureTable, label_of
from moascope.finetuning.network import (
    Sites,
    build_network,
    open_last_blocks,
    open_network,
    predict_sites,
    restart,
    train_network,
)
from moascope.learning.cross_fit import cross_fit, leave_folds_out, masks_without
from moascope.learning.examples import SITE_KEY, Examples, row_weights
from moascope.learning.panels import inputs, panel_rows
from moascope.params import NETWORK, WITHOUT_NETWORK, FineTune, Head, Train
from moascope.pixels.prepared import prepared_plates

REPEAT = 0


@dataclass(frozen=True)
class FineTuned:
    """What the networks of all folds predict, and how they were trained.

    Attributes
    ----------
    logits : ndarray, float32, [n, C]
        Of each site in a fold, by the network that left out its fold; NaN elsewhere.
    start : ndarray, float32, [n, C]
        The same, of the heads that these networks started from.
    curves : DataFrame
        `panel, fold, epoch, loss`: of training.
    blocks : list of str
        Of the backbone, that were trained.
    """

    logits: np.ndarray
    start: np.ndarray
    curves: pd.DataFrame
    blocks: list[str]


def fine_tune_folds(examples: Examples, prepared: Path, backbone: str, weights: Path, turns: int,
                    heads: dict[tuple[int, int], Head], train: Train, seed: int) -> FineTuned:
    """Fine-tune a network for each fold of the first repeat, and predict that fold.

    Parameters
    ----------
    examples : Examples
        Sites, with the features of the frozen backbone.
    prepared : Path
        `data/prepare`.
    backbone : str
        The network.
    weights : Path
        Its file, from `features.backbones.find_weights`.
    turns : int
        In how many positions it saw each crop.
    heads : dict
        (repeat, fold) -> the head chosen for that fold.
    train : Train
        `fine_tune` says how.
    seed : int

    Raises
    ------
    MoascopeError
        Where a panel is too small, or plates have other numbers or sizes of crops.
    """
    settings = train.fine_tune
    own = live_last(examples, backbone)
    # A head sees the network's features, all of them and as they are.
    chosen = {fold: head.model_copy(update={
        "backbone": "all", "selection": "none",
        "normalisation": head.normalisation.replace("moderated", "plate")})
              for (repeat, fold), head in heads.items() if repeat == REPEAT}
    fold_of = own.fold_of_rows(REPEAT)
    masks, starts = {}, {}
    logits = np.full((2, len(own.meta), len(own.question.classes)), np.nan, np.float32)
    for fold, head in chosen.items():
        fitted = cross_fit(own, head, train, seed,
                           partial(leave_folds_out, repeat=REPEAT, folds=[fold]))
        starts[fold] = fitted.heads
        masks[fold] = masks_without(own, [(REPEAT, fold)])[0]
        logits[1, fitted.rows] = fitted.logits[0]
    curves: list[dict[str, Any]] = []
    blocks: list[str] = []
    for panel, within in panel_rows(own, train):
        built: tuple[Head, Any] | None = None
        crops = None
        # Folds of one head follow one another: a network is compiled once for all of them.
        for fold, head in sorted(chosen.items(), key=lambda one: (repr(one[1]), one[0])):
            if built is None or built[0] != head:
                crops = shown_sites(own, within, prepared, backbone, turns, head, train) \
                    if built is None or built[0].normalisation != head.normalisation else crops
                # Two networks, and all crops twice, need not fit on the device.
                built = model = network = None
                network, prepare = open_network(backbone, weights, crops.crops.shape[-1],
                                                settings.precision)
                blocks = open_last_blocks(network, settings.blocks)
                built = head, build_network(network, prepare, crops, head,
                                            len(own.question.classes), settings)
            model, part = built[1], own.take(within)
            restart(model, starts[fold][panel], settings, seed)
            losses = train_network(
                model, part.label, row_weights(part, masks[fold][within], part.label),
                len(own.question.classes), settings, seed)
            curves += [{"panel": panel, "fold": fold, "epoch": epoch, "loss": loss}
                       for epoch, loss in enumerate(losses, 1)]
            left_out = np.flatnonzero(fold_of[within] == fold)
            if len(left_out):
                logits[0, np.flatnonzero(within)[left_out]] = predict_sites(model, left_out,
                                                                          settings.batch_size)
    return FineTuned(logits[0], logits[1], pd.DataFrame(curves), blocks)


def live_last(examples: Examples, backbone: str) -> Examples:
    """Examples with the features of one backbone, behind the counts and intensities."""
    own = examples.of_backbone(backbone)
    prefix = label_of(backbone) + "_"
    order = np.argsort([name.startswith(prefix) for name in own.names], kind="stable")
    return own.with_features(order)


def shown_sites(own: Examples, within: np.ndarray, prepared: Path, backbone: str, turns: int,
                head: Head, train: Train) -> Sites:
    """The sites of a panel as `finetuning.network` takes them.

    Parameters
    ----------
    own : Examples
        From `live_last`.
    within : ndarray, bool, [n]
    prepared : Path
    backbone : str
    turns : int
    head : Head
        `normalisation` is read.
    train : Train
    """
    prefix = label_of(backbone) + "_"
    live = np.array([name.startswith(prefix) for name in own.names])
    channels = list(dict.fromkeys(name[len(prefix):].rsplit("_", 1)[0]
                                  for name in np.array(own.names)[live]))
    first = [next(i for i, name in enumerate(own.names) if name.startswith(f"{prefix}{channel}_"))
             for channel in channels]
    present = np.isfinite(own.features[within][:, first])
    shown = np.flatnonzero(present.any(axis=0))
    standard = own.normalised("none" if head.normalisation == "none" else "plate")
    scales, _ = ([], []) if head.normalisation == "none" else plate_scales(
        FeatureTable(own.meta, columns_of(own.features, np.flatnonzero(live)), []), own.controls)
    plate = np.zeros(len(own.meta), int)
    for number, (rows, _, _) in enumerate(scales):
        plate[rows] = number
    width = int(live.sum())
    centre = [centre for _, centre, _ in scales] or [np.zeros(width)]
    spread = [spread for _, _, spread in scales] or [np.ones(width)]
    part = own.normalised(head.normalisation).take(within)
    return Sites(
        crops=load_crops(prepared, own.meta[within], [channels[i] for i in shown]),
        shown=shown, present=present, plate=plate[within],
        # Of a channel that a panel lacks neither is known, and none of its features is shown.
        centre=np.nan_to_num(np.stack(centre)).astype(np.float32),
        spread=np.nan_to_num(np.stack(spread), nan=1.0, posinf=np.inf).astype(np.float32),
        beside=standard.features[within][:, ~live], sphering=part.sphering,
        panel=inputs(part, train)[:, part.features.shape[1]:], turns=turns,
    )


def load_crops(prepared: Path, meta: pd.DataFrame, channels: list[str]) -> np.ndarray:
    """The crops of sites in memory.

    Parameters
    ----------
    prepared : Path
        `data/prepare`; see `moascope.pixels.prepared`.
    meta : DataFrame, [n]
        `Metadata_Plate, Metadata_Well, Metadata_Site`.
    channels : list of str

    Returns
    -------
    ndarray, uint8, [n, crops, channels, crop, crop]
        0 where a plate lacks a channel.

    Raises
    ------
    MoascopeError
        Where a site is not there, or plates have other numbers or sizes of crops.
    """
    wanted = meta[SITE_KEY].reset_index(drop=True).assign(row=np.arange(len(meta)))
    found = np.zeros(len(meta), bool)
    crops: np.ndarray | None = None
    for plate in prepared_plates(prepared):
        sites = plate.sites(columns=SITE_KEY)
        both = sites.assign(stored=np.arange(len(sites))).merge(wanted, on=SITE_KEY)
        if both.empty:
            continue
        stored = plate.crops()
        number, _, side, _ = stored.shape[1:]
        if crops is None:
            crops = np.zeros((len(meta), number, len(channels), side, side), np.uint8)
        if crops.shape[1::2] != (number, side):
            raise MoascopeError(
                f"{plate.folder} holds {number} crops per field, other plates {crops.shape[1]}. "
                "train.fine_tune needs the same number everywhere: lower prepare.crops in "
                "params.yaml to the smallest.")
        names = plate.channels
        rows, places = both["row"].to_numpy(), both["stored"].to_numpy()
        for index, channel in enumerate(channels):
            if channel in names:
                crops[rows, :, index] = stored[places, :, names.index(channel)]
        found[rows] = True
    if crops is None or not found.all():
        raise MoascopeError(f"{prepared} lacks sites that were embedded. Run `dvc repro` to bring "
                            "both up to date.")
    return crops


def check_fine_tune(settings: FineTune | None, backbones: tuple[str, ...], head: Head,
                    others: Iterable[Head] = ()) -> str:
    """The network that is to be fine-tuned; empty where none is.

    Parameters
    ----------
    settings : FineTune or None
    backbones : tuple of str
        That are embedded.
    head : Head
        Of the final model.
    others : iterable of Head
        Of the folds, which with `train.head` tuned may be of other kinds.

    Raises
    ------
    MoascopeError
        Where no network, or more than one, could be meant, or the head is a simple model.
    """
    if settings is None:
        return ""
    simple = [one.head for one in (head, *others) if one.head != NETWORK]
    if simple:
        raise MoascopeError(
            f"train.fine_tune starts from a network, and train.head is {simple[0]}. Set train.head "
            "to network, or train.fine_tune to null.")
    meant = [name for name in backbones
             if name not in WITHOUT_NETWORK and head.backbone in ("all", name)]
    if len(meant) != 1:
        raise MoascopeError(
            "train.fine_tune trains the last blocks of one network, and the head sees "
            f"{' and '.join(meant) or f'{head.backbone}, which is not a network'}. Set "
            + ("train.backbone to one of them." if meant else
               "embed.backbone to a network or a model file of your own, or "
               "train.fine_tune to null."))
    return meant[0]
