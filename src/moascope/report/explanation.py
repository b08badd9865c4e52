"""In words and a table: which channels and measurements the predictions rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moascope.explanation.groups import CELL_COUNT, CHANNEL, COMPARTMENT, FAMILY, FEATURE
from moascope.text import listing, number, tidy

MOST_ROWS = 15
MOST_NAMED = 3
MOST_CLASSES = 8
FIRST = {CHANNEL: "Channel", COMPARTMENT: "Part of the cell", FAMILY: "Measurement",
         FEATURE: "Feature"}


@dataclass(frozen=True)
class MechanismTable:
    """What the logit of a mechanism's compounds loses without each group of the first kind.

    Attributes
    ----------
    groups : tuple of str
        Heads of the columns.
    rows : list of dict
        `name`, `compounds`, `lost` (a list) and `most`, the column of the largest loss.
    hidden : int
    """

    groups: tuple[str, ...]
    rows: list[dict[str, Any]]
    hidden: int


@dataclass(frozen=True)
class LossTable:
    """What is lost without each group of one kind, the most first.

    Attributes
    ----------
    first : str
        Head of the first column.
    classes : tuple of str
        Heads of the columns that say what each class loses.
    rows : list of dict
        `name`, `features`, `average_precision`, `lost`, `low`, `high` and `of_class`, a list.
    hidden : int
        Rows that were left out for length.
    """

    first: str
    classes: tuple[str, ...]
    rows: list[dict[str, Any]]
    hidden: int


def explanation_section(metrics: dict[str, Any], said: Callable[[str], str]) -> dict[str, Any]:
    """What the report shows of what the model looks at; empty where nothing was measured.

    Parameters
    ----------
    metrics : dict
        As in metrics.json.
    said : callable
        From a class to how it is shown.
    """
    found = metrics.get("explanation")
    if not found:
        return {}
    tables = [_table(kind, groups, said) for kind, groups in found["groups"].items()]
    kind = next(iter(found["groups"]))
    return {"sentence": loss_sentence(found, kind, metrics.get("unit", "compound")),
            "tables": tables, "mechanisms": _mechanisms(found, kind),
            "whole": number(found["average_precision"]),
            "value": "that of the plate's negative controls" if found["controls"] else
            "the mean of the screen, because it has no negative controls"}


def loss_sentence(found: dict[str, Any], kind: str, unit: str) -> str:
    """Which groups of a kind the score rests on, in one sentence.

    Parameters
    ----------
    found : dict
        `explanation` of metrics.json.
    kind : str
        One of `groups.KINDS`.
    unit : str
    """
    noun = FIRST[kind].lower()
    needed = sorted((-group["lost"], name) for name, group in found["groups"][kind].items()
                    if group["low"] is not None and group["low"] > 0)
    if not needed:
        return (f"No {noun} is needed by itself: without any one of them, what is lost of the "
                f"average precision over unseen {unit}s cannot be told from nothing.")
    named = listing((f"{_short(name, 40)} ({number(-lost)})" for lost, name in needed),
                    MOST_NAMED)
    return (f"Average precision over unseen {unit}s falls clearly without "
            f"{'one' if len(needed) == 1 else f'any one of {len(needed)}'} "
            f"{_groups(noun, len(needed))}: {named}.")


def _mechanisms(found: dict[str, Any], kind: str) -> MechanismTable | None:
    own = (found.get("mechanisms") or {}).get(kind)
    groups = list(found["groups"][kind])
    if not own or len(groups) > MOST_CLASSES:
        return None
    rows = []
    for name, one in list(own.items())[:MOST_ROWS]:
        lost = [one["lost"][group] for group in groups]
        rows.append({"name": _short(name), "compounds": one["compounds"], "lost": lost,
                     "most": lost.index(max(lost))})
    return MechanismTable(tuple(_short(group, 40) for group in groups), rows,
                          max(len(own) - MOST_ROWS, 0))


def _groups(noun: str, count: int) -> str:
    plural = {"part of the cell": "parts of the cell"}.get(noun, noun + "s")
    return noun if count == 1 else plural


def _table(kind: str, groups: dict[str, Any], said: Callable[[str], str]) -> LossTable:
    ranked = sorted(groups.items(), key=lambda item: (-item[1]["lost"], item[0]))
    classes = list(next(iter(groups.values())).get("by_class", {}))
    classes = classes if len(classes) <= MOST_CLASSES else []
    rows = [{"name": _short(name), **group,
             "of_class": [group["by_class"].get(one) for one in classes]}
            for name, group in ranked[:MOST_ROWS]]
    return LossTable(FIRST[kind], tuple(said(one) for one in classes), rows,
                     max(len(ranked) - MOST_ROWS, 0))


def _short(name: str, most: int = 60) -> str:
    return tidy("the cell count" if name == CELL_COUNT else name, most)
