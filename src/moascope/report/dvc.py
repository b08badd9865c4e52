"""The few numbers that DVC's tables show: `dvc metrics show` and `dvc exp show` at 80 columns."""

from __future__ import annotations

from typing import Any


def dvc_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """The score of unseen compounds with what it must be read against.

    Parameters
    ----------
    metrics : dict
        As in metrics.json.

    Returns
    -------
    dict
        `AP`, the compounds' out-of-fold average precision; `low` and `high`, its 95 % interval;
        `chance`, the mean of random lists; `p` of the permutation test; `baseline`,
        the AP of the best baseline. An interval that does not exist is left out.

    Notes
    -----
    Names are short because a column is as wide as its name. The held-out compounds' score is left
    out on purpose: it stands in metrics.json and decides at promotion, and a table of experiments
    that shows it invites choosing by it.
    """
    score, baselines = metrics["out_of_fold"]["compound"], metrics["baselines"]
    numbers = {
        "AP": score["average_precision"],
        "low": score["low"],
        "high": score["high"],
        "chance": score.get("null_mean"),
        "p": score["p"],
        "baseline": baselines["scores"][baselines["best"]]["average_precision"],
    }
    return {name: round(float(value), 3) for name, value in numbers.items() if value is not None}
