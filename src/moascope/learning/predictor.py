"""What a trained model predicts of a screen that it need not have seen, from images on."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.features.disk import columns_of, mapped, rows_of
from moascope.features.normalise import (
    LEAST_CONTROL_SITES,
    apply_sphering,
    standardise_plates,
)
from moascope.features.table import PROFILES, FeatureTable, profile_columns
from moascope.learning.calls import (
    call_warnings,
    controls_among,
    own_positions,
    with_calls,
    without_controls,
)
from moascope.learning.examples import LEVELS, WELL_KEY, Examples
from moascope.learning.joining import with_layout
from moascope.learning.model import TrainedModel
from moascope.learning.panels import POOLED, predict_by_panel
from moascope.learning.predictions import predictions_at
from moascope.learning.trust import consensus_profiles
from moascope.screen.compounds import compound_groups
from moascope.screen.question import Question
from moascope.screen.tables import Screen
from moascope.text import counted, listing


@dataclass(frozen=True, repr=False)
class Predictor:
    """A trained model that predicts screens.

    Attributes
    ----------
    model : TrainedModel
        What was learned, and the settings that images were prepared with.
    """

    model: TrainedModel

    @property
    def question(self) -> Question:
        """The target and its classes."""
        return self.model.question

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that a screen must have."""
        return self.model.channels

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
            `Predicted` (one of the classes; empty for negative controls), and what it is worth:
            see `learning.calls.with_calls`. Models of earlier versions give no more than
            `Predicted`.

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
        predictions, left_out = predict_screen(self.model, screen, level, jobs)
        for sentence in left_out:
            warnings.warn(sentence, stacklevel=2)
        return predictions

    def __repr__(self) -> str:
        classes = ", ".join(self.question.classes)
        return (f"Predictor(target {self.question.target}: {classes}; {self.model.embed.backbone} "
                f"features of {', '.join(self.channels) or 'wells'})")


