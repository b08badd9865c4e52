import pandas as pd
import pytest
from chemistry_molecules import ASPIRIN, CHLORPROMAZINE, DOPAMINE, PROMETHAZINE

from moascope.errors import MoascopeError
from moascope.learning.families import with_families
from moascope.screen.question import Question
from moascope.screen.targets import Labels

NAMES = ["aspirin", "chlorpromazine", "dopamine", "promethazine", "unknown"]


def labels():
    groups = pd.DataFrame({"Metadata_Group": NAMES, "Metadata_Compound": NAMES, "Label": "t"})
    return Labels(Question("t", ("not_t", "t"), True), groups, pd.DataFrame(), ("earlier",))


def annotations(column="Metadata_SMILES"):
    return pd.DataFrame({"Metadata_Compound": NAMES,
                         column: [ASPIRIN, CHLORPROMAZINE, DOPAMINE, PROMETHAZINE, ""]})


def test_compounds_of_one_scaffold_are_a_family_and_the_unknown_are_alone():
    found = with_families(labels(), annotations(), "scaffold")
    assert found.groups["Metadata_Family"].tolist() == [
        "aspirin", "chlorpromazine", "aspirin", "chlorpromazine", "unknown"]
    assert found.warnings == (
        "earlier", "5 compounds form 3 scaffolds, which no fold splits; the largest has 2 "
        "compounds.", "1 compound without a structure is dealt into folds alone, because the "
        "scaffold is not known.")
    assert with_families(labels(), annotations(), "compound").groups.equals(labels().groups)


@pytest.mark.parametrize(("table", "sentence"), [
    (annotations("Metadata_Formula"), "has no column Metadata_SMILES or Metadata_InChI. Add one"),
    (annotations().assign(Metadata_SMILES="C1CC"), "RDKit can read none in the column"),
])
def test_families_without_structures_are_refused_with_what_to_do(table, sentence):
    with pytest.raises(MoascopeError, match=f"{sentence}.*or use split.group=compound"):
        with_families(labels(), table, "cluster")
