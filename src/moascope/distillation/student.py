"""A small network that learns to say of grey planes what a large one says of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moascope.distillation.planes import Planes, cut_crops
from moascope.features.backbones import APPLICATIONS, build_student, load_own
from moascope.features.inference import compile_for_cpu
from moascope.quiet import import_keras
from moascope.work.files import write_atomically

CHECKPOINT = "checkpoint.keras"
STATE = "state.json"
CURVE = "curve.csv"
STUDENT = "student.keras"
PROJECTION = "projection.npz"
PROJECTED_ON = 4096
SAVED_EVERY = 500
NOTED_EVERY = 50
RECALIBRATED_BY = 200
LOSSES = {"mse": "mean_squared_error", "cosine": "cosine_similarity"}
STARTS = ("teacher", "random")


@dataclass(frozen=True)
class Recipe:
    """How a student is trained.

    Attributes
    ----------
    width : float
        Share of MobileNetV2's channels.
    size : int
        Side of a crop, pixels, as the teacher sees it.
    sees : int
        Side that the student shrinks a crop to before its first convolution.
    native : float
        Share of crops that are not resized, see `planes.cut_crops`.
    start : str
        Where the student's weights come from: "random"; "teacher", every so manyth channel of a
        MobileNetV2; or the path of a student of the same width.
    features : int
        Outputs, at most as many as the teacher's.
    loss : {"mse", "cosine"}
        Distance of the student's outputs from the teacher's projected features.
    crops : int
        How many it is shown, each once.
    batch : int
    learning_rate : float
        At the start of a cosine decay to zero.
    seed : int
    """

    width: float = 0.35
    size: int = 128
    sees: int = 96
    native: float = 0.5
    start: str = "random"
    features: int = 256
    loss: str = "mse"
    crops: int = 450_000
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return -(-self.crops // self.batch)


def open_teacher(name: str, network: Any, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """A teacher as a function of grey crops: through OpenVINO on a CPU, through Keras on a GPU.

    Parameters
    ----------
    name : str
        Of an ImageNet network, whose preprocessing is then applied, or a path.
    network : keras.Model
        [n, size, size, 1 or 3] -> [n, features].
    size : int

    Returns
    -------
    callable
        uint8 [n, size, size] -> float32 [n, features].
    """
    keras = import_keras()

    prepare = APPLICATIONS[name].prepare if name in APPLICATIONS else None
    if not _on_gpu(keras):
        return compile_for_cpu(network, prepare, size, "f32")
    colours = network.input_shape[-1]

    def teach(crops: np.ndarray) -> np.ndarray:
        image = np.repeat(crops[..., np.newaxis].astype(np.float32), colours, axis=-1)
        return np.asarray(network.predict_on_batch(prepare(image) if prepare else image))

    return teach


def _on_gpu(keras: Any) -> bool:
    return any("gpu" in device.lower() or "cuda" in device.lower()
               for device in keras.distribution.list_devices())


def train_student(
    planes: Planes,
    teach: Callable[[np.ndarray], np.ndarray],
    recipe: Recipe,
    out: Path,
    told: str,
    noted: Callable[[int, float], None] | None = None,
    network: Any = None,
) -> Any:
    """Train a student; a call that is killed is gone on with by the next one of the same recipe.

    The number of crops may be another one then: the learning rate follows the new course from
    there on.

    Parameters
    ----------
    planes : Planes
    teach : callable
        uint8 [n, size, size] -> float32 [n, features].
    recipe : Recipe
    out : Path
        Gets a checkpoint, and at the end `student.keras` and the curve of the loss.
    told : str
        A digest of planes and teacher: with another one, training starts anew.
    noted : callable, optional
        `noted(step, loss)`, the mean loss since the call before.
    network : keras.Model, optional
        The teacher itself, where the student starts from its weights.

    Returns
    -------
    keras.Model
        float32 [n, height, width, 1], 0 to 255 -> [n, features]: its estimate of the leading
        components of the teacher's features, turned at random, so that all outputs have about
        the same variance. A head of few inputs is trained in a fraction of the time.

    Notes
    -----
    Distillation of features, not of classes: no label is seen [1]_. The projection comes from
    4,096 crops. A student that is narrower than its teacher and built alike can start from a choice
    of its channels [2]_. Step i draws its crops from a generator seeded by (seed, i), so that
    resuming changes nothing. Keras gives MobileNetV2 batch normalisations a momentum of 0.999,
    whose averages lag behind a short training: it is lowered, and at the end the averages are taken
    anew with all weights at rest.

    .. [1] Romero et al., "FitNets: hints for thin deep nets", ICLR 2015.
    .. [2] Xu et al., "Initializing models with larger ones", ICLR 2024.
    """
    keras = import_keras()

    out.mkdir(parents=True, exist_ok=True)
    identity = {**asdict(recipe), "told": told, "backend": keras.backend.backend()}
    # A training may be given more crops, or fewer, than it began with.
    del identity["crops"]
    state = _state(out, identity)
    decay = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.steps)
    draw = _drawer(planes, teach, recipe)
    if state["step"]:
        with np.load(out / PROJECTION, allow_pickle=False) as kept:
            center, kernel = kept["center"], kept["kernel"]
        student = keras.saving.load_model(out / CHECKPOINT)
        # Two files cannot be renamed at once: after a kill between them the checkpoint is ahead.
        state["step"] = int(keras.ops.convert_to_numpy(student.optimizer.iterations))
        student.optimizer.learning_rate = decay
    else:
        taught = [draw(-1 - i)[1] for i in range(-(-PROJECTED_ON // recipe.batch))]
        center, kernel = _projection(np.concatenate(taught), recipe.features, recipe.seed)
        np.savez(out / PROJECTION, center=center, kernel=kernel)
        keras.utils.set_random_seed(recipe.seed)
        student = build_student(recipe.width, recipe.size, recipe.features, recipe.sees)
        if recipe.start != "random":
            _start_from(network if recipe.start == "teacher" else _open_student(recipe.start),
                        student)
            crops = np.concatenate([_crops(planes, recipe, -1 - i) for i in range(len(taught))])
            _fit_last(student, crops, (np.concatenate(taught) - center) @ kernel)
        student.compile(
            optimizer=keras.optimizers.AdamW(decay, weight_decay=1e-4),
            loss=LOSSES[recipe.loss],
        )
    if not state["asked"] or state["asked"][-1][1] != recipe.crops:
        state["asked"].append([state["step"], recipe.crops])
    with _progress(recipe.steps, state["step"]) as advance:
        since, losses = time.perf_counter(), []
        for step, (crops, target) in _ahead(draw, state["step"], recipe.steps):
            loss = student.train_on_batch(crops[..., np.newaxis].astype(np.float32),
                                          (target - center) @ kernel)
            # Keras gives the running mean since the last reset; each step is wanted by itself.
            student.reset_metrics()
            losses.append(float(loss))
            advance()
            done = step + 1
            if done % NOTED_EVERY == 0 or done == recipe.steps:
                state["curve"].append([done, float(np.mean(losses)),
                                       state["seconds"] + time.perf_counter() - since])
                if noted:
                    noted(done, float(np.mean(losses)))
                losses = []
            if done % SAVED_EVERY == 0:
                now = time.perf_counter()
                state["seconds"] += now - since
                since = now
                _save(student, state | {"step": done}, out)
    _recalibrate(student, planes, recipe)
    _save(student, state | {"step": max(state["step"], recipe.steps)}, out)
    student = _any_size(student, recipe)
    student.save(out / STUDENT)
    rows = "".join(f"{step},{loss:.6f},{seconds:.1f}\n" for step, loss, seconds in state["curve"])
    (out / CURVE).write_text("step,loss,seconds\n" + rows)
    return student


def _any_size(student: Any, recipe: Recipe) -> Any:
    free = build_student(recipe.width, None, recipe.features, recipe.sees)
    free.set_weights(student.get_weights())
    return free


def _start_from(network: Any, student: Any) -> None:
    """Give a MobileNetV2 of one channel every so manyth channel of a wider one, or all of its own.

    The choice depends on the two numbers of channels alone, so that what one layer gives is what
    the next one takes, along the residual connections too.
    """
    body, _ = (layer for layer in student.layers if layer.weights)
    wide, narrow = ([layer for layer in model.layers if layer.weights]
                    for model in (network, body))
    for source, target in zip(wide, narrow, strict=True):
        target.set_weights([_every_so_manyth(weights, wanted.shape) for weights, wanted
                            in zip(source.get_weights(), target.weights, strict=True)])


def _open_student(path: str) -> Any:
    student = load_own(Path(path))
    return next(layer for layer in student.layers if layer.weights)


def _fit_last(student: Any, crops: np.ndarray, wanted: np.ndarray) -> None:
    """The last layer by ridge regression on what the others say already."""
    keras = import_keras()

    pooled = keras.Model(student.inputs, student.layers[-1].input).predict(
        crops[..., np.newaxis].astype(np.float32), verbose=0).astype(float)
    center = pooled.mean(axis=0)
    spread = (pooled - center).T @ (pooled - center)
    ridge = 1e-2 * np.trace(spread) / len(spread) * np.eye(len(spread))
    kernel = np.linalg.solve(spread + ridge, (pooled - center).T @ (wanted - wanted.mean(axis=0)))
    student.layers[-1].set_weights([kernel, wanted.mean(axis=0) - center @ kernel])


def _every_so_manyth(weights: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    if weights.ndim == 4 and wanted[2] == 1 and weights.shape[2] == 3:
        # A grey plane was shown to the teacher as three equal ones.
        weights = weights.sum(axis=2, keepdims=True)
    for axis, (have, want) in enumerate(zip(weights.shape, wanted, strict=True)):
        if have != want:
            weights = weights.take(np.linspace(0, have - 1, want).round().astype(int), axis)
    return weights


def _projection(taught: np.ndarray, features: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Center and kernel from a teacher's features to what the student is to say.

    The teacher's standardised features are projected on their leading principal components, and
    those are turned by a random rotation: every output then has about the same variance, whatever
    scales its inputs (as heads do) leaves the components their own, and the error that is made of
    weak components stays weak.
    """
    center = taught.mean(axis=0)
    scale = np.maximum(taught.std(axis=0), 1e-3)
    _, spread, axes = np.linalg.svd((taught - center) / scale, full_matrices=False)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(features, features)))
    unit = np.sqrt(features * len(taught) / np.square(spread[:features]).sum())
    kernel = axes[:features].T @ rotation * unit / scale[:, None]
    return center.astype(np.float32), kernel.astype(np.float32)


