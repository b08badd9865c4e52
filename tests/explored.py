"""A project after `embed` and `evaluate`, small enough to check by hand."""

import numpy as np
import pandas as pd
from helpers import make_screen

from moascope.evaluation.doses import CURVE_COLUMNS, DOSE_COLUMNS
from moascope.explanation.shares import Share, share_table
from moascope.report.compounds import data_address

MOA = {"C00": "histamine receptor antagonist", "C01": "tubulin inhibitor",
       "C02": "histamine receptor antagonist|HDAC inhibitor", "C03": "",
       "=C04": "tubulin inhibitor", '<b>"C05': ""}
# Profiles of length one whose cosines can be seen.
PROFILE = {"DMSO": [0, 0, 0], "C00": [9, 0, 0], "C01": [0, 9, 0], "C02": [8, 3, 0],
           "C03": [0, 0, 9], "=C04": [0, 8, 3], '<b>"C05': [5, 5, 5]}


REPORT = ('<p><a data-compound="&lt;b&gt;&#34;C05">The hit</a> and '
          '<a data-compound="C99">another</a></p>')
PREDICTIONS = (f'<img data-map="&lt;b&gt;&#34;C05" src="{data_address([np.zeros((8, 8))])}" '
               'alt="map of the compound&#39;s image">')


def write_project(folder):
    """Two plates of three controls and six compounds, one well each on each plate."""
    screen = make_screen(folder / "data/acquire", plates=2, wells=9, controls=3, compounds=6,
                         batches=2, annotations=MOA, size=40)
    layout = pd.read_csv(screen / "layout.csv", dtype=str, keep_default_na=False)
    layout["Metadata_Compound"] = layout["Metadata_Compound"].replace(
        {"C04": "=C04", "C05": '<b>"C05'})
    layout.to_csv(screen / "layout.csv", index=False)
    sites = pd.read_csv(screen / "load_data.csv", dtype=str, keep_default_na=False)
    known = layout.set_index(["Metadata_Plate", "Metadata_Well"])["Metadata_Compound"]
    generator = np.random.default_rng(0)
    for plate, own in sites.groupby("Metadata_Plate"):
        meta = own[["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
                    "Metadata_Panel"]].astype({"Metadata_Site": int}).reset_index(drop=True)
        X = np.array([PROFILE[known[key]] for key in
                      zip(meta["Metadata_Plate"], meta["Metadata_Well"], strict=True)], float)
        X += generator.normal(0, 0.3, X.shape)
        made = folder / "data/embed/CellMobile" / plate
        made.mkdir(parents=True)
        meta.assign(Count_Nuclei=range(len(meta)), QC_Pass=True, **{
            f"CellMobile_DNA_{i}": X[:, i].astype("float32") for i in range(3)}
        ).to_parquet(made / "features.parquet")
        (made / "key.txt").write_text("one\n")
    reports = folder / "reports"
    for name in ("activity", "evaluate", "report"):
        (reports / name).mkdir(parents=True)
    pd.DataFrame({"Metadata_Compound": ["C00", "C01"], "active": ["yes", "no"],
                  "mean_average_precision": [0.9, 0.2], "null_mean": 0.2,
                  "p_value": [0.001, 0.5], "corrected_p_value": [0.002, 0.5]}
                 ).to_csv(reports / "activity/compounds.csv", index=False)
    pd.DataFrame({"Metadata_Compound": ["C00", "C01|=C04"], "P_not_gpcr": [0.1, 0.75],
                  "P_gpcr": [0.9, 0.25], "Predicted": ["gpcr", "not_gpcr"],
                  "Split": ["out_of_fold", "held_out"]}
                 ).to_csv(reports / "evaluate/predictions_compound.csv", index=False)
    pd.DataFrame([["C00", "", dose, 1, distance, distance, distance, distance]
                  for dose, distance in ((0.1, 1.0), (1, 1.1), (10, 4.0))], columns=DOSE_COLUMNS
                 ).to_csv(reports / "activity/doses.csv", index=False)
    pd.DataFrame([["C00", "", 3, 3, 1.3, 0.001, 0.002, "yes", 5.0, 4.0, 2.0, 1.5, 0.9, 2.2],
                  ["C01", "", 1, 2, 1.3, *[None] * 2, "", *[None] * 6]], columns=CURVE_COLUMNS
                 ).to_csv(reports / "activity/curves.csv", index=False)
    share_table({"C00": [Share("channel", "DNA", 1.5, np.nan),
                         Share("channel", "Actin", -0.25, np.nan)]}, {"C00": "gpcr"}
                ).to_csv(reports / "evaluate/shares.csv", index=False)
    share_table({'<b>"C05': [Share("channel", "DNA", 0.5, 0.4)]}, {'<b>"C05': "gpcr"}
                ).to_csv(reports / "report/shares.csv", index=False)
    (reports / "report/report.html").write_text(REPORT)
    (reports / "report/predictions.html").write_text(PREDICTIONS)
    return folder
