"""The table of all systems, the slides' first and the main model last, and their learning curves.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from moascope.drawing.figures import BLUE, FAINT, INK, MUTED, VERMILION
from moascope.errors import MoascopeError
from moascope.evaluation.caveats import SIMULATED_CAVEAT
from moascope.params import Params
from moascope.slides.arms import BY_COMPOUND, BY_IMAGE
from moascope.text import number

SLIDES = "the slides"
MODEL = "main model"
INVALID = f"INVALID: {BY_IMAGE}"
NOT_RUN = "not run"
COLUMNS = [
    "arm", "split", "parameters", "epochs_to_overfit", "asked_after", "test_loss",
    "ap_images", "ap_images_low", "ap_images_high",
    "ap_compounds", "ap_compounds_low", "ap_compounds_high",
    "prevalence_images", "prevalence_compounds", "lift_images", "lift_compounds",
    "tn", "fp", "fn", "tp", "accuracy_images", "images", "compounds", "seconds_an_epoch",
    "slides_ap", "note",
]
# As printed in the slides and the write-up of emilylorenzen/metis-deeplearning (2021): MobileNetV2
# on 26,000 rendered images of idr0088, 5,200 of them for the test. The matrix is printed as
# [[4716, 312], [156, 16]]; only with the actual classes in columns does it have the 328 agonists
# that a fifth of the data must hold, so 312 are missed hits and 156 false alarms.
SLIDES_ROW = {
    "arm": SLIDES, "split": INVALID,
    "test_loss": 0.6283, "ap_images": 0.0733, "prevalence_images": 328 / 5200,
    "lift_images": 0.0733 / (328 / 5200), "tn": 4716, "fp": 156, "fn": 312, "tp": 16,
    "accuracy_images": (4716 + 16) / 5200, "images": 26000, "seconds_an_epoch": 350,
    "slides_ap": 0.0733,
    "note": "mobilenetv2 at 224 pixels, target GPCR agonist, idr0088, ten epochs; \"overfitting is "
            "happening almost immediately\"; the matrix, printed as 4716 312 156 16, is read as TN "
            "FN FP TP",
}
# Average precision of the slides' arms, at the same prevalence.
SLIDES_AP = {"scratch": 0.0657, "extra_conv": 0.0631, "extra_dense": 0.0698,
             "leaky_relu": 0.0666, "mobilenetv2": 0.0733}
DIGITS = 6


def results_table(arms: list[dict[str, Any]], metrics: dict[str, Any], head: dict[str, Any],
                  ) -> pd.DataFrame:
    """One row a system and split: the slides, every arm, the main model.

    Parameters
    ----------
    arms : list of dict
        Each arm's scores.json.
    metrics : dict
        The main model's metrics.json.
    head : dict
        `parameters`, `epochs_to_overfit`, `asked_after` and `seconds_an_epoch` of the main model;
        empty if the model is not a network.

    Returns
    -------
    DataFrame
        With `COLUMNS`; empty cells where a number does not exist.
    """
    rows: list[dict[str, Any]] = [SLIDES_ROW]
    for scores in arms:
        name = scores["arm"]
        if "not_run" in scores:
            rows.append({"arm": name, "split": NOT_RUN, "slides_ap": SLIDES_AP.get(name),
                         "note": f"not run: {scores['not_run']}"})
            continue
        for split in (BY_COMPOUND, BY_IMAGE):
            own = scores[split]
            rows.append({
                "arm": name,
                "split": BY_COMPOUND if own["valid"] else INVALID,
                "parameters": scores["parameters"],
                **{key: own[key] for key in ("epochs_to_overfit", "asked_after",
                                             "seconds_an_epoch")},
                **_scores(own["site"], own["compound"]),
                "slides_ap": None if own["valid"] else SLIDES_AP.get(name),
            })
    if "random_image_split" in metrics:
        leak = metrics["random_image_split"]["true_labels"]
        rows.append({"arm": MODEL, "split": INVALID, **_scores(leak["site"], leak["compound"]),
                     "note": "a head that is free to memorise"})
    own = metrics["out_of_fold"]
    rows.append({"arm": MODEL, "split": BY_COMPOUND, **head,
                 **_scores(own.get("site"), own.get("compound")),
                 "note": f"mean over {metrics['repeats']} deals of the folds; calibrated, at a "
                         "threshold of its own"})
    table = pd.DataFrame(rows, columns=COLUMNS)
    for column in ("parameters", "epochs_to_overfit", "tn", "fp", "fn", "tp", "images",
                   "compounds"):
        table[column] = table[column].astype("Int64")
    # Seconds differ from run to run; more digits would be noise in every commit.
    table["seconds_an_epoch"] = [float(f"{value:.2g}") for value in table["seconds_an_epoch"]]
    return table.round(DIGITS)


def _scores(images: dict[str, Any] | None, compounds: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for level, own in (("images", images), ("compounds", compounds)):
        if own is None:
            continue
        found |= {
            f"ap_{level}": own["average_precision"], f"ap_{level}_low": own["low"],
            f"ap_{level}_high": own["high"], f"prevalence_{level}": own["prevalence"],
            f"lift_{level}": own["lift"],
        }
    if images and "confusion" in images:
        found |= {"test_loss": images["log_loss"], "accuracy_images": images["accuracy"],
                  "images": images["n"], "compounds": images["compounds"]}
        if len(images["confusion"]) == 2:
            (tn, fp), (fn, tp) = images["confusion"]
            found |= {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    return found


def results_markdown(table: pd.DataFrame, target: str, simulated: bool, facts: str) -> str:
    """The table for people.

    Parameters
    ----------
    table : DataFrame
        From `results_table`.
    target : str
    simulated : bool
        Whether the screen is; then the text says what that means.
    facts : str
        A sentence on images and training.
    """
    binary = table["tp"].notna().sum() > 1
    last = "TN FP FN TP" if binary else "accuracy, images"
    lines = [
        f"# Every system of the slides, target {target}",
        "",
        f"{facts} AP is average precision, with its 95 % interval over compounds; lift is AP over "
        "prevalence, and chance is a lift of 1. Best epoch is the one of the least held-out loss: "
        "after it, more training only memorises.",
        *(["", f"**{SIMULATED_CAVEAT}**"] if simulated else []),
        "",
        "![Learning curves](curves.png)",
        "",
        "| arm | split | parameters | best epoch | test loss | AP images | AP compounds | "
        f"prevalence, images; compounds | lift, images; compounds | {last} | s/epoch | "
        "AP in the slides |",
        "|---|---|--:|--:|--:|---|---|---|---|---|--:|--:|",
    ]
    for row in table.to_dict("records"):
        confusion = (" ".join(_whole(row[key]) for key in ("tn", "fp", "fn", "tp"))
                     if binary else number(row["accuracy_images"]))
        bold = "**" if row["arm"] == MODEL and row["split"] == BY_COMPOUND else ""
        best = _whole(row["epochs_to_overfit"])
        if best == "–" and not _missing(row["asked_after"]):
            best = "the last"
        lines.append(" | ".join([
            f"| {bold}{row['arm']}{bold}", row["split"], _whole(row["parameters"]), best,
            number(row["test_loss"], 4 if row["arm"] == SLIDES else 3),
            _bounded(row, "images"), _bounded(row, "compounds"),
            _both(row, "prevalence", 3), _both(row, "lift", 2),
            confusion if "–" not in confusion else "–",
            "–" if _missing(row["seconds_an_epoch"]) else f"{row['seconds_an_epoch']:g}",
            f"{number(row['slides_ap'], 4)} |",
        ]))
    notes = [f"- {row['arm']}, {row['split']}: {row['note']}" if row["split"] != NOT_RUN
             else f"- {row['arm']}: {row['note']}"
             for row in table.to_dict("records") if not _missing(row["note"])]
    return "\n".join([*lines, "", *notes, ""])


def _bounded(row: Mapping[str, Any], level: str) -> str:
    value = row[f"ap_{level}"]
    if _missing(value):
        return "–"
    said = number(value, 4 if row["arm"] == SLIDES else 3)
    low, high = row[f"ap_{level}_low"], row[f"ap_{level}_high"]
    return said if _missing(low) else f"{said} [{number(low)}, {number(high)}]"


def _both(row: Mapping[str, Any], name: str, digits: int) -> str:
    said = [number(row[f"{name}_{level}"], digits) for level in ("images", "compounds")]
    return "–" if set(said) == {"–"} else "; ".join(said)


def _whole(value: Any) -> str:
    return "–" if _missing(value) else f"{int(value):,}"


def _missing(value: Any) -> bool:
    return value is None or pd.isna(value)


def curves_picture(curves: dict[str, pd.DataFrame], asked_after: dict[str, float]) -> bytes:
    """Learning curves of all systems in one picture, as PNG.

    Parameters
    ----------
    curves : dict
        Name -> `split, part, panel, epoch, side, loss, guess`.
    asked_after : dict
        Name -> the mean epoch that the answers come from, for systems that choose it.

    Notes
    -----
    Losses are divided by that of always guessing the (weighted) shares of the classes, so that
    systems whose losses weigh classes differently share an axis: above 1 is worse than guessing.
    Lines are means over folds.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not curves:
        return _nothing_learnt()
    across = min(4, len(curves))
    down = -(-len(curves) // across)
    means = {name: _relative(table) for name, table in curves.items()}
    highest = max(float(mean.max()) for mean in means.values())
    style = {"axes.spines.right": False, "axes.spines.top": False, "axes.edgecolor": MUTED,
             "font.size": 8.5, "xtick.color": MUTED, "ytick.color": MUTED,
             "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.labelcolor": INK}
    with mpl.rc_context(style):
        figure = Figure(figsize=(2.5 * across, 2.05 * down + 0.75), layout="constrained")
        axes = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
        lines = {("training", BY_COMPOUND): (BLUE, "-", "training images"),
                 ("held out", BY_COMPOUND): (VERMILION, "-", "images of unseen compounds"),
                 ("held out", BY_IMAGE): (MUTED, ":", f"held-out images, {INVALID}")}
        for axis, (name, mean) in zip(axes, means.items(), strict=False):
            axis.axhline(1, color=FAINT, linewidth=1, zorder=0)
            for (side, split), (colour, dash, label) in lines.items():
                if (split, side) in mean.index.droplevel("epoch"):
                    own = mean.loc[split, side]
                    axis.plot(own.index, own.to_numpy(), color=colour, linestyle=dash,
                              linewidth=1.6, label=label)
            if name in asked_after:
                axis.axvline(asked_after[name], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)),
                             label="where training is stopped")
            last = int(mean.index.get_level_values("epoch").max())
            axis.set_title(name, loc="left", fontsize=9.5, fontweight="bold", color=INK)
            axis.set_xlim(0, last + 0.3)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.set_ylim(0, min(highest * 1.05, 2.5))
            axis.grid(axis="y", color="#eef0f2", linewidth=0.8)
            axis.set_axisbelow(True)
        for axis in axes[len(means):]:
            axis.set_visible(False)
        figure.supxlabel("epoch", fontsize=9)
        figure.supylabel("loss / loss of guessing", fontsize=9)
        known: dict[str, Any] = {}
        for axis in axes[: len(means)]:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                known.setdefault(label, handle)
        figure.legend(known.values(), known.keys(), loc="outside upper left", ncols=2,
                      frameon=False, fontsize=8.5)
        content = io.BytesIO()
        # Without the version of the library, so that equal curves give equal bytes.
        figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def _nothing_learnt() -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 0.8))
    figure.text(0.03, 0.4, "No system of this table was trained in epochs.", fontsize=9, color=INK)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def _relative(curves: pd.DataFrame) -> pd.Series:
    ratio = curves["loss"] / curves["guess"]
    return ratio.groupby([curves["split"], curves["side"], curves["epoch"]]).mean().dropna()


