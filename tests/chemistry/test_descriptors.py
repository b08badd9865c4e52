"""Properties of well-known molecules, worked by hand or read from their data sheets."""

import numpy as np
import pytest
from chemistry_molecules import (
    ASPIRIN,
    ATENOLOL,
    CAFFEINE,
    CHLORPROMAZINE,
    DOPAMINE,
    METFORMIN,
    PROMETHAZINE,
)

from moascope.chemistry.descriptors import (
    PROPERTIES,
    bit_vectors,
    fingerprints,
    is_cationic_amphiphilic,
    properties,
)


def test_properties_of_aspirin_are_those_of_its_formula():
    """C9H8O4; an ester and an acid: 26.3 + 37.3 square angstroms; one sp3 carbon of nine."""
    found = dict(zip(PROPERTIES, properties([ASPIRIN])[0], strict=True))
    assert found["molecular weight"] == pytest.approx(180.16, abs=0.01)
    assert found["TPSA"] == pytest.approx(63.6, abs=0.1)
    assert found["Fsp3"] == pytest.approx(1 / 9)
    assert (found["basic amines"], found["aromatic rings"]) == (0, 1)
    assert 1.1 < found["logP"] < 1.5


@pytest.mark.parametrize(("smiles", "amines"), [
    (DOPAMINE, 1),              # primary
    ("CNC", 1), ("CN(C)C", 1),  # secondary, tertiary
    ("C1CN(C)CCN1C", 2),        # a piperazine has two
    (CHLORPROMAZINE, 1),        # the nitrogen in the ring is between two aromatic rings
    (ATENOLOL, 1),              # the other nitrogen is an amide's
    ("Nc1ccccc1", 0), ("CN(C)c1ccccc1", 0),      # anilines
    ("CC(N)=O", 0), ("CS(=O)(=O)N", 0), ("c1ccncc1", 0), (CAFFEINE, 0), ("CC#N", 0),
    (METFORMIN, 0),             # a guanidine: basic, but no amine by this rule
])
def test_basic_amines_are_counted_and_what_is_no_base_is_not(smiles, amines):
    assert properties([smiles])[0, PROPERTIES.index("basic amines")] == amines


def test_amphiphilic_amines_are_lipophilic_and_basic():
    smiles = [CHLORPROMAZINE, PROMETHAZINE, DOPAMINE, ATENOLOL, "CCCCCCCCCC", ASPIRIN]
    assert is_cationic_amphiphilic(properties(smiles)).tolist() == [True, True, *[False] * 4]


def test_fingerprints_have_a_bit_for_each_neighbourhood():
    """Methane has one atom and so one neighbourhood; ethane's two are the same, then the whole."""
    bits = fingerprints(["C", "CC", CHLORPROMAZINE, CHLORPROMAZINE])
    assert bits.shape == (4, 2048) and set(np.unique(bits)) == {0, 1}
    assert bits[:2].sum(axis=1).tolist() == [1, 2]
    np.testing.assert_array_equal(bits[2], bits[3])
    assert list(bit_vectors([CHLORPROMAZINE])[0].GetOnBits()) == np.flatnonzero(bits[2]).tolist()


def test_no_molecules_have_tables_without_rows():
    assert properties([]).shape == (0, 6)
    assert fingerprints([]).shape == (0, 2048)
