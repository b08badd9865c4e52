"""Scores of registered models on the frozen held-out compounds, from exactly the same sites."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.errors import MoascopeError
from moascope.evaluation.baselines import baseline_inputs, held_out_baseline_logits, unit_logits
from moascope.evaluation.chemistry import INPUTS, held_out_chemistry
from moascope.evaluation.scores import scores_of
from moascope.features.backbones import weights_digest
from moascope.features.embed import embedded_with, features_of_screen
from moascope.features.table import FeatureTable, has_images
from moascope.learning.examples import SITE_KEY, Examples, averaging
from moascope.learning.model import TrainedModel, read_model
from moascope.learning.panels import predict_by_panel
from moascope.learning.predictions import prediction_table
from moascope.learning.predictor import check_fits, sites_of
from moascope.metrics import (
    Drawn,
    bootstrap_weights,
    interval,
    macro_average_precision,
    paired_difference,
)
from moascope.params import Evaluate, Promote
from moascope.promotion.contenders import Contender, Pipeline, UndecidedError
from moascope.promotion.gate import Against, Numbers, share_worse
from moascope.screen.columns import WELL
from moascope.screen.tables import Screen
from moascope.text import counted
from moascope.work.digests import digest
from moascope.work.processes import default_jobs

# Predictions from the same features may differ by this much, as sums of float32 do.
SAME = 1e-4


def site_logits(
    contenders: dict[str, Contender], pipeline: Pipeline, examples: Examples, jobs: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The logits of every contender for the sites, computed as when it is served.

    Parameters
    ----------
    contenders : dict
        Alias -> Contender.
    pipeline : Pipeline
    examples : Examples
        Of `unseen_hold_out`.
    jobs : int
        Processes, where features have to be computed; 0: one per processor.

    Returns
    -------
    logits : dict
        Alias -> ndarray, float32, [n, C], in the order of the examples; NaN where the model could
        not read a site, or was not asked.
    origins : dict
        Alias -> where its features are from: "data/embed" or "images".
    """
    logits, origins = {}, {}
    made: dict[str, FeatureTable] = {}
    screen = _without_scored_controls(pipeline.screen, examples)
    for alias, contender in contenders.items():
        check_fits(contender.model, pipeline.screen)
        table, origins[alias] = _features(contender, pipeline, examples, made, jobs)
        sites = sites_of(contender.model, screen, table)
        said = predict_by_panel(contender.model.heads, sites, contender.model.train)[0]
        logits[alias] = _aligned(sites.meta, said, examples.meta)
    return logits, origins


def answers(
    contenders: dict[str, Contender], examples: Examples, logits: dict[str, np.ndarray]
) -> tuple[Examples, dict[str, pd.DataFrame]]:
    """The predictions of every contender for the held-out units, from exactly the same sites.

    Parameters
    ----------
    contenders : dict
        Alias -> Contender.
    examples : Examples
        Of `unseen_hold_out`.
    logits : dict
        Of `site_logits`.

    Returns
    -------
    examples : Examples
        Without the held-out sites that some contender could not read.
    tables : dict
        Alias -> DataFrame, one row a held-out unit: `Metadata_Group`, `Label`, `P_<class>`,
        `Predicted`.

    Raises
    ------
    MoascopeError
        Where no held-out unit is left.
    """
    answered = np.all([np.isfinite(logits[alias]).all(axis=1) for alias in contenders], axis=0)
    rows = np.flatnonzero(answered | ~_held_out_rows(examples))
    kept = examples.take(rows)
    own = np.flatnonzero(_held_out_rows(kept))
    if not len(own):
        raise UndecidedError(
            "No held-out compound is left to score. Raise split.holdout in params.yaml or "
            "annotate more compounds, and run `dvc repro`."
        )
    asked = kept.take(own)
    matrix, units = averaging(asked, "compound")
    groups = asked.groups.iloc[units["Group"].to_numpy()].reset_index(drop=True)
    tables = {}
    for alias, contender in contenders.items():
        calibration = contender.model.calibrations["compound"]
        probability = calibration.probability(matrix @ logits[alias][rows][own])
        table = prediction_table(units, probability, calibration.decide(probability),
                                 asked.question, "compound")
        tables[alias] = table.assign(
            Metadata_Compound=groups["Metadata_Compound"],
            Metadata_Group=groups["Metadata_Group"],
            Label=groups["Label"],
        )
    return kept, tables


