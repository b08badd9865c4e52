"""The sources bbbc021, bbbc013 and bbbc016, against a local server with their layouts."""

from __future__ import annotations

import hashlib
import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from public_server import PublicServer, archive, tiff

from moascope.errors import MoascopeError
from moascope.params import Bbbc021
from moascope.params_file import parse_params
from moascope.screen.description import read_description
from moascope.screen.planes import read_site
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.sources import bbbc, bbbc021
from moascope.sources.bbbc021 import IMAGE_TABLE, MOA_TABLE, plan, read_tables, table_paths
from moascope.sources.plan import plan_words, refuse_too_much
from moascope.stages.acquire import acquire

WELLS = [("B02", "DMSO", "0"), ("B03", "taxol", "0.3"), ("B04", "taxol", "0.001"),
         ("B05", "quercetin", "10"), ("B06", "UNKNOWN", "1"), ("C02", "emetine", "0.1"),
         ("C03", "3,3'-diaminobenzidine", "1")]
# The prefix names no plate, and is the same on both.
PLATES = {"Week1_22123": "Week1_150607_", "Week4_27481": ""}
MOA = ('"compound",concentration,"moa"\n"taxol",0.300000,"Microtubule stabilizers"\n'
       '"emetine",0.100000,"Protein synthesis"\n"DMSO",0.000000,"DMSO"\n')


def file_name(plate: str, well: str, site: int, channel: int) -> str:
    guid = hashlib.md5(f"{plate}{well}{site}{channel}".encode()).hexdigest().upper()
    return f"{PLATES[plate]}{well}_s{site}_w{channel}{guid}.tif"


def image_table() -> bytes:
    rows = [{"TableNumber": 1, "ImageNumber": 1,
             "Image_FileName_DAPI": file_name(plate, well, site, 1),
             "Image_FileName_Tubulin": file_name(plate, well, site, 2),
             "Image_FileName_Actin": file_name(plate, well, site, 4),
             "Image_Metadata_Plate_DAPI": plate, "Image_Metadata_Well_DAPI": well,
             "Replicate": 1, "Image_Metadata_Compound": compound,
             "Image_Metadata_Concentration": dose}
            for plate in PLATES for well, compound, dose in WELLS for site in (1, 2)]
    return pd.DataFrame(rows).to_csv(index=False).encode()


def pictures(plate: str) -> dict[str, bytes]:
    return {f"{plate}/{file_name(plate, well, site, channel)}":
            tiff(hash((plate, well, site, channel)) % 2**32)
            for well, _, _ in WELLS for site in (1, 2) for channel in (1, 2, 4)}


def zip_of(plate: str) -> str:
    return f"/bbbc/BBBC021/BBBC021_v1_images_{plate}.zip"


@pytest.fixture
def server():
    files = {f"/bbbc/BBBC021/{IMAGE_TABLE}": image_table(),
             f"/bbbc/BBBC021/{MOA_TABLE}": MOA.encode()}
    files |= {zip_of(plate): archive(pictures(plate) | {f"{plate}/Thumbs.db": b"x"})
              for plate in PLATES}
    with PublicServer(files) as one:
        yield one


@pytest.fixture
def params(server, tmp_path):
    def make(source="bbbc021", acquire=(), **selection):
        return parse_params({
            "acquire": {"source": source, "downloads": str(tmp_path / "downloads"),
                        "per_second": 10_000, "attempts": 2, **dict(acquire)},
            source: {"files": f"{server.url}/bbbc/{source.upper()}/", **selection}})
    return make


