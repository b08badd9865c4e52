"""The report: what it says, and that nothing in the tables can break it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import Page

from moascope.drawing.figures import draw
from moascope.drawing.maps import plate_figure
from moascope.evaluation.caveats import SIMULATED_CAVEAT
from moascope.evaluation.leak import LEAK_CAVEAT
from moascope.evaluation.scores import scores_of
from moascope.learning.examples import Examples
from moascope.params import Evaluate
from moascope.report import page as report_page
from moascope.report.compounds import ranked_compounds
from moascope.report.curves import null_precision_band, precision_recall_rows
from moascope.report.figures import _at_hits, reliability_bins
from moascope.report.page import render_report, write_report
from moascope.report.plates import chosen_plates, plate_grid, plate_maps
from moascope.report.scores import compared, confusion
from moascope.report.words import best_reference, verdict
from moascope.screen.question import Question
from moascope.screen.wells import well_name
from moascope.text import class_name, tidy

GPCR = ("not_gpcr", "gpcr")
SETTINGS = Evaluate(bootstraps=50, permutations=99, refits=0)
SITES = 2
CHANNELS = ("DNA", "Actin")


def make_world(classes=GPCR, compounds=24, names=None, target="gpcr", signal=2.0, seed=0):
    """Predictions of a small screen of one plate a compound's dose, and their metrics."""
    rng = np.random.default_rng(seed)
    binary = len(classes) == 2
    rows = []
    for number in range(compounds):
        label = classes[(number % 4 == 0) if binary else number % len(classes)]
        logits = rng.normal(size=len(classes))
        logits[classes.index(label)] += signal
        for dose, plate in enumerate(("P1", "P2")):
            for site in range(1, SITES + 1):
                noisy = logits + 0.3 * rng.normal(size=len(classes))
                share = np.exp(noisy) / np.exp(noisy).sum()
                rows.append({
                    "Metadata_Plate": plate, "Metadata_Well": well_name(*divmod(number + 13, 12)),
                    "Metadata_Site": site, "Metadata_Batch": "B1",
                    "Metadata_Panel": "A549" if plate == "P1" else "HepG2",
                    "Metadata_Compound": (names or {}).get(number, f"C{number:02d}"),
                    "Metadata_Concentration_uM": 10.0**dose, "Metadata_Control": "",
                    **{f"P_{name}": share[i] for i, name in enumerate(classes)},
                    "Predicted": classes[int(share.argmax())], "Metadata_Group": f"c{number:02d}",
                    "Label": label, "Split": "held_out" if number * 7 % 11 > 8 else "out_of_fold",
                    "Threshold": 0.5 if binary else np.nan,
                })
    site = pd.DataFrame(rows)
    predictions = {"site": site, "well": _mean(site, ["Metadata_Plate", "Metadata_Well"], classes),
                   "compound": _mean(site, ["Metadata_Group"], classes)}
    examples = _examples(site, classes, binary, target, rng)
    metrics = _metrics(predictions, examples)
    return SimpleNamespace(metrics=metrics, predictions=predictions, examples=examples)


def _mean(site, keys, classes):
    chances = [f"P_{name}" for name in classes]
    table = site.groupby(keys, sort=False, as_index=False).first()
    table[chances] = site.groupby(keys, sort=False)[chances].mean().to_numpy()
    table["Predicted"] = [classes[i] for i in table[chances].to_numpy().argmax(axis=1)]
    return table.drop(columns=["Metadata_Site"])


def _examples(site, classes, binary, target, rng):
    controls = pd.DataFrame([
        {"Metadata_Plate": plate, "Metadata_Well": well_name(row, 0), "Metadata_Site": 1,
         "Metadata_Batch": "B1", "Metadata_Panel": "A549" if plate == "P1" else "HepG2",
         "Metadata_Compound": "DMSO", "Metadata_Concentration_uM": np.nan,
         "Metadata_Control": "negative"}
        for plate in ("P1", "P2") for row in range(8)])
    meta = pd.concat([site[controls.columns], controls], ignore_index=True)
    groups = site.drop_duplicates("Metadata_Group").reset_index(drop=True)
    groups = groups[["Metadata_Group", "Metadata_Compound", "Label"]].assign(
        Metadata_MoA=lambda table: table["Label"] + " mechanism", gpcr_action="", Holdout=False,
        Fold_0=0)
    place = {name: i for i, name in enumerate(groups["Metadata_Group"])}
    group = np.r_[site["Metadata_Group"].map(place).to_numpy(), np.full(len(controls), -1)]
    names = ("Count_Nuclei", *(f"Intensity_{channel}_Mean" for channel in CHANNELS))
    return Examples(meta=meta, features=rng.uniform(50, 90, (len(meta), 3)).astype(np.float32),
                    names=names, group=group.astype(int), groups=groups,
                    question=Question(target, tuple(classes), binary))


