"""Abstention in words: how sure a call is, measured on what the model has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moascope.text import counted


@dataclass(frozen=True)
class SetRow:
    """One line of the table: what was predicted, and what became of it."""

    name: str
    count: int
    covered: str
    called: str
    right: str
    undecided: str


def abstention_section(metrics: dict[str, Any], said: Callable[[str], str]) -> dict[str, Any]:
    """What the report shows of abstention; empty where nothing was measured.

    Parameters
    ----------
    metrics : dict
        As in metrics.json.
    said : callable
        From a class to how it is shown.
    """
    found = metrics.get("abstention")
    if not found:
        return {}
    names = {"unseen_compounds": "unseen compounds", "held_out": "held-out compounds",
             "unseen_batch": "unseen compounds of an unseen batch",
             "unseen_mechanisms": "compounds of an unseen mechanism"}
    rows = [_row(name, found[key]) for key, name in names.items() if found.get(key)]
    if not rows:
        return {}
    return {"coverage": _percent(found["coverage"]), "rows": rows,
            "classes": [f"{said(name)} {one['covered']} of {one['n']}" for name, one in
                        ((found.get("unseen_compounds") or {}).get("by_class") or {}).items()],
            "pooled": [said(name) for name, own in found["own_limit"].items() if not own],
            "sentences": [*_novelty(found), *_controls(found, said)]}


def _row(name: str, scores: dict[str, Any]) -> SetRow:
    n = scores["n"]
    covered = "–"
    if "share_covered" in scores:
        low, high = _percent(scores["low"]), _percent(scores["high"])
        covered = f"{_percent(scores['share_covered'])} ({low} to {high})"
    called = scores["called"]
    return SetRow(name, n, covered, f"{called} ({_percent(called / n)})",
                  f"{scores['right_when_called']} of {called}" if called else "–",
                  f"{scores['undecided'] + scores['empty']}")


def _novelty(found: dict[str, Any]) -> list[str]:
    sides = found.get("novel") or {}
    nouns = {"held_out": ("held-out compound", ""),
             "unseen_mechanisms": ("compound", " of mechanisms that are left out")}
    parts = [f"{sides[key]['novel']} of {counted(sides[key]['n'], noun)}{which}"
             for key, (noun, which) in nouns.items() if sides.get(key)]
    if not parts:
        return []
    return [f"At a rate of {_percent(found['novelty_rate'])}, {' and '.join(parts)} are called "
            "novel."]


def _controls(found: dict[str, Any], said: Callable[[str], str]) -> list[str]:
    wells = found.get("dmso_wells")
    if not wells:
        return []
    each = ", ".join(f"{count} {said(name)}" for name, count in wells["by_class"].items() if count)
    return [f"Controls are never given a mechanism. Without their mark, {wells['called']} of "
            f"{counted(wells['n'], 'control well')} would be called"
            f"{f' ({each})' if each else ''}."]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
