"""A page for predictions: the compounds that nobody has annotated, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from moascope.drawing.page import render_page
from moascope.errors import MoascopeError
from moascope.evaluation.active import COLUMN as ACTIVITY
from moascope.evaluation.active import is_inactive, with_activity
from moascope.explanation.compounds import compound_shares
from moascope.explanation.out_of_fold import is_linear
from moascope.explanation.shares import Share, share_table
from moascope.explanation.sight import sight_of
from moascope.features.table import FeatureTable
from moascope.learning.calls import (
    BATCH,
    CALL,
    CONTROL,
    EARLIER,
    INACTIVE,
    NOVEL,
    NOVELTY,
    SET,
    UNDECIDED,
    with_inactive,
)
from moascope.learning.joining import with_layout
from moascope.learning.model import TrainedModel
from moascope.learning.predictor import nearest_training, predict_features
from moascope.report.compounds import (
    Picture,
    plate_pictures,
    typical_pictures,
    typical_site,
)
from moascope.report.crop_maps import MOST_MAPS, CropMap, check_words, crop_map
from moascope.screen.compounds import compound_group, name_key
from moascope.screen.tables import Screen
from moascope.text import class_name, tidy

PAGE = "predictions.html"
TEMPLATE = "predictions.html.jinja"
MOST_PICTURES = 40      # compounds with pictures: about 25 kB each
MOST_ENTRIES = 1000
NEIGHBOURS = 3
MOST_SHARES = 5         # of a kind


@dataclass(frozen=True)
class Neighbour:
    """An annotated compound that looks alike."""

    compound: str
    mechanism: str
    similarity: float


@dataclass(frozen=True)
class Entry:
    """What the page says of one compound.

    By `name` the explorer knows the compound; `compound` is shown.
    """

    rank: int
    name: str
    compound: str
    call: str
    reason: str
    probability: float
    classes: str
    within: str
    agreeing: int
    wells: int
    doses: tuple[str, ...]
    activity: str
    novelty: float
    batch: str
    neighbours: tuple[Neighbour, ...]
    rests_on: tuple[tuple[str, tuple[Share, ...]], ...]
    pictures: tuple[Picture, ...] = field(default=())
    map: CropMap | None = None


class PredictionPage(NamedTuple):
    """The page, and the shares on it of all groups as a table of `share_table`."""

    text: str
    shares: pd.DataFrame


def prediction_page(model: TrainedModel, screen: Screen, table: FeatureTable,
                    compounds: pd.DataFrame, prepared: Path, *, known: Collection[str] = (),
                    simulated: bool = False) -> PredictionPage:
    """A page on the compounds of a screen that the model was not trained on.

    Parameters
    ----------
    model : TrainedModel
    screen : Screen
    table : FeatureTable
        Its features; see `learning.predictor.screen_features`.
    compounds : DataFrame
        `ActivityResult.compounds`.
    prepared : Path
        Prepared plates; without them there are no pictures.
    known : collection of str
        Compounds that are left out although the model was not trained on them.
    simulated : bool

    Returns
    -------
    PredictionPage
        One HTML file that loads nothing from elsewhere. The same input gives the same text. The
        first `MOST_PICTURES` compounds have pictures, and at most `MOST_ENTRIES` are listed.

    Raises
    ------
    MoascopeError
        Where the model was trained by an earlier version.
    """
    if model.trust is None:
        raise MoascopeError(EARLIER)
    found, said = [], partial(class_name, target=model.question.target)
    left_out, shares = 0, share_table({}, {})
    if model.question.unit == "compound":
        found, left_out, shares = _entries(model, screen, table, compounds, prepared, known, said)
    calls = pd.Series([one.call for one in found], dtype=object).value_counts()
    channels = next((one.pictures[0].channels for one in found if one.pictures), ())
    return PredictionPage(render_page(
        "moascope.report", TEMPLATE, entries=found[:MOST_ENTRIES], count=len(found),
        left_out=left_out, most_pictures=MOST_PICTURES, channels=channels,
        has_images=bool(screen.channels), simulated=simulated, calls=list(calls.items()),
        binary=model.question.binary, positive=said(model.question.classes[1]),
        verdict=model.verdict, linear=is_linear(model.head),
        checks=check_words([one.map for one in found if one.map]), most_maps=MOST_MAPS,
        coverage=model.trust.coverage, unit=model.question.unit), shares)


def _entries(model: TrainedModel, screen: Screen, table: FeatureTable, compounds: pd.DataFrame,
             prepared: Path, known: Collection[str], said: Callable[[str], str]
             ) -> tuple[list[Entry], int, pd.DataFrame]:
    """All compounds that are not known, the likeliest first; how many are left out; the shares."""
    units, wells, sites = (predict_features(model, screen, table, level)[0]
                           for level in ("compound", "well", "site"))
    units = with_activity(units, compounds)
    units = with_inactive(units, is_inactive(units), model)
    units = units[units[CALL] != CONTROL]
    near = nearest_training(model, screen, table, NEIGHBOURS)
    trained = set(near.loc[near["Trained"].astype(bool), "Metadata_Compound"])
    # Without controls there are no neighbours, but the model still knows its compounds by name.
    seen = set(model.trained_on or ())
    own = np.array([name not in trained and name not in known
                    and seen.isdisjoint({compound_group(name), name_key(name)})
                    for name in units["Metadata_Compound"]], bool)
    left_out, units = int((~own).sum()), units[own].reset_index(drop=True)
    question = model.question
    of_class = units[question.probabilities].to_numpy(float)
    # A binary target ranks by the positive class, several classes by the predicted one.
    best = np.ones(len(units), int) if question.binary else of_class.argmax(axis=1)
    probability = of_class[np.arange(len(units)), best]
    meta = with_layout(table.meta, screen.layout)
    controls = meta[(meta["Metadata_Control"] == "negative") & meta["QC_Pass"].astype(bool)]
    of_plate = cache(lambda plate: plate_pictures(prepared, plate))
    sight = sight_of(model, screen, table) if screen.channels else None
    by_well, by_site = wells.groupby("Metadata_Compound"), sites.groupby("Metadata_Compound")
    by_name = near.groupby("Metadata_Compound")
    found = []
    order = np.lexsort((units["Metadata_Compound"].to_numpy(str), -probability))
    explained = {units["Metadata_Compound"].iloc[at]: int(best[at]) for at in order[:MOST_ENTRIES]}
    rests_on = compound_shares(model, screen, table, explained)
    for rank, at in enumerate(order, start=1):
        unit, meant = units.iloc[at], question.classes[best[at]]
        name = unit["Metadata_Compound"]
        of_wells = by_well.get_group(name)
        agree = (of_wells["Predicted"] == meant).to_numpy()
        typical, looked = None, None
        if rank <= MOST_PICTURES:
            typical = typical_site(by_site.get_group(name), f"P_{meant}", controls, of_plate)
        if typical is not None and rank <= MOST_MAPS and sight is not None:
            looked = crop_map(sight, typical, int(best[at]))
        found.append(Entry(
            rank=rank, name=tidy(name), compound=tidy(name, 80), call=said(unit[CALL]),
            reason=call_reason(unit[CALL], unit[SET], float(probability[at]), meant, model, said),
            probability=float(probability[at]), classes=said(meant),
            within=", ".join(said(one) for one in unit[SET].split("|") if one),
            agreeing=int(agree.sum()), wells=len(agree), doses=_doses(of_wells, agree),
            activity=unit[ACTIVITY], novelty=float(unit[NOVELTY]), batch=unit[BATCH],
            neighbours=tuple(
                Neighbour(tidy(row.Nearest.replace("|", ", "), 80), tidy(row.Metadata_MoA, 80),
                          float(row.Similarity))
                for row in (by_name.get_group(name).itertuples() if name in by_name.groups
                            else ())),
            rests_on=_by_kind(rests_on.get(name, ())),
            pictures=typical_pictures(typical), map=looked))
    return found, left_out, share_table(
        rests_on, {name: question.classes[about] for name, about in explained.items()})


def call_reason(call: str, within: str, probability: float, meant: str, model: TrainedModel,
                said: Callable[[str], str]) -> str:
    """Why a compound has its call, in sentences for somebody who knows no conformal prediction.

    Parameters
    ----------
    call, within : str
        `Call` and `Set` of its prediction.
    probability : float
        Of the class `meant`.
    meant : str
    model : TrainedModel
    said : callable
        From a class to how it is shown.
    """
    trust, question = model.trust, model.question
    assert trust is not None
    expected = ("more than 99" if probability > 0.995 else "fewer than 1" if probability < 0.005
                else f"about {100 * probability:.0f}")
    likely = f"Of 100 compounds with this probability, {expected} should be {said(meant)}"
    if len(trust.labels):
        likely += f"; of random ones, {100 * (trust.labels == meant).mean():.0f} are"
    coverage = f"{100 * trust.coverage:.0f} %"
    if call == INACTIVE:
        ground = ("It looks like the negative controls, and this model is not known to tell such "
                  "compounds apart")
    elif call == NOVEL:
        ground = (f"It is further from the training compounds than all but "
                  f"{100 * trust.rate:.0f} % of them are from one another")
    elif call == UNDECIDED and within:
        ground = f"{' and '.join(map(said, within.split('|')))} cannot be told apart at {coverage}"
    elif call == UNDECIDED:
        ground = "It fits no class: each is excluded"
    elif question.binary:
        other = next(name for name in question.classes if name != call)
        ground = (f"It is called because at most {100 * (1 - trust.coverage):.0f} % of the "
                  f"compounds that are {said(other)} score as "
                  f"{'high' if call == question.classes[1] else 'low'}")
    else:
        ground = f"Every other class is excluded at {coverage}"
    return f"{likely}. {ground}."


def _by_kind(shares: tuple[Share, ...]) -> tuple[tuple[str, tuple[Share, ...]], ...]:
    """The largest shares of each kind, the channels first."""
    kinds = dict.fromkeys(share.kind for share in shares)
    return tuple((kind, tuple(replace(share, group=tidy(share.group, 40)) for share in shares
                              if share.kind == kind)[:MOST_SHARES]) for kind in kinds)


def _doses(wells: pd.DataFrame, agree: np.ndarray) -> tuple[str, ...]:
    """How many wells of each dose are predicted the class by themselves."""
    dose = wells["Metadata_Concentration_uM"].to_numpy(float)
    given = [(value, dose == value) for value in np.unique(dose[np.isfinite(dose)])]
    return tuple(f"{value:g}\u00a0µM: {int(agree[own].sum())} of {int(own.sum())}"
                 for value, own in given)