def asked_with(examples, **changes):
    return dataclasses.replace(examples, question=dataclasses.replace(examples.question, **changes))


def _metrics(predictions, examples):
    scores = {
        side: {level: scores_of(table[table["Split"] == side], examples.question, SETTINGS, 0)
               for level, table in predictions.items()}
        for side in ("out_of_fold", "held_out")
    }
    main = scores["out_of_fold"]["compound"]
    short = {key: main[key] for key in (
        "average_precision", "low", "high", "prevalence", "null_mean", "lift")}
    return {
        "target": examples.question.target, "classes": list(examples.question.classes),
        "unit": examples.question.unit,
        "source": "simulated", "licence": "CC0-1.0", "citation": "Nobody (2020)",
        "backbone": "morphology", "not_testable": [], "warnings": ["The plate P9 has no controls."],
        "caveats": [SIMULATED_CAVEAT], "folds": 5, "repeats": 3, "seed": 0,
        "head": {"normalisation": "plate+sphere"}, **scores,
        "by_panel": {"A549": short | {"compounds": 18}, "HepG2": short | {"compounds": 18}},
        "by_concentration_uM": {"1": short | {"compounds": 18}, "10": short | {"compounds": 18}},
        "by_mechanism": {"histamine receptor agonist": short | {"compounds": 4}},
        "by_action": {"agonist": short | {"compounds": 4}},
        "baselines": {
            "scores": {"cell_count": short | {"average_precision": 0.31},
                       "prevalence": {"average_precision": 0.25, "low": 0.25, "high": 0.25},
                       "shuffled_labels": {"average_precision": 0.2, "low": 0.1, "high": 0.3,
                                           "refits": 5}},
            "best": "cell_count",
            "model_minus_best": {"difference": 0.4, "low": 0.1, "high": 0.6}, "useful": True},
        "mechanisms": {"tubulin inhibitor": short | {"compounds": 6}},
        "unseen_batch": short | {"batches": 2},
        "random_image_split": {
            "valid": False, "caveat": LEAK_CAVEAT,
            "true_labels": {"site": short | {"average_precision": 0.97}, "compound": short},
            "shuffled_labels": {"site": short | {"average_precision": 0.88}, "compound": short}},
        "above_chance": True, "useful": True,
    }


def test_the_report_says_how_near_the_model_comes_to_the_oracle_and_only_where_there_is_one():
    world = make_world()
    oracle = {"average_precision": 0.932, "p": 0.001, "efficiency": 0.803}

    def said(**more):
        page = render_report(world.metrics | more, world.predictions, world.examples, Path("none"))
        return Page(page).text

    assert "Oracle of the simulated screen" not in said()
    text = said(oracle=oracle)
    assert "scores 0.932 on the same folds. The model reaches 80 % of the distance" in text
    assert "holds nothing to find" in said(oracle=oracle | {"p": 0.4, "efficiency": None})


