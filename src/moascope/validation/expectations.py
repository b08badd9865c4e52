"""What a valid screen looks like: Great Expectations on its tables and the facts of its planes."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from moascope.params import Validate
from moascope.screen.columns import CONTROLS, GPCR, GPCR_ACTIONS, LAYOUT, SITE, WELL
from moascope.screen.tables import Screen
from moascope.validation.data_docs import make_self_contained
from moascope.validation.profiles import FAR

MOST_EXAMPLES = 10

_INDEX = {"load_data": SITE, "layout": WELL, "annotations": ["Metadata_Compound"],
          "plates": ["Metadata_Plate"], "planes": [*SITE, "Channel"],
          "profiles": SITE, "features": ["Feature"]}
_WELL_NAME = r"^(A?[A-Z])(0[1-9]|[1-3][0-9]|4[0-8])$"
_INCHIKEY = r"^$|^[A-Z]{14}-[A-Z]{10}-[A-Z]$"


class Measured(NamedTuple):
    """Facts of profiles, by row and by feature, as `moascope.validation.profiles` gives them."""

    rows: pd.DataFrame
    features: pd.DataFrame


def check_expectations(
    screen: Screen, planes: pd.DataFrame, quarantine: pd.DataFrame, params: Validate,
    data_docs: Path, measured: Measured | None = None,
) -> list[dict[str, Any]]:
    """Run all expectations and build the Data Docs.

    Parameters
    ----------
    screen : Screen
    planes : DataFrame
        As `moascope.validation.facts.plane_facts` gives it.
    quarantine : DataFrame
        As `moascope.validation.facts.quarantined_sites` gives it.
    params : Validate
        The thresholds.
    data_docs : Path
        The folder for the HTML pages; what is in it is replaced.
    measured : Measured, optional
        Of a screen with profiles.

    Returns
    -------
    list of dict
        One entry per expectation, in the order of their declaration: `table`, `expectation`
        (a sentence), `severity` ("critical" or "warning"), `success`, `unexpected` (how many rows)
        and `examples` (the first of those rows, by plate and well).
    """
    tables = _tables(screen, planes, quarantine)
    # Read at import. Great Expectations must not send analytics.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # It logs a page that it cannot write, with a traceback, and goes on. The next file that we
    # write fails too, and says why in a sentence.
    logging.getLogger("great_expectations.render.renderer.site_builder").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")
        suites = _suites(params, screen)
        if not screen.channels:
            del suites["planes"]
        if measured is not None:
            tables |= _profile_tables(screen, measured)
            suites |= _profile_suites()
        return _run(tables, suites, Path(scratch), data_docs)


def _tables(screen: Screen, planes: pd.DataFrame,
            quarantine: pd.DataFrame) -> dict[str, pd.DataFrame]:
    quarantined = pd.MultiIndex.from_frame(quarantine[SITE])
    sites = screen.sites[[*SITE, "Metadata_Batch"]].copy()
    sites["Quarantined"] = pd.MultiIndex.from_frame(sites[SITE]).isin(quarantined).astype(int)
    sites["HasWell"] = pd.MultiIndex.from_frame(sites[WELL]).isin(
        pd.MultiIndex.from_frame(screen.layout[WELL]))
    sites["SitesInWell"] = sites.groupby(WELL)["Metadata_Site"].transform("size")
    usual = sites.groupby("Metadata_Plate")["SitesInWell"].transform("median")
    sites["WellComplete"] = sites["SitesInWell"] >= usual

    layout = screen.layout.copy()
    annotated = set(screen.annotations["Metadata_Compound"])
    exempt = (layout["Metadata_Control"] == "negative") | (layout["Metadata_Compound"] == "")
    layout["Annotated"] = layout["Metadata_Compound"].isin(annotated) | exempt

    negative = layout[layout["Metadata_Control"] == "negative"]
    by_plate = sites.groupby("Metadata_Plate")
    plates = pd.DataFrame({
        "Batches": by_plate["Metadata_Batch"].nunique(),
        "UsableSites": by_plate["Quarantined"].agg(lambda flags: int((flags == 0).sum())),
    })
    plates["NegativeControls"] = negative["Metadata_Plate"].value_counts().reindex(
        plates.index, fill_value=0)
    return {"load_data": sites, "layout": layout, "annotations": screen.annotations,
            "plates": plates.reset_index(), "planes": planes}


def _suites(params: Validate, screen: Screen) -> dict[str, list[tuple[str, str, Any]]]:
    """For each table: severity, sentence and expectation."""
    from great_expectations import expectations as gxe

    def all_true(column: str) -> Any:
        return gxe.ExpectColumnValuesToBeInSet, {"column": column, "value_set": [True]}

    suites = {
        "load_data": [
            ("critical", "Every site has a plate",
             (gxe.ExpectColumnValueLengthsToBeBetween,
              {"column": "Metadata_Plate", "min_value": 1, "max_value": 200})),
            ("critical", "Every well name is valid, like B02",
             (gxe.ExpectColumnValuesToMatchRegex,
              {"column": "Metadata_Well", "regex": _WELL_NAME})),
            ("critical", "Every site is listed once",
             (gxe.ExpectCompoundColumnsToBeUnique, {"column_list": SITE})),
            ("critical", f"At most {params.max_quarantined:.0%} of the sites are quarantined",
             (gxe.ExpectColumnMeanToBeBetween,
              {"column": "Quarantined", "min_value": 0, "max_value": params.max_quarantined})),
            ("warning", "No site is quarantined",
             (gxe.ExpectColumnValuesToBeInSet, {"column": "Quarantined", "value_set": [0]})),
            ("warning", "Every site lies in a well of layout.csv", all_true("HasWell")),
            ("warning", "Every well has as many sites as most of its plate",
             all_true("WellComplete")),
        ],
        "layout": [
            ("critical", "Every well name is valid, like B02",
             (gxe.ExpectColumnValuesToMatchRegex,
              {"column": "Metadata_Well", "regex": _WELL_NAME})),
            ("critical", "Every well is listed once",
             (gxe.ExpectCompoundColumnsToBeUnique, {"column_list": WELL})),
            ("critical", "Metadata_Control is negative, positive or empty",
             (gxe.ExpectColumnValuesToBeInSet,
              {"column": "Metadata_Control", "value_set": list(CONTROLS)})),
            ("critical", "No concentration is negative",
             (gxe.ExpectColumnValuesToBeBetween, {"column": LAYOUT[3], "min_value": 0})),
            ("warning", "Every compound is annotated", all_true("Annotated")),
        ],
        "annotations": [
            ("critical", "Every compound is annotated once",
             (gxe.ExpectColumnValuesToBeUnique, {"column": "Metadata_Compound"})),
            ("warning", "Every compound has a mechanism",
             (gxe.ExpectColumnValueLengthsToBeBetween,
              {"column": "Metadata_MoA", "min_value": 1})),
        ],
        "plates": [
            ("warning", "Every plate has at least "
             f"{params.min_negative_controls} negative controls to normalise to",
             (gxe.ExpectColumnValuesToBeBetween,
              {"column": "NegativeControls", "min_value": params.min_negative_controls})),
            ("warning", "Every plate has a site that is not quarantined",
             (gxe.ExpectColumnValuesToBeBetween, {"column": "UsableSites", "min_value": 1})),
            ("warning", "Every plate belongs to one batch",
             (gxe.ExpectColumnValuesToBeBetween, {"column": "Batches", "max_value": 1})),
        ],
        "planes": [
            ("critical", "At least one plane can be read",
             (gxe.ExpectColumnMaxToBeBetween, {"column": "Width", "min_value": 1})),
            ("warning", "Every plane can be read", all_true("Readable")),
            ("warning", "Every plane matches its plate and is unchanged since acquire",
             (gxe.ExpectColumnValuesToBeInSet, {"column": "Problem", "value_set": [""]})),
            ("warning", "No plane is blank",
             (gxe.ExpectColumnValuesToBeInSet, {"column": "Blank", "value_set": [False]})),
            ("warning",
             f"At most {params.max_saturated:.1%} of the pixels of a plane are saturated",
             (gxe.ExpectColumnValuesToBeBetween,
              {"column": "Saturated", "max_value": params.max_saturated})),
        ],
    }
    if "gpcr" in screen.annotations:
        suites["annotations"].append(
            ("critical", f"gpcr is one of {', '.join(word for word in GPCR if word)}",
             (gxe.ExpectColumnValuesToBeInSet, {"column": "gpcr", "value_set": list(GPCR)})))
    if "gpcr_action" in screen.annotations:
        # A compound may be an agonist of one receptor and an antagonist of another.
        action = f"({'|'.join(word for word in GPCR_ACTIONS if word)})"
        suites["annotations"].append(
            ("critical",
             f"gpcr_action is one of {', '.join(word for word in GPCR_ACTIONS if word)}, "
             "or several joined by |",
             (gxe.ExpectColumnValuesToMatchRegex,
              {"column": "gpcr_action", "regex": rf"^({action}(\|{action})*)?$"})))
    if "Metadata_InChIKey" in screen.annotations:
        suites["annotations"].append(
            ("warning", "Every InChIKey is well formed",
             (gxe.ExpectColumnValuesToMatchRegex,
              {"column": "Metadata_InChIKey", "regex": _INCHIKEY})))
    return suites


def _profile_tables(screen: Screen, measured: Measured) -> dict[str, pd.DataFrame]:
    wells = pd.MultiIndex.from_frame(screen.layout[WELL])
    rows = measured.rows.assign(
        HasWell=pd.MultiIndex.from_frame(measured.rows[WELL]).isin(wells),
        Twin=(measured.rows["Profile"] != "") & measured.rows.duplicated("Profile", keep=False))
    features = measured.features
    return {"profiles": rows,
            "features": features.assign(Repeats=features["SameAs"] != "")}


def _profile_suites() -> dict[str, list[tuple[str, str, Any]]]:
    from great_expectations import expectations as gxe

    def only(column: str, value: Any) -> Any:
        return gxe.ExpectColumnValuesToBeInSet, {"column": column, "value_set": [value]}

    return {
        "profiles": [
            ("critical", "Every site has one profile",
             (gxe.ExpectCompoundColumnsToBeUnique, {"column_list": SITE})),
            ("critical", "At least one profile has values",
             (gxe.ExpectColumnMaxToBeBetween, {"column": "Known", "strict_min": True,
                                               "min_value": 0})),
            ("warning", "Every profile has values",
             (gxe.ExpectColumnValuesToBeBetween,
              {"column": "Known", "min_value": 0, "strict_min": True})),
            ("warning", "Every profile lies in a well of layout.csv", only("HasWell", True)),
            ("warning", "No two profiles are the same, value by value", only("Twin", False)),
        ],
        "features": [
            ("critical", "At least one feature differs between profiles",
             (gxe.ExpectColumnDistinctValuesToContainSet,
              {"column": "Constant", "value_set": [False]})),
            ("warning", "No value is missing",
             (gxe.ExpectColumnValuesToBeBetween, {"column": "Known", "min_value": 1})),
            ("warning", "No value is infinite", only("Infinite", 0)),
            ("warning", "No feature is constant", only("Constant", False)),
            ("warning", "No feature repeats another", only("Repeats", False)),
            ("warning", f"No value is more than {FAR} robust standard deviations from the median "
             "of its plate", only("Far", 0)),
        ],
    }


def _run(tables: Mapping[str, pd.DataFrame], suites: Mapping[str, Sequence[tuple[str, str, Any]]],
         scratch: Path, data_docs: Path) -> list[dict[str, Any]]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="file", project_root_dir=str(scratch))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    shutil.rmtree(data_docs, ignore_errors=True)
    data_docs.mkdir(parents=True)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    context.add_data_docs_site("moascope", {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend",
                          "base_directory": str(data_docs.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    })
    source = context.data_sources.add_pandas("screen")
    outcomes = []
    for name, rows in suites.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        suite = context.suites.add(gx.ExpectationSuite(name=name))
        for severity, sentence, (expectation, options) in rows:
            suite.add_expectation(expectation(**options, severity=severity, description=sentence))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=suite))
        # Great Expectations hashes its whole input; file names would take most of its time.
        asked = {*_INDEX[name], *(column for _, _, (_, options) in rows for column in
                                  options.get("column_list", [options.get("column")]))}
        result = definition.run(
            batch_parameters={"dataframe": tables[name][[column for column in tables[name]
                                                         if column in asked]]},
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": MOST_EXAMPLES,
                           "unexpected_index_column_names": _INDEX[name]})
        # Great Expectations returns results in its own order.
        order = [sentence for _, sentence, _ in rows]
        found = [_outcome(name, entry) for entry in result.results]
        outcomes += sorted(found, key=lambda outcome: order.index(outcome["expectation"]))
    context.build_data_docs()
    make_self_contained(data_docs, outcomes)
    return outcomes


def _outcome(table: str, entry: Any) -> dict[str, Any]:
    config, result = entry.expectation_config, entry.result
    error = entry.exception_info.get("exception_message")
    if error:
        raise RuntimeError(f"Great Expectations could not check '{config.description}': {error}")
    rows = [] if entry.success else result.get("partial_unexpected_index_list") or []
    return {
        "table": table,
        "expectation": config.description,
        "severity": str(getattr(config.severity, "value", config.severity)),
        "success": bool(entry.success),
        "unexpected": 0 if entry.success else int(result.get("unexpected_count") or 0),
        "examples": list(dict.fromkeys(_place(row, _INDEX[table]) for row in rows)),
    }


def _place(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    return ", ".join(f"{column.removeprefix('Metadata_').lower()} {row[column]}"
                     for column in columns)
