"""Features find their channel, their part of the cell and their kind by their names alone."""

import gzip

import numpy as np
import pytest

from moascope.explanation.groups import feature_groups


def members(names, kind):
    return {group: [name for name, own in zip(names, mask, strict=True) if own]
            for group, mask in feature_groups(names)[kind].items()}


def test_a_channel_whose_name_begins_like_another_keeps_its_own_features():
    names = ["Count_Nuclei", "Intensity_DNA_Mean", "Intensity_DNA_2_Mean", "CellMobile_DNA_0001",
             "CellMobile_DNA_2_0001"]
    assert members(names, "channel") == {
        "DNA": ["Intensity_DNA_Mean", "CellMobile_DNA_0001"],
        "DNA_2": ["Intensity_DNA_2_Mean", "CellMobile_DNA_2_0001"], "cell count": ["Count_Nuclei"]}
    # Numbered features of a network are no kinds of measurement.
    assert set(feature_groups(names)) == {"channel"}


def test_a_feature_of_two_channels_is_lost_with_either():
    names = ["Intensity_DNA_Mean", "Intensity_Actin_Mean", "Morphology_DNA_Haralick_1_Entropy",
             "Morphology_Actin_Band_2_Energy", "Morphology_DNA_Actin_Correlation_Coarse"]
    assert members(names, "channel") == {
        "DNA": [names[0], names[2], names[4]], "Actin": [names[1], names[3], names[4]]}
    assert members(names, "measurement") == {
        "Intensity": names[:2], "Texture": [names[2]], "Frequency bands": [names[3]],
        "Correlation": [names[4]]}


def test_columns_of_cellprofiler_are_read_by_its_nomenclature():
    names = [f"Profiles_{column}" for column in (
        "Nuclei_Intensity_MeanIntensity_CorrDAPI", "Cells_Texture_Entropy_CorrTub_10_0",
        "Cells_Intensity_MaxIntensityEdge_CorrTub", "Cells_AreaShape_Zernike_2_2",
        "Mean_Cytoplasm_Correlation_RWC_CorrTub_CorrDAPI", "Nuclei_Neighbors_PercentTouching_20")]
    assert members(names, "channel") == {
        "CorrDAPI": [names[0], names[4]], "CorrTub": [names[1], names[2], names[4]],
        "no channel": [names[3], names[5]]}
    assert members(names, "compartment") == {
        "Nuclei": [names[0], names[5]], "Cells": names[1:4], "Cytoplasm": [names[4]]}
    assert set(members(names, "measurement")) == {"Intensity", "Texture", "AreaShape",
                                                  "Correlation", "Neighbors"}


def test_columns_without_a_structure_are_groups_by_themselves_where_they_are_few():
    names = ["Profiles_Cluster_BET", "Profiles_Cluster_HDAC", "Count_Cells"]
    assert members(names, "feature") == {
        "Cluster_BET": [names[0]], "Cluster_HDAC": [names[1]], "Count_Cells": [names[2]]}
    assert feature_groups([f"Profiles_efficientnet_{i}" for i in range(100)]) == {}


def test_all_features_of_one_channel_are_no_groups():
    assert feature_groups(["Intensity_DNA_Mean", "CellMobile_DNA_0000"]) == {}


@pytest.mark.parametrize(("file", "channels", "compartments"), [
    ("profiles/lincs_plate/SQ00015054_normalized_feature_select.csv.gz",
     {"AGP", "DNA", "ER", "Mito", "RNA"}, {"Cells", "Cytoplasm", "Nuclei"}),
    ("profiles/bbbc021/ljosa_jbiomolscreen_2013_per_well_mean.csv.gz",
     {"CorrActin", "CorrDAPI", "CorrTub"}, {"Cells", "Cytoplasm", "Nuclei"})])
def test_real_tables_name_their_channels(real_data, file, channels, compartments):
    with gzip.open(real_data / file, "rt") as table:
        head = table.readline().strip().replace('"', "").split(",")
    names = [f"Profiles_{name}" for name in head if "Metadata" not in name and "_" in name]
    groups = feature_groups(names)
    assert set(groups["channel"]) == channels | {"no channel"}
    assert set(groups["compartment"]) == compartments
    assert np.all(np.any(list(groups["measurement"].values()), axis=0))