def test_the_report_says_what_structure_tells_or_why_it_is_not_scored():
    world = make_world()

    def said(**more):
        page = render_report(world.metrics | more, world.predictions, world.examples, Path("none"))
        return Page(page).text

    score = {"average_precision": 0.4, "low": 0.3, "high": 0.5, "null_mean": 0.2, "compounds": 40,
             "model": {"average_precision": 0.35}, "both": {"average_precision": 0.45},
             "both_minus_structure": {"difference": 0.05, "low": 0.01, "high": 0.09}}
    within = {"compounds": 12, "average_precision": 0.61, "low": 0.5, "high": 0.7,
              "prevalence": 0.5, "null_mean": 0.55, "lift": 1.1}
    found = {"rule": "a basic amine", "within": within, "rest": within, "share_of_hits": 0.78,
             "share_of_others": 0.37, "alone": {"average_precision": 0.33}}
    baselines = world.metrics["baselines"] | {"chemistry": score}
    text = said(baselines=baselines, chemistry={"compounds": 40, "without_structure": 3, "note": "",
                                                "cationic_amphiphilic": found})
    assert ("structure alone 0.400 (fingerprint; – from six properties), and both together 0.450; "
            "both minus structure is 0.050 (0.010 to 0.090): the pictures add to structure") in text
    assert "(3 compounds without a readable structure left out)" in text
    assert "78 % of hits and 37 % of other compounds are cationic amphiphilic" in text
    assert "a useful model need not beat it" in text
    without = said(chemistry={"compounds": 0, "note": "Structure is not scored."})
    assert "Structure is not scored." in without
    assert "a useful model need not beat it" not in without


