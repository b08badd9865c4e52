"""Train the final head, and beside it one head for every fold: what evaluate will score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from moascope.errors import MoascopeError
from moascope.features.backbones import find_weights
from moascope.features.embed import embedded_with
from moascope.finetuning.folds import check_fine_tune, compare, fine_tune_folds
from moascope.learning.calibration import Calibration, calibrate_asked
from moascope.learning.examples import LEVELS, Examples, averaging, load_examples
from moascope.learning.head import FittedHeads, save_head
from moascope.learning.nested import asked_classes, nested, out_of_fold
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows
from moascope.learning.predictor import Predictor, identities, prediction_table, save_predictor
from moascope.params import TUNED, Embed, Head, Params
from moascope.screen.tables import read_screen
from moascope.work.files import write_atomically

CURVE_POINTS = 20


def train(params: Params, prepared: Path, embedded: Path, screen: Path, split: Path, tuned: Path,
          out: Path, report: Path) -> str:
    """Train the head that is registered, and predict every compound by models that never saw it."""
    examples = load_examples(embedded, screen, split)
    chosen = yaml.safe_load(tuned.read_text())
    final_head = resolve(params, chosen["final"])
    fold_heads = {
        (int(key.split("/")[0]), int(key.split("/")[1])): resolve(params, values)
        for key, values in chosen["folds"].items()
    }
    from moascope.tracking.comparison import model_name
    from moascope.tracking.runs import dvc_digests, flat_numbers, log_curve, log_data, start_run

    inputs = {"features": embedded, "screen": screen, "split": split, "tuned": tuned}
    embed = embed_for(params.embed, final_head)
    weights = {name: file for name in embed.backbones if (file := find_weights(name, embed))}
    for name, file in weights.items():
        if not embedded_with(embedded, name, file):
            raise MoascopeError(
                f"{file} is not the file that {embedded} was made with, so the model would be "
                "served with other features than it learns from. Run `dvc repro --force embed`, "
                "or give the new file a name of its own."
            )
    network = check_fine_tune(params.train.fine_tune, embed.backbones, final_head)
    name = model_name(embed.backbone, final_head)
    verdict = ""
    with start_run(params, name, "train", inputs, system_metrics=True) as active:
        import mlflow

        outer_logits, calibrations = nested(examples, fold_heads, params.train, params.seed)
        final, curves, final_calibrations = fit_final(examples, final_head, outer_logits, params)
        shutil.rmtree(out, ignore_errors=True)
        (out / "keras").mkdir(parents=True)
        for level in LEVELS:
            predictions_table(
                examples, level, outer_logits, calibrations[level], final,
                final_calibrations[level], final_head, params,
            ).to_parquet(out / f"predictions_{level}.parquet", index=False)
        sites = examples.seen_by(final_head)
        in_training = examples.groups[~examples.groups["Holdout"].to_numpy(bool)]
        predictor = Predictor(
            target=examples.target, classes=examples.classes, binary=examples.binary,
            unit=examples.unit, heads=final,
            panels=tuple(sorted(set(examples.panel))),
            calibrations=final_calibrations, sphering=sites.sphering, names=sites.names,
            channels=read_screen(screen).channels, controls=bool(examples.controls.any()),
            prepare=params.prepare, embed=embed, head=final_head, train=params.train,
            weights=weights,
            trained_on=tuple(sorted(set().union(*identities(in_training, examples.unit)))),
        )
        save_predictor(predictor, out / "model")
        for panel, heads in final.items():
            save_head(heads, 0, out / "keras" / f"head_{panel or 'pooled'}.keras")
        _write_curves(curves, report)
        write_atomically(out / "run.json", json.dumps(
            {"run_id": active.info.run_id, "experiment": active.info.experiment_id}, indent=1))

        for panel in sorted({curve["panel"] for curve in curves}):
            own = [curve for curve in curves if curve["panel"] == panel]
            log_curve(f"loss/{panel or 'pooled'}", {c["epoch"]: c["loss"] for c in own})
        mlflow.log_params({f"head.{key}": value for key, value in final_head.model_dump().items()})
        mlflow.log_artifacts(str(out / "keras"), "keras")
        mlflow.log_artifact(str(report / "curves.csv"))
        log_data(params.acquire.source, dvc_digests(inputs).get("screen", ""), "training")
        if network:
            found = fine_tune_folds(examples, prepared, network, weights[network], fold_heads,
                                    params.train, params.seed)
            scores, compounds = compare(examples, found, outer_logits, params.seed)
            verdict = f"; {scores['verdict']}"
            write_atomically(out / "fine_tune.json",
                             json.dumps(scores, indent=2, sort_keys=True) + "\n")
            for table, file in ((compounds, "fine_tune_compound.csv"),
                                (found.curves, "fine_tune_curves.csv")):
                write_atomically(out / file, table.round(6).to_csv(index=False,
                                                                   lineterminator="\n"))
            mlflow.log_metrics(flat_numbers({"fine_tune": scores}))
            mlflow.set_tag("fine_tune", scores["verdict"])
            log_curve("loss/fine_tuned",
                      found.curves.groupby("epoch")["loss"].mean().to_dict())
            for file in sorted(out.glob("fine_tune*")):
                mlflow.log_artifact(str(file), "fine_tune")
    return (f"one head of {final_head.layers} hidden layers for {len(final)} panel"
            f"{'s' if len(final) > 1 else ''}, trained on {len(in_training)} {examples.unit}s; "
            f"run {active.info.run_id[:8]}{verdict}")


def resolve(params: Params, chosen: dict[str, Any]) -> Head:
    """A head as train says, the study's choice where train says `tuned`."""
    pinned = {
        name: value
        for name, value in params.train.model_dump().items()
        if name in Head.model_fields and value != TUNED
    }
    return Head(**{**chosen, **pinned})


