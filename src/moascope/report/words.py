"""What the report says in sentences; numbers come from metrics.json alone."""

from __future__ import annotations

from typing import Any

from moascope.features.normalise import CLIP
from moascope.report.chemistry import chemistry_sentence
from moascope.text import class_name, counted, listing, number, p_value, span, tidy

QUESTIONS = {
    "gpcr": "Does a compound act through a G-protein-coupled receptor (GPCR)?",
    "gpcr_agonist": "Is a compound an agonist of a G-protein-coupled receptor (GPCR)?",
    "gpcr_antagonist": "Is a compound an antagonist of a G-protein-coupled receptor (GPCR)?",
    "moa": "Which mechanism of action does a compound have?",
}
BASELINES = {
    "cell_count": "Cell count only",
    "chemistry": "Structure only, fingerprint",
    "chemistry_simple": "Structure only, six properties",
    "count_and_intensity": "Cell count and brightness",
    "plate_only": "Plate only",
    "position_only": "Well position only",
    "prevalence": "A random list, on average",
    "shuffled_labels": "Trained on shuffled labels",
}
REFERENCES = {
    "logistic": "Logistic regression",
    "neighbours": "Nearest neighbours",
    "trees": "Extremely randomised trees",
}
MOST_NAMED = 5
LONGEST_CONTROL = 60   # a mechanism may be a paragraph
BACKBONES = {
    "cellmobile": "the small network that ships with moascope, distilled from ImageNet's "
                  "MobileNetV2 on unlabelled cells",
    "morphology": "classical measurements of intensity, texture and granularity",
    "profiles": "profiles that other software measured",
    "mobilenetv2": "the ImageNet network MobileNetV2, not trained further",
    "resnet50": "the ImageNet network ResNet50, not trained further",
}
FEW_POSITIVES = 20
_FAMILIES = {
    "scaffold": ", and so are all compounds with the same Bemis-Murcko scaffold",
    "cluster": ", and so are all compounds of one cluster of similar structures",
}
UNIT_OF_LEVEL = {"site": "image", "well": "well"}


def baseline_name(name: str) -> str:
    """What the report calls a baseline of metrics.json."""
    return BASELINES.get(name, tidy(name.replace("_", " ")).capitalize())


def main_scores(metrics: dict[str, Any], side: str = "out_of_fold") -> dict[str, Any]:
    """Scores by unit (compound, or well where there is one compound); empty if there are none."""
    return (metrics.get(side) or {}).get("compound") or {}


def measured(metrics: dict[str, Any]) -> str:
    """What a prediction at the lowest level is of: an image, or a profile where there is none."""
    return "profile" if metrics.get("backbone") == "profiles" else "image"


def is_activity(metrics: dict[str, Any]) -> bool:
    """Whether wells are told from control wells, as there are no compounds to hold out."""
    return metrics.get("unit") == "well"


def question(metrics: dict[str, Any]) -> str:
    """The question that the screen is asked."""
    if is_activity(metrics):
        return "Can wells treated with the compound be told from the control wells?"
    target = metrics.get("target", "")
    return QUESTIONS.get(target) or f"Is a compound's mechanism “{tidy(target)}”?"


def _what(metrics: dict[str, Any]) -> str:
    target = metrics.get("target", "")
    if is_activity(metrics):
        return "tell treated wells from control wells"
    if target == "moa":
        return "tell the mechanisms of unseen compounds apart"
    if target == "gpcr":
        return "find the unseen compounds that act through a GPCR"
    return f"find the unseen compounds with “{class_name(target, target)}”"