def make_prepared(folder: Path, examples: Examples) -> Path:
    """Prepared plates with small crops for every row of the examples, controls darker."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:32, :32]
    for plate, meta in examples.meta.groupby("Metadata_Plate"):
        own = folder / plate
        own.mkdir(parents=True)
        crops = np.zeros((len(meta), 1, len(CHANNELS), 32, 32), np.uint8)
        for row, control in enumerate(meta["Metadata_Control"] == "negative"):
            for channel in range(len(CHANNELS)):
                for cy, cx in rng.uniform(4, 28, (5, 2)):
                    crops[row, 0, channel] += np.uint8(
                        (20 if control else 45) * np.exp(-((y - cy)**2 + (x - cx)**2) / 18))
        np.save(own / "crops.npy", crops)
        columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch",
                   "Metadata_Panel"]
        blurred = np.arange(len(meta)) == 3
        meta[columns].assign(
            Count_Nuclei=rng.uniform(40, 60, len(meta)), QC_Blurred=blurred, QC_Saturated=False,
            QC_Empty=False, QC_Pass=~blurred,
            **{f"Intensity_{name}_Mean": rng.uniform(300, 400, len(meta)) for name in CHANNELS},
        ).to_parquet(own / "sites.parquet", index=False)
        (own / "plate.json").write_text(json.dumps({"channels": list(CHANNELS)}))
    return folder


def render(world, prepared: Path) -> Page:
    return Page(render_report(world.metrics, world.predictions, world.examples, prepared))


@pytest.fixture(scope="module")
def binary_world():
    return make_world()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, binary_world):
    return make_prepared(tmp_path_factory.mktemp("report") / "prepare", binary_world.examples)


@pytest.fixture(scope="module")
def binary_text(binary_world, prepared):
    return render_report(binary_world.metrics, binary_world.predictions, binary_world.examples,
                         prepared)


@pytest.fixture(scope="module")
def binary(binary_text):
    return Page(binary_text)


def test_the_headline_answers_with_score_interval_prevalence_and_p(binary, binary_world):
    main = binary_world.metrics["out_of_fold"]["compound"]
    assert "Does a compound act through a G-protein-coupled receptor (GPCR)?" in binary.text
    assert "Yes: images find the unseen compounds that act through a GPCR" in binary.text
    for key in ("average_precision", "low", "high", "prevalence", "p"):
        assert f"{main[key]:.3f}" in binary.text
    for term in ("Average precision", "Prevalence", "95 % interval", "Permutation p"):
        assert term in binary.text


def test_caveats_and_warnings_stand_in_the_page_once(binary):
    assert binary.text.count(SIMULATED_CAVEAT) == 1
    assert binary.text.count("The plate P9 has no controls.") == 1


def test_data_that_may_not_be_used_commercially_are_marked(binary, binary_world, tmp_path):
    assert "not for commercial use" not in binary.text
    marked = binary_world.metrics | {"non_commercial": True}
    page = render_report(marked, binary_world.predictions, binary_world.examples, tmp_path)
    assert "CC0-1.0 (not for commercial use)" in page


def test_every_section_of_a_binary_report_is_there(binary):
    for words in ("Precision and recall", "Confusion matrices", "Positive control", "By panel",
                  "By dose", "Hits by mechanism", "Hits by action", "histamine receptor agonist",
                  "Images excluded by QC", "Cells counted", "Mean intensity, Actin",
                  "unknown never counts as negative", "CC0-1.0", "Nobody (2020)", "dvc repro",
                  "at the top of the list", "Stated", "predicted probability"):
        assert words.lower() in binary.text.lower() or any(
            words.lower() in alt.lower() for alt in binary.alts), words


def test_confusion_counts_and_row_percentages_are_shown(binary, binary_world):
    counts = np.array(binary_world.metrics["out_of_fold"]["compound"]["confusion"])
    for row in counts:
        for count in row:
            assert re.search(rf"\b{count} {100 * count / row.sum():.0f} %", binary.text)
    assert "about 0.50" in binary.text


def test_the_random_image_split_is_named_invalid_wherever_it_is_shown(binary):
    assert "INVALID: random split by image" in binary.text
    assert "Invalid, not a result:" in binary.text
    assert "Invalid, true labels" in binary.text
    assert "Invalid, shuffled labels" in binary.text
    assert "Scored by image, it gives 0.970" in binary.text


def test_the_page_loads_nothing_and_runs_nothing(binary, binary_text):
    assert binary.loads
    assert all(address.startswith(("#", "data:")) for address in binary.loads)
    assert binary.links == ["screen.html"]
    assert "script" not in binary.tags
    assert "link" not in binary.tags
    assert not re.search(r"url\((?!#)", binary_text)
    assert "@import" not in binary_text


def test_identifiers_are_unique_and_every_reference_has_its_target(binary, binary_text):
    assert len(binary.ids) == len(set(binary.ids))
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', binary_text))
    assert {a or b for a, b in used} <= set(binary.ids)


def test_every_picture_has_words(binary_text):
    assert "<img" in binary_text
    assert all("alt=\"" in tag for tag in re.findall(r"<img[^>]*>", binary_text))
    assert all("aria-label=" in tag for tag in re.findall(r"<svg[^>]*>", binary_text))


def test_thumbnails_are_next_to_a_control_of_the_same_plate(binary, binary_world, prepared):
    shown = ranked_compounds(binary_world.predictions, binary_world.examples, prepared, str)
    assert len(shown) == 20
    assert [one.probability for one in shown] == sorted(
        (one.probability for one in shown), reverse=True)
    compound, control = shown[0].pictures
    assert compound.alt.startswith("compound, plate P2")
    assert control.alt.startswith("negative control, plate P2")
    assert control.place.endswith("01")
    assert compound.channels == CHANNELS


def test_without_prepared_plates_there_is_a_report_without_pictures(binary_world, tmp_path):
    page = render(binary_world, tmp_path / "nowhere")
    assert "img" not in page.tags
    assert "Mean intensity, DNA" in page.text
    assert "Images excluded by QC" not in page.text


def test_the_same_input_gives_the_same_bytes(binary_world, prepared, tmp_path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / "new" / name, binary_world.metrics, binary_world.predictions,
                     binary_world.examples, prepared)
    first, second = (tmp_path / "new" / name for name in ("a.html", "b.html"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 3_000_000
    assert sorted(path.name for path in first.parent.iterdir()) == ["a.html", "b.html"]


def test_several_classes_get_a_curve_and_a_row_each(tmp_path):
    classes = ("kinase inhibitor", "tubulin binder", "unknown | odd")
    world = make_world(classes, target="moa")
    page = render(world, tmp_path)
    assert "Which mechanism of action does a compound have?" in page.text
    assert "Each class" in page.text
    assert "mean average precision over the classes" in page.text
    assert "The most probable class is predicted." in page.text
    own = world.metrics["out_of_fold"]["compound"]["per_class"]
    for name in classes:
        assert f"{name} {own[name]['average_precision']:.3f}" in page.text


def test_many_classes_give_the_most_frequent_mix_ups(tmp_path):
    classes = tuple(f"mechanism {i:02d}" for i in range(16))
    world = make_world(classes, compounds=64, target="moa", signal=0.5)
    page = render(world, tmp_path)
    assert "16 classes are too many for a matrix" in page.text
    assert "the other 9 classes" in page.text
    # On a narrow screen tables scroll, and the page does not.
    template = Path(report_page.__file__).with_name("report.html.jinja").read_text()
    assert template.count("<table") == template.count('<div class="scroll"><table') > 5


def test_a_class_that_cannot_be_tested_is_said_and_left_out(tmp_path):
    classes = ("a", "b", "c")
    world = make_world(classes, target="moa")
    world.metrics["not_testable"] = ["c"]
    world.examples = asked_with(world.examples, untestable=("c",))
    page = render(world, tmp_path)
    assert "No score covers c" in page.text


def test_a_screen_of_one_compound_reports_activity(tmp_path):
    world = make_world()
    world.metrics |= {"unit": "well", "by_mechanism": {}, "mechanisms": {}, "unseen_batch": None}
    del world.metrics["random_image_split"]
    world.examples = asked_with(world.examples, unit="well")
    page = render(world, tmp_path)
    assert "Can wells treated with the compound be told from the control wells?" in page.text
    assert "INVALID" not in page.text
    assert "no mechanism is predicted" in page.text


@pytest.mark.parametrize("empty", [None, {}])
def test_metrics_with_next_to_nothing_still_give_a_page(binary_world, tmp_path, empty):
    metrics = {"target": "gpcr", "classes": list(GPCR), "unit": "compound", "above_chance": False,
               "out_of_fold": empty, "held_out": empty, "baselines": empty, "mechanisms": empty,
               "by_panel": empty, "unseen_batch": empty, "head": empty, "licence": ""}
    text = render_report(metrics, binary_world.predictions, binary_world.examples, tmp_path)
    assert "too few labelled compounds to give an answer" in text
    assert "not stated" in text


def test_numbers_that_could_not_be_had_are_dashes(binary_world, tmp_path):
    main = binary_world.metrics["out_of_fold"]["compound"]
    metrics = {"target": "gpcr", "classes": list(GPCR), "unit": "compound", "above_chance": False,
               "out_of_fold": {"compound": main | {"roc_auc": None, "low": float("nan")}},
               "held_out": {},
               "by_panel": {"A549": dict.fromkeys(("average_precision", "low", "high"))},
               "baselines": {"best": "cell_count", "scores": {
                   "cell_count": dict.fromkeys(("average_precision", "low", "high")),
                   "plate_only": {"average_precision": float("nan")}},
                   "model_minus_best": dict.fromkeys(("difference", "low", "high"))}}
    text = render_report(metrics, binary_world.predictions, binary_world.examples, tmp_path)
    assert "No: on this screen, images do not find" in text
    assert "nan" not in Page(text).text


@pytest.mark.parametrize(("above", "useful", "kind"), [
    (True, True, "yes"), (True, False, "part"), (False, False, "no"), (False, True, "no")])
def test_the_verdict_is_yes_only_above_chance_and_above_the_baselines(
        binary_world, above, useful, kind):
    metrics = binary_world.metrics | {"above_chance": above, "useful": useful}
    assert verdict(metrics)[0] == kind


@pytest.mark.parametrize(("difference", "said"), [
    (-0.3, "better than every baseline, except that structure alone scores higher (0.755)."),
    (0.1, "better than every baseline.")])
def test_a_structure_that_says_more_limits_the_yes(binary_world, difference, said):
    metrics = binary_world.metrics | {"above_chance": True, "useful": True}
    metrics["baselines"] = metrics["baselines"] | {"chemistry": {
        "average_precision": 0.755, "model_minus_structure": {"difference": difference}}}
    assert verdict(metrics)[1].endswith(said)


def test_names_from_tables_are_escaped_and_break_nothing(tmp_path):
    evil = "<script>alert(1)</script> $\\alpha$ & \"quoted\" 'x' \x07\n薬 {{ 7*7 }} ${x}"
    classes = (f"not_{evil}", evil)
    world = make_world(classes, target=evil, names={0: evil, 4: "</svg></table>"})
    world.metrics["mechanisms"] = {evil: world.metrics["by_action"]["agonist"]}
    world.metrics["by_panel"] = {evil: world.metrics["by_action"]["agonist"]}
    world.metrics["warnings"] = [evil]
    world.metrics["citation"] = evil
    prepared = make_prepared(tmp_path / "prepare", world.examples)
    text = render_report(world.metrics, world.predictions, world.examples, prepared)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert "\x07" not in text
    assert "{{ 7*7 }}" in page.text
    assert text.count("</svg>") == text.count("<svg")
    assert all(address.startswith(("#", "data:")) for address in page.loads)


def test_b02_lies_in_the_second_row_and_column():
    grid = plate_grid(pd.Series([7.0, 1.0, 3.0], index=["B02", "H12", "H12"]), (8, 12))
    assert grid[1, 1] == 7
    assert grid[7, 11] == 2
    assert np.isfinite(grid).sum() == 2


def test_the_drawn_heat_map_has_b02_where_row_b_and_column_2_are_named(binary_world, tmp_path):
    scores = binary_world.predictions["well"].assign(Score=0.25)
    scores.loc[scores["Metadata_Well"] == "B02", "Score"] = 0.75
    maps = plate_maps("P1", binary_world.examples, scores, "Score", GPCR, tmp_path)
    axis = plate_figure(maps).axes[1]
    drawn = axis.images[0].get_array()
    rows = {text.get_text(): place for text, place in zip(
        axis.get_yticklabels(), axis.get_yticks(), strict=True)}
    columns = {text.get_text(): place for text, place in zip(
        axis.get_xticklabels(), axis.get_xticks(), strict=True)}
    assert drawn[rows["B"], columns["2"]] == 0.75
    assert axis.yaxis_inverted()


def test_plates_are_chosen_over_all_batches_and_panels():
    meta = pd.DataFrame({"Metadata_Plate": [f"P{i}" for i in range(8)],
                         "Metadata_Batch": ["B1"] * 6 + ["B2"] * 2,
                         "Metadata_Panel": list("aaabbbab")})
    assert chosen_plates(meta, 4) == ["P0", "P3", "P6", "P7"]


def test_the_null_band_of_the_curve_holds_95_percent_of_random_lists():
    rng = np.random.default_rng(5)
    recall, low, high = null_precision_band(8, 60, seed=1)
    inside = []
    for _ in range(400):
        table = pd.DataFrame({"Label": rng.permutation(["y"] * 8 + ["n"] * 52),
                              "P_y": rng.uniform(size=60)})
        ranked = (table.sort_values("P_y", ascending=False)["Label"] == "y").to_numpy()
        precision = np.arange(1, 9) / (np.flatnonzero(ranked) + 1)
        inside.append((precision >= low - 1e-12) & (precision <= high + 1e-12))
    assert recall[-1] == 1
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_the_area_below_the_drawn_curve_is_the_average_precision():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(2)
    table = pd.DataFrame({"Label": rng.choice(["y", "n"], 70),
                          "P_y": rng.uniform(size=70).round(1)})
    recall, precision = _at_hits(precision_recall_rows(table, ["y"]))
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(average_precision_score(table["Label"] == "y", table["P_y"]))


def test_a_class_without_units_has_no_curve():
    table = pd.DataFrame({"Label": ["a", "b"], "P_z": [0.1, 0.2]})
    assert precision_recall_rows(table, ["z"]).empty


def test_reliability_of_true_probabilities_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    stated = rng.uniform(size=20_000)
    bins = reliability_bins(stated, rng.uniform(size=len(stated)) < stated)
    assert np.abs(bins["stated"] - bins["observed"]).max() < 0.03
    assert ((bins["low"] < bins["observed"]) & (bins["observed"] < bins["high"])).all()


def test_reliability_needs_more_than_a_handful_of_units():
    assert reliability_bins(np.linspace(0, 1, 9), np.ones(9, bool)).empty


def test_reliability_of_equal_probabilities_does_not_fail():
    assert len(reliability_bins(np.full(64, 0.5), np.ones(64, bool))) == 1


def test_a_confusion_matrix_drops_rows_of_classes_that_are_not_scored():
    found = confusion("t", {"confusion": [[3, 1, 0], [0, 0, 0], [0, 2, 2]]}, ["a", "b", "c"], str)
    assert found.actual == ["a", "c"]
    assert found.predicted == ["a", "b", "c"]
    assert found.shares[0] == [0.75, 0.25, 0]


def test_drawing_leaves_no_trace_in_matplotlib():
    import matplotlib as mpl
    from matplotlib.figure import Figure

    before = dict(mpl.rcParams)
    svg = draw("x", 'a "quoted" <alt>', lambda: Figure())
    assert dict(mpl.rcParams) == before
    assert "&lt;alt&gt;" in svg
    assert svg.startswith("<svg")


@pytest.mark.parametrize(("name", "target", "shown"), [
    ("gpcr", "gpcr", "GPCR"), ("not_gpcr", "gpcr", "not GPCR"),
    ("not_tubulin", "tubulin", "not tubulin"), ("not_selective", "moa", "not_selective")])
def test_classes_are_named_as_people_name_them(name, target, shown):
    assert class_name(name, target) == shown


def test_a_long_name_is_cut_with_an_ellipsis():
    assert tidy("a\tb\n\n c" + "d" * 50, 10) == "a b cdddd…"


def test_the_study_is_reported_as_a_choice_and_not_as_a_result(binary_world, tmp_path):
    pd.DataFrame({"trial": [0, 1], "state": ["complete", "pruned"], "score": [0.1, 0.05],
                  "best": [0.1, 0.1], "epochs": [14, 7], "taken": [True, False],
                  "dropout": [0.1, 0.3]}
                 ).to_csv(tmp_path / "trials.csv", index=False)
    pd.DataFrame({"trial": [0, 0, 1], "epoch": [7, 14, 7], "score": [0.0, 0.1, 0.05]}
                 ).to_csv(tmp_path / "curves.csv", index=False)
    pd.DataFrame({"parameter": ["dropout"], "scale": ["linear"], "importance": [np.nan]}
                 ).to_csv(tmp_path / "parameters.csv", index=False)
    text = render_report(binary_world.metrics, binary_world.predictions, binary_world.examples,
                         tmp_path, tmp_path)
    assert "2 trials varied the layers" in text
    assert "1 of them were stopped early" not in text
    assert "1 of them was stopped early" in text
    assert "used for selection and never reported" in text
    assert "The final model uses the settings of trial 0. Each outer fold selects its own." in text
    assert "at least 20 trials" in text
    without = render_report(binary_world.metrics, binary_world.predictions, binary_world.examples,
                            tmp_path)
    assert "How the model was chosen" not in without


def test_baselines_are_in_the_order_of_the_values_that_are_shown():
    shown = compared({"baselines": {"scores": {
        "plate_only": {"average_precision": 0.18}, "shuffled_labels": {"average_precision": 0.17},
        "prevalence": {"average_precision": 0.16, "null_mean": 0.2}}}})
    assert [(row.name, row.scores["average_precision"]) for row in shown] == [
        ("A random list, on average", 0.2), ("Plate only", 0.18),
        ("Trained on shuffled labels", 0.17)]


def test_a_mechanism_that_is_found_is_marked_in_its_row(binary_world, tmp_path):
    score = {"average_precision": 0.5, "compounds": 4, "low": None, "high": None, "null_mean": 0.1,
             "lift": 5.0}
    metrics = binary_world.metrics | {"mechanisms": {
        "Tubulin inhibitor": score | {"found": True}, "HDAC inhibitor": score | {"found": False}}}
    text = render_report(metrics, binary_world.predictions, binary_world.examples, tmp_path)
    assert ">Tubulin inhibitor ✓</th>" in text and ">HDAC inhibitor</th>" in text


@pytest.mark.parametrize(("gap", "recommended", "words"), [
    ((0.0, 0.0, 0.0), None,
     "model minus reference is 0.000 (0.000 to 0.000): both score the same."),
    ((0.0, -0.1, 0.1), None, "there are too few compounds to tell which of the two is better."),
    ((-0.2, -0.3, -0.1), "logistic", "is demonstrably better. Prefer the simpler model: `dvc exp "
     "run -S train.head=logistic` trains and registers it (logistic regression)."),
])
def test_the_report_says_which_of_model_and_reference_is_better(gap, recommended, words):
    difference, low, high = gap
    assert words in best_reference({
        "recommended_head": recommended,
        "out_of_fold": {"compound": {"average_precision": 1.0}},
        "references": {"logistic": {"average_precision": 1.0, "model_minus_reference": {
            "difference": difference, "low": low, "high": high}}}})
