"""moascope import: every kind of plates, with what real instruments do to names and indexes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import write_tiff
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from moascope.cli.app import app
from moascope.cli.screens import Kind
from moascope.errors import MoascopeError
from moascope.importing.imagexpress import read_htd
from moascope.importing.kinds import KINDS
from moascope.importing.names import CELLVOYAGER, HARMONY, IMAGEXPRESS, INCELL, well_at
from moascope.importing.plates import import_plates, parse_channels
from moascope.importing.profiles.kinds import KINDS as PROFILE_KINDS
from moascope.importing.tree import locate, scan_tree
from moascope.params_file import parse_params
from moascope.screen.manifest import read_manifest
from moascope.screen.tables import read_screen
from moascope.screen.wells import canonical_well, well_name
from moascope.stages.acquire import acquire
from moascope.validation.facts import plane_facts

GUID = "722986E3-C24E-4E7D-A484-F1578ECD7C53"


def image(path: Path, value: int = 7) -> Path:
    """A real TIFF whose first pixel is `value`, so that a swap of files shows."""
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    pixels[0, 0] = value
    return write_tiff(path, pixels)


def first_pixels(out: Path) -> dict[tuple[str, str, int, str], int]:
    """Acquire what was imported, decode every plane, and say whose first pixel is what."""
    from moascope.screen.planes import read_site, site_channels

    acquired = out.parent / f"{out.name}-acquired"
    acquire(parse_params({"acquire": {"source": "folder", "path": str(out),
                                      "allow_outside": True}}), acquired)
    screen = read_screen(acquired)
    facts = plane_facts(screen, read_manifest(acquired), 1)
    assert facts["Readable"].all(), facts["Error"].tolist()
    assert (facts["Problem"] == "").all(), facts["Error"].tolist()
    pixels = {}
    for row in screen.sites.to_dict("records"):
        for channel, plane in zip(site_channels(screen, row), read_site(screen, row), strict=True):
            pixels[row["Metadata_Plate"], row["Metadata_Well"], row["Metadata_Site"],
                   channel] = int(plane[0, 0])
    return pixels


def reasons(out: Path) -> dict[str, str]:
    table = pd.read_csv(out / "unplaced.csv", keep_default_na=False)
    return dict(zip(table["File"], table["Reason"], strict=True))


def run(*arguments: object):
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


# ImageXpress


def imagexpress(folder: Path, htd: bool = True) -> Path:
    for well in ("B02", "B03"):
        for site in (1, 2):
            for wave in (1, 2):
                value = 100 * wave + 10 * site + int(well[1:])
                image(folder / f"Run7_{well}_s{site}_w{wave}{GUID}.tif", value)
        image(folder / f"Run7_{well}_s1_w1_thumb{GUID}.tif")
    if htd:
        (folder / "Run7.HTD").write_bytes(
            b'"HTSInfoFile", Version 1.0\r\n"Description", "caf\xe9"\r\n"XWells", 12\r\n'
            b'"YWells", 8\r\n"WellsSelection2", FALSE, TRUE, TRUE, TRUE\r\n"NWavelengths", 2\r\n'
            b'"WaveName1", "DAPI"\r\n"WaveName2", "FITC"\r\n"EndFile"\r\n')
    return folder


def test_imagexpress_names_give_wells_sites_and_wavelengths(tmp_path):
    imported = import_plates(imagexpress(tmp_path / "in" / "P1"), tmp_path / "out")
    assert imported.kind == "ImageXpress / MetaXpress"
    assert dict(imported.channels) == {"DAPI": "w1", "FITC": "w2"}
    pixels = first_pixels(tmp_path / "out")
    assert len(pixels) == 8
    assert pixels["P1", "B03", 2, "FITC"] == 223


def test_thumbnails_are_listed_and_not_taken(tmp_path):
    import_plates(imagexpress(tmp_path / "in"), tmp_path / "out")
    assert list(reasons(tmp_path / "out").values()) == ["a thumbnail"] * 2


def test_a_well_that_the_plate_description_selects_and_nobody_saved_is_told(tmp_path):
    imported = import_plates(imagexpress(tmp_path / "in"), tmp_path / "out")
    assert any("selects 3 wells, of which 1 without an image: B04" in note
               for note in imported.notes)


def test_without_a_plate_description_wavelengths_keep_their_numbers(tmp_path):
    imported = import_plates(imagexpress(tmp_path / "in", htd=False), tmp_path / "out")
    assert list(imported.channels) == ["w1", "w2"]


def test_time_points_and_z_steps_in_folders_are_one_plate(tmp_path):
    for t in (1, 2):
        for z in (1, 2, 3):
            image(tmp_path / f"in/P1/TimePoint_{t}/ZStep_{z}/P1_A01_s1_w1.TIF", 10 * t + z)
    imported = import_plates(tmp_path / "in", tmp_path / "first")
    assert first_pixels(tmp_path / "first") == {("P1", "A01", 1, "w1"): 11}
    assert any("up to 3 z planes (1 to 3); the first is used and 2 planes left out" in note
               for note in imported.notes)
    assert any("up to 2 time points (1 to 2)" in note for note in imported.notes)
    assert len(reasons(tmp_path / "first")) == 5
    import_plates(tmp_path / "in", tmp_path / "chosen", z=3, t=2)
    assert first_pixels(tmp_path / "chosen") == {("P1", "A01", 1, "w1"): 23}
    with pytest.raises(MoascopeError, match=r"--z is 9, which no image has.*1, 2, 3"):
        import_plates(tmp_path / "in", tmp_path / "none", z=9)


def test_several_plates_in_one_folder_are_told_apart_by_how_names_begin(tmp_path):
    for plate in ("Alpha", "Beta_2"):
        image(tmp_path / f"in/{plate}_A01_s1_w1.tif", len(plate))
    import_plates(tmp_path / "in", tmp_path / "out")
    assert first_pixels(tmp_path / "out") == {("Alpha", "A01", 1, "w1"): 5,
                                              ("Beta_2", "A01", 1, "w1"): 6}


def test_plates_of_one_name_in_two_folders_are_two_plates(tmp_path):
    image(tmp_path / "in/week1/P1/x_A01_s1_w1.tif", 1)
    image(tmp_path / "in/week2/P1/x_A01_s1_w1.tif", 2)
    import_plates(tmp_path / "in", tmp_path / "out")
    assert first_pixels(tmp_path / "out") == {("week1_P1", "A01", 1, "w1"): 1,
                                              ("week2_P1", "A01", 1, "w1"): 2}


def test_a_plate_description_of_odd_bytes_is_read():
    names, selected = read_htd(b'"WaveName1", "\xb5-Tubulin, red"\n"WellsSelection32", TRUE\n')
    assert "Tubulin, red" in names["1"]
    assert selected == {"AF01"}


# Harmony


def harmony_index(images: list[tuple], plate: str = "BR1", version: int = 6) -> str:
    """Index.idx.xml as HarmonyV6 writes it, or with the channels in a map as HarmonyV7 does."""
    body = "".join(
        f'<Image Version="1"><id>x</id><State>Ok</State><URL>{url}</URL><Row>{row}</Row>'
        f"<Col>{column}</Col><FieldID>{field}</FieldID><PlaneID>{z}</PlaneID>"
        f"<TimepointID>0</TimepointID><ChannelID>{channel}</ChannelID>"
        + (f"<ChannelName>{name}</ChannelName>" if version < 7 else "")
        + '<PositionX Unit="m">0.0001</PositionX></Image>'
        for url, row, column, field, z, channel, name in images)
    entries = "".join(f'<Entry ChannelID="{channel}"><ChannelName>{name}</ChannelName></Entry>'
                      for channel, name in dict((i[5], i[6]) for i in images).items())
    maps = f"<Maps><Map>{entries}</Map></Maps>" if version >= 7 else ""
    return (f'<?xml version="1.0" encoding="utf-8"?><EvaluationInputData '
            f'xmlns="http://www.perkinelmer.com/PEHH/HarmonyV{version}"><Plates><Plate>'
            f"<PlateID>{plate}</PlateID><Name>{plate}</Name></Plate></Plates>{maps}"
            f"<Images>{body}</Images></EvaluationInputData>")


def harmony(folder: Path, version: int = 6) -> Path:
    images = []
    for row, column in ((1, 1), (16, 24)):
        for field in (1, 2):
            for channel, name in ((1, "Alexa 488"), (5, "HOECHST 33342")):
                url = f"r{row:02d}c{column:02d}f{field:02d}p01-ch{channel}sk1fk1fl1.tiff"
                image(folder / url, 100 * channel + 10 * field + row)
                images.append((url, row, column, field, 1, channel, name))
    images.append(("r01c01f03p01-ch1sk1fk1fl1.tiff", 1, 1, 3, 1, 1, "Alexa 488"))
    (folder / "Index.idx.xml").write_text(harmony_index(images, version=version))
    return folder


@pytest.mark.parametrize("version", [5, 6, 7])
def test_a_harmony_index_names_plate_and_channels(tmp_path, version):
    folder = tmp_path / "in/BR1__2020-11-08T18_18_00-Measurement1/Images"
    harmony(folder, version)
    image(folder / "r09c09f01p01-ch1sk1fk1fl1.tiff")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert list(imported.channels) == ["Alexa_488", "HOECHST_33342"]
    pixels = first_pixels(tmp_path / "out")
    assert len(pixels) == 8
    assert pixels["BR1", "P24", 2, "HOECHST_33342"] == 536
    lost = reasons(tmp_path / "out")
    assert "but not in the folder" in lost["r01c01f03p01-ch1sk1fk1fl1.tiff"]
    assert list(lost.values()).count("no index or table names it") == 1


def test_harmony_names_without_an_index_give_the_same_places(tmp_path):
    folder = harmony(tmp_path / "in/BR1__2020-11-08T18_18_00-Measurement1/Images")
    (folder / "Index.idx.xml").unlink()
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert list(imported.channels) == ["ch1", "ch5"]
    assert first_pixels(tmp_path / "out")["BR1", "P24", 2, "ch5"] == 536


def test_two_measurements_of_a_plate_stay_apart(tmp_path):
    for number in (1, 2):
        image(tmp_path / f"in/BR1__2020-11-08T1{number}_00_00-Measurement {number}/Images/"
              "r01c01f01p01-ch1sk1fk1fl1.tiff", number)
    import_plates(tmp_path / "in", tmp_path / "out")
    assert sorted(first_pixels(tmp_path / "out").values()) == [1, 2]
    assert read_screen(tmp_path / "out").sites["Metadata_Plate"].nunique() == 2


def test_a_broken_index_is_named_and_so_is_the_way_round_it(tmp_path):
    folder = harmony(tmp_path / "in")
    text = (folder / "Index.idx.xml").read_text()
    (folder / "Index.idx.xml").write_text(text[:len(text) // 2])
    with pytest.raises(MoascopeError, match=r"Index.idx.xml is damaged: .*remove it to import by"):
        import_plates(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out/load_data.csv").exists()


@pytest.mark.parametrize("field", ["-1", "1000000000000000000000000", "one", "", "1.5"])
def test_a_field_that_is_no_number_of_a_site_costs_its_own_image_only(tmp_path, field):
    folder = harmony(tmp_path / "in")
    index = folder / "Index.idx.xml"
    index.write_text(index.read_text().replace("<FieldID>1<", f"<FieldID>{field}<", 1))
    import_plates(folder, tmp_path / "out")
    assert len(first_pixels(tmp_path / "out")) == 7
    assert "r01c01f01p01-ch1sk1fk1fl1.tiff" in reasons(tmp_path / "out")


# CellVoyager

_BTS = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'


def cellvoyager(folder: Path, records: bool = True) -> Path:
    lines = []
    for well, row, column in (("B02", 2, 2), ("C11", 3, 11)):
        for channel in (1, 3):
            name = f"1100_{well}_T0001F001L01A01Z01C{channel:02d}.tif"
            image(folder / name, 10 * channel + row)
            lines.append(
                f'<bts:MeasurementRecord bts:Type="IMG" bts:Time="2016-06-14T09:13:30" '
                f'bts:Column="{column}" bts:Row="{row}" bts:TimePoint="1" bts:FieldIndex="1" '
                f'bts:ZIndex="1" bts:X="-1.5" bts:Ch="{channel}">{name}</bts:MeasurementRecord>')
    if records:
        lines.append('<bts:MeasurementRecord bts:Type="ERR" bts:Column="4" bts:Row="4" '
                     'bts:TimePoint="1" bts:FieldIndex="1" bts:ZIndex="1" bts:Ch="1">'
                     "Capture failed</bts:MeasurementRecord>")
        (folder / "MeasurementData.mlf").write_text(
            f"<bts:MeasurementData {_BTS}>{''.join(lines)}</bts:MeasurementData>")
        (folder / "MeasurementDetail.mrf").write_text(
            f'<bts:MeasurementDetail bts:MeasurementSettingFileName="S.mes" {_BTS}>'
            '<bts:MeasurementSamplePlate bts:Name="Plate 1100" bts:WellPlateFileName="x.wpi"/>'
            '<bts:MeasurementChannel bts:Ch="1"/></bts:MeasurementDetail>')
        (folder / "S.mes").write_text(
            f'<bts:MeasurementSetting {_BTS}><bts:ChannelList>'
            '<bts:Channel bts:Ch="1" bts:Target="DAPI" bts:Acquisition="BP445/45"/>'
            '<bts:Channel bts:Ch="3" bts:Target="" bts:Acquisition="BP600/37"/>'
            "</bts:ChannelList></bts:MeasurementSetting>")
    image(folder / "DC_sCMOS #1_CAM1.tif")
    return folder


def test_a_cellvoyager_measurement_names_plate_and_channels(tmp_path):
    imported = import_plates(cellvoyager(tmp_path / "in"), tmp_path / "out")
    assert imported.kind == "Yokogawa CellVoyager"
    assert list(imported.channels) == ["DAPI", "BP600_37"]
    assert first_pixels(tmp_path / "out")["Plate 1100", "C11", 1, "BP600_37"] == 33
    lost = reasons(tmp_path / "out")
    assert "records it as ERR" in lost["Capture failed"]
    assert "DC_sCMOS #1_CAM1.tif" in lost


def test_cellvoyager_names_alone_are_enough(tmp_path):
    imported = import_plates(cellvoyager(tmp_path / "in", records=False), tmp_path / "out")
    assert list(imported.channels) == ["C1", "C3"]
    assert first_pixels(tmp_path / "out")["1100", "B02", 1, "C3"] == 32


def test_images_that_were_converted_to_png_are_found_by_their_record(tmp_path):
    from PIL import Image

    folder = cellvoyager(tmp_path / "in")
    for path in folder.glob("1100*.tif"):
        Image.fromarray(np.full((6, 8), 40, np.uint8)).save(path.with_suffix(".png"))
        path.unlink()
    import_plates(folder, tmp_path / "out")
    assert len(read_screen(tmp_path / "out").sites) == 2


def test_a_broken_setting_costs_names_and_no_image(tmp_path):
    folder = cellvoyager(tmp_path / "in")
    (folder / "S.mes").write_text("<bts:Meas")
    imported = import_plates(folder, tmp_path / "out")
    assert list(imported.channels) == ["C1", "C3"]
    assert any("S.mes is damaged" in note for note in imported.notes)


# IN Cell


def incell(folder: Path, xdce: bool = True) -> Path:
    entries = []
    for row, column in ((2, 2), (8, 12)):
        letter = "ABCDEFGH"[row - 1]
        for wave, (excitation, emission) in enumerate((("DAPI", "DAPI"), ("Cy3", "Cy5"))):
            name = f"{letter} - {column:02d}(fld 1 wv {excitation} - {emission}).tif"
            image(folder / name, 100 * wave + row)
            entries.append(
                f'<Image filename="{name}"><Well label="{letter} - {column}"><Row '
                f'number="{row}"/><Column number="{column}"/></Well><EmissionFilter '
                f'name="{emission}"/><ExcitationFilter name="{excitation}"/><Identifier '
                f'field_index="0" time_index="0" wave_index="{wave}" z_index="0"/></Image>')
    if xdce:
        (folder / "Run 3.xdce").write_text(
            '<?xml version="1.0" encoding="ISO-8859-1"?><ImageStack><AutoLeadAcquisitionProtocol '
            f'name="x"/><Images>{"".join(entries)}</Images></ImageStack>')
    return folder


@pytest.mark.parametrize(("xdce", "plate"), [(True, "Run 3"), (False, "in")])
def test_in_cell_plates_are_read_with_and_without_their_index(tmp_path, xdce, plate):
    imported = import_plates(incell(tmp_path / "in", xdce), tmp_path / "out")
    assert set(imported.channels) == {"DAPI", "Cy3-Cy5"}
    assert first_pixels(tmp_path / "out")[plate, "H12", 1, "Cy3-Cy5"] == 108


@pytest.mark.parametrize(("name", "place"), [
    ("A - 1(fld 1 wv Cy5 - Cy5).tif", ("A", "1", "1", "Cy5 - Cy5", None, None)),
    ("B - 03(fld 1 wv TL-Phase Contrast - Cy3 wix 1).tif",
     ("B", "03", "1", "TL-Phase Contrast - Cy3", None, None)),
    ("AF - 48(fld 12 wv UV - DAPI z 3).tif", ("AF", "48", "12", "UV - DAPI", "3", None)),
    ("B - 02(fld 2 z 4 wv DAPI - DAPI).tif", ("B", "02", "2", "DAPI - DAPI", "4", None)),
    ("B - 02(fld 2 wv DAPI - DAPI time 3 - 0 ms).tif",
     ("B", "02", "2", "DAPI - DAPI", None, "3")),
])
def test_in_cell_names_of_public_repositories_are_understood(name, place):
    match = INCELL.fullmatch(name)
    assert match is not None
    assert match.group("row", "column", "site", "channel", "z", "t") == place


# LoadData


def write_loaddata(folder: Path, header: str, *rows: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "load_data.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_a_loaddata_table_of_another_machine_finds_its_images_here(tmp_path):
    folder = tmp_path / "in"
    for plate in ("P1", "P2"):
        image(folder / f"images/{plate}/a_dna.tif", int(plate[1]))
        image(folder / f"images/{plate}/a_er.tif", 10 + int(plate[1]))
    image(folder / "images/P1/stray.tif")
    write_loaddata(
        folder, "FileName_OrigDNA,PathName_OrigDNA,FileName_OrigER,PathName_OrigER,Metadata_Plate,"
        "Metadata_Row,Metadata_Col,Metadata_FieldID",
        *(f"a_dna.tif,/mnt/bucket/images/{plate},a_er.tif,C:\\data\\images\\{plate},{plate}"
          ",2,3,1" for plate in ("P1", "P2")),
        "gone.tif,/mnt/bucket/images/P1,,,P1,2,4,1")
    imported = import_plates(folder, tmp_path / "out")
    assert list(imported.channels) == ["DNA", "ER"]
    assert first_pixels(tmp_path / "out") == {
        ("P1", "B03", 1, "DNA"): 1, ("P1", "B03", 1, "ER"): 11,
        ("P2", "B03", 1, "DNA"): 2, ("P2", "B03", 1, "ER"): 12}
    lost = reasons(tmp_path / "out")
    assert lost["load_data.csv, line 4: gone.tif"] == "named there, but not in the folder"
    assert lost["images/P1/stray.tif"] == "no index or table names it"


def test_what_a_loaddata_table_says_of_wells_comes_into_the_layout(tmp_path):
    folder = write_loaddata(
        tmp_path / "in", "Image_FileName_DAPI,Image_Metadata_Plate_DAPI,Image_Metadata_Well_DAPI,"
        "Image_Metadata_Compound,Image_Metadata_Concentration",
        "a.tif,W1,B02,taxol,0.3", "b.tif,W1,B02,taxol,0.3", "c.tif,W1,B03,DMSO,0")
    for name in "abc":
        image(folder / f"{name}.tif", ord(name))
    imported = import_plates(folder, tmp_path / "out")
    assert first_pixels(tmp_path / "out")["W1", "B02", 2, "DAPI"] == ord("b")
    layout = imported.screen.layout.set_index("Metadata_Well")
    assert layout["Metadata_Compound"].to_dict() == {"B02": "taxol", "B03": "DMSO"}
    assert layout.loc["B02", "Metadata_Concentration_uM"] == 0.3
    assert layout.loc["B03", "Metadata_Control"] == "negative"
    assert list(imported.screen.annotations["Metadata_Compound"]) == ["taxol"]
    assert any("1 well of DMSO used as negative controls" in note for note in imported.notes)


def test_a_loaddata_table_with_two_compounds_for_a_well_is_refused(tmp_path):
    folder = write_loaddata(tmp_path / "in", "FileName_DNA,Metadata_Well,Metadata_Compound",
                            "a.tif,B02,taxol", "b.tif,B02,aspirin")
    for name in "ab":
        image(folder / f"{name}.tif")
    with pytest.raises(MoascopeError, match=r"load_data\.csv has two different entries for well "
                                            r"B02: taxol, and aspirin\. Keep one"):
        import_plates(folder, tmp_path / "out")


def test_illumination_functions_of_a_loaddata_table_are_no_channels(tmp_path):
    folder = write_loaddata(tmp_path / "in", "FileName_DNA,FileName_IllumDNA,Metadata_Well",
                            "a.tif,illum.npy,B02")
    image(folder / "a.tif")
    (folder / "illum.npy").write_bytes(b"x")
    assert list(import_plates(folder, tmp_path / "out").channels) == ["DNA"]
    assert "not an image" in reasons(tmp_path / "out")["illum.npy"]


def test_sites_and_frames_of_a_loaddata_table_are_taken_as_written(tmp_path):
    folder = write_loaddata(tmp_path / "in", "FileName_A;FileName_B;Frame_B;Metadata_Well;"
                            "Metadata_Site", "x.tif;x.tif;1;b2;s03", "x.tif;x.tif;1.0;B3;nine",
                            "x.tif;x.tif;-1;B4;1", "x.tif;x.tif;0;Q77;1")
    pages = np.arange(96, dtype=np.uint16).reshape(2, 6, 8)
    write_tiff(folder / "x.tif", pages, photometric="minisblack")
    import_plates(folder, tmp_path / "out")
    found = first_pixels(tmp_path / "out")
    assert found["in", "B02", 3, "B"] == 48
    lost = reasons(tmp_path / "out")
    assert lost["load_data.csv, line 3"] == "its site is not a number"
    assert lost["load_data.csv, line 4: x.tif"] == "its frame is '-1', not a whole number"
    assert "'Q77' is not a well name" in lost["load_data.csv, line 5"]


# Regular expressions


def test_a_regular_expression_reads_any_names(tmp_path):
    image(tmp_path / "in/runA/row1-col02/field0_GFP.tif", 1)
    image(tmp_path / "in/runA/row1-col02/field0_DNA.tif", 2)
    image(tmp_path / "in/runA/overview.tif")
    import_plates(
        tmp_path / "in", tmp_path / "out",
        pattern=r"(?P<plate>[^/]+)/row(?P<row>\d+)-col(?P<column>\d+)/field(?P<site>\d+)_"
                r"(?P<channel>\w+)\.tif")
    assert first_pixels(tmp_path / "out") == {("runA", "A02", 0, "GFP"): 1,
                                              ("runA", "A02", 0, "DNA"): 2}
    assert reasons(tmp_path / "out") == {"runA/overview.tif": "--pattern does not match"}


def test_without_a_channel_in_the_pattern_the_planes_of_a_file_are_its_channels(tmp_path):
    planes = np.stack([np.full((6, 8), value, np.uint16) for value in (3, 5)])
    planes[:, 1, 1] = 9
    write_tiff(tmp_path / "in/B2.tif", planes, photometric="minisblack")
    write_tiff(tmp_path / "in/C2.tif", planes + 1, photometric="minisblack")
    imported = import_plates(tmp_path / "in", tmp_path / "out", pattern=r"(?P<well>[A-H]\d)\.tif")
    pixels = first_pixels(tmp_path / "out")
    assert (pixels["in", "C02", 1, "w1"], pixels["in", "C02", 1, "w2"]) == (4, 6)
    assert any("the 2 planes of each file count as its channels" in note for note in imported.notes)


@pytest.mark.parametrize(("pattern", "sentence"), [
    ("(?P<well", "is not a regular expression"),
    (r"(?P<site>\d)", "has no group for the well"),
    (r"(?P<well>\w)(?P<wave>\d)", "has an unknown group 'wave'"),
])
def test_a_pattern_that_cannot_work_is_told(tmp_path, pattern, sentence):
    image(tmp_path / "in/a.tif")
    with pytest.raises(MoascopeError, match=sentence):
        import_plates(tmp_path / "in", tmp_path / "out", pattern=pattern)


# What goes wrong


def test_two_images_for_one_place_are_both_named(tmp_path):
    image(tmp_path / "in/x_A01_s1_w1.tif")
    image(tmp_path / "in/x_A1_s1_w1.tif")
    with pytest.raises(MoascopeError) as caught:
        import_plates(tmp_path / "in", tmp_path / "out")
    assert caught.value.problems == [
        "Plate in, well A01, site 1, channel w1 has two images: x_A01_s1_w1.tif and "
        "x_A1_s1_w1.tif. Move one away, or distinguish them with --pattern."]


def test_a_missing_channel_is_listed_and_the_site_is_kept(tmp_path):
    folder = imagexpress(tmp_path / "in")
    (folder / f"Run7_B03_s2_w2{GUID}.tif").unlink()
    imported = import_plates(folder, tmp_path / "out")
    assert imported.incomplete.to_numpy().tolist() == [["in", "B03", 2, "FITC"]]
    assert "plate in, well B03, site 2 has no image of FITC" in (
        tmp_path / "out/unplaced.csv").read_text()
    assert len(first_pixels(tmp_path / "out")) == 7


def test_no_file_is_passed_over_in_silence(tmp_path):
    folder = imagexpress(tmp_path / "in")
    image(folder / "overview.tif")
    image(folder / "x_Z99_s1_w1.tif")
    (folder / "notes.docx").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    imported = import_plates(folder, tmp_path / "out")
    lost = reasons(tmp_path / "out")
    placed = {name for channel in imported.screen.channels
              for name in imported.screen.sites[f"FileName_{channel}"]}
    everything = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert placed | set(lost) | {"Run7.HTD"} == everything
    assert not placed & set(lost)
    assert lost["x_Z99_s1_w1.tif"] == "'Z99' is not a well name"
    assert lost[".DS_Store"] == "hidden"


def test_names_that_no_table_can_hold_are_listed_with_the_remedy(tmp_path):
    folder = imagexpress(tmp_path / "in", htd=False)
    odd = ["a\\b_C03_s1_w1.tif", "b_C03_s1_w1.tif ", "c\n_C03_s1_w1.tif"]
    for name in odd:
        (folder / name).write_bytes(b"x")
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff_C03_s1_w1.tif")).write_bytes(b"x")
        expected = 4
    except OSError:
        expected = 3   # a file system of UTF-8 alone (macOS) has no such name to list
    imported = import_plates(folder, tmp_path / "out")
    assert set(imported.screen.sites["Metadata_Well"]) == {"B02", "B03"}
    lost = [file for file, reason in reasons(tmp_path / "out").items() if "rename it" in reason]
    assert len(lost) == expected


def test_what_is_of_no_kind_shows_names_and_a_way_on(tmp_path):
    image(tmp_path / "in/holiday.tif")
    with pytest.raises(MoascopeError, match=r"such as holiday\.tif.*--kind regex --pattern"):
        import_plates(tmp_path / "in", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MoascopeError, match="holds no image"):
        import_plates(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(MoascopeError, match="is not a folder"):
        import_plates(tmp_path / "nowhere", tmp_path / "out")


def test_the_wrong_kind_says_why_each_file_does_not_fit(tmp_path):
    imagexpress(tmp_path / "in")
    with pytest.raises(MoascopeError, match=r"No image in .* could be read as Opera Phenix"):
        import_plates(tmp_path / "in", tmp_path / "out", kind="harmony")
    assert len(reasons(tmp_path / "out")) == 10


# Security


BOMB = ('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in
                  zip("abcdefgh", "bcdefghi", strict=True)) + "]>")


@pytest.mark.parametrize(("make", "index"), [
    (harmony, "Index.idx.xml"), (cellvoyager, "MeasurementData.mlf"), (incell, "Run 3.xdce")])
@pytest.mark.parametrize("start", [BOMB, '<!DOCTYPE x [<!ENTITY i SYSTEM "file:///etc/passwd">]>'])
def test_an_entity_bomb_is_refused_in_a_sentence(tmp_path, make, index, start):
    folder = make(tmp_path / "in")
    text = re.sub(r"<\?xml.*?\?>", "", (folder / index).read_text())
    (folder / index).write_text(start + text.replace("</", "&i;</", 1))
    with pytest.raises(MoascopeError, match=r"declares XML entities .* to import by file"):
        import_plates(folder, tmp_path / "out")


def test_an_index_cannot_name_what_is_not_in_the_folder(tmp_path):
    secret = image(tmp_path / "secret.tif")
    folder = tmp_path / "in"
    image(folder / "r01c01f01p01-ch1sk1fk1fl1.tiff")
    names = ["../secret.tif", str(secret), "r01c01f01p01-ch1sk1fk1fl1.tiff"]
    (folder / "Index.idx.xml").write_text(harmony_index(
        [(name, 1, 1, field, 1, 1, "DNA") for field, name in enumerate(names, 1)]))
    import_plates(folder, tmp_path / "out")
    screen = read_screen(tmp_path / "out")
    assert list(screen.sites["FileName_DNA"]) == ["r01c01f01p01-ch1sk1fk1fl1.tiff"]
    assert {"../secret.tif", str(secret)} <= set(reasons(tmp_path / "out"))


def test_links_out_of_the_folder_are_followed_only_if_asked(tmp_path):
    folder = imagexpress(tmp_path / "in", htd=False)
    image(tmp_path / "other/Run7_D04_s1_w1.tif", 99)
    (folder / "more").symlink_to(tmp_path / "other")
    (folder / "Run7_E05_s1_w1.tif").symlink_to(tmp_path / "other/Run7_D04_s1_w1.tif")
    (folder / "loop").symlink_to(folder)
    (folder / "broken.tif").symlink_to(folder / "nothing")
    import_plates(folder, tmp_path / "out")
    lost = reasons(tmp_path / "out")
    assert lost["more"] == lost["Run7_E05_s1_w1.tif"] == (
        "a link to outside the folder (--follow-links follows it)")
    assert lost["loop"] == "a link to something else in the folder"
    assert lost["broken.tif"] == "a broken link"
    import_plates(folder, tmp_path / "followed", follow_links=True)
    assert {key[1] for key in first_pixels(tmp_path / "followed")} == {"B02", "B03", "D04", "E05"}


def test_a_pipe_is_listed_and_not_waited_for(tmp_path):
    folder = imagexpress(tmp_path / "in", htd=False)
    os.mkfifo(folder / "Run7_C03_s1_w1.ome.tif")
    import_plates(folder, tmp_path / "out")
    assert reasons(tmp_path / "out")["Run7_C03_s1_w1.ome.tif"] == "neither a file nor a folder"


# Names


@given(st.integers(0, 31), st.integers(0, 47), st.integers(0, 99), st.integers(1, 12),
       st.integers(1, 9))
def test_wells_survive_the_names_of_every_instrument(row, column, site, channel, z):
    well = well_name(row, column)
    letters = re.match("[A-Z]+", well)[0]
    names = [
        (IMAGEXPRESS, f"Plate_{letters}{column + 1}_s{site}_w{channel}.tif"),
        (IMAGEXPRESS, f"{well}_s{site}_w{channel}{GUID}.TIF"),
        (IMAGEXPRESS, f"B02_x_{letters}{column + 1:03d}_s{site}_w{channel}_[{GUID}].tif"),
        (HARMONY, f"r{row + 1:02d}c{column + 1:02d}f{site:02d}p{z:02d}-ch{channel}sk1fk1fl1.tiff"),
        (CELLVOYAGER, f"1100_{well}_T0001F{site:03d}L01A01Z{z:02d}C{channel:02d}.tif"),
        (INCELL, f"{letters} - {column + 1:02d}(fld {site} wv {channel} - x z {z}).tif"),
    ]
    for pattern, name in names:
        match = pattern.fullmatch(name)
        assert match, name
        parts = match.groupdict()
        found = canonical_well(parts["well"]) if "well" in parts else well_at(parts["row"],
                                                                              parts["column"])
        assert (found, int(parts["site"])) == (well, site), name
        assert int(parts["channel"].split(" ")[0]) == channel, name


def test_channels_get_the_names_that_a_person_gives_them(tmp_path):
    imported = import_plates(imagexpress(tmp_path / "in"), tmp_path / "out",
                             channels=parse_channels("w1=DNA, fitc="))
    assert dict(imported.channels) == {"DNA": "w1 DAPI"}
    assert list(reasons(tmp_path / "out").values()).count(
        "in a channel that --channels leaves out") == 4
    with pytest.raises(MoascopeError, match=r"names 'w7', which no plate has\. The channels are"):
        import_plates(tmp_path / "in", tmp_path / "b", channels={"w7": "X"})
    with pytest.raises(MoascopeError, match="the same name, 'X'"):
        import_plates(tmp_path / "in", tmp_path / "b", channels={"w1": "X", "w2": "X"})
    with pytest.raises(MoascopeError, match="Write old=new, such as w1=DNA"):
        parse_channels("w1:DNA")


def test_a_path_of_another_machine_is_found_by_its_end_and_never_guessed(tmp_path):
    for name in ("a/P1/x.tif", "b/P1/x.tif", "b/P2/y.tif"):
        image(tmp_path / name)
    tree = scan_tree(tmp_path)
    assert locate(tree, "", "/elsewhere/b/P1/x.tif") == "b/P1/x.tif"
    assert locate(tree, "", "D:\\b\\P1\\X.TIF") == "b/P1/x.tif"
    assert locate(tree, "a", "x.tif") == "a/P1/x.tif"
    assert locate(tree, "", "P1/x.tif") is None
    assert locate(tree, "", "../../y.tif") == "b/P2/y.tif"
    assert locate(tree, "", "..") is None


def test_a_plates_missing_picture_is_not_replaced_by_another_plates(tmp_path):
    for plate, urls in (("A", ()), ("B", ("r01c01f01p01-ch1sk1fk1fl1.tiff",))):
        folder = tmp_path / f"in/{plate}/Images"
        named = "r01c01f01p01-ch1sk1fk1fl1.tiff"
        image(folder / "r01c02f01p01-ch1sk1fk1fl1.tiff", ord(plate))
        for url in urls:
            image(folder / url, 9)
        (folder / "Index.idx.xml").write_text(harmony_index(
            [(named, 1, 1, 1, 1, 1, "DNA"), ("r01c02f01p01-ch1sk1fk1fl1.tiff", 1, 2, 1, 1, 1,
                                             "DNA")], plate))
    import_plates(tmp_path / "in", tmp_path / "out")
    assert first_pixels(tmp_path / "out") == {
        ("A", "A02", 1, "DNA"): ord("A"), ("B", "A02", 1, "DNA"): ord("B"),
        ("B", "A01", 1, "DNA"): 9}
    assert "A/Images/Index.idx.xml, but not" in reasons(tmp_path / "out")[named]


def test_a_path_of_one_plate_does_not_find_the_file_of_another(tmp_path):
    for name in ("P1/Images/r02.tiff", "P2/Images/r01.tiff", "meta/P1/load_data.csv",
                 "P3/load_data.csv"):
        write_tiff(tmp_path / name, np.ones((2, 2), np.uint16))
    tree = scan_tree(tmp_path)
    assert locate(tree, "", "/data/P1/Images/r01.tiff") is None
    assert locate(tree, "", "/data/P2/Images/r01.tiff") == "P2/Images/r01.tiff"
    assert locate(tree, "P3", "Images/r01.tiff", beyond=True) is None
    assert locate(tree, "meta/P1", "/data/P1/Images/r02.tiff", beyond=True) == "P1/Images/r02.tiff"
    assert locate(tree, "meta/P1", "/data/P1/Images/r02.tiff") is None


def test_a_picture_that_two_wells_claim_is_in_neither(tmp_path):
    folder = write_loaddata(tmp_path / "in", "FileName_DNA,Metadata_Well,Metadata_Site",
                            "a.tif,B02,1", "a.tif,B03,1", "b.tif,B04,1")
    for name in "ab":
        image(folder / f"{name}.tif", ord(name))
    import_plates(folder, tmp_path / "out")
    assert first_pixels(tmp_path / "out") == {("in", "B04", 1, "DNA"): ord("b")}
    assert reasons(tmp_path / "out")["a.tif"] == (
        "is assigned to two sites ('well B02, site 1' and 'well B03, site 1')")


# The command


def test_the_command_tells_what_it_found_and_what_comes_next(tmp_path):
    folder = imagexpress(tmp_path / "in")
    done = run(folder, "--out", tmp_path / "out", "--channels", "w1=DNA,w2=GFP")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[:5] == ["recognised  ImageXpress / MetaXpress, by 1 .htd", "plates      1: in",
                         "wells       2", "sites       4",
                         "channels    2: DNA (w1 DAPI), GFP (w2 FITC)"]
    assert "            2 a thumbnail" in lines
    assert lines[-1] == ("next        dvc exp run register report -S acquire.source=folder "
                         f"-S acquire.path={tmp_path / 'out'} -S acquire.allow_outside=true "
                         "-S target=moa")


def test_the_next_command_runs_where_the_person_stands(tmp_path, monkeypatch):
    folder = imagexpress(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    *_, where, command = run(folder, "--out", "a").stdout.splitlines()
    assert where == "next        in a project (`moascope init FOLDER` makes one):"
    assert f" -S acquire.path={tmp_path / 'a'} " in command
    (tmp_path / "project").mkdir()
    (tmp_path / "project/dvc.yaml").touch()
    monkeypatch.chdir(tmp_path / "project")
    for out, path in (("b", "b"), ("../c", tmp_path / "c")):
        command = run(folder, "--out", out).stdout.splitlines()[-1]
        assert command.startswith("next        dvc exp run ")
        assert f" -S acquire.path={path} " in command


@pytest.mark.parametrize("name", ["run 7", "run (7)", "a,b", "a=b", "Läufe", "it's", "a'b\\",
                                  "$HOME", "a#b", "[x]", "~x", 'a"b', "a;b&c"])
def test_the_next_command_holds_a_folder_of_any_name(tmp_path, monkeypatch, name):
    from dvc.utils.hydra import apply_overrides

    folder = imagexpress(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    Path("params.yaml").write_text("target: gpcr\nacquire: {source: simulated, path: screen, "
                                   "allow_outside: false}\n")
    command = run(folder, "--out", name).stdout.splitlines()[-1].removeprefix("next        ")
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True,
                           text=True, check=True).stdout.split("\0")[:-1]
    assert words[:5] == ["dvc", "exp", "run", "register", "report"]
    assert set(words[5::2]) == {"-S"}
    apply_overrides("params.yaml", words[6::2])
    assert yaml.safe_load(Path("params.yaml").read_text())["acquire"]["path"] == name


def test_tables_beside_the_images_need_no_leave(tmp_path):
    folder = imagexpress(tmp_path / "in")
    done = run(folder, "--out", folder)
    assert "allow_outside" not in done.stdout
    assert not (folder / "source.json").exists()
    screen = read_screen(folder)
    assert (folder / screen.sites["FileName_DAPI"][0]).is_file()
    again = import_plates(folder, folder, update=True)
    assert again.kind == "ImageXpress / MetaXpress"
    pd.testing.assert_frame_equal(again.screen.sites, screen.sites)


def test_an_import_does_not_overwrite_what_a_person_filled_in(tmp_path):
    folder = imagexpress(tmp_path / "in")
    import_plates(folder, tmp_path / "out")
    with pytest.raises(MoascopeError, match=r"already has a load_data\.csv"):
        import_plates(folder, tmp_path / "out")
    layout = (tmp_path / "out/layout.csv").read_text()
    (tmp_path / "out/layout.csv").write_text(layout.replace("B02,,,", "b2,taxol,1,"))
    (tmp_path / "out/annotations.csv").write_text("Metadata_Compound,Metadata_MoA,Note\n"
                                                  "taxol,tubulin,mine\n")
    image(folder / "Run7_D04_s1_w1.tif")
    imported = import_plates(folder, tmp_path / "out", update=True)
    kept = imported.screen.layout.set_index("Metadata_Well")["Metadata_Compound"]
    assert kept.to_dict() == {"B02": "taxol", "B03": "", "D04": ""}
    assert imported.screen.annotations.to_numpy().tolist() == [["taxol", "tubulin", "mine"]]


def test_a_layout_that_was_saved_with_decimal_commas_is_kept_too(tmp_path):
    folder = imagexpress(tmp_path / "in")
    import_plates(folder, tmp_path / "out")
    path = tmp_path / "out/layout.csv"
    path.write_text(path.read_text().replace("B02,,,", "B02,taxol,DOSE,").replace(
        ",", ";").replace("DOSE", "0,3"))
    layout = import_plates(folder, tmp_path / "out", update=True).screen.layout
    assert layout.set_index("Metadata_Well").loc["B02", "Metadata_Concentration_uM"] == 0.3


def test_the_kinds_of_the_command_are_the_kinds_there_are():
    assert {kind.value for kind in Kind} == {"auto", "regex", *KINDS, *PROFILE_KINDS}


def test_an_error_of_the_command_is_a_sentence(tmp_path):
    done = run(tmp_path / "nowhere", "--out", tmp_path / "out")
    assert isinstance(done.exception, MoascopeError)
    (tmp_path / "file").touch()
    folder = imagexpress(tmp_path / "in")
    for out in (tmp_path / "file", tmp_path / "file/out"):
        with pytest.raises(MoascopeError, match=r"is a file|cannot be created"):
            import_plates(folder, out)


def test_an_emptied_table_is_not_taken_for_one_that_was_filled_in(tmp_path):
    folder = imagexpress(tmp_path / "in")
    import_plates(folder, tmp_path / "out")
    (tmp_path / "out/layout.csv").write_text("")
    with pytest.raises(MoascopeError, match=r"layout\.csv lacks the columns"):
        import_plates(folder, tmp_path / "out", update=True)


def test_the_pattern_that_the_guide_gives_for_bbbc022_reads_bbbc022(tmp_path):
    guide = (Path(__file__).parents[2] / "docs/import.md").read_text()
    pattern = re.search(r"--pattern '(.*)'", guide)[1]
    for channel in (1, 2):
        image(tmp_path / f"in/BBBC022_v1_images_20585w{channel}/"
              f"IXMtest_E07_s4_w{channel}{GUID}.tif", channel)
    import_plates(tmp_path / "in", tmp_path / "out", pattern=pattern)
    assert first_pixels(tmp_path / "out") == {("20585", "E07", 4, "w1"): 1,
                                              ("20585", "E07", 4, "w2"): 2}


# Real names


@pytest.mark.real
def test_real_imagexpress_files_come_into_their_wells(real_data, tmp_path):
    imported = import_plates(real_data / "samples_16bit/bbbc022_20585_hoechst", tmp_path / "out")
    assert imported.kind == "ImageXpress / MetaXpress"
    assert len(imported.unplaced) == 0
    sites = {(row.Metadata_Well, row.Metadata_Site) for row in imported.screen.sites.itertuples()}
    assert sites == {("A01", 1), ("A01", 2), ("A01", 3), ("E05", 6), ("E07", 3), ("E07", 4),
                     ("E08", 7)}
    assert len(first_pixels(tmp_path / "out")) == 7


@pytest.mark.real
def test_real_harmony_files_come_into_their_channels(real_data, tmp_path):
    imported = import_plates(real_data / "samples_16bit/jump_BR00117006", tmp_path / "out")
    assert imported.kind == "Opera Phenix / Harmony"
    assert list(imported.channels) == ["ch2", "ch3", "ch5"]
    assert len(first_pixels(tmp_path / "out")) == 3


@pytest.mark.real
def test_bbbc021s_own_table_places_all_its_images(real_data, tmp_path):
    source = real_data / "tables/BBBC021_v1_image.csv"
    table = pd.read_csv(source, dtype=str, keep_default_na=False)
    table = table[table["Image_Metadata_Plate_DAPI"].isin(["Week1_22123", "Week4_27481"])]
    folder = tmp_path / "in"
    folder.mkdir()
    table.to_csv(folder / "BBBC021_v1_image.csv", index=False)
    for channel in ("DAPI", "Tubulin", "Actin"):
        for path, name in zip(table[f"Image_PathName_{channel}"],
                              table[f"Image_FileName_{channel}"], strict=True):
            (folder / path).mkdir(parents=True, exist_ok=True)
            (folder / path / name).touch()
    imported = import_plates(folder, tmp_path / "out")
    assert imported.kind == "CellProfiler LoadData"
    assert len(imported.unplaced) == 0
    assert imported.screen.channels == ("Actin", "DAPI", "Tubulin")
    assert imported.screen.sites.shape[0] == len(table)
    taxol = imported.screen.layout[imported.screen.layout["Metadata_Compound"] == "taxol"]
    assert len(taxol) > 0
    assert os.fspath(folder) == imported.images
