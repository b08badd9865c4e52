"""The evaluation protocol: every score with its nulls, and the leaks shown for what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from moascope.evaluation.baselines import baseline_inputs, baseline_logits, unit_scores
from moascope.learning.examples import Examples, averaging
from moascope.learning.nested import asked_classes, masks_without
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows
from moascope.metrics import (
    average_precision,
    bootstrap_weights,
    interval,
    macro_average_precision,
    paired_difference,
    permuted_labels,
    score_table,
)
from moascope.params import Evaluate, Head, Train

NON_COMMERCIAL_CAVEAT = (
    "The licence of these data forbids commercial use, and so that of a model trained on them: {}."
)
SIMULATED_CAVEAT = (
    "These scores come from a simulated screen. They prove the software, never the biology."
)
ACTIVITY_CAVEAT = (
    "The screen has a single compound: wells were told from control wells. This measures activity; "
    "it says nothing about unseen compounds or mechanisms."
)
LEAK_CAVEAT = (
    "Invalid: a random split by image puts other images of the same compound into training. Shown "
    "because the difference to the grouped split is what the leak is worth. Its head can memorise, "
    "as the one that a study on such a split would choose."
)
# What a study on a leaky split would end with: nothing there speaks against memory.
MEMORISING = {"layers": 1, "width": 64, "dropout": 0.0, "l2": 0.0, "label_smoothing": 0.0,
              "learning_rate": 3e-3, "epochs": 40}
# A mechanism needs some compounds before its average precision means anything.
LEAST_COMPOUNDS = 3


def scores_of(
    predictions: pd.DataFrame, classes: tuple[str, ...], asked: list[int], settings: Evaluate,
    seed: int,
) -> dict[str, Any] | None:
    """Scores of a predictions table; see `metrics.score_table`.

    Parameters
    ----------
    predictions : DataFrame
        With `Label`, `Metadata_Group`, `P_<class>` and `Predicted`. Rows of classes that cannot
        be asked about are left out.
    classes : tuple of str
    asked : list of int
    settings : Evaluate
    seed : int

    Returns
    -------
    dict or None
        None where too little is left: fewer than two classes.
    """
    index = {name: i for i, name in enumerate(classes)}
    label = predictions["Label"].map(index).to_numpy()
    keep = np.ones(len(label), bool) if asked == [1] else np.isin(label, asked)
    if len(np.unique(label[keep])) < 2:
        return None
    table = predictions[keep]
    return score_table(
        label[keep],
        table[[f"P_{name}" for name in classes]].to_numpy(float),
        table["Predicted"].map(index).to_numpy(),
        pd.factorize(table["Metadata_Group"])[0],
        classes, asked, settings.bootstraps, settings.permutations, seed,
    )


def evaluate_predictions(
    predictions: dict[str, pd.DataFrame], examples: Examples, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Scores of the model at every level, and by panel, dose, mechanism and action.

    Parameters
    ----------
    predictions : dict
        Level -> the table that train left.
    examples : Examples
        Sites.
    settings : Evaluate
    seed : int
    """
    asked = asked_classes(examples)
    found: dict[str, Any] = {}
    for side in ("out_of_fold", "held_out"):
        found[side] = {
            level: scores
            for level, table in predictions.items()
            if (scores := scores_of(table[table["Split"] == side], examples.classes, asked,
                                    settings, seed)) is not None
        }
    sites = predictions["site"]
    sites = sites[sites["Split"] == "out_of_fold"]
    found["by_panel"] = _by(sites, "Metadata_Panel", examples, asked, settings, seed)
    found["by_concentration_uM"] = _by(sites, "Metadata_Concentration_uM", examples, asked,
                                       settings, seed)
    if examples.binary and examples.unit == "compound":
        compounds = predictions["compound"]
        compounds = compounds[compounds["Split"] == "out_of_fold"].merge(
            examples.groups[["Metadata_Group", "Metadata_MoA", "gpcr_action"]],
            on="Metadata_Group",
        )
        found["by_mechanism"] = _positives_by(compounds, "Metadata_MoA", examples, settings, seed)
        found["by_action"] = _positives_by(compounds, "gpcr_action", examples, settings, seed)
    return found


