"""Frozen backbones: from 8-bit grey planes to vectors, each channel by itself."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moascope.errors import MoascopeError
from moascope.features import morphology
from moascope.features.inference import (
    compile_model,
    kept_conversion,
    read_network,
    write_network,
)
from moascope.features.table import LABELS, label_of
from moascope.features.turns import averaged
from moascope.params import BACKBONES, WITHOUT_NETWORK, Embed
from moascope.quiet import import_keras
from moascope.work.code import code_digest

# Comes with the package: `docs/cellmobile.md` says what it learnt from.
PACKAGED = {"cellmobile": Path(__file__).parent / "cellmobile.keras"}


@dataclass(frozen=True)
class Backbone:
    """A function from crops to features.

    Attributes
    ----------
    label : str
        First part of the names of its features.
    names : tuple of str
        Last part of the names, one per feature of a plane.
    planes : callable
        uint8 [n, crop, crop] -> float32 [n, len(names)].
    pair_names : tuple of str
        One per feature of a pair of channels; empty if channels are never seen together.
    pairs : callable or None
        uint8 [n, crop, crop] twice -> float32 [n, len(pair_names)].
    """

    label: str
    names: tuple[str, ...]
    planes: Callable[[np.ndarray], np.ndarray]
    pair_names: tuple[str, ...] = ()
    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class _Application:
    """A network of keras.applications and the file that its ImageNet weights come in."""

    file: str
    address: str
    build: Callable[[int, str | None], Any]
    prepare: Callable[[Any], Any]


def open_backbone(name: str, weights: Path | None, precision: str, turns: int,
                  crop: int) -> Backbone:
    """Load a backbone.

    Parameters
    ----------
    name : str
        One of `params.BACKBONES`, or the path of a user's own Keras model.
    weights : Path or None
        From `find_weights`.
    precision : {"f32", "bf16"}
        Of the arithmetic in networks.
    turns : {1, 4, 8}
        In how many positions a network sees each plane; its features are the mean; see
        `turns.averaged`.
    crop : int
        Side of the crops, pixels.

    Raises
    ------
    MoascopeError
        If the file is not the weights or the model that it should be.
    """
    if name == "morphology":
        return Backbone(label_of(name), morphology.NAMES, morphology.measure,
                        morphology.PAIR_NAMES, morphology.measure_pairs)

    brought = brought_with(weights, crop)
    model = read_network(brought) if brought.is_file() else _converted(name, weights, crop)
    width = model.output(0).partial_shape[-1].get_length()
    return Backbone(label_of(name), tuple(f"{index:04d}" for index in range(width)),
                    averaged(compile_model(model, precision), turns))


def brought_with(weights: Path, crop: int) -> Path:
    """Where a model folder keeps a weights file's network as OpenVINO runs it."""
    return weights.with_suffix(f".{crop}.openvino.xml")


def bring_networks(weights: Mapping[str, Path], crop: int) -> None:
    """Put the network as OpenVINO runs it beside each weights file of a model folder.

    Whoever serves the model then needs neither Keras nor TensorFlow.

    Parameters
    ----------
    weights : mapping of str to Path
        Backbone -> its file in the folder.
    crop : int
        Side of the crops, pixels.
    """
    for name, file in weights.items():
        write_network(_converted(name, file, crop), brought_with(file, crop))


def _converted(name: str, weights: Path, crop: int) -> Any:
    def build() -> tuple[Any, Callable[[Any], Any] | None]:
        if name in APPLICATIONS:
            return load_imagenet(name, weights, crop), APPLICATIONS[name].prepare
        return load_own(weights), None

    told = (APPLICATIONS[name].file if name in APPLICATIONS else "", weights_digest(weights),
            code_digest(load_imagenet, load_own))
    try:
        return kept_conversion("\n".join(told), build, crop)
    except ModuleNotFoundError as error:
        raise MoascopeError(
            f"The network {label_of(name)} needs TensorFlow, which is not installed here "
            f"({error}). Register the model again with this version, which brings its network "
            "along, or install all of moascope.") from None


