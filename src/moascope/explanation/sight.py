"""A screen as a model sees it: all that lies between the pixels of a crop and a logit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from moascope.explanation.compounds import margins
from moascope.features.backbones import Backbone, find_weights, open_backbone
from moascope.features.disk import columns_of
from moascope.features.normalise import CLIP, apply_sphering, plate_scales
from moascope.features.table import FeatureTable
from moascope.learning.examples import SITE_KEY, Examples
from moascope.learning.joining import with_layout
from moascope.learning.model import TrainedModel
from moascope.learning.panels import predict_by_panel
from moascope.learning.predictor import sites_of
from moascope.learning.simple import Fitted
from moascope.params import WITHOUT_NETWORK
from moascope.screen.tables import Screen


@dataclass(frozen=True)
class Crop:
    """One crop of a site.

    Attributes
    ----------
    row : int
        Of the site in a `Sight`.
    channels : tuple of str, [C]
    planes : ndarray, uint8, [C, side, side]
    count : int
        How many crops the site has; its features are their mean.
    """

    row: int
    channels: tuple[str, ...]
    planes: np.ndarray
    count: int


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
    raw : ndarray or OnDisk, float32, [n, d]
        As measured, in the order that the model takes.
    centre, spread : ndarray, float, [plates, d]
        What they are normalised by; empty where they are not.
    plate : ndarray, int, [n]
        The row of `centre` that belongs to each site.
    """

    model: TrainedModel
    networks: tuple[Backbone, ...]
    sites: Examples
    raw: Any
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
                                   settings.turns, model.prepare.crop) for name in names)
    sites = sites_of(replace(model, sphering=None), screen, table)
    column = {name: at for at, name in enumerate(table.names)}
    raw = columns_of(table.X, np.array([column[name] for name in model.names], int))
    meta = with_layout(table.meta, screen.layout)
    controls = (meta["Metadata_Control"] == "negative") & meta["QC_Pass"].astype(bool)
    scales = []
    if model.controls and model.head.normalisation != "none":
        scales, _ = plate_scales(FeatureTable(meta, raw, list(model.names)),
                                 controls.to_numpy(), "moderated" in model.head.normalisation)
    nothing = columns_of(sites.features, np.zeros(0, int))
    plate = np.zeros(len(raw), int)
    for number, (rows, _, _) in enumerate(scales):
        plate[rows] = number
    return Sight(model, networks, replace(sites, features=nothing, _cache={}), raw,
                 np.array([centre for _, centre, _ in scales]),
                 np.array([spread for _, _, spread in scales]), plate)


def crop_log_odds(sight: Sight, crop: Crop, variants: np.ndarray, meant: int,
                  heads: Sequence[Mapping[str, Fitted]] = ()) -> np.ndarray:
    """The log-odds of a class for a site, with one of its crops changed.

    Parameters
    ----------
    sight : Sight
    crop : Crop
        As it is.
    variants : ndarray, uint8, [b, C, side, side]
        As it might be.
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
    features = np.repeat(sight.raw[[crop.row]], len(variants), axis=0)
    # Only planes that differ go through a network.
    changed = (variants != crop.planes).any(axis=(-2, -1))
    where, channel = np.nonzero(changed)
    for network in sight.networks:
        before = network.planes(crop.planes)
        after = network.planes(variants[changed])
        for number, own in _columns(model, network, crop.channels):
            mine = channel == number
            features[np.ix_(where[mine], own)] += (after[mine] - before[number]) / crop.count
    given = _normalised(sight, crop.row, features)
    return model.calibrations["site"].slope * np.stack([
        margins(predict_by_panel(dict(one), given, model.train)[0].astype(float), meant)
        for one in heads or (model.heads,)])


def _columns(model: TrainedModel, network: Backbone,
             channels: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
    """The channels whose features a model takes, and where these are: int, [features]."""
    at = {name: number for number, name in enumerate(model.names)}
    for number, channel in enumerate(channels):
        names = [f"{network.label}_{channel}_{last}" for last in network.names]
        if at.keys() >= set(names):
            yield number, np.array([at[name] for name in names])


def _normalised(sight: Sight, row: int, features: np.ndarray) -> Examples:
    """Variants of one site as the heads take them; see `learning.predictor.sites_of`."""
    if len(sight.centre):
        features = (features - sight.centre[sight.plate[row]]) / sight.spread[sight.plate[row]]
    features = np.nan_to_num(features)
    if "moderated" in sight.model.head.normalisation and len(sight.centre):
        features = np.clip(features, -CLIP, CLIP)
    if sight.model.sphering is not None:
        features = apply_sphering(features, sight.model.sphering)
    same = sight.sites.take(np.full(len(features), row))
    return replace(same, features=features.astype(np.float32), _cache={})
