"""From annotations to a question and its labels: which compounds are which class."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.compounds import compound_groups, name_key
from moascope.screen.question import Question
from moascope.screen.tables import Screen
from moascope.screen.terms import moa_terms, names_within, one_spelling, term_key
from moascope.text import counted, listing

GPCR_TARGETS = ("gpcr", "gpcr_agonist", "gpcr_antagonist")
CONTROL_CLASS = "negative control"
CONFLICT = "(conflict)"
FEWEST = 3
"""Fewest compounds of each class of a binary question."""


@dataclass(frozen=True)
class Labels:
    """What each independent unit of a screen is, for one target.

    Attributes
    ----------
    question : Question
        Every class of it counts as testable: that is known once units are in folds.
    groups : DataFrame
        One row per labelled unit: `Metadata_Group` (key), `Metadata_Compound` (names joined by
        "|"), `Label` (one of the question's classes), `Metadata_MoA`, `gpcr_action`.
    wells : DataFrame
        One row per well that belongs to a labelled unit: `Metadata_Plate`, `Metadata_Well`,
        `Metadata_Group`.
    warnings : tuple of str
    """

    question: Question
    groups: pd.DataFrame
    wells: pd.DataFrame
    warnings: tuple[str, ...]


def label_screen(screen: Screen, target: str) -> Labels:
    """Decide for every compound of a screen which class of `target` it is.

    Parameters
    ----------
    screen : Screen
    target : str
        `gpcr`, `gpcr_agonist`, `gpcr_antagonist`, `moa`, or one MoA term (case is ignored).

    Raises
    ------
    MoascopeError
        Where the annotations cannot answer the target, or no compound is positive or negative.

    Notes
    -----
    Unknown is never negative: a compound without an annotation for the target is left out.
    Negative controls are not compounds; they serve normalisation only. The one exception is a
    screen with a single labelled compound and controls: no claim about unseen compounds is
    possible, and its wells are compared with the control wells instead.
    """
    annotations = screen.annotations.assign(
        Metadata_MoA=one_spelling(screen.annotations["Metadata_MoA"].tolist()).cells)
    treated = screen.layout[
        (screen.layout["Metadata_Control"] != "negative")
        & (screen.layout["Metadata_Compound"] != "")
    ]
    plated = {name_key(name) for name in treated["Metadata_Compound"].unique()}
    annotated = annotations[
        annotations["Metadata_Compound"].map(name_key).isin(plated)
    ].copy()
    label_of, target, unsure = _labeller(annotated, target)
    annotated["Label"] = label_of
    annotated["Metadata_Group"] = _groups(annotated, treated, annotated["Metadata_Compound"])
    for column in ("Metadata_MoA", "gpcr_action"):
        if column not in annotated:
            annotated[column] = ""
    binary = target != "moa"
    groups, warnings = _merge_groups(annotated)
    warnings += unsure
    unit = "compound"
    wells = treated[["Metadata_Plate", "Metadata_Well"]].assign(
        Metadata_Group=_groups(annotated, treated, treated["Metadata_Compound"]))
    wells = wells[wells["Metadata_Group"].isin(groups["Metadata_Group"])]

    controls = screen.layout[screen.layout["Metadata_Control"] == "negative"]
    if len(groups) == 1 and len(controls):
        unit = "well"
        warnings.append(
            f"The screen has a single compound with a label, {groups['Metadata_Compound'].iloc[0]}:"
            " nothing can be said about unseen compounds. Its wells are compared with the negative"
            " controls instead, which measures activity, not mechanism."
        )
        groups, wells, binary_classes = _wells_as_units(groups, wells, controls, target)
        classes = binary_classes
        binary = True
    elif binary:
        classes = (f"not_{target}", target)
    else:
        classes = tuple(sorted(groups["Label"].unique()))

    _require_classes(groups, classes, target)
    return Labels(
        question=Question(target, classes, binary, unit),
        groups=groups.sort_values("Metadata_Group", ignore_index=True),
        wells=wells.sort_values(["Metadata_Plate", "Metadata_Well"], ignore_index=True),
        warnings=tuple(warnings),
    )


def _groups(annotated: pd.DataFrame, treated: pd.DataFrame, names: pd.Series) -> pd.Series:
    """The group of each of `names`, over all names of both tables."""
    keys = (annotated["Metadata_InChIKey"].tolist() if "Metadata_InChIKey" in annotated
            else [""] * len(annotated))
    plated = treated["Metadata_Compound"].unique().tolist()
    return names.map(compound_groups([*annotated["Metadata_Compound"], *plated],
                                     [*keys, *[""] * len(plated)])).astype("str")


def _labeller(annotated: pd.DataFrame, target: str) -> tuple[list[str], str, list[str]]:
    """The label of each annotated compound, the target as it is spelt in the table, and a sentence
    about compounds that may or may not belong to it."""
    if target in GPCR_TARGETS:
        if "gpcr" not in annotated:
            raise MoascopeError(
                f"target = {target} needs the column 'gpcr' (yes, no or unknown) in "
                "annotations.csv, which is not there. Add it, or ask for target=moa or for one "
                "mechanism by its name."
            )
        positive, negative = f"{target}", f"not_{target}"
        gpcr = annotated["gpcr"].str.strip().str.lower()
        if target == "gpcr":
            return [{"yes": positive, "no": negative}.get(word, "") for word in gpcr], target, []
        if "gpcr_action" not in annotated:
            raise MoascopeError(
                f"target = {target} needs the column 'gpcr_action' (agonist, antagonist or other) "
                "in annotations.csv, which is not there. Add it, or ask for target=gpcr."
            )
        wanted = target.removeprefix("gpcr_")
        labels = []
        for word, action in zip(gpcr, annotated["gpcr_action"], strict=True):
            actions = moa_terms(action.lower())
            if word == "no":
                labels.append(negative)
            elif word == "yes" and actions:
                labels.append(positive if wanted in actions else negative)
            else:
                labels.append("")
        return labels, target, []
    terms = [moa_terms(moa) for moa in annotated["Metadata_MoA"]]
    if target == "moa":
        return ["|".join(t) for t in terms], target, []
    known = sorted({term for t in terms for term in t})
    spelt = next((term for term in known if term_key(term) == term_key(target)), None)
    if spelt is None:
        near = difflib.get_close_matches(target, known, n=3, cutoff=0.3) or known[:3]
        raise MoascopeError(
            f"No compound of this screen has the mechanism '{target}' (params.yaml: target). "
            + (f"Did you mean {' or '.join(repr(t) for t in near)}?" if near
               else "annotations.csv names no mechanism at all.")
        )
    unsure = [any(names_within(term, spelt) for term in t) and spelt not in t for t in terms]
    labels = ["" if doubt or not t else spelt if spelt in t else f"not_{spelt}"
              for t, doubt in zip(terms, unsure, strict=True)]
    if not any(unsure):
        return labels, spelt, []
    doubtful = annotated[unsure]
    return labels, spelt, [
        f"'{spelt}' stands inside a longer mechanism of {counted(len(doubtful), 'compound')}, left "
        f"out as unknown: {listing(doubtful['Metadata_Compound'], 3)} "
        f"('{doubtful['Metadata_MoA'].iloc[0]}'). Separate mechanisms by '|' in annotations.csv."]


def _merge_groups(annotated: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One row per group; contradicting forms of one compound are left out, with a warning."""
    labelled = annotated[annotated["Label"] != ""]
    warnings = []
    merged = labelled.groupby("Metadata_Group", sort=True, as_index=False).agg(
        Metadata_Compound=("Metadata_Compound", lambda names: "|".join(sorted(set(names)))),
        Label=("Label", lambda found: found.iloc[0] if len(set(found)) == 1 else CONFLICT),
        Metadata_MoA=("Metadata_MoA", lambda moas: "|".join(moa_terms("|".join(moas)))),
        gpcr_action=("gpcr_action", lambda found: "|".join(moa_terms("|".join(found)))),
    )
    for names in merged.loc[merged["Label"] == CONFLICT, "Metadata_Compound"]:
        warnings.append(
            f"{names.replace('|', ' and ')} are one compound (the same name, or InChIKeys that "
            "share their first block) but have different labels; they are left out as unknown."
        )
    return merged[merged["Label"] != CONFLICT].reset_index(drop=True), warnings


def _wells_as_units(
    groups: pd.DataFrame, wells: pd.DataFrame, controls: pd.DataFrame, target: str
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, str]]:
    compound = groups.iloc[0]
    positive = compound["Label"] if target == "moa" else target
    negative = CONTROL_CLASS if target == "moa" else f"not_{target}"
    if compound["Label"] != positive:
        raise MoascopeError(
            f"The only compound with a label, {compound['Metadata_Compound']}, is not positive for "
            f"target = {target}. Ask for target=moa, or add annotated compounds."
        )
    rows = []
    for plate, well in zip(wells["Metadata_Plate"], wells["Metadata_Well"], strict=True):
        rows.append((plate, well, compound["Metadata_Compound"], positive))
    for plate, well, name in zip(
        controls["Metadata_Plate"], controls["Metadata_Well"], controls["Metadata_Compound"],
        strict=True,
    ):
        rows.append((plate, well, name or CONTROL_CLASS, negative))
    units = pd.DataFrame(
        rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Label"]
    )
    units["Metadata_Group"] = units["Metadata_Plate"] + "/" + units["Metadata_Well"]
    units["Metadata_MoA"] = [
        compound["Metadata_MoA"] if label == positive else "" for label in units["Label"]
    ]
    units["gpcr_action"] = [
        compound["gpcr_action"] if label == positive else "" for label in units["Label"]
    ]
    return (
        units[["Metadata_Group", "Metadata_Compound", "Label", "Metadata_MoA", "gpcr_action"]],
        units[["Metadata_Plate", "Metadata_Well", "Metadata_Group"]],
        (negative, positive),
    )