def embed_for(embed: Embed, head: Head) -> Embed:
    """The embedding that serving a head needs: its own backbone alone."""
    if head.backbone == "all":
        return embed
    weights = embed.weights
    if isinstance(weights, dict):
        weights = {name: file for name, file in weights.items() if name == head.backbone}
    return embed.model_copy(update={"backbone": head.backbone, "weights": weights})


def fit_final(
    examples: Examples, head: Head, outer_logits: dict[tuple[int, int], np.ndarray], params: Params
) -> tuple[dict[str, FittedHeads], list[dict], dict[str, Calibration]]:
    """Train on everything outside the hold-out; calibrate by what the outer models said of it.

    Returns
    -------
    heads : dict
        Panel -> FittedHeads with one head.
    curves : list of dict
        `panel`, `epoch`, `loss`.
    calibrations : dict
        Level -> Calibration.
    """
    rows, _ = training_rows(examples, head, params.train)
    held_out = examples.groups["Holdout"].to_numpy(bool)
    mask = (rows.group >= 0) & ~held_out[rows.group]
    heads = fit_by_panel(rows, mask[None], head, params.train, params.seed,
                         watch_every=max(1, head.epochs // CURVE_POINTS))
    curves = [
        {"panel": panel, "epoch": int(epoch), "loss": float(loss)}
        for panel, fitted in heads.items()
        for epoch, loss in zip(fitted.epochs, fitted.loss, strict=True)
    ]
    calibrations = {}
    for level in LEVELS:
        matrix, units = averaging(examples, level)
        group = units["Group"].to_numpy()
        pooled = np.zeros((len(units), len(examples.classes)), np.float32)
        for (repeat, fold), logits in outer_logits.items():
            own = np.flatnonzero((group >= 0) & (examples.folds(repeat)[group] == fold))
            pooled[own] += matrix[own] @ logits / examples.repeats
        asked = (group >= 0) & ~held_out[group]
        calibrations[level] = calibrate_asked(
            examples.group_label[group[asked]], pooled[asked], group[asked], examples.binary,
            asked_classes(examples),
        )
    return heads, curves, calibrations


def predictions_table(
    examples: Examples, level: str, outer_logits: dict, outer_calibrations: dict,
    final: dict[str, FittedHeads], calibration: Calibration, head: Head, params: Params,
) -> pd.DataFrame:
    """Out-of-fold predictions of compounds in the folds, final predictions of the held-out ones.

    Returns
    -------
    DataFrame
        The predictions table of the contract, and `Metadata_Group`, `Split` ("out_of_fold" or
        "held_out"), `Label`, `Threshold`.
    """
    oof = out_of_fold(examples, level, outer_logits, outer_calibrations)
    tables = [_annotated(examples, oof.units, oof.probability, oof.predicted, level,
                         "out_of_fold", oof.threshold)]
    held_out = examples.groups["Holdout"].to_numpy(bool)
    if held_out.any():
        sites = examples.seen_by(head)
        logits = predict_by_panel(final, sites, params.train)[0]
        matrix, units = averaging(examples, level)
        group = units["Group"].to_numpy()
        keep = np.flatnonzero((group >= 0) & held_out[group])
        probability = calibration.probability(matrix[keep] @ logits)
        tables.append(_annotated(examples, units.iloc[keep], probability,
                                 calibration.decide(probability), level, "held_out",
                                 calibration.threshold))
    return pd.concat(tables, ignore_index=True)


def _annotated(examples: Examples, units: pd.DataFrame, probability: np.ndarray,
               predicted: np.ndarray, level: str, side: str,
               threshold: float | None) -> pd.DataFrame:
    table = prediction_table(units, probability, predicted, examples.classes, level)
    groups = examples.groups.iloc[units["Group"].to_numpy()].reset_index(drop=True)
    table["Metadata_Group"] = groups["Metadata_Group"]
    if level == "compound":
        table["Metadata_Compound"] = groups["Metadata_Compound"]
    table["Label"] = groups["Label"]
    table["Split"] = side
    table["Threshold"] = threshold
    return table


def _write_curves(curves: list[dict], report: Path) -> None:
    report.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(curves).round(6)
    write_atomically(report / "curves.csv", table.to_csv(index=False, lineterminator="\n"))
