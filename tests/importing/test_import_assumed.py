"""What an import takes for granted is right where it can be known, and said everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import write_tiff

from moascope.errors import MoascopeError
from moascope.importing.plates import import_plates
from moascope.importing.words import describe_import
from moascope.text import assumed_lines

RNG = np.random.default_rng(0)


def image(path: Path) -> Path:
    write_tiff(path, np.arange(16, dtype=np.uint16).reshape(4, 4))
    return path


def colour(path: Path, sample: int) -> None:
    """A colour picture in one sample, with a scale bar in the others."""
    values = np.zeros((32, 32, 3), np.uint8)
    values[30:, 2:8] = 255
    values[..., sample] = RNG.integers(1, 200, (32, 32))
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, photometric="rgb")


def notes(imported) -> str:
    return " ".join(imported.notes)


def test_projections_beside_z_folders_are_used_for_all_channels_and_planes_can_be_chosen(tmp_path):
    for channel in (1, 2):
        image(tmp_path / f"in/P/TimePoint_1/x_A01_s1_w{channel}.tif")
        for z in (1, 2):
            image(tmp_path / f"in/P/TimePoint_1/ZStep_{z}/x_A01_s1_w{channel}.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    files = imported.screen.sites[["FileName_w1", "FileName_w2"]].to_numpy()[0]
    assert not any("ZStep" in file for file in files)
    assert "the projections are used for all channels" in notes(imported)
    planes = import_plates(tmp_path / "in", tmp_path / "planes", z=2)
    files = planes.screen.sites[["FileName_w1", "FileName_w2"]].to_numpy()[0]
    assert all("ZStep_2" in file for file in files)


def test_a_projection_of_one_channel_does_not_meet_planes_of_another(tmp_path):
    image(tmp_path / "in/P/ZStep_0/x_A01_s1_w1.tif")
    for channel in (1, 2):
        for z in (1, 2):
            image(tmp_path / f"in/P/ZStep_{z}/x_A01_s1_w{channel}.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    files = imported.screen.sites[["FileName_w1", "FileName_w2"]].to_numpy()[0]
    assert all("ZStep_1" in file for file in files)
    assert "only w1 has projections at every site, so planes are used" in notes(imported)
    projections = import_plates(tmp_path / "in", tmp_path / "projections", z=0)
    assert projections.screen.channels == ("w1",)


def test_one_channel_of_two_actions_is_two_channels(tmp_path):
    for action in (1, 2):
        image(tmp_path / f"in/P_B02_T0001F001L01A0{action}Z01C01.tif")
    image(tmp_path / "in/P_B02_T0001F001L01A01Z01C02.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert set(imported.screen.channels) == {"C1_A1", "C1_A2", "C2"}
    assert "Several actions took channel C1" in notes(imported)


@pytest.mark.parametrize("address", [
    "file:///D:/Screens/Plate%201/B02%20dna.tif", "file:/D:/Screens/Plate%201/B02%20dna.tif",
    "file://server/share/Plate%201/B02%20dna.tif", "https://host/Plate%201/B02%20dna.tif",
])
@pytest.mark.parametrize("column", ["FileName_DNA", "URL_DNA"])
def test_loaddata_addresses_are_paths(tmp_path, address, column):
    image(tmp_path / "in/Plate 1/B02 dna.tif")
    (tmp_path / "in/set.csv").write_text(f"Metadata_Plate,Metadata_Well,Metadata_Site,{column}\n"
                                         f"P1,B02,1,{address}\n")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert list(imported.screen.sites["FileName_DNA"]) == ["Plate 1/B02 dna.tif"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_loaddata_tables_are_found_in_any_unicode(tmp_path, encoding):
    image(tmp_path / "in/a.tif")
    text = "Metadata_Plate\tMetadata_Well\tMetadata_Site\tFileName_DNA\r\nP1\tB02\t1\ta.tif\r\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "in/load_data.csv").write_bytes((mark + text).encode(encoding))
    assert import_plates(tmp_path / "in", tmp_path / "out").kind == "CellProfiler LoadData"


@pytest.mark.parametrize("sample", [0, 1, 2])
def test_a_colour_image_is_read_where_its_picture_is(tmp_path, sample):
    for well in ("A01", "A02"):
        image(tmp_path / f"in/x_{well}_s1_w1.tif")
        colour(tmp_path / f"in/x_{well}_s1_w2.tif", sample)
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert (imported.screen.sites["Frame_w2"] == sample).all()
    assert (imported.screen.sites["Frame_w1"] == 0).all()
    assert ("Channel w2 is in colour images" in notes(imported)) == (sample > 0)


def test_pages_that_are_not_read_are_said(tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/x_A01_s1_w1.tif", np.ones((5, 8, 8), np.uint16),
                     photometric="minisblack")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert "with 5 planes, of which frame 0 is read" in notes(imported)


def test_links_out_of_the_folder_are_said_whether_all_or_some(tmp_path):
    image(tmp_path / "store/x_A01_s1_w1.tif")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/P1").symlink_to(tmp_path / "store")
    with pytest.raises(MoascopeError, match=r"1 link that leads out of it.*--follow-links"):
        import_plates(tmp_path / "in", tmp_path / "out")
    image(tmp_path / "in/x_A02_s1_w1.tif")
    assert "1 link out of the folder not followed" in notes(
        import_plates(tmp_path / "in", tmp_path / "out"))


def test_files_of_a_second_instrument_are_named(tmp_path):
    image(tmp_path / "in/x_A01_s1_w1.tif")
    image(tmp_path / "in/x_A02_s1_w1.tif")
    image(tmp_path / "in/r01c01f01p01-ch1sk1fk1fl1.tiff")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert "1 file not read with names of Opera Phenix / Harmony" in notes(imported)


def test_folders_of_one_well_each_get_a_hint_that_helps(tmp_path):
    for number, compound in enumerate(("DMSO", "taxol", "nocodazole"), 1):
        image(tmp_path / f"in/{compound}/x_B0{number}_s1_w1.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    hint = next(note for note in imported.notes if "3 plates of one well each" in note)
    pattern = hint.partition("--pattern '")[2].partition("'")[0]
    again = import_plates(tmp_path / "in", tmp_path / "again", pattern=pattern)
    assert again.screen.sites["Metadata_Plate"].nunique() == 1


def test_everything_assumed_is_listed_at_the_end_at_80_columns(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("Well,Compound,mmoles_per_liter,Lot\nA1,DMSO,,\nA2,taxol,10,7\nH9,x,1,\n")
    for well in ("A01", "A02", "A03"):
        image(tmp_path / f"in/x_{well}_s1_w1.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out", layout=path)
    shown = describe_import(imported, tmp_path / "out").splitlines()
    assumed = shown[shown.index("assumed") + 1:]
    text = " ".join(line.strip() for line in assumed)
    for said in ("diluted 1:1000", "1 column not read: 'Lot'", "1 well of DMSO used as negative",
                 "1 well without images, which are left out of layout.csv: in H09",
                 "lacks 1 well with images; their compound is left empty: in A03"):
        assert said in text
    assert assumed_lines([]) == []
    assert max(map(len, assumed_lines(imported.notes))) <= 80


CV = "P1_{}_T0001F001L01A01Z0{}C01{}.tif"


@pytest.mark.parametrize("projection", [
    f"P1/MIP/{CV.format('B02', 1, '')}", f"P1/Projections/{CV.format('B02', 1, '')}",
    f"P1/{CV.format('B02', 1, '_MIP')}", f"P1/MAX_{CV.format('B02', 1, '')}",
    f"P1/{CV.format('B02', 1, '_MaxProj')}",
])
def test_projections_by_folder_or_name_are_planes_of_their_plate_and_not_another(tmp_path,
                                                                                 projection):
    for z in (1, 2):
        image(tmp_path / f"in/P1/{CV.format('B02', z, '')}")
    image(tmp_path / "in" / projection)
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    sites = imported.screen.sites
    assert sites["Metadata_Plate"].tolist() == ["P1"]
    assert sites["FileName_C1"].tolist() == [projection]
    assert "the projections are used for all channels" in notes(imported)
    planes = import_plates(tmp_path / "in", tmp_path / "planes", z=2)
    assert planes.screen.sites["FileName_C1"].tolist() == [f"P1/{CV.format('B02', 2, '')}"]


@pytest.mark.parametrize("names", [
    ["P1/MAX_r02c02f01-ch1sk1fk1fl1.tiff", "P1/MAX_r02c03f01-ch1sk1fk1fl1.tiff"],
    ["P1/r02c02f01p01-ch1sk1fk1fl1_MIP.tiff", "P1/r02c03f01p01-ch1sk1fk1fl1_MIP.tiff"],
])
def test_projections_alone_are_a_plate(tmp_path, names):
    for name in names:
        image(tmp_path / "in" / name)
    sites = import_plates(tmp_path / "in", tmp_path / "out").screen.sites
    assert sites["FileName_ch1"].tolist() == names


def test_a_plate_named_like_projections_is_pointed_out(tmp_path):
    for plate in ("run", "MIP"):
        for well in ("B02", "B03"):
            image(tmp_path / f"in/{plate}/{well}.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out", pattern=r"(?P<well>B0\d)")
    assert "plate MIP is named like projections" in notes(imported)


@pytest.mark.parametrize(("ending", "maker"), [
    ("nd2", "Nikon"), ("czi", "Zeiss"), ("lif", "Leica"), ("flex", "Opera"), ("oib", "Olympus"),
])
def test_images_in_a_format_that_is_not_read_are_named(tmp_path, ending, maker):
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/B02.{ending}").write_bytes(b"x")
    with pytest.raises(MoascopeError, match=f"1 file of {maker}.*Export TIFF or OME-TIFF"):
        import_plates(tmp_path / "in", tmp_path / "out")
    image(tmp_path / "in/x_A01_s1_w1.tif")
    imported = import_plates(tmp_path / "in", tmp_path / "out", update=True)
    assert f"also holds 1 file of {maker}" in notes(imported)


@pytest.mark.parametrize(("values", "options", "sentence"), [
    (np.float32, {}, "holds float32 values"), (np.int16, {}, "holds int16 values"),
    (np.uint32, {}, "holds uint32 values"), (np.complex64, {}, "holds complex64 values"),
    (np.uint16, {"photometric": "miniswhite"}, "its lowest value is white"),
    (np.uint16, {"byteorder": ">"}, ""), (np.uint16, {"compression": "zlib", "tile": (16, 16)}, ""),
])
def test_what_cannot_be_read_as_intensities_is_said_at_once(tmp_path, values, options, sentence):
    write_tiff(tmp_path / "in/x_A01_s1_w1.tif", RNG.integers(0, 99, (32, 32)).astype(values),
               **options)
    said = notes(import_plates(tmp_path / "in", tmp_path / "out"))
    assert sentence in said
    assert bool(said) == bool(sentence)


def test_an_ome_tiff_without_a_plate_is_placed_by_its_name_and_its_series_are_said(tmp_path):
    path = tmp_path / "in/x_A01_s1_w1.ome.tif"
    path.parent.mkdir()
    plane = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(plane, metadata={"axes": "YX"})
        file.write(np.stack([plane, plane]), photometric="minisblack", metadata={"axes": "CYX"})
    imported = import_plates(tmp_path / "in", tmp_path / "out")
    assert imported.screen.sites["Metadata_Well"].tolist() == ["A01"]
    assert "with 3 planes, of which frame 0 is read" in notes(imported)


def test_a_stack_that_imagej_describes_and_cut_short_is_said(tmp_path):
    path = tmp_path / "in/x_A01_s1_w1.tif"
    path.parent.mkdir()
    stack = np.zeros((5, 32, 32), np.uint16) + np.arange(32, dtype=np.uint16)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    assert "with 5 planes" in notes(import_plates(tmp_path / "in", tmp_path / "out"))


def load_data(folder, text, encoding="utf-8"):
    for name in ("a.tif", "b.tif"):
        image(folder / name)
    (folder / "load_data.csv").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize(("column", "chosen"), [
    ("Metadata_PlaneID", {"z": 2}), ("Metadata_Z", {"z": 2}), ("Metadata_TimepointID", {"t": 2}),
])
@pytest.mark.parametrize("site", [",Metadata_Site", ""])
def test_planes_and_time_points_of_a_table_are_not_sites(tmp_path, column, chosen, site):
    one = ",1" if site else ""
    load_data(tmp_path / "in", f"FileName_DNA,Metadata_Plate,Metadata_Well{site},{column}\n"
                               f"a.tif,P1,B02{one},1\nb.tif,P1,B02{one},2\n")
    sites = import_plates(tmp_path / "in", tmp_path / "out").screen.sites
    assert sites["FileName_DNA"].tolist() == ["a.tif"]
    sites = import_plates(tmp_path / "in", tmp_path / "second", **chosen).screen.sites
    assert sites["FileName_DNA"].tolist() == ["b.tif"]


TABLE = "FileName_DNA,Metadata_Plate,Metadata_Well,Metadata_Site\na.tif,P1,B02,1\nb.tif,{},B03,1\n"


@pytest.mark.parametrize(("text", "encoding"), [
    (TABLE.format("P1"), "utf-16-le"), (TABLE.format("P1"), "utf-16"),
    ("sep=;\n" + TABLE.format("P1").replace(",", ";"), "utf-8"),
    (TABLE.format("P1").replace(",", "|"), "utf-8"),
])
def test_a_table_of_images_is_recognised_however_it_is_saved(tmp_path, text, encoding):
    imported = import_plates(load_data(tmp_path / "in", text, encoding), tmp_path / "out")
    assert imported.screen.sites["Metadata_Well"].tolist() == ["B02", "B03"]


def test_plates_that_may_be_one_a_column_twice_and_series_are_pointed_out(tmp_path):
    imported = import_plates(load_data(tmp_path / "in", TABLE.format("p1")), tmp_path / "out")
    assert "P1 and p1 count as different plates" in notes(imported)
    text = TABLE.replace("P1", "100000").format("1.0E+05")
    imported = import_plates(load_data(tmp_path / "in", text), tmp_path / "numbers")
    assert "1.0E+05 and 100000 count as different plates" in notes(imported)
    text = "FileName_DNA,Series_DNA,Metadata_Well\na.tif,0,B02\nb.tif,1,B03\n"
    imported = import_plates(load_data(tmp_path / "in", text), tmp_path / "series")
    assert "'Series_DNA' not read" in notes(imported)
    text = "FileName_DNA,FileName_DNA,Metadata_Well\na.tif,b.tif,B02\n"
    with pytest.raises(MoascopeError, match="has the column 'FileName_DNA' twice"):
        import_plates(load_data(tmp_path / "in", text), tmp_path / "twice")
