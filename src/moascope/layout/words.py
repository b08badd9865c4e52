"""What the page on a screen says in sentences; numbers come from screen.json alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moascope.layout.confound_words import WORDS, joined, share
from moascope.text import class_name, counted, listing, number, p_value, tidy

ALPHA = 0.05
CLEARLY_ABOVE = 0.1  # Of the way from guessing to perfect.


@dataclass(frozen=True)
class Finding:
    """One confound as the page shows it.

    Attributes
    ----------
    state : {"found", "hint", "none", "unknown"}
    title, measured, null, meaning, remedy : str
    short : str
        What is confounded with what, for the verdict.
    mark : str
        What its value is, for the figure.
    value, low, high : float or None
    """

    state: str
    title: str
    short: str
    mark: str
    measured: str
    null: str
    meaning: str
    remedy: str
    value: float | None
    low: float | None
    high: float | None


STATES = {"found": "confounded", "hint": "possibly", "none": "not found",
          "unknown": "not measurable"}


def findings(content: dict[str, Any]) -> list[Finding]:
    """Every confound of screen.json as the page shows it.

    A measure with a p counts as found where p is at most 0.05 divided by how many were tried
    (Bonferroni), as a hint where it is at most 0.05.
    """
    confounds = content["confounds"]
    tried = sum("p" in one for one in confounds) or 1
    return [_finding(one, _state(one, tried), content) for one in confounds]


def _state(one: dict[str, Any], tried: int) -> str:
    if one["value"] is None:
        return "unknown"
    if one["name"] == "leak_by_place":
        above = (one["shuffled_labels"] - one["prevalence"]) / (1 - one["prevalence"] or 1)
        return "found" if above > CLEARLY_ABOVE else "none"
    if "p" in one:
        return "found" if one["p"] <= ALPHA / tried else "hint" if one["p"] <= ALPHA else "none"
    return "found" if one["value"] > one["null"]["high"] else "none"


def _finding(one: dict[str, Any], state: str, content: dict[str, Any]) -> Finding:
    words = WORDS[one["name"]](one, state, content)
    title, short, mark, measured, found, none, remedy = words
    null = one.get("null")
    if state == "unknown":
        return Finding(state, title, short, mark, f"Not measurable: {one['why_not']}.", "–", "", "",
                       None, None, None)
    said = (f"{number(one['shuffled_labels'])} with shuffled labels"
            if one["name"] == "leak_by_place" else "–")
    if null:
        percent = mark.startswith("share")
        show: Callable[[float], str] = share if percent else number
        said = f"{show(null['mean'])} ({show(null['low'])} to {show(null['high'])})"
        if "p" in one:
            said += f", p = {p_value(one['p'])}"
    meaning = found if state == "found" else none
    if state == "hint":
        meaning = ("More than in most random layouts, but p is not below 0.05 once corrected for "
                   "the number of measures tested.")
    return Finding(state, title, short, mark, measured, said, meaning,
                   remedy if state in ("found", "hint") else "", one["value"],
                   null["low"] if null else None, null["high"] if null else None)


def verdict(found: list[Finding]) -> tuple[str, str]:
    """What the layout confounds, in one sentence, and the kind of that answer."""
    if all(one.state == "unknown" for one in found):
        return "none", "This layout is too small for any confound to be measured."
    short = list(dict.fromkeys(one.short for one in found if one.state == "found"))
    if not short:
        return "yes", "No confound was found among those that can be measured on this layout."
    return "part", f"This layout confounds {joined(short)}."


def lead(content: dict[str, Any]) -> list[str]:
    """The screen in a few sentences."""
    screen = content["screen"]
    batches = len(screen["batches"])
    panels = len(screen["panels"])
    features = screen.get("profile_features", 0)
    parts = [counted(len(screen["channels"]), "channel")] if screen["channels"] else []
    parts += [counted(features, "feature")] if features else []
    if batches:
        parts.append("1 batch" if batches == 1 else f"{batches:,} batches")
    if panels > 1:
        parts.append(counted(panels, "panel"))
    field = "image field" if screen["channels"] else "profile"
    first = (f"{counted(screen['sites'], field)} in {counted(screen['wells'], 'well')} on "
             f"{counted(screen['plates'], 'plate')} of {_formats(screen['plate_formats'])} wells, "
             f"in {joined(parts)}")
    replicates = screen["replicates"]
    sentences = [first + "."]
    if replicates:
        usual = number(replicates["median"], 0 if replicates["median"] % 1 == 0 else 1)
        alike = replicates["fewest"] == replicates["most"]
        sentences.append(
            f"A compound at one dose{' on one panel' if panels > 1 else ''} has {usual} "
            f"{'well' if usual == '1' else 'wells'}" + ("." if alike else
            f" (median; {replicates['fewest']:,} to {replicates['most']:,})."))
    if screen["forms_merged"]:
        sentences.append(f"{counted(screen['forms_merged'], 'compound')} "
                         f"{'is' if screen['forms_merged'] == 1 else 'are'} plated in several "
                         "forms (salts, stereoisomers) that count as one.")
    return sentences


def tiles(content: dict[str, Any]) -> list[dict[str, str]]:
    """The four headline numbers, each with its meaning."""
    screen = content["screen"]
    unit, target = screen["unit"], content["target"]
    classes = screen["classes"]
    units = sum(classes.values())
    unknown = screen["compounds"] - screen["compounds_with_label"]
    found = [
        {"name": "Plates", "value": f"{screen['plates']:,}",
         "means": f"{counted(screen['wells'], 'well')}, {_measured(screen)}."},
        {"name": "Compounds", "value": f"{screen['compounds']:,}",
         "means": f"{screen['compounds_with_label']:,} have a label for this question; "
                  f"{unknown:,} "
                  f"({share(unknown / max(screen['compounds'], 1))}) are unknown and take no "
                  "part: unknown is never negative."},
    ]
    if content["binary"]:
        positive = list(classes)[1]
        hits = classes[positive]
        found.append({
            "name": f"{class_name(positive, target)}: {unit}s", "value": f"{hits:,}",
            "means": f"of {units:,} independent {unit}s with a usable "
                     f"{'image' if screen['channels'] else 'profile'}: a prevalence of "
                     f"{number(hits / max(units, 1))}."})
    else:
        several = sum(count > 1 for count in classes.values())
        found.append({
            "name": "Classes", "value": f"{len(classes):,}",
            "means": f"over {units:,} {unit}s; only the {several:,} with two or more of them can "
                     "be scored on unseen ones."})
    controls = sum(panel["controls"] for panel in screen["panels"])
    names = listing((tidy(name) for name in screen["control_names"]["negative"]), 3)
    fewest = min((panel["fewest_controls"] for panel in screen["panels"]), default=0)
    most = max((panel["most_controls"] for panel in screen["panels"]), default=0)
    found.append({
        "name": "Negative controls", "value": f"{controls:,}",
        "means": f"wells of {names}, {most if fewest == most else f'{fewest} to {most}'} per plate."
                 if controls else "This screen has none, so values are used as measured."})
    return found


def _measured(screen: dict[str, Any]) -> str:
    features = screen.get("profile_features", 0)
    planes = (f"{counted(screen['planes'], 'image plane')} "
              f"({', '.join(tidy(name) for name in screen['channels'][:6])})")
    profiles = f"profiles of {counted(features, 'feature')}"
    if not screen["channels"]:
        return f"{profiles} and no images"
    return f"{planes} and {profiles}" if features else planes


def missing_words(name: str, screen: dict[str, Any]) -> tuple[str, str]:
    """What is missing, and what follows; of a screen without images in words for profiles."""
    what, follows = MISSING[name]
    if not screen["channels"]:
        return IN_PROFILES.get(name, (what, follows))
    return what, follows


IN_PROFILES = {
    "wells_without_images": ("Wells without a profile", "not predicted"),
    "wells_not_in_layout": ("Wells of the profiles missing from layout.csv",
                            "their content is unknown, so they are not used"),
    "wells_with_fewer_sites": ("Wells with fewer profiles than most of their plate",
                               "count as much as the others"),
    "sites_quarantined": ("Profiles in quarantine", "excluded by validate and listed by name"),
    "sites_failing_quality_control": ("Profiles without any value",
                                      "take no part in training and scoring"),
    "compounds_without_usable_picture": ("Labelled compounds without a usable profile",
                                         "excluded from all scores"),
}


MISSING = {
    "wells_without_images": ("Wells without an image",
                             "not predicted"),
    "empty_wells": ("Wells without a compound", "not used"),
    "wells_not_in_layout": ("Imaged wells missing from layout.csv",
                            "their content is unknown, so they are not used"),
    "wells_with_fewer_sites": ("Wells with fewer images than most of their plate",
                               "count as much as the others"),
    "sites_quarantined": ("Images in quarantine", "excluded by validate and listed by name"),
    "sites_failing_quality_control": ("Images excluded by quality control",
                                      "take no part in training and scoring"),
    "compounds_without_annotation": ("Compounds without a row in annotations.csv",
                                     "unknown, never negative"),
    "compounds_of_unknown_class": ("Annotated compounds without a label for this question",
                                   "unknown, never negative"),
    "compounds_without_usable_picture": ("Labelled compounds without a usable image",
                                         "excluded from all scores"),
    "compounds_not_on_every_panel": ("Compounds that are not on every panel",
                                     "scored on the panels they are on"),
    "compounds_without_inchikey": ("Compounds without an InChIKey",
                                   "identified by name only: another form of the same compound "
                                   "under another name would leak"),
    "wells_without_concentration": ("Wells of compounds without a concentration",
                                    "counted as one dose"),
    "plates_without_negative_controls": ("Plates without negative controls",
                                         "cannot be normalised to their controls"),
    "panels_without_negative_controls": ("Panels without negative controls",
                                         "cannot be normalised to their controls"),
}


def _formats(formats: dict[str, int]) -> str:
    return " and ".join(f"{int(size):,}" for size in formats)
