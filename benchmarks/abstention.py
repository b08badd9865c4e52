"""What is promised of calls, and what is kept, on a simulated screen and on real cells.

    python benchmarks/abstention.py [--data ../shared/data] [--seed 2001]

Simulated: the preset `literature` with the default size and a seed of its own, cellmobile, GPCR
against the rest. Real: BBBC021, well means of CellProfiler (38 compounds of 12 mechanisms, 55
plates of 10 weeks, which are its batches) and every mechanism as a class; and its images (12
compounds of 6 mechanisms, no DMSO), cellmobile. Logistic regression everywhere, 90 % coverage and
5 % novelty asked, nothing tuned. Prints a Markdown table for each.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import moascope
from moascope.api.features import feature_table
from moascope.evaluation.abstention import evaluate_abstention
from moascope.evaluation.activity import INACTIVE, UNTESTED, measure_activity
from moascope.features.table import FeatureTable
from moascope.importing.profiles.run import import_profiles
from moascope.learning.batch_distance import control_plates
from moascope.learning.examples import Examples
from moascope.learning.final import final_model, fit_final, predictions_table, resolve
from moascope.learning.folds import Folds
from moascope.learning.joining import dealt_examples
from moascope.learning.nested import nested
from moascope.learning.trust import fit_trust
from moascope.params import Activity, Embed
from moascope.params_file import parse_params

DRAWS = 5
"""Times that DMSO wells are grouped into compounds."""

BBBC021_HEAD = {"normalisation": "moderated+sphere", "selection": "distinct"}


def measured(features: pd.DataFrame, folds: Folds, head: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluate` writes of abstention, for a logistic regression on these folds."""
    params = parse_params({"train": {"head": "logistic", **head}}, "abstention")
    examples = dealt_examples(feature_table(features), folds)
    chosen = resolve(params, {})
    outer = [(repeat, fold) for repeat in range(examples.repeats)
             for fold in range(examples.fold_count)]
    logits, calibrations = nested(examples, dict.fromkeys(outer, chosen), params.train, 0)
    final, _, of_final = fit_final(examples, chosen, logits, params)
    trust = fit_trust(examples, chosen, params.train, logits, of_final)
    model = final_model(examples, final, of_final, chosen, params, (), Embed(), {}, trust)
    table = predictions_table(examples, "compound", logits, calibrations["compound"], final,
                              of_final["compound"], chosen, params)
    found = evaluate_abstention(table, examples, model, 0)
    assert found is not None
    return found | {"batches": unlike_batches(examples, trust.rate)}


def unlike_batches(examples: Examples, rate: float) -> tuple[int, int] | None:
    """Plates of each batch that are unlike the others', and all that could be tested."""
    meta, controls = examples.meta, examples.controls
    batch = meta["Metadata_Batch"].to_numpy(str)
    unlike = tested = 0
    for one in np.unique(batch):
        known, new = controls & (batch != one), controls & (batch == one)
        if known.any() and new.any():
            apart = control_plates(meta[known], examples.features[known], rate).distances(
                meta[new], examples.features[new])
            unlike += int((apart["Distance"] > apart["Limit"]).sum())
            tested += len(apart)
    return (unlike, tested) if tested else None


def inactive_controls(features: pd.DataFrame) -> tuple[int, int] | None:
    """Unmarked DMSO wells, a quarter of each plate's: one of each plate of a batch is a compound.

    Returns
    -------
    tuple of int
        How many of these compounds are called inactive, and how many there were in all draws.
    """
    table = feature_table(features)
    negative = (table.meta["Metadata_Control"] == "negative").to_numpy()
    wells = table.meta[negative].drop_duplicates(["Metadata_Plate", "Metadata_Well"])
    inactive = tested = 0
    for draw in range(DRAWS if negative.any() else 0):
        generator = np.random.default_rng(draw)
        mixed = wells.iloc[generator.permutation(len(wells))]
        by = mixed.groupby("Metadata_Plate")
        rank, count = by.cumcount(), by["Metadata_Well"].transform("size")
        taken = mixed[rank < count // 4].assign(Name=lambda own, rank=rank: [
            f"unmarked {batch} {number}" for batch, number in
            zip(own["Metadata_Batch"], rank[own.index], strict=True)])
        names = taken.set_index(["Metadata_Plate", "Metadata_Well"])["Name"]
        own = pd.MultiIndex.from_frame(table.meta[["Metadata_Plate", "Metadata_Well"]]).map(
            names).fillna("").to_numpy(str)
        meta = table.meta.assign(
            Metadata_Compound=np.where(own != "", own, table.meta["Metadata_Compound"]),
            Metadata_Control=np.where(own != "", "", table.meta["Metadata_Control"]),
            Metadata_Concentration_uM=np.where(own != "", 1.0,
                                               table.meta["Metadata_Concentration_uM"]))
        called = measure_activity(FeatureTable(meta, table.X, table.names), Activity(),
                                  draw).compounds.set_index("Metadata_Compound")["active"]
        said = called[called.index.isin(set(names))]
        inactive += int((said == INACTIVE).sum())
        tested += int((said != UNTESTED).sum())
    return (inactive, tested) if tested else None


