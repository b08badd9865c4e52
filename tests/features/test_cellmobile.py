"""The backbone that comes with moascope: there without a network, and steady where cells are."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make_screen

from moascope.errors import MoascopeError
from moascope.features.backbones import PACKAGED, Backbone, find_weights, open_backbone
from moascope.features.embed import features_of_screen
from moascope.params import Embed, Prepare
from moascope.screen.tables import read_screen
from moascope.sources.simulated.cells import draw_field
from moascope.sources.simulated.compounds import KNOBS
from moascope.sources.simulated.markers import panel_parts
from moascope.sources.simulated.seeds import stream

CARD = Path(__file__).parents[2] / "docs" / "cellmobile.md"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return open_backbone("cellmobile", find_weights("cellmobile", Embed()), "f32", 1, 128)


@pytest.fixture(scope="module")
def planes() -> np.ndarray:
    """uint8 [36, 128, 128]: three stains of twelve fields of cells, each drawn to other knobs."""
    fields = []
    for number in range(12):
        knobs = np.random.default_rng(number).normal(0, 1, len(KNOBS))
        light = draw_field(stream(number, "field"), knobs, *panel_parts("A549 ACTB-RAB5A"), 128)
        low, high = np.percentile(light, [0.1, 99.9], axis=(1, 2), keepdims=True)
        fields.append(np.clip((light - low) / (high - low) * 200 + 10, 0, 255).astype(np.uint8))
    return np.concatenate(fields)


def moved(backbone: Backbone, before: np.ndarray, after: np.ndarray) -> float:
    """Median distance of a plane and its change, in shares of that of two fields of one stain."""
    a, b = backbone.planes(before), backbone.planes(after)
    between = np.linalg.norm(a - np.roll(a, 3, axis=0), axis=1)
    return float(np.median(np.linalg.norm(a - b, axis=1)) / np.median(between))


def test_it_is_the_default_and_needs_nothing_but_the_package(monkeypatch, tmp_path):
    def refuse(*_arguments, **_options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert Embed().backbone == "cellmobile"
    file = find_weights("cellmobile", Embed())
    assert file == PACKAGED["cellmobile"] and file.stat().st_size < 4e6
    black = np.zeros((2, 64, 64), np.uint8)
    features = open_backbone("cellmobile", file, "f32", 1, 64).planes(black)
    assert features.shape == (2, 256) and np.isfinite(features).all()


def test_a_model_that_brings_its_own_copy_predicts_with_that_copy(tmp_path):
    settings = Embed(weights={"cellmobile": str(tmp_path / "older.keras")})
    with pytest.raises(MoascopeError, match="comes with moascope"):
        find_weights("cellmobile", settings)
    (tmp_path / "older.keras").touch()
    assert find_weights("cellmobile", settings) == tmp_path / "older.keras"


def test_its_card_is_about_this_very_file():
    digest = hashlib.sha256(PACKAGED["cellmobile"].read_bytes()).hexdigest()
    card = json.loads(re.search(r"```json\n(.*?)```", CARD.read_text(), re.DOTALL)[1])
    assert card["sha256"] == digest
    assert card["bytes"] == PACKAGED["cellmobile"].stat().st_size


@pytest.mark.parametrize("turn", [
    lambda planes: np.rot90(planes, axes=(1, 2)),
    lambda planes: planes[:, :, ::-1],
    lambda planes: planes[:, ::-1, ::-1],
])
def test_a_turned_or_flipped_field_stays_near_itself(backbone, planes, turn):
    assert moved(backbone, planes, np.ascontiguousarray(turn(planes))) < 0.5


def test_another_exposure_stays_nearer_than_another_field(backbone, planes):
    brighter = np.clip(planes * 1.15 + 5, 0, 255).astype(np.uint8)
    assert moved(backbone, planes, brighter) < 0.7


def test_what_it_must_not_overlook_moves_it_further(backbone, planes):
    """The other tests would pass for a network that says the same of everything."""
    from scipy.ndimage import gaussian_filter

    blurred = np.stack([gaussian_filter(plane, 4) for plane in planes])
    assert moved(backbone, planes, blurred) > moved(backbone, planes, planes[:, :, ::-1].copy())
    stains = backbone.planes(planes).reshape(12, 3, -1)
    within = np.linalg.norm(stains - np.roll(stains, 1, axis=0), axis=2)
    across = np.linalg.norm(stains - np.roll(stains, 1, axis=1), axis=2)
    assert np.median(across) > np.median(within)


def test_a_cameras_gain_and_offset_change_nothing_that_the_scaling_takes_out(tmp_path):
    """Raw counts times 1.5 plus 200: the plate's own percentiles bring back the same crops."""
    import tifffile

    prepare = Prepare(crop=64, crops=1, scale="plate", flat_field=False)
    tables = []
    for name in ("one", "two"):
        folder = make_screen(tmp_path / name, size=64)
        for path in folder.rglob("*.tif"):
            plane = tifffile.imread(path).astype(float)
            if name == "two":
                tifffile.imwrite(path, np.rint(plane * 1.5 + 200).astype(np.uint16))
        tables.append(features_of_screen(read_screen(folder), prepare, Embed(), tmp_path / "work"
                                         / name))
    one, two = (table.X[:, ["CellMobile" in column for column in table.names]] for table in tables)
    assert one.shape == two.shape and one.shape[1] == 512
    between = np.linalg.norm(one - np.roll(one, 1, axis=0), axis=1)
    assert np.linalg.norm(one - two, axis=1).max() < 0.05 * np.median(between)


def test_the_order_of_tiles_does_not_matter(backbone, planes):
    tiles = planes[:4]
    forwards, backwards = (backbone.planes(order).mean(axis=0) for order in (tiles, tiles[::-1]))
    np.testing.assert_allclose(forwards, backwards, rtol=1e-5, atol=1e-5)
