"""What the package brings for a project: the pipeline, its parameters and the files around them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

STAGES = "dvc.yaml"
PARAMS = "params.yaml"
OWN_SCREEN = "screen/README.md"

HERE = Path(__file__).parent
# In a clone these three lie at its root, which is itself a project; the wheel holds them here.
SOURCE = HERE.parents[2]


def shipped(name: str) -> str:
    """The text of `dvc.yaml`, `params.yaml` or `screen/README.md` as this package brings it."""
    packaged = HERE / "shipped" / name
    return (packaged if packaged.is_file() else SOURCE / name).read_text()


def template(name: str) -> str:
    """The text of one of the files that a new project gets beside the pipeline."""
    return (HERE / "files" / name).read_text()


def package_version() -> str:
    """The version of moascope that is installed; "unknown" where it runs from bare source."""
    try:
        return version("moascope")
    except PackageNotFoundError:
        return "unknown"


def is_source(folder: Path) -> bool:
    """Whether a folder holds moascope's own source."""
    return (folder / "src" / "moascope" / "__init__.py").is_file()
