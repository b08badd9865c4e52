import pandas as pd
import pytest
from chemistry_molecules import ASPIRIN, CHLORPROMAZINE, DOPAMINE

from moascope.chemistry.structures import parent_smiles, structures_of


@pytest.mark.parametrize(("text", "same_as"), [
    (CHLORPROMAZINE + ".Cl", CHLORPROMAZINE),                        # a salt
    ("C[NH+](C)CCCN1c2ccccc2Sc2ccc(Cl)cc21.[Cl-]", CHLORPROMAZINE),  # the same, written charged
    ("OC(=O)c1ccccc1OC(C)=O", ASPIRIN),                              # in another order
    ("CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", ASPIRIN),
    ("InChI=1S/C8H11NO2/c9-4-3-6-1-2-7(10)8(11)5-6/h1-2,5,10-11H,3-4,9H2", DOPAMINE),
])
def test_salts_charges_and_notations_of_one_molecule_are_one_structure(text, same_as):
    assert parent_smiles(text) == parent_smiles(same_as) != ""


@pytest.mark.parametrize("text", ["C1CC", "nonsense", "c1ccccc", "C(C)(C)(C)(C)C", "", "InChI=1S/x",
                                  "C" * 6000])
def test_what_is_no_structure_is_refused_in_silence(text, capfd):
    assert parent_smiles(text) == ""
    assert capfd.readouterr() == ("", "")


def test_units_get_the_first_structure_of_their_names_however_the_column_is_called():
    annotations = pd.DataFrame({"Metadata_Compound": ["Aspirin", "Dopamine", "X", "Y"],
                                "canonical_smiles": [ASPIRIN, "", "C1CC", ""],
                                "InChI": ["", "InChI=1S/C8H11NO2/c9-4-3-6-1-2-7(10)8(11)5-6/"
                                          "h1-2,5,10-11H,3-4,9H2", "", ""]})
    found = structures_of(annotations, ["Y|ASPIRIN", "Dopamine", "X", "Y"])
    assert found.known.tolist() == [True, True, False, False]
    assert found.smiles[0] == parent_smiles(ASPIRIN)
    assert found.refused == {"X": "C1CC"}
    assert found.warnings == [
        "RDKit cannot read the structure of 1 compound: X ('C1CC'). They count as compounds "
        "without a structure; correct Metadata_SMILES in annotations.csv."]


def test_annotations_without_structures_give_none():
    found = structures_of(pd.DataFrame({"Metadata_Compound": ["a"]}), ["a", "b"])
    assert not found.known.any()
    assert (found.refused, found.column, found.warnings) == ({}, "", [])
