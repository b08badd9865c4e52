"""What each page of the explorer shows."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from moascope.annotation.pictures import channel_colours
from moascope.evaluation.doses import DoseResponses
from moascope.exploring.find import (
    NOTHING,
    PAGE,
    Asked,
    Finder,
    legend_of,
    scale_of,
)
from moascope.exploring.index import Index
from moascope.exploring.pictures import HIGH, LOW, Pictures
from moascope.exploring.responses import (
    curves_across,
    draw_curves,
    drawn_curves,
    responses_of,
    said_of_doses,
)
from moascope.exploring.said import UNPREDICTED, Said
from moascope.report.explanation import FIRST
from moascope.screen.wells import well_name
from moascope.text import number, p_value

COMPOUND_COLOURS = {"mechanism": "Mechanism", "activity": "Activity", "prediction": "Prediction",
                    "batch": "Batch", "plate": "Plate"}
WELL_COLOURS = {"mechanism": "Mechanism", "compound": "Compound", "activity": "Activity",
                "prediction": "Prediction", "cells": "Cells per image",
                "distance": "Distance from DMSO", "concentration": "Concentration (µM)"}
_MEASURED = {"cells": "Cells", "distance": "Distance",
             "concentration": "Metadata_Concentration_uM"}
VIEWS = 4
"""Wells of a compound that are shown beside a control."""

THUMBNAIL = 480
_SHAPES = ("●", "■", "▲", "◆", "▼", "✚", "✖")
LETTERS = ("A", "B", "C", "D", "E", "F", "G", "·", "", "N")
"""One for each code of a legend; a negative control is N."""


class Explorer:
    """A screen that is being looked at; nothing of it is changed.

    Attributes
    ----------
    index : Index
    said : Said
    finder : Finder
    pictures : Pictures
    frame : dict
        What every page shows.
    """

    def __init__(self, index: Index, said: Said, title: str = ""):
        self.index, self.said = index, said
        self.finder, self.pictures = Finder(index, said), Pictures(index)
        self.frame = {
            "title": title, "letters": LETTERS, "shapes": (*_SHAPES, "○", "·", "✳"),
            "number": number, "p_value": p_value, "has_images": bool(index.channels),
            "compounds": len(index.compounds), "plates": len(index.plates)}

    def map_page(self, asked: Asked, colour: str, page: int) -> dict[str, Any]:
        """The map, its legend, and one page of the list of compounds that are asked for."""
        finder, table = self.finder, self.finder.table
        colour = colour if colour in COMPOUND_COLOURS else "mechanism"
        legend, rows = finder.legend(colour), finder.matching(asked)
        page, pages, shown = _paged(rows, page)
        placed = table["Profile"].to_numpy(bool)
        matched = np.zeros(len(table), int)
        matched[rows] = 1
        points = {"x": _thousandths(table["X"], placed), "y": _thousandths(table["Y"], placed),
                  "code": legend.code[placed].tolist(), "matched": matched[placed].tolist(),
                  "name": table["Metadata_Compound"][placed].tolist(),
                  "of": table[COMPOUND_COLOURS[colour] if colour not in ("batch", "plate")
                              else colour.capitalize()][placed].tolist()}
        filters = {"q": asked.text, "mechanism": asked.mechanism, "activity": asked.activity,
                   "prediction": asked.prediction, "panel": asked.panel,
                   "box": ",".join(f"{part:.4g}" for part in asked.box)}
        return {
            "asked": asked, "filters": filters, "colour": colour, "colours": COMPOUND_COLOURS,
            "legend": legend.names, "points": _as_script(points), "count": len(rows),
            "rows": table.iloc[shown].to_dict("records"), "page": page, "pages": pages,
            "map": {"umap": "UMAP", "pca": "the first two principal components"}[self.index.map],
            "placed": int(placed.sum()), "mechanisms": finder.mechanisms,
            "activities": finder.activities, "predictions": finder.predictions,
            "panels": finder.panels, "filtered": any(filters.values())}

    def plate_page(self, name: str, colour: str, well: str, given: Any) -> dict[str, Any] | None:
        """A plate, and the pictures of one of its wells; None where there is no such plate."""
        plates = self.index.plates
        number_of = self.index.plate(name) if name else 0
        if number_of < 0 or not len(plates):
            return None
        name = plates["Metadata_Plate"].iloc[number_of]
        colour = colour if colour in WELL_COLOURS else "mechanism"
        wells = self.index.wells_of_plate(number_of)
        code, legend, edges, value = self._well_colours(wells, colour)
        rows, columns = int(plates["Rows"].iloc[number_of]), int(plates["Columns"].iloc[number_of])
        grid: list[list[dict[str, Any] | None]] = [[None] * columns for _ in range(rows)]
        compounds = self.finder.table["Metadata_Compound"].to_numpy()
        for at, one in enumerate(wells.itertuples()):
            compound = compounds[one.Compound] if one.Compound >= 0 else ""
            grid[one.Row][one.Column] = {
                "well": one.Metadata_Well, "code": int(code[at]), "compound": compound,
                "concentration": one.Metadata_Concentration_uM, "value": value[at]}
        return {
            "plate": name, "predicted": bool(self.finder.predictions), "colour": colour,
            "colours": WELL_COLOURS, "grid": grid, "legend": legend, "edges": edges,
            "names": plates["Metadata_Plate"].tolist(),
            "row_names": [well_name(row, 0)[:-2] for row in range(rows)],
            "batch": plates["Batch"].iloc[number_of], "columns": columns,
            "previous": plates["Metadata_Plate"].iloc[number_of - 1] if number_of else "",
            "following": (plates["Metadata_Plate"].iloc[number_of + 1]
                          if number_of + 1 < len(plates) else ""),
            "looked": self._looked(number_of, wells, well, given) if well else None,
            "well": well}

    def compound_page(self, name: str, page: int) -> dict[str, Any] | None:
        """All that is known of a compound; None where the screen has no such compound."""
        row = self.finder.row(name)
        if row < 0:
            return None
        table, wells = self.finder.table, self.index.wells_of_compound(row)
        page, pages, shown = _paged(np.arange(len(wells)), page)
        predicted = self.said.wells
        listed = [{"plate": one.Metadata_Plate, "well": one.Metadata_Well, "panel": one.Panel,
                   "batch": one.Batch, "concentration": one.Metadata_Concentration_uM,
                   "cells": one.Cells, "distance": one.Distance,
                   "predicted": predicted.get((one.Metadata_Plate, one.Metadata_Well), "")}
                  for one in wells.iloc[shown].itertuples()]
        own = responses_of(self.said.responses, name)
        near = [{**table.iloc[other].to_dict(), "cosine": cosine}
                for other, cosine in self.finder.nearest(row)]
        return {
            "row": table.iloc[row].to_dict(), "activity": self.said.activity.get(name),
            "prediction": self.said.predictions.get(name), "near": near, "wells": listed,
            "doses": _doses(own, wells), "page": page, "pages": pages,
            "across": curves_across(own), "said_of_doses": said_of_doses(own),
            "why": self.said.why.get(name), "kinds": FIRST,
            "of_map": self.said.maps.get(name, (b"", ""))[1],
            "views": self._views(wells), "reports": list(self.said.pages),
            "has_measures": bool(np.isfinite(wells["Distance"]).any())}

    def curves(self, name: str) -> str:
        """The dose-responses of a compound as SVG; empty where nothing can be drawn."""
        own = responses_of(self.said.responses, name)
        return draw_curves(own) if len(drawn_curves(own)) else ""

    def export(self, asked: Asked, ticked: list[str]) -> tuple[str, pd.DataFrame]:
        """A table of what is asked for, or of the ticked compounds alone, and its file's name."""
        rows = self.finder.matching(asked)
        if ticked:
            rows = np.array(sorted({self.finder.row(name) for name in ticked} - {-1}), int)
        table = self.finder.table.iloc[rows]
        said = [self.said.predictions.get(name, {}) for name in table["Metadata_Compound"]]
        return "compounds.csv", pd.DataFrame({
            "Metadata_Compound": table["Metadata_Compound"], "Metadata_MoA": table["Metadata_MoA"],
            "Metadata_Control": table["Control"], "Wells": table["Wells"],
            "Plates": table["Plates"], "Batches": table["Batch"], "Panels": table["Panel"],
            "Distance": table["Distance"].round(4), "Activity": table["Activity"],
            "Prediction": table["Prediction"], "Set": [one.get("set", "") for one in said],
            "Probability": [one.get("probability", np.nan) for one in said],
            "Map_X": table["X"].round(4), "Map_Y": table["Y"].round(4)})

    def _well_colours(self, wells: pd.DataFrame, colour: str
                      ) -> tuple[np.ndarray, list[Any], list[float], list[str]]:
        """Code of each well, legend, edges of a scale, and the value in words."""
        if colour in _MEASURED:
            values = wells[_MEASURED[colour]]
            code, edges = scale_of(values)
            return code, [], edges, [f"{value:.3g}" if math.isfinite(value) else "not measured"
                                     for value in values.to_numpy(float)]
        table, compound = self.finder.table, wells["Compound"].to_numpy()
        column = {"mechanism": "Mechanism", "activity": "Activity",
                  "prediction": "Prediction"}.get(colour, "Metadata_Compound")
        values = pd.Series(np.where(compound >= 0, table[column].to_numpy(object)[compound], ""))
        if colour == "prediction" and self.said.wells:
            values = pd.Series([self.said.wells.get(key, UNPREDICTED) for key in
                                zip(wells["Metadata_Plate"], wells["Metadata_Well"], strict=True)])
        negative = (wells["Control"] == "negative").to_numpy()
        legend = legend_of(values, negative)
        empty = (compound < 0) & ~negative
        legend.code[empty] = NOTHING
        return legend.code, legend.names, [], values.replace("", "unknown").tolist()

    def _looked(self, plate: int, wells: pd.DataFrame, well: str, given: Any
                ) -> dict[str, Any] | None:
        """What a person sees of one well of a plate."""
        own = wells[wells["Metadata_Well"] == well]
        if not len(own):
            return None
        one = own.iloc[0]
        sites = self.pictures.sites(plate, well)
        numbers = sites["Metadata_Site"].tolist()
        asked = given.get("site", "")
        site = next((number for number in numbers if str(number) == asked),
                    numbers[0] if numbers else 0)
        channels = self._channels(sites.iloc[0].to_dict()) if len(sites) else []
        chosen = [name for name in channels if name in given.getlist("channel")] or channels
        control = nearest_control(wells, one)
        row = int(one["Compound"])
        return {
            "compound": self.finder.table["Metadata_Compound"].iloc[row] if row >= 0 else "",
            "mechanism": self.finder.table["Mechanism"].iloc[row] if row >= 0 else "",
            "is_control": one["Control"] == "negative", "panel": one["Panel"],
            "concentration": one["Metadata_Concentration_uM"], "cells": one["Cells"],
            "distance": one["Distance"], "sites": numbers, "site": site, "chosen": chosen,
            "channels": channels, "colours": dict(zip(
                channels, channel_colours(channels), strict=True)),
            "control": control, "control_site": self._first_site(plate, control),
            "low": given.get("low") or LOW, "high": given.get("high") or HIGH}

    def _channels(self, row: dict[str, Any]) -> list[str]:
        return [name for name in self.index.channels if row[f"FileName_{name}"]]

    def _first_site(self, plate: int, well: str) -> int | None:
        row = self.pictures.site(plate, well) if well else None
        return None if row is None else int(row["Metadata_Site"])

    def _views(self, wells: pd.DataFrame) -> list[dict[str, Any]]:
        """Wells at the highest doses, on as many plates as there are, each with a control."""
        if not self.index.channels:
            return []
        wells = wells[wells["Sites"] > 0].sort_values(
            "Metadata_Concentration_uM", ascending=False, kind="stable")
        turn = wells.groupby("Metadata_Plate", observed=True).cumcount()
        found = []
        for at in turn.sort_values(kind="stable").index[:VIEWS]:
            one = wells.loc[at]
            plate = self.index.plate(str(one["Metadata_Plate"]))
            control = nearest_control(self.index.wells_of_plate(plate), one)
            found.append({
                "plate": one["Metadata_Plate"], "well": one["Metadata_Well"], "control": control,
                "concentration": one["Metadata_Concentration_uM"],
                "site": self._first_site(plate, str(one["Metadata_Well"])),
                "control_site": self._first_site(plate, control), "side": THUMBNAIL})
        return found


