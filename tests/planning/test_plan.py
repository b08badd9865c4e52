"""`moascope plan`: what is counted, measured and computed."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from helpers import make_screen

from moascope.cli.app import app
from moascope.errors import MoascopeError
from moascope.features.embed import features_of_screen
from moascope.params_file import parse_params
from moascope.planning.costs import STARTS, Size, costs_of, processor_speed, size_of
from moascope.planning.measuring import MANY, Measured, measure
from moascope.planning.plan import plan_screen
from moascope.planning.words import plan_lines
from moascope.screen.manifest import make_manifest, write_manifest
from moascope.screen.tables import read_screen

MEASURED = Measured(sites=10, planes=20, seconds=2.0, plane_bytes=1e6, rate=1e8,
                    read_site=0.1, read_plate=1.0, embed_site=0.05,
                    crop_bytes=1000.0, features=500, channels=2, height=100, width=200)
SIZE = Size(plates=4, wells=500, sites=1000, planes=2000, compounds=50, bytes=2_000_000_000,
            stated=True)
MORPHOLOGY = {"embed": {"backbone": "morphology"}}


def costs(size=SIZE, measured=MEASURED, jobs=2, speed=1.0, **sections):
    return {cost.stage: cost
            for cost in costs_of(size, measured, parse_params(sections), jobs, speed)}


def test_a_sample_has_the_bytes_crops_and_features_of_the_screen(tmp_path):
    folder = make_screen(tmp_path / "in", plates=2, wells=12, sites=2)
    params = parse_params(MORPHOLOGY)
    screen = read_screen(folder)
    found = measure(screen, params)
    assert (found.height, found.width) == (64, 80)
    assert found.planes == 2 * found.sites <= 2 * min(MANY, 24)
    sizes = [path.stat().st_size for path in folder.rglob("*.tif")]
    assert found.plane_bytes == pytest.approx(sum(sizes) / len(sizes), rel=0.01)
    assert found.features == features_of_screen(screen, params.prepare, params.embed).X.shape[1]
    assert min(found.read_site, found.embed_site, found.rate) > 0
    assert found.seconds < 30


def test_a_screen_is_counted_and_a_manifest_states_its_bytes(tmp_path):
    folder = make_screen(tmp_path / "in", plates=2, wells=6, sites=2)
    screen = read_screen(folder)
    assert size_of(screen, folder, 10.0) == Size(2, 12, 24, 48, 4, 480, False)
    manifest = make_manifest(screen)
    write_manifest(manifest, folder)
    assert size_of(screen, folder, 10.0) == Size(2, 12, 24, 48, 4, manifest["Bytes"].sum(), True)


def test_the_first_stages_cost_their_start_and_the_samples_cost_times_the_screen():
    found = costs()
    assert found["acquire"].processor == pytest.approx(
        STARTS["acquire"].processor + 1000 * 0.1 + 4 * 1.0)
    # What they need of the images is known by then.
    assert found["validate"].processor == STARTS["validate"].processor
    assert found["prepare"].processor == STARTS["prepare"].processor
    # Two processes halve the work, and not the start.
    assert found["embed"].clock == pytest.approx(STARTS["embed"].processor + 1000 * 0.05 / 2)
    assert found["prepare"].disk == 1_000_000
    assert [stage for stage, cost in found.items() if cost.measured] == ["acquire", "embed"]


def test_files_cannot_be_checked_faster_than_they_are_read():
    slow = costs(measured=replace(MEASURED, rate=1e6))["acquire"]
    assert slow.clock == pytest.approx(STARTS["acquire"].processor + 2e9 / 1e6 / 2)
    assert slow.processor == costs()["acquire"].processor


def test_heads_cost_by_trials_and_pairs_of_folds_and_a_faster_core_needs_less():
    few, many = costs(tune={"trials": 10})["tune"], costs(tune={"trials": 30})["tune"]
    none = costs(tune={"trials": 0})["tune"]
    assert many.processor - none.processor == pytest.approx(3 * (few.processor - none.processor))
    three = costs(split={"folds": 3, "repeats": 1})["train"]
    assert three.processor < costs(split={"folds": 5, "repeats": 2})["train"].processor
    fast = costs(speed=2.0)
    assert fast["tune"].processor == pytest.approx(costs()["tune"].processor / 2)
    # What was measured here is as fast as it was measured.
    assert fast["embed"].processor == pytest.approx(
        STARTS["embed"].processor / 2 + 1000 * 0.05)
    assert 0.05 < processor_speed() < 20


def test_memory_grows_with_features_and_sites_where_all_are_held():
    twice = costs(size=replace(SIZE, sites=2000, plates=2 * SIZE.plates))
    assert twice["tune"].memory - costs()["tune"].memory == pytest.approx(9 * 4 * 500 * 1000)
    # These hold a plate at a time.
    for stage in ("prepare", "embed"):
        assert twice[stage].memory == costs()[stage].memory
        assert costs(size=replace(SIZE, sites=2000))[stage].memory > costs()[stage].memory


def test_memory_does_not_grow_with_features_that_lie_on_disk():
    large = costs(size=replace(SIZE, sites=1_000_000))
    larger = costs(size=replace(SIZE, sites=2_000_000))
    for stage in ("activity", "tune", "train", "evaluate", "report"):
        assert larger[stage].memory == large[stage].memory > costs()[stage].memory
    assert larger["split"].memory > large["split"].memory


def test_fine_tuning_is_not_planned():
    with pytest.raises(MoascopeError, match=r"train\.fine_tune is set"):
        costs(train={"fine_tune": {}})


def test_lines_fit_a_terminal_and_say_what_is_measured_and_what_is_computed():
    huge = Size(160_000, 10**8, 10**8, 3 * 10**8, 10**6, 790 * 10**12, False)
    for size in (SIZE, huge):
        lines = plan_lines(size, MEASURED, list(costs(size=size).values()), 2)
        assert max(map(len, lines)) <= 80
    said = " ".join(lines)
    assert "about 790.0 TB" in said
    assert "Measured on this machine: 10 sites (20 planes) in 2 s" in said
    assert "Computed:" in said


def test_the_command_plans_the_screen_of_a_project_and_names_what_is_missing(
        tmp_path, monkeypatch, capsys):
    make_screen(tmp_path / "data/acquire", wells=6)
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    app(["plan", "-S", "embed.backbone=morphology"], standalone_mode=False)
    said = capsys.readouterr().out
    assert said.startswith("1 plate, 6 wells, 12 sites, 24 planes of 80 x 64 pixels, about ")
    assert "tune" in said
    (tmp_path / "data").rename(tmp_path / "away")
    with pytest.raises(MoascopeError, match=r"Nothing is acquired yet.*dvc repro acquire"):
        plan_screen(None, parse_params({}))
    params = parse_params({"acquire": {"source": "folder", "path": str(tmp_path / "away/acquire")},
                           **MORPHOLOGY})
    assert plan_screen(None, params)[0].startswith("1 plate")


def test_unreadable_images_and_screens_without_images_end_in_a_sentence(tmp_path):
    folder = make_screen(tmp_path / "in", wells=4)
    for path in folder.rglob("*.tif"):
        path.write_bytes(b"no image")
    with pytest.raises(MoascopeError, match="None of the sampled sites can be read"):
        plan_screen(folder, parse_params(MORPHOLOGY))
    layout = pd.read_csv(folder / "layout.csv")
    layout[["Metadata_Plate", "Metadata_Well"]].assign(Cells_Area=[1.0, 2.0, 3.0, 4.0]).to_csv(
        folder / "profiles.csv", index=False)
    (folder / "load_data.csv").unlink()
    with pytest.raises(MoascopeError, match="has profiles and no images"):
        plan_screen(folder, parse_params({}))
