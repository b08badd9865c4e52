"""A trained model as one folder: everything from the three tables to predictions.

Training and serving go through the same functions; what differs between models is data in the
folder: `model.json`, `heads_<number>.npz`, `sphering.npz` and, for deep backbones, their weights.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.normalise import Sphering, apply_sphering, standardise_plates
from moascope.features.table import FeatureTable
from moascope.learning.calibration import Calibration
from moascope.learning.examples import LEVELS, WELL_KEY, Examples, averaging, with_layout
from moascope.learning.head import FittedHeads
from moascope.learning.panels import POOLED, predict_by_panel
from moascope.opening import MOST_JSON, parse_json, read_file
from moascope.params import Embed, Head, Prepare, Train, parse_params
from moascope.screen.compounds import compound_group, compound_groups, name_key
from moascope.screen.question import Question
from moascope.screen.tables import Screen
from moascope.text import cause
from moascope.work.files import write_json

DESCRIPTION = "model.json"
SPHERING = "sphering.npz"
WEIGHTS = "backbone_{}{}"


@dataclass(frozen=True, repr=False)
class Predictor:
    """A model in memory.

    Attributes
    ----------
    heads : dict
        Panel -> FittedHeads with a single head; "" where panels are pooled.
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
    """

    question: Question
    heads: dict[str, FittedHeads]
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

    def predict(self, screen: Screen, level: str = "compound", jobs: int = 1) -> pd.DataFrame:
        """Predict a screen that the model need not have seen.

        Parameters
        ----------
        screen : Screen
            Its annotations are not read. Negative controls must be marked in the layout where the
            model was trained with them.
        level : {"site", "well", "compound"}
            What one row of the predictions is.
        jobs : int
            Processes that prepare plates.

        Returns
        -------
        DataFrame
            One row per unit: its `Metadata_` columns, `P_<class>` (float, 0 to 1) for every class,
            and `Predicted` (one of the classes).

        Raises
        ------
        MoascopeError
            When the level is unknown, channels or controls that the model needs are missing, or no
            site can be used.

        Warns
        -----
        UserWarning
            For each site that was left out, with the reason.

        Examples
        --------
        >>> model = moascope.load_model("models:/moascope@candidate")
        >>> wells = model.predict(screen, level="well")
        """
        predictions, left_out = predict_screen(self, screen, level, jobs)
        for sentence in left_out:
            warnings.warn(sentence, stacklevel=2)
        return predictions

    def __repr__(self) -> str:
        classes = ", ".join(self.question.classes)
        return (f"Predictor(target {self.question.target}: {classes}; {self.embed.backbone} "
                f"features of {', '.join(self.channels)})")


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


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Write a model folder, which `load_predictor` reads. No pickle is involved.

    Parameters
    ----------
    predictor : Predictor
    folder : Path
        Made where it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, heads in enumerate(predictor.heads.values()):
        arrays = {"mean": heads.mean, "scale": heads.scale, "epochs": heads.epochs,
                  "loss": heads.loss}
        arrays |= {f"kernel_{i}": kernel for i, kernel in enumerate(heads.kernels)}
        arrays |= {f"bias_{i}": bias for i, bias in enumerate(heads.biases)}
        np.savez(folder / f"heads_{number}.npz", **arrays)
    if predictor.sphering is not None:
        np.savez(folder / SPHERING, **asdict(predictor.sphering))
    copies = {}
    for number, (name, file) in enumerate(predictor.weights.items()):
        copies[name] = WEIGHTS.format(number, file.suffix)
        (folder / copies[name]).write_bytes(file.read_bytes())
    description = {
        **asdict(predictor.question),
        "heads": list(predictor.heads),
        "panels": predictor.panels,
        "calibrations": {level: asdict(c) for level, c in predictor.calibrations.items()},
        "names": predictor.names,
        "channels": predictor.channels,
        "controls": predictor.controls,
        "prepare": predictor.prepare.model_dump(),
        "embed": predictor.embed.model_dump() | {"weights": copies},
        "head": predictor.head.model_dump(),
        # What is served is the head on frozen features.
        "train": predictor.train.model_dump(exclude={"fine_tune"}),
        "trained_on": predictor.trained_on,
    }
    write_json(folder / DESCRIPTION, description)


def load_predictor(folder: Path) -> Predictor:
    """Read a model folder.

    Parameters
    ----------
    folder : Path
        As `save_predictor` writes it, by this version or an earlier one.

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
    except (ArithmeticError, AttributeError, EOFError, LookupError, OSError, TypeError, ValueError,
            zipfile.BadZipFile) as error:
        raise MoascopeError(f"{folder} is damaged and cannot be read as a moascope model "
                            f"({cause(error)}). Copy it again, or train it again.") from None


