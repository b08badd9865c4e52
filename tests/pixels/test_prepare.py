"""From planes to comparable crops: geometry, illumination, scaling, quality, incremental plates."""

from __future__ import annotations

import dataclasses
import itertools
import json
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers import cells, many_fields, write_plate

from moascope.params import Prepare, Simulated
from moascope.pixels import illumination, quality, scaling
from moascope.pixels.crops import cut, tile_positions
from moascope.pixels.prepare import prepare_plate, prepare_plates
from moascope.pixels.prepared import prepared_plates
from moascope.pixels.sites import sampled
from moascope.pixels.summary import draw_montage, read_prepared, write_summary

SIZE = 96


def test_four_crops_of_a_256_pixel_field_are_its_quadrants():
    assert tile_positions((256, 256), 128, 4).tolist() == [[0, 0], [0, 128], [128, 0], [128, 128]]


@pytest.mark.parametrize("shape", [(1050, 1250), (640, 640), (128, 300), (520, 696)])
@pytest.mark.parametrize("crops", [1, 3, 4, 9])
def test_crops_lie_in_the_field_without_overlap(shape, crops):
    corners = tile_positions(shape, 128, crops)
    covered = np.zeros(shape, int)
    for row, column in corners:
        assert row >= 0 and column >= 0
        assert row + 128 <= shape[0] and column + 128 <= shape[1]
        covered[row : row + 128, column : column + 128] += 1
    assert covered.max() == 1
    assert len(corners) == min(crops, (shape[0] // 128) * (shape[1] // 128))


def test_a_field_smaller_than_a_crop_is_mirrored_around_its_middle():
    plane = np.arange(100 * 60, dtype=np.uint16).reshape(100, 60)
    (crop,) = cut(plane, tile_positions(plane.shape, 128, 4), 128)
    assert crop.shape == (128, 128)
    assert np.array_equal(crop[14:114, 34:94], plane)
    assert np.array_equal(crop[13], crop[14])


def test_percentiles_of_a_histogram_are_those_of_the_pixels():
    values = np.random.default_rng(0).gamma(2, 300, (3, 50, 50)).astype(np.uint16)
    shares = (0.0, 0.1, 25, 50, 99.9, 100)
    expected = np.percentile(values, shares, method="inverted_cdf")
    assert scaling.percentiles(scaling.histogram(values), shares) == expected.tolist()


def test_a_vignette_is_found_and_taken_off():
    rng = np.random.default_rng(0)
    axis = np.linspace(-1, 1, SIZE)
    vignette = 1 - 0.35 * (axis[:, None] ** 2 + (axis - 0.2) ** 2) / 2
    fields = [cells(rng) * vignette + 100 for _ in range(300)]
    found = illumination.fit_illumination(
        np.stack([illumination.block_means(field) for field in fields]), dark=100)
    light = illumination.illumination(found, np.arange(SIZE), np.arange(SIZE), (SIZE, SIZE))
    before, after = (values / values.mean() for values in (vignette, vignette / light))
    assert before.std() > 0.06
    assert after.std() < 0.02


def test_a_vignette_is_found_from_the_samples_of_larger_fields():
    rng = np.random.default_rng(0)
    shape = (330, 410)
    kept = sampled(shape)
    assert kept[0].step == 3
    y, x = (np.linspace(-1, 1, length) for length in shape)
    vignette = 1 - 0.35 * (y[:, None] ** 2 + (x - 0.2) ** 2) / 2
    fields = (rng.poisson(800 * vignette) + 100 for _ in range(60))
    found = illumination.fit_illumination(
        illumination.block_means(np.stack([field[kept] for field in fields])), dark=100)
    light = illumination.illumination(found, *map(np.arange, shape), shape)
    before, after = (values / values.mean() for values in (vignette, vignette / light))
    assert before.std() > 0.06
    assert after.std() < 0.02


def test_a_few_fields_are_no_ground_for_an_illumination_estimate():
    rng = np.random.default_rng(0)
    means = np.stack([illumination.block_means(cells(rng)) for _ in range(12)])
    assert illumination.fit_illumination(means, 0) is illumination.EVEN


def test_even_light_is_left_alone():
    rng = np.random.default_rng(1)
    means = np.stack([illumination.block_means(cells(rng)) for _ in range(200)])
    light = illumination.illumination(illumination.fit_illumination(means, 0), np.arange(SIZE),
                                      np.arange(SIZE), (SIZE, SIZE))
    assert np.ptp(light) < 0.12


def test_correction_leaves_the_dark_level_where_it_is():
    counts = np.array([[100, 300]], np.uint16)
    light = np.array([[0.5, 0.5]], np.float32)
    assert illumination.correct(counts, light, np.float32(100)).tolist() == [[100, 500]]


def test_blur_steepens_the_spectrum():
    import scipy.ndimage

    plane = np.random.default_rng(0).poisson(cells(np.random.default_rng(1))).astype(float)
    slopes = [quality.focus_slope(scipy.ndimage.gaussian_filter(plane, sigma))
              for sigma in (0, 1, 2)]
    assert slopes[0] > slopes[1] > slopes[2]


def test_nuclei_are_counted():
    plane = np.full((200, 200), 100.0)
    y, x = np.mgrid[:200, :200]
    for row in range(20, 200, 40):
        for column in range(20, 200, 40):
            plane += 800 * ((y - row) ** 2 + (x - column) ** 2 < 64)
    noisy = np.random.default_rng(0).poisson(plane).astype(np.uint16)
    assert quality.count_nuclei(noisy) == 25
    empty = np.random.default_rng(0).poisson(np.full((200, 200), 100.0)).astype(np.uint16)
    assert quality.count_nuclei(empty) == 0
    assert quality.count_nuclei(np.zeros((64, 64), np.uint16)) == 0


@pytest.mark.parametrize("size,ground,nucleus", [(400, 2, 3), (400, 20, 8), (1080, 1, 2)])
def test_nuclei_of_a_few_counts_are_counted(size, ground, nucleus):
    y, x = np.mgrid[:size, :size]
    places = np.arange(30, size - 30, 60)
    plane = np.full((size, size), float(ground))
    for row, column in itertools.product(places, places):
        plane[(y - row) ** 2 + (x - column) ** 2 <= 81] += nucleus
    noisy = np.random.default_rng(0).poisson(plane)
    for dtype in (np.uint8, np.uint16):
        assert quality.count_nuclei(noisy.astype(dtype)) == len(places) ** 2


def test_nuclei_are_the_same_where_a_finer_camera_sees_the_same_field():
    plane = np.random.default_rng(0).poisson(cells(np.random.default_rng(1), 40, 700)).astype(
        np.uint16)
    count = quality.count_nuclei(plane)
    assert 30 <= count <= 40
    for finer in (2, 3):
        assert quality.count_nuclei(plane.repeat(finer, axis=0).repeat(finer, axis=1)) == count


@pytest.mark.parametrize("size", [400, 1080, 2160])
def test_close_nuclei_are_separated_in_a_field_of_any_size(size):
    y, x = np.mgrid[-40:40, -40:40]
    pair = sum(y**2 + (x - side) ** 2 < 16**2 for side in (-17, 17))
    plane, pairs = np.full((size, size), 200.0), 0
    # An odd step: what is between two nuclei begins at even and at odd pixels.
    for row in range(0, size - 80, 97):
        for column in range(0, size - 80, 97):
            plane[row : row + 80, column : column + 80] += 1500 * pair
            pairs += 1
    noisy = np.random.default_rng(0).poisson(plane).astype(np.uint16)
    assert quality.count_nuclei(noisy) == 2 * pairs


def test_nuclei_that_overlap_count_by_the_area_of_the_others():
    y, x = np.mgrid[:600, :600]
    plane = np.full((600, 600), 200.0)
    for row, column in [(60, 60), (60, 300), (300, 60), (300, 300), (500, 300), (500, 328)]:
        plane[(y - row) ** 2 + (x - column) ** 2 < 15**2] = 1500
    assert quality.count_nuclei(np.random.default_rng(0).poisson(plane).astype(np.uint16)) == 6


def test_the_brightest_counts_of_a_camera_do_not_overflow_the_nuclei_filter():
    plane = np.zeros((120, 120), np.uint16)
    plane[40:60, 40:60] = plane[80:100, 80:100] = 65_535
    assert quality.count_nuclei(plane) == 2
    assert quality.count_nuclei(plane.repeat(10, axis=0).repeat(10, axis=1)) == 2


@pytest.mark.parametrize("density", [0, 0.1, 0.5, 0.6, 0.9, 1])
def test_component_areas_are_those_of_labelled_parts(density):
    import scipy.ndimage

    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 40), (40, 1), (33, 64)):
        mask = rng.random(shape) < density
        labels, found = scipy.ndimage.label(mask)
        expected = np.bincount(labels.ravel(), minlength=found + 1)[1:]
        assert sorted(quality.component_areas(mask)) == sorted(expected)