def verdict(metrics: dict[str, Any]) -> tuple[str, str]:
    """The answer in one sentence, and which kind of answer it is.

    Returns
    -------
    kind : {"yes", "part", "no", "none"}
    sentence : str
    """
    if not main_scores(metrics):
        return "none", "There are too few labelled compounds to give an answer."
    what = _what(metrics)
    seen = f"{measured(metrics)}s"
    best = (metrics.get("baselines") or {}).get("best")
    if not metrics.get("above_chance"):
        return "no", f"No: on this screen, {seen} do not {what} better than chance."
    if metrics.get("useful"):
        return "yes", (f"Yes: {seen} {what} better than chance and better than every baseline"
                       f"{_but_for_structure(metrics)}.")
    against = f" the best baseline ({baseline_name(best).lower()})" if best else " the baselines"
    return "part", (f"Only in part: {seen} {what} better than chance, but not demonstrably "
                    f"better than{against}.")


def _but_for_structure(metrics: dict[str, Any]) -> str:
    """What limits "better than every baseline" where structure alone scores higher."""
    own = (metrics.get("baselines") or {}).get("chemistry") or {}
    difference = (own.get("model_minus_structure") or {}).get("difference")
    if difference is None or difference > 0:
        return ""
    return (", except that structure alone scores higher "
            f"({number(own['average_precision'])})")


def controls_sentence(metrics: dict[str, Any]) -> str:
    """What the positive controls show, in one or two sentences; empty where there are none."""
    # Results of an earlier release hold the scores of another learner, which say less.
    controls = {name: score for name, score in (metrics.get("mechanisms") or {}).items()
                if "found" in score}
    if not controls:
        return ""
    ranked = sorted(controls, key=lambda name: (-(controls[name].get("lift") or 0), name))
    found = [tidy(name, LONGEST_CONTROL) for name in ranked if controls[name].get("found")]
    best = controls[ranked[0]]
    strongest = (f"{tidy(ranked[0], LONGEST_CONTROL)} scores "
                 f"{number(best.get('average_precision'))} where a random list gives "
                 f"{number(best.get('null_mean'))}")
    if not found:
        return (f"Positive controls: none of {counted(len(controls), 'mechanism')} is found by a "
                f"linear model on the same features; {strongest}. With few compounds of a "
                "mechanism only strong effects can be found.")
    sentence = (f"Positive controls: a linear model on the same features finds {len(found)} of "
                f"{counted(len(controls), 'mechanism')} ({listing(found, MOST_NAMED)}); "
                f"{strongest}.")
    if not metrics.get("above_chance"):
        sentence += (f" So the {measured(metrics)}s do show mechanisms of this screen, but there "
                     "is no evidence that they show the target.")
    return sentence


def best_reference(metrics: dict[str, Any]) -> str:
    """What the references say of the model, in one sentence; empty where there are none."""
    references = metrics.get("references") or {}
    main = main_scores(metrics)
    if not references or not main:
        return ""
    name = max(references, key=lambda kind: (references[kind]["average_precision"], kind))
    score = references[name]
    gap = score["model_minus_reference"]
    how = (": both score the same" if _equal(gap) else
           ", and is demonstrably better" if gap["high"] < 0 else
           ", and the model is demonstrably better" if gap["low"] > 0 else
           ": there are too few compounds to tell which of the two is better")
    return (f"The best simple model on the same features and folds, "
            f"{REFERENCES.get(name, name).lower()}, reaches {number(score['average_precision'])}; "
            f"model minus reference is {number(gap['difference'])} ({span(gap)}){how}."
            + recommendation(metrics))


def recommendation(metrics: dict[str, Any]) -> str:
    """Which simple model to register instead, and how; empty where none is demonstrably better."""
    kind = metrics.get("recommended_head")
    return (f" Prefer the simpler model: `dvc exp run -S train.head={kind}` trains and registers "
            f"it ({REFERENCES[kind].lower()})." if kind else "")