def _load(folder: Path, description: Any) -> Predictor:
    head = Head(**description["head"])
    heads = {}
    for number, panel in enumerate(description["heads"]):
        with np.load(folder / f"heads_{number}.npz", allow_pickle=False) as arrays:
            depth = head.layers + 1
            heads[panel] = FittedHeads(
                head, arrays["mean"], arrays["scale"],
                [arrays[f"kernel_{i}"] for i in range(depth)],
                [arrays[f"bias_{i}"] for i in range(depth)],
                arrays["epochs"],
                arrays["loss"],
            )
    sphering = None
    if (folder / SPHERING).exists():
        with np.load(folder / SPHERING, allow_pickle=False) as arrays:
            sphering = Sphering(**{name: arrays[name] for name in arrays.files})
    weights = {name: folder / file
               for name, file in description["embed"].pop("weights").items()}
    trained_on = description.get("trained_on")
    sections = parse_params({key: description[key] for key in ("prepare", "embed", "train")})
    return Predictor(
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
    )


def predict_screen(
    predictor: Predictor, screen: Screen, level: str, jobs: int = 1
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Predict a screen that the model need not have seen.

    Parameters
    ----------
    predictor : Predictor
    screen : Screen
        Its annotations are not read.
    level : {"site", "well", "compound"}
    jobs : int
        Processes that prepare plates.

    Returns
    -------
    predictions : DataFrame
        One row per unit: its `Metadata_` columns, `P_<class>` for every class, `Predicted`.
    warnings : tuple of str
        Sites that were left out, and why.

    Raises
    ------
    MoascopeError
        When the level is unknown, channels or controls that the model needs are missing, or no
        site can be used.
    """
    from moascope.features.embed import features_of_screen

    if level not in LEVELS:
        raise MoascopeError(f"'{level}' is not a level; choose one of {', '.join(LEVELS)}.")
    check_fits(predictor, screen)
    with contextlib.ExitStack() as scratch:
        # Several processes hand features over on disk.
        work = (Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="moascope-")))
                if jobs > 1 else None)
        table = features_of_screen(
            screen, predictor.prepare, predictor.embed, work, predictor.weights, jobs
        )
    if len(table.meta) == 0:
        raise MoascopeError(["No site of this screen can be used.", *table.warnings])
    sites = sites_of(predictor, screen, table)
    if level != "site":
        sites = sites.take(_counted(table.meta))
    logits = predict_by_panel(predictor.heads, sites, predictor.train)[0]
    return predictions_at(predictor.calibrations[level], sites, logits, level), table.warnings


def check_fits(predictor: Predictor, screen: Screen) -> None:
    """Fail where a screen lacks a channel that the model takes, or has a panel it does not know.

    Parameters
    ----------
    predictor : Predictor
    screen : Screen

    Raises
    ------
    MoascopeError
    """
    missing = [name for name in predictor.channels if name not in screen.channels]
    if missing:
        raise MoascopeError(
            f"The model needs the channels {', '.join(predictor.channels)}; this screen has "
            f"{', '.join(screen.channels)}. Rename its FileName_ columns, or train a model on "
            "screens like it."
        )
    unknown = sorted(set(screen.sites["Metadata_Panel"]) - set(predictor.panels))
    indifferent = predictor.panels == (POOLED,) and predictor.train.panels == "pooled"
    if unknown and not indifferent:
        raise MoascopeError(
            f"The model knows {_panels_said(predictor.panels)}, this screen has "
            f"{_panels_said(tuple(unknown))} (Metadata_Panel in load_data.csv). Name panels as in "
            "training, or empty the column where the model knows none."
        )


def _panels_said(panels: tuple[str, ...]) -> str:
    return ", ".join(f"the panel {name}" if name else "no panel" for name in panels)


def _counted(meta: pd.DataFrame) -> np.ndarray:
    """Sites that count for their well: those that passed quality control, or all where none did."""
    passed = meta["QC_Pass"].astype(bool)
    any_passed = passed.groupby([meta[column] for column in WELL_KEY]).transform("any")
    return (passed | ~any_passed).to_numpy()


def sites_of(predictor: Predictor, screen: Screen, table: FeatureTable) -> Examples:
    """A screen's sites as a trained model takes them; every compound is a unit.

    Parameters
    ----------
    predictor : Predictor
    screen : Screen
        Its annotations are read for InChIKeys alone.
    table : FeatureTable
        As prepared and embedded with the model's own settings.

    Returns
    -------
    Examples
        The rows of `table`, with features normalised as in training.

    Raises
    ------
    MoascopeError
        Where features or negative controls that the model needs are missing.
    """
    order = {name: i for i, name in enumerate(table.names)}
    lacking = [name for name in predictor.names if name not in order]
    if lacking:
        raise MoascopeError(
            f"{len(lacking)} of the {len(predictor.names)} features that the model takes cannot be "
            f"computed here, {lacking[0]} for one. Use the moascope version that the model names."
        )
    meta = with_layout(table.meta, screen.layout)
    names = meta["Metadata_Compound"]
    known, keys = names.unique().tolist(), [""] * names.nunique()
    if "Metadata_InChIKey" in screen.annotations:
        known += screen.annotations["Metadata_Compound"].tolist()
        keys += screen.annotations["Metadata_InChIKey"].tolist()
    unit = names.map(compound_groups(known, keys))
    code = unit.where(names != "").astype("category").cat
    features = table.X[:, [order[name] for name in predictor.names]]
    controls = ((meta["Metadata_Control"] == "negative") & meta["QC_Pass"].astype(bool)).to_numpy()
    if predictor.controls and predictor.head.normalisation != "none":
        if not controls.any():
            raise MoascopeError(
                "The model compares wells with the negative controls of their own plate, and this "
                "screen has none. Mark them in layout.csv (Metadata_Control = negative)."
            )
        standard = standardise_plates(FeatureTable(meta, features, list(predictor.names)), controls)
        features = standard.X
    features = np.nan_to_num(features)
    if predictor.sphering is not None:
        features = apply_sphering(features, predictor.sphering)
    return Examples(
        meta=meta.drop(columns="QC_Pass"),
        features=features,
        names=predictor.names,
        group=code.codes.to_numpy().astype(int),
        groups=pd.DataFrame({"Metadata_Group": code.categories}),
        question=predictor.question,
        panels=predictor.panels,
    )


COLUMNS = {
    "site": ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
             "Metadata_Panel", "Metadata_Compound", "Metadata_Concentration_uM",
             "Metadata_Control"],
    "well": ["Metadata_Plate", "Metadata_Well", "Metadata_Batch", "Metadata_Panel",
             "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"],
    "compound": ["Metadata_Compound"],
}


def predictions_at(
    calibration: Calibration, sites: Examples, logits: np.ndarray, level: str
) -> pd.DataFrame:
    """Predictions of one level from the logits of sites.

    Parameters
    ----------
    calibration : Calibration
        Of that level.
    sites : Examples
    logits : ndarray, float32, [n, C]
    level : {"site", "well", "compound"}
    """
    matrix, units = averaging(sites, level)
    probability = calibration.probability(matrix @ logits)
    return prediction_table(units, probability, calibration.decide(probability),
                            sites.question, level)


def prediction_table(
    units: pd.DataFrame, probability: np.ndarray, predicted: np.ndarray,
    question: Question, level: str,
) -> pd.DataFrame:
    """The predictions table of the contract.

    Parameters
    ----------
    units : DataFrame, [units]
    probability : ndarray, float, [units, C]
    predicted : ndarray, int, [units]
    question : Question
    level : {"site", "well", "compound"}
    """
    table = units[COLUMNS[level]].reset_index(drop=True).copy()
    for index, column in enumerate(question.probabilities):
        table[column] = probability[:, index]
    table["Predicted"] = [question.classes[i] for i in predicted]
    return table
