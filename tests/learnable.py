"""Examples whose answer is known: compounds whose first feature tells their class."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from moascope.features.disk import written
from moascope.features.table import FeatureTable
from moascope.learning.dealing import assign_folds
from moascope.learning.examples import Examples
from moascope.params import Head, Train
from moascope.screen.question import Question
from moascope.screen.tables import Screen

HEAD = Head(level="site", normalisation="plate", layers=0, learning_rate=0.02, epochs=30,
            dropout=0, l2=1e-2)
TRAIN = Train(panels="pooled", batch_size=64)


def make_examples(compounds=30, wells=2, sites=2, effect=3.0, panels=1, well_noise=0.5, seed=0):
    """Compounds whose first feature tells the class, with wells and images that share noise."""
    rng = np.random.default_rng(seed)
    groups = pd.DataFrame({
        "Metadata_Group": [f"g{i}" for i in range(compounds)],
        "Metadata_Compound": [f"C{i}" for i in range(compounds)],
        "Label": ["t" if i % 3 == 0 else "not_t" for i in range(compounds)],
        "Metadata_MoA": ["a" if i % 3 == 0 else "b" for i in range(compounds)],
        "gpcr_action": "",
    })
    groups = assign_folds(groups, 3, 2, 0.2, seed=0)
    rows, features, group = [], [], []
    for panel in range(panels):
        for i in range(compounds):
            for w in range(wells):
                own = rng.normal(size=20) * well_noise
                own[0] += effect * (i % 3 == 0)
                number = i * wells + w
                well = f"{chr(65 + number // 24)}{1 + number % 24:02d}"
                for s in range(sites):
                    rows.append((f"P{panel}", well, s, "B", f"panel{panel}", f"C{i}", float(w), ""))
                    features.append(own + rng.normal(size=20) * 0.05)
                    group.append(i)
    meta = pd.DataFrame(rows, columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel",
        "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"])
    names = ("Count_Nuclei", "Intensity_DNA_Mean", *(f"M_{i}" for i in range(18)))
    return Examples(meta, np.asarray(features, np.float32), names, np.array(group), groups,
                    Question("t", ("not_t", "t"), True))


def with_plate_controls(examples, rng, wells=8):
    """The examples, every plate with control wells at its bottom."""
    meta, features, group = [examples.meta], [examples.features], [examples.group]
    for plate, rows in examples.meta.groupby("Metadata_Plate"):
        own = rows.iloc[np.zeros(wells * 2, int)].assign(
            Metadata_Well=[f"P{1 + i // 2:02d}" for i in range(wells * 2)],
            Metadata_Site=[i % 2 for i in range(wells * 2)], Metadata_Compound="DMSO",
            Metadata_Concentration_uM=np.nan, Metadata_Control="negative")
        meta.append(own.assign(Metadata_Plate=plate))
        features.append(rng.normal(size=(wells * 2, 20)).astype(np.float32) * 0.5)
        group.append(np.full(wells * 2, -1))
    return replace(examples, meta=pd.concat(meta, ignore_index=True),
                   features=np.concatenate(features), group=np.concatenate(group), _cache={})


def laid_on_disk(examples, folder):
    """The same examples with their features on disk, in a file of that folder."""
    return replace(examples, _cache={}, features=written(
        examples.features.shape, [examples.features], folder))


def as_screen(examples):
    """The examples as a screen that is predicted, and its features."""
    meta = examples.meta
    layout = meta.drop_duplicates(["Metadata_Plate", "Metadata_Well"])[[
        "Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Metadata_Concentration_uM",
        "Metadata_Control"]]
    rows = meta[["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
                 "Metadata_Panel"]]
    annotations = layout[["Metadata_Compound"]].drop_duplicates()
    table = FeatureTable(rows.assign(QC_Pass=True), examples.features, list(examples.names))
    return Screen(rows, layout, annotations, (), Path()), table
