"""Which parts of a crop a prediction rests on: each square in turn is that of a control's crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from moascope.explanation.compounds import margins
from moascope.features.backbones import Backbone, find_weights, open_backbone
from moascope.features.normalise import CLIP, apply_sphering, plate_scales
from moascope.features.table import FeatureTable
from moascope.learning.examples import SITE_KEY, Examples
from moascope.learning.head import FittedHeads
from moascope.learning.joining import with_layout
from moascope.learning.model import TrainedModel
from moascope.learning.panels import predict_by_panel
from moascope.learning.predictor import sites_of
from moascope.learning.simple import Fitted
from moascope.params import WITHOUT_NETWORK
from moascope.screen.tables import Screen

SIDE = 8
"""Squares along each side of a crop."""


@dataclass(frozen=True)
class Sight:
    """A screen as a model sees it: everything between the features of a crop and a logit.

    Attributes
    ----------
    model : TrainedModel
    networks : tuple of Backbone
        Those of its backbones that are networks.
    sites : Examples
        Without features.
    raw : ndarray, float32, [n, d]
        As measured, in the order that the model takes.
    centre, spread : ndarray, float, [plates, d]
        What they are normalised by; empty where they are not.
    plate : ndarray, int, [n]
        The row of `centre` that belongs to each site.
    """

    model: TrainedModel
    networks: tuple[Backbone, ...]
    sites: Examples
    raw: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    plate: np.ndarray

    @cached_property
    def row_of(self) -> dict[tuple[str, str, int], int]:
        """(plate, well, site) -> row."""
        return {key: row for row, key in enumerate(
            self.sites.meta[SITE_KEY].itertuples(index=False, name=None))}


def sight_of(model: TrainedModel, screen: Screen, table: FeatureTable) -> Sight | None:
    """How a model sees a screen.

    Parameters
    ----------
    model : TrainedModel
    screen : Screen
    table : FeatureTable
        From `learning.predictor.screen_features`.

    Returns
    -------
    Sight or None
        None where none of the model's backbones is a network: named features have groups instead.
    """
    names = [name for name in model.embed.backbones if name not in WITHOUT_NETWORK]
    if not names:
        return None
    weights = {name: str(file) for name, file in model.weights.items()}
    settings = model.embed.model_copy(update={"weights": weights} if weights else {})
    networks = tuple(open_backbone(name, find_weights(name, settings), settings.precision,
                                   model.prepare.crop) for name in names)
    sites = sites_of(replace(model, sphering=None), screen, table)
    column = {name: at for at, name in enumerate(table.names)}
    raw = table.X[:, [column[name] for name in model.names]]
    meta = with_layout(table.meta, screen.layout)
    controls = (meta["Metadata_Control"] == "negative") & meta["QC_Pass"].astype(bool)
    scales = []
    if model.controls and model.head.normalisation != "none":
        scales, _ = plate_scales(FeatureTable(meta, raw, list(model.names)),
                                 controls.to_numpy(), "moderated" in model.head.normalisation)
    plate = np.zeros(len(raw), int)
    for number, (rows, _, _) in enumerate(scales):
        plate[rows] = number
    return Sight(model, networks, replace(sites, features=sites.features[:, :0], _cache={}), raw,
                 np.array([centre for _, centre, _ in scales]),
                 np.array([spread for _, _, spread in scales]), plate)


def crop_log_odds(sight: Sight, row: int, channels: Sequence[str], planes: np.ndarray, crops: int,
                  variants: np.ndarray, meant: int,
                  heads: Sequence[Mapping[str, Fitted]] = ()) -> np.ndarray:
    """The log-odds of a class for a site, with one of its crops changed.

    Parameters
    ----------
    sight : Sight
    row : int
        Of the site.
    channels : sequence of str, [C]
    planes : ndarray, uint8, [C, crop, crop]
        The crop as it is.
    crops : int
        Of the site; features are their mean.
    variants : ndarray, uint8, [b, C, crop, crop]
        The crop as it might be.
    meant : int
        The class, against the mean of the others.
    heads : sequence, optional
        In the place of the model's own.

    Returns
    -------
    ndarray, float64, [heads, b]
        By the calibration for sites.
    """
    model = sight.model
    features = np.repeat(sight.raw[[row]], len(variants), axis=0)
    at = {name: number for number, name in enumerate(model.names)}
    # Only planes that differ go through a network.
    changed = (variants != planes).any(axis=(-2, -1))
    for network in sight.networks:
        before, after = network.planes(planes), network.planes(variants[changed])
        where, channel = np.nonzero(changed)
        for number, name in enumerate(channels):
            names = [f"{network.label}_{name}_{last}" for last in network.names]
            if not at.keys() >= set(names):
                continue
            own, mine = np.array([at[one] for one in names]), channel == number
            features[np.ix_(where[mine], own)] += (after[mine] - before[number]) / crops
    sites = _normalised(sight, row, features)
    slope = model.calibrations["site"].slope
    found = []
    for one in heads or (model.heads,):
        logits = predict_by_panel(dict(one), sites, model.train)[0].astype(float)
        found.append(slope * margins(logits, meant))
    return np.stack(found)


def _normalised(sight: Sight, row: int, features: np.ndarray) -> Examples:
    """Variants of one site as the heads take them; see `learning.predictor.sites_of`."""
    if len(sight.centre):
        number = sight.plate[row]
        features = (features - sight.centre[number]) / sight.spread[number]
    features = np.nan_to_num(features)
    if "moderated" in sight.model.head.normalisation and len(sight.centre):
        features = np.clip(features, -CLIP, CLIP)
    if sight.model.sphering is not None:
        features = apply_sphering(features, sight.model.sphering)
    same = sight.sites.take(np.full(len(features), row))
    return replace(same, features=features.astype(np.float32), _cache={})


def with_squares(planes: np.ndarray, other: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """A crop with some of its squares taken from another.

    Parameters
    ----------
    planes, other : ndarray, uint8, [C, crop, crop]
    marked : ndarray, bool, [..., C, SIDE, SIDE]

    Returns
    -------
    ndarray, uint8, [..., C, crop, crop]
    """
    return np.where(enlarged(marked, planes.shape[-1]), other, planes)


def enlarged(squares: np.ndarray, side: int) -> np.ndarray:
    """Values of squares [..., SIDE, SIDE] as values of pixels [..., side, side]."""
    of_pixel = np.arange(side) * SIDE // side
    return squares[..., of_pixel[:, None], of_pixel]


def flat(planes: np.ndarray) -> np.ndarray:
    """A crop without structure: each channel's median, uint8, [C, crop, crop]."""
    return np.broadcast_to(np.median(planes, axis=(-2, -1), keepdims=True),
                           planes.shape).astype(np.uint8)