def test_annotated_doses_and_dmso_become_a_screen(params, tmp_path, capsys):
    sentence = acquire(params(), tmp_path / "out")
    assert sentence.startswith("12 sites on 2 plates, 3 channels, 36 image files")
    screen = read_screen(tmp_path / "out")
    assert screen.channels == ("DNA", "Tubulin", "Actin")
    layout = screen.layout[screen.layout["Metadata_Plate"] == "Week4_27481"]
    assert list(layout["Metadata_Well"]) == ["B02", "B03", "C02"]
    assert list(layout["Metadata_Control"]) == ["negative", "", ""]
    assert layout["Metadata_Concentration_uM"].fillna(-1).tolist() == [-1, 0.3, 0.1]
    assert dict(zip(screen.annotations["Metadata_Compound"], screen.annotations["Metadata_MoA"],
                    strict=True)) == {"emetine": "Protein synthesis",
                                      "taxol": "Microtubule stabilizers"}
    assert set(screen.sites["Metadata_Batch"]) == {"Week1", "Week4"}
    assert "Caie" in capsys.readouterr().out
    assert read_description(tmp_path / "out")["non_commercial"] is False
    assert label_screen(screen, "moa").question.classes == (
        "Microtubule stabilizers", "Protein synthesis")


def test_every_picture_is_that_of_its_well_whatever_its_prefix(params, tmp_path):
    acquire(params(treatments="all"), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    for plate in PLATES:
        content = pictures(plate)
        for row in screen.sites[screen.sites["Metadata_Plate"] == plate].to_dict("records"):
            for channel, number in (("DNA", 1), ("Tubulin", 2), ("Actin", 4)):
                name = file_name(plate, row["Metadata_Well"], row["Metadata_Site"], number)
                assert (screen.images / row[f"FileName_{channel}"]).read_bytes() == (
                    content[f"{plate}/{name}"])
    assert read_site(screen, screen.sites.iloc[0]).shape == (3, 48, 64)


def test_all_doses_bear_the_mechanism_of_their_compound(params, tmp_path):
    acquire(params(treatments="all"), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert len(screen.layout) == 14
    unknown = screen.layout[screen.layout["Metadata_Well"] == "B06"]
    assert list(unknown["Metadata_Compound"]) == ["", ""]
    notes = screen.annotations.set_index("Metadata_Compound")["Metadata_MoA"]
    assert notes.to_dict() == {"3,3'-diaminobenzidine": "", "emetine": "Protein synthesis",
                               "quercetin": "", "taxol": "Microtubule stabilizers"}


def test_plates_are_selected_and_downloaded_once(server, params, tmp_path):
    acquire(params(plates=["Week1_22123"]), tmp_path / "out")
    assert len(server.asked(".zip")) == 1
    assert not list((tmp_path / "downloads").rglob("*.zip"))
    acquire(params(plates=["Week1_22123"], treatments="all"), tmp_path / "out")
    assert len(server.asked(".zip")) == 1
    acquire(params(keep_archives=True), tmp_path / "out")
    assert [path for path, _ in server.asked(".zip")] == [zip_of("Week1_22123"),
                                                         zip_of("Week4_27481")]
    assert len(list((tmp_path / "downloads").rglob("*.zip"))) == 1


def test_an_unknown_plate_is_an_error(params, tmp_path):
    with pytest.raises(MoascopeError, match=r"bbbc021\.plates names Week9_1, which BBBC021_v1"):
        acquire(params(plates=["Week9_1"]), tmp_path / "out")


def test_a_picture_that_the_archive_lacks_is_left_out_by_name(server, params, tmp_path):
    content = pictures("Week1_22123")
    gone = f"Week1_22123/{file_name('Week1_22123', 'B03', 2, 4)}"
    del content[gone]
    server.files[zip_of("Week1_22123")] = archive(content)
    sentence = acquire(params(acquire={"max_missing": 0.2}, plates=["Week1_22123"]),
                       tmp_path / "out")
    assert "1 site left out because a file is missing" in sentence
    missing = pd.read_csv(tmp_path / "out/missing.csv", dtype=str)
    assert list(missing.iloc[0]) == ["Week1_22123", "B03", "2", f"images/{gone}",
                                     "it is not in the archive of its plate"]
    with pytest.raises(MoascopeError, match=r"acquire\.max_missing allows"):
        acquire(params(acquire={"max_missing": 0.01}, plates=["Week1_22123"]), tmp_path / "out")


def test_an_archive_that_is_damaged_at_the_server_is_an_error(server, params, tmp_path):
    server.files[zip_of("Week1_22123")] = server.files[zip_of("Week1_22123")][:5000]
    with pytest.raises(MoascopeError, match=r"Week1_22123\.zip is not a valid zip archive.*"
                                            r"Leave the plate out"):
        acquire(params(), tmp_path / "out")


def test_a_malicious_archive_is_an_error(server, params, tmp_path):
    server.files[zip_of("Week1_22123")] = archive(pictures("Week1_22123") | {"../../evil": b"x"})
    with pytest.raises(MoascopeError, match="contains paths that point outside it"):
        acquire(params(), tmp_path / "out")
    assert not list(tmp_path.rglob("evil"))


def test_a_cut_off_archive_goes_on(server, params, tmp_path):
    server.faults[zip_of("Week1_22123")] = ["truncate 7000"]
    acquire(params(plates=["Week1_22123"]), tmp_path / "out")
    assert server.asked(".zip")[-1][1] == "bytes=7000-"


def test_a_compound_with_two_mechanisms_is_an_error(server, params, tmp_path):
    server.files[f"/bbbc/BBBC021/{MOA_TABLE}"] = (MOA + '"taxol",1.0,"DNA damage"\n').encode()
    with pytest.raises(MoascopeError, match="gives taxol more than one mechanism"):
        acquire(params(), tmp_path / "out")


def put_tables(params: Bbbc021, folder) -> None:
    contents = {IMAGE_TABLE: image_table(), MOA_TABLE: MOA.encode()}
    for name, path in table_paths(params, folder).items():
        path.write_bytes(contents[name])


def test_the_room_is_that_of_what_is_not_there_unpacked(tmp_path):
    put_tables(Bbbc021(), tmp_path)
    a_plate, an_archive = bbbc021.UNPACKED_BYTES, bbbc021.ARCHIVE_BYTES
    assert plan(Bbbc021(), tmp_path, None).room == 2 * a_plate + an_archive
    assert plan(Bbbc021(keep_archives=True), tmp_path, None).room == 2 * (a_plate + an_archive)
    (tmp_path / "images/Week1_22123").mkdir(parents=True)
    assert plan(Bbbc021(), tmp_path, None).room == a_plate + an_archive
    assert plan(Bbbc021(plates=("Week1_22123",)), tmp_path, None).room == 0


def test_pictures_of_other_plates_make_no_room(tmp_path, monkeypatch):
    put_tables(Bbbc021(), tmp_path)
    (tmp_path / "images/Week1_22123").mkdir(parents=True)
    with (tmp_path / "images/Week1_22123/a.tif").open("wb") as file:
        file.truncate(1 << 34)
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=1 << 30))
    with pytest.raises(MoascopeError, match=r"takes 2\.7 GB, and .* has 1\.1 GB free"):
        refuse_too_much(plan(Bbbc021(), tmp_path, None), tmp_path, 100)
    refuse_too_much(plan(Bbbc021(plates=("Week1_22123",)), tmp_path, None), tmp_path, 100)


