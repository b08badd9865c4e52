"""The models that take part in a decision, and whether they may be compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.table import FeatureTable, load_features
from moascope.learning.examples import Examples
from moascope.learning.folds import read_folds
from moascope.learning.joining import join_examples
from moascope.learning.model import TrainedModel, identities
from moascope.params import Params
from moascope.screen.tables import Screen, read_screen
from moascope.text import listing
from moascope.work.digests import digest


class UndecidedError(MoascopeError):
    """No fair comparison is possible, so that no model is accepted or refused."""


@dataclass(frozen=True)
class Contender:
    """A registered model that takes part.

    Attributes
    ----------
    version : str
        Its number in the registry.
    run_id : str
        Of the run that trained it.
    model : TrainedModel
    """

    version: str
    run_id: str
    model: TrainedModel


@dataclass(frozen=True)
class Pipeline:
    """Outputs of the pipeline that the gate needs.

    Attributes
    ----------
    screen : Screen
    table : FeatureTable
        Of data/embed.
    examples : Examples
        Sites that passed quality control, with the units and their hold-out.
    embedded, trained : Path
        data/embed and data/train.
    params : Params
    """

    screen: Screen
    table: FeatureTable
    examples: Examples
    embedded: Path
    trained: Path
    params: Params


def load_pipeline(data: Path, params: Params) -> Pipeline:
    """Read the outputs of acquire, embed, split and train from a data folder.

    Raises
    ------
    MoascopeError
        Where one of them is missing.
    """
    wanted = {"acquire": "load_data.csv", "embed": "", "split": "groups.parquet",
              "train": "run.json"}
    missing = [str(data / stage) for stage, file in wanted.items()
               if not (data / stage / file).exists()]
    if missing:
        raise MoascopeError(f"The gate needs what is not there: {listing(missing)}. Run "
                            "`dvc repro` (or `dvc pull`) first.")
    embedded = data / "embed"
    screen, table = read_screen(data / "acquire"), load_features(embedded, on_disk=embedded)
    return Pipeline(
        screen=screen,
        table=table,
        examples=join_examples(table, screen.layout, read_folds(data / "split")),
        embedded=embedded,
        trained=data / "train",
        params=params,
    )


def asked_digest(target: str, table: pd.DataFrame) -> str:
    """Equal for two decisions on the same compounds with the same labels."""
    asked = table[["Metadata_Group", "Label"]].sort_values("Metadata_Group")
    return digest(target, asked)[:16]


def check_comparable(contender: Contender, examples: Examples, alias: str) -> None:
    """Fail where a model answers a question other than the one of the hold-out.

    Parameters
    ----------
    contender : Contender
    examples : Examples
    alias : str
        That it holds or is to get; for the message.
    """
    own = contender.model
    for word, said, asked in (
        ("target", own.question.target, examples.question.target),
        ("classes", ", ".join(own.question.classes), ", ".join(examples.question.classes)),
        ("unit", own.question.unit, examples.question.unit),
    ):
        if said != asked:
            raise UndecidedError(
                f"Version {contender.version} ({alias}) cannot be compared here: its {word} is "
                f"{said}, and that of data/split is {asked}. Give every question a registered "
                "model of its own (register.name in params.yaml), or run `dvc repro` with the "
                f"{word} that version {contender.version} was trained for."
            )


def seen_in_training(contender: Contender, examples: Examples, alias: str) -> np.ndarray:
    """Which units a model was trained on.

    Returns
    -------
    ndarray, bool, [G]

    Raises
    ------
    MoascopeError
        Where the model does not record it: without that, no score of it can be trusted.
    """
    if contender.model.trained_on is None:
        raise UndecidedError(
            f"Version {contender.version} ({alias}) does not record which compounds it was "
            "trained on, so it may have seen the held-out ones. Models registered by this version "
            "of moascope record it: run `dvc repro register report` to register a "
            "new one"
            + ("." if alias == "candidate" else
               f", and remove the alias '{alias}' from version {contender.version} in MLflow.")
        )
    known = set(contender.model.trained_on)
    return np.array([not known.isdisjoint(words)
                     for words in identities(examples.groups, examples.question.unit)], bool)


def unseen_hold_out(
    contenders: dict[str, Contender], examples: Examples, unseen_only: bool
) -> tuple[Examples, int]:
    """The examples with a hold-out on which no contender was trained.

    Parameters
    ----------
    contenders : dict
        Alias -> Contender.
    examples : Examples
    unseen_only : bool
        Exclude what a contender has seen instead of failing.

    Returns
    -------
    examples : Examples
        Rows of excluded units belong to no unit.
    left_out : int
        How many held-out units are excluded.

    Raises
    ------
    MoascopeError
        Where a contender was trained on held-out units.
    """
    held_out = examples.groups["Holdout"].to_numpy(bool)
    names = examples.groups["Metadata_Compound"].to_numpy()
    known = np.zeros(len(held_out), bool)
    problems = []
    for alias, contender in contenders.items():
        seen = seen_in_training(contender, examples, alias) & held_out
        known |= seen
        if seen.any():
            problems.append(
                f"Version {contender.version} ({alias}) was trained on {seen.sum()} of the "
                f"{held_out.sum()} held-out {examples.question.unit}s ({listing(names[seen])}), so "
                "their scores on them say nothing. "
                + ("Run `dvc repro` to train on the current split"
                   if alias == "candidate" else
                   "Restore split.holdout, the target and the annotations")
                + ", or add --unseen-only to use only the others."
            )
    if problems and not unseen_only:
        raise UndecidedError(problems)
    group = np.where(known[examples.group] & (examples.group >= 0), -1, examples.group)
    return replace(examples, group=group, _cache={}), int(known.sum())