def _doses(own: DoseResponses, wells: pd.DataFrame) -> list[dict[str, Any]]:
    """Doses with their distance from the controls: as `activity` measured it, else as here."""
    if len(own.doses):
        return [{"panel": one["Metadata_Panel"], "wells": one["wells"],
                 "concentration": one["Metadata_Concentration_uM"],
                 "distance": one["distance"]} for one in own.doses.to_dict("records")]
    by = wells.groupby(["Panel", "Metadata_Concentration_uM"], observed=True)["Distance"]
    return [{"panel": panel, "concentration": dose, "wells": len(values),
             "distance": float(values.mean())} for (panel, dose), values in by]


def nearest_control(wells: pd.DataFrame, one: Any) -> str:
    """The negative-control well of a plate that is nearest to a well and has pictures, or "".

    Parameters
    ----------
    wells : DataFrame
        Of the plate.
    one : Series
        A row of it; itself does not count.
    """
    controls = wells[(wells["Control"] == "negative") & (wells["Sites"] > 0)
                     & (wells["Metadata_Well"] != one["Metadata_Well"])]
    if not len(controls):
        return ""
    apart = ((controls["Row"].astype(int) - int(one["Row"])) ** 2
             + (controls["Column"].astype(int) - int(one["Column"])) ** 2)
    return str(controls["Metadata_Well"].iloc[int(np.argmin(apart.to_numpy()))])


def _paged(rows: np.ndarray, page: int) -> tuple[int, int, np.ndarray]:
    pages = max(1, -(-len(rows) // PAGE))
    page = min(max(page, 1), pages)
    return page, pages, rows[(page - 1) * PAGE:page * PAGE]


def _thousandths(values: pd.Series, placed: np.ndarray) -> list[int]:
    return (values.to_numpy(float)[placed] * 1000).round().astype(int).tolist()


def _as_script(content: Any) -> Any:
    """JSON inside a script element: nothing in it can end the element."""
    from markupsafe import Markup

    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028")
                  .replace("\u2029", "\\u2029"))