def test_tables_of_another_address_are_read_anew(server, params, tmp_path):
    acquire(params(), tmp_path / "out")
    server.files |= {path.replace("/bbbc/", "/moved/", 1): content
                     for path, content in server.files.items()}
    server.files[f"/moved/BBBC021/{MOA_TABLE}"] = MOA.replace("Protein", "Lipid").encode()
    acquire(params(files=f"{server.url}/moved/BBBC021/"), tmp_path / "out")
    notes = read_screen(tmp_path / "out").annotations.set_index("Metadata_Compound")
    assert notes.loc["emetine", "Metadata_MoA"] == "Lipid synthesis"


def test_a_file_name_that_is_a_path_is_refused(server, params, tmp_path):
    name = file_name("Week1_22123", "B02", 1, 2)
    server.files[f"/bbbc/BBBC021/{IMAGE_TABLE}"] = image_table().replace(
        name.encode(), b"../../" + name.encode())
    with pytest.raises(MoascopeError, match="cannot be the name of a plate or file"):
        acquire(params(), tmp_path / "out")


def test_the_real_tables_of_bbbc021(real_data, tmp_path):
    for name, path in table_paths(Bbbc021(), tmp_path).items():
        path.write_bytes((real_data / "tables" / name).read_bytes())
    sites, layout, annotations = read_tables(Bbbc021(), tmp_path, None)
    treated = layout[layout["Metadata_Control"] == ""]
    assert len(treated.drop_duplicates(["Metadata_Compound", "Metadata_Concentration_uM"])) == 103
    assert annotations["Metadata_MoA"].nunique() == 12
    assert (annotations["Metadata_MoA"] != "").sum() == len(annotations) == 38
    assert sites["Metadata_Plate"].nunique() == 55
    assert (layout["Metadata_Control"] == "negative").sum() == 330
    sites, layout, annotations = read_tables(Bbbc021(treatments="all"), tmp_path, None)
    assert (len(sites), len(layout), len(annotations)) == (13_200, 3_300, 111)
    words = "\n".join(plan_words(plan(Bbbc021(), tmp_path, None), 5))
    assert "55 plates" in words
    assert "about 46.1 GB to download" in words


