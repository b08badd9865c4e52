"""A screen as a model sees it: all that lies between the pixels of a crop and a logit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from moascope.explanation.compounds import margins
from moascope.explanation.gradients import has_gradients, keras_twin, plane_gradients
from moascope.features.backbones import Backbone, find_weights, open_backbone
from moascope.features.normalise import CLIP, apply_sphering, plate_scales
from moascope.features.table import FeatureTable
from moascope.learning.examples import SITE_KEY, Examples
from moascope.learning.head import FittedHeads
from moascope.learning.joining import with_layout
from moascope.learning.model import TrainedModel
from moascope.learning.panels import predict_by_panel
from moascope.learning.predictor import sites_of
from moascope.params import WITHOUT_NETWORK, Embed
from moascope.screen.tables import Screen


@dataclass(frozen=True)
class Network:
    """A backbone forwards (OpenVINO) and backwards (its twin in Keras).

    Attributes
    ----------
    backbone : Backbone
    gradients : callable
        See `gradients.plane_gradients`.
    """

    backbone: Backbone
    gradients: Callable[[np.ndarray, np.ndarray], np.ndarray]


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
    networks : tuple of Network
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
    networks: tuple[Network, ...]
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
        None where there are no derivatives: none of the model's backbones is a network (named
        features have groups instead), its head is of neighbours or trees, or Keras does not run on
        TensorFlow.
    """
    names = [name for name in model.embed.backbones if name not in WITHOUT_NETWORK]
    smooth = all(isinstance(one, FittedHeads) for one in model.heads.values())
    if not names or not smooth or not has_gradients():
        return None
    weights = {name: str(file) for name, file in model.weights.items()}
    settings = model.embed.model_copy(update={"weights": weights} if weights else {})
    networks = tuple(_network(name, settings, model.prepare.crop) for name in names)
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


def _network(name: str, settings: Embed, crop: int) -> Network:
    weights = find_weights(name, settings)
    assert weights is not None
    return Network(open_backbone(name, weights, settings.precision, crop),
                   plane_gradients(keras_twin(name, weights, crop)))


def crop_log_odds(sight: Sight, crop: Crop, variants: np.ndarray, meant: int) -> np.ndarray:
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

    Returns
    -------
    ndarray, float64, [b]
        By the calibration for sites.
    """
    model = sight.model
    features = np.repeat(sight.raw[[crop.row]], len(variants), axis=0)
    # Only planes that differ go through a network.
    changed = (variants != crop.planes).any(axis=(-2, -1))
    where, channel = np.nonzero(changed)
    for network in sight.networks:
        before = network.backbone.planes(crop.planes)
        after = network.backbone.planes(variants[changed])
        for number, own in columns_of(model, network, crop.channels):
            mine = channel == number
            features[np.ix_(where[mine], own)] += (after[mine] - before[number]) / crop.count
    logits = predict_by_panel(model.heads, _normalised(sight, crop.row, features), model.train)[0]
    return model.calibrations["site"].slope * margins(logits.astype(float), meant)


def columns_of(model: TrainedModel, network: Network,
             channels: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
    """The channels whose features a model takes, and where these are: int, [features]."""
    at = {name: number for number, name in enumerate(model.names)}
    backbone = network.backbone
    for number, channel in enumerate(channels):
        names = [f"{backbone.label}_{channel}_{last}" for last in backbone.names]
        if at.keys() >= set(names):
            yield number, np.array([at[name] for name in names])


def _normalised(sight: Sight, row: int, features: np.ndarray) -> Examples:
    """Variants of one site as the heads take them; see `learning.predictor.sites_of`."""
    features = standardised(sight, row, features)
    if sight.model.sphering is not None:
        features = apply_sphering(features, sight.model.sphering)
    same = sight.sites.take(np.full(len(features), row))
    return replace(same, features=features.astype(np.float32), _cache={})


def standardised(sight: Sight, row: int, features: np.ndarray) -> np.ndarray:
    """Features of one site, [b, d], as measured -> as the plate's controls make them comparable."""
    if len(sight.centre):
        features = (features - sight.centre[sight.plate[row]]) / sight.spread[sight.plate[row]]
    features = np.nan_to_num(features)
    if is_clipped(sight):
        features = np.clip(features, -CLIP, CLIP)
    return features


def is_clipped(sight: Sight) -> bool:
    """Whether normalised features stop at `features.normalise.CLIP`."""
    return "moderated" in sight.model.head.normalisation and len(sight.centre) > 0
