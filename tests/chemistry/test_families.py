import numpy as np
import pytest
from chemistry_molecules import (
    ASPIRIN,
    ATENOLOL,
    CHLORPROMAZINE,
    DOPAMINE,
    ISOPRENALINE,
    PROMETHAZINE,
    PROPRANOLOL,
)

from moascope.chemistry.families import clusters, family_of, scaffolds
from moascope.errors import MoascopeError


def test_scaffolds_are_the_rings_and_their_linkers():
    assert scaffolds([DOPAMINE, ASPIRIN, "c1ccc(cc1)Cc1ccccc1", "CCO"]) == [
        "c1ccccc1", "c1ccccc1", "c1ccc(Cc2ccccc2)cc1", ""]
    one, other = scaffolds([CHLORPROMAZINE, PROMETHAZINE])
    assert one == other
    naphthalene, benzene = scaffolds([PROPRANOLOL, ATENOLOL])
    assert naphthalene != benzene


def test_clusters_join_similar_molecules_only():
    series = [f"{'C' * n}NCC(O)COc1ccc(CC(N)=O)cc1" for n in (3, 4, 5)]
    found = clusters([*series, CHLORPROMAZINE, "CCCCCCCC"])
    assert len(set(found[:3])) == 1
    assert len({found[0], found[3], found[4]}) == 3
    assert clusters([]).shape == (0,)


def test_a_family_is_named_after_its_first_member_and_the_unknown_are_alone():
    smiles = np.array([PROMETHAZINE, CHLORPROMAZINE, "", "", "CCO", "CCN"], dtype=object)
    units = ["u5", "u2", "u3", "u4", "u1", "u0"]
    assert family_of(smiles, "scaffold", units) == ["u2", "u2", "u3", "u4", "u1", "u0"]
    assert family_of(np.array(["", ""], dtype=object), "cluster", ["a", "b"]) == ["a", "b"]
    adrenergic = np.array([ISOPRENALINE, ISOPRENALINE], dtype=object)
    assert family_of(adrenergic, "cluster", ["b", "a"]) == ["a", "a"]


def test_too_many_compounds_to_compare_all_pairs_are_refused_before_they_are_compared():
    with pytest.raises(MoascopeError, match=r"10,001 are too many .* Use split\.group=scaffold"):
        clusters(["C"] * 10_001)
