"""Import of LoadData tables that name images by addresses."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers import make_screen

from moascope.errors import MoascopeError
from moascope.importing.loaddata import is_loaddata
from moascope.importing.plates import import_plates, parse_replace
from moascope.importing.words import describe_import
from moascope.params import Acquire, Params
from moascope.screen.manifest import read_manifest
from moascope.screen.planes import read_site
from moascope.screen.tables import read_screen
from moascope.stages.acquire import acquire
from moascope.validation.checks import validate_screen

PREFIX = "cpg0016-jump/source_4/images/2021_04_26_Batch1/images/BR0011__Measurement1/Images"
WORKED = "/mnt/bucket/projects/2021_04_26/images/BR0011/Images"


@pytest.fixture
def plate(tmp_path, bucket):
    """A plate in the bucket, and a table of it as the Cell Painting Gallery has them."""
    folder = make_screen(tmp_path / "there", wells=4, sites=1)
    sites = read_screen(folder).sites
    bucket.put_folder(folder / "images/Plate1", PREFIX)
    table = pd.DataFrame({
        "Metadata_Source": "source_4", "Metadata_Batch": "2021_04_26_Batch1",
        "Metadata_Plate": "BR0011", "Metadata_Well": sites["Metadata_Well"],
        "Metadata_Site": sites["Metadata_Site"].astype(str)})
    for channel in ("DNA", "Actin"):
        names = sites[f"FileName_{channel}"].str.rpartition("/")[2]
        table[f"FileName_Orig{channel}"] = names
        table[f"PathName_Orig{channel}"] = f"s3://gallery/{PREFIX}/"
    bucket.forget()
    return folder, table


def written(table, path):
    path.parent.mkdir(exist_ok=True)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


def same_pixels(folder, out):
    ours = read_screen(out, allow_outside=True)
    theirs = read_screen(folder)
    for at in range(len(theirs.sites)):
        assert (read_site(ours, ours.sites.iloc[at], theirs.channels)
                == read_site(theirs, theirs.sites.iloc[at])).all()
    return True


@pytest.mark.parametrize("name", ["load_data.csv", "load_data.parquet", "LOAD_DATA_B1.csv"])
def test_a_table_of_the_gallery_becomes_a_screen(tmp_path, plate, name):
    folder, table = plate
    imported = import_plates(written(table, tmp_path / name), tmp_path / "out")
    sites = imported.screen.sites
    assert imported.screen.channels == ("Actin", "DNA")
    assert sites["FileName_DNA"][0] == f"s3://gallery/{PREFIX}/B02_s1_DNA.tif"
    assert set(sites["Metadata_Plate"]) == {"BR0011"}
    assert len(imported.unplaced) == 0
    assert "acquire.allow_outside=true" in describe_import(imported, tmp_path / "out")
    assert same_pixels(folder, tmp_path / "out")


def test_whole_addresses_are_read_from_url_columns(tmp_path, plate):
    folder, table = plate
    for channel in ("DNA", "Actin"):
        table[f"URL_Orig{channel}"] = (table.pop(f"PathName_Orig{channel}")
                                       + table.pop(f"FileName_Orig{channel}"))
    import_plates(written(table, tmp_path / "load_data.csv"), tmp_path / "out")
    assert same_pixels(folder, tmp_path / "out")


def test_paths_of_another_machine_are_replaced_by_an_address(tmp_path, plate):
    folder, table = plate
    for channel in ("DNA", "Actin"):
        table[f"PathName_Orig{channel}"] = WORKED
    path = written(table, tmp_path / "tables/load_data.csv")
    with pytest.raises(MoascopeError, match="named there, but not in the folder"):
        import_plates(path, tmp_path / "out")
    import_plates(path, tmp_path / "out", replace=parse_replace(
        [f"{WORKED}/=s3://gallery/{PREFIX}/"]))
    assert same_pixels(folder, tmp_path / "out")


def test_images_of_illumination_are_left_out_and_files_on_disk_stay_files(tmp_path, plate):
    folder, table = plate
    table["FileName_IllumDNA"], table["PathName_IllumDNA"] = "BR_IllumDNA.npy", "s3://gallery/illum"
    table["PathName_OrigActin"] = str(folder / "images/Plate1")
    imported = import_plates(written(table, folder / "load_data_with_illum.csv"), tmp_path / "out")
    assert imported.screen.channels == ("Actin", "DNA")
    assert imported.screen.sites["FileName_Actin"][0] == "images/Plate1/B02_s1_Actin.tif"
    assert same_pixels(folder, tmp_path / "out")


def test_a_store_that_does_not_answer_leaves_the_tables(tmp_path, plate, bucket):
    _, table = plate
    bucket.always["*"] = "denied"
    imported = import_plates(written(table, tmp_path / "load_data.csv"), tmp_path / "out")
    assert len(imported.screen.sites) == 4
    assert any("not looked at" in note for note in imported.notes)


def test_a_table_of_measurements_is_none_of_images(tmp_path, plate):
    _, table = plate
    assert is_loaddata(written(table, tmp_path / "a.csv"))
    assert not is_loaddata(written(table.assign(Count_Cells=1), tmp_path / "b.csv"))
    assert not is_loaddata(tmp_path)


def test_a_replacement_without_an_equals_sign_is_refused():
    with pytest.raises(MoascopeError, match="old=new"):
        parse_replace(["/mnt"])


def test_stages_read_a_screen_in_a_bucket_and_a_second_run_downloads_nothing(tmp_path, plate,
                                                                             bucket):
    _, table = plate
    import_plates(written(table, tmp_path / "load_data.csv"), tmp_path / "in")
    bucket.put(f"{PREFIX}/B03_s1_DNA.tif", b"changed into no image")
    params = Params(acquire=Acquire(source="folder", path=str(tmp_path / "in"),
                                    allow_outside=True), target="moa")
    acquire(params, tmp_path / "acquire")
    manifest = read_manifest(tmp_path / "acquire")
    assert (manifest["ETag"].str.len() == 32).all()
    bucket.forget()
    acquire(params, tmp_path / "again")
    assert read_manifest(tmp_path / "again").equals(manifest)
    found = validate_screen(params.validate_, tmp_path / "acquire", tmp_path / "v",
                            tmp_path / "r", 1)
    assert bucket.asked() == []
    quarantine = pd.read_csv(tmp_path / "v/quarantine.csv")
    assert quarantine["reason"].tolist() == ["unreadable (DNA)"]
    assert found["sites"] == 4
