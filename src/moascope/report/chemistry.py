"""What structure tells without a picture, as the report and the terminal say it."""

from __future__ import annotations

from typing import Any

from moascope.text import counted, number, span


def chemistry_sentence(metrics: dict[str, Any]) -> str:
    """What pictures, structure and both together reach; or why structure is not scored.

    Parameters
    ----------
    metrics : dict
        As in metrics.json.

    Returns
    -------
    str
        Empty where nothing is known of structures, as in results of an earlier release.
    """
    chemistry = metrics.get("chemistry") or {}
    baselines = metrics.get("baselines") or {}
    if note := chemistry.get("note"):
        return note
    if "chemistry" not in baselines:
        return ""
    seen = "profiles" if metrics.get("backbone") == "profiles" else "pictures"
    score, simple = baselines["chemistry"], baselines.get("chemistry_simple") or {}
    gap = score["both_minus_structure"]
    how = (f"the {seen} add to structure" if gap["low"] > 0 else
           f"adding the {seen} with equal weight makes structure alone worse" if gap["high"] < 0
           else f"it is not shown that the {seen} add to structure")
    without = chemistry.get("without_structure", 0)
    left_out = (f" ({counted(without, 'compound')} without a readable structure left out)"
                if without else "")
    return (f"Over {counted(score['compounds'], 'compound')} with a structure{left_out}, {seen} "
            f"alone reach {number(score['model']['average_precision'])}, structure alone "
            f"{number(score['average_precision'])} (fingerprint; "
            f"{number(simple.get('average_precision'))} from six properties), and both together "
            f"{number(score['both']['average_precision'])}; both minus structure is "
            f"{number(gap['difference'])} ({span(gap)}): {how}.")


def amphiphilic_rows(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Scores within cationic amphiphilic compounds and within the rest, where there are both."""
    found = (metrics.get("chemistry") or {}).get("cationic_amphiphilic") or {}
    rows = {"Cationic amphiphilic": found.get("within"), "All others": found.get("rest")}
    return {name: score for name, score in rows.items()
            if score and "average_precision" in score}


def amphiphilic_words(metrics: dict[str, Any]) -> str:
    """What the table of cationic amphiphilic compounds shows."""
    found = metrics["chemistry"]["cationic_amphiphilic"]
    said = (f"Compounds with {found['rule']}. They gather in lysosomes and look alike whatever "
            "their target is: a model that finds hits only because of this scores no better than "
            "a random list within either row.")
    if "alone" in found:
        said += (f" {100 * found['share_of_hits']:.0f} % of hits and "
                 f"{100 * found['share_of_others']:.0f} % of other "
                 " compounds are cationic amphiphilic; a list with these compounds first "
                 f"scores {number(found['alone']['average_precision'])}.")
    return said
