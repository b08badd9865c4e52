"""Are the maps of crops true of the model? Squares that they mark are deleted, and random ones.

    python benchmarks/faithfulness.py                            # this project's screen
    python benchmarks/faithfulness.py --screen ../shared/data/bbbc021 --target moa

Every compound is explained by the model of the fold that left it out, in its typical image: that
of the median log-odds at the highest dose. Of a binary target these are the compounds at the top
of the list, of several classes all of them, for the class that is called. What is deleted is
replaced by the crop of one of the plate's negative controls, and by a level: the mean of the
plate's controls, or without controls the median of the crop. Next to what the map marks stand
random squares, the brightest ones, those of a map of a random head, and those of gradient times
input, with exact gradients through the head and the backbone's twin in Keras (`gradients.py`). A
`window` is a quarter of one channel in one piece, in the place of a fifth of all squares. Prints
Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from gradients import light_values, open_twin

from moascope.explanation.deletion import deletion
from moascope.explanation.sight import Crop, Sight, crop_log_odds, sight_of
from moascope.explanation.squares import (
    SIDE,
    agreement,
    level_of,
    random_heads,
    square_values,
    without_squares,
)
from moascope.features.embed import features_of_screen
from moascope.features.table import FeatureTable, load_features
from moascope.learning.calibration import Calibration
from moascope.learning.cross_fit import cross_fit, leave_folds_out
from moascope.learning.dealing import deal
from moascope.learning.examples import LEVELS, Examples
from moascope.learning.final import final_model
from moascope.learning.head import FittedHeads
from moascope.learning.joining import join_examples
from moascope.metrics import bootstrap_weights, interval
from moascope.params import Embed, Head, Params, Prepare, Split
from moascope.pixels.prepared import PreparedPlate
from moascope.screen.tables import Screen, read_screen
from moascope.screen.targets import label_screen

SEED = 0
RANDOM_HEADS = 5
WINDOW = SIDE // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder of a project")
    parser.add_argument("--screen", type=Path, help="a screen's folder, in the project's place")
    parser.add_argument("--work", type=Path, help="keeps crops and features of --screen")
    parser.add_argument("--target", default="gpcr")
    parser.add_argument("--compounds", type=int, default=24, help="of a binary target")
    parser.add_argument("--head", type=json.loads, default={}, help="settings, as JSON")
    parser.add_argument("--panels", default="separate", choices=["separate", "pooled"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moascope-") as scratch:
        screen, table, prepared = opened(arguments, Path(scratch))
        params = Params.model_validate({"target": arguments.target, "seed": SEED,
                                        "train": {"panels": arguments.panels}})
        examples = dealt(screen, table, params)
        twin = open_twin(Prepare().crop)
        rows = [row for sight, chosen in unseen(screen, table, examples, params,
                                                Head(**arguments.head), arguments.compounds)
                for row in measured(sight, prepared, twin, *chosen)]
    show(pd.DataFrame(rows))


def opened(arguments: argparse.Namespace, scratch: Path) -> tuple[Screen, FeatureTable, Path]:
    """The screen, its features, and the folder of its crops."""
    if arguments.screen is None:
        data = arguments.data
        return read_screen(data / "acquire"), load_features(data / "embed"), data / "prepare"
    screen, work = read_screen(arguments.screen), arguments.work or scratch
    return screen, features_of_screen(screen, Prepare(), Embed(), work), work / "prepare"


def dealt(screen: Screen, table: FeatureTable, params: Params) -> Examples:
    """Its annotated compounds in folds, with nothing held out."""
    folds = deal(label_screen(screen, params.target), table.meta[table.meta["QC_Pass"]],
                 Split(holdout=0, repeats=1), params.seed)
    return join_examples(table, screen.layout, folds)


def unseen(screen: Screen, table: FeatureTable, examples: Examples, params: Params, head: Head,
           most: int) -> Iterator[tuple[Sight, tuple[int, int]]]:
    """For each compound, the screen as the model sees it that left the compound out.

    Yields
    ------
    sight : Sight
    chosen : tuple of int
        The row of its typical image, and the class that is explained.
    """
    fitted = cross_fit(examples, head, params.train, params.seed)
    calibration = dict.fromkeys(LEVELS, Calibration(1.0, 0.0, 0.5))
    whole = final_model(examples, fitted.heads, calibration, head, params, screen.channels, Embed(),
                        {})
    first = {panel: one_of(heads, 0) for panel, heads in fitted.heads.items()}
    base = sight_of(replace(whole, heads=first), screen, table)
    assert base is not None
    label, logits = fitted.units()
    meta = examples.meta.iloc[fitted.rows].reset_index(drop=True)
    groups = examples.group[fitted.rows]
    order = np.array(list(dict.fromkeys(groups)))
    binary = examples.question.binary
    called = np.ones(len(label), int) if binary else logits.argmax(axis=1)
    ranked = np.argsort(-(logits[:, 1] - logits[:, 0]), kind="stable")[:most] if binary else range(
        len(label))
    fold = leave_folds_out(fitted.sites).left_out_by[fitted.rows]
    print(f"| {len(label)} compounds in {examples.fold_count} folds | "
          f"{(called == label).mean():.2f} of them called right |" if not binary else
          f"| {len(label)} compounds in {examples.fold_count} folds, {label.sum()} of the class | "
          f"{label[ranked].sum()} of the first {len(ranked)} of the list are of the class |")
    for at in ranked:
        own = np.flatnonzero(groups == order[at])
        dose = meta["Metadata_Concentration_uM"].to_numpy(float)[own]
        own = own[dose == np.nanmax(dose)] if np.isfinite(dose).any() else own
        margin = fitted.logits[0, own, called[at]] - np.delete(
            fitted.logits[0, own], called[at], axis=1).mean(axis=1)
        row = own[np.argsort(margin, kind="stable")[(len(own) - 1) // 2]]
        heads = {panel: one_of(one, fold[row]) for panel, one in fitted.heads.items()}
        key = tuple(meta.iloc[row][["Metadata_Plate", "Metadata_Well", "Metadata_Site"]])
        yield (replace(base, model=replace(base.model, heads=heads)),
               (base.row_of[key], int(called[at])))


def one_of(heads: FittedHeads, index: int) -> FittedHeads:
    """One of K heads as the only one."""
    own = slice(index, index + 1)
    return replace(heads, mean=heads.mean[own], scale=heads.scale[own],
                   kernels=[kernel[own] for kernel in heads.kernels],
                   biases=[bias[own] for bias in heads.biases])


def measured(sight: Sight, prepared: Path, twin: Callable[[np.ndarray, np.ndarray], np.ndarray],
             row: int, meant: int) -> Iterator[dict]:
    """Losses of one image by map and by what takes the place of a square."""
    meta = sight.sites.meta
    site = meta.iloc[row]
    plate = PreparedPlate(prepared / site["Metadata_Plate"])
    place = {key: at for at, key in enumerate(plate.sites()[
        ["Metadata_Well", "Metadata_Site"]].itertuples(index=False, name=None))}
    crops = plate.crops()
    mine = crops[place[site["Metadata_Well"], site["Metadata_Site"]]]
    present = [i for i, planes in enumerate(np.moveaxis(mine, 1, 0)) if planes.any()]
    crop = Crop(row, tuple(plate.channels[i] for i in present), np.asarray(mine[0][present]),
                len(mine))
    controls = meta[(meta["Metadata_Control"] == "negative")
                    & (meta["Metadata_Plate"] == site["Metadata_Plate"])
                    & (meta["Metadata_Panel"] == site["Metadata_Panel"])]
    level, fills = level_of(crop.planes, None), {}
    if len(controls):
        shown = [np.asarray(crops[place[key], 0][present]) for key in controls.sample(
            8, random_state=SEED)[["Metadata_Well", "Metadata_Site"]].itertuples(
                index=False, name=None)]
        # What the page takes: the level of one control, and another control to delete with.
        level, fills = level_of(crop.planes, shown[1]), {"a control": shown[0]}
    fills["a level"] = level
    drawn = [random_heads(sight.model.heads, seed) for seed in range(RANDOM_HEADS)]
    values, *others = square_values(sight, crop, level, meant, [sight.model.heads, *drawn])
    signed, absolute = agreement(values, np.stack(others))
    maps = {"the map": values, "the map of a random head": others[0],
            "the brightest": brightness(crop),
            "gradient x input": light_values(sight, crop, meant, twin)}
    for name, fill in fills.items():
        lost, random = deletion(sight, crop, fill, meant, list(maps.values()), row)
        window, elsewhere = windows(sight, crop, fill, meant, values)
        common = {"row": row, "fill": name, "signed": signed, "absolute": absolute}
        for one, amount in zip(maps, lost, strict=True):
            yield common | {"map": one, "lost": amount, "random": random.mean(),
                            "beaten": (amount > random).mean()}
        yield common | {"map": "the map, window", "lost": window,
                        "random": elsewhere.mean(), "beaten": (window > elsewhere).mean()}


def brightness(crop: Crop) -> np.ndarray:
    side = crop.planes.shape[-1] // SIDE
    return crop.planes.astype(float).reshape(len(crop.planes), SIDE, side, SIDE, side).sum((2, 4))


def windows(sight: Sight, crop: Crop, fill: np.ndarray, meant: int,
            values: np.ndarray) -> tuple[float, np.ndarray]:
    """What the window with the largest sum loses, and what all windows lose."""
    places = [(c, y, x) for c in range(len(values)) for y in range(SIDE - WINDOW + 1)
              for x in range(SIDE - WINDOW + 1)]
    marked = np.zeros((len(places), *values.shape), bool)
    for own, (c, y, x) in zip(marked, places, strict=True):
        own[c, y : y + WINDOW, x : x + WINDOW] = True
    odds, = crop_log_odds(sight, crop, np.concatenate(
        [crop.planes[None], without_squares(crop.planes, fill, marked)]), meant)
    lost = odds[0] - odds[1:]
    return float(lost[np.argmax([values[own].sum() for own in marked])]), lost


def show(found: pd.DataFrame) -> None:
    print("\n| in its place | squares | images | logit lost | at random | difference (95 %) "
          "| more than a random draw |\n|---|---|---|---|---|---|---|")
    for (fill, name), own in found.groupby(["fill", "map"], sort=False):
        difference = (own["lost"] - own["random"]).to_numpy()
        drawn = bootstrap_weights(np.arange(len(own)), 2000, SEED)
        low, high = interval(drawn @ difference / len(own))
        print(f"| {fill} | {name} | {len(own)} | {own['lost'].mean():.2f} "
              f"| {own['random'].mean():.2f} | {difference.mean():.2f} ({low:.2f} to {high:.2f}) "
              f"| {100 * own['beaten'].mean():.0f} % |")
    once = found.drop_duplicates("row")
    print(f"\nMaps of {RANDOM_HEADS} random heads: mean rank correlation "
          f"{once['signed'].mean():.2f}, without signs {once['absolute'].mean():.2f}.")


if __name__ == "__main__":
    main()
