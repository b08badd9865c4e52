"""`moascope run`: from plates to the report in one command, which goes on where it stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from moascope.errors import MoascopeError
from moascope.features.advised import NORMALISATION, advised_settings, advised_words
from moascope.layout.check import check_layout
from moascope.layout.page import SCREEN_PAGE
from moascope.params import Params
from moascope.params_file import load_params, parse_params
from moascope.project.make import make_project
from moascope.project.merge import set_values
from moascope.project.shipped import PARAMS, STAGES
from moascope.running.pipeline import pipeline_of, reproduce, stages_of
from moascope.running.plates import Plates, find_plates, from_here, project_folder
from moascope.running.shown import Shown
from moascope.running.state import State, alone, file_digest, read_state, write_state
from moascope.running.tables import (
    ANNOTATIONS,
    LAYOUT,
    SCREEN,
    Options,
    annotate_tables,
    make_tables,
    read_table,
    refuse_gaps,
)
from moascope.screen.profiles import has_profiles
from moascope.screen.tables import read_given_screen, read_screen
from moascope.work.digests import digest
from moascope.work.files import write_atomically

TARGET = "moa"
CHECKED = Path("reports/layout")


@dataclass(frozen=True)
class Ran:
    """What `run_plates` did.

    Attributes
    ----------
    project : Path
        Absolute.
    screen : Path
        Folder of the tables, absolute.
    compounds, annotated : int
        How many the screen has, and how many of them have a mechanism.
    open_questions : int
        Compounds whose GPCR involvement waits for a person.
    seconds : float
    """

    project: Path
    screen: Path
    compounds: int
    annotated: int
    open_questions: int
    seconds: float


def run_plates(given: Sequence[str], out: Path | None, target: str | None, options: Options,
               allow_outside: bool, again: Sequence[str], shown: Shown) -> Ran:
    """Import plates, check and annotate them, and run the pipeline in a project of their own.

    Parameters
    ----------
    given : sequence of str
        Folder of a microscope, LoadData table, tables of profiles, or folder of a screen.
    out : Path, optional
        The project; see `moascope.running.plates.project_folder`.
    target : str, optional
        By default the project's, and "moa" for a new one.
    options : Options
    allow_outside : bool
        Whether the tables of a screen may name files outside its folder.
    again : sequence of str
        The command as the person wrote it, for the sentences.
    shown : Shown

    Raises
    ------
    MoascopeError
        With what to give or to mend. What is finished is kept.
    """
    begun = time.monotonic()
    plates = find_plates(given, options.kind, options.pattern)
    project = project_folder(plates, out)
    _require_project_of(project, list(plates.given))
    with alone(project) as held:
        state = _open_project(project, list(plates.given), shown)
        # Paths in params.yaml and in the stages start from the root of the project.
        with contextlib.chdir(project):
            try:
                return _run(project, plates, target, options, allow_outside, again, shown, state,
                            held, begun)
            except MoascopeError as error:
                if not any(PARAMS in problem for problem in error.problems):
                    raise
                raise MoascopeError([*error.problems, f"{PARAMS} is {project / PARAMS}. After a "
                                     "change, run the same command again."]) from None


def _run(project: Path, plates: Plates, target: str | None, options: Options, allow_outside: bool,
         again: Sequence[str], shown: Shown, state: State, held: int | None,
         begun: float) -> Ran:
    target = target or (load_params().target if "target" in state.settings else TARGET)
    screen, outside = project / SCREEN, None
    questions = 0
    if plates.holds == "screen":
        screen, outside = plates.paths[0], allow_outside
        if told := options.said():
            raise MoascopeError(f"{screen} is a screen with its three tables, and --"
                                f"{next(iter(told)).replace('column', 'moa')} is for plates that "
                                "have none yet. Leave it out, and edit the tables.")
        read_given_screen(screen, allow_outside)
        shown.step("import", f"{screen} is a screen already and is read where it is")
    else:
        with shown.working("import") as done:
            tables = make_tables(project, plates, options, state)
            done(tables.said or "done before, and the plates have not changed")
        shown.notes(tables.notes)
        state, outside = tables.state, tables.outside
    state = _set_params(project, screen, target, outside, state, shown)
    refuse_gaps(screen, plates.holds, target, again)
    if plates.holds != "screen":
        state, said, questions = annotate_tables(project, target, state)
        if said:
            shown.step("annotate", said)
    state = _check(project, screen, target, state, shown)
    stages = stages_of(pipeline_of(project))
    with shown.pipeline(len(stages)) as tell:
        reproduce(project, tell, held)
    compounds, annotated = _compounds(screen)
    return Ran(project, screen, compounds, annotated, questions, time.monotonic() - begun)


def _require_project_of(project: Path, plates: list[str]) -> None:
    """Refuse a folder that holds something else than the project of these plates."""
    if project.exists() and not project.is_dir():
        raise MoascopeError(f"{project} is a file. Name a folder by --out.")
    state = read_state(project)
    if state is None and (project / STAGES).exists():
        raise MoascopeError(f"{project} holds a project that `moascope run` did not make. Name "
                            "another folder by --out; or work in it with `moascope import` and "
                            "`dvc repro register report`.")
    if state is not None and state.plates != plates:
        raise MoascopeError(f"{project} is the project of {', '.join(state.plates)}. Name another "
                            "folder by --out.")


def _open_project(project: Path, plates: list[str], shown: Shown) -> State:
    state = read_state(project) or write_state(project, State(plates))
    if (project / STAGES).exists():
        shown.step("project", f"{from_here(project)} goes on from its last run")
        return state
    made = make_project(project)
    shown.step("project", f"{from_here(project)} is made")
    shown.notes(made.notes)
    return state


def _set_params(project: Path, screen: Path, target: str, outside: bool | None,
                state: State, shown: Shown) -> State:
    """Write what the command decides into params.yaml; what a person changed since stays."""
    path = project / PARAMS
    wanted: dict[str, Any] = {
        "acquire.source": "folder", "target": target,
        "acquire.path": SCREEN if screen == project / SCREEN else str(screen)}
    if outside is not None:
        wanted["acquire.allow_outside"] = outside
    if has_profiles(screen) and not (screen / "load_data.csv").exists():
        read = read_screen(screen, tables_only=True)
        # Controls may be marked later; what a person chose meanwhile counts more than advice.
        now = load_params().model_dump(by_alias=True)
        advised = {key: value for key, value in advised_settings(read.sites, read.layout).items()
                   if state.settings.get(key, _at(now, key)) == _at(now, key)}
        if NORMALISATION in advised:
            shown.notes(advised_words(read.sites, read.layout))
        wanted |= advised
    new = {key: value for key, value in wanted.items()
           if key not in state.settings or state.settings[key] != value}
    if new:
        text = set_values(path.read_text(), new)
        parse_params(yaml.safe_load(text), PARAMS)
        write_atomically(path, text)
        state = write_state(project, replace(state, settings=state.settings | wanted))
    return state


def _at(values: dict[str, Any], key: str) -> Any:
    """The value of a parameter that is named as `train.normalisation`."""
    section, name = key.split(".")
    return values[section][name]


def _check(project: Path, screen: Path, target: str, state: State, shown: Shown) -> State:
    """Draw the page of the layout, where what it shows has changed."""
    drawn_from = digest(load_params().split, target, *(file_digest(screen / name)
                                  for name in ("load_data.csv", LAYOUT, ANNOTATIONS)))
    if state.layout == drawn_from and (project / CHECKED / SCREEN_PAGE).is_file():
        shown.step("layout", "done before")
        return state
    with shown.working("layout") as done:
        _refuse_few(screen, load_params())
        checked = check_layout(screen, CHECKED, target)
        done(checked.verdict)
    shown.notes(checked.labels.warnings)
    return write_state(project, replace(state, layout=drawn_from))


def _refuse_few(screen: Path, params: Params) -> None:
    """Deal compounds as the stage split does: what it would refuse is told before hours of work."""
    from moascope.learning.dealing import deal
    from moascope.learning.families import with_families
    from moascope.screen.targets import label_screen, refuse_few

    read = read_screen(screen, tables_only=True)
    labels = with_families(label_screen(read, params.target), read.annotations, params.split.group)
    refuse_few(deal(labels, read.sites, params.split, params.seed).groups, labels.question)


def _compounds(screen: Path) -> tuple[int, int]:
    """How many compounds a screen has, and how many of them have a mechanism."""
    layout, annotations = read_table(screen / LAYOUT), read_table(screen / ANNOTATIONS)
    treated = set(layout.loc[layout["Metadata_Control"] != "negative", "Metadata_Compound"]) - {""}
    known = set()
    if "Metadata_MoA" in annotations:
        known = set(annotations.loc[annotations["Metadata_MoA"] != "", "Metadata_Compound"])
    return len(treated), len(treated & known)
