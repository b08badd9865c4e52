"""Which units a split keeps together because their structures are alike."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from moascope.chemistry.families import family_of
from moascope.chemistry.structures import structures_of
from moascope.errors import MoascopeError
from moascope.learning.dealing import FAMILY
from moascope.screen.targets import Labels
from moascope.text import counted


def with_families(labels: Labels, annotations: pd.DataFrame, group: str) -> Labels:
    """The labels with the family of each unit, where a split is to keep families together.

    Parameters
    ----------
    labels : Labels
    annotations : DataFrame
        With structures; see `chemistry.structures.structures_of`.
    group : {"compound", "scaffold", "cluster"}
        `compound`: the labels as they are.

    Raises
    ------
    MoascopeError
        Where families are asked for and no unit has a structure.
    """
    if group == "compound" or labels.question.unit != "compound":
        return labels
    found = structures_of(annotations, labels.groups["Metadata_Compound"].tolist())
    if not found.known.any():
        raise MoascopeError(
            f"params.yaml: split.group = {group} needs structures, and "
            + (f"RDKit can read none in the column {found.column} of annotations.csv. Correct it"
               if found.column else
               "annotations.csv has no column Metadata_SMILES or Metadata_InChI. Add one")
            + ", or use split.group=compound.")
    family = family_of(found.smiles, group, labels.groups["Metadata_Group"].tolist())
    sizes = pd.Series(family).value_counts()
    said = [f"{counted(len(family), 'compound')} form {len(sizes)} {group}s, which no fold splits; "
            f"the largest has {counted(int(sizes.max()), 'compound')}."]
    if alone := int((~found.known).sum()):
        said.append(f"{counted(alone, 'compound')} without a structure "
                    f"{'is' if alone == 1 else 'are'} dealt into folds alone, because the {group} "
                    "is not known.")
    return replace(labels, groups=labels.groups.assign(**{FAMILY: family}),
                   warnings=(*labels.warnings, *found.warnings, *said))
