"""What the page on a screen says of each confound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moascope.text import class_name, counted, listing, number, tidy


def share(value: float) -> str:
    """A share as a percentage, with digits where it is small or nearly all."""
    percent = 100 * value
    digits = 0 if percent == 0 or 10 <= percent < 99 or percent > 99.95 else (
        1 if percent >= 0.95 else 2)
    return f"{number(percent, digits)} %"


def joined(parts: list[str]) -> str:
    """Parts of a sentence with commas and an `and`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


# One function per confound: its title, its name in the verdict, what the value is, what was
# measured, what that means where it is found and where it is not, and what the pipeline does.

def _replicates(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    measured = "" if state == "unknown" else (
        f"{share(one['value'])} of replicate pairs on two plates are in the same well; "
        f"{share(one['always_in_one_place'])} of {counted(one['doses_on_several_plates'], 'dose')}"
        f" of compounds are in one well on every plate. {counted(one['plates'], 'plate')} "
        f"{'has' if one['plates'] == 1 else 'have'} "
        f"{counted(one['plate_maps'], 'different layout')}.")
    return ("Replicates are in the same well", "compounds with wells",
            "share of replicate pairs in one well", measured,
            "A position effect then acts on the same compound on every plate, so that its "
            "replicates agree for reasons other than the compound.",
            "Replicates are in different wells, which averages position effects out.",
            "Folds, hold-out, intervals and permutations use whole compounds: agreement of "
            "replicates never counts as a score on unseen compounds. Position effects are not "
            "subtracted, because that would subtract the compound.")


def _leak(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    measured = "" if state == "unknown" else (
        f"Under a random split by well, looking up the same position of the same layout scores "
        f"an average precision of {number(one['value'])} (prevalence "
        f"{number(one['prevalence'])}).")
    return ("A random split rewards positions", "compounds with wells",
            "average precision, random split by well", measured,
            "A score under a random split by well or image needs no cells: it is just as high "
            "where there is nothing to learn.",
            "A position does not give its compound away.",
            "No score uses such a split; report.html shows one by image, marked invalid.")


def _position(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    return ("Position predicts the class", "position with class",
            "average precision from position alone", _ridge_measured(one, state, "row, column and "
                                                                     "well", content),
            "The position of an unseen compound predicts its class better than chance: a model "
            "may read the position instead of the cells.",
            "The position of an unseen compound predicts its class no better than chance.",
            "report.html shows a baseline that sees only row and column; a model counts as "
            "useful only if it is better than every baseline.")


def _plate(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    return ("Plate predicts the class", "plate with class", "average precision from plate alone",
            _ridge_measured(one, state, "plate", content),
            "The plates of an unseen compound predict its class better than chance.",
            "The plates of an unseen compound predict its class no better than chance.",
            _normalised(content) + "report.html shows a baseline that sees only the plate.")


def _ridge_measured(one: dict[str, Any], state: str, what: str, content: dict[str, Any]) -> str:
    if state == "unknown":
        return ""
    unit = content["screen"]["unit"]
    return (f"Average precision {number(one['value'])} over {counted(one['units'], unit)} in the "
            f"folds, from {what} alone (prevalence {number(one['prevalence'])}).")


def _normalised(content: dict[str, Any]) -> str:
    controls = any(panel["controls"] for panel in content["screen"]["panels"])
    return "Features are normalised to the negative controls of their plate. " if controls else ""


def _class_by(factor: str, plural: str) -> Callable[..., tuple[str, ...]]:
    remedies = {
        "row": "report.html shows a baseline that sees only row and column.",
        "column": "report.html shows a baseline that sees only row and column.",
        "plate": "report.html shows a baseline that sees only the plate.",
        "batch": "report.html shows a score for unseen compounds in an unseen batch.",
        "panel": "Unless train.panels is pooled, each panel has its own head; report.html shows "
                 "scores by panel.",
    }

    def words(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
        measured = ""
        if state != "unknown":
            measured = f"{share(one['value'])} of the variance of the class is between {plural}"
            if "lowest" in one and one["lowest_share"] < one["highest_share"]:
                positive = class_name(list(content["screen"]["classes"])[1], content["target"])
                measured += (f"; the share of wells with {positive} is "
                             f"{share(one['lowest_share'])} in {factor} {tidy(one['lowest'], 30)}"
                             f" and {share(one['highest_share'])} in {factor} "
                             f"{tidy(one['highest'], 30)}")
            measured += "."
            if one["units_at_every_level"] == 1:
                measured += f" Every {content['screen']['unit']} is on all of them."
        remedy = (_normalised(content) if factor == "plate" else "") + remedies[factor]
        return (f"Class differs between {plural}", f"class with {factor}",
                f"share of the class's variance between {plural}", measured,
                f"{plural.capitalize()} differ in class by more than chance: what a {factor} does "
                "to cells looks like the class.",
                f"{plural.capitalize()} differ in class no more than by chance.", remedy)

    return words


def _edge(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    measured = ""
    if state != "unknown":
        columns = (joined([str(column) for column in one["columns"]])
                   if len(one["columns"]) <= 6 else listing(one["columns"], 6))
        nearer = ("nearer to the edge" if one["value"] >= 0.5 else "farther from the edge")
        measured = (
            f"Distance to the edge separates controls from treated wells with an area under the "
            f"ROC curve of {number(one['value'])} (0.5: not at all); controls are {nearer}, in "
            f"{'column' if len(one['columns']) == 1 else 'columns'} {columns} "
            f"({one['columns_used']} are in use). {share(one['in_outer_columns'])} of them are in "
            f"the outermost columns in use, and {share(one['treated_in_outer_columns'])} of "
            "treated wells.")
    return ("Controls are at the edge", "controls with the edge of the plate",
            "area under the ROC curve, edge distance", measured,
            "Edge effects cannot be separated from being a control, so that activity against "
            "controls includes them.",
            "Controls are no nearer to the edge, and no farther from it, than by chance.",
            "Normalisation to these controls shifts all wells of a plate alike, so the compounds "
            "of a plate stay comparable. Activity cannot be corrected afterwards: spread the "
            "controls over the next plates.")


def _own_columns(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    measured = "" if state == "unknown" else (
        f"{share(one['value'])} of the control wells are in columns that hold no treated well on "
        "any plate.")
    return ("Controls have their own columns", "controls with columns",
            "share of controls in their own columns", measured,
            "Column effects, from pipetting or position, cannot be separated from being a "
            "control.",
            "Controls share columns with treated wells as expected by chance.",
            "As for the edge: the compounds of a plate stay comparable with each other, but "
            "normalisation does not correct activity against controls.")


def _dose(one: dict[str, Any], state: str, content: dict[str, Any]) -> tuple[str, ...]:
    measured = "" if state == "unknown" else (
        f"{share(one['value'])} of the variance of the logarithm of {one['doses']} doses is "
        f"between {one['columns']} columns.")
    return ("Doses follow columns", "dose with column",
            "share of the variance of dose between columns", measured,
            "A response to dose cannot be separated from a response to columns.",
            "Doses are spread over columns as expected by chance.",
            "The doses of a compound are averaged before it is scored; scores by dose in "
            "report.html carry this confound.")


WORDS: dict[str, Callable[..., tuple[str, ...]]] = {
    "replicates_in_place": _replicates,
    "leak_by_place": _leak,
    "position_predicts_class": _position,
    "plate_predicts_class": _plate,
    "class_by_row": _class_by("row", "rows"),
    "class_by_column": _class_by("column", "columns"),
    "class_by_plate": _class_by("plate", "plates"),
    "class_by_batch": _class_by("batch", "batches"),
    "class_by_panel": _class_by("panel", "panels"),
    "controls_at_edge": _edge,
    "controls_in_own_columns": _own_columns,
    "dose_by_column": _dose,
}