def _drawer(planes: Planes, teach: Callable, recipe: Recipe) -> Callable:
    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        crops = _crops(planes, recipe, step)
        return crops, teach(crops)

    return draw


def _crops(planes: Planes, recipe: Recipe, step: int) -> np.ndarray:
    # Seeds are not negative: what comes before the first step has a stream of its own.
    generator = np.random.default_rng([recipe.seed, int(step < 0), abs(step)])
    return cut_crops(planes, recipe.batch, recipe.size, generator, recipe.native)


def _ahead(draw: Callable, start: int, stop: int) -> Iterator[tuple[int, tuple]]:
    """Steps in order, the next one being drawn while one is learnt from."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, start) if start < stop else None
        for step in range(start, stop):
            drawn = coming.result()
            if step + 1 < stop:
                coming = pool.submit(draw, step + 1)
            yield step, drawn


def _recalibrate(student: Any, planes: Planes, recipe: Recipe) -> None:
    keras = import_keras()

    layers = [layer for layer in student._flatten_layers()
              if isinstance(layer, keras.layers.BatchNormalization)]
    # With momentum 1 - 1/n at the n-th batch the moving average is the mean of all batches.
    for n in range(1, min(RECALIBRATED_BY, recipe.steps) + 1):
        for layer in layers:
            layer.momentum = 1 - 1 / n
        crops = _crops(planes, recipe, -1000 - n)
        student(crops[..., np.newaxis].astype(np.float32), training=True)
    for layer in layers:
        layer.momentum = 0.99


def _state(out: Path, identity: dict) -> dict[str, Any]:
    fresh = {"identity": identity, "step": 0, "seconds": 0.0, "curve": [], "asked": []}
    try:
        state = json.loads((out / STATE).read_text())
    except FileNotFoundError:
        return fresh
    if state["identity"] != json.loads(json.dumps(identity)) or not (out / CHECKPOINT).exists():
        return fresh
    return state


def _save(student: Any, state: dict, out: Path) -> None:
    partial = out / f".partial-{CHECKPOINT}"
    student.save(partial)
    partial.replace(out / CHECKPOINT)
    write_atomically(out / STATE, json.dumps(state))


@contextlib.contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("distil", total=total, completed=done)
        yield lambda: progress.advance(bar)
