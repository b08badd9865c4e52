"""What a screen consists of and what it lacks, as plain numbers for its page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from moascope.screen.columns import SITE, WELL
from moascope.screen.tables import Screen
from moascope.screen.targets import Labels
from moascope.screen.terms import moa_terms
from moascope.screen.wells import plate_format

_ACTION = re.compile(r"(?P<family>.+?)[ ,]+(?:(?:full|inverse|partial|selective|weak)[ _])*"
                     r"(?P<action>(?:ant)?agonist)(?![a-z]).*", re.IGNORECASE | re.DOTALL)
_EXAMPLES = 5


def screen_facts(screen: Screen, labels: Labels, wells: pd.DataFrame, groups: pd.DataFrame,
                 quarantine: pd.DataFrame, failed: pd.DataFrame) -> dict[str, Any]:
    """Count what there is, by panel, class, mechanism and dose, and what is missing.

    Parameters
    ----------
    screen : Screen
    labels : Labels
    wells : DataFrame
        As `moascope.layout.confounds.well_table` gives it.
    groups : DataFrame
        The units of `labels` that have a usable picture, as dealt into folds.
    quarantine, failed : DataFrame
        Sites that validate put into quarantine, and sites that quality control left out:
        `Metadata_Plate`, `Metadata_Well`, `Metadata_Site`.

    Returns
    -------
    dict
        What screen.json says below `screen`.
    """
    sites = screen.sites
    layout = screen.layout
    treated = wells[wells["Metadata_Control"] != "negative"]
    units = set(groups["Metadata_Group"])
    counts = groups["Label"].value_counts()
    plated = treated["Metadata_Compound"].nunique()
    known = _labelled_compounds(screen, labels)
    formats = layout.groupby("Metadata_Plate")["Metadata_Well"].unique().map(plate_format)
    return {
        "plates": int(layout["Metadata_Plate"].nunique()),
        "plate_formats": {str(size): int(count)
                          for size, count in formats.value_counts().sort_index().items()},
        "wells": len(layout),
        "sites": len(sites),
        "planes": int(sum((sites[f"FileName_{channel}"] != "").sum()
                          for channel in screen.channels)),
        "channels": list(screen.channels),
        **({} if screen.profiles is None
           else {"profile_features": len(screen.profiles.features)}),
        "batches": sorted(set(sites["Metadata_Batch"]) - {""}),
        "compounds": int(plated),
        "compounds_with_label": known if labels.question.unit == "compound" else min(known, 1),
        "units": len(groups),
        "unit": labels.question.unit,
        "forms_merged": int(labels.groups["Metadata_Compound"].str.contains("|", regex=False).sum())
        if labels.question.unit == "compound" else 0,
        "classes": {name: int(counts.get(name, 0)) for name in labels.question.classes},
        "panels": _panels(screen, wells, labels, units),
        "mechanisms": _mechanisms(labels, groups, wells),
        "doses": _doses(treated),
        "replicates": _replicates(treated),
        "control_names": {
            kind: sorted(wells.loc[wells["Metadata_Control"] == kind,
                                   "Metadata_Compound"].unique())
            for kind in ("negative", "positive")},
        "missing": _missing(screen, labels, wells, groups, quarantine, failed),
    }


def _labelled_compounds(screen: Screen, labels: Labels) -> int:
    """Names of plated compounds that have a label for the target."""
    names = set("|".join(labels.groups["Metadata_Compound"]).split("|"))
    return len(names & set(screen.layout["Metadata_Compound"]))


def _panels(screen: Screen, wells: pd.DataFrame, labels: Labels,
            units: set[str]) -> list[dict[str, Any]]:
    found = []
    sites = screen.sites
    size = sites.groupby("Metadata_Panel", sort=True).size()
    for panel in sorted(wells["Metadata_Panel"].unique()):
        own = wells[(wells["Metadata_Panel"] == panel) & (wells["Sites"] > 0)]
        here = sites[sites["Metadata_Panel"] == panel]
        treated = own[own["Metadata_Control"] != "negative"]
        labelled = own[own["Metadata_Group"].isin(units)].drop_duplicates("Metadata_Group")
        if own.empty:
            continue
        controls = (own["Metadata_Control"] == "negative").groupby(own["Metadata_Plate"]).sum()
        found.append({
            "panel": panel, "plates": int(own["Metadata_Plate"].nunique()),
            "batches": int((own["Metadata_Batch"][own["Metadata_Batch"] != ""]).nunique()),
            "wells": len(own), "sites": int(size.get(panel, 0)),
            "compounds": int(treated["Metadata_Compound"].nunique()),
            "classes": {name: int((labelled["Label"] == name).sum())
                        for name in labels.question.classes},
            "controls": int(controls.sum()), "fewest_controls": int(controls.min()),
            "most_controls": int(controls.max()),
            "channels": [channel for channel in screen.channels
                         if (here[f"FileName_{channel}"] != "").any()],
        })
    return found


def _mechanisms(labels: Labels, groups: pd.DataFrame, wells: pd.DataFrame) -> list[dict[str, Any]]:
    """Units by mechanism; for a binary target of the positive ones, agonists told apart."""
    asked = groups[groups["Label"].isin(labels.question.scored_names)]
    sizes = wells[wells["Sites"] > 0].groupby("Metadata_Group").agg(
        wells=("Metadata_Well", "size"), panels=("Metadata_Panel", "nunique"))
    rows = []
    for group, moa in zip(asked["Metadata_Group"], asked["Metadata_MoA"], strict=True):
        for family, action in {_family(term) for term in moa_terms(moa)} or {("not stated", "")}:
            rows.append((family, action, group))
    if not rows:
        return []
    table = pd.DataFrame(rows, columns=["family", "action", "group"]).merge(
        sizes, left_on="group", right_index=True, how="left")
    found = []
    for family, part in table.groupby("family", sort=True):
        once = part.drop_duplicates("group")
        found.append({
            "mechanism": family, "units": len(once), "wells": int(once["wells"].sum()),
            "fewest_panels": int(once["panels"].min()), "most_panels": int(once["panels"].max()),
            **{action: int(part.loc[part["action"] == action, "group"].nunique())
               for action in ("agonist", "antagonist")},
        })
    return sorted(found, key=lambda row: (-row["units"], row["mechanism"]))


def _family(term: str) -> tuple[str, str]:
    """A mechanism without its action, and the action: "Histamine receptor", "antagonist"."""
    match = _ACTION.fullmatch(term)
    return (match["family"], match["action"].lower()) if match else (term, "")


def _doses(treated: pd.DataFrame) -> list[dict[str, Any]]:
    dose = treated["Metadata_Concentration_uM"]
    table = treated.groupby(dose.fillna(-1)).agg(
        wells=("Metadata_Well", "size"), compounds=("Metadata_Compound", "nunique"))
    return [{"uM": None if value < 0 else float(value), "wells": int(row.wells),
             "compounds": int(row.compounds)} for value, row in table.iterrows()]


def _replicates(treated: pd.DataFrame) -> dict[str, Any] | None:
    """Wells of a compound at one dose on one panel."""
    imaged = treated[treated["Sites"] > 0]
    if imaged.empty:
        return None
    size = imaged.groupby([imaged["Metadata_Compound"], imaged["Metadata_Panel"],
                           imaged["Metadata_Concentration_uM"].fillna(-1)]).size()
    return {"fewest": int(size.min()), "median": float(size.median()), "most": int(size.max()),
            "single": float((size == 1).mean()), "combinations": len(size)}


def _missing(screen: Screen, labels: Labels, wells: pd.DataFrame, groups: pd.DataFrame,
             quarantine: pd.DataFrame, failed: pd.DataFrame) -> list[dict[str, Any]]:
    """What is not there or not known: one entry a kind, also where nothing is missing."""
    sites, layout = screen.sites, screen.layout
    treated = layout[(layout["Metadata_Control"] != "negative")
                     & (layout["Metadata_Compound"] != "")]
    compounds = pd.Index(sorted(treated["Metadata_Compound"].unique()))
    annotations = screen.annotations
    with_row = set(annotations["Metadata_Compound"])
    labelled = set("|".join(labels.groups["Metadata_Compound"]).split("|"))
    unannotated = compounds[~compounds.isin(with_row)]
    unknown = compounds[~compounds.isin(labelled | set(unannotated))]
    no_image = wells[wells["Sites"] == 0]
    in_layout = pd.MultiIndex.from_frame(layout[WELL])
    site_wells = sites[WELL].drop_duplicates()
    strangers = site_wells[~pd.MultiIndex.from_frame(site_wells).isin(in_layout)]
    number = sites.groupby(WELL).size().rename("n").reset_index()
    usual = number.groupby("Metadata_Plate")["n"].transform("median")
    few = number[number["n"] < usual]
    controls = set(wells.loc[wells["Metadata_Control"] == "negative", "Metadata_Plate"])
    plates = pd.Index(sorted(wells["Metadata_Plate"].unique()))
    bare = plates[~plates.isin(controls)]
    panel_of = wells[wells["Sites"] > 0]
    panels = sorted(panel_of["Metadata_Panel"].unique())
    with_control = set(panel_of.loc[panel_of["Metadata_Control"] == "negative", "Metadata_Panel"])
    imaged = panel_of[panel_of["Metadata_Control"] != "negative"]
    on = imaged.groupby("Metadata_Compound")["Metadata_Panel"].nunique()
    lost = labels.groups.loc[~labels.groups["Metadata_Group"].isin(groups["Metadata_Group"]),
                             "Metadata_Compound"]
    keyless = annotations.loc[annotations["Metadata_Compound"].isin(compounds)
                              & (annotations.get("Metadata_InChIKey", "") == ""),
                              "Metadata_Compound"]
    undosed = treated[treated["Metadata_Concentration_uM"].isna()]
    return [
        _lack("wells_without_images", len(no_image), len(wells), _places(no_image)),
        _lack("empty_wells", int((layout["Metadata_Compound"] == "").sum()), len(layout),
              _places(layout[layout["Metadata_Compound"] == ""])),
        _lack("wells_not_in_layout", len(strangers), len(site_wells), _places(strangers)),
        _lack("wells_with_fewer_sites", len(few), len(number), _places(few)),
        _lack("sites_quarantined", len(quarantine), len(sites), _places(quarantine)),
        _lack("sites_failing_quality_control", len(failed), len(sites), _places(failed)),
        _lack("compounds_without_annotation", len(unannotated), len(compounds), unannotated),
        _lack("compounds_of_unknown_class", len(unknown), len(compounds), unknown),
        _lack("compounds_without_usable_picture", len(lost), len(labels.groups), lost),
        _lack("compounds_not_on_every_panel", int((on < len(panels)).sum()), len(on),
              on.index[on < len(panels)]),
        _lack("compounds_without_inchikey", len(keyless), len(compounds), keyless),
        _lack("wells_without_concentration", len(undosed), len(treated), _places(undosed)),
        _lack("plates_without_negative_controls", len(bare), len(plates), bare),
        _lack("panels_without_negative_controls", len(panels) - len(with_control), len(panels),
              [panel or "(no name)" for panel in panels if panel not in with_control]),
    ]


def _lack(name: str, count: int, of: int, examples: Iterable[Any]) -> dict[str, Any]:
    return {"name": name, "count": int(count), "of": int(of),
            "examples": [str(example) for example in list(examples)[:_EXAMPLES]]}


def _places(rows: pd.DataFrame) -> list[str]:
    columns = [column for column in SITE if column in rows]
    return [" ".join(str(value) for value in row)
            for row in rows[columns].head(_EXAMPLES).itertuples(index=False)]


def plate_summaries(wells: pd.DataFrame, asked: list[str]) -> dict[str, pd.DataFrame]:
    """What lies at every place, over all plates of one format.

    Parameters
    ----------
    wells : DataFrame
        As `moascope.layout.confounds.well_table` gives it.
    asked : list of str
        Classes that count as hits.

    Returns
    -------
    dict
        Plate format ("96", "384", "1536") -> DataFrame indexed by well: `Plates` that use the
        place, `Negative` and `Positive` (share of them where a control is there), `Compounds` (how
        many different ones), `Dose` (median of log10 micromolar), `Hits` (share of its labelled
        wells) and `Missing` (share without an image).
    """
    kept = wells[["Metadata_Plate", "Metadata_Well"]].copy()
    control = wells["Metadata_Control"]
    kept["Negative"], kept["Positive"] = control == "negative", control == "positive"
    kept["Compound"] = pd.factorize(wells["Metadata_Compound"].where(control != "negative"))[0]
    dose = wells["Metadata_Concentration_uM"].where(control == "")
    kept["Dose"] = np.log10(dose.where(dose > 0))
    kept["Hits"] = wells["Label"].isin(asked).astype(float).where(wells["Label"] != "")
    kept["Missing"] = wells["Sites"] == 0
    size = kept.groupby("Metadata_Plate")["Metadata_Well"].unique().map(plate_format)
    found = {}
    for plate_size, part in kept.groupby(kept["Metadata_Plate"].map(size), sort=True):
        by_place = part.groupby("Metadata_Well")
        table = by_place.agg(
            Plates=("Metadata_Plate", "nunique"), Negative=("Negative", "mean"),
            Positive=("Positive", "mean"), Dose=("Dose", "median"), Hits=("Hits", "mean"),
            Missing=("Missing", "mean"))
        table["Compounds"] = part[part["Compound"] >= 0].groupby("Metadata_Well")[
            "Compound"].nunique()
        found[str(plate_size)] = table.fillna({"Compounds": 0})
    return found
