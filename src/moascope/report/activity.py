"""Activity in words and in a picture: which compounds do anything that the images show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moascope.drawing.figures import BLUE, FAINT, INK, MUTED, draw, in_house_style, new_figure
from moascope.evaluation.active import SEEN_AT, ranks_inactive, read_compounds
from moascope.evaluation.doses import DoseResponses
from moascope.report.doses import dose_section, read_responses
from moascope.text import bracketed, counted, number, p_value, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (8.6, 3.6)   # inches
# A page with more points than this holds them as one image.
MOST_POINTS = 2000
MOST_MECHANISMS = 12


@dataclass(frozen=True)
class ActivityFound:
    """What the stage `activity` wrote: its tables and activity.json."""

    summary: dict[str, Any]
    compounds: pd.DataFrame
    consistency: pd.DataFrame
    responses: DoseResponses | None = None


def read_activity(folder: Path) -> ActivityFound:
    """Read `reports/activity`."""
    return ActivityFound(json.loads((folder / "activity.json").read_text()),
                         read_compounds(folder),
                         pd.read_csv(folder / "consistency.csv", dtype={"Metadata_MoA": str}),
                         read_responses(folder))


def activity_section(found: ActivityFound | None, metrics: dict[str, Any]) -> dict[str, Any]:
    """What the report shows of activity; empty where no compound could be tested.

    Parameters
    ----------
    found : ActivityFound or None
    metrics : dict
        As in metrics.json.
    """
    if found is None or not found.summary["compounds"]["tested"]:
        return {}
    summary, table = found.summary, found.consistency
    best = table.sort_values(["p_value", "mean_average_precision", "Metadata_MoA"],
                             ascending=[True, False, True])
    return {
        "shares": share_words(summary), "sentence": activity_sentence(metrics),
        "position": position_sentence(summary), "warnings": summary["warnings"],
        "threshold": summary["threshold"], "doses": dose_section(found.responses),
        "drawing": draw("activity", activity_alt(summary),
                        partial(activity_figure, found.compounds, summary)),
        "mechanisms": [{"name": tidy(row.Metadata_MoA), "compounds": row.compounds,
                        "active": row.active_compounds, "score": row.mean_average_precision,
                        "chance": row.null_mean, "p": row.corrected_p_value,
                        "consistent": row.consistent == "yes"}
                       for row in best.head(MOST_MECHANISMS).itertuples()],
        "hidden": max(0, len(best) - MOST_MECHANISMS),
    }


def share_words(summary: dict[str, Any]) -> str:
    """How many compounds are active, and what follows, in one line.

    Parameters
    ----------
    summary : dict
        As in activity.json.
    """
    compounds, mechanisms = summary["compounds"], summary["mechanisms"]
    if not compounds["tested"]:
        return "no compound could be tested for activity"
    said = (f"{compounds['active']} of {counted(compounds['tested'], 'compound')} "
            f"{_are(compounds['active'])} active: unlike the negative controls of their plates, "
            f"corrected p < {summary['threshold']:g}")
    if mechanisms["tested"]:
        said += (f"; {mechanisms['consistent']} of {counted(mechanisms['tested'], 'mechanism')} "
                 f"{_are(mechanisms['consistent'])} consistent")
    return said


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def activity_sentence(metrics: dict[str, Any]) -> str:
    """What activity means for the score; empty where it was not tested.

    Parameters
    ----------
    metrics : dict
        As in metrics.json.
    """
    found = metrics.get("activity") or {}
    if not found.get("tested"):
        return ""
    unit = metrics.get("unit", "compound")
    said = (f"{found['active']} of {counted(found['tested'], unit)} {_are(found['active'])} "
            "active (unlike the negative controls).")
    if among := found.get("among_active"):
        everyone = metrics["out_of_fold"]["compound"]
        said += (f" Among the active ones the average precision is "
                 f"{number(among['average_precision'])}{bracketed(among)}, where a random list "
                 f"gives {number(among['null_mean'])} (p = {p_value(among['p'])}); among all it "
                 f"is {number(everyone['average_precision'])}, where a random list gives "
                 f"{number(everyone['null_mean'])}.")
    elif found["active"]:
        said += " They are too few, or of one class only, for a score of their own."
    if found["active"] == found["tested"]:
        return said
    others = found.get("among_inactive")
    if others and ranks_inactive(metrics):
        return said + (f" Among the inactive ones it is {number(others['average_precision'])}, "
                       f"where a random list gives {number(others['null_mean'])} "
                       f"(p = {p_value(others['p'])}): the model sees effects in them that are too "
                       "weak for this test of single compounds, so inactive does not mean without "
                       "effect here.")
    return said + " An inactive compound looks like its controls and cannot be classified."


def position_sentence(summary: dict[str, Any]) -> str:
    """What position alone does to controls, or that it cannot be told."""
    found = summary.get("position") or {}
    if not found:
        return ("Position: no position holds negative controls on two plates, so what position "
                "alone does cannot be told. Compounds whose wells are neighbours may look active "
                "for their place.")
    more = found["mean_average_precision"] > found["null_mean"] and found["p"] < SEEN_AT
    return (f"Position: negative-control wells in one position of several plates find each other "
            f"with a mean average precision of {number(found['mean_average_precision'])}, where "
            f"chance gives {number(found['null_mean'])} (p = {p_value(found['p'])}). "
            + ("Position shows in the images, so wells in one position do not count as replicates "
               "where a compound has others. Neighbouring wells may still share their place."
               if more
               else "Position alone is not seen to make wells look alike."))


def activity_alt(summary: dict[str, Any]) -> str:
    """The picture in words."""
    shares = "; ".join(f"{name} µM {100 * (one['share_active'] or 0):.0f} %"
                       for name, one in summary["by_concentration_uM"].items())
    return f"Activity of compounds: {share_words(summary)}. Share of active compounds: {shares}."


@in_house_style
def activity_figure(compounds: pd.DataFrame, summary: dict[str, Any]) -> Figure:
    """Mean average precision against corrected p, and the share of active compounds per dose.

    Parameters
    ----------
    compounds : DataFrame
        As in compounds.csv.
    summary : dict
        As in activity.json.
    """
    figure = new_figure(*SIZE)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    tested = compounds[compounds["p_value"].notna()]
    active = (tested["active"] == "yes").to_numpy()
    strength = -np.log10(tested["corrected_p_value"].to_numpy(float))
    score = tested["mean_average_precision"].to_numpy(float)
    for chosen, colour, name in ((~active, FAINT, "inactive"), (active, BLUE, "active")):
        left.scatter(score[chosen], strength[chosen], s=16, color=colour, edgecolor=MUTED,
                     linewidth=0.4, rasterized=len(tested) > MOST_POINTS,
                     label=f"{name} ({int(chosen.sum()):,})")
    left.axhline(-np.log10(summary["threshold"]), color=INK, linewidth=0.8, linestyle="--")
    left.set(xlim=(0, 1.02), title="Compounds", xlabel="Mean average precision of its wells",
             ylabel="−log₁₀ corrected p")
    left.legend(frameon=False, loc="lower right")
    doses = summary["by_concentration_uM"]
    names = sorted(doses, key=lambda name: -1.0 if name == "none" else float(name))
    shares = [100 * (doses[name]["share_active"] or 0) for name in names]
    right.bar(range(len(names)), shares, color=BLUE, width=0.7)
    for place, name in enumerate(names):
        right.annotate(f"{doses[name]['active']}/{doses[name]['tested']}", (place, shares[place]),
                       xytext=(0, 2), textcoords="offset points", ha="center", color=MUTED,
                       fontsize=7)
    right.set(ylim=(0, 105), title="Doses", xlabel="Concentration, µM", ylabel="Active, %")
    right.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0)
    return figure
