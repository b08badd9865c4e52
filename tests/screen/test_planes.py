"""Reading image planes."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import tifffile
from helpers import edit_csv, make_screen, write_tiff
from PIL import Image

from moascope.screen.limits import PlaneError
from moascope.screen.planes import read_plane, read_site, site_channels
from moascope.screen.tables import read_screen


@pytest.fixture
def ramp():
    return (np.arange(40 * 50, dtype=np.uint16) * 7).reshape(40, 50)


@pytest.mark.parametrize("options", [
    {}, {"compression": "lzw"}, {"compression": "zlib", "predictor": 2}, {"bigtiff": True},
    {"byteorder": ">"}, {"tile": (16, 16)}, {"rowsperstrip": 7},
])
def test_tiff_values_survive_every_usual_storage(tmp_path, ramp, options):
    plane = read_plane(write_tiff(tmp_path / "a.tif", ramp, **options))
    np.testing.assert_array_equal(plane, ramp)
    assert plane.dtype == np.uint16
    assert plane.dtype.isnative


def test_a_frame_is_the_page_of_a_multi_page_tiff(tmp_path, ramp):
    path = write_tiff(tmp_path / "a.tif", np.stack([ramp, ramp + 1, ramp + 2]),
                      photometric="minisblack")
    np.testing.assert_array_equal(read_plane(path, 2), ramp + 2)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_frame_is_the_sample_of_a_colour_tiff(tmp_path, ramp, planar):
    colours = np.stack([ramp, ramp + 1, ramp + 2], axis=-1 if planar == "contig" else 0)
    path = write_tiff(tmp_path / "a.tif", colours, photometric="rgb", planarconfig=planar)
    for frame in range(3):
        np.testing.assert_array_equal(read_plane(path, frame), ramp + frame)


def test_a_palette_is_not_applied(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.linspace(0, 65535, 256)
    path = write_tiff(tmp_path / "a.tif", values, photometric="palette", colormap=green)
    np.testing.assert_array_equal(read_plane(path), values)


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_png_and_bmp_samples_are_frames(tmp_path, name):
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / name)
    np.testing.assert_array_equal(read_plane(tmp_path / name, 1), colours[..., 1])


def test_jpeg_is_read(tmp_path):
    Image.fromarray(np.full((20, 30), 77, np.uint8)).save(tmp_path / "a.jpg")
    assert abs(int(read_plane(tmp_path / "a.jpg").mean()) - 77) <= 1


def test_16_bit_png_keeps_all_its_bits(tmp_path, ramp):
    import imagecodecs

    Image.fromarray(ramp).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_plane(tmp_path / "grey.png"), ramp)
    colours = np.stack([ramp, ramp + 1, ramp + 2], axis=-1)
    (tmp_path / "rgb.png").write_bytes(imagecodecs.png_encode(colours))
    np.testing.assert_array_equal(read_plane(tmp_path / "rgb.png", 2), ramp + 2)


def test_the_format_of_a_file_comes_from_its_content_not_its_name(tmp_path, ramp):
    path = write_tiff(tmp_path / "really_a_tiff.png", ramp)
    np.testing.assert_array_equal(read_plane(path), ramp)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 8}])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_tiff_is_never_read_as_an_image(tmp_path, options, share):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64), dtype=np.uint16)
    path = write_tiff(tmp_path / "a.tif", noise, **options)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    with pytest.raises(PlaneError, match=r"a\.tif") as caught:
        read_plane(path)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_a_truncated_picture_is_never_read_as_an_image(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:len(content) // 2])
    with pytest.raises(PlaneError) as caught:
        read_plane(tmp_path / name)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("content", [b"<html>404</html>", b"II*\0garbage and more garbage",
                                     b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff" + bytes(50),
                                     b"BM" + bytes(60)])
def test_a_file_that_is_not_an_image_ends_in_a_sentence(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(PlaneError, match=r"a\.tif"):
        read_plane(tmp_path / "a.tif")


@pytest.mark.parametrize(("prepare", "kind", "words"), [
    (lambda path: None, "missing", "is missing"),
    (lambda path: path.write_bytes(b""), "empty", "0 bytes"),
    (lambda path: path.mkdir(), "unreadable", "folder"),
    (lambda path: write_tiff(path, np.zeros((4, 4), np.float32)), "depth", "float32"),
    (lambda path: write_tiff(path, np.zeros((4, 4), np.int16)), "depth", "int16"),
    (lambda path: write_tiff(path, np.zeros((4, 4), bool)), "depth", "bool"),
])
def test_each_kind_of_bad_file_has_its_sentence(tmp_path, prepare, kind, words):
    prepare(tmp_path / "a.tif")
    with pytest.raises(PlaneError, match=words) as caught:
        read_plane(tmp_path / "a.tif")
    assert caught.value.kind == kind


def test_a_frame_that_is_not_there_says_which_are(tmp_path, ramp):
    path = write_tiff(tmp_path / "a.tif", np.stack([ramp, ramp]), photometric="minisblack")
    with pytest.raises(PlaneError, match="frames 0 to 1, not frame 2") as caught:
        read_plane(path, 2)
    assert caught.value.kind == "frame"


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.zeros((10, 10), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(2_000_000_000)
        tiff.pages[0].tags["ImageLength"].overwrite(2_000_000_000)
    with pytest.raises(PlaneError, match="2,000,000,000 x 2,000,000,000") as caught:
        read_plane(path)
    assert caught.value.kind == "large"


def test_odd_but_readable_files_are_quiet(tmp_path, ramp, caplog, capsys):
    path = write_tiff(tmp_path / "a.tif", ramp, metadata={"axes": "YX"}, software="x" * 50)
    content = bytearray(path.read_bytes())
    content += b"\0" * 3
    path.write_bytes(content)
    with caplog.at_level(logging.DEBUG):
        read_plane(path)
    assert not caplog.records
    assert capsys.readouterr().err == ""


def test_a_plane_error_survives_the_way_out_of_a_worker_process():
    error = pickle.loads(pickle.dumps(PlaneError("a.tif is missing.", "missing")))
    assert (error.kind, error.problems) == ("missing", ["a.tif is missing."])


def test_a_file_shared_by_channels_is_decoded_once(tmp_path, ramp, monkeypatch):
    folder = make_screen(tmp_path, wells=1, sites=1, channels=("Red", "Green", "Blue"),
                         images=False)
    write_tiff(folder / "rgb.tif", np.stack([ramp, ramp + 1, ramp + 2], axis=-1),
               photometric="rgb")
    edit_csv(folder / "load_data.csv", FileName_Red="rgb.tif", FileName_Green="rgb.tif",
             FileName_Blue="rgb.tif", Frame_Red=0, Frame_Green=1, Frame_Blue=2)
    screen = read_screen(folder)
    decoded = []
    original = tifffile.TiffPage.asarray
    monkeypatch.setattr(tifffile.TiffPage, "asarray",
                        lambda self, **options: decoded.append(1) or original(self, **options))
    planes = read_site(screen, screen.sites.iloc[0])
    np.testing.assert_array_equal(planes, [ramp, ramp + 1, ramp + 2])
    assert len(decoded) == 1


def test_a_channel_that_the_panel_lacks_is_skipped(screen_folder):
    edit_csv(screen_folder / "load_data.csv", FileName_Actin={0: ""})
    screen = read_screen(screen_folder)
    assert site_channels(screen, screen.sites.iloc[0]) == ["DNA"]
    assert read_site(screen, screen.sites.iloc[0]).shape == (1, 64, 80)
    assert read_site(screen, screen.sites.iloc[1], ["Actin", "DNA"]).shape == (2, 64, 80)
    with pytest.raises(PlaneError, match="well B02, site 1 has no image"):
        read_site(screen, screen.sites.iloc[0], ["DNA", "Actin"])


def test_channels_of_different_size_make_no_site(screen_folder):
    screen = read_screen(screen_folder)
    write_tiff(screen_folder / screen.sites["FileName_DNA"][0], np.zeros((10, 12), np.uint16))
    with pytest.raises(PlaneError, match="DNA 12x10, Actin 80x64") as caught:
        read_site(screen, screen.sites.iloc[0])
    assert caught.value.kind == "size"


def test_an_address_is_read_like_a_file(screen_folder, bucket):
    screen = read_screen(screen_folder)
    content = (screen_folder / screen.sites["FileName_DNA"][0]).read_bytes()
    before = read_site(screen, screen.sites.iloc[0])
    edit_csv(screen_folder / "load_data.csv", FileName_DNA={0: bucket.put("a b/dna.tif", content)})
    screen = read_screen(screen_folder, allow_outside=True)
    assert screen.sites["FileName_DNA"][0] == "s3://gallery/a b/dna.tif"
    np.testing.assert_array_equal(read_site(screen, screen.sites.iloc[0]), before)


def test_an_address_without_a_file_is_a_missing_plane(screen_folder, bucket):
    edit_csv(screen_folder / "load_data.csv", FileName_DNA={0: "s3://gallery/none.tif"})
    screen = read_screen(screen_folder, allow_outside=True)
    with pytest.raises(PlaneError, match=r"s3://gallery/none\.tif is missing") as caught:
        read_site(screen, screen.sites.iloc[0])
    assert caught.value.kind == "missing"


def test_what_an_address_sends_is_bounded_before_it_is_decoded(screen_folder, bucket, tmp_path):
    huge = write_tiff(tmp_path / "huge.tif", np.zeros((64, 64), np.uint16))
    content = bytearray(huge.read_bytes())
    with tifffile.TiffFile(huge) as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            at = tiff.pages[0].tags[tag].valueoffset
            content[at:at + 2] = (60_000).to_bytes(2, "little")
    address = bucket.put("huge.tif", bytes(content))
    edit_csv(screen_folder / "load_data.csv", FileName_DNA={0: address})
    screen = read_screen(screen_folder, allow_outside=True)
    with pytest.raises(PlaneError, match="60,000 x 60,000") as caught:
        read_site(screen, screen.sites.iloc[0])
    assert caught.value.kind == "large"

def test_real_planes_of_every_kind_are_read(real_data):
    palette = read_plane(next((real_data / "bbbc013" / "images").glob("*.tif")))
    assert (palette.shape, palette.dtype) == ((640, 640), np.uint8)
    jump = read_plane(next((real_data / "samples_16bit" / "jump_BR00117006").glob("*.tif*")))
    assert (jump.shape, jump.dtype) == ((1080, 1080), np.uint16)
    colour = read_plane(next((real_data / "bbbc021" / "images").glob("*.png")), 2)
    assert (colour.shape, colour.dtype) == ((256, 256), np.uint8)


def test_colours_that_are_no_intensities_are_refused(tmp_path):
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "few.png")
    picture.convert("CMYK").save(tmp_path / "print.jpg")
    write_tiff(tmp_path / "print.tif", np.zeros((16, 16, 4), np.uint8), photometric="separated")
    for name, sentence in [("few.png", "palette"), ("print.jpg", "another kind than red"),
                           ("print.tif", "another kind than red")]:
        with pytest.raises(PlaneError, match=sentence):
            read_plane(tmp_path / name)
    grey = colours[..., 0]
    Image.fromarray(grey).convert("P").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_plane(tmp_path / "grey.png"), grey)
