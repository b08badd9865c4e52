"""A screen: its three tables, read and checked, and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from moascope.errors import MoascopeError
from moascope.screen.contract import (
    check_annotations,
    check_compounds_are_annotated,
    check_layout,
    check_sites,
    check_sites_have_wells,
    refuse_doses_in_names,
    spell_compounds_alike,
    warn_of_controls,
    warn_of_wells_without_profile,
)
from moascope.screen.description import description_of, images_folder, read_description
from moascope.screen.profiles import Profiles, check_compounds_agree, find_profiles, has_profiles
from moascope.screen.reading import CsvTable, Findings, read_table
from moascope.text import counted, tidy
from moascope.work.files import write_csv


@dataclass(frozen=True, repr=False)
class Screen:
    """A screen whose tables have been checked.

    Attributes
    ----------
    sites : DataFrame
        One row per site, sorted by plate, well and site: `Metadata_Plate` (str), `Metadata_Well`
        (str, like B02), `Metadata_Site` (int), `Metadata_Batch` and `Metadata_Panel` (str, empty
        where the table has none), then for each channel `FileName_<Channel>` (str, POSIX, relative
        to `images`; empty where the panel lacks the channel) and `Frame_<Channel>` (int, from 0).
    layout : DataFrame
        One row per well: `Metadata_Plate`, `Metadata_Well`, `Metadata_Compound` (empty for an empty
        well), `Metadata_Concentration_uM` (float, micromolar, may be NaN) and `Metadata_Control`
        ("negative", "positive" or empty).
    annotations : DataFrame
        One row per compound: `Metadata_Compound`, `Metadata_MoA` (terms separated by "|", empty for
        unknown) and any other columns of the table.
    channels : tuple of str
        In the order of the `FileName_` columns; none where the screen has profiles alone, and then
        `sites` has the rows of the profiles.
    images : Path
        The folder that file names start from.
    warnings : tuple of str
        What looks wrong but does not stop a run, one sentence each.
    profiles : Profiles or None
        Features that other software measured.
    """

    sites: pd.DataFrame
    layout: pd.DataFrame
    annotations: pd.DataFrame
    channels: tuple[str, ...]
    images: Path
    warnings: tuple[str, ...] = ()
    profiles: Profiles | None = None

    def __repr__(self) -> str:
        plates = self.layout["Metadata_Plate"].nunique()
        compounds = set(self.layout["Metadata_Compound"]) - {""}
        return (f"Screen({counted(plates, 'plate')}, {counted(len(self.layout), 'well')}, "
                f"{counted(len(self.sites), 'site')}, {counted(len(compounds), 'compound')}; "
                f"{self.measured})")

    @property
    def measured(self) -> str:
        """What there is of each site: "channels DNA, Actin", "profiles of 454 features" or both."""
        parts = [f"channels {', '.join(self.channels)}"] if self.channels else []
        if self.profiles is not None:
            parts.append(f"profiles of {counted(len(self.profiles.features), 'feature')}")
        return " and ".join(parts)


def read_screen(folder: str | Path, allow_outside: bool = False,
                received: bool = False, follow_links: bool = True,
                tables_only: bool = False) -> Screen:
    """Read a screen folder and check its tables.

    Parameters
    ----------
    folder : str or Path
        Holds layout.csv, annotations.csv, and load_data.csv or a table of profiles (or both); a
        folder made by acquire or an import also source.json, which says where the images are.
    allow_outside : bool
        Whether the tables may name images outside the screen's folder.
    received : bool
        Whether the folder came from somebody else, so that its source.json is not trusted: images
        lie in the folder, and links that lead out of it are not followed.
    follow_links : bool
        Whether links in the folder of images may lead out of it where source.json is trusted.
    tables_only : bool
        Whether no image will be read, so that it does not matter where images are: nothing but the
        three tables is looked at. They also describe a screen that is still to be imaged.

    Returns
    -------
    Screen

    Raises
    ------
    MoascopeError
        With a sentence for every problem in any of the tables: what is wrong, in which file and
        line, and what to do about it.

    Examples
    --------
    >>> screen = moascope.read_screen("data/acquire")
    >>> screen.layout["Metadata_Control"].value_counts()
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MoascopeError(f"{folder} is not a folder. A screen is a folder with load_data.csv "
                            "(or profiles), layout.csv and annotations.csv.")
    description = {} if tables_only else read_description(folder)
    images = images_folder(folder, description)
    findings = Findings()
    profiles = find_profiles(folder, findings, received and not allow_outside)
    alone = has_profiles(folder) and not (folder / "load_data.csv").exists()
    load_data = None if alone else read_table(folder / "load_data.csv", findings)
    layout_csv = read_table(folder / "layout.csv", findings)
    annotations_csv = read_table(folder / "annotations.csv", findings, may_be_empty=True)

    if received and not (allow_outside or images.resolve().is_relative_to(folder.resolve())):
        raise MoascopeError(f"{description_of(folder)} says that the images lie outside the folder "
                            f"({tidy(description['images'], most=200)}). Add --allow-outside if "
                            "you trust it.")
    outside = (allow_outside or tables_only
               or (not received and bool(description.get("allow_outside"))))
    # Images of an acquired screen are known by checksum, and DVC may keep them as links.
    links = outside or (follow_links and not received and bool(description))
    return checked_screen(load_data, layout_csv, annotations_csv, images, outside, links, findings,
                          profiles, has_profiles(folder))


