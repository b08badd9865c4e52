"""Compounds that look alike, as the terminal shows them."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from moascope.evaluation.activity import INACTIVE
from moascope.evaluation.similar import OTHER_PLATES, SHARED_PLATES, Similar
from moascope.screen.targets import moa_terms
from moascope.text import counted, listing, number, p_value, tidy

# Corrected p below which two compounds are said to be alike.
ALIKE_AT = 0.05
# Mechanisms that the sentence names.
MOST_MECHANISMS = 3


def show_similar(found: Similar, top: int) -> None:
    """Print the nearest compounds of one, and what can be concluded.

    Parameters
    ----------
    found : Similar
    top : int
        Rows of the table.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rows = found.table.head(top)
    table = Table(title=f"Nearest to {_named(found)}, {len(rows)} of "
                        f"{counted(len(found.table), _unit(found))}", title_justify="left")
    table.add_column("compound", overflow="fold")
    for name in (*(["µM"] if found.dose is not None else []), "cosine", "p", "corrected",
                 "nearer"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("active", no_wrap=True)
    table.add_column("mechanism", overflow="fold")
    # A mark on every row says nothing; the warning does.
    shared = set(found.table["plates"]) == {OTHER_PLATES, SHARED_PLATES}
    for row in rows.to_dict("records"):
        mark = "*" if shared and row["plates"] == SHARED_PLATES else ""
        dose = [_dose(row["Metadata_Concentration_uM"])] if found.dose is not None else []
        table.add_row(tidy(row["Metadata_Compound"]) + mark, *dose, number(row["similarity"], 2),
                      p_value(row["p_value"]), p_value(row["corrected_p_value"]),
                      _percent(row["share_of_others"]), row["active"] or "–",
                      tidy(row["Metadata_MoA"].replace("|", ", "), most=60) or "–",
                      style="bold" if row["corrected_p_value"] < ALIKE_AT else None)
    console.print(table)
    console.print(conclusion(found), markup=False, highlight=False)
    console.print(
        "cosine: of mean profiles; 1 is the same direction, 0 unrelated. p: how often DMSO wells, "
        f"grouped alike, reach it; corrected for all {counted(len(found.table), _unit(found))}. "
        "nearer: share of the other compounds that are at least as near to the neighbour; a "
        "neighbour of everybody has a large one."
        + (" *: all its wells are on plates of the compound." if shared else ""),
        markup=False, highlight=False, style="dim")
    for warning in found.warnings:
        console.print(warning, style="yellow", markup=False, highlight=False)


def conclusion(found: Similar) -> str:
    """What the similarities of a compound mean, in sentences."""
    table, name = found.table, _named(found)
    if not len(table):
        return f"No other compound was measured in a panel of {name}."
    if table["p_value"].isna().all():
        return f"It cannot be told whether anything is more like {name} than controls are."
    alike = table[table["corrected_p_value"] < ALIKE_AT]
    itself = (f" {name} itself looks like its controls (it is not active)."
              if found.active == INACTIVE else "")
    if not len(alike):
        return (f"Nothing is more like {name} than DMSO wells are (corrected p < {ALIKE_AT:g}): "
                f"the order above may be chance.{itself}")
    names = alike.drop_duplicates("Metadata_Compound")
    said = (f"{counted(len(names), 'compound')} {'is' if len(names) == 1 else 'are'} more like "
            f"{name} than DMSO wells are (corrected p < {ALIKE_AT:g}): "
            f"{listing(tidy(one) for one in names['Metadata_Compound'])}")
    terms = Counter(term for text in names["Metadata_MoA"]
                    for term in dict.fromkeys(moa_terms(text)))
    known = int((names["Metadata_MoA"] != "").sum())
    if terms:
        named = [f"{tidy(term)} ({count})" for term, count in terms.most_common()]
        said += f"; mechanisms among them: {listing(named, MOST_MECHANISMS)}"
    if unknown := len(names) - known:
        said += f"; {unknown:,} of unknown mechanism"
    return (f"{said}. Looking alike is a hint and no proof of one mechanism: toxic compounds look "
            f"alike too.{itself}")


def _named(found: Similar) -> str:
    return tidy(found.compound) + ("" if found.dose is None else f" at {_dose(found.dose)} µM")


def _unit(found: Similar) -> str:
    return "other compound" if found.dose is None else "dose"


def _dose(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3g}"


def _percent(share: float) -> str:
    return "–" if pd.isna(share) else f"{100 * share:.0f} %" if share >= 0.01 else "<1 %"