def check_served(candidate: Contender, table: pd.DataFrame, trained: Path) -> bool:
    """Fail where the registered model predicts something else than the trained one.

    Parameters
    ----------
    candidate : Contender
    table : DataFrame
        Its answers; see `answers`.
    trained : Path
        data/train.

    Returns
    -------
    bool
        False where the candidate is not the model of data/train, so that nothing can be checked.
    """
    if json.loads((trained / "run.json").read_text())["run_id"] != candidate.run_id:
        return False
    written = pd.read_parquet(trained / "predictions_compound.parquet")
    written = written[written["Split"] == "held_out"].set_index("Metadata_Group")
    columns = [name for name in table if name.startswith("P_")]
    own = table.set_index("Metadata_Group")
    strange = [group for group in own.index if group not in written.index]
    if strange or not set(columns) <= set(written):
        raise MoascopeError(
            "data/train and data/split do not belong together: train predicted other held-out "
            "compounds. Run `dvc repro` and promote again."
        )
    # A NaN on either side counts as a difference.
    off = np.abs(own[columns] - written.loc[own.index, columns]).fillna(np.inf).max(axis=1)
    if not (off <= SAME).all():
        worst = off.idxmax()
        raise MoascopeError(
            f"Version {candidate.version} as loaded from the registry does not predict what "
            f"train wrote: {own.loc[worst, 'Metadata_Compound']} differs by {off[worst]:.2g} in "
            f"probability, and {(off > SAME).sum()} of {len(off)} held-out compounds differ. "
            "Serving would differ from training: run `dvc repro --single-item --force train`, then "
            "`dvc repro register report`, and compare the moascope versions of both."
        )
    return True


def measure(
    examples: Examples, tables: dict[str, pd.DataFrame], incumbent: Contender | None,
    gate: Promote, seed: int, annotations: pd.DataFrame
) -> tuple[Numbers, dict[str, int]]:
    """All numbers that the gate needs.

    Parameters
    ----------
    examples : Examples
        Of `answers`.
    tables : dict
        Alias -> answers; `candidate`, and the incumbent under another alias where there is one.
    incumbent : Contender or None
    gate : Promote
    seed : int
    annotations : DataFrame
        Of the screen; structures are read where the gate names a baseline of structure.

    Returns
    -------
    numbers : Numbers
    counts : dict
        `compounds` scored and `positives` among them.

    Raises
    ------
    MoascopeError
        Where the held-out units are all of one class.

    Notes
    -----
    Both models are scored on the same resamples of compounds, so that a hard compound is hard for
    both: with some 25 compounds the interval of each is wide, that of their difference is not.
    """
    question = examples.question
    settings = Evaluate(bootstraps=gate.resamples, permutations=gate.resamples, refits=0)
    candidate = tables["candidate"]
    scores = scores_of(candidate, question, settings, seed)
    label = question.index(candidate["Label"])
    keep = question.counts(label)
    label = label[keep]
    present = question.present(label)
    if scores is None or not present:
        raise UndecidedError(
            f"The {counted(len(candidate), f'held-out {question.unit}')} are all of one class, so "
            "nothing can be ranked. Raise split.holdout in params.yaml or annotate more "
            "compounds, and run `dvc repro`."
        )
    columns = question.probabilities
    own = candidate.loc[keep, columns].to_numpy(float)
    wells = examples.counts_and_intensities().wells()
    units = candidate[keep]
    baselines = {
        name: float(macro_average_precision(
            label, unit_logits(wells, held_out_baseline_logits(wells, inputs), units), present))
        for name, inputs in baseline_inputs(wells).items() if name in gate.beat
    }
    for name in INPUTS:
        chemistry = (held_out_chemistry(name, examples, units, annotations, seed)
                     if name in gate.beat else None)
        if chemistry is not None:
            baselines[name] = float(macro_average_precision(label, chemistry, present))
    against = None
    other = next((table for alias, table in tables.items() if alias != "candidate"), None)
    if other is not None and incumbent is not None:
        against = _against(incumbent.version, label, own, other.loc[keep, columns].to_numpy(float),
                           present, gate.resamples, seed)
    counts = {"compounds": len(label)}
    if question.binary:
        counts["positives"] = int((label == 1).sum())
    return Numbers(scores["average_precision"], scores["low"], scores["high"],
                   scores["prevalence"], scores["null_mean"], scores["p"], baselines,
                   against, images=has_images(examples.names)), counts


