"""A student learns from planes, goes on after a kill, and is a backbone afterwards."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import make_screen

from moascope.distillation.distil import distil
from moascope.distillation.planes import collect_planes, cut_crops
from moascope.distillation.student import CHECKPOINT, STATE, Recipe, _fit_last, train_student
from moascope.errors import MoascopeError
from moascope.features.backbones import build_student, open_backbone
from moascope.screen.description import write_description

RECIPE = Recipe(size=32, sees=32, start="random", features=2, crops=96, batch=16,
                learning_rate=1e-3)


@pytest.fixture(scope="module")
def planes(tmp_path_factory):
    folder = make_screen(tmp_path_factory.mktemp("planes") / "screen", size=128)
    return collect_planes([folder], 100, seed=0)


def build_tiny(width, size, features, sees):
    """In place of MobileNetV2, whose fifty layers take half a minute to trace."""
    import keras

    grey = keras.Input((size, size, 1))
    hidden = keras.layers.Rescaling(1 / 127.5, offset=-1)(grey)
    for count in (8, 16):
        hidden = keras.layers.Conv2D(count, 3, strides=2, use_bias=False)(hidden)
        hidden = keras.layers.BatchNormalization(momentum=0.99)(hidden)
        hidden = keras.layers.ReLU()(hidden)
    pooled = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(grey, keras.layers.Dense(features)(pooled))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("moascope.distillation.student.build_student", build_tiny)


def teach(crops):
    """A teacher of known features: brightness, contrast, and brightness of the upper half."""
    values = crops.astype(np.float32) / 255
    return np.stack([values.mean((1, 2)), values.std((1, 2)), values[:, :16].mean((1, 2))], 1)


def test_planes_of_16_bits_come_as_8_and_a_large_folder_does_not_drown_a_small_one(tmp_path):
    small = make_screen(tmp_path / "small", size=128, wells=2, controls=0)
    large = make_screen(tmp_path / "large", size=128, wells=8)
    found = collect_planes([small, large], 100, seed=0)
    assert all(plane.dtype == np.uint8 for plane in found.pixels)
    assert found.share.sum() == pytest.approx(1)
    of_small = np.array([name == str(small) for name in found.source])
    assert of_small.mean() == pytest.approx(0.2)
    assert found.share[of_small].sum() == pytest.approx(1 / 3)


def test_a_folder_of_images_needs_no_tables_and_an_empty_one_is_an_error(tmp_path):
    folder = make_screen(tmp_path / "screen", size=128)
    (folder / "load_data.csv").unlink()
    assert len(collect_planes([folder], 5, seed=0).pixels) == 5
    (tmp_path / "empty").mkdir()
    with pytest.raises(MoascopeError, match="holds no image plane"):
        collect_planes([tmp_path / "empty"], 5, seed=0)


def test_planes_outside_a_received_screen_are_read_only_where_that_is_allowed(tmp_path):
    folder = make_screen(tmp_path / "screen", size=128)
    tables = tmp_path / "received"
    tables.mkdir()
    for name in ("load_data.csv", "layout.csv", "annotations.csv"):
        (folder / name).rename(tables / name)
    write_description(tables, {"images": str(folder)})
    with pytest.raises(MoascopeError, match=r"lie outside the folder.*Add --allow-outside"):
        collect_planes([tables], 5, seed=0)
    assert len(collect_planes([tables], 5, seed=0, allow_outside=True).pixels) == 5


def test_crops_depend_on_the_seed_alone(planes):
    one, two, other = (cut_crops(planes, 20, 32, np.random.default_rng(seed))
                       for seed in (1, 1, 2))
    assert one.shape == (20, 32, 32) and one.dtype == np.uint8
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_a_killed_training_ends_in_the_student_of_an_unbroken_one(planes, tiny, tmp_path,
                                                                  monkeypatch):
    monkeypatch.setattr("moascope.distillation.student.SAVED_EVERY", 2)
    whole = train_student(planes, teach, RECIPE, tmp_path / "whole", "told")
    calls = 0

    def teach_until_killed(crops):
        nonlocal calls
        calls += 1
        if calls > 256 + 5:
            raise KeyboardInterrupt
        return teach(crops)

    with pytest.raises(KeyboardInterrupt):
        train_student(planes, teach_until_killed, RECIPE, tmp_path / "broken", "told")
    state = json.loads((tmp_path / "broken" / STATE).read_text())
    assert 0 < state["step"] < RECIPE.steps and (tmp_path / "broken" / CHECKPOINT).exists()
    resumed = train_student(planes, teach, RECIPE, tmp_path / "broken", "told")
    crops = cut_crops(planes, 8, 32, np.random.default_rng(5))[..., np.newaxis].astype(np.float32)
    np.testing.assert_allclose(resumed.predict(crops, verbose=0), whole.predict(crops, verbose=0),
                               rtol=1e-3, atol=1e-3)


def test_a_student_learns_what_its_teacher_says(planes, tiny, tmp_path):
    losses = []
    recipe = Recipe(size=32, sees=32, start="random", features=3, crops=6400, batch=32,
                    learning_rate=3e-3)
    student = train_student(planes, teach, recipe, tmp_path, "told",
                            lambda step, loss: losses.append(loss))
    assert losses[-1] < 0.5 * losses[0]
    crops = cut_crops(planes, 200, 32, np.random.default_rng(99))
    said = student.predict(crops[..., np.newaxis].astype(np.float32), verbose=0)
    # What it says at rest is what it learnt: its normalisations follow their data.
    fit, *_ = np.linalg.lstsq(np.c_[said, np.ones(200)], teach(crops)[:, 0])
    brightness = np.c_[said, np.ones(200)] @ fit
    assert np.corrcoef(brightness, teach(crops)[:, 0])[0, 1] > 0.9


def test_a_students_targets_keep_the_geometry_of_its_teachers_features():
    from moascope.distillation.student import _projection

    generator = np.random.default_rng(0)
    taught = generator.normal(size=(500, 3)) @ generator.normal(size=(3, 40)) * 7 + 5
    center, kernel = _projection(taught, 3, seed=0)
    asked = (taught - center) @ kernel
    # Distances are those between standardised features, up to one factor; and no output is weak.
    standardised = (taught - taught.mean(0)) / taught.std(0)
    ratio = (np.linalg.norm(asked[:100] - asked[100:200], axis=1)
             / np.linalg.norm(standardised[:100] - standardised[100:200], axis=1))
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert asked.var(axis=0).mean() == pytest.approx(1, rel=1e-3)


def test_a_narrower_student_starts_from_its_teachers_channels():
    import keras

    from moascope.distillation.student import _start_from

    keras.utils.set_random_seed(0)
    teacher = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False,
                                             weights=None, pooling="avg")
    # The same width: the student says, of grey planes, exactly what the teacher says.
    student = build_student(1.0, 64, 2, 64)
    kernel = np.random.default_rng(0).normal(size=(1280, 2)).astype(np.float32)
    _start_from(teacher, student)
    student.layers[-1].set_weights([kernel, np.zeros(2, np.float32)])
    crops = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 1)).astype(np.float32)
    wide = teacher.predict(np.repeat(crops, 3, -1) / 127.5 - 1, verbose=0)
    np.testing.assert_allclose(student.predict(crops, verbose=0), wide @ kernel, rtol=1e-3,
                               atol=1e-3)
    narrow = build_student(0.35, 64, 2, 64)
    _start_from(teacher, narrow)
    first = narrow.get_layer(index=-2).get_layer("Conv1").get_weights()[0]
    of_teacher = teacher.get_layer("Conv1").get_weights()[0].sum(axis=2, keepdims=True)
    assert all(any(np.allclose(first[..., i], of_teacher[..., j]) for j in range(32))
               for i in range(16))


def test_a_training_may_be_given_more_crops(planes, tiny, tmp_path):
    train_student(planes, teach, RECIPE, tmp_path / "one", "told")
    more = replace(RECIPE, crops=192)
    train_student(planes, teach, more, tmp_path / "one", "told")
    state = json.loads((tmp_path / "one" / STATE).read_text())
    assert state["asked"] == [[0, 96], [6, 192]] and state["step"] == 12
    assert [row[0] for row in state["curve"]] == [6, 12]


def test_the_last_layer_is_fitted_to_the_chosen_features():
    student = build_tiny(1, 32, 3, 32)
    crops = np.random.default_rng(0).integers(0, 256, (400, 32, 32)).astype(np.uint8)
    crops = (crops * np.random.default_rng(1).uniform(0.1, 1, (400, 1, 1))).astype(np.uint8)
    wanted = teach(crops)
    _fit_last(student, crops, wanted)
    said = student.predict(crops[..., np.newaxis].astype(np.float32), verbose=0)
    assert np.corrcoef(said[:, 0], wanted[:, 0])[0, 1] > 0.9


def test_distilling_from_a_users_model_ends_in_a_backbone_with_its_card(tiny, tmp_path,
                                                                        monkeypatch):
    import keras

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    folder = make_screen(tmp_path / "screen", size=128)
    keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Rescaling(1 / 255),
                      keras.layers.Conv2D(6, 3)]).save("teacher.keras")
    sentence = distil([folder], tmp_path / "out", "teacher.keras", None,
                      replace(RECIPE, features=4), 50)
    assert "4 features" in sentence
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["sources"]["screen"]["planes"] == 32
    assert card["teacher"] == "teacher" and card["recipe"]["crops"] == 96
    path = tmp_path / "out" / "student.keras"
    features = open_backbone(str(path), path, "f32", 1, 48).planes(np.zeros((3, 48, 48), np.uint8))
    assert features.shape == (3, 4)
    with pytest.raises(MoascopeError, match="gives 6 features"):
        distil([folder], tmp_path / "more", "teacher.keras", None, replace(RECIPE, features=7), 50)
    with pytest.raises(MoascopeError, match="is not a teacher"):
        distil([folder], tmp_path / "more", "vgg", None, RECIPE, 50)


def test_the_student_is_a_small_network_of_one_channel_and_any_size():
    model = build_student(0.35, None, 10, 96)
    assert model.input_shape == (None, None, None, 1)
    assert 400_000 < model.count_params() < 450_000
    assert model.predict(np.zeros((2, 64, 96, 1), np.float32), verbose=0).shape == (2, 10)
