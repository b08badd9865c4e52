"""Molecules as numbers: six properties, and Morgan fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moascope.chemistry.structures import molecules

PROPERTIES = ("logP", "TPSA", "molecular weight", "basic amines", "aromatic rings", "Fsp3")
BITS = 2048
RADIUS = 2
_CARBON = "[C;!$(C=*)]"
BASIC_AMINE = (f"[$([N;H2;+0]{_CARBON}),$([N;H1;+0]({_CARBON}){_CARBON}),"
               f"$([N;H0;+0]({_CARBON})({_CARBON}){_CARBON});!$(N[a])]")
"""SMARTS of a nitrogen whose neighbours are all carbons without a double bond to anything: amides,
anilines, sulfonamides, amidines and pyridines are none. The feature BasicGroup of RDKit's
BaseFeatures.fdef, after Gobbi and Poppinger, Biotechnology and Bioengineering 61, 47, 1998."""

AMINE_PKA = 9.0
LEAST_SUM = 90.0
LEAST_LOGP = 3.0
CATIONIC_AMPHIPHILIC = (
    f"a basic amine, and a calculated logP of at least {LEAST_LOGP:g} (after Ploemen et al. 2004, "
    f"pKa² + ClogP² ≥ {LEAST_SUM:g}, with pKa {AMINE_PKA:g} assumed for every basic amine)")
"""The rule in words. At pKa 9, which is that of most aliphatic amines give or take one, 90 - 81
leaves logP² of at least 9."""


def properties(smiles: Sequence[str]) -> np.ndarray:
    """Six properties of each molecule.

    Parameters
    ----------
    smiles : sequence of str, [n]
        As `structures.parent_smiles` gives them.

    Returns
    -------
    ndarray, float64, [n, 6]
        In the order of `PROPERTIES`: Crippen's logP [1]_; topological polar surface area [2]_ in
        square angstroms; molecular weight in g/mol; number of basic amines; number of aromatic
        rings; share of carbons that are sp3.

    References
    ----------
    .. [1] Wildman and Crippen, J. Chem. Inf. Comput. Sci. 39, 868, 1999.
    .. [2] Ertl et al., J. Med. Chem. 43, 3714, 2000.
    """
    from rdkit import Chem
    from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors

    amine: Any = Chem.MolFromSmarts(BASIC_AMINE)
    rows = [(Crippen.MolLogP(molecule),  # pyright: ignore[reportAttributeAccessIssue]
             rdMolDescriptors.CalcTPSA(molecule),
             Descriptors.MolWt(molecule),  # pyright: ignore[reportAttributeAccessIssue]
             len(molecule.GetSubstructMatches(amine)),
             rdMolDescriptors.CalcNumAromaticRings(molecule),
             rdMolDescriptors.CalcFractionCSP3(molecule)) for molecule in molecules(smiles)]
    return np.array(rows, float).reshape(len(rows), len(PROPERTIES))


def is_cationic_amphiphilic(values: np.ndarray) -> np.ndarray:
    """Which molecules are cationic and amphiphilic, so that they gather in lysosomes.

    Parameters
    ----------
    values : ndarray, float, [n, 6]
        As `properties` gives them.

    Returns
    -------
    ndarray, bool, [n]

    Notes
    -----
    Such compounds cause phospholipidosis, which pictures of cells show whatever the target is, and
    ligands of many GPCRs are among them. Ploemen et al. [1]_ ask for pKa² + ClogP² >= 90 with
    pKa >= 8 and ClogP >= 1. RDKit calculates no pKa: here every basic amine has pKa 9 and
    everything else is taken for neutral, so amidines and guanidines are missed and amines made
    weak by their neighbours are not. Crippen's logP stands for ClogP.

    .. [1] Ploemen et al., Exp. Toxicol. Pathol. 55, 347, 2004.
    """
    amines = values[:, PROPERTIES.index("basic amines")] > 0
    return amines & (values[:, PROPERTIES.index("logP")] >= LEAST_LOGP)


def fingerprints(smiles: Sequence[str]) -> np.ndarray:
    """Morgan fingerprints [1]_ of radius 2.

    Parameters
    ----------
    smiles : sequence of str, [n]

    Returns
    -------
    ndarray, uint8, [n, 2048]
        0 or 1.

    References
    ----------
    .. [1] Rogers and Hahn, J. Chem. Inf. Model. 50, 742, 2010 (there ECFP4).
    """
    generator = _generator()
    rows = [generator.GetFingerprintAsNumPy(molecule) for molecule in molecules(smiles)]
    return np.array(rows, np.uint8).reshape(len(rows), BITS)


def bit_vectors(smiles: Sequence[str]) -> list[Any]:
    """The same fingerprints as RDKit compares them."""
    generator = _generator()
    return [generator.GetFingerprint(molecule) for molecule in molecules(smiles)]


def _generator() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