def evaluate_baselines(
    compounds: pd.DataFrame, examples: Examples, head: Head, train: Train, settings: Evaluate,
    seed: int,
) -> dict[str, Any]:
    """Average precision of what sees no biology, and how far the model is above the best of it.

    Parameters
    ----------
    compounds : DataFrame
        The model's out-of-fold predictions, one row a unit.
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model; for the refits with shuffled labels.
    settings : Evaluate
    seed : int
    """
    asked = asked_classes(examples)
    wells = examples.wells()
    units, label, cluster = _asked_units(compounds, examples, asked)
    present = [c for c in asked if (label == c).any()]
    drawn = bootstrap_weights(cluster, settings.bootstraps, seed)
    scores = {}
    logits = {}
    for name, inputs in baseline_inputs(wells).items():
        logits[name] = unit_scores(wells, baseline_logits(wells, inputs), units)
        scores[name] = _short(label, logits[name], present, drawn)
    prevalence = float(np.mean([(label == c).mean() for c in present]))
    scores["prevalence"] = {"average_precision": prevalence, "low": prevalence, "high": prevalence}
    if settings.refits:
        values = _shuffled_refits(examples, head, train, settings, seed, asked)
        scores["shuffled_labels"] = {
            "average_precision": float(np.mean(values)),
            "low": float(np.min(values)), "high": float(np.max(values)),
            "refits": len(values),
        }
    best = max(logits, key=lambda name: scores[name]["average_precision"])
    own = units[[f"P_{name}" for name in examples.classes]].to_numpy(float)
    observed, low, high = paired_difference(
        lambda w: macro_average_precision(label, own, present, w),
        lambda w: macro_average_precision(label, logits[best], present, w),
        cluster, settings.bootstraps, seed,
    )
    return {
        "scores": scores,
        "best": best,
        "model_minus_best": {"difference": observed, "low": low, "high": high},
        "useful": low > 0,
    }