def _against(version: str, label: np.ndarray, own: np.ndarray, theirs: np.ndarray,
             present: list[int], resamples: int, seed: int) -> Against:
    def candidate(weights: np.ndarray | Drawn) -> np.ndarray:
        return macro_average_precision(label, own, present, weights)

    def incumbent(weights: np.ndarray | Drawn) -> np.ndarray:
        return macro_average_precision(label, theirs, present, weights)

    cluster = np.arange(len(label))
    drawn = bootstrap_weights(cluster, resamples, seed)
    difference, low, high = paired_difference(candidate, incumbent, cluster, resamples, seed)
    value = float(macro_average_precision(label, theirs, present))
    return Against(version, value, *interval(incumbent(drawn)), difference, low, high,
                   share_worse(candidate(drawn), incumbent(drawn)))


def _without_scored_controls(screen: Screen, examples: Examples) -> Screen:
    """The screen as it was in training: a control well that is a unit normalises nothing."""
    meta = examples.meta[(examples.group >= 0)
                         & (examples.meta["Metadata_Control"] == "negative").to_numpy()]
    units = pd.MultiIndex.from_frame(meta[WELL].drop_duplicates())
    scored = pd.MultiIndex.from_frame(screen.layout[WELL]).isin(units)
    control = screen.layout["Metadata_Control"].mask(scored, "")
    return replace(screen, layout=screen.layout.assign(Metadata_Control=control))


def _held_out_rows(examples: Examples) -> np.ndarray:
    return (examples.group >= 0) & examples.groups["Holdout"].to_numpy(bool)[examples.group]


def _features(contender: Contender, pipeline: Pipeline, examples: Examples,
              made: dict[str, FeatureTable], jobs: int) -> tuple[FeatureTable, str]:
    """Features as a model takes them: from data/embed if made alike, else from the images."""
    own = contender.model
    if _made_alike(own, pipeline):
        return pipeline.table, "data/embed"
    key = digest(own.prepare, own.embed,
                 {name: weights_digest(file) for name, file in own.weights.items()})
    if key not in made:
        plates = np.unique(examples.meta["Metadata_Plate"][_held_out_rows(examples)])
        sites = pipeline.screen.sites
        part = replace(pipeline.screen, sites=sites[sites["Metadata_Plate"].isin(plates)])
        print(f"promote: version {contender.version} was trained on features that are not in "
              f"data/embed; computing them from the images of {counted(len(plates), 'plate')}",
              file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="moascope-") as work:
            made[key] = features_of_screen(part, own.prepare, own.embed, Path(work), own.weights,
                                           jobs or default_jobs(), on_disk=True)
    return made[key], "images"


def _made_alike(own: TrainedModel, pipeline: Pipeline) -> bool:
    """Whether data/embed holds what the model itself would compute from the screen.

    The settings of data/embed are those of the parameters and of the model in data/train; where
    these two differ, params.yaml has been edited since, and the answer is unknown.
    """
    here = read_model(pipeline.trained / "model")
    params = pipeline.params
    embedded = set(params.embed.backbones)
    if not (own.prepare == here.prepare == params.prepare
            and own.embed.precision == here.embed.precision == params.embed.precision
            and own.embed.turns == here.embed.turns == params.embed.turns
            and set(own.embed.backbones) <= embedded and set(here.embed.backbones) <= embedded):
        return False
    return all(embedded_with(pipeline.embedded, name, file) for name, file in own.weights.items())


def _aligned(meta: pd.DataFrame, logits: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Logits in the order of other rows, NaN where the model has none."""
    position = meta[SITE_KEY].assign(Position=np.arange(len(meta)))
    order = rows[SITE_KEY].merge(position, on=SITE_KEY, how="left", validate="one_to_one")
    found = order["Position"].notna().to_numpy()
    aligned = np.full((len(rows), logits.shape[1]), np.nan, np.float32)
    aligned[found] = logits[order["Position"][found].astype(int)]
    return aligned
