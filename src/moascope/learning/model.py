"""A trained model as one folder: all that turns the three tables of a screen into predictions.

Training and serving go through the same functions; what differs between models is data in the
folder: `model.json`, `heads_<number>.npz`, `sphering.npz` and, for deep backbones, their weights.
What a model predicts of a screen is in `learning.predictor`, so that what writes and scores models
does not depend on how images are prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.normalise import Sphering
from moascope.learning.calibration import Calibration
from moascope.learning.head import FittedHeads
from moascope.learning.simple import KEPT_AS, Fitted
from moascope.learning.trust import Trust, trust_arrays, trust_from, trust_numbers
from moascope.opening import MOST_JSON, parse_json, read_arrays, read_file
from moascope.params import Embed, Head, Prepare, Train
from moascope.params_file import parse_params
from moascope.screen.compounds import compound_group, name_key
from moascope.screen.question import Question
from moascope.text import explained
from moascope.work.files import write_json

DESCRIPTION = "model.json"
SPHERING = "sphering.npz"
TRUST = "trust.npz"
VERDICT = "verdict.json"
WEIGHTS = "backbone_{}{}"
USEFUL, IN_PART, CHANCE = "better than chance", "not better than cell count or layout", "chance"
VERDICTS = (USEFUL, IN_PART, CHANCE)
"""What a model's evaluation may find of it."""


@dataclass(frozen=True)
class TrainedModel:
    """A model in memory.

    Attributes
    ----------
    heads : dict
        Panel -> heads, a single one of each; "" where panels are pooled.
    sphering : Sphering or None
        Of the training screen's controls, where features were sphered.
    names : tuple of str
        The features, in the order that the heads take.
    channels : tuple of str
        Of the training screen.
    controls : bool
        Whether features were standardised by negative controls in training.
    weights : dict
        Backbone -> the file that it needs.
    trained_on : tuple of str or None
        The units of training as `identities` names them; None where the model does not record them.
    trust : Trust or None
        What it needs to abstain; None in models of earlier versions.
    verdict : str
        What its evaluation found, one of `VERDICTS`; empty where it was not evaluated.
    ranks_inactive : bool
        Whether its evaluation showed that it ranks compounds that look like the controls better
        than chance.
    """

    question: Question
    heads: dict[str, Fitted]
    panels: tuple[str, ...]
    calibrations: dict[str, Calibration]
    sphering: Sphering | None
    names: tuple[str, ...]
    channels: tuple[str, ...]
    controls: bool
    prepare: Prepare
    embed: Embed
    head: Head
    train: Train
    weights: dict[str, Path] = field(default_factory=dict)
    trained_on: tuple[str, ...] | None = None
    trust: Trust | None = None
    verdict: str = ""
    ranks_inactive: bool = False


def identities(groups: pd.DataFrame, unit: str) -> list[set[str]]:
    """The words by which each unit is recognised in another screen, or after an annotation changed.

    Parameters
    ----------
    groups : DataFrame, [G]
        `Metadata_Group` and `Metadata_Compound` (names joined by `|`).
    unit : {"compound", "well"}
        A compound is known by its group and by each of its names, because adding an InChIKey
        changes the group; a well by its group alone.

    Returns
    -------
    list of set of str, [G]
    """
    known = [{group} for group in groups["Metadata_Group"]]
    if unit == "compound":
        for words, names in zip(known, groups["Metadata_Compound"], strict=True):
            for name in names.split("|"):
                words |= {compound_group(name), name_key(name)}
    return known


