"""The source gallery, on imitated trees of the Cell Painting Gallery in a bucket with faults."""

from __future__ import annotations

import pandas as pd
import pytest
from buckets import NAME
from helpers import make_screen
from imitated_gallery import BATCH, CHANNELS, SOURCE, jump_tree, put_table

from moascope.cli.app import app
from moascope.errors import MoascopeError
from moascope.params_file import parse_params
from moascope.screen.description import read_description
from moascope.screen.manifest import read_manifest
from moascope.screen.planes import read_site
from moascope.screen.tables import read_screen
from moascope.sources.gallery.mechanisms import read_mechanisms
from moascope.sources.gallery.wells import wells_of
from moascope.sources.plan import plan_words
from moascope.sources.remote import plan_remote
from moascope.stages.acquire import acquire
from moascope.validation.facts import plane_facts, quarantined_sites

LAYOUT = ["Metadata_Well", "Metadata_Compound", "Metadata_Control"]


@pytest.fixture
def tree(bucket, tmp_path):
    return jump_tree(bucket, tmp_path)


def words(params):
    return "\n".join(plan_words(plan_remote(params), params.acquire.per_second))


def test_plates_of_jump_become_a_screen_with_its_own_pixels(tmp_path, bucket, capsys):
    tree = jump_tree(bucket, tmp_path, plates=2)
    said = acquire(tree.params(tmp_path), tmp_path / "out")
    assert said.startswith("12 sites on 2 plates, 5 channels, 60 image files")
    assert said.endswith("licence CC0 1.0")
    screen = read_screen(tmp_path / "out")
    assert screen.channels == tuple(sorted(CHANNELS))
    layout = screen.layout[screen.layout["Metadata_Plate"] == "BR00117001"]
    assert layout[LAYOUT].to_numpy().tolist() == [
        ["B02", "DMSO", "negative"], ["B03", "DMSO", "negative"],
        ["B04", "JCP2022_000001", ""], ["B05", "JCP2022_000002", ""],
        ["C02", "AMG900", "positive"], ["C03", "JCP2022_000004", ""]]
    moa = screen.annotations.set_index("Metadata_Compound")["Metadata_MoA"]
    assert moa["JCP2022_000001"] == "histamine receptor antagonist"
    assert moa["JCP2022_000002"] == "tubulin inhibitor|microtubule destabilizer"
    assert moa["JCP2022_000004"] == moa["AMG900"] == ""
    assert screen.annotations["Metadata_Name"].tolist() == ["", "alphadrug", "betadrug", ""]
    theirs = read_screen(tree.screen)
    for at in (0, 11):
        assert (read_site(screen, screen.sites.iloc[at], CHANNELS)
                == read_site(theirs, theirs.sites.iloc[at], CHANNELS)).all()
    described = read_description(tmp_path / "out")
    assert "Weisbart" in described["citation"]
    assert "Chandrasekaran" in described["citation"]
    assert "plate.csv" in described["tables_sha256"]
    assert any("no concentrations" in note for note in described["assumed"])
    assert "licence:  CC0 1.0" in capsys.readouterr().out


def test_a_second_run_moves_no_byte_of_an_image_or_table(tree, tmp_path, bucket):
    acquire(tree.params(tmp_path), tmp_path / "out")
    bucket.forget()
    acquire(tree.params(tmp_path), tmp_path / "again")
    # Listings of folders are not objects.
    assert [key for key in bucket.asked() if key != f"/{NAME}"] == []
    assert read_manifest(tmp_path / "again").equals(read_manifest(tmp_path / "out"))


def test_a_dry_run_says_what_would_be_read_and_fetches_no_image(tree, tmp_path, bucket):
    said = words(tree.params(tmp_path))
    assert not set(bucket.asked()) & set(tree.planes)
    size = sum(bucket.client.head_object(Bucket=NAME, Key=key)["ContentLength"]
               for key in tree.planes)
    assert (f"  1 plate, 6 wells, 4 compounds; 6 images, 30 files, {size / 1e6:,.1f} MB to "
            "download") in said
    assert "2 of 4 compounds with a mechanism" in said
    assert "read anonymously" in said
    assert "requests per second" not in said
    acquire(tree.params(tmp_path), tmp_path / "out")
    said = words(tree.params(tmp_path))
    assert "30 files, 0.0 MB to download" in said
    assert "30 of 30 planes were fetched before" in said