def answer(metrics: dict[str, Any]) -> list[str]:
    """The verdict's evidence, in two or three sentences."""
    main = main_scores(metrics)
    if not main:
        return []
    units = _units(metrics, main.get("compounds", 0))
    several = "positives" not in main
    kind = "mean average precision over the classes" if several else "average precision"
    sentences = [
        f"Over {units} that the model never saw in training, the {kind} is "
        f"{number(main['average_precision'])} ({_interval_words(main)}); a random list gives "
        f"{number(main.get('null_mean'))} on average, at a prevalence of "
        f"{number(main['prevalence'])}."
    ]
    p = main.get("p")
    if p is not None:
        share = number(100 * p, 3 if p < 0.0005 else 1 if p < 0.1 else 0)
        chance = ("chance is an unlikely explanation" if metrics.get("above_chance")
                  else "chance alone explains this score")
        sentences.append(f"About {share} % of random relabellings score at least as high "
                         f"(permutation p = {p_value(p)}): {chance}.")
    baselines = metrics.get("baselines") or {}
    best, gap = baselines.get("best"), baselines.get("model_minus_best") or {}
    if best and gap:
        score = (baselines.get("scores") or {}).get(best) or {}
        # metrics.json holds null where a number is not available.
        how = ("both score the same" if _equal(gap) else
               "the model is better" if (gap.get("low") or 0) > 0 else
               "the model is worse" if (gap.get("high") or 0) < 0 else
               "there are too few compounds to tell which of the two is better")
        sentences.append(
            f"The best baseline, {baseline_name(best).lower()}, reaches "
            f"{number(score.get('average_precision'))}; model minus baseline is "
            f"{number(gap.get('difference'))} ({span(gap)}): {how}.")
    return [*sentences, *filter(None, [best_reference(metrics), chemistry_sentence(metrics),
                                       controls_sentence(metrics)])]


def _equal(gap: dict[str, Any]) -> bool:
    """Whether two models score the same in all resamples of the compounds."""
    return all(gap.get(name) == 0 for name in ("difference", "low", "high"))


def _interval_words(scores: dict[str, Any]) -> str:
    return ("too few hits for an interval" if scores.get("low") is None
            else f"95 % interval {span(scores)}")


