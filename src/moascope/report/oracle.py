"""What the oracle of a simulated screen says about the model's score, as a sentence."""

from __future__ import annotations

from typing import Any

from moascope.report.words import main_scores
from moascope.text import number, p_value


def oracle_sentence(metrics: dict[str, Any]) -> str:
    """How near the model comes to what the screen holds; empty where there is no oracle."""
    oracle = metrics.get("oracle") or {}
    if not oracle or not main_scores(metrics):
        return ""
    found = ("Oracle of the simulated screen: a simple model of the true state of the cells, which "
             "is known for simulated screens only, scores "
             f"{number(oracle['average_precision'])} on the same folds")
    if oracle.get("efficiency") is None:
        return (f"{found} (permutation p = {p_value(oracle['p'])}), which is not above chance: "
                "this screen holds nothing to find, and no model should find anything.")
    share = number(100 * oracle["efficiency"], 0)
    return (f"{found}. The model reaches {share} % of the distance from the prevalence to this "
            "score. The oracle takes no part in choosing a model.")
