"""What the prediction of one compound rests on: the share of each group of features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moascope.explanation.ablation import ablated_logits, reference_of
from moascope.explanation.groups import feature_groups
from moascope.explanation.shares import Share, largest_first, margins
from moascope.features.table import FeatureTable
from moascope.learning.examples import averaging
from moascope.learning.model import TrainedModel
from moascope.learning.predictor import sites_of, sites_that_count
from moascope.screen.tables import Screen


def compound_shares(model: TrainedModel, screen: Screen, table: FeatureTable,
                    meant: dict[str, int]) -> dict[str, tuple[Share, ...]]:
    """The share of every group of features in the predictions of compounds.

    Parameters
    ----------
    model : TrainedModel
    screen : Screen
    table : FeatureTable
        From `learning.predictor.screen_features`.
    meant : dict
        Compound, by the name that predictions give it -> the class that is explained.

    Returns
    -------
    dict
        Compound -> shares, kind by kind and the largest first; empty where the features cannot be
        told apart by their names. Of a head without hidden layers shares are exact: weight times
        distance from the controls, summed over a group and averaged like logits. Of any other
        they are what is lost when the group alone is set to the controls' value, and do not add
        up.
    """
    kinds = feature_groups(model.names)
    if not kinds or not meant:
        return {}
    sites = sites_of(replace(model, sphering=None), screen, table)
    # Here the negative controls have a unit of their own.
    controls = ((sites.meta["Metadata_Control"] == "negative")
                & table.meta["QC_Pass"].to_numpy(bool)).to_numpy()
    reference = reference_of(sites, controls,
                             model.head.normalisation if model.controls else "none")
    names = sites.meta["Metadata_Compound"].to_numpy()
    groups = np.unique(sites.group[np.isin(names, list(meant))])
    rows = np.flatnonzero(sites_that_count(table.meta) & np.isin(sites.group, groups)
                          & (sites.group >= 0))
    own = sites.take(rows)
    named = [(kind, name, mask) for kind, masks in kinds.items()
             for name, mask in masks.items()]
    logits = ablated_logits(model.heads, own, model.sphering, model.train, reference.take(rows),
                            [mask for _, _, mask in named], np.zeros(len(rows), int))
    matrix, units = averaging(own, "compound")
    of_unit = np.stack([(matrix @ one).astype(float) for one in logits])
    calibration = model.calibrations["compound"]
    probability = calibration.probability(of_unit.copy())
    found = {}
    for at, name in enumerate(units["Metadata_Compound"]):
        if name not in meant:
            continue
        margin = calibration.slope * margins(of_unit[:, at], meant[name])
        shares = [Share(kind, group, float(margin[0] - margin[1 + i]),
                        float(probability[1 + i, at, meant[name]]))
                  for i, (kind, group, _) in enumerate(named)]
        found[name] = largest_first(shares, list(kinds))
    return found