def _require_classes(groups: pd.DataFrame, classes: tuple[str, ...], target: str) -> None:
    missing = [name for name in classes if name not in set(groups["Label"])]
    if groups.empty:
        raise MoascopeError(
            f"No compound of this screen has a label for target = {target}: every annotation is "
            "empty or unknown. Fill in annotations.csv."
        )
    if len(classes) < 2:
        raise MoascopeError(
            f"target = {target} has a single class here, {', '.join(classes)}: there is nothing to "
            "tell apart. Add compounds of another mechanism, or negative controls."
        )
    if missing:
        word = "positive" if missing[0] == target else "negative"
        raise MoascopeError(
            f"There is no {word} compound for target = {target} among the "
            f"{counted(len(groups), 'annotated compound')} of this screen. Check the annotations, "
            "or choose another target."
        )


def refuse_few(groups: pd.DataFrame, question: Question) -> None:
    """Refuse a question about a class that has too few compounds to be learnt and scored.

    Parameters
    ----------
    groups : DataFrame
        Units with `Label` and `Metadata_MoA`.
    question : Question

    Raises
    ------
    MoascopeError
        When a binary question about compounds has fewer than `FEWEST` of either class: learning,
        choosing and scoring each need one that the other two have not seen.
    """
    if not question.binary or question.unit != "compound":
        return
    for name, word in zip(question.classes, ("negative", "positive"), strict=True):
        members = groups.loc[groups["Label"] == name, "Metadata_Compound"]
        if len(members) >= FEWEST:
            continue
        terms = pd.Series([term for moa in groups["Metadata_MoA"] for term in moa_terms(moa)],
                          dtype="str").value_counts()
        others = [f"'{term}' ({count})" for term, count in sorted(
            terms.items(), key=lambda item: (-item[1], item[0]))
            if count >= FEWEST and len(groups) - count >= FEWEST and term != question.target]
        remedy = (f"Mechanisms with at least {FEWEST} here: {listing(others)}." if others else
                  "No mechanism of this screen has as many.")
        raise MoascopeError(
            f"target = {question.target} has {counted(len(members), f'{word} compound')} "
            f"({listing(members)}), and at least {FEWEST} are needed to learn from some and test "
            f"on others. Annotate more compounds, or set another target. {remedy}")
