"""Families of compounds: those of one scaffold, or of one cluster of similar structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moascope.chemistry.descriptors import bit_vectors
from moascope.chemistry.structures import molecules
from moascope.errors import MoascopeError

# Tanimoto similarity of the Morgan fingerprints; medicinal chemists see one series above it.
SIMILAR = 0.4
# All pairs are compared: 10,000 compounds are 50 million similarities, some 2 GB.
MOST_CLUSTERED = 10_000


def scaffolds(smiles: Sequence[str]) -> list[str]:
    """Bemis-Murcko scaffolds [1]_: rings and what links them, side chains removed.

    Parameters
    ----------
    smiles : sequence of str, [n]

    Returns
    -------
    list of str, [n]
        SMILES without stereochemistry; empty for molecules without a ring.

    References
    ----------
    .. [1] Bemis and Murcko, J. Med. Chem. 39, 2887, 1996.
    """
    from rdkit import Chem
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return [Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(molecule), isomericSmiles=False)
            for molecule in molecules(smiles)]


def clusters(smiles: Sequence[str]) -> np.ndarray:
    """Clusters of similar structures, after Butina [1]_.

    Parameters
    ----------
    smiles : sequence of str, [n]

    Returns
    -------
    ndarray, int, [n]
        The number of each molecule's cluster. Every member is similar to the cluster's centre;
        members of two clusters may be similar to each other as well.

    Raises
    ------
    MoascopeError
        Where there are too many molecules to compare all pairs.

    References
    ----------
    .. [1] Butina, J. Chem. Inf. Comput. Sci. 39, 747, 1999.
    """
    if len(smiles) > MOST_CLUSTERED:
        raise MoascopeError(
            f"params.yaml: split.group = cluster compares all pairs of compounds, and "
            f"{len(smiles):,} are too many (at most {MOST_CLUSTERED:,}). Use split.group=scaffold.")
    from rdkit import DataStructs
    from rdkit.ML.Cluster import Butina

    prints = bit_vectors(smiles)
    distances: list[float] = []
    for row in range(1, len(prints)):
        alike = DataStructs.BulkTanimotoSimilarity(prints[row], prints[:row])
        distances.extend(1 - value for value in alike)
    found = np.zeros(len(prints), int)
    for number, members in enumerate(
            Butina.ClusterData(distances, len(prints), 1 - SIMILAR, isDistData=True)):
        found[list(members)] = number
    return found


def family_of(smiles: np.ndarray, how: str, units: Sequence[str]) -> list[str]:
    """The family of each unit, named after the first of its members.

    Parameters
    ----------
    smiles : ndarray, str, [units]
        Empty where a unit has no structure: such a unit is a family of its own, and so is one
        without a ring where scaffolds are asked for.
    how : {"scaffold", "cluster"}
    units : sequence of str, [units]
        Their keys.
    """
    known = np.flatnonzero(smiles != "").tolist()
    keys = (scaffolds(list(smiles[known])) if how == "scaffold"
            else [str(number) for number in clusters(list(smiles[known]))])
    first: dict[str, str] = {}
    for at, key in zip(known, keys, strict=True):
        if key:
            first[key] = min(first.get(key, units[at]), units[at])
    family = list(units)
    for at, key in zip(known, keys, strict=True):
        if key:
            family[at] = first[key]
    return family