def of(pair: tuple[int, int] | Mapping[str, int] | None, count: str = "") -> str:
    """"3 of 40", or an en dash."""
    if pair is None:
        return "–"
    hits, all_of = (pair[count], pair["n"]) if isinstance(pair, Mapping) else pair
    return f"{hits} of {all_of} ({hits / all_of:.0%})"


def show(name: str, found: dict[str, Any], inactive: tuple[int, int] | None) -> None:
    """Two Markdown tables: sets and calls, and what is not called."""
    print(f"\n{name}: {found['training_compounds'] or '–'} training compounds with a profile; "
          f"asked: {found['coverage']:.0%} coverage, {found['novelty_rate']:.0%} novelty\n\n"
          "| | compounds | set holds the true class | 95 % interval | called | right |\n"
          "|---|---|---|---|---|---|")
    for key, words in (("unseen_compounds", "unseen compounds"), ("held_out", "held-out compounds"),
                       ("unseen_batch", "unseen compounds of an unseen batch"),
                       ("unseen_mechanisms", "compounds of an unseen mechanism")):
        one = found[key]
        if one is None:
            continue
        covered = (f"{one['covered']} ({one['share_covered']:.0%}) | {one['low']:.0%} to "
                   f"{one['high']:.0%}" if "covered" in one else "cannot | –")
        print(f"| {words} | {one['n']} | {covered} | {one['called']} | "
              f"{one['right_when_called']} |")
    print("\n| | |\n|---|---|\n"
          f"| DMSO wells in the place of compounds, called inactive | {of(inactive)} |\n"
          f"| DMSO wells that would get a class without the test of activity | "
          f"{of(found['dmso_wells'], 'called')} |\n"
          f"| held-out compounds called novel | {of(found['novel']['held_out'], 'novel')} |\n"
          f"| compounds of an unseen mechanism called novel | "
          f"{of(found['novel']['unseen_mechanisms'], 'novel')} |\n"
          f"| plates of a batch that was left out, called unlike training | "
          f"{of(found['batches'])} |", flush=True)


def simulated(seed: int, folder: Path) -> None:
    screen = moascope.simulate_screen(folder, seed=seed, preset="literature", jobs=2)
    features = moascope.extract_features(screen, "cellmobile", jobs=2)
    found = measured(features, moascope.make_folds(screen, features, "gpcr"),
                     {"normalisation": "plate"})
    show(f"Simulated, preset literature, seed {seed}", found, inactive_controls(features))


def well_means(data: Path, folder: Path) -> None:
    tables = data / "tables"
    import_profiles([data / "profiles" / "bbbc021"], folder, layout=tables / "BBBC021_v1_image.csv",
                    annotations=tables / "BBBC021_v1_moa.csv")
    rows = pd.read_parquet(folder / "profiles.parquet")
    rows["Metadata_Batch"] = rows["Metadata_Plate"].str.partition("_")[0]
    screen = moascope.read_screen(folder)
    features = moascope.add_metadata(rows, screen)
    found = measured(features, moascope.make_folds(screen, features, "moa", folds=3, holdout=0.0),
                     BBBC021_HEAD)
    show("BBBC021, well means", found, inactive_controls(features))


def images(data: Path) -> None:
    screen = moascope.read_screen(data / "bbbc021")
    features = moascope.extract_features(screen, "cellmobile", jobs=2)
    found = measured(features, moascope.make_folds(screen, features, "moa", folds=3, holdout=0.0),
                     {"normalisation": "plate"})
    show("BBBC021, images", found, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with bbbc021/, profiles/ and tables/")
    parser.add_argument("--seed", type=int, default=2001)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    with tempfile.TemporaryDirectory() as work:
        if arguments.data is not None:
            well_means(arguments.data, Path(work) / "means")
            images(arguments.data)
        simulated(arguments.seed, Path(work) / "simulated")


if __name__ == "__main__":
    main()
