"""Scores as rows of the report's tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from moascope.evaluation.controls import FOUND_AT
from moascope.report.chemistry import amphiphilic_rows, amphiphilic_words
from moascope.report.figures import Compared
from moascope.report.words import REFERENCES, baseline_name, main_scores, measured
from moascope.text import tidy

MOST_ROWS = 25
MOST_CLASSES_IN_MATRIX = 14
MOST_MIX_UPS = 15


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores with what it shows, and how many rows were left out for length."""

    title: str
    what: str
    first: str
    rows: list[dict[str, Any]]
    hidden: int
    recall: bool = False


@dataclass(frozen=True)
class Confusion:
    """Actual against predicted, as counts and as shares of the actual class.

    Where there are too many classes for a matrix, `mix_ups` lists the most frequent errors.
    """

    title: str
    count: int
    actual: list[str]
    predicted: list[str]
    counts: list[list[int]]
    shares: list[list[float]]
    right: list[list[bool]]
    mix_ups: list[dict[str, Any]]


def score_tables(metrics: dict[str, Any], said: Callable[[str], str]) -> list[ScoreTable]:
    """The tables that metrics has something for."""
    of_class = main_scores(metrics).get("per_class") or {}
    unit = metrics.get("unit", "compound")
    seen = f"{measured(metrics).capitalize()}s"
    plans = [
        ("Each class", "One class against all others, on unseen compounds. Recall is the share of "
         "the class that is predicted correctly.", "Class", of_class, said),
        ("Positive controls: every mechanism against the rest", "One mechanism at a time, by a "
         "regularised linear model on the same features, in folds of its own. A mechanism marked "
         "✓ is found: its permutation p, multiplied by the number of mechanisms, is at most "
         f"{FOUND_AT:g}.",
         "Mechanism", metrics.get("mechanisms"), tidy),
        ("Hits by mechanism", "The hits of one mechanism against all non-hits, by the predicted "
         "probability of the target: which kinds of hit the model finds.",
         "Mechanism", metrics.get("by_mechanism"), tidy),
        ("Hits by action", "Agonists switch a receptor on, antagonists block it.",
         "Action", metrics.get("by_action"), tidy),
        ("Cationic amphiphilic compounds",
         amphiphilic_words(metrics) if amphiphilic_rows(metrics) else "",
         "Compounds", amphiphilic_rows(metrics), tidy),
        ("By panel", f"{seen} of one panel only (reporter line or stain combination).",
         "Panel", metrics.get("by_panel"), tidy),
        ("By dose", f"{seen} at one concentration only.",
         "Dose (µM)", metrics.get("by_concentration_uM"), tidy),
    ]
    tables = []
    for title, what, first, scores, name in plans:
        if not scores:
            continue
        if unit == "well":
            what = what.replace("compounds", "wells")
        items = sorted(scores.items(), key=_order(first))
        tables.append(ScoreTable(
            title, what, first,
            [{"name": name(key) or "(none)", "count": score.get("compounds", score.get("n")),
              **score} for key, score in items[:MOST_ROWS]],
            max(len(items) - MOST_ROWS, 0), recall=scores is of_class,
        ))
    return tables


def _order(first: str) -> Callable[[tuple[str, dict[str, Any]]], tuple]:
    if first == "Panel":
        return lambda item: (item[0],)
    if first == "Dose (µM)":
        return lambda item: (_dose(item[0]), item[0])
    return lambda item: (-(item[1].get("average_precision") or 0), item[0])


def _dose(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")


def compared(metrics: dict[str, Any]) -> list[Compared]:
    """The lines of the comparison: model, baselines, and the invalid split last."""
    rows = []
    unit = metrics.get("unit", "compound")
    for side, name in (("out_of_fold", f"Unseen {unit}s"),
                       ("held_out", f"Held-out {unit}s")):
        if scores := main_scores(metrics, side):
            rows.append(Compared(name, "model", scores))
    if scores := metrics.get("unseen_batch"):
        rows.append(Compared("Unseen, in an unseen batch", "model", scores))
    references = metrics.get("references") or {}
    for name, scores in sorted(references.items(), key=_order("Reference")):
        rows.append(Compared(REFERENCES.get(name, name), "reference", scores))
    baselines = (metrics.get("baselines") or {}).get("scores") or {}
    if guess := baselines.get("prevalence"):
        baselines = baselines | {"prevalence": {"average_precision": guess.get(
            "null_mean", guess.get("average_precision"))}}
    for name, scores in sorted(baselines.items(), key=_order("Baseline")):
        rows.append(Compared(baseline_name(name), "baseline", scores))
    leak = metrics.get("random_image_split") or {}
    for name, said in (("true_labels", "Invalid, true labels"),
                       ("shuffled_labels", "Invalid, shuffled labels")):
        if scores := (leak.get(name) or {}).get("compound"):
            rows.append(Compared(said, "invalid", scores))
    if scores := (leak.get("same_head_grouped") or {}).get("compound"):
        rows.append(Compared(f"Split by {unit}", "memory", scores))
    return rows


def confusion(title: str, scores: dict[str, Any] | None, classes: list[str],
              said: Callable[[str], str]) -> Confusion | None:
    """A confusion matrix without the rows of classes that are not scored."""
    if not scores or not scores.get("confusion"):
        return None
    counts = pd.DataFrame(scores["confusion"], index=classes, columns=classes)
    asked = [name for name in classes if counts.loc[name].sum()]
    called = [name for name in classes if name in asked or counts[name].sum()]
    counts = counts.loc[asked, called]
    shares = counts.div(counts.sum(axis=1), axis=0)
    mix_ups = []
    if len(called) > MOST_CLASSES_IN_MATRIX:
        wrong = [(int(counts.loc[a, p]), float(shares.loc[a, p]), a, p)
                 for a in asked for p in called if a != p and counts.loc[a, p]]
        wrong.sort(key=lambda item: (-item[0], -item[1], item[2], item[3]))
        mix_ups = [{"count": n, "share": share, "actual": said(a), "predicted": said(p)}
                   for n, share, a, p in wrong[:MOST_MIX_UPS]]
    return Confusion(
        title, int(counts.to_numpy().sum()), [said(name) for name in asked],
        [said(name) for name in called], counts.to_numpy().tolist(), shares.to_numpy().tolist(),
        [[a == p for p in called] for a in asked], mix_ups,
    )


def threshold_words(predictions: pd.DataFrame, binary: bool, positive: str) -> str:
    """The probability from which a unit is predicted positive, in a sentence."""
    if not binary:
        return "The most probable class is predicted."
    values = predictions["Threshold"].dropna()
    if values.empty:
        return ""
    return (f"Predicted {positive} from a probability of about {values.mean():.2f}; the threshold "
            "is chosen in the inner folds.")