def test_the_focus_slope_is_the_line_through_the_mean_power_of_rings():
    plane = np.random.default_rng(0).poisson(cells(np.random.default_rng(1), size=128))
    line = np.hanning(130)[1:-1]
    power = np.abs(np.fft.fft2((plane - plane.mean()) * np.outer(line, line))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    # The half of the spectrum that a real plane's other half repeats.
    power, radius = power[:, :65], radius[:, :65]
    edges = np.geomspace(*quality.FOCUS_BAND, 12)
    rings = [(radius >= low) & (radius < high) for low, high in pairwise(edges)]
    expected = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])),
                          [np.log(power[ring].mean()) for ring in rings], 1)[0]
    assert np.isclose(quality.focus_slope(plane.astype(np.uint16)), expected, rtol=1e-4)
    assert quality.focus_slope(np.full((128, 128), 7, np.uint16)) == 0


def test_otsus_threshold_is_that_of_scikit_image():
    import skimage.filters

    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(300, 40, 5000), rng.normal(900, 90, 800)]).astype(int)
    values -= values.min()
    expected = skimage.filters.threshold_otsu(hist=np.bincount(values))
    assert quality.otsu(np.bincount(values)) == expected


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_block_means_are_means_of_blocks(dtype):
    planes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (2, 75, 10), endpoint=True,
                                               dtype=dtype)
    edges = [np.linspace(0, length, cells + 1).astype(int)
             for length, cells in zip((75, 10), (16, 10), strict=True)]
    expected = [[[plane[top:bottom, left:right].mean() for left, right in pairwise(edges[1])]
                 for top, bottom in pairwise(edges[0])] for plane in planes]
    assert np.allclose(illumination.block_means(planes), expected, rtol=1e-6)


