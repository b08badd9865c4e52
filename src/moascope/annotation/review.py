"""What a person should look at: ambiguous or contradicted decisions, most images first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from moascope.annotation.compounds import Annotated
from moascope.annotation.decide import Decision
from moascope.screen.compounds import compound_groups
from moascope.screen.tables import Screen
from moascope.screen.terms import term_key

REVIEW = ["Metadata_Compound", "Metadata_MoA", "question", "images", "suggestion", "number"]


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
        terms and genes decide), `number` (int) of the question: compounds whose undecided terms
        are the same share it, as one answer holds for all of them. The question with the most
        images comes first, and so does the compound within it, then by name. A compound without
        any mechanism is not listed: there is nothing to judge it by.
    """
    table = annotated.table
    questions: dict[int, list[str]] = {}
    # What a person decided, and forms of one compound, are asked about one by one.
    shared: dict[int, Any] = {}
    for row, (gpcr, action, curator, decision) in enumerate(zip(
            table["gpcr"], table["gpcr_action"], table["curator"], annotated.decisions,
            strict=True)):
        if curator:
            other = disagreement(gpcr, action, decision.gpcr, decision.action)
            if other:
                questions[row] = [f"{curator} decided {in_words(gpcr, action)}, but {other}."]
        elif decision.question:
            questions[row] = [decision.question]
            shared[row] = _what_is_asked(decision)
    for row, question in _forms_that_differ(table).items():
        questions.setdefault(row, []).append(question)
        shared.pop(row, None)
    rows = [(table["Metadata_Compound"].iloc[row], table["Metadata_MoA"].iloc[row],
             " ".join(asked), int(images.get(table["Metadata_Compound"].iloc[row], 0)),
             in_words(annotated.decisions[row].gpcr, annotated.decisions[row].action),
             shared.get(row, row))
            for row, asked in questions.items()]
    listed = pd.DataFrame(rows, columns=REVIEW)
    listed["number"] = pd.factorize(listed["number"])[0]
    listed["of_question"] = listed.groupby("number")["images"].transform("sum")
    listed["first"] = listed.groupby("number")["Metadata_Compound"].transform("min")
    listed = listed.sort_values(["of_question", "first", "images", "Metadata_Compound"],
                                ascending=[False, True, False, True], ignore_index=True)
    listed["number"] = pd.factorize(listed["number"])[0] + 1
    return listed[REVIEW]


def _what_is_asked(decision: Decision) -> tuple[Any, ...]:
    """What two compounds share that one answer decides: the terms in any spelling, and genes."""
    terms = tuple(sorted(map(term_key, decision.asked)))
    by_words = decision.gpcr == "unknown"
    return terms, decision.gpcr, decision.action, "" if by_words else decision.question


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


def and_more(name: str, count: int) -> str:
    """A compound and how many share its question: "A", "A and 4 more"."""
    return name if count < 2 else f"{name} and {count - 1:,} more"


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
