"""Commands that train: workers of the study, and a backbone of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moascope.errors import MoascopeError


def work(
    data: Annotated[Path, typer.Option(help="Data folder of the project.")] = Path("data"),
) -> None:
    """Run trials of the study in progress, from another shell or machine.

    Joins the study that `dvc repro` is running and stops when tune.trials trials have begun. Start
    as many workers as you like and stop any of them at any time. A worker on another machine needs
    the same data/ and params.yaml, and a database that both can reach: tune.storage in params.yaml
    or the environment variable MOASCOPE_STORAGE.
    """
    from moascope.learning.joining import load_examples
    from moascope.learning.space import settled
    from moascope.learning.storage import open_study, study_storage
    from moascope.learning.study import study_name, top_up
    from moascope.params_file import load_params
    from moascope.text import counted

    params = load_params()
    for stage in ("embed", "acquire", "split"):
        if not (data / stage).is_dir():
            raise MoascopeError(f"{data / stage} does not exist, and a worker needs it. Run `dvc "
                                "repro split`, or bring it here with `dvc pull`.")
    examples = load_examples(data / "embed", data / "acquire", data / "split")
    settings = settled(params)
    name = study_name(examples, settings.space, params.train, params.target)
    study = open_study(study_storage(settings, data / "tune" / "study.journal"), name,
                       settings, make=False, seed=params.seed)
    print(f"work: running trials of the study '{name}'; Ctrl-C stops this worker and loses only "
          "its current trial", flush=True)
    ran = top_up(study, examples, settings, params.train, params.seed,
                 lambda study, trial: None, stay=False)
    print(f"work: {counted(ran, 'trial')} run here; all {params.tune.trials} trials have begun")


def distil(
    planes: Annotated[list[Path], typer.Argument(help="Screen folders, or folders of images. "
                                                      "Labels are not read.")],
    out: Annotated[Path, typer.Option(help="Folder for the student. An interrupted run resumes "
                                           "when the same command is repeated.")],
    teacher: Annotated[str, typer.Option(help="mobilenetv2, resnet50 or a .keras file.")]
    = "mobilenetv2",
    weights: Annotated[Path | None, typer.Option(help="File with the teacher's ImageNet weights, "
                                                      "where they cannot be downloaded.")] = None,
    width: Annotated[float, typer.Option(help="Share of MobileNetV2's channels: 0.35, 0.5, ...")]
    = 0.35,
    size: Annotated[int, typer.Option(min=32, help="Side of a crop, in pixels.")] = 128,
    sees: Annotated[int, typer.Option(min=32, help="Side that the student shrinks a crop to, in "
                                                   "pixels; smaller is faster.")] = 96,
    start: Annotated[str, typer.Option(help="Initial weights: random; teacher (a choice of its "
                                           "channels); or the path of another student.")]
    = "random",
    features: Annotated[int, typer.Option(help="Number of features the student computes.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    crops: Annotated[int, typer.Option(help="Number of crops to train on.")] = 450_000,
    native: Annotated[float, typer.Option(min=0, max=1, help="Share of crops at native resolution."
                                          )] = 0.5,
    loss: Annotated[str, typer.Option(help="mse or cosine.")] = "mse",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    most: Annotated[int, typer.Option(help="Largest number of planes per folder.")] = 1300,
    allow_outside: Annotated[bool, typer.Option(
        "--allow-outside", help="Also read images outside a screen's folder, where its source.json "
                                "or a link leads to them.")] = False,
) -> None:
    """Train a small, fast backbone to imitate a large one, without labels.

    To use the student, set embed.backbone in params.yaml to its path. With KERAS_BACKEND=jax or
    torch, the training runs on a GPU.

    Example: moascope distil data/acquire my_screen --out students/mine --crops 200000
    """
    from moascope.distillation.distil import distil as run
    from moascope.distillation.student import LOSSES, STARTS, Recipe
    from moascope.params import KERAS_FILE

    if loss not in LOSSES:
        raise MoascopeError(f"--loss {loss} is unknown. Choose one of {', '.join(LOSSES)}.")
    if start not in STARTS and not start.endswith(KERAS_FILE):
        raise MoascopeError(f"--start {start} is unknown. Choose one of {', '.join(STARTS)}, or "
                            f"give the path of another student (*{KERAS_FILE}).")
    recipe = Recipe(width=width, size=size, sees=sees, start=start, features=features, loss=loss,
                    native=native, crops=crops, learning_rate=learning_rate, seed=seed)
    print(run(planes, out, teacher, weights, recipe, most, allow_outside))
