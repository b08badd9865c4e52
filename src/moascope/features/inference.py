"""Keras networks through OpenVINO on CPUs: grey planes in, vectors out."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moascope.quiet import import_keras
from moascope.work.code import code_digest
from moascope.work.processors import processor_limit, usable_processors
from moascope.work.ray import RAY

# Planes a request: the widest layer of 128 px planes, 1.5 MB each in MobileNetV2, stays in a
# processor's third cache.
BATCH = 16
# The first convolutions of a network stay in single precision, whatever the others are in. The
# contrasts of dark pictures are small differences of large numbers there, and one depthwise
# convolution of MobileNetV2 multiplies them: of its bfloat16 features 38 % of the norm were
# rounding, and 9 % are with these three exempt (`benchmarks/embed.py`), at the same speed.
EXACT_CONVOLUTIONS = 3
MOST_KEPT = 8  # converted networks on a machine


def kept_conversion(told: str, build: Callable[[], tuple[Any, Callable[[Any], Any] | None]],
                    crop: int) -> Any:
    """A network as an OpenVINO model, cached because TensorFlow takes seconds to import.

    Parameters
    ----------
    told : str
        Identifies everything that determines what `build` returns.
    build : callable
        () -> network, prepare: the arguments of `convert`; called if nothing is cached.
    crop : int
        Side of the planes, pixels.

    Returns
    -------
    openvino.Model
        As `convert` returns it.
    """
    # The digest has the versions of OpenVINO and Keras in it, which decide what a conversion gives.
    told = "\n".join([told, str(crop), code_digest(convert)])
    key = hashlib.sha256(told.encode()).hexdigest()
    # A cache is never a reason to fail: a file of it that cannot be read is made anew, and a user
    # without a home has none.
    with contextlib.suppress(RuntimeError, OSError):
        return read_network(_cache_folder() / key / "model.xml")
    model = convert(*build(), crop)
    with contextlib.suppress(RuntimeError, OSError):
        folder = _cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            write_network(model, Path(partial) / "model" / "model.xml")
            shutil.rmtree(folder / key, ignore_errors=True)
            (Path(partial) / "model").rename(folder / key)
        for old in sorted(folder.glob("*/model.xml"), key=_changed)[:-MOST_KEPT]:
            shutil.rmtree(old.parent, ignore_errors=True)
    return model


def read_network(file: Path) -> Any:
    """Read what `write_network` wrote.

    Returns
    -------
    openvino.Model
        As `convert` returns it.
    """
    import openvino

    return openvino.Core().read_model(file)


def write_network(model: Any, file: Path) -> None:
    """Write a converted network, for `read_network`.

    Parameters
    ----------
    model : openvino.Model
    file : Path
        Ends in .xml; the weights go into a file of the same name that ends in .bin.
    """
    import openvino

    openvino.save_model(model, file, compress_to_fp16=False)


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "moascope" / "openvino"


def compile_for_cpu(network: Any, prepare: Callable[[Any], Any] | None, crop: int,
                    precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Turn a Keras network into an OpenVINO function on 8-bit grey planes.

    Parameters
    ----------
    network, prepare, crop
        See `on_grey_planes`.
    precision : {"f32", "bf16"}

    Returns
    -------
    callable
        uint8 [n, crop, crop] -> float32 [n, features]; with "f32" equal to Keras up to rounding.
    """
    return compile_model(convert(network, prepare, crop), precision)


def convert(network: Any, prepare: Callable[[Any], Any] | None, crop: int) -> Any:
    """Turn a Keras network into an OpenVINO model of 8-bit grey planes.

    Preprocessing becomes part of the graph, so that only a twelfth of the bytes are passed in.

    Parameters
    ----------
    network, prepare, crop
        See `on_grey_planes`.

    Returns
    -------
    openvino.Model
        uint8 [n, crop, crop, 1] -> float32 [n, features]
    """
    import openvino

    grey = on_grey_planes(network, prepare, crop)
    with warnings.catch_warnings():
        # The converter hands Keras the single input as a tuple; Keras remarks on it and takes it.
        warnings.filterwarnings("ignore", r"(?s).*The structure of `inputs`", UserWarning)
        model = openvino.convert_model(grey)
    model.reshape([-1, crop, crop, 1])
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    steps.input().preprocess().convert_element_type(openvino.Type.f32)
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    with tempfile.TemporaryDirectory(prefix="moascope-") as folder:
        # What was converted shares its weights with TensorFlow, which gives their memory to others
        # once the network is gone: features of later plates were made of anything.
        file = Path(folder) / "model.xml"
        model = steps.build()
        openvino.save_model(model, file, compress_to_fp16=False)
        _exempt_first_layers(model, file)
        return core.read_model(file)