def is_deep(settings: Embed) -> bool:
    """Whether a network is among the backbones."""
    return any(name not in WITHOUT_NETWORK for name in settings.backbones)


def weights_digest(weights: Path | None) -> str:
    """SHA-256 of a backbone's weights file; empty for a backbone without weights."""
    if weights is None:
        return ""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keras_models_folder() -> Path:
    """Where Keras keeps downloaded weights."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def find_weights(name: str, settings: Embed, knob: str = "embed.weights") -> Path | None:
    """The weights file of a backbone: as given, else from Keras's cache or a download.

    Parameters
    ----------
    name : str
        One of the backbones of `settings`.
    settings : Embed
    knob : str
        The parameter's name, for messages.

    Returns
    -------
    Path or None
        None for a backbone without weights.

    Raises
    ------
    MoascopeError
        If the file is not available (the message says what to do) or is not an HDF5 file. Weights
        are never random.
    """
    if name in WITHOUT_NETWORK:
        return None
    told = settings.weights
    if name in PACKAGED:
        # A registered model brings the file that it was trained with.
        own = Path(told[name]) if isinstance(told, dict) and name in told else PACKAGED[name]
        if not own.is_file():
            raise MoascopeError(f"There is no file {own}. It comes with moascope: reinstall "
                                "moascope.")
        return own
    if isinstance(told, str) and sum(n in APPLICATIONS for n in settings.backbones) > 1:
        raise MoascopeError("embed.weights is one file, but several backbones need one. Write "
                            "embed.weights as backbone: file, one per line.")
    weights = told.get(name) if isinstance(told, dict) else told
    if name not in APPLICATIONS:
        own = Path(weights if isinstance(told, dict) and weights else name)
        if not own.is_file():
            raise MoascopeError(f"embed.backbone: there is no file {own}. Give the path of a Keras "
                                f"model, or one of {', '.join(BACKBONES)}.")
        return own
    application = APPLICATIONS[name]
    if weights and not Path(weights).is_file():
        raise MoascopeError(f"{knob}: there is no file {weights}. Give the path of "
                            f"{application.file}, or leave {knob} empty.")
    cached = keras_models_folder() / application.file
    path = Path(weights) if weights else cached if cached.is_file() else _download(name)
    with path.open("rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise MoascopeError(f"{path} is not an HDF5 weights file, or its download is "
                                f"incomplete. {knob.split('.')[0]} needs {application.file}.")
    return path


def load_own(path: Path) -> Any:
    """Read a user's own Keras model without running any code in it.

    Parameters
    ----------
    path : Path
        A `.keras` file. Its input is [n, h, w, 1] or [n, h, w, 3] with values from 0 to 255, so
        rescaling is part of the model. Its output is one vector per image or a feature map,
        which is averaged.

    Returns
    -------
    keras.Model
        [n, h, w, 1 or 3] -> [n, features].

    Raises
    ------
    MoascopeError
        If the file is not such a model, or would run code of its own (Keras's safe mode).
    """
    keras = import_keras()

    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a broken or unsafe file leads it to.
        raise MoascopeError(f"{path} cannot be loaded as a Keras model in safe mode "
                            f"({_first_line(error)}).") from None
    taken, given = getattr(network, "input_shape", None), getattr(network, "output_shape", None)
    if (not isinstance(taken, tuple) or len(taken) != 4 or taken[-1] not in (1, 3)
            or not isinstance(given, tuple) or len(given) not in (2, 4) or given[-1] is None):
        raise MoascopeError(
            f"{path} takes {taken} and gives {given}. A backbone takes images [n, height, width, "
            "1 or 3] and gives vectors [n, features] or maps [n, height, width, features].")
    if len(given) == 4:
        network = keras.Sequential([network, keras.layers.GlobalAveragePooling2D()])
        network.build(taken)
    return network


def build_student(width: float, size: int | None, features: int, sees: int) -> Any:
    """A small single-channel MobileNetV2 with random weights.

    Parameters
    ----------
    width : float
        Share of the channels of MobileNetV2 [1]_ (Keras's `alpha`).
    size : int or None
        Side of its input, pixels; None for any size.
    features : int
        Number of outputs.
    sees : int
        Side to which the input is resized, pixels.

    Returns
    -------
    keras.Model
        [n, size, size, 1], 0 to 255 -> [n, features].

    Notes
    -----
    .. [1] Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018.
    """
    keras = import_keras()

    grey = keras.Input((size, size, 1))
    network = keras.applications.MobileNetV2(input_shape=(sees, sees, 1), alpha=width,
                                             include_top=False, weights=None, pooling="avg")
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99
    image = grey if size == sees else keras.layers.Resizing(sees, sees)(grey)
    pooled = network(keras.layers.Rescaling(1 / 127.5, offset=-1)(image))
    return keras.Model(grey, keras.layers.Dense(features, name="teacher")(pooled))


def load_imagenet(name: str, weights: Path, crop: int) -> Any:
    """Build a keras.applications network without its top, with the weights of a file.

    Returns
    -------
    keras.Model
        [n, crop, crop, 3], preprocessed -> [n, features].

    Raises
    ------
    MoascopeError
        If the weights do not fit the network.
    """
    application = APPLICATIONS[name]
    try:
        return application.build(crop, str(weights))
    except (ValueError, OSError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise MoascopeError(
            f"{weights} does not hold the weights of {LABELS[name]} without its top "
            f"({_first_line(error)}). embed needs {application.file}."
        ) from None


def _download(name: str) -> Path:
    keras = import_keras()

    application = APPLICATIONS[name]
    try:
        with _patience(seconds=10), contextlib.redirect_stdout(io.StringIO()):
            return Path(keras.utils.get_file(
                application.file, application.address + application.file,
                cache_dir=keras_models_folder().parent, cache_subdir="models"))
    except Exception as error:  # Keras turns every failure of the network into a bare Exception.
        raise MoascopeError(
            f"The ImageNet weights of {name} are not on this machine and cannot be downloaded "
            f"({_first_line(error)}). Either set embed.weights to the path of {application.file}, "
            f"or put that file into {keras_models_folder()}, or set embed.backbone to cellmobile, "
            "whose weights come with moascope."
        ) from None


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    import socket

    before = socket.getdefaulttimeout()
    # A firewall that drops packets would otherwise hold the first run for minutes.
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _first_line(error: BaseException) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return line if len(line) <= 160 else line[:157] + "..."


def _build_mobilenetv2(crop: int, weights: str | None) -> Any:
    keras = import_keras()

    return keras.applications.MobileNetV2(input_shape=(crop, crop, 3), include_top=False,
                                          weights=weights, pooling="avg")


def _build_resnet50(crop: int, weights: str | None) -> Any:
    keras = import_keras()

    return keras.applications.ResNet50(input_shape=(crop, crop, 3), include_top=False,
                                       weights=weights, pooling="avg")


def _prepare_mobilenetv2(colour: Any) -> Any:
    keras = import_keras()

    return keras.layers.Rescaling(1 / 127.5, offset=-1)(colour)


def _prepare_resnet50(colour: Any) -> Any:
    keras = import_keras()

    # The Caffe convention: means of ImageNet in the order blue, green, red. The three channels
    # of a grey plane are equal, so that their order does not matter.
    return keras.layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68])(colour)


_STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
APPLICATIONS = {
    "mobilenetv2": _Application(
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        f"{_STORE}/mobilenet_v2/",
        _build_mobilenetv2, _prepare_mobilenetv2),
    "resnet50": _Application(
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        f"{_STORE}/resnet/",
        _build_resnet50, _prepare_resnet50),
}
