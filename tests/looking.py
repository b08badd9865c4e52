"""A toy network of which is known where it looks, and a model on top of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
from learnable import make_examples

from moascope.explanation.sight import Crop, Sight
from moascope.features.backbones import Backbone
from moascope.learning.calibration import Calibration
from moascope.learning.final import final_model
from moascope.learning.head import FittedHeads
from moascope.params import Embed, Head, Params, Train

CROP = 32
CHANNELS = ("DNA", "Actin")
TRAIN = Train(panels="pooled")


def quadrant(planes):
    """The mean of the upper left quarter, and a feature of the whole."""
    planes = planes.astype(np.float32)
    return np.stack([planes[:, : CROP // 2, : CROP // 2].mean(axis=(1, 2)),
                     planes.mean(axis=(1, 2))], axis=1)


TOY = Backbone("Toy", ("0000", "0001"), quadrant)
NAMES = tuple(f"Toy_{channel}_{last}" for channel in CHANNELS for last in TOY.names)


def toy_model(weights, normalisation="none", controls=False):
    """A linear model of the four features, its slope at sites 2."""
    kernel = np.zeros((1, 4, 2), np.float32)
    kernel[0, :, 1] = weights
    none = np.zeros(0, np.float32)
    heads = FittedHeads(Head(layers=0), np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32),
                        [kernel], [np.zeros((1, 2), np.float32)], none, none)
    examples = make_examples(compounds=3)
    examples = replace(examples, names=NAMES, features=examples.features[:, :4], _cache={})
    head = Head(layers=0, normalisation=normalisation)
    return final_model(examples, {"": heads}, {"site": Calibration(2.0, 0.0, 0.5)}, head,
                       Params(train=TRAIN), CHANNELS, Embed(), {})


def toy_sight(weights):
    model = toy_model(weights)
    meta = pd.DataFrame([("P", "A01", 1, "B", "", "c", 1.0, "")], columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel",
        "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"])
    sites = replace(make_examples(compounds=3).take(np.array([0])), meta=meta, names=NAMES,
                    features=np.zeros((1, 0), np.float32))
    return Sight(model, (TOY,), sites, np.array([[10, 20, 30, 40]], np.float32), np.zeros(0),
                 np.zeros(0), np.zeros(1, int))


def crop_of(*levels, channels=CHANNELS, count=1):
    """A crop whose channels are each of one level."""
    return Crop(0, channels, np.stack([np.full((CROP, CROP), one, np.uint8) for one in levels]),
                count)
