"""A screen's own page: what it holds, what is missing and what its layout confounds.

It takes tables alone, so that it can be read before anything is trained, or imaged.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.drawing.figures import draw
from moascope.drawing.maps import plate_figure
from moascope.drawing.page import render_page
from moascope.layout.confounds import class_shares, measure_confounds
from moascope.layout.facts import plate_summaries, screen_facts
from moascope.layout.figures import confounds_figure, place_maps, shares_figure
from moascope.layout.nulls import PERMUTATIONS
from moascope.layout.wells import labelled_wells, well_table
from moascope.layout.words import STATES, findings, lead, missing_words, tiles, verdict
from moascope.screen.columns import SITE
from moascope.screen.tables import Screen
from moascope.screen.targets import Labels
from moascope.text import class_name, counted, tidy
from moascope.work.files import rounded, write_atomically, write_json

TEMPLATE = "screen.html.jinja"
SCREEN_PAGE, SCREEN_NUMBERS = "screen.html", "screen.json"
MOST_ROWS = 25
DIGITS = 6


def measure_screen(screen: Screen, labels: Labels, groups: pd.DataFrame,
                   description: dict[str, Any], seed: int,
                   quarantine: pd.DataFrame | None = None,
                   failed: pd.DataFrame | None = None,
                   permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Measure a screen's layout: what screen.json says.

    Parameters
    ----------
    screen : Screen
    labels : Labels
    groups : DataFrame
        The units as dealt: `Metadata_Group`, `Label`, `Fold_<repeat>`.
    description : dict
        As `moascope.screen.description.read_description` gives it.
    seed : int
    quarantine, failed : DataFrame, optional
        Sites in quarantine, and sites that quality control left out.
    permutations : int
    """
    none = pd.DataFrame(columns=SITE)
    wells = well_table(screen, labels)
    repeats = sum(column.startswith("Fold_") for column in groups)
    return rounded({
        "source": description.get("source", "folder"),
        "licence": description.get("licence", ""),
        "citation": description.get("citation", ""),
        "target": labels.question.target, "binary": labels.question.binary,
        "screen": screen_facts(screen, labels, wells, groups,
                               none if quarantine is None else quarantine,
                               none if failed is None else failed),
        "confounds": measure_confounds(wells, groups, labels.question, repeats, seed,
                                       permutations),
        "warnings": list(dict.fromkeys([*screen.warnings, *labels.warnings])),
    })


def write_screen_page(folder: Path, screen: Screen, labels: Labels, groups: pd.DataFrame,
                      description: dict[str, Any], seed: int,
                      quarantine: pd.DataFrame | None = None,
                      failed: pd.DataFrame | None = None,
                      permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Measure a screen's layout and write screen.json and screen.html into a folder.

    Parameters are those of `measure_screen`, and so is what is returned.
    """
    content = measure_screen(screen, labels, groups, description, seed, quarantine, failed,
                             permutations)
    write_json(folder / SCREEN_NUMBERS, content)
    write_atomically(folder / SCREEN_PAGE, render_screen_page(
        content, labels, well_table(screen, labels), groups, seed, permutations))
    return content


def render_screen_page(content: dict[str, Any], labels: Labels, wells: pd.DataFrame,
                       groups: pd.DataFrame, seed: int, permutations: int = PERMUTATIONS) -> str:
    """The text of the page.

    Parameters
    ----------
    content : dict
        From `measure_screen`, or read from screen.json.
    labels : Labels
    wells : DataFrame
        From `moascope.layout.confounds.well_table`.
    groups, seed, permutations
        As given to `measure_screen`.
    """
    content = _in_order(content, labels.question.classes)
    found = findings(content)
    measured = [one for one in found if one.value is not None]
    kind, sentence = verdict(found)
    facts = content["screen"]
    question = labels.question
    names = {name: class_name(name, question.target) for name in question.classes}
    asked = question.scored_names
    what = names[asked[0]] if question.binary else "labelled wells"
    return render_page(
        "moascope.layout", TEMPLATE, content=content, screen=facts, kind=kind, verdict=sentence,
        lead=lead(content), tiles=tiles(content), findings=found, states=STATES,
        confounds=_confounds(measured), shares=_shares(labels, wells, groups, asked, seed,
                                                       permutations, what),
        places=_places(wells, asked if question.binary else [], what, facts["plate_formats"]),
        names=names,
        simulated=content["source"] == "simulated",
        missing=[(missing_words(one["name"], facts), one)
                 for one in facts["missing"] if one["count"]],
        complete=[missing_words(one["name"], facts)[0]
                  for one in facts["missing"] if not one["count"]],
        most_rows=MOST_ROWS, binary=question.binary, unit=facts["unit"],
        positive=what if question.binary else "",
        tried=sum("p" in one for one in content["confounds"]),
        permutations=permutations,
    )


def _in_order(content: dict[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    """Counts by class in the order of the question, the positive class last: JSON sorts them."""
    def ordered(counts: dict[str, int]) -> dict[str, int]:
        return {name: counts[name] for name in classes if name in counts}

    screen = content["screen"]
    return content | {"screen": screen | {
        "classes": ordered(screen["classes"]),
        "panels": [panel | {"classes": ordered(panel["classes"])} for panel in screen["panels"]],
    }}


def _confounds(measured: list[Any]) -> str | None:
    if not measured:
        return None
    alt = "Confounds with their nulls: " + "; ".join(
        f"{one.title.lower()} {one.value:.3f}" for one in measured) + "."
    return draw("confounds", alt, partial(confounds_figure, measured))


def _shares(labels: Labels, wells: pd.DataFrame, groups: pd.DataFrame, asked: list[str], seed: int,
            permutations: int, what: str) -> str | None:
    own = labelled_wells(wells, groups)
    if not labels.question.binary or own["Metadata_Plate"].nunique() < 2:
        return None
    by_column, by_plate = (class_shares(own, groups, factor, asked, permutations, seed)
                           for factor in ("Column", "Plate"))
    alt = (f"Share of wells with {what} by column, from {by_column['share'].min():.2f} to "
           f"{by_column['share'].max():.2f}, and by plate, from {by_plate['share'].min():.2f} to "
           f"{by_plate['share'].max():.2f}.")
    return draw("shares", alt, partial(shares_figure, by_column, by_plate, what))


def _places(wells: pd.DataFrame, asked: list[str], what: str,
            plates: dict[str, int]) -> list[dict[str, Any]]:
    found = []
    for size, places in plate_summaries(wells, asked).items():
        maps = place_maps(places, size, what)
        alt = (f"Maps of a plate of {size} wells, over {counted(plates[size], 'plate')}: "
               + ", ".join(one.title for one in maps) + ".")
        held = places.loc[places["Compounds"] > 0, "Compounds"]
        found.append({"size": int(size), "plates": plates[size],
                      "compounds": held.median() if len(held) else None,
                      "drawing": draw(f"places{size}", tidy(alt), partial(plate_figure, maps))})
    return found
