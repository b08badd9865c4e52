"""Similar compounds and doses on a real plate of Cell Painting."""

import pandas as pd
import pytest

import moascope
from moascope.importing.profiles.run import import_profiles

FIRST, SECOND = "BRD-K50691590-001-02-2", "BRD-K60230970-001-10-0"


@pytest.fixture(scope="module")
def lincs(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("lincs") / "screen"
    import_profiles([real_data / "profiles" / "lincs_plate"], folder)
    screen = moascope.read_screen(folder)
    return moascope.add_metadata(pd.read_parquet(folder / "profiles.parquet"), screen)


@pytest.mark.filterwarnings("ignore:All 57 neighbours")
@pytest.mark.parametrize(("compound", "other"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_the_two_proteasome_inhibitors_are_most_like_each_other(lincs, compound, other):
    nearest = moascope.similar_compounds(lincs, compound).iloc[0]
    assert nearest["Metadata_Compound"] == other
    assert "proteasome inhibitor" in nearest["Metadata_MoA"]
    assert nearest["corrected_p_value"] < 0.01


def test_a_compound_that_kills_has_a_point_of_departure(lincs):
    found = moascope.dose_responses(lincs)
    curves = found.curves.set_index("Metadata_Compound")
    one = curves.loc["BRD-K93880783-001-26-6"]
    own = found.doses[found.doses["Metadata_Compound"] == "BRD-K93880783-001-26-6"]
    # As far as DMSO at 0.12 µM, twice as far at 0.37 µM.
    assert own["distance"].to_numpy()[1] < one["noise"] < 2 < own["distance"].to_numpy()[2]
    assert one["response"] == "yes" and 0.12 < one["point_of_departure_uM"] < 0.37
    # One dose, far out, has no curve.
    assert curves.loc[FIRST, "response"] == ""
    assert found.doses.set_index("Metadata_Compound").loc[FIRST, "distance"] > 5