def checked_screen(load_data: CsvTable | None, layout_csv: CsvTable | None,
                   annotations_csv: CsvTable | None, images: Path, outside: bool, links: bool,
                   findings: Findings, profiles: Profiles | None = None,
                   measured: bool = False) -> Screen:
    """Check the tables of a screen, each for itself and together.

    Parameters
    ----------
    load_data, layout_csv, annotations_csv : CsvTable or None
        None where a table is not there or cannot be read, which `findings` then says.
    images : Path
    outside : bool
        Whether file names may lead out of `images`.
    links : bool
        Whether links in `images` may.
    findings : Findings
    profiles : Profiles, optional
    measured : bool
        Whether there are profiles, in whatever state.

    Raises
    ------
    MoascopeError
        With all problems of `findings`.
    """
    sites, channels = check_sites(load_data, images, outside, links, findings,
                                  measured)
    source = "load_data.csv"
    if profiles is not None:
        findings.warnings += profiles.warnings
        if not channels:
            source = profiles.name
            sites = sites if profiles.rows is None else profiles.sites()
    layout = check_layout(layout_csv, findings)
    annotations = check_annotations(annotations_csv, findings)
    if sites is not None and layout is not None:
        check_sites_have_wells(sites, layout, findings, source)
        if not channels:
            warn_of_wells_without_profile(sites, layout, source, findings)
    if profiles is not None and layout is not None:
        check_compounds_agree(profiles, layout, findings)
    if layout is not None:
        warn_of_controls(layout, findings)
        refuse_doses_in_names(layout, findings)
    if layout is not None and annotations is not None:
        layout = spell_compounds_alike(layout, annotations, findings)
        check_compounds_are_annotated(layout, annotations, findings)
    if findings.problems or sites is None or layout is None or annotations is None:
        raise MoascopeError(findings.problems)
    return Screen(sites, layout, annotations, channels, images, tuple(findings.warnings), profiles)


def read_given_screen(folder: Path, allow_outside: bool = False) -> Screen:
    """Read a screen that a command was given: only what acquire wrote in this project is trusted.

    Parameters and errors are those of `read_screen`.
    """
    own = folder.resolve() == Path("data/acquire").resolve()
    return read_screen(folder, allow_outside, received=not own)


def write_screen(screen: Screen, folder: Path) -> None:
    """Write the three tables into a folder; profiles are written by `write_profile_plates`.

    Each file appears under its name only when it is complete, and equal screens give equal bytes.
    Where `screen.images` is not `folder`, write source.json next to them (`write_description`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in [("load_data.csv", screen.sites), ("layout.csv", screen.layout),
                        ("annotations.csv", screen.annotations)]:
        write_csv(folder / name, table)