def square_effects(sight: Sight, row: int, channels: Sequence[str], planes: np.ndarray, crops: int,
                   others: Sequence[np.ndarray], meant: int,
                   heads: Sequence[Mapping[str, Fitted]] = ()) -> np.ndarray:
    """What the log-odds of a class lose, when one square of one channel is that of other crops.

    Parameters
    ----------
    sight, row, channels, planes, crops, meant, heads
        As `crop_log_odds` takes them.
    others : sequence of ndarray, uint8, [C, crop, crop]
        Crops of controls; the mean over them is taken.

    Returns
    -------
    ndarray, float64, [heads, C, SIDE, SIDE]
        Positive where the square speaks for the class.

    Notes
    -----
    Occlusion (Zeiler and Fergus, ECCV 2014), with cells of the same plate's controls in the place
    of a grey square, so that the changed crop looks like one of this screen.
    """
    count = len(channels) * SIDE * SIDE
    marked = np.eye(count, dtype=bool).reshape(count, len(channels), SIDE, SIDE)
    variants = np.concatenate([planes[None], *(with_squares(planes, other, marked)
                                               for other in others)])
    found = crop_log_odds(sight, row, channels, planes, crops, variants, meant, heads)
    lost = found[:, :1] - found[:, 1:]
    return lost.reshape(len(found), len(others), len(channels), SIDE, SIDE).mean(axis=1)


def random_heads(heads: Mapping[str, FittedHeads], seed: int) -> dict[str, FittedHeads]:
    """Heads of the same shape that have learnt nothing: weights as spread out as the trained ones.

    Parameters
    ----------
    heads : mapping
        Panel -> heads.
    seed : int
    """
    generator = np.random.default_rng(seed)
    return {panel: replace(one, kernels=[
        generator.normal(0, kernel.std(), kernel.shape).astype(np.float32)
        for kernel in one.kernels]) for panel, one in heads.items()}


def agreement(effects: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """How much maps look like those of other heads.

    Parameters
    ----------
    effects : ndarray, float, [C, SIDE, SIDE]
    others : ndarray, float, [heads, C, SIDE, SIDE]

    Returns
    -------
    signed, absolute : float
        Mean rank correlation (Spearman) of the values, and of their sizes.

    Notes
    -----
    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map that stays the same when
    the weights are random shows the picture, not the model.
    """
    ranks = pd.DataFrame(np.stack([effects, *others]).reshape(1 + len(others), -1).T)
    signed, absolute = (float(one.corr("spearman").iloc[0, 1:].mean())
                        for one in (ranks, ranks.abs()))
    return signed, absolute