@pytest.mark.parametrize(("channels", "expected"), [
    (("Actin", "Tubulin", "DNA"), "DNA"), (("Hoechst 33342", "GFP"), "Hoechst 33342"),
    (("Nucleus", "Green"), "Nucleus"), (("A", "B"), "A")])
def test_the_nuclear_channel_is_recognised_by_its_usual_names(channels, expected):
    assert quality.nucleus_channel(channels) == expected


def test_a_bright_well_stays_brighter_than_its_plate_after_scaling(tmp_path):
    planes = many_fields(40)
    rng = np.random.default_rng(9)
    bright = rng.poisson(cells(rng, brightness=2700.0)).astype(np.uint16)
    planes["A20", 2] = bright
    screen = write_plate(tmp_path / "images", planes, tuple(f"A{n:02d}" for n in range(1, 7)))
    out = tmp_path / "P1"
    out.mkdir()
    prepare_plate(screen, out, Prepare(crop=96, crops=1, high_percentile=99.0))
    sites = pd.read_parquet(out / "sites.parquet")
    signal = sites["Intensity_DNA_P95"] - sites["Intensity_DNA_Median"]
    assert 1.4 < signal.iloc[-1] / signal.iloc[:-1].median() < 2.2
    crops = np.load(out / "crops.npy", mmap_mode="r")
    assert np.percentile(crops[-1], 95) >= np.percentile(crops[0], 95)