def read_arm(folder: Path) -> dict[str, Any]:
    """The scores.json of an arm.

    Raises
    ------
    MoascopeError
        Where the arm has not run.
    """
    try:
        return json.loads((folder / "scores.json").read_text())
    except FileNotFoundError:
        raise MoascopeError(f"There is no result of the arm '{folder.name}' in {folder}. "
                            f"Run `dvc repro baseline@{folder.name}` first.") from None


def facts(params: Params, arms: list[dict[str, Any]]) -> str:
    """What the pictures are and how the arms are trained, in one sentence."""
    settings = params.baseline
    images = max((scores.get("images", 0) for scores in arms), default=0)
    weight = (f"class weight {settings.positive_weight:g} for a hit"
              if next((scores["binary"] for scores in arms if "binary" in scores), True)
              else "balanced class weights")
    return (f"{images:,} pictures (at most {settings.sites} per well; three channels as red, green "
            f"and blue; shrunk to {settings.size} pixels per side, {settings.frozen_size} for "
            "frozen backbones; the slides used 224), Adam, "
            f"{settings.epochs} epochs, batches of {settings.batch_size}, {weight}. Rows 'by "
            f"compound' use the main model's {params.split.folds} folds, and each compound is "
            "predicted by a network that never saw it; rows marked INVALID use the slides' random "
            "stratified split by image, 60/20/20, where "
            "images of one compound are on both sides.")