def test_the_command_plans_a_selection(tree, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    settings = ["acquire.source=gallery", "gallery.wells=[B04]",
                *(f"gallery.{key}={value}" for key, value in tree.section.items())]
    app(["fetch", "--dry-run", *(word for one in settings for word in ("-S", one))],
        standalone_mode=False)
    said = capsys.readouterr().out
    # The two wells of DMSO and the one that is named.
    assert "gallery: Cell Painting Gallery, cpg0016-jump\n  1 plate, 3 wells, 1 compound" in said


@pytest.mark.parametrize("name", ["JCP2022_000002", "betadrug", "BBBBBBBBBBBBBB-ANYANYANYA-N"])
def test_a_compound_is_chosen_by_identifier_name_or_structure(tree, tmp_path, name):
    acquire(tree.params(tmp_path, compounds=[name], plates=["BR00117001"], sites=[1],
                        channels=["DNA", "Mito"]), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert screen.channels == ("DNA", "Mito")
    assert screen.layout["Metadata_Compound"].tolist() == ["DMSO", "DMSO", "JCP2022_000002"]
    assert len(screen.sites) == 3


@pytest.mark.parametrize("table", ["load_data.csv", "load_data.csv.gz", "load_data.parquet",
                                   "load_data_with_illum.csv"])
def test_every_form_of_a_plates_table_is_read(tmp_path, bucket, table):
    tree = jump_tree(bucket, tmp_path, plates=1, wells=3, table=table)
    assert "1 plate, 3 wells, 1 compound; 3 images, 15 files" in words(tree.params(tmp_path))


WRONG = [
    ({"plates": ["BR00117O01"]}, "gallery.plates names BR00117O01, which gallery.plate_table does "
                                 "not have. Near it are BR00117001"),
    ({"source": "source_5"}, "gallery.source names source_5.*Near it are source_4"),
    ({"batch": "2021_04_26"}, f"gallery.batch names 2021_04_26.*Near it are {BATCH}"),
    ({"compounds": ["aspirin"]}, "gallery.compounds names aspirin, which is not on the chosen "
                                 "plates"),
    ({"wells": ["P24"]}, "The selection of the gallery is empty"),
    ({"sites": [9]}, "has none of the sites 9; it has 1"),
    ({"channels": ["DNA", "GFP"]}, "names GFP, which plate BR00117001 does not have. Its channels "
                                   "are AGP, Brightfield, DNA, ER, Mito, RNA"),
    ({"plate_table": "none.csv"}, "gallery.plate_table is none.csv, and there is no such file"),
    ({"well_table": f"s3://{NAME}/tables/none.csv.gz"},
     rf"gallery.well_table: s3://{NAME}/tables/none.csv.gz does not exist"),
    ({"well_table": f"s3://{NAME}/tables/plate.csv.gz"},
     "has no column Metadata_Well, Metadata_JCP2022. Its columns are"),
]


def test_what_cannot_be_chosen_is_said_in_one_sentence(tree, tmp_path):
    for selection, sentence in WRONG:
        with pytest.raises(MoascopeError, match=sentence):
            plan_remote(tree.params(tmp_path, **selection))


def test_a_large_selection_is_estimated_by_a_few_plates(tmp_path, bucket):
    tree = jump_tree(bucket, tmp_path, plates=4, wells=3)
    said = words(tree.params(tmp_path))
    assert "4 plates, 12 wells" in said
    assert "about 12 images, about 60 files, about" in said
    assert "estimated by 3 of 4 plates" in said


def test_more_than_max_gb_is_refused_before_the_first_image(tree, tmp_path, bucket):
    with pytest.raises(MoascopeError, match=r"more than the 0 GB that acquire\.max_gb allows"):
        acquire(tree.params(tmp_path, acquire={"max_gb": 1e-6}), tmp_path / "out")
    assert not set(bucket.asked()) & set(tree.planes)


def test_a_store_that_slows_down_and_connections_that_break_change_nothing(tree, tmp_path, bucket):
    table = f"cpg0016-jump/{SOURCE}/workspace/load_data_csv/{BATCH}/BR00117001/"
    bucket.faults |= {f"GET {tree.planes[0]}": ["slow down", "cut 100"],
                      f"GET {tree.planes[1]}": ["garble"],
                      f"GET {table}load_data_with_illum.parquet": ["internal", "cut 10"],
                      "GET tables/well.csv.gz": ["slow down"]}
    said = acquire(tree.params(tmp_path), tmp_path / "out")
    assert "30 image files" in said
    assert "missing" not in said
    assert not any(bucket.faults.values())


def test_a_plane_that_the_bucket_lacks_quarantines_its_site(tree, tmp_path, bucket):
    bucket.client.delete_object(Bucket=NAME, Key=tree.planes[0])
    params = tree.params(tmp_path)
    assert "1 plane of the tables not in the bucket, such as s3://gallery/cpg0016" in words(params)
    assert "1 of them missing" in acquire(params, tmp_path / "out")
    facts = plane_facts(read_screen(tmp_path / "out"), read_manifest(tmp_path / "out"), 1)
    quarantine = quarantined_sites(facts)
    assert quarantine[["Metadata_Plate", "Metadata_Well", "reason"]].to_numpy().tolist() == [
        ["BR00117001", "B02", "missing (DNA)"]]


def test_a_plate_without_a_table_of_images_is_named(tmp_path, bucket):
    tree = jump_tree(bucket, tmp_path, plates=2, wells=3)
    bucket.client.delete_object(Bucket=NAME, Key=(
        f"cpg0016-jump/{SOURCE}/workspace/load_data_csv/{BATCH}/BR00117002/"
        "load_data_with_illum.parquet"))
    with pytest.raises(MoascopeError, match=r"Leave plate BR00117002 out of gallery\.plates"):
        acquire(tree.params(tmp_path), tmp_path / "out")
    said = acquire(tree.params(tmp_path, acquire={"max_missing": 0.5}), tmp_path / "out")
    assert said.startswith("3 sites on 1 plate")
    assert any("BR00117002" in note for note in read_description(tmp_path / "out")["assumed"])


def test_wrong_keys_are_told_from_anonymous_access(tree, tmp_path, bucket, monkeypatch):
    bucket.always["*"] = "denied"
    with pytest.raises(MoascopeError, match="refuses anonymous access"):
        plan_remote(tree.params(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "WRONG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    bucket.always["*"] = "wrong key"
    with pytest.raises(MoascopeError, match="refuses the keys of this machine"):
        plan_remote(tree.params(tmp_path))


def test_a_table_that_names_another_bucket_is_refused(tmp_path, bucket):
    tree = jump_tree(bucket, tmp_path, plates=1, wells=3)
    folder = f"cpg0016-jump/{SOURCE}/workspace/load_data_csv/{BATCH}/BR00117001"
    put_table(bucket, f"{folder}/load_data.csv", pd.DataFrame({
        "Metadata_Plate": ["BR00117001"], "Metadata_Well": ["B02"], "Metadata_Site": ["1"],
        **{f"URL_Orig{channel}": ["s3://elsewhere/secret.tif"] for channel in CHANNELS}}), tmp_path)
    with pytest.raises(MoascopeError, match=r"names s3://elsewhere/secret\.tif, which is not in "
                                            r"gallery\.bucket"):
        plan_remote(tree.params(tmp_path))


def test_images_of_the_gallery_are_not_copied(tree, tmp_path):
    with pytest.raises(MoascopeError, match=r"stay in its bucket\. Set it to reference"):
        acquire(tree.params(tmp_path, acquire={"images": "copy"}), tmp_path / "out")


# Datasets with plate maps: cpg0000, cpg0004


@pytest.fixture
def lincs(bucket, tmp_path):
    """One plate as in cpg0004-lincs: plate maps, and paths of the machine that computed."""
    screen = read_screen(make_screen(tmp_path / "lincs", wells=4, sites=1, channels=CHANNELS))
    home, batch, plate = "cpg0004-lincs/broad", "2016_04_01_a549_48hr_batch1", "SQ00014812"
    bucket.put_folder(tmp_path / "lincs/images/Plate1",
                      f"{home}/images/{batch}/images/{plate}__2016-05-08/Images")
    worked = f"/mnt/bucket/projects/2015_10_05/{batch}/images/{plate}__2016-05-08/Images"
    load_data = pd.DataFrame({"Metadata_Plate": plate, "Metadata_Well": screen.sites[
        "Metadata_Well"], "Metadata_Site": "1"})
    for channel in CHANNELS:
        load_data[f"FileName_Orig{channel}"] = screen.sites[
            f"FileName_{channel}"].str.rpartition("/")[2]
        load_data[f"PathName_Orig{channel}"] = worked
    put_table(bucket, f"{home}/workspace/load_data_csv/{batch}/{plate}/load_data.csv", load_data,
              tmp_path)
    maps = f"{home}/workspace/metadata/platemaps/{batch}"
    put_table(bucket, f"{maps}/barcode_platemap.csv", pd.DataFrame({
        "Assay_Plate_Barcode": [plate, "SQ00014813"],
        "Plate_Map_Name": ["C-7161-01-LM6-001", "C-7161-01-LM6-001"]}), tmp_path)
    put_table(bucket, f"{maps}/platemap/C-7161-01-LM6-001.txt", pd.DataFrame({
        "plate_map_name": "C-7161-01-LM6-001", "well_position": ["B02", "B03", "B04", "B05"],
        "broad_sample": ["", "BRD-K00000001-001-01-1", "BRD-K00000002-300-02-9", ""],
        "mmoles_per_liter": ["", "10", "3.3333", ""], "solvent": "DMSO"}), tmp_path)
    put_table(bucket, f"{home}/workspace/metadata/external_metadata/moa.tsv", pd.DataFrame({
        "broad_id": ["BRD-K00000001", "BRD-K00000002"], "pert_iname": ["alphadrug", "betadrug"],
        "InChIKey": ["AAAAAAAAAAAAAA-UHFFFAOYSA-N", ""], "pert_type": ["trt", "poscon"],
        "moa": ["histamine receptor antagonist", "tubulin inhibitor"]}), tmp_path)
    bucket.forget()
    return lambda **selection: parse_params({
        "acquire": {"source": "gallery", "downloads": str(tmp_path / "downloads")},
        "gallery": {"bucket": f"s3://{NAME}", "dataset": "cpg0004-lincs", **selection}})


def test_plate_maps_and_paths_of_another_machine_are_read(lincs, tmp_path):
    acquire(lincs(plates=["SQ00014812"]), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert screen.layout[LAYOUT].to_numpy().tolist() == [
        ["B02", "DMSO", "negative"], ["B03", "BRD-K00000001-001-01-1", ""],
        ["B04", "BRD-K00000002-300-02-9", "positive"], ["B05", "DMSO", "negative"]]
    # A thousandth of the stock is in the well.
    assert screen.layout["Metadata_Concentration_uM"].fillna(0).tolist() == [0, 10, 3.3333, 0]
    assert screen.annotations["Metadata_MoA"].tolist() == ["histamine receptor antagonist",
                                                            "tubulin inhibitor"]
    assert read_site(screen, screen.sites.iloc[0]).shape == (5, 64, 80)
    assumed = " ".join(read_description(tmp_path / "out")["assumed"])
    assert "broad is the only source" in assumed
    assert ("names of images that begin with /mnt/bucket/projects/2015_10_05/"
            "2016_04_01_a549_48hr_batch1/images/ are read as s3://gallery/cpg0004-lincs") in assumed


def test_batches_and_plates_of_plate_maps_are_listed_where_they_are_unknown(lincs):
    with pytest.raises(MoascopeError, match="Near it are 2016_04_01_a549_48hr_batch1"):
        plan_remote(lincs(batch="2016_04_01_batch1"))
    with pytest.raises(MoascopeError, match=r"SQ00014999.*Near it are SQ00014813, SQ00014812"):
        plan_remote(lincs(plates=["SQ00014999"]))
    with pytest.raises(MoascopeError, match=r"is empty\. Check gallery"):
        plan_remote(lincs(dataset="cpg9999"))


def test_a_dataset_of_several_sources_asks_for_one(lincs, bucket):
    bucket.put("cpg0004-lincs/other/a.txt", b"a")
    with pytest.raises(MoascopeError, match=r"has the sources broad, other\. Choose one by"):
        plan_remote(lincs())
    bucket.client.delete_object(Bucket=NAME, Key="cpg0004-lincs/other/a.txt")


# Mechanisms


def test_one_table_with_mechanism_and_inchikey_is_enough_and_entries_are_joined(tmp_path):
    (tmp_path / "one.csv").write_text("name,moa,InChIKey\na,x,AAAAAAAAAAAAAA-A-N\n"
                                      "a salt,y|x,AAAAAAAAAAAAAA-B-N\nb,,BBBBBBBBBBBBBB-B-N\n")
    known, _, notes = read_mechanisms([str(tmp_path / "one.csv")], tmp_path)
    assert known["AAAAAAAAAAAAAA"] == ("x|y", "a")
    assert known["BBBBBBBBBBBBBB"] == ("", "b")
    assert notes == ["1 structure of one.csv with several entries: all of their mechanisms are "
                     "read."]


def test_drugs_without_samples_have_no_structure(tree, tmp_path):
    with pytest.raises(MoascopeError, match=r"without an InChIKey\. Name the Hub's table"):
        read_mechanisms([str(tmp_path / "drugs.txt")], tmp_path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MoascopeError, match="has no column for the mechanism"):
        read_mechanisms([str(tmp_path / "other.csv")], tmp_path)


def test_wells_of_a_plate_keep_their_empty_ones_empty(tree, tmp_path, bucket):
    wells = pd.DataFrame({"Metadata_Source": SOURCE, "Metadata_Plate": "BR00117001",
                          "Metadata_Well": ["B2", "B03", "B04"],
                          "Metadata_JCP2022": ["JCP2022_999999", "JCP2022_800002",
                                               "JCP2022_900123"]})
    wells.to_csv(tmp_path / "well.csv", index=False)
    params = tree.params(tmp_path, well_table=str(tmp_path / "well.csv"), plates=["BR00117001"])
    found = wells_of(params.gallery, tmp_path)
    assert found.wells[["Well", "Compound", "Control"]].to_numpy().tolist() == [
        ["B02", "", ""], ["B03", "non-targeting", "negative"], ["B04", "JCP2022_900123", ""]]
    assert any("2 wells of genes" in note for note in found.notes)