def test_few_wells_without_controls_keep_their_raw_counts(tmp_path):
    planes = {key: (plane // 8).astype(np.uint8) for key, plane in many_fields(8).items()}
    screen = write_plate(tmp_path / "images", planes)
    out = tmp_path / "P1"
    out.mkdir()
    prepare_plate(screen, out, Prepare(crop=96, crops=1))
    crops = np.load(out / "crops.npy")
    assert np.array_equal(crops[:, 0, 0], np.stack(list(planes.values())))
    facts = json.loads((out / "plate.json").read_text())
    assert facts["panels"][""]["DNA"]["scale"] == "range"


def test_intensities_are_those_of_the_whole_field(tmp_path):
    planes = many_fields(4)
    screen = write_plate(tmp_path / "images", planes)
    out = tmp_path / "P1"
    out.mkdir()
    prepare_plate(screen, out, Prepare(crop=32, crops=1))
    sites = pd.read_parquet(out / "sites.parquet")
    stack = np.stack(list(planes.values())).reshape(4, -1)
    assert np.allclose(sites["Intensity_DNA_Mean"], stack.mean(axis=1), rtol=1e-5)
    assert np.allclose(sites["Intensity_DNA_P95"], np.percentile(stack, 95, axis=1))
    assert np.allclose(sites["Intensity_DNA_SD"], stack.std(axis=1), rtol=1e-4)


def test_a_site_that_cannot_be_read_is_left_out_and_named(tmp_path):
    screen = write_plate(tmp_path / "images", many_fields(6))
    broken = tmp_path / "images" / screen.sites["FileName_DNA"].iloc[2]
    broken.write_bytes(broken.read_bytes()[:900])
    out = tmp_path / "P1"
    out.mkdir()
    (sentence,) = prepare_plate(screen, out, Prepare(crop=96))
    assert "well A02, site 1 is left out" in sentence and "truncated" in sentence
    assert len(pd.read_parquet(out / "sites.parquet")) == len(np.load(out / "crops.npy")) == 5
    assert json.loads((out / "plate.json").read_text())["left_out"] == [sentence]


def test_a_first_field_of_another_size_does_not_decide_for_the_plate(tmp_path):
    planes = many_fields(6)
    planes["A01", 1] = planes["A01", 1][:64, :64]
    out = tmp_path / "P1"
    out.mkdir()
    (sentence,) = prepare_plate(write_plate(tmp_path / "images", planes), out, Prepare(crop=96))
    assert "well A01, site 1" in sentence and "64x64" in sentence
    assert len(np.load(out / "crops.npy")) == 5


def test_a_plate_of_which_nothing_can_be_read_is_empty(tmp_path):
    screen = write_plate(tmp_path / "images", many_fields(2))
    for name in screen.sites["FileName_DNA"]:
        (tmp_path / "images" / name).unlink()
    out = tmp_path / "P1"
    out.mkdir()
    assert len(prepare_plate(screen, out, Prepare(crop=96))) == 2
    assert np.load(out / "crops.npy").shape[0] == len(pd.read_parquet(out / "sites.parquet")) == 0


def test_a_channel_that_a_panel_lacks_is_not_measured(tmp_path):
    planes = {key: np.stack([plane, plane]) for key, plane in many_fields(10).items()}
    screen = write_plate(tmp_path / "images", planes)
    sites = screen.sites.copy()
    sites.loc[5:, "Metadata_Panel"] = "DNA only"
    sites.loc[5:, "FileName_GFP"] = ""
    out = tmp_path / "P1"
    out.mkdir()
    assert prepare_plate(dataclasses.replace(screen, sites=sites), out, Prepare(crop=96)) == []
    table = pd.read_parquet(out / "sites.parquet")
    assert table["Intensity_GFP_Mean"].isna().tolist() == [False] * 5 + [True] * 5
    assert table["Intensity_DNA_Mean"].notna().all()
    assert not np.load(out / "crops.npy")[5:, :, 1].any()


def test_only_a_plate_that_changed_is_prepared_again(tmp_path):
    one = write_plate(tmp_path / "images", many_fields(4))
    two = write_plate(tmp_path / "images", many_fields(4, seed=1), plate="P2")
    both = dataclasses.replace(
        one, sites=pd.concat([one.sites, two.sites], ignore_index=True),
        layout=pd.concat([one.layout, two.layout], ignore_index=True))
    settings, out = Prepare(crop=96), tmp_path / "out"
    digests = {name: name for name in both.sites["FileName_DNA"]}
    assert prepare_plates(one, out, settings, 1, digests) == (1, 0)
    assert prepare_plates(both, out, settings, 1, digests) == (1, 1)
    assert prepare_plates(both, out, settings, 1, digests) == (0, 2)
    name = two.sites["FileName_DNA"].iloc[0]
    assert prepare_plates(both, out, settings, 1, digests | {name: "other"}) == (1, 1)
    assert prepare_plates(both, out, settings.model_copy(update={"crop": 64}), 1, digests) == (2, 0)


def test_the_same_plate_gives_the_same_bytes_in_one_process_and_in_two(tmp_path):
    one = write_plate(tmp_path / "images", many_fields(40), ("A01", "A02", "A03", "A04"))
    two = write_plate(tmp_path / "images", many_fields(40, seed=1), plate="P2")
    both = dataclasses.replace(
        one, sites=pd.concat([one.sites, two.sites], ignore_index=True),
        layout=pd.concat([one.layout, two.layout], ignore_index=True))
    for jobs in (1, 2):
        prepare_plates(both, tmp_path / str(jobs), Prepare(crop=96), jobs)
    files = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*")
                   if path.is_file())
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_the_same_plate_gives_the_same_bytes_in_one_thread_and_in_three(tmp_path):
    screen = write_plate(tmp_path / "images", many_fields(40), ("A01", "A02", "A03", "A04"))
    for name in screen.sites["FileName_DNA"].iloc[[3, 17]]:
        (tmp_path / "images" / name).write_bytes(b"II*\0")
    told = []
    before = list(warnings.filters)
    for threads in (1, 3):
        (tmp_path / str(threads)).mkdir()
        told.append(prepare_plate(screen, tmp_path / str(threads), Prepare(crop=48), threads))
    assert warnings.filters == before
    assert told[0] == told[1] and len(told[0]) == 2
    files = [path.name for path in (tmp_path / "1").iterdir()]
    assert sorted(files) == ["crops.npy", "plate.json", "sites.parquet"]
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "3" / file).read_bytes()


