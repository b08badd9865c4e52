"""Train the final head and, for evaluate to score, one head per fold."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from moascope.features.embed import embed_for, weights_in_use
from moascope.finetuning.comparison import compare
from moascope.finetuning.folds import check_fine_tune, fine_tune_folds
from moascope.learning.examples import LEVELS
from moascope.learning.final import (
    chosen_heads,
    final_model,
    fit_final,
    predictions_table,
    save_trained,
)
from moascope.learning.joining import load_examples
from moascope.learning.nested import nested
from moascope.learning.trust import fit_trust
from moascope.params import Params
from moascope.screen.tables import read_screen
from moascope.text import counted
from moascope.work.files import write_csv, write_json

DIGITS = 6
CURVE = ["panel", "epoch", "loss"]


def train(params: Params, prepared: Path, embedded: Path, screen: Path, split: Path, tuned: Path,
          out: Path, report: Path) -> str:
    """Train the head that is registered, and predict every compound by models that never saw it."""
    from moascope.tracking.comparison import model_name
    from moascope.tracking.runs import dvc_digests, log_data, start_run
    from moascope.tracking.trainings import log_fine_tuning, log_training

    examples = load_examples(embedded, screen, split)
    head, fold_heads = chosen_heads(tuned, params)
    embed = embed_for(params.embed, head)
    weights = weights_in_use(embedded, embed)
    network = check_fine_tune(params.train.fine_tune, embed.backbones, head,
                              fold_heads.values())
    name, verdict = model_name(embed.backbone, head), ""
    inputs = {"features": embedded, "screen": screen, "split": split, "tuned": tuned}
    with start_run(params, name, "train", inputs, system_metrics=True) as active:
        logits, calibrations = nested(examples, fold_heads, params.train, params.seed)
        final, curves, final_calibrations = fit_final(examples, head, logits, params)
        predictions = {
            level: predictions_table(examples, level, logits, calibrations[level], final,
                                     final_calibrations[level], head, params)
            for level in LEVELS}
        model = final_model(examples, final, final_calibrations, head, params,
                            read_screen(screen).channels, embed, weights,
                            fit_trust(examples, head, params.train, logits, final_calibrations))
        shutil.rmtree(out, ignore_errors=True)
        save_trained(out, model, predictions, {
            "run_id": active.info.run_id, "experiment": active.info.experiment_id})
        write_csv(report / "curves.csv", pd.DataFrame(curves, columns=CURVE), DIGITS)
        log_training(head, curves, out, report / "curves.csv")
        log_data(params, dvc_digests(inputs).get("screen", ""), "training")
        if network:
            found = fine_tune_folds(examples, prepared, network, weights[network],
                                    params.embed.turns, fold_heads, params.train, params.seed)
            scores, compounds = compare(examples, found, logits, params.seed)
            verdict = f"; {scores['verdict']}"
            write_json(out / "fine_tune.json", scores)
            write_csv(out / "fine_tune_compound.csv", compounds, DIGITS)
            write_csv(out / "fine_tune_curves.csv", found.curves, DIGITS)
            log_fine_tuning(scores, found.curves.groupby("epoch")["loss"].mean().to_dict(), out)
    learnt = int((~examples.groups["Holdout"]).sum())
    kind = (f"one head of {counted(head.layers, 'hidden layer')}" if head.head == "network" else
            f"one model ({head.head})")
    return (f"{kind} for {counted(len(final), 'panel')}, trained on {learnt} "
            f"{examples.question.unit}s; run {active.info.run_id[:8]}{verdict}")
