"""Whether fine-tuning helps: scores over compounds that neither network nor head saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moascope.finetuning.folds import REPEAT, FineTuned
from moascope.learning.examples import Examples, averaging
from moascope.metrics import macro_average_precision, paired_difference

RESAMPLES = 2000


def compare(examples: Examples, tuned: FineTuned,
            frozen: dict[tuple[int, int], np.ndarray], seed: int) -> tuple[dict, pd.DataFrame]:
    """Compare fine-tuned networks with the frozen head on the same folds, over compounds.

    Parameters
    ----------
    examples : Examples
    tuned : FineTuned
    frozen : dict
        (repeat, fold) -> ndarray, float32, [n, C]: logits of the models that left out the fold.
    seed : int

    Returns
    -------
    scores : dict
        Plain numbers: `average_precision` of each, and of fine-tuned minus each `difference`,
        `low` and `high` (95 %, over resampled compounds); `verdict`, a sentence.
    compounds : DataFrame
        One row per unit: `Metadata_Group`, `Label`, and `<which>_<class>`, the mean logits.

    Notes
    -----
    Mean logits rank, without the calibration that inner models make possible: no inner networks
    are trained here, and what is compared is treated alike.
    """
    group_fold = examples.folds(REPEAT)
    fold_of = examples.fold_of_rows(REPEAT)
    registered = np.full_like(tuned.logits, np.nan)
    for (repeat, fold), logits in frozen.items():
        if repeat == REPEAT:
            registered[fold_of == fold] = logits[fold_of == fold]
    matrix, units = averaging(examples, "compound")
    group = units["Group"].to_numpy()
    label = examples.group_label[group]
    question = examples.question
    keep = np.flatnonzero((group_fold[group] >= 0) & question.counts(label))
    group, label, matrix = group[keep], label[keep], matrix[keep]
    present = question.present(label)
    # Sites outside the folds are NaN, and no compound in a fold has one.
    logits = {name: matrix @ np.nan_to_num(values) for name, values in (
        ("fine_tuned", tuned.logits), ("start", tuned.start), ("frozen", registered))}
    ranking = {name: values - _log_sum(values) for name, values in logits.items()}

    def precision(name: str, drawn: np.ndarray | None = None) -> Any:
        return macro_average_precision(label, ranking[name], present, drawn)

    differences = {}
    for other in ("start", "frozen"):
        difference, low, high = paired_difference(
            lambda drawn: precision("fine_tuned", drawn),
            lambda drawn, other=other: precision(other, drawn), group, RESAMPLES, seed)
        differences[other] = {"difference": difference, "low": low, "high": high}
    over = differences["frozen"]
    outcome = ("beats" if over["low"] > 0 else "is worse than" if over["high"] < 0
               else "does not beat")
    scores = {
        "unit": question.unit,
        "compounds": len(label),
        "prevalence": question.prevalence(label),
        "average_precision": {name: float(precision(name)) for name in ranking},
        "fine_tuned_minus": differences,
        "blocks": tuned.blocks,
        "verdict": (
            f"fine-tuned {outcome} the frozen head: average precision "
            f"{float(precision('fine_tuned')):.3f} against {float(precision('frozen')):.3f} over "
            f"{len(label)} unseen {question.unit}s (difference {over['difference']:.3f} "
            f"[{over['low']:.3f}, {over['high']:.3f}])"),
    }
    table = examples.groups.iloc[group][["Metadata_Group", "Label"]].reset_index(drop=True)
    for name, values in logits.items():
        for index, of in enumerate(question.classes):
            table[f"{name}_{of}"] = values[:, index]
    return scores, table


def _log_sum(logits: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(logits, axis=1, keepdims=True))
