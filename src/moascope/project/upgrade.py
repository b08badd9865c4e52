"""Bringing a project up to the stages and parameters of the moascope that is installed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from moascope.errors import MoascopeError
from moascope.params_file import parse_params
from moascope.project.git import git
from moascope.project.make import (
    IGNORED,
    ORIGIN_PARAMS,
    ORIGIN_STAGES,
    ORIGIN_VERSION,
    PLOTS,
    add_lines,
    command,
    refuse_source,
    shown,
    write_origin,
    write_plots_page,
)
from moascope.project.merge import merge_params
from moascope.project.shipped import PARAMS, STAGES, package_version, shipped, template
from moascope.text import listing
from moascope.work.files import write_atomically

BESIDE = f"{STAGES}.new"


def upgrade_project(folder: Path) -> list[str]:
    """Bring a newer package's stages and parameters into a project.

    A person's values, comments and own stages stay; what they never changed takes the package's
    present state.

    Returns
    -------
    list of str
        One sentence per change; empty where the project is up to date.

    Raises
    ------
    MoascopeError
        Where there is no project, or the merged parameters are not valid. Nothing is written then.
    """
    refuse_source(folder)
    lacking = [name for name in (STAGES, PARAMS) if not (folder / name).is_file()]
    if lacking:
        raise MoascopeError(f"{shown(folder)} is not a moascope project: it has no "
                            f"{listing(lacking)}. `{command(folder)}` makes one.")
    own_params = (folder / PARAMS).read_text()
    own_stages = (folder / STAGES).read_text()
    base_params = _origin(folder, ORIGIN_PARAMS)
    base_stages = _origin(folder, ORIGIN_STAGES)
    version = _origin(folder, ORIGIN_VERSION).strip() or "an unknown version"

    params, changes = merge_params(own_params, base_params, shipped(PARAMS))
    parse_params(yaml.safe_load(params) or {}, PARAMS)
    stages, clash = _merge_stages(own_stages, base_stages, shipped(STAGES))

    said = [f"{PARAMS}: {change}" for change in changes]
    if clash:
        said.append(f"{STAGES}: your changes and the package's touch the same lines, so yours "
                    f"stays as it is and the package's is {BESIDE}. Merge them by hand.")
        write_atomically(folder / BESIDE, shipped(STAGES))
    elif stages != own_stages:
        said += [f"{STAGES}: {sentence}" for sentence in _differences(own_stages, stages)]
    for name, source in IGNORED.items():
        if add_lines(folder / name, template(source)):
            said.append(f"{name}: missing lines are added at its end")
    if (folder / PLOTS).parent.is_dir() and write_plots_page(folder):
        said.append(f"{PLOTS}: the page of `dvc plots show` is renewed")
    if params != own_params:
        write_atomically(folder / PARAMS, params)
    if stages != own_stages:
        write_atomically(folder / STAGES, stages)
    if version != package_version():
        said.append(f"made from moascope {version}, now {package_version()}")
    write_origin(folder)
    return said


def _origin(folder: Path, name: str) -> str:
    path = folder / name
    return path.read_text() if path.is_file() else ""


def _merge_stages(own: str, base: str, new: str) -> tuple[str, bool]:
    """The merged stages, and whether the two sides clash; then the person's come back unchanged."""
    if own in (base, new):
        return new, False
    if base == new:
        return own, False
    with tempfile.TemporaryDirectory(prefix="moascope-") as folder:
        for name, text in (("own", own), ("base", base), ("new", new)):
            (Path(folder) / name).write_text(text)
        done = git(Path(folder), "merge-file", "-p", "own", "base", "new")
    return (done.stdout, False) if done.returncode == 0 else (own, True)


def _differences(before: str, after: str) -> list[str]:
    old = (yaml.safe_load(before) or {}).get("stages", {})
    new = (yaml.safe_load(after) or {}).get("stages", {})
    kinds = {
        "new": [name for name in new if name not in old],
        "gone": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    said = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    return said or ["comments and order changed; the stages are the same"]