def evaluate_leak(
    examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """What a random split by image would have claimed, with true and with shuffled labels.

    Parameters
    ----------
    examples : Examples
        Sites.
    head, train : Head, Train
        Of the final model; all but its normalisation and activation gives way to `MEMORISING`.
    settings : Evaluate
    seed : int

    Returns
    -------
    dict
        `valid` is False; see `LEAK_CAVEAT`.
    """
    from sklearn.model_selection import KFold

    asked = asked_classes(examples)
    head = head.model_copy(update=MEMORISING)
    # Fold models learn sites here whatever train.level says: the split is by image.
    by_site = train.model_copy(update={"level": "site"})
    _, sites = training_rows(examples, head, by_site)
    pool = np.flatnonzero(
        (sites.group >= 0) & ~sites.groups["Holdout"].to_numpy(bool)[sites.group]
    )
    folds = int(sites.folds(0).max()) + 1
    fold_of = np.full(len(sites.meta), -1)
    parts = KFold(folds, shuffle=True, random_state=seed).split(pool)
    for fold, (_, test) in enumerate(parts):
        fold_of[pool[test]] = fold
    masks = np.stack([(fold_of >= 0) & (fold_of != fold) for fold in range(folds)])
    shuffled = permuted_labels(sites.label[pool], sites.group[pool], 1, seed)[0]
    dealt = sites.label.copy()
    dealt[pool] = shuffled
    labels = np.concatenate([np.tile(sites.label, (folds, 1)), np.tile(dealt, (folds, 1))])
    heads = fit_by_panel(sites, np.concatenate([masks, masks]), head, by_site, seed, label=labels)
    logits = predict_by_panel(heads, sites, by_site)
    found: dict[str, Any] = {"valid": False, "caveat": LEAK_CAVEAT}
    for name, own, label in (("true_labels", logits[:folds], sites.label),
                             ("shuffled_labels", logits[folds:], dealt)):
        pooled = own[fold_of.clip(0), np.arange(len(fold_of))][pool]
        truth = label[pool]
        keep = np.ones(len(truth), bool) if asked == [1] else np.isin(truth, asked)
        found[name] = {
            "site": _short(truth[keep], _log_softmax(pooled[keep]), asked,
                           bootstrap_weights(sites.group[pool][keep], settings.bootstraps, seed)),
            "compound": _compound_short(sites.take(pool), pooled, truth, asked, settings, seed),
        }
    return found


def evaluate_mechanisms(
    examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Every mechanism against the rest on the same folds: what this screen can show at all.

    Strong mechanisms are the positive control: where they are found and the target is not, the
    software works and the target's biology is not in the pictures.

    Returns
    -------
    dict
        Mechanism -> average precision with interval, prevalence and lift.
    """
    moa = examples.groups["Metadata_MoA"]
    counts = moa[~examples.groups["Holdout"]].value_counts()
    wanted = [name for name in counts.index[counts >= LEAST_COMPOUNDS] if name]
    if not wanted or examples.unit != "compound":
        return {}
    classes = ("other", *sorted(wanted))
    relabelled = replace(
        examples,
        groups=examples.groups.assign(Label=moa.where(moa.isin(wanted), "other")),
        classes=classes, binary=False, untestable=("other",), _cache={},
    )
    rows, sites = training_rows(relabelled, head, train)
    folds = int(sites.folds(0).max()) + 1
    left_out = [(0, fold) for fold in range(folds)]
    heads = fit_by_panel(rows, masks_without(rows, left_out), head, train, seed)
    logits = predict_by_panel(heads, sites, train)
    fold_of = np.where(sites.group >= 0, sites.folds(0)[sites.group], -1)
    pool = np.flatnonzero(fold_of >= 0)
    units, label = _to_compounds(sites.take(pool), logits[fold_of[pool], pool])
    scores = _log_softmax(units)
    drawn = bootstrap_weights(np.arange(len(label)), settings.bootstraps, seed)
    return {
        name: _short(label, scores, [c], drawn) | {"compounds": int((label == c).sum())}
        for c, name in enumerate(classes) if c
    }


def evaluate_unseen_batches(
    examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int
) -> dict[str, Any] | None:
    """Unseen compounds in an unseen batch: neither was in training.

    Returns
    -------
    dict or None
        None where the screen has a single batch.
    """
    batches = np.unique(examples.meta["Metadata_Batch"])
    if len(batches) < 2:
        return None
    asked = asked_classes(examples)
    rows, sites = training_rows(examples, head, train)
    folds = int(sites.folds(0).max()) + 1
    left_out = [(0, fold) for fold in range(folds)]
    batch_of_row = rows.meta["Metadata_Batch"].to_numpy()
    masks = np.concatenate([
        masks_without(rows, left_out) & (batch_of_row != batch) for batch in batches
    ])
    label = rows.label
    if any(len(np.unique(label[mask & (label >= 0)])) < len(examples.classes) for mask in masks):
        return None
    logits = predict_by_panel(fit_by_panel(rows, masks, head, train, seed), sites, train)
    fold_of = np.where(sites.group >= 0, sites.folds(0)[sites.group], -1)
    batch_index = np.searchsorted(batches, sites.meta["Metadata_Batch"])
    pool = np.flatnonzero(fold_of >= 0)
    pooled = logits[batch_index[pool] * folds + fold_of[pool], pool]
    found = _compound_short(sites.take(pool), pooled, sites.label[pool], asked, settings, seed)
    return found | {"batches": len(batches)}


def _shuffled_refits(examples: Examples, head: Head, train: Train, settings: Evaluate, seed: int,
                     asked: list[int]) -> list[float]:
    """Compound average precision of models trained and scored on shuffled labels."""
    rows, sites = training_rows(examples, head, train)
    folds = int(sites.folds(0).max()) + 1
    left_out = [(0, fold) for fold in range(folds)]
    own = examples.group_label
    dealt = []
    generator = np.random.default_rng(seed)
    for _ in range(settings.refits):
        label = own.copy()
        # Within folds, so that shuffled labels are as evenly dealt as the true ones: five
        # positives in one fold would leave nothing to learn from.
        for fold in range(folds):
            members = np.flatnonzero(sites.folds(0) == fold)
            label[members] = generator.permutation(own[members])
        dealt.append(label)
    masks = np.tile(masks_without(rows, left_out), (settings.refits, 1))
    labels = np.concatenate([
        np.tile(np.where(rows.group >= 0, label[rows.group], -1), (folds, 1)) for label in dealt
    ])
    heads = fit_by_panel(rows, masks, head, train, seed, label=labels)
    logits = predict_by_panel(heads, sites, train)
    fold_of = np.where(sites.group >= 0, sites.folds(0)[sites.group], -1)
    pool = np.flatnonzero(fold_of >= 0)
    values = []
    for number, label in enumerate(dealt):
        pooled = logits[number * folds + fold_of[pool], pool]
        shown = replace(sites, groups=sites.groups.assign(
            Label=[examples.classes[c] for c in label]))
        units, truth = _to_compounds(shown.take(pool), pooled)
        keep = np.ones(len(truth), bool) if asked == [1] else np.isin(truth, asked)
        present = [c for c in asked if (truth == c).any()]
        values.append(float(
            macro_average_precision(truth[keep], _log_softmax(units[keep]), present)))
    return values


def _to_compounds(sites: Examples, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matrix, units = averaging(sites, "compound")
    return matrix @ logits, sites.group_label[units["Group"].to_numpy()]


def _compound_short(sites: Examples, logits: np.ndarray, label: np.ndarray, asked: list[int],
                    settings: Evaluate, seed: int) -> dict[str, float]:
    truth_of = np.full(len(sites.groups), -1)
    truth_of[sites.group] = label
    relabelled = replace(sites, groups=sites.groups.assign(
        Label=[sites.classes[c] if c >= 0 else "" for c in truth_of]))
    units, truth = _to_compounds(relabelled, logits)
    truth = truth.astype(int)
    keep = np.ones(len(truth), bool) if asked == [1] else np.isin(truth, asked)
    drawn = bootstrap_weights(np.arange(int(keep.sum())), settings.bootstraps, seed)
    return _short(truth[keep], _log_softmax(units[keep]), asked, drawn)


def _short(label: np.ndarray, scores: np.ndarray, asked: list[int],
           drawn: np.ndarray) -> dict[str, float]:
    present = [c for c in asked if (label == c).any()]
    observed = float(macro_average_precision(label, scores, present))
    low, high = interval(macro_average_precision(label, scores, present, drawn))
    prevalence = float(np.mean([(label == c).mean() for c in present]))
    return {"average_precision": observed, "low": low, "high": high, "prevalence": prevalence,
            "lift": observed / prevalence}


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax

    return log_softmax(logits, axis=-1)


def _asked_units(compounds: pd.DataFrame, examples: Examples,
                 asked: list[int]) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    index = {name: i for i, name in enumerate(examples.classes)}
    label = compounds["Label"].map(index).to_numpy()
    keep = np.ones(len(label), bool) if asked == [1] else np.isin(label, asked)
    units = compounds[keep].reset_index(drop=True)
    return units, label[keep], np.arange(len(units))


def _by(sites: pd.DataFrame, column: str, examples: Examples, asked: list[int],
        settings: Evaluate, seed: int) -> dict[str, Any]:
    """Compound scores from the sites of one panel or dose alone: mean log-probability."""
    columns = [f"P_{name}" for name in examples.classes]
    found = {}
    for value, part in sites.groupby(column):
        logs = part[columns].clip(lower=1e-7).apply(np.log)
        units = logs.groupby(part["Metadata_Group"]).mean()
        label = (
            part.groupby("Metadata_Group")["Label"].first()[units.index]
            .map({name: i for i, name in enumerate(examples.classes)}).to_numpy()
        )
        keep = np.ones(len(label), bool) if asked == [1] else np.isin(label, asked)
        if len(np.unique(label[keep])) < 2 or not np.isin(label[keep], asked).any():
            continue
        drawn = bootstrap_weights(np.arange(int(keep.sum())), settings.bootstraps, seed)
        name = f"{value:g}" if isinstance(value, float) else str(value)
        found[name] = _short(label[keep], units.to_numpy()[keep], asked, drawn) | {
            "compounds": int(keep.sum())}
    return found if len(found) > 1 else {}


def _positives_by(compounds: pd.DataFrame, column: str, examples: Examples, settings: Evaluate,
                  seed: int) -> dict[str, Any]:
    """Positives of one kind against all negatives."""
    positive = compounds["Label"] == examples.classes[1]
    score = compounds[f"P_{examples.classes[1]}"].to_numpy(float)
    found = {}
    for kind in sorted({part for value in compounds.loc[positive, column]
                        for part in value.split("|") if part}):
        own = positive & compounds[column].map(lambda value, k=kind: k in value.split("|"))
        keep = (own | ~positive).to_numpy()
        label = own.to_numpy()[keep]
        drawn = bootstrap_weights(np.arange(int(keep.sum())), settings.bootstraps, seed)
        low, high = interval(average_precision(label, score[keep], drawn))
        observed = float(average_precision(label, score[keep]))
        found[kind] = {
            "compounds": int(own.sum()), "average_precision": observed, "low": low, "high": high,
            "prevalence": float(label.mean()), "lift": observed / float(label.mean()),
        }
    return found


