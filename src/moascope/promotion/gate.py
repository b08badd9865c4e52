"""The gate's decision: numbers and limits in, reasons out. Nothing here knows MLflow.

What a candidate has to show on the held-out compounds is data, the section `promote` of
params.yaml. Every requirement is one number with one limit, so that a decision can be read, and
disputed, line by line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moascope.params import Promote
from moascope.text import bracketed

# Scores that differ by less are equal but for rounding.
EQUAL = 1e-9
OF_IMAGES = ("cell_count", "count_and_intensity")
"""Baselines that are made from images."""
OF_STRUCTURE = ("chemistry", "chemistry_simple")
"""Baselines that are made from the structures of compounds."""


@dataclass(frozen=True)
class Numbers:
    """What was measured on the held-out compounds.

    Attributes
    ----------
    average_precision : float
    low, high : float or None
        Its 95 % interval over compounds; None below five positives.
    prevalence : float
    null_mean : float
        The average precision of a random list of the same compounds.
    p : float
        Of the permutation test: labels shuffled among the compounds.
    baselines : dict
        Name -> average precision of what sees no biology, on the same compounds.
    incumbent : Against or None
        None where no model holds the alias yet.
    """

    average_precision: float
    low: float | None
    high: float | None
    prevalence: float
    null_mean: float
    p: float
    baselines: dict[str, float]
    incumbent: Against | None = None
    images: bool = True

    @property
    def lift(self) -> float:
        """Average precision over that of a random list."""
        return self.average_precision / self.null_mean


@dataclass(frozen=True)
class Against:
    """The candidate against the incumbent, compound by compound.

    Attributes
    ----------
    version : str
        Of the incumbent.
    average_precision, low, high : float
        Of the incumbent.
    difference, difference_low, difference_high : float
        Candidate minus incumbent, with its paired 95 % interval over compounds.
    worse : float
        Share of paired resamples in which the candidate is below; see `share_worse`.
    """

    version: str
    average_precision: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    worse: float


@dataclass(frozen=True)
class Requirement:
    """One line of a decision.

    Attributes
    ----------
    name : str
    measured : float or None
        None where it could not be measured. That passes only where nothing can be measured: the
        baselines of images, on a screen that has none.
    limit : float
    sign : {">", ">=", "<="}
        How `measured` must stand to `limit`.
    passed : bool
    reason : str
        The line as a sentence.
    """

    name: str
    measured: float | None
    limit: float
    sign: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """All requirements, in the order in which they are shown."""

    requirements: tuple[Requirement, ...]

    @property
    def passed(self) -> bool:
        """Whether every requirement is met."""
        return all(line.passed for line in self.requirements)

    @property
    def failures(self) -> list[str]:
        """The sentences of what is not met."""
        return [line.reason for line in self.requirements if not line.passed]


def decide(numbers: Numbers, gate: Promote) -> Decision:
    """Compare the numbers with the limits of the gate.

    Parameters
    ----------
    numbers : Numbers
    gate : Promote

    Returns
    -------
    Decision
        A candidate that ranks the held-out compounds worse than the incumbent fails, however wide
        the intervals are; a tie passes. Without an incumbent, floor and nulls decide. Every
        baseline must be exceeded; only a tie at 1 with one that measures the cells passes.
    """
    ap = numbers.average_precision
    lines = [
        _line("average precision", ap, gate.least_average_precision, ">=",
              f"The average precision is {ap:.3f}{bracketed(vars(numbers))}",
              "promote.least_average_precision"),
        _line("lift over a random list", numbers.lift, gate.least_lift, ">=",
              f"The average precision is {numbers.lift:.2f} times the {numbers.null_mean:.3f} that "
              f"a random list gives on average (prevalence {numbers.prevalence:.3f})",
              "promote.least_lift"),
        _line("permutation p", numbers.p, gate.max_p, "<=",
              f"The permutation test gives p = {numbers.p:.3g}", "promote.max_p"),
    ]
    lines += [_beats(name, numbers) for name in gate.beat]
    if numbers.incumbent is not None:
        held = numbers.incumbent
        lines += [
            _line(f"gain over version {held.version}", held.difference, gate.least_gain, ">=",
                  f"The average precision differs by {held.difference:+.3f} "
                  f"[{held.difference_low:+.3f}, {held.difference_high:+.3f}] from that of version "
                  f"{held.version}, {held.average_precision:.3f} on the same compounds",
                  "promote.least_gain"),
            _line(f"worse than version {held.version}", held.worse, gate.max_worse, "<=",
                  f"It scores below version {held.version} in {held.worse:.0%} of the paired "
                  "resamples of compounds",
                  "promote.max_worse"),
        ]
    return Decision(tuple(lines))


def share_worse(candidate: np.ndarray, incumbent: np.ndarray) -> float:
    """Share of paired resamples in which the candidate is below the incumbent.

    Parameters
    ----------
    candidate, incumbent : ndarray, float, [B]
        Scores on the same resamples of compounds; NaN where a resample has no positive compound.

    Returns
    -------
    float
        Resamples in which both score the same are excluded: swapping one pair of compounds leaves
        most resamples as they were. 0 if no resample tells the two apart.
    """
    difference = candidate - incumbent
    worse = int((difference < -EQUAL).sum())
    better = int((difference > EQUAL).sum())
    return worse / (worse + better) if worse + better else 0.0


def _beats(name: str, numbers: Numbers) -> Requirement:
    words = name.replace("_", " ")
    if name not in numbers.baselines and name in OF_IMAGES and not numbers.images:
        return Requirement(
            f"more than {words}", None, float("nan"), ">", True,
            f"The baseline {words} is made from images, and this screen has profiles alone: not "
            "required (promote.beat).",
        )
    if name not in numbers.baselines:
        return Requirement(
            f"more than {words}", None, float("nan"), ">", False,
            f"The baseline {words} is not available, because "
            + ("too few compounds of this screen have a structure (Metadata_SMILES)"
               if name in OF_STRUCTURE else "this screen has no feature of its kind")
            + ": not met (promote.beat in params.yaml names it).",
        )
    other = numbers.baselines[name]
    # Nothing is more than a perfect ranking. Where counting cells gives one, a model that gives one
    # too is no worse for it; where the layout does, the compounds can show nothing about a model.
    at_best = name in OF_IMAGES and other >= 1 - EQUAL
    sees = "the structure alone" if name in OF_STRUCTURE else "no biology"
    return _line(f"{'at least' if at_best else 'more than'} {words}", numbers.average_precision,
                 other, ">=" if at_best else ">",
                 f"The baseline {words}, which sees {sees}, reaches {other:.3f}; the "
                 f"model reaches {numbers.average_precision:.3f}", "promote.beat")


def _line(name: str, measured: float, limit: float, sign: str, sentence: str,
          knob: str) -> Requirement:
    # Written so that NaN passes nothing.
    passed = {
        ">=": measured >= limit - EQUAL,
        ">": measured > limit + EQUAL,
        "<=": measured <= limit + EQUAL,
    }[sign]
    words = {">=": "at least", ">": "more than", "<=": "at most"}[sign]
    return Requirement(
        name, float(measured), float(limit), sign, bool(passed),
        f"{sentence}; {words} {limit:.3g} is required: {'met' if passed else 'not met'} ({knob}).",
    )
