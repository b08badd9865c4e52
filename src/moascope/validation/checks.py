"""Every check of a screen: its tables, its images, and what stops the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moascope.chemistry.structures import structures_of
from moascope.errors import MoascopeError
from moascope.params import Validate
from moascope.screen.columns import SITE
from moascope.screen.compounds import name_key
from moascope.screen.description import read_description
from moascope.screen.manifest import read_manifest
from moascope.screen.tables import Screen, read_screen
from moascope.screen.unread import COLUMNS, unread_planes
from moascope.text import counted, listing
from moascope.validation.expectations import Measured, check_expectations
from moascope.validation.facts import count_reasons, plane_facts, quarantined_sites
from moascope.validation.profiles import (
    PROFILE_FACTS,
    WITHOUT_VALUES,
    profile_facts,
    profile_warnings,
    quarantined_profiles,
    sites_without_profile,
)
from moascope.work.files import write_csv, write_json


def validate_screen(params: Validate, folder: Path, out: Path, report: Path,
                    jobs: int, readings: Path | None = None) -> dict[str, Any]:
    """Check the tables, describe every image, and read every profile once.

    Parameters
    ----------
    params : Validate
    folder : Path
        The screen.
    out : Path
        Gets `planes.parquet`, facts of every plane, `quarantine.csv`, the sites that no later
        stage may use and why, and of a screen with profiles `profiles.parquet`, facts of each.
    report : Path
        Gets `validation.json` and `data_docs/`.
    jobs : int
        Processes.
    readings : Path, optional
        Where what reading images gave is kept (`moascope.screen.readings`); images that have not
        changed since are not opened.

    Returns
    -------
    dict
        What validation.json says.

    Raises
    ------
    MoascopeError
        When the tables cannot be read; validation.json then holds the same sentences.
    """
    out.mkdir(parents=True, exist_ok=True)
    report.mkdir(parents=True, exist_ok=True)
    try:
        screen = read_screen(folder)
        manifest = read_manifest(folder)
    except MoascopeError as error:
        write_json(report / "validation.json", {"problems": error.problems, "success": False})
        raise
    description = read_description(folder)
    planes = plane_facts(screen, manifest, jobs, readings)
    unread = unread_planes(planes) if len(planes) else []
    planes = planes.drop(columns=COLUMNS)
    quarantine = quarantined_sites(planes)
    reasons = count_reasons(planes, quarantine)
    measured: Measured | None = None
    found: dict[str, Any] = {}
    if screen.profiles is not None:
        measured = Measured(*profile_facts(screen.profiles))
        unread = [*unread, *profile_warnings(*measured)]
        found = {"profiles": {"features": len(measured.features), "rows": len(measured.rows)}}
        if screen.channels:
            unread += sites_without_profile(screen.sites, measured.rows, screen.profiles.by_site)
        else:
            quarantine = quarantined_profiles(measured.rows)
            reasons = {WITHOUT_VALUES: len(quarantine)} if len(quarantine) else {}
        write_table(out / PROFILE_FACTS, measured.rows)
    outcomes = check_expectations(screen, planes, quarantine, params, report / "data_docs",
                                  measured)
    validation = {
        "success": all(outcome["success"] for outcome in outcomes
                       if outcome["severity"] == "critical"),
        "source": description.get("source", "folder"),
        "licence": description.get("licence", "not stated"),
        "non_commercial": bool(description.get("non_commercial")),
        "plates": int(screen.sites["Metadata_Plate"].nunique()),
        "wells": len(screen.sites[SITE[:2]].drop_duplicates()),
        "sites": len(screen.sites),
        "planes": len(planes),
        "channels": list(screen.channels),
        "compounds": int(screen.layout.loc[screen.layout["Metadata_Compound"] != "",
                                           "Metadata_Compound"].nunique()),
        "expectations": outcomes,
        "quarantine": {
            "sites": len(quarantine),
            "reasons": reasons,
            "examples": [f"plate {row[0]}, well {row[1]}, site {row[2]}: {row[3]}"
                         for row in quarantine.head(10).itertuples(index=False)],
        },
        "warnings": [*screen.warnings, *unread, *unread_structures(screen)],
        **found,
    }
    write_table(out / "planes.parquet", planes)
    write_csv(out / "quarantine.csv", quarantine)
    write_json(report / "validation.json", validation)
    return validation


def unread_structures(screen: Screen) -> list[str]:
    """A sentence on structures of the screen's compounds that RDKit cannot read, if any.

    They are read for the first time after training, which is late to hear of them. Annotations may
    describe a whole library, of which other compounds do not matter here.
    """
    plated = set(map(name_key, screen.layout["Metadata_Compound"].unique()))
    return structures_of(screen.annotations, [
        name for name in screen.annotations["Metadata_Compound"].unique()
        if name_key(name) in plated]).warnings


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet file that is either there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    table.to_parquet(partial, index=False)
    partial.replace(path)


def stop_if_critical(validation: dict[str, Any], params: Validate) -> None:
    """Raise the sentences of what is critically wrong.

    Raises
    ------
    MoascopeError
    """
    problems = []
    for outcome in validation["expectations"]:
        if outcome["success"] or outcome["severity"] != "critical":
            continue
        if "quarantined" in outcome["expectation"]:
            problems.append(_too_many_quarantined(validation, params))
        else:
            where = f" ({listing(outcome['examples'])})" if outcome["examples"] else ""
            problems.append(f"{outcome['table']}: '{outcome['expectation']}' does not hold{where}. "
                            "Correct it and run validate again.")
    if problems:
        raise MoascopeError(problems)


def _too_many_quarantined(validation: dict[str, Any], params: Validate) -> str:
    quarantine, sites = validation["quarantine"], validation["sites"]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in
                        sorted(quarantine["reasons"].items(), key=lambda item: -item[1]))
    return (f"Quarantined: {quarantine['sites']:,} of {sites:,} sites ({reasons}), more than "
            f"the {params.max_quarantined:.1%} that validate.max_quarantined allows. First: "
            f"{'; '.join(quarantine['examples'][:3])}. Restore the images or profiles and run "
            "acquire again, or raise validate.max_quarantined in params.yaml to go on without "
            "them.")


def closing_words(validation: dict[str, Any], path: Path) -> str:
    """The outcome in one sentence, with the file that says more where there are warnings."""
    sites, quarantine = validation["sites"], validation["quarantine"]
    failed = sum(not outcome["success"] for outcome in validation["expectations"])
    warned = failed + len(validation["warnings"])
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in quarantine["reasons"].items())
    quarantined = f"{quarantine['sites']:,} quarantined" + (f" ({reasons})" if reasons else "")
    return (f"{sites - quarantine['sites']:,} of {sites:,} sites usable; {quarantined}; "
            f"{counted(warned, 'warning')}{f', see {path}' if warned else ''}")
