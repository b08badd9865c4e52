"""What a model keeps to say how far its predictions can be trusted, learned when it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from moascope.features.disk import averaged, rows_of
from moascope.features.normalise import (
    Sphering,
    apply_sphering,
    fit_sphering,
    standardise_plates,
)
from moascope.features.table import FeatureTable
from moascope.learning.batch_distance import ControlPlates, control_plates
from moascope.learning.calibration import Calibration
from moascope.learning.conformal import Limits, set_limits
from moascope.learning.examples import LEVELS, Examples, averaging
from moascope.learning.novelty import KnownCompounds, known_compounds
from moascope.params import Head, Train


@dataclass(frozen=True)
class Trust:
    """The limits of a model's knowledge.

    Attributes
    ----------
    coverage : float
        Share of the compounds of each class whose set holds their class.
    rate : float
        Share of compounds and plates like those of training that may be called novel or unlike.
    sets : dict
        Level -> Limits.
    known : KnownCompounds or None
        Consensus profiles of training; None where there are no controls to normalise by.
    groups, compounds, mechanisms, labels : ndarray, str, [G]
        Of the known compounds: key, names, annotated mechanisms and class.
    sphering : Sphering or None
        Of the profiles; None where the controls were too few or too alike.
    controls : ControlPlates or None
    """

    coverage: float
    rate: float
    sets: dict[str, Limits]
    known: KnownCompounds | None
    groups: np.ndarray
    compounds: np.ndarray
    mechanisms: np.ndarray
    labels: np.ndarray
    sphering: Sphering | None
    controls: ControlPlates | None


def out_of_fold_logits(examples: Examples, level: str,
                       outer_logits: dict[tuple[int, int], np.ndarray]
                       ) -> tuple[np.ndarray, np.ndarray]:
    """What single outer models predict for the units of the fold that they left out.

    Parameters
    ----------
    examples : Examples
        Sites.
    level : {"site", "well", "compound"}
    outer_logits : dict
        (repeat, fold) -> ndarray, float32, [n, C].

    Returns
    -------
    logits : ndarray, float32, [m, C]
        Of every unit, once per repeat.
    compound : ndarray, int, [m]
        Row of `examples.groups`.
    """
    matrix, units = averaging(examples, level)
    group = units["Group"].to_numpy()
    pooled, of = [], []
    for (repeat, fold), logits in outer_logits.items():
        own = np.flatnonzero((group >= 0) & (examples.folds(repeat)[group] == fold))
        pooled.append(matrix[own] @ logits)
        of.append(group[own])
    return np.concatenate(pooled), np.concatenate(of)


def fit_trust(examples: Examples, head: Head, train: Train,
              outer_logits: dict[tuple[int, int], np.ndarray],
              calibrations: dict[str, Calibration]) -> Trust:
    """Learn what the final model needs to abstain.

    Parameters
    ----------
    examples : Examples
        Sites.
    head : Head
        Of the final model; its backbone and selection are used.
    train : Train
        `coverage` and `novelty_rate` are read.
    outer_logits : dict
        From `nested.nested`.
    calibrations : dict
        Level -> Calibration of the final model.
    """
    sets = {}
    for level in LEVELS:
        logits, compound = out_of_fold_logits(examples, level, outer_logits)
        sets[level] = set_limits(
            examples.group_label[compound],
            calibrations[level].probability(logits.astype(float)), compound, examples.question,
            train.coverage)
    seen = examples.of_backbone(head.backbone).selected(head.selection)
    profiles, group, sphering = consensus_of_training(seen)
    groups = examples.groups.iloc[group]
    controls = examples.controls
    return Trust(
        coverage=train.coverage, rate=train.novelty_rate, sets=sets,
        known=None if profiles is None else known_compounds(profiles),
        groups=_texts(groups["Metadata_Group"]), compounds=_texts(groups["Metadata_Compound"]),
        mechanisms=_texts(groups["Metadata_MoA"]), labels=_texts(groups["Label"]),
        sphering=sphering,
        controls=control_plates(seen.meta[controls], rows_of(seen.features, controls),
                                train.novelty_rate)
        if controls.any() else None)


def consensus_of_training(seen: Examples
                          ) -> tuple[np.ndarray | None, np.ndarray, Sphering | None]:
    """Consensus profiles of the compounds in the folds.

    Parameters
    ----------
    seen : Examples
        Sites, before normalisation.

    Returns
    -------
    profiles : ndarray, float32, [G, d], or None
        None without controls.
    group : ndarray, int, [G]
        Row of `seen.groups`; empty without profiles.
    sphering : Sphering or None
    """
    controls = seen.controls
    # Where wells are the units, there are no other compounds to be near to.
    if not controls.any() or not seen.in_folds.any() or seen.question.unit != "compound":
        return None, np.zeros(0, int), None
    standard = _standard(seen.meta, seen.features, seen.names, controls)
    try:
        sphering = fit_sphering(rows_of(standard, controls))
    except ValueError:
        # Too few controls, or all alike: nothing to sphere by.
        sphering = None
    own = seen.take(seen.in_folds)
    matrix, units = averaging(own, "compound")
    profiles = averaged(matrix, rows_of(standard, seen.in_folds))
    return _sphered(profiles, sphering), units["Group"].to_numpy(), sphering


def consensus_profiles(trust: Trust, sites: Examples, raw: Any, controls: np.ndarray
                       ) -> tuple[np.ndarray, np.ndarray]:
    """Consensus profiles of a screen's compounds, as `consensus_of_training` makes them.

    Parameters
    ----------
    trust : Trust
    sites : Examples
        Its features are not read.
    raw : ndarray or OnDisk, float32, [n, d]
        The sites' features before normalisation.
    controls : ndarray, bool, [n]
        Negative controls that passed quality control.

    Returns
    -------
    profiles : ndarray, float32, [units, d]
    group : ndarray, int, [units]
    """
    standard = _standard(sites.meta, raw, sites.names, controls)
    matrix, units = averaging(sites, "compound")
    # Sphering is a linear map about a point, so that it may follow the mean.
    return _sphered(averaged(matrix, standard), trust.sphering), units["Group"].to_numpy()


def _standard(meta: pd.DataFrame, raw: Any, names: tuple[str, ...],
              controls: np.ndarray) -> Any:
    """Robust deviations with moderated spreads, which find the nearest compounds best."""
    return standardise_plates(FeatureTable(meta, raw, list(names)), controls, moderated=True).X


def _sphered(profiles: np.ndarray, sphering: Sphering | None) -> np.ndarray:
    return profiles if sphering is None else apply_sphering(profiles, sphering)


def _texts(values: pd.Series) -> np.ndarray:
    return values.fillna("").to_numpy(dtype=str)


def trust_arrays(trust: Trust) -> dict[str, np.ndarray]:
    """All arrays of a `Trust` under names of their own, for `numpy.savez`."""
    arrays = {name: getattr(trust, name) for name in ("groups", "compounds", "mechanisms",
                                                      "labels")}
    for part in ("known", "sphering", "controls"):
        held = getattr(trust, part)
        if held is not None:
            arrays |= {f"{part}_{name}": value for name, value in asdict(held).items()}
    return arrays


def trust_numbers(trust: Trust) -> dict[str, Any]:
    """All of a `Trust` that is not an array, for JSON."""
    return {"coverage": trust.coverage, "rate": trust.rate,
            "sets": {level: asdict(limits) for level, limits in trust.sets.items()}}


def trust_from(numbers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Trust:
    """A `Trust` from what `trust_numbers` and `trust_arrays` gave."""
    def part(name: str, kind: Any) -> Any:
        keys = [field.name for field in fields(kind)]
        if f"{name}_{keys[0]}" not in arrays:
            return None
        return kind(**{key: arrays[f"{name}_{key}"] for key in keys})

    return Trust(
        coverage=float(numbers["coverage"]), rate=float(numbers["rate"]),
        sets={level: Limits(tuple(map(float, said["limits"])), tuple(map(bool, said["own"])))
              for level, said in numbers["sets"].items()},
        known=part("known", KnownCompounds), sphering=part("sphering", Sphering),
        controls=part("controls", ControlPlates),
        **{name: arrays[name] for name in ("groups", "compounds", "mechanisms", "labels")})
