"""Names of wells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moascope.errors import MoascopeError
from moascope.screen.wells import (
    PLATE_SHAPES,
    canonical_well,
    plate_format,
    well_name,
    well_position,
)


@pytest.mark.parametrize(("written", "meant"), [
    ("B2", "B02"), ("b02", "B02"), ("B02", "B02"), (" B2 ", "B02"), ("B002", "B02"),
    ("P24", "P24"), ("AA1", "AA01"), ("af48", "AF48"),
])
def test_every_usual_spelling_names_the_same_well(written, meant):
    assert canonical_well(written) == meant


@pytest.mark.parametrize("written", [
    "B-2", "B 02", "b_2", "B:2", "R02C02", "r2c2", "Row 2, Col 2", "Well B2", "Ｂ０２", "B02\u200b",
    "\u00a0B02",
])
def test_other_unmistakable_spellings_are_the_well(written):
    assert canonical_well(written) == "B02"


@pytest.mark.parametrize(("written", "advice"), [
    ("2B", "Write B02 if row B and column 2 are meant"),
    ("В02", "only looks like a Latin letter"),
])
def test_a_well_that_could_be_meant_is_suggested(written, advice):
    with pytest.raises(MoascopeError, match=advice):
        canonical_well(written)


@pytest.mark.parametrize("written", [
    "", "B", "2", "B0", "B00", "B49", "AG01", "BA01", "AAA1", "B2x", "02B", "Ä01", "A1-A3",
    "B٢",
])
def test_what_is_not_a_well_name_is_quoted_in_the_sentence(written):
    with pytest.raises(MoascopeError, match="is not a well name") as caught:
        canonical_well(written)
    assert f"'{written}'" in str(caught.value)


@given(st.integers(0, 31), st.integers(0, 47), st.booleans(), st.integers(0, 2))
def test_names_and_positions_are_inverse(row, column, lower, zeros):
    name = well_name(row, column)
    assert well_position(name) == (row, column)
    letters, digits = name.rstrip("0123456789"), name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    spelt = letters + "0" * zeros + str(int(digits))
    assert canonical_well(spelt.lower() if lower else spelt) == name


@given(st.text(max_size=8))
def test_any_text_is_a_well_or_a_sentence(text):
    try:
        name = canonical_well(text)
    except MoascopeError:
        return
    assert canonical_well(name) == name


@given(st.sampled_from(sorted(PLATE_SHAPES)))
def test_the_last_well_tells_the_plate_format(size):
    rows, columns = PLATE_SHAPES[size]
    assert plate_format(["A01", well_name(rows - 1, columns - 1)]) == size


def test_a_position_beyond_the_largest_plate_is_refused():
    with pytest.raises(ValueError, match="row 32"):
        well_name(32, 0)
