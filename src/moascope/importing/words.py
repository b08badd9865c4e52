"""What an import says in the terminal, and what to run next."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from moascope.importing.layout import tables_said
from moascope.importing.plates import UNPLACED, Imported
from moascope.screen.columns import WELL
from moascope.text import assumed_lines, counted, listing


def describe_import(imported: Imported, out: Path) -> str:
    """The result of an import as lines for the terminal; the last is the next command to run."""
    screen = imported.screen
    sites = screen.sites
    wells = sites[WELL].drop_duplicates()
    plates = sorted(wells["Metadata_Plate"].unique())
    renamed = [channel if call == channel else f"{channel} ({call})"
               for channel, call in imported.channels.items()]
    reasons = imported.unplaced["Reason"].map(_kind_of_reason).value_counts(sort=True)
    lines = [
        f"recognised  {imported.kind}, by {imported.told_by}",
        f"plates      {len(plates):,}: {listing(plates)}",
        f"wells       {len(wells):,}",
        f"sites       {len(sites):,}",
        f"channels    {len(renamed)}: {', '.join(renamed)}",
    ]
    if len(imported.incomplete):
        lost = imported.incomplete
        wells_lost = lost[WELL].drop_duplicates().agg(" ".join, axis=1)
        lines.append(f"incomplete  {counted(len(lost), 'image')} missing in "
                     f"{counted(len(wells_lost), 'well')}: {listing(wells_lost)}")
    lines.append(f"unplaced    {len(imported.unplaced):,}"
                 + "".join(f"\n            {count:,} {reason}"
                           for reason, count in reasons.items()))
    wrote, to_fill_in = tables_said(screen.layout, screen.annotations, out)
    lines += [f"wrote       {out / 'load_data.csv'}", *wrote]
    if len(imported.unplaced) or len(imported.incomplete):
        lines.append(f"            {out / UNPLACED}: every file not in load_data.csv, and why")
    lines += to_fill_in
    lines += assumed_lines((*imported.notes, *screen.warnings))
    settings = ["acquire.allow_outside=true"] if imported.outside else []
    return "\n".join([*lines, *next_steps(out, settings)])


def next_steps(out: Path, settings: Sequence[str]) -> list[str]:
    """What to run next, from where the person stands: a project, or anywhere else.

    `settings` are parameters that the screen needs.
    """
    here = Path.cwd()
    in_project = (here / "dvc.yaml").is_file()
    # Stages start from the root of the project, and experiments from a temporary folder in it.
    inside = in_project and out.resolve().is_relative_to(here)
    path = out if inside else out.resolve()
    further = "".join(f" -S {setting}" for setting in settings)
    command = ("dvc exp run register report -S acquire.source=folder "
               f"-S {_as_setting('acquire.path', os.fspath(path))}{further} -S target=moa")
    if in_project:
        return [f"next        {command}"]
    return ["next        in a project (`moascope init FOLDER` makes one):",
            f"            {command}"]


def _as_setting(key: str, value: str) -> str:
    """What a shell and then DVC, which reads settings by Hydra's grammar, take for `key=value`."""
    if not re.fullmatch(r"[\w./-]+", value, re.ASCII):
        # A quote is escaped by a backslash, and so is a backslash before one.
        escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", r"\'"),
                         value)
        value = f"'{escaped}'"
    plain = f"{key}={value}"
    # Easier to read than what shlex makes of single quotes.
    return plain if shlex.quote(plain) == plain else (
        shlex.quote(plain) if set(plain) & set('"$`\\!') else f'"{plain}"')


def _kind_of_reason(reason: str) -> str:
    """A reason without the parts that differ from file to file, for counting."""
    reason = re.sub(r"'[^']*'|\([0-9]+\)", "...", reason)
    return re.sub(r"named by \S.*, but", "named by an index, but", reason)
