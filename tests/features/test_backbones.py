"""Networks as backbones: equal to Keras, and never with random weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moascope.errors import MoascopeError
from moascope.features.backbones import (
    APPLICATIONS,
    PACKAGED,
    bring_networks,
    find_weights,
    load_imagenet,
    load_own,
    open_backbone,
)
from moascope.features.inference import EXACT_CONVOLUTIONS, compile_for_cpu, kept_conversion
from moascope.features.table import LABELS
from moascope.params import BACKBONES, WITHOUT_NETWORK, Embed
from moascope.params_file import parse_params

PLANES = np.random.default_rng(0).integers(0, 256, (37, 96, 96)).astype(np.uint8)


@pytest.fixture
def empty_keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_importing_the_features_loads_no_heavy_library():
    code = ("import sys, moascope.features.embed, moascope.features.normalise;"
            "heavy = {'tensorflow', 'keras', 'openvino', 'sklearn', 'skimage', 'matplotlib'};"
            "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_backbone_of_the_parameters_exists():
    assert set(LABELS) == set(BACKBONES) == {*WITHOUT_NETWORK, *PACKAGED, *APPLICATIONS}


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50"])
def test_missing_weights_end_in_one_sentence_with_three_remedies(name, empty_keras_home,
                                                                 no_network):
    with pytest.raises(MoascopeError) as caught:
        find_weights(name, Embed(backbone=name))
    (sentence,) = caught.value.problems
    assert "embed.weights" in sentence
    assert str(empty_keras_home / "models") in sentence
    assert "embed.backbone to cellmobile" in sentence
    assert APPLICATIONS[name].file in sentence


def test_a_path_without_a_file_is_an_error():
    with pytest.raises(MoascopeError, match=r"there is no file nowhere\.h5"):
        find_weights("mobilenetv2", Embed(backbone="mobilenetv2", weights="nowhere.h5"))


def test_a_file_that_is_not_hdf5_is_an_error(tmp_path):
    page = tmp_path / "weights.h5"
    page.write_text("<html>404</html>")
    with pytest.raises(MoascopeError, match="not an HDF5 weights file"):
        find_weights("mobilenetv2", Embed(backbone="mobilenetv2", weights=str(page)))


def test_the_cache_of_keras_is_found(empty_keras_home):
    file = empty_keras_home / "models" / APPLICATIONS["resnet50"].file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert find_weights("resnet50", Embed(backbone="resnet50")) == file


def test_weights_of_another_network_are_refused(tmp_path):
    import h5py

    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = [b"kernel"]
        file["dense"]["kernel"] = np.zeros((3, 4), np.float32)
    with pytest.raises(MoascopeError, match="does not hold the weights of MobileNetV2"):
        load_imagenet("mobilenetv2", other, 96)


def test_openvino_gives_what_keras_gives():
    import keras

    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=0.35, weights=None,
                                             include_top=False, pooling="avg")
    infer = compile_for_cpu(network, APPLICATIONS["mobilenetv2"].prepare, 96, "f32")
    colour = np.repeat(PLANES[..., np.newaxis], 3, axis=-1).astype(np.float32)
    expected = network.predict(keras.applications.mobilenet_v2.preprocess_input(colour.copy()),
                               verbose=0)
    assert np.abs(infer(PLANES) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.array_equal(infer(PLANES[:5]), infer(PLANES)[:5])
    assert infer(PLANES[:0]).shape == (0, expected.shape[1])


def test_the_preprocessing_is_that_of_the_applications():
    import keras

    colour = np.repeat(PLANES[:2, ..., np.newaxis], 3, axis=-1).astype(np.float32)
    for name, module in [("mobilenetv2", keras.applications.mobilenet_v2),
                         ("resnet50", keras.applications.resnet)]:
        ours = np.asarray(APPLICATIONS[name].prepare(colour))
        assert np.allclose(ours, module.preprocess_input(colour.copy()), atol=1e-4), name


@pytest.mark.real
def test_imagenet_weights_give_features_of_their_own():
    folder = Path(__file__).parents[3] / "shared" / "weights"
    weights = folder / APPLICATIONS["mobilenetv2"].file
    if not weights.is_file():
        pytest.skip(f"no ImageNet weights at {folder}")
    backbone = open_backbone("mobilenetv2", weights, "f32", 1, 96)
    features = backbone.planes(PLANES[:4])
    assert features.shape == (4, 1280) == (4, len(backbone.names))
    assert np.isfinite(features).all() and features.std() > 0.1
    # Dark cells on darker ground, where rounding costs most.
    y, x = np.mgrid[:96, :96]
    cells = [20 + 60 * np.exp(-((y - 30 - i) ** 2 + (x - 50) ** 2) / 90) for i in range(8)]
    dark = np.random.default_rng(0).poisson(cells).astype(np.uint8)
    exact, half = (open_backbone("mobilenetv2", weights, precision, 1, 96).planes(dark)
                   for precision in ("f32", "bf16"))
    assert np.corrcoef(exact.ravel(), half.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("backbone,problem", [
    ("efficientnet", "'efficientnet' is not a backbone"),
    ("morphology+efficientnet", "'efficientnet' is not a backbone"),
    ("morphology+morphology", "named twice"),
])
def test_an_unknown_backbone_is_an_error_that_lists_the_known_ones(backbone, problem):
    with pytest.raises(MoascopeError, match=problem):
        parse_params({"embed": {"backbone": backbone}})


def test_one_weights_file_cannot_serve_two_networks(tmp_path):
    settings = Embed(backbone="mobilenetv2+resnet50", weights=str(tmp_path / "one.h5"))
    with pytest.raises(MoascopeError, match="several backbones need one"):
        find_weights("mobilenetv2", settings)


def own_model(path, size=None, colours=1, layers=()):
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((size, size, colours)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(5, 3, strides=2, activation="relu"),
        *layers,
    ])
    model.save(path)
    return model


def test_a_users_own_model_is_a_backbone_and_its_maps_are_averaged(tmp_path):
    path = tmp_path / "my cells-2.keras"
    model = own_model(path)
    backbone = open_backbone(str(path), path, "f32", 1, 96)
    assert backbone.label == "mycells2"
    expected = model.predict(PLANES[..., np.newaxis].astype(np.float32), verbose=0).mean((1, 2))
    np.testing.assert_allclose(backbone.planes(PLANES), expected, rtol=1e-4, atol=1e-6)


def test_a_backbone_is_converted_once_and_opened_without_tensorflow_then(tmp_path, monkeypatch):
    import keras

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "own.keras"
    own_model(path)
    first = open_backbone(str(path), path, "f32", 1, 96).planes(PLANES)
    code = ("import sys, numpy as np; from pathlib import Path;"
            "from moascope.features.backbones import open_backbone;"
            "path = Path(sys.argv[1]); planes = np.load(sys.argv[2]);"
            "said = open_backbone(str(path), path, 'f32', 1, 96).planes(planes);"
            "assert np.array_equal(said, np.load(sys.argv[3]));"
            "sys.exit('tensorflow' in sys.modules)")
    np.save(tmp_path / "planes.npy", PLANES)
    np.save(tmp_path / "said.npy", first)
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "planes.npy",
                    tmp_path / "said.npy"], check=True)
    (kept,) = (tmp_path / "cache").rglob("model.xml")
    kept.write_text("<net")
    assert np.array_equal(open_backbone(str(path), path, "f32", 1, 96).planes(PLANES), first)
    assert kept.read_text() != "<net"
    # Another file of the same name is another backbone.
    own_model(path, layers=[keras.layers.Conv2D(4, 1)])
    assert open_backbone(str(path), path, "f32", 1, 96).planes(PLANES).shape == (37, 4)


def test_a_network_that_is_brought_along_is_opened_without_keras(tmp_path, monkeypatch):
    import keras

    path = tmp_path / "own.keras"
    own_model(path, layers=[keras.layers.Conv2D(4, 1)])
    expected = open_backbone(str(path), path, "f32", 1, 96).planes(PLANES)
    (tmp_path / "model").mkdir()
    kept = Path(shutil.copy(path, tmp_path / "model" / "backbone_0.keras"))
    bring_networks({str(path): kept}, 96)

    def absent() -> None:
        raise ModuleNotFoundError("No module named 'keras'")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("moascope.features.backbones.import_keras", absent)
    assert np.array_equal(open_backbone(str(path), kept, "f32", 1, 96).planes(PLANES), expected)
    # One that is not, or another size of crops, is converted, and that needs Keras.
    with pytest.raises(MoascopeError, match="needs TensorFlow, which is not installed"):
        open_backbone(str(path), kept, "f32", 1, 64)


def test_bfloat16_spares_the_first_layers_also_of_a_kept_conversion(tmp_path, monkeypatch):
    import keras
    import openvino

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "own.keras"
    own_model(path, layers=[keras.layers.Conv2D(16, 3, activation="relu") for _ in range(5)])
    bfloat16 = openvino.Type.bf16
    core = openvino.Core()
    for _ in range(2):
        model = kept_conversion("", lambda: (load_own(path), None), 96)
        graph = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": bfloat16})
        precisions = [layer.get_rt_info()["runtimePrecision"].astype(str)
                      for layer in graph.get_runtime_model().get_ordered_ops()
                      if layer.get_rt_info()["layerType"].astype(str) == "Convolution"]
        assert precisions[:EXACT_CONVOLUTIONS] == ["f32"] * EXACT_CONVOLUTIONS
        # The others are in what this processor makes of the wish.
        assert len(precisions) == 6
        if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            assert precisions[EXACT_CONVOLUTIONS:] == ["bf16"] * 3


def test_a_network_that_branches_early_runs_in_bfloat16():
    import keras

    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet50(input_shape=(32, 32, 3), weights=None,
                                          include_top=False, pooling="avg")
    planes = PLANES[:4, :32, :32]
    exact, half = (compile_for_cpu(network, None, 32, precision)(planes)
                   for precision in ("f32", "bf16"))
    assert np.linalg.norm(half - exact) < 0.1 * np.linalg.norm(exact)


def test_resizing_within_a_model_does_not_put_it_into_training():
    """Keras's resizing layers say so to what follows; batch statistics would be taken then."""
    import keras

    keras.utils.set_random_seed(0)
    grey = keras.Input((96, 96, 1))
    hidden = keras.layers.Conv2D(4, 3)(keras.layers.Resizing(32, 32)(grey))
    hidden = keras.layers.BatchNormalization()(hidden)
    network = keras.Model(grey, keras.layers.GlobalAveragePooling2D()(hidden))
    infer = compile_for_cpu(network, None, 96, "f32")
    expected = network.predict(PLANES[..., np.newaxis].astype(np.float32), verbose=0)
    np.testing.assert_allclose(infer(PLANES), expected, rtol=1e-3, atol=1e-3)


