"""Making a project: a folder in which `dvc repro` runs moascope's pipeline."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.project.git import git, require
from moascope.project.shipped import (
    OWN_SCREEN,
    PARAMS,
    STAGES,
    is_source,
    package_version,
    shipped,
    template,
)
from moascope.text import listing
from moascope.work.files import write_atomically

# Copies of what the project was made from, so that an upgrade can tell a person's changes.
ORIGIN = ".moascope"
ORIGIN_STAGES = f"{ORIGIN}/stages.yaml"
ORIGIN_PARAMS = f"{ORIGIN}/params.yaml"
ORIGIN_VERSION = f"{ORIGIN}/version"
IGNORED = {".gitignore": "gitignore", ".dvcignore": "dvcignore"}
DVC_FILES = (".dvc/config", ".dvc/.gitignore")
PLOTS = ".dvc/plots.html"


@dataclass
class Made:
    """What `make_project` did.

    Attributes
    ----------
    folder : Path
    notes : list of str
        What was left as it was, and what a person still has to do.
    committed : bool
        Whether the project's files are the first commit of a new git repository.
    """

    folder: Path
    notes: list[str] = field(default_factory=list)
    committed: bool = False


def make_project(folder: Path) -> Made:
    """Make a project: git, DVC with a local remote, the stages, the parameters and a README.

    Files that are there already stay as they are, and the notes name them; lines that an ignore
    file lacks are added at its end.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    MoascopeError
        Where the folder holds a project, a pipeline of its own, or moascope's source.
    """
    _require_room(folder)
    made = Made(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MoascopeError(f"The folder {folder} cannot be made: {error.strerror}.") from None
    fresh = not (folder / ".git").exists()
    if fresh:
        outer = git(folder, "rev-parse", "--show-toplevel")
        if outer.returncode == 0:
            made.notes.append(f"{shown(folder)} lies in the git repository "
                              f"{outer.stdout.strip()} and now has one of its own. "
                              "Add it to the outer .gitignore.")
        require(git(folder, "init", "-q"))
    if (folder / ".dvc").exists():
        written = []
        made.notes.append(".dvc was there already and stays as it is.")
    else:
        written = _start_dvc(folder)
    for name, source in IGNORED.items():
        if add_lines(folder / name, template(source)):
            made.notes.append(f"{name} was there already; its missing lines are at its end.")
        written.append(name)
    for name, text in {
        "README.md": template("README.md").replace("{name}", folder.resolve().name),
        OWN_SCREEN: shipped(OWN_SCREEN),
        PARAMS: shipped(PARAMS),
    }.items():
        if (folder / name).exists():
            made.notes.append(f"{name} was there already and stays as it is.")
            continue
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomically(folder / name, text)
        written.append(name)
    written += write_origin(folder)
    # Last, so that a run that is cut short can be repeated.
    write_atomically(folder / STAGES, shipped(STAGES))
    written.append(STAGES)
    if fresh:
        _commit(made, written)
    else:
        made.notes.append(f"{shown(folder)} is a git repository already, so nothing is "
                          "committed: look at `git status`.")
    return made


def write_origin(folder: Path) -> list[str]:
    """Note which stages and parameters a project was made from, or upgraded to."""
    (folder / ORIGIN).mkdir(exist_ok=True)
    for name, text in {ORIGIN_STAGES: shipped(STAGES), ORIGIN_PARAMS: shipped(PARAMS),
                       ORIGIN_VERSION: package_version() + "\n"}.items():
        write_atomically(folder / name, text)
    return [ORIGIN_STAGES, ORIGIN_PARAMS, ORIGIN_VERSION]


def refuse_source(folder: Path) -> None:
    """Say so where a folder holds moascope's own source, which git brings up to date."""
    if is_source(folder):
        raise MoascopeError(f"{shown(folder)} holds moascope's own source, which is a project "
                            "already. In it, `dvc repro register report` runs it, and "
                            "`git pull` brings it up to date.")


def shown(folder: Path) -> str:
    """A folder as a sentence names it; the working folder by its own name."""
    return str(folder) if folder != Path() else folder.resolve().name