def save_model(model: TrainedModel, folder: Path) -> None:
    """Write a model folder, which `read_model` reads. No pickle is involved.

    Parameters
    ----------
    model : TrainedModel
    folder : Path
        Made where it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, heads in enumerate(model.heads.values()):
        np.savez(folder / f"heads_{number}.npz", **_arrays(heads))
    if model.sphering is not None:
        np.savez(folder / SPHERING, **asdict(model.sphering))
    if model.trust is not None:
        np.savez(folder / TRUST, **trust_arrays(model.trust))
    copies = {}
    for number, (name, file) in enumerate(model.weights.items()):
        copies[name] = WEIGHTS.format(number, file.suffix)
        (folder / copies[name]).write_bytes(file.read_bytes())
    description = {
        **asdict(model.question),
        "heads": list(model.heads),
        "panels": model.panels,
        "calibrations": {level: asdict(c) for level, c in model.calibrations.items()},
        "names": model.names,
        "channels": model.channels,
        "controls": model.controls,
        "prepare": model.prepare.model_dump(),
        "embed": model.embed.model_dump() | {"weights": copies},
        "head": model.head.model_dump(),
        # What is served is the head on frozen features.
        "train": model.train.model_dump(exclude={"fine_tune"}),
        "trained_on": model.trained_on,
        "trust": None if model.trust is None else trust_numbers(model.trust),
    }
    write_json(folder / DESCRIPTION, description)


def write_verdict(folder: Path, above_chance: bool, useful: bool,
                  ranks_inactive: bool = False) -> None:
    """Keep in a model folder what its evaluation found.

    Parameters
    ----------
    folder : Path
        As `save_model` wrote it.
    above_chance, useful : bool
        Of metrics.json: better than permuted labels; better than what sees no biology.
    ranks_inactive : bool
        Of metrics.json, by `evaluation.active.ranks_inactive`.
    """
    write_json(folder / VERDICT, {"verdict": verdict_of(above_chance, useful),
                                  "ranks_inactive": ranks_inactive})


def verdict_of(above_chance: bool, useful: bool) -> str:
    """One of `VERDICTS`; see `write_verdict`."""
    return CHANCE if not above_chance else USEFUL if useful else IN_PART


def _arrays(heads: Fitted) -> dict[str, np.ndarray]:
    if not isinstance(heads, FittedHeads):
        return {field.name: getattr(heads, field.name) for field in fields(heads)}
    return {"mean": heads.mean, "scale": heads.scale, "epochs": heads.epochs, "loss": heads.loss,
            **{f"kernel_{i}": kernel for i, kernel in enumerate(heads.kernels)},
            **{f"bias_{i}": bias for i, bias in enumerate(heads.biases)}}


def _fitted(head: Head, arrays: Mapping[str, np.ndarray]) -> Fitted:
    if head.head in KEPT_AS:
        kept = KEPT_AS[head.head]
        return kept(**{field.name: arrays[field.name] for field in fields(kept)})
    depth = (head.layers if head.head == "network" else 0) + 1
    return FittedHeads(head, arrays["mean"], arrays["scale"],
                       [arrays[f"kernel_{i}"] for i in range(depth)],
                       [arrays[f"bias_{i}"] for i in range(depth)],
                       arrays["epochs"], arrays["loss"])


def read_model(folder: Path) -> TrainedModel:
    """Read a model folder.

    Parameters
    ----------
    folder : Path
        As `save_model` writes it, by this version or an earlier one.

    Raises
    ------
    MoascopeError
        When the folder holds no model.
    """
    try:
        return _load(folder, parse_json(read_file(folder / DESCRIPTION, MOST_JSON)))
    except (FileNotFoundError, NotADirectoryError) as error:
        lacks = Path(error.filename or DESCRIPTION).name
        raise MoascopeError(f"{folder} is not a moascope model: it has no {lacks}.") from None
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError,
            ValueError) as error:
        raise MoascopeError(f"{folder} is damaged and cannot be read as a moascope model "
                            f"({explained(error)}). Copy it again, or train it again.") from None


def _load(folder: Path, description: Any) -> TrainedModel:
    # Earlier versions kept the level that a head was trained on elsewhere.
    head = Head(**{"level": description["train"].get("level")} | description["head"])
    heads = {}
    for number, panel in enumerate(description["heads"]):
        heads[panel] = _fitted(head, read_arrays(folder / f"heads_{number}.npz"))
    sphering = (Sphering(**read_arrays(folder / SPHERING)) if (folder / SPHERING).exists()
                else None)
    # Not a path: a model from elsewhere reads no file of this machine.
    weights = {name: folder / Path(file).name
               for name, file in description["embed"].pop("weights").items()}
    trained_on, trust = description.get("trained_on"), description.get("trust")
    verdict, ranks_inactive = _verdict(folder / VERDICT)
    # Earlier versions looked at every crop once.
    description["embed"] = {"turns": 1} | description["embed"]
    sections = parse_params({key: description[key] for key in ("prepare", "embed", "train")})
    return TrainedModel(
        question=Question.from_dict(description),
        heads=heads,
        panels=tuple(description["panels"]),
        calibrations={level: Calibration(**c) for level, c in description["calibrations"].items()},
        sphering=sphering,
        names=tuple(description["names"]),
        channels=tuple(description["channels"]),
        controls=description["controls"],
        prepare=sections.prepare,
        embed=sections.embed,
        head=head,
        train=sections.train,
        weights=weights,
        trained_on=None if trained_on is None else tuple(trained_on),
        trust=None if trust is None else trust_from(trust, read_arrays(folder / TRUST)),
        verdict=verdict,
        ranks_inactive=ranks_inactive,
    )


def _verdict(file: Path) -> tuple[str, bool]:
    if not file.exists():
        return "", False
    said = parse_json(read_file(file, MOST_JSON))
    if said["verdict"] not in VERDICTS:
        raise ValueError(f"{file.name} has the verdict '{said['verdict']}'")
    # Earlier versions did not keep this.
    return said["verdict"], said.get("ranks_inactive", False) is True