def test_a_converted_network_outlives_the_one_that_it_was_made_of(tmp_path, monkeypatch):
    import gc

    import keras

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "own.keras"
    build = keras.applications.MobileNetV2(input_shape=(64, 64, 1), alpha=0.35, weights=None,
                                           include_top=False, pooling="avg")
    keras.Model(build.inputs, keras.layers.Dense(64)(build.outputs[0])).save(path)
    del build
    backbone = open_backbone(str(path), path, "f32", 1, 64)
    planes = PLANES[:, :64, :64]
    first = backbone.planes(planes)
    for _ in range(5):
        keras.backend.clear_session()
        gc.collect()
        # Whoever takes the memory next writes into it.
        taken = [np.full(size, 1e30, np.float32) for size in (300, 3000, 30_000, 90_000) * 50]
        assert np.array_equal(backbone.planes(planes), first)
        del taken


def test_a_home_that_cannot_be_written_to_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "own.keras"
    own_model(path)
    assert open_backbone(str(path), path, "f32", 1, 96).planes(PLANES).shape == (37, 5)


def test_crops_are_brought_to_the_size_and_colours_that_an_own_model_takes(tmp_path):
    import keras

    path = tmp_path / "coloured.keras"
    model = own_model(path, size=48, colours=3, layers=[keras.layers.GlobalMaxPooling2D()])
    given = open_backbone(str(path), path, "f32", 1, 96).planes(PLANES)
    colour = np.repeat(PLANES[..., np.newaxis], 3, axis=-1).astype(np.float32)
    expected = model.predict(keras.layers.Resizing(48, 48)(colour), verbose=0)
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-4)


def test_a_model_that_would_run_code_of_its_own_is_refused(tmp_path):
    import keras

    path = tmp_path / "lambda.keras"
    own_model(path, layers=[keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten()], size=32)
    with pytest.raises(MoascopeError, match="cannot be loaded as a Keras model in safe mode"):
        load_own(path)


def test_a_model_of_tables_or_another_file_is_not_a_backbone(tmp_path):
    import keras

    keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)]).save(tmp_path / "table.keras")
    with pytest.raises(MoascopeError, match="A backbone takes images"):
        load_own(tmp_path / "table.keras")
    (tmp_path / "page.keras").write_text("<html>")
    with pytest.raises(MoascopeError, match="cannot be loaded as a Keras model"):
        load_own(tmp_path / "page.keras")
    with pytest.raises(MoascopeError, match="there is no file"):
        find_weights("gone.keras", Embed(backbone="gone.keras"))
