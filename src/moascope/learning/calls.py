"""What is said of a prediction: called, undecided, novel, or a control, and on what ground."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from moascope.learning.examples import Examples
from moascope.learning.model import CHANCE, IN_PART, TrainedModel
from moascope.learning.trust import Trust, consensus_profiles
from moascope.screen.compounds import compound_group
from moascope.screen.question import Question
from moascope.text import class_name, counted, listing

CALL, SET, NEAREST, SIMILARITY, NOVELTY, BATCH, MODEL = (
    "Call", "Set", "Nearest", "Nearest_Similarity", "Novelty_P", "Batch", "Model")
CONTROL, INACTIVE, NOVEL, UNDECIDED = "control", "inactive", "novel", "undecided"
OTHERS = (UNDECIDED, INACTIVE, NOVEL, CONTROL)
LIKE, UNLIKE = "like training", "unlike training"
NOT_EVALUATED = "not evaluated"
EARLIER = ("This model was trained by an earlier version: it cannot say which compounds are "
           "undecided or novel, or whether the plates are like those of training. Train it again "
           "for these columns.")


def without_controls(predictions: pd.DataFrame, control: np.ndarray) -> pd.DataFrame:
    """A predictions table in which negative controls have no predicted class."""
    return predictions.assign(Predicted=predictions["Predicted"].mask(control, ""))


def controls_among(units: pd.DataFrame, sites: Examples) -> np.ndarray:
    """Which units are negative controls, through and through.

    Parameters
    ----------
    units : DataFrame, [u]
        From `averaging`.
    sites : Examples
        Where wells are the question's units, a control well is scored like any other.

    Returns
    -------
    ndarray, bool, [u]
    """
    if sites.question.unit != "compound":
        return np.zeros(len(units), bool)
    negative = (sites.meta["Metadata_Control"] == "negative").to_numpy()
    group = units["Group"].to_numpy()
    own = (units["Metadata_Control"] == "negative").to_numpy()
    all_negative = np.ones(len(sites.groups) + 1, bool)
    all_negative[sites.group[~negative]] = False
    return np.where(group >= 0, own & all_negative[group], own)


def with_calls(predictions: pd.DataFrame, units: pd.DataFrame, control: np.ndarray, level: str,
               model: TrainedModel, trust: Trust, sites: Examples, raw: np.ndarray,
               normalising: np.ndarray) -> pd.DataFrame:
    """A predictions table with what it is worth.

    Parameters
    ----------
    predictions : DataFrame, [u]
    units : DataFrame, [u]
        From `averaging`.
    control : ndarray, bool, [u]
    level : {"site", "well", "compound"}
    model : TrainedModel
    trust : Trust
    sites : Examples
        Sites that count.
    raw : ndarray, float32, [n, d]
        Their features before normalisation.
    normalising : ndarray, bool, [n]
        Negative controls among them that passed quality control.

    Returns
    -------
    DataFrame
        With `Set` (the classes that cannot be excluded at the model's coverage, joined by `|`),
        `Nearest` (the most similar other training compound), `Nearest_Similarity` (cosine),
        `Novelty_P` (see `KnownCompounds.p_values`), `Batch` (whether the controls of its plates are
        like those of training; empty: not tested), `Call` and `Model` (the verdict of the model's
        own evaluation).
    """
    question = model.question
    found = predictions.copy()
    within = trust.sets[level].sets(predictions[question.probabilities].to_numpy(float))
    within[control] = False
    found[SET] = ["|".join(np.array(question.classes)[row]) for row in within]
    found[[NEAREST, SIMILARITY, NOVELTY]] = _nearest(trust, units["Group"].to_numpy(), control,
                                                     sites, raw, normalising)
    found[BATCH] = _batches(trust, units, level, sites, raw, normalising)
    single = within.sum(axis=1) == 1
    call = np.where(single, np.array(question.classes, dtype=object)[within.argmax(axis=1)],
                    UNDECIDED)
    call = np.where(found[NOVELTY] <= trust.rate, NOVEL, call)
    found[CALL] = np.where(control, CONTROL, call)
    found[MODEL] = model.verdict or NOT_EVALUATED
    return found


def _nearest(trust: Trust, group: np.ndarray, control: np.ndarray, sites: Examples,
             raw: np.ndarray, normalising: np.ndarray) -> pd.DataFrame:
    nothing = pd.DataFrame({NEAREST: [""] * len(group), SIMILARITY: np.nan, NOVELTY: np.nan})
    if trust.known is None or not normalising.any() or len(trust.groups) < 2:
        return nothing
    profiles, of = consensus_profiles(trust, sites, raw, normalising)
    itself = own_positions(trust, sites, of)
    index, distance = trust.known.nearest(profiles, itself)
    p = trust.known.p_values(distance)
    row = np.full(len(sites.groups) + 1, -1)
    row[of] = np.arange(len(of))
    at = row[group]
    known = (at >= 0) & ~control
    nothing.loc[known, NEAREST] = trust.compounds[index[at[known]]]
    nothing.loc[known, SIMILARITY] = 1 - distance[at[known]].astype(float)
    nothing.loc[known, NOVELTY] = p[at[known]]
    return nothing


def own_positions(trust: Trust, sites: Examples, group: np.ndarray) -> np.ndarray:
    """Where compounds of a screen are themselves among those of training; -1: nowhere.

    Parameters
    ----------
    trust : Trust
    sites : Examples
    group : ndarray, int, [units]
        Rows of `sites.groups`.
    """
    place: dict[str, int] = {}
    for position, (key, names) in enumerate(zip(trust.groups, trust.compounds, strict=True)):
        place |= dict.fromkeys([str(key), *map(compound_group, str(names).split("|"))], position)
    names = sites.meta.groupby(sites.group)["Metadata_Compound"].unique()
    found = []
    for one in group:
        words = [sites.groups["Metadata_Group"].iloc[one], *map(compound_group, names[one])]
        found.append(next((place[word] for word in words if word in place), -1))
    return np.array(found, int)


def _batches(trust: Trust, units: pd.DataFrame, level: str, sites: Examples, raw: np.ndarray,
             normalising: np.ndarray) -> np.ndarray:
    if trust.controls is None or not normalising.any():
        return np.full(len(units), "", dtype=object)
    apart = trust.controls.distances(sites.meta[normalising], raw[normalising])
    tested = sites.meta[["Metadata_Plate", "Metadata_Panel"]].merge(
        apart, on=["Metadata_Plate", "Metadata_Panel"], how="left")
    # One plate that is unlike is enough for a compound.
    worst = (tested["Distance"] / tested["Limit"]).to_numpy()
    if level == "compound":
        by = pd.Series(worst).groupby(sites.group).max()
        worst = by.reindex(units["Group"]).to_numpy()
    else:
        plate = pd.Series(worst, index=pd.MultiIndex.from_frame(
            sites.meta[["Metadata_Plate", "Metadata_Panel"]]))
        plate = plate[~plate.index.duplicated()]
        worst = plate.reindex(pd.MultiIndex.from_frame(
            units[["Metadata_Plate", "Metadata_Panel"]])).to_numpy()
    return np.where(np.isnan(worst), "", np.where(worst > 1, UNLIKE, LIKE)).astype(object)


def with_inactive(predictions: pd.DataFrame, inactive: np.ndarray,
                  model: TrainedModel) -> pd.DataFrame:
    """A table of calls in which compounds that look like the controls are called inactive.

    Parameters
    ----------
    predictions : DataFrame, [u]
        From `with_calls`; others are returned as they are.
    inactive : ndarray, bool, [u]
    model : TrainedModel
        Where its evaluation showed that it ranks inactive compounds better than chance, it sees
        what the test of activity misses, and its own answer stands.
    """
    if CALL not in predictions or model.ranks_inactive:
        return predictions
    return predictions.assign(Call=predictions[CALL].mask(
        inactive & (predictions[CALL] != CONTROL).to_numpy(), INACTIVE))


def call_warnings(model: TrainedModel, trust: Trust,
                  predictions: pd.DataFrame) -> tuple[str, ...]:
    """What has to be said before any of the calls is believed.

    Parameters
    ----------
    model : TrainedModel
    trust : Trust
    predictions : DataFrame
        From `with_calls`.
    """
    said = []
    if model.verdict == CHANCE:
        said.append("By its own evaluation this model is not better than chance. Do not act on its "
                    "calls.")
    if model.verdict == IN_PART:
        said.append("By its own evaluation this model is better than chance, but not better than "
                    "cell count, intensity or plate layout alone.")
    if trust.known is not None and 1 / (1 + len(trust.groups)) > trust.rate:
        said.append(f"{counted(len(trust.groups), 'training compound')} are too few to call "
                    f"another one novel at a rate of {trust.rate:.0%}.")
    if not any(limits.decides for limits in trust.sets.values()):
        said.append("The training compounds are too few to exclude any class at a coverage of "
                    f"{trust.coverage:.0%}, so every prediction is undecided. Lower "
                    "train.coverage or annotate more compounds.")
    unlike = predictions[BATCH] == UNLIKE
    if unlike.any():
        plates = sorted(set(predictions.loc[unlike, "Metadata_Plate"])
                        if "Metadata_Plate" in predictions else ())
        named = f" ({listing(plates, 5)})" if plates else ""
        said.append(f"The controls of {int(unlike.sum())} of {len(predictions)} rows{named} are "
                    "unlike those of the training plates: another batch, instrument or stain. "
                    "Coverage is not guaranteed there.")
    return tuple(said)


def summary(predictions: pd.DataFrame, question: Question, level: str,
            inactive: np.ndarray | None = None) -> str:
    """How many are called, undecided, inactive and novel, in lines of at most 80 characters.

    Parameters
    ----------
    predictions : DataFrame, [u]
        From `with_inactive`.
    question : Question
    level : {"site", "well", "compound"}
    inactive : ndarray, bool, [u], optional
        Which look like the controls; those that are called something else are counted.
    """
    noun = {"site": "site", "well": "well", "compound": "compound"}[level]
    calls = predictions[CALL]
    treated = calls[calls != CONTROL]
    called = treated[treated.isin(question.classes)]
    each = [f"{count} {class_name(name, question.target)}"
            for name, count in called.value_counts().items()]
    lines = [f"{counted(len(treated), noun)}: {len(called)} called"
             + (f" ({listing(each, 4)})" if each else "") + ", "
             + ", ".join(f"{int((treated == word).sum())} {word}"
                         for word in (UNDECIDED, INACTIVE, NOVEL)) + "."]
    of_call = predictions.loc[called.index, question.probabilities].to_numpy(float)
    unlikely = int((of_call[np.arange(len(called)), question.index(called)] < 0.5).sum())
    if unlikely:
        lines.append(f"{unlikely} of the {counted(len(called), 'call')} "
                     f"{'has' if unlikely == 1 else 'have'} a probability below 0.5: a class is "
                     "called because every other one is excluded, which may leave a rare one that "
                     "is likelier than in a random compound, but not likelier than not.")
    if inactive is not None:
        alike = inactive & (calls != CONTROL).to_numpy()
        other = int((alike & (calls != INACTIVE).to_numpy()).sum())
        if other:
            lines.append(f"{other} of the {len(treated)} look like DMSO (column Activity). This "
                         "model was shown to rank such compounds better than chance, so its "
                         "calls stand.")
    controls = len(calls) - len(treated)
    if controls:
        lines.append(f"{counted(controls, 'control')} {'gets' if controls == 1 else 'get'} no "
                     "mechanism.")
    return "\n".join(textwrap.fill(line, 80, break_long_words=False, break_on_hyphens=False)
                     for line in lines)
