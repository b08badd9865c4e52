"""What a person should look at: ambiguous or contradicted decisions, most images first."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from moascope.annotation.compounds import Annotated
from moascope.screen.compounds import compound_groups
from moascope.screen.tables import Screen

REVIEW = ["Metadata_Compound", "Metadata_MoA", "question", "images", "suggestion"]


def review_list(annotated: Annotated, images: Mapping[str, int]) -> pd.DataFrame:
    """List the compounds that a person should decide, or decide again.

    Parameters
    ----------
    annotated : Annotated
    images : mapping of str to int
        How many images depend on each compound, as from `images_of` or rows of the input.

    Returns
    -------
    DataFrame
        `Metadata_Compound`, `Metadata_MoA`, `question`, `images` (int), `suggestion` (what the
        terms and genes decide); most images first, then by name. A compound without any mechanism
        is not listed: there is nothing to judge it by.
    """
    table = annotated.table
    questions: dict[int, list[str]] = {}
    for row, (gpcr, action, curator, decision) in enumerate(zip(
            table["gpcr"], table["gpcr_action"], table["curator"], annotated.decisions,
            strict=True)):
        if curator:
            other = disagreement(gpcr, action, decision.gpcr, decision.action)
            if other:
                questions[row] = [f"{curator} decided {in_words(gpcr, action)}, but {other}."]
        elif decision.question:
            questions[row] = [decision.question]
    for row, question in _forms_that_differ(table).items():
        questions.setdefault(row, []).append(question)
    rows = [(table["Metadata_Compound"].iloc[row], table["Metadata_MoA"].iloc[row],
             " ".join(asked), int(images.get(table["Metadata_Compound"].iloc[row], 0)),
             in_words(annotated.decisions[row].gpcr, annotated.decisions[row].action))
            for row, asked in questions.items()]
    listed = pd.DataFrame(rows, columns=REVIEW)
    return listed.sort_values(["images", "Metadata_Compound"], ascending=[False, True],
                              ignore_index=True)


def disagreement(gpcr: str, action: str, machine: str, machines_action: str) -> str:
    """How the terms and genes contradict a person, in words; "" where they do not."""
    if machine == "unknown" or gpcr == "unknown":
        return ""
    if machine != gpcr or (gpcr == "yes" and action and machines_action
                           and action != machines_action):
        return f"the terms say {in_words(machine, machines_action)}"
    return ""


def in_words(gpcr: str, action: str) -> str:
    """A decision for a sentence: "yes (agonist)", "no"."""
    return f"{gpcr} ({action.replace('|', ' and ')})" if gpcr == "yes" and action else gpcr


def images_of(screen: Screen) -> dict[str, int]:
    """How many sites of a screen show each compound."""
    wells = screen.layout[["Metadata_Plate", "Metadata_Well", "Metadata_Compound"]]
    sites = screen.sites[["Metadata_Plate", "Metadata_Well"]].merge(wells)
    return sites["Metadata_Compound"].value_counts().to_dict()


def _forms_that_differ(table: pd.DataFrame) -> dict[int, str]:
    """Rows of compounds whose salt or stereoisomer is annotated differently, with the question."""
    if "Metadata_InChIKey" not in table:
        return {}
    group_of = compound_groups(table["Metadata_Compound"].tolist(),
                               table["Metadata_InChIKey"].tolist())
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(table["Metadata_Compound"]):
        groups.setdefault(group_of[name], []).append(row)
    questions = {}
    for rows in groups.values():
        decided = {table["gpcr"].iloc[row] for row in rows} - {"unknown"}
        if len(decided) > 1:
            forms = ", ".join(f"{table['Metadata_Compound'].iloc[row]}: "
                              f"{table['gpcr'].iloc[row]}" for row in rows)
            for row in rows:
                questions[row] = (f"Forms of one compound are annotated differently ({forms}). "
                                  "Which is right?")
    return questions
