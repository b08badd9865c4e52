"""The screen of a project: its tables made from the plates, annotated, and complete or refused."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.importing.compounds import annotate_from
from moascope.importing.plates import import_plates, parse_channels
from moascope.importing.profiles.run import import_profiles
from moascope.importing.profiles.source import Named
from moascope.running.plates import Plates, plates_digest
from moascope.running.state import State, file_digest, write_state
from moascope.screen.targets import GPCR_TARGETS
from moascope.text import counted, listing
from moascope.work.files import write_csv, write_json

SCREEN = "screen"
LAYOUT, ANNOTATIONS = "layout.csv", "annotations.csv"
TABLE_OF = {"layout": LAYOUT, "moa": ANNOTATIONS}
# A dependency of the stage acquire: pictures may change where their names stay.
INPUT = "plates.json"


@dataclass(frozen=True)
class Options:
    """What a person says about the plates.

    Attributes
    ----------
    kind : str
    pattern : str or None
    channels : str
        As `moascope import` takes them.
    layout : Path or None
        A plate map, absolute.
    moa : Path or None
        A table with a row per compound, absolute.
    column, compound : str or None
        Columns of profiles with the mechanism and the compound.
    """

    kind: str = "auto"
    pattern: str | None = None
    channels: str = ""
    layout: Path | None = None
    moa: Path | None = None
    column: str | None = None
    compound: str | None = None

    def said(self) -> dict[str, str]:
        """What the person said, by the name of the option."""
        return {name: str(value) for name, value in vars(self).items()
                if value and (name, value) != ("kind", "auto")}

    def digests(self) -> dict[str, str]:
        """What decides the tables, by name."""
        said = {"kind": self.kind, "pattern": self.pattern or "", "channels": self.channels,
                "column": self.column or "", "compound": self.compound or ""}
        for name, path in (("layout", self.layout), ("moa", self.moa)):
            said[name] = file_digest(path) if path else ""
            if path and not said[name]:
                raise MoascopeError(f"{path} does not exist. Check the path of --{name}.")
        return said


def remember(options: Options, state: State) -> tuple[Options, State, frozenset[str]]:
    """What was said in an earlier run and not now.

    Returns
    -------
    options : Options
    state : State
    kept : frozenset of str
        Tables that stay as they are, because what they were made from is no longer there.
    """
    said = state.options | options.said()
    if "moa" in options.said():
        said.pop("column", None)
    elif "column" in options.said():
        said.pop("moa", None)
    state = replace(state, options=said)
    kept = set()
    for name, table in TABLE_OF.items():
        if name in said and name not in options.said() and not Path(said[name]).is_file():
            said = {key: value for key, value in said.items() if key != name}
            kept.add(table)
    paths = {name: Path(said[name]) for name in ("layout", "moa") if name in said}
    return Options(**(said | paths)), state, frozenset(kept)


@dataclass(frozen=True)
class Tables:
    """The tables of a project's screen.

    Attributes
    ----------
    state : State
    said : str
        What was imported, in a sentence; "" where nothing has changed since the last run.
    notes : tuple of str
        A sentence about each guess and choice.
    outside : bool or None
        Whether images lie outside the screen's folder; None where nothing was imported.
    """

    state: State
    said: str
    notes: tuple[str, ...] = ()
    outside: bool | None = None


def make_tables(project: Path, plates: Plates, options: Options, state: State) -> Tables:
    """Make the tables of a project's screen, or find that they are up to date.

    layout.csv and annotations.csv that a person edited are kept: they get new wells and compounds,
    and mechanisms where they have none. Those that no person touched are made anew.

    Raises
    ------
    MoascopeError
        As `moascope import` raises it, and where a plate map is given for a layout that a person
        edited.
    """
    options, state, kept = remember(options, state)
    inputs = {"plates": plates_digest(plates, project), **options.digests()}
    inputs |= {name: state.inputs.get(name, "") for name, table in TABLE_OF.items()
               if table in kept}
    screen = project / SCREEN
    first = "profiles.parquet" if plates.holds == "profiles" else "load_data.csv"
    there = all((screen / name).is_file() for name in (first, LAYOUT, ANNOTATIONS))
    if there and inputs == state.inputs:
        return Tables(state, "")
    own = [name for name in (LAYOUT, ANNOTATIONS)
           if name not in kept and is_own(screen / name, state)]
    kept_map = options.layout is not None and LAYOUT not in own
    if kept_map and inputs["layout"] != state.inputs.get("layout"):
        raise MoascopeError(f"{screen / LAYOUT} was edited since it was made. Leave out --layout "
                            f"to keep it, or remove it to use {options.layout}.")
    state = write_state(project, replace(state, inputs={}, writing=own))
    for name in own:
        (screen / name).unlink(missing_ok=True)
    layout = None if kept_map else options.layout
    if plates.holds == "profiles":
        said, notes, outside = _from_profiles(screen, plates, options, layout)
    else:
        said, notes, outside = _from_images(screen, plates, options, layout)
    if options.moa is not None:
        _add_mechanisms(screen / ANNOTATIONS, options.moa, notes)
    write_json(screen / INPUT, {"plates": [str(path) for path in plates.paths],
                                "digest": inputs["plates"]})
    state = replace(state, inputs=inputs, writing=[],
                    wrote={name: file_digest(screen / name) for name in own})
    return Tables(write_state(project, state), said, tuple(dict.fromkeys(notes)), outside)


def is_own(table: Path, state: State) -> bool:
    """Whether a table is missing, or holds what `moascope run` wrote."""
    return (not table.exists() or table.name in state.writing
            or file_digest(table) == state.wrote.get(table.name))


def _from_images(screen: Path, plates: Plates, options: Options,
                 layout: Path | None) -> tuple[str, list[str], bool]:
    if options.column:
        raise MoascopeError(f"--moa {options.column} is not a file. Give a table with a row per "
                            "compound and its mechanism; only profiles have columns.")
    if options.compound:
        raise MoascopeError(f"--compound is for tables of profiles, and {plates.paths[0]} holds "
                            "images. Give a plate map by --layout.")
    found = import_plates(plates.paths[0], screen, kind=options.kind, pattern=options.pattern,
                          layout=layout, channels=parse_channels(options.channels), update=True)
    sites = found.screen.sites
    wells = sites[["Metadata_Plate", "Metadata_Well"]].drop_duplicates()
    said = (f"{found.kind}: {counted(wells['Metadata_Plate'].nunique(), 'plate')}, "
            f"{counted(len(wells), 'well')}, {counted(len(sites), 'site')}, channels "
            f"{', '.join(found.channels)}")
    if lost := len(found.unplaced) + len(found.incomplete):
        said += f"; {counted(lost, 'file')} unplaced or missing (unplaced.csv says why)"
    return said, [*found.notes, *found.screen.warnings], found.outside


def _from_profiles(screen: Path, plates: Plates, options: Options,
                   layout: Path | None) -> tuple[str, list[str], bool]:
    found = import_profiles(plates.paths, screen, kind=options.kind, layout=layout, update=True,
                            named=Named(options.compound, options.column, None, None))
    return (f"{found.kind}: {counted(found.layout['Metadata_Plate'].nunique(), 'plate')}, "
            f"{counted(len(found.keys), 'profile')} of "
            f"{counted(len(found.features), 'feature')}"), list(found.notes), False


def _add_mechanisms(annotations: Path, table: Path, notes: list[str]) -> None:
    known = read_table(annotations)
    if len(known):
        write_csv(annotations, annotate_from(table, known, notes))


def read_table(table: Path) -> pd.DataFrame:
    """A table of the screen as text; empty cells are ""."""
    return pd.read_csv(table, dtype=str, keep_default_na=False)


def annotate_tables(project: Path, target: str, state: State) -> tuple[State, str, int]:
    """Decide GPCR involvement where the target asks for it.

    Returns
    -------
    state : State
    said : str
        How many compounds are what; "" where the target does not ask.
    open_questions : int
        How many compounds wait for a person's decision.
    """
    table = project / SCREEN / ANNOTATIONS
    if target not in GPCR_TARGETS:
        return state, "", 0
    from moascope.annotation.run import annotate_files

    own = is_own(table, state)
    with contextlib.redirect_stderr(io.StringIO()) as warned:
        done = annotate_files(table, table)
    counts = done.annotated.table["gpcr"].value_counts()
    said = (f"{counted(len(done.annotated.table), 'compound')}: {counts.get('yes', 0):,} act "
            f"through a GPCR, {counts.get('no', 0):,} do not, {counts.get('unknown', 0):,} unknown")
    said += "".join(f". {line.removeprefix('warning: ').rstrip('.')}"
                    for line in warned.getvalue().splitlines())
    if own:
        state = write_state(project, replace(
            state, wrote=state.wrote | {ANNOTATIONS: file_digest(table)}))
    return state, said, len(done.review)


def refuse_gaps(screen: Path, holds: str, target: str, again: Sequence[str]) -> None:
    """End where the tables name no compound or no mechanism, and say what to give.

    Parameters
    ----------
    screen : Path
        Folder of the tables.
    holds : str
        As `Plates.holds`.
    target : str
    again : sequence of str
        The command as the person wrote it.

    Raises
    ------
    MoascopeError
        With what is missing, and the command to run next.
    """
    layout, annotations = read_table(screen / LAYOUT), read_table(screen / ANNOTATIONS)
    command = shlex.join(again)
    with_map, with_moa = (shlex.join([*_without(again, name), name, value])
                          for name, value in (("--layout", "MAP.csv"), ("--moa", "COMPOUNDS.csv")))
    treated = layout.loc[layout["Metadata_Control"] != "negative", "Metadata_Compound"]
    compounds = sorted(set(treated) - {""})
    then = f"or fill in {{}} in {{}} and run `{command}` again"
    if not compounds:
        column = "`--compound COLUMN`, or a plate map" if holds == "profiles" else "a plate map"
        raise MoascopeError(
            f"No well of {screen / LAYOUT} has a compound yet, so nothing can be learnt. Give "
            f"{column} with a row per well (plate, well, compound, concentration, control): "
            f"`{with_map}`, "
            + then.format("Metadata_Compound and Metadata_Control", screen / LAYOUT) + ".")
    known = annotations["Metadata_MoA"].str.strip() != "" if "Metadata_MoA" in annotations else (
        pd.Series(False, index=annotations.index))
    if "gpcr" in annotations:
        known |= annotations["gpcr"].str.strip().str.lower().isin(["yes", "no"])
    if not known.any():
        raise MoascopeError(
            f"None of the {counted(len(compounds), 'compound')} ({listing(compounds, 3)}) has a "
            "mechanism yet, so nothing can be learnt. Give a table with a row per compound and "
            f"its mechanism: `{with_moa}`, "
            + then.format("Metadata_MoA", screen / ANNOTATIONS) + ".")
    if holds == "screen" and target in GPCR_TARGETS and "gpcr" not in annotations:
        table = shlex.quote(str(screen / ANNOTATIONS))
        raise MoascopeError(f"{screen / ANNOTATIONS} has no column gpcr, which --target {target} "
                            f"needs. `moascope annotate {table} --out {table}` adds it; then run "
                            f"`{command}` again.")


def _without(words: Sequence[str], option: str) -> list[str]:
    """A command without an option and its value."""
    at = list(words).index(option) if option in words else len(words)
    return [*words[:at], *words[at + 2:]]
