"""Every requirement of the gate: its number, its limit, which side of it passes, its sentence."""

import dataclasses

import numpy as np
import pytest

from moascope.params import Promote
from moascope.promotion.gate import Against, Numbers, decide, share_worse

NUMBERS = Numbers(average_precision=0.6, low=0.4, high=0.8, prevalence=0.2, null_mean=0.25, p=0.01,
                  baselines={"plate_only": 0.3, "cell_count": 0.35, "chemistry": 0.5})
HELD = Against(version="7", average_precision=0.55, low=0.3, high=0.7, difference=0.05,
               difference_low=-0.1, difference_high=0.2, worse=0.25)
GATE = Promote(least_average_precision=0.5, least_lift=2.0, max_p=0.05, least_gain=0.02,
               max_worse=0.4, beat=("plate_only", "cell_count", "chemistry"))
JUST = 2e-9     # more than rounding
ROUNDING = 5e-10


def line(name, gate=GATE, **changes):
    held = {key: changes.pop(key) for key in list(changes) if key in ("difference", "worse")}
    numbers = dataclasses.replace(NUMBERS, incumbent=dataclasses.replace(HELD, **held), **changes)
    return {one.name: one for one in decide(numbers, gate).requirements}[name]


def test_every_line_says_what_was_measured_what_is_required_and_where_to_change_it():
    decision = decide(dataclasses.replace(NUMBERS, incumbent=HELD), GATE)
    assert [(one.name, one.measured, one.limit, one.sign) for one in decision.requirements] == [
        ("average precision", 0.6, 0.5, ">="),
        ("lift over a random list", pytest.approx(2.4), 2.0, ">="),
        ("permutation p", 0.01, 0.05, "<="),
        ("more than plate only", 0.6, 0.3, ">"),
        ("more than cell count", 0.6, 0.35, ">"),
        ("more than chemistry", 0.6, 0.5, ">"),
        ("gain over version 7", 0.05, 0.02, ">="),
        ("worse than version 7", 0.25, 0.4, "<="),
    ]
    assert [one.reason for one in decision.requirements] == [
        "The average precision is 0.600 [0.400, 0.800]; at least 0.5 is required: met "
        "(promote.least_average_precision).",
        "The average precision is 2.40 times the 0.250 that a random list gives on average "
        "(prevalence 0.200); at least 2 is required: met (promote.least_lift).",
        "The permutation test gives p = 0.01; at most 0.05 is required: met (promote.max_p).",
        "The baseline plate only, which sees no biology, reaches 0.300; the model reaches 0.600; "
        "more than 0.3 is required: met (promote.beat).",
        "The baseline cell count, which sees no biology, reaches 0.350; the model reaches 0.600; "
        "more than 0.35 is required: met (promote.beat).",
        "The baseline chemistry, which sees the structure alone, reaches 0.500; the model reaches "
        "0.600; more than 0.5 is required: met (promote.beat).",
        "The average precision differs by +0.050 [-0.100, +0.200] from that of version 7, 0.550 "
        "on the same compounds; at least 0.02 is required: met (promote.least_gain).",
        "It scores below version 7 in 25% of the paired resamples of compounds; at most 0.4 is "
        "required: met (promote.max_worse).",
    ]
    assert decision.passed and decision.failures == []


@pytest.mark.parametrize(("name", "key", "limit", "worse"), [
    ("average precision", "average_precision", 0.5, -1),
    ("lift over a random list", "average_precision", 0.5, -1),
    ("permutation p", "p", 0.05, 1),
    ("gain over version 7", "difference", 0.02, -1),
    ("worse than version 7", "worse", 0.4, 1),
])
def test_a_number_at_its_limit_passes_and_one_beyond_it_does_not(name, key, limit, worse):
    assert line(name, **{key: limit}).passed
    assert line(name, **{key: limit + worse * ROUNDING / 4}).passed
    beyond = line(name, **{key: limit + worse * JUST})
    assert not beyond.passed and "is required: not met (promote." in beyond.reason
    assert line(name, **{key: limit - worse * JUST}).passed


@pytest.mark.parametrize(("name", "shown"), [
    ("plate_only", "more than plate only"), ("chemistry", "more than chemistry"),
    ("cell_count", "more than cell count")])
def test_a_baseline_must_be_exceeded_by_more_than_rounding(name, shown):
    def passed(by):
        return line(shown, average_precision=0.6 + by,
                    baselines=NUMBERS.baselines | {name: 0.6}).passed
    assert not passed(0) and not passed(ROUNDING) and passed(JUST)


@pytest.mark.parametrize("name", ["cell_count", "count_and_intensity"])
def test_a_tie_at_one_is_at_least_a_baseline_of_cells(name):
    words = name.replace("_", " ")
    for other in (1.0, 1 - ROUNDING):
        found = line(f"at least {words}", Promote(beat=(name,)), average_precision=1.0,
                     baselines={name: other})
        assert found.passed and found.sign == ">=" and found.limit == other
    found = line(f"more than {words}", Promote(beat=(name,)), average_precision=1 - JUST,
                 baselines={name: 1 - JUST})
    assert not found.passed and found.sign == ">"


@pytest.mark.parametrize("name", ["cell_count", "count_and_intensity"])
def test_on_a_screen_of_profiles_nothing_is_asked_of_baselines_of_images(name):
    found = line(f"more than {name.replace('_', ' ')}", Promote(beat=(name,)), baselines={},
                 images=False)
    assert found.passed and found.measured is None and np.isnan(found.limit) and found.sign == ">"
    assert found.reason == (f"The baseline {name.replace('_', ' ')} is made from images, and this "
                            "screen has profiles alone: not required (promote.beat).")
    # One that was measured all the same is compared.
    assert not line(f"more than {name.replace('_', ' ')}", Promote(beat=(name,)),
                    baselines={name: 0.7}, images=False).passed


@pytest.mark.parametrize(("name", "images", "why"), [
    ("cell_count", True, "this screen has no feature of its kind"),
    ("plate_only", False, "this screen has no feature of its kind"),
    ("chemistry", True, "too few compounds of this screen have a structure (Metadata_SMILES)"),
    ("chemistry_simple", False,
     "too few compounds of this screen have a structure (Metadata_SMILES)")])
def test_a_baseline_that_is_missing_is_not_met(name, images, why):
    words = name.replace("_", " ")
    found = line(f"more than {words}", Promote(beat=(name,)), baselines={}, images=images)
    assert not found.passed and found.measured is None and np.isnan(found.limit)
    assert found.sign == ">"
    assert found.reason == (f"The baseline {words} is not available, because {why}: not met "
                            "(promote.beat in params.yaml names it).")


def test_without_an_incumbent_nothing_is_compared_with_it():
    decision = decide(NUMBERS, GATE)
    assert len(decision.requirements) == 6
    assert not any("version" in one.name for one in decision.requirements)
    assert Numbers(0.6, 0.4, 0.8, 0.2, 0.25, 0.01, {}).images


def test_the_share_of_resamples_that_are_worse_leaves_out_ties_and_gaps():
    """Two below, one above, one equal but for rounding, one without a positive compound."""
    candidate = np.array([0.1, 0.2, 0.9, 0.5 + ROUNDING, np.nan])
    incumbent = np.array([0.2, 0.2 + JUST, 0.1, 0.5, 0.5])
    assert share_worse(candidate, incumbent) == pytest.approx(2 / 3)
    assert share_worse(incumbent, candidate) == pytest.approx(1 / 3)
    assert share_worse(incumbent, incumbent) == 0.0
