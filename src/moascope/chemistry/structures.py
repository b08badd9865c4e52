"""The structure of each compound, read from the SMILES or InChI of the annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from moascope.screen.columns import recognise
from moascope.screen.compounds import name_key
from moascope.text import counted, tidy

COLUMNS = ("Metadata_SMILES", "Metadata_InChI")
# The longest of real screens, cyclic peptides, have a few hundred.
MOST_CHARACTERS = 5000
MOST_NAMED = 5
MOST_SHOWN = 40


@dataclass(frozen=True)
class Structures:
    """The structures of a screen's units.

    Attributes
    ----------
    smiles : ndarray, str, [units]
        Canonical SMILES of the parent; empty where there is none.
    refused : dict of str to str
        Compound -> its SMILES or InChI, where RDKit cannot read it.
    column : str
        Of the annotations, with the structures; empty where it has none.
    """

    smiles: np.ndarray
    refused: dict[str, str]
    column: str

    @property
    def known(self) -> np.ndarray:
        """bool, [units]."""
        return self.smiles != ""

    @property
    def warnings(self) -> list[str]:
        """One sentence on the structures that cannot be read, if there are any."""
        if not self.refused:
            return []
        shown = [f"{tidy(name)} ('{tidy(text, most=MOST_SHOWN)}')"
                 for name, text in list(self.refused.items())[:MOST_NAMED]]
        more = len(self.refused) - len(shown)
        return [f"RDKit cannot read the structure of {counted(len(self.refused), 'compound')}: "
                f"{', '.join(shown)}{f' and {more} more' if more else ''}. They count as compounds "
                f"without a structure; correct {self.column} in annotations.csv."]


def structures_of(annotations: pd.DataFrame, compounds: Sequence[str]) -> Structures:
    """Find the structure of each unit.

    Parameters
    ----------
    annotations : DataFrame
        `Metadata_Compound`, and `Metadata_SMILES` or `Metadata_InChI` under any known spelling.
        The InChI is used where no SMILES is readable.
    compounds : sequence of str, [units]
        Names of one unit joined by "|". The first of them that has a readable structure gives it.
    """
    found = recognise([str(column) for column in annotations.columns], "profiles").columns
    columns = [column for column in COLUMNS if column in found]
    said: dict[str, list[str]] = {}
    for column in columns:
        for name, text in zip(annotations["Metadata_Compound"],
                              annotations.iloc[:, found[column]], strict=True):
            if isinstance(text, str) and text.strip():
                said.setdefault(name_key(name), []).append(text.strip())
    smiles, refused = [], {}
    for unit in compounds:
        texts = [text for name in unit.split("|") for text in said.get(name_key(name), ())]
        parent = next((read for text in texts if (read := parent_smiles(text))), "")
        if texts and not parent:
            refused[unit] = texts[0]
        smiles.append(parent)
    return Structures(np.array(smiles, dtype=object), refused, columns[0] if columns else "")


@lru_cache(maxsize=100_000)
def parent_smiles(text: str) -> str:
    """Canonical SMILES of the largest fragment, uncharged; empty where RDKit refuses the text.

    Parameters
    ----------
    text : str
        SMILES or InChI. Salts and counter-ions do not act on cells, and vendors write the same
        drug charged or uncharged.
    """
    from rdkit import Chem, rdBase

    if len(text) > MOST_CHARACTERS:
        return ""
    with rdBase.BlockLogs():
        molecule = (Chem.MolFromInchi(text) if text.startswith("InChI=")
                    else Chem.MolFromSmiles(text))
        if molecule is None or not molecule.GetNumAtoms():
            return ""
        smiles = Chem.MolToSmiles(_parent(molecule))
        return smiles if Chem.MolFromSmiles(smiles) is not None else ""


def _parent(molecule: Any) -> Any:
    from rdkit.Chem import rdmolops
    from rdkit.Chem.MolStandardize import rdMolStandardize

    if len(rdmolops.GetMolFrags(molecule)) > 1:
        molecule = rdMolStandardize.LargestFragmentChooser().choose(molecule)
    if any(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        molecule = rdMolStandardize.Uncharger().uncharge(molecule)
    return molecule


def molecules(smiles: Sequence[str]) -> list[Any]:
    """RDKit's molecules of canonical SMILES, as `parent_smiles` gives them."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return [Chem.MolFromSmiles(text) for text in smiles]
