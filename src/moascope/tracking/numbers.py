"""The numbers of a run: tens, under names that people understand.

Everything else is in the JSON files among the run's artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What every score is read against, under the same names on every run that has one.
HEADLINE = ("average_precision", "interval_low", "interval_high", "prevalence", "null_mean",
            "best_baseline", "permutation_p", "lift")
MOST_LOSSES = 6


def headline_metrics(score: Mapping[str, Any], best_baseline: float | None = None,
                     ) -> dict[str, float]:
    """The numbers of a score under the names by which runs are compared.

    Parameters
    ----------
    score : mapping
        `average_precision`, and where they are known `low`, `high`, `prevalence`, `null_mean`,
        `lift`, `p`.
    best_baseline : float or None
        Average precision of the best baseline.
    """
    named = {
        "average_precision": score["average_precision"],
        "interval_low": score.get("low"),
        "interval_high": score.get("high"),
        "prevalence": score.get("prevalence"),
        "null_mean": score.get("null_mean"),
        "lift": score.get("lift"),
        "permutation_p": score.get("p"),
        "best_baseline": best_baseline,
    }
    # Six digits, as in metrics.json: more would only widen MLflow's columns.
    return {key: round(float(value), 6) for key, value in named.items() if value is not None}


def evaluation_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of metrics.json that a model's run shows.

    Parameters
    ----------
    metrics : mapping
        As in metrics.json.

    Returns
    -------
    dict
        The headline of unseen compounds without a prefix; `compound.`, `well.` and `site.` for
        more about out-of-fold predictions; `held_out.` for the gate's compounds; `baseline.` for
        the average precision of each baseline and `reference.` of each reference;
        `lost_without.` for what is lost without each channel; `unseen_batch.`; `activity.` for the
        share of active compounds and the score among them; `invalid.random_image_split` for what a
        random split by image would claim.
    """
    compound, baselines = metrics["out_of_fold"]["compound"], metrics["baselines"]
    found = headline_metrics(
        compound, baselines["scores"][baselines["best"]]["average_precision"])
    more: dict[str, Any] = {
        f"compound.{name}": compound.get(name)
        for name in ("roc_auc", "balanced_accuracy", "brier", "precision_at_10")}
    more |= {f"{level}.average_precision": metrics["out_of_fold"][level]["average_precision"]
             for level in ("well", "site") if level in metrics["out_of_fold"]}
    held_out = (metrics.get("held_out") or {}).get("compound")
    if held_out:
        more |= {f"held_out.{name}": value for name, value in headline_metrics(held_out).items()}
    more |= {f"baseline.{name}": score["average_precision"]
             for name, score in baselines["scores"].items()}
    more |= {f"reference.{name}": score["average_precision"]
             for name, score in (metrics.get("references") or {}).items()}
    more |= {f"lost_without.{name}": value for name, value in _losses(metrics).items()}
    more["unseen_batch.average_precision"] = (
        metrics.get("unseen_batch") or {}).get("average_precision")
    activity = metrics.get("activity") or {}
    more["activity.share_active"] = activity.get("share_active")
    more["activity.average_precision_among_active"] = (
        activity.get("among_active") or {}).get("average_precision")
    leak = (metrics.get("random_image_split") or {}).get("true_labels") or {}
    more["invalid.random_image_split"] = leak.get("compound", {}).get("average_precision")
    return found | {name: round(float(value), 6) for name, value in more.items()
                    if isinstance(value, (int, float))}


def _losses(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What is lost without the most needed groups of the first kind: channels, if there are any."""
    kinds = (metrics.get("explanation") or {}).get("groups") or {}
    lost = {name: group["lost"] for name, group in next(iter(kinds.values()), {}).items()}
    return flat_numbers({name: lost[name] for name in sorted(lost, key=lambda one: -lost[one])
                         [:MOST_LOSSES]})


def flat_numbers(nested: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested dictionary as MLflow metrics, their keys joined by dots.

    MLflow allows letters, digits, blanks and `_ - . / :` in names; others become `_`.
    """
    found: dict[str, float] = {}
    for key, value in nested.items():
        name = prefix + "".join(c if c.isalnum() or c in "_-/: " else "_" for c in str(key))
        if isinstance(value, Mapping):
            found.update(flat_numbers(value, name + "."))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value)
    return found
