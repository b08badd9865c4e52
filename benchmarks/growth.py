"""What every stage costs as a screen grows: time and peak memory over sites, with slopes.

    python benchmarks/growth.py

Simulated screens of small plates (96 wells, 128 px, one field per well) that grow in plates and
compounds, not in the size of a plate. Every stage runs in its own process, as dvc.yaml starts
it. Study, refits and resamples are small and the same at every size; only the screen grows.
Writes growth.csv and growth.png next to this file and prints a Markdown table.

A slope is that of the last step, from the second-largest screen to the largest, on logarithmic
axes: the start-up of a stage hides growth in smaller screens. 1 is proportional to sites.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from stages import make_workspace, measure, stage_command

STAGES = ["acquire", "validate", "prepare", "embed", "split", "activity", "tune", "train",
          "evaluate", "register"]
COMPOUNDS, BATCHES = 24, 2   # at 1x: two plate maps, each in both batches
SETTINGS = {
    "split": {"folds": 3, "repeats": 1},
    "tune": {"trials": 3},
    "evaluate": {"bootstraps": 200, "permutations": 200, "refits": 1},
}


def run_screen(factor: int) -> list[dict[str, float | str]]:
    """Run all stages on a screen of one size; one row per stage."""
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        simulated = {"format": 96, "compounds": COMPOUNDS * factor, "batches": BATCHES,
                     "fields": 1, "size": 128, "panels": ["A549 ACTB-RAB5A"]}
        make_workspace(folder, {"simulated": simulated, **SETTINGS})
        for stage in STAGES:
            cost = measure(stage_command(stage), folder)
            sites = pd.read_csv(folder / "data/acquire/load_data.csv")
            rows.append({"stage": stage, "factor": factor, "sites": len(sites),
                         "plates": sites["Metadata_Plate"].nunique(),
                         "seconds": round(cost.seconds, 2), "processor": round(cost.processor, 2),
                         "peak_mib": round(cost.peak, 1)})
    return rows


def growth(rows: pd.DataFrame, column: str) -> tuple[float, list[float]]:
    """Slope of the last step of a stage, and what one more site costs in each step."""
    sites, values = rows["sites"].to_numpy(float), rows[column].to_numpy(float)
    slope = np.log(values[-1] / values[-2]) / np.log(sites[-1] / sites[-2])
    return float(slope), list(np.diff(values) / np.diff(sites))


def table(costs: pd.DataFrame) -> str:
    """The whole result as Markdown."""
    sizes = costs.drop_duplicates("factor")
    named = " / ".join(f"{row.sites:,}" for row in sizes.itertuples())
    steps = " / ".join(f"{a}-{b}x" for a, b in
                       zip(sizes["factor"], sizes["factor"][1:], strict=False))
    lines = [
        f"Sites: {named}, on {' / '.join(str(n) for n in sizes['plates'])} plates.", "",
        f"| stage | seconds | slope | processor seconds | slope | ms of processor per further site "
        f"({steps}) | peak MiB | slope | KiB per further site ({steps}) |",
        "|---|---|---|---|---|---|---|---|---|"]
    for stage, rows in costs.groupby("stage", sort=False):
        wall, busy, peak = (growth(rows, name) for name in ("seconds", "processor", "peak_mib"))
        lines.append(
            f"| {stage} | {_listed(rows['seconds'], 1)} | {wall[0]:.2f} "
            f"| {_listed(rows['processor'], 1)} | {busy[0]:.2f} "
            f"| {_listed([1000 * more for more in busy[1]], 1)} "
            f"| {_listed(rows['peak_mib'], 0)} | {peak[0]:.2f} "
            f"| {_listed([1024 * more for more in peak[1]], 0)} |")
    return "\n".join(lines)


def _listed(values: list[float] | pd.Series, digits: int) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in values)


def draw(costs: pd.DataFrame, path: Path) -> None:
    """Time and memory over sites, one line per stage, labelled with its slope."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    sites = np.unique(costs["sites"])
    # Processor time, as other work on the machine does not change it.
    panels = zip(figure.subplots(1, 2), ("processor", "peak_mib"),
                 ("processor time, s", "peak memory, MiB"), strict=True)
    for axis, column, title in panels:
        stages = list(costs.groupby("stage", sort=False))
        axis.set(xscale="log", yscale="log", xlabel="sites", title=title,
                 xlim=(sites[0] / 1.15, sites[-1] * 3.2))
        low, high = costs[column].min() / 1.25, costs[column].max() * 1.25
        axis.set_ylim(low, high)
        ends = np.array([rows[column].iloc[-1] for _, rows in stages])
        places = _spread(np.log(ends), np.log(low), np.log(high), len(stages))
        for index, ((stage, rows), place) in enumerate(zip(stages, places, strict=True)):
            colour = f"C{index}"
            axis.plot(rows["sites"], rows[column], "o-", color=colour, markersize=4)
            axis.annotate(
                f"{stage} {growth(rows, column)[0]:.2f}", (sites[-1], rows[column].iloc[-1]),
                (sites[-1] * 1.35, np.exp(place)), textcoords="data", color=colour, va="center",
                fontsize=9, arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6,
                                        "shrinkA": 0, "shrinkB": 3})
        # What is proportional to sites runs along these.
        for start in np.geomspace(low / 16, high, 8):
            axis.plot(sites, start * sites / sites[0], color="0.85", lw=0.8, ls=":", zorder=0)
        axis.set_xticks(sites, [f"{number:,}" for number in sites])
        axis.minorticks_off()
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
                 if low <= tick <= high]
        axis.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Behind a stage's name: its slope over the last step. Dotted: slope 1.",
                    fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _spread(values: np.ndarray, low: float, high: float, most: int) -> np.ndarray:
    """Places as near to `values` as labels of one line's height allow."""
    apart = (high - low) / (most * 1.9)
    order = np.argsort(values)
    places = values[order].copy()
    for _ in range(500):
        gaps = np.diff(places)
        close = np.flatnonzero(gaps < apart)
        if not len(close):
            break
        for left in close:
            push = (apart - (places[left + 1] - places[left])) / 2
            places[left], places[left + 1] = places[left] - push, places[left + 1] + push
        places = np.clip(places, low + apart / 2, high - apart / 2)
    result = np.empty_like(places)
    result[order] = places
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent,
                        help="folder for growth.csv and growth.png")
    parser.add_argument("--redraw", action="store_true",
                        help="measure nothing; print and draw growth.csv")
    arguments = parser.parse_args()
    file = arguments.out / "growth.csv"
    if not arguments.redraw:
        rows = [row for factor in arguments.factors for row in run_screen(factor)]
        pd.DataFrame(rows).to_csv(file, index=False, lineterminator="\n")
    costs = pd.read_csv(file)
    draw(costs, arguments.out / "growth.png")
    print(table(costs))


if __name__ == "__main__":
    main()
