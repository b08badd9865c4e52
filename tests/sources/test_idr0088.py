"""The source idr0088, against a local server with its layout and synthetic pictures."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from public_server import PublicServer, archive, as_json, tiff

from moascope.cli.screens import fetch
from moascope.errors import MoascopeError
from moascope.params import Idr0088
from moascope.params_file import parse_params
from moascope.screen.description import read_description
from moascope.screen.manifest import read_manifest
from moascope.screen.planes import read_site
from moascope.screen.tables import read_screen
from moascope.sources.idr0088 import FOLDER, plan, plane_name, read_index, with_preset
from moascope.sources.idr0088_web import render_address
from moascope.sources.idr0088_wells import read_annotation, select
from moascope.sources.plan import plan_words
from moascope.stages.acquire import acquire
from moascope.tracking.registry import version_tags

HEADER = ("Plate,Well,Characteristics [Cell Line],Comment [Cell Line with Markers],"
          "Compound Concentration (microMolar),Compound Set,Compound MoA,Compound Name,"
          "Compound SMILES,Compound InChIKey,Control Type,Channels,Plate Location")
PLATES = {"1001": ("A549", "A549-ACTB-RAB5A", "ACTB", "RAB5A", "p1/PpsL05A549_PPS1"),
          "1002": ("HepG2", "HepG2-TUBA1B-RELA", "TUBA1B", "RELA", "p2/PpsL05HepG2_PPS2"),
          "1003": ("HepG2", "HepG2-TUBA1B-RELA", "TUBA1B", "RELA", "p2/PpsL05HepG2_PPS3")}
WELLS = {"B2": ",,,DMSO,,,Negative Control",
         "B3": "1,MoA Reference,Histamine receptor agonist,histamine,NCCc1cnc[nH]1 {A2=R},"
               "NTYJJOPFIAHURM-UHFFFAOYSA-N,",
         "B4": "9,MoA Reference,Tubulin inhibitor,colchicine,COc1,IAKHMKGGTNLKSZ-INIZCTEOSA-N,",
         "C2": "9,Prestwick Natural Product,,cinchonidine,C=C,KMPWYEUPVWOPIM-KODHJQJWSA-N,"}
FIELDS = {"B02": (1, 2, 3), "B03": (1, 2), "B04": (1, 2), "C02": (1, 2)}


def annotation_lines() -> str:
    lines = [HEADER]
    for plate, (line, markers, green, red, place) in PLATES.items():
        channels = f'"Ch1 (blue): Nuclei/Cytoplasm, Ch2 (green): {green}, Ch3 (red): {red}"'
        lines += [f"{plate},{well},{line},{markers},{said},{channels},{place}"
                  for well, said in WELLS.items()]
    return "\n".join([*lines, ""])


def annotation() -> bytes:
    return archive({"idr0088-screenA-annotation.csv": annotation_lines().encode()})


def index(plate: str, extra: str = "") -> bytes:
    records = "".join(
        f'<bts:MeasurementRecord bts:Type="IMG" bts:Row="2" bts:FieldIndex="{field}">'
        f"{plane_name(plate, well, field, channel)}</bts:MeasurementRecord>\n"
        for well, fields in FIELDS.items() for field in fields for channel in (1, 2, 3))
    return (f'<?xml version="1.0" encoding="utf-8"?>{extra}<bts:MeasurementData '
            f'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0">{records}'
            '<bts:MeasurementRecord bts:Type="ERR">lost</bts:MeasurementRecord>'
            "</bts:MeasurementData>").encode()


def folder(plate: str) -> str:
    return f"/files/{FOLDER}{PLATES[plate][4]}/{plate}/"


@pytest.fixture
def server():
    files = {"/annotation.csv.zip": annotation()}
    number = 0
    for plate in PLATES:
        files[folder(plate) + "MeasurementData.mlf"] = index(plate)
        for well, fields in FIELDS.items():
            for field in fields:
                for channel in (1, 2, 3):
                    number += 1
                    files[folder(plate) + plane_name(plate, well, field, channel)] = tiff(number)
    with PublicServer(files) as one:
        yield one


@pytest.fixture
def params(server, tmp_path):
    def make(acquire=(), **selection):
        return parse_params({
            "acquire": {"source": "idr0088", "downloads": str(tmp_path / "downloads"),
                        "per_second": 10_000, "attempts": 2, "timeout": 20, **dict(acquire)},
            "idr0088": {"annotation": f"{server.url}/annotation.csv.zip",
                        "files": f"{server.url}/files/", "web": f"{server.url}/web/",
                        **selection}})
    return make


def test_a_selection_becomes_a_screen(server, params, tmp_path, capsys):
    sentence = acquire(params(panels=["HepG2 TUBA1B-RELA"]), tmp_path / "out")
    assert sentence.startswith("18 sites on 2 plates, 3 channels, 54 image files of ")
    assert sentence.endswith("licence CC BY-NC 4.0, (c) Cox et al., NOT FOR COMMERCIAL USE")
    screen = read_screen(tmp_path / "out")
    assert screen.channels == ("Nucleus", "Green", "Red")
    site = screen.sites.iloc[0]
    assert list(site[["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
                      "Metadata_Panel"]]) == ["1002", "B02", 1, "p2", "HepG2 TUBA1B-RELA"]
    expected = server.files[folder("1002") + plane_name("1002", "B02", 1, 2)]
    assert (screen.images / site["FileName_Green"]).read_bytes() == expected
    assert read_site(screen, site).shape == (3, 48, 64)
    layout = screen.layout.set_index(["Metadata_Plate", "Metadata_Well"])
    assert list(layout.loc[("1002", "B02")])[:1] == ["DMSO"]
    assert layout.loc[("1002", "B02"), "Metadata_Control"] == "negative"
    assert layout.loc[("1002", "B03"), "Metadata_Concentration_uM"] == 1
    notes = screen.annotations.set_index("Metadata_Compound")
    assert list(notes.index) == ["cinchonidine", "colchicine", "histamine"]
    assert notes.loc["histamine", "Metadata_MoA"] == "Histamine receptor agonist"
    assert notes.loc["histamine", "Metadata_SMILES"] == "NCCc1cnc[nH]1"
    assert notes.loc["cinchonidine", "Metadata_MoA"] == ""
    assert list(notes["gpcr"]) == ["unknown", "no", "yes"]
    assert list(notes["gpcr_action"]) == ["", "", "agonist"]
    said = capsys.readouterr().out
    assert "NOT FOR COMMERCIAL USE" in said
    assert "https://doi.org/10.17867/10000150" in said


def test_licence_citation_and_channels_are_next_to_the_data(params, tmp_path):
    acquire(params(plates=["1001", "1002"]), tmp_path / "out")
    about = read_description(tmp_path / "out")
    assert about["licence"].startswith("CC BY-NC 4.0")
    assert about["non_commercial"] is True
    assert "Cox MJ" in about["citation"]
    assert about["channels"]["A549 ACTB-RAB5A"] == {
        "Nucleus": "Nuclei/Cytoplasm", "Green": "ACTB", "Red": "RAB5A"}
    assert about["channels"]["HepG2 TUBA1B-RELA"]["Red"] == "RELA"
    assert about["selection"] == {"plates": ["1001", "1002"]}


def test_a_second_run_asks_for_nothing_and_gives_the_same_bytes(server, params, tmp_path):
    acquire(params(plates=["1001"]), tmp_path / "one")
    asked = len(server.requests)
    acquire(params(plates=["1001"]), tmp_path / "two")
    assert len(server.requests) == asked
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_plate_barcode_may_be_written_as_a_number(params):
    assert params(plates=[1001]).idr0088.plates == ("1001",)


@pytest.mark.parametrize(("selection", "sites"), [
    ({}, 27), ({"plates": ["1003"]}, 9), ({"fields": [3]}, 3), ({"fields": [1]}, 12),
    ({"wells": ["b3"]}, 15), ({"limit": 10}, 10), ({"compounds": ["histamine"]}, 15),
    ({"compounds": ["histamine"], "plates": ["1001"], "fields": [1, 2]}, 4),
    ({"panels": ["A549-ACTB-RAB5A"]}, 9),
])
def test_selections(params, tmp_path, selection, sites):
    acquire(params(**selection), tmp_path / "out")
    assert len(read_screen(tmp_path / "out").sites) == sites


def test_the_controls_of_a_plate_come_along_with_named_wells(params, tmp_path):
    acquire(params(plates=["1001"], wells=["B3"]), tmp_path / "out")
    layout = read_screen(tmp_path / "out").layout
    assert list(layout["Metadata_Well"]) == ["B02", "B03"]
    assert list(layout["Metadata_Control"]) == ["negative", ""]


def test_fields_after_the_third_are_taken_in_their_order(server, params, tmp_path, monkeypatch):
    monkeypatch.setitem(FIELDS, "B03", (10, 1, 4))
    server.files[folder("1001") + "MeasurementData.mlf"] = index("1001")
    for field in (4, 10):
        for channel in (1, 2, 3):
            server.files[folder("1001") + plane_name("1001", "B03", field, channel)] = tiff(field)
    acquire(params(plates=["1001"], compounds=["histamine"]), tmp_path / "out")
    sites = read_screen(tmp_path / "out").sites
    assert list(sites.loc[sites["Metadata_Well"] == "B03", "Metadata_Site"]) == [1, 4, 10]


def test_a_limit_takes_the_first_in_order_of_plate_well_and_field(params, server, tmp_path):
    acquire(params(limit=4), tmp_path / "out")
    sites = read_screen(tmp_path / "out").sites
    assert list(sites["Metadata_Well"] + "/" + sites["Metadata_Site"].astype(str)) == [
        "B02/1", "B02/2", "B02/3", "B03/1"]
    assert len(server.asked(".tif")) == 12


@pytest.mark.parametrize(("selection", "words"), [
    ({"panels": ["HepG2 TUBA1B-RELB"]}, "panels names 'HepG2 TUBA1B-RELB'.*Did you mean 'HepG2 TU"),
    ({"compounds": ["Histamine"]}, "Did you mean 'histamine'"),
    ({"plates": ["77"]}, r"plates names '77'.*It has '1001', '1002', '1003'"),
    ({"wells": ["H12"]}, "wells names 'H12'"),
    ({"wells": ["Z99"]}, "'Z99' is not a well name"),
    ({"plates": ["1001"], "panels": ["HepG2 TUBA1B-RELA"]}, "The selection of idr0088 is empty"),
    ({"fields": [9]}, "none of its wells was imaged in these fields"),
])
def test_an_impossible_selection_is_an_error(params, tmp_path, selection, words):
    with pytest.raises(MoascopeError, match=words):
        acquire(params(**selection), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_site_without_a_file_is_left_out_by_name(server, params, tmp_path):
    del server.files[folder("1001") + plane_name("1001", "B03", 2, 3)]
    sentence = acquire(params({"max_missing": 0.1}, plates=["1001"]), tmp_path / "out")
    assert "8 sites on 1 plate" in sentence
    assert "1 site left out because a file is missing, see missing.csv" in sentence
    missing = pd.read_csv(tmp_path / "out/missing.csv", dtype=str)
    assert list(missing.iloc[0])[:4] == ["1001", "B03", "2",
                                         "images/1001/1001_B03_T0001F002L01A03Z01C03.tif"]
    assert "does not exist (status 404)." in missing["reason"][0]
    assert read_description(tmp_path / "out")["missing_files"] == 1


def test_too_many_missing_files_stop_the_stage(server, params, tmp_path):
    del server.files[folder("1001") + plane_name("1001", "B03", 2, 3)]
    with pytest.raises(MoascopeError, match=r"acquire\.max_missing allows"):
        acquire(params({"max_missing": 0.01}, plates=["1001"]), tmp_path / "out")


def test_a_plate_without_an_index_is_taken_with_two_fields(server, params, tmp_path, capsys):
    del server.files[folder("1001") + "MeasurementData.mlf"]
    acquire(params(plates=["1001"]), tmp_path / "out")
    assert len(read_screen(tmp_path / "out").sites) == 8
    assert read_description(tmp_path / "out")["plates_without_index"] == ["1001"]
    assert "1 plate without a usable MeasurementData.mlf (1001)" in capsys.readouterr().out


def test_addresses_may_end_in_a_slash_or_not(server, params, tmp_path):
    acquire(params(limit=1, files=f"{server.url}/files"), tmp_path / "out")
    assert len(read_screen(tmp_path / "out").sites) == 1


def test_a_web_page_in_place_of_every_picture_stops_with_its_sentence(server, params, tmp_path):
    for name in server.files:
        if name.endswith(".tif"):
            server.always[name] = "html image/tiff"
    with pytest.raises(MoascopeError, match="is a web page, not the file"):
        acquire(params(plates=["1001"]), tmp_path / "out")
    assert not list((tmp_path / "downloads").rglob("*.tif"))


def test_an_8_bit_picture_does_not_belong_to_this_screen(server, params, tmp_path):
    server.files[folder("1001") + plane_name("1001", "B02", 1, 1)] = tiff(1, dtype="uint8")
    acquire(params({"max_missing": 0.1}, plates=["1001"]), tmp_path / "out")
    missing = pd.read_csv(tmp_path / "out/missing.csv")
    assert "holds uint8 values instead of 16-bit ones" in missing["reason"][0]
    assert ".part" not in missing["reason"][0]


def test_images_can_be_put_under_version_control(params, tmp_path):
    acquire(params({"images": "copy"}, plates=["1001"], wells=["B03"], fields=[1]),
            tmp_path / "out")
    assert read_description(tmp_path / "out")["images"] == "."
    files = sorted((tmp_path / "out/images/1001").iterdir())
    assert len(files) == 6
    assert files[0].stat().st_nlink == 2
    assert set(read_manifest(tmp_path / "out")["SHA256"].str.len()) == {64}


def test_a_persons_annotations_take_the_place_of_the_tables(params, tmp_path):
    table = tmp_path / "curated.csv"
    table.write_text("Metadata_Compound,Metadata_MoA,gpcr,curator\n"
                     "histamine,Histamine receptor agonist,yes,me\nsomething else,x,no,me\n")
    acquire(params({"path": str(table)}), tmp_path / "out")
    notes = read_screen(tmp_path / "out").annotations.set_index("Metadata_Compound")
    assert list(notes.index) == ["cinchonidine", "colchicine", "histamine"]
    assert list(notes["gpcr"]) == ["unknown", "no", "yes"]
    assert list(notes["curator"]) == ["", "", "me"]
    assert notes.loc["colchicine", "Metadata_MoA"] == "Tubulin inhibitor"
    for content, words in (("Metadata_Compound\nhistamine\n", "has no column Metadata_MoA"),
                           ("Metadata_Compound,Metadata_MoA\nx,y\n", "annotates none of the 3"),
                           ("", "cannot be read as annotations")):
        table.write_text(content)
        with pytest.raises(MoascopeError, match=words):
            acquire(params({"path": str(table)}), tmp_path / "out")
    with pytest.raises(MoascopeError, match="there is no such file"):
        acquire(params({"path": "nowhere.csv"}), tmp_path / "out")


def test_more_than_allowed_is_refused_before_a_picture_is_downloaded(server, params, tmp_path):
    with pytest.raises(MoascopeError, match=r"acquire\.max_gb allows"):
        acquire(params({"max_gb": 0.001}), tmp_path / "out")
    assert server.asked(".tif") == []


def test_downloads_that_cannot_be_written_are_errors(params, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MoascopeError, match=r"cannot be written: Not a directory.*downloads"):
        acquire(params({"downloads": str(tmp_path / "file")}), tmp_path / "out")


def test_only_planes_of_the_selection_count_as_there(tmp_path):
    (tmp_path / "a.csv").write_text(annotation_lines())
    for plate, well, field in (("1001", "B03", 1), ("1001", "B04", 1), ("1001", "B03", 2),
                               ("1002", "B03", 1)):
        path = tmp_path / "images" / plate / plane_name(plate, well, field, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))

    def there(**selection):
        planned = plan(Idr0088(annotation=str(tmp_path / "a.csv"), **selection), tmp_path, None)
        return planned.size - planned.room

    assert there() == 4000
    assert there(plates=("1001",)) == 3000
    assert there(plates=("1001",), wells=("B03",)) == 2000
    assert there(plates=("1001",), wells=("B03",), fields=(2,)) == 1000
    assert there(plates=("1003",)) == there(rendered=True) == 0


def test_an_annotation_of_another_address_is_read_anew(server, params, tmp_path):
    acquire(params(plates=["1001"]), tmp_path / "out")
    server.files["/v2/annotation.csv.zip"] = archive({
        "a.csv": annotation_lines().replace("Tubulin inhibitor", "Tubulin wrecker").encode()})
    acquire(params(plates=["1001"], annotation=f"{server.url}/v2/annotation.csv.zip"),
            tmp_path / "out")
    notes = read_screen(tmp_path / "out").annotations.set_index("Metadata_Compound")
    assert notes.loc["colchicine", "Metadata_MoA"] == "Tubulin wrecker"


def test_an_invalid_annotation_is_an_error(server, params, tmp_path):
    server.files["/annotation.csv.zip"] = archive({"a.csv": b"Plate,Well\n1,B2\n"})
    with pytest.raises(MoascopeError, match="is not the annotation table of idr0088"):
        acquire(params(), tmp_path / "out")
    server.always["/annotation.csv.zip"] = "html"
    with pytest.raises(MoascopeError, match="is a web page"):
        acquire(params({"downloads": str(tmp_path / "other")}), tmp_path / "out")
    with pytest.raises(MoascopeError, match=r"There is no annotation table .*nowhere\.csv"):
        acquire(params(annotation=str(tmp_path / "nowhere.csv")), tmp_path / "out")


def test_a_plate_whose_name_leads_elsewhere_is_refused(server, params, tmp_path):
    table = annotation_lines().replace("1001,", "../../1001,")
    server.files["/annotation.csv.zip"] = archive({"a.csv": table.encode()})
    with pytest.raises(MoascopeError, match=r"names '\.\./\.\./1001', which cannot be the name"):
        acquire(params(), tmp_path / "out")


def test_the_annotation_may_be_plain_or_gzipped(params, tmp_path):
    for name, content in (("a.csv", annotation_lines().encode()),
                          ("a.csv.gz", gzip.compress(annotation_lines().encode()))):
        (tmp_path / name).write_bytes(content)
        assert len(read_annotation(tmp_path / name)) == 12


def test_downloads_lie_in_the_repository_even_in_an_experiment(params, tmp_path, monkeypatch):
    (tmp_path / "repository").mkdir()
    (tmp_path / "experiment").mkdir()
    monkeypatch.chdir(tmp_path / "experiment")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    acquire(params({"downloads": "data/downloads"}, limit=1), Path("data/acquire"))
    assert len(list((tmp_path / "repository/data/downloads").rglob("*.tif"))) == 3
    screen = read_screen(Path("data/acquire"))
    assert read_site(screen, screen.sites.iloc[0]).shape == (3, 48, 64)


def test_an_invalid_or_malicious_index_is_an_error(tmp_path):
    path = tmp_path / "a.mlf"
    path.write_bytes(index("1001"))
    assert len(read_index(path, "1001")) == 9
    with pytest.raises(MoascopeError, match="has no image of plate 1002"):
        read_index(path, "1002")
    path.write_bytes(index("1001", '<!DOCTYPE a [<!ENTITY b "cc">]>'))
    with pytest.raises(MoascopeError, match="is not an index of a plate"):
        read_index(path, "1001")
    path.write_bytes(index("1001")[:200])
    with pytest.raises(MoascopeError, match="is not an index of a plate"):
        read_index(path, "1001")


@pytest.mark.parametrize("was", [b"klingon", b"utf-7", b"cp037", b"utf-32"])
def test_an_index_in_an_encoding_that_cannot_be_read_is_an_error(tmp_path, was):
    path = tmp_path / "a.mlf"
    path.write_bytes(index("1001").replace(b'encoding="utf-8"', b'encoding="' + was + b'"'))
    with pytest.raises(MoascopeError, match="is not an index of a plate"):
        read_index(path, "1001")


def test_an_index_in_an_unknown_encoding_costs_its_plate_the_index_only(server, params, tmp_path):
    server.files[folder("1001") + "MeasurementData.mlf"] = index("1001").replace(
        b'encoding="utf-8"', b'encoding="klingon"')
    acquire(params(plates=["1001"]), tmp_path / "out")
    assert read_description(tmp_path / "out")["plates_without_index"] == ["1001"]


def test_an_index_with_a_document_type_is_refused(tmp_path):
    path = tmp_path / "a.mlf"
    path.write_bytes(index("1001", '<!DOCTYPE a SYSTEM "b.dtd">'))
    with pytest.raises(MoascopeError, match="is not an index of a plate"):
        read_index(path, "1001")


def test_a_name_in_the_index_never_leaves_the_folder(tmp_path):
    path = tmp_path / "a.mlf"
    path.write_bytes(index("1001").replace(b"1001_B02_T0001F001", b"../../1001_B02_T0001F001"))
    assert ("B02", 1) not in read_index(path, "1001")


def test_a_killed_stage_resumes_and_ends_in_the_same_bytes(server, params, tmp_path):
    acquire(params(plates=["1001"]), tmp_path / "whole")
    stuck = folder("1001") + plane_name("1001", "C02", 1, 1)
    server.faults[stuck] = ["pause 2000"]
    again = params({"downloads": str(tmp_path / "again"), "parallel": 1}, plates=["1001"])
    (tmp_path / "params.yaml").write_text(json.dumps(again.model_dump(mode="json", by_alias=True)))
    process = subprocess.Popen([sys.executable, "-m", "moascope.cli", "stage", "acquire", "--out",
                                "out"],
                               cwd=tmp_path, stdout=subprocess.DEVNULL)
    part = tmp_path / "again/idr0088/images/1001" / f".{Path(stuck).name}.part"
    for _ in range(600):
        if part.exists() and part.stat().st_size == 2000:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    complete = [path for path in part.parent.iterdir() if path.suffix == ".tif"]
    asked = len(server.asked(".tif"))
    acquire(again, tmp_path / "out")
    assert len(server.asked(".tif")) - asked == 27 - len(complete)
    assert server.asked(Path(stuck).name)[-1][1] == "bytes=2000-"
    assert (tmp_path / "out/manifest.csv").read_bytes() == (
        tmp_path / "whole/manifest.csv").read_bytes()


# Renderings


@pytest.fixture
def web(server):
    def plates(query):
        page = int(query.get("page", ["1"])[0])
        found = [{"id": int(name) + 4000, "name": name} for name in sorted(PLATES)]
        return as_json({"plates": found[2 * page - 2:2 * page]})

    def grid(plate, field):
        def cell(row, column):
            well = f"{'ABC'[row]}{column + 1:02d}"
            if field not in FIELDS.get(well, ()):
                return None
            return {"id": plate * 1000 + row * 100 + column * 10 + field, "wellId": 1}
        return lambda query: as_json({"rowlabels": list("ABC"), "collabels": [1, 2, 3, 4],
                                      "grid": [[cell(r, c) for c in range(4)] for r in range(3)]})

    def picture(query):
        buffer = io.BytesIO()
        shade = 40 * sum(part[0] != "-" for part in query["c"][0].split(","))
        Image.fromarray(np.full((48, 64), shade, np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()

    server.answers = {"/web/webclient/": lambda query: b"<html>welcome</html>",
                      "/web/webclient/api/plates/": plates}
    for plate in (5001, 5002, 5003):
        for field in (1, 2, 3):
            server.answers[f"/web/webgateway/plate/{plate}/{field - 1}/"] = grid(plate, field)
            for row in range(3):
                for column in range(4):
                    image = plate * 1000 + row * 100 + column * 10 + field
                    server.answers[f"/web/webgateway/render_image/{image}/0/0/"] = picture
    return server


def test_renderings_are_one_grey_request_a_channel_at_the_fixed_window(web, params, tmp_path):
    acquire(params(plates=["1003"], rendered=True, wells=["B02"], fields=[1]), tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert screen.sites["FileName_Red"][0] == "rendered/1003/1003_B02_F001_Red.jpg"
    assert read_site(screen, screen.sites.iloc[0]).shape == (3, 48, 64)
    asked = [path for path, _ in web.requests if "render_image/5003111/" in path]
    assert sorted(path.partition("?")[2] for path in asked) == [
        "c=-1,-2,3%7C0:3880$FF0000&m=g&q=0.9", "c=-1,2%7C0:6193$00FF00,-3&m=g&q=0.9",
        "c=1%7C27:4319$0000FF,-2,-3&m=g&q=0.9"]
    assert web.asked(".tif") == []


def test_renderings_say_that_they_are_no_measurement(web, params, tmp_path, capsys):
    acquire(params(plates=["1001"], rendered=True), tmp_path / "out")
    assert len(read_screen(tmp_path / "out").sites) == 9
    assert "A rendered JPEG is not a measurement." in capsys.readouterr().out
    assert "not a measurement" in read_description(tmp_path / "out")["caveat"]


def test_the_window_is_that_of_the_public_rendering_settings(real_data):
    import yaml

    settings = yaml.safe_load((real_data / "tables/idr0088-render.yml").read_text())
    for channel, said in settings["channels"].items():
        part = f"{channel}%7C{said['start']:.0f}:{said['end']:.0f}${said['color']}"
        assert part in render_address("https://a/", 1, channel)


@pytest.mark.parametrize("answer", [b"[]", b'{"plates": [{"id": 1}]}', b'{"plates": 7}'])
def test_a_service_that_changed_is_an_error(web, params, tmp_path, answer):
    web.answers["/web/webclient/api/plates/"] = lambda query: answer
    with pytest.raises(MoascopeError, match="did not answer with a list of plates"):
        acquire(params(rendered=True), tmp_path / "out")


def test_a_plate_that_the_service_does_not_list_is_named(web, params, tmp_path):
    web.answers["/web/webclient/api/plates/"] = lambda query: as_json(
        {"plates": [{"id": 5001, "name": "1001"}]})
    with pytest.raises(MoascopeError, match=r"does not list 2 plates of the selection "
                                            r"\(1002, 1003\)"):
        acquire(params(rendered=True), tmp_path / "out")


# What becomes of the licence


def test_what_limits_every_score_is_taken_from_the_screen(web, params, tmp_path):
    from moascope.evaluation.caveats import caveats_of

    acquire(params(rendered=True, limit=1), tmp_path / "out")
    said = caveats_of(read_description(tmp_path / "out"), "idr0088", "compound")
    assert len(said) == 2
    assert said[0].endswith("A rendered JPEG is not a measurement.")
    assert said[1].startswith("The licence of these data forbids commercial use")
    assert "CC BY-NC 4.0" in said[1]
    assert caveats_of({"licence": "CC0"}, "folder", "compound") == []


def test_the_licence_is_carried_through_a_folder(params, tmp_path):
    acquire(params({"images": "copy"}, rendered=False, limit=1), tmp_path / "one")
    acquire(parse_params({"acquire": {"source": "folder", "path": str(tmp_path / "one")}}),
            tmp_path / "two")
    description = read_description(tmp_path / "two")
    assert description["non_commercial"] is True
    assert description["licence"] == "CC BY-NC 4.0, (c) Cox et al."


def test_non_commercial_data_mark_the_registered_model():
    scores = {"average_precision": 0.2, "low": 0.1, "high": 0.3, "prevalence": 0.1, "p": 0.5}
    for said, mark in ((True, "true"), (False, "false"), (None, "false")):
        metrics = {"out_of_fold": {"compound": scores}, "held_out": {}, "licence": "CC BY-NC 4.0",
                   "citation": "Cox 2020"} | ({} if said is None else {"non_commercial": said})
        tags = version_tags(parse_params({}), "morphology", metrics)
        assert (tags["licence"], tags["citation"], tags["non_commercial"]) == (
            "CC BY-NC 4.0", "Cox 2020", mark)


# The plan


def test_a_dry_run_downloads_the_table_and_no_picture(server, params, tmp_path):
    (tmp_path / "params.yaml").write_text(json.dumps(params().model_dump(mode="json",
                                                                         by_alias=True)))
    done = subprocess.run([sys.executable, "-m", "moascope.cli", "fetch",
                           "--dry-run", "-S", "idr0088.plates=['1002']"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 plate, 4 wells, 3 compounds; about 9 images, about 27 files" in done.stdout
    assert "CC BY-NC 4.0, (c) Cox et al. (NOT FOR COMMERCIAL USE)" in done.stdout
    assert [path for path, _ in server.requests] == ["/annotation.csv.zip"]


def test_fetch_downloads_for_a_later_run(server, params, tmp_path):
    (tmp_path / "params.yaml").write_text(json.dumps(params(limit=2).model_dump(mode="json",
                                                                                by_alias=True)))
    done = subprocess.run([sys.executable, "-m", "moascope.cli", "fetch"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 images are in " in done.stdout, done.stderr
    asked = len(server.requests)
    acquire(params(limit=2), tmp_path / "out")
    assert len(server.requests) == asked


def test_an_unknown_setting_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(tmp_path)
    for setting, words in (("idr0088.preset", "sets no parameter"),
                           ("idr0088.presett=slides", r"Did you mean 'idr0088\.preset'"),
                           ("seed.x=1", "seed is not a section of the parameters"),
                           ("idr0088.limit=0", "idr0088.limit = 0 cannot be used"),
                           ("seed=1", "needs no download")):
        with pytest.raises(MoascopeError, match=words):
            fetch(settings=[setting])


def test_parameters_take_precedence_over_a_preset():
    assert with_preset(Idr0088(preset="slides")).limit == 26_000
    assert with_preset(Idr0088(preset="slides", limit=100)).limit == 100
    assert with_preset(Idr0088(preset="honest", panels=("WPMY1 ACTB-RAB5A",))).panels == (
        "WPMY1 ACTB-RAB5A",)


# The real annotation table


@pytest.fixture(scope="session")
def real_annotation(real_data):
    return real_data / "tables/idr0088-screenA-annotation.csv.zip"


@pytest.fixture(scope="session")
def real_table(real_annotation):
    return read_annotation(real_annotation)


def test_the_real_table_is_read_whole(real_table):
    assert len(real_table) == 317_430
    assert real_table["Plate"].nunique() == 1_199
    assert real_table["Panel"].nunique() == 15
    assert real_table["Batch"].nunique() == 67
    assert not real_table.duplicated(["Plate", "Well"]).any()
    treated = real_table[real_table["Control"] == ""]
    assert treated.groupby("Set")["Compound"].nunique().to_dict() == {
        "MoA Reference": 1_007, "Prestwick Natural Product": 169}


def test_the_real_places_are_those_of_the_list_of_plates(real_table, real_data):
    listed = (real_data / "tables/idr0088-screenA-plates.tsv").read_text().split()
    places = real_table.drop_duplicates("Plate")
    ours = {f"/uod/idr/filesets/{FOLDER}{place}/{plate}/{plate}.wpi"
            for place, plate in zip(places["Location"], places["Plate"], strict=True)}
    assert ours == set(listed)


@pytest.mark.parametrize(("preset", "numbers"), [
    ("slides", "43 plates, 11,153 wells, 1,046 compounds; about 26,000 images, about 78,000 "
               "files, about 204.9 GB to download"),
    ("honest", "80 plates, 21,273 wells, 1,176 compounds; about 49,591 images, about 148,773 "
               "files, about 390.9 GB to download"),
])
def test_the_presets_on_the_real_table(real_annotation, tmp_path, preset, numbers):
    planned = plan(Idr0088(preset=preset, annotation=str(real_annotation)), tmp_path, None)
    assert numbers in "\n".join(plan_words(planned, 5))


def test_the_honest_preset_has_every_compound_on_one_line(real_table):
    wells = select(real_table, with_preset(Idr0088(preset="honest")))
    assert set(wells["Panel"]) == {"HepG2 TUBA1B-RELA"}
    assert wells["Compound"].nunique() == real_table["Compound"].nunique()
