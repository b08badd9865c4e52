"""The simulated screen: its bytes, its layout, its truth and its honesty."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tifffile import imread

from moascope.errors import MoascopeError
from moascope.params import Simulated
from moascope.screen.tables import read_screen
from moascope.sources.simulated import simulate
from moascope.sources.simulated.cells import draw_field
from moascope.sources.simulated.compounds import (
    COUPLING,
    INVERSE,
    KNOBS,
    annotation_table,
    class_direction,
    draw_compounds,
    response,
    shared_direction,
)
from moascope.sources.simulated.layout import DOSES_UM, plate_maps
from moascope.sources.simulated.markers import LINES, MARKER_PAIRS, MARKERS, panel_parts
from moascope.sources.simulated.optics import (
    CEILING,
    FAULT_SHARES,
    OFFSET,
    Fault,
    draw_fault,
    expose,
)
from moascope.sources.simulated.screen import design_plates, well_knobs
from moascope.sources.simulated.seeds import stream

PANELS = ("A549 ACTB-RAB5A", "HepG2 TUBA1B-RELA")
TINY = Simulated(format=96, compounds=2, batches=1, panels=PANELS, fields=1, size=64)
SMALL = Simulated(format=96, compounds=12, batches=2, panels=PANELS, fields=1, size=64)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "screen"
    simulate(SMALL, 0, out, jobs=1)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_seed_gives_the_same_bytes_with_one_and_two_processes(tmp_path):
    simulate(TINY, 3, tmp_path / "one", jobs=1)
    simulate(TINY, 3, tmp_path / "two", jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_seed_gives_other_images_and_other_compounds(tmp_path, small):
    simulate(SMALL.model_copy(update={"batches": 1}), 1, tmp_path / "other", jobs=1)
    image = "images/B1-M1-A549-ACTB-RAB5A/B02_s1_Nucleus.tif"
    assert (small / image).read_bytes() != (tmp_path / "other" / image).read_bytes()
    assert (small / "annotations.csv").read_bytes() != (
        tmp_path / "other" / "annotations.csv").read_bytes()


def test_one_more_batch_leaves_the_images_of_the_first_as_they_are(tmp_path, small):
    simulate(SMALL.model_copy(update={"batches": 1}), 0, tmp_path / "first", jobs=1)
    first, both = digests(tmp_path / "first" / "images"), digests(small / "images")
    assert first.items() <= both.items()


def test_the_screen_folder_reads_as_a_screen_without_a_warning(small):
    screen = read_screen(small)
    assert screen.channels == ("Nucleus", "Green", "Red")
    assert screen.warnings == ()
    assert set(screen.sites["Metadata_Panel"]) == set(PANELS)
    about = json.loads((small / "source.json").read_text())
    assert about["source"] == "simulated" and about["licence"] and about["citation"]


def test_planes_are_12_bit_values_in_16_bit_files_and_every_file_is_listed(small):
    sites = pd.read_csv(small / "load_data.csv")
    named = set(sites.filter(like="FileName_").to_numpy().ravel())
    assert named == {path.relative_to(small).as_posix() for path in small.rglob("*.tif")}
    for name in sorted(named)[::25]:
        plane = imread(small / name)
        assert plane.dtype == np.uint16 and plane.shape == (64, 64)
        assert plane.max() <= CEILING


def test_doses_rise_in_strips_and_dmso_lies_in_the_outer_columns(small):
    layout = pd.read_csv(small / "layout.csv", keep_default_na=False)
    control = layout["Metadata_Control"] == "negative"
    assert set(layout.loc[control, "Metadata_Compound"]) == {"DMSO"}
    assert set(layout.loc[control, "Metadata_Well"].str[1:]) == {"02", "11"}
    for _, strip in layout[~control].groupby(["Metadata_Plate", "Metadata_Compound"]):
        assert strip["Metadata_Concentration_uM"].astype(float).tolist() == list(DOSES_UM)
        assert len(set(strip["Metadata_Well"].str[0])) == 1
        assert np.diff(strip["Metadata_Well"].str[1:].astype(int)).tolist() == [1, 1, 1]


def test_a_map_is_the_same_in_every_batch_and_panel(small):
    layout = pd.read_csv(small / "layout.csv", keep_default_na=False)
    maps = {plate: part.drop(columns="Metadata_Plate").to_csv(index=False)
            for plate, part in layout.groupby("Metadata_Plate")}
    assert len(maps) == 4 and len(set(maps.values())) == 1


def test_the_384_layout_is_that_of_idr0088():
    maps = plate_maps(0, 140, 384, "edge")
    assert len(maps) == 2
    for wells in maps:
        compound = [well for well in wells if well.compound >= 0]
        dmso = [well for well in wells if well.compound < 0]
        assert len(compound) == 280 and len(dmso) == 28
        assert {well.column + 1 for well in dmso} == {2, 23}
        assert {well.column + 1 for well in compound} == set(range(3, 23))
        assert {well.name[0] for well in wells} == set("BCDEFGHIJKLMNO")
    assert sorted({well.compound for wells in maps for well in wells} - {-1}) == list(range(140))


def test_the_default_screen_has_eight_plates_and_4928_fields():
    plates = design_plates(Simulated(), 0)
    assert len(plates) == 8
    assert sum(len(plate.wells) for plate in plates) * Simulated().fields == 4928


@pytest.mark.parametrize("dmso", ["scattered", "both"])
@pytest.mark.parametrize("wells", [96, 384])
def test_scattered_dmso_leaves_no_compound_out_and_takes_no_well_twice(dmso, wells):
    for plan in plate_maps(5, 30, wells, dmso):
        assert len({well.name for well in plan}) == len(plan)
        inner = {well.column for well in plan if well.compound < 0}
        assert len(inner) > 2
    placed = [well.compound for plan in plate_maps(5, 30, wells, dmso) for well in plan]
    assert all(placed.count(compound) == 4 for compound in range(30))


@pytest.mark.parametrize("number", [60, 140, 320, 1007])
def test_gpcr_ligands_are_as_rare_as_in_idr0088(number):
    table = annotation_table(draw_compounds(0, number, PANELS))
    told = table[table["gpcr"] != "unknown"]
    rounding = 0.5 / len(told) + 1e-9
    assert (told["gpcr"] == "yes").mean() == pytest.approx(0.162, abs=rounding)
    assert (told["gpcr_action"] == "agonist").mean() == pytest.approx(0.062, abs=rounding)


def test_annotations_tell_families_and_leave_some_compounds_unknown():
    table = annotation_table(draw_compounds(0, 140, PANELS))
    unknown = table[table["gpcr"] == "unknown"]
    assert len(unknown) == 7
    assert (unknown["Metadata_MoA"] == "").all() and (unknown["gpcr_action"] == "").all()
    ligands = table[table["gpcr"] == "yes"]
    assert set(ligands["Metadata_MoA"].str.replace(" receptor", "").str.split().str[0]) <= set(
        COUPLING)
    assert (ligands["Metadata_MoA"].str.split().str[-1] == ligands["gpcr_action"]).all()
    # A nuclear receptor's agonist sounds like a GPCR ligand and is none.
    nuclear = table[table["Metadata_MoA"] == "Glucocorticoid receptor agonist"]
    assert len(nuclear) and (nuclear["gpcr"] == "no").all()


def test_stereoisomers_share_the_first_block_of_a_well_formed_inchikey_and_a_mechanism():
    table = annotation_table(draw_compounds(0, 140, PANELS))
    assert table["Metadata_InChIKey"].str.fullmatch(r"[A-Z]{14}-[A-Z]{8}SA-N").all()
    assert table["Metadata_InChIKey"].is_unique
    shared = table.groupby(table["Metadata_InChIKey"].str[:14])["Metadata_MoA"].agg(list)
    pairs = shared[shared.str.len() > 1]
    assert len(pairs) == 4
    assert all(first == second for first, second in pairs)


def test_names_and_positions_tell_nothing_of_the_mechanism():
    rank = []
    for seed in range(40):
        compounds = draw_compounds(seed, 100, PANELS)
        order = np.array([compound.through_gpcr for compound in compounds])
        strips = [well.compound for plan in plate_maps(seed, 100, 384, "edge") for well in plan
                  if well.concentration == DOSES_UM[0]]
        rank.append((np.flatnonzero(order).mean() / 99, np.flatnonzero(order[strips]).mean() / 99))
    # Mean ranks of 16 of 100 over 40 seeds: standard error 0.011 around one half.
    assert np.abs(np.mean(rank, axis=0) - 0.5).max() < 0.045


def test_signal_zero_leaves_no_trace_of_class_or_amphiphily_on_the_knobs():
    for compound in draw_compounds(2, 60, PANELS):
        moved = response(2, compound, 9.0, PANELS[0], signal=0.0)
        own = np.asarray(compound.own_direction) * compound.own_strength
        assert np.allclose(moved, own * 9**1.3 / (9**1.3 + compound.ec50**1.3))
        assert moved[KNOBS.index("vacuoles")] == 0


def test_signal_moves_the_knobs_along_the_class_direction():
    compound = next(c for c in draw_compounds(2, 60, PANELS) if c.kind == "strong")
    effect = (response(2, compound, 1e6, PANELS[0], 2.0) - response(2, compound, 1e6, PANELS[0], 0))
    assert effect[:-1] == pytest.approx(3.0 * class_direction(2, compound.moa)[:-1], abs=1e-6)


def test_antagonists_of_inverse_families_oppose_agonists_and_the_others_do_not():
    for family in COUPLING:
        cosine = class_direction(0, f"{family} receptor agonist") @ class_direction(
            0, f"{family} receptor antagonist")
        assert (cosine == pytest.approx(-1)) == (family in INVERSE)


def test_a_panel_without_the_receptor_shows_no_mechanism():
    ligands = [c for c in draw_compounds(4, 200, PANELS) if c.through_gpcr]
    assert {len(c.silenced) for c in ligands} == {1}
    assert {panel for c in ligands for panel in c.silenced} == set(PANELS)
    for compound in ligands:
        mute = compound.silenced[0]
        heard = next(panel for panel in PANELS if panel != mute)
        assert np.allclose(response(4, compound, 9, mute, 2.0)[:-1],
                           response(4, compound, 9, mute, 0.0)[:-1])
        assert not np.allclose(response(4, compound, 9, heard, 2.0)[:-1],
                               response(4, compound, 9, heard, 0.0)[:-1])


def test_gpcr_ligands_share_a_response_in_every_panel_and_nothing_else_has_it():
    params = Simulated()
    compounds = draw_compounds(4, 200, PANELS)
    shared = []
    for compound in compounds:
        for panel in PANELS:
            moved = [response(4, compound, 1e9, panel, params.signal, strength)
                     for strength in (0.0, params.shared_gpcr)]
            shared.append((compound.through_gpcr, moved[1] - moved[0]))
    ligands = np.array([effect for gpcr, effect in shared if gpcr])
    # One direction and one length, in the panels that do not express the receptor as well.
    assert np.allclose(ligands, ligands[0], atol=1e-6)
    assert np.linalg.norm(ligands[0]) == pytest.approx(params.shared_gpcr, abs=1e-6)
    assert not any(effect.any() for gpcr, effect in shared if not gpcr)


@pytest.mark.parametrize("seed", range(200, 205))
def test_the_shared_response_changes_neither_the_number_of_cells_nor_their_brightness(seed):
    direction = dict(zip(KNOBS, shared_direction(seed), strict=True))
    assert np.linalg.norm(list(direction.values())) == pytest.approx(1)
    for name in KNOBS:
        blind = name in ("count", "cell_size", "vacuoles", "nuclear_size") or "intensity" in name
        assert (direction[name] == 0) == blind, name


@pytest.mark.parametrize("settings", [
    {"preset": "null"}, {"preset": None}, {"signal": 0}, {"preset": "literature", "signal": 0},
    {"signal": 0, "shared_gpcr": 5}])
def test_without_signal_no_mechanism_shows_whatever_else_is_set(settings):
    params = Simulated(**settings)
    for compound in draw_compounds(2, 60, PANELS):
        own = response(2, compound, 9.0, PANELS[0], signal=0.0)
        assert np.array_equal(own, response(2, compound, 9.0, PANELS[0], params.signal,
                                            params.shared_gpcr))


def test_presets_differ_in_the_images_of_gpcr_ligands_alone(tmp_path, small):
    simulate(SMALL.model_copy(update={"shared_gpcr": 0.0}), 0, tmp_path / "literature", jobs=1)
    layout = pd.read_csv(small / "layout.csv")
    kinds = pd.read_csv(small / "truth/compounds.csv").set_index("Metadata_Compound")["kind"]
    gpcr = layout["Metadata_Compound"].map(kinds).isin(["agonist", "antagonist"])
    wells = set((layout["Metadata_Plate"] + "/" + layout["Metadata_Well"])[gpcr])
    one, other = digests(small / "images"), digests(tmp_path / "literature/images")
    assert one.keys() == other.keys()
    changed = {name.split("_s")[0] for name in one if one[name] != other[name]}
    assert changed == wells


def test_the_truth_holds_the_knobs_of_every_well_by_name(small):
    knobs = pd.read_parquet(small / "truth/knobs.parquet")
    assert list(knobs) == ["Metadata_Plate", "Metadata_Well", *KNOBS]
    layout = pd.read_csv(small / "layout.csv")
    key = ["Metadata_Plate", "Metadata_Well"]
    assert knobs.sort_values(key)[key].to_numpy().tolist() == layout.sort_values(key)[
        key].to_numpy().tolist()
    compounds = draw_compounds(0, SMALL.compounds, PANELS)
    plate = design_plates(SMALL, 0)[1]
    for well in plate.wells[::7]:
        row = knobs[(knobs["Metadata_Plate"] == plate.name)
                    & (knobs["Metadata_Well"] == well.name)]
        compound = compounds[well.compound] if well.compound >= 0 else None
        assert np.array_equal(row[list(KNOBS)].to_numpy()[0],
                              well_knobs(SMALL, 0, plate, well, compound))


def test_other_mechanisms_work_in_every_panel():
    assert all(c.silenced == () for c in draw_compounds(4, 200, PANELS) if not c.through_gpcr)


def test_a_position_moves_the_cells_the_same_way_on_every_plate():
    params = SMALL.model_copy(update={"compounds": 12, "batches": 6})
    plates = [plate for plate in design_plates(params, 0) if plate.panel == PANELS[0]]
    state = np.array([[well_knobs(params, 0, plate, well, None) for well in plate.wells]
                      for plate in plates])
    shared = (state - state.mean(axis=1, keepdims=True)).mean(axis=0)
    # 0.4 a position against 0.9/sqrt(6) of wells: without positions the spread would be 0.37.
    assert shared[:, 3].std() > 0.45


def test_planted_faults_are_just_the_planes_that_differ_from_a_faultless_screen(
        tmp_path, monkeypatch):
    monkeypatch.setattr("moascope.sources.simulated.optics.FAULT_SHARES",
                        {kind: 0.06 for kind in FAULT_SHARES})
    params = SMALL.model_copy(update={"batches": 1})
    simulate(params, 0, tmp_path / "spoilt", jobs=1)
    simulate(params.model_copy(update={"faults": False}), 0, tmp_path / "whole", jobs=1)
    spoilt, whole = digests(tmp_path / "spoilt" / "images"), digests(tmp_path / "whole" / "images")
    faults = pd.read_csv(tmp_path / "spoilt" / "truth" / "faults.csv")
    planted = set(faults["Metadata_Plate"] + "/" + faults["Metadata_Well"] + "_s"
                  + faults["Metadata_Site"].astype(str) + "_" + faults["channel"] + ".tif")
    assert set(faults["fault"]) == set(FAULT_SHARES)
    assert planted == {name for name in whole if whole[name] != spoilt[name]}
    assert len(pd.read_csv(tmp_path / "whole" / "truth" / "faults.csv")) == 0


@pytest.fixture(scope="module")
def light() -> np.ndarray:
    return draw_field(stream(0, "test"), np.zeros(len(KNOBS)), *panel_parts(PANELS[0]), 128)


def exposed(light: np.ndarray, fault: Fault | None) -> np.ndarray:
    even = np.ones_like(light)
    return expose(stream(0, "camera"), light.copy(), even, fault).astype(float)


def test_blur_takes_the_fine_detail(light):
    sharp, blurred = exposed(light, None), exposed(light, Fault("blur", (0, 1, 2), 0.5))
    detail = [np.abs(np.diff(image, axis=2)).mean(axis=(1, 2)) for image in (sharp, blurred)]
    # What is left is noise, most of all in the smooth nuclei.
    assert (detail[1] < np.array([0.9, 0.75, 0.75]) * detail[0]).all()


def test_saturation_fills_a_tenth_of_the_plane(light):
    plane = exposed(light, Fault("saturation", (1,), 0.0))[1]
    assert 0.08 < (plane == CEILING).mean() < 0.4


def test_an_empty_field_and_a_missing_channel_hold_no_cells(light):
    assert exposed(light, Fault("empty", (0, 1, 2), 0.5)).std(axis=(1, 2)).max() < 15
    missing = exposed(light, Fault("missing", (2,), 0.5))
    assert missing[2].mean() == pytest.approx(OFFSET, abs=1) and missing[1].std() > 100


def test_swapped_channels_are_each_others(light):
    plain, swapped = exposed(light, None), exposed(light, Fault("swapped", (1, 2), 0.5))
    assert np.array_equal(plain[[0, 2, 1]], swapped)


def test_faults_are_as_frequent_as_stated():
    drawn = pd.Series([fault.kind for site in range(4000)
                       if (fault := draw_fault(0, "plate", "B02", site))])
    counts = drawn.value_counts()
    for kind, share in FAULT_SHARES.items():
        assert counts[kind] == pytest.approx(4000 * share, abs=4 * (4000 * share) ** 0.5)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("pair", MARKER_PAIRS)
def test_every_panel_draws_6_to_30_nuclei_and_two_different_markers(line, pair):
    from scipy.ndimage import label

    planes = draw_field(stream(1, pair), np.zeros(len(KNOBS)), *panel_parts(f"{line} {pair}"), 128)
    _, nuclei = label(planes[0] > 300)
    assert 6 <= nuclei <= 30
    assert planes.min() >= 0 and planes.max() < CEILING
    assert np.corrcoef(planes[1].ravel(), planes[2].ravel())[0, 1] < 0.9
    green, red = pair.split("-")
    assert MARKERS[green] != MARKERS[red]


def measured(knob: str, value: float) -> np.ndarray:
    """Mean light a plane, and of Red in and around the nuclei, over twelve fields."""
    knobs = np.zeros(len(KNOBS))
    knobs[KNOBS.index(knob)] = value
    rows = []
    for field in range(12):
        planes = draw_field(stream(7, field), knobs, *panel_parts("A549 TUBA1B-RELA"), 128)
        inside = planes[0] > 300
        rows.append([*planes.mean(axis=(1, 2)), inside.mean(), planes[0][inside].mean(),
                     planes[2][inside].mean() / planes[2][~inside].mean()])
    return np.mean(rows, axis=0)


@pytest.mark.parametrize(("knob", "column"), [
    ("marker2_intensity", 1), ("marker3_intensity", 2), ("count", 3), ("nuclear_size", 3),
    ("nuclear_intensity", 4), ("marker3_nuclear", 5)])
def test_a_knob_shows_in_the_pixels(knob, column):
    assert measured(knob, 2.0)[column] > 1.1 * measured(knob, -2.0)[column]


def test_vacuoles_dig_holes_into_the_cytoplasm():
    assert measured("vacuoles", 3.0)[2] < 0.95 * measured("vacuoles", -3.0)[2]


@pytest.mark.parametrize("panel", ["ACTB-RAB5A", "A549 RAB5A-ACTB", "HeLa ACTB-RAB5A", ""])
def test_a_panel_that_cannot_be_simulated_is_refused_with_the_names_that_can(tmp_path, panel):
    with pytest.raises(MoascopeError, match=r"A panel is a line .*'A549 ACTB-RAB5A'"):
        simulate(TINY.model_copy(update={"panels": (panel,)}), 0, tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


def test_a_panel_named_twice_is_refused(tmp_path):
    with pytest.raises(MoascopeError, match="each only once"):
        simulate(TINY.model_copy(update={"panels": PANELS[:1] * 2}), 0, tmp_path / "out", jobs=1)


def test_a_folder_with_files_is_never_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(MoascopeError, match="already holds files"):
        simulate(TINY, 0, tmp_path, jobs=1)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_run_that_died_leaves_no_screen_and_does_not_hinder_the_next(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("moascope.sources.simulated.screen.expose", die)
        simulate(TINY, 0, tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()
    simulate(TINY, 0, tmp_path / "out", jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