def _exempt_first_layers(model: Any, file: Path) -> None:
    """Mark the first layers of a saved model so that they stay in single precision."""
    (layer,) = model.get_parameters()
    names, convolutions = set(), 0
    while True:
        after = {target.get_node() for output in layer.outputs()
                 for target in output.get_target_inputs()}
        # Only before the first branch: OpenVINO cannot run every sum of two precisions.
        if len(after) != 1:
            break
        layer = after.pop()
        convolutions += layer.get_type_name() in ("Convolution", "GroupConvolution")
        if convolutions > EXACT_CONVOLUTIONS:
            break
        names.add(layer.get_friendly_name())
    tree = ElementTree.parse(file)
    for described in tree.getroot().iterfind("layers/layer"):
        if described.get("name") in names:
            facts = described.find("rt_info")
            facts = ElementTree.SubElement(described, "rt_info") if facts is None else facts
            # OpenVINO's own mark, which its Python interface does not offer.
            ElementTree.SubElement(facts, "attribute", name="precise", version="0")
    tree.write(file, encoding="utf-8", xml_declaration=True)


def on_grey_planes(network: Any, prepare: Callable[[Any], Any] | None, crop: int) -> Any:
    """A network preceded by what a grey plane needs: resizing, three channels and preprocessing.

    Parameters
    ----------
    network : keras.Model
        [n, h, w, 1 or 3] -> [n, features]; crops are resized if its input has another size.
    prepare : callable or None
        The preprocessing that the network was trained with, on symbolic tensors.
    crop : int
        Side of the planes, pixels.

    Returns
    -------
    keras.Model
        float32 [n, crop, crop, 1], 0 to 255 -> [n, features]. It always runs in inference mode:
        batch normalisations keep their statistics.
    """
    keras = import_keras()

    grey = keras.Input((crop, crop, 1))
    _, height, width, colours = network.input_shape
    image = grey
    if (height or crop, width or crop) != (crop, crop):
        image = keras.layers.Resizing(height, width)(image)
    if colours == 3:
        image = keras.layers.Concatenate()([image, image, image])
    if prepare:
        image = prepare(image)
    # Said outright: Keras's resizing layers tell all that follows them that this is training.
    return keras.Model(grey, network(image, training=False))


def compile_model(model: Any, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a converted network for this machine's CPUs.

    Parameters
    ----------
    model : openvino.Model
        From `convert`.
    precision : {"f32", "bf16"}

    Returns
    -------
    callable
        uint8 [n, crop, crop] -> float32 [n, features]; may be called from several threads.
    """
    import openvino
    from openvino import properties

    settings = {
        properties.hint.performance_mode: properties.hint.PerformanceMode.THROUGHPUT,
        properties.hint.inference_precision: {"f32": openvino.Type.f32,
                                              "bf16": openvino.Type.bf16}[precision],
    }
    if os.environ.get(RAY):
        # A task of Ray has one processor; others of the same machine have theirs.
        settings[properties.inference_num_threads] = 1
    elif processor_limit() is not None:
        settings[properties.inference_num_threads] = usable_processors()
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    count = compiled.get_property(properties.optimal_number_of_infer_requests)
    requests = [compiled.create_infer_request() for _ in range(max(count, 1))]
    infer = functools.partial(_infer, requests, model.output(0).partial_shape[-1].get_length())
    lock = threading.Lock()

    def one_after_the_other(planes: np.ndarray) -> np.ndarray:
        # A server asks from several threads, and requests hold one batch each.
        with lock:
            return infer(planes)

    return one_after_the_other


def _infer(requests: list[Any], width: int, planes: np.ndarray) -> np.ndarray:
    import openvino

    # Requests are waited for here, in turn. AsyncInferQueue calls back into Python from threads
    # of its own, and can hang for ever on the interpreter's lock when the queue goes away.
    results = np.empty((len(planes), width), np.float32)
    under_way: dict[int, int] = {}

    def collect(slot: int) -> None:
        requests[slot].wait()
        values = requests[slot].get_output_tensor(0).data
        start = under_way.pop(slot)
        results[start : start + len(values)] = values

    for number, start in enumerate(range(0, len(planes), BATCH)):
        slot = number % len(requests)
        if slot in under_way:
            collect(slot)
        batch = np.ascontiguousarray(planes[start : start + BATCH, :, :, np.newaxis])
        under_way[slot] = start
        requests[slot].start_async({0: openvino.Tensor(batch)})
    for slot in list(under_way):
        collect(slot)
    return results