def predict_screen(
    model: TrainedModel, screen: Screen, level: str, jobs: int = 1
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Predict a screen that the model need not have seen.

    Parameters
    ----------
    model : TrainedModel
    screen : Screen
        Its annotations are not read.
    level : {"site", "well", "compound"}
    jobs : int
        Processes that prepare plates.

    Returns
    -------
    predictions : DataFrame
        One row per unit: its `Metadata_` columns, `P_<class>` for every class, `Predicted`, and
        the columns of `calls.with_calls` where the model has what they need.
    warnings : tuple of str
        Sites that were left out, and why; plates with too few negative controls; what has to be
        known of the model before its calls are believed.

    Raises
    ------
    MoascopeError
        When the level is unknown, channels or controls that the model needs are missing, or no
        site can be used.
    """
    if level not in LEVELS:
        raise MoascopeError(f"'{level}' is not a level; choose one of {', '.join(LEVELS)}.")
    table = screen_features(model, screen, jobs)
    return predict_features(model, screen, table, level)


def screen_features(model: TrainedModel, screen: Screen, jobs: int = 1,
                    work: Path | None = None) -> FeatureTable:
    """The features that a model takes, of a screen's sites; see `predict_screen`.

    `work` is a folder that keeps crops and features; see `features.embed.features_of_screen`.
    """
    from moascope.features.embed import features_of_screen

    check_fits(model, screen)
    with contextlib.ExitStack() as scratch:
        # Several processes hand features over on disk.
        if work is None and jobs > 1:
            work = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="moascope-")))
        table = features_of_screen(
            screen, model.prepare, model.embed, work, model.weights, jobs, on_disk=True
        )
    if len(table.meta) == 0:
        raise MoascopeError(["No site of this screen can be used.", *table.warnings])
    return table


def predict_features(model: TrainedModel, screen: Screen, table: FeatureTable,
                     level: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Predictions from what `screen_features` gives; see `predict_screen`."""
    sites = sites_of(model, screen, table)
    left_out = (*table.warnings, *_few_controls(model, sites.meta, table.meta["QC_Pass"]))
    counting = sites_that_count(table.meta) if level != "site" else np.ones(len(sites.meta), bool)
    sites = sites.take(counting)
    logits = predict_by_panel(model.heads, sites, model.train)[0]
    predictions, units = predictions_at(model.calibrations[level], sites, logits, level)
    control = controls_among(units, sites)
    predictions = without_controls(predictions, control)
    said: tuple[str, ...] = ()
    if model.trust is not None:
        passed = table.meta["QC_Pass"].to_numpy(bool)[counting]
        normalising = (sites.meta["Metadata_Control"] == "negative").to_numpy() & passed
        predictions = with_calls(predictions, units, control, level, model, model.trust, sites,
                                 rows_of(_taken(model, table), counting), normalising)
        said = call_warnings(model, model.trust, predictions)
    return predictions, (*left_out, *said)


def nearest_training(model: TrainedModel, screen: Screen, table: FeatureTable,
                     most: int) -> pd.DataFrame:
    """The training compounds that look most like each compound of a screen.

    Parameters
    ----------
    model : TrainedModel
    screen : Screen
    table : FeatureTable
        From `screen_features`.
    most : int
        Of them for each compound.

    Returns
    -------
    DataFrame
        `Metadata_Compound`, `Trained` (whether the model was trained on it), `Nearest`,
        `Metadata_MoA` (of the nearest, as annotated in training) and `Similarity` (cosine of the
        consensus profiles), the most similar first. Empty where the model keeps no profiles, or
        the screen has no controls to normalise by.
    """
    nothing = pd.DataFrame(columns=["Metadata_Compound", "Trained", "Nearest", "Metadata_MoA",
                                    "Similarity"])
    trust = model.trust
    sites = sites_of(model, screen, table)
    counting = sites_that_count(table.meta)
    sites = sites.take(counting)
    passed = table.meta["QC_Pass"].to_numpy(bool)[counting]
    normalising = (sites.meta["Metadata_Control"] == "negative").to_numpy() & passed
    if trust is None or trust.known is None or not normalising.any():
        return nothing
    profiles, of = consensus_profiles(trust, sites, rows_of(_taken(model, table), counting),
                                      normalising)
    itself = own_positions(trust, sites, of)
    index, similarity = trust.known.several(profiles, itself, most)
    name = sites.meta["Metadata_Compound"].groupby(sites.group).first()
    known = np.isfinite(similarity)
    row = np.nonzero(known)[0]
    return pd.DataFrame({
        "Metadata_Compound": name.loc[of].to_numpy()[row], "Trained": itself[row] >= 0,
        "Nearest": trust.compounds[index[known]], "Metadata_MoA": trust.mechanisms[index[known]],
        "Similarity": similarity[known]})


def _taken(model: TrainedModel, table: FeatureTable) -> Any:
    """The features that a model takes, in its order, before normalisation."""
    order = {name: i for i, name in enumerate(table.names)}
    return columns_of(table.X, np.array([order[name] for name in model.names], int))


def _few_controls(model: TrainedModel, meta: pd.DataFrame,
                  passed: pd.Series) -> tuple[str, ...]:
    """What to say where negative controls are too few for `standardise_plates`."""
    if not model.controls or model.head.normalisation == "none":
        return ()
    usable = (meta["Metadata_Control"] == "negative") & passed.to_numpy(bool)
    counts = usable.groupby([meta["Metadata_Plate"], meta["Metadata_Panel"]]).sum()
    few = counts[counts < LEAST_CONTROL_SITES]
    if few.empty:
        return ()
    least = f"{LEAST_CONTROL_SITES} usable sites of the negative control"
    named = listing((f"{plate} has {count}" for (plate, _), count in few.items()), 5)
    if len(few) == len(counts):
        return (f"No plate has the {least} that the model needs to compare wells with ({named}), "
                "so these predictions cannot be trusted. Add sites of control wells.",)
    return (f"{counted(len(few), 'plate')} with fewer than {least} ({named}) "
            f"{'is' if len(few) == 1 else 'are'} normalised by the controls of the other plates.",)


def check_fits(model: TrainedModel, screen: Screen) -> None:
    """Fail where a screen lacks a channel that the model takes, or has a panel it does not know.

    Parameters
    ----------
    model : TrainedModel
    screen : Screen

    Raises
    ------
    MoascopeError
    """
    missing = [name for name in model.channels if name not in screen.channels]
    if missing:
        raise MoascopeError(
            f"The model needs the channels {', '.join(model.channels)}; this screen has "
            f"{', '.join(screen.channels) or 'no images'}. Rename its FileName_ columns, or train "
            "a model on screens like it."
        )
    unknown = sorted(set(screen.sites["Metadata_Panel"]) - set(model.panels))
    indifferent = model.panels == (POOLED,) and model.train.panels == "pooled"
    if unknown and not indifferent:
        raise MoascopeError(
            f"The model knows {_panels_said(model.panels)}, this screen has "
            f"{_panels_said(tuple(unknown))} (Metadata_Panel in load_data.csv). Name panels as in "
            "training, or empty the column where the model knows none."
        )


def _panels_said(panels: tuple[str, ...]) -> str:
    return ", ".join(f"the panel {name}" if name else "no panel" for name in panels)


def sites_that_count(meta: pd.DataFrame) -> np.ndarray:
    """Sites that count for their well: those that passed quality control, or all where none did."""
    passed = meta["QC_Pass"].astype(bool)
    any_passed = passed.groupby([meta[column] for column in WELL_KEY]).transform("any")
    return (passed | ~any_passed).to_numpy()


def sites_of(model: TrainedModel, screen: Screen, table: FeatureTable) -> Examples:
    """A screen's sites as a trained model takes them; every compound is a unit.

    Parameters
    ----------
    model : TrainedModel
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
    lacking = [name for name in model.names if name not in order]
    if lacking and PROFILES in model.embed.backbones:
        raise MoascopeError(
            f"The screen's profiles lack {len(lacking)} of the {len(model.names)} features that "
            f"the model takes: {listing(profile_columns(lacking) or lacking)}. Name the columns as "
            "in training, or train a model on screens like it.")
    if lacking:
        raise MoascopeError(
            f"{len(lacking)} of the {len(model.names)} features that the model takes cannot be "
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
    features = _taken(model, table)
    controls = ((meta["Metadata_Control"] == "negative") & meta["QC_Pass"].astype(bool)).to_numpy()
    if model.controls and model.head.normalisation != "none":
        if not controls.any():
            raise MoascopeError(
                "The model compares wells with the negative controls of their own plate, and this "
                "screen has none. Mark them in layout.csv (Metadata_Control = negative)."
            )
        standard = standardise_plates(FeatureTable(meta, features, list(model.names)), controls,
                                      "moderated" in model.head.normalisation)
        features = standard.X
    features = mapped(features, lambda _, piece: np.nan_to_num(piece))
    if (sphering := model.sphering) is not None:
        features = mapped(features, lambda _, piece: apply_sphering(piece, sphering))
    return Examples(
        meta=meta.drop(columns="QC_Pass"),
        features=features,
        names=model.names,
        group=code.codes.to_numpy().astype(int),
        groups=pd.DataFrame({"Metadata_Group": code.categories}),
        question=model.question,
        panels=model.panels,
    )