def command(folder: Path, *options: str) -> str:
    """`moascope init` for a folder, as it runs where the person stands."""
    return shlex.join(["moascope", "init", *options, *([str(folder)] if folder != Path() else [])])


def next_steps(made: Made) -> list[str]:
    """The commands that come next, as they run where the person stands."""
    lines = []
    program = shutil.which("moascope")
    environment = Path(sys.prefix) / "bin" / "activate"
    if (program is None or not Path(program).resolve().is_relative_to(Path(sys.prefix).resolve())) \
            and environment.is_file():
        lines.append(f"source {shlex.quote(str(environment))}")
    if made.folder.resolve() != Path.cwd():
        lines.append(f"cd {shlex.quote(str(made.folder))}")
    return [*lines, "dvc repro register report", "moascope promote --exit-zero",
            "moascope summary"]


def _require_room(folder: Path) -> None:
    refuse_source(folder)
    if folder.exists() and not folder.is_dir():
        raise MoascopeError(f"{folder} is a file. Name a folder for the project.")
    taken = [name for name in (STAGES, PARAMS)
             if (folder / name).exists() and (folder / name).read_text() != shipped(name)]
    if (folder / STAGES).exists() and (folder / ORIGIN_VERSION).exists():
        raise MoascopeError(f"{shown(folder)} is a moascope project already. "
                            f"`{command(folder, '--upgrade')}` brings it up to date.")
    if taken:
        raise MoascopeError(f"{shown(folder)} already holds {listing(taken)}, which would be "
                            "overwritten. Choose another folder, or rename what is there.")


def _start_dvc(folder: Path) -> list[str]:
    """Make the folder a DVC repository; returns the files made, relative to the folder."""
    # Neither DVC nor what it imports reports to anybody.
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)   # it comments on what it makes
    Repo.init(str(folder)).close()
    (folder / ".dvc/config").write_text(template("dvc_config"))
    write_plots_page(folder)
    add_lines(folder / ".dvc/.gitignore", "/storage\n/plots.html\n")
    # DVC writes an example of its own; ours takes its place.
    (folder / ".dvcignore").unlink(missing_ok=True)
    return list(DVC_FILES)


def plots_page() -> str:
    """The template that `dvc plots show` and `dvc plots diff` fill in.

    DVC's own template loads Vega from the network. This one holds the scripts of the installed
    vl-convert, so that plots appear without a network and the page can be sent to others.
    """
    import vl_convert

    # The version of Vega-Lite that DVC's plot templates are written for.
    scripts = vl_convert.javascript_bundle(snippet=None, vl_version="5.20")
    return template("plots.html").replace("{scripts}", scripts.replace("</script", "<\\/script"))


def write_plots_page(folder: Path) -> bool:
    """Write the page that `dvc plots show` fills in; True where there was another one.

    It is made anew on each machine and not committed: most of it is Vega, as installed.
    """
    path, page = folder / PLOTS, plots_page()
    renewed = path.is_file() and path.read_text() != page
    write_atomically(path, page)
    return renewed


def add_lines(path: Path, text: str) -> bool:
    """Write an ignore file, or add the lines it lacks; True where it was there and lacked some."""
    if not path.exists():
        write_atomically(path, text)
        return False
    own = path.read_text()
    lacking = [line for line in text.splitlines() if line not in own.splitlines()]
    if lacking:
        end = "" if own.endswith("\n") or not own else "\n"
        write_atomically(path, own + end + "\n".join(lacking) + "\n")
    return bool(lacking)


def _commit(made: Made, written: list[str]) -> None:
    require(git(made.folder, "add", "--", *written))
    done = git(made.folder, "commit", "-qm", f"A moascope project ({package_version()})")
    made.committed = done.returncode == 0
    if not made.committed:
        made.notes.append("git could not commit; experiments (`dvc exp run`) need a first commit. "
                          "Usually git has no name for you yet: git config --global user.name "
                          "NAME, git config --global user.email ADDRESS, then git commit -m start.")