def tiles(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """The four numbers of the headline, each with what its name means."""
    main = main_scores(metrics)
    if not main:
        return []
    unit = metrics.get("unit", "compound")
    several = "positives" not in main
    shares = ("the mean share of a class" if several else
              f"{main['positives']} of {main['n']:,} {unit}s are "
              f"{class_name(metrics['classes'][1], metrics['target'])}")
    return [
        {"name": "Average precision" + (", mean of classes" if several else ""),
         "value": number(main["average_precision"]),
         "means": f"The precision of the list of {unit}s, sorted by predicted probability, "
                  "averaged over the true hits. 1 is perfect; a random list scores "
                  f"{number(main.get('null_mean'))} on average, more than the prevalence where "
                  "hits are few."},
        {"name": "Prevalence", "value": number(main["prevalence"]),
         "means": f"The share of hits among the scored {unit}s ({shares}). The lift is the "
                  "average precision divided by that of a random list, here "
                  f"{number(main['lift'], 1)}."},
        {"name": "95 % interval", "value": span(main),
         "means": f"The range of the average precision in 95 % of bootstrap resamples of these "
                  f"{unit}s. Few hits make it wide; below five there is none."},
        {"name": "Permutation p", "value": p_value(main.get("p")),
         "means": f"The share of random relabellings of the {unit}s that score at least as high. "
                  f"Below 0.05, the score counts as above chance."},
    ]


def caveats(metrics: dict[str, Any]) -> list[str]:
    """Everything that limits what the numbers mean, once each."""
    found = list(metrics.get("caveats") or [])
    warnings = list(metrics.get("warnings") or [])
    lost = list(metrics.get("not_testable") or [])
    # The split stage usually has said it, in a sentence with the same list.
    if lost and not any(f"({', '.join(lost)})" in warning for warning in warnings):
        found.append(f"No score covers {', '.join(lost)}: with a single compound each, there is "
                     "none that the model has not seen. The model learns them all the same.")
    positives = main_scores(metrics).get("positives")
    if positives is not None and positives < FEW_POSITIVES:
        found.append(f"Only {_units(metrics, positives)} are hits; read the interval before the "
                     "score.")
    of_class = [score.get("n", 0) for score in (main_scores(metrics).get("per_class") or {}
                                                ).values()]
    if of_class and min(of_class) < FEW_POSITIVES:
        few = sum(count < FEW_POSITIVES for count in of_class)
        found.append(f"{few} of {len(of_class)} scored classes have fewer than {FEW_POSITIVES} "
                     f"{metrics.get('unit', 'compound')}s (the smallest has {min(of_class)}): a "
                     "few of them decide a class's score.")
    return [tidy(text) for text in dict.fromkeys(found + warnings)]


def methods(metrics: dict[str, Any], controls: bool) -> list[str]:
    """How the numbers are made, in five sentences.

    Parameters
    ----------
    metrics : dict
    controls : bool
        Whether the screen has negative controls.
    """
    unit = metrics.get("unit", "compound")
    folds, repeats = metrics.get("folds"), metrics.get("repeats")
    dealt = f"into {folds} folds" if folds else "into folds"
    dealt += f", {repeats} times" if repeats and repeats > 1 else ""
    held = main_scores(metrics, "held_out").get("compounds")
    aside = (f"; another {_units(metrics, held)} {'is' if held == 1 else 'are'} set aside before "
             "anything is fitted (held out)" if held else "")
    family = metrics.get("split_by", "compound")
    whole = ("all wells, doses, plates and forms (same InChIKey block) of a compound in one fold"
             + _FAMILIES.get(family, "")
             if unit == "compound" else f"all {measured(metrics)}s of a well in one fold")
    backbone = metrics.get("backbone", "")
    how = " and ".join(
        BACKBONES.get(name, f"the network {tidy(name)}") for name in backbone.split("+") if name
    ) or "one backbone"
    what = "each well or site is" if backbone == "profiles" else "each channel is"
    return [
        f"Split: {unit}s are divided {dealt}, with {whole}; each is scored only by models that "
        f"never saw it (out of fold){aside}.",
        "Nested selection: layers, dropout, epochs, calibration and thresholds are chosen on "
        f"folds inside each training set, never on the {unit}s that are scored.",
        f"Null: intervals resample whole {unit}s, and permutations shuffle labels among whole "
        f"{unit}s, so that many {measured(metrics)}s of one {unit} never count as many results.",
        f"Features and normalisation: {what} described by {how}; "
        f"{_normalisation(metrics, controls)}; predictions are averaged from {measured(metrics)} "
        "to well to dose to compound.",
        "Labels: compounds of unknown mechanism take no part in training and scoring; "
        "unknown never counts as negative."
        if unit == "compound" else
        "Labels: treated wells are the hits and negative-control wells the rest; no mechanism is "
        "predicted.",
    ]


_SELECTED = {
    "none": "",
    "measured": "; features that are missing, constant, or places and numbers of cells are left "
                "out",
    "distinct": "; features that are missing, constant, near-duplicates, or places and numbers of "
                "cells are left out",
}


def _normalisation(metrics: dict[str, Any], controls: bool) -> str:
    how = (metrics.get("head") or {}).get("normalisation", "")
    if not controls or how == "none":
        return ("values are used as measured, as there are no negative controls to compare with"
                if not controls else "values are used as measured")
    said = "values are robust standard deviations from the negative controls of the same plate"
    if "moderated" in how:
        said += f" and, as these are few, of all plates, clipped at {CLIP:g}"
    if "sphere" in how:
        said += ", then whitened by the variation of all negative controls"
    return said + _SELECTED[(metrics.get("head") or {}).get("selection", "none")]


def _units(metrics: dict[str, Any], count: int) -> str:
    return counted(count, metrics.get("unit", "compound"))