def test_the_summary_counts_what_was_flagged_and_has_a_picture(tmp_path):
    planes = many_fields(40)
    planes["A05", 1] = np.random.default_rng(3).poisson(np.full((SIZE, SIZE), 200.0)).astype(
        np.uint16)
    screen = write_plate(tmp_path / "images", planes)
    prepare_plates(screen, tmp_path / "out", Prepare(crop=96), 1)
    sites, facts = read_prepared(tmp_path / "out")
    write_summary(sites, facts, tmp_path / "report" / "quality.json")
    summary = json.loads((tmp_path / "report" / "quality.json").read_text())
    assert summary["plates"]["P1"]["flagged"] == {"blurred": 0, "empty": 1, "saturated": 0}
    assert summary["total"]["passed"] == 39
    draw_montage(tmp_path / "out", tmp_path / "report" / "montage.png")
    assert (tmp_path / "report" / "montage.png").stat().st_size > 1000
    assert [plate.name for plate in prepared_plates(tmp_path / "out")] == ["P1"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_faults_are_found_and_sound_fields_are_left_alone(tmp_path, seed):
    from moascope.screen.tables import read_screen
    from moascope.sources.simulated import simulate

    simulate(Simulated(batches=1, compounds=60), seed, tmp_path / "screen")
    prepare_plates(read_screen(tmp_path / "screen"), tmp_path / "out", Prepare(), 2)
    sites, _ = read_prepared(tmp_path / "out")
    where = ["Metadata_Plate", "Metadata_Well", "Metadata_Site"]
    truth = pd.read_csv(tmp_path / "screen" / "truth" / "faults.csv").drop_duplicates(where)
    fault = sites.merge(truth, how="left", on=where)["fault"].fillna("none").to_numpy(str)
    for kind, flag in [("blur", "QC_Blurred"), ("saturation", "QC_Saturated"),
                       ("empty", "QC_Empty")]:
        assert sites.loc[fault == kind, flag].mean() >= 0.9, kind
        assert sites.loc[fault == "none", flag].mean() <= 0.02, kind


def test_a_plate_that_is_still_being_written_is_not_read(tmp_path):
    for name in ("P2", "P1", ".partial-P3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plate.json").write_text('{"channels": ["DNA"]}')
    plates = prepared_plates(tmp_path)
    assert [plate.name for plate in plates] == ["P1", "P2"]
    assert plates[0].channels == ["DNA"]
    assert not plates[0].exists