# One plate each


def bmp(seed: int) -> bytes:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 255, (48, 64)).astype(np.uint8)
    Image.fromarray(values).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.fixture
def single(server, monkeypatch):
    names = [f"{row * 12 + column + 1:02d}-{'ABCDEFGH'[row]}-{column + 1:02d}.BMP"
             for row in range(8) for column in range(12)]
    series = [0.98, 1.95, 3.91, 7.81, 15.63, 31.25, 62.5, 125, 250]
    above, below = [0, 0, *series, 150], [80, 0, *(dose * 0.32 for dose in series), 0]
    server.files |= {
        "/bbbc/BBBC013/BBBC013_v1_images_bmp.zip": archive(
            {f"BBBC013_v1_images_bmp/Channel{channel}-{name}": bmp(i)
             for channel in (1, 2) for i, name in enumerate(names)}),
        "/bbbc/BBBC013/BBBC013_v1_platemap_all.txt": "\n".join(
            ["DESCRIPTION dose", *map(str, 4 * above + 4 * below)]).encode(),
        "/bbbc/BBBC016/BBBC016_v1_images.zip": archive(
            {f"BBBC016_v1_images/Plate_O{well:02d}f{field:02d}d{channel}.TIF":
             tiff(well, dtype="uint8")
             for well in range(1, 25) for field in range(3) for channel in (0, 2)}),
        "/bbbc/BBBC016/BBBC016_v1_platemap.txt": "\n".join(
            ["DESCRIPTION Agonist (nM)", *(str([0, 1.5, 30][well // 8])
                                           for well in range(24) for _ in range(3))]).encode(),
    }
    sums = {path.rpartition("/")[2]: hashlib.sha256(content).hexdigest()
            for path, content in server.files.items()}
    monkeypatch.setattr(bbbc, "SHA256", {name: sums[name] for name in bbbc.SHA256})
    return server


def test_bbbc013_becomes_a_plate(single, params, tmp_path):
    acquire(params("bbbc013", compounds=["wortmannin", "LY294002"]), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert len(screen.sites) == 96
    layout = screen.layout.set_index("Metadata_Well")
    assert list(layout.loc["A01", ["Metadata_Compound", "Metadata_Control"]]) == ["DMSO",
                                                                                 "negative"]
    assert layout.loc["A03", "Metadata_Concentration_uM"] == pytest.approx(0.00098)
    assert list(layout.loc["D12", ["Metadata_Compound", "Metadata_Control"]]) == ["wortmannin",
                                                                                 "positive"]
    assert layout.loc["D12", "Metadata_Concentration_uM"] == pytest.approx(0.15)
    assert list(layout.loc["E01", ["Metadata_Compound", "Metadata_Control"]]) == ["LY294002",
                                                                                 "positive"]
    assert layout.loc["E02", "Metadata_Control"] == "negative"
    assert list(layout.loc["E12", ["Metadata_Compound", "Metadata_Control"]]) == ["", ""]
    assert read_site(screen, screen.sites.iloc[0]).dtype == np.uint8


def test_bbbc013_of_the_bundled_rows_agrees_with_the_real_layout(single, params, tmp_path,
                                                                 real_data):
    acquire(params("bbbc013"), tmp_path / "out")
    ours = read_screen(tmp_path / "out").layout
    theirs = read_screen(real_data / "bbbc013").layout
    for column in ("Metadata_Well", "Metadata_Compound", "Metadata_Control"):
        assert list(ours[column]) == list(theirs[column]), column
    np.testing.assert_allclose(ours["Metadata_Concentration_uM"],
                               theirs["Metadata_Concentration_uM"], rtol=0.01)


def test_bbbc016_becomes_a_plate_of_a_gpcr_assay(single, params, tmp_path):
    acquire(params("bbbc016"), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert (len(screen.sites), len(screen.layout)) == (72, 24)
    layout = screen.layout.set_index("Metadata_Well")
    assert layout.loc["O01", "Metadata_Control"] == "negative"
    assert layout.loc["O24", "Metadata_Concentration_uM"] == pytest.approx(0.03)
    assert layout.loc["O24", "Metadata_Dose"] == "30"
    labels = label_screen(screen, "gpcr")
    assert labels.question.unit == "well"
    assert len(labels.groups) == 24


def test_a_dose_without_a_unit_is_kept_as_a_number_only(single, params, tmp_path, monkeypatch):
    path = "/bbbc/BBBC016/BBBC016_v1_platemap.txt"
    single.files[path] = single.files[path].replace(b"Agonist (nM)", b"dose")
    monkeypatch.setitem(bbbc.SHA256, "BBBC016_v1_platemap.txt",
                        hashlib.sha256(single.files[path]).hexdigest())
    acquire(params("bbbc016"), tmp_path / "out")
    layout = read_screen(tmp_path / "out").layout
    assert layout["Metadata_Concentration_uM"].isna().all()
    assert set(layout["Metadata_Dose"]) == {"0", "1.5", "30"}


@pytest.mark.parametrize("source", ["bbbc013", "bbbc016"])
def test_an_archive_that_is_not_the_known_one_is_an_error(single, params, tmp_path, source,
                                                      monkeypatch):
    name = next(name for name in bbbc.SHA256 if name.startswith(source.upper())
                and name.endswith(".zip"))
    monkeypatch.setitem(bbbc.SHA256, name, "0" * 64)
    with pytest.raises(MoascopeError, match="it is not the file that moascope knows"):
        acquire(params(source), tmp_path / "out")


def test_a_plate_map_of_another_address_is_read_anew(single, params, tmp_path, monkeypatch):
    acquire(params("bbbc016"), tmp_path / "out")
    name = "BBBC016_v1_platemap.txt"
    content = single.files[f"/bbbc/BBBC016/{name}"].replace(b"(nM)", b"(uM)")
    single.files[f"/moved/{name}"] = content
    monkeypatch.setitem(bbbc.SHA256, name, hashlib.sha256(content).hexdigest())
    acquire(params("bbbc016", files=f"{single.url}/moved/"), tmp_path / "out")
    layout = read_screen(tmp_path / "out").layout.set_index("Metadata_Well")
    assert layout.loc["O24", "Metadata_Concentration_uM"] == 30


def test_an_invalid_plate_map_is_an_error(single, params, tmp_path, monkeypatch):
    path = "/bbbc/BBBC016/BBBC016_v1_platemap.txt"
    single.files[path] = b"DESCRIPTION\n1\n2\n"
    monkeypatch.setitem(bbbc.SHA256, "BBBC016_v1_platemap.txt",
                        hashlib.sha256(single.files[path]).hexdigest())
    with pytest.raises(MoascopeError, match="does not have a heading and 72 doses"):
        acquire(params("bbbc016"), tmp_path / "out")
